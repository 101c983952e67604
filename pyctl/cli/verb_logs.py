"""`logs`.  Weight: `pyctl.engine.logread`."""

from __future__ import annotations

from pyctl.engine import state
from pyctl.engine.engine import Engine
from pyctl.engine.logread import LogSource, LogView, show_logs
from rootless.container_files import LOG_FILES
from rootless.errors import NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Parsed
    from pyctl.engine.state import ContainerRecord


def logs(parsed: Parsed) -> int:
    """Shows the logs of the containers that are named, merged by time."""
    options = parsed.options
    view = LogView(
        follow=bool(options.follow),
        tail=options.tail,
        since_ns=_moment_ns(options.since, "--since"),
        until_ns=_moment_ns(options.until, "--until"),
        timestamps=bool(options.timestamps),
        names=bool(options.names),
        color=bool(options.color),
    )
    engine = Engine(parsed.globals)
    records = _chosen(engine, parsed)
    show_logs(tuple(_source(engine, record, view.follow) for record in records), view)
    return 0


def _chosen(engine: Engine, parsed: Parsed) -> list[ContainerRecord]:
    if parsed.options.latest:
        if parsed.args:
            raise UsageError("--latest takes no names")
        records = state.every(engine.db)
        if not records:
            raise NotFound("there are no containers")
        return records[-1:]
    if not parsed.args:
        raise UsageError("logs: name a container", hint="pyctl logs --help shows how")
    found = [state.get(engine.db, name) for name in parsed.args]
    return list({record.id: record for record in found}.values())


def _source(engine: Engine, record: ContainerRecord, follow: bool) -> LogSource:
    from rootless.userns import open_supervisor

    log = record.specification.log
    path = log.path or f"{engine.paths.container(record.id)}/{LOG_FILES.get(log.driver, '')}"
    end_fd = open_supervisor(record.runtime_dir) if follow and record.alive else None
    return LogSource(
        container_id=record.id,
        name=record.name,
        driver=log.driver,
        path=path,
        end_fd=-1 if end_fd is None else end_fd,
    )


def _moment_ns(text: str, option: str) -> int:
    """Nanoseconds since the epoch; 0 where nothing was given."""
    if not text:
        return 0
    from pyctl.engine.filters import moment_ns

    try:
        return moment_ns(text)
    except ValueError:
        raise UsageError(f'invalid value "{text}" for {option}: not a time', "as 10m, or 2024-05-01T12:00:00") from None
