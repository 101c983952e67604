"""Binds, volumes, tmpfs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.engine import IS_PODMAN, Engine


@pytest.fixture
def shared(engine: Engine) -> Path:
    """A folder of the caller's with a file in it."""
    folder = engine.home / "shared"
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text("from the host\n")
    return folder


def test_bind(engine: Engine, shared: Path) -> None:
    assert engine("run", "--rm", "-v", f"{shared}:/data", "busybox", "cat", "/data/file").out == "from the host\n"
    engine("run", "--rm", "-v", f"{shared}:/data", "busybox", "sh", "-c", "echo back > /data/new")
    assert (shared / "new").read_text() == "back\n"
    assert (shared / "new").stat().st_uid == os.getuid()


def test_bind_read_only(engine: Engine, shared: Path) -> None:
    assert "Read-only" in engine("run", "--rm", "-v", f"{shared}:/data:ro", "busybox", "touch", "/data/x", status=1).err


def test_bind_of_a_file(engine: Engine, shared: Path) -> None:
    assert (
        engine("run", "--rm", "-v", f"{shared}/file:/etc/here:ro", "busybox", "cat", "/etc/here").out
        == "from the host\n"
    )


def test_relative_source(engine: Engine, shared: Path) -> None:
    assert engine("run", "--rm", "-v", "./shared:/data", "busybox", "ls", "/data").out.startswith("file")


def test_missing_source_is_named(engine: Engine) -> None:
    assert "/no/such/folder" in engine("run", "--rm", "-v", "/no/such/folder:/data", "busybox", "true", status=125).err


def test_several_options(engine: Engine, shared: Path) -> None:
    out = engine(
        "run", "--rm", "-v", f"{shared}:/data:ro,noexec,nosuid", "busybox", "grep", " /data ", "/proc/self/mountinfo"
    ).out
    assert "noexec" in out
    assert " ro," in out


def test_mount_bind(engine: Engine, shared: Path) -> None:
    option = f"type=bind,source={shared},target=/data,readonly"
    assert engine("run", "--rm", "--mount", option, "busybox", "cat", "/data/file").out == "from the host\n"
    engine("run", "--rm", "--mount", option, "busybox", "touch", "/data/x", status=1)
    engine("run", "--rm", "--mount", f"type=bind,src={shared},dst=/data,ro=false", "busybox", "touch", "/data/y")


def test_tmpfs(engine: Engine) -> None:
    out = engine(
        "run",
        "--rm",
        "--tmpfs",
        "/scratch:size=4m,mode=1777",
        "busybox",
        "sh",
        "-c",
        "df -k /scratch | tail -1; stat -c %a /scratch",
    ).out
    assert "tmpfs" in out
    assert " 4096 " in out
    assert out.endswith("1777\n")
    mount = "type=tmpfs,destination=/scratch,tmpfs-size=2m"
    assert " 2048 " in engine("run", "--rm", "--mount", mount, "busybox", "df", "-k", "/scratch").out


def test_named_volume_keeps_its_data(engine: Engine) -> None:
    engine("run", "--rm", "-v", "keep:/data", "busybox", "sh", "-c", "echo one > /data/file")
    assert engine("run", "--rm", "-v", "keep:/data", "busybox", "cat", "/data/file").line == "one"
    mount = "type=volume,source=keep,target=/other"
    assert engine("run", "--rm", "--mount", mount, "busybox", "cat", "/other/file").line == "one"


def test_new_volume_starts_with_the_image_content(engine: Engine) -> None:
    out = engine("run", "--rm", "-v", "etcvol:/etc", "busybox", "cat", "/etc/passwd").out
    assert out.startswith("root:x:0:0:")
    engine("run", "--rm", "-v", "etcvol2:/etc:nocopy", "busybox", "test", "-e", "/etc/passwd", status=1)


def test_anonymous_volume_goes_with_its_container(engine: Engine) -> None:
    engine("run", "--rm", "-v", "/data", "busybox", "touch", "/data/x")
    engine("create", "--name", "c", "-v", "/data", "busybox", "true")
    name = engine.inspect("c")["Mounts"][0]["Name"]
    assert len(name) == 64
    engine("rm", "-v", "c")


def test_mounts_in_inspect(engine: Engine, shared: Path) -> None:
    engine("create", "--name", "c", "-v", f"{shared}:/data:ro", "-v", "vol:/vol", "busybox", "true")
    mounts = {m["Destination"]: m for m in engine.inspect("c")["Mounts"]}
    assert (mounts["/data"]["Type"], mounts["/data"]["Source"], mounts["/data"]["RW"]) == ("bind", str(shared), False)
    assert (mounts["/vol"]["Type"], mounts["/vol"]["Name"]) == ("volume", "vol")


def test_volume_over_a_symlink_of_the_image_stays_inside(engine: Engine, shared: Path) -> None:
    """A link in the root that points to the host's path is resolved inside the root."""
    engine("run", "--rm", "-v", f"{shared}:/bin/../data", "busybox", "cat", "/data/file")


def test_later_mount_inside_an_earlier_one(engine: Engine, shared: Path) -> None:
    options = ["--tmpfs", "/top", "-v", f"{shared}:/top/inner:ro"]
    assert engine("run", "--rm", *options, "busybox", "cat", "/top/inner/file").out == "from the host\n"


def test_same_target_twice(engine: Engine, shared: Path) -> None:
    result = engine("run", "--rm", "-v", f"{shared}:/data", "-v", "vol:/data", "busybox", "true", status=125)
    assert "/data" in result.err


