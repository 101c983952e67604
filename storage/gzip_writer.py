"""Compressing a layer: gzip and zstd, whose bytes depend on the content only.

Weight: isal's zlib (or zlib) or zstandard, loaded when the first writer is made.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Sink(Protocol):
        def write(self, data: bytes, /) -> object: ...

    class _Compressor(Protocol):
        def compress(self, data: bytes, /) -> bytes: ...
        def flush(self) -> bytes: ...


_GZIP = 31  # wbits: 15 and a gzip header, whose time is 0 (zlib.h, deflateInit2)
_ZSTD_LEVEL = 3  # zstd(1)'s own
_LEVEL = 2  # isal's: 310 MB/s, four times zlib's fastest


class GzipWriter:
    """Passes what is written, compressed, to `sink`; `finish` writes the end.

    level: zlib's, 1 to 9; 0: the usual one.
    """

    def __init__(self, sink: Sink, level: int = 0) -> None:
        self._sink = sink
        self._compress = _compressor(level)

    def write(self, data: bytes) -> None:
        """Compress `data`."""
        if out := self._compress.compress(data):
            self._sink.write(out)

    def finish(self) -> None:
        """Write what is left."""
        self._sink.write(self._compress.flush())


class ZstdWriter(GzipWriter):
    """The same as one zstd frame; level: 1 to 22."""

    def __init__(self, sink: Sink, level: int = 0) -> None:
        import zstandard

        self._sink = sink
        self._compress = zstandard.ZstdCompressor(level=level or _ZSTD_LEVEL).compressobj()


def _compressor(level: int) -> _Compressor:
    if level:
        import zlib

        return zlib.compressobj(level, zlib.DEFLATED, _GZIP)
    try:
        from isal import isal_zlib
    except ImportError:
        import zlib

        return zlib.compressobj(3, zlib.DEFLATED, _GZIP)
    return isal_zlib.compressobj(_LEVEL, wbits=_GZIP)
