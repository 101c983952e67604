"""File descriptors with one owner, and messages that carry them.

Weight: `_socket` (C) and `rootless.values`.  A SEQPACKET socket keeps message borders, so a message is one
packet of JSON, with descriptors beside it (SCM_RIGHTS, unix(7)).
"""

from __future__ import annotations

import _socket
import os

from rootless.values import Value, decode, dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_SOL_SOCKET, _SCM_RIGHTS = _socket.SOL_SOCKET, _socket.SCM_RIGHTS
_MAX_FDS = 64
# One packet holds at most what the socket's send buffer does (net.core.wmem_default is 208 KiB and is counted
# with the kernel's overhead); what is longer travels in a sealed-size temporary file beside an empty packet.
_INLINE_BYTES = 64 * 1024


class Channel:
    """One end of a SEQPACKET connection that carries `Value`s and descriptors.  Owns its descriptor."""

    def __init__(self, fd: int) -> None:
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fileno=fd)

    def fileno(self) -> int:
        """The descriptor, to poll."""
        return self._socket.fileno()

    def send(self, message: Value, fds: Sequence[int] = ()) -> None:
        """Send one message; the descriptors stay the caller's to close.  Raises OSError (EPIPE: the peer is gone)."""
        body = dumps(message).encode("ascii")
        if len(body) > _INLINE_BYTES:
            spill = os.memfd_create("pyctl-message", os.MFD_CLOEXEC)
            try:
                os.write(spill, body)
                os.lseek(spill, 0, os.SEEK_SET)
                self._send_packet(b"", [spill, *fds])
            finally:
                os.close(spill)
        else:
            self._send_packet(body, list(fds))

    def _send_packet(self, body: bytes, fds: list[int]) -> None:
        ancillary = []
        if fds:
            import _struct

            ancillary = [(_SOL_SOCKET, _SCM_RIGHTS, _struct.pack(f"{len(fds)}i", *fds))]
        self._socket.sendmsg([body or b"\0"], ancillary, _socket.MSG_NOSIGNAL)

    def receive(self) -> tuple[Value | None, list[int]]:
        """The next message and its descriptors, which are the caller's from then on.  None: the peer has closed."""
        space = _socket.CMSG_SPACE(_MAX_FDS * 4)
        try:
            received = self._socket.recvmsg(_INLINE_BYTES + 1, space, _socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:  # see receive_packet
            received = self._socket.recvmsg(_INLINE_BYTES + 1, space, _socket.MSG_CMSG_CLOEXEC)
        packet, ancillary, flags, _ = received
        fds = _unpack_fds(ancillary)
        if not packet:
            return None, fds
        if flags & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC):
            close_all(fds)
            raise OSError(90, "message too long", "receive")
        if packet == b"\0":
            spill = fds.pop(0)
            try:
                packet = read_all(spill)
            finally:
                os.close(spill)
        return decode(packet), fds

    def send_stream(self, kind: bytes, data: bytes) -> None:
        """One stream packet: a byte of kind, then at most 64 KiB.  BlockingIOError: the peer does not keep up."""
        self._socket.sendmsg([kind, data], [], _socket.MSG_NOSIGNAL)

    def receive_packet(self) -> bytes:
        """One packet as it is, without descriptors (a stream packet, or a message to `decode`); b"": closed."""
        try:
            return self._socket.recv(_INLINE_BYTES + 1)
        except ConnectionResetError:
            # The peer has closed with packets of ours unread: the kernel tells that once, and before what it sent.
            return self._socket.recv(_INLINE_BYTES + 1)

    def set_blocking(self, blocking: bool) -> None:
        """O_NONBLOCK off or on."""
        self._socket.setblocking(blocking)

    def set_timeout(self, seconds: float | None) -> None:
        """Bound every following send and receive (TimeoutError)."""
        self._socket.settimeout(seconds)

    def close(self) -> None:
        """Close the descriptor; the peer sees the end."""
        self._socket.close()

    def detach(self) -> int:
        """Give the descriptor away."""
        return self._socket.detach()


def _unpack_fds(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds: list[int] = []
    for level, kind, data in ancillary:
        if level == _SOL_SOCKET and kind == _SCM_RIGHTS:
            import _struct

            fds += _struct.unpack(f"{len(data) // 4}i", data[: len(data) // 4 * 4])
    return fds


def seqpacket_pair() -> tuple[Channel, int]:
    """A connected pair: this process's channel, and the bare descriptor for the other one."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    return Channel(ours.detach()), theirs.detach()


def listen_unix(directory_fd: int, name: str, backlog: int = 64) -> int:
    """A listening SEQPACKET socket `name` in a directory.  By /proc/self/fd, because sun_path holds 107 bytes only."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC, 0)
    sock.bind(f"/proc/self/fd/{directory_fd}/{name}")
    sock.listen(backlog)
    return sock.detach()


def connect_unix(directory: str, name: str) -> Channel:
    """Connect to the socket `name` in `directory`.  Raises OSError (ENOENT, ECONNREFUSED: nobody serves it)."""
    directory_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC, 0)
        sock.connect(f"/proc/self/fd/{directory_fd}/{name}")
        return Channel(sock.detach())
    finally:
        os.close(directory_fd)


def accept(listener_fd: int) -> Channel:
    """Accept one connection of a non-blocking or ready listener."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fileno=os.dup(listener_fd))
    try:
        fd, _address = sock._accept()  # type: ignore[attr-defined]  # accept() of the C type
    finally:
        sock.close()
    return Channel(fd)


def read_all(fd: int, limit: int = 1 << 30) -> bytes:
    """Everything up to the end of file, at most `limit` bytes."""
    parts = []
    while limit > 0 and (part := os.read(fd, min(limit, 1 << 20))):
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)


def read_file(path: str, dir_fd: int | None = None, limit: int = 1 << 26) -> bytes:
    """A small file's content, without the io stack.  Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        return read_all(fd, limit)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """write(2) until all is written."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_file(path: str, data: bytes, mode: int = 0o644, dir_fd: int | None = None) -> None:
    """Create or truncate a file with this content."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode, dir_fd=dir_fd)
    try:
        write_all(fd, data)
    except OSError as error:
        error.filename = path  # a full disk: write(2) names none
        raise
    finally:
        os.close(fd)


def write_durably(path: str, data: bytes, mode: int = 0o600) -> None:
    """Replace a file: temporary → fsync → rename → fsync of the directory.  A crash leaves the old or the new."""
    temporary = f"{path}.{os.getpid()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        try:
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def close_all(fds: Sequence[int]) -> None:
    """Close descriptors that have no further use."""
    for fd in fds:
        os.close(fd)


def move_high(fd: int, lowest: int = 10) -> int:
    """Move a descriptor out of the way of 0, 1, 2 and of those that a program is given by number."""
    import fcntl

    high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
    os.close(fd)
    return high
