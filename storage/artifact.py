"""Making the manifest of an artifact: files in the form of an image that nothing runs.

Weight: `storage.blobs`, `storage.manifest`.  Source: OCI image specification, manifest.md,
"Guidelines for Artifact Usage".
"""

from __future__ import annotations

import os
import stat

from rootless.errors import Error, UsageError, os_error_text
from rootless.values import dumps, loads
from storage.manifest import OCI_MANIFEST, Manifest, parse_manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from storage.blobs import BlobStore
    from storage.manifest import Descriptor

EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"
EMPTY_DIGEST = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
TITLE = "org.opencontainers.image.title"
_CHUNK = 256 << 10
_SNIFFED = 512
# What the first bytes of a file say (WHATWG, "MIME Sniffing", the usual ones).
_MAGIC = (
    (b"\x1f\x8b\x08", "application/x-gzip"),
    (b"PK\x03\x04", "application/zip"),
    (b"%PDF-", "application/pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"\0asm", "application/wasm"),
)
_BINARY = frozenset(range(0x20)) - {0x09, 0x0A, 0x0C, 0x0D, 0x1B}


def media_type_of(head: bytes) -> str:
    """A file's media type by its first bytes."""
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    return "application/octet-stream" if _BINARY & set(head) else "text/plain; charset=utf-8"


def store_file(blobs: BlobStore, path: str) -> tuple[dict[str, Any], str]:
    """Store a file as a blob; (digest and size, media type).  Raises Error naming it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise Error(os_error_text(error, path)) from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise UsageError(f"{path} is no regular file")
        head = b""
        with blobs.writer() as writer:
            while data := os.read(fd, _CHUNK):
                head = head or data[:_SNIFFED]
                writer.write(data)
            return {"digest": writer.commit(), "size": writer.size}, media_type_of(head)
    except OSError as error:
        raise Error(os_error_text(error, path)) from error
    finally:
        os.close(fd)


def make(
    blobs: BlobStore,
    files: Sequence[str],
    *,
    artifact_type: str = "",
    annotations: dict[str, str] | None = None,
    file_annotations: dict[str, str] | None = None,
    layer_type: str = "",
    titles: bool = True,
    config: str = "",
    config_type: str = "",
    subject: Descriptor | None = None,
    before: Manifest | None = None,
) -> Manifest:
    """Store files and the manifest that names them; returns it.  Raises Error, UsageError.

    annotations: of the manifest; file_annotations: of each file; layer_type: the files' media type ("": each its own);
    config: a file ("": an empty object); titles: the files' names are noted; before: a manifest to add the files to.
    """
    tree: dict[str, Any] = loads(before.raw) if before is not None else {}
    layers: list[dict[str, Any]] = tree.get("layers", [])
    for path in files:
        descriptor, kind = store_file(blobs, path)
        noted = dict(file_annotations or {})
        if titles:
            noted[TITLE] = os.path.basename(path)
        layers.append({"mediaType": layer_type or kind, **descriptor, **({"annotations": noted} if noted else {})})
    if before is not None:
        return _stored(blobs, tree)
    if config:
        descriptor, _ = store_file(blobs, config)
        described = {"mediaType": config_type or EMPTY_TYPE, **descriptor}
    else:
        blobs.put(EMPTY, EMPTY_DIGEST)
        described = {
            "mediaType": config_type or EMPTY_TYPE,
            "digest": EMPTY_DIGEST,
            "size": len(EMPTY),
            "data": "e30=",
        }
    tree = {"schemaVersion": 2, "mediaType": OCI_MANIFEST}
    if artifact_type:
        tree["artifactType"] = artifact_type
    tree["config"] = described
    tree["layers"] = layers
    if subject is not None:
        tree["subject"] = {"mediaType": subject.media_type, "digest": subject.digest, "size": subject.size}
    if annotations:
        tree["annotations"] = annotations
    return _stored(blobs, tree)


def _stored(blobs: BlobStore, tree: dict[str, Any]) -> Manifest:
    manifest = parse_manifest(dumps(tree).encode())
    assert isinstance(manifest, Manifest)
    blobs.put(manifest.raw, manifest.digest)
    blobs.sync()
    return manifest
