"""`logs`: selecting, merging and printing what containers have written.

Weight: `os`, `time`, `select` (C), `rootless.values`, `pyctl.engine.logread_files`; `pyctl.engine.logread_journal` for
that driver only.  On the path of `logs`.
"""

from __future__ import annotations

import os
import select
import time

from pyctl.engine.logread_files import LogFiles, parse_json, parse_k8s
from rootless.errors import Error
from rootless.logs import zone_text
from rootless.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    from pyctl.engine.logread_files import Entry

    class Reader(Protocol):
        def seek(self, tail: int, since_ns: int, until_ns: int) -> None: ...
        def read(self) -> list[Entry]: ...
        def close(self) -> None: ...

    # (source, time_ns, stream, ends, text): a whole line, or what there is of one
    Line = tuple[int, int, int, bool, bytes]

_NO_LOG = ("none", "passthrough")
# Podman's colours, one container after the other.
_COLORS = tuple(b"\x1b[%dm" % number for number in (37, 31, 33, 34, 35, 36, 32))
_RESET = b"\x1b[0m"
_BUFFER = 64 * 1024


class LogSource(Value):
    """One container's log.

    end_fd: polls readable (or hung up) when the container has ended for good and its log is closed, such as a pidfd of
    its supervisor; -1 where it does not run.
    """

    container_id: str
    name: str
    driver: str
    path: str = ""
    end_fd: int = -1


class LogView(Value):
    """What of it is shown, and how.  Times are nanoseconds since the epoch, 0: no bound."""

    follow: bool = False
    tail: int = -1  # lines of each container; -1: all
    since_ns: int = 0
    until_ns: int = 0
    timestamps: bool = False
    names: bool = False  # with several containers: the name in place of the short id
    color: bool = False


def show_logs(sources: tuple[LogSource, ...], view: LogView, out_fd: int = 1, err_fd: int = 2) -> None:
    """Print the logs, those of several containers merged by time; what went to stderr goes to `err_fd`.

    Returns at the end of the log; with `follow`, when all containers have ended (or `until_ns` is over).
    Raises Error where a log cannot be read.
    """
    for source in sources:
        if source.driver in _NO_LOG:
            raise Error(f"container {source.name} has the log driver {source.driver}: nothing of its output is kept")
    printer = Printer(sources, view, out_fd, err_fd)
    joiners = [_Joiner(number) for number in range(len(sources))]
    readers: list[Reader] = []
    try:
        for source in sources:
            reader = open_reader(source)
            readers.append(reader)
            reader.seek(view.tail, view.since_ns, view.until_ns)
        if len(sources) == 1:
            _copy(readers[0], view, printer)
        else:
            _merge([_lines(joiner, reader, view) for joiner, reader in zip(joiners, readers, strict=True)], printer)
        printer.flush()
        if view.follow:
            _follow(sources, readers, joiners, view, printer)
    except BrokenPipeError:
        return  # `logs | head`
    finally:
        for reader in readers:
            reader.close()


def open_reader(source: LogSource) -> Reader:
    """The reader for a log driver."""
    if source.driver == "journald":
        from pyctl.engine.logread_journal import JournalEntries

        return JournalEntries(source.container_id)
    return LogFiles(source.path, parse_json if source.driver == "json-file" else parse_k8s)


def _wanted(entries: list[Entry], view: LogView) -> list[Entry]:
    since_ns, until_ns = view.since_ns, view.until_ns
    if not since_ns and not until_ns:
        return entries
    return [e for e in entries if e[0] >= since_ns and (not until_ns or e[0] <= until_ns)]


def _copy(reader: Reader, view: LogView, printer: Printer) -> None:
    while entries := reader.read():
        printer.put(0, _wanted(entries, view))


# --- several containers ----------------------------------------------------------------------


