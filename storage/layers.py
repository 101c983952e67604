"""Unpacked layers: staged beside each other, complete and on disk before a row names them, shared by all images.

Weight: `storage.unpack`, `storage.database`, `storage.disk`.

    with LayerStore(db) as layers:                        # keeps the collection of garbage away
        with layers.lock(diff_id):                        # others who want this layer wait for it
            layer = layers.find(diff_id, chain_id)
            if layer is None:
                with layers.stage(f"layer {digest}") as staging:
                    staging.unpack(reader)                # may run in a thread: it does not touch the database
                    layer = staging.commit(diff_id, parents)
        ImageStore(db).add(…)

A process that is killed leaves a `tmp-*` directory or a layer that no image names; `storage.gc` takes both.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time

from rootless import libc
from rootless.errors import Error
from rootless.values import Value
from storage import digest as digests
from storage.blobs import no_room
from storage.database import Database
from storage.disk import Flusher, spread
from storage.removal import remove_tree
from storage.unpack import UnpackLimits, UnpackReport, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from storage.compression import Reader

# A process that holds a layer's lock and gets no further for so long is no longer waited for.
STALLED_S = 60.0
_POLL_S = 0.05
_DIRECTORY_DIGITS = 24  # 127 of these, relative to layers/, fit the page of mount(2)'s data


class Layer(Value):
    """One unpacked layer.  `key` is the diff id, or the chain id where its form depends on the layers below."""

    key: str
    diff_id: str
    directory: str  # a name below layers/
    size: int  # bytes of the uncompressed archive
    files: int
    squashed: bool = False  # owners were not kept


def _layer(row: tuple[Any, ...]) -> Layer:
    return Layer(key=row[0], diff_id=row[1], directory=row[2], size=row[3], files=row[4], squashed=bool(row[5]))


def chain_ids(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """The chain id of each layer, lowest first (OCI image specification, config.md, "Layer ChainID")."""
    out: list[str] = []
    for diff_id in diff_ids:
        out.append(digests.of(f"{out[-1]} {diff_id}".encode()) if out else diff_id)
    return tuple(out)


class LayerStore:
    """The layers of one store.  Entered, it holds a shared lock against the collection of garbage.

    single_id: the user's namespace maps one id only (`rootless.userns.enter` returned True).
    """

    def __init__(self, db: Database, single_id: bool = False, limits: UnpackLimits | None = None) -> None:
        self.db = db
        self.paths = db.paths
        self.single_id = single_id
        self.limits = limits or UnpackLimits()
        self._guard = -1

    def __enter__(self) -> LayerStore:
        try:
            self._guard = os.open(self.paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise no_room(error, f"cannot open {self.paths.lock}") from error
        fcntl.flock(self._guard, fcntl.LOCK_SH)
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._guard)
        self._guard = -1

    def find(self, diff_id: str, chain_id: str) -> Layer | None:
        """The stored layer, by either key; None where it must be unpacked (again)."""
        row = self.db.one(
            "SELECT key, diff_id, directory, size, files, squashed FROM layers WHERE key IN (?, ?)"
            " AND diff_id = ? ORDER BY key = ? DESC",
            (diff_id, chain_id, diff_id, diff_id),
        )
        if row is None or not os.path.isdir(self.paths.layer(row[2])):
            return None
        return _layer(row)

    def of_image(self, image_id: str) -> tuple[Layer, ...]:
        """An image's layers, lowest first."""
        rows = self.db.query(
            "SELECT l.key, l.diff_id, l.directory, l.size, l.files, l.squashed FROM image_layers i"
            " JOIN layers l ON l.key = i.layer_key WHERE i.image_id = ? ORDER BY i.position",
            (image_id,),
        )
        return tuple(_layer(row) for row in rows)

    def lock(
        self, diff_id: str, cancelled: Callable[[], bool] | None = None, waiting: Callable[[], None] | None = None
    ) -> LayerLock:
        """A context in which this process alone unpacks `diff_id`; entering waits for another that does.

        Not for ever: one that makes no progress for 60 s is overtaken, as only work is doubled by that.  `waiting`
        is called once where there is a wait; `cancelled` ends it with Error.
        """
        return LayerLock(f"{self.paths.partial}/layer-{digests.split(diff_id)[1]}.lock", cancelled, waiting)

    def stage(self, what: str, lock: LayerLock | None = None) -> Staging:
        """An empty directory to unpack into; `what` begins error messages ("layer sha256:…").

        lock: the layer's, so that those who wait for it see the progress.
        """
        if self._guard < 0:
            raise RuntimeError("the layer store is not entered")
        return Staging(self, what, lock)


class LayerLock:
    """See `LayerStore.lock`."""

    def __init__(self, path: str, cancelled: Callable[[], bool] | None, waiting: Callable[[], None] | None) -> None:
        self._path = path
        self._cancelled = cancelled
        self._waiting = waiting
        self._fd = -1
        self._touched = 0.0

    def __enter__(self) -> LayerLock:
        told = False
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise no_room(error, f"cannot open {self._path}") from error
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            else:
                self.progress()
                return self
            if time.time() - os.fstat(self._fd).st_mtime > STALLED_S:
                return self
            if self._cancelled is not None and self._cancelled():
                self.__exit__()
                raise Error("cancelled")
            if not told and self._waiting is not None:
                self._waiting()
            told = True
            time.sleep(_POLL_S)

    def progress(self) -> None:
        """Show those who wait that this process is alive and at work."""
        now = time.monotonic()
        if now - self._touched > STALLED_S / 10:
            self._touched = now
            os.utime(self._fd)

    def __exit__(self, *_error: object) -> None:
        # The file stays until garbage is collected: removing it here would let two processes lock two files.
        os.close(self._fd)
        self._fd = -1


