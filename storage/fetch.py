"""Layers from a registry into the store: several at once, each received once, verified, unpacked on the way.

Weight: `threading`, `storage.layers`, `storage.pipeline`; loaded by `storage.pull` only.

Runs as uid 0 of the user's namespace, because unpacking sets owners.  For each layer two threads: the pipeline's
(network, both digests, decompression) and the one that unpacks.  What is received is kept in the blob store as it
came, so that save and push have the digests that the registry had, and a download that was cut continues.
"""

from __future__ import annotations

import os
import threading

from rootless.errors import Error
from rootless.values import Value
from storage.blobs import BlobStore, Download
from storage.database import open_database
from storage.layers import Layer, LayerStore, chain_ids
from storage.pipeline import LayerPipeline, WrongBlobError
from storage.registry_hosts import CancelledError, TransientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from storage.compression import Reader
    from storage.database import Database
    from storage.manifest import Descriptor
    from storage.registry import Registry
    from storage.unpack import UnpackLimits

    Events = Callable[["PullEvent"], None]

PARALLEL_LAYERS = 3
_CANCEL_WAIT_S = 10.0


class PullEvent(Value):
    """One step of a pull or push, as it is reported.  `kind`:

    "trying": `text` is the reference; "line": `text` is to be told; "start": `digest` begins, with `done` of `total`
    bytes here from before, `text` is "layer" or "config"; "bytes": `done` bytes of `digest` are here; "done": `digest`
    is complete, `text` is "exists" where nothing had to be copied, "mounted" where the registry had it elsewhere;
    "waiting": another process is at work on `digest`; "warning": `text`.
    """

    kind: str
    digest: str = ""
    done: int = 0
    total: int = 0
    text: str = ""


class Serialised:
    """Events from several threads, one at a time to the callback."""

    def __init__(self, callback: Events | None) -> None:
        self._callback = callback
        self._lock = threading.Lock()

    def __call__(self, event: PullEvent) -> None:
        if self._callback is not None:
            with self._lock:
                self._callback(event)


class LayerFetcher:
    """Fetches all layers of one image.  `fetch` once."""

    def __init__(
        self,
        db: Database,
        registry: Registry,
        path: str,
        events: Events,
        *,
        single_id: bool = False,
        limits: UnpackLimits | None = None,
        parallel: int = PARALLEL_LAYERS,
    ) -> None:
        self._paths = db.paths
        self._blobs = BlobStore(db.paths)
        self._registry = registry
        self._path = path
        self._events = events
        self._single_id = single_id
        self._limits = limits
        self._parallel = parallel
        self._change = threading.Condition()
        self._descriptors: Sequence[Descriptor] = ()
        self._diff_ids: Sequence[str] = ()
        self._chain: Sequence[str] = ()
        self._done: list[Layer | None] = []
        self._next = 0
        self._error: BaseException | None = None

    def fetch(self, descriptors: Sequence[Descriptor], diff_ids: Sequence[str]) -> tuple[Layer, ...]:
        """Make every layer stored, lowest first, and its blob too.  The first error of any of them is raised.

        Call it inside `with LayerStore(db)`, which keeps the collection of garbage away.
        """
        self._descriptors, self._diff_ids, self._chain = descriptors, diff_ids, chain_ids(diff_ids)
        self._done = [None] * len(descriptors)
        threads = [
            threading.Thread(target=self._work, name=f"pull {n}", daemon=True)
            for n in range(min(self._parallel, len(descriptors)))
        ]
        for thread in threads:
            thread.start()
        try:
            with self._change:
                while self._error is None and None in self._done:
                    # Not for ever: an interrupt that another thread gets is seen here only on waking.
                    self._change.wait(0.5)
        except BaseException as error:
            self._fail(error)  # the user's interrupt
        if self._error is not None:
            self._registry.cancel()
            for thread in threads:
                thread.join(_CANCEL_WAIT_S)
            raise self._error
        for thread in threads:
            thread.join()
        return tuple(layer for layer in self._done if layer is not None)

    # --- a worker's thread -----------------------------------------------------------------------

    def _work(self) -> None:
        # A connection of its own: SQLite's belong to the thread that opened them.
        db = None
        try:
            db = open_database(self._paths)
            with LayerStore(db, self._single_id, self._limits) as layers:
                while (position := self._take()) >= 0:
                    layer = self._layer(layers, position)
                    with self._change:
                        self._done[position] = layer
                        self._change.notify_all()
        except BaseException as error:
            self._fail(error)
        finally:
            if db is not None:
                db.close()

    def _take(self) -> int:
        """The next layer to work on, from the lowest up: who waits for those below never waits for itself."""
        with self._change:
            if self._error is not None or self._next >= len(self._done):
                return -1
            self._next += 1
            return self._next - 1

    def _fail(self, error: BaseException) -> None:
        with self._change:
            # A cancelled transfer is a consequence of the first error, never its reason.
            if self._error is None:
                self._error = error
            self._change.notify_all()

    def _cancelled(self) -> bool:
        return self._error is not None

    def _below(self, position: int) -> list[Layer]:
        """The layers below, when they are all stored."""
        with self._change:
            while None in self._done[:position] and self._error is None:
                self._change.wait()
            if self._error is not None:
                raise CancelledError("the transfer was cancelled")
            return [layer for layer in self._done[:position] if layer is not None]

    def _layer(self, layers: LayerStore, position: int) -> Layer:
        descriptor, diff_id = self._descriptors[position], self._diff_ids[position]
        what = f"layer {descriptor.digest}"

        def waiting() -> None:
            self._events(PullEvent(kind="waiting", digest=descriptor.digest))

        if diff_id in self._diff_ids[:position]:
            self._below(position)  # the same layer twice: the upper one must not hold the lock that the lower waits for
        with layers.lock(diff_id, self._cancelled, waiting) as lock:
            for attempt in (1, 2):
                found = layers.find(diff_id, self._chain[position])
                blob = Blob(
                    self._blobs, self._registry, self._path, descriptor,
                    events=self._events, what=what, window=layers.limits.max_window_bytes,
                )  # fmt: skip
                try:
                    if found is not None:
                        blob.receive(diff_id, self._cancelled, waiting)
                        return found
                    with layers.stage(what, lock) as staging:
                        blob.receive(
                            diff_id,
                            self._cancelled,
                            waiting,
                            lambda reader, s=staging: s.unpack(reader, descriptor.size),  # type: ignore[misc]
                        )
                        return staging.commit(diff_id, self._below(position))
                except WrongBlobError:
                    # Bytes of an earlier attempt may have been lost in a power cut, or come from a lying mirror.
                    if attempt == 2 or not blob.reused:
                        raise
        raise AssertionError("unreachable")


