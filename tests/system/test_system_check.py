"""system check: tells what is damaged, and with --repair and --force removes it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.support.engine import Engine


def blob_of(engine: Engine, image: str) -> Path:
    """The file of the image's manifest."""
    digest = engine("image", "inspect", "-f", "{{.Digest}}", image).line
    return engine.storage_root / "blobs" / digest.replace(":", "/")


def remove_layers(engine: Engine) -> None:
    script = f"chmod -R u+w {engine.storage_root}/layers; rm -rf {engine.storage_root}/layers/*"
    engine("unshare", "sh", "-c", script)


def test_a_whole_store(fresh: Engine, busybox_tar: Path) -> None:
    fresh("import", "-q", busybox_tar, "busybox")
    for options in ((), ("--quick",), ("--repair",), ("--force",)):
        done = fresh("system", "check", *options)
        assert (done.out, done.err) == ("", "")
    assert fresh("image", "exists", "busybox").status == 0


def test_a_damaged_blob(fresh: Engine, busybox_tar: Path) -> None:
    identity = fresh("import", "-q", busybox_tar, "busybox").line.removeprefix("sha256:")
    blob = blob_of(fresh, "busybox")
    blob.chmod(0o600)
    blob.write_bytes(b"x" * blob.stat().st_size)
    assert fresh("system", "check", "--quick").out == ""  # which reads nothing
    found = fresh("system", "check", status=125)
    assert found.out == f"Damaged image {identity[:12]}: blob sha256:{blob.name} is damaged\n"
    assert "--repair" in found.err
    assert f"Deleted: {identity}\n" in fresh("system", "check", "--repair").out
    assert fresh("images", "-q").out == ""
    assert not blob.exists()
    fresh("import", "-q", busybox_tar, "busybox")
    assert fresh("run", "--rm", "--network=none", "busybox", "echo", "ran").line == "ran"


def test_a_missing_layer_of_an_image_that_is_used(fresh: Engine, busybox_tar: Path) -> None:
    fresh("import", "-q", "--change", "CMD=/bin/true", busybox_tar, "busybox")
    fresh("create", "--name", "c", "busybox")
    remove_layers(fresh)
    assert "is missing" in fresh("system", "check", "--quick", status=125).out
    refused = fresh("system", "check", "--repair", status=125)
    assert "--force" in refused.err
    assert fresh("container", "exists", "c").status == 0
    fresh("system", "check", "--force")
    assert (fresh("ps", "-aq").out, fresh("images", "-aq").out) == ("", "")
    assert fresh("system", "check").out == ""


def test_leftovers_are_told_when_they_are_old(fresh: Engine, busybox_tar: Path) -> None:
    fresh("import", "-q", busybox_tar, "busybox")
    (fresh.storage_root / "layers/tmp-dead").mkdir()
    (fresh.storage_root / "partial/tmp-1").write_bytes(b"half")
    loose = fresh.storage_root / "blobs/sha256" / ("1" * 64)
    shutil.copy(busybox_tar, loose)
    assert fresh("system", "check").out == ""  # they may belong to a pull that goes on
    told = fresh("system", "check", "--max", "0s").out
    assert told == "3 leftovers of interrupted commands (--repair removes them)\n"
    fresh("system", "check", "--max", "0s", "--repair")
    assert fresh("system", "check", "--max", "0s").out == ""
    assert not loose.exists()
    assert os.listdir(fresh.storage_root / "partial") == []
    assert fresh("run", "--rm", "--network=none", "busybox", "/bin/echo", "ran").line == "ran"
