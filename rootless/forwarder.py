"""Published ports: a process that takes connections in the host's network namespace and makes them in a container's.

Weight: `os`, `_socket`, `rootless.loop`; what forwards is imported in the new process.

A socket belongs to the namespace that it was made in, whoever holds it.  So the listening sockets are made before a
process enters (or makes) the container's namespace, and are handed to the forwarder as they are; all that the
forwarder itself makes is in the namespace that it was started in.  Clients keep their addresses (`rootless.clients`).
It connects to nothing but addresses of that namespace's own interfaces, and to no port but those it was given.

    services = [Service(listener, 80, "tcp"), …]         by rootless.host_ports.open_port, in the host's namespace
    (enter the container's namespace)
    forwarder.prepare(services)                          raises LaunchError: what the kernel lacks, before any start
    pid = forwarder.start(services)                      a child; it ends with a signal, or with its parent
    for service in services: service.socket.close()      the child has them

The container's addresses are looked up and watched: it may get and lose them (`network connect`) at any time.
It is a process and not a thread: so the supervisor's work on logs never waits for packets, nor does that wait for it,
and it has the descriptors to itself.  What it costs is memory, about 4 MB, so the supervisor starts it with the first
client (`rootless.publishing`).
"""

from __future__ import annotations

import os
import sys

from rootless import libc
from rootless.processes import HANDLED_SIGNALS, SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Sequence


class Service:
    """One published port: a socket of the host, and the port and protocol ("tcp" or "udp") in the container."""

    __slots__ = ("port", "protocol", "socket")

    def __init__(self, socket: _socket.socket, port: int, protocol: str) -> None:
        self.socket = socket
        self.port = port
        self.protocol = protocol


def prepare(services: Sequence[Service]) -> None:
    """Make the current network namespace answer to clients' addresses.  Raises LaunchError."""
    from rootless import clients

    clients.prepare(tuple(s.port for s in services if s.protocol == "udp"))


def start(services: Sequence[Service], host_ipv4: str = "", host_ipv6: str = "", paced: bytes = b"") -> int:
    """Fork the forwarder; returns its pid.  Only the sockets of `services` (and standard error) stay open in it.

    host_ipv4, host_ipv6: who clients appear as whose own address the container must not see (the host's loopback);
    "": the gateway of the container's default route.
    paced: the congestion control of clients from elsewhere, where it is not the sockets' (`rootless.host_ports`).
    """
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        libc.set_name("pyctl-ports")
        libc.prctl(libc.PR_SET_PDEATHSIG, SIGKILL)
        if os.getppid() not in (0, parent):
            os._exit(1)  # it has gone already
        _close_others({service.socket.fileno() for service in services})
        # SIGPIPE stays ignored: a client may leave at any time.  And so does, for as long as a container takes to
        # stop, what a service manager or a session that ends sends to every process.
        libc.block_signals(HANDLED_SIGNALS[1:])
        serve(services, host_ipv4, host_ipv6, paced)
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)  # seen with --log-level=debug
    finally:
        os._exit(1)


def _close_others(kept: set[int]) -> None:
    first = 3
    for fd in sorted(kept):
        if fd > first:
            libc.close_range(first, fd - 1)
        first = fd + 1
    libc.close_range(first)


def serve(services: Sequence[Service], host_ipv4: str = "", host_ipv6: str = "", paced: bytes = b"") -> None:
    """Forward for ever, in this process."""
    from rootless.clients import Clients
    from rootless.forward_tcp import TcpPort, Traffic
    from rootless.forward_udp import UdpPort
    from rootless.loop import READ, Loop

    loop = Loop()
    max_fds = raise_descriptor_limit()
    clients = Clients(host_ipv4, host_ipv6)
    traffic = Traffic(loop, clients, max_fds, paced)
    udp_ports = []
    for service in services:
        if service.protocol == "udp":
            udp_ports.append(UdpPort(loop, clients, service.socket, service.port, max_fds))
        else:
            TcpPort(traffic, service.socket, service.port)

    def addresses_changed(_events: int) -> None:
        if clients.changed():
            for port in udp_ports:
                port.drop_all()

    loop.watch(clients.fileno(), READ, addresses_changed)
    loop.run()


def raise_descriptor_limit() -> int:
    """To what is allowed; returns it."""
    import resource  # C

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        return soft  # more than fs.nr_open
    return hard if hard != resource.RLIM_INFINITY else soft
