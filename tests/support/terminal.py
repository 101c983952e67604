"""A command on a real terminal: keys go in, what it prints is waited for."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path


class Terminal:
    """The master side of a pseudo-terminal whose slave is the controlling terminal of `process`."""

    def __init__(self, argv: list[str], env: dict[str, str], rows: int, columns: int, cwd: Path) -> None:
        self.master, slave = os.openpty()
        self.seen = b""
        self.resize(rows, columns)
        self.slave_path = os.ttyname(slave)

        def take_terminal() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            argv,
            env=env,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            start_new_session=True,
            preexec_fn=take_terminal,  # noqa: PLW1509 - the tests have one thread
        )
        os.close(slave)

    def resize(self, rows: int, columns: int) -> None:
        """The kernel sends SIGWINCH to the foreground process group (ioctl_tty(2))."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def _read(self, timeout_s: float) -> bool:
        """Adds what there is to `seen`; False at the end of the terminal."""
        ready, _, _ = select.select([self.master], [], [], max(timeout_s, 0))
        if not ready:
            return True
        try:
            data = os.read(self.master, 65536)
        except OSError:  # EIO: the last user of the slave closed it
            return False
        self.seen += data
        return bool(data)

    def expect(self, text: bytes, timeout_s: float = 15) -> bytes:
        """Reads up to and including `text`; returns it all and forgets it."""
        end = time.monotonic() + timeout_s
        while text not in self.seen:
            left = end - time.monotonic()
            if left < 0 or not self._read(left):
                raise AssertionError(f"no {text!r} on the terminal; seen: {self.seen!r}")
        place = self.seen.index(text) + len(text)
        before, self.seen = self.seen[:place], self.seen[place:]
        return before

    def finish(self, timeout_s: float = 15) -> tuple[int, bytes]:
        """Waits for the command's end; its exit status and what it printed since the last `expect`."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end and self.process.poll() is None:
            if not self._read(0.1):
                break
        try:
            self.process.wait(max(end - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"still running on its terminal; seen: {self.seen!r}") from None
        while select.select([self.master], [], [], 0)[0] and self._read(0):
            pass
        self.close()
        return self.process.returncode, self.seen

    def attributes(self) -> list[object]:
        """The line settings: as they must be again when a command that made the terminal raw has ended."""
        return list(termios.tcgetattr(self.master))

    def hang_up(self) -> None:
        """The user closes the window: the foreground processes get SIGHUP."""
        self.close()

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def close(self) -> None:
        if self.master >= 0:
            os.close(self.master)
            self.master = -1
