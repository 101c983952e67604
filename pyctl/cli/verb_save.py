"""`save`.  Weight: `storage.archive_save`; no mapped ids are needed, because blobs are the caller's own files."""

from __future__ import annotations

import os

from pyctl.engine.engine import Engine
from rootless.errors import UsageError
from storage.archive_save import save as save_images
from storage.lookup import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Parsed

_DIRECTORIES = ("oci-dir", "docker-dir")


def save(parsed: Parsed) -> int:
    """Writes images into an archive or a directory."""
    options = parsed.options
    if not options.output and options.format in _DIRECTORIES:
        raise UsageError(f"--format {options.format} needs --output DIRECTORY")
    if not options.output and os.isatty(1):
        raise UsageError(
            "an archive is not written to a terminal", hint="name a file with --output, or redirect stdout"
        )
    if options.compress and options.format != "docker-dir":
        raise UsageError("--compress is for --format docker-dir only")
    engine = Engine(parsed.globals)
    save_images(
        engine.db,
        parsed.args,
        options.output or 1,
        form=options.format,
        multiple=bool(options.multi_image_archive),
        compress=bool(options.compress),
    )
    for name in parsed.args:
        image = find(engine.db, name)
        if image is not None:
            engine.db.tell("image", "save", id=image[0], name=options.output or "-")
    return 0
