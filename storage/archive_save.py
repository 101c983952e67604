"""`save`: stored images as docker-archive, oci-archive, an OCI layout or a `dir:` directory.

Weight: `storage.manifest`, `storage.compression`; loaded for save only.  Needs no mapped ids: only blobs are read.

Blobs are written as they were received, so a manifest that is OCI's keeps its digest through oci-archive and oci-dir,
and any manifest keeps it through docker-dir.  docker-archive has no manifest; there the configuration's digest, the
image's id, is what stays.
"""

from __future__ import annotations

import os

from rootless.errors import NotFound, UsageError
from rootless.fds import read_file
from rootless.values import Value, dumps, loads
from storage import digest as digests
from storage.archive_files import DescriptorReader
from storage.archive_targets import DirectoryTarget, TarTarget, Verified
from storage.blobs import BlobStore
from storage.compression import open_decompressed
from storage.images import ImageStore, local_name
from storage.lookup import find
from storage.manifest import (
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    MAX_MANIFEST_BYTES,
    OCI_CONFIG,
    Manifest,
    parse_manifest,
)
from storage.manifest_convert import as_oci
from storage.reference import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from storage.database import Database

    Target = TarTarget | DirectoryTarget

FORMATS = ("docker-archive", "oci-archive", "oci-dir", "docker-dir")
_CHUNK = 1 << 20
_REF_NAME = "org.opencontainers.image.ref.name"


class _Image(Value):
    """One image to write."""

    id: str
    names: tuple[str, ...]
    manifest: Manifest
    config: bytes
    diff_ids: tuple[str, ...]
    sizes: tuple[int, ...]  # of the uncompressed layers


def save(
    db: Database,
    images: Sequence[str],
    output: str | int,
    *,
    form: str = "docker-archive",
    multiple: bool = False,
    compress: bool = False,
) -> None:
    """Write `images` (names or ids) to `output`: a path, or a descriptor for the archives.

    multiple: every argument is an image; otherwise the arguments after the first are further names of that one.
    compress: docker-dir only, for layers that are stored uncompressed.  Nothing half-written is left at a path.
    Raises UsageError, NotFound, Error.
    """
    if form not in FORMATS:
        raise UsageError(f"unknown format {form!r}", hint=", ".join(FORMATS))
    if multiple and form != "docker-archive":
        raise UsageError("several images can only be saved as docker-archive")
    if compress and form != "docker-dir":
        raise UsageError("--compress goes with --format docker-dir only")
    chosen = _choose(db, images, multiple)
    blobs = BlobStore(db.paths)
    target: Target
    if form.endswith("-archive"):
        target = TarTarget(output)
    elif isinstance(output, str):
        target = DirectoryTarget(output)
    else:
        raise UsageError(f"--format {form} needs a path", hint="--output DIRECTORY")
    try:
        if isinstance(target, TarTarget) and form == "docker-archive":
            _write_docker(blobs, chosen, target)
        elif form == "docker-dir":
            _write_dir(blobs, chosen[0], target, compress)
        else:
            _write_oci(blobs, chosen[0], target)
        target.finish()
    except BaseException:
        target.abandon()
        raise


def save_to(db: Database, text: str, kind: str, path: str | int, ref: str, *, compress: bool = False) -> str:
    """`push` to a file or directory: the image `text`, named `ref` there ("" not at all); its manifest's digest.

    path: also a descriptor, for an archive; kind: of `storage.archives.TRANSPORTS`.  An OCI layout that is there keeps
    its other images.  Raises as `save`.
    """
    image = _choose(db, [text], False)[0]
    if kind == "docker-archive":
        image = image.replace(names=(str(parse(ref).with_default_tag()),) if ref else ())
    else:
        image = image.replace(names=(ref,) if ref else ())
    blobs = BlobStore(db.paths)
    target: Target
    others: Sequence[dict[str, object]] = ()
    if kind.endswith("-archive"):
        target = TarTarget(path)
    else:
        assert isinstance(path, str)
        others = layout_rows(path, ref) if kind == "oci" else ()
        target = DirectoryTarget(path)
    digest = ""
    try:
        if isinstance(target, TarTarget) and kind == "docker-archive":
            _write_docker(blobs, [image], target)
        elif kind == "dir":
            digest = _write_dir(blobs, image, target, compress)
        else:
            digest = _write_oci(blobs, image, target, others)
        target.finish()
    except BaseException:
        target.abandon()
        raise
    return digest


def layout_rows(path: str, ref: str) -> Sequence[dict[str, object]]:
    """The entries of a layout's index that stay: all but those of the name that is written."""
    from storage import fields

    index = f"{path}/index.json"
    if not os.path.exists(index):
        return ()
    tree = fields.parse_object(read_file(index, limit=MAX_MANIFEST_BYTES + 1), index, MAX_MANIFEST_BYTES)
    rows = fields.tables(tree, "manifests", index)
    return [row for row in rows if fields.text_table(row, "annotations", index).get(_REF_NAME, "") != ref]


