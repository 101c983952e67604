"""load, import and save: round trips that keep digests, other tools that read and write, broken archives."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import Error, NotFound, UsageError
from storage.archive_files import MAX_DOCUMENT_BYTES
from storage.archive_import import import_tarball
from storage.archive_save import save
from storage.archives import Loaded, Transport, load, load_transport, parse_transport
from storage.database import open_database
from storage.images import ImageRow, ImageStore
from storage.lookup import lookup_for_run
from storage.paths import StorePaths
from storage.platforms import Platform
from tests.support.images import Entry, Layout, layer_tar, sha256, zstd
from tests.support.requirements import program

Inside = Callable[..., Any]
BASE = [Entry("bin", kind=tarfile.DIRTYPE), Entry("bin/sh", b"#!" * 3000), Entry("etc/passwd", b"root", uid=7)]
TOP = [Entry("etc/motd", b"hello"), Entry("bin/.wh.sh", b"")]


class Store:
    """A store that is used inside the user's namespace."""

    def __init__(self, inside: Inside, work: Path) -> None:
        self.root = str(work / "store")
        self.inside = inside

    def load(self, source: object, **options: Any) -> tuple[Loaded, ...]:
        return self.inside(do_load, self.root, os.fspath(source), options)

    def pull(self, text: str, **options: Any) -> tuple[Loaded, ...]:
        return self.inside(do_pull, self.root, text, options)

    def import_(self, source: object, **options: Any) -> str:
        return self.inside(do_import, self.root, os.fspath(source), options)

    def db(self) -> Any:
        return open_database(StorePaths(self.root))

    def images(self) -> tuple[ImageRow, ...]:
        return ImageStore(self.db()).list()

    def leftovers(self) -> list[str]:
        """What a failed command must not leave."""
        partial = [n for n in os.listdir(f"{self.root}/partial") if not n.endswith(".lock")]
        return partial + [n for n in os.listdir(f"{self.root}/layers") if n.startswith("tmp-")]


def do_load(root: str, source: str, options: dict[str, Any]) -> tuple[Loaded, ...]:
    return load(open_database(StorePaths(root)), source, **options)


def do_pull(root: str, text: str, options: dict[str, Any]) -> tuple[Loaded, ...]:
    transport = parse_transport(text)
    assert transport is not None
    return load_transport(open_database(StorePaths(root)), transport, **options)


def do_import(root: str, source: str, options: dict[str, Any]) -> str:
    return import_tarball(open_database(StorePaths(root)), source, **options)


@pytest.fixture
def store(inside: Inside, work: Path) -> Store:
    return Store(inside, work)


@pytest.fixture
def made(area: Path) -> Layout:
    layout = Layout(area / "layout")
    layout.image("quay.io/team/app:1", [layer_tar(BASE), layer_tar(TOP)], {"Cmd": ["/bin/sh"], "Env": ["A=b"]})
    return layout


def manifest_digest(layout: Path) -> str:
    return str(json.loads((layout / "index.json").read_text())["manifests"][0]["digest"])


def tar_of(folder: Path, target: Path) -> Path:
    subprocess.run(["tar", "-C", folder, "-cf", target, "."], check=True)
    return target


def docker_archive(target: Path, layers: list[bytes], tags: list[str], **changes: Any) -> Path:
    """An archive as `docker save` writes it, with the layers linked as its older versions did."""
    config = json.dumps(
        {
            "os": "linux", "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": [sha256(gunzip(layer)) for layer in layers]},
            **changes.get("config", {}),
        }
    ).encode()  # fmt: skip
    name = f"{sha256(config)[7:]}.json"
    with tarfile.open(target, "w") as tar:
        for number, layer in enumerate(layers):
            info = tarfile.TarInfo(f"layer{number}.tar")
            info.size = len(layer)
            tar.addfile(info, io.BytesIO(layer))
            link = tarfile.TarInfo(f"id{number}/layer.tar")
            link.type, link.linkname = tarfile.SYMTYPE, f"../layer{number}.tar"
            tar.addfile(link)
        rows = [{"Config": name, "RepoTags": tags, "Layers": [f"id{n}/layer.tar" for n in range(len(layers))]}]
        for member, data in ((name, config), ("manifest.json", json.dumps(changes.get("rows", rows)).encode())):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return target


