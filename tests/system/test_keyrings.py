"""A user has room for 200 keys (keyrings(7)), and each container takes one: that is no bound on containers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.engine import Engine

# Takes all keys that there are, says so, and gives them back at the end of its input (add_key(2)).
_TAKE_ALL = """
import ctypes, errno, platform, sys
add_key = {"x86_64": 248, "aarch64": 217}[platform.machine()]
libc = ctypes.CDLL(None, use_errno=True)
count = 0
while libc.syscall(add_key, b"user", b"test-%d" % count, b"x", ctypes.c_size_t(1), -2) >= 0:
    count += 1
assert ctypes.get_errno() == errno.EDQUOT, ctypes.get_errno()
print(count, flush=True)
sys.stdin.read()
"""


@contextmanager
def no_room() -> Iterator[None]:
    taker = subprocess.Popen([sys.executable, "-c", _TAKE_ALL], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert taker.stdin is not None
    assert taker.stdout is not None
    try:
        assert taker.stdout.readline(), "it took what there was"
        yield
    finally:
        taker.stdin.close()
        taker.stdout.close()
        taker.wait()


@pytest.mark.parametrize("runtime", ["crun", "runc"])
@pytest.mark.xdist_group("keyrings")
def test_containers_share_one_where_there_is_no_room(engine: Engine, runtime: str) -> None:
    engine("run", "--rm", "--network=none", "busybox", "true")
    with no_room():
        options = ["--network=none", f"--runtime={runtime}", "--security-opt=unmask=/proc/keys"]
        assert engine("run", "--rm", *options, "busybox", "echo", "ran").line == "ran"
        engine("run", "-d", "-t", "--name", "second", *options, "busybox", "sleep", "1000")
        assert engine("exec", "second", "echo", "inside").line == "inside"
        # The user's shared one: nobody may write to it, view, read and search are 0x0b.
        keys = engine("exec", "second", "cat", "/proc/keys").out
        assert [line.split()[4] for line in keys.splitlines() if "keyring   _pyctl:" in line] == ["0b0b0000"]
