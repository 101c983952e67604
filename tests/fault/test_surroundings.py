"""Limits that are too low, streams that are closed or full, folders that cannot be written."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tarfile
import termios
from typing import IO

import pytest

from tests.support.engine import COMMAND, Engine
from tests.support.requirements import program
from tests.support.waiting import wait_until


@pytest.mark.parametrize("number", [16, 32, 64, 256])
def test_few_file_descriptors(engine: Engine, number: int) -> None:
    """It runs, or says why not; never half."""
    result = engine(
        "run", "--rm", "--network=slirp4netns", "busybox", "echo", "ran",
        prefix=(program("prlimit"), f"--nofile={number}:{number}"), status=None,
    )  # fmt: skip
    assert (result.status, result.out) == (0, "ran\n") or result.status in (1, 125, 126, 127)
    if number >= 256:
        assert result.status == 0, result.err
    assert engine("ps", "-aq").out == ""


@pytest.mark.parametrize("number", [0, 4096, 65536])
def test_small_files_only(engine: Engine, number: int) -> None:
    """RLIMIT_FSIZE: a write fails with EFBIG, as on a full disk."""
    result = engine(
        "run",
        "--rm",
        "--network=none",
        "busybox",
        "echo",
        "ran",
        prefix=(program("prlimit"), f"--fsize={number}"),
        status=None,
    )
    assert "Traceback" not in result.err
    assert result.status == 0 or result.status in (125, 126)
    assert engine("ps", "-aq").out == ""


def with_streams(engine: Engine, redirection: str, *args: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-c", f'"$@" {redirection}', "bash", *COMMAND, *args],
        env=engine.environment(None),
        cwd=engine.home,
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("redirection", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_streams(engine: Engine, redirection: str) -> None:
    """No descriptor of the engine's own takes the place of a stream that is missing."""
    done = with_streams(
        engine, redirection, "run", "--rm", "--network=none", "busybox", "sh", "-c", "echo out; echo err >&2"
    )
    assert b"Traceback" not in done.stderr
    if ">&-" not in redirection:
        assert done.stdout == b"out\n"
    assert engine("ps", "-aq").out == ""


@pytest.mark.parametrize("command", [["ps", "-a"], ["images"], ["version"], ["inspect", "c"], ["info"]])
def test_a_full_standard_output(engine: Engine, command: list[str]) -> None:
    engine("create", "--name", "c", "busybox", "true")
    done = with_streams(engine, "> /dev/full", *command)
    assert done.returncode == 125
    assert b"Traceback" not in done.stderr
    assert b"No space left" in done.stderr


def test_a_closed_pipe(engine: Engine) -> None:
    done = with_streams(
        engine, "| true", "run", "--rm", "--network=none", "busybox", "sh", "-c", "yes | head -n 100000"
    )
    assert b"Traceback" not in done.stderr


def test_no_further_process(engine: Engine) -> None:
    """RLIMIT_NPROC; the one process that the limit allows is the command."""
    argv = [program("prlimit"), "--nproc=1", *COMMAND, "run", "--rm", "busybox", "true"]
    env = engine.environment(None)
    done = subprocess.run(argv, env=env, cwd=engine.home, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 125
    assert done.stderr.splitlines()[0] == "pyctl: cannot start a process: this user may have no more of them"
    assert engine("ps", "-aq").out == ""


def test_a_home_that_cannot_be_written(fresh: Engine) -> None:
    fresh.home.chmod(0o500)
    try:
        result = fresh("images", status=None)
        assert "Traceback" not in result.err
        assert result.status == 0 or str(fresh.home) in result.err
        result = fresh("run", "--rm", "localhost/absent", "true", status=125)
        assert "Traceback" not in result.err
    finally:
        fresh.home.chmod(0o700)


def test_no_room_for_a_socket_path(fresh: Engine, busybox_tar: os.PathLike[str]) -> None:
    """A runtime folder so deep that a socket's path does not fit into its 108 bytes (unix(7))."""
    deep = fresh.base / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    deep.chmod(0o700)
    env: dict[str, str | None] = {"XDG_RUNTIME_DIR": str(deep)}
    fresh("import", "-q", busybox_tar, "box", env=env)
    assert fresh("run", "--rm", "--network=none", "box", "echo", "ran", env=env).line == "ran"
    fresh("run", "-d", "--name", "c", "--network=none", "box", "sleep", "1000", env=env)
    assert fresh("exec", "c", "echo", "inside", env=env).line == "inside"
    fresh("rm", "-f", "-t", "0", "c", env=env)


def unread(pipe: IO[bytes] | None) -> int:
    """How many bytes of a pipe its reader has not taken yet (ioctl_pipe(2), FIONREAD)."""
    assert pipe is not None
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_an_interrupted_import(fresh: Engine, by: signal.Signals) -> None:
    """The input stops half-way and the user gives up: no image, and the next one works."""
    process = fresh.spawn("import", "-", "half")
    assert process.stdin is not None
    member = tarfile.TarInfo("file")
    member.size = 1 << 20
    process.stdin.write(member.tobuf() + bytes(4096))
    process.stdin.flush()
    # Until it has taken all that there is, and waits for more in the middle of unpacking.
    wait_until(lambda: process.poll() is not None or not unread(process.stdin))
    process.send_signal(by)
    assert process.wait(20) != 0
    assert fresh("images", "-q").out == ""
    leftovers = [p for p in fresh.storage_root.rglob("*") if "half" in p.name]
    assert not leftovers


def test_an_import_that_cannot_become_good_does_not_wait(fresh: Engine) -> None:
    """Told at once, though the other end of the pipe stays open."""
    process = fresh.spawn("import", "-", "bad")
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(b"no header of a tar archive".ljust(1024, b"."))
    process.stdin.flush()
    assert process.wait(30) == 125
    assert b"standard input" in process.stderr.read()
    assert fresh("images", "-q").out == ""
