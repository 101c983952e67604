"""Manifests and indexes: OCI image manifest and index, Docker schema 2 and manifest list.

Weight: `rootless.values`, `storage.digest`, `.fields`, `.platforms`, `.imageconfig`.

Nothing that arrives is trusted: sizes are capped, digests checked, and a document is what its
media type says and nothing else.  One with both `manifests` and `layers`, or whose own `mediaType`
contradicts the Content-Type it came with, is refused (CVE-2021-41190).
"""

from __future__ import annotations

from rootless.errors import Error
from rootless.values import Value
from storage import fields
from storage.digest import check as check_digest
from storage.digest import of as digest_of
from storage.imageconfig import MAX_CONFIG_BYTES, MAX_LAYERS, ImageConfig, parse_platform_object
from storage.platforms import Platform, select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_MANIFEST_BYTES = 4 << 20

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_DOCKER_LAYER_PREFIX = "application/vnd.docker.image.rootfs."
_OCI_LAYER_PREFIX = "application/vnd.oci.image.layer."
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+"

# What a client accepts, best first: the Accept header of a manifest's request.
ACCEPTED = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST)
# Content types that say nothing of the content: a plain file server's.
_GENERIC = ("", "application/json", "application/octet-stream", "text/plain", "binary/octet-stream")


class ManifestError(Error):
    """A manifest or index that is malformed, contradicts itself, or is of a kind that cannot be run."""


class Descriptor(Value):
    """Where content is found and what it must be: every blob and manifest is named by one of these."""

    media_type: str
    digest: str
    size: int  # bytes
    urls: tuple[str, ...] = ()  # never fetched: a registry must not direct this client elsewhere
    annotations: dict[str, str] = {}
    platform: Platform | None = None
    artifact_type: str = ""


class Manifest(Value):
    """One image: its configuration and its layers, lowest first; `raw` is what `digest` is of."""

    media_type: str
    digest: str
    raw: bytes
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: dict[str, str] = {}
    subject: Descriptor | None = None

    @property
    def image_id(self) -> str:
        """64 hex digits: the digest of the configuration."""
        return self.config.digest.partition(":")[2]


class Index(Value):
    """Several images of one name, for several platforms."""

    media_type: str
    digest: str
    raw: bytes
    manifests: tuple[Descriptor, ...]
    annotations: dict[str, str] = {}
    subject: Descriptor | None = None

    def select(self, wanted: Platform, what: str) -> Descriptor:
        """The entry for `wanted`.  NoPlatformError lists what there is."""
        if len(self.manifests) == 1 and self.manifests[0].platform is None:
            return self.manifests[0]  # an index only for its annotations, as `oci:` layouts have
        return self.manifests[select(wanted, [entry.platform for entry in self.manifests], what)]


def parse_manifest(raw: bytes, content_type: str = "", what: str = "the manifest") -> Manifest | Index:
    """The manifest or index in `raw`, which came as `content_type` ("" where it came from a file).

    Raises ManifestError, FieldError, DigestError: one line that begins with `what`.
    """
    tree = fields.parse_object(raw, what, MAX_MANIFEST_BYTES)
    media_type = _media_type(tree, content_type, what)
    version = fields.whole(tree, "schemaVersion", what)
    if version != 2:
        raise ManifestError(f"{what} has schemaVersion {version}, only 2 is known")
    if media_type in (OCI_INDEX, DOCKER_LIST):
        return _index(tree, raw, media_type, what)
    return _manifest(tree, raw, media_type, what)


def check_image(manifest: Manifest, what: str) -> None:
    """ManifestError unless `manifest` is a container image whose layers this engine can read."""
    if manifest.config.media_type not in (OCI_CONFIG, DOCKER_CONFIG):
        raise ManifestError(
            f"{what} is no container image: its configuration is of type {manifest.config.media_type!r}",
            hint="it may be an artifact (a chart, a signature, an attestation)",
        )
    if not manifest.config.digest.startswith("sha256:"):
        raise ManifestError(f"{what}: the configuration's digest is not sha256, which an image's id must be")
    if manifest.config.size > MAX_CONFIG_BYTES:
        raise ManifestError(f"{what}: the configuration is larger than {MAX_CONFIG_BYTES} bytes")
    for layer in manifest.layers:
        kind = layer.media_type
        if "encrypted" in kind:
            raise ManifestError(f"{what}: layer {layer.digest} is encrypted")
        if not kind.startswith((_DOCKER_LAYER_PREFIX, _OCI_LAYER_PREFIX)):
            raise ManifestError(f"{what}: layer {layer.digest} is of type {kind!r}, which is no file system layer")