@pytest.mark.parametrize("value", ["relative/path:data", "a:b:c:d", ":/data", "/src:/data:nosuchoption", ""])
def test_bad_values(engine: Engine, value: str) -> None:
    result = engine("run", "--rm", "-v", value, "busybox", "true", status=None)
    assert result.status == 125
    assert engine("ps", "-aq").out == ""


@pytest.mark.parametrize(
    "value",
    ["type=nosuch,target=/x", "target=/x,source=/tmp,nokey=1", "type=bind,source=/tmp", "type=tmpfs,target=relative"],
)
def test_bad_mount_values(engine: Engine, value: str) -> None:
    engine("run", "--rm", "--mount", value, "busybox", "true", status=125)


@pytest.mark.skipif(IS_PODMAN, reason="podman changes the owner of all of it")
def test_owner_of_a_mapped_user(engine: Engine) -> None:
    """U gives the bind to the container's user; the caller gets it back through unshare."""
    folder = engine.home / "owned"
    folder.mkdir()
    engine("run", "--rm", "-u", "web", "-v", f"{folder}:/data:U", "busybox", "touch", "/data/mine")
    assert (folder / "mine").stat().st_uid != os.getuid()
    engine("unshare", "rm", "-r", folder)
    assert not folder.exists()


@pytest.mark.parametrize("userns", ["host", "auto", "keep-id"])
def test_owner_of_a_tree(engine: Engine, userns: str) -> None:
    """U changes links and not what they point to, keeps set-id bits, and stays within the volume."""
    folder = engine.home / "tree"
    outside = engine.home / "outside"
    (folder / "deep").mkdir(parents=True)
    outside.write_text("not in the volume")
    (folder / "deep" / "link").symlink_to(outside)
    (folder / "up").symlink_to("..")
    (folder / "deep" / "tool").write_text("#!/bin/sh\n")
    (folder / "deep" / "tool").chmod(0o4755)
    out = engine(
        "run", "--rm", f"--userns={userns}", "-u", "web", "-v", f"{folder}:/data:U", "busybox",
        "sh", "-c", "cd /data && stat -c '%n %u:%g %a' . deep deep/link deep/tool up",
    ).out  # fmt: skip
    assert out.splitlines() == [
        ". 1000:1000 755",
        "deep 1000:1000 755",
        "deep/link 1000:1000 777",
        "deep/tool 1000:1000 4755",
        "up 1000:1000 777",
    ]
    assert outside.stat().st_uid == os.getuid()
    assert engine.home.stat().st_uid == os.getuid()
    # Named volumes too; and back again, to the caller, which is the root of a container of the shared namespace.
    assert engine("run", "--rm", "-u", "web", "-v", "mine:/d:U", "busybox", "stat", "-c", "%u", "/d").line == "1000"
    engine("run", "--rm", "-v", f"{folder}:/data:U", "busybox", "true")
    assert {p.lstat().st_uid for p in [folder, *folder.rglob("*")]} == {os.getuid()}
    engine("volume", "rm", "mine")
    engine("unshare", "rm", "-r", folder)
    outside.unlink()


def test_volumes_of_another_container(engine: Engine) -> None:
    engine("run", "--name", "one", "--network=none", "-v", "shared:/data", "-v", "/kept", "busybox", "sh", "-c",
           "echo first > /data/a; echo kept > /kept/b")  # fmt: skip
    words = ["run", "--name", "two", "--network=none", "--volumes-from", "one:ro", "busybox"]
    assert engine(*words, "sh", "-c", "cat /data/a /kept/b; echo x > /data/c", status=1).out == "first\nkept\n"
    assert engine.inspect("two")["HostConfig"]["VolumesFrom"] == ["one:ro"]
    engine("rm", "-v", "one")  # its anonymous volume is in use
    assert engine("start", "-a", "two", status=1).out == "first\nkept\n"
    engine("rm", "-v", "two")
    assert engine("volume", "ls", "-q", "--filter", "anonymous=true").line == ""
    engine("volume", "rm", "shared")


def test_personality(engine: Engine) -> None:
    assert engine("run", "--rm", "--network=none", "--personality=LINUX32", "busybox", "uname", "-m").line == "i686"


def test_a_fill_that_was_cut_is_done_anew(engine: Engine) -> None:
    """A start that was killed while it filled a new volume leaves a mark beside it."""
    engine("volume", "create", "cut")
    folder = engine.storage_root / "volumes/cut"
    (folder / "filling").write_bytes(b"1")
    (folder / "_data/half").write_bytes(b"h")
    listed = engine("run", "--rm", "--network=none", "-v", "cut:/etc", "busybox", "ls", "/etc").out.split()
    assert "passwd" in listed
    assert "half" not in listed
    assert not (folder / "filling").exists()
    (folder / "_data/half").write_bytes(b"h")  # from now on it is what its containers make of it
    assert "half" in engine("run", "--rm", "--network=none", "-v", "cut:/etc", "busybox", "ls", "/etc").out.split()
    engine("volume", "rm", "cut")


def test_one_fills_and_others_wait(engine: Engine) -> None:
    """Containers that are started at once with a new volume all find the whole of it."""
    words = ("run", "--rm", "--network=none", "-v", "shared:/bin", "busybox", "/bin/busybox", "test", "-e", "/bin/zcat")
    for _ in range(3):
        started = [engine.spawn(*words) for _ in range(6)]
        assert [(process.communicate()[1], process.returncode) for process in started] == [(b"", 0)] * 6
        engine("volume", "rm", "shared")
