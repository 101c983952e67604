"""Reading tar as a stream: ustar, pax, GNU (long names, sparse, base-256 numbers), star, and V7 archives.

Weight: `_struct`, `zlib` (C).  Nothing here touches a file system; what a name may do is `storage.unpack`'s concern.
Memory is bounded: one chunk of the source, extended headers of at most 4 MiB for a member and 1 MiB for all, one
sparse map.

Formats: POSIX.1-2017 pax(1), "ustar Interchange Format" and "pax Extended Header"; GNU tar manual, "Sparse Formats"
and "Basic Tar Format"; star(5) for SCHILY.xattr.
"""

from __future__ import annotations

import _struct
import zlib

from rootless.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    from storage.compression import Reader

    class Leaper(Protocol):
        """A source that can pass over bytes; False at its end."""

        def skip(self, size: int) -> bool: ...


BLOCK = 512
_CHUNK = 256 << 10
# Go's archive/tar, which most other engines read with, has the same bound: an archive beyond it is hostile.
MAX_EXTENDED_HEADER = 1 << 20
MAX_EXTENDED_HEADERS = 4 << 20  # of one member, together
MAX_SPARSE_PIECES = 1 << 20
_MAX_SIZE = 1 << 62
_MAX_TIME_NS = (1 << 63) - 1

# name mode uid gid size mtime checksum type linkname magic+version uname gname devmajor devminor prefix
_HEADER = _struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_ZERO_BLOCK = bytes(BLOCK)

FILE, LINK, SYMLINK, CHAR, BLOCKDEV, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_WITHOUT_DATA = frozenset((LINK, SYMLINK, CHAR, BLOCKDEV, DIRECTORY, FIFO))


class TarError(Error):
    """The archive is malformed, cut off, or of a kind that is not read."""


class Entry:
    """One member.  Mutable only while it is being read; `name` and `link` are as the archive has them."""

    __slots__ = ("device", "gid", "kind", "link", "mode", "mtime_ns", "name", "size", "sparse", "uid", "xattrs")

    def __init__(self) -> None:
        self.name = b""
        self.kind = FILE
        self.mode = 0
        self.uid = 0
        self.gid = 0
        self.size = 0  # of the file; less data is in the archive where `sparse` is given
        self.mtime_ns = 0
        self.link = b""
        self.device = (0, 0)
        self.xattrs: dict[str, bytes] | None = None
        self.sparse: list[tuple[int, int]] | None = None  # (offset, length) of the data, in order


