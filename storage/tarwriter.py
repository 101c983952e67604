"""Writing trees as tar archives: `export`, the layer of a `commit`, what `cp` sends.

Weight: `tarfile` (headers), `storage.layerview`.  Nothing is held but one piece of a file and the names of files with
several links.  Formats: pax, as the OCI image specification asks (layer.md), with SCHILY.xattr for attributes.
"""

from __future__ import annotations

import os
import stat
import tarfile

from rootless.errors import Error, os_error_text
from storage.differences import is_engines_own
from storage.layertree import OPAQUE_FILE, WHITEOUT
from storage.layerview import LayerView, Node, with_owner
from storage.tarstream import shown
from storage.unpack import is_kept_xattr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CHUNK = 256 << 10
_END = bytes(2 * tarfile.BLOCKSIZE)
_KINDS = {stat.S_IFDIR: tarfile.DIRTYPE, stat.S_IFLNK: tarfile.SYMTYPE, stat.S_IFIFO: tarfile.FIFOTYPE}
_DEVICES = {stat.S_IFCHR: tarfile.CHRTYPE, stat.S_IFBLK: tarfile.BLKTYPE}


def header(
    name: bytes,
    held: os.stat_result,
    *,
    link: bytes = b"",
    hard_link: bool = False,
    xattrs: dict[str, bytes] | None = None,
) -> bytes:
    """A member's header blocks.  Times are whole seconds, owners numbers, as other engines write layers."""
    info = tarfile.TarInfo(_text(name))
    info.mode = stat.S_IMODE(held.st_mode)
    info.uid, info.gid = held.st_uid, held.st_gid
    info.mtime = int(held.st_mtime)
    info.linkname = _text(link)
    kind = stat.S_IFMT(held.st_mode)
    if hard_link:
        info.type = tarfile.LNKTYPE
    elif kind == stat.S_IFREG:
        info.type, info.size = tarfile.REGTYPE, held.st_size
    elif kind in _DEVICES:
        info.type = _DEVICES[kind]
        info.devmajor, info.devminor = os.major(held.st_rdev), os.minor(held.st_rdev)
    else:
        info.type = _KINDS[kind]
    info.pax_headers = {"SCHILY.xattr." + key: _text(value) for key, value in (xattrs or {}).items()}
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def kept_xattrs(fd: int) -> dict[str, bytes]:
    """The attributes of an open file that a layer may have."""
    found = {}
    try:
        for name in os.listxattr(fd):
            if is_kept_xattr(name):
                found[name] = os.getxattr(fd, name)
    except OSError:
        return found  # not on this file system, or just removed
    return found


def content(fd: int, size: int) -> Iterator[bytes]:
    """`size` bytes of an open file in whole blocks; zeros where it has become shorter."""
    left = size
    while left:
        piece = os.read(fd, min(left, _CHUNK))
        if not piece:
            break
        left -= len(piece)
        yield piece
    while left:
        yield bytes(min(left, _CHUNK))
        left -= min(left, _CHUNK)
    if rest := size % tarfile.BLOCKSIZE:
        yield bytes(tarfile.BLOCKSIZE - rest)


class ArchiveReader:
    """An archive's chunks as a byte stream (`storage.archive_files.Source`), small ones put together."""

    size = 0

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        """1 to `size` bytes, b"" at the end."""
        parts = [self._rest]
        have = len(self._rest)
        while have < size and (chunk := next(self._chunks, None)) is not None:
            parts.append(chunk)
            have += len(chunk)
        data = b"".join(parts)
        self._rest = data[size:]
        return data[:size]

    def cancel(self) -> None:
        """Nothing waits here: files are read at once."""

    def __enter__(self) -> ArchiveReader:
        return self

    def __exit__(self, *_error: object) -> None:
        self._rest = b""


class TreeArchive:
    """A view's files as members; `members` skips what tar has no word for (sockets).

    name: what a path is called in the archive; owner: what its owner's ids are.
    """

    def __init__(
        self,
        view: LayerView,
        name: Callable[[bytes], bytes] = lambda path: path,
        owner: Callable[[int, int], tuple[int, int]] = lambda uid, gid: (uid, gid),
    ) -> None:
        self._view = view
        self._name = name
        self._owner = owner
        self._linked: dict[tuple[int, int], bytes] = {}

    def member(self, node: Node) -> Iterator[bytes]:
        """One file.  Nothing where it has gone meanwhile.  Raises Error naming it."""
        try:
            yield from self._member(node)
        except FileNotFoundError:
            return
        except OSError as error:
            raise Error(os_error_text(error, f"cannot read /{shown(node.path)}")) from error

    def _owned(self, held: os.stat_result) -> os.stat_result:
        ids = self._owner(held.st_uid, held.st_gid)
        return held if ids == (held.st_uid, held.st_gid) else with_owner(held, *ids)

    def _member(self, node: Node) -> Iterator[bytes]:
        held = self._owned(node.held)
        name = self._name(node.path)
        if stat.S_ISSOCK(held.st_mode):
            return
        if node.is_directory:
            fd = self._view.open(node, os.O_RDONLY | os.O_DIRECTORY)
            try:
                yield header((name or b".") + b"/", held, xattrs=kept_xattrs(fd))
            finally:
                os.close(fd)
            return
        identity = (held.st_dev, held.st_ino)
        if held.st_nlink > 1:
            if first := self._linked.get(identity):
                yield header(name, held, link=first, hard_link=True)
                return
            self._linked[identity] = name
        if stat.S_ISREG(held.st_mode):
            yield from self._file(node, name)
        elif stat.S_ISLNK(held.st_mode):
            yield header(name, held, link=self._view.link(node))
        else:
            yield header(name, held)

    def _file(self, node: Node, name: bytes) -> Iterator[bytes]:
        fd = self._view.open(node)
        try:
            held = os.fstat(fd)
            if not stat.S_ISREG(held.st_mode):
                return  # another took its place between listing and opening
            yield header(name, self._owned(held), xattrs=kept_xattrs(fd))
            yield from content(fd, held.st_size)
        finally:
            os.close(fd)


