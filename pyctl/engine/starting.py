"""Launching containers, and staying with them: the path of `run`, `start`, `attach`.

Weight: the engine's light modules.  Order matters here: the supervisor is started before anything is planned, so that
its boot and the user namespace (12 ms) overlap the plan; the row is written before the launch, so that nothing
ever runs that the state does not know.
"""

from __future__ import annotations

import os

from pyctl.engine import lifecycle, planner, state
from pyctl.engine.attach import Attachment, Detached, OutputLost, terminal_size
from pyctl.engine.execute import connect
from pyctl.engine.state import ContainerRecord
from rootless.errors import EXIT_ENGINE, Error, LaunchError
from rootless.fds import Channel, close_all
from rootless.launch import Supervisor
from rootless.plan import Attach, Exited, Failed, LaunchPlan, Ready, Stop
from rootless.plan import Status as LiveStatus
from rootless.streams import STDERR, STDOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyctl.engine.engine import Engine
    from pyctl.engine.model import ContainerSpec


def launch(engine: Engine, supervisor: Supervisor, plan: LaunchPlan, fds: Sequence[int] = ()) -> None:
    """Make the supervisor this container's.  Raises LaunchError, with the row saying what happened."""
    gate = os.pipe2(os.O_CLOEXEC) if plan.notify is not None else ()
    try:
        ready = _launch(engine, supervisor, plan, [*fds, *gate[:1]])
        if plan.notify is not None:
            from pyctl.engine import service

            service.announce(plan.notify, ready.main_pid)
    finally:
        close_all(gate)
    if plan.copy_ups:
        from storage.volumes import VolumeStore  # few starts are the first with their volume

        directories = {engine.paths.volume_data(name): name for name in _volumes(engine, plan.container_id)}
        VolumeStore(engine.db).mark_used([directories[c.target] for c in plan.copy_ups if c.target in directories])


def _launch(engine: Engine, supervisor: Supervisor, plan: LaunchPlan, fds: Sequence[int]) -> Ready:
    try:
        return supervisor.launch(plan, fds)
    except LaunchError as error:
        if error.stage == "state":  # another command was faster: its container is none of our business
            raise
        if plan.remove:
            spec = state.get(engine.db, plan.container_id).specification
            anonymous = state.delete(engine.db, plan.container_id, durable=False)
            state.tell(engine.db, "remove", spec)
            lifecycle.Removal(engine.db, engine.runtime_root).remove_volumes(anonymous)
        else:
            state.mark_launch_failed(engine.db, plan.container_id, error)
        raise


def _volumes(engine: Engine, container_id: str) -> list[str]:
    rows = engine.db.query("SELECT volume_name FROM container_volumes WHERE container_id = ?", (container_id,))
    return [name for (name,) in rows]


def start(engine: Engine, record: ContainerRecord) -> None:
    """Start a container that exists, in the background.  Raises Error."""
    try:
        supervisor = _launch_again(engine, record, attached=False, interactive=None)
    except LaunchError as error:
        if error.stage == "state":  # another command has just started it: what was asked for is so
            return
        raise
    supervisor.channel.close()
    tell_of_lingering(engine)


def tell_of_lingering(engine: Engine) -> None:
    """Once for each login, where containers end with it."""
    if not os.path.exists(f"{engine.runtime_root}/linger-told"):
        from pyctl.engine import linger  # once

        linger.warn_once(engine)


def start_attached(
    engine: Engine, record: ContainerRecord, *, interactive: bool, detach_keys: str, forward_signals: bool
) -> int:
    """`start --attach`: returns the container's exit status."""
    if record.alive:
        return attach_running(
            engine, record, stdin=interactive, detach_keys=detach_keys, forward_signals=forward_signals
        )
    supervisor = _launch_again(engine, record, attached=True, interactive=interactive)
    spec = record.specification
    return stay(
        engine,
        spec,
        supervisor.channel,
        interactive=interactive and spec.interactive,
        detach_keys=detach_keys or spec.detach_keys,
        forward_signals=forward_signals,
    )


