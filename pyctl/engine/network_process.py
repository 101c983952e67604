"""The network process from a command's side: start it, hold it, heal it.

Weight: `rootless.launch`, `rootless.netplan`.  On the path of `run` where a network is user-defined.
"""

from __future__ import annotations

import fcntl
import os
import sys

from rootless.bridge_link import DIRECTORY, MARKER, SOCKET_NAME, START_FILE
from rootless.errors import Error, LaunchError
from rootless.fds import Channel, close_all, connect_unix, seqpacket_pair
from rootless.headstart import search_path
from rootless.netplan import Hold, Probe, Refresh, Standing
from rootless.plan import Done, Failed
from rootless.userns import SUPERVISOR_FILE, open_supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.engine.engine import Engine
    from rootless.netplan import NetworkConfig
    from rootless.values import Value

_ANSWER_S = 30.0
_LIBRARY = "pyroute2"


def ensure(engine: Engine) -> Channel:
    """A connection to the network process, which is started where it does not run.

    It does not end as long as the connection is open.  Raises Error: what it needs is missing.
    """
    directory = f"{engine.runtime_root}/{DIRECTORY}"
    os.makedirs(directory, 0o700, exist_ok=True)
    start = os.open(f"{directory}/{START_FILE}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # One starts it, the others wait; and it does not end while somebody holds this (`network.holder`).
        fcntl.flock(start, fcntl.LOCK_EX)
        return _connected(directory) or _started(engine)
    finally:
        os.close(start)


def _connected(directory: str) -> Channel | None:
    try:
        channel = connect_unix(directory, SOCKET_NAME)
        channel.set_timeout(_ANSWER_S)
        channel.send(Probe())
    except OSError:
        return None
    if isinstance(_receive(channel), Standing):
        return channel
    channel.close()
    return None


def _started(engine: Engine) -> Channel:
    from network import facts as network_facts
    from network.slirp import UPLINK_CIDR, SlirpOptions, slirp_argv

    facts = network_facts.gather(engine.cache_dir, engine.config.network_cmd_path, engine.config.bind_address)
    library = next((p for p in sys.path if p and os.path.isdir(f"{p}/{_LIBRARY}")), "")
    if not library:
        raise Error(f"user-defined networks need the Python package {_LIBRARY}", hint=f"pip install {_LIBRARY}")
    order = Hold(
        runtime_root=engine.runtime_root,
        helper=facts.slirp4netns,
        helper_args=slirp_argv(SlirpOptions(cidr=UPLINK_CIDR), facts),
        scope=f"pyctl-network-{os.getpid()}.scope" if _has_manager(engine) else "",
        cache_dir=engine.cache_dir,
        library=f"{library}/{_LIBRARY}",
    )
    channel, theirs = seqpacket_pair()
    boot = os.path.join(os.path.dirname(network_facts.__file__), "holder_boot.py")
    argv = [sys.executable, "-I", "-S", boot, f"{search_path()}:{library}", "3"]
    actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_DUP2, theirs, 3),
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0),
        (os.POSIX_SPAWN_DUP2, 0, 1),
    ]
    if not engine.debug:
        actions.append((os.POSIX_SPAWN_DUP2, 0, 2))
    if theirs == 3:  # dup2 onto itself would keep close-on-exec
        os.set_inheritable(3, True)
    os.posix_spawn(sys.executable, argv, dict(os.environ), file_actions=actions, setsid=True)
    os.close(theirs)
    channel.set_timeout(_ANSWER_S)
    try:
        channel.send(order)
    except OSError:
        pass  # it has failed already: its reason is in the channel
    answer = _receive(channel)
    if isinstance(answer, Standing):
        return channel
    channel.close()
    if isinstance(answer, Failed):
        raise LaunchError(answer.stage, answer.message, answer.hint, answer.exit_code, answer.errno)
    raise Error("the network process ended before it was ready", hint="pyctl --log-level=debug shows what it says")


def _has_manager(engine: Engine) -> bool:
    from rootless import cgroup_facts

    wanted = engine.globals.cgroup_manager or engine.config.cgroup_manager
    return wanted != "cgroupfs" and cgroup_facts.detect(os.environ, engine.uid).manager == "systemd"


def _receive(channel: Channel) -> Value | None:
    try:
        answer, fds = channel.receive()
    except OSError:
        return None
    close_all(fds)
    return answer


def refresh(engine: Engine, network: NetworkConfig) -> None:
    """Tell a running network process what has changed.  Raises Error where it does not take it."""
    try:
        channel = connect_unix(f"{engine.runtime_root}/{DIRECTORY}", SOCKET_NAME)
        channel.set_timeout(_ANSWER_S)
        channel.send(Refresh(network=network))
    except OSError:
        return  # it does not run: the next one reads what is stored
    answer = _receive(channel)
    channel.close()
    if not isinstance(answer, Done):
        raise Error(f"running containers do not have the new name servers of {network.name} yet")


def heal(engine: Engine) -> None:
    """Start the network process again where it was killed under running containers; they get their networks back.

    Called where its socket is there, but no process behind it.
    """
    directory = f"{engine.runtime_root}/{DIRECTORY}"
    if not os.path.exists(f"{directory}/{SOCKET_NAME}") or _lives(directory):
        return
    if os.readlink("/proc/self") != str(os.getpid()):
        return  # in a supervisor's pid namespace (`container cleanup`), where the machine's numbers mean nothing
    cut_off = [name for name in os.listdir(engine.runtime_root) if _is_cut_off(f"{engine.runtime_root}/{name}")]
    if not cut_off:
        _sweep(directory)
        return
    engine.warn(
        f"the network process was killed; it is started again, and {len(cut_off)} running"
        f" {'container gets its' if len(cut_off) == 1 else 'containers get their'} networks back"
    )
    hold = ensure(engine)
    try:
        # The supervisors know the networks as they were when their containers came to them.
        from storage.networks import NetworkStore

        store = NetworkStore(engine.db)
        used = store.used()
        for network in store.every():
            if network.id in used:
                refresh(engine, network)
    finally:
        hold.close()


def _is_cut_off(runtime_dir: str) -> bool:
    return os.path.exists(f"{runtime_dir}/{MARKER}") and _lives(runtime_dir)


def _lives(directory: str) -> bool:
    """Whether the process that wrote its number there is still the one."""
    fd = open_supervisor(directory)
    if fd is None:
        return False
    os.close(fd)
    return True


def _sweep(directory: str) -> None:
    """A killed process's socket, which nobody needs any more."""
    start = os.open(f"{directory}/{START_FILE}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(start, fcntl.LOCK_EX)
        if _lives(directory):
            return
        for name in (SOCKET_NAME, SUPERVISOR_FILE):
            try:
                os.unlink(f"{directory}/{name}")
            except FileNotFoundError:
                continue
    finally:
        os.close(start)
