"""commit, export, diff: what a container changed, as an image, an archive, a list."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import COMMAND, Engine
from tests.support.requirements import missing

# Every kind of change that an overlay has a mark for.
CHANGES = (
    "mkdir -p /etc/new/sub; echo hi > /etc/new/sub/f; rm -rf /home; rm /bin/vi; chmod 700 /root; echo a >> /etc/group;"
    " mkdir /data; rm -rf /usr; mkdir /usr; touch /usr/q; mkfifo /tmp/fi; touch /tmp/z; ln /tmp/z /tmp/zz;"
    " ln -s z /tmp/zl; touch /tmp/owned; chown 5:6 /tmp/owned; chmod 4755 /tmp/owned; rm -rf /var; echo no > /var;"
    " mkdir /tmp/BZh91 /tmp/again; touch /tmp/again/f; rm -rf /tmp/again; mkdir /tmp/again; chmod 711 /"
)
LISTED = [
    *("C /bin", "D /bin/vi", "A /data", "C /etc", "C /etc/group", "A /etc/new", "A /etc/new/sub", "A /etc/new/sub/f"),
    *("D /home", "C /root", "C /tmp", "A /tmp/BZh91", "A /tmp/again", "A /tmp/fi", "A /tmp/owned", "A /tmp/z"),
    *("A /tmp/zl", "A /tmp/zz", "D /usr", "A /usr/q", "C /var", "A /vol"),
]  # fmt: skip
# Placeholders that the runtime makes for the engine's own mounts.
ENGINES = {"etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/mtab", "run/.containerenv", "dev", "proc", "sys", "run"}


@pytest.fixture(params=["fuse-overlayfs", "overlay"])
def driver(request: pytest.FixtureRequest, engine: Engine) -> str:
    name = str(request.param)
    tried = engine(f"--storage-driver={name}", "run", "--rm", "--network=none", "busybox", "true", status=None)
    if tried.status:
        missing(f"storage driver {name}: {tried.err}")
    return name


def make_changed(engine: Engine, driver: str) -> None:
    engine(
        *(f"--storage-driver={driver}", "run", "--name", "c", "--network=none", "-v", "vol:/vol", "-e", "FOO=bar"),
        *("-w", "/tmp", "-l", "lab=1", "--expose", "99", "busybox", "sh", "-c", CHANGES),
    )


def files_of(engine: Engine, container: str) -> dict[str, tuple[Any, ...]]:
    """Name → all that an archive of the container's root says of the file."""
    archive = subprocess.run(
        [*COMMAND, "export", container],
        env=engine.environment(None),
        cwd=engine.home,
        capture_output=True,
        check=True,
        timeout=60,
    ).stdout
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for m in tar:
            content = tar.extractfile(m).read() if m.isreg() else b""  # type: ignore[union-attr]
            if m.name not in ENGINES:
                found[m.name] = (m.type, m.mode, m.uid, m.gid, m.mtime, m.linkname, content)
    return found


def test_diff(engine: Engine, driver: str) -> None:
    make_changed(engine, driver)
    assert engine("diff", "c").out.splitlines() == LISTED
    shown = engine.json("container", "diff", "--format", "json", "c")
    for word, kind in (("added", "A"), ("changed", "C"), ("deleted", "D")):
        assert shown[word] == [line[2:] for line in LISTED if line.startswith(kind)]
    engine("create", "--name", "untouched", "busybox")
    assert engine("diff", "untouched").out == ""
    assert engine("diff", "c", "untouched").out.splitlines() == LISTED
    added = engine("diff", "busybox").out.splitlines()
    assert "A /bin/busybox" in added
    assert all(line.startswith("A ") for line in added)
    engine("rm", "c", "untouched")


