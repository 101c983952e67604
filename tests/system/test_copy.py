"""copy, and inspect of images that are not stored: beside skopeo, which reads and writes the same places."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.registry.scripted import Request, ScriptedRegistry
from tests.support.engine import Engine
from tests.support.images import ARCHITECTURE, Entry, Layout, layer_tar, sha256
from tests.support.registry import Registry
from tests.support.skopeo import skopeo

OTHER = "arm64" if ARCHITECTURE == "amd64" else "amd64"
REF = "org.opencontainers.image.ref.name"


@pytest.fixture
def own_layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry for the tests of this file."""
    made = Registry(tmp_path_factory.mktemp("registry"))
    yield made
    made.close()


def layers() -> list[bytes]:
    noise = bytes(range(251)) * 900
    return [layer_tar([Entry("a", b"1", 0o644)]), layer_tar([Entry("b", noise, 0o644), Entry("c", b"3", uid=7)])]


def digest_of(layout: Layout, tag: str) -> str:
    return str(next(row["digest"] for row in layout.index if row.get("annotations", {}).get(REF) == tag))


def index_of(layout: Layout, tag: str, *, docker: bool = False) -> str:
    """An index of two platforms, named `tag`; its digest."""
    for architecture in (ARCHITECTURE, OTHER):
        layout.image(f"{tag}-{architecture}", layers()[: 1 + (architecture == OTHER)], architecture=architecture)
    if docker:
        layout.index[-2:] = [docker_row(layout, row) for row in layout.index[-2:]]
    rows = [{k: v for k, v in row.items() if k != "annotations"} for row in layout.index[-2:]]
    kind = "docker.distribution.manifest.list.v2" if docker else "oci.image.index.v1"
    document = {"schemaVersion": 2, "mediaType": f"application/vnd.{kind}+json", "manifests": rows}
    raw = json.dumps(document).encode()
    layout.add({"mediaType": document["mediaType"], **layout.blob(raw), "annotations": {REF: tag}})
    return sha256(raw)


def docker_row(layout: Layout, row: dict[str, Any]) -> dict[str, Any]:
    """The entry of the same image in Docker's types."""
    text = layout.path(row["digest"]).read_text()
    for oci, docker in (
        ("vnd.oci.image.manifest.v1+json", "vnd.docker.distribution.manifest.v2+json"),
        ("vnd.oci.image.config.v1+json", "vnd.docker.container.image.v1+json"),
        ("vnd.oci.image.layer.v1.tar+gzip", "vnd.docker.image.rootfs.diff.tar.gzip"),
    ):
        text = text.replace(oci, docker)
    return {**row, **layout.blob(text.encode()), "mediaType": json.loads(text)["mediaType"]}


def raw(place: str, home: Path) -> bytes:
    options = ["--tls-verify=false"] if place.startswith("docker:") else []
    return skopeo("inspect", "--raw", *options, place, home=home).encode()


def no_store(engine: Engine) -> None:
    """Nothing was stored on the way."""
    assert not (engine.storage_root / "state.db").exists()


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_digests_stay_on_every_way(
    fresh: Engine, shared: Registry, own_layout: Layout, tmp_path: Path, compression: str
) -> None:
    own_layout.image("it", layers(), compression=compression)
    digest = digest_of(own_layout, "it")
    plain = compression == "none"
    places = [
        f"oci:{own_layout.folder}:it",
        f"dir:{tmp_path}/dir",
        f"oci:{tmp_path}/oci:new",
        f"oci-archive:{tmp_path}/oci.tar:new",
        *([] if plain else [f"docker://{shared.address}/copied:{compression}"]),
        f"dir:{tmp_path}/back",
    ]
    for source, target in itertools.pairwise(places):
        accept = ["--dest-oci-accept-uncompressed-layers"] if target.startswith("oci") else []
        written = tmp_path / "digest"
        fresh("copy", "-q", "--preserve-digests", *accept, "--digestfile", written, source, target)
        assert written.read_text() == digest
        assert sha256(raw(target, tmp_path)) == digest, target
    # What another tool checks blob by blob.
    skopeo("copy", "-q", places[-1], f"oci:{tmp_path}/checked:1", home=tmp_path)
    no_store(fresh)


