"""kill -9 at any moment of what changes the store: nothing half-made is listed, and the next command works.

Pulls and pushes are killed in tests/registry.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.engine import Engine

_KILLS = 7


@pytest.fixture
def big(fresh: Engine, busybox_tar: Path) -> Engine:
    """A container `c` with some megabytes in many files: its commit takes a while at every step."""
    fresh("import", "--change", "CMD=/bin/sh", busybox_tar, "busybox")
    script = (
        "i=0; while [ $i -lt 300 ]; do head -c 30000 /dev/urandom > /tmp/$i; i=$((i+1)); done; sha256sum /tmp/* > /s"
    )
    fresh("run", "--name", "c", "--network=none", "busybox", "sh", "-c", script)
    return fresh


def killed(engine: Engine, longest_s: float, chance: random.Random, *words: str) -> int | None:
    """Runs a command and kills it at some moment; its status, None where it was killed."""
    process = engine.spawn(*words)
    try:
        process.communicate(timeout=chance.uniform(0.02, longest_s))
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None
    return process.returncode


def duration_s(work: Callable[[], object]) -> float:
    begin = time.monotonic()
    work()
    return time.monotonic() - begin


def check_store(engine: Engine) -> None:
    assert engine("system", "check").out == ""
    for name in engine("images", "--format", "{{.Repository}}:{{.Tag}}").out.split():
        if "<none>" not in name:
            engine("image", "inspect", name)


def check_leftovers(engine: Engine) -> None:
    """What the killed left is garbage that a prune takes."""
    engine("rmi", "-f", "-a")
    engine("system", "prune", "-f")
    assert [n for n in (engine.storage_root / "partial").iterdir() if not n.name.endswith(".lock")] == []
    assert list((engine.storage_root / "layers").iterdir()) == []


def test_commit(big: Engine) -> None:
    chance = random.Random(1)
    longest_s = duration_s(lambda: big("commit", "-q", "c", "whole"))
    big("rmi", "whole")
    for _ in range(_KILLS):
        killed(big, longest_s, chance, "commit", "-q", "c", "made")
        if big("image", "exists", "made", status=None).status == 0:
            done = big("run", "--rm", "--network=none", "made", "sha256sum", "-c", "-s", "/s", status=None)
            assert done.status == 0, done.err
            big("rmi", "made")
        check_store(big)
    big("commit", "-q", "c", "made")
    assert big("run", "--rm", "--network=none", "made", "sha256sum", "-c", "-s", "/s").status == 0
    big("rm", "c")
    check_leftovers(big)


def test_load(big: Engine, tmp_path: Path) -> None:
    chance = random.Random(2)
    big("commit", "-q", "c", "made")
    big("save", "-o", str(tmp_path / "made.tar"), "made")
    big("rm", "c")
    big("rmi", "made")
    longest_s = duration_s(lambda: big("load", "-q", "-i", str(tmp_path / "made.tar")))
    big("rmi", "made")
    for _ in range(_KILLS):
        killed(big, longest_s, chance, "load", "-q", "-i", str(tmp_path / "made.tar"))
        if big("image", "exists", "made", status=None).status == 0:
            big("run", "--rm", "--network=none", "made", "sha256sum", "-c", "-s", "/s")
            big("rmi", "made")
        check_store(big)
    big("load", "-q", "-i", str(tmp_path / "made.tar"))
    big("run", "--rm", "--network=none", "made", "sha256sum", "-c", "-s", "/s")
    check_leftovers(big)


def test_rmi(big: Engine) -> None:
    chance = random.Random(3)
    for _ in range(_KILLS):
        big("commit", "-q", "c", "made")
        killed(big, 0.25, chance, "rmi", "made")
        if big("image", "exists", "made", status=None).status == 0:
            big("run", "--rm", "--network=none", "made", "sha256sum", "-c", "-s", "/s")
        check_store(big)
    big("rm", "c")
    check_leftovers(big)
