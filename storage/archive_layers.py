"""Layers and images from files into the store, each verified against what names it.

Weight: `threading`, `storage.pipeline`, `storage.layers`; loaded for load and import only.  Runs as uid 0 of the
user's namespace, because unpacking sets owners.
"""

from __future__ import annotations

from rootless.errors import Error
from rootless.values import dumps
from storage import digest as digests
from storage.blobs import BlobStore, BlobWriter
from storage.compression import detect, open_decompressed
from storage.digest import DigestError
from storage.gzip_writer import GzipWriter
from storage.images import ImageStore
from storage.layers import Layer, LayerStore, chain_ids
from storage.manifest import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    MAX_MANIFEST_BYTES,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    parse_manifest,
)
from storage.manifest_convert import compression_of, layer_type
from storage.pipeline import LayerPipeline
from storage.threaded import ThreadedReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from typing import Protocol

    from storage.archive_files import Source
    from storage.compression import Reader
    from storage.database import Database
    from storage.unpack import UnpackLimits

    class Layers(Protocol):
        """Where layers are opened by name."""

        def open(self, name: str) -> Source: ...


_CHUNK = 256 << 10


class Importer:
    """Brings layers and images into one store: a context manager, inside which no garbage is collected."""

    def __init__(self, db: Database, single_id: bool = False, limits: UnpackLimits | None = None) -> None:
        self.db = db
        self.blobs = BlobStore(db.paths)
        self.layers = LayerStore(db, single_id, limits)

    def __enter__(self) -> Importer:
        self.layers.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.layers.__exit__(*error)

    def described_layer(
        self, files: Layers, name: str, descriptor: Descriptor, diff_id: str, below: Sequence[Layer]
    ) -> Layer:
        """Store the layer `name` of `files`, which a manifest describes, and its blob as it is."""
        what = f"layer {descriptor.digest}"
        chain_id = chain_ids([*(b.diff_id for b in below), diff_id])[-1]
        with self.layers.lock(diff_id) as lock:
            found = self.layers.find(diff_id, chain_id)
            if found is not None and self.blobs.has(descriptor.digest):
                return found
            with files.open(name) as reader, self.blobs.writer() as writer, self.layers.stage(what, lock) as staging:
                window = self.layers.limits.max_window_bytes
                pipeline = LayerPipeline(Keeping(reader, writer), descriptor.digest, diff_id, what, window)
                try:
                    if found is None:
                        staging.unpack(pipeline, reader.size)
                    else:
                        pipeline.drain()
                except Error as error:
                    raise pipeline.blame(error) from error.__cause__
                finally:
                    pipeline.close()
                writer.commit(descriptor.digest)
                return found or staging.commit(diff_id, below)

    def plain_layer(
        self, open_: Callable[[], Source], diff_id: str, below: Sequence[Layer], what: str
    ) -> tuple[Layer, Descriptor]:
        """Store a layer that only its diff id names ("": nothing does), its blob compressed where it was not.

        open_: opens the layer's file, where it is needed.  Returns the layer and what describes its blob.
        """
        if diff_id:
            chain_id = chain_ids([*(b.diff_id for b in below), diff_id])[-1]
            found = self.layers.find(diff_id, chain_id)
            descriptor = self._known_blob(diff_id)
            if found is not None and descriptor is not None:
                return found, descriptor
        with open_() as reader, self.blobs.writer() as writer, self.layers.stage(what) as staging:
            head = Peeked(reader)
            compressed = detect(head.peek(6)) == "gzip"
            diff = digests.new()
            stream = ThreadedReader(_plain(head, writer, diff, compressed, what), what)
            try:
                staging.unpack(stream, reader.size if compressed else 0)
            except BaseException:
                reader.cancel()  # the user gave up while the thread waits for a pipe
                raise
            finally:
                stream.close()
            actual = f"sha256:{diff.hexdigest()}"
            if diff_id and actual != diff_id:
                raise DigestError(f"{what}: unpacked it is not {diff_id}, which the configuration names")
            digest = writer.commit()
            layer = staging.commit(actual, below)
            return layer, Descriptor(media_type=DOCKER_LAYER, digest=digest, size=writer.size)

    def _known_blob(self, diff_id: str) -> Descriptor | None:
        """The blob of a layer that some image here has: compressing it again would take as long as loading it."""
        rows = self.db.query(
            "SELECT m.manifest_digest, i.position FROM layers l JOIN image_layers i ON i.layer_key = l.key"
            " JOIN images m ON m.id = i.image_id WHERE l.diff_id = ? LIMIT 5",
            (diff_id,),
        )
        for manifest_digest, position in rows:
            try:
                manifest = parse_manifest(self.blobs.read(manifest_digest, MAX_MANIFEST_BYTES))
            except Error:
                continue
            if isinstance(manifest, Manifest) and position < len(manifest.layers):
                layer = manifest.layers[position]
                if layer.media_type in (DOCKER_LAYER, OCI_LAYER + "+gzip") and self.blobs.has(layer.digest):
                    return Descriptor(media_type=DOCKER_LAYER, digest=layer.digest, size=layer.size)
        return None

    def image(
        self,
        config: bytes,
        manifest: Manifest,
        layers: Sequence[Layer],
        names: Sequence[str] = (),
        index: Index | None = None,
    ) -> str:
        """Record an image whose layers are stored; returns its id."""
        self.blobs.put(config, manifest.config.digest)
        self.blobs.put(manifest.raw, manifest.digest)
        if index is not None:
            self.blobs.put(index.raw, index.digest)
        self.blobs.sync()
        return ImageStore(self.db).add(
            config,
            manifest,
            [layer.key for layer in layers],
            names=names,
            index=(index.digest, index.media_type) if index else None,
            squashed=any(layer.squashed for layer in layers),
        )


