"""Three network namespaces: a host, a machine on its network, and a container's, with the forwarder between them.

To be made by uid 0 of a user namespace (tests.support.mapped); sockets are made where `inside` says.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from rootless import forwarder, netns
from rootless.host_ports import open_port
from rootless.libc import CLONE_NEWNET, setns
from rootless.plan import PortForward

HOST, LAN, CONTAINER = "host", "lan", "container"
HOST4, LAN4, CONTAINER4, GATEWAY4 = "192.0.2.1", "192.0.2.7", "10.0.2.100", "10.0.2.2"
HOST6, LAN6, CONTAINER6, GATEWAY6 = "2001:db8::1", "2001:db8::7", "fd00::64", "fd00::2"
SECOND4 = "192.0.2.2"  # of the host too
TIMEOUT_S = 20
_F_GETPIPE_SZ = 1032  # linux/fcntl.h


class World:
    """`publish` starts the forwarder; `close` ends it."""

    def __init__(self) -> None:
        self.namespaces: dict[str, int] = {}
        for name in (CONTAINER, LAN, HOST):  # this process ends up in the last
            netns.make_private()
            netns.skip_duplicate_detection()
            self.namespaces[name] = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        lan = f"/proc/{os.getpid()}/fd/{self.namespaces[LAN]}"
        ip("link", "add", "host0", "type", "veth", "peer", "name", "lan0", "netns", lan)
        add("host0", f"{HOST4}/24", f"{SECOND4}/24", f"{HOST6}/64")
        with self.inside(LAN):
            add("lan0", f"{LAN4}/24", f"{LAN6}/64")
        with self.inside(CONTAINER):
            ip("link", "add", "tap0", "type", "veth", "peer", "name", "nowhere")
            add("nowhere")
            add("tap0", f"{CONTAINER4}/24", f"{CONTAINER6}/64")
            ip("route", "add", "default", "via", GATEWAY4)
            ip("-6", "route", "add", "default", "via", GATEWAY6)
        self.pid = 0

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Sockets that are made now belong there."""
        setns(self.namespaces[name], CLONE_NEWNET)
        try:
            yield
        finally:
            setns(self.namespaces[HOST], CLONE_NEWNET)

    def publish(self, *ports: PortForward, max_fds: int = 0, told: bool = True, paced: bytes = b"") -> int:
        """Starts the forwarder; returns its pid.  told: who the host is, as the engine does for slirp4netns."""
        services = [forwarder.Service(open_port(p, paced), p.container_port, p.protocol) for p in ports]
        with self.inside(CONTAINER):
            forwarder.prepare(services)
            if max_fds:
                resource.setrlimit(resource.RLIMIT_NOFILE, (max_fds, max_fds))
            self.pid = forwarder.start(services, *((GATEWAY4, GATEWAY6) if told else ("", "")), paced=paced)
        for service in services:
            service.socket.close()
        return self.pid

    def listen(self, port: int = 80, address: str = "::") -> socket.socket:
        """A TCP server in the container, of both IP versions unless the address says otherwise."""
        with self.inside(CONTAINER):
            both = address == "::"
            made = socket.create_server(
                (address, port), family=socket.AF_INET6 if both else family(address), dualstack_ipv6=both, backlog=2048
            )
        made.settimeout(TIMEOUT_S)
        return made

    def datagrams(self, port: int = 53, address: str = "::") -> socket.socket:
        """A UDP server in the container, of both IP versions unless the address says otherwise."""
        with self.inside(CONTAINER):
            made = socket.socket(family(address), socket.SOCK_DGRAM)
        if address == "::":
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind((address, port))
        made.settimeout(TIMEOUT_S)
        return made

    def client(
        self, to: str, port: int, place: str = LAN, kind: int = socket.SOCK_STREAM, source: str = ""
    ) -> socket.socket:
        """A connected client."""
        with self.inside(place):
            made = socket.socket(family(to), kind)
        made.settimeout(TIMEOUT_S)
        if source:
            made.bind((source, 0))
        made.connect((to, port))
        return made

    def descriptors(self) -> int:
        """How many the forwarder has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def pipe_sizes(self) -> set[int]:
        """Of the forwarder's pipes."""
        sizes = set()
        for name in os.listdir(f"/proc/{self.pid}/fd"):
            path = f"/proc/{self.pid}/fd/{name}"
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                if os.readlink(path).startswith("pipe:"):
                    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                    sizes.add(fcntl.fcntl(fd, _F_GETPIPE_SZ))
                    os.close(fd)
        return sizes

    def close(self) -> None:
        """The forwarder must still be there: it never ends by itself."""
        if self.pid:
            assert os.waitpid(self.pid, os.WNOHANG) == (0, 0), "the forwarder has ended"
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        for fd in self.namespaces.values():
            os.close(fd)


def family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def seen(peer: tuple[object, ...]) -> str:
    """A peer's address; a server of both IP versions gets IPv4 ones in IPv6's form."""
    return str(peer[0]).removeprefix("::ffff:")


def read_all(link: socket.socket) -> bytes:
    parts = []
    while part := link.recv(1 << 20):
        parts.append(part)
    return b"".join(parts)


def ip(*args: str) -> str:
    return subprocess.run(["ip", *args], check=True, stdout=subprocess.PIPE, text=True).stdout


def add(device: str, *addresses: str) -> None:
    ip("link", "set", device, "up")
    for address in addresses:
        ip("address", "add", address, "dev", device, *(("nodad",) if ":" in address else ()))


def tcp(host_port: int = 8080, container_port: int = 80, host_ip: str = "0.0.0.0") -> PortForward:
    return PortForward(host_ip=host_ip, host_port=host_port, container_port=container_port)


def udp(host_port: int = 5353, container_port: int = 53, host_ip: str = "0.0.0.0") -> PortForward:
    return PortForward(host_ip=host_ip, host_port=host_port, container_port=container_port, protocol="udp")
