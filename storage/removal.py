"""Removing trees that strangers made: layers, volumes, containers' directories.

Weight: `os`, `rootless.errors`.  Runs where the ids of the files are mapped.
"""

from __future__ import annotations

import errno
import os

from rootless.errors import Error, os_error_text

# One descriptor and one call a level, so the depth, which is the stranger's choice, is bounded.
_MAX_DEPTH = 100


def remove_tree(name: bytes | str, dir_fd: int | None = None) -> None:
    """Remove a directory and all beneath it, never through a link, whatever its modes.  Missing: nothing to do.

    Two processes may remove the same tree.  Raises OSError.
    """
    try:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    try:
        _empty(fd, fd, 0)
    finally:
        os.close(fd)
    try:
        os.rmdir(name, dir_fd=dir_fd)
    except FileNotFoundError:
        pass


def _empty(fd: int, top_fd: int, depth: int) -> None:
    again = True
    while again:
        again = False
        with os.scandir(fd) as found:
            entries = [(os.fsencode(e.name), e.is_dir(follow_symlinks=False)) for e in found]
        for name, is_directory in entries:
            try:
                if not is_directory:
                    os.unlink(name, dir_fd=fd)
                    continue
                if depth >= _MAX_DEPTH:
                    # Too deep for one descriptor a level: move it to the top, which is scanned again.
                    os.rename(
                        name, b"%d.%s" % (os.getpid(), os.urandom(8).hex().encode()), src_dir_fd=fd, dst_dir_fd=top_fd
                    )
                    continue
                child = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
                try:
                    _empty(child, top_fd, depth + 1)
                finally:
                    os.close(child)
                os.rmdir(name, dir_fd=fd)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
                again = True
        if fd == top_fd and depth == 0 and entries:
            again = True


def remove_store_directory(path: str) -> None:
    """`remove_tree` of a directory of the store.  Raises Error naming it."""
    try:
        remove_tree(path)
    except OSError as error:
        raise Error(os_error_text(error, f"cannot remove {path}")) from error
