"""`import`: a root file system's tarball as an image of one layer.

Weight: `storage.archive_layers` and what it loads.  Runs as uid 0 of the user's namespace.
"""

from __future__ import annotations

import os
import time

from rootless.errors import NotFound, os_error_text
from rootless.values import dumps
from storage.archive_files import DescriptorReader
from storage.archive_layers import Importer, make_manifest
from storage.changes import apply_changes
from storage.images import local_name
from storage.platforms import Platform, host_platform
from storage.rfc3339 import format_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from storage.database import Database
    from storage.unpack import UnpackLimits

DEFAULT_MESSAGE = "imported from tarball"


def import_tarball(
    db: Database,
    source: str | int,
    *,
    name: str = "",
    changes: Sequence[str] = (),
    message: str = "",
    platform: Platform | None = None,
    single_id: bool = False,
    limits: UnpackLimits | None = None,
) -> str:
    """Make an image of a tarball (path or descriptor, compressed or not); returns its id.

    name: what to call it, short names belong to localhost; "" leaves it without one.  Raises NotFound, UsageError
    (before anything is read), Error.
    """
    full = (local_name(name),) if name else ()
    run = apply_changes({}, changes)
    what = source if isinstance(source, str) else "the tarball on standard input"
    if isinstance(source, str):
        try:
            opened = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise NotFound(os_error_text(error, source)) from error
    else:
        opened = os.dup(source)
    try:
        with Importer(db, single_id, limits) as importer:
            layer, blob = importer.plain_layer(lambda: DescriptorReader(opened, what), "", (), what)
            config = _config(layer.diff_id, run, message or DEFAULT_MESSAGE, platform or host_platform())
            return importer.image(config, make_manifest(config, [blob], oci=True), [layer], full)
    finally:
        os.close(opened)


def _config(diff_id: str, run: dict[str, object], message: str, platform: Platform) -> bytes:
    created = format_ns(time.time_ns())
    tree: dict[str, object] = {
        "created": created,
        "architecture": platform.architecture,
        **({"variant": platform.variant} if platform.variant else {}),
        "os": platform.os,
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [
            {
                "created": created,
                "created_by": f"/bin/sh -c #(nop) ADD file:{diff_id.partition(':')[2]} in / ",
                "comment": message,
            }
        ],
    }
    return dumps(tree).encode()
