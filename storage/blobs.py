"""The content-addressed store: `blobs/sha256/<hex>`, and downloads that are not complete yet.

Weight: `os`, `rootless.errors`, `rootless.fds`, `storage.digest`, `storage.paths`; `fcntl` when something is written.

A blob is visible under its name only when it is complete, verified and on disk: temporary → hash → fsync → rename.
A download grows in `partial/<hex>` under an flock: a second process waits and then finds the blob; a process that
was killed leaves its bytes, from which the next one continues.  What has no image's row is garbage, which `prune`
removes.
"""

from __future__ import annotations

import os
import time

from rootless.errors import Error, NotFound, os_error_text
from rootless.fds import read_all, write_all
from storage import digest as digests
from storage.digest import DigestError
from storage.paths import StorePaths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# A process that holds a download's lock and adds nothing for so long (it was stopped, or its registry hangs) is
# no longer waited for.
STALLED_S = 60.0
_POLL_S = 0.05
_OUT_OF_SPACE = (28, 122)  # ENOSPC, EDQUOT


class NoRoomError(Error):
    """The file system of the store is full, or the user's quota is used up."""


# The roots of stores that are only read: a blob that is not here is read from there.
additional_roots: tuple[str, ...] = ()


class BlobStore:
    """The blobs below one storage root.  Digests are checked wherever they enter; errors are `Error`s."""

    __slots__ = ("paths",)

    def __init__(self, paths: StorePaths) -> None:
        self.paths = paths

    def has(self, digest: str) -> bool:
        """Whether the complete blob is here."""
        return os.path.exists(self.paths.blob(digest))

    def _readable(self, digest: str) -> str:
        """Where a blob is read: here, or in another store."""
        path = self.paths.blob(digest)
        if additional_roots and not os.path.exists(path):
            others = [StorePaths(root).blob(digest) for root in additional_roots]
            return next((other for other in others if os.path.exists(other)), path)
        return path

    def size(self, digest: str) -> int:
        """Bytes of a complete blob.  Raises NotFound."""
        try:
            return os.stat(self._readable(digest)).st_size
        except OSError as error:
            raise NotFound(os_error_text(error, f"blob {digest}")) from error

    def open(self, digest: str) -> int:
        """A descriptor for reading a complete blob, the caller's to close.  Raises NotFound."""
        try:
            return os.open(self._readable(digest), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise NotFound(os_error_text(error, f"blob {digest}")) from error

    def read(self, digest: str, limit: int) -> bytes:
        """A small blob's verified content.  Raises NotFound, DigestError (damaged), Error (over `limit` bytes)."""
        fd = self.open(digest)
        try:
            data = read_all(fd, limit + 1)
        finally:
            os.close(fd)
        if len(data) > limit:
            raise Error(f"blob {digest} is larger than {limit} bytes")
        digests.verify(data, digest, f"blob {digest} of the store")
        return data

    def put(self, data: bytes, digest: str = "") -> str:
        """Store `data`, which must have `digest` where one is given; returns its digest."""
        with self.writer() as writer:
            writer.write(data)
            return writer.commit(digest)

    def writer(self) -> BlobWriter:
        """A blob whose digest is not known yet: a context manager; without `commit` nothing is left."""
        return BlobWriter(self.paths)

    def download(self, digest: str, cancelled: Callable[[], bool], waiting: Callable[[], None]) -> Download | None:
        """The one place where `digest` grows; None: it is complete (perhaps another process was at it).

        Waits while another process downloads it, calling `waiting` once; `cancelled` ends the wait with Error.
        """
        path = self.paths.partial_blob(digest)
        seen, since, told = -1, time.monotonic(), False
        while True:
            if self.has(digest):
                return None
            fd = _open_locked(path)
            if fd >= 0:
                if self.has(digest):
                    os.close(fd)
                    return None
                return Download(self.paths, digest, path, fd)
            if cancelled():
                raise Error(f"download of {digest} was cancelled")
            if not told:
                waiting()
                told = True
            size = _file_size(path)
            if size != seen:
                seen, since = size, time.monotonic()
            elif time.monotonic() - since > STALLED_S:
                # An own file beside the stalled one; the lock on it keeps `prune` away.
                path = f"{self.paths.partial_blob(digest)}.{os.getpid()}-{time.monotonic_ns()}"
            time.sleep(_POLL_S)

    def remove_damaged(self, digest: str) -> None:
        """Take away a blob whose content was found not to have its digest; the next pull fetches it again."""
        _remove(self.paths.blob(digest))

    def sync(self) -> None:
        """Make the names of all stored blobs durable; before the row that refers to them is written."""
        for algorithm in digests.HEX_LENGTHS:
            _sync_directory(f"{self.paths.blobs}/{algorithm}")


class BlobWriter:
    """One blob on its way into the store; `size` counts its bytes."""

    __slots__ = ("_fd", "_hash", "_path", "_paths", "size")

    def __init__(self, paths: StorePaths) -> None:
        self._paths = paths
        self._path = f"{paths.partial}/tmp-{os.getpid()}-{time.monotonic_ns()}-{os.urandom(4).hex()}"
        self._hash = digests.new()
        self.size = 0
        self._fd = _open_locked(self._path)
        if self._fd < 0:
            raise Error(f"temporary file {self._path} is in use")

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._fd >= 0:
            _remove(self._path)
            self._close()

    def write(self, data: bytes | memoryview) -> None:
        """Append.  Raises NoRoomError, Error."""
        self._hash.update(data)
        self.size += len(data)
        _append(self._fd, data, self._path)

    def commit(self, digest: str = "") -> str:
        """Make it visible under its digest and return that.  DigestError where `digest` is another."""
        found = f"sha256:{self._hash.hexdigest()}"
        if digest and digest != found:
            raise DigestError(f"wrong digest: {digest} was expected, the content has {found}")
        _publish(self._fd, self._path, self._paths.blob(found))
        self._close()
        return found

    def _close(self) -> None:
        os.close(self._fd)
        self._fd = -1


class Download:
    """An incomplete blob that this process alone may extend.  End it with `commit`, `discard` or `close`.

    `offset`: bytes that are here already (from a download that was cut).
    """

    __slots__ = ("_fd", "_path", "_paths", "digest", "offset")

    def __init__(self, paths: StorePaths, digest: str, path: str, fd: int) -> None:
        self._paths = paths
        self._path = path
        self._fd = fd
        self.digest = digest
        self.offset = os.fstat(fd).st_size

    def pread(self, size: int, position: int) -> bytes:
        """Bytes that are here already."""
        return os.pread(self._fd, size, position)

    def append(self, data: bytes | memoryview) -> None:
        """Write at the end.  Raises NoRoomError, Error."""
        _append(self._fd, data, self._path)
        self.offset += len(data)

    def restart(self) -> None:
        """Throw the bytes away and begin again."""
        os.ftruncate(self._fd, 0)
        self.offset = 0

    def commit(self) -> None:
        """Make the blob visible; the caller has verified its digest."""
        _publish(self._fd, self._path, self._paths.blob(self.digest))
        self.close()

    def discard(self) -> None:
        """Remove what is here."""
        if self._fd >= 0:
            _remove(self._path)
            self.close()

    def close(self) -> None:
        """Let go and keep the bytes for the next attempt; an empty file is removed."""
        if self._fd >= 0:
            if not self.offset and _is_same(self._fd, self._path):
                _remove(self._path)
            os.close(self._fd)
            self._fd = -1


def no_room(error: OSError, what: str) -> Error:
    """The Error for a failed write: a full disk or quota says how to get space, anything else what the kernel said."""
    if error.errno in _OUT_OF_SPACE:
        return NoRoomError(
            os_error_text(error, what), hint="free space (pyctl image prune) or set another storage root with --root"
        )
    return Error(os_error_text(error, what))


def _open_locked(path: str) -> int:
    """Open (make) and lock `path`; -1 where another holds it."""
    import fcntl

    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            continue
        except OSError as error:
            raise no_room(error, f"cannot open {path}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return -1
        # Its former holder may have renamed or removed it between our open and our lock.
        if _is_same(fd, path):
            return fd
        os.close(fd)


def _is_same(fd: int, path: str) -> bool:
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    here = os.fstat(fd)
    return (here.st_ino, here.st_dev) == (there.st_ino, there.st_dev)


def _file_size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return -1


def _append(fd: int, data: bytes | memoryview, path: str) -> None:
    try:
        write_all(fd, data)  # type: ignore[arg-type]  # any buffer
    except OSError as error:
        raise no_room(error, f"cannot write {path}") from error


def _publish(fd: int, path: str, target: str) -> None:
    try:
        os.fsync(fd)
        os.rename(path, target)
    except OSError as error:
        raise no_room(error, f"cannot store {target}") from error


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _sync_directory(path: str) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise no_room(error, f"cannot sync {path}") from error
