"""system reset, rename, and pruning while others pull and run."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.support.engine import Engine, runtime_entries
from tests.support.processes import descendants
from tests.support.registry import Registry
from tests.support.waiting import wait_until

INSECURE = "--tls-verify=false"


def fill(engine: Engine, tar: Path) -> None:
    engine("import", "--change", "CMD=/bin/sh", tar, "busybox")
    engine("run", "-d", "--name", "running", "--network=none", "-v", "data:/data", "busybox", "sleep", "1000")
    engine("run", "--name", "ended", "--network=none", "busybox", "sh", "-c", "touch /x; chown 7:7 /x")
    engine("run", "-d", "--name", "bridged", "--network=bridge", "busybox", "sleep", "1000")
    engine("manifest", "create", "list", "busybox")


def test_reset(fresh: Engine, busybox_tar: Path) -> None:
    fill(fresh, busybox_tar)
    kept = fresh.storage_root / "mine"
    kept.write_text("not pyctl's")
    asked = fresh("system", "reset", stdin="n\n")
    assert "WARNING!" in asked.out
    assert str(fresh.storage_root) in asked.out
    assert fresh.state("running") == "running"
    fresh("system", "reset", stdin="y\n")
    assert os.listdir(fresh.storage_root) == ["mine"]
    assert runtime_entries(fresh.runtime_root) == []
    helpers = ("sleep 1000", "slirp4netns", "fuse-overlayfs", "supervis", "holder")
    wait_until(
        lambda: not [p for p in descendants() if any(word in p.command for word in helpers)],
        what="the containers and their helpers end",
    )
    assert fresh("images", "-q").out == fresh("ps", "-aq").out == fresh("volume", "ls", "-q").out == ""
    fill(fresh, busybox_tar)
    fresh("system", "reset", "--force")
    fresh("system", "reset", "--force")


def test_reset_of_a_damaged_database(fresh: Engine, busybox_tar: Path) -> None:
    fill(fresh, busybox_tar)
    for path in fresh.storage_root.glob("state.db-*"):
        path.unlink()
    (fresh.storage_root / "state.db").write_bytes(b"this is no database" * 1000)
    fresh("ps", status=125)
    fresh("system", "reset", "--force")
    assert fresh("ps", "-aq").out == ""
    wait_until(lambda: not [p for p in descendants() if "sleep 1000" in p.command], what="the container ends")


def test_no_reset_under_a_load(fresh: Engine) -> None:
    """Something is being added: a pull that waits for its registry, here an import that waits for its pipe."""
    read, write = os.pipe()
    fresh("images")
    importing = fresh.spawn("import", "-", "x", stdin=read)
    os.close(read)
    try:
        partial = fresh.storage_root / "partial"
        wait_until(lambda: os.listdir(partial), what="the import has begun")
        assert "adding images" in fresh("system", "reset", "--force", status=125).err
        assert (fresh.storage_root / "state.db").exists()
    finally:
        os.close(write)
        importing.wait(30)
    fresh("system", "reset", "--force")


def test_rename(engine: Engine) -> None:
    engine("run", "-d", "--name", "old", "--network=none", "busybox", "sleep", "1000")
    engine("create", "--name", "other", "busybox")
    host = engine("exec", "old", "hostname").line
    engine("rename", "old", "new")
    assert engine("inspect", "-f", "{{.Name}} {{.State.Status}}", "new").line == "new running"
    assert engine("exec", "new", "hostname").line == host
    engine("inspect", "--type", "container", "old", status=125)
    assert "in use" in engine("rename", "new", "other", status=125).err
    assert "invalid name" in engine("rename", "new", "a b", status=125).err
    engine("rename", "nosuch", "x", status=125)
    engine("container", "rename", "new", "new")
    engine("rm", "-f", "-t", "0", "new", "other")


@pytest.mark.timeout(600)
def test_pruning_does_not_race(fresh: Engine, registry: Registry) -> None:
    """While some pull and run an image, others prune all that is not used: nothing of an image is ever missing."""
    name = f"{registry.address}/busybox:1"
    chance = random.Random(4)
    for _ in range(6):
        words = [
            *[("run", "--rm", INSECURE, "--network=none", name, "cat", "/etc/passwd")] * 3,
            ("pull", "-q", INSECURE, name),
            *[("image", "prune", "-a", "-f"), ("system", "prune", "-a", "-f"), ("rmi", "-i", name)],
        ]
        chance.shuffle(words)
        processes = [(word, fresh.spawn(*word)) for word in words]
        for word, process in processes:
            out, err = process.communicate(timeout=120)
            text = err.decode()
            assert "Traceback" not in text
            if word[0] == "run" and process.returncode:
                # Removed between the look-up and the container's row: that is said, and nothing is half-made.
                assert process.returncode == 125, text
                assert "removed meanwhile" in text or "gone again" in text, text
            elif word[0] == "run":
                assert out.startswith(b"root:"), (out, text)
            elif word[0] == "rmi":
                assert process.returncode in (0, 2), text
            else:
                assert process.returncode == 0, (word, text)
        assert fresh("system", "check").out == ""
    fresh("pull", "-q", INSECURE, name)
    assert fresh("run", "--rm", "--network=none", name, "echo", "whole").line == "whole"
