"""`commit`.  Weight: `storage.commit`, with the unpacker."""

from __future__ import annotations

import sys

from pyctl.cli import mapped
from pyctl.engine import filesystem, state
from pyctl.engine.committing import read_override, run_configuration
from pyctl.engine.engine import Engine
from rootless.errors import Error, NotFound, UsageError, os_error_text
from rootless.fds import write_durably
from rootless.values import loads
from storage import tarwriter
from storage.commit import Commit, Committed
from storage.commit import commit as store_commit
from storage.images import ImageStore, local_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyctl.cli.parser import Options, Parsed
    from pyctl.engine.state import ContainerRecord


def commit(parsed: Parsed) -> int:
    """Makes the image and prints its id."""
    options = parsed.options
    if options.message and options.format != "docker":
        raise UsageError("--message: the oci format has no place for a message", hint="add --format docker")
    name = local_name(parsed.args[1]) if len(parsed.args) > 1 else ""
    engine = Engine(parsed.globals)
    record = state.get(engine.db, parsed.args[0])
    wanted = _wanted(engine, record, options, name)
    single_id = mapped.enter(engine)
    with (
        filesystem.held_still(engine, record, bool(options.pause)),
        filesystem.container_view(engine, record) as view,
        filesystem.image_view(engine, record) as base,
    ):
        changed = len(view.directories) > len(base.directories)
        if options.squash:
            archive = tarwriter.squashed(view, changed)
        elif changed:
            archive = tarwriter.top_layer(view, base)
        else:
            archive = tarwriter.empty_layer(view)  # it was never started
        made = store_commit(
            engine.db,
            wanted,
            archive,
            still_there=lambda: _require(engine, record),
            single_id=single_id,
            limits=mapped.unpack_limits(engine),
        )
    state.tell(engine.db, "commit", record.specification)
    _report(options, made)
    return 0


def _wanted(engine: Engine, record: ContainerRecord, options: Options, name: str) -> Commit:
    spec = record.specification
    if spec.rootfs:
        raise Error(f"container {record.name} was made with --rootfs: there is no image to put its changes on")
    base: dict[str, Any] = loads(ImageStore(engine.db).config_text(spec.image_id)).get("config") or {}
    run = run_configuration(
        base,
        spec,
        volumes=bool(options.include_volumes),
        override=read_override(options.config) if options.config else {},
        changes=options.change,
    )
    return Commit(
        base_id=spec.image_id,
        base_name=spec.image,
        run=run,
        names=(name,) if name else (),
        author=options.author,
        message=options.message,
        oci=options.format == "oci",
        squash=bool(options.squash),
        container_id=record.id,
    )


def _require(engine: Engine, record: ContainerRecord) -> None:
    """Its files go before its row does, but not while its row is there and it is not being removed."""
    try:
        state.get(engine.db, record.id)
    except NotFound as error:
        raise Error(f"container {record.name} was removed while its files were read") from error


def _report(options: Options, made: Committed) -> None:
    if not options.quiet:
        lines = [f"Copying blob {digest}" for digest in made.blobs]
        lines += [f"Copying config sha256:{made.image_id}", "Writing manifest to image destination"]
        sys.stderr.write("".join(f"{line}\n" for line in lines))
    if options.iidfile:
        try:
            write_durably(options.iidfile, made.image_id.encode(), 0o644)
        except OSError as error:
            raise Error(os_error_text(error, f"--iidfile {options.iidfile}")) from error
    sys.stdout.write(f"{made.image_id}\n")
