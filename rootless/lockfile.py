"""Locks that say who lives: held by a supervisor for its whole life, asked by anybody without taking them.

Weight: `fcntl`, `_struct`.  Open file description locks (fcntl(2), F_OFD_SETLK): they end with the holder, however
it ends, and F_OFD_GETLK asks without acquiring, so that a question never disturbs a start.
"""

from __future__ import annotations

import _struct
import fcntl
import os

from rootless.errors import Error
from rootless.fds import read_file

_FOR_LONG = b"mounted"
_F_OFD_GETLK, _F_OFD_SETLK, _F_OFD_SETLKW = 36, 37, 38
_FORMAT = "hhqqi4x"  # struct flock: l_type, l_whence, l_start, l_len, l_pid


def _flock(kind: int) -> bytes:
    return _struct.pack(_FORMAT, kind, os.SEEK_SET, 0, 0, 0)


def hold(path: str, wait: bool = False) -> int | None:
    """Take the lock: a descriptor that holds it until it is closed, or None where somebody else does."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.fcntl(fd, _F_OFD_SETLKW if wait else _F_OFD_SETLK, _flock(fcntl.F_WRLCK))
    except BlockingIOError:
        os.close(fd)
        return None
    except OSError:
        os.close(fd)
        raise
    return fd


def hold_root(path: str, name: str, *, for_long: bool = False) -> int:
    """Take the lock of a container's root, as who mounts it does; waits for one who has it for a moment.

    for_long: note that this holder's mount stays until its session ends.  Raises Error where such a one has it.
    """
    fd = hold(path)
    if fd is None:
        if read_file(path) == _FOR_LONG:
            raise Error(
                f"container {name} is mounted in a session of `pyctl unshare`",
                hint=f"there: pyctl container unmount {name}; or leave that session",
            )
        fd = hold(path, wait=True)
        assert fd is not None
    os.ftruncate(fd, 0)
    if for_long:
        os.write(fd, _FOR_LONG)
    return fd


def release(fd: int) -> None:
    """Give the lock up, also where another process has inherited the descriptor (a guardian, see rootless.guardian)."""
    fcntl.fcntl(fd, _F_OFD_SETLK, _flock(fcntl.F_UNLCK))
    os.close(fd)


def is_held(path: str) -> bool:
    """Whether anybody holds the lock.  A file that is not there is held by nobody."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        answer = fcntl.fcntl(fd, _F_OFD_GETLK, _flock(fcntl.F_WRLCK))
    finally:
        os.close(fd)
    return bool(_struct.unpack(_FORMAT, answer)[0] != fcntl.F_UNLCK)