def test_reads_what_skopeo_writes(fresh: Engine, shared: Registry, own_layout: Layout, tmp_path: Path) -> None:
    own_layout.image("it", layers())
    origin = f"oci:{own_layout.folder}:it"
    for number, place in enumerate(
        (f"dir:{tmp_path}/s-dir", f"oci-archive:{tmp_path}/s.tar:it", f"docker-archive:{tmp_path}/s-docker.tar:it:1")
    ):
        skopeo("copy", "-q", origin, place, home=tmp_path)
        target = f"docker://{shared.address}/from-skopeo:{number}"
        fresh("copy", "-q", place.removesuffix(":it:1"), target)
        here, there = (json.loads(raw(where, tmp_path)) for where in (origin, target))
        assert there["config"]["digest"] == here["config"]["digest"]
    no_store(fresh)


def test_docker_archive(fresh: Engine, own_layout: Layout, tmp_path: Path) -> None:
    own_layout.image("it", layers(), compression="zstd")
    archive = tmp_path / "it.tar"
    fresh(
        "copy", "-q", "--additional-tag", "second:2", f"oci:{own_layout.folder}:it", f"docker-archive:{archive}:first:1"
    )
    for name in ("docker.io/library/first:1", "docker.io/library/second:2"):
        seen = json.loads(skopeo("inspect", "--config", f"docker-archive:{archive}:{name}", home=tmp_path))
        assert seen["rootfs"]["diff_ids"] == [sha256(layer) for layer in layers()]
    manifest = json.loads(own_layout.path(digest_of(own_layout, "it")).read_bytes())
    fresh("load", "-q", "-i", archive)
    assert fresh("images", "-q", "--no-trunc").out.split() == [manifest["config"]["digest"]]
    error = fresh("copy", f"oci:{own_layout.folder}:it", f"docker-archive:{archive}:first:1", status=125).err
    assert "exists already" in error


@pytest.mark.parametrize("docker", [False, True])
def test_an_index_with_all_its_images(
    fresh: Engine, shared: Registry, own_layout: Layout, tmp_path: Path, docker: bool
) -> None:
    digest = index_of(own_layout, "all", docker=docker)
    # A layout of skopeo's own has no docker list in it: this one is served by a registry.
    server = ScriptedRegistry(own_layout)
    try:
        source = f"docker://{server.address}/x:all"
        target = f"docker://{shared.address}/index:{docker}"
        fresh("copy", "-q", "--all", source, target)
        assert sha256(raw(target, tmp_path)) == digest
        fresh("copy", "-q", "--multi-arch=all", source, f"dir:{tmp_path}/dir")
        assert sha256((tmp_path / "dir/manifest.json").read_bytes()) == digest
        fresh("copy", "-q", "--all", f"dir:{tmp_path}/dir", f"docker://{shared.address}/again:{docker}")
        assert sha256(raw(f"docker://{shared.address}/again:{docker}", tmp_path)) == digest
        # OCI layouts hold OCI's types only: skopeo reads what it became.
        fresh("copy", "-q", "--all", source, f"oci:{tmp_path}/oci:all")
        skopeo("copy", "-q", "--all", f"oci:{tmp_path}/oci:all", f"dir:{tmp_path}/checked", home=tmp_path)
        if docker:
            refused = fresh("copy", "--all", "--preserve-digests", source, f"oci:{tmp_path}/other:all", status=125).err
            assert "digest cannot be kept" in refused
        else:
            assert sha256(raw(f"oci:{tmp_path}/oci:all", tmp_path)) == digest
        # This machine's image alone, another's, the index alone.
        fresh("copy", "-q", source, f"dir:{tmp_path}/one")
        own, other = (digest_of(own_layout, f"all-{a}") for a in (ARCHITECTURE, OTHER))
        assert sha256((tmp_path / "one/manifest.json").read_bytes()) == own
        fresh("copy", "-q", "--override-arch", OTHER, source, f"dir:{tmp_path}/other-one")
        assert sha256((tmp_path / "other-one/manifest.json").read_bytes()) == other
        fresh("copy", "-q", "--multi-arch=index-only", source, f"docker://{shared.address}/index:only-{docker}")
        assert "single images only" in fresh("copy", "-a", source, f"docker-archive:{tmp_path}/x", status=125).err
    finally:
        server.close()


