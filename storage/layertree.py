"""One layer's directory while it is being filled: every path resolves beneath it, whatever links it holds.

Weight: `os`, `rootless.libc`, `storage.removal`.

The kernel resolves each path with openat2(2), RESOLVE_IN_ROOT, so a symbolic link that an archive made cannot lead
out, whatever it says.  Open directories are cached; replacing a directory or a link empties the cache.
Whiteouts are what the kernel's overlay and fuse-overlayfs both read: 0:0 character devices, and
`user.overlay.opaque=y` on opaque directories (overlayfs.rst, "whiteouts and opaque directories").
"""

from __future__ import annotations

import errno
import os
import stat

from rootless import libc
from storage.removal import remove_tree
from storage.tarstream import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.errors import Error

OPAQUE_XATTR = "user.overlay.opaque"
OPAQUE_FILE = b".wh..wh..opq"
WHITEOUT = b".wh."
OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CACHED_DIRECTORIES = 64


def is_whiteout(held: os.stat_result) -> bool:
    """Whether this is what stands for a removed file."""
    return stat.S_ISCHR(held.st_mode) and held.st_rdev == 0


class LayerTree:
    """A layer's directory.  Does not own `root`; owns the cached descriptors, which `close` closes.

    error: makes the Error of a problem, naming the archive's current entry.
    implicit: directories that had to be made without an entry of their own, in order.
    name_bytes: of the paths that are remembered (of directories), together: memory that an archive can ask for.
    """

    def __init__(self, root: int, error: Callable[[str], Error]) -> None:
        self.root = root
        self.implicit: dict[bytes, None] = {}
        self.name_bytes = 0
        self._error = error
        self._directories: dict[bytes, int] = {}  # path → descriptor, least recently used first
        self._retired = -1  # out of the cache, but perhaps in use for the current entry
        self._times: dict[bytes, int] = {}  # directories' mtimes, set when nothing is made in them any more

    def close(self) -> None:
        """Close every descriptor but the root's."""
        for fd in self._directories.values():
            os.close(fd)
        self._directories.clear()
        if self._retired >= 0:
            os.close(self._retired)
            self._retired = -1

    def directory(self, path: bytes) -> int:
        """A descriptor of the directory `path`, made where it is missing.  The cache keeps it."""
        if not path:
            return self.root
        fd = self._directories.pop(path, -1)
        if fd < 0:
            try:
                fd = libc.open_in_root(self.root, path, os.O_RDONLY | os.O_DIRECTORY)
            except (FileNotFoundError, NotADirectoryError):
                fd = self._make_parents(path)
        self._remember(path, fd)
        return fd

    def _remember(self, path: bytes, fd: int) -> None:
        if len(self._directories) >= _CACHED_DIRECTORIES:
            os.close(self._directories.pop(next(iter(self._directories))))
        self._directories[path] = fd

    def _make_parents(self, path: bytes) -> int:
        """Make what is missing of `path`, which the archive has no entries for (yet)."""
        fd = os.dup(self.root)
        end = 0
        try:
            while end < len(path):
                begin, end = end, path.find(b"/", end + 1)
                end = len(path) if end < 0 else end
                prefix = path[:end]
                try:
                    below = libc.open_in_root(self.root, prefix, os.O_RDONLY | os.O_DIRECTORY)
                except (FileNotFoundError, NotADirectoryError):
                    below = self._make_implicit(fd, path[begin:end].lstrip(b"/"), prefix)
                os.close(fd)
                fd = below
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _make_implicit(self, fd: int, name: bytes, path: bytes) -> int:
        hidden = False
        try:
            os.mkdir(name, 0o755, dir_fd=fd)
        except FileExistsError:
            held = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISLNK(held.st_mode):
                raise self._error(f"{shown(path)} is a symbolic link to nothing") from None
            if not is_whiteout(held):
                raise self._error(f"{shown(path)} is not a directory") from None
            hidden = True
            os.unlink(name, dir_fd=fd)
            os.mkdir(name, 0o755, dir_fd=fd)
        self.implicit[path] = None
        self.name_bytes += len(path)
        below = os.open(name, OPEN_DIRECTORY, dir_fd=fd)
        try:
            os.chmod(below, 0o755)  # whatever the umask says
            if hidden:
                self.set_opaque(below)
        except OSError:
            os.close(below)
            raise
        return below

    def make_directory(self, parent: int, name: bytes, path: bytes, mtime_ns: int) -> int:
        """The directory of an entry: made, or the one that is there; returns a descriptor that the cache owns."""
        hidden = False
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                hidden = self.clear(parent, name)
                os.mkdir(name, 0o700, dir_fd=parent)
        self.implicit.pop(path, None)
        if path not in self._times:
            self.name_bytes += len(path)
        self._times[path] = mtime_ns
        fd = self._directories.get(path, -1)
        if fd < 0:
            fd = os.open(name, OPEN_DIRECTORY, dir_fd=parent)
            self._remember(path, fd)
        if hidden:  # a whiteout of the same name came before: what is below this layer stays hidden
            self.set_opaque(fd)
        return fd

    def set_root_time(self, mtime_ns: int) -> None:
        """The root's own mtime."""
        self._times[b""] = mtime_ns

    def replacing(self, make: Callable[[], None], fd: int, name: bytes) -> None:
        """`make` something at `name`, in place of what an earlier entry put there."""
        try:
            make()
        except FileExistsError:
            self.clear(fd, name)
            make()

    def clear(self, fd: int, name: bytes) -> bool:
        """Remove what an earlier entry put at `name`; True where that was a whiteout."""
        held = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISDIR(held.st_mode):
            remove_tree(name, fd)
        else:
            os.unlink(name, dir_fd=fd)
        if stat.S_ISDIR(held.st_mode) or stat.S_ISLNK(held.st_mode):
            self._forget(fd)  # a path through it leads elsewhere now
        return is_whiteout(held)

    def _forget(self, in_use: int) -> None:
        """Empty the cache; the descriptor that is in use lives on until the next time."""
        if self._retired >= 0 and self._retired != in_use:
            os.close(self._retired)
            self._retired = -1
        for fd in self._directories.values():
            if fd == in_use:
                self._retired = fd
            else:
                os.close(fd)
        self._directories.clear()

    def hide(self, fd: int, hidden: bytes) -> None:
        """A whiteout for `hidden`, a plain name, in the directory `fd`."""
        try:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=fd)
        except FileExistsError:
            # A whiteout hides what is below, never the same layer's own entry (layer.md).
            if stat.S_ISDIR(os.stat(hidden, dir_fd=fd, follow_symlinks=False).st_mode):
                directory = os.open(hidden, OPEN_DIRECTORY, dir_fd=fd)
                try:
                    self.set_opaque(directory)
                finally:
                    os.close(directory)
        except PermissionError:
            # Before Linux 5.8 a user namespace could not make whiteouts; fuse-overlayfs reads the name too.
            os.close(
                os.open(WHITEOUT + hidden, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=fd)
            )

    def set_opaque(self, fd: int) -> None:
        """Hide what the layers below have in the directory `fd`."""
        try:
            os.setxattr(fd, OPAQUE_XATTR, b"y")
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
            # No user attributes here (tmpfs before Linux 6.6): the kernel's driver is out, fuse-overlayfs reads this.
            os.close(os.open(OPAQUE_FILE, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=fd))

    def set_times(self) -> None:
        """Set the directories' mtimes, at the end."""
        resolve = libc.RESOLVE_BENEATH | libc.RESOLVE_NO_SYMLINKS
        for path, mtime_ns in self._times.items():
            fd = self._directories.get(path, -1) if path else self.root
            if fd >= 0:
                os.utime(fd, ns=(mtime_ns, mtime_ns))
                continue
            try:
                fd = libc.openat2(self.root, path, os.O_RDONLY | os.O_DIRECTORY, 0, resolve)
            except OSError:
                continue  # a later entry put a link on its way
            try:
                os.utime(fd, ns=(mtime_ns, mtime_ns))
            finally:
                os.close(fd)