def whole_tree(view: LayerView) -> Iterator[bytes]:
    """The archive of everything in a view."""
    archive = TreeArchive(view)
    for node in view.walk():
        yield from archive.member(node)
    yield _END


def squashed(view: LayerView, changed: bool) -> Iterator[bytes]:
    """The same as one layer; raises Error as `top_layer` does.

    changed: the topmost layer is a container's, whose mount points are left out.
    """
    archive = TreeArchive(view)
    yield from archive.member(view.root())
    for node in view.walk():
        if not (changed and node.layer == 0 and is_engines_own(node.path) and _is_empty(view, node)):
            _require_storable(node.path.rpartition(b"/")[2], node)
            yield from archive.member(node)
    yield _END


def _require_storable(name: bytes, node: Node) -> None:
    if name.startswith(WHITEOUT):
        raise Error(
            f"/{shown(node.path)}: a layer of an image cannot hold a file of this name, which removes"
            f" {shown(name[len(WHITEOUT) :])}",
            hint="remove or rename it in the container",
        )


def one_file(fd: int, name: bytes, owner: Callable[[int, int], tuple[int, int]]) -> Iterator[bytes]:
    """The archive of one open file."""
    held = os.fstat(fd)
    yield header(name, with_owner(held, *owner(held.st_uid, held.st_gid)), xattrs=kept_xattrs(fd))
    yield from content(fd, held.st_size)
    yield _END


def one_directory(fd: int, name: bytes, owner: Callable[[int, int], tuple[int, int]]) -> Iterator[bytes]:
    """The archive of an open directory, under `name`; "": of what is in it."""
    with LayerView((f"/proc/self/fd/{fd}",)) as view:
        archive = TreeArchive(view, lambda path: b"/".join(filter(None, (name, path))), owner)
        if name:
            yield from archive.member(view.root())
        for node in view.walk():
            yield from archive.member(node)
    yield _END


def top_layer(view: LayerView, base: LayerView) -> Iterator[bytes]:
    """The archive of what the topmost layer of `view` adds to `base`, the others, and hides of it, as OCI whiteouts.

    Raises Error for a file whose name begins as a whiteout's does: every reader would take it for one.
    Mount points that the engine made for files of its own are left out: every container gets them anew.  The root
    comes first, always: so no file's name at the archive's begin is taken for a compression's magic number.
    """
    archive = TreeArchive(view)
    root = view.root()
    yield from archive.member(root)
    pending: list[tuple[Node, Node | None]] = [(root, base.root())]
    while pending:
        directory, former = pending.pop()
        listing = view.listing(0, directory.path)
        hides = base.children(former) if former is not None else {}
        prefix = directory.path + b"/" if directory.path else b""
        if listing.opaque and former is not None and directory.path:
            # fuse-overlayfs marks every new directory, also where there is nothing to hide.
            yield _mark(prefix + OPAQUE_FILE, directory)
            hides = {}
        for name in sorted(listing.hidden & hides.keys()):
            yield _mark(prefix + WHITEOUT + name, directory)
        below = []
        for name, held in sorted(listing.entries.items()):
            node = Node(prefix + name, held, 0)
            if is_engines_own(node.path) and _is_empty(view, node):
                continue
            _require_storable(name, node)
            yield from archive.member(node)
            if node.is_directory:
                hidden = hides.get(name)
                below.append((node, hidden if hidden is not None and hidden.is_directory else None))
        pending.extend(reversed(below))
    yield _END


def empty_layer(view: LayerView) -> Iterator[bytes]:
    """The archive of a layer that changes nothing."""
    yield from TreeArchive(view).member(view.root())
    yield _END


def _mark(name: bytes, directory: Node) -> bytes:
    """An empty file of root's."""
    held = directory.held
    return header(name, os.stat_result((stat.S_IFREG, 0, 0, 1, 0, 0, 0, held.st_mtime, held.st_mtime, held.st_mtime)))


def _is_empty(view: LayerView, node: Node) -> bool:
    if node.is_directory:
        found = view.listing(0, node.path)
        return not (found.entries or found.hidden or found.opaque)
    return stat.S_ISREG(node.held.st_mode) and node.held.st_size == 0