def _launch_again(engine: Engine, record: ContainerRecord, *, attached: bool, interactive: bool | None) -> Supervisor:
    spec = record.specification
    sockets = 0
    if "LISTEN_FDS" in os.environ:
        from pyctl.engine import service

        sockets = service.listened(os.environ)
    hold = None
    if spec.network.endpoints:
        from pyctl.engine import network_process  # only with user-defined networks

        hold = network_process.ensure(engine)
    supervisor = Supervisor(engine.runtime_root, spec.pid == "private", engine.debug)
    try:
        plan = planner.plan(engine, spec, attached=attached, restart_count=0, sockets=sockets)
        state.mark_launched(engine.db, record, plan.runtime_dir)
        launch(engine, supervisor, plan, range(3, 3 + sockets))
    except BaseException as error:
        supervisor.abandon()
        if isinstance(error, LaunchError):
            error.exit_code = EXIT_ENGINE  # 126 and 127 are for `run`, whose own command it is (podman-start(1))
        raise
    finally:
        if hold is not None:
            hold.close()
    return supervisor


def attach_running(
    engine: Engine, record: ContainerRecord, *, stdin: bool, detach_keys: str, forward_signals: bool
) -> int:
    """Connect this command's streams to a running container; returns its exit status, 0 after the detach keys."""
    spec = record.specification
    channel = connect(record.runtime_dir, record.name)
    rows, columns = terminal_size(0) if spec.tty else (0, 0)
    channel.send(Attach(stdin=stdin, rows=rows, columns=columns))
    answer, fds = channel.receive()
    close_all(fds)
    if isinstance(answer, Failed):
        raise Error(answer.message, answer.hint, answer.exit_code)
    if not isinstance(answer, LiveStatus):
        raise Error(f"container {record.name} has just ended", hint=f"pyctl logs {record.name} shows what it wrote")
    return stay(
        engine,
        spec,
        channel,
        interactive=stdin and spec.interactive,
        detach_keys=detach_keys or spec.detach_keys,
        forward_signals=forward_signals,
    )


def stay(
    engine: Engine,
    spec: ContainerSpec,
    channel: Channel,
    *,
    interactive: bool,
    detach_keys: str,
    forward_signals: bool,
    shown: frozenset[bytes] = frozenset((STDOUT, STDERR)),
    owner: bool = False,
) -> int:
    """Pump until the container ends; returns its exit status.

    owner: this is the foreground `run` of a --rm container: where nobody reads its output any more, it is stopped,
    as a program in a pipeline would be.
    """
    attachment = Attachment(
        channel,
        terminal=spec.tty and os.isatty(0),
        interactive=interactive,
        detach_keys=detach_keys,
        forward_signals=forward_signals,
        shown=shown,
    )
    try:
        ended = attachment.run()
    except Detached:
        return 0
    except OutputLost as lost:
        if owner and spec.remove:
            record = state.get(engine.db, spec.id)
            lifecycle.stop(engine.db, [record], 0, lambda _r: None)
            _forget(engine, spec, record.exit_code)
        raise BrokenPipeError from lost
    return conclude(engine, spec, ended)


def conclude(engine: Engine, spec: ContainerSpec, ended: Exited | Failed | None) -> int:
    """Record the end that was heard of (or not: a killed supervisor), and return the status to exit with."""
    if isinstance(ended, Failed):
        raise Error(ended.message, ended.hint, ended.exit_code)
    if ended is not None and ended.removed:
        _forget(engine, spec, ended.exit_code)
        return ended.exit_code
    record = state.get(engine.db, spec.id)
    if ended is None and record.alive:
        # Killed: the kernel is still taking its namespace apart.
        lifecycle.request_wait(record).wait(engine.db)
    status = ended.exit_code if ended is not None else record.exit_code
    if ended is None:
        reason = record.error
        if spec.remove:
            lifecycle.Removal(engine.db, engine.runtime_root).forget(record, volumes=True)
        raise Error(reason or "the container's supervisor has gone", exit_code=record.exit_code or 137)
    return status


def _forget(engine: Engine, spec: ContainerSpec, code: int) -> None:
    anonymous = state.delete(engine.db, spec.id, durable=False)
    state.tell(engine.db, "remove", spec, code)
    if anonymous:
        lifecycle.Removal(engine.db, engine.runtime_root).remove_volumes(anonymous)


def stop_quietly(channel: Channel) -> None:
    """Ask for an end without waiting for it."""
    try:
        channel.send(Stop(timeout_s=0))
    except OSError:
        return
