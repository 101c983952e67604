"""Unpacked layers read as the tree that an overlay makes of them, without a mount.

Weight: `os`, `rootless.libc`, `storage.layertree`.  Runs where the ids of the files are mapped.

The topmost layer may be a running container's: everything is opened beneath its layer's root with openat2(2),
links are never followed, and what goes while it is being read is left out.  Marks of removal are read in every form
that the two overlay drivers write (overlayfs.rst; fuse-overlayfs(1), "whiteouts").
"""

from __future__ import annotations

import errno
import os
import stat

from rootless import libc
from rootless.errors import Error, os_error_text
from storage.layertree import OPAQUE_FILE, WHITEOUT, is_whiteout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PLAIN = libc.RESOLVE_BENEATH | libc.RESOLVE_NO_SYMLINKS
_OPAQUE_XATTRS = ("user.overlay.opaque", "user.fuseoverlayfs.opaque", "trusted.overlay.opaque")
# Names that drivers keep for themselves (".wh..wh..plnk"; fuse-overlayfs puts ".wh..opq" beside OPAQUE_FILE).
_RESERVED = (b".wh..wh.", b".wh..opq")


class Node:
    """One file of a view.  path: relative, b"" is the root; layer: whose file it is; dirs: the layers, topmost first,
    that a directory's entries come from; opaque: a directory that hides what the layers below have there."""

    __slots__ = ("dirs", "held", "layer", "opaque", "path")

    def __init__(self, path: bytes, held: os.stat_result, layer: int) -> None:
        self.path = path
        self.held = held
        self.layer = layer
        self.dirs = [layer] if stat.S_ISDIR(held.st_mode) else []
        self.opaque = False

    @property
    def is_directory(self) -> bool:
        """Whether it has entries."""
        return stat.S_ISDIR(self.held.st_mode)


class Listing:
    """One directory of one layer.  hidden: names whose file in the layers below is removed here."""

    __slots__ = ("entries", "hidden", "opaque")

    def __init__(self) -> None:
        self.entries: dict[bytes, os.stat_result] = {}
        self.hidden: set[bytes] = set()
        self.opaque = False


class LayerView:
    """Layers' directories, topmost first, as one tree; a context manager.  Raises Error where one is not there.

    squashed: every file counts as root's.
    """

    def __init__(self, directories: Sequence[str], squashed: bool = False) -> None:
        self.directories = tuple(directories)
        self._squashed = squashed
        self._fds: list[int] = []

    def __enter__(self) -> LayerView:
        try:
            for directory in self.directories:
                self._fds.append(os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError as error:
            self.__exit__()
            raise Error(os_error_text(error, directory)) from error
        return self

    def __exit__(self, *_error: object) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

    def root(self) -> Node:
        """The root directory, as the topmost layer has it."""
        node = Node(b"", os.fstat(self._fds[0]), 0)
        node.dirs = list(range(len(self._fds)))
        return node

    def open(self, node: Node, flags: int = os.O_RDONLY) -> int:
        """A descriptor of a file or directory, never through a link.  Raises OSError."""
        flags |= os.O_NOFOLLOW | (0 if flags & os.O_PATH else os.O_NONBLOCK)
        return libc.openat2(self._fds[node.layer], node.path or b".", flags, 0, _PLAIN)

    def link(self, node: Node) -> bytes:
        """A symbolic link's text.  Raises OSError."""
        fd = self.open(node, os.O_PATH)
        try:
            return os.readlink(b"", dir_fd=fd)  # readlinkat(2): an empty path reads the link itself
        finally:
            os.close(fd)

    def listing(self, layer: int, path: bytes) -> Listing:
        """A directory as one layer has it; empty where it has gone."""
        found = Listing()
        try:
            fd = libc.openat2(self._fds[layer], path or b".", os.O_RDONLY | os.O_DIRECTORY, 0, _PLAIN)
        except (FileNotFoundError, NotADirectoryError):
            return found
        except OSError as error:
            if error.errno == errno.ELOOP:  # a link has taken its place since it was listed
                return found
            raise Error(os_error_text(error, f"{self.directories[layer]}/{os.fsdecode(path)}")) from error
        try:
            found.opaque = _has_opaque_mark(fd)
            for raw in os.listdir(fd):
                name = os.fsencode(raw)
                try:
                    held = os.stat(raw, dir_fd=fd, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if name == OPAQUE_FILE:
                    found.opaque = True
                elif name.startswith(_RESERVED):
                    continue
                elif name.startswith(WHITEOUT) and _is_named_mark(held):
                    found.hidden.add(name[len(WHITEOUT) :])
                elif is_whiteout(held):
                    found.hidden.add(name)
                else:
                    found.entries[name] = with_owner(held, 0, 0) if self._squashed else held
        except OSError as error:
            raise Error(os_error_text(error, f"{self.directories[layer]}/{os.fsdecode(path)}")) from error
        finally:
            os.close(fd)
        return found

    def children(self, node: Node) -> dict[bytes, Node]:
        """What the directory `node` holds, by name, in order."""
        merged: dict[bytes, Node] = {}
        closed: set[bytes] = set()  # names that no lower layer can add to
        for number, layer in enumerate(node.dirs):
            listing = self.listing(layer, node.path)
            for name, held in listing.entries.items():
                if name in closed:
                    continue
                upper = merged.get(name)
                if upper is None:
                    merged[name] = Node(node.path + b"/" + name if node.path else name, held, layer)
                elif stat.S_ISDIR(held.st_mode):
                    upper.dirs.append(layer)
                if not stat.S_ISDIR(held.st_mode):
                    closed.add(name)
            closed |= listing.hidden
            if listing.opaque and number == 0:
                node.opaque = True
            if listing.opaque:
                break
        return dict(sorted(merged.items()))

    def walk(self) -> Iterator[Node]:
        """Everything but the root, directories before what they hold."""
        pending = [iter(self.children(self.root()).values())]
        while pending:
            node = next(pending[-1], None)
            if node is None:
                pending.pop()
                continue
            yield node
            if node.is_directory:
                pending.append(iter(self.children(node).values()))


def _is_named_mark(held: os.stat_result) -> bool:
    """Whether a file called .wh.NAME marks NAME as removed, as it does where no 0:0 device can be made.

    fuse-overlayfs and `layertree` make it empty and private.  With the kernel's overlay, to which such a name is one
    like others, it may be a file of the container's own.
    """
    return stat.S_ISREG(held.st_mode) and not held.st_size and not held.st_mode & 0o077


def with_owner(held: os.stat_result, uid: int, gid: int) -> os.stat_result:
    """The same file with another owner."""
    times = {"st_mtime_ns": held.st_mtime_ns, "st_rdev": held.st_rdev}
    return os.stat_result((*held[:4], uid, gid, *held[6:]), times)


def _has_opaque_mark(fd: int) -> bool:
    for name in _OPAQUE_XATTRS:
        try:
            if os.getxattr(fd, name) == b"y":
                return True
        except OSError:
            continue
    return False