class TarStream:
    """The members of an archive, in order: `next()`, then `data()` or not, then `next()` again.

    what: begins every error message ("layer sha256:…").
    """

    __slots__ = ("_buffer", "_global", "_left", "_padding", "_position", "_source", "_what", "current", "offset")

    def __init__(self, source: Reader, what: str) -> None:
        self._source = source
        self._what = what
        self._buffer = b""
        self._position = 0
        self._left = 0  # data of the current member that has not been read
        self._padding = 0  # and what fills its last block
        self._global: dict[bytes, bytes] = {}
        self.current = b""  # the member's name, for messages
        self.offset = 0  # bytes taken from the source

    # --- bytes ---

    def _fill(self) -> bool:
        self._buffer = self._source.read(_CHUNK)
        self._position = 0
        self.offset += len(self._buffer)
        return bool(self._buffer)

    def _take(self, size: int) -> bytes:
        """Exactly `size` bytes, less only at the end of the source."""
        start, end = self._position, self._position + size
        if end <= len(self._buffer):
            self._position = end
            return self._buffer[start:end]
        parts = [self._buffer[start:]]
        size -= len(parts[0])
        while size and self._fill():
            self._position = min(size, len(self._buffer))
            parts.append(self._buffer[: self._position])
            size -= self._position
        if size:
            self._buffer, self._position = b"", 0
        return b"".join(parts)

    def _skip(self, size: int) -> None:
        while size:
            here = len(self._buffer) - self._position
            if size <= here:
                self._position += size
                return
            size -= here
            if not self._fill():
                raise self.error("the archive ends in the middle of its data")

    def _payload(self, size: int, limit: int) -> bytes:
        """The whole data of an extended header, padding taken too."""
        if size > limit:
            raise self.error(f"an extended header of {size} bytes is too large")
        data = self._take(size)
        if len(data) < size:
            raise self.error("the archive ends in the middle of an extended header")
        self._skip(-size % BLOCK)
        return data

    def data(self) -> Iterator[memoryview]:
        """The current member's data as the archive has it (for a sparse one the pieces, joined).  Raises TarError."""
        while self._left:
            if self._position == len(self._buffer) and not self._fill():
                raise self.error("the archive ends in the middle of its data")
            end = min(self._position + self._left, len(self._buffer))
            piece = memoryview(self._buffer)[self._position : end]
            self._left -= end - self._position
            self._position = end
            yield piece

    @property
    def buffered(self) -> int:
        """Bytes that were taken from the source and not used yet."""
        return len(self._buffer) - self._position

    def skip_data(self, source: Leaper) -> None:
        """Skip the current member's data where the source can leap; `source` is what the stream was made with."""
        beyond = self._left + self._padding - self.buffered
        if beyond <= 0:
            return
        self._buffer, self._position = b"", 0
        self._left = self._padding = 0
        if not source.skip(beyond):
            raise self.error("the archive ends in the middle of its data")

    def drain(self) -> bool:
        """Read on behind the end mark, so that whoever hashes the source sees all of it; False at its end."""
        return self._fill()

    def error(self, problem: str) -> TarError:
        """An error that names the archive and the member."""
        where = f": entry {shown(self.current)}" if self.current else ""
        return TarError(f"{self._what}{where}: {problem}")

    # --- headers ---

    def next(self) -> Entry | None:
        """The next member, what is left of the last one skipped; None at the end.  Raises TarError."""
        self._skip(self._left + self._padding)
        self._left = self._padding = 0
        pax: dict[bytes, bytes] | None = None
        long_name = long_link = None
        begin = self.offset - self.buffered
        while True:
            # Header upon header is no member: without a bound it would be neither counted nor ever end.
            if self.offset - self.buffered - begin > MAX_EXTENDED_HEADERS:
                raise self.error(f"more than {MAX_EXTENDED_HEADERS} bytes of extended headers before one member")
            block = self._take(BLOCK)
            if block == _ZERO_BLOCK or not block:
                if pax is not None or long_name is not None or long_link is not None:
                    raise self.error("the archive ends behind an extended header")
                return None
            if len(block) < BLOCK:
                raise self.error("the archive ends in the middle of a header")
            fields = _HEADER.unpack(block)
            self._check(block, fields[6])
            kind = fields[7]
            if kind == b"x" or kind == b"X":  # noqa: PLR1714 - X is the one of Solaris
                pax = self._pax(self._payload(self._number(fields[4], "size"), MAX_EXTENDED_HEADER), pax or {})
            elif kind == b"g":
                payload = self._payload(self._number(fields[4], "size"), MAX_EXTENDED_HEADER)
                self._global = self._pax(payload, self._global)
                if sum(map(len, (*self._global, *self._global.values()))) > MAX_EXTENDED_HEADER:
                    raise self.error(f"global headers of more than {MAX_EXTENDED_HEADER} bytes together")
            elif kind == b"L":
                long_name = self._payload(self._number(fields[4], "size"), MAX_EXTENDED_HEADER).partition(b"\0")[0]
            elif kind == b"K":
                long_link = self._payload(self._number(fields[4], "size"), MAX_EXTENDED_HEADER).partition(b"\0")[0]
            elif kind == b"V":  # GNU: a volume's label
                self._payload(self._number(fields[4], "size"), MAX_EXTENDED_HEADER)
            else:
                return self._entry(block, fields, pax, long_name, long_link)

    def _check(self, block: bytes, text: bytes) -> None:
        digits = text.partition(b"\0")[0].strip()
        expected = int(digits, 8) if digits.isdigit() and not digits.strip(b"01234567") else -1
        # Adler-32's lower half is 1 + the sum of the bytes, modulo 65521, at C's speed (RFC 1950 §8.2).
        total = zlib.adler32(b"        ", zlib.adler32(block[:148]))
        if expected >= 0 and zlib.adler32(block[156:], total) & 0xFFFF == (expected + 1) % 65521:
            return
        # Some old tars summed signed characters.
        signed = sum(b - 256 if b > 127 else b for b in block[:148] + block[156:]) + 8 * 32
        if signed != expected:
            self.current = b""
            raise self.error("not a tar archive, or damaged: a header has a wrong checksum")

    def _number(self, field: bytes, what: str) -> int:
        """An octal field, or base 256 with the top bit set (GNU, star)."""
        first = field[0]
        if first & 0x80:
            value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
            if first & 0x40:
                value -= 1 << (8 * len(field) - 1)
            return value
        text = field.partition(b"\0")[0].strip(b" \0")
        try:
            return int(text, 8) if text else 0
        except ValueError:
            raise self.error(f"the {what} {field!r} is not a number") from None

    def _pax(self, data: bytes, into: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """Records of an extended header: "LENGTH KEY=VALUE\\n".  An empty value deletes an earlier one."""
        records = dict(into)
        position = 0
        sparse: list[bytes] = []
        while position < len(data):
            space = data.find(b" ", position, position + 20)
            digits = data[position:space]
            if space < 0 or not digits.isdigit():
                raise self.error("an extended header is malformed")
            end = position + int(digits)
            record = data[space + 1 : end]
            key, equals, value = record[:-1].partition(b"=")
            if end > len(data) or end <= space or record[-1:] != b"\n" or not equals:
                raise self.error("an extended header is malformed")
            if key == b"GNU.sparse.offset" or key == b"GNU.sparse.numbytes":  # noqa: PLR1714 - format 0.0 repeats them
                sparse.append(value)
            elif value:
                records[key] = value
            else:
                records.pop(key, None)
            position = end
        if sparse:
            records[b"GNU.sparse.map"] = b",".join(sparse)
        return records

    def _entry(
        self,
        block: bytes,
        fields: tuple[bytes, ...],
        pax: dict[bytes, bytes] | None,
        long_name: bytes | None,
        long_link: bytes | None,
    ) -> Entry:
        entry = Entry()
        name = fields[0].partition(b"\0")[0]
        if fields[9] == b"ustar\x0000" or fields[9][:6] == b"ustar\0":
            prefix = fields[14]
            if block[508:512] == b"tar\0":  # star keeps two times behind a shorter prefix
                prefix = prefix[:131]
            if prefix[0]:
                name = prefix.partition(b"\0")[0] + b"/" + name
        entry.name = self.current = name if long_name is None else long_name
        entry.link = fields[8].partition(b"\0")[0] if long_link is None else long_link
        number = self._number
        entry.mode = number(fields[1], "mode") & 0o7777
        entry.uid = number(fields[2], "uid")
        entry.gid = number(fields[3], "gid")
        entry.mtime_ns = number(fields[5], "mtime") * 1_000_000_000
        size = number(fields[4], "size")
        kind = fields[7]
        if pax is not None or self._global:
            size = self._apply_pax(entry, {**self._global, **(pax or {})}, size)
        if kind == b"\0":
            kind = DIRECTORY if entry.name.endswith(b"/") else FILE
        elif kind == b"7":  # a contiguous file: nobody makes those
            kind = FILE
        entry.kind = kind
        if kind in (CHAR, BLOCKDEV):
            entry.device = (number(fields[12], "device number"), number(fields[13], "device number"))
        if kind in _WITHOUT_DATA:
            size = 0
        elif kind != FILE and kind != b"S":  # noqa: PLR1714
            raise self.error(f"entries of type {kind!r} are not supported")
        self._check_bounds(entry, size)
        self._left, self._padding = size, -size % BLOCK
        if kind == b"S":
            entry.kind = FILE
            self._gnu_sparse(entry, block)
        elif entry.sparse is not None:
            self._check_sparse(entry, size)
        elif kind == FILE and pax is not None and pax.get(b"GNU.sparse.major") == b"1":
            self._sparse_map_in_data(entry)
        else:
            entry.size = size
        return entry

    def _check_bounds(self, entry: Entry, size: int) -> None:
        if not 0 <= size < _MAX_SIZE or not 0 <= entry.size < _MAX_SIZE:
            raise self.error(f"the size {max(size, entry.size)} is impossible")
        if entry.uid < 0 or entry.gid < 0 or entry.uid >= 1 << 32 or entry.gid >= 1 << 32:
            raise self.error(f"the owner {entry.uid}:{entry.gid} is impossible")
        if b"\0" in entry.name or b"\0" in entry.link:
            raise self.error("a name contains a NUL byte")
        entry.mtime_ns = max(-_MAX_TIME_NS, min(entry.mtime_ns, _MAX_TIME_NS))

    def _apply_pax(self, entry: Entry, pax: dict[bytes, bytes], size: int) -> int:
        """Let extended records override the header; returns the size of the data in the archive."""
        for key, value in pax.items():
            if key == b"path":
                entry.name = self.current = value
            elif key == b"linkpath":
                entry.link = value
            elif key == b"mtime":
                entry.mtime_ns = self._time(value)
            elif key == b"size":
                size = self._decimal(value, "size")
            elif key == b"uid":
                entry.uid = self._decimal(value, "uid")
            elif key == b"gid":
                entry.gid = self._decimal(value, "gid")
            elif key.startswith(b"SCHILY.xattr."):
                if entry.xattrs is None:
                    entry.xattrs = {}
                entry.xattrs[key[13:].decode("utf-8", "surrogateescape")] = value
        if b"GNU.sparse.name" in pax:
            entry.name = self.current = pax[b"GNU.sparse.name"]
        real = pax.get(b"GNU.sparse.realsize") or pax.get(b"GNU.sparse.size")
        if real is not None:
            entry.size = self._decimal(real, "real size")
        if b"GNU.sparse.map" in pax:
            numbers = [self._decimal(n, "sparse map") for n in pax[b"GNU.sparse.map"].split(b",")]
            if len(numbers) % 2:
                raise self.error("the sparse map is malformed")
            entry.sparse = list(zip(numbers[::2], numbers[1::2], strict=True))
        return size

    def _decimal(self, text: bytes, what: str) -> int:
        if not text.isdigit() or len(text) > 20:
            raise self.error(f"the {what} {text[:40]!r} is not a number")
        return int(text)

    def _time(self, text: bytes) -> int:
        """Seconds with any number of decimals, perhaps negative, as nanoseconds."""
        negative = text.startswith(b"-")
        whole, _, fraction = text[negative:].partition(b".")
        if (whole and not whole.isdigit()) or (fraction and not fraction.isdigit()) or len(whole) > 20:
            raise self.error(f"the time {text[:40]!r} is not a number")
        value = int(whole or b"0") * 1_000_000_000 + int((fraction + b"000000000")[:9])
        return -value if negative else value

    # --- sparse files ---

    def _gnu_sparse(self, entry: Entry, block: bytes) -> None:
        """The old GNU format: four pieces in the header, further ones in blocks behind it."""
        pieces: list[tuple[int, int]] = []
        entry.size = self._number(block[483:495], "real size")
        more, table = block[482], block[386:482]
        while True:
            for start in range(0, len(table), 24):
                piece = table[start : start + 24]
                if piece[0] == 0 and piece[12] == 0:
                    break
                pieces.append((self._number(piece[:12], "sparse map"), self._number(piece[12:], "sparse map")))
            if not more:
                break
            if len(pieces) > MAX_SPARSE_PIECES:
                raise self.error("the sparse map is too large")
            table = self._take(BLOCK)
            if len(table) < BLOCK:
                raise self.error("the archive ends in the middle of a sparse map")
            more, table = table[504], table[:504]
        entry.sparse = pieces
        self._check_sparse(entry, self._left)

    def _sparse_map_in_data(self, entry: Entry) -> None:
        """GNU's format 1.0: decimal lines (count, then offset and length of each piece), padded to a block."""
        stored = self._left
        lines: list[bytes] = []
        rest, wanted, used = b"", 1, 0
        while len(lines) < wanted:
            block = self._take(BLOCK) if used + BLOCK <= stored + self._padding else b""
            if len(block) < BLOCK:
                raise self.error("the archive ends in the middle of a sparse map")
            used += BLOCK
            *complete, rest = (rest + block).split(b"\n")
            if len(rest) > 40 and len(lines) + len(complete) < wanted:
                raise self.error("the sparse map is malformed")
            lines += complete
            wanted = 1 + 2 * self._decimal(lines[0], "sparse map") if lines else 1
            if wanted > 2 * MAX_SPARSE_PIECES:
                raise self.error("the sparse map is too large")
        numbers = [self._decimal(n, "sparse map") for n in lines[1:wanted]]
        entry.sparse = list(zip(numbers[::2], numbers[1::2], strict=True))
        if used > stored:
            raise self.error("the sparse map is larger than its file")
        self._left = stored - used
        self._check_sparse(entry, self._left)

    def _check_sparse(self, entry: Entry, stored: int) -> None:
        position = total = 0
        for offset, length in entry.sparse or ():
            if offset < position or length < 0:
                raise self.error("the sparse map is malformed")
            position = offset + length
            total += length
        if position > entry.size or total != stored or entry.size >= _MAX_SIZE:
            raise self.error("the sparse map does not fit the file")


def shown(name: bytes) -> str:
    """A member's name for a message: printable, and of bounded length."""
    text = name.decode("utf-8", "backslashreplace")
    if not text.isprintable():
        text = ascii(text)[1:-1]
    return text if len(text) <= 200 else text[:197] + "..."