def _choose(db: Database, images: Sequence[str], multiple: bool) -> list[_Image]:
    store = ImageStore(db)
    chosen: dict[str, _Image] = {}
    blobs = BlobStore(db.paths)
    for position, text in enumerate(images):
        found = find(db, text)
        if found is None and position and not multiple:
            found = (next(iter(chosen)), local_name(text))  # a name for the archive only
        if found is None:
            raise NotFound(f"{text}: image not known")
        image_id, name = found
        if image_id not in chosen:
            if chosen and not multiple:
                raise UsageError(
                    f"{text} is another image than {images[0]}", hint="save several with --multi-image-archive"
                )
            manifest = parse_manifest(blobs.read(store.digest_of(text), MAX_MANIFEST_BYTES))
            if not isinstance(manifest, Manifest):
                row = store.list(image_id)[0]
                manifest = parse_manifest(blobs.read(row.manifest_digest, MAX_MANIFEST_BYTES))
            assert isinstance(manifest, Manifest)
            rows = db.query(
                "SELECT l.diff_id, l.size FROM image_layers i JOIN layers l ON l.key = i.layer_key"
                " WHERE i.image_id = ? ORDER BY i.position",
                (image_id,),
            )
            chosen[image_id] = _Image(
                id=image_id,
                names=(),
                manifest=manifest,
                config=store.config_text(image_id).encode(),
                diff_ids=tuple(r[0] for r in rows),
                sizes=tuple(r[1] for r in rows),
            )
        held = chosen[image_id]
        if name and "@" not in name and name not in held.names:
            chosen[image_id] = held.replace(names=(*held.names, name))
    return list(chosen.values())


# --- formats -------------------------------------------------------------------------------------


def _write_docker(blobs: BlobStore, images: Sequence[_Image], target: TarTarget) -> None:
    written: set[str] = set()
    rows = []
    repositories: dict[str, dict[str, str]] = {}
    for image in images:
        files = []
        for descriptor, diff_id, size in zip(image.manifest.layers, image.diff_ids, image.sizes, strict=True):
            name = f"{diff_id.partition(':')[2]}.tar"
            files.append(name)
            if name not in written:
                written.add(name)
                fd = blobs.open(descriptor.digest)
                try:
                    what = f"layer {descriptor.digest}"
                    plain = open_decompressed(DescriptorReader(fd, what), what)
                    target.stream(name, Verified(plain, diff_id, size, what), size)
                finally:
                    os.close(fd)
        if f"{image.id}.json" not in written:
            written.add(f"{image.id}.json")
            target.file(f"{image.id}.json", image.config)
        rows.append({"Config": f"{image.id}.json", "RepoTags": list(image.names), "Layers": files})
        for name in image.names:
            repository, _, tag = name.rpartition(":")
            repositories.setdefault(repository, {})[tag] = files[-1].removesuffix(".tar") if files else ""
    target.file("manifest.json", dumps(rows).encode())
    target.file("repositories", dumps(repositories).encode())


def _write_oci(blobs: BlobStore, image: _Image, target: Target, others: Sequence[dict[str, object]] = ()) -> str:
    """others: entries of the index besides the image's.  Returns the manifest's digest."""
    manifest = as_oci(image.manifest)
    digests_of = (manifest.digest, manifest.config.digest, *(layer.digest for layer in manifest.layers))
    target.directory("blobs")
    for algorithm in sorted({digests.split(digest)[0] for digest in digests_of}):
        target.directory(f"blobs/{algorithm}")
    target.file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    for descriptor in (*manifest.layers, manifest.config):
        fd = blobs.open(descriptor.digest)
        try:
            target.blob(_blob_path(descriptor.digest), fd, descriptor.size, descriptor.digest)
        finally:
            os.close(fd)
    target.file(_blob_path(manifest.digest), manifest.raw)
    row: dict[str, object] = {
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": len(manifest.raw),
    }
    rows = [*others, *([{**row, "annotations": {_REF_NAME: name}} for name in image.names] or [row])]
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": rows}
    target.file("index.json", dumps(index).encode())
    return manifest.digest


def _write_dir(blobs: BlobStore, image: _Image, target: Target, compress: bool) -> str:
    manifest = _compressed(blobs, image.manifest) if compress else image.manifest
    for descriptor in (*manifest.layers, manifest.config):
        fd = blobs.open(descriptor.digest)
        try:
            target.blob(descriptor.digest.partition(":")[2], fd, descriptor.size, descriptor.digest)
        finally:
            os.close(fd)
    target.file("version", b"Directory Transport Version: 1.1\n")
    target.file("manifest.json", manifest.raw)
    return manifest.digest


def _compressed(blobs: BlobStore, manifest: Manifest) -> Manifest:
    """The manifest with every layer compressed; those that are not are compressed into the store's blobs."""
    from storage.gzip_writer import GzipWriter

    tree = loads(manifest.raw)
    for layer in tree["layers"]:
        kind = layer["mediaType"]
        if kind.endswith(("gzip", "zstd")):
            continue
        fd = blobs.open(layer["digest"])
        try:
            reader = DescriptorReader(fd, f"layer {layer['digest']}")
            with blobs.writer() as writer:
                gzip = GzipWriter(writer)
                while chunk := reader.read(_CHUNK):
                    gzip.write(chunk)
                gzip.finish()
                layer["digest"], layer["size"] = writer.commit(), writer.size
        finally:
            os.close(fd)
        layer["mediaType"] = kind + (".gzip" if manifest.media_type == DOCKER_MANIFEST else "+gzip")
    changed = parse_manifest(dumps(tree).encode())
    assert isinstance(changed, Manifest)
    assert changed.config.media_type in (OCI_CONFIG, DOCKER_CONFIG)
    return changed


def _blob_path(digest: str) -> str:
    algorithm, digits = digests.split(digest)
    return f"blobs/{algorithm}/{digits}"
