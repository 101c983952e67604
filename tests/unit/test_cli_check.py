"""`system check`: each kind of damage is found and named, and nothing is changed by looking."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from pyctl.engine.check import check
from storage.database import Database, open_database
from storage.paths import StorePaths

IMAGE = "1" * 64
CONTENT = b"a layer as it came"
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
DAY_S = 86400.0


@pytest.fixture
def db(tmp_path: Path) -> Database:
    """One image of one layer, with its blob; one volume."""
    paths = StorePaths(str(tmp_path / "store"))
    db = open_database(paths)
    db.execute(
        "INSERT INTO images (id, manifest_digest, manifest_type, created_ns, added_ns, size, architecture, os, variant,"
        " config) VALUES (?, ?, 'x', 1, 1, 1, 'amd64', 'linux', '', ?)",
        (IMAGE, DIGEST, '{"rootfs":{"diff_ids":["sha256:x"]}}'),
    )
    db.execute("INSERT INTO layers (key, diff_id, directory, size, files, created_ns) VALUES ('k', 'k', 'd1', 1, 1, 1)")
    db.execute("INSERT INTO image_layers VALUES (?, 0, 'k')", (IMAGE,))
    db.execute("INSERT INTO image_blobs VALUES (?, ?)", (IMAGE, DIGEST))
    db.execute("INSERT INTO volumes (name, driver, created_ns) VALUES ('data', 'local', 1)")
    os.mkdir(paths.layer("d1"))
    os.makedirs(paths.volume_data("data"))
    Path(paths.blob(DIGEST)).write_bytes(CONTENT)
    return db


def test_a_whole_store(db: Database) -> None:
    report = check(db, quick=False, max_age_s=0)
    assert (report.images, report.others, report.blobs, report.garbage) == ((), (), (), 0)


def test_a_missing_layer(db: Database) -> None:
    os.rmdir(db.paths.layer("d1"))
    assert check(db, quick=True, max_age_s=0).images == ((IMAGE, "layer k is missing"),)


def test_an_image_without_layers(db: Database) -> None:
    db.execute("DELETE FROM image_layers")
    assert check(db, quick=True, max_age_s=0).images == ((IMAGE, "it has no layers"),)


def test_a_missing_blob(db: Database) -> None:
    os.unlink(db.paths.blob(DIGEST))
    assert check(db, quick=True, max_age_s=0).images == ((IMAGE, f"blob {DIGEST} is missing"),)


def test_a_changed_blob(db: Database) -> None:
    Path(db.paths.blob(DIGEST)).write_bytes(CONTENT[:-1] + b"!")
    assert check(db, quick=True, max_age_s=0).images == ()
    report = check(db, quick=False, max_age_s=0)
    assert report.images == ((IMAGE, f"blob {DIGEST} is damaged"),)
    assert report.blobs == (DIGEST,)
    assert os.path.exists(db.paths.blob(DIGEST))


def test_a_missing_volume(db: Database) -> None:
    os.rmdir(db.paths.volume_data("data"))
    assert check(db, quick=True, max_age_s=0).others == ("volume data: its directory is missing",)


def test_leftovers_count_when_they_are_old(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkdir(f"{db.paths.layers}/tmp-1")
    Path(f"{db.paths.partial}/sha256-1").touch()
    assert check(db, quick=True, max_age_s=DAY_S).garbage == 0
    # The time that counts, of the last change of the inode, is the kernel's to set: the clock goes on instead.
    later = time.time() + 2 * DAY_S
    monkeypatch.setattr(time, "time", lambda: later)
    assert check(db, quick=True, max_age_s=DAY_S).garbage == 2
