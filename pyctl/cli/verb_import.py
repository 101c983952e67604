"""`import`.  Weight: `storage.archive_import`, with the unpacker."""

from __future__ import annotations

import os
import sys

from pyctl.cli import mapped
from pyctl.engine.engine import Engine
from rootless.errors import UsageError
from storage.archive_import import import_tarball
from storage.platforms import Platform, host_platform, make_platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Options, Parsed


def import_(parsed: Parsed) -> int:
    """Makes an image of a root file system's tarball and prints its id."""
    options = parsed.options
    source, name = parsed.args[0], parsed.args[1] if len(parsed.args) > 1 else ""
    if source.startswith(("http://", "https://")):
        raise UsageError(
            f"{source}: an archive is not fetched from the network", hint=f"curl -L {source} | pyctl import -"
        )
    if source == "-" and os.isatty(0):
        raise UsageError("the terminal is no archive", hint="name one, or redirect stdin")
    engine = Engine(parsed.globals)
    platform = _platform(options)
    single_id = mapped.enter(engine, unpacks=True)
    image_id = import_tarball(
        engine.db,
        0 if source == "-" else source,
        name=name,
        changes=options.change,
        message=options.message or "imported from tarball",
        platform=platform,
        single_id=single_id,
        limits=mapped.unpack_limits(engine),
    )
    engine.db.tell("image", "import", id=image_id, name=name)
    sys.stdout.write(f"sha256:{image_id}\n")
    return 0


def _platform(options: Options) -> Platform | None:
    if not (options.arch or options.os or options.variant):
        return None
    host = host_platform()
    return make_platform(options.os or host.os, options.arch or host.architecture, options.variant)
