"""UDP from the host's loopback to a published port of a container, on the supervisor's loop.

Weight: `_socket`, `time`, `rootless.loop`.
slirp4netns takes such packets in, but drops the answers unless it may reach the whole of the host's loopback.  This
relay takes their place: on 127.0.0.1 its socket is the more specific one, all other clients stay slirp4netns's, with
their addresses kept.  The container sees its own address as the peer, never 127.0.0.1: services trust that.
"""

from __future__ import annotations

import _socket
import time

from rootless.loop import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.loop import Loop, Timer

_IDLE_NS = 60_000_000_000
_MAX_CLIENTS = 256
_BATCH = 64  # packets of one socket before the loop's other work has its turn
_PACKET = 65536


class _Flow:
    """One client's way into the container."""

    __slots__ = ("client", "link", "used_ns")

    def __init__(self, client: tuple[str, int], link: _socket.socket) -> None:
        self.client = client
        self.link = link
        self.used_ns = time.monotonic_ns()


class UdpRelay:
    """One port.  Made in the host's network namespace, started in the container's."""

    def __init__(self, host_ip: str, host_port: int, container_port: int) -> None:
        self._host = (host_ip, host_port)
        self._port = container_port
        self._target = ""
        self._loop: Loop | None = None
        self._flows: dict[tuple[str, int], _Flow] = {}
        self._timer: Timer | None = None
        self._socket = _datagram_socket()

    def start(self, loop: Loop, beside: bool) -> None:
        """Serve from now on.  beside: slirp4netns has the port on all addresses.  Raises OSError (bind)."""
        if beside:
            # slirp4netns marks its socket so, after having bound it: others may then take more specific addresses.
            self._socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        self._socket.bind(self._host)
        self._loop = loop
        loop.watch(self._socket.fileno(), READ, self._from_clients)

    def close(self) -> None:
        """Free the port, forget the clients."""
        if self._loop is not None and self._socket.fileno() >= 0:
            self._loop.forget(self._socket.fileno())
        if self._timer is not None:
            self._timer.cancel()
        for flow in tuple(self._flows.values()):
            self._drop(flow)
        self._socket.close()

    def _from_clients(self, _events: int) -> None:
        for _ in range(_BATCH):
            try:
                data, client = self._socket.recvfrom(_PACKET)
            except OSError:
                return  # nothing more for now
            flow = self._flows.get(client) or self._open(client)
            if flow is None:
                continue
            flow.used_ns = time.monotonic_ns()
            try:
                flow.link.send(data)
            except OSError:
                continue  # nobody listens there, or its buffer is full: UDP may lose it

    def _open(self, client: tuple[str, int]) -> _Flow | None:
        if len(self._flows) >= _MAX_CLIENTS:
            self._drop(min(self._flows.values(), key=lambda flow: flow.used_ns))
        link = _datagram_socket()
        try:
            if not self._target:
                # The address of the tap: where the route to anywhere begins.  Connecting sends nothing.
                link.connect(("203.0.113.1", 9))
                self._target = str(link.getsockname()[0])
            link.connect((self._target, self._port))
        except OSError:
            link.close()
            return None
        flow = _Flow(client, link)
        self._flows[client] = flow
        assert self._loop is not None
        self._loop.watch(link.fileno(), READ, lambda _events: self._from_container(flow))
        if self._timer is None:
            self._timer = self._loop.after(_IDLE_NS, self._sweep)
        return flow

    def _from_container(self, flow: _Flow) -> None:
        for _ in range(_BATCH):
            try:
                data = flow.link.recv(_PACKET)
            except OSError:
                return  # nothing more, or the port's "connection refused"
            flow.used_ns = time.monotonic_ns()
            try:
                self._socket.sendto(data, flow.client)
            except OSError:
                continue

    def _sweep(self) -> None:
        self._timer = None
        oldest_ns = time.monotonic_ns() - _IDLE_NS
        for flow in [f for f in self._flows.values() if f.used_ns <= oldest_ns]:
            self._drop(flow)
        if self._flows and self._loop is not None:
            self._timer = self._loop.after(_IDLE_NS, self._sweep)

    def _drop(self, flow: _Flow) -> None:
        del self._flows[flow.client]
        if self._loop is not None:
            self._loop.forget(flow.link.fileno())
        flow.link.close()


def _datagram_socket() -> _socket.socket:
    return _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