@pytest.mark.parametrize("squash", [False, True])
def test_an_image_of_a_container_holds_what_the_container_did(engine: Engine, driver: str, squash: bool) -> None:
    make_changed(engine, driver)
    identity = engine("commit", "-q", *["--squash"] * squash, "c", "made:1").line
    assert len(identity) == 64
    engine("create", "--name", "copy", "made:1")
    assert files_of(engine, "copy") == files_of(engine, "c")
    assert engine("diff", "c", "made:1").out == ""
    if not squash:
        assert engine("diff", "made:1").out.splitlines() == LISTED
    assert engine("run", "--rm", "--network=none", "made:1", "sh", "-c", "stat -c %a:%F / /data").out == (
        "711:directory\n755:directory\n"
    )
    [image] = engine.json("image", "inspect", "made:1")
    assert image["Config"]["Env"] == [*image["Config"]["Env"][:2], "FOO=bar"]
    assert image["Config"]["Cmd"] == ["sh", "-c", CHANGES]
    assert image["Config"]["WorkingDir"] == "/tmp"
    assert image["Config"]["Labels"] == {"lab": "1"}
    assert image["Config"]["ExposedPorts"] == {"99/tcp": {}}
    assert "Volumes" not in image["Config"]
    assert image["ManifestType"] == "application/vnd.oci.image.manifest.v1+json"
    assert len(image["RootFS"]["Layers"]) == len(image["History"]) == (1 if squash else 2)
    base = engine.json("image", "inspect", "busybox")[0]["Id"]
    assert image["Parent"] == ("" if squash else base)
    assert engine("history", "-q", "--no-trunc", "made:1").out.split() == [identity, *([] if squash else [base])]
    assert image["History"][-1]["created_by"] == "/bin/sh"
    assert image["History"][-1]["comment"] == "FROM localhost/busybox:latest"
    assert engine("system", "check").out == ""
    engine("rm", "c", "copy")
    engine("rmi", "made:1")
    engine("volume", "rm", "vol")


def test_options(engine: Engine, tmp_path: Path) -> None:
    engine("create", "--name", "c", "-v", "/tmp:/bound", "--entrypoint", '["/bin/sh","-c"]', "busybox", "true")
    iidfile, config = tmp_path / "iid", tmp_path / "config.json"
    config.write_text(json.dumps({"Cmd": ["new"], "Env": ["Q=1"], "Labels": {"z": "1"}}))
    made = engine(
        *("commit", "--author", "me", "--message", "hello", "-f", "docker", "--include-volumes", "--iidfile", iidfile),
        *("--config", config, "-c", "EXPOSE 80", "--change", "ENV A=b", "c", "quay.io/me/made"),
    )
    assert "Writing manifest" in made.err
    assert iidfile.read_text() == made.line
    [image] = engine.json("image", "inspect", "quay.io/me/made:latest")
    assert (image["Id"], image["Author"], image["Comment"]) == (made.line, "me", "hello")
    assert image["ManifestType"] == "application/vnd.docker.distribution.manifest.v2+json"
    assert image["Config"]["Volumes"] == {"/bound": {}}
    assert image["Config"]["ExposedPorts"] == {"80/tcp": {}}
    assert image["Config"]["Env"][-2:] == ["Q=1", "A=b"]
    assert image["Config"]["Labels"] == {"z": "1"}
    assert (image["Config"]["Cmd"], "Entrypoint" in image["Config"]) == (["new"], False)
    engine("rm", "c")
    engine("rmi", "-f", made.line)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nosuch"], "nosuch"),
        (["c", "BAD/Name:1"], "lower case"),
        (["c", "x@sha256:" + "0" * 64], "digest"),
        (["-f", "foo", "c"], "foo"),
        (["-m", "hi", "c"], "--message"),
        (["-c", "FOO bar", "c"], "FOO bar"),
        (["--config", "/nonexistent", "c"], "/nonexistent"),
        (["--config", "/etc/passwd", "c"], "JSON"),
    ],
)
def test_bad_input(engine: Engine, arguments: list[str], text: str) -> None:
    engine("create", "--name", "c", "busybox")
    before = engine("images", "-aq").out
    refused = engine("commit", *arguments, status=125)
    assert text in refused.err
    assert "Traceback" not in refused.err
    assert engine("images", "-aq").out == before
    engine("rm", "c")


def test_names_that_would_remove_files(engine: Engine, driver: str) -> None:
    """A file called .wh.NAME is one like others in a container, and in a layer it is not: nothing is lost silently."""
    script = "touch /.wh.tmp; mkdir /dir; echo x > /dir/.wh.new; echo there > /dir/new; rm /bin/vi; ls -A /dir"
    engine(f"--storage-driver={driver}", "run", "--name", "c", "--network=none", "busybox", "sh", "-c", script)
    if driver == "fuse-overlayfs":  # which does not let such a file be made
        assert ".wh." not in engine("logs", "c").out
        engine("commit", "-q", "c", "made")
        engine("rmi", "made")
    else:
        assert {"A /.wh.tmp", "A /dir/.wh.new", "D /bin/vi"} <= set(engine("diff", "c").out.splitlines())
        assert {".wh.tmp", "dir/.wh.new", "dir/new", "tmp"} <= files_of(engine, "c").keys()
        before = engine("images", "-aq").out
        for words in (("c", "made"), ("--squash", "c", "made")):
            refused = engine("commit", "-q", *words, status=125)
            assert "/.wh.tmp: a layer of an image cannot hold a file of this name, which removes tmp" in refused.err
        assert engine("images", "-aq").out == before
    engine("rm", "c")


