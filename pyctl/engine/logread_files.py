"""Reading k8s-file and json-file logs: from any place, across rotated files, while they grow.

Weight: `os`, `rootless.values`.

An entry is a tuple (time_ns, stream, ends, text): nanoseconds since the epoch, 1 for stdout or 2 for stderr, whether
the line ends with it, and the text without the newline.
"""

from __future__ import annotations

import os

from rootless.values import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Entry = tuple[int, int, bool, bytes]
    Parse = Callable[[bytes], Entry | None]

_CHUNK = 256 * 1024
_MAX_RECORD = 4 << 20  # what is longer, without a newline, is no record of ours
_BACK = 64 * 1024
_STREAMS = {b"stdout": 1, b"stderr": 2}
_SECONDS: dict[bytes, int] = {}  # of the last "2026-01-31T12:00:00+01:00" seen


def moment_ns(text: bytes) -> int:
    """RFC 3339 with any number of decimals.  Raises ValueError."""
    zone = text[-1:] if text.endswith(b"Z") else text[-6:]
    second = text[:19] + zone
    found = _SECONDS.get(second)
    if found is None:
        _SECONDS.clear()
        found = _SECONDS[second] = _seconds(text[:19], zone)
    fraction = text[20 : len(text) - len(zone)]
    return found * 1_000_000_000 + (int(fraction[:9].ljust(9, b"0")) if fraction else 0)


def _seconds(text: bytes, zone: bytes) -> int:
    # calendar and datetime cost 4 ms at start-up.
    year, month, day = int(text[:4]), int(text[5:7]), int(text[8:10])
    clock = int(text[11:13]) * 3600 + int(text[14:16]) * 60 + int(text[17:19])
    if zone != b"Z":
        offset = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
        clock += offset if zone[:1] == b"-" else -offset
    # Days since 1970-01-01: years begin in March, so that the leap day is the last.
    year -= month < 3
    era_year = year + year // 4 - year // 100 + year // 400
    days = 365 * year + era_year - year + (153 * ((month + 9) % 12) + 2) // 5 + day - 719469
    return days * 86400 + clock


def parse_k8s(line: bytes) -> Entry | None:
    """One line of a k8s-file; None where it is not a record (the zeros that a power cut leaves)."""
    try:
        stamp, stream, mark, text = line.split(b" ", 3)
        return moment_ns(stamp), _STREAMS[stream], mark == b"F", text
    except (ValueError, KeyError):
        return None


def parse_json(line: bytes) -> Entry | None:
    """One line of a json-file; None where it is not a record."""
    try:
        record = loads(line)
        text = record["log"].encode("utf-8", "surrogatepass")
        stream = _STREAMS[record["stream"].encode()]
        ends = text.endswith(b"\n")
        return moment_ns(record["time"].encode()), stream, ends, text[:-1] if ends else text
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


class _File:
    """One open file of a log, and how far it has been read (always between two records)."""

    __slots__ = ("fd", "identity", "offset")

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        state = os.fstat(self.fd)
        self.identity = (state.st_dev, state.st_ino)
        self.offset = 0

    def close(self) -> None:
        os.close(self.fd)


