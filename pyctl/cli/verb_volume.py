"""`volume create ls inspect rm`.  Weight: `storage.volumes`."""

from __future__ import annotations

import os
import sys

from pyctl.cli import mapped, output
from pyctl.engine.engine import Engine
from rootless.errors import EXIT_ENGINE, Error, NotFound, UsageError
from storage.volumes import Volume, VolumeInUseError, VolumeStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyctl.cli.parser import Parsed

_TITLES = {"Name": "VOLUME NAME"}


def create(parsed: Parsed) -> int:
    """Makes a volume and prints its name."""
    options = parsed.options
    if options.driver != "local":
        raise UsageError(f"there is no volume driver {options.driver}", hint="the only one is local")
    name = parsed.args[0] if parsed.args else os.urandom(32).hex()
    engine = Engine(parsed.globals)
    store = VolumeStore(engine.db)
    labels, opts = _pairs(options.label), _pairs(options.opt)
    if opts:
        mapped.enter(engine)  # o=uid=N gives the directory to a mapped id
    if options.ignore:
        store.ensure(name, labels=labels, options=opts)
    else:
        store.create(name, labels, opts)
    sys.stdout.write(f"{name}\n")
    return 0


def _pairs(words: Sequence[str]) -> dict[str, str]:
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def list_(parsed: Parsed) -> int:
    """Prints the list; nothing at all where there is none, as Podman does."""
    options = parsed.options
    engine = Engine(parsed.globals)
    store = VolumeStore(engine.db)
    volumes: Sequence[Volume] = store.list()
    if options.filter:
        from pyctl.engine.volume_filters import volume_filter

        matches = volume_filter(options.filter)
        volumes = [volume for volume in volumes if matches(volume)]
    if options.quiet and options.format:
        raise UsageError("--quiet excludes --format")
    if options.format:
        return _formatted(store, volumes, options.format, not options.noheading)
    if options.quiet:
        sys.stdout.write("".join(f"{volume.name}\n" for volume in volumes))
    elif volumes:
        rows = [(volume.driver, volume.name) for volume in volumes]
        output.print_table(("DRIVER", "VOLUME NAME"), rows, not options.noheading)
    return 0


def _formatted(store: VolumeStore, volumes: Sequence[Volume], text: str, headings: bool) -> int:
    from pyctl.cli import report
    from pyctl.cli.gotemplate import Map

    rows = []
    for volume in volumes:
        tree = store.inspect(volume.name)
        row = report.Row(
            {
                **tree,
                "CreatedAt": output.local_time(volume.created_ns),
                "Labels": Map(volume.labels),
                "Options": Map(volume.options),
                "Label": volume.labels.get,
            }
        )
        row.json_form = tree
        rows.append(row)
    fields = ("Name", "Driver", "Mountpoint", "CreatedAt", "Labels", "Scope", "Options", "MountCount")
    return report.print_rows(rows, text, _TITLES, fields=fields, show_headings=headings, indent=2)


def inspect(parsed: Parsed) -> int:
    """All that is known of volumes, as JSON or by a template."""
    from pyctl.cli.verb_inspect import print_found

    options = parsed.options
    if bool(parsed.args) == bool(options.all):
        raise UsageError("give volumes, or --all")
    store = VolumeStore(Engine(parsed.globals).db)
    names = [volume.name for volume in store.list()] if options.all else parsed.args
    found: list[dict[str, Any]] = []
    errors: list[Error] = []
    for name in names:
        try:
            found.append(store.inspect(name))
        except NotFound as error:
            errors.append(error)
    print_found(found, options.format)
    for missing in errors:
        output.error_line(missing)
    return EXIT_ENGINE if errors else 0


def volume_json(engine: Engine, name: str) -> dict[str, Any]:
    """What `inspect` shows of one."""
    return VolumeStore(engine.db).inspect(name)


def rm(parsed: Parsed) -> int:
    """Removes volumes, and with --force the containers that have them."""
    options = parsed.options
    if bool(parsed.args) == bool(options.all):
        raise UsageError("give volumes, or --all")
    engine = Engine(parsed.globals)
    store = VolumeStore(engine.db)
    names = [volume.name for volume in store.list()] if options.all else parsed.args
    status = 0
    for name in names:
        try:
            removed = _remove(engine, store, name, bool(options.force), options.time if options.given("time") else -1)
        except Error as error:
            output.error_line(error)
            status = error.exit_code
        else:
            if removed:
                sys.stdout.write(f"{removed}\n")
    return status


def _remove(engine: Engine, store: VolumeStore, name: str, force: bool, timeout_s: int) -> str:
    if not force:
        store.get(name)  # before a namespace is made for nothing
    while True:
        try:
            mapped.enter(engine)
            return store.remove(name, force=force)
        except VolumeInUseError as error:
            if not force:
                raise
            remove_containers(engine, error.containers, timeout_s)


def remove_containers(engine: Engine, ids: Sequence[str], timeout_s: int = -1) -> None:
    """Stops and removes containers that stand in the way of --force."""
    from pyctl.engine import state
    from pyctl.engine.lifecycle import Removal

    removal = Removal(engine.db, engine.runtime_root)
    for container_id in ids:
        try:
            record = state.get(engine.db, container_id)
        except NotFound:
            continue  # it has ended, and was run with --rm
        removal.remove(record, force=True, volumes=False, timeout_s=timeout_s)
