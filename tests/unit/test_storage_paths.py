"""Where the store is put, on homes of every kind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless.errors import Error
from storage.digest import DigestError
from storage.paths import StorePaths, filesystem_type, locate_root, unfit_reason


class Machine:
    """A machine whose /home and /scratch are of chosen types, by its mountinfo."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.home = base / "home/me user"
        self.local = base / "local/pyctl"
        self.home.mkdir(parents=True)
        (base / "local").mkdir()
        (base / "proc/self").mkdir(parents=True)
        self.mount("ext4")

    def mount(self, home: str, local: str = "xfs") -> None:
        point = str(self.base / "home").replace(" ", "\\040")
        lines = [
            "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw",
            f"22 21 0:30 / {point} rw shared:2 master:1 - {home} server:/home rw",
            f"23 21 0:31 / {self.base}/local rw - {local} /dev/sdb rw",
        ]
        (self.base / "proc/self/mountinfo").write_text("\n".join(lines) + "\n")

    def locate(self, **options: str) -> tuple[str, str]:
        options = {"local": str(self.local), **options}
        choice = locate_root(str(self.home), os.getuid() or 4321, proc=str(self.base / "proc"), **options)
        return choice.root, choice.note


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_local_home_is_used(machine: Machine) -> None:
    assert machine.locate() == (f"{machine.home}/.local/share/pyctl", "")
    assert machine.locate(data_home="/data") == ("/data/pyctl", "")
    assert list(machine.home.iterdir()) == [], "asking made something"


@pytest.mark.skipif(os.getuid() == 0, reason="root's store is not in its home")
@pytest.mark.parametrize("kind", ["nfs4", "lustre", "gpfs", "fuse.sshfs", "cifs", "9p"])
def test_a_home_on_the_network_is_left_and_told_once(machine: Machine, kind: str) -> None:
    machine.mount(kind)
    root, note = machine.locate()
    assert root == str(machine.local)
    assert kind in note
    assert str(machine.local) in note
    assert os.stat(root).st_mode & 0o777 == 0o700
    assert machine.locate() == (root, ""), "told twice"
    machine.local.rmdir()  # another machine that shares the home
    assert machine.locate() == (root, "")
    assert machine.local.is_dir()


@pytest.mark.skipif(os.getuid() == 0, reason="root's store is not in its home")
def test_a_store_that_is_there_is_kept(machine: Machine) -> None:
    usual = machine.home / ".local/share/pyctl"
    usual.mkdir(parents=True)
    (usual / "state.db").touch()
    machine.mount("nfs")
    assert machine.locate() == (str(usual), "")


@pytest.mark.skipif(os.getuid() == 0, reason="root's store is not in its home")
def test_a_local_directory_of_somebody_else_is_refused(machine: Machine) -> None:
    machine.mount("nfs")
    machine.local.mkdir(mode=0o777)
    machine.local.chmod(0o777)
    with pytest.raises(Error, match="not a directory that only you can write to"):
        machine.locate()
    machine.local.rmdir()
    machine.local.symlink_to(machine.home)
    with pytest.raises(Error, match="not a directory that only you can write to"):
        machine.locate()
    machine.local.unlink()
    machine.mount("nfs", "lustre")
    with pytest.raises(Error, match="lustre") as caught:
        machine.locate()
    assert "pyctl.conf" in caught.value.hint


def test_a_configured_root(machine: Machine, tmp_path: Path) -> None:
    assert machine.locate(configured=f"{tmp_path}/local/x") == (f"{tmp_path}/local/x", "")
    machine.mount("nfs")
    with pytest.raises(Error, match="nfs cannot hold"):
        machine.locate(configured=f"{machine.home}/x")
    with pytest.raises(Error, match="not an absolute path"):
        machine.locate(configured="x")


def test_root_has_its_own() -> None:
    assert locate_root("/root", 0).root == "/var/lib/pyctl"


def test_the_longest_mount_point_decides(machine: Machine) -> None:
    proc = str(machine.base / "proc")
    machine.mount("tmpfs")
    assert filesystem_type(str(machine.home), proc) == "tmpfs"
    assert filesystem_type(f"{machine.base}/homely/not/there", proc) == "ext4"
    assert filesystem_type(f"{machine.base}/local/not/there", proc) == "xfs"
    assert unfit_reason("/", str(machine.base / "nothing")) == ""
    assert filesystem_type("/proc") == "proc"


def test_no_path_is_made_of_a_malformed_digest() -> None:
    paths = StorePaths("/s")
    assert paths.blob("sha256:" + "a" * 64) == "/s/blobs/sha256/" + "a" * 64
    for bad in ("sha256:../../etc/passwd", "sha256:" + "A" * 64, "md5:" + "a" * 32, "a" * 64, "sha256:" + "a" * 63):
        with pytest.raises(DigestError):
            paths.blob(bad)
        with pytest.raises(DigestError):
            paths.partial_blob(bad)