class _Watched:
    """A reader that reports progress."""

    __slots__ = ("_lock", "_source")

    def __init__(self, source: Reader, lock: LayerLock) -> None:
        self._source = source
        self._lock = lock

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        self._lock.progress()
        return data


class Staging:
    """A layer that is being unpacked: a context manager; without `commit` nothing is left of it."""

    def __init__(self, store: LayerStore, what: str, lock: LayerLock | None) -> None:
        self._store = store
        self._what = what
        self._lock = lock
        self._path = store.paths.layer(f"tmp-{os.getpid()}-{os.urandom(8).hex()}")
        self._fd = -1
        self._report: UnpackReport | None = None

    def __enter__(self) -> Staging:
        try:
            spread(self._store.paths.layers)
            os.mkdir(self._path, 0o700)
            self._fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            os.chmod(self._fd, 0o755)
        except OSError as error:
            raise no_room(error, f"cannot make {self._path}") from error
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._fd)
        try:
            remove_tree(self._path)
        except OSError:
            pass  # the collection of garbage tries again; the first error is the one to tell

    def unpack(self, source: Reader, compressed_bytes: int = 0) -> UnpackReport:
        """Unpack an uncompressed archive; see `storage.unpack.unpack`.  Raises Error naming the entry."""
        with Flusher(self._fd):
            self._report = unpack(
                _Watched(source, self._lock) if self._lock else source,
                self._fd,
                what=self._what,
                single_id=self._store.single_id,
                limits=self._store.limits,
                compressed_bytes=compressed_bytes,
            )
        return self._report

    def commit(self, diff_id: str, parents: Sequence[Layer] = ()) -> Layer:
        """Make it a stored layer on top of `parents` (lowest first), which must be all that are below it.

        `diff_id` must have been verified.  Where another process was faster, its layer is returned.  By the thread
        that opened the database.
        """
        report = self._report
        if report is None:
            raise RuntimeError("nothing was unpacked")
        store = self._store
        key = digests.check(diff_id)
        try:
            if report.implicit and parents:
                # What the archive has no entry for must look as it does below: the result belongs to this chain only.
                below = [store.paths.layer(p.directory) for p in reversed(parents)]
                _inherit(self._fd, report.implicit, below)
                key = chain_ids([*(p.diff_id for p in parents), diff_id])[-1]
            libc.syncfs(self._fd)
        except OSError as error:
            raise no_room(error, self._what) from error
        layer = Layer(
            key=key,
            diff_id=diff_id,
            directory="",
            size=report.stream_bytes,
            files=report.entries,
            squashed=report.foreign_owners > 0,
        )
        return store.db.write(lambda: self._record(layer, report))

    def _record(self, layer: Layer, report: UnpackReport) -> Layer:
        """In the transaction, so that nobody else gives the same key or directory away."""
        store = self._store
        if found := store.find(layer.key, layer.key):
            return found
        row = store.db.one("SELECT directory FROM layers WHERE key = ?", (layer.key,))
        layer = layer.replace(directory=row[0] if row else self._free_directory(layer.key))
        target = store.paths.layer(layer.directory)
        try:
            if os.path.lexists(target):
                # No row names it: a process was killed between rename and commit.
                os.rename(target, f"{self._path}-old")
            os.rename(self._path, target)
            directory = os.open(store.paths.layers, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise no_room(error, self._what) from error
        store.db.execute(
            "INSERT INTO layers (key, diff_id, directory, size, files, created_ns, root_explicit, root_opaque,"
            " squashed) VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT (key) DO UPDATE SET squashed = excluded.squashed",
            (
                layer.key, layer.diff_id, layer.directory, layer.size, layer.files, time.time_ns(),
                int(report.root_explicit), int(report.root_opaque), int(layer.squashed),
            ),
        )  # fmt: skip
        return layer

    def _free_directory(self, key: str) -> str:
        # 96 bits of a digest can be made to collide; the row decides whose directory it is.
        name = digests.split(key)[1][:_DIRECTORY_DIGITS]
        while self._store.db.one("SELECT 1 FROM layers WHERE directory = ?", (name,)):
            name = digests.of(name.encode() + key.encode())[7 : 7 + _DIRECTORY_DIGITS]
        return name


def _inherit(root: int, implicit: Sequence[bytes], below: Sequence[str]) -> None:
    """Give the directories `implicit` the mode, owner and times that they have in the first of `below` with them."""
    lower: list[int] = []
    try:
        for directory in below:
            lower.append(os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        for path in implicit:
            held = _first_directory(path, lower)
            if held is None:
                continue
            try:
                fd = libc.openat2(root, path, os.O_RDONLY | os.O_DIRECTORY, 0, _PLAIN)
            except OSError:
                continue  # a later entry of the archive replaced it
            try:
                os.chown(fd, held.st_uid, held.st_gid)
                os.chmod(fd, stat.S_IMODE(held.st_mode))
                os.utime(fd, ns=(held.st_mtime_ns, held.st_mtime_ns))
            finally:
                os.close(fd)
    finally:
        for fd in lower:
            os.close(fd)


_PLAIN = libc.RESOLVE_BENEATH | libc.RESOLVE_NO_SYMLINKS


def _first_directory(path: bytes, lower: Sequence[int]) -> os.stat_result | None:
    for root in lower:
        try:
            fd = libc.openat2(root, path, os.O_PATH | os.O_NOFOLLOW, 0, _PLAIN)
        except FileNotFoundError:
            continue
        except OSError:
            return None  # a link, a file or a whiteout on the way: this layer hides those below
        held = os.fstat(fd)
        os.close(fd)
        return held if stat.S_ISDIR(held.st_mode) else None
    return None
