"""push: to Debian's docker-registry and to files; what skopeo reads there must be what was stored."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import images
from tests.support.engine import IS_PODMAN, Engine
from tests.support.images import ARCHITECTURE, Entry, Layout, layer_tar, sha256
from tests.support.registry import Registry, self_signed
from tests.support.requirements import program

OTHER = "arm64" if ARCHITECTURE == "amd64" else "amd64"


@pytest.fixture
def own_layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


@pytest.fixture
def own(tmp_path: Path) -> Any:
    """A registry for this test alone."""
    made = Registry(tmp_path / "registry")
    yield made
    made.close()


def skopeo(*args: str, home: Path) -> str:
    argv = [program("skopeo"), "--insecure-policy", *args]
    env = {"HOME": str(home), "PATH": os.environ["PATH"], "TMPDIR": str(home), "XDG_RUNTIME_DIR": str(home)}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def raw(reference: str, home: Path) -> bytes:
    return skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{reference}", home=home).encode()


def noise(size: int) -> bytes:
    import hashlib

    return hashlib.shake_128(b"x").digest(size)


def stored(engine: Engine, layout: Layout, tag: str, name: str) -> str:
    """The digest of a layout's image that is now stored as `name`."""
    identity = engine("pull", "-q", f"oci:{layout.folder}:{tag}").line
    engine("tag", identity, name)
    return str(next(r["digest"] for r in layout.index if r["annotations"]["org.opencontainers.image.ref.name"] == tag))


@pytest.mark.parametrize("compression", ["gzip", "zstd:chunked", "none"])
def test_digests_stay(fresh: Engine, own: Registry, own_layout: Layout, tmp_path: Path, compression: str) -> None:
    layers = [layer_tar([Entry("a", b"1", 0o644)]), layer_tar([Entry("b", noise(100_000), 0o644)])]
    own_layout.image("it", layers, compression=compression)
    target = f"{own.address}/team/it:1"
    digest = stored(fresh, own_layout, "it", target)
    fresh("push", "--digestfile", tmp_path / "digest", target)
    assert (tmp_path / "digest").read_text() == digest
    assert sha256(raw(target, tmp_path)) == digest
    skopeo("copy", "--quiet", "--src-tls-verify=false", f"docker://{target}", f"dir:{tmp_path}/copy", home=tmp_path)
    fresh("rmi", "-a", "-f")
    fresh("pull", "-q", f"{own.address}/team/it@{digest}")


def test_nothing_is_sent_twice(fresh: Engine, own: Registry, own_layout: Layout) -> None:
    own_layout.image("it", [layer_tar([Entry("a", noise(50_000), 0o644)])])
    target = f"{own.address}/first:1"
    stored(fresh, own_layout, "it", target)
    assert fresh("push", target).err.count("done,") == 2
    assert fresh("push", target).err.count("exists already") == 2
    said = fresh("push", target, f"{own.address}/second/place").err
    assert said.count("mounted from another repository") == 2, said
    fresh("rmi", "-a", "-f")
    fresh("pull", "-q", f"{own.address}/second/place:latest")


def test_destination_and_progress(fresh: Engine, own: Registry, own_layout: Layout) -> None:
    own_layout.image("it", [layer_tar([Entry("a", b"x", 0o644)])])
    stored(fresh, own_layout, "it", "it:1")
    result = fresh("push", "it:1", f"docker://{own.address}/it")
    assert result.out == ""
    assert "Writing manifest sha256:" in result.err
    assert fresh("push", "-q", "it:1", f"{own.address}/it:2") == (0, "", "")


@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_formats(fresh: Engine, own: Registry, own_layout: Layout, tmp_path: Path, form: str) -> None:
    own_layout.image("it", [layer_tar([Entry("a", noise(10_000), 0o644)])], compression="zstd")
    stored(fresh, own_layout, "it", "it:1")
    identity = fresh("images", "-q", "--no-trunc").line
    target = f"{own.address}/it:1"
    fresh("push", "-q", "--format", form, "it:1", target)
    manifest = json.loads(raw(target, tmp_path))
    assert ("docker" in manifest["mediaType"]) == (form == "v2s2")
    assert manifest["layers"][0]["mediaType"].endswith("zstd" if form == "oci" else "gzip")
    assert manifest["config"]["digest"] == identity, "the image's id stays"
    skopeo("copy", "--quiet", "--src-tls-verify=false", f"docker://{target}", f"dir:{tmp_path}/copy", home=tmp_path)


