"""The name server of all user-defined networks, on the address of each bridge: UDP and TCP.

Weight: `network.dns_names`, `network.dns_upstream`.  In the network process alone, in a thread (`network.dns_thread`).

Names of containers are answered here (`network.dns_names`), all others asked of the host's name servers, or of those
that the container or the network names.  See `network.dns_upstream` for how.
"""

from __future__ import annotations

import _socket
import sys
import time

from network import dns_wire
from network.dns_names import Names
from network.dns_upstream import PORT, Errand, Resolvers, connect
from network.dns_wire import Malformed
from rootless.loop import GONE, READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from rootless.loop import Loop
    from rootless.netplan import NetworkConfig

# Questions asked of others at a time, and connections; what is more is dropped, and its client asks again.  No
# container may take them all.
_MAX_PENDING, _MAX_PENDING_OF_ONE = 1024, 256
_MAX_STREAMS, _MAX_STREAMS_OF_ONE = 256, 32
_PATIENCE_S = 2.5  # for one server's answer
_STREAM_IDLE_S = 10.0
_SWEEP_NS = 250_000_000
_MAX_TOLD, _MAX_KEPT_BYTES = 1024, 512  # answers kept, and the longest question to one


def listeners(network: NetworkConfig) -> list[tuple[_socket.socket, int]]:
    """(socket, kind) of each, on a network's bridge, in whose network namespace the caller is.  Raises OSError."""
    found: list[tuple[_socket.socket, int]] = []
    try:
        for subnet in network.subnets:
            if not subnet.gateway:
                continue
            family = _socket.AF_INET6 if ":" in subnet.gateway else _socket.AF_INET
            for kind in (_socket.SOCK_DGRAM, _socket.SOCK_STREAM):
                made = _socket.socket(family, kind | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
                found.append((made, kind))
                made.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
                made.bind((subnet.gateway, PORT))
                if kind == _socket.SOCK_STREAM:
                    made.listen(64)
    except OSError:
        for made, _kind in found:
            made.close()
        raise
    return found


class Stream:
    """A client's TCP connection."""

    __slots__ = ("buffer", "busy", "due_s", "out", "serving", "socket", "source")

    def __init__(self, link: _socket.socket, source: str) -> None:
        self.socket = link
        self.source = source
        self.buffer = b""
        self.out = b""
        self.busy = False  # a question is not answered yet
        self.serving = False  # `_next_query` is at work
        self.due_s = time.monotonic() + _STREAM_IDLE_S


class NameServer:
    """Serves on a loop; other servers are asked through the network that the loop's thread is in."""

    def __init__(self, loop: Loop, resolvers: Resolvers | None = None) -> None:
        self.names = Names()
        self._loop = loop
        self._resolvers = resolvers or Resolvers()
        self._listening: dict[str, list[_socket.socket]] = {}
        self._errands: dict[int, Errand] = {}
        self._streams: dict[int, Stream] = {}
        self._sweeping = False
        # (who asks, question without its number) → answer without it: what was told since the names last changed.
        # Programs ask the same again and again, and to make an answer takes three times as long as all else.
        self._told: dict[tuple[str, bytes], bytes] = {}
        self._told_version = 0

    # -- where ----------------------------------------------------------------------------------

    def serve(self, network_id: str, sockets: Sequence[tuple[_socket.socket, int]]) -> None:
        """Serve on a network's bridge, through what `listeners` made."""
        held = self._listening[network_id] = []
        for made, kind in sockets:
            held.append(made)
            self._serve(made, kind)

    def _serve(self, made: _socket.socket, kind: int) -> None:
        if kind == _socket.SOCK_STREAM:
            self._loop.watch(made.fileno(), READ, lambda _events: self._accept(made))
        else:
            self._loop.watch(made.fileno(), READ, lambda _events: self._datagram(made))

    def silence(self, network_id: str) -> None:
        """A network's bridge has gone."""
        for made in self._listening.pop(network_id, ()):
            self._loop.forget(made.fileno())
            made.close()
        self.names.forget(network_id)

    # -- UDP ------------------------------------------------------------------------------------

    def _datagram(self, made: _socket.socket) -> None:
        # One at a time: to hear that there is no other (EAGAIN) would cost more than to be called again.
        try:
            packet, address = made.recvfrom(dns_wire.MAX_MESSAGE)
        except OSError:
            return  # what an earlier answer met: its client has gone
        if self._told_version == self.names.version:
            known = self._told.get((address[0], packet[2:]))
            if known is not None:
                _send(made, packet[:2] + known, address)
                return
        self._question(packet, _plain(address[0]), False, lambda data: _send(made, data, address))

    def _question(self, packet: bytes, source: str, stream: bool, reply: Callable[[bytes], None]) -> None:
        try:
            self._consider(packet, source, stream, reply)
        except Exception:  # whatever a packet brings about must not take the other containers' networks along
            sys.excepthook(*sys.exc_info())
            if stream:
                reply(b"")

    def _consider(self, packet: bytes, source: str, stream: bool, reply: Callable[[bytes], None]) -> None:
        try:
            question = dns_wire.parse(packet)
        except Malformed as malformed:
            if malformed.reply or stream:
                reply(malformed.reply)
            return
        verdict = self.names.judge(source, question)
        if not verdict.forward:
            data = dns_wire.answer(packet, question, verdict.code, verdict.records, stream=stream)
            if not stream:
                self._keep(source, packet, data)
            reply(data)
            return
        if len(self._errands) >= _MAX_PENDING or self._pending(source) >= _MAX_PENDING_OF_ONE:
            if stream:
                reply(dns_wire.answer(packet, question, dns_wire.SERVFAIL, stream=True))
            return
        servers = verdict.servers or self._resolvers.current()
        self._next_server(Errand(packet, question, servers, source, stream, reply))

    def _keep(self, source: str, packet: bytes, data: bytes) -> None:
        if len(packet) > _MAX_KEPT_BYTES:
            return
        if self._told_version != self.names.version or len(self._told) >= _MAX_TOLD:
            self._told.clear()
            self._told_version = self.names.version
        self._told[source, packet[2:]] = data[2:]

    def _pending(self, source: str) -> int:
        if len(self._errands) < _MAX_PENDING_OF_ONE:
            return 0  # it cannot have that many
        return sum(errand.source == source for errand in self._errands.values())

    # -- asking others --------------------------------------------------------------------------

    def _next_server(self, errand: Errand) -> None:
        """Ask the next server; with none left, the client is told."""
        self._drop_errand(errand)
        kind = _socket.SOCK_STREAM if errand.stream else _socket.SOCK_DGRAM
        while errand.servers:
            server = errand.servers.pop(0)
            try:
                made = connect(server, kind)
            except OSError:
                continue
            errand.socket, errand.buffer = made, b""
            errand.due_s = time.monotonic() + _PATIENCE_S
            self._errands[made.fileno()] = errand
            if errand.stream:
                self._loop.watch(made.fileno(), WRITE, lambda _events: self._send_stream(errand))
            else:
                try:
                    made.send(errand.query)
                except OSError:
                    self._drop_errand(errand)
                    continue
                self._loop.watch(made.fileno(), READ, lambda _events: self._reply_datagram(errand))
            self._sweep_later()
            return
        self._finish(errand, b"")

    def _finish(self, errand: Errand, data: bytes) -> None:
        self._drop_errand(errand)
        question = errand.question
        number = question.id.to_bytes(2, "big")
        if not data:
            data = dns_wire.answer(errand.query, question, dns_wire.SERVFAIL, stream=True)
        errand.reply(number + data[2:])

    def _drop_errand(self, errand: Errand) -> None:
        made, errand.socket = errand.socket, None
        if made is not None:
            self._loop.forget(made.fileno())
            self._errands.pop(made.fileno(), None)
            made.close()

    def _reply_datagram(self, errand: Errand) -> None:
        assert errand.socket is not None
        try:
            data = errand.socket.recv(dns_wire.MAX_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            self._next_server(errand)  # nobody listens there
            return
        if dns_wire.is_answer_to(data, errand.query, errand.question.end):
            self._finish(errand, data)

    def _send_stream(self, errand: Errand) -> None:
        assert errand.socket is not None
        made = errand.socket
        try:
            made.send(len(errand.query).to_bytes(2, "big") + errand.query)  # fits any socket's buffer
        except OSError:
            self._next_server(errand)
            return
        self._loop.watch(made.fileno(), READ, lambda _events: self._reply_stream(errand))

    def _reply_stream(self, errand: Errand) -> None:
        assert errand.socket is not None
        try:
            data = errand.socket.recv(dns_wire.MAX_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._next_server(errand)
            return
        errand.buffer += data
        size = int.from_bytes(errand.buffer[:2], "big")
        if len(errand.buffer) < 2 or len(errand.buffer) < size + 2:
            return
        message = errand.buffer[2 : size + 2]
        if dns_wire.is_answer_to(message, errand.query, errand.question.end):
            self._finish(errand, message)
        else:
            self._next_server(errand)

    # -- TCP ------------------------------------------------------------------------------------

    def _accept(self, listener: _socket.socket) -> None:
        try:
            fd, address = listener._accept()  # type: ignore[attr-defined]  # accept() of the C type
        except OSError:
            return
        link = _socket.socket(fileno=fd)
        link.setblocking(False)
        stream = Stream(link, _plain(address[0]))
        of_one = sum(other.source == stream.source for other in self._streams.values())
        if len(self._streams) >= _MAX_STREAMS or of_one >= _MAX_STREAMS_OF_ONE:
            link.close()
            return
        self._streams[link.fileno()] = stream
        self._loop.watch(link.fileno(), READ, lambda events: self._stream_event(stream, events))
        self._sweep_later()

    def _stream_event(self, stream: Stream, events: int) -> None:
        if events & WRITE:
            if self._flush(stream):
                self._next_query(stream)
            return
        if events & (READ | GONE):
            try:
                data = stream.socket.recv(4096)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data or len(stream.buffer) > dns_wire.MAX_MESSAGE:
                self._end_stream(stream)
                return
            stream.buffer += data
            self._next_query(stream)

    def _next_query(self, stream: Stream) -> None:
        """Take whole queries, one after the other, while the client takes the answers."""
        if stream.serving:
            return  # an answer that was there at once: the loop below goes on
        stream.serving = True
        while not stream.busy and not stream.out and len(stream.buffer) >= 2:
            size = int.from_bytes(stream.buffer[:2], "big")
            if len(stream.buffer) < size + 2:
                break
            packet, stream.buffer = stream.buffer[2 : size + 2], stream.buffer[size + 2 :]
            stream.busy = True
            self._question(packet, stream.source, True, lambda data: self._stream_reply(stream, data))
        stream.serving = False

    def _stream_reply(self, stream: Stream, data: bytes) -> None:
        if self._streams.get(stream.socket.fileno()) is not stream:
            return  # it has gone
        if not data:
            self._end_stream(stream)
            return
        stream.busy = False
        stream.due_s = time.monotonic() + _STREAM_IDLE_S
        stream.out += len(data).to_bytes(2, "big") + data
        if self._flush(stream):
            self._next_query(stream)

    def _flush(self, stream: Stream) -> bool:
        """Write what there is; False where the connection has ended."""
        try:
            sent = stream.socket.send(stream.out) if stream.out else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self._end_stream(stream)
            return False
        stream.out = stream.out[sent:]
        # A client that does not read is not read from: else its answers would pile up here.
        events = WRITE if stream.out else READ
        self._loop.watch(stream.socket.fileno(), events, lambda got: self._stream_event(stream, got))
        return True

    def _end_stream(self, stream: Stream) -> None:
        number = stream.socket.fileno()
        if number >= 0:
            self._loop.forget(number)
            self._streams.pop(number, None)
            stream.socket.close()

    # -- time -----------------------------------------------------------------------------------

    def _sweep_later(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            self._loop.after(_SWEEP_NS, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = False
        now = time.monotonic()
        for errand in [e for e in self._errands.values() if e.due_s <= now]:
            self._next_server(errand)
        for stream in [s for s in self._streams.values() if s.due_s <= now and not s.busy]:
            self._end_stream(stream)
        if self._errands or self._streams:
            self._sweep_later()


def _send(made: _socket.socket, data: bytes, address: Any) -> None:
    try:
        made.sendto(data, address)
    except OSError:
        return  # gone, or not taking any more: it asks again


def _plain(address: str) -> str:
    return address.partition("%")[0]
