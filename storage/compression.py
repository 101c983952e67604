"""Reading compressed streams with a bound on what one read may produce.

Weight: nothing until a stream is opened; then isal (Intel's inflate, 2 to 3 times zlib's speed), zlib where it is
missing, or zstandard, whichever the stream begins with.

What a stream is shows in its first bytes, not in its media type: registries and old tools mislabel.
"""

from __future__ import annotations

from rootless.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Reader(Protocol):
        """A byte stream: `read(n)` gives 1 to n bytes, b"" at its end."""

        def read(self, size: int, /) -> bytes: ...

    class _Decompressor(Protocol):
        """What bz2's, lzma's and isal's decompressor objects have in common."""

        @property
        def eof(self) -> bool: ...
        @property
        def needs_input(self) -> bool: ...
        @property
        def unused_data(self) -> bytes: ...
        def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


_INPUT_BYTES = 64 << 10
# What zstd(1) itself accepts without --long: a frame may ask for a window of up to this many bytes of memory.
_MAX_WINDOW = 1 << 27
_ZSTD_WINDOWS = (1 << 10, 1 << 31)  # the smallest and the largest that the format and a decoder know

_BOMB_BYTES, _BOMB_RATIO = 64 << 20, 300

_ZSTD_SKIPPABLE = tuple(bytes((low, 0x2A, 0x4D, 0x18)) for low in range(0x50, 0x60))


class CompressionError(Error):
    """A compressed stream is damaged or ends too early."""


def detect(head: bytes) -> str:
    """ "gzip", "zstd", "xz", "bzip2" or "" (not compressed) by a stream's first 6 bytes."""
    if head.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    if head.startswith(b"\x28\xb5\x2f\xfd") or head[:4] in _ZSTD_SKIPPABLE:
        return "zstd"
    if head.startswith(b"\xfd7zXZ\x00"):
        return "xz"
    if head.startswith(b"BZh"):
        return "bzip2"
    return ""


def open_decompressed(source: Reader, what: str, layer_window: int = 0) -> Reader:
    """A reader of what `source` holds, decompressed; `what` begins its error messages.

    Its `read(n)` never returns, nor holds, more than n bytes of output, whatever the input claims to expand to; zstd
    holds a window besides.  layer_window: how large that may be where it is a layer's (`UnpackLimits`).
    It may stop before the end of `source` (bytes behind the compressed data): who hashes `source` drains it.
    Raises CompressionError from `read`.
    """
    head = b""
    while len(head) < 6 and (more := source.read(6 - len(head))):
        head += more
    whole = _Prefixed(head, source)
    kind = detect(head)
    if kind == "zstd":
        return _ZstdReader(whole, what, layer_window)
    return _MemberReader(whole, kind, what) if kind else whole


class Bounded:
    """A reader of decompressed bytes that ends with CompressionError where they are far more than what they came from.

    taken: how many compressed bytes were read so far.  The same ratio as for layers that are unpacked.
    """

    __slots__ = ("_plain", "_taken", "_total", "_what")

    def __init__(self, plain: Reader, taken: Callable[[], int], what: str) -> None:
        self._plain = plain
        self._taken = taken
        self._total = 0
        self._what = what

    def read(self, size: int, /) -> bytes:
        data = self._plain.read(size)
        self._total += len(data)
        if self._total > _BOMB_BYTES + _BOMB_RATIO * self._taken():
            raise CompressionError(f"{self._what}: it expands to more than {_BOMB_RATIO} times its size")
        return data


class _Prefixed:
    """`head`, then the rest of `source`."""

    __slots__ = ("_head", "_source")

    def __init__(self, head: bytes, source: Reader) -> None:
        self._head = head
        self._source = source

    def read(self, size: int, /) -> bytes:
        if self._head:
            out, self._head = self._head[:size], self._head[size:]
            return out
        return self._source.read(size)


class _MemberReader:
    """gzip, xz and bzip2: members (RFC 1952 §2.2) follow each other until the end of the source."""

    __slots__ = ("_decompressor", "_kind", "_source", "_what")

    def __init__(self, source: Reader, kind: str, what: str) -> None:
        self._source = source
        self._kind = kind
        self._what = what
        self._decompressor: _Decompressor | None = _make(kind)

    def read(self, size: int, /) -> bytes:
        while self._decompressor is not None:
            data = b""
            if self._decompressor.eof:
                data = self._next_member()
                if self._decompressor is None:
                    break
            elif self._decompressor.needs_input:
                data = self._source.read(_INPUT_BYTES)
                if not data:
                    raise CompressionError(f"{self._what}: the {self._kind} data ends too early")
            try:
                out = self._decompressor.decompress(data, size)
            except Exception as error:  # zlib.error, isal's IsalError, LZMAError, OSError: one meaning
                raise CompressionError(f"{self._what}: the {self._kind} data is damaged: {error}") from error
            if out:
                return out
        return b""

    def _next_member(self) -> bytes:
        """The first bytes of a further member, for a new decompressor; none is left at the end or before padding."""
        assert self._decompressor is not None
        data = self._decompressor.unused_data
        # Zeros behind the last member are padding of a tape block (gzip(1), "trailing zeros").
        while not data.strip(b"\0"):
            data = self._source.read(_INPUT_BYTES)
            if not data:
                self._decompressor = None
                return b""
        self._decompressor = _make(self._kind)
        return data


def _make(kind: str) -> _Decompressor:
    if kind == "gzip":
        try:
            from isal import igzip_lib
        except ImportError:
            return _ZlibDecompressor()
        return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    if kind == "xz":
        import lzma

        return lzma.LZMADecompressor(memlimit=_MAX_WINDOW)
    import bz2

    return bz2.BZ2Decompressor()


class _ZlibDecompressor:
    """zlib's decompressor with the interface of the others, for machines that isal has no build for."""

    def __init__(self) -> None:
        import zlib

        self._zlib = zlib.decompressobj(wbits=31)
        self._more = False

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._more and not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int = 0, /) -> bytes:
        out = self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)
        # A full buffer may mean that zlib holds output back although it has consumed all of the input.
        self._more = len(out) == max_length
        return out


class _ZstdReader:
    """zstd frames, skippable ones (zstd:chunked's table of contents) included."""

    __slots__ = ("_reader", "_too_large", "_what")

    def __init__(self, source: Reader, what: str, layer_window: int) -> None:
        import zstandard

        self._what = what
        window = min(max(layer_window or _MAX_WINDOW, _ZSTD_WINDOWS[0]), _ZSTD_WINDOWS[1])
        self._too_large = f"{what}: decompressing its zstd data takes a window of more than {window} bytes of memory"
        if layer_window:
            self._too_large += " (layer_max_window)"
        self._reader = zstandard.ZstdDecompressor(max_window_size=window).stream_reader(
            source,  # type: ignore[arg-type]
            read_size=_INPUT_BYTES,
            read_across_frames=True,
        )

    def read(self, size: int, /) -> bytes:
        try:
            return self._reader.read(size)
        except Exception as error:  # ZstdError, MemoryError
            if isinstance(error, (Error, OSError)):
                raise
            if "too much memory" in str(error):  # ZSTD_error_frameParameter_windowTooLarge
                raise CompressionError(self._too_large) from error
            raise CompressionError(f"{self._what}: the zstd data is damaged: {error}") from error
