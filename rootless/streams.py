"""The container's standard streams: from its pipes or terminal to the log and to whoever is attached.

Weight: `os`, `rootless.loop`, `rootless.fds`.

A slow attached client holds the container back (its pipe fills), as it would on a real terminal; a client that has
gone is dropped.  The log is written first, so that `logs` never lacks what somebody has seen.
"""

from __future__ import annotations

import _struct
import os

from rootless.fds import Channel, close_all
from rootless.loop import GONE, READ, WRITE, Loop, Timer
from rootless.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from typing import Protocol

    class LogWriter(Protocol):
        """What rootless.logs.open_log() gives."""

        @property
        def pending(self) -> bool:
            """Part of a line is held."""

        def write(self, stream: bytes, data: bytes) -> None:
            """Append what came on b"stdout" or b"stderr"."""

        def flush(self) -> None:
            """Record what is held."""

        def close(self) -> None:
            """Write what is left of a line, and close."""


_CHUNK = 32 * 1024
_PARTIAL_NS = 200_000_000  # a prompt that waits for its answer is in the log after this
_MOST_CHUNKS_AT_END = 64
STDIN, STDOUT, STDERR = b"i", b"o", b"e"
_LOG_NAMES = {STDOUT: b"stdout", STDERR: b"stderr"}


def set_window_size(fd: int, rows: int, columns: int) -> None:
    """TIOCSWINSZ (ioctl_tty(2)); the kernel sends SIGWINCH to the foreground group."""
    if rows > 0 and columns > 0:
        import fcntl
        import termios  # 2 ms, for containers with a terminal only

        fcntl.ioctl(fd, termios.TIOCSWINSZ, _struct.pack("HHHH", rows, columns, 0, 0))


class Client:
    """One attached connection."""

    __slots__ = ("blocked", "channel", "pending", "stdin", "streaming")

    def __init__(self, channel: Channel, streaming: bool, stdin: bool) -> None:
        self.channel = channel
        self.streaming = streaming
        self.stdin = stdin
        self.pending: list[tuple[bytes, bytes]] = []
        self.blocked = False


