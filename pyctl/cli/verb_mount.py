"""`image mount` and `image unmount`.  Weight: `pyctl.engine.mounting`."""

from __future__ import annotations

import sys

from pyctl.cli import output
from pyctl.engine import mounting
from pyctl.engine.engine import Engine
from rootless.errors import UsageError
from storage import images, lookup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyctl.cli.parser import Parsed


def mount(parsed: Parsed) -> int:
    """Mounts the images that are named, or lists what is mounted."""
    options = parsed.options
    if options.format not in ("", "json"):
        raise UsageError(f"--format {options.format}: only json is possible")
    if options.all and parsed.args:
        raise UsageError("give images, or --all, not both")
    engine = Engine(parsed.globals)
    mounting.require_session("image mount")
    if options.all:
        wanted = [row.id for row in reversed(images.ImageStore(engine.db).list())]
    else:
        wanted = [lookup.resolve(engine.db, name)[0] for name in parsed.args]
    points = [mounting.mount(engine, image_id) for image_id in wanted]
    if len(parsed.args) == 1 and not options.format:
        sys.stdout.write(f"{points[0]}\n")
        return 0
    _list(engine, wanted or mounting.mounted(engine), bool(options.format))
    return 0


def _list(engine: Engine, ids: Iterable[str], as_json: bool) -> None:
    store = images.ImageStore(engine.db)
    rows = [row for image_id in dict.fromkeys(ids) for row in store.list(image_id)]
    if as_json:
        from pyctl.cli import report

        listed = [
            {
                "id": row.id,
                "Names": list(row.digests),
                "Repositories": list(row.names),
                "mountpoint": mounting.mount_point(engine, row.id),
            }
            for row in rows
        ]
        report.print_json(listed, indent=1)
        return
    lines = [(name, mounting.mount_point(engine, row.id)) for row in rows for name in row.names or (row.id,)]
    output.print_table(("", ""), lines, show_headings=False)


def unmount(parsed: Parsed) -> int:
    """Unmounts images and prints their ids."""
    options = parsed.options
    if bool(options.all) == bool(parsed.args):
        raise UsageError("give images, or --all")
    engine = Engine(parsed.globals)
    mounting.require_session("image unmount")
    wanted = mounting.mounted(engine) if options.all else [lookup.resolve(engine.db, n)[0] for n in parsed.args]
    for image_id in wanted:
        if mounting.unmount(engine, image_id, bool(options.force)):
            sys.stdout.write(f"{image_id}\n")
    return 0