class Blob:
    """One layer's blob on its way into the store.  `reused`: whether bytes of an earlier attempt were taken."""

    def __init__(
        self,
        blobs: BlobStore,
        registry: Registry,
        path: str,
        descriptor: Descriptor,
        *,
        events: Events,
        what: str,
        window: int = 0,
    ) -> None:
        self._blobs = blobs
        self._registry = registry
        self._path = path
        self._descriptor = descriptor
        self._events = events
        self._what = what
        self._window = window
        self.reused = False

    def receive(
        self,
        diff_id: str,
        cancelled: Callable[[], bool],
        waiting: Callable[[], None],
        consume: Callable[[Reader], object] | None = None,
    ) -> None:
        """Have the verified blob in the store, its uncompressed bytes passed through `consume` (None: not wanted).

        Raises WrongBlobError (nothing is kept then), RegistryError (what came is kept for the next attempt), Error.
        """
        digest = self._descriptor.digest
        download = self._blobs.download(digest, cancelled, waiting)
        if download is None:
            if consume is None:
                self._event("done", text="exists")
            else:
                self._read_stored(diff_id, consume)
            return
        try:
            self.reused = download.offset > 0
            source = _Received(self, download)
            self._event("start", done=download.offset, text="layer")
            self._run(source, diff_id, consume)
            download.commit()
            self._event("done")
        except (TransientError, CancelledError, KeyboardInterrupt):
            download.close()  # what came stays for the next attempt
            raise
        except BaseException:
            download.discard()
            raise
        finally:
            download.close()

    def _read_stored(self, diff_id: str, consume: Callable[[Reader], object]) -> None:
        """Unpack from the blob that is here: a pull was killed between the two, or the layer was removed."""
        fd = self._blobs.open(self._descriptor.digest)
        self.reused = True
        try:
            self._event("start", done=self._descriptor.size, text="layer")
            self._run(_File(fd), diff_id, consume)
            self._event("done", text="exists")
        except WrongBlobError:
            self._blobs.remove_damaged(self._descriptor.digest)
            raise
        finally:
            os.close(fd)

    def _run(self, source: Reader, diff_id: str, consume: Callable[[Reader], object] | None) -> None:
        pipeline = LayerPipeline(source, self._descriptor.digest, diff_id, self._what, self._window)
        try:
            (consume or _drain)(pipeline)
        except Error as error:
            raise pipeline.blame(error) from error.__cause__
        finally:
            pipeline.close()

    def open(self, offset: int) -> Reader:
        """The network's bytes from `offset` on."""
        return self._registry.blob(self._path, self._descriptor, self._what, offset)

    def progress(self, done: int) -> None:
        """Report how many bytes are here."""
        self._event("bytes", done=done)

    def _event(self, kind: str, done: int = 0, text: str = "") -> None:
        total = self._descriptor.size
        done = total if kind == "done" else done
        self._events(PullEvent(kind=kind, digest=self._descriptor.digest, done=done, total=total, text=text))

    @property
    def size(self) -> int:
        """Bytes that the manifest promises."""
        return self._descriptor.size


def _drain(reader: Reader) -> None:
    while reader.read(1 << 20):
        pass


class _File:
    """A descriptor as a reader."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, size: int, /) -> bytes:
        return os.read(self._fd, size)


class _Received:
    """A download's bytes: first those that are here, then the network's, which are kept as they pass."""

    __slots__ = ("_blob", "_download", "_position", "_stream")

    def __init__(self, blob: Blob, download: Download) -> None:
        if download.offset > blob.size:
            download.restart()  # of another, larger promise: not this blob
        self._blob = blob
        self._download = download
        self._position = 0
        self._stream: Reader | None = None

    def read(self, size: int, /) -> bytes:
        if self._position < self._download.offset and self._stream is None:
            data = self._download.pread(min(size, self._download.offset - self._position), self._position)
        else:
            if self._stream is None:
                self._stream = self._blob.open(self._position)
            data = self._stream.read(size)
            if data:
                self._download.append(data)
                self._blob.progress(self._download.offset)
        self._position += len(data)
        return data
