"""`rmi`.  Weight: `storage.images`, `storage.gc`."""

from __future__ import annotations

import sys

from pyctl.cli import mapped, output
from pyctl.engine.engine import Engine
from rootless.errors import Error, NotFound, UsageError
from storage.images import ImageInUseError, ImageStore, Removed
from storage.lists import ListStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Parsed


def rmi(parsed: Parsed) -> int:
    """Removes names and images; one that cannot be removed does not keep the others."""
    options = parsed.options
    if bool(parsed.args) == bool(options.all):
        raise UsageError("give images, or --all")
    engine = Engine(parsed.globals)
    store, lists = ImageStore(engine.db), ListStore(engine.db)
    force = bool(options.force)
    names = parsed.args
    if options.all:
        names = (*(row.id for row in lists.list()), *(row.id for row in store.list()))
    status, deleted = 0, False
    for name in names:
        try:
            if lists.find(name) is not None:
                removed = lists.remove(name)
            else:
                names_too = force or bool(options.all and not store.users(name))
                removed = remove(engine, store, name, names_too, force)
        except NotFound as error:
            if force or options.ignore:
                continue
            output.error_line(error)
            status = status or error.exit_code
        except Error as error:
            output.error_line(error)
            status = error.exit_code
        else:
            deleted = deleted or bool(removed.deleted)
            tell(removed)
    if deleted and not options.no_prune:
        collect_garbage(engine)
    return status


def tell(removed: Removed) -> None:
    sys.stdout.write("".join(f"Untagged: {name}\n" for name in removed.untagged))
    if removed.deleted:
        sys.stdout.write(f"Deleted: {removed.deleted}\n")


def remove(engine: Engine, store: ImageStore, name: str, names_too: bool, containers_too: bool) -> Removed:
    """One image.  names_too: by id although it has several names; containers_too: with the containers made from it."""
    while True:
        try:
            return store.remove(name, force=names_too)
        except ImageInUseError as error:
            if not containers_too:
                raise
            from pyctl.cli.verb_volume import remove_containers

            remove_containers(engine, error.containers)


def collect_garbage(engine: Engine, partial_age_s: float | None = None) -> int:
    """Deletes the files of what no row names any more; returns the bytes of blobs that were freed."""
    from storage import gc

    mapped.enter(engine)
    age = gc.KEEP_PARTIAL_S if partial_age_s is None else partial_age_s
    return gc.collect(engine.db, age).bytes
