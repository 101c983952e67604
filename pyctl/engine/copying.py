"""Copying files between the host and a container, whose contents are a stranger's: the walk of `cp`.

Weight: `os`, `rootless.libc`, `storage.removal`.  Runs as root of the user's namespace.

What is named is resolved once, a container's path with openat2(2) RESOLVE_IN_ROOT, so that no link leads out of its
root; below that every step goes by directory descriptors and names without a slash, and never through a link, on
either side.  A container that exchanges directories and links meanwhile can make a copy fail, never lead it elsewhere
(CVE-2018-15664, CVE-2019-18466).
"""

from __future__ import annotations

import errno
import os
import stat

from rootless import libc
from rootless.errors import Error, NotFound, os_error_text
from rootless.fds import write_all
from storage.removal import remove_tree
from storage.tarwriter import kept_xattrs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    # Owner of the source → owner of the copy; None: whoever makes it.
    Owner = Callable[[int, int], tuple[int, int] | None]

_CHUNK = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_DEPTH = 500  # one descriptor a level on each side


class Place:
    """One side of a copy: the host, or a container's root (which it owns).  `what` is for messages."""

    def __init__(self, what: str, root: int = -1) -> None:
        self.what = what
        self.root = root

    def open(self, path: str, flags: int, mode: int = 0) -> int:
        """Open a path as it is meant there.  Raises OSError."""
        if self.root < 0:
            return os.open(path, flags | os.O_CLOEXEC, mode)
        return libc.open_in_root(self.root, path, flags, mode)

    def missing(self, path: str) -> NotFound:
        """The error of a path that is not there."""
        return NotFound(f'"{path}" could not be found on {self.what}')

    def close(self) -> None:
        """Let go of the root."""
        if self.root >= 0:
            os.close(self.root)
            self.root = -1


