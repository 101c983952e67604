"""TCP connections, moved by splice(2): a socket to a pipe, the pipe to the other socket; no byte is copied.

Weight: `_socket`, `rootless.clients`, `rootless.pipes`, `rootless.loop`, `rootless.libc`.

Edge-triggered (epoll(7)): each socket is registered once, and what it is ready for is remembered.  A connection has a
pipe only while data is on its way, so an idle one costs two descriptors.
"""

from __future__ import annotations

import _socket

from rootless.host_ports import TCP_CONGESTION
from rootless.loop import READ, WRITE
from rootless.pipes import Pipes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.clients import Clients, Target
    from rootless.loop import Loop
    from rootless.pipes import Buffer, Pipe

_ERROR, _HANG_UP, _PEER_ENDED, _EDGE = 0x8, 0x10, 0x2000, 1 << 31  # EPOLLERR, EPOLLHUP, EPOLLRDHUP, EPOLLET
_EVENTS = READ | WRITE | _PEER_ENDED | _EDGE
_EAGAIN, _EINPROGRESS = 11, 115

_TURN_BYTES = 4 << 20  # of one direction, before the other connections have their turn
_ACCEPTS = 64  # of one listener in a row
_FDS_OF_A_LINK = 6  # two sockets, and two pipes in the worst case
_FDS_OF_OTHERS = 64
_RETRY_NS = 100_000_000
_RESET = b"\1\0\0\0\0\0\0\0"  # struct linger: on, for 0 s (socket(7)): close sends a reset


