"""The files inside an archive or a directory that holds images, by name and in any order.

Weight: `storage.tarstream`, `storage.compression`; loaded for load, import and save only.

A tar file is read once to learn where its members lie, skipping their data; a compressed one, or a pipe, is written
to a temporary file first, because the member that describes the others often comes last.
"""

from __future__ import annotations

import os
import select

from rootless.errors import Error, NotFound, os_error_text
from storage.blobs import no_room
from storage.compression import detect, open_decompressed
from storage.tarstream import FILE, LINK, SYMLINK, TarStream
from storage.unpack import clean_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol, Self

    class Source(Protocol):
        """A byte stream that is closed; `size` is its length, 0 where unknown."""

        size: int

        def read(self, size: int, /) -> bytes: ...
        def cancel(self) -> None: ...
        def __enter__(self) -> Self: ...
        def __exit__(self, *error: object) -> None: ...

    class Files(Protocol):
        """Files by relative name."""

        what: str

        def has(self, name: str) -> bool: ...
        def open(self, name: str) -> FileReader: ...
        def close(self) -> None: ...


# Manifests and the like that are read whole; layers are streamed.
MAX_DOCUMENT_BYTES = 8 << 20
_MAX_MEMBERS = 100_000
_MAX_NAME_BYTES = 32 << 20  # of all names and links together
_CHUNK = 1 << 20


class FileReader:
    """A stretch of an open file as a byte stream; `size` is its length.  Owns its descriptor."""

    __slots__ = ("_fd", "_left", "_position", "_what", "size")

    def __init__(self, fd: int, position: int, size: int, what: str) -> None:
        self._fd = fd
        self._position = position
        self._left = self.size = size
        self._what = what

    def read(self, size: int, /) -> bytes:
        """1 to `size` bytes, b"" at the end.  Error where the file ends before its promised size."""
        if not self._left:
            return b""
        try:
            data = os.pread(self._fd, min(size, self._left), self._position)
        except OSError as error:
            raise Error(os_error_text(error, self._what)) from error
        if not data:
            raise Error(f"{self._what}: the file ends too early")
        self._position += len(data)
        self._left -= len(data)
        return data

    def cancel(self) -> None:
        """Nothing to do: a file's `read` returns soon."""

    def close(self) -> None:
        """Close the descriptor."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> FileReader:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def read_document(files: Files, name: str) -> bytes:
    """A small file's whole content.  Raises NotFound, Error."""
    with files.open(name) as reader:
        if reader.size > MAX_DOCUMENT_BYTES:
            raise Error(f"{files.what}: {name} is larger than {MAX_DOCUMENT_BYTES} bytes")
        parts = []
        while part := reader.read(_CHUNK):
            parts.append(part)
    return b"".join(parts)


class DirectoryFiles:
    """The files below a directory; links are not followed."""

    def __init__(self, path: str) -> None:
        self.what = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise NotFound(os_error_text(error, path)) from error

    def has(self, name: str) -> bool:
        """Whether the regular file is there."""
        try:
            self.open(name).close()
        except Error:
            return False
        return True

    def open(self, name: str) -> FileReader:
        """Open a regular file.  Raises NotFound, Error."""
        from rootless import libc

        try:
            # The layout's author chose these names and files: nothing outside, no link, no FIFO to hang on.
            fd = libc.openat2(
                self._fd, name, os.O_RDONLY | os.O_NONBLOCK, 0, libc.RESOLVE_BENEATH | libc.RESOLVE_NO_SYMLINKS
            )
        except OSError as error:
            raise NotFound(os_error_text(error, f"{self.what}/{name}")) from error
        held = os.fstat(fd)
        if held.st_mode & 0o170000 != 0o100000:
            os.close(fd)
            raise Error(f"{self.what}/{name} is not a regular file")
        return FileReader(fd, 0, held.st_size, f"{self.what}/{name}")

    def close(self) -> None:
        """Close the directory."""
        os.close(self._fd)