class _Joiner:
    """Fragments to lines, so that those of several containers do not mix within one."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._held: dict[int, tuple[int, list[bytes]]] = {}

    def lines(self, entries: list[Entry]) -> Iterator[Line]:
        held = self._held
        for time_ns, stream, ends, text in entries:
            if not ends:
                held.setdefault(stream, (time_ns, []))[1].append(text)
            elif stream in held:
                first_ns, parts = held.pop(stream)
                yield self._number, first_ns, stream, True, b"".join((*parts, text))
            else:
                yield self._number, time_ns, stream, True, text

    def rest(self) -> Iterator[Line]:
        """Lines that never ended."""
        for stream, (time_ns, parts) in self._held.items():
            yield self._number, time_ns, stream, True, b"".join(parts)
        self._held.clear()


def _lines(joiner: _Joiner, reader: Reader, view: LogView) -> Iterator[Line]:
    while entries := reader.read():
        yield from joiner.lines(_wanted(entries, view))
    if not view.follow:
        yield from joiner.rest()


def _merge(sequences: list[Iterator[Line]], printer: Printer) -> None:
    heads = [(line, sequence) for sequence in sequences if (line := next(sequence, None)) is not None]
    while heads:
        index = min(range(len(heads)), key=lambda i: heads[i][0][1])
        line, sequence = heads[index]
        printer.put(line[0], [line[1:]])
        following = next(sequence, None)
        if following is None:
            del heads[index]
        else:
            heads[index] = (following, sequence)


# --- following -------------------------------------------------------------------------------


def _follow(
    sources: tuple[LogSource, ...], readers: list[Reader], joiners: list[_Joiner], view: LogView, printer: Printer
) -> None:
    """Print what comes, until every container has ended and its log is read to its end."""
    from pyctl.engine.logread_follow import Watch  # only with --follow

    watch = Watch([(source.end_fd, reader) for source, reader in zip(sources, readers, strict=True)])
    while True:
        over = bool(view.until_ns) and time.time_ns() > view.until_ns
        batches = watch.read()
        if len(sources) == 1:
            for _, entries in batches:
                printer.put(0, _wanted(entries, view))
        else:
            lines = [line for number, entries in batches for line in joiners[number].lines(_wanted(entries, view))]
            if watch.ended or over:
                lines += [line for joiner in joiners for line in joiner.rest()]
            for line in sorted(lines, key=lambda line: line[1]):
                printer.put(line[0], [line[1:]])
        printer.flush()
        if watch.ended or over:
            return
        watch.wait(view.until_ns)


# --- printing --------------------------------------------------------------------------------


class Printer:
    """Entries to two descriptors, in their order."""

    def __init__(self, sources: tuple[LogSource, ...], view: LogView, out_fd: int, err_fd: int) -> None:
        self._fds = {1: out_fd, 2: err_fd}
        self._several = len(sources) > 1
        self._labels = [
            ((s.name if view.names else s.container_id[:12]) + " ").encode() if self._several else b"" for s in sources
        ]
        self._view = view
        self._plain = not (view.timestamps or view.color or self._several)
        self._stream = 1
        self._parts: list[bytes] = []
        self._size = 0
        self._inside: set[int] = set()  # streams whose line has begun and not ended
        self._second = -1
        self._date = self._zone = ""

    def put(self, number: int, entries: list[Entry]) -> None:
        """Entries of one source."""
        for entry in entries:
            stream = entry[1]
            if stream != self._stream or self._size > _BUFFER:
                self.flush()
                self._stream = stream
            text = entry[3]
            if not self._plain:
                text = self._decorated(number, entry)
            self._parts.append(text)
            if entry[2]:
                self._parts.append(b"\n")
            self._size += len(text) + 1

    def _decorated(self, number: int, entry: Entry) -> bytes:
        time_ns, stream, ends, text = entry
        if stream not in self._inside:
            stamp = self._stamp(time_ns) if self._view.timestamps else b""
            text = self._labels[number] + stamp + text
        if ends:
            self._inside.discard(stream)
        else:
            self._inside.add(stream)
        if self._view.color:
            return _COLORS[number % len(_COLORS)] + text + _RESET
        return text

    def _stamp(self, time_ns: int) -> bytes:
        second, nanosecond = divmod(time_ns, 1_000_000_000)
        if second != self._second:
            self._second = second
            local = time.localtime(second)
            self._date = time.strftime("%Y-%m-%dT%H:%M:%S", local)
            self._zone = zone_text(local.tm_gmtoff) if local.tm_gmtoff else "Z"
        return f"{self._date}.{nanosecond:09d}{self._zone} ".encode()

    def flush(self) -> None:
        """Write what is held."""
        if not self._parts:
            return
        view = memoryview(b"".join(self._parts))
        self._parts.clear()
        self._size = 0
        fd = self._fds[self._stream]
        while view:
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:
                # Somebody left the terminal non-blocking.
                select.select([], [fd], [])
