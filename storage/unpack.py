"""Unpacking a layer: every entry of a hostile archive lands beneath one directory, or the unpacking ends.

Weight: `os`, `storage.tarstream`, `rootless.libc`.  Runs as uid 0 of the user's namespace (or as real root).

How paths stay beneath the root is `storage.layertree`'s; here is what each kind of entry becomes, and the caps.
Whiteouts: OCI image specification, layer.md.
"""

from __future__ import annotations

import errno
import os
import stat

from rootless import libc
from rootless.errors import Error
from rootless.values import Value
from storage.blobs import no_room
from storage.layertree import OPAQUE_FILE, WHITEOUT, LayerTree
from storage.tarstream import BLOCKDEV, CHAR, DIRECTORY, FIFO, FILE, LINK, SYMLINK, Entry, TarStream, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from storage.compression import Reader

_HOLE = 64 << 10  # shorter runs of zeros are written
_ZEROS = bytes(_HOLE)
_MAX_PATH = 4096
_OPEN_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

# What a layer may set.  The drivers' own attributes (user.overlay.*, user.fuseoverlayfs.*, trusted.*) would let an
# image redirect its merged tree; the others have no meaning outside the machine that wrote them.
_XATTR_ALLOWED = ("user.", "security.capability", "system.posix_acl_")
_XATTR_REFUSED = ("user.overlay", "user.fuseoverlayfs.", "user.containers.", "user.rootlesscontainers")
_XATTR_TOLERATED = (errno.ENOTSUP, errno.EPERM, errno.EINVAL, errno.E2BIG, errno.ENOSPC, errno.ERANGE, errno.EACCES)


class UnpackLimits(Value):
    """Caps against archives that are made to fill a disk.  0 switches a cap off.

    max_bytes: really written (holes are free); max_stream_bytes: of the uncompressed archive; max_ratio: written
    bytes for each compressed one, beyond the first 64 MiB; max_name_bytes: of all directories' paths, which are kept in
    memory; max_window_bytes: of memory that decompressing zstd takes (0: 128 MiB).  The encoders of other engines use
    windows of up to 32 MiB, zstd(1) larger ones with --ultra and --long only.
    """

    max_bytes: int = 64 << 30
    max_stream_bytes: int = 256 << 30
    max_entries: int = 2_000_000
    max_ratio: int = 300
    max_name_bytes: int = 64 << 20
    max_window_bytes: int = 32 << 20


class UnpackReport(Value):
    """What became of an archive."""

    entries: int
    stream_bytes: int  # of the uncompressed archive
    written_bytes: int
    root_explicit: bool  # the archive has an entry for the root itself
    root_opaque: bool = False  # everything below this layer is hidden
    implicit: tuple[bytes, ...] = ()  # directories that are needed but have no entry: paths beneath the root
    foreign_owners: int = 0  # entries whose owner was not kept (single-id mode)
    skipped_devices: int = 0  # device nodes cannot be made in a user namespace
    skipped_xattrs: int = 0


def unpack(
    source: Reader,
    root_fd: int,
    *,
    what: str,
    single_id: bool = False,
    limits: UnpackLimits | None = None,
    compressed_bytes: int = 0,
) -> UnpackReport:
    """Unpack the uncompressed archive `source` into the empty directory `root_fd`, and read `source` to its end.

    what: begins messages ("layer sha256:…"); single_id: only one id is mapped, so every owner becomes it;
    compressed_bytes: for the ratio, 0 unknown.  Raises Error naming the entry; what was unpacked is then the
    caller's to remove.
    """
    unpacker = _Unpacker(
        TarStream(source, what),
        root_fd,
        what=what,
        single_id=single_id,
        limits=limits or UnpackLimits(),
        compressed=compressed_bytes,
    )
    try:
        return unpacker.run()
    finally:
        unpacker.tree.close()


def clean_path(name: bytes) -> bytes | None:
    """A member's name as a relative path without ".", ".." and empty parts; b"" is the root; None: it climbs out."""
    if name[:1] not in (b"/", b".") and b"/." not in name and b"//" not in name and name[-1:] != b"/":
        return name
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part in (b"", b"."):
            continue
        if part == b"..":
            if not parts:
                return None
            parts.pop()
        else:
            parts.append(part)
    return b"/".join(parts)


def is_kept_xattr(name: str) -> bool:
    """Whether a layer may have this attribute."""
    return name.startswith(_XATTR_ALLOWED) and not name.startswith(_XATTR_REFUSED)