class TarFiles:
    """The members of a tar file.  Owns `fd`, an uncompressed and seekable one."""

    def __init__(self, fd: int, what: str) -> None:
        self.what = what
        self._fd = fd
        self._members: dict[bytes, tuple[int, int]] = {}
        self._links: dict[bytes, bytes] = {}
        try:
            self._scan()
        except BaseException:
            os.close(fd)
            raise

    def _scan(self) -> None:
        source = _Skipping(self._fd)
        tar = TarStream(source, self.what)
        count = name_bytes = 0
        while (entry := tar.next()) is not None:
            count += 1
            name_bytes += len(entry.name) + len(entry.link)
            if count > _MAX_MEMBERS or name_bytes > _MAX_NAME_BYTES:
                raise tar.error(f"more than {_MAX_MEMBERS} members, or longer names: this holds no images")
            name = clean_path(entry.name)
            if not name:
                continue
            if entry.kind == FILE and entry.sparse is None:
                self._members[name] = (source.position - tar.buffered, entry.size)
                tar.skip_data(source)
            elif entry.kind in (SYMLINK, LINK):
                base = name.rpartition(b"/")[0] if entry.kind == SYMLINK and entry.link[:1] != b"/" else b""
                self._links[name] = clean_path(base + b"/" + entry.link) or b""

    def has(self, name: str) -> bool:
        """Whether there is such a file, or a link to one."""
        return self._find(name) is not None

    def names(self) -> tuple[str, ...]:
        """All files, for telling what kind of archive this is."""
        return tuple(os.fsdecode(name) for name in self._members)

    def _find(self, name: str) -> tuple[int, int] | None:
        # Docker's older archives hold a layer once and link to it (…/layer.tar -> ../<id>/layer.tar).
        path = clean_path(os.fsencode(name)) or b""
        for _ in range(8):
            if path in self._members:
                return self._members[path]
            if path not in self._links:
                break
            path = self._links[path]
        return None

    def open(self, name: str) -> FileReader:
        """Open a member.  Raises NotFound."""
        found = self._find(name)
        if found is None:
            raise NotFound(f"{self.what}: {name[:200]!r} is not in the archive")
        return FileReader(os.dup(self._fd), found[0], found[1], f"{self.what}: {name[:200]}")

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class _Skipping:
    """A seekable file as a reader that can leap."""

    __slots__ = ("_fd", "_size", "position")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._size = os.fstat(fd).st_size
        self.position = 0

    def read(self, size: int, /) -> bytes:
        # Headers only: what is read ahead is mostly data that will be skipped.
        data = os.pread(self._fd, min(size, 16 << 10), self.position)
        self.position += len(data)
        return data

    def skip(self, size: int) -> bool:
        """Leap over `size` bytes; False where the file ends before."""
        self.position += size
        return self.position <= self._size


def open_tar(folder: str, source: int, what: str) -> TarFiles:
    """The members of the archive that descriptor `source` is, which stays the caller's.

    It may be compressed, and may be a pipe; then the archive goes through a temporary file in `folder`.
    """
    fd = plain_file(folder, source, what)
    return TarFiles(fd, what)


def plain_file(folder: str, source: int, what: str) -> int:
    """A descriptor of the uncompressed, seekable content of `source`; the caller's to close."""
    try:
        seekable = os.fstat(source).st_mode & 0o170000 == 0o100000
        if seekable and not detect(os.pread(source, 6, 0)):
            return os.dup(source)
        target = temporary_file(folder)
    except OSError as error:
        raise no_room(error, what) from error
    try:
        if seekable:
            os.lseek(source, 0, os.SEEK_SET)
        with DescriptorReader(source, what) as raw:
            reader = open_decompressed(raw, what)
            while data := reader.read(_CHUNK):
                view = memoryview(data)
                while view:
                    view = view[os.write(target, view) :]
        os.lseek(target, 0, os.SEEK_SET)
    except OSError as error:
        os.close(target)
        raise no_room(error, what) from error
    except BaseException:
        os.close(target)
        raise
    return target


def temporary_file(folder: str) -> int:
    """A file without a name, which is gone with its descriptor."""
    try:
        return os.open(folder, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    except OSError:  # not every file system has these
        path = f"{folder}/tmp-{os.getpid()}-{os.urandom(8).hex()}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.unlink(path)
        return fd


class DescriptorReader:
    """A descriptor (file, pipe, socket) as a source from where it stands; does not own it."""

    __slots__ = ("_cancelled", "_fd", "_what", "size")

    def __init__(self, fd: int, what: str) -> None:
        self._fd = fd
        self._what = what
        held = os.fstat(fd)
        regular = held.st_mode & 0o170000 == 0o100000
        self.size = held.st_size if regular else 0
        # A thread that waits for a pipe's writer is woken by nothing else: no signal reaches it, and closing the
        # descriptor would not end the read(2).
        self._cancelled = -1 if regular else os.eventfd(0, os.EFD_CLOEXEC)

    def read(self, size: int, /) -> bytes:
        """1 to `size` bytes, b"" at the end.  Raises Error, also after `cancel`."""
        try:
            if self._cancelled >= 0:
                self._wait()
            return os.read(self._fd, size)
        except OSError as error:
            raise Error(os_error_text(error, self._what)) from error

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._cancelled, select.POLLIN)
        if any(fd == self._cancelled for fd, _ in poll.poll()):
            raise Error(f"{self._what}: abandoned")

    def cancel(self) -> None:
        """End a `read` that waits in another thread, and all later ones."""
        if self._cancelled >= 0:
            os.eventfd_write(self._cancelled, 1)

    def close(self) -> None:
        """Give up what waiting needs; the descriptor stays open."""
        if self._cancelled >= 0:
            os.close(self._cancelled)
            self._cancelled = -1

    def __enter__(self) -> DescriptorReader:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