def check_layers(manifest: Manifest, config: ImageConfig, what: str) -> None:
    """ManifestError unless the configuration names exactly one diff_id for each layer."""
    if len(manifest.layers) != len(config.diff_ids):
        raise ManifestError(
            f"{what}: the manifest has {len(manifest.layers)} layers, the configuration {len(config.diff_ids)} diff_ids"
        )


def parse_descriptor(tree: dict[str, Any], what: str) -> Descriptor:
    """A descriptor with its digest and size checked."""
    if "digest" not in tree or "size" not in tree:
        raise ManifestError(f"{what} has no digest or no size")
    size = fields.whole(tree, "size", what)
    if size < 0:
        raise ManifestError(f"{what} has a negative size")
    platform = fields.table(tree, "platform", what)
    return Descriptor(
        media_type=fields.text(tree, "mediaType", what),
        digest=check_digest(tree["digest"], what),
        size=size,
        urls=fields.texts(tree, "urls", what),
        annotations=fields.text_table(tree, "annotations", what),
        platform=parse_platform_object(platform, what) if platform else None,
        artifact_type=fields.text(tree, "artifactType", what),
    )


def _media_type(tree: dict[str, Any], content_type: str, what: str) -> str:
    """The one media type that header, `mediaType` and structure agree on."""
    header = content_type.partition(";")[0].strip().lower()
    stated = fields.text(tree, "mediaType", what)
    if header.startswith(_SCHEMA_1) or stated.startswith(_SCHEMA_1) or tree.get("schemaVersion") == 1:
        raise ManifestError(
            f"{what} is of Docker's schema 1, which is not supported",
            hint="push the image again with a current tool",
        )
    if stated and header not in _GENERIC and header != stated:
        raise ManifestError(f"{what} says that it is {stated!r} but was sent as {header!r}")
    has_index, has_image = "manifests" in tree, "layers" in tree or "config" in tree or "fsLayers" in tree
    if has_index and has_image:
        raise ManifestError(f"{what} is a manifest and an index at once")
    media_type = stated or ("" if header in _GENERIC else header)
    if not media_type:
        media_type = OCI_INDEX if has_index else OCI_MANIFEST
    if media_type not in ACCEPTED:
        raise ManifestError(f"{what} is of type {media_type[:200]!r}, which is no image manifest or index")
    if has_image if media_type in (OCI_INDEX, DOCKER_LIST) else has_index:
        raise ManifestError(f"{what} is of type {media_type!r}, its content is not")
    return media_type


def _index(tree: dict[str, Any], raw: bytes, media_type: str, what: str) -> Index:
    return Index(
        media_type=media_type,
        digest=digest_of(raw),
        raw=raw,
        manifests=tuple(parse_descriptor(d, f"{what}: an entry") for d in fields.tables(tree, "manifests", what)),
        annotations=fields.text_table(tree, "annotations", what),
        subject=_subject(tree, what),
    )


def _manifest(tree: dict[str, Any], raw: bytes, media_type: str, what: str) -> Manifest:
    config = fields.table(tree, "config", what)
    if not config:
        raise ManifestError(f"{what} has no config")
    layers = fields.tables(tree, "layers", what)
    if len(layers) > MAX_LAYERS:
        raise ManifestError(f"{what} has {len(layers)} layers, at most {MAX_LAYERS} are possible")
    return Manifest(
        media_type=media_type,
        digest=digest_of(raw),
        raw=raw,
        config=parse_descriptor(config, f"{what}: config"),
        layers=tuple(parse_descriptor(layer, f"{what}: a layer") for layer in layers),
        annotations=fields.text_table(tree, "annotations", what),
        subject=_subject(tree, what),
    )


def _subject(tree: dict[str, Any], what: str) -> Descriptor | None:
    subject = fields.table(tree, "subject", what)
    return parse_descriptor(subject, f"{what}: subject") if subject else None