class _Unpacker:
    """The state of one unpacking."""

    def __init__(
        self, tar: TarStream, root_fd: int, *, what: str, single_id: bool, limits: UnpackLimits, compressed: int
    ) -> None:
        self._tar = tar
        self._root = root_fd
        self.tree = LayerTree(root_fd, self._tar.error)
        self._what = what
        self._single = single_id
        self._limits = limits
        self._max_written = limits.max_bytes or 1 << 62
        if compressed and limits.max_ratio:
            self._max_written = min(self._max_written, (64 << 20) + compressed * limits.max_ratio)
        self._max_stream = limits.max_stream_bytes or 1 << 62
        self._entries = self._written = self._foreign = self._devices = self._xattrs = 0
        self._root_explicit = self._root_opaque = False

    def run(self) -> UnpackReport:
        tar, limits = self._tar, self._limits
        implicit = self.tree.implicit
        max_entries, max_names = limits.max_entries or 1 << 62, limits.max_name_bytes or 1 << 62
        while (entry := tar.next()) is not None:
            self._entries += 1
            # Directories without an entry count too: one name of 4096 bytes can ask for 2000 of them.
            if self._entries + len(implicit) > max_entries:
                raise tar.error(f"more than {limits.max_entries} entries (layer_max_entries)")
            if self.tree.name_bytes > max_names:
                raise tar.error(f"paths of directories of more than {max_names} bytes together (layer_max_names)")
            if tar.offset > self._max_stream:
                raise self._too_large()
            try:
                self._place(entry)
            except OSError as error:
                raise self._failure(error, entry) from error
        while tar.drain():
            if tar.offset > self._max_stream:
                raise self._too_large()
        self.tree.set_times()
        return UnpackReport(
            entries=self._entries,
            stream_bytes=tar.offset,
            written_bytes=self._written,
            root_explicit=self._root_explicit,
            root_opaque=self._root_opaque,
            implicit=tuple(self.tree.implicit),
            foreign_owners=self._foreign,
            skipped_devices=self._devices,
            skipped_xattrs=self._xattrs,
        )

    def _failure(self, error: OSError, entry: Entry) -> Error:
        return no_room(error, f"{self._what}: entry {shown(entry.name)}")

    def _foreign_owner(self, entry: Entry) -> Error:
        from rootless.idmap import subid_advice, user_name
        from rootless.userns import host_uid

        return Error(
            f"{self._what}: entry {shown(entry.name)}: its owner {entry.uid}:{entry.gid} is not among the mapped ids",
            hint=subid_advice(user_name(host_uid())),
        )

    def _too_large(self) -> Error:
        return self._tar.error(f"the archive is larger than {self._max_stream} bytes (layer_max_stream)")

    # --- where an entry goes ---

    def _place(self, entry: Entry) -> None:
        path = clean_path(entry.name)
        if path is None:
            raise self._tar.error("its path leads out of the layer")
        if len(path) > _MAX_PATH:
            raise self._tar.error(f"its path is longer than {_MAX_PATH} bytes")
        if not path:
            self._place_root(entry)
            return
        parent, _, name = path.rpartition(b"/")
        if name.startswith(WHITEOUT):
            self._place_whiteout(self.tree.directory(parent), name, parent)
            return
        fd = self.tree.directory(parent)
        if entry.kind == FILE:
            self._place_file(entry, fd, name)
        elif entry.kind == DIRECTORY:
            self._place_directory(entry, fd, name, path)
        elif entry.kind == SYMLINK:
            self.tree.replacing(lambda: os.symlink(entry.link, name, dir_fd=fd), fd, name)
            self._set_owner(entry, fd, name)
            os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=fd, follow_symlinks=False)
        elif entry.kind == LINK:
            self._place_link(entry, fd, name)
        else:
            self._place_node(entry, fd, name, parent)

    def _place_root(self, entry: Entry) -> None:
        if entry.kind != DIRECTORY:
            raise self._tar.error("the root of a layer must be a directory")
        self._dress(entry, self._root)
        self.tree.set_root_time(entry.mtime_ns)
        self._root_explicit = True

    # --- entries of each kind ---

    def _place_file(self, entry: Entry, fd: int, name: bytes) -> None:
        try:
            file = os.open(name, _OPEN_FILE, 0o600, dir_fd=fd)
        except FileExistsError:
            self.tree.clear(fd, name)
            file = os.open(name, _OPEN_FILE, 0o600, dir_fd=fd)
        try:
            if entry.sparse is not None:
                self._write_sparse(file, entry)
            elif entry.size:
                self._write(file, entry.size)
            self._dress(entry, file)
            os.utime(file, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(file)

    def _count(self, size: int) -> None:
        self._written += size
        if self._written > self._max_written:
            raise self._tar.error(
                f"the archive expands to more than {self._max_written} bytes (layer_max_size, layer_max_ratio)"
            )
        if self._tar.offset > self._max_stream:
            raise self._too_large()

    def _write(self, file: int, size: int) -> None:
        hole = False
        for piece in self._tar.data():
            if size >= _HOLE and len(piece) >= _HOLE:
                hole = self._write_around_holes(file, piece)
                continue
            hole = False
            self._count(len(piece))
            done = os.write(file, piece)
            while done < len(piece):
                done += os.write(file, piece[done:])
        if hole:
            os.ftruncate(file, size)

    def _write_around_holes(self, file: int, piece: memoryview) -> bool:
        """Write, leaving runs of zeros out: a preallocated or huge empty file stays small.  True: it ends in one."""
        start = position = 0
        while position < len(piece):
            end = min(position + _HOLE, len(piece))
            # Both ends first: with most data the comparison ends there, without a copy.
            empty = piece[position] == 0 == piece[end - 1] and bytes(piece[position:end]) == _ZEROS[: end - position]
            if empty:
                self._write_all(file, piece[start:position])
                os.lseek(file, end - position, os.SEEK_CUR)
                if self._tar.offset > self._max_stream:
                    raise self._too_large()
                start = end
            position = end
        self._write_all(file, piece[start:])
        return start == len(piece)

    def _write_all(self, file: int, piece: memoryview) -> None:
        self._count(len(piece))
        while piece:
            piece = piece[os.write(file, piece) :]

    def _write_sparse(self, file: int, entry: Entry) -> None:
        os.ftruncate(file, entry.size)
        pieces = iter(entry.sparse or ())
        left = 0
        for data in self._tar.data():
            while data:
                while not left:
                    offset, left = next(pieces)
                    os.lseek(file, offset, os.SEEK_SET)
                self._write_all(file, data[:left])
                taken = min(left, len(data))
                data, left = data[taken:], left - taken  # noqa: PLW2901 - what is left of it

    def _place_directory(self, entry: Entry, fd: int, name: bytes, path: bytes) -> None:
        self._dress(entry, self.tree.make_directory(fd, name, path, entry.mtime_ns))

    def _place_link(self, entry: Entry, fd: int, name: bytes) -> None:
        target = clean_path(entry.link)
        if not target:
            raise self._tar.error(f"its link {shown(entry.link)} leads out of the layer")
        source_parent, _, source_name = target.rpartition(b"/")
        source = -1
        try:
            source = libc.open_in_root(self._root, source_parent or b".", os.O_PATH | os.O_DIRECTORY)
            held = os.stat(source_name, dir_fd=source, follow_symlinks=False)
            try:
                os.link(source_name, name, src_dir_fd=source, dst_dir_fd=fd, follow_symlinks=False)
            except FileExistsError:
                there = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino):
                    return  # a link to itself: removing it first would lose the file
                self.tree.clear(fd, name)
                os.link(source_name, name, src_dir_fd=source, dst_dir_fd=fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            raise self._tar.error(f"it links to {shown(entry.link)}, which is not in the layer") from None
        finally:
            if source >= 0:
                os.close(source)

    def _place_node(self, entry: Entry, fd: int, name: bytes, parent: bytes) -> None:
        permissions = entry.mode & 0o7777
        if entry.kind == FIFO:
            self.tree.replacing(lambda: os.mkfifo(name, permissions, dir_fd=fd), fd, name)
        elif entry.kind == CHAR and entry.device == (0, 0):
            self._place_whiteout(fd, WHITEOUT + name, parent)
            return
        else:
            assert entry.kind in (CHAR, BLOCKDEV)
            mode = permissions | (stat.S_IFCHR if entry.kind == CHAR else stat.S_IFBLK)
            try:
                number = os.makedev(*entry.device)
            except (OverflowError, ValueError):
                raise self._tar.error(f"the device {entry.device[0]}:{entry.device[1]} is impossible") from None
            try:
                self.tree.replacing(lambda: os.mknod(name, mode, number, dir_fd=fd), fd, name)
            except PermissionError:
                # mknod(2) is the initial namespace's only.  As Podman does it: the container gets its own /dev.
                self._devices += 1
                return
        self._set_owner(entry, fd, name)
        os.chmod(name, permissions, dir_fd=fd)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=fd, follow_symlinks=False)

    def _place_whiteout(self, fd: int, name: bytes, parent: bytes) -> None:
        if name == OPAQUE_FILE:
            self.tree.set_opaque(fd)
            self._root_opaque |= not parent
        elif not name.startswith(b".wh..wh."):  # aufs's own bookkeeping
            hidden = name[len(WHITEOUT) :]
            if hidden in (b"", b".", b".."):
                raise self._tar.error("a whiteout that names nothing")
            self.tree.hide(fd, hidden)

    # --- metadata ---

    def _dress(self, entry: Entry, fd: int) -> None:
        """Owner, then mode (chown(2) clears setuid), then attributes (it clears capabilities too)."""
        self._set_owner(entry, fd)
        os.chmod(fd, entry.mode)
        if entry.xattrs is not None:
            self._set_xattrs(entry.xattrs, fd)

    def _set_owner(self, entry: Entry, fd: int, name: bytes = b"") -> None:
        """The owner of `fd`, or of `name` in that directory."""
        if self._single:
            self._foreign += bool(entry.uid or entry.gid)
            return
        try:
            if name:
                os.chown(name, entry.uid, entry.gid, dir_fd=fd, follow_symlinks=False)
            else:
                os.chown(fd, entry.uid, entry.gid)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise self._foreign_owner(entry) from error
            raise

    def _set_xattrs(self, xattrs: dict[str, bytes], fd: int) -> None:
        for name, value in xattrs.items():
            if not is_kept_xattr(name):
                self._xattrs += 1
                continue
            try:
                os.setxattr(fd, name, value)
            except OSError as error:
                if error.errno not in _XATTR_TOLERATED:
                    raise
                self._xattrs += 1