class Streams:
    """Pumps one container's streams on the loop.  Survives restarts of the container: `open` again, clients stay."""

    def __init__(self, loop: Loop, log: LogWriter | None) -> None:
        self._loop = loop
        self._log = log
        self._flush: Timer | None = None
        self._clients: list[Client] = []
        self._sources: dict[int, bytes] = {}
        self._stdin_fd = -1
        self._stdin_pending = bytearray()
        self._stdin_closing = False
        self._terminal = False
        self._paused = False
        self.on_stdin_drained: Callable[[], None] | None = None
        self.on_blocked: Callable[[Client], None] | None = None  # wait for room on this client's channel

    # -- the container's side

    def open(self, sources: dict[int, bytes], stdin_fd: int, terminal: bool) -> None:
        """Take the pipes' ends, or the terminal's master as the only source; they are this object's to close."""
        self._sources = dict(sources)
        self._stdin_fd = stdin_fd
        self._terminal = terminal
        for fd in {*sources, *([stdin_fd] if stdin_fd >= 0 else [])}:
            os.set_blocking(fd, False)
        self._watch_sources()

    def _watch_sources(self) -> None:
        for fd in self._sources:
            self._loop.watch(fd, READ, self._reader(fd))

    def _reader(self, fd: int) -> Callable[[int], object]:
        return lambda _events: self._readable(fd)

    def _readable(self, fd: int) -> bool:
        """Move one chunk; False where there is none for now."""
        kind = self._sources.get(fd)
        if kind is None:
            return False
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # a terminal's master reads EIO when the last slave is closed
        if not data:
            self._close_source(fd)
            return False
        if self._log is not None:
            self._log.write(_LOG_NAMES[kind], data)
            if self._log.pending and self._flush is None:
                self._flush = self._loop.after(_PARTIAL_NS, self._flush_log)
        for client in tuple(self._clients):
            if client.streaming:
                self._send(client, kind, data)
        return True

    def _flush_log(self) -> None:
        self._flush = None
        if self._log is not None:
            self._log.flush()

    def _close_source(self, fd: int) -> None:
        self._loop.forget(fd)
        del self._sources[fd]
        if fd == self._stdin_fd:
            self._stdin_fd = -1
        os.close(fd)

    def finish(self) -> None:
        """The container has ended: move what its pipes still hold, then close them."""
        for fd in tuple(self._sources):
            # A pipe holds 64 KiB (pipe(7)).  The bound is for a process outside the container's pid namespace that
            # goes on writing.
            for _ in range(_MOST_CHUNKS_AT_END):
                if not self._readable(fd):
                    break
            if fd in self._sources:
                self._close_source(fd)
        self._close_stdin()
        self._paused = False

    def close_log(self) -> None:
        """No more output will come."""
        if self._log is not None:
            self._log.close()

    def resize(self, rows: int, columns: int) -> None:
        """A new window size; nothing without a terminal."""
        if self._terminal and self._stdin_fd >= 0:
            set_window_size(self._stdin_fd, rows, columns)

    # -- the clients' side

    def add(self, client: Client) -> None:
        """Serve a client from now on (its channel becomes non-blocking)."""
        client.channel.set_blocking(False)
        self._clients.append(client)

    def remove(self, client: Client) -> None:
        """The client has gone, or was taken over; its channel stays open."""
        if client in self._clients:
            self._clients.remove(client)
        client.pending.clear()
        self._unblock(client)

    def _send(self, client: Client, kind: bytes, data: bytes) -> None:
        if client.pending:
            client.pending.append((kind, data))
            return
        try:
            client.channel.send_stream(kind, data)
        except BlockingIOError:
            client.pending.append((kind, data))
            self._block(client)
        except OSError:
            self.remove(client)

    def _block(self, client: Client) -> None:
        client.blocked = True
        if self.on_blocked is not None:
            self.on_blocked(client)
        if not self._paused:
            self._paused = True
            for fd in self._sources:
                self._loop.forget(fd)

    def _unblock(self, client: Client) -> None:
        client.blocked = False
        if self._paused and not any(c.blocked for c in self._clients):
            self._paused = False
            self._watch_sources()

    def events_for(self, client: Client) -> int:
        """What to wait for on the client's channel."""
        return READ | WRITE if client.pending else READ

    def writable(self, client: Client) -> None:
        """Send what is pending."""
        while client.pending:
            kind, data = client.pending[0]
            try:
                client.channel.send_stream(kind, data)
            except BlockingIOError:
                return
            except OSError:
                self.remove(client)
                return
            client.pending.pop(0)
        self._unblock(client)

    def end(self, message: Value) -> None:
        """Send everybody the last output and then `message`, waiting for slow ones at most five seconds each."""
        for client in tuple(self._clients):
            try:
                client.channel.set_timeout(5.0)
                for kind, data in client.pending:
                    client.channel.send_stream(kind, data)
                client.channel.send(message)
            except OSError:
                pass
            client.pending.clear()
            client.channel.close()
        self._clients.clear()

    @property
    def attached(self) -> int:
        """How many clients there are."""
        return len(self._clients)

    # -- input

    def input(self, data: bytes) -> None:
        """Input from a client; b"" is its end."""
        if self._stdin_fd < 0:
            return
        if not data:
            if self._terminal:
                return  # a terminal's input does not end with its client's
            self._stdin_closing = True
        self._stdin_pending += data
        self._flush_stdin()

    def _flush_stdin(self) -> None:
        while self._stdin_pending:
            try:
                written = os.write(self._stdin_fd, self._stdin_pending)
            except BlockingIOError:
                if not self._terminal:
                    self._loop.watch(self._stdin_fd, WRITE, self._stdin_ready)
                else:
                    self._loop.after(5_000_000, self._flush_stdin)
                return
            except OSError:
                self._stdin_pending.clear()
                self._close_stdin()
                return
            del self._stdin_pending[:written]
        if not self._terminal:
            self._loop.forget(self._stdin_fd)
        if self._stdin_closing:
            self._close_stdin()
        if self.on_stdin_drained is not None:
            self.on_stdin_drained()

    def _stdin_ready(self, events: int) -> None:
        if events & GONE and not events & WRITE:
            self._stdin_pending.clear()
            self._close_stdin()
        else:
            self._flush_stdin()

    @property
    def stdin_backlog(self) -> int:
        """Bytes the container has not taken yet; clients wait above a bound."""
        return len(self._stdin_pending)

    def _close_stdin(self) -> None:
        self._stdin_closing = False
        if self._stdin_fd >= 0 and self._stdin_fd not in self._sources:
            self._loop.forget(self._stdin_fd)
            os.close(self._stdin_fd)
        self._stdin_fd = -1


_PATH_BYTES = 107  # of a socket (unix(7))


class Console:
    """A listening --console-socket: `path` is what the runtime is told, `keep` the descriptors that it must inherit."""

    def __init__(self, runtime_dir: str, name: str) -> None:
        import _socket

        self._file = self.path = f"{runtime_dir}/{name}"
        self.keep: tuple[int, ...] = ()
        self._listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC, 0)
        directory = os.open(runtime_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        short = f"/proc/self/fd/{directory}/{name}"
        try:
            self._listener.bind(short)
            self._listener.listen(1)
        except BaseException:
            os.close(directory)
            raise
        if len(os.fsencode(self.path)) > _PATH_BYTES:  # runtimes other than crun take it as it is
            self.path, self.keep = short, (directory,)
        else:
            os.close(directory)

    def take(self) -> int:
        """The terminal's master, which the runtime has sent; closes this."""
        try:
            return _receive_terminal(self._listener)
        finally:
            self.close()

    def close(self) -> None:
        """Without a terminal."""
        self._listener.close()
        close_all(self.keep)
        self.keep = ()
        try:
            os.unlink(self._file)
        except FileNotFoundError:
            return  # closed already


def _receive_terminal(listener: _socket.socket) -> int:
    import _socket

    fd, _ = listener._accept()  # type: ignore[attr-defined]
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fileno=fd)
    try:
        _, ancillary, _, _ = connection.recvmsg(4096, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
    finally:
        connection.close()
    for _level, _kind, data in ancillary:
        return int(_struct.unpack("i", data[:4])[0])
    raise OSError(5, "no terminal came", "console socket")
