"""A new volume filled with what the image has at its place.

Weight: `rootless.ops`, `rootless.lockfile`; loaded where a container is the first with its volume.
"""

from __future__ import annotations

import os

from rootless import libc, lockfile
from rootless.errors import LaunchError, os_error_text
from rootless.ops import Operation, empty_directory

_FILLING = "filling"  # beside a directory that takes an image's content


class CopyTree(Operation):
    """Fill the empty directory `target` from `source` in the mounted root, owners, modes, times and xattrs kept.

    All of it or nothing: a file beside `target` is there, and locked, while it is being filled.  Who finds it left by
    a killed start fills anew; who finds it locked waits.
    """

    root: str
    source: str
    target: str
    uid: int = 0  # who owns the target where the root has no such directory
    gid: int = 0
    content: bool = True  # else the owner and the mode alone

    def describe(self) -> str:
        return f"copy {self.source} of the image to {self.target}"

    def execute(self) -> int:
        root_fd = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        target_fd = -1
        try:
            target_fd = os.open(self.target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            mark = f"{os.path.dirname(self.target)}/{_FILLING}"
            if os.listdir(target_fd) and not os.path.exists(mark):
                return 0
            try:
                source_fd = libc.open_in_root(root_fd, self.source, os.O_RDONLY | os.O_DIRECTORY)
            except OSError:  # the image has nothing there
                os.fchown(target_fd, self.uid, self.gid)
                return 0
            try:
                if self.content:
                    _fill(source_fd, target_fd, mark)
                else:
                    _copy_attributes(source_fd, target_fd)
            finally:
                os.close(source_fd)
        except OSError as error:
            raise LaunchError("volume", os_error_text(error, self.describe()), errno=error.errno or 0) from error
        except RecursionError as error:
            raise LaunchError("volume", f"{self.describe()}: its directories are nested too deeply") from error
        finally:
            os.close(root_fd)
            if target_fd >= 0:
                os.close(target_fd)
        return 0


def _fill(source_fd: int, target_fd: int, mark: str) -> None:
    held = _hold_mark(mark)
    try:
        if os.fstat(held).st_size:  # a start that was killed in the middle of it
            empty_directory(target_fd, target_fd, 0)
        if os.listdir(target_fd):  # who was waited for has done it
            os.unlink(mark)
            return
        os.write(held, b"1")
        try:
            copy_directory(source_fd, target_fd)
        except BaseException:
            empty_directory(target_fd, target_fd, 0)
            os.unlink(mark)
            raise
        os.unlink(mark)
    finally:
        os.close(held)


def _hold_mark(path: str) -> int:
    while True:
        fd = lockfile.hold(path, wait=True)
        assert fd is not None
        try:
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                return fd
        except FileNotFoundError:
            pass
        os.close(fd)  # its last holder has removed it


def copy_directory(source_fd: int, target_fd: int) -> None:
    """Copy a tree between two open directories; links are never followed, special files are made again."""
    _copy_attributes(source_fd, target_fd)
    with os.scandir(source_fd) as entries:
        names = [entry.name for entry in entries]
    for name in names:
        info = os.stat(name, dir_fd=source_fd, follow_symlinks=False)
        kind = info.st_mode & 0o170000
        if kind == 0o040000:
            os.mkdir(name, 0o700, dir_fd=target_fd)
            below_source = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source_fd)
            below_target = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=target_fd)
            try:
                copy_directory(below_source, below_target)
            finally:
                os.close(below_source)
                os.close(below_target)
        elif kind == 0o120000:
            os.symlink(os.readlink(name, dir_fd=source_fd), name, dir_fd=target_fd)
            os.chown(name, info.st_uid, info.st_gid, dir_fd=target_fd, follow_symlinks=False)
        elif kind == 0o100000:
            _copy_file(name, source_fd, target_fd)
        elif kind in (0o010000, 0o140000):
            os.mknod(name, info.st_mode, dir_fd=target_fd)
            os.chown(name, info.st_uid, info.st_gid, dir_fd=target_fd, follow_symlinks=False)
    # Once more: making entries has changed the directory's times.
    info = os.fstat(source_fd)
    os.utime(target_fd, ns=(info.st_atime_ns, info.st_mtime_ns))


def _copy_file(name: str, source_fd: int, target_fd: int) -> None:
    source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source_fd)
    try:
        target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target_fd)
        try:
            size = os.fstat(source).st_size
            while size > 0 and (moved := os.sendfile(target, source, None, 1 << 24)):
                size -= moved
            _copy_attributes(source, target)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _copy_attributes(source: int, target: int) -> None:
    info = os.fstat(source)
    os.fchown(target, info.st_uid, info.st_gid)
    os.fchmod(target, info.st_mode & 0o7777)
    for name in os.listxattr(source):
        if name.startswith("user.") and not name.startswith("user.overlay."):
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))
