"""Waiting for more of logs, and for the end of their containers.

Weight: `select` (C), `time`, `pyctl.engine.logread_files`.
Files are looked at again after 5 to 100 ms: the standard library has no inotify, and on a network's file system there
is nothing to be notified of.
"""

from __future__ import annotations

import select
import time

from pyctl.engine.logread_files import LogFiles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.engine.logread import Reader
    from pyctl.engine.logread_files import Entry
    from pyctl.engine.logread_journal import JournalEntries

_FIRST_WAIT_MS, _LAST_WAIT_MS = 5, 100
_BATCH = 64  # reads of one source before the others have their turn


class Watch:
    """Readers, each with the descriptor that tells its container's end."""

    def __init__(self, watched: list[tuple[int, Reader]]) -> None:
        self._readers = [reader for _, reader in watched]
        self._running = {number: end_fd for number, (end_fd, _) in enumerate(watched) if end_fd >= 0}
        self._wait_ms = _FIRST_WAIT_MS
        self._poll = select.poll()
        for end_fd in self._running.values():
            self._poll.register(end_fd, select.POLLIN)
        self._journals: dict[int, JournalEntries] = {}
        for number in self._running:
            reader = self._readers[number]
            if isinstance(reader, LogFiles):
                continue
            journal: JournalEntries = reader  # type: ignore[assignment]  # the only other reader
            journal.follow()
            self._journals[number] = journal
            self._poll.register(journal.fd, select.POLLIN)

    @property
    def ended(self) -> bool:
        """All containers have ended, and `read` has given all of their logs."""
        return not self._running

    def read(self) -> list[tuple[int, list[Entry]]]:
        """What has come: (number of the reader, entries); nothing is left unread where a container has ended."""
        # Asked before reading: a container that ends while its log is read may still add to it.
        ready = {fd for fd, _ in self._poll.poll(0)}
        found: list[tuple[int, list[Entry]]] = []
        for number, end_fd in tuple(self._running.items()):
            final = end_fd in ready
            if number in self._journals:
                final = self._read_journal(number, final, found)
            else:
                self._read_files(number, final, found)
            if final:
                del self._running[number]
                if end_fd not in self._running.values():
                    self._poll.unregister(end_fd)
        if found:
            self._wait_ms = _FIRST_WAIT_MS
        return found

    def _read_files(self, number: int, final: bool, found: list[tuple[int, list[Entry]]]) -> None:
        count = 0
        while (final or count < _BATCH) and (entries := self._readers[number].read()):
            found.append((number, entries))
            count += 1

    def _read_journal(self, number: int, final: bool, found: list[tuple[int, list[Entry]]]) -> bool:
        journal = self._journals[number]
        fd = journal.fd
        while not final and journal.ready():
            if entries := journal.read():
                found.append((number, entries))
            else:
                final = True  # journalctl has gone: without it nothing more will come
        if final:
            self._poll.unregister(fd)
            del self._journals[number]
            journal.finish()
            while entries := journal.read():
                found.append((number, entries))
        return final

    def wait(self, until_ns: int = 0) -> None:
        """Until there may be something to do: a while, less when a container ends or time is over."""
        wait_ms = self._wait_ms
        if len(self._journals) == len(self._running):
            wait_ms = 1000  # journalctl tells
        if until_ns:
            wait_ms = max(0, min(wait_ms, (until_ns - time.time_ns()) // 1_000_000 + 1))
        self._poll.poll(wait_ms)
        self._wait_ms = min(2 * self._wait_ms, _LAST_WAIT_MS)
