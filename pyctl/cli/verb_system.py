"""`system df`, `system check`, `system reset`.  Weight: storage; every file of containers and volumes is looked at."""

from __future__ import annotations

import sys

from pyctl.cli import mapped, output
from pyctl.engine import state
from pyctl.engine.engine import Engine
from rootless.errors import Error, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyctl.cli.parser import Parsed
    from pyctl.engine.check import Report
    from pyctl.engine.state import ContainerRecord
    from storage.images import ImageRow
    from storage.volumes import Volume

_FIELDS = ("Type", "Total", "Active", "Size", "Reclaimable", "RawSize", "RawReclaimable", "TotalCount")


class _Usage:
    """What everything takes; sizes in bytes."""

    def __init__(self, engine: Engine) -> None:
        from pyctl.engine.sizes import container_sizes, tree_size
        from storage.images import ImageStore
        from storage.volumes import VolumeStore

        mapped.enter(engine)
        self.images: Sequence[ImageRow] = ImageStore(engine.db).list()
        self.records: Sequence[ContainerRecord] = state.every(engine.db)
        self.volumes: Sequence[Volume] = VolumeStore(engine.db).list()
        self.container_sizes = {r.id: container_sizes(engine, r)[0] for r in self.records}
        self.volume_sizes = {v.name: tree_size(engine.paths.volume_data(v.name)) for v in self.volumes}
        sizes = dict(engine.db.query("SELECT key, size FROM layers"))
        self.layers: dict[str, list[str]] = {}
        for image_id, key in engine.db.query("SELECT image_id, layer_key FROM image_layers"):
            self.layers.setdefault(image_id, []).append(key)
        self.layer_sizes: dict[str, int] = sizes

    def bytes_of(self, images: Sequence[ImageRow]) -> int:
        """Each layer once."""
        return sum(self.layer_sizes[key] for key in {k for i in images for k in self.layers.get(i.id, ())})

    def shared(self, image: ImageRow) -> int:
        """Bytes of layers that other images have too."""
        others = {key for other in self.images if other.id != image.id for key in self.layers.get(other.id, ())}
        return sum(self.layer_sizes[key] for key in self.layers.get(image.id, ()) if key in others)


def df(parsed: Parsed) -> int:
    """Prints what images, containers and volumes take of the disk."""
    options = parsed.options
    if options.verbose and options.format:
        raise UsageError("--verbose excludes --format")
    usage = _Usage(Engine(parsed.globals))
    if options.verbose:
        _print_all(usage)
        return 0
    rows = [_image_row(usage), _container_row(usage), _volume_row(usage)]
    if options.format:
        from pyctl.cli import report

        return report.print_rows([report.Row(row) for row in rows], options.format, {}, fields=_FIELDS)
    lines = [(row["Type"], str(row["Total"]), str(row["Active"]), row["Size"], row["Reclaimable"]) for row in rows]
    output.print_table(("TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"), lines)
    return 0


def _row(kind: str, total: int, active: int, size: int, reclaimable: int) -> dict[str, Any]:
    share = round(100 * reclaimable / size) if size else 0
    return {
        "Type": kind,
        "Total": total,
        "Active": active,
        "RawSize": size,
        "RawReclaimable": reclaimable,
        "TotalCount": total,
        "Size": output.human_size(size, 4),
        "Reclaimable": f"{output.human_size(reclaimable, 4)} ({share}%)",
    }


def _image_row(usage: _Usage) -> dict[str, Any]:
    active = [image for image in usage.images if image.containers]
    size = usage.bytes_of(usage.images)
    return _row("Images", len(usage.images), len(active), size, size - usage.bytes_of(active))


def _container_row(usage: _Usage) -> dict[str, Any]:
    active = [record for record in usage.records if record.alive]
    size = sum(usage.container_sizes.values())
    used = sum(usage.container_sizes[record.id] for record in active)
    return _row("Containers", len(usage.records), len(active), size, size - used)


def _volume_row(usage: _Usage) -> dict[str, Any]:
    active = [volume for volume in usage.volumes if volume.containers]
    size = sum(usage.volume_sizes.values())
    used = sum(usage.volume_sizes[volume.name] for volume in active)
    return _row("Local Volumes", len(usage.volumes), len(active), size, size - used)


