"""A directory of another container's mount namespace, mounted in this process's own.

Weight: `os`, `rootless.libc`.  For --ipc=container:ID, which shares /dev/shm with the IPC namespace.
"""

from __future__ import annotations

import os

from rootless import libc
from rootless.errors import LaunchError, os_error_text


def mount_from(namespace_fd: int, path: str, target: str) -> None:
    """Mount `path` of the mount namespace `namespace_fd` at `target`, a directory of ours.  Raises LaunchError.

    A bind mount cannot cross namespaces, but a detached copy of a mount can be carried over (open_tree(2),
    move_mount(2)).  A child does it, because setns(2) also moves root and working directory.
    """
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            libc.setns(namespace_fd, libc.CLONE_NEWNS)
            tree = libc.open_tree(-1, path, libc.OPEN_TREE_CLONE)
            libc.setns(own, libc.CLONE_NEWNS)
            libc.move_mount(tree, "", -1, target, libc.MOVE_MOUNT_F_EMPTY_PATH)
            os._exit(0)
        except OSError as error:
            os.write(writer, (error.errno or 0).to_bytes(2, "little"))
        finally:
            os._exit(1)
    os.close(own)
    os.close(writer)
    try:
        number = int.from_bytes(os.read(reader, 2), "little")
    finally:
        os.close(reader)
        os.waitpid(child, 0)
    if number:
        text = os_error_text(OSError(number, os.strerror(number)), f"cannot share {path} of the other container")
        raise LaunchError("namespace", text, errno=number)
