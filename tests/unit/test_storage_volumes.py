"""Volumes: names, use, removal and what is shown of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless.errors import Error, NotFound, UsageError
from storage.database import Database, open_database
from storage.paths import StorePaths
from storage.volumes import VolumeInUseError, VolumeStore, check_name


@pytest.fixture
def db(tmp_path: Path) -> Database:
    return open_database(StorePaths(str(tmp_path / "store")))


def use(db: Database, container: str, volume: str, status: str = "running") -> None:
    db.execute(
        "INSERT OR IGNORE INTO containers (id, name, created_ns, status, spec) VALUES (?,?,1,?,'{}')",
        (container, container, status),
    )
    db.execute("INSERT INTO container_volumes VALUES (?,?)", (container, volume))


def test_create_and_inspect(db: Database) -> None:
    volumes = VolumeStore(db)
    volumes.create("data", labels={"a": "b"})
    data = db.paths.volume_data("data")
    assert os.stat(data).st_mode & 0o777 == 0o755
    shown = volumes.inspect("data")
    created = shown.pop("CreatedAt")
    assert created[10] == "T"
    assert shown == {
        "Name": "data", "Driver": "local", "Mountpoint": data, "Labels": {"a": "b"}, "Scope": "local", "Options": {},
        "MountCount": 0, "NeedsCopyUp": True, "NeedsChown": True,
    }  # fmt: skip
    with pytest.raises(Error, match="volume data already exists"):
        volumes.create("data")
    assert volumes.ensure("data").labels == {"a": "b"}
    assert volumes.ensure("f" * 64, anonymous=True).anonymous
    assert [v.name for v in volumes.list()] == ["data", "f" * 64]


def test_beginnings_of_names(db: Database) -> None:
    volumes = VolumeStore(db)
    for name in ("alpha", "alpine", "al%"[:2]):
        volumes.ensure(name)
    assert volumes.get("alpi").name == "alpine"
    assert volumes.get("al").name == "al"
    with pytest.raises(Error, match="ambiguous"):
        volumes.get("alp")
    with pytest.raises(NotFound) as caught:
        volumes.get("b")
    assert caught.value.exit_code == 1


def test_removal(db: Database) -> None:
    volumes = VolumeStore(db)
    volumes.ensure("data")
    Path(db.paths.volume_data("data"), "file").write_text("x")
    use(db, "c1", "data")
    with pytest.raises(VolumeInUseError) as caught:
        volumes.remove("data", force=True)
    assert caught.value.containers == ("c1",)
    assert caught.value.exit_code == 2
    assert volumes.inspect("data")["MountCount"] == 1
    db.execute("DELETE FROM containers")
    assert volumes.remove("dat") == "data"
    assert os.listdir(db.paths.volumes) == []
    assert volumes.remove("data", force=True) == ""
    with pytest.raises(NotFound):
        volumes.remove("data")


def test_a_new_volume_never_has_an_old_ones_files(db: Database) -> None:
    os.makedirs(db.paths.volume_data("data") + "/secret")  # killed between row and files
    VolumeStore(db).ensure("data")
    assert os.listdir(db.paths.volume_data("data")) == []


def test_use_ends_the_copy_up(db: Database) -> None:
    volumes = VolumeStore(db)
    volumes.ensure("a")
    volumes.ensure("b")
    volumes.mark_used(("a",))
    assert [v.needs_copy_up for v in volumes.list()] == [False, True]


@pytest.mark.parametrize("name", ["", "bad/name", "../x", ".x", "-x", "a b", "ü", "a" * 256, "a\0"])
def test_bad_names(db: Database, name: str) -> None:
    with pytest.raises(UsageError, match="invalid volume name"):
        VolumeStore(db).ensure(name)


def test_good_names() -> None:
    for name in ("a", "0", "A.b-c_d", "x" * 255):
        assert check_name(name) == name


@pytest.mark.parametrize(
    "options", [{"type": "tmpfs"}, {"device": "/dev/sda"}, {"foo": "bar"}, {"o": "size=1g"}, {"o": "uid=x"}]
)
def test_options_that_would_do_nothing_are_refused(db: Database, options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="volume option"):
        VolumeStore(db).create("v", options=options)
    assert VolumeStore(db).list() == ()


def test_the_owner_can_be_chosen(db: Database) -> None:
    VolumeStore(db).create("v", options={"o": f"uid={os.getuid()},gid={os.getgid()}"})
    assert os.stat(db.paths.volume_data("v")).st_uid == os.getuid()
