"""The attached side: this terminal's, or these pipes', end of a container's streams.

Weight: `os`, `select`, `rootless`; termios only with a terminal.
"""

from __future__ import annotations

import os
import select

from rootless import libc
from rootless.errors import UsageError
from rootless.fds import Channel
from rootless.plan import Exited, Failed, Kill, Resize
from rootless.streams import STDERR, STDIN, STDOUT
from rootless.values import Value, decode, dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CHUNK = 32 * 1024
_SIGWINCH = 28
# What the command line does not pass on: what cannot be caught, what is about itself (CHLD, PIPE, URG), its own
# faults, and job control, which is its shell's business (Ctrl-Z stops the command, not the container).
_OWN_SIGNALS = frozenset((9, 19, 17, 13, 23, 11, 7, 8, 4, 5, 6, 18, 20, 21, 22, _SIGWINCH))
FORWARDED = tuple(n for n in (*range(1, 32), *range(34, 65)) if n not in _OWN_SIGNALS)


class Detached(Exception):  # noqa: N818 - an outcome, not an error
    """The user typed the detach keys."""


class OutputLost(Exception):  # noqa: N818 - an outcome, not an error
    """Nobody reads this command's output any more (EPIPE)."""


def parse_detach_keys(text: str) -> bytes:
    """`ctrl-p,ctrl-q` → b"\\x10\\x11"; "" switches detaching off.  Raises UsageError."""
    keys = bytearray()
    for part in text.split(",") if text else []:
        if len(part) == 1 and part.isascii():
            keys += part.encode()
        elif part.startswith("ctrl-") and len(part) == 6 and (code := _control(part[5])) is not None:
            keys.append(code)
        else:
            raise UsageError(
                f"detach keys {text!r}: {part!r} is neither a character nor ctrl-X",
                hint="give a list such as ctrl-p,ctrl-q; X is a letter or one of @ [ \\ ] ^ _",
            )
    return bytes(keys)


def _control(char: str) -> int | None:
    if "a" <= char.lower() <= "z":
        return ord(char.lower()) - ord("a") + 1
    return {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}.get(char)


class DetachFilter:
    """Finds the detach sequence in typed input, however it is cut into reads."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> bytes:
        """What to pass on.  Raises Detached when the sequence is complete."""
        if not self._keys:
            return data
        out = bytearray()
        for byte in data:
            if byte == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    raise Detached
                continue
            # What looked like the beginning was input after all.
            out += self._keys[: self._matched]
            self._matched = 1 if byte == self._keys[0] else 0
            if not self._matched:
                out.append(byte)
        return bytes(out)


def terminal_size(fd: int = 0) -> tuple[int, int]:
    """(rows, columns) of a terminal; (0, 0) where it is none."""
    try:
        columns, rows = os.get_terminal_size(fd)
    except OSError:
        return 0, 0
    return rows, columns


class RawTerminal:
    """The terminal in raw mode for as long as the context lasts; a file that is no terminal is left alone."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._saved: list[Any] | None = None

    def __enter__(self) -> RawTerminal:
        if os.isatty(self._fd):
            import termios  # 2 ms, with a terminal only

            self._saved = termios.tcgetattr(self._fd)
            raw = termios.tcgetattr(self._fd)
            # cfmakeraw(3)
            raw[0] &= ~(
                termios.IGNBRK
                | termios.BRKINT
                | termios.PARMRK
                | termios.ISTRIP
                | termios.INLCR
                | termios.IGNCR
                | termios.ICRNL
                | termios.IXON
            )
            raw[1] &= ~termios.OPOST
            raw[2] = raw[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
            raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
            termios.tcsetattr(self._fd, termios.TCSANOW, raw)
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._saved is not None:
            import termios

            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._saved)


