"""The syscall table: every kernel interface that `os` lacks, with one shared error check.

Weight: the compiled `rootless._syscalls` (0.8 ms) and `os`.  Each function raises `OSError` with the
path or the operation in `filename`, so that a message can name it.
"""

from __future__ import annotations

import os

from rootless import _syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_lib = _syscalls.lib
_ffi = _syscalls.ffi

# mount(2), umount2(2)
MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

# namespaces(7)
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# prctl(2)
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

# openat2(2)
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

# open_tree(2), move_mount(2), mount_setattr(2)
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40
MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_IDMAP = 0x00100000

CLOSE_RANGE_CLOEXEC = 4

_SPLICE_F_MOVE, _SPLICE_F_NONBLOCK = 1, 2  # splice(2)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = _ffi.errno
        raise OSError(number, os.strerror(number), what)
    return result


def _bytes(text: str | None) -> object:
    return _ffi.NULL if text is None else os.fsencode(text)


def mount(source: str, target: str, fstype: str | None, flags: int = 0, data: str | None = None) -> None:
    """mount(2)."""
    _check(_lib.pyctl_mount(_bytes(source), _bytes(target), _bytes(fstype), flags, _bytes(data)), target)


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_lib.pyctl_umount2(_bytes(target), flags), target)


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_lib.pyctl_unshare(flags), "unshare")


def setns(fd: int, nstype: int) -> None:
    """setns(2); `fd` is a namespace file or a pidfd."""
    _check(_lib.pyctl_setns(fd, nstype), "setns")


def prctl(option: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> int:
    """prctl(2) with integer arguments."""
    return _check(_lib.pyctl_prctl(option, a, b, c, d), "prctl")


def set_name(name: str) -> None:
    """The name in /proc/PID/comm (at most 15 bytes)."""
    buffer = _ffi.new("char[16]", os.fsencode(name)[:15])
    _check(_lib.pyctl_prctl(PR_SET_NAME, int(_ffi.cast("uintptr_t", buffer)), 0, 0, 0), "prctl")


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    _check(_lib.pyctl_pivot_root(_bytes(new_root), _bytes(put_old)), new_root)


def openat2(dir_fd: int, path: str | bytes, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2); returns a descriptor with O_CLOEXEC set whatever `flags` says.

    Retries EAGAIN, which RESOLVE_BENEATH and RESOLVE_IN_ROOT give while a rename races with the walk.
    """
    raw = os.fsencode(path)
    for _ in range(128):
        fd: int = _lib.pyctl_openat2(dir_fd, raw, flags | os.O_CLOEXEC, mode, resolve)
        if fd >= 0 or _ffi.errno != 11:
            break
    return _check(fd, os.fsdecode(raw))


def open_in_root(root_fd: int, path: str | bytes, flags: int, mode: int = 0) -> int:
    """Open a path as the container sees it: links resolve inside `root_fd`, magic links are refused."""
    return openat2(root_fd, path, flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def open_tree(dir_fd: int, path: str, flags: int) -> int:
    """open_tree(2)."""
    return _check(_lib.pyctl_open_tree(dir_fd, _bytes(path), flags | OPEN_TREE_CLOEXEC), path)


def move_mount(from_fd: int, from_path: str, to_fd: int, to_path: str, flags: int) -> None:
    """move_mount(2)."""
    _check(_lib.pyctl_move_mount(from_fd, _bytes(from_path), to_fd, _bytes(to_path), flags), to_path or "move_mount")


def mount_setattr(
    dir_fd: int, path: str, flags: int, attr_set: int = 0, attr_clr: int = 0, propagation: int = 0, userns_fd: int = -1
) -> None:
    """mount_setattr(2)."""
    _check(
        _lib.pyctl_mount_setattr(dir_fd, _bytes(path), flags, attr_set, attr_clr, propagation, userns_fd),
        path or "mount_setattr",
    )


def signalfd(signals: Iterable[int]) -> int:
    """A non-blocking signalfd(2); the signals must be blocked for it to see them."""
    numbers = list(signals)
    return _check(_lib.pyctl_signalfd(_ffi.new("int[]", numbers), len(numbers)), "signalfd")


def block_signals(signals: Iterable[int]) -> None:
    """sigprocmask(2), SIG_BLOCK.  (`signal` imports enum: 3 ms that the supervisor does not pay.)"""
    numbers = list(signals)
    _check(_lib.pyctl_block_signals(_ffi.new("int[]", numbers), len(numbers)), "sigprocmask")


def unblock_all_signals() -> None:
    """An empty signal mask, as every program expects to be executed with."""
    _check(_lib.pyctl_unblock_all(), "sigprocmask")


def syncfs(fd: int) -> None:
    """syncfs(2)."""
    _check(_lib.pyctl_syncfs(fd), "syncfs")


def close_range(first: int, last: int = 0xFFFFFFFF, flags: int = 0) -> None:
    """close_range(2)."""
    _check(_lib.pyctl_close_range(first, last, flags), "close_range")


def splice(source: int, target: int, length: int) -> int:
    """splice(2) without offsets or waiting; returns the bytes moved, 0 at the end, or minus the errno.

    Not an exception: a forwarder meets EAGAIN once for every piece of data.
    """
    moved: int = _lib.pyctl_splice(source, target, length, _SPLICE_F_MOVE | _SPLICE_F_NONBLOCK)
    return moved if moved >= 0 else -_ffi.errno


def clear_inheritable_capabilities() -> None:
    """capset(2): an empty inheritable set (CVE-2022-27649: nothing may be inherited through exec)."""
    _check(_lib.pyctl_capset_inheritable_clear(), "capset")


def effective_capabilities() -> int:
    """The bit mask of this thread's effective capabilities (capget(2))."""
    return int(_lib.pyctl_effective_capabilities())


def sethostname(name: str) -> None:
    """sethostname(2)."""
    raw = os.fsencode(name)
    _check(_lib.pyctl_sethostname(raw, len(raw)), "sethostname")


def share_keyring() -> None:
    """Make the user's keyring of this name, which is empty for good, this process's session keyring (keyrings(7)).

    It is made once, and kept in the user keyring of the user namespace that this is called in.
    """
    _check(_lib.pyctl_shared_keyring(b"_pyctl"), "keyctl")


def loopback_up() -> None:
    """Bring `lo` of the current network namespace up."""
    _check(_lib.pyctl_loopback_up(), "lo")


def pidfd_send_signal(pidfd: int, signal: int) -> None:
    """pidfd_send_signal(2): cannot hit another process that got the same pid."""
    import _signal  # type: ignore[import-not-found]  # C only; `signal` would import enum

    _signal.pidfd_send_signal(pidfd, signal)