def gunzip(data: bytes) -> bytes:
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


# --- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_a_layout_and_its_archive(store: Store, area: Path, compression: str) -> None:
    layout = Layout(area / "layout")
    digest = layout.image("localhost/x:1", [layer_tar(BASE), layer_tar(TOP)], compression=compression)
    (loaded,) = store.load(layout.folder)
    assert loaded.names == ("localhost/x:1",)
    (row,) = store.images()
    assert row.manifest_digest == digest
    assert row.id == loaded.image_id
    found = lookup_for_run(store.db(), "x:1")
    assert found is not None
    assert [sorted(os.listdir(path)) for path in found.lower] == [["bin", "etc"], ["bin", "etc"]]
    assert store.load(tar_of(layout.folder, area / "a.tar")) == (loaded,)
    assert store.leftovers() == []


@pytest.mark.parametrize("pack", [gzip.compress, zstd, lzma.compress, bz2.compress])
def test_compressed_archives(store: Store, made: Layout, area: Path, pack: Callable[[bytes], bytes]) -> None:
    tar = tar_of(made.folder, area / "a.tar")
    (area / "packed").write_bytes(pack(tar.read_bytes()))
    (loaded,) = store.load(area / "packed")
    assert loaded.names == ("quay.io/team/app:1",)


def do_load_pipe(root: str, data: bytes) -> tuple[Loaded, ...]:
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(data)
        os._exit(0)
    os.close(writer)
    return load(open_database(StorePaths(root)), reader)


def test_an_archive_from_a_pipe(store: Store, made: Layout, area: Path) -> None:
    data = tar_of(made.folder, area / "a.tar").read_bytes()
    (loaded,) = store.inside(do_load_pipe, store.root, data)
    assert loaded.names == ("quay.io/team/app:1",)


@pytest.mark.parametrize("compressed", [False, True])
def test_docker_archive(store: Store, area: Path, compressed: bool) -> None:
    layers = [gzip.compress(layer_tar(e)) if compressed else layer_tar(e) for e in (BASE, TOP)]
    path = docker_archive(area / "d.tar", layers, ["app:2", "quay.io/x/y"])
    (loaded,) = store.load(path)
    assert loaded.names == ("docker.io/library/app:2", "quay.io/x/y:latest")
    first = store.images()
    assert store.load(path) == (loaded,)
    assert store.images() == first, "the manifest that was made for it differs from the one before"


def test_what_current_docker_saves(store: Store, area: Path) -> None:
    """An OCI layout with containerd's names, and a manifest.json for older readers beside it."""
    layout = Layout(area / "layout")
    layout.image("latest", [layer_tar(BASE)])
    layout.index[0]["annotations"]["io.containerd.image.name"] = "docker.io/library/app:latest"
    attestation = {**layout.index[0], "platform": {"os": "unknown", "architecture": "unknown"}}
    layout.add(attestation)
    (layout.folder / "manifest.json").write_text("[]")
    (loaded,) = store.load(tar_of(layout.folder, area / "a.tar"))
    assert loaded.names == ("docker.io/library/app:latest",)
    assert len(store.images()) == 1


