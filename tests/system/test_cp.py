"""cp: files between the host and containers, running and stopped; and containers that want them elsewhere."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.engine import COMMAND, Engine
from tests.support.waiting import wait_until

IDLE = ("busybox", "sleep", "1000")


@pytest.fixture(params=["running", "stopped"])
def box(request: pytest.FixtureRequest, engine: Engine) -> Callable[[str], str]:
    """A container `c` with a volume at /vol; box(script) runs a script on its files and returns its output."""
    engine("run", "-d", "--name", "c", "--network=none", "-v", "vol:/vol", *IDLE)
    if request.param == "stopped":
        engine("stop", "-t", "0", "c")

    def run(script: str) -> str:
        if request.param == "running":
            return engine("exec", "c", "sh", "-c", script).out
        engine("start", "c")
        out = engine("exec", "c", "sh", "-c", script).out
        engine("stop", "-t", "0", "c")
        return out

    return run


def end(engine: Engine) -> None:
    engine("rm", "-f", "-t", "0", "-a")
    engine("volume", "rm", "vol")


def test_into_a_container(engine: Engine, box: Callable[[str], str], tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/f").write_text("content\n")
    (tree / "sub/link").symlink_to("/etc/passwd")
    (tree / "set").write_text("x")
    (tree / "set").chmod(0o4751)
    os.mkfifo(tree / "pipe", 0o640)
    os.utime(tree / "sub/f", (1e9, 1e9))
    engine("cp", tree, "c:/new")  # not there: becomes it
    engine("cp", tree, "c:/root")  # a directory: goes into it
    engine("cp", f"{tree}/.", "c:/home")  # its content
    engine("cp", tree / "sub/f", "c:/etc/")
    engine("cp", tree / "sub/f", "c:etc/other")  # relative paths begin at the root
    engine("cp", tree / "sub/f", "c:/vol/f")  # a volume
    engine("cp", "-a=false", tree / "sub/f", "c:/kept")
    out = box(
        "find /new /root /home/sub /home/set | sort; cat /new/sub/f /etc/f /etc/other /vol/f /kept;"
        " readlink /new/sub/link; stat -c '%a %u:%g %Y' /new/set /new/sub/f /kept; stat -c %F /new/pipe"
    )
    assert out.splitlines() == [
        *("/home/set", "/home/sub", "/home/sub/f", "/home/sub/link"),
        *("/new", "/new/pipe", "/new/set", "/new/sub", "/new/sub/f", "/new/sub/link"),
        *("/root", "/root/tree", "/root/tree/pipe", "/root/tree/set", "/root/tree/sub", "/root/tree/sub/f"),
        "/root/tree/sub/link",
        *["content"] * 5,
        "/etc/passwd",
        *(f"4751 0:0 {int((tree / 'set').stat().st_mtime)}", "644 0:0 1000000000", "644 0:0 1000000000"),
        "fifo",
    ]
    end(engine)


def test_out_of_a_container(engine: Engine, box: Callable[[str], str], tmp_path: Path) -> None:
    box(
        "mkdir -p /d/sub; echo content > /d/sub/f; ln -s /etc/passwd /d/link; echo x > /d/set; chown 5:6 /d/set;"
        " chmod 4755 /d/set; echo v > /vol/f; ln -s /d/sub /alias; ln -s /nowhere /dangling"
    )
    engine("cp", "c:/d", tmp_path / "new")
    (tmp_path / "there").mkdir()
    engine("cp", "c:/d", tmp_path / "there")
    engine("cp", "c:/d/.", tmp_path / "content")
    engine("cp", "c:/alias", tmp_path / "followed")
    engine("cp", "c:/vol/f", tmp_path / "f")
    for folder in ("new", "there/d", "content"):
        assert sorted(os.listdir(tmp_path / folder)) == ["link", "set", "sub"]
        assert (tmp_path / folder / "sub/f").read_text() == "content\n"
        assert os.readlink(tmp_path / folder / "link") == "/etc/passwd"
        held = (tmp_path / folder / "set").stat()
        assert (held.st_uid, held.st_mode & 0o7777) == (os.getuid(), 0o755), "ours, and no program of ours for others"
    assert os.listdir(tmp_path / "followed") == ["f"]
    assert (tmp_path / "f").read_text() == "v\n"
    assert "/dangling" in engine("cp", "c:/dangling", tmp_path, status=125).err
    archive = subprocess.run(
        [*COMMAND, "cp", "c:/d", "-"], env=engine.environment(None), capture_output=True, check=True, timeout=60
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        found = {m.name: (m.uid, m.gid) for m in tar}
    assert found == {"d": (0, 0), "d/link": (0, 0), "d/set": (5, 6), "d/sub": (0, 0), "d/sub/f": (0, 0)}
    end(engine)


def test_archives_into_a_container(engine: Engine, box: Callable[[str], str]) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, kind, link in (
            ("t", tarfile.DIRTYPE, ""),
            ("t/f", tarfile.REGTYPE, ""),
            ("t/hard", tarfile.LNKTYPE, "t/f"),
            ("t/soft", tarfile.SYMTYPE, "f"),
            ("missing/dirs/g", tarfile.REGTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode, info.uid, info.gid = kind, link, 0o750, 7, 8
            info.size = 5 if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(b"hello"))
    engine("cp", "-", "c:/tmp", stdin=out.getvalue())
    engine("cp", "--archive=false", "-", "c:/home", stdin=out.getvalue())
    listed = box(
        "cat /tmp/t/f /tmp/t/hard /tmp/t/soft /tmp/missing/dirs/g; echo; stat -c '%u:%g %h' /tmp/t/f /home/t/f"
    )
    assert listed.splitlines() == ["hello" * 4, "0:0 2", "7:8 2"]
    for bad, text in ((b"no archive", "tar archive"), (b"", "tar archive"), (b"x" * 2000, "tar archive")):
        assert text in engine("cp", "-", "c:/tmp", stdin=bad, status=125).err
    assert "destination must be a directory" in engine("cp", "-", "c:/etc/passwd", stdin=out.getvalue(), status=125).err
    end(engine)


def test_between_containers_and_owners(engine: Engine, tmp_path: Path) -> None:
    engine("run", "-d", "--name", "a", "--network=none", *IDLE)
    engine("exec", "a", "sh", "-c", "echo x > /f; chown 5:6 /f")
    engine("create", "--name", "b", "--user", "web", "busybox")
    engine("run", "-d", "--name", "k", "--network=none", "--userns=keep-id", "--user", "root", *IDLE)
    engine("cp", "a:/f", "a:/g")  # within one
    engine("cp", "a:/f", "b:/first")  # its user's
    engine("cp", "-a=false", "a:/f", "b:/second")
    engine("cp", "-a=false", "a:/f", "k:/third")
    engine("cp", "a:/f", "k:/fourth")
    engine("cp", "k:/third", tmp_path / "out")
    assert (tmp_path / "out").stat().st_uid == os.getuid()
    assert engine("exec", "a", "stat", "-c", "%u:%g", "/g").line == "0:0"
    archive = tmp_path / "b.tar"
    engine("export", "-o", archive, "b")
    with tarfile.open(archive) as tar:
        first, second = tar.getmember("first"), tar.getmember("second")
    assert (first.uid, first.gid, second.uid, second.gid) == (1000, 1000, 5, 6)
    assert engine("exec", "k", "stat", "-c", "%u:%g", "/third", "/fourth").out == "5:6\n0:0\n"
    engine("rm", "-f", "-t", "0", "-a")


def test_what_is_in_the_way(engine: Engine, box: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/x").write_text("file")
    (tmp_path / "f").write_text("file")
    box("mkdir -p /t/d/x; touch /t/d/x/old /t/file; mkfifo /t/pipe; ln -s /etc/issue /link; rm -f /etc/issue")
    assert "destination must be a directory" in engine("cp", tmp_path / "d", "c:/t/file", status=125).err
    assert "--overwrite" in engine("cp", tmp_path / "d", "c:/t", status=125).err
    engine("cp", "--overwrite", tmp_path / "d", "c:/t")
    engine("cp", tmp_path / "f", "c:/link")
    assert box("cat /t/d/x /etc/issue; readlink /link") == "filefile/etc/issue\n"
    for words, text in (
        (["/nonexistent", "c:/"], "on the host"),
        (["c:/nonexistent", "/tmp"], "on container c"),
        ([tmp_path / "f", "c:/nodir/x"], "on container c"),
        ([tmp_path / "f", "c:/nodir/"], "on container c"),
        (["c:/etc/passwd", f"{tmp_path}/nodir/"], "on the host"),
        (["c:/t/pipe", tmp_path / "n"], "neither a file nor a directory"),
        (["nosuch:/x", "/tmp"], "nosuch"),
        (["/a", "/b"], "container's"),
        (["-", "-"], "container's"),
        (["c:/", "c:/tmp"], "into itself"),
    ):
        refused = engine("cp", *words, status=125)
        assert text in refused.err
        assert "Traceback" not in refused.err
    end(engine)


def test_a_start_waits_for_a_copy(engine: Engine, tmp_path: Path) -> None:
    """Two mounts of one upper directory would not see each other's files."""
    engine("create", "--name", "c", "--network=none", "busybox", "cat", "/in/slow")
    read, write = os.pipe()
    copying = engine.spawn("cp", "-", "c:/", stdin=read)
    os.close(read)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("in/slow")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"slow"))
    os.write(write, out.getvalue()[:700])
    lock = engine.storage_root / "containers" / engine.inspect("c")["Id"] / "root.lock"
    wait_until(lock.exists, what="the copy has the root")
    starting = engine.spawn("start", "-a", "c")
    os.write(write, out.getvalue()[700:])
    os.close(write)
    assert copying.wait(30) == 0
    assert starting.communicate(timeout=30)[0] == b"slow"
    engine("rm", "c")


