"""Many containers: in a row, at once, and what they leave."""

from __future__ import annotations

import os
import time

import pytest

from tests.support.engine import Engine
from tests.support.leaks import Snapshot, assert_no_leaks
from tests.support.waiting import wait_until

CYCLES = int(os.environ.get("PYCTL_TEST_CYCLES", "300"))
VARIANTS = [
    ["--network=slirp4netns"],
    ["--network=none"],
    ["--network=slirp4netns", "-p", "80"],
    ["--network=none", "--userns=keep-id"],
    ["--network=none", "-v", "vol:/data", "--tmpfs", "/t"],
]


@pytest.mark.timeout(900)
def test_hundreds_in_a_row(engine: Engine) -> None:
    """Started and removed one after the other, in several forms; then nothing is there that was not before."""
    engine("run", "--rm", "busybox", "true")
    before = Snapshot()
    files = disk_entries(engine)
    for number in range(CYCLES):
        variant = VARIANTS[number % len(VARIANTS)]
        if number % 10 == 9:
            engine("run", "-d", "--name", f"c{number}", *variant, "busybox", "sleep", "1000")
            engine("rm", "-f", "-t", "0", f"c{number}")
        else:
            assert engine("run", "--rm", *variant, "busybox", "echo", str(number)).line == str(number)
    assert_no_leaks(before, engine)
    assert engine("ps", "-aq").out == ""
    left = disk_entries(engine) - files
    assert not [path for path in left if "/volumes/" not in path], left


def disk_entries(engine: Engine) -> set[str]:
    """Files of the engine outside the image layers; the database's own beside it are no leak."""
    found = set()
    for top in (engine.storage_root, engine.runtime_root):
        for folder, folders, names in os.walk(top, onerror=lambda _error: None):
            folders[:] = [f for f in folders if f not in ("layers", "overlay", "cache")]
            found.update(os.path.join(folder, n) for n in [*folders, *names] if not n.startswith("state.db"))
    return found


@pytest.mark.timeout(300)
def test_twenty_at_once(engine: Engine) -> None:
    running = [engine.spawn("run", "--rm", "--network=slirp4netns", "busybox", "echo", str(n)) for n in range(20)]
    results = [process.communicate(timeout=120) for process in running]
    assert [p.returncode for p in running] == [0] * 20, results
    assert [out.decode().strip() for out, _ in results] == [str(n) for n in range(20)]


@pytest.mark.timeout(300)
def test_starts_stops_and_listings_at_once(engine: Engine) -> None:
    """Writers and readers of the state beside each other: no "database is locked", no lost row."""
    names = [f"c{n}" for n in range(10)]
    creating = [engine.spawn("run", "-d", "--name", n, "--network=none", "busybox", "sleep", "1000") for n in names]
    listing = [engine.spawn("ps", "-a") for _ in range(10)]
    for process in [*creating, *listing]:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert set(engine("ps", "--format", "{{.Names}}").out.split()) == set(names)
    removing = [engine.spawn("rm", "-f", "-t", "0", n) for n in names]
    for process in removing:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert engine("ps", "-aq").out == ""


def test_same_name_at_once(engine: Engine) -> None:
    racing = [engine.spawn("create", "--name", "one", "busybox", "true") for _ in range(8)]
    for process in racing:
        process.communicate(timeout=60)
    assert sorted(p.returncode for p in racing) == [0] + [125] * 7
    assert len(engine("ps", "-aq").out.split()) == 1


def test_same_container_started_at_once(engine: Engine) -> None:
    engine("create", "--name", "one", "--network=none", "busybox", "sleep", "1000")
    racing = [engine.spawn("start", "one") for _ in range(8)]
    for process in racing:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert engine("exec", "one", "ps").out.count("sleep 1000") == 1


def test_rm_all_of_many(engine: Engine) -> None:
    for n in range(10):
        engine("run", "-d", "--name", f"c{n}", "--network=none", "busybox", "sleep", "1000")
    start = time.monotonic()
    engine("rm", "-fa", "-t", "0")
    assert time.monotonic() - start < 20
    wait_until(lambda: engine("ps", "-aq").out == "")
