"""One layer's bytes on their way: source → sha256 → decompress → sha256 of the diff, beside whoever unpacks them.

Weight: `storage.threaded`, and what `storage.compression` loads.

Receiving, hashing and inflating take about as long as writing files does, and let go of the interpreter's lock, so
they have a thread of their own (`storage.threaded`, which bounds what is between the two, whatever the layer's size).
"""

from __future__ import annotations

from storage import digest as digests
from storage.compression import CompressionError, open_decompressed
from storage.digest import DigestError
from storage.threaded import ThreadedReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

    from storage.compression import Reader

CHUNK_BYTES = 256 << 10


class LayerPipeline:
    """A reader of a layer's uncompressed bytes, produced by a thread of its own.

    source: the compressed bytes; it is read to its end.  digest: what they must have; diff_id: what the
    uncompressed bytes must have ("": not known); window: `UnpackLimits.max_window_bytes`.  `read` raises what the
    thread met: of the source, CompressionError, DigestError.  Nothing may be trusted before `read` has returned b"",
    which comes only after both digests were found to be right.
    """

    def __init__(self, source: Reader, digest: str, diff_id: str, what: str, window: int = 0) -> None:
        self._source = source
        self._digest = digest
        self._diff_id = diff_id
        self._what = what
        self._window = window
        self._verify = True  # the compressed bytes, also where nobody reads on
        self._reader = ThreadedReader(self._produce(), f"layer {digests.short(digest)}")

    def read(self, size: int, /) -> bytes:
        """1 to `size` bytes; b"" at the verified end."""
        return self._reader.read(size)

    def drain(self) -> None:
        """Read the rest: for who only wants the bytes received and verified."""
        while self.read(CHUNK_BYTES):
            pass

    def close(self) -> None:
        """End the thread, wherever it is; its source must fail or return soon (a cancelled transfer does)."""
        self._verify = False
        self._reader.close()

    def blame(self, error: BaseException) -> BaseException:
        """The error to report where the reading side failed with `error`, which may be only a consequence.

        Receives the rest of the source, without decompressing it: bytes of a wrong digest and a broken transfer
        come before whatever they led to.  Ends the thread.
        """
        self._reader.close()
        met = self._reader.error
        return error if met is None or isinstance(met, CompressionError) else met

    def _produce(self) -> Generator[bytes, None, None]:
        source = _Hashing(self._source, digests.split(self._digest)[0])
        diff = digests.new(digests.split(self._diff_id)[0] if self._diff_id else "sha256")
        try:
            plain = open_decompressed(source, self._what, self._window)
            while chunk := plain.read(CHUNK_BYTES):
                diff.update(chunk)
                yield chunk
        except (CompressionError, GeneratorExit):
            if self._verify:
                self._check_digest(source)  # damaged bytes are a wrong digest first of all
            raise
        self._check_digest(source)
        if self._diff_id and diff.hexdigest() != digests.split(self._diff_id)[1]:
            raise DigestError(f"{self._what}: unpacked it is not {self._diff_id}, which the configuration names")

    def _check_digest(self, source: _Hashing) -> None:
        while source.read(CHUNK_BYTES):
            pass
        found = f"{digests.split(self._digest)[0]}:{source.hash.hexdigest()}"
        if found != self._digest:
            raise WrongBlobError(f"{self._what}: wrong digest: the content has {found}")


class WrongBlobError(DigestError):
    """The bytes of a blob are not the ones that its digest names."""


class _Hashing:
    """Reads through, hashing."""

    __slots__ = ("_source", "hash")

    def __init__(self, source: Reader, algorithm: str) -> None:
        self._source = source
        self.hash = digests.new(algorithm)

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        self.hash.update(data)
        return data
