"""The network process: one a user, with the namespace in which all bridges are.

Weight: `network.bridges`, `network.dns_thread`; started as `python -I -S network/holder_boot.py` with the first
container on a user-defined network, ends with the last.

Its connections are its leases.  A supervisor's lives as long as its container; a command's that is about to launch one
bridges the time until then.  What a connection brought goes with it, and with the last one the process: the kernel
then takes the namespace, its bridges and rules apart, and slirp4netns sees the end of its pipe.
"""

from __future__ import annotations

import fcntl
import os
import sys

from network import firewall
from network.bridges import Bridges
from network.dns_thread import NameThread
from rootless import libc, lockfile, netns, userns
from rootless.bridge_link import DIRECTORY, LOCK_FILE, MARKER, SOCKET_NAME, START_FILE
from rootless.container_files import SOCKET_NAME as CONTAINER_SOCKET
from rootless.errors import Error, LaunchError
from rootless.fds import Channel, accept, close_all, connect_unix, listen_unix, write_file
from rootless.loop import READ, Loop
from rootless.netplan import (
    BridgePlan,
    Connect,
    Disconnect,
    Hold,
    Join,
    Joined,
    Probe,
    Refresh,
    Rejoin,
    Standing,
)
from rootless.plan import Done, Failed, NetworkPlan
from rootless.processes import SIGHUP, SIGINT, SIGKILL, SIGTERM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.netplan import Endpoint
    from rootless.values import Value

_REJOIN_S = 5
_RETRY_NS = 20_000_000
_SYSCTLS = (
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv6/conf/default/accept_ra", "2"),  # slirp4netns announces its IPv6 route, which a router would not hear
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv4/conf/all/rp_filter", "1"),  # nobody speaks with an address of another network
    ("ipv4/conf/default/rp_filter", "1"),
)
# Frames between two ports of a bridge are none of the packet filter's business (br_netfilter's default says so).
_BRIDGE_SYSCTLS = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables")


def main(argv: list[str]) -> None:
    """argv: the launch channel's descriptor."""
    channel = Channel(int(argv[0]))
    try:
        libc.close_range(channel.fileno() + 1)  # what the command had from its caller is none of this process's
        libc.set_name("pyctl-network")
        _raise_descriptor_limit()
        libc.block_signals((SIGTERM, SIGINT, SIGHUP))
        os.umask(0o077)
        libc.prctl(libc.PR_SET_PDEATHSIG, SIGKILL)  # until it stands, a command that is killed takes it along
        order, _fds = channel.receive()
        if not isinstance(order, Hold):
            os._exit(0)
        holder = Holder(order)
        libc.prctl(libc.PR_SET_PDEATHSIG, 0)
        holder.serve(channel)
    except Error as error:
        _report(channel, error)
    except Exception as error:
        _report(channel, LaunchError("network", f"network process: {type(error).__name__}: {error}"))
    os._exit(1)


def _raise_descriptor_limit() -> None:
    """One for each container, and for each question that others are asked."""
    import resource  # C

    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        return  # more than fs.nr_open


def _report(channel: Channel, error: Error) -> None:
    stage = error.stage if isinstance(error, LaunchError) else "network"
    try:
        channel.set_timeout(5.0)
        channel.send(Failed(stage=stage, message=error.message, hint=error.hint, exit_code=error.exit_code))
    except OSError:
        return


class Client:
    """One connection.  `plan` is None for a command that only holds the process."""

    __slots__ = ("channel", "outer", "plan")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.plan: BridgePlan | None = None
        self.outer: dict[str, str] = {}  # network id → outer end of the interface