def make_manifest(config: bytes, layers: Sequence[Descriptor], oci: bool) -> Manifest:
    """A manifest for a configuration and layers that came without one; the same for the same input."""
    tree = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST if oci else DOCKER_MANIFEST,
        "config": {
            "mediaType": OCI_CONFIG if oci else DOCKER_CONFIG,
            "digest": digests.of(config),
            "size": len(config),
        },
        "layers": [
            {"mediaType": layer_type(oci, compression_of(d.media_type)), "digest": d.digest, "size": d.size}
            for d in layers
        ],
    }
    manifest = parse_manifest(dumps(tree).encode())
    assert isinstance(manifest, Manifest)
    return manifest


def _plain(
    reader: Reader, writer: BlobWriter, diff: digests.Hash, compressed: bool, what: str
) -> Generator[bytes, None, None]:
    """The uncompressed chunks of a layer, hashed, while its blob is written: as it is, or compressed."""
    plain = open_decompressed(Keeping(reader, writer) if compressed else reader, what)
    gzip = None if compressed else GzipWriter(writer)
    while chunk := plain.read(_CHUNK):
        diff.update(chunk)
        if gzip is not None:
            gzip.write(chunk)
        yield chunk
    if gzip is not None:
        gzip.finish()
    while trailing := reader.read(_CHUNK):
        writer.write(trailing)


class Keeping:
    """A reader that writes what passes into a blob."""

    __slots__ = ("_reader", "_writer")

    def __init__(self, reader: Reader, writer: BlobWriter) -> None:
        self._reader = reader
        self._writer = writer

    def read(self, size: int, /) -> bytes:
        data = self._reader.read(size)
        if data:
            self._writer.write(data)
        return data


class Peeked:
    """A reader whose first bytes can be looked at."""

    __slots__ = ("_head", "_reader")

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._head = b""

    def peek(self, size: int) -> bytes:
        while len(self._head) < size and (more := self._reader.read(size - len(self._head))):
            self._head += more
        return self._head

    def read(self, size: int, /) -> bytes:
        if self._head:
            out, self._head = self._head[:size], self._head[size:]
            return out
        return self._reader.read(size)
