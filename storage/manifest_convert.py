"""The same image in another manifest: the other family's media types, or other blobs for the layers.

Weight: `storage.manifest`.  The configuration is never touched, so the image's id stays.
"""

from __future__ import annotations

from rootless.values import dumps, loads
from storage.manifest import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Manifest,
    parse_manifest,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# What only an OCI manifest may have.
_OCI_ONLY = ("annotations", "subject", "artifactType")
_DOCKER_PLAIN = DOCKER_LAYER.removesuffix(".gzip")


def compression_of(media_type: str) -> str:
    """ "gzip", "zstd" or "" by a layer's media type."""
    return next((kind for kind in ("gzip", "zstd") if media_type.endswith(kind)), "")


def layer_type(oci: bool, compression: str) -> str:
    """The media type of a layer; compression as in `compression_of`."""
    if oci:
        return OCI_LAYER + (f"+{compression}" if compression else "")
    return _DOCKER_PLAIN + (f".{compression}" if compression else "")


def as_oci(manifest: Manifest) -> Manifest:
    """The manifest in OCI's types, itself where it is one."""
    return manifest if manifest.media_type == OCI_MANIFEST else _converted(manifest, oci=True)


def as_docker(manifest: Manifest) -> Manifest:
    """The manifest in the types of Docker's schema 2, itself where it is one.  No layer may be zstd's."""
    return manifest if manifest.media_type == DOCKER_MANIFEST else _converted(manifest, oci=False)


def with_layers(manifest: Manifest, blobs: Sequence[tuple[str, int, str] | None]) -> Manifest:
    """The manifest with other blobs, (digest, size, compression), where not None; itself where all are."""
    if not any(blobs):
        return manifest
    tree = loads(manifest.raw)
    for layer, blob in zip(tree["layers"], blobs, strict=True):
        if blob is not None:
            layer["digest"], layer["size"] = blob[:2]
            layer["mediaType"] = layer_type(manifest.media_type == OCI_MANIFEST, blob[2])
            layer.pop("annotations", None)  # of zstd:chunked: places inside the former blob
    return _parsed(tree)


def _converted(manifest: Manifest, oci: bool) -> Manifest:
    tree = loads(manifest.raw)
    tree["mediaType"] = OCI_MANIFEST if oci else DOCKER_MANIFEST
    tree["config"]["mediaType"] = OCI_CONFIG if oci else DOCKER_CONFIG
    for layer in tree["layers"]:
        layer["mediaType"] = layer_type(oci, compression_of(layer["mediaType"]))
        if not oci:
            layer.pop("annotations", None)
    if not oci:
        for key in _OCI_ONLY:
            tree.pop(key, None)
    return _parsed(tree)


def _parsed(tree: object) -> Manifest:
    found = parse_manifest(dumps(tree).encode())
    assert isinstance(found, Manifest)
    return found
