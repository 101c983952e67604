"""`mount` and `unmount` of containers and images.  Weight: `pyctl.engine.mounting`."""

from __future__ import annotations

import sys

from pyctl.cli import output, select
from pyctl.engine import container_mounts, mounting, state
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


def mount_containers(parsed: Parsed) -> int:
    """Mounts the containers that are named and prints where, or lists what is mounted."""
    options = parsed.options
    if options.format not in ("", "json"):
        raise UsageError(f"--format {options.format}: only json is possible")
    engine = Engine(parsed.globals)
    mounting.require_session("mount")
    if not (parsed.args or options.all or options.latest):
        _list_containers(engine, bool(options.format), bool(options.no_trunc))
        return 0
    chosen = select.choose(engine, parsed, every=lambda _record: True)
    for record in chosen.records:
        sys.stdout.write(f"{container_mounts.mount(engine, record)}\n")
    return chosen.failures


def _list_containers(engine: Engine, as_json: bool, whole_ids: bool) -> None:
    there = set(container_mounts.mounted(engine))
    records = [record for record in state.every(engine.db) if record.id in there]
    points = {record.id: container_mounts.mount_point(engine, record.id) for record in records}
    if as_json:
        from pyctl.cli import report

        rows = [{"id": r.id, "Names": [r.name], "mountpoint": points[r.id]} for r in records]
        report.print_json(rows, indent=1)
        return
    length = 64 if whole_ids else output.SHORT_ID
    output.print_table(("", ""), [(r.id[:length], points[r.id]) for r in records], show_headings=False)


def unmount_containers(parsed: Parsed) -> int:
    """Unmounts containers and prints what they were called here."""
    engine = Engine(parsed.globals)
    mounting.require_session("unmount")
    there = set(container_mounts.mounted(engine))
    chosen = select.choose(engine, parsed, every=lambda record: record.id in there)
    for record in chosen.records:
        container_mounts.unmount(engine, record, bool(parsed.options.force))
        sys.stdout.write(f"{chosen.named(record)}\n")
    return chosen.failures