class Holder:
    """The process's state.  One thread acts; another one serves names (`network.dns_thread`)."""

    def __init__(self, order: Hold) -> None:
        """Make the namespace and all that is in it.  Raises Error; the process's end then takes everything down."""
        self._root = order.runtime_root
        self._directory = f"{order.runtime_root}/{DIRECTORY}"
        # Whoever starts this holds another lock, so there can only be a killed one, not yet taken apart by the kernel.
        self._lock = lockfile.hold(f"{self._directory}/{LOCK_FILE}", wait=True)
        self.loop = Loop()
        self._clients: dict[int, Client] = {}
        self._awaited: set[str] = set()  # containers that are to connect again
        self._waiting: list[Channel] = []  # who is to hear that they have
        self._leaving: list[tuple[str, str]] = []  # interfaces to be taken away: (network id, outer end)
        userns.enter(order.runtime_root, mount_namespace=False, like=MARKER)
        libc.clear_inheritable_capabilities()
        connection = netns.Connection()
        uplink = NetworkPlan(kind="slirp4netns", helper=order.helper, helper_args=order.helper_args)
        connection.start(uplink, self._directory)
        scope = _begin_scope(order.scope, [os.getpid(), connection.pid])
        self.names = NameThread()  # it stays in the host's network
        netns.make_private()
        _write_sysctls()
        connection.release()
        firewall.install(firewall.batch(order.cache_dir, order.library))  # while slirp4netns starts
        self.bridges = Bridges()
        connection.wait_ready()
        self.bridges.set_uplink("tap0")
        scope()
        self._connection = connection
        # Without its way out this is not what was promised: it ends, and the next command makes all of it anew.
        self.loop.watch(os.pidfd_open(connection.pid), READ, lambda _events: os._exit(1))
        me = os.getpid()
        write_file(f"{self._directory}/{userns.SUPERVISOR_FILE}", f"{me} {userns.start_time(me)}".encode(), 0o600)
        self._listener = self._listen()

    def _listen(self) -> int:
        try:
            os.unlink(f"{self._directory}/{SOCKET_NAME}")  # a killed predecessor's
        except FileNotFoundError:
            pass
        directory = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return listen_unix(directory, SOCKET_NAME, backlog=512)
        finally:
            os.close(directory)

    def serve(self, launcher: Channel) -> None:
        """Until nobody needs it any more; never returns."""
        self.loop.watch(self._listener, READ, lambda _events: self._accept())
        signals = libc.signalfd((SIGTERM, SIGINT, SIGHUP))
        # Asked to end by the session or the machine, whose containers end too: it goes when they have gone.
        self.loop.watch(signals, READ, lambda _events: os.read(signals, 4096))
        self._add(launcher)
        self._waiting.append(launcher)
        self._call_back()
        self._tell_waiting()
        self.loop.run()
        os._exit(0)

    def _standing(self) -> Standing:
        joined = tuple(c.plan.container_id for c in self._clients.values() if c.plan is not None)
        return Standing(pid=os.getpid(), containers=joined)

    # -- connections ----------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            channel = accept(self._listener)
        except OSError:
            return  # it has gone again, or no descriptor is left at the moment
        self._add(channel)

    def _add(self, channel: Channel) -> None:
        channel.set_timeout(5.0)
        self._clients[channel.fileno()] = Client(channel)
        self.loop.watch(channel.fileno(), READ, lambda _events: self._request(self._clients[channel.fileno()]))

    def _request(self, client: Client) -> None:
        try:
            message, fds = client.channel.receive()
        except (OSError, ValueError):
            message, fds = None, []
        if message is None:
            close_all(fds)
            self._gone(client)
            return
        answer: Value | None
        try:
            answer = self._answer(client, message, fds)
        except LaunchError as error:
            answer = Failed(stage=error.stage, message=error.message, hint=error.hint, errno=error.errno)
        except Error as error:
            answer = Failed(stage="network", message=error.message, hint=error.hint)
        except Exception as error:  # one container's trouble must not take the others' networks along
            answer = Failed(stage="network", message=f"network process: {type(error).__name__}: {error}")
        finally:
            close_all(fds)
        if answer is None:
            return
        try:
            client.channel.send(answer)
        except OSError:
            self._gone(client)

    def _answer(self, client: Client, message: Value, fds: list[int]) -> Value | None:
        if isinstance(message, Join):
            self._join(client, message.plan, fds[0])
            return Joined()
        if isinstance(message, Connect) and client.plan is not None:
            (endpoint,) = (e for e in message.plan.endpoints if e.network.id == message.network_id)
            self._connect(client, endpoint, fds[0], replace=False)
            client.plan = message.plan.replace(endpoints=(*client.plan.endpoints, endpoint))
            self.names.put(client.plan)
            return Done()
        if isinstance(message, Disconnect) and client.plan is not None:
            self._disconnect(client, message.network_id)
            return Done()
        if isinstance(message, Refresh):
            self.names.change(message.network)
            return Done()
        if isinstance(message, Probe):
            if not self._awaited:
                return self._standing()
            self._waiting.append(client.channel)
            return None
        raise Error(f"the network process does not know what to do with {type(message).__name__}")

    def _join(self, client: Client, plan: BridgePlan, netns_fd: int) -> None:
        for other in tuple(self._clients.values()):  # an older connection of the same container is a dead one
            if other.plan is not None and other.plan.container_id == plan.container_id:
                self._leave(other)
        try:
            for endpoint in plan.endpoints:
                self._connect(client, endpoint, netns_fd, replace=True)
        except Exception:
            self._leave(client)
            raise
        finally:
            if plan.container_id in self._awaited:
                self._awaited.discard(plan.container_id)
                self._tell_waiting()
        client.plan = plan
        self.names.put(plan)

    def _connect(self, client: Client, endpoint: Endpoint, netns_fd: int, *, replace: bool) -> None:
        network = endpoint.network
        if network.id in client.outer:
            raise Error(f"the container is on network {network.name} already")
        outer = self.bridges.attach(endpoint, netns_fd, len(client.outer), replace=replace)
        client.outer[network.id] = outer
        try:
            self.names.listen(network)
        except OSError as error:
            del client.outer[network.id]
            self._detach([(network.id, outer)])
            raise LaunchError("network", f"network {network.name}: name server: {error.strerror}") from error

    def _disconnect(self, client: Client, network_id: str) -> None:
        outer = client.outer.pop(network_id, None)
        if outer is None:
            raise Error("the container is not on this network")
        assert client.plan is not None
        kept = tuple(e for e in client.plan.endpoints if e.network.id != network_id)
        client.plan = client.plan.replace(endpoints=kept)
        self.names.put(client.plan)
        self._detach([(network_id, outer)])

    def _detach(self, ends: list[tuple[str, str]]) -> None:
        self.bridges.detach(ends)
        for network_id in {network_id for network_id, _outer in ends}:
            if not self.bridges.has(network_id):
                self.names.silence(network_id)

    def _leave(self, client: Client) -> None:
        if client.plan is not None:
            self.names.drop(client.plan.container_id)
            client.plan = None
        outer, client.outer = client.outer, {}
        if outer and not self._leaving:
            self.loop.after(0, self._detach_leaving)  # with those of all who end at the same time
        self._leaving.extend(outer.items())

    def _detach_leaving(self) -> None:
        ends, self._leaving = self._leaving, []
        try:
            self._detach(ends)
        except Exception:  # what cannot be taken away stays, rather than that all containers are cut off
            sys.excepthook(*sys.exc_info())

    def _gone(self, client: Client) -> None:
        number = client.channel.fileno()
        self.loop.forget(number)
        self._clients.pop(number, None)
        client.channel.close()
        self._leave(client)
        self._end_if_alone()

    # -- the end, and a new beginning -----------------------------------------------------------

    def _end_if_alone(self) -> None:
        if self._clients or self._awaited:
            return
        start = os.open(f"{self._directory}/{START_FILE}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(start, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(start)
            self.loop.after(_RETRY_NS, self._end_if_alone)  # somebody is about to connect
            return
        # Whoever starts one holds that lock until it is connected: nobody can come now who has not.
        os.set_blocking(self._listener, False)
        try:
            late = accept(self._listener)
        except OSError:
            os.unlink(f"{self._directory}/{SOCKET_NAME}")
            os.unlink(f"{self._directory}/{userns.SUPERVISOR_FILE}")
            os._exit(0)
        os.close(start)
        self._add(late)

    def _call_back(self) -> None:
        """After a predecessor was killed: have the containers that it served connect again."""
        for name in os.listdir(self._root):
            directory = f"{self._root}/{name}"
            if not os.path.exists(f"{directory}/{MARKER}"):
                continue
            fd = userns.open_supervisor(directory)
            if fd is None:
                continue
            os.close(fd)
            try:
                channel = connect_unix(directory, CONTAINER_SOCKET)
                channel.send(Rejoin())
            except OSError:
                continue  # it has just ended
            channel.close()
            self._awaited.add(name)
        if self._awaited:
            self.loop.after(_REJOIN_S * 10**9, self._stop_waiting)

    def _tell_waiting(self) -> None:
        if self._awaited:
            return
        waiting, self._waiting = self._waiting, []
        for channel in waiting:
            try:
                channel.send(self._standing())
            except OSError:
                continue  # its end comes to the loop

    def _stop_waiting(self) -> None:
        self._awaited.clear()
        self._tell_waiting()
        self._end_if_alone()


def _begin_scope(name: str, pids: list[int]) -> Callable[[], None]:
    """Ask for a scope of its own: this process serves other containers than the one that it was started with, and must
    not end with that one's service or login.  The returned function waits for it; without a manager it stays here."""
    if not name:
        return lambda: None
    from rootless import dbus, systemd  # only with a systemd manager

    uid = userns.host_uid()
    try:
        pending = systemd.start_scope_begin(
            name,
            pids,
            dbus.manager_sockets(os.environ, uid),
            uid,
            slice_name="user.slice",
            description="pyctl's user-defined networks",
        )
    except dbus.BusError:
        return lambda: None

    def finish() -> None:
        try:
            systemd.start_scope_finish(pending)
        except dbus.BusError:
            return
        pending.connection.close()

    return finish


def _write_sysctls() -> None:
    for name, value in _SYSCTLS:
        path = f"/proc/sys/net/{name}"
        try:
            write_file(path, value.encode())
        except OSError as error:
            if name.startswith("ipv6"):
                continue  # a kernel without IPv6
            raise LaunchError("network", f"cannot set net.{name.replace('/', '.')}: {error.strerror}") from error
    for name in _BRIDGE_SYSCTLS:
        if os.path.exists(f"/proc/sys/net/bridge/{name}"):
            write_file(f"/proc/sys/net/bridge/{name}", b"0")


if __name__ == "__main__":
    main(sys.argv[1:])
