"""podman and buildah read what is pushed and saved here, and the other way round; identities survive both ways.

skopeo, umoci and oci-image-tool are asked in tests/storage/test_archives.py, and in test_push.py and test_copy.py here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.images import ARCHITECTURE, Entry, Layout, layer_tar
from tests.support.others import Other
from tests.support.registry import Registry
from tests.support.skopeo import skopeo

OTHER_ARCHITECTURE = "arm64" if ARCHITECTURE == "amd64" else "amd64"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry for the tests of this file."""
    made = Registry(tmp_path_factory.mktemp("registry"))
    yield made
    made.close()


@pytest.fixture
def podman(fresh: Engine) -> Other:
    return Other("podman", fresh.base)


@pytest.fixture
def buildah(fresh: Engine) -> Other:
    return Other("buildah", fresh.base)


@pytest.fixture
def app(fresh: Engine, tmp_path: Path, busybox_tar: Path) -> tuple[str, str]:
    """Image app:1 with two layers, one of another user's files: its id and its manifest's digest."""
    layout = Layout(tmp_path / "layout")
    more = [Entry("srv", kind=b"5"), Entry("srv/f", b"x" * 100_000, 0o640, uid=33, gid=44), Entry("bin/.wh.vi", b"")]
    digest = layout.image("1", [busybox_tar.read_bytes(), layer_tar(more)])
    image_id = fresh("pull", "-q", f"oci:{layout.folder}:1").line
    fresh("tag", image_id, "app:1")
    return image_id, digest


def test_pushed_here_pulled_there(
    fresh: Engine, shared: Registry, podman: Other, buildah: Other, app: tuple[str, str]
) -> None:
    image_id, digest = app
    name = f"{shared.address}/pushed:1"
    fresh("push", "-q", "app:1", name)
    assert podman("pull", "-q", "--tls-verify=false", name) == image_id
    assert podman("image", "inspect", "-f", "{{.Digest}}", name) == digest
    assert buildah("pull", "-q", "--tls-verify=false", f"{shared.address}/pushed@{digest}") == image_id


def test_saved_here_loaded_there(fresh: Engine, podman: Other, app: tuple[str, str], tmp_path: Path) -> None:
    image_id, digest = app
    for form in ("docker-archive", "oci-archive", "oci-dir", "docker-dir"):
        out = tmp_path / form
        fresh("save", "-q", "--format", form, "-o", out, "app:1")
        podman("load", "-q", "-i", out)
        assert podman("images", "-a", "-q", "--no-trunc").removeprefix("sha256:") == image_id, form
        if form in ("oci-archive", "oci-dir"):
            assert podman("image", "inspect", "-f", "{{.Digest}}", image_id) == digest
        if form.endswith("-archive"):
            assert "localhost/app:1" in podman("images", "--format", "{{.Repository}}:{{.Tag}}")
        podman("rmi", "-f", image_id)


def test_made_there_pulled_and_loaded_here(
    fresh: Engine, shared: Registry, podman: Other, buildah: Other, busybox_tar: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("from buildah")
    container = buildah("from", "scratch")
    buildah("add", container, busybox_tar, "/")
    buildah("commit", "-q", container, "first")
    buildah("copy", container, tmp_path / "file", "/srv/file")
    buildah("config", "--cmd", "cat /srv/file", "--env", "A=b", container)
    for form in ("oci", "docker"):
        image_id = buildah("commit", "-q", "--format", form, container, f"made-{form}").removeprefix("sha256:")
        name = f"{shared.address}/buildah:{form}"
        buildah("push", "-q", "--tls-verify=false", f"localhost/made-{form}", f"docker://{name}")
        assert fresh("pull", "-q", name).line == image_id
        there = skopeo("inspect", "--tls-verify=false", "--format", "{{.Digest}}", f"docker://{name}", home=tmp_path)
        assert fresh("images", "--format", "{{.Digest}}", name).line == there.strip()
        assert fresh("run", "--rm", "--network=none", name).out == "from buildah"

    podman("pull", "-q", "--tls-verify=false", f"{shared.address}/buildah:oci")
    image_id = podman("images", "-q", "--no-trunc").removeprefix("sha256:")
    fresh("rmi", "-a", "-f")
    for form in ("docker-archive", "oci-archive", "oci-dir", "docker-dir"):
        podman("save", "-q", "--format", form, "-o", tmp_path / form, f"{shared.address}/buildah:oci")
        fresh("load", "-q", "-i", tmp_path / form)
        seen = fresh("images", "-q", "--no-trunc").out.split()
        if form != "docker-dir":
            assert f"{shared.address}/buildah:oci" in fresh("images", "--format", "{{.Repository}}:{{.Tag}}").out
            assert seen == [f"sha256:{image_id}"], form
        fresh("rmi", "-a", "-f")
    # Straight out of its store, without an archive or a registry between.
    assert fresh("pull", "-q", f"containers-storage:{podman.store}{shared.address}/buildah:oci").line == image_id
    assert fresh("run", "--rm", "--network=none", f"{shared.address}/buildah:oci").out == "from buildah"


def test_indexes(fresh: Engine, shared: Registry, podman: Other, busybox_tar: Path, tmp_path: Path) -> None:
    """Made by podman, chosen from and copied here; pushed from here, chosen from by podman."""
    layout = Layout(tmp_path / "layout")
    own = {}
    for architecture in (ARCHITECTURE, OTHER_ARCHITECTURE):
        own[architecture] = layout.image(architecture, [busybox_tar.read_bytes()], architecture=architecture)
        target = f"docker://{shared.address}/multi:{architecture}"
        skopeo("copy", "-q", "--dest-tls-verify=false", f"oci:{layout.folder}:{architecture}", target, home=tmp_path)
    podman("manifest", "create", "list")
    for architecture in own:
        podman("manifest", "add", "--tls-verify=false", "list", f"docker://{shared.address}/multi:{architecture}")
    name = f"{shared.address}/multi:all"
    podman("manifest", "push", "--tls-verify=false", "--all", "list", f"docker://{name}")
    index = skopeo("inspect", "--tls-verify=false", "--raw", f"docker://{name}", home=tmp_path)
    assert {row["digest"] for row in json.loads(index)["manifests"]} == set(own.values())

    fresh("pull", "-q", name)
    assert own[ARCHITECTURE] in fresh("image", "inspect", name).out
    fresh("copy", "-q", "--all", f"docker://{name}", f"docker://{shared.address}/copied:all")
    copied = skopeo("inspect", "--tls-verify=false", "--raw", f"docker://{shared.address}/copied:all", home=tmp_path)
    assert copied == index
    podman("pull", "-q", "--tls-verify=false", "--arch", OTHER_ARCHITECTURE, f"{shared.address}/copied:all")
    found = podman("image", "inspect", "-f", "{{.Architecture}}", f"{shared.address}/copied:all")
    assert found == OTHER_ARCHITECTURE