HOSTILE = """
mkdir -p /evil/deep /evil/ok; ln -s / /evil/up; ln -s ../../../../../../.. /evil/climb; ln -s /proc/self/root /evil/proc
ln -s {outside} /evil/out; echo mine > /evil/ok/f; ln -s {outside}/victim /evil/file
"""


def test_links_do_not_lead_out(engine: Engine, box: Callable[[str], str], tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("secret of the host")
    box(HOSTILE.format(outside=outside))
    # Read: through links the container's own root is all that there is.
    for path in (f"/evil/up{outside}/victim", f"/evil/climb{outside}/victim", "/evil/out/victim", "/evil/file"):
        assert "could not be found" in engine("cp", f"c:{path}", tmp_path / "stolen", status=125).err
    engine("cp", f"c:/evil/proc{outside}/victim", tmp_path / "stolen", status=125)  # a magic link is refused
    # Written: in the container, too.
    (tmp_path / "new").write_text("new")
    for path in ("/evil/out/victim", f"/evil/climb{outside}/victim", "/evil/file"):
        engine("cp", tmp_path / "new", f"c:{path}", status=None)
    assert (outside / "victim").read_text() == "secret of the host"
    # A copy of links, and then a copy over it of a tree that has directories in their place.
    engine("cp", "c:/evil", tmp_path / "copy")
    assert os.readlink(tmp_path / "copy/out") == str(outside)
    box("rm /evil/out; mkdir /evil/out; echo owned > /evil/out/victim")
    assert "--overwrite" in engine("cp", "c:/evil/.", tmp_path / "copy", status=125).err
    engine("cp", "--overwrite", "c:/evil/.", tmp_path / "copy")
    assert (outside / "victim").read_text() == "secret of the host"
    assert (tmp_path / "copy/out/victim").read_text() == "owned\n"
    end(engine)


def test_a_container_that_exchanges_links(engine: Engine, tmp_path: Path) -> None:
    """Directories and links to the host's files change places all the time: nothing of the host is read or written."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_text("secret of the host")
    script = (
        f"mkdir -p /w/real /w/d; echo inside > /w/real/f; cp /w/real/f /w/d/f; ln -s {outside} /w/bad;"
        " while :; do mv /w/d /w/tmp; mv /w/bad /w/d; mv /w/d /w/bad; mv /w/tmp /w/d; done"
    )
    engine("run", "-d", "--name", "c", "--network=none", "busybox", "sh", "-c", script)
    wait_until(lambda: engine("exec", "c", "ls", "/w/real/f", status=None).status == 0)
    (tmp_path / "f").write_text("written")
    for turn in range(15):
        got = tmp_path / f"got{turn}"
        engine("cp", "c:/w", got, status=None)
        for path in got.rglob("f"):
            if path.is_file() and not any(parent.is_symlink() for parent in path.parents):
                assert path.read_text() in ("inside\n", "written", "")
        engine("cp", tmp_path / "f", "c:/w/d/f", status=None)
    assert (outside / "f").read_text() == "secret of the host"
    assert os.listdir(outside) == ["f"]
    engine("rm", "-f", "-t", "0", "c")


def test_var_run(engine: Engine, box: Callable[[str], str], tmp_path: Path) -> None:
    """A link to an absolute path inside works as it does in the container (/var/run is /run in most images)."""
    box("mkdir -p /run; rm -rf /var/run; ln -s /run /var/run; mkdir -p /persistent; ln -s /persistent /var/lib")
    (tmp_path / "f").write_text("here")
    engine("cp", tmp_path / "f", "c:/var/lib/f")
    assert box("cat /persistent/f") == "here"
    engine("cp", "c:/var/lib/f", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "here"
    engine("cp", tmp_path / "f", "c:/var/run/f")
    end(engine)


def test_sparse_and_large(engine: Engine, tmp_path: Path) -> None:
    """A hole of 3 GB takes no room on either side."""
    with open(tmp_path / "sparse", "wb") as file:
        file.write(b"begin")
        file.seek(3 << 30)
        file.write(b"end")
    engine("create", "--name", "c", "busybox")
    engine("cp", tmp_path / "sparse", "c:/sparse", timeout_s=200)
    [upper] = engine.storage_root.glob("containers/*/upper/sparse")
    assert (upper.stat().st_size, upper.stat().st_blocks * 512 < 8 << 20) == ((3 << 30) + 3, True)
    engine("rm", "c")


@pytest.mark.parametrize("driver", ["fuse-overlayfs", "overlay"])
def test_drivers(engine: Engine, tmp_path: Path, driver: str) -> None:
    """A root is mounted again and again: by copies and by starts, each seeing what the others wrote."""
    option = f"--storage-driver={driver}"
    tried = engine(option, "run", "--rm", "--network=none", "busybox", "true", status=None)
    if tried.status:
        pytest.skip(f"storage driver {driver}: {tried.err}")
    (tmp_path / "f").write_text("1")
    engine(option, "create", "--name", "c", "--network=none", "busybox", "sh", "-c", "cat /f; echo 2 >> /f")
    engine(option, "cp", tmp_path / "f", "c:/f")
    assert engine(option, "start", "-a", "c").out == "1"
    engine(option, "cp", "c:/f", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "12\n"
    assert engine(option, "start", "-a", "c").out == "12\n"
    engine("rm", "c")