def test_several_images_in_one_archive(store: Store, area: Path) -> None:
    layout = Layout(area / "layout")
    for number in range(3):
        layout.image(f"localhost/n:{number}", [layer_tar(BASE)], {"Env": [f"N={number}"]})
    assert [row.names for row in store.load(layout.folder)] == [(f"localhost/n:{n}",) for n in range(3)]
    assert len(store.images()) == 3
    assert len(os.listdir(f"{store.root}/layers")) == 1  # shared
    assert store.pull(f"oci:{layout.folder}:localhost/n:1")[0].names == ("localhost/n:1",)
    with pytest.raises(NotFound, match="no image localhost/n:9") as caught:
        store.pull(f"oci:{layout.folder}:localhost/n:9")
    assert "localhost/n:0, localhost/n:1" in caught.value.hint


def test_an_index_gives_the_platform_and_keeps_its_digest(store: Store, area: Path) -> None:
    layout = Layout(area / "layout")
    entries = []
    for architecture in ("arm64", "amd64"):
        layout.image("x", [layer_tar([*BASE, Entry(architecture, b"")])], architecture=architecture)
        row = layout.index.pop()
        del row["annotations"]
        entries.append(row)
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries}
    blob = layout.blob(json.dumps(index).encode())
    layout.add(
        {
            "mediaType": "application/vnd.oci.image.index.v1+json", **blob,
            "annotations": {"org.opencontainers.image.ref.name": "multi/arch:1"},
        }
    )  # fmt: skip
    store.load(layout.folder, platform=Platform(os="linux", architecture="arm64"))
    (row,) = store.images()
    assert row.architecture == "arm64"
    assert set(row.digests) == {entries[0]["digest"], blob["digest"]}
    assert ImageStore(store.db()).exists(f"localhost/multi/arch@{blob['digest']}")
    with pytest.raises(NotFound, match="no image for linux/s390x"):
        store.load(layout.folder, platform=Platform(os="linux", architecture="s390x"))


# --- round trips ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci-dir", "docker-dir"])
def test_what_is_saved_is_loaded_again(store: Store, made: Layout, area: Path, form: str, work: Path) -> None:
    (loaded,) = store.load(made.folder)
    output = area / "saved"
    save(store.db(), ["quay.io/team/app:1"], str(output), form=form)
    other = Store(store.inside, work / "other")
    other.root = str(work / "other")
    (again,) = other.load(output)
    assert again.image_id == loaded.image_id
    (row,) = other.images()
    if form != "docker-archive":
        assert row.manifest_digest == manifest_digest(made.folder)
    assert row.names == (("quay.io/team/app:1",) if form != "docker-dir" else ())
    save(other.db(), [again.image_id], str(area / "second"), form=form)
    if form == "docker-archive":
        save(store.db(), [loaded.image_id], str(area / "third"), form=form)
        assert (area / "second").read_bytes() == (area / "third").read_bytes()


def test_skopeo_reads_what_is_saved(store: Store, made: Layout, area: Path) -> None:
    skopeo = program("skopeo")
    (loaded,) = store.load(made.folder)
    for form, transport in (("docker-archive", "docker-archive:{}"), ("oci-archive", "oci-archive:{}"),
                            ("oci-dir", "oci:{}:quay.io/team/app:1"), ("docker-dir", "dir:{}")):  # fmt: skip
        output = area / form
        save(store.db(), ["quay.io/team/app:1"], str(output), form=form)
        source = transport.format(output)
        inspected = json.loads(subprocess.run([skopeo, "inspect", source], capture_output=True, check=True).stdout)
        assert inspected["Env"] == ["A=b"]
        if form != "docker-archive":
            assert inspected["Digest"] == manifest_digest(made.folder)
        raw = subprocess.run([skopeo, "inspect", "--config", "--raw", source], capture_output=True, check=True).stdout
        assert sha256(raw) == f"sha256:{loaded.image_id}"
        subprocess.run([skopeo, "copy", "-q", source, f"dir:{area}/copy-{form}"], check=True)


