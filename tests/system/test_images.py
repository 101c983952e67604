"""pull, load, import, tag, images, rmi, inspect: images in and out of the store."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support import images
from tests.support.engine import TEMPORARY, Engine
from tests.support.images import Entry, Layout
from tests.support.registry import LyingRegistry, Registry
from tests.support.requirements import program

INSECURE = "--tls-verify=false"


@pytest.fixture
def own_layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def small_layer(*more: Entry) -> bytes:
    busybox = Path(program("busybox")).read_bytes()
    return images.layer_tar([Entry("bin/busybox", busybox), Entry("bin/sh", kind=b"2", link="busybox"), *more])


def test_pull_and_run(fresh: Engine, registry: Registry) -> None:
    name = f"{registry.address}/busybox:1"
    identity = fresh("pull", INSECURE, name).line
    assert len(identity) == 64
    assert fresh("run", "--rm", "--network=none", name, "echo", "pulled").line == "pulled"
    assert fresh("images", "--format", "{{.Repository}}:{{.Tag}}").line == name


def test_loopback_needs_no_option(fresh: Engine, registry: Registry) -> None:
    """Plain http is for loopback without asking, and for nobody else."""
    fresh("pull", "-q", f"{registry.address}/busybox:1")


def test_pull_by_digest(fresh: Engine, registry: Registry, layout: Layout) -> None:
    digest = layout.index[0]["digest"]
    name = f"{registry.address}/busybox@{digest}"
    fresh("pull", "-q", INSECURE, name)
    assert fresh("run", "--rm", "--network=none", name, "echo", "ok").line == "ok"
    assert digest in fresh("inspect", "--type", "image", name).out


def test_config_and_manifest_digests_are_kept(fresh: Engine, registry: Registry, layout: Layout) -> None:
    row = layout.index[0]
    manifest = json.loads(layout.path(row["digest"]).read_bytes())
    identity = fresh("pull", "-q", INSECURE, f"{registry.address}/busybox:1").line
    assert identity == manifest["config"]["digest"].removeprefix("sha256:")
    [seen] = fresh.json("inspect", "--type", "image", identity)
    assert seen["Id"] == identity
    assert seen["Digest"] == row["digest"]


def test_run_pulls_what_is_missing(fresh: Engine, registry: Registry) -> None:
    name = f"{registry.address}/busybox:1"
    assert fresh("run", "--rm", "--network=none", name, "echo", "ok").line == "ok"
    fresh("run", "--rm", "--network=none", "--pull=never", name, "true")
    fresh("rmi", name)
    assert fresh("run", "--rm", "--pull=never", name, "true", status=125).err


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_layer_compressions(fresh: Engine, own_layout: Layout, compression: str) -> None:
    own_layout.image("it", [small_layer(Entry("here", b"x"))], compression=compression)
    fresh("pull", "-q", f"oci:{own_layout.folder}:it")
    identity = fresh("images", "-q", "--no-trunc").line.removeprefix("sha256:")
    assert fresh("run", "--rm", "--network=none", identity, "sh", "-c", "test -e /here && echo ok").line == "ok"


def test_layers_cover_each_other(fresh: Engine, own_layout: Layout) -> None:
    base = small_layer(
        Entry("d", kind=b"5"),
        Entry("d/kept", b"1"),
        Entry("d/gone", b"1"),
        Entry("full", kind=b"5"),
        Entry("full/old", b"1"),
    )
    top = images.layer_tar(
        [
            Entry("d", kind=b"5"),
            Entry("d/.wh.gone"),
            Entry("d/new", b"2"),
            Entry("full", kind=b"5"),
            Entry("full/.wh..wh..opq"),
            Entry("full/fresh", b"2"),
        ]
    )
    own_layout.image("it", [base, top])
    fresh("pull", "-q", f"oci:{own_layout.folder}:it")
    identity = fresh("images", "-q").line
    listing = fresh("run", "--rm", "--network=none", identity, "sh", "-c", "echo d/* full/*")
    assert listing.line == "d/kept d/new full/fresh"


def test_image_configuration_is_honoured(fresh: Engine, own_layout: Layout) -> None:
    config = {
        "Env": ["PATH=/bin", "FROM_IMAGE=yes"],
        "Entrypoint": ["sh", "-c"],
        "Cmd": ["echo $FROM_IMAGE $(pwd) $(id -u) $HOME"],
        "WorkingDir": "/work/dir",
        "User": "web",
        "Labels": {"from": "image"},
        "StopSignal": "SIGUSR2",
        "ExposedPorts": {"8080/tcp": {}},
        "Volumes": {"/data": {}},
    }
    etc = [Entry("etc/passwd", images.PASSWD.encode(), 0o644), Entry("etc/group", images.GROUP.encode(), 0o644)]
    applets = [Entry("bin/id", kind=b"2", link="busybox"), Entry("data/from-image", b"x")]
    own_layout.image("it", [small_layer(*etc, *applets)], config)
    fresh("pull", "-q", f"oci:{own_layout.folder}:it")
    identity = fresh("images", "-q").line
    assert fresh("run", "--name", "c", "--network=none", identity).line == "yes /work/dir 1000 /home/web"
    seen = fresh.inspect("c")
    assert seen["Config"]["Labels"]["from"] == "image"
    assert seen["Config"]["StopSignal"] in ("SIGUSR2", 12)
    assert [m["Destination"] for m in seen["Mounts"]] == ["/data"]


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_load_archives(fresh: Engine, layout: Layout, tmp_path: Path, form: str) -> None:
    archive = tmp_path / "image.tar"
    images.copy_image(f"oci:{layout.folder}:busybox", f"{form}:{archive}:localhost/loaded:2", home=tmp_path)
    out = fresh("load", "-i", archive).out
    assert "Loaded image" in out
    name = "localhost/loaded:2"
    assert fresh("run", "--rm", "--network=none", name, "echo", "loaded").line == "loaded"


def test_load_from_standard_input(fresh: Engine, layout: Layout, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    images.copy_image(f"oci:{layout.folder}:busybox", f"docker-archive:{archive}:localhost/loaded:2", home=tmp_path)
    with archive.open("rb") as file:
        fresh("load", stdin=file.fileno())
    fresh("run", "--rm", "--network=none", "localhost/loaded:2", "true")


def test_pull_from_a_folder(fresh: Engine, layout: Layout, tmp_path: Path) -> None:
    images.copy_image(f"oci:{layout.folder}:busybox", f"dir:{tmp_path / 'dir'}", home=tmp_path)
    identity = fresh("pull", "-q", f"dir:{tmp_path / 'dir'}").line
    fresh("run", "--rm", "--network=none", identity, "true")


def test_import_options(fresh: Engine, busybox_tar: Path) -> None:
    changes = [
        "--change",
        "CMD echo hi",
        "--change",
        "ENV A=b",
        "--change",
        'ENTRYPOINT ["sh", "-c"]',
        "-m",
        "made by hand",
    ]
    identity = fresh("import", "-q", *changes, busybox_tar, "made:7").line
    assert fresh("images", "--format", "{{.Repository}}:{{.Tag}}").line == "localhost/made:7"
    [seen] = fresh.json("inspect", "--type", "image", "made:7")
    assert seen["Id"] == identity.removeprefix("sha256:")
    assert "A=b" in seen["Config"]["Env"]
    assert seen["Config"]["Entrypoint"] == ["sh", "-c"]


def test_import_from_standard_input(fresh: Engine, busybox_tar: Path) -> None:
    with busybox_tar.open("rb") as file:
        fresh("import", "-q", "-", "piped", stdin=file.fileno())
    fresh("run", "--rm", "--network=none", "piped", "true")


@pytest.fixture
def imported(fresh: Engine, busybox_tar: Path) -> Engine:
    fresh("import", "-q", "--change", "CMD=sh", busybox_tar, "box")
    return fresh


def test_tag_and_rmi(imported: Engine) -> None:
    imported("tag", "box", "other:3", "example.com/deep/name")
    names = set(imported("images", "--format", "{{.Repository}}:{{.Tag}}").out.split())
    assert names == {"localhost/box:latest", "localhost/other:3", "example.com/deep/name:latest"}
    assert "Untagged: localhost/other:3" in imported("rmi", "other:3").out
    imported("rmi", "example.com/deep/name")
    out = imported("rmi", "box").out
    assert "Deleted: " in out
    assert imported("images", "-q").out == ""


def test_rmi_of_one_in_use(imported: Engine) -> None:
    imported("create", "--name", "c", "box")
    assert "c" in imported("rmi", "box", status=2).err
    imported("rm", "c")
    imported("rmi", "box")


def test_rmi_force_takes_the_containers(imported: Engine) -> None:
    imported("create", "--name", "c", "box")
    imported("rmi", "-f", "box")
    assert imported("ps", "-aq").out == ""


def test_rmi_of_an_unknown_one(imported: Engine) -> None:
    assert "absent" in imported("rmi", "absent", status=1).err


def test_images_table(imported: Engine) -> None:
    header, row = imported("images").out.splitlines()
    assert header.split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert row.split()[:2] == ["localhost/box", "latest"]
    [seen] = imported.json("images", "--format", "json")
    assert seen["Names"] == ["localhost/box:latest"]
    assert seen["Size"] > 100_000


# --- what must fail, with one line and nothing left ------------------------------------------------


def assert_nothing_kept(engine: Engine) -> None:
    assert engine("images", "-aq").out == ""
    assert engine("ps", "-aq").out == ""


def one_line(err: str) -> str:
    lines = [line for line in err.splitlines() if line.startswith(("Error", "error", "pyctl:"))]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0]


def test_unknown_image(fresh: Engine, registry: Registry) -> None:
    for name in (f"{registry.address}/absent:1", f"{registry.address}/busybox:absent"):
        assert "absent" in one_line(fresh("pull", INSECURE, name, status=125).err)
        one_line(fresh("run", "--rm", name, "true", status=125).err)
    assert_nothing_kept(fresh)


def test_unreachable_registry(fresh: Engine) -> None:
    assert "127.0.0.1:1" in one_line(fresh("pull", "127.0.0.1:1/x:1", status=125, timeout_s=120).err)


def test_wrong_digest_in_the_reference(fresh: Engine, registry: Registry) -> None:
    one_line(fresh("pull", INSECURE, f"{registry.address}/busybox@sha256:{'0' * 64}", status=125).err)
    one_line(fresh("pull", INSECURE, f"{registry.address}/busybox@sha256:xyz", status=125).err)


def lying(layout: Layout, digest_part: str, change: object) -> LyingRegistry:
    def twist(path: str, status: int, body: bytes) -> tuple[int, bytes]:
        if digest_part in path and status == 200:
            return change(status, body)  # type: ignore[operator,no-any-return]
        return status, body

    return LyingRegistry(layout, twist)


def test_truncated_layer(fresh: Engine, layout: Layout) -> None:
    manifest = json.loads(layout.path(layout.index[0]["digest"]).read_bytes())
    server = lying(layout, manifest["layers"][0]["digest"], lambda status, body: (status, body[: len(body) // 2]))
    try:
        one_line(fresh("pull", INSECURE, f"{server.address}/x:busybox", status=125, timeout_s=120).err)
    finally:
        server.close()
    assert_nothing_kept(fresh)


def test_layer_with_another_content(fresh: Engine, layout: Layout) -> None:
    manifest = json.loads(layout.path(layout.index[0]["digest"]).read_bytes())
    server = lying(layout, manifest["layers"][0]["digest"], lambda status, body: (status, body[:-9] + b"tampered!"))
    try:
        assert "digest" in one_line(
            fresh("pull", INSECURE, f"{server.address}/x:busybox", status=125, timeout_s=120).err
        )
    finally:
        server.close()
    assert_nothing_kept(fresh)


def test_manifest_with_another_content(fresh: Engine, layout: Layout) -> None:
    digest = layout.index[0]["digest"]
    server = lying(layout, "/manifests/", lambda status, body: (status, body.replace(b"layers", b"Layers")))
    try:
        one_line(fresh("pull", INSECURE, f"{server.address}/x@{digest}", status=125).err)
    finally:
        server.close()
    assert_nothing_kept(fresh)


def test_server_errors(fresh: Engine, layout: Layout) -> None:
    server = lying(layout, "/manifests/", lambda _status, _body: (500, b"<html>oops"))
    try:
        assert "500" in one_line(fresh("pull", INSECURE, f"{server.address}/x:busybox", status=125, timeout_s=120).err)
    finally:
        server.close()


@pytest.mark.parametrize("config", [b"this is not JSON", b"[]", b'{"rootfs": 7}', b"", b"\xff\xfe\x00"])
def test_configuration_that_is_none(fresh: Engine, own_layout: Layout, config: bytes) -> None:
    own_layout.image("it", [small_layer()], raw_config=config)
    one_line(fresh("pull", f"oci:{own_layout.folder}:it", status=125).err)
    assert_nothing_kept(fresh)


def test_other_architecture(fresh: Engine, own_layout: Layout) -> None:
    """As podman: pulled with a warning when it is the only one, refused where the list has none for this machine."""
    own_layout.image("it", [small_layer()], architecture="s390x")
    result = fresh("pull", "-q", f"oci:{own_layout.folder}:it", status=None)
    assert result.status in (0, 125)
    assert "s390x" in result.err


def test_archive_that_is_none(fresh: Engine, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"\x00garbage" * 1000)
    one_line(fresh("load", "-i", garbage, status=125).err)
    one_line(fresh("import", garbage, "x", status=125).err)
    one_line(fresh("load", "-i", tmp_path / "absent", status=125).err)
    assert_nothing_kept(fresh)


ESCAPES = {
    "dots": [Entry("../../escaped", b"x")],
    "absolute": [Entry("/../escaped", b"x")],
    "through a link": [Entry("door", kind=b"2", link="../../../../.."), Entry("door/escaped", b"x")],
    "through an absolute link": [Entry("door", kind=b"2", link=TEMPORARY), Entry("door/escaped", b"x")],
    "hard link": [Entry("secret", kind=b"1", link="../../../../../../etc/passwd")],
    "root is a link": [Entry(".", kind=b"2", link=TEMPORARY), Entry("escaped", b"x")],
}


@pytest.mark.parametrize("name", ESCAPES)
def test_layers_cannot_leave_the_root(fresh: Engine, tmp_path: Path, name: str) -> None:
    archive = tmp_path / "evil.tar"
    archive.write_bytes(images.layer_tar([*ESCAPES[name], Entry("bin/busybox", Path(program("busybox")).read_bytes())]))
    fresh("import", "-q", archive, "evil", status=None)
    for place in (TEMPORARY, "/", fresh.base, fresh.home, fresh.storage_root, fresh.storage_root.parent):
        assert not Path(place, "escaped").exists()


@pytest.mark.parametrize("form", ["oci-archive", "oci-dir"])
def test_saved_images_are_those_that_were_pulled(fresh: Engine, registry: Registry, layout: Layout, form: str) -> None:
    """Others read what is saved, and find the manifest and the configuration of the registry, byte for byte."""
    row = layout.index[0]
    config = json.loads(layout.path(row["digest"]).read_bytes())["config"]["digest"]
    name = f"{registry.address}/busybox:1"
    fresh("pull", "-q", INSECURE, name)
    target = fresh.home / "saved"
    fresh("save", "-q", "--format", form, "-o", target, name)
    transport = {"oci-archive": "oci-archive", "oci-dir": "oci"}[form]
    raw = subprocess.run(
        [program("skopeo"), "inspect", "--raw", f"{transport}:{target}"], capture_output=True, check=True, timeout=60
    ).stdout
    assert images.sha256(raw) == row["digest"]
    assert json.loads(raw)["config"]["digest"] == config


def test_saved_and_loaded_again(fresh: Engine, registry: Registry) -> None:
    name = f"{registry.address}/busybox:1"
    identity = fresh("pull", "-q", INSECURE, name).line
    fresh("save", "-q", "-o", fresh.home / "image.tar", name)
    fresh("rmi", name)
    fresh("load", "-q", "-i", fresh.home / "image.tar")
    assert fresh("images", "-q", "--no-trunc").line.removeprefix("sha256:") == identity
    assert fresh("run", "--rm", "--network=none", name, "echo", "ok").line == "ok"
