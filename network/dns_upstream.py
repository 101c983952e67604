"""What the name server asks of others: through which sockets, whom, and for whom.

Weight: `network.hosts`.  In the network process alone.
"""

from __future__ import annotations

import _socket
import os

from network import facts
from network.hosts import parse_resolv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from network.dns_wire import Question

PORT = 53


def connect(server: str, kind: int) -> _socket.socket:
    """A non-blocking socket on its way to the server's port 53.  Raises OSError."""
    family = _socket.AF_INET6 if ":" in server else _socket.AF_INET
    made = _socket.socket(family, kind | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    try:
        made.connect((server, PORT))
    except BlockingIOError:
        pass
    except OSError:
        made.close()
        raise
    return made


class Resolvers:
    """The host's name servers, as /etc/resolv.conf names them now."""

    def __init__(self, path: str = "/etc/resolv.conf") -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._servers: tuple[str, ...] = ()

    def current(self) -> tuple[str, ...]:
        """Addresses, without those that have a zone."""
        try:
            stat = os.stat(self._path)
        except OSError:
            return self._servers
        stamp = (stat.st_ino, stat.st_mtime_ns)
        if stamp != self._stamp:
            self._stamp = stamp
            # Without any, resolv.conf(5) means the server on this machine.
            listed = parse_resolv(facts.read_text(self._path)).nameservers or ("127.0.0.1",)
            self._servers = tuple(server for server in listed if "%" not in server)
        return self._servers


class Errand:
    """A question that others are asked.  `reply` gets their answer, with the number that the client knows."""

    __slots__ = ("buffer", "due_s", "query", "question", "reply", "servers", "socket", "source", "stream")

    def __init__(
        self,
        packet: bytes,
        question: Question,
        servers: tuple[str, ...],
        source: str,
        stream: bool,
        reply: Callable[[bytes], None],
    ) -> None:
        # A number of its own: whoever guesses answers must guess it and the port.
        self.query = os.urandom(2) + packet[2:]
        self.question = question
        self.servers = list(servers)
        self.source = source
        self.stream = stream
        self.reply = reply
        self.socket: _socket.socket | None = None
        self.buffer = b""
        self.due_s = 0.0
