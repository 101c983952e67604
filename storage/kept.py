"""Documents that are stored without being unpacked: what manifest lists and artifacts have in common.

Weight: `storage.copy_sources` and what it loads.  Their blobs lie with those of the images; rows of kept_blobs keep
them from being collected.  Whoever adds some holds the store's lock (`storage.layers.LayerStore`) meanwhile.
"""

from __future__ import annotations

from rootless.errors import NotFound
from storage.archive_files import FileReader
from storage.blobs import BlobStore
from storage.manifest import MAX_MANIFEST_BYTES, Index, Manifest, parse_manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

    from storage.copy_sources import Source
    from storage.database import Database
    from storage.manifest import Descriptor
    from storage.reference import Reference

_CHUNK = 256 << 10


class StoreSource:
    """The store's blobs as a source of `storage.copy`; top: the document that is meant."""

    kind = "store"
    path = ref = ""

    def __init__(self, db: Database, top: Manifest | Index, what: str, reference: Reference | None = None) -> None:
        self.what = what
        self.reference = reference
        self._top = top
        self._blobs = BlobStore(db.paths)

    def document(self, digest: str = "") -> Manifest | Index:
        """The manifest or index, verified.  Raises NotFound, Error."""
        if digest in ("", self._top.digest):
            return self._top
        if not self._blobs.has(digest):
            raise NotFound(f"{self.what}: manifest {digest} is not stored here")
        return parse_manifest(self._blobs.read(digest, MAX_MANIFEST_BYTES), what=f"{self.what}: manifest {digest}")

    def open(self, descriptor: Descriptor) -> FileReader:
        """A blob's bytes; not verified."""
        what = f"{self.what}: blob {descriptor.digest}"
        return FileReader(self._blobs.open(descriptor.digest), 0, self._blobs.size(descriptor.digest), what)

    def cancel(self) -> None:
        """Nothing waits: files are read at once."""

    def close(self) -> None:
        """Nothing is held open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def bring_in(source: Source, manifest: Manifest, blobs: BlobStore, told: Callable[[str], None]) -> tuple[str, ...]:
    """Store a manifest and all that it names; returns their digests.  told: called with a line for each blob.

    Raises DigestError where a blob is not what the manifest promises, Error.
    """
    for descriptor in (manifest.config, *manifest.layers):
        if blobs.has(descriptor.digest):
            continue
        told(f"Copying blob {descriptor.digest}")
        reader = source.open(descriptor)
        try:
            with blobs.writer() as writer:
                # One byte more than was promised is enough to know that the digest is another.
                while writer.size <= descriptor.size and (chunk := reader.read(_CHUNK)):
                    writer.write(chunk)
                writer.commit(descriptor.digest)
        finally:
            reader.close()
    blobs.put(manifest.raw, manifest.digest)
    blobs.sync()
    return (manifest.digest, manifest.config.digest, *(layer.digest for layer in manifest.layers))


def keep(db: Database, owner: str, digests: Iterable[str]) -> None:
    """Note, inside a transaction, that these blobs belong to `owner`, and no others."""
    db.execute("DELETE FROM kept_blobs WHERE owner = ?", (owner,))
    db.execute_many("INSERT OR IGNORE INTO kept_blobs VALUES (?,?)", [(owner, digest) for digest in digests])


def kept(db: Database, owner: str) -> set[str]:
    """The blobs of `owner`."""
    return {digest for (digest,) in db.query("SELECT digest FROM kept_blobs WHERE owner = ?", (owner,))}