def test_loads_what_skopeo_writes(store: Store, made: Layout, area: Path) -> None:
    skopeo = program("skopeo")
    source = f"oci:{made.folder}:quay.io/team/app:1"
    expected = store.load(made.folder)[0].image_id
    for target in ("oci:{}:x/y:9", "oci-archive:{}:x/y:9", "dir:{}", "docker-archive:{}:x/y:9"):
        path = area / target.partition(":")[0]
        options = ["--format=v2s2"] if target.startswith("d") else []
        subprocess.run([skopeo, "copy", "-q", *options, source, target.format(path)], check=True)
        (loaded,) = store.load(path)
        # A conversion to Docker's types leaves the configuration alone.
        assert loaded.image_id == expected, target
        expected_names = {"dir": (), "docker-archive": ("docker.io/x/y:9",)}
        assert loaded.names == expected_names.get(path.name, ("localhost/x/y:9",))
        assert store.pull(f"{path.name}:{path}") == (loaded,)


def test_umoci_reads_what_is_saved(store: Store, made: Layout, area: Path) -> None:
    umoci = program("umoci")
    store.load(made.folder)
    save(store.db(), ["quay.io/team/app:1"], str(area / "out"), form="oci-dir")
    command = [umoci, "unpack", "--rootless", "--image", f"{area}/out:quay.io/team/app:1", str(area / "bundle")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:  # umoci cannot name a tag with slashes in some versions
        index = json.loads((area / "out/index.json").read_text())
        index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = "v1"
        (area / "out/index.json").write_text(json.dumps(index))
        command[4] = f"{area}/out:v1"
        subprocess.run(command, check=True, capture_output=True)
    assert (area / "bundle/rootfs/etc/motd").read_text() == "hello"
    assert not (area / "bundle/rootfs/bin/sh").exists()


def test_the_layout_validates(store: Store, made: Layout, area: Path) -> None:
    tool = program("oci-image-tool")
    store.load(made.folder)
    save(store.db(), ["quay.io/team/app:1"], str(area / "out"), form="oci-dir")
    done = subprocess.run(
        [tool, "validate", "--type", "image", str(area / "out")], capture_output=True, text=True, check=False
    )
    assert "Validation succeeded" in done.stdout, done.stderr


def test_save_of_several_and_of_names(store: Store, made: Layout, area: Path) -> None:
    made.image("localhost/b:1", [layer_tar(BASE)])
    store.load(made.folder)
    db = store.db()
    save(db, ["quay.io/team/app:1", "localhost/b:1"], str(area / "m.tar"), multiple=True)
    with tarfile.open(area / "m.tar") as tar:
        member = tar.extractfile("manifest.json")
        assert member is not None
        rows = json.load(member)
        assert len(tar.getnames()) == len(set(tar.getnames())) == 2 + 2 + 2  # the layer below is there once
    assert [row["RepoTags"] for row in rows] == [["quay.io/team/app:1"], ["localhost/b:1"]]
    with pytest.raises(UsageError, match="another image"):
        save(db, ["quay.io/team/app:1", "localhost/b:1"], str(area / "n.tar"))
    save(db, ["localhost/b:1", "other:5"], str(area / "o.tar"))
    with pytest.raises(Error, match="exists already"):
        save(db, ["localhost/b:1"], str(area / "o.tar"))
    with pytest.raises(NotFound, match="nosuch: image not known"):
        save(db, ["nosuch"], str(area / "p.tar"))
    with pytest.raises(UsageError, match="unknown format"):
        save(db, ["localhost/b:1"], str(area / "p.tar"), form="zip")
    assert not (area / "p.tar").exists()
    (loaded,) = store.load(area / "o.tar")
    assert loaded.names == ("localhost/b:1", "localhost/other:5")


def test_save_to_a_descriptor(store: Store, made: Layout, area: Path) -> None:
    store.load(made.folder)
    with open(area / "out", "wb") as file:
        save(store.db(), ["quay.io/team/app:1"], file.fileno(), form="oci-archive")
    assert store.load(area / "out")[0].names == ("quay.io/team/app:1",)


def test_a_damaged_blob_is_not_saved(store: Store, made: Layout, area: Path) -> None:
    store.load(made.folder)
    blobs = Path(store.root) / "blobs/sha256"
    biggest = blobs / layers_of(made)[0][7:]
    raw = bytearray(biggest.read_bytes())
    raw[-1] ^= 1
    biggest.write_bytes(raw)
    with pytest.raises(Error, match=r"damaged|wrong digest"):
        save(store.db(), ["quay.io/team/app:1"], str(area / "x"), form="oci-dir")
    assert not (area / "x").exists()
    with pytest.raises(Error):
        save(store.db(), ["quay.io/team/app:1"], str(area / "x"))
    assert not [name for name in os.listdir(area) if name.startswith("x")]


# --- import --------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress, bz2.compress, zstd])
def test_import(store: Store, area: Path, pack: Callable[[bytes], bytes]) -> None:
    (area / "root.tar").write_bytes(pack(layer_tar(BASE)))
    image = store.import_(
        area / "root.tar", name="bb", changes=("CMD=/bin/sh", "ENV A=b"), platform=Platform(architecture="arm64")
    )
    (row,) = store.images()
    assert (row.id, row.names, row.architecture) == (image, ("localhost/bb:latest",), "arm64")
    assert row.manifest_type == "application/vnd.oci.image.manifest.v1+json"
    config = json.loads(ImageStore(store.db()).config_text(image))
    assert config["config"] == {"Cmd": ["/bin/sh", "-c", "/bin/sh"], "Env": ["A=b"]}
    assert config["rootfs"]["diff_ids"] == [sha256(layer_tar(BASE))]
    (step,) = ImageStore(store.db()).history("bb")
    assert step.comment == "imported from tarball"
    assert step.created_by == f"/bin/sh -c #(nop) ADD file:{sha256(layer_tar(BASE))[7:]} in / "
    save(store.db(), ["bb"], str(area / "out.tar"))
    assert store.load(area / "out.tar")[0].image_id == image


def test_import_checks_its_options_first(store: Store, area: Path) -> None:
    with pytest.raises(UsageError, match="FOO=x"):
        store.import_(area / "nosuch", changes=("FOO=x",))
    with pytest.raises(NotFound, match="nosuch: No such file"):
        store.import_(area / "nosuch")
    (area / "bad").write_text("no tar\n" * 200)
    with pytest.raises(Error, match="bad: not a tar archive"):
        store.import_(area / "bad", name="x")
    assert store.images() == ()
    assert store.leftovers() == []


# --- broken and hostile --------------------------------------------------------------------------


def spoil(layout: Layout, digest: str, data: bytes) -> None:
    layout.path(digest).write_bytes(data)


def layers_of(layout: Layout) -> list[str]:
    manifest = json.loads(layout.path(manifest_digest(layout.folder)).read_text())
    return [str(layer["digest"]) for layer in manifest["layers"]]


def test_wrong_bytes_name_the_blob(store: Store, made: Layout) -> None:
    layer = layers_of(made)[1]
    good = made.path(layer).read_bytes()
    for bad in (good[:-20], good[:100] + b"\0" + good[101:], gzip.compress(layer_tar(BASE)), b""):
        spoil(made, layer, bad)
        with pytest.raises(Error, match=layer):
            store.load(made.folder)
        assert store.images() == ()
        assert store.leftovers() == []
    spoil(made, layer, good)
    store.load(made.folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (b"not json", "not JSON"),
        (b"{}", "no os"),
        (
            b'{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["sha256:../../x"]}}',
            "invalid digest",
        ),
        (b'{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}', "0 diff_ids"),
        (b" " * (5 << 20), "larger than"),
    ],
)
def test_bad_configurations(store: Store, area: Path, config: bytes, message: str) -> None:
    layout = Layout(area / "layout")
    layout.image("x/y:1", [layer_tar(BASE)], raw_config=config)
    with pytest.raises(Error, match=message):
        store.load(layout.folder)
    assert store.images() == ()