def test_nothing_is_sent_twice(fresh: Engine, own_layout: Layout, tmp_path: Path) -> None:
    own_layout.image("it", layers())
    server = ScriptedRegistry(Layout(tmp_path / "empty"))
    try:
        for name in ("a:1", "a:2", "b:1"):
            fresh("copy", "-q", f"oci:{own_layout.folder}:it", f"docker://{server.address}/{name}")
        assert server.count("PATCH") == 3, "two layers and a configuration, once"
        # Between repositories of one registry nothing is fetched at all.
        server.layout.add({**own_layout.index[0], **server.layout.blob(server.tags["1"])})
        before = server.count("GET /v2/a/blobs")
        server.hook(lambda request: request.command == "HEAD" and "/c/" in request.path and request.answer(404))
        fresh("copy", "-q", f"docker://{server.address}/a:it", f"docker://{server.address}/c:1")
        assert server.count("GET /v2/a/blobs") == before
        assert server.count("mount=") == 3
    finally:
        server.close()


def test_compression_and_forms(fresh: Engine, shared: Registry, own_layout: Layout, tmp_path: Path) -> None:
    own_layout.image("it", layers(), compression="none")
    source = f"oci:{own_layout.folder}:it"

    def kinds(target: str, *options: str) -> list[str]:
        fresh("copy", "-q", *options, source, target)
        tree = json.loads(raw(target, tmp_path))
        return [tree["mediaType"].split("+")[0].rsplit(".", 2)[-2], *(la["mediaType"] for la in tree["layers"][:1])]

    oci, docker = "application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"
    registry = f"docker://{shared.address}/forms"
    assert kinds(f"{registry}:1") == ["manifest", f"{oci}+gzip"]
    assert kinds(f"{registry}:2", "--dest-compress-format=zstd", "--dest-compress-level=19") == [
        "manifest",
        f"{oci}+zstd",
    ]
    assert kinds(f"{registry}:3", "--format=v2s2")[1] == f"{docker}.gzip"
    assert kinds(f"dir:{tmp_path}/1") == ["manifest", oci]
    assert kinds(f"dir:{tmp_path}/2", "--dest-compress") == ["manifest", f"{oci}+gzip"]
    source = f"{registry}:2"
    assert kinds(f"dir:{tmp_path}/3", "--dest-decompress") == ["manifest", oci]
    for number in (1, 2, 3):
        skopeo("copy", "-q", f"dir:{tmp_path}/{number}", f"oci:{tmp_path}/checked:{number}", home=tmp_path)
    diff_ids = json.loads(skopeo("inspect", "--config", f"dir:{tmp_path}/3", home=tmp_path))["rootfs"]["diff_ids"]
    assert diff_ids == [sha256(layer) for layer in layers()]


def test_wrong_bytes_are_nowhere(fresh: Engine, own_layout: Layout, shared: Registry, tmp_path: Path) -> None:
    own_layout.image("it", layers())
    layer = json.loads(own_layout.path(own_layout.index[0]["digest"]).read_bytes())["layers"][1]["digest"]
    held = own_layout.path(layer).read_bytes()
    own_layout.path(layer).write_bytes(held[:-9] + b"tampered!")
    source = f"oci:{own_layout.folder}:it"
    for target in (f"docker://{shared.address}/wrong:1", f"dir:{tmp_path}/d", f"oci-archive:{tmp_path}/a", "oci:o:1"):
        failed = fresh("copy", "-q", source, target, status=125)
        assert failed.err.splitlines()[0].startswith(f"pyctl: {source}: blob {layer}: wrong digest"), failed.err
    assert fresh("inspect", f"docker://{shared.address}/wrong:1", status=125).err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["layout"]
    own_layout.path(layer).write_bytes(held + b"x")
    assert "bytes long" in fresh("copy", "-q", source, f"dir:{tmp_path}/d", status=125).err
    no_store(fresh)


