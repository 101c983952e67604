"""Where a container's output goes: the writers of the log drivers, in the supervisor.

Weight: `os`, `time`, `_json`, `rootless.values`, `rootless.errors`; `rootless.journal` for that driver only.

A record is one line, or a fragment of one: what follows the last newline is held until its line ends, grows beyond
LINE_MAX, or is flushed.  Nothing here raises after `open_log`: a full disk costs records, never the container.

k8s-file: `2026-01-31T12:00:00.123456789+01:00 stdout F text` (F: the line's end; P: a fragment), the format of the
Kubernetes container runtime interface, which Podman's conmon writes too.
json-file: Docker's `{"log":"text\\n","stream":"stdout","time":"2026-01-31T11:00:00.123456789Z"}`,
the \\n missing from a fragment.
"""

from __future__ import annotations

import os
import time
from _json import encode_basestring

from rootless.errors import LaunchError, os_error_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from rootless.plan import LogPlan

    # (stream, text, whole lines or a fragment, nanoseconds since the epoch) -> records, each ended by its only newline
    Format = Callable[[bytes, bytes, bool, int], bytes]

    class LogWriter(Protocol):
        """One container's log, open for writing."""

        @property
        def pending(self) -> bool:
            """Part of a line is held."""

        def write(self, stream: bytes, data: bytes) -> None:
            """Append what came on b"stdout" or b"stderr"."""

        def flush(self) -> None:
            """Record what is held of unfinished lines (prompts): for a moment without output."""

        def reopen(self) -> None:
            """Somebody has moved the file away: go on in a new one."""

        def close(self) -> None:
            """Record what is held, and close."""


# A longer line becomes several records, so that memory and every reader's buffer have a bound (Docker's is the same).
LINE_MAX = 16 * 1024
STREAMS = (b"stdout", b"stderr")
_ZONE_MINUTES = 60


def open_log(plan: LogPlan) -> LogWriter:
    """The writer for a plan.  Raises LaunchError where the log cannot be opened."""
    if plan.driver in ("none", "passthrough"):
        return NoLog()  # passthrough: the container writes to the streams that it was given
    if plan.driver == "journald":
        from rootless.journal import JournalLog

        return JournalLog(plan.fields)
    if plan.driver in ("k8s-file", "json-file"):
        form = K8sFormat() if plan.driver == "k8s-file" else json_record
        return FileLog(plan.path, form, plan.max_size_bytes, plan.max_files)
    raise LaunchError("log", f"unknown log driver {plan.driver!r}")