def test_a_layer_that_is_not_the_configurations(store: Store, area: Path) -> None:
    layout = Layout(area / "layout")
    config = {
        "os": "linux", "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [sha256(b"another")]},
    }  # fmt: skip
    layout.image("x/y:1", [layer_tar(BASE)], raw_config=json.dumps(config).encode())
    with pytest.raises(Error, match="which the configuration names"):
        store.load(layout.folder)
    archive = docker_archive(area / "d.tar", [layer_tar(BASE)], ["x"], config={"rootfs": config["rootfs"]})
    with pytest.raises(Error, match="which the configuration names"):
        store.load(archive)
    assert store.leftovers() == []
    assert os.listdir(f"{store.root}/layers") == []


def test_files_outside_a_layout_are_not_read(store: Store, made: Layout, outside: Path) -> None:
    layer = layers_of(made)[0]
    made.path(layer).unlink()
    made.path(layer).symlink_to(outside / "victim")
    with pytest.raises(Error, match="symbolic links"):
        store.load(made.folder)
    made.path(layer).unlink()
    os.mkfifo(made.path(layer))
    with pytest.raises(Error, match="not a regular file"):
        store.load(made.folder)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "lists no images"),
        ({"Config": "x"}, "lists no images"),
        ([{"Config": "../../etc/passwd", "Layers": []}], "not in the archive"),
        ([{"Config": 5, "Layers": []}], "Config is not a string"),
        ([{"Config": "manifest.json", "RepoTags": ["UPPER"], "Layers": []}], "lower case"),
    ],
)
def test_bad_docker_manifests(store: Store, area: Path, rows: object, message: str) -> None:
    with pytest.raises(Error, match=message):
        store.load(docker_archive(area / "d.tar", [layer_tar(BASE)], [], rows=rows))
    assert store.images() == ()


