"""A tar archive unpacked into a container that exists: `cp - CONTAINER:DIR`.

Weight: `storage.tarstream`.  Each entry's directory is resolved inside the container's root, as the container would.
"""

from __future__ import annotations

import os
import stat

from rootless.errors import Error, os_error_text
from rootless.ops import make_directory_in_root
from storage.tarstream import DIRECTORY, FILE, LINK, SYMLINK, Entry, TarError, TarStream, shown
from storage.unpack import clean_path, is_kept_xattr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyctl.engine.copying import Copier, Place
    from storage.compression import Reader

_WHAT = "the archive on standard input"
_ZEROS = bytes(1 << 20)
_FIFO = b"6"


def unpack(place: Place, directory: str, source: Reader, copier: Copier) -> None:
    """Put the entries of an uncompressed archive into a directory of the container.  Raises Error naming the entry."""
    tar = TarStream(source, _WHAT)
    count = 0
    try:
        while (entry := tar.next()) is not None:
            count += 1
            try:
                _place(place, directory, tar, entry, copier)
            except OSError as error:
                raise Error(os_error_text(error, f"{_WHAT}: entry {shown(entry.name)}")) from error
    except TarError as error:
        if not count:
            raise _no_archive() from error
        raise
    if not count and not tar.offset:
        raise _no_archive()


def _no_archive() -> Error:
    return Error("source must be a (compressed) tar archive when copying from stdin")


def _place(place: Place, directory: str, tar: TarStream, entry: Entry, copier: Copier) -> None:
    path = clean_path(entry.name)
    if path is None:
        raise tar.error("its path leads out of the directory")
    if not path:
        return
    folder, _, name = path.rpartition(b"/")
    parent = _open(place, directory, folder, make=True)
    held = _stat(entry)
    text = f"{directory}/{os.fsdecode(path)}"
    try:
        if entry.kind == DIRECTORY:
            fd, made = copier.directory(parent, name, held, text)
            if made:
                copier.finish_directory(fd, held)
            os.close(fd)
        elif entry.kind == FILE:
            kept = {key: value for key, value in (entry.xattrs or {}).items() if is_kept_xattr(key)}
            copier.file(parent, name, held, _content(tar, entry), text, kept)
        elif entry.kind == LINK:
            first = clean_path(entry.link)
            if not first:
                raise tar.error(f"its link {shown(entry.link)} leads out of the directory")
            first_folder, _, first_name = first.rpartition(b"/")
            first_parent = _open(place, directory, first_folder, make=False)
            try:
                copier.hard_link(parent, name, first_parent, first_name, text)
            finally:
                os.close(first_parent)
        else:
            copier.other(parent, name, held, entry.link, text)
    finally:
        os.close(parent)


def _open(place: Place, directory: str, folder: bytes, make: bool) -> int:
    path = f"{directory}/{os.fsdecode(folder)}"
    try:
        return place.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        if not make:
            raise
    make_directory_in_root(place.root, path)
    return place.open(path, os.O_RDONLY | os.O_DIRECTORY)


def _stat(entry: Entry) -> os.stat_result:
    kinds = {DIRECTORY: stat.S_IFDIR, FILE: stat.S_IFREG, SYMLINK: stat.S_IFLNK, _FIFO: stat.S_IFIFO}
    mode = (entry.mode & 0o7777) | kinds.get(entry.kind, stat.S_IFCHR)
    seconds = entry.mtime_ns // 10**9
    numbers = (mode, 0, 0, 1, entry.uid, entry.gid, entry.size, seconds, seconds, seconds)
    return os.stat_result(numbers, {"st_mtime_ns": entry.mtime_ns})


def _content(tar: TarStream, entry: Entry) -> Iterator[bytes]:
    """A file's bytes, holes as zeros."""
    if entry.sparse is None:
        for piece in tar.data():
            yield bytes(piece)
        return
    position = left = 0
    pieces = iter(entry.sparse)
    for data in tar.data():
        piece = data
        while piece:
            while not left:
                offset, left = next(pieces)
                yield from _zeros(offset - position)
                position = offset
            yield bytes(piece[:left])
            taken = min(left, len(piece))
            position, left, piece = position + taken, left - taken, piece[taken:]
    yield from _zeros(entry.size - position)


def _zeros(count: int) -> Iterator[bytes]:
    while count > 0:
        yield _ZEROS[:count]
        count -= len(_ZEROS)
