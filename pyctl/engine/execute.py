"""Running another process in a container: the client's side of exec.

Weight: `os`, `select`, `rootless`; termios only with a terminal.

The container's supervisor starts the process; its streams are pipes that this command pumps (or the terminal's
master, which it is given), so the supervisor is not in the way of the data, and no descriptor of the caller's own
gets into the container.
"""

from __future__ import annotations

import os
import select

from pyctl.engine.attach import (
    FORWARDED,
    Detached,
    DetachFilter,
    OutputLost,
    RawTerminal,
    parse_detach_keys,
    read_signals,
    terminal_size,
    write_out,
)
from rootless import libc
from rootless.container_files import SOCKET_NAME
from rootless.errors import Error
from rootless.fds import Channel, close_all, connect_unix
from rootless.plan import Exec, ExecExited, ExecStarted, Failed, Kill
from rootless.streams import set_window_size
from rootless.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_CHUNK = 64 * 1024
_SIGWINCH = 28


def connect(runtime_dir: str, name: str) -> Channel:
    """The control socket of a running container.  Raises Error."""
    try:
        return connect_unix(runtime_dir, SOCKET_NAME)
    except OSError as error:
        raise Error(
            f"container {name} does not answer: {error.strerror}",
            hint=f"pyctl ps --all shows its state; pyctl rm --force {name} removes it whatever happened",
        ) from error


def ask(runtime_dir: str, name: str, request: Value) -> Value | None:
    """One request, one answer (None: the supervisor has gone).  Raises Error where it says Failed."""
    channel = connect(runtime_dir, name)
    try:
        channel.send(request)
        answer, fds = channel.receive()
    except OSError:
        return None
    finally:
        channel.close()
    close_all(fds)
    if isinstance(answer, Failed):
        raise Error(answer.message, answer.hint, answer.exit_code)
    return answer


class Execution:
    """One exec session of the client."""

    def __init__(
        self, channel: Channel, request: Exec, *, interactive: bool, detach_keys: str, preserved: Sequence[int] = ()
    ) -> None:
        self._channel = channel
        self._request = request
        self._interactive = interactive
        self._filter = DetachFilter(parse_detach_keys(detach_keys) if request.tty else b"")
        self._preserved = tuple(preserved)
        self._sinks: dict[int, int] = {}  # our read end → 1 or 2
        self._stdin_sink = -1
        self._pending = b""

    @property
    def id(self) -> str:
        """The session's id, 64 hex digits."""
        return self._request.exec_id

    def run(self) -> int:
        """The process's exit status, 0 for a detached one.  Raises Error, Detached, OutputLost."""
        theirs = [] if self._request.tty else self._make_pipes()
        try:
            self._channel.send(self._request, [*theirs, *self._preserved])
        finally:
            close_all([fd for fd in theirs if fd > 2])
        answer, fds = self._channel.receive()
        if isinstance(answer, Failed):
            raise Error(answer.message, answer.hint, answer.exit_code)
        if not isinstance(answer, ExecStarted):
            raise Error("the container's supervisor ended before the command started")
        if self._request.detach:
            close_all(fds)
            return 0
        if self._request.tty:
            return self._run_terminal(fds[0])
        if self._stdin_sink >= 0:
            os.set_blocking(self._stdin_sink, False)
        return self._watched(FORWARDED, -1)

    def _make_pipes(self) -> list[int]:
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        if self._request.detach:
            return [null, os.dup(null), os.dup(null)]
        out_read, out_write = os.pipe2(os.O_CLOEXEC)
        err_read, err_write = os.pipe2(os.O_CLOEXEC)
        self._sinks = {out_read: 1, err_read: 2}
        if not self._interactive:
            return [null, out_write, err_write]
        os.close(null)
        in_read, self._stdin_sink = os.pipe2(os.O_CLOEXEC)
        return [in_read, out_write, err_write]

    def _run_terminal(self, master: int) -> int:
        self._sinks = {master: 1}
        self._stdin_sink = master if self._interactive else -1
        self._resize(master)
        with RawTerminal(0):
            return self._watched((_SIGWINCH,), master)

    def _resize(self, master: int) -> None:
        rows, columns = terminal_size(0)
        if rows:
            set_window_size(master, rows, columns)

    def _watched(self, signals: tuple[int, ...], master: int) -> int:
        libc.block_signals(signals)
        try:
            return self._pump(libc.signalfd(signals), master)
        finally:
            libc.unblock_all_signals()

    def _pump(self, signal_fd: int, master: int) -> int:
        poll = select.poll()
        for fd in (self._channel.fileno(), signal_fd, *self._sinks):
            poll.register(fd, select.POLLIN)
        self._watch_input(poll, True)
        while True:
            for fd, _events in poll.poll():
                if fd in self._sinks:
                    self._copy_output(poll, fd)
                elif fd == signal_fd:
                    self._signals(signal_fd, master)
                elif fd == self._channel.fileno():
                    answer, fds = self._channel.receive()
                    close_all(fds)
                    self._drain()
                    if isinstance(answer, ExecExited):
                        return answer.exit_code
                    raise Error("the container ended while the command ran in it", exit_code=137)
                elif fd == self._stdin_sink:
                    self._flush_input(poll)
                else:
                    self._read_input(poll)

    def _copy_output(self, poll: Any, fd: int) -> None:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # the terminal's last process has gone
        if data:
            write_out(self._sinks[fd], data)
        else:
            poll.unregister(fd)
            self._sinks.pop(fd)

    def _drain(self) -> None:
        """What the process wrote before it ended is still in the pipes; others may hold them open for ever."""
        for fd in tuple(self._sinks):
            os.set_blocking(fd, False)
            try:
                while data := os.read(fd, _CHUNK):
                    write_out(self._sinks[fd], data)
            except OSError:
                continue  # EAGAIN: empty; EIO: a closed terminal

    def _watch_input(self, poll: Any, on: bool) -> None:
        if self._interactive and self._stdin_sink >= 0:
            try:
                if on:
                    poll.register(0, select.POLLIN)
                else:
                    poll.unregister(0)
            except (OSError, KeyError):
                return  # no standard input

    def _read_input(self, poll: Any) -> None:
        try:
            data = os.read(0, _CHUNK)
        except OSError:
            data = b""
        if not data:
            self._watch_input(poll, False)
            self._interactive = False
            if self._stdin_sink not in self._sinks:
                os.close(self._stdin_sink)
                self._stdin_sink = -1
            return
        self._pending = self._filter.feed(data)
        self._flush_input(poll)

    def _flush_input(self, poll: Any) -> None:
        """Write what was read; where the process does not take it, read no more until it does."""
        while self._pending:
            try:
                self._pending = self._pending[os.write(self._stdin_sink, self._pending) :]
            except BlockingIOError:
                self._watch_input(poll, False)
                poll.register(self._stdin_sink, select.POLLOUT)
                return
            except OSError:  # it reads no more
                self._pending = b""
                self._watch_input(poll, False)
                return
        if self._stdin_sink not in self._sinks:
            try:
                poll.unregister(self._stdin_sink)
            except KeyError:
                return
            self._watch_input(poll, True)

    def _signals(self, signal_fd: int, master: int) -> None:
        for number in read_signals(signal_fd):
            if number == _SIGWINCH:
                if master >= 0:
                    self._resize(master)
                continue
            try:
                self._channel.send(Kill(signal=number))
            except OSError:
                return  # the end is in the channel already


__all__ = ["Detached", "Execution", "OutputLost", "ask", "connect"]