class Traffic:
    """What all connections of a forwarder share: loop, clients, pipes, and the bound on descriptors."""

    def __init__(self, loop: Loop, clients: Clients, max_fds: int, paced: bytes = b"") -> None:
        self.loop = loop
        self.paced = paced  # of clients from elsewhere
        self.clients = clients
        self.pipes = Pipes(loop)
        self.room = max(1, (max_fds - _FDS_OF_OTHERS) // _FDS_OF_A_LINK)  # further connections
        self._waiting: list[TcpPort] = []
        self._gone: list[_socket.socket] = []

    def close_later(self, sock: _socket.socket) -> None:
        """When all events of this round are seen: one of them may be of this number, and not of its next owner."""
        self.loop.release(sock.fileno())
        if not self._gone:
            self.loop.after(0, self._close_all)
        self._gone.append(sock)

    def _close_all(self) -> None:
        gone, self._gone = self._gone, []
        for sock in gone:
            sock.close()

    def left(self) -> None:
        """One connection less."""
        self.room += 1
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for port in waiting:
                port.resume()

    def wait_for_room(self, port: TcpPort, retry: bool) -> None:
        """`port` accepts again when a connection has ended; retry: or soon, the shortage is not of our making."""
        self._waiting.append(port)
        if retry:
            self.loop.after(_RETRY_NS, port.resume)


class TcpPort:
    """One listening socket of the host, and the port of the container that it stands for."""

    def __init__(self, traffic: Traffic, listener: _socket.socket, port: int) -> None:
        self.traffic = traffic
        self.port = port
        self._listener = listener
        self._family = listener.family
        self.resume()

    def resume(self) -> None:
        """Accept connections."""
        self.traffic.loop.watch(self._listener.fileno(), READ, self._accept)

    def _accept(self, _events: int) -> None:
        traffic = self.traffic
        for _ in range(_ACCEPTS):
            if not traffic.room:
                # Clients wait in the listener's queue.
                traffic.loop.watch(self._listener.fileno(), 0, self._accept)
                traffic.wait_for_room(self, retry=False)
                return
            try:
                fd, peer = self._listener._accept()  # type: ignore[attr-defined]  # accept() of the C type
            except OSError as error:
                if error.errno not in (_EAGAIN, 103):  # ECONNABORTED: it left while it waited
                    traffic.loop.watch(self._listener.fileno(), 0, self._accept)
                    traffic.wait_for_room(self, retry=True)
                return
            client = _socket.socket(self._family, _socket.SOCK_STREAM, 0, fileno=fd)
            client.setblocking(False)
            if traffic.paced:
                _set_pace(client, peer[0], traffic.paced)
            traffic.room -= 1
            Link(self, client, peer[0], peer[1]).connect()


def _set_pace(client: _socket.socket, address: str, congestion: bytes) -> None:
    """Clients from elsewhere get what the host's administrator has chosen for the network."""
    try:
        if not address.startswith("127.") and client.getsockname()[0] != address:
            client.setsockopt(_socket.IPPROTO_TCP, TCP_CONGESTION, congestion)
    except OSError:
        return  # it has gone already


class _End:
    """One of a connection's two sockets, and what stands at its way to the other one."""

    __slots__ = ("busy", "ended", "fd", "held", "link", "other", "pipe", "readable", "socket", "writable")

    other: _End

    def __init__(self, link: Link, sock: _socket.socket) -> None:
        self.link = link
        self.socket = sock
        self.fd = sock.fileno()
        self.readable = False
        self.writable = True  # until the kernel says otherwise
        self.ended = False  # the peer sends no more, and all of it has been passed on
        self.pipe: Pipe | Buffer | None = None
        self.held = 0  # bytes in the pipe
        self.busy = False  # so much comes that a large pipe pays

    def on_events(self, events: int) -> None:
        link = self.link
        if not link.connected:
            link.on_connected(events)
            return
        if events & _ERROR:
            link.reset()
            return
        if events & (READ | _PEER_ENDED | _HANG_UP):
            self.readable = True
        if events & (WRITE | _HANG_UP):
            self.writable = True
        link.move_both()


class Link:
    """A client's connection and the one that goes on into the container."""

    __slots__ = ("_client", "_inner", "_peer", "_port", "_targets", "connected")

    def __init__(self, port: TcpPort, client: _socket.socket, address: str, client_port: int) -> None:
        self._port = port
        self._peer = client_port
        self.connected = False
        self._client = _End(self, client)
        self._inner: _End | None = None
        self._targets = port.traffic.clients.targets(client.family, address)

    def connect(self) -> None:
        """To the next of the container's addresses; where there is none, the client is reset."""
        traffic = self._port.traffic
        while self._targets:
            target = self._targets.pop(0)
            sock = self._try(target, self._peer if target.own_family else 0)
            if sock is None and target.own_family:
                # The client's own port may belong to a connection of its that is still ending (TIME_WAIT, tcp(7)).
                sock = self._try(target, 0)
            if sock is not None:
                self._inner = inner = _End(self, sock)
                traffic.loop.watch(inner.fd, _EVENTS, inner.on_events)
                return
        self.reset()

    def _try(self, target: Target, client_port: int) -> _socket.socket | None:
        try:
            sock = self._port.traffic.clients.socket(_socket.SOCK_STREAM, target, client_port)
        except OSError:
            return None
        try:
            sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            if sock.connect_ex((target.address, self._port.port)) in (0, _EINPROGRESS):
                return sock
        except OSError:
            pass
        sock.close()
        return None

    def on_connected(self, events: int) -> None:
        """The connection into the container is there, or refused."""
        inner, client = self._inner, self._client
        assert inner is not None
        if events & _ERROR:
            # Nobody listens there; the container's address of the other IP version may be served.
            self._inner = None
            self._port.traffic.close_later(inner.socket)
            self.connect()
            return
        self.connected = True
        inner.other, client.other = client, inner
        inner.readable = bool(events & READ)
        client.readable = True  # most clients speak first
        self._port.traffic.loop.watch(client.fd, _EVENTS, client.on_events)
        self.move_both()

    def move_both(self) -> None:
        """As much as goes, both ways."""
        inner = self._inner
        alive = inner is not None and self._move(self._client) and self._move(inner)
        if alive and inner is not None and inner.ended and self._client.ended:
            self._leave()

    def _move(self, source: _End) -> bool:
        """From this end to the other.  False: the connection has been reset."""
        target, moved = source.other, 0
        while not source.ended:
            if source.held:
                if not target.writable:
                    return True
                assert source.pipe is not None
                count = source.pipe.drain(target.fd, source.held)
                if count > 0:
                    source.held -= count
                    moved += count
                    if source.busy and not source.held and not source.pipe.is_large:
                        self._port.traffic.pipes.give(source.pipe, 0)
                        source.pipe = None
                elif count == -_EAGAIN:
                    target.writable = False
                else:
                    self.reset()
                    return False
            elif not source.readable:
                break
            elif moved >= _TURN_BYTES:
                self._port.traffic.loop.after(0, self.move_both)
                return True
            elif not self._fill(source):
                self.reset()
                return False
        if source.pipe is not None:
            self._port.traffic.pipes.give(source.pipe, source.held)
            source.pipe = None
        return True

    def _fill(self, source: _End) -> bool:
        """What has arrived goes into the pipe, or the end is passed on.  False: the connection is broken."""
        pipe = source.pipe
        if pipe is None:
            try:
                source.pipe = pipe = self._port.traffic.pipes.take(source.busy)
            except OSError:
                return False
        count = pipe.fill(source.fd)
        if count > 0:
            source.held = count
            source.busy = count >= pipe.much
        elif count == 0:
            source.ended = True
            try:
                source.other.socket.shutdown(_socket.SHUT_WR)
            except OSError:
                return False
        elif count == -_EAGAIN:
            source.readable = False
        else:
            return False
        return True

    def reset(self) -> None:
        """Both ends hear that the connection is broken."""
        for end in (self._client, self._inner):
            if end is not None and end.socket.fileno() >= 0:
                try:
                    end.socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _RESET)
                except OSError:
                    continue
        self._leave()

    def _leave(self) -> None:
        traffic = self._port.traffic
        for end in (self._client, self._inner):
            if end is None:
                continue
            if end.pipe is not None:
                traffic.pipes.give(end.pipe, end.held)
                end.pipe = None
            traffic.close_later(end.socket)
        self._inner = None
        traffic.left()