class Attachment:
    """Pumps between this process's standard streams and a supervisor, until the container ends.

    `send_input(data)` and `send_message(value)` are where input and signals go; the channel is where output and
    the end come from.  For exec the streams are pipes, see `pyctl.engine.execute`.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        terminal: bool,
        interactive: bool,
        detach_keys: str,
        forward_signals: bool,
        shown: frozenset[bytes] = frozenset((STDOUT, STDERR)),
    ) -> None:
        self._channel = channel
        self._terminal = terminal
        self._interactive = interactive
        self._shown = shown
        self._filter = DetachFilter(parse_detach_keys(detach_keys) if terminal else b"")
        self._signals = FORWARDED if forward_signals and not terminal else ()
        # What the supervisor has no room for yet.  Waiting for room would be a deadlock: it may itself be waiting
        # for this side to take output.
        self._outbox: list[tuple[bytes, bytes]] = []

    def run(self) -> Exited | Failed | None:
        """Until the end: Exited; None where the supervisor has gone without a word.  Raises Detached, OutputLost."""
        watched = (*self._signals, _SIGWINCH) if self._terminal else self._signals
        if watched:
            libc.block_signals(watched)
        try:
            if not self._terminal:
                return self._pump(watched)
            with RawTerminal(0):
                self._send_size()
                return self._pump(watched)
        finally:
            if watched:
                libc.unblock_all_signals()

    def _pump(self, watched: tuple[int, ...]) -> Exited | Failed | None:
        channel_fd = self._channel.fileno()
        self._channel.set_blocking(False)
        poll = select.poll()
        signal_fd = libc.signalfd(watched) if watched else -1
        if signal_fd >= 0:
            poll.register(signal_fd, select.POLLIN)
        while True:
            poll.register(channel_fd, select.POLLIN | (select.POLLOUT if self._outbox else 0))
            _watch_input(poll, self._interactive and not self._outbox)
            for fd, events in poll.poll():
                if fd == signal_fd:
                    self._signal(signal_fd)
                elif fd != channel_fd:
                    self._input()
                elif events & select.POLLOUT:
                    self._flush()
                if fd == channel_fd and events & ~select.POLLOUT:
                    outcome = self._output()
                    if outcome is not _MORE:
                        return outcome if isinstance(outcome, (Exited, Failed)) else None

    def _flush(self) -> None:
        while self._outbox:
            try:
                self._channel.send_stream(*self._outbox[0])
            except BlockingIOError:
                return
            except OSError:
                self._outbox.clear()  # the end is in the channel already
                return
            self._outbox.pop(0)

    def _output(self) -> object:
        try:
            packet = self._channel.receive_packet()
        except BlockingIOError:
            return _MORE
        kind = packet[:1]
        if kind in (STDOUT, STDERR):
            if kind in self._shown:
                write_out(1 if kind == STDOUT else 2, packet[1:])
            return _MORE
        if not packet:
            return None
        return decode(packet)

    def _input(self) -> None:
        try:
            data = os.read(0, _CHUNK)
        except OSError:
            data = b""
        if not data:
            self._interactive = False
        passed = self._filter.feed(data)
        if passed or not data:
            self._outbox.append((STDIN, passed))
            self._flush()

    def _signal(self, signal_fd: int) -> None:
        for number in read_signals(signal_fd):
            if number == _SIGWINCH:
                self._send_size()
            else:
                self._send(Kill(signal=number))

    def _send_size(self) -> None:
        rows, columns = terminal_size(0)
        if rows:
            self._send(Resize(rows=rows, columns=columns))

    def _send(self, message: Value) -> None:
        packet = dumps(message).encode("ascii")
        self._outbox.append((packet[:1], packet[1:]))
        self._flush()


_MORE = object()


def _watch_input(poll: Any, on: bool) -> None:
    try:
        if on:
            poll.register(0, select.POLLIN)
        else:
            poll.unregister(0)
    except (OSError, KeyError):
        return  # not watched, or no standard input at all


def read_signals(signal_fd: int) -> list[int]:
    """The numbers that a signalfd has collected."""
    try:
        data = os.read(signal_fd, 128 * 16)
    except BlockingIOError:
        return []
    return [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 128)]


def write_out(fd: int, data: bytes) -> None:
    """Write all of it to this command's stdout or stderr.  Raises OutputLost."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # somebody made the terminal non-blocking
            select.select([], [fd], [])
        except BrokenPipeError as error:
            raise OutputLost from error