def test_a_bomb_fills_no_disk(fresh: Engine, own_layout: Layout, tmp_path: Path) -> None:
    own_layout.image("it", [layer_tar([Entry("bomb", bytes(100 << 20))])])
    failed = fresh("copy", f"oci:{own_layout.folder}:it", f"docker-archive:{tmp_path}/a.tar", status=125).err
    assert "expands to more than 300 times its size" in failed
    fresh("copy", "-q", f"oci:{own_layout.folder}:it", f"dir:{tmp_path}/as-it-is")


def test_logins_of_both_sides(fresh: Engine, own_layout: Layout, tmp_path: Path) -> None:
    own_layout.image("it", layers())
    sides = {"src": ScriptedRegistry(own_layout), "dest": ScriptedRegistry(Layout(tmp_path / "d"))}

    def guard(password: str) -> Any:
        import base64

        expected = "Basic " + base64.b64encode(f"me:{password}".encode()).decode()

        def hook(request: Request) -> bool:
            if request.headers.get("Authorization") == expected:
                return False
            return request.answer(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})

        return hook

    try:
        for side, server in sides.items():
            server.hook(guard(f"{side}-secret"))
        source, target = f"docker://{sides['src'].address}/x:it", f"docker://{sides['dest'].address}/y:1"
        both = ["--src-creds=me:src-secret", "--dest-username=me", "--dest-password=dest-secret"]
        fresh("copy", "-q", *both, source, target)
        assert "dest-secret" not in str(sides["src"].seen)
        denied = fresh("copy", "-q", both[0], source, target, status=125).err
        assert sides["dest"].address in denied
        assert "log in" in denied
        denied = fresh("copy", "-q", "--src-no-creds", *both[1:], source, target, status=125).err
        assert sides["src"].address in denied
    finally:
        for server in sides.values():
            server.close()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("busybox", "oci:x"), "no transport is named"),
        (("docker-daemon:x:1", "oci:x"), "docker-daemon: is not available"),
        (("oci:a", "containers-storage:x"), "is only read"),
        (("--src-tls-verify=false", "oci:a", "oci:b"), "--src-tls-verify is for registries"),
        (("--dest-compress", "oci:a", "oci:b"), "--dest-compress is for dir: only"),
        (("--sign-by=x", "oci:a", "oci:b"), "--sign-by"),
        (("--encrypt-layer=0", "oci:a", "oci:b"), "--encrypt-layer"),
        (("--multi-arch=some", "oci:a", "oci:b"), "some"),
        (("--dest-compress-format=zstd", "--format=v2s2", "oci:a", "oci:b"), "no zstd layers"),
        (("--dest-creds=a:b", "--dest-no-creds", "oci:a", "docker://x/y"), "excludes"),
        (("oci:absent", "oci:b"), "absent"),
    ],
)
def test_what_is_refused(engine: Engine, args: tuple[str, ...], words: str) -> None:
    failed = engine("copy", *args, status=125).err
    assert words in failed
    assert len(failed.splitlines()) <= 2


# --- inspect -------------------------------------------------------------------------------------


