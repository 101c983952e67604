"""`container prune`, `image prune`, `volume prune`, `system prune`.  Weight: that of what is removed."""

from __future__ import annotations

import sys

from pyctl.cli import mapped, output
from pyctl.engine import state
from pyctl.engine.engine import Engine
from rootless.errors import Error, NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Parsed

_CONTAINER_KEYS = ("label", "label!", "until")
_IMAGE_KEYS = ("label", "label!", "until", "containers", "dangling", "reference", "id", "digest", "before", "since")


def _confirmed(parsed: Parsed, warning: str) -> bool:
    if parsed.options.force:
        return True
    sys.stdout.write(f"WARNING! {warning}\nAre you sure you want to continue? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _checked(words: tuple[str, ...], keys: tuple[str, ...]) -> tuple[str, ...]:
    for word in words:
        key = word.partition("=")[0]
        if key not in keys:
            raise UsageError(f"{key} is an invalid filter for prune", hint=f"filters: {', '.join(keys)}")
    return words


def containers(parsed: Parsed) -> int:
    """Removes containers that are not running."""
    engine = Engine(parsed.globals)
    words = _checked(parsed.options.filter, _CONTAINER_KEYS)
    if not _confirmed(parsed, "This will remove all non running containers."):
        return 0
    ids, _freed, status = _remove_containers(engine, words, measure=False)
    sys.stdout.write("".join(f"{container_id}\n" for container_id in ids))
    return status


def _remove_containers(engine: Engine, words: tuple[str, ...], measure: bool) -> tuple[list[str], int, int]:
    """(ids, bytes of their writable layers where `measure`, exit status)."""
    from pyctl.engine.lifecycle import Removal

    records = [record for record in state.every(engine.db) if not record.alive]
    if words:
        from pyctl.engine.filters import container_filter

        matches = container_filter(engine.db, words)
        records = [record for record in records if matches(record)]
    removal = Removal(engine.db, engine.runtime_root)
    removed: list[str] = []
    freed = status = 0
    for record in records:
        size = 0
        if measure:
            from pyctl.engine.sizes import container_sizes

            size, _image = container_sizes(engine, record)
        try:
            removal.remove(record, force=False, volumes=True, timeout_s=-1)
        except Error as error:
            output.error_line(error)
            status = error.exit_code
        else:
            removed.append(record.id)
            freed += size
    removal.collect()
    return removed, freed, status


def images(parsed: Parsed) -> int:
    """Removes images without a name, or with --all every image, that no container uses."""
    engine = Engine(parsed.globals)
    words = _checked(parsed.options.filter, _IMAGE_KEYS)
    what = "images without at least one container associated with them" if parsed.options.all else "dangling images"
    if not _confirmed(parsed, f"This command removes all {what}."):
        return 0
    ids, _freed, status = _remove_images(engine, words, bool(parsed.options.all))
    sys.stdout.write("".join(f"{image_id}\n" for image_id in ids))
    return status


def _remove_images(engine: Engine, words: tuple[str, ...], named_too: bool) -> tuple[list[str], int, int]:
    """(ids, bytes, exit status); what killed processes left goes too."""
    from pyctl.cli.verb_rmi import collect_garbage
    from storage.images import ImageInUseError, ImageStore
    from storage.lists import ListStore

    store, lists = ImageStore(engine.db), ListStore(engine.db)
    # A manifest list counts as an image that no container has.
    every = (*lists.image_rows(), *store.list())
    rows = [row for row in every if not row.containers and (named_too or not row.names)]
    if words:
        from pyctl.engine.image_filters import image_filter

        matches = image_filter(engine.db, words)
        rows = [row for row in rows if matches(row)]
    before = _layer_bytes(engine)
    removed: list[str] = []
    status = 0
    for row in rows:
        try:
            if row.is_list:
                lists.remove(row.id)
            else:
                store.remove(row.id, force=True)
        except (ImageInUseError, NotFound):
            continue  # a container was made of it meanwhile, or another command removed it
        except Error as error:
            output.error_line(error)
            status = error.exit_code
        else:
            removed.append(row.id)
    freed = collect_garbage(engine, partial_age_s=0.0)
    return removed, freed + before - _layer_bytes(engine), status


def _layer_bytes(engine: Engine) -> int:
    # Without those of additional stores, whose keys begin with their path.
    row = engine.db.one("SELECT coalesce(sum(size), 0) FROM layers WHERE key NOT LIKE '/%'")
    return int(row[0]) if row else 0


def volumes(parsed: Parsed) -> int:
    """Removes volumes that no container has."""
    engine = Engine(parsed.globals)
    names = _unused_volumes(engine, parsed.options.filter)
    if not parsed.options.force:
        listed = "".join(f"\n{name}" for name in names)
        what = "This will remove all volumes not used by at least one container."
        if not names:
            sys.stdout.write("No dangling volumes found\n")
            return 0
        if not _confirmed(parsed, f"{what} The following volumes will be removed:{listed}"):
            return 0
    removed, _freed, status = _remove_volumes(engine, names, measure=False)
    sys.stdout.write("".join(f"{name}\n" for name in removed))
    return status


def _unused_volumes(engine: Engine, words: tuple[str, ...]) -> list[str]:
    from storage.volumes import VolumeStore

    found = [volume for volume in VolumeStore(engine.db).list() if not volume.containers]
    if words:
        from pyctl.engine.volume_filters import volume_filter

        matches = volume_filter(words)
        found = [volume for volume in found if matches(volume)]
    return [volume.name for volume in found]


def _remove_volumes(engine: Engine, names: list[str], measure: bool) -> tuple[list[str], int, int]:
    from pyctl.engine.sizes import tree_size
    from storage.volumes import VolumeInUseError, VolumeStore

    store = VolumeStore(engine.db)
    if names:
        mapped.enter(engine)
    removed: list[str] = []
    freed = status = 0
    for name in names:
        size = tree_size(engine.paths.volume_data(name)) if measure else 0
        try:
            store.remove(name, force=True)
        except VolumeInUseError:
            continue  # a container was made meanwhile
        except Error as error:
            output.error_line(error)
            status = error.exit_code
        else:
            removed.append(name)
            freed += size
    return removed, freed, status


def system(parsed: Parsed) -> int:
    """Stopped containers, then volumes with --volumes, then images: in the order in which they need each other."""
    options = parsed.options
    engine = Engine(parsed.globals)
    words = _checked(options.filter, _CONTAINER_KEYS)
    lines = ["all stopped containers", "all images without a container" if options.all else "all dangling images"]
    lines.append("all networks not used by at least one container")
    lines += ["all volumes not used by at least one container"] * bool(options.volumes)
    lines.append("what interrupted commands left in the storage")
    if not _confirmed(parsed, "This command removes:" + "".join(f"\n\t- {line}" for line in lines) + "\n"):
        return 0
    total = status = 0
    container_ids, freed, failed = _remove_containers(engine, words, measure=True)
    _tell("Deleted Containers", container_ids)
    total, status = total + freed, failed or status
    if options.volumes:
        names = _unused_volumes(engine, words)
        removed, freed, failed = _remove_volumes(engine, names, measure=True)
        _tell("Deleted Volumes", removed)
        total, status = total + freed, failed or status
    image_ids, freed, failed = _remove_images(engine, words, bool(options.all))
    _tell("Deleted Images", image_ids)
    total, status = total + freed, failed or status
    from pyctl.cli.verb_network import prune_networks

    networks, failed = prune_networks(engine, words)
    _tell("Deleted Networks", networks)
    status = failed or status
    sys.stdout.write(f"Total reclaimed space: {output.human_size(total, 4)}\n")
    return status


def _tell(title: str, names: list[str]) -> None:
    if names:
        sys.stdout.write(title + "\n" + "".join(f"{name}\n" for name in names))