def test_compression(fresh: Engine, own: Registry, own_layout: Layout, tmp_path: Path) -> None:
    tar = layer_tar([Entry("a", b"word " * 50_000, 0o644)])
    own_layout.image("it", [tar])
    stored(fresh, own_layout, "it", "it:1")

    def layer(*options: str) -> dict[str, Any]:
        fresh("push", "-q", *options, "it:1", f"{own.address}/it:1")
        found: dict[str, Any] = json.loads(raw(f"{own.address}/it:1", tmp_path))["layers"][0]
        return found

    as_it_is = layer()
    assert layer("--compression-format=gzip") == as_it_is
    assert layer("--compression-format=zstd", "--force-compression=false") == as_it_is
    packed = layer("--compression-format=zstd", "--compression-level=19")
    assert packed["mediaType"].endswith("+zstd")
    skopeo(
        "copy", "--quiet", "--src-tls-verify=false", f"docker://{own.address}/it:1", f"dir:{tmp_path}/c", home=tmp_path
    )
    import zstandard

    plain = (
        zstandard.ZstdDecompressor()
        .decompressobj()
        .decompress((tmp_path / "c" / packed["digest"].removeprefix("sha256:")).read_bytes())
    )
    assert plain == tar
    assert layer("--compression-format=gzip", "--compression-level=9")["mediaType"].endswith("+gzip")


def test_an_index_goes_whole(fresh: Engine, own: Registry, own_layout: Layout, tmp_path: Path) -> None:
    for architecture in (ARCHITECTURE, OTHER):
        own_layout.image(architecture, [layer_tar([Entry(architecture, b"x", 0o644)])], architecture=architecture)
    rows = [{k: v for k, v in row.items() if k != "annotations"} for row in own_layout.index]
    index = json.dumps({"schemaVersion": 2, "mediaType": f"{images.OCI}.index.v1+json", "manifests": rows}).encode()
    row = {"mediaType": f"{images.OCI}.index.v1+json", **own_layout.blob(index)}
    own_layout.add({**row, "annotations": {"org.opencontainers.image.ref.name": "both"}})
    own.push(own_layout, "both", "both:1", "--all")
    digest = row["digest"]
    source = f"{own.address}/both@{digest}"
    fresh("pull", "-q", source)
    error = fresh("push", source, f"{own.address}/again:1", status=125).err
    assert f"linux/{OTHER}" in error
    fresh("pull", "-q", "--platform", f"linux/{OTHER}", source)
    fresh("push", "--digestfile", tmp_path / "digest", source, f"{own.address}/again:1")
    assert (tmp_path / "digest").read_text() == digest
    assert raw(f"{own.address}/again:1", tmp_path) == index
    skopeo("copy", "-q", "--all", "--src-tls-verify=false", f"docker://{own.address}/again:1", f"dir:{tmp_path}/c",
           home=tmp_path)  # fmt: skip


@pytest.mark.parametrize("kind", ["oci", "oci-archive", "dir", "docker-archive"])
def test_files(fresh: Engine, own_layout: Layout, tmp_path: Path, kind: str) -> None:
    own_layout.image("it", [layer_tar([Entry("a", b"x", 0o644)])])
    digest = stored(fresh, own_layout, "it", "it:1")
    place = f"{kind}:{tmp_path}/out" + ("" if kind == "dir" else ":example.org/app:2")
    if kind == "docker-archive":
        fresh("push", "it:1", place)
    else:
        fresh("push", "--digestfile", tmp_path / "digest", "it:1", place)
        assert (tmp_path / "digest").read_text() == digest
    read = json.loads(skopeo("inspect", place, home=tmp_path))
    assert len(read["Layers"]) == 1
    identity = fresh("images", "-q", "--no-trunc").line
    fresh("rmi", "-a", "-f")
    assert f"sha256:{fresh('pull', '-q', place).line}" == identity


def test_a_layout_keeps_its_other_images(fresh: Engine, own_layout: Layout, tmp_path: Path) -> None:
    own_layout.image("one", [layer_tar([Entry("a", b"1", 0o644)])])
    own_layout.image("two", [layer_tar([Entry("a", b"1", 0o644)]), layer_tar([Entry("b", b"2", 0o644)])])
    stored(fresh, own_layout, "one", "one:1")
    stored(fresh, own_layout, "two", "two:1")
    out = tmp_path / "out"
    fresh("push", "one:1", f"oci:{out}:first")
    fresh("push", "two:1", f"oci:{out}:second")
    fresh("push", "one:1", f"oci:{out}:first")
    rows = json.loads((out / "index.json").read_text())["manifests"]
    assert sorted(r["annotations"]["org.opencontainers.image.ref.name"] for r in rows) == ["first", "second"]
    for name in ("first", "second"):
        skopeo("inspect", f"oci:{out}:{name}", home=tmp_path)
    assert not list(out.glob("*.tmp"))


