"""UDP: one socket in the container's namespace for each client, so that the container sees who asks.

Weight: `_socket`, `_struct` (C), `time`, `rootless.clients`, `rootless.loop`.
"""

from __future__ import annotations

import _socket
import _struct
import time

from rootless.loop import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.clients import Clients, Target
    from rootless.loop import Loop, Timer

    Ancillary = list[tuple[int, int, bytes]]

_IDLE_NS = 120_000_000_000
_MAX_FLOWS = 4096  # then the one that has been quiet longest makes room
_BATCH = 64  # packets of one socket, before the others have their turn
_PACKET_BYTES = 65536
_CONTROL_BYTES = 64

_IP_PKTINFO, _IPV6_PKTINFO = 8, 50  # linux/in.h, linux/in6.h


class _Flow:
    """One client's way into the container."""

    __slots__ = ("asked", "client", "first", "key", "link", "target", "targets", "used_ns")

    link: _socket.socket
    target: Target

    def __init__(self, key: object, client: Any, asked: Ancillary, targets: list[Target]) -> None:
        self.key = key
        self.client = client
        self.asked = asked  # the host's address that it wrote to: answers leave from there
        self.targets = targets  # those that were not tried
        self.first = b""  # its last packet, until there is an answer
        self.used_ns = 0


class UdpPort:
    """One bound socket of the host, and the port of the container that it stands for."""

    def __init__(self, loop: Loop, clients: Clients, sock: _socket.socket, port: int, max_fds: int) -> None:
        self._loop = loop
        self._clients = clients
        self._socket = sock
        self._port = port
        self._max_flows = max(1, min(_MAX_FLOWS, max_fds // 4))
        self._flows: dict[object, _Flow] = {}  # the one that was used last is the last
        self._timer: Timer | None = None
        self._packet = bytearray(_PACKET_BYTES)
        loop.watch(sock.fileno(), READ, self._from_clients)

    def _from_clients(self, _events: int) -> None:
        packet = self._packet
        for _ in range(_BATCH):
            try:
                size, asked, _flags, client = self._socket.recvmsg_into([packet], _CONTROL_BYTES)
            except OSError:
                return  # nothing more for now
            key = client, asked[0][2] if asked else b""
            flow = self._flows.pop(key, None) or self._open(key, client, asked)
            if flow is None:
                continue
            self._flows[key] = flow
            flow.used_ns = time.monotonic_ns()
            if flow.targets:
                flow.first = bytes(packet[:size])
            self._pass(flow, memoryview(packet)[:size])

    def _open(self, key: object, client: Any, asked: Ancillary) -> _Flow | None:
        if len(self._flows) >= self._max_flows:
            self._drop(next(iter(self._flows.values())))
        flow = _Flow(key, client, _answer_from(asked), self._clients.targets(self._socket.family, client[0]))
        if not self._next_target(flow):
            return None
        if self._timer is None:
            self._timer = self._loop.after(_IDLE_NS, self._sweep)
        return flow

    def _next_target(self, flow: _Flow) -> bool:
        """Open the way to the next of the container's addresses; False: there is none."""
        while flow.targets:
            target = flow.targets.pop(0)
            for number in (flow.client[1], 0):
                link = self._connect(target, number)
                if link is not None:
                    flow.link, flow.target = link, target
                    self._loop.watch(link.fileno(), READ, lambda _events: self._from_container(flow))
                    return True
        return False

    def _pass(self, flow: _Flow, packet: bytes | memoryview) -> None:
        try:
            flow.link.send(packet)
        except ConnectionRefusedError:
            self._refused(flow)
        except OSError:
            return  # its buffer is full: UDP may lose it

    def _refused(self, flow: _Flow) -> None:
        """Nobody listens there; the container's address of the other IP version may be served."""
        if not flow.first:
            return
        packet, flow.first = flow.first, b""
        self._close(flow)
        if self._next_target(flow):
            self._pass(flow, packet)
        else:
            del self._flows[flow.key]

    def _connect(self, target: Target, client_port: int) -> _socket.socket | None:
        try:
            link = self._clients.socket(_socket.SOCK_DGRAM, target, client_port)
        except OSError:
            return None
        try:
            link.connect((target.address, self._port))
            self._clients.serve(target)
        except OSError:
            link.close()
            return None
        return link

    def _from_container(self, flow: _Flow) -> None:
        packet = self._packet
        for _ in range(_BATCH):
            try:
                size = flow.link.recv_into(packet)
            except ConnectionRefusedError:
                self._refused(flow)
                return
            except OSError:
                break  # nothing more
            if flow.targets:
                flow.targets, flow.first = [], b""  # somebody is there
            try:
                self._socket.sendmsg([memoryview(packet)[:size]], flow.asked, 0, flow.client)
            except OSError:
                continue  # its buffer is full, or the client's network has gone
        flow.used_ns = time.monotonic_ns()
        self._flows[flow.key] = self._flows.pop(flow.key)

    def drop_all(self) -> None:
        """Forget every client: the container has another address."""
        for flow in tuple(self._flows.values()):
            self._drop(flow)

    def _sweep(self) -> None:
        self._timer = None
        oldest_ns = time.monotonic_ns() - _IDLE_NS
        for flow in [f for f in self._flows.values() if f.used_ns <= oldest_ns]:
            self._drop(flow)
        if self._flows:
            self._timer = self._loop.after(_IDLE_NS, self._sweep)

    def _drop(self, flow: _Flow) -> None:
        del self._flows[flow.key]
        self._close(flow)

    def _close(self, flow: _Flow) -> None:
        self._loop.forget(flow.link.fileno())
        flow.link.close()
        self._clients.leave(flow.target)


def _answer_from(asked: Ancillary) -> Ancillary:
    """Control data for an answer to what came with this (ip(7), IP_PKTINFO; ipv6(7))."""
    for level, kind, data in asked:
        if (level, kind) == (_socket.IPPROTO_IP, _IP_PKTINFO):
            _index, local, _destination = _struct.unpack("=I4s4s", data)
            return [(level, kind, _struct.pack("=I4s4s", 0, local, bytes(4)))]
        if (level, kind) == (_socket.IPPROTO_IPV6, _IPV6_PKTINFO):
            return [(level, kind, data)]  # with its interface: an address of a link means nothing without
    return []