class Source:
    """What is copied: `fd` is opened for reading; name: what it is called where it goes ("": its content alone)."""

    def __init__(self, place: Place, path: str) -> None:
        self.path = path
        self.fd = -1
        try:
            found = place.open(path, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise place.missing(path) from error
        except OSError as error:
            raise Error(os_error_text(error, f"{path} on {place.what}")) from error
        try:
            self.held = os.fstat(found)
            if not (stat.S_ISREG(self.held.st_mode) or stat.S_ISDIR(self.held.st_mode)):
                raise Error(f"{path} on {place.what} is neither a file nor a directory")
            # The very thing that was looked at, whatever is at its path now.
            self.fd = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Error(os_error_text(error, f"{path} on {place.what}")) from error
        finally:
            os.close(found)
        self.is_directory = stat.S_ISDIR(self.held.st_mode)
        last = path.rstrip("/").rpartition("/")[2]
        self.name = "" if self.is_directory and last in (".", "..", "") else last

    def close(self) -> None:
        """Let go of it."""
        os.close(self.fd)


class Copier:
    """Writes files below directories of one side.

    owner: of what is made; overwrite: a file may take a directory's place, and the other way round; keep_set_id: set-id
    bits stay (they are taken off where the owner becomes the caller, on the host).  told: called with a warning.
    """

    def __init__(self, owner: Owner, *, overwrite: bool, keep_set_id: bool, told: Callable[[str], None]) -> None:
        self._owner = owner
        self._overwrite = overwrite
        self._mode = 0o7777 if keep_set_id else 0o1777
        self._told = told

    # --- one file ------------------------------------------------------------------------------

    def directory(self, parent: int, name: bytes, held: os.stat_result, shown: str) -> tuple[int, bool]:
        """A descriptor of the directory `name`, the caller's; and whether it was made."""
        made = False
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
            made = True
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                if not self._overwrite:
                    raise Error(
                        f"{shown}: a directory cannot take a file's place", hint="--overwrite lets it"
                    ) from None
                os.unlink(name, dir_fd=parent)
                os.mkdir(name, 0o700, dir_fd=parent)
                made = True
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
        if made:
            self._own(fd, held)
        return fd, made

    def finish_directory(self, fd: int, held: os.stat_result) -> None:
        """Mode and time of a directory that was made, when nothing is put into it any more."""
        os.fchmod(fd, stat.S_IMODE(held.st_mode) & self._mode)
        os.utime(fd, ns=(held.st_mtime_ns, held.st_mtime_ns))

    def file(
        self,
        parent: int,
        name: bytes,
        held: os.stat_result,
        chunks: Iterable[bytes | int],
        shown: str,
        xattrs: dict[str, bytes] | None = None,
    ) -> None:
        """A regular file; a hole is left where `chunks` has a piece of zeros, or a number: so many."""
        fd = self._new_file(parent, name, shown)
        try:
            self._fill(fd, chunks)
            self._own(fd, held)
            os.fchmod(fd, stat.S_IMODE(held.st_mode) & self._mode)
            for key, value in (xattrs or {}).items():
                self._set_xattr(fd, key, value)
            os.utime(fd, ns=(held.st_mtime_ns, held.st_mtime_ns))
        finally:
            os.close(fd)

    def _new_file(self, parent: int, name: bytes, shown: str) -> int:
        for _ in range(64):
            try:
                return os.open(name, _NEW_FILE, 0o600, dir_fd=parent)
            except FileExistsError:
                pass
            try:
                self._clear(parent, name, shown)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                # A file that is mounted there (/etc/hosts, a bind): its content is what is meant.
                fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
                if stat.S_ISREG(os.fstat(fd).st_mode):
                    os.ftruncate(fd, 0)
                    return fd
                os.close(fd)
                raise
        raise Error(f"{shown} is made again and again by somebody else")

    def _clear(self, parent: int, name: bytes, shown: str) -> None:
        """Take away what is at `name`; a directory only with --overwrite."""
        try:
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=parent)
                return
        except FileNotFoundError:
            return
        if not self._overwrite:
            raise Error(f"{shown}: a file cannot take a directory's place", hint="--overwrite lets it")
        remove_tree(name, parent)

    def _fill(self, fd: int, chunks: Iterable[bytes | int]) -> None:
        size = 0
        for chunk in chunks:
            length = chunk if isinstance(chunk, int) else len(chunk)
            if isinstance(chunk, int) or chunk.count(0) == length:
                os.lseek(fd, length, os.SEEK_CUR)
            else:
                write_all(fd, chunk)
            size += length
        os.ftruncate(fd, size)

    def other(self, parent: int, name: bytes, held: os.stat_result, link: bytes, shown: str) -> None:
        """A symbolic link or a FIFO; anything else is left out, and that is said."""
        kind = stat.S_IFMT(held.st_mode)
        if kind not in (stat.S_IFLNK, stat.S_IFIFO):
            self._told(f"{shown} is left out: it is a device or a socket")
            return
        self._clear(parent, name, shown)
        if kind == stat.S_IFLNK:
            os.symlink(link, name, dir_fd=parent)
        else:
            os.mkfifo(name, 0o600, dir_fd=parent)
            os.chmod(name, stat.S_IMODE(held.st_mode) & self._mode, dir_fd=parent)
        owner = self._owner(held.st_uid, held.st_gid)
        if owner is not None:
            os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)

    def hard_link(self, parent: int, name: bytes, first_parent: int, first: bytes, shown: str) -> None:
        """Another name of a file that was copied before."""
        self._clear(parent, name, shown)
        os.link(first, name, src_dir_fd=first_parent, dst_dir_fd=parent, follow_symlinks=False)

    def _own(self, fd: int, held: os.stat_result) -> None:
        owner = self._owner(held.st_uid, held.st_gid)
        if owner is not None:
            os.fchown(fd, *owner)

    def _set_xattr(self, fd: int, key: str, value: bytes) -> None:
        try:
            os.setxattr(fd, key, value)
        except OSError:
            return  # not on this file system, or not allowed

    def overwrite(self, fd: int, source: Source, shown: str) -> None:
        """A file's content and attributes into one that is open."""
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Error(f"{shown} is no regular file")
        os.ftruncate(fd, 0)
        self._fill(fd, _content(source.fd))
        self._own(fd, source.held)
        os.fchmod(fd, stat.S_IMODE(source.held.st_mode) & self._mode)
        os.utime(fd, ns=(source.held.st_mtime_ns, source.held.st_mtime_ns))

    # --- trees ---------------------------------------------------------------------------------

    def copy(self, source: Source, parent: int, name: bytes, shown: str) -> None:
        """Copy what was opened to `name` in the directory `parent`."""
        if not source.is_directory:
            self.file(parent, name, source.held, _content(source.fd), shown, kept_xattrs(source.fd))
            return
        fd, made = self.directory(parent, name, source.held, shown)
        try:
            self.fill(source.fd, fd, shown, 0)
            if made:
                self.finish_directory(fd, source.held)
        finally:
            os.close(fd)

    def fill(self, source: int, target: int, shown: str, depth: int = 0) -> None:
        """Copy everything in the directory `source` into `target`."""
        if depth > _MAX_DEPTH:
            raise Error(f"{shown}: its directories are nested too deeply")
        for text in sorted(os.listdir(source)):
            name = os.fsencode(text)
            inner = f"{shown}/{text}"
            try:
                self._entry(source, target, name, inner, depth)
            except FileNotFoundError:
                continue  # it has gone since it was listed
            except OSError as error:
                raise Error(os_error_text(error, inner)) from error

    def _entry(self, source: int, target: int, name: bytes, shown: str, depth: int) -> None:
        held = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(held.st_mode):
            below = os.open(name, _DIRECTORY, dir_fd=source)
            try:
                fd, made = self.directory(target, name, held, shown)
                try:
                    self.fill(below, fd, shown, depth + 1)
                    if made:
                        self.finish_directory(fd, held)
                finally:
                    os.close(fd)
            finally:
                os.close(below)
        elif stat.S_ISREG(held.st_mode):
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
            try:
                now = os.fstat(fd)
                if stat.S_ISREG(now.st_mode):
                    self.file(target, name, now, _content(fd), shown, kept_xattrs(fd))
            finally:
                os.close(fd)
        else:
            link = os.readlink(name, dir_fd=source) if stat.S_ISLNK(held.st_mode) else b""
            self.other(target, name, held, link, shown)