class NoLog:
    """Output that is kept nowhere."""

    pending = False

    def write(self, stream: bytes, data: bytes) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""

    def reopen(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class LineLog:
    """Cuts a stream of bytes into lines and fragments; a subclass keeps them (`_put`)."""

    def __init__(self) -> None:
        self._held: dict[bytes, bytes] = {}

    @property
    def pending(self) -> bool:
        """Part of a line is held."""
        return bool(self._held)

    def write(self, stream: bytes, data: bytes) -> None:
        """Append what came on `stream`."""
        held = self._held.pop(stream, None)
        if held is not None:
            data = held + data
        pieces, rest = cut_lines(data)
        if rest:
            self._held[stream] = rest
        if pieces:
            self._put(stream, pieces)

    def flush(self) -> None:
        """Record what is held; a character of which only the first bytes have come stays."""
        self._flush(final=False)

    def _flush(self, final: bool) -> None:
        for stream, held in tuple(self._held.items()):
            end = len(held) if final else character_boundary(held, len(held))
            if end:
                self._put(stream, [(False, held[:end])])
            if end < len(held):
                self._held[stream] = held[end:]
            else:
                del self._held[stream]

    def _put(self, stream: bytes, pieces: list[tuple[bool, bytes]]) -> None:
        raise NotImplementedError


def cut_lines(data: bytes) -> tuple[list[tuple[bool, bytes]], bytes]:
    """([(whole, text)…], rest): runs of whole lines, fragments of lines beyond LINE_MAX, and an unfinished line."""
    pieces: list[tuple[bool, bytes]] = []
    last = data.rfind(b"\n") + 1
    start = pos = 0
    while pos < last:
        if last - pos <= LINE_MAX + 1:
            pos = last
            break
        newline = data.rfind(b"\n", pos, pos + LINE_MAX + 1)
        if newline >= 0:
            pos = newline + 1
            continue
        if pos > start:
            pieces.append((True, data[start:pos]))
        start = pos = _cut_fragment(data, pos, pieces)
    if pos > start:
        pieces.append((True, data[start:pos]))
    while len(data) - pos > LINE_MAX:
        pos = _cut_fragment(data, pos, pieces)
    return pieces, data[pos:]


def _cut_fragment(data: bytes, pos: int, pieces: list[tuple[bool, bytes]]) -> int:
    end = pos + character_boundary(data[pos : pos + LINE_MAX], LINE_MAX)
    pieces.append((False, data[pos:end]))
    return end


def character_boundary(data: bytes, end: int) -> int:
    """The last place up to `end` that does not split a UTF-8 character; `end` where the bytes are not UTF-8."""
    for back in range(1, min(4, end) + 1):
        byte = data[end - back]
        if byte & 0xC0 != 0x80:
            length = 2 if byte & 0xE0 == 0xC0 else 3 if byte & 0xF0 == 0xE0 else 4 if byte & 0xF8 == 0xF0 else 1
            return end - back if length > back else end
    return end


# --- formats ---------------------------------------------------------------------------------


class K8sFormat:
    """Local time with its offset; formatted once a second but for the nanoseconds."""

    def __init__(self) -> None:
        self._second = -1
        self._date = ""
        self._zone = ""

    def __call__(self, stream: bytes, text: bytes, whole: bool, now_ns: int) -> bytes:
        """Records for whole lines, or one for a fragment."""
        second, nanosecond = divmod(now_ns, 1_000_000_000)
        if second != self._second:
            self._second = second
            local = time.localtime(second)
            self._date = time.strftime("%Y-%m-%dT%H:%M:%S", local)
            self._zone = zone_text(local.tm_gmtoff)
        stamp = f"{self._date}.{nanosecond:09d}{self._zone} ".encode() + stream
        if not whole:
            return b"".join((stamp, b" P ", text, b"\n"))
        head = stamp + b" F "
        # One pass in C over the chunk: a header after every newline but the last.
        return head + text[:-1].replace(b"\n", b"\n" + head) + b"\n"


def zone_text(offset_s: int) -> str:
    """RFC 3339's `+01:00`."""
    minutes = abs(offset_s) // 60
    return f"{'-' if offset_s < 0 else '+'}{minutes // _ZONE_MINUTES:02d}:{minutes % _ZONE_MINUTES:02d}"


# What needs no escape in JSON, and the newline.
_PLAIN = bytes(c for c in range(0x20, 0x7F) if c not in b'"\\') + b"\n"


def json_record(stream: bytes, text: bytes, whole: bool, now_ns: int) -> bytes:
    """Docker's form.  Bytes that are not UTF-8 become U+FFFD, as there."""
    second, nanosecond = divmod(now_ns, 1_000_000_000)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
    end = b'","stream":"%b","time":"%b.%09dZ"}\n' % (stream, moment, nanosecond)
    body = text[:-1] if whole else text
    if body.translate(None, _PLAIN):
        # An escaped newline would look like an escaped backslash before an n: a lone surrogate, which decoding never
        # gives, marks the lines' ends through the escaping of the whole chunk at once.
        escaped = encode_basestring(body.decode("utf-8", "replace").replace("\n", "\udc0a"))[1:-1]
        body = escaped.replace("\udc0a", "\n").encode()
    if not whole:
        return b'{"log":"' + body + end
    end = b"\\n" + end
    return b'{"log":"' + body.replace(b"\n", end + b'{"log":"') + end


# --- files -----------------------------------------------------------------------------------


class FileLog(LineLog):
    """Records appended to a file, which rotates to `path.1`, `path.2`… before it would exceed its bound.

    max_size_bytes times max_files bounds all of them together, always; 0: no bound.  With one file the bound is shared
    by two halves, so that a rotation does not throw everything away.
    """

    def __init__(self, path: str, form: Format, max_size_bytes: int = 0, max_files: int = 1) -> None:
        super().__init__()
        self._path = path
        self._form = form
        self._segment = max_size_bytes
        self._files = max(1, max_files)
        if max_size_bytes and self._files == 1:
            self._segment, self._files = max(1, max_size_bytes // 2), 2
        self._fd = -1
        self._size = 0
        self._regular = True
        self._lost = 0  # bytes of records since the last one that was kept
        self._reason = ""
        try:
            self._open()
        except OSError as error:
            raise LaunchError("log", os_error_text(error, path), errno=error.errno or 0) from error

    def _open(self) -> None:
        # O_NONBLOCK: a FIFO without a reader would block; it has no effect on files.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        fd = os.open(self._path, flags, 0o600)
        try:
            state = os.fstat(fd)
            kind = state.st_mode & 0o170000
            if kind not in (0o100000, 0o020000):
                raise OSError(22, "not a regular file or device")  # noqa: TRY301 - closed below
            self._regular = kind == 0o100000
            self._size = self._end_record(fd, state.st_size) if self._regular else 0
        except OSError:
            os.close(fd)
            raise
        self._fd = fd
        if self._segment and self._regular:
            self._remove_beyond()

    def _end_record(self, fd: int, size: int) -> int:
        """After a supervisor was killed in the middle of a record: cut it off.  The file's size."""
        if not size:
            return 0
        reader = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            tail_length = min(size, 8 * LINE_MAX)
            tail = os.pread(reader, tail_length, size - tail_length)
        finally:
            os.close(reader)
        end = tail.rfind(b"\n") + 1
        if end == len(tail):
            return size
        if not end and tail_length < size:
            return size  # not ours: leave it
        size -= len(tail) - end
        os.ftruncate(fd, size)
        return size

    def _put(self, stream: bytes, pieces: list[tuple[bool, bytes]]) -> None:
        now_ns = time.time_ns()
        form = self._form
        if len(pieces) == 1:
            whole, text = pieces[0]
            self._append(form(stream, text, whole, now_ns))
        else:
            self._append(b"".join([form(stream, text, whole, now_ns) for whole, text in pieces]))

    def _append(self, records: bytes) -> None:
        if self._lost:
            lost = f"[{self._lost} bytes of the log were lost: {self._reason}]\n".encode()
            mark = self._form(b"stderr", lost, True, time.time_ns())
            before, self._lost = self._lost, 0
            if not self._write_rotating(mark):
                self._lost = before + len(records)
                return
        self._write_rotating(records)

    def _write_rotating(self, records: bytes) -> bool:
        """Write records, rotating where they cross the bound.  False where some were lost (and counted)."""
        kept = True
        while records:
            part, records = records, b""
            if self._segment and self._size + len(part) > self._segment and self._regular:
                cut = part.rfind(b"\n", 0, max(0, self._segment - self._size)) + 1
                if not cut:
                    if not self._size:
                        end = part.find(b"\n") + 1
                        kept = self._lose(part[:end], OSError(27, "a record is larger than the log's size bound"))
                        records = part[end:]
                        continue
                    try:
                        self._rotate()
                    except OSError as error:
                        return self._lose(part, error)
                    records = part
                    continue
                part, records = part[:cut], part[cut:]
            try:
                self._write(part)
            except OSError as error:
                return self._lose(records, error)
        return kept

    def _lose(self, records: bytes, error: OSError) -> bool:
        self._lost += len(records)
        self._reason = error.strerror or str(error)
        return False

    def _write(self, part: bytes) -> None:
        if self._fd < 0:
            try:
                self._open()
            except OSError:
                self._lost += len(part)
                raise
        done = 0
        try:
            while done < len(part):
                done += os.write(self._fd, part[done:] if done else part)
        except OSError:
            # A full disk takes the beginning of a record: keep whole ones only.
            kept = part.rfind(b"\n", 0, done) + 1
            if self._regular and kept < done:
                try:
                    os.ftruncate(self._fd, self._size + kept)
                except OSError:
                    kept = done
            self._size += kept
            self._lost += len(part) - kept
            raise
        self._size += done

    def _rotate(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        last = self._files - 1
        self._remove(f"{self._path}.{last}")
        for number in range(last - 1, 0, -1):
            self._rename(f"{self._path}.{number}", f"{self._path}.{number + 1}")
        self._rename(self._path, f"{self._path}.1")
        self._size = 0
        self._open()

    def _remove_beyond(self) -> None:
        # Files that an earlier, larger max-file left.
        number = self._files
        while self._remove(f"{self._path}.{number}"):
            number += 1

    @staticmethod
    def _remove(path: str) -> bool:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        return True

    @staticmethod
    def _rename(old: str, new: str) -> None:
        try:
            os.rename(old, new)
        except FileNotFoundError:
            return

    def reopen(self) -> None:
        """Go on in a new file under the same path."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        try:
            self._open()
        except OSError as error:
            self._reason = error.strerror or str(error)  # tried again at the next record

    def close(self) -> None:
        """Record what is held, and close."""
        self._flush(final=True)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
