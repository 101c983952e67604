"""Containers' roots mounted in the session of `pyctl unshare`, for reading and writing.

Weight: `pyctl.engine.mounting`, `pyctl.engine.filesystem`.

A running container's supervisor hands out a mount of the root that it has.  A stopped one's root is mounted here, and
its `root.lock` is held for as long, so that it is not started, and mounted a second time, meanwhile: by fuse-overlayfs,
which ends with the last mount, or for the kernel's overlay by a process that waits for the unmount and for the
session's end.  fuse-overlayfs serves without a write-back cache here: other commands read what it has written.
"""

from __future__ import annotations

import os

from pyctl.engine import mounting, planner
from pyctl.engine.filesystem import open_root
from rootless import libc, lockfile, ops
from rootless.container_files import LOCK_FILE, ROOT_LOCK_FILE
from rootless.errors import Error, os_error_text
from rootless.fds import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.engine.engine import Engine
    from pyctl.engine.state import ContainerRecord


def mount_point(engine: Engine, container_id: str) -> str:
    """Where a container is mounted."""
    return engine.paths.container_mount(container_id)


def mounted(engine: Engine) -> tuple[str, ...]:
    """The ids of the containers that are mounted in this session."""
    return mounting.mounted_below(os.path.dirname(mount_point(engine, "")))


def mount(engine: Engine, record: ContainerRecord) -> str:
    """Mount a container's root where it is not yet; returns the mount point.  Raises Error."""
    spec = record.specification
    if spec.rootfs and not spec.rootfs_overlay:
        return spec.rootfs
    target = mount_point(engine, record.id)
    if record.id in mounted(engine):
        if _is_served(target):
            return target
        mounting.unmount_point(target, force=True)  # of a container that has ended since
    os.makedirs(target, 0o755, exist_ok=True)
    lock = _lock(engine, record)
    try:
        if record.alive:
            _mount_live(record, target)
        else:
            _mount_stopped(engine, record, target, lock)
        if lock >= 0 and engine.storage_driver == "overlay":
            _hold(engine, lock, record.id)
    except Error:
        os.rmdir(target)
        raise
    finally:
        if lock >= 0:
            os.close(lock)
    return target


def unmount(engine: Engine, record: ContainerRecord, force: bool) -> None:
    """Unmount a container's root, if it is mounted.  Raises Error where it is in use and not `force`."""
    if record.id in mounted(engine):
        mounting.unmount_point(mount_point(engine, record.id), force)


def _is_served(target: str) -> bool:
    try:
        os.statvfs(target)
    except OSError:
        return False
    return True


def _lock(engine: Engine, record: ContainerRecord) -> int:
    """The lock of the root; -1 where the mount ends with the container, as fuse-overlayfs of a running one does."""
    if record.alive and engine.storage_driver != "overlay":
        return -1
    directory = engine.paths.container(record.id)
    os.makedirs(directory, 0o700, exist_ok=True)
    lock = lockfile.hold_root(f"{directory}/{ROOT_LOCK_FILE}", record.name, for_long=True)
    if not record.alive and lockfile.is_held(f"{directory}/{LOCK_FILE}"):
        lockfile.release(lock)
        raise Error(f"container {record.name} has just been started", hint="try again")
    return lock


def _mount_live(record: ContainerRecord, target: str) -> None:
    tree = open_root(record, inside=False, detached=True)
    try:
        libc.move_mount(tree, "", libc.AT_FDCWD, target, libc.MOVE_MOUNT_F_EMPTY_PATH)
        os.listdir(target)
    except OSError as error:
        raise Error(
            os_error_text(error, f"cannot mount the root of {record.name}"),
            hint="leave this session, which is older than the container's start, and enter another",
        ) from error
    finally:
        os.close(tree)


def _mount_stopped(engine: Engine, record: ContainerRecord, target: str, lock: int) -> None:
    plan = planner.container_rootfs(engine, record.specification).replace(merged=target, writeback=False)
    for operation in ops.rootfs_ops(plan):
        if isinstance(operation, ops.MountFuseOverlay):
            mounting.serve(engine, plan, lock)
        else:
            operation.execute()


# --- who keeps the lock of a kernel's mount -------------------------------------------------------


def _hold(engine: Engine, lock: int, container_id: str) -> None:
    """A process that has the lock until the mount has gone, or the session."""
    session = os.pidfd_open(_first_of_session())
    if os.fork():
        os.close(session)
        return
    try:
        import select

        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        os.chdir("/")
        table = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        poll = select.poll()
        poll.register(table, select.POLLPRI)  # and POLLERR: something was mounted or unmounted (proc_pid_mounts(5))
        poll.register(session, select.POLLIN)
        while container_id in mounted(engine) and session not in dict(poll.poll()):
            pass
    finally:
        os._exit(0)  # the lock with it


def _first_of_session(proc: str = "/proc") -> int:
    """The process that all others in this mount namespace came from, as far as its parents can be seen."""
    own = os.readlink(f"{proc}/self/ns/mnt")
    pid = os.getpid()
    while True:
        stat = read_file(f"{proc}/{pid}/stat")
        parent = int(stat[stat.rfind(b")") + 2 :].split()[1])
        try:
            if os.readlink(f"{proc}/{parent}/ns/mnt") != own:
                return pid
        except OSError:
            return pid  # of another user namespace
        pid = parent