def _content(fd: int) -> Iterator[bytes | int]:
    """A file's bytes, and the lengths of its holes."""
    position = 0
    while True:
        try:
            start = os.lseek(fd, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                yield max(os.fstat(fd).st_size - position, 0)
                return
            start = os.lseek(fd, position, os.SEEK_SET)  # a file system that cannot tell
        if start > position:
            yield start - position
        data = os.read(fd, _CHUNK)
        if not data:
            return
        yield data
        position = start + len(data)


class Target:
    """Where a copy goes: a directory (`parent`) and a name in it, or the directory alone (name "").

    exists: the name is that of a file that is there, which is opened to be written (`fd`).
    """

    def __init__(self, place: Place, path: str, source_is_directory: bool) -> None:
        self.parent = self.fd = -1
        self.name = b""
        try:
            self.parent = place.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except NotADirectoryError:
            if source_is_directory:
                raise Error("destination must be a directory when copying a directory") from None
            if path.endswith("/"):
                raise Error(f"{path} on {place.what} is not a directory") from None
        except FileNotFoundError:
            if path.endswith("/"):
                raise place.missing(path) from None
        except OSError as error:
            raise Error(os_error_text(error, f"{path} on {place.what}")) from error
        if self.parent >= 0:
            return
        folder, _, name = path.rstrip("/").rpartition("/")
        try:
            self.parent = place.open(folder or ("/" if path.startswith("/") else "."), os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise place.missing(path) from error
        except OSError as error:
            raise Error(os_error_text(error, f"{path} on {place.what}")) from error
        self.name = os.fsencode(name)
        if source_is_directory or not self._is_link():
            return
        # A file by a link: the link is followed as the container, or the host, would follow it.
        try:
            self.fd = place.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o600)
        except OSError as error:
            self.close()
            raise Error(os_error_text(error, f"{path} on {place.what}")) from error

    def _is_link(self) -> bool:
        try:
            return stat.S_ISLNK(os.stat(self.name, dir_fd=self.parent, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Let go of it."""
        for fd in (self.parent, self.fd):
            if fd >= 0:
                os.close(fd)
        self.parent = self.fd = -1
