"""`run` and `create`.  Weight: little at first, the engine's light modules once the supervisor has been started;
pulling a missing image is another process."""

from __future__ import annotations

import os
import sys

from pyctl.engine.engine import Engine
from rootless.errors import UsageError
from rootless.launch import Supervisor

_OTHER_NETWORKS = ("none", "host", "private", "slirp4netns", "pasta", "container", "ns", "default")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Options, Parsed
    from pyctl.engine.model import ContainerSpec
    from rootless.fds import Channel


def create(parsed: Parsed) -> int:
    """Make a container and print its id."""
    from pyctl.engine import creating

    engine = Engine(parsed.globals)
    spec = creating.create(engine, parsed)
    creating.store(engine, spec, active=False)
    sys.stdout.write(f"{spec.id}\n")
    return 0


def run(parsed: Parsed) -> int:
    """Make a container and start it; in the foreground, returns its exit status."""
    options = parsed.options
    detach = bool(options.detach)
    attached = _attached_streams(options)
    if detach and attached is not None:
        raise UsageError("--detach and --attach exclude each other")
    engine = Engine(parsed.globals)
    sockets = 0
    if "LISTEN_FDS" in os.environ:
        from pyctl.engine import service  # only in a service with sockets

        sockets = service.listened(os.environ)
    private_pid = (options.pid or engine.config.pidns) == "private"
    hold = _network_process(engine, options)
    supervisor = Supervisor(engine.runtime_root, private_pid, engine.debug)
    # Only now: loading what plans (15 ms) and the supervisor's boot go on side by side.
    from pyctl.engine import creating, planner, starting

    try:
        spec = creating.create(engine, parsed)
        fds = _streams(spec, sockets)
        plan = planner.plan(
            engine, spec, attached=not detach, restart_count=0, sockets=sockets, preserved=spec.preserve_fds
        )
        creating.store(engine, spec, plan.runtime_dir, active=True)
        starting.launch(engine, supervisor, plan, fds)
    except BaseException:
        supervisor.abandon()
        raise
    if hold is not None:
        hold.close()
    if detach:
        supervisor.channel.close()
        sys.stdout.write(f"{spec.id}\n")
        starting.tell_of_lingering(engine)
        return 0
    return _stay(engine, parsed, spec, supervisor, attached)


def _network_process(engine: Engine, options: Options) -> Channel | None:
    """With user-defined networks, a hold on the network process: its user namespace is the one to be in."""
    words = [word for word in options.network if word] or [engine.config.netns or "private"]
    names = [word.partition(":")[0] for word in words]
    if not any(name not in _OTHER_NETWORKS for name in names):
        return None
    from pyctl.engine import creating, network_process

    lookups = creating.Lookups(engine)
    for name in names:
        if name not in _OTHER_NETWORKS:
            lookups.network(name)
    return network_process.ensure(engine)


def _attached_streams(options: Options) -> frozenset[str] | None:
    """--attach: the streams, None where it was not given."""
    if not options.given("attach"):
        return None
    streams = frozenset(word.lower() for word in options.attach)
    for word in streams - {"stdin", "stdout", "stderr"}:
        raise UsageError(f"--attach {word}: must be stdin, stdout or stderr")
    return streams


def _streams(spec: ContainerSpec, sockets: int) -> list[int]:
    """Descriptors that go along: this command's streams for --log-driver=passthrough, those of socket activation, and
    then those to preserve."""
    preserved = list(range(3, 3 + sockets + spec.preserve_fds))
    for fd in preserved:
        try:
            os.fstat(fd)
        except OSError as error:
            raise UsageError(f"--preserve-fds {spec.preserve_fds}: descriptor {fd} is not open") from error
    return [0, 1, 2, *preserved] if spec.log.driver == "passthrough" else preserved


def _stay(
    engine: Engine, parsed: Parsed, spec: ContainerSpec, supervisor: Supervisor, attached: frozenset[str] | None
) -> int:
    from pyctl.engine import starting
    from rootless.streams import STDERR, STDOUT

    wanted = {"stdin", "stdout", "stderr"} if attached is None else attached
    shown = {STDOUT} if spec.tty or "stdout" in wanted else set()
    return starting.stay(
        engine,
        spec,
        supervisor.channel,
        interactive=spec.interactive and "stdin" in wanted,
        detach_keys=spec.detach_keys,
        shown=frozenset(shown | ({STDERR} if "stderr" in wanted else set())),
        forward_signals=bool(parsed.options.sig_proxy),
        owner=True,
    )