def _print_all(usage: _Usage) -> None:
    from pyctl.cli.verb_images import NONE, split_name

    headings = ("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS")
    lines = []
    for image in usage.images:
        shared = usage.shared(image)
        for name in image.names or ("",):
            repository, tag = split_name(name) if name else (NONE, NONE)
            sizes = (output.human_size(size, 4) for size in (image.size, shared, image.size - shared))
            created = output.human_duration(_age_s(image.created_ns))
            lines.append((repository, tag, image.id[: output.SHORT_ID], created, *sizes, str(image.containers)))
    sys.stdout.write("Images space usage:\n\n" + output.table([headings, *lines]))
    headings = ("CONTAINER ID", "IMAGE", "COMMAND", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES")
    lines = [
        (
            record.id[: output.SHORT_ID],
            record.image_id[: output.SHORT_ID] or record.specification.rootfs,
            " ".join(record.specification.args),
            str(sum(mount.kind in ("volume", "bind") for mount in record.specification.mounts)),
            output.human_size(usage.container_sizes[record.id], 4),
            output.human_duration(_age_s(record.created_ns)),
            record.status,
            record.name,
        )
        for record in usage.records
    ]
    sys.stdout.write("\nContainers space usage:\n\n" + output.table([headings, *lines]))
    rows = [(v.name, str(len(v.containers)), output.human_size(usage.volume_sizes[v.name], 4)) for v in usage.volumes]
    sys.stdout.write("\nLocal Volumes space usage:\n\n" + output.table([("VOLUME NAME", "LINKS", "SIZE"), *rows]))


def _age_s(then_ns: int) -> float:
    import time

    return (time.time_ns() - then_ns) / 1e9


# --- reset ---------------------------------------------------------------------------------------


def reset(parsed: Parsed) -> int:
    """Removes all that is stored.  Raises Error; what is left then goes with the next reset."""
    from pyctl.engine.resetting import reset as reset_storage

    engine = Engine(parsed.globals)
    if not parsed.options.force:
        lines = ["all containers", "all images, manifest lists and artifacts", "all volumes, with what is in them"]
        lines.append(f"everything else of pyctl's in {engine.paths.root}")
        sys.stdout.write("WARNING! This will remove:" + "".join(f"\n        - {line}" for line in lines) + "\n")
        sys.stdout.write("Are you sure you want to continue? [y/N] ")
        sys.stdout.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return 0
    reset_storage(engine)
    return 0


# --- check -------------------------------------------------------------------------------------


def check(parsed: Parsed) -> int:
    """Tells what is damaged, and removes it with --repair and --force; 125 where damage stays."""
    from pyctl.engine.check import check as check_storage

    options = parsed.options
    engine = Engine(parsed.globals)
    mapped.enter(engine)
    max_age_s = options.max / 1e9
    report = check_storage(engine.db, bool(options.quick), max_age_s)
    for image_id, problem in report.images:
        sys.stdout.write(f"Damaged image {image_id[: output.SHORT_ID]}: {problem}\n")
    sys.stdout.write("".join(f"{problem}\n" for problem in report.others))
    if not (options.repair or options.force):
        if report.garbage:
            sys.stdout.write(f"{report.garbage} leftovers of interrupted commands (--repair removes them)\n")
        if report.images or report.others:
            raise Error("the storage is damaged", hint="pyctl system check --repair removes the damaged images")
        return 0
    left = _repair(engine, report, bool(options.force))
    _collect(engine, max_age_s)
    if left or report.others:
        raise Error("the storage is still damaged", hint="--force removes damaged images with their containers")
    return 0


def _repair(engine: Engine, report: Report, force: bool) -> int:
    """Removes damaged blobs and images; returns how many images stay because of their containers."""
    from pyctl.cli.verb_rmi import remove
    from storage.blobs import BlobStore
    from storage.images import ImageStore

    for digest in report.blobs:
        BlobStore(engine.paths).remove_damaged(digest)
    left = 0
    store = ImageStore(engine.db)
    for image_id in dict.fromkeys(image_id for image_id, _problem in report.images):
        try:
            remove(engine, store, image_id, names_too=True, containers_too=force)
        except Error as error:
            output.error_line(error)
            left += 1
        else:
            sys.stdout.write(f"Deleted: {image_id}\n")
    return left


def _collect(engine: Engine, max_age_s: float) -> None:
    from pyctl.cli.verb_rmi import collect_garbage

    collect_garbage(engine, partial_age_s=max_age_s)
