"""A running container changed by its supervisor: frozen, thawed, given other limits, its root handed out.

Weight: light modules only; loaded by the first such request.
"""

from __future__ import annotations

import os

from rootless import libc
from rootless.container_files import READY_FILE
from rootless.errors import Error, os_error_text
from rootless.fds import read_file, write_file
from rootless.plan import OpenRoot, Pause, Ready, Update
from rootless.values import decode, dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.container import Container


def carry_out(container: Container, request: OpenRoot | Pause | Update) -> tuple[int, ...]:
    """Do what is asked; returns descriptors for who asked.  Raises Error, LimitError; nothing has changed then."""
    if container.pidfd < 0:
        raise Error("the container is not running")
    if isinstance(request, OpenRoot):
        return (_root_mount(container) if request.detached else _open_root(container, request.inside),)
    if isinstance(request, Pause):
        _pause(container, request.freeze)
    else:
        _update(container, request)
    return ()


def _open_root(container: Container, inside: bool) -> int:
    # The container's own mounts are in its mount namespace alone; this process's has the bare root.
    path = f"/proc/{container.pid}/root" if inside else container.plan.rootfs.merged
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Error(os_error_text(error, "the container's root")) from error


def _root_mount(container: Container) -> int:
    try:
        fd = libc.open_tree(libc.AT_FDCWD, container.plan.rootfs.merged, libc.OPEN_TREE_CLONE)
    except OSError as error:
        raise Error(os_error_text(error, "the container's root")) from error
    # The last unmount writes what the kernel held back, and this process's is not the last any more.
    container.surroundings.root_is_shared = True
    return fd


def _pause(container: Container, freeze: bool) -> None:
    if container.cgroup is None:
        raise Error("a container without a cgroup of its own cannot be paused")
    container.cgroup.freeze(freeze)
    path = f"{container.plan.runtime_dir}/{READY_FILE}"
    ready = decode(read_file(path))
    if isinstance(ready, Ready):
        # Beside the file and renamed: `ps` reads it at any time.
        write_file(f"{path}.new", dumps(ready.replace(paused=freeze)).encode(), 0o600)
        os.replace(f"{path}.new", path)


def _update(container: Container, request: Update) -> None:
    if request.writes:
        if container.cgroup is None:
            raise Error("a container without a cgroup of its own can have no limits")
        container.cgroup.update(request.writes)
    if request.name:
        container.tell.rename(request.name)
    if request.new_health:
        container.replace_health(request.health)
    if request.restart:
        container.plan = container.plan.replace(restart=request.restart, restart_retries=request.restart_retries)