def test_inspect_beside_skopeo(fresh: Engine, shared: Registry, own_layout: Layout, tmp_path: Path) -> None:
    own_layout.image("it", layers(), config={"Labels": {"x": "y"}, "Env": ["A=b"]})
    name = f"docker://{shared.address}/seen"
    for tag in ("1", "2"):
        skopeo("copy", "-q", "--dest-tls-verify=false", f"oci:{own_layout.folder}:it", f"{name}:{tag}", home=tmp_path)
    for place, options in ((f"{name}:2", ["--tls-verify=false"]), (f"oci:{own_layout.folder}:it", [])):
        ours = fresh.json("inspect", place)
        theirs = json.loads(skopeo("inspect", *options, place, home=tmp_path))
        for key, value in theirs.items():
            assert ours[key] == value, key
        assert [row["Digest"] for row in ours["LayersData"]] == ours["Layers"]
        assert fresh("inspect", "--raw", place).out == skopeo("inspect", "--raw", *options, place, home=tmp_path)
        config = skopeo("inspect", "--config", "--raw", *options, place, home=tmp_path)
        assert fresh("inspect", "--raw", "--config", place).out == config
        assert fresh.json("inspect", "--config", place) == json.loads(config)
    shown = fresh("inspect", "-f", "{{.Name}} {{.Digest}} {{.Labels.x}} {{len .Layers}}", f"{name}:1").line
    assert shown == f"{shared.address}/seen {digest_of(own_layout, 'it')} y 2"
    assert fresh.json("inspect", "--no-tags", f"{name}:1")["RepoTags"] == []
    assert "not known" in fresh("inspect", f"{name}:absent", status=125).err
    no_store(fresh)


def test_inspect_of_an_index(fresh: Engine, own_layout: Layout) -> None:
    digest = index_of(own_layout, "all")
    place = f"oci:{own_layout.folder}:all"
    assert json.loads(fresh("inspect", "--raw", place).out)["manifests"]
    assert fresh.json("inspect", place)["Architecture"] == ARCHITECTURE
    assert fresh.json("inspect", "--platform", f"linux/{OTHER}", place)["Architecture"] == OTHER
    assert fresh.json("inspect", place)["Digest"] == digest
    assert "no image for" in fresh("inspect", "--override-arch", "s390x", place, status=125).err


def test_inspect_keeps_its_meaning(engine: Engine) -> None:
    """An image that is called like a transport is still a stored one."""
    engine("tag", "busybox", "oci:1")
    assert engine.json("inspect", "oci:1")[0]["RepoTags"]
    engine("untag", "busybox", "oci:1")
    assert "not stored here" in engine("inspect", "--raw", "busybox", status=125).err
    assert "alone" in engine("inspect", "busybox", "docker://a/b", status=125).err


# --- Podman's store ------------------------------------------------------------------------------


@pytest.fixture(params=["overlay", "vfs"])
def podman_store(request: pytest.FixtureRequest, fresh: Engine) -> str:
    """[driver@root+run] of a store that skopeo makes; it is removed with the engine's own directories."""
    return f"[{request.param}@{fresh.base}/store+{fresh.base}/run]"


def test_images_of_podmans_store(
    fresh: Engine, own_layout: Layout, tmp_path: Path, podman_store: str, busybox_tar: Path, shared: Registry
) -> None:
    more = [
        Entry("usr/lib64", kind=b"2", link="lib"),
        Entry("usr/lib/", kind=b"5"),
        Entry("usr/lib/far", b"x" * 3_000_000, 0o600, uid=33, gid=44),
        Entry("usr/lib64/through", b"a link on the way", 0o644),
        Entry("usr/lib/hard", kind=b"1", link="usr/lib/far"),
        Entry("bin/.wh.vi", b""),
        Entry("caf\u00e9 " + "n" * 150, b"long", 0o4755),
    ]
    own_layout.image("it", [busybox_tar.read_bytes(), layer_tar(more)])
    manifest = json.loads(own_layout.path(own_layout.index[0]["digest"]).read_bytes())
    where = f"containers-storage:{podman_store}localhost/it:1"
    skopeo("copy", "-q", f"oci:{own_layout.folder}:it", where, home=fresh.base)

    seen = fresh.json("inspect", where)
    diff_ids = [sha256(busybox_tar.read_bytes()), sha256(layer_tar(more))]
    assert seen["Layers"] == diff_ids, "Podman keeps no compressed layers"
    fresh("copy", "-q", where, f"docker://{shared.address}/podman:{podman_store[1:4]}")
    copied = json.loads(raw(f"docker://{shared.address}/podman:{podman_store[1:4]}", tmp_path))
    assert copied["config"]["digest"] == manifest["config"]["digest"]
    fresh("copy", "-q", where, f"docker-archive:{tmp_path}/podman.tar:x:1")
    skopeo("inspect", f"docker-archive:{tmp_path}/podman.tar", home=tmp_path)

    assert fresh("pull", "-q", where).line == manifest["config"]["digest"].removeprefix("sha256:")
    assert fresh("images", "--format", "{{.Repository}}:{{.Tag}}").line == "localhost/it:1"
    script = "cat /usr/lib64/through; stat -c '%u %g %a %h' /usr/lib/far; ls /bin/vi 2>/dev/null"
    shown = fresh("run", "--rm", "--network=none", "it:1", "sh", "-c", script, status=None).out
    assert shown == "a link on the way33 44 600 2\n"
    fresh("system", "check")
    # By its id, and a name that is not there.
    fresh("inspect", f"containers-storage:{podman_store}@{manifest['config']['digest'][7:]}")
    failed = fresh("pull", f"containers-storage:{podman_store}localhost/absent:1", status=125).err
    assert "no such image" in failed


