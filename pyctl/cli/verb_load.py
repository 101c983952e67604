"""`load`, and the archives that `pull` takes.  Weight: `storage.archives`, with the unpacker."""

from __future__ import annotations

import os
import sys

from pyctl.cli import mapped, output
from pyctl.engine.engine import Engine
from rootless.errors import Error, UsageError
from storage import archives
from storage.archives import PODMAN
from storage.policy import load as load_policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyctl.cli.parser import Parsed
    from storage.archives import Loaded, Transport
    from storage.platforms import Platform


def load(parsed: Parsed) -> int:
    """Stores every image of an archive, or of a directory."""
    options = parsed.options
    if not options.input and os.isatty(0):
        raise UsageError("the terminal is no archive", hint="name one with --input, or redirect stdin")
    engine = Engine(parsed.globals)
    single_id = mapped.enter(engine, unpacks=True)
    limits = mapped.unpack_limits(engine)
    policy = load_policy(os.environ)
    found = archives.load(engine.db, options.input or 0, single_id=single_id, limits=limits, policy=policy)
    _warn_of_platforms(engine, found)
    for image in found:
        engine.db.tell("image", "loadfromarchive", id=image.image_id, name=options.input or "-")
    _tell(found)
    return 0


def _warn_of_platforms(engine: Engine, found: Sequence[Loaded]) -> None:
    """An image of another machine is stored as it was asked for, and will not run: that is said now."""
    from storage.images import ImageStore
    from storage.platforms import Platform, host_platform, matches

    store = ImageStore(engine.db)
    for image in found:
        for row in store.list(image.image_id):
            own = Platform(os=row.os, architecture=row.architecture, variant=row.variant)
            if not matches(host_platform(), own):
                name = image.names[0] if image.names else row.id[: output.SHORT_ID]
                engine.warn(f"image {name} is for {own}; this machine is {host_platform()}")


def _tell(found: Sequence[Loaded]) -> None:
    for image in found:
        for name in image.names or (f"sha256:{image.image_id}",):
            sys.stdout.write(f"Loaded image: {name}\n")


def load_archive(engine: Engine, transport: Transport, single_id: bool, platform: Platform | None) -> list[str]:
    """Stores what `oci:DIR:REF` and its like name; returns the ids.  The namespace is entered already."""
    limits = mapped.unpack_limits(engine)
    policy = load_policy(os.environ)
    if transport.kind == PODMAN:
        if platform is not None:
            raise UsageError("an image of Podman's store is of one platform", hint="leave --platform out")
        from storage import lookup
        from storage.podman_load import load_image

        names = lookup.short_names
        loaded = load_image(
            engine.db, transport.path, os.environ, policy=policy, short_names=names, single_id=single_id, limits=limits
        )
        _warn_of_platforms(engine, (loaded,))
        return [loaded.image_id]
    found = archives.load_transport(
        engine.db, transport, single_id=single_id, limits=limits, platform=platform, policy=policy
    )
    if not found:
        raise Error(f"{transport.kind}:{transport.path} holds no image")
    if platform is None:
        _warn_of_platforms(engine, found)
    return [image.image_id for image in found]