class LogFiles:
    """One container's log files, oldest first."""

    def __init__(self, path: str, parse: Parse) -> None:
        self._path = path
        self._parse = parse
        self._files: list[_File] = self._open_after(None)

    def close(self) -> None:
        """Give the descriptors back."""
        for file in self._files:
            file.close()
        self._files.clear()

    def _open_after(self, last: _File | None) -> list[_File]:
        """Files newer than `last` (all where it is gone or None), oldest first.

        Opened from the newest on: a rotation meanwhile shows a file a second time, and never hides one.
        """
        found: list[_File] = []
        seen = set()
        number = 0
        while True:
            try:
                file = _File(f"{self._path}.{number}" if number else self._path)
            except OSError:
                if number:
                    break
                number += 1  # between two steps of a rotation there is no newest file
                continue
            number += 1
            if last is not None and file.identity == last.identity:
                file.close()
                break
            if file.identity in seen:
                file.close()
                continue
            seen.add(file.identity)
            found.append(file)
        found.reverse()
        return found

    # -- where to begin

    def seek(self, tail: int, since_ns: int, until_ns: int) -> None:
        """Go to where the last lines begin, `tail` of them (-1: all), that are not older than `since_ns` nor newer
        than `until_ns` (0: no bound).  What is read from there is still to be checked against both.
        """
        if tail < 0 and not since_ns:
            return
        lines = 0
        for index in range(len(self._files) - 1, -1, -1):
            file = self._files[index]
            end = self._records_end(file)
            while end > 0:
                begin, block = self._block_before(file, end)
                position = end
                for line in reversed(block):
                    entry = self._parse(line)
                    if entry is not None and not (until_ns and entry[0] > until_ns):
                        if entry[0] < since_ns:
                            self._begin(index, position)
                            return
                        # An unfinished last line counts too.
                        if entry[2] or not lines:
                            if lines == tail:
                                self._begin(index, position)
                                return
                            lines += 1
                    position -= len(line) + 1
                end = begin

    def _block_before(self, file: _File, end: int) -> tuple[int, list[bytes]]:
        """(offset, records) of about _BACK bytes of whole records before `end`, which is between two records."""
        size = _BACK
        while True:
            begin = max(0, end - size)
            data = os.pread(file.fd, end - begin, begin)
            if not begin:
                break
            cut = data.find(b"\n", 0, len(data) - 1) + 1
            if cut or size >= _MAX_RECORD:
                begin, data = begin + cut, data[cut:]
                break
            size *= 4
        return begin, data[:-1].split(b"\n")

    @staticmethod
    def _records_end(file: _File) -> int:
        """The file's size without a record that is being written."""
        end = os.fstat(file.fd).st_size
        while end:
            begin = max(0, end - _BACK)
            newline = os.pread(file.fd, end - begin, begin).rfind(b"\n")
            if newline >= 0:
                return begin + newline + 1
            end = begin
        return 0

    def _begin(self, index: int, position: int) -> None:
        for file in self._files[:index]:
            file.close()
        del self._files[:index]
        self._files[0].offset = position

    # -- reading

    def read(self) -> list[Entry]:
        """The next entries; [] where there are no more at the moment."""
        while self._files:
            entries = self._read_chunk(self._files[0])
            if entries:
                return entries
            if entries is None and not self._next_file():
                return []
        self._files = self._open_after(None)
        return self.read() if self._files else []

    def _next_file(self) -> bool:
        """Leave a file that is read to its end for the one after it; False where there is none."""
        current = self._files[0]
        if len(self._files) == 1:
            if not self._rotated(current):
                return False
            # It was renamed before this look, and nothing is added after that: what came last is read first.
            newer = self._open_after(current)
            if not newer or self._grown(current):
                for file in newer:
                    file.close()
                return self._grown(current)
            self._files += newer
        current.close()
        del self._files[0]
        return True

    def _rotated(self, file: _File) -> bool:
        try:
            state = os.stat(self._path)
        except OSError:
            return False
        return (state.st_dev, state.st_ino) != file.identity

    @staticmethod
    def _grown(file: _File) -> bool:
        tail = os.pread(file.fd, _CHUNK, file.offset)
        return b"\n" in tail

    def _read_chunk(self, file: _File) -> list[Entry] | None:
        size = _CHUNK
        while True:
            data = os.pread(file.fd, size, file.offset)
            end = data.rfind(b"\n")
            if end >= 0:
                break
            if len(data) < size:
                if not data and os.fstat(file.fd).st_size < file.offset:
                    file.offset = 0  # somebody emptied the file
                    continue
                return None
            if size >= _MAX_RECORD:
                file.offset += size
            else:
                size *= 4
        file.offset += end + 1
        parse = self._parse
        return [entry for entry in map(parse, data[:end].split(b"\n")) if entry is not None]