def test_an_image_that_podman_made_keeps_its_digest(
    fresh: Engine, own_layout: Layout, podman_store: str, tmp_path: Path
) -> None:
    own_layout.image("it", layers(), compression="none")
    where = f"containers-storage:{podman_store}localhost/it:1"
    skopeo("copy", "-q", f"oci:{own_layout.folder}:it", where, home=fresh.base)
    fresh("pull", "-q", where)
    assert fresh("images", "--digests", "--format", "{{.Digest}}").line == digest_of(own_layout, "it")
    fresh("copy", "-q", "--preserve-digests", where, f"dir:{tmp_path}/d")


def test_a_damaged_podman_store(fresh: Engine, own_layout: Layout, podman_store: str) -> None:
    own_layout.image("it", layers())
    where = f"containers-storage:{podman_store}localhost/it:1"
    skopeo("copy", "-q", f"oci:{own_layout.folder}:it", where, home=fresh.base)
    [victim] = [p for p in Path(fresh.base, "store").rglob("b") if p.is_file() and p.stat().st_size > 9]
    victim.parent.chmod(0o755)
    held = victim.read_bytes()
    for content, words in ((held[:-1] + b"?", "is not sha256:"), (held[:9], "shorter than it was"), (None, "No such")):
        victim.unlink()
        if content is not None:
            victim.write_bytes(content)
        failed = fresh("pull", "-q", where, status=125).err
        assert words in failed, failed
        assert failed.startswith("pyctl: layer sha256:")
        assert fresh("images", "-q").out == ""
        victim.touch()
    os.unlink(next(Path(fresh.base, "store").rglob("*.tar-split.gz")))
    assert "tar-split" in fresh("pull", "-q", where, status=125).err


def test_run_of_an_image_that_is_elsewhere(
    fresh: Engine, own_layout: Layout, podman_store: str, busybox_tar: Path, tmp_path: Path
) -> None:
    own_layout.image("it", [busybox_tar.read_bytes()])
    store = f"containers-storage:{podman_store}localhost/it:1"
    skopeo("copy", "-q", f"oci:{own_layout.folder}:it", store, home=fresh.base)
    skopeo("copy", "-q", f"oci:{own_layout.folder}:it", f"docker-archive:{tmp_path}/it.tar:x:1", home=tmp_path)
    skopeo("copy", "-q", f"oci:{own_layout.folder}:it", f"dir:{tmp_path}/dir", home=tmp_path)
    for place in (store, f"oci:{own_layout.folder}:it", f"docker-archive:{tmp_path}/it.tar", f"dir:{tmp_path}/dir"):
        assert fresh("run", "--rm", "--network=none", place, "echo", "ran").line == "ran"
    failed = fresh("run", "--rm", f"oci:{tmp_path}/absent", "true", status=125).err
    assert "absent" in failed
    assert len(failed.splitlines()) <= 2
