"""Giving a tree of files to another user: `-v SOURCE:TARGET:U`.

Weight: `os`.  Runs as uid 0 of the user's namespace, which may change only files of ids that are mapped there.
The tree may be a stranger's, changing meanwhile and of any depth: it is walked by descriptors, of which only some are
open at a time, and never through a link.
"""

from __future__ import annotations

import os
import stat

from rootless.errors import LaunchError, os_error_text

_OPEN_LEVELS = 64
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def chown_tree(path: str, uid: int, gid: int) -> None:
    """Make `path` (where it is a link, what it points to) and all below it belong to uid:gid.

    Links below are changed themselves.  What belongs to them already is left alone, so that a second start costs
    only the look.  Raises LaunchError.
    """
    try:
        held = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if stat.S_ISDIR(os.fstat(held).st_mode):
                _Walk(uid, gid).walk(os.open(f"/proc/self/fd/{held}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            else:
                _change(held, uid, gid)
        finally:
            os.close(held)
    except OSError as error:
        name = error.filename if isinstance(error.filename, str) and not error.filename.startswith("/proc/") else ""
        shown = path if not name or name == path else f"{path} ({name})"
        hint = "some files in it belong to other users of this machine, whose ids you may not change"
        raise LaunchError(
            "volume",
            os_error_text(error, f"cannot give {shown} to the container's user"),
            hint=hint if error.errno == 1 else "",
            errno=error.errno or 0,
        ) from error


class _Level:
    """A directory on the way down.  `fd`: -1 while it is closed for the sake of deeper ones."""

    __slots__ = ("fd", "key", "pending")

    def __init__(self, fd: int, pending: list[str]) -> None:
        info = os.fstat(fd)
        self.fd = fd
        self.key = info.st_dev, info.st_ino
        self.pending = pending


class _Walk:
    def __init__(self, uid: int, gid: int) -> None:
        self._uid, self._gid = uid, gid
        self._levels: list[_Level] = []

    def walk(self, top_fd: int) -> None:
        """Everything from this directory on, which is closed then."""
        levels = self._levels
        levels.append(_Level(top_fd, self._change_entries(top_fd)))
        try:
            while levels:
                if levels[-1].pending:
                    self._descend(levels[-1].pending.pop())
                else:
                    self._ascend()
        finally:
            for level in levels:
                if level.fd >= 0:
                    os.close(level.fd)

    def _descend(self, name: str) -> None:
        levels = self._levels
        try:
            fd = os.open(name, _DIRECTORY, dir_fd=levels[-1].fd)
        except (FileNotFoundError, NotADirectoryError):
            return  # it has just been taken away
        try:
            levels.append(_Level(fd, self._change_entries(fd)))
        except OSError:
            os.close(fd)
            raise
        if len(levels) > _OPEN_LEVELS:
            far = levels[-1 - _OPEN_LEVELS]
            os.close(far.fd)
            far.fd = -1

    def _ascend(self) -> None:
        levels = self._levels
        level = levels.pop()
        try:
            if levels and levels[-1].fd < 0:
                parent = os.open("..", _DIRECTORY, dir_fd=level.fd)
                info = os.fstat(parent)
                if (info.st_dev, info.st_ino) != levels[-1].key:
                    os.close(parent)
                    raise OSError(116, "a directory was moved away meanwhile")
                levels[-1].fd = parent
        finally:
            os.close(level.fd)

    def _change_entries(self, fd: int) -> list[str]:
        """Change a directory and what is in it; returns the directories in it."""
        info = os.fstat(fd)
        if (info.st_uid, info.st_gid) != (self._uid, self._gid):
            _change(fd, self._uid, self._gid)
        directories = []
        for name in os.listdir(fd):
            try:
                info = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISDIR(info.st_mode):
                    directories.append(name)
                elif (info.st_uid, info.st_gid) != (self._uid, self._gid):
                    _change_entry(name, fd, info.st_mode, self._uid, self._gid)
            except FileNotFoundError:
                continue
        return directories


def _change(fd: int, uid: int, gid: int) -> None:
    """A file that is no link, by any descriptor."""
    path, mode = f"/proc/self/fd/{fd}", os.fstat(fd).st_mode
    os.chown(path, uid, gid)
    if mode & 0o6000:
        os.chmod(path, mode & 0o7777)  # chown(2) clears set-id bits


def _change_entry(name: str, dir_fd: int, mode: int, uid: int, gid: int) -> None:
    if not (stat.S_ISREG(mode) and mode & 0o6000):
        os.chown(name, uid, gid, dir_fd=dir_fd, follow_symlinks=False)
        return
    held = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        if stat.S_ISREG(os.fstat(held).st_mode):  # it has not become a link
            _change(held, uid, gid)
    finally:
        os.close(held)
