"""`start stop restart kill rm wait attach` and the hidden `container cleanup`.  Weight: the engine's light modules.

A verb that takes several containers does what it can for each, reports each failure in a line of its own, and ends
with the status of the last one.
"""

from __future__ import annotations

import sys

from pyctl.cli import select
from pyctl.engine import hooks, lifecycle, state
from pyctl.engine.engine import Engine
from pyctl.engine.state import ContainerRecord, Status
from rootless.errors import Error, NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyctl.cli.parser import Parsed


def for_each(records: Iterable[ContainerRecord], act: Callable[[ContainerRecord], None]) -> int:
    """Do something to each; returns 0 or the status of the last failure, each of which is told at once."""
    from pyctl.__main__ import report

    status = 0
    for record in records:
        try:
            act(record)
        except Error as error:
            report(error)
            status = error.exit_code
    return status


def _print_reference(chosen: select.Chosen) -> Callable[[ContainerRecord], None]:
    def show(record: ContainerRecord) -> None:
        sys.stdout.write(f"{chosen.named(record)}\n")

    return show


def start(parsed: Parsed) -> int:
    """Start containers that do not run."""
    from pyctl.engine import starting

    engine = Engine(parsed.globals)
    options = parsed.options
    chosen = select.choose(engine, parsed, every=lambda r: not r.alive)
    attach = bool(options.attach)
    if attach and len(chosen.records) > 1:
        raise UsageError("--attach takes one container only")
    if options.interactive and not attach:
        raise UsageError("--interactive needs --attach")
    if not attach:
        show = _print_reference(chosen)

        def act(record: ContainerRecord) -> None:
            if not record.alive:
                starting.start(engine, record)
            show(record)

        return chosen.failures or for_each(chosen.records, act)
    if not chosen.records:
        return chosen.failures
    keys = options.detach_keys if options.given("detach_keys") else ""
    forward = bool(options.sig_proxy) if options.given("sig_proxy") else True
    return starting.start_attached(
        engine, chosen.records[0], interactive=bool(options.interactive), detach_keys=keys, forward_signals=forward
    )


def stop(parsed: Parsed) -> int:
    """Stop containers; one that does not run is no error."""
    engine = Engine(parsed.globals)
    chosen = select.choose(engine, parsed, every=lambda r: r.alive)
    timeout = parsed.options.time if parsed.options.given("time") else -1
    lifecycle.stop(engine.db, chosen.records, timeout, _print_reference(chosen))
    return chosen.failures


def restart(parsed: Parsed) -> int:
    """Stop and start."""
    from pyctl.engine import starting

    engine = Engine(parsed.globals)
    running_only = bool(parsed.options.running)
    chosen = select.choose(engine, parsed, every=lambda r: True, implied=running_only)
    records = [r for r in chosen.records if r.alive or not running_only]
    timeout = parsed.options.time if parsed.options.given("time") else -1
    show = _print_reference(chosen)

    def act(record: ContainerRecord) -> None:
        state.tell(engine.db, "restart", record.specification)
        lifecycle.stop(engine.db, [record], timeout, lambda _r: None)
        starting.start(engine, state.get(engine.db, record.id))
        show(record)

    return chosen.failures or for_each(records, act)


def kill(parsed: Parsed) -> int:
    """Send a signal."""
    from pyctl.engine.request_text import signal_number

    signal = signal_number("--signal", parsed.options.signal)
    engine = Engine(parsed.globals)
    chosen = select.choose(engine, parsed, every=lambda r: r.alive)
    show = _print_reference(chosen)

    def act(record: ContainerRecord) -> None:
        lifecycle.kill(engine.db, record, signal)
        show(record)

    return chosen.failures or for_each(chosen.records, act)


def rm(parsed: Parsed) -> int:
    """Remove containers."""
    options = parsed.options
    engine = Engine(parsed.globals)
    try:
        chosen = select.choose(
            engine, parsed, every=lambda r: True, ignore_missing=bool(options.force or options.ignore)
        )
    except NotFound as error:
        error.exit_code = 1  # podman-rm(1), "Exit Status"
        raise
    records = list(chosen.records)
    removal = lifecycle.Removal(engine.db, engine.runtime_root)
    known = {r.id for r in records}
    for record in tuple(records):
        for other in lifecycle.dependents(engine.db, record) if _may_be_shared(engine, record) else ():
            if options.depend and other.id not in known:
                records.insert(0, other)
                known.add(other.id)
            elif other.id not in known:
                raise Error(
                    f"container {record.name} has a namespace that {other.name} uses",
                    hint=f"remove {other.name} first, or both with --depend",
                )
    running = [r for r in records if r.alive] if options.force else []
    timeout = options.time if options.given("time") else -1
    lifecycle.stop(engine.db, running, timeout, lambda _r: None)
    show = _print_reference(chosen)

    def act(record: ContainerRecord) -> None:
        removal.remove(record, force=bool(options.force), volumes=bool(options.volumes), timeout_s=timeout)
        show(record)

    status = for_each(records, act)
    return int(bool(chosen.failures)) or (
        2 if status and any(r.alive for r in records) and not options.force else status
    )


def _may_be_shared(engine: Engine, record: ContainerRecord) -> bool:
    # Specifications are JSON text: only one that names this id can depend on it.
    found = engine.db.one("SELECT 1 FROM containers WHERE id != ?1 AND instr(spec, ?1) LIMIT 1", (record.id,))
    return found is not None


def wait(parsed: Parsed) -> int:
    """Wait for states, print exit statuses."""
    from pyctl.engine import waiting

    engine = Engine(parsed.globals)
    options = parsed.options
    conditions = waiting.conditions(options.condition)
    interval_ns = waiting.interval_ns(options.interval)
    chosen = select.choose(engine, parsed, every=None, ignore_missing=bool(options.ignore))
    for _name in chosen.missing:
        sys.stdout.write("-1\n")
    for record in chosen.records:
        sys.stdout.write(f"{waiting.wait(engine.db, record, conditions, interval_ns)}\n")
        sys.stdout.flush()
    return chosen.failures


def attach(parsed: Parsed) -> int:
    """Connect this terminal to a running container."""
    from pyctl.engine import starting

    engine = Engine(parsed.globals)
    options = parsed.options
    (record,) = select.choose(engine, parsed, every=None).records
    if record.status != Status.RUNNING:
        raise Error(f"container {record.name} is not running", hint=f"pyctl start --attach {record.name}")
    keys = options.detach_keys if options.given("detach_keys") else ""
    return starting.attach_running(
        engine, record, stdin=not options.no_stdin, detach_keys=keys, forward_signals=bool(options.sig_proxy)
    )


def cleanup(parsed: Parsed) -> int:
    """Record ends that nobody has noticed, and remove what was run with --rm (called by supervisors at their end)."""
    engine = Engine(parsed.globals)
    removal = lifecycle.Removal(engine.db, engine.runtime_root)
    hooks.on_abandoned = hooks.ignore  # this is the process that sees to it
    chosen = select.choose(engine, parsed, every=lambda r: True, ignore_missing=True)
    for record in chosen.records:
        if record.alive:
            continue
        if parsed.options.rm or (record.remove and record.status == Status.EXITED):
            removal.forget(record, volumes=True)
    return int(parsed.options.exit_status)