def test_killed_pushes(fresh: Engine, own: Registry, own_layout: Layout, tmp_path: Path) -> None:
    """kill -9 at twenty moments: the name is never there without its blobs, and the next push works."""
    own_layout.image("it", [layer_tar([Entry(str(n), os.urandom(2_000_000), 0o644)]) for n in range(4)])
    target = f"{own.address}/it:1"
    digest = stored(fresh, own_layout, "it", target)
    before = sorted(p.name for p in (fresh.storage_root / "partial").iterdir())
    for n in range(20):
        process = fresh.spawn("push", target, stdin=subprocess.DEVNULL)
        try:
            process.wait(0.15 + 0.02 * n)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate(timeout=20)
        names = own.folder / "data/docker/registry/v2/repositories/it/_manifests/tags/1/current/link"
        if names.exists():
            raw(target, tmp_path)
            skopeo("copy", "-q", "--src-tls-verify=false", f"docker://{target}", f"dir:{tmp_path}/c{n}", home=tmp_path)
            names.unlink()  # the next one, too, must make it last
    fresh("push", target)
    assert sha256(raw(target, tmp_path)) == digest
    assert fresh("system", "check").status == 0
    assert sorted(p.name for p in (fresh.storage_root / "partial").iterdir()) == before


def test_an_unreachable_registry_and_one_that_comes_late(fresh: Engine, own_layout: Layout, tmp_path: Path) -> None:
    own_layout.image("it", [layer_tar([Entry("a", noise(1000), 0o644)])])
    stored(fresh, own_layout, "it", "it:1")
    error = fresh("push", "--retry=0", "it:1", "127.0.0.1:1/it", status=125).err
    assert "127.0.0.1:1" in error
    assert "Traceback" not in error


def test_login_is_asked_for(fresh: Engine, own_layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "htpasswd").write_text("tester:$2y$05$jbyy/ytmEKsfYXczvxlAV.sjzCj8SOCPJ8RPMNcXg/3a/mbKJVuiW\n")
    registry = Registry(tmp_path / "private", auth=tmp_path / "htpasswd")
    try:
        own_layout.image("it", [layer_tar([Entry("a", b"x", 0o644)])])
        target = f"{registry.address}/it:1"
        stored(fresh, own_layout, "it", target)
        assert "pyctl login" in fresh("push", target, status=125).err
        fresh("push", "-q", "--creds=tester:secret", target)
        fresh("login", "-u", "tester", "--password-stdin", registry.address, stdin="secret")
        fresh("push", "-q", target, f"{registry.address}/it:2")
    finally:
        registry.close()


def test_tls(fresh: Engine, own_layout: Layout, tmp_path: Path) -> None:
    """A registry with a certificate of its own: refused unless its authority is named or nobody is to look."""
    tls = self_signed(tmp_path)
    registry = Registry(tmp_path / "secure", tls=tls)
    try:
        own_layout.image("it", [layer_tar([Entry("a", noise(200_000), 0o644)])])
        target = f"{registry.address}/it:1"
        digest = stored(fresh, own_layout, "it", target)
        assert "certificate" in fresh("push", target, status=125).err
        fresh("push", "-q", "--cert-dir", tls[0].parent, target)
        assert sha256(raw(target, tmp_path)) == digest
        fresh("push", "-q", "--tls-verify=false", target, f"{registry.address}/it:2")
    finally:
        registry.close()


def test_a_damaged_blob_is_not_sent(fresh: Engine, own: Registry, own_layout: Layout) -> None:
    own_layout.image("it", [layer_tar([Entry("a", noise(300_000), 0o644)])])
    target = f"{own.address}/it:1"
    stored(fresh, own_layout, "it", target)
    largest = max((fresh.storage_root / "blobs/sha256").iterdir(), key=lambda p: p.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.chmod(0o600)
    largest.write_bytes(content)
    error = fresh("push", target, status=125).err
    assert "damaged" in error
    assert largest.name in error


@pytest.mark.skipif(IS_PODMAN, reason="the wording is pyctl's")
@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("nosuch",), "not known"),
        (("busybox", "docker-daemon:x:1"), "docker-daemon"),
        (("busybox", "UPPER/x"), "lower case"),
        (("--format=v2s1", "busybox", "localhost/x"), "v2s1"),
        (("--format=v2s2", "--compression-format=zstd", "busybox", "localhost:1/x"), "zstd"),
        (("--compression-format=zstd:chunked", "busybox", "localhost:1/x"), "zstd:chunked"),
        (("--compression-level=3", "busybox", "localhost:1/x"), "--compression-format"),
        (("--compression-format=gzip", "--compression-level=10", "busybox", "localhost:1/x"), "1 to 9"),
        (("--compress", "busybox", "localhost:1/x"), "--compress"),
        (("--format=oci", "busybox", "oci:/nonexistent/x"), "--format"),
        (("--sign-by=me", "busybox", "oci:x"), "--sign-by"),
        (("busybox", "dir:/proc/nowhere"), "/proc/nowhere"),
    ],
)
def test_what_is_refused(engine: Engine, args: tuple[str, ...], said: str) -> None:
    result = engine("push", *args, status=125)
    assert said in result.err
    assert "Traceback" not in result.err