def test_a_running_container(engine: Engine) -> None:
    """What the kernel's write-back cache holds for fuse-overlayfs is in the image."""
    script = (
        "head -c 9000000 /dev/urandom > /source; exec 3> /big; cat /source >&3;"
        " sha256sum /source | sed s,source,big, > /sum; echo ready; sleep 1000"
    )
    engine("run", "-d", "--name", "c", "--network=none", "busybox", "sh", "-c", script)
    engine.wait_log("c", "ready")
    engine("commit", "-q", "c", "made")
    assert "/big: OK" in engine("run", "--rm", "--network=none", "made", "sha256sum", "-c", "/sum").out
    assert {"A /big", "A /source", "A /sum"} <= set(engine("diff", "c").out.splitlines())
    assert len(files_of(engine, "c")["big"][-1]) == 9000000
    if not engine("info", "--format", "{{.Host.CgroupControllers}}").line.strip("[]"):
        refused = engine("commit", "--pause", "c", status=125)
        assert "cannot be paused without a cgroup" in refused.err
    engine("rm", "-f", "-t", "0", "c")
    engine("rmi", "made")


def test_ids_of_a_nested_namespace(engine: Engine) -> None:
    """Files of a keep-id container are stored under the ids that the container sees."""
    engine(
        *("run", "--name", "c", "--network=none", "--userns=keep-id", "--user", "root", "busybox", "sh", "-c"),
        "touch /root/own /root/other; chown 7:8 /root/other",
    )
    found = files_of(engine, "c")
    assert found["root/own"][2:4] == (0, 0)
    assert found["root/other"][2:4] == (7, 8)
    engine("commit", "-q", "c", "made")
    listed = engine("run", "--rm", "--network=none", "made", "stat", "-c", "%u:%g", "/root/own", "/root/other")
    assert listed.out == "0:0\n7:8\n"
    engine("rm", "c")
    engine("rmi", "made")


def test_others_read_it(engine: Engine, tmp_path: Path) -> None:
    """skopeo and umoci, which nobody here wrote, take the image as it is."""
    engine("run", "--name", "c", "--network=none", "busybox", "sh", "-c", "rm /bin/vi; echo new > /etc/new")
    engine("commit", "-q", "c", "made:1")
    engine("save", "--format", "oci-dir", "-o", str(tmp_path / "oci"), "made:1")
    for name in ("skopeo", "umoci"):
        if not shutil.which(name):
            missing(f"{name} is not installed")
    skopeo = ["skopeo", "copy", "--insecure-policy", f"oci:{tmp_path}/oci", f"oci:{tmp_path}/copy:made"]
    subprocess.run(skopeo, check=True, capture_output=True, timeout=60)
    umoci = ["umoci", "unpack", "--rootless", "--image", f"{tmp_path}/copy:made", str(tmp_path / "bundle")]
    subprocess.run(umoci, check=True, capture_output=True, timeout=60)
    assert (tmp_path / "bundle/rootfs/etc/new").read_text() == "new\n"
    assert not os.path.lexists(tmp_path / "bundle/rootfs/bin/vi")
    engine("rm", "c")
    engine("rmi", "made:1")


def test_export_and_import(engine: Engine, tmp_path: Path) -> None:
    engine("run", "--name", "c", "--network=none", "busybox", "sh", "-c", "echo x > /new; rm /bin/vi")
    archive = tmp_path / "c.tar"
    engine("export", "-o", archive, "c")
    engine("import", archive, "imported")
    assert engine("run", "--rm", "--network=none", "imported", "cat", "/new").line == "x"
    engine("run", "--rm", "--network=none", "imported", "test", "-e", "/bin/vi", status=1)
    assert engine("export", "-o", tmp_path / "nowhere/x", "c", status=125).err
    assert "nosuch" in engine("export", "-o", tmp_path / "left", "nosuch", status=125).err
    assert not (tmp_path / "left").exists()
    terminal = engine.terminal("export", "c")
    status, shown = terminal.finish()
    assert (status, b"terminal" in shown) == (125, True)
    engine("rm", "c")
    engine("rmi", "imported")


def test_a_rootfs_container(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    shutil.copy("/bin/busybox", tmp_path / "bin/busybox")
    engine("create", "--name", "c", "--rootfs", str(tmp_path), "/bin/busybox", "true")
    assert "bin/busybox" in files_of(engine, "c")
    for words in (("commit", "c"), ("diff", "c")):
        assert "--rootfs" in engine(*words, status=125).err
    engine("rm", "c")