def test_what_is_no_archive(store: Store, area: Path) -> None:
    (area / "text").write_text("hello")
    (area / "root.tar").write_bytes(layer_tar(BASE))
    (area / "empty").mkdir()
    with pytest.raises(Error, match="text"):
        store.load(area / "text")
    with pytest.raises(Error, match="holds no image") as caught:
        store.load(area / "root.tar")
    assert "import" in caught.value.hint
    with pytest.raises(Error, match="neither an OCI layout"):
        store.load(area / "empty")
    with pytest.raises(NotFound):
        store.load(area / "nosuch")
    with pytest.raises(NotFound):
        store.pull(f"dir:{area}/empty")


def test_a_truncated_archive(store: Store, made: Layout, area: Path) -> None:
    data = tar_of(made.folder, area / "a.tar").read_bytes()
    for size in range(1000, len(data) - 11000, 997):
        (area / "cut").write_bytes(data[:size])
        with pytest.raises(Error):
            store.load(area / "cut")
    assert store.images() == ()
    assert store.leftovers() == []


def test_a_huge_document_is_refused(store: Store, area: Path) -> None:
    layout = Layout(area / "layout")
    (layout.folder / "index.json").write_bytes(b"[" * (MAX_DOCUMENT_BYTES + 1))
    with pytest.raises(Error, match="larger than"):
        store.load(layout.folder)


def test_transports_are_parsed() -> None:
    assert parse_transport("oci:/a/b:c/d:e") == Transport(kind="oci", path="/a/b", ref="c/d:e")
    assert parse_transport("dir:/a:b") == Transport(kind="dir", path="/a:b")
    assert parse_transport("docker-archive:x.tar") == Transport(kind="docker-archive", path="x.tar")
    assert parse_transport("docker.io/library/x:1") is None
    assert parse_transport("busybox") is None
    with pytest.raises(UsageError):
        parse_transport("oci:")
