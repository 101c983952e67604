"""One layer's bytes on their way: source → sha256 → decompress → sha256 of the diff, beside whoever unpacks them.

Weight: `threading`, and what `storage.compression` loads.

Receiving, hashing and inflating take about as long as writing files does, and let go of the interpreter's lock, so
they have a thread of their own.  What is between the two threads is bounded to a few chunks, whatever the layer's size.
"""

from __future__ import annotations

import threading
from collections import deque

from rootless.errors import Error
from storage import digest as digests
from storage.compression import CompressionError, open_decompressed
from storage.digest import DigestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from storage.compression import Reader

CHUNK_BYTES = 256 << 10
_CHUNKS_AHEAD = 12


class AbandonedError(Error):
    """The reading side has gone; the thread of the pipeline ends itself with this."""


class LayerPipeline:
    """A reader of a layer's uncompressed bytes, produced by a thread of its own.

    source: the compressed bytes; it is read to its end.  digest: what they must have; diff_id: what the
    uncompressed bytes must have ("": not known).  `read` raises what the thread met: of the source, CompressionError,
    DigestError.  Nothing may be trusted before `read` has returned b"", which comes only after both digests were
    found to be right.
    """

    def __init__(self, source: Reader, digest: str, diff_id: str, what: str) -> None:
        self._source = source
        self._digest = digest
        self._diff_id = diff_id
        self._what = what
        self._chunks: deque[bytes] = deque()
        self._rest = b""
        self._change = threading.Condition()
        self._ended = False
        self._abandoned = False
        self._verify = True
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._produce, name=f"layer {digests.short(digest)}", daemon=True)
        self._thread.start()

    def read(self, size: int, /) -> bytes:
        """1 to `size` bytes; b"" at the verified end."""
        if not self._rest:
            with self._change:
                while not self._chunks and not self._ended:
                    self._change.wait()
                if self._chunks:
                    self._rest = self._chunks.popleft()
                    self._change.notify()
                elif self._error is not None:
                    raise self._error
                else:
                    return b""
        if size >= len(self._rest):
            out, self._rest = self._rest, b""
        else:
            out, self._rest = self._rest[:size], self._rest[size:]
        return out

    def drain(self) -> None:
        """Read the rest: for who only wants the bytes received and verified."""
        while self.read(CHUNK_BYTES):
            pass

    def close(self) -> None:
        """End the thread, wherever it is; its source must fail or return soon (a cancelled transfer does)."""
        self._abandon(verify=False)

    def blame(self, error: BaseException) -> BaseException:
        """The error to report where the reading side failed with `error`, which may be only a consequence.

        Receives the rest of the source, without decompressing it: bytes of a wrong digest and a broken transfer
        come before whatever they led to.  Ends the thread.
        """
        self._abandon(verify=True)
        met = self._error
        return error if met is None or isinstance(met, (AbandonedError, CompressionError)) else met

    def _abandon(self, verify: bool) -> None:
        with self._change:
            self._abandoned = True
            self._verify = verify
            self._chunks.clear()
            self._change.notify()
        self._thread.join()

    def _produce(self) -> None:
        error: BaseException | None = None
        try:
            self._run()
        except BaseException as caught:  # raised again on the reading side
            error = caught
        with self._change:
            self._error = error
            self._ended = True
            self._change.notify()

    def _run(self) -> None:
        source = _Hashing(self._source, digests.split(self._digest)[0])
        diff = digests.new(digests.split(self._diff_id)[0] if self._diff_id else "sha256")
        try:
            plain = open_decompressed(source, self._what)
            while chunk := plain.read(CHUNK_BYTES):
                diff.update(chunk)
                self._put(chunk)
        except (CompressionError, AbandonedError):
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

    def _put(self, chunk: bytes) -> None:
        with self._change:
            while len(self._chunks) >= _CHUNKS_AHEAD and not self._abandoned:
                self._change.wait()
            if self._abandoned:
                raise AbandonedError(f"{self._what}: abandoned")
            self._chunks.append(chunk)
            self._change.notify()


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
