"""A new image from another and the files that changed: what `commit` stores.

Weight: `storage.archive_layers` and what it loads.  Runs as uid 0 of the user's namespace.
"""

from __future__ import annotations

import time

from rootless.errors import Error
from rootless.values import Value, dumps, loads
from storage.archive_layers import Importer, make_manifest
from storage.images import ImageStore, ReadOnlyImageError
from storage.manifest import MAX_MANIFEST_BYTES, Manifest, parse_manifest
from storage.manifest_convert import compression_of
from storage.platforms import host_platform
from storage.rfc3339 import format_ns
from storage.tarwriter import ArchiveReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from storage.database import Database
    from storage.manifest import Descriptor
    from storage.unpack import UnpackLimits

_CREATED_BY = "/bin/sh"  # what Podman writes, whatever ran
# Of the base image's configuration; the rest is made anew.
_PLATFORM_KEYS = ("architecture", "variant", "os", "os.version", "os.features")


class Commit(Value):
    """What is to be made.

    base_id: the image that the files lie on; run: the configuration's inner object (Cmd, Env …); names: full ones;
    squash: the archive holds all files, and the base's layers and history are left behind.
    """

    base_id: str
    base_name: str
    run: dict[str, Any]
    names: tuple[str, ...] = ()
    author: str = ""
    message: str = ""  # docker's format only
    oci: bool = True
    squash: bool = False
    container_id: str = ""


class Committed(Value):
    """What came of it: the image's id, and the blobs of its manifest."""

    image_id: str
    blobs: tuple[str, ...]


def commit(
    db: Database,
    wanted: Commit,
    archive: Iterator[bytes],
    *,
    still_there: Callable[[], None],
    single_id: bool = False,
    limits: UnpackLimits | None = None,
) -> Committed:
    """Store an image whose topmost layer is `archive` (tar, with whiteouts).  All of it, or nothing that is listed.

    still_there: called when all was read; raises where the source was removed meanwhile, so that the layer may lack
    files.  Raises Error.
    """
    row = db.one("SELECT store FROM images WHERE id = ?", (wanted.base_id,))
    if row is not None and row[0] and not wanted.squash:
        raise ReadOnlyImageError(wanted.base_name, row[0])
    with Importer(db, single_id, limits) as importer:
        below = () if wanted.squash else importer.layers.of_image(wanted.base_id)
        base = _base_manifest(importer, wanted)
        what = f"the changes of container {wanted.container_id[:12]}"
        layer, blob = importer.plain_layer(lambda: ArchiveReader(archive), "", below, what)
        still_there()
        layers = [*below, layer]
        config = _config(ImageStore(db).config_text(wanted.base_id), wanted, [item.diff_id for item in layers])
        manifest = make_manifest(config, [*base, blob], oci=wanted.oci)
        image_id = importer.image(config, manifest, layers, wanted.names)
        return Committed(image_id=image_id, blobs=tuple(item.digest for item in manifest.layers))


def _base_manifest(importer: Importer, wanted: Commit) -> tuple[Descriptor, ...]:
    """The blobs of the layers below."""
    if wanted.squash:
        return ()
    digest = ImageStore(importer.db).list(wanted.base_id)[0].manifest_digest
    manifest = parse_manifest(importer.blobs.read(digest, MAX_MANIFEST_BYTES))
    if not isinstance(manifest, Manifest):
        raise Error(f"image {wanted.base_name}: {digest} is no manifest of one image")
    if not wanted.oci and any(compression_of(layer.media_type) == "zstd" for layer in manifest.layers):
        raise Error(
            f"image {wanted.base_name} has zstd layers, which docker's format does not know",
            hint="use --format oci, or --squash",
        )
    return manifest.layers


def _config(base_text: str, wanted: Commit, diff_ids: list[str]) -> bytes:
    base: dict[str, Any] = loads(base_text)
    created = format_ns(time.time_ns())
    host = host_platform()
    platform = {key: base[key] for key in _PLATFORM_KEYS if base.get(key)}
    step: dict[str, Any] = {"created": created, "created_by": _CREATED_BY}
    if wanted.author:
        step["author"] = wanted.author
    step["comment"] = f"FROM {wanted.base_name}"
    tree: dict[str, Any] = {
        "created": created,
        **({"author": wanted.author} if wanted.author else {}),
        "architecture": host.architecture,
        "os": host.os,
        **platform,
        "config": wanted.run,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [*([] if wanted.squash else base.get("history") or []), step],
    }
    if not wanted.oci:
        tree["container"] = wanted.container_id
        tree["container_config"] = wanted.run
        if wanted.message:
            tree["comment"] = wanted.message
        if not wanted.squash:
            tree["parent"] = f"sha256:{wanted.base_id}"
    return dumps(tree).encode()
