"""Reading a container's log from systemd's journal, through journalctl.

Weight: `os`, `_signal`, `select` (C), `rootless.values`, `pyctl.engine.programs`.
Entries are those of `pyctl.engine.logread_files`.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import select

from pyctl.engine.programs import need
from rootless.errors import Error, os_error_text
from rootless.values import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.engine.logread_files import Entry

_FIELDS = "MESSAGE,PRIORITY,CONTAINER_PARTIAL_MESSAGE"
_MAX_RECORD = 64 << 20


class JournalEntries:
    """One container's entries; `fd` becomes readable when there may be more (while following)."""

    def __init__(self, container_id: str, program: str = "") -> None:
        self._id = container_id
        self._program = program or need("journalctl", "install systemd, or use --log-driver=k8s-file")
        self._pid = 0
        self._rest = b""
        self._cursor = ""
        self._none = False
        self._errors = -1
        self.fd = -1

    def seek(self, tail: int, since_ns: int, until_ns: int) -> None:
        """Begin at the last `tail` lines (-1: all) between two times (0: no bound)."""
        # For none at all the last one is still asked for: `follow` goes on after it.
        options = ["--lines=all" if tail < 0 else f"--lines={max(1, tail)}"]
        self._none = tail == 0
        if since_ns:
            options.append(f"--since=@{since_ns // 1_000_000_000}")
        if until_ns:
            options.append(f"--until=@{-(-until_ns // 1_000_000_000)}")
        self._start(options)

    def follow(self) -> None:
        """Go on with what comes after the last entry that was read."""
        self._none = False
        self.close()
        self._start(["--follow", "--lines=all", *self._after()])

    def finish(self) -> None:
        """The container has ended: only what is still to come after the last entry."""
        self.close()
        self._start(["--lines=all", *self._after()])

    def _after(self) -> list[str]:
        return [f"--after-cursor={self._cursor}"] if self._cursor else []

    def _start(self, options: list[str]) -> None:
        argv = [
            *(self._program, "--quiet", "--no-pager", "--all", "--output=json", f"--output-fields={_FIELDS}"),
            *(*options, f"CONTAINER_ID_FULL={self._id}"),
        ]
        self.fd, write_end = os.pipe2(os.O_CLOEXEC)
        self._errors, errors_end = os.pipe2(os.O_CLOEXEC)
        try:
            actions = [(os.POSIX_SPAWN_DUP2, write_end, 1), (os.POSIX_SPAWN_DUP2, errors_end, 2)]
            self._pid = os.posix_spawn(self._program, argv, os.environ, file_actions=actions)
        except OSError as error:
            raise Error(os_error_text(error, f"run {self._program}")) from error
        finally:
            os.close(write_end)
            os.close(errors_end)
        self._rest = b""

    def close(self) -> None:
        """End journalctl."""
        if self._pid:
            os.kill(self._pid, _signal.SIGTERM)
            os.waitpid(self._pid, 0)
            self._pid = 0
        for fd in (self.fd, self._errors):
            if fd >= 0:
                os.close(fd)
        self.fd = self._errors = -1

    def read(self) -> list[Entry]:
        """The next entries, waiting for them; [] at the end."""
        while self.fd >= 0:
            data = os.read(self.fd, 1 << 18)
            if not data:
                self._ended()
                return []
            lines = (self._rest + data).split(b"\n")
            self._rest = lines.pop()[:_MAX_RECORD]
            entries = [entry for line in lines if (entry := self._parse(line)) is not None]
            if entries and not self._none:
                return entries
        return []

    def ready(self) -> bool:
        """There is something to read, or the end."""
        return self.fd >= 0 and bool(select.select([self.fd], [], [], 0)[0])

    def _ended(self) -> None:
        text = os.read(self._errors, 4096).decode("utf-8", "replace").strip()
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        self.close()
        if status and text:
            raise Error(
                f"journalctl: {text.splitlines()[0]}",
                hint="the group systemd-journal may read the journal: an administrator adds you with usermod -aG",
            )

    def _parse(self, line: bytes) -> Entry | None:
        try:
            record = loads(line)
            self._cursor = record["__CURSOR"]
            message = record["MESSAGE"]
            # What is not UTF-8 text comes as a list of bytes.
            text = bytes(message) if isinstance(message, list) else message.encode("utf-8", "surrogateescape")
            stream = 2 if record.get("PRIORITY") == "3" else 1
            ends = "CONTAINER_PARTIAL_MESSAGE" not in record
            return int(record["__REALTIME_TIMESTAMP"]) * 1000, stream, ends, text
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
