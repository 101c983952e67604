"""Images, for reading, and containers mounted in the session of `pyctl unshare`.

Weight: `rootless.libc`.  A mount lives in the mount namespace of that session and ends with it, by the kernel: the
program that serves it (fuse-overlayfs) runs in a namespace of its own that has no such mounts, so that it keeps none
alive.  What is mounted is read from mountinfo; nothing of it is stored.
"""

from __future__ import annotations

import os

from pyctl.engine import programs
from rootless import libc, ops, userns
from rootless.errors import Error, LaunchError, os_error_text
from rootless.fds import read_file
from rootless.plan import RootfsPlan
from storage.additional import require_readable
from storage.lookup import layer_directories

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.engine.engine import Engine

_EMPTY = "empty"  # overlayfs wants two lower directories where there is no upper one


def require_session(what: str) -> None:
    """Raise Error outside of the user's namespace."""
    if userns.needs_user_namespace():
        raise Error(
            f"{what}: a mount would end with this command outside of a session of `pyctl unshare`",
            hint=f"pyctl unshare, and there: pyctl {what}",
        )


def mount_point(engine: Engine, image_id: str) -> str:
    """Where an image is mounted."""
    return f"{engine.paths.mounts}/{image_id}"


def mounted(engine: Engine) -> tuple[str, ...]:
    """The ids of the images that are mounted in this session."""
    return mounted_below(engine.paths.mounts)


def mounted_below(folder: str, proc: str = "/proc") -> tuple[str, ...]:
    """What is mounted on folders whose names are ids, in the order in which it was."""
    base = os.path.realpath(folder) + "/"
    found = []
    for line in read_file(f"{proc}/self/mountinfo").decode("utf-8", "surrogateescape").splitlines():
        point = line.split(" ")[4]
        name = point.rpartition("/")[2]
        # Spaces are escaped in mountinfo (proc_pid_mountinfo(5)); the id that follows has none.
        if len(name) == 64 and point == base.replace(" ", "\\040") + name:
            found.append(name)
    return tuple(dict.fromkeys(found))


def mount(engine: Engine, image_id: str) -> str:
    """Mount an image read-only where it is not yet; returns the mount point.  Raises Error."""
    target = mount_point(engine, image_id)
    if image_id in mounted(engine):
        return target
    empty = f"{engine.paths.mounts}/{_EMPTY}"
    for directory in (target, empty):
        os.makedirs(directory, 0o755, exist_ok=True)
    lower = layer_directories(engine.db, image_id)[0]
    squash = require_readable(image_id[:12], lower, engine.storage_driver, engine.cache_dir)
    plan = RootfsPlan(driver=engine.storage_driver, merged=target, lower=(*lower, empty), squash=squash)
    try:
        if plan.driver == "overlay":
            ops.MountOverlay(plan=plan).execute()
        else:
            helper = programs.need("fuse-overlayfs", "install the package fuse-overlayfs, or --storage-driver=overlay")
            serve(engine, plan.replace(helper=helper))
    except LaunchError as error:
        os.rmdir(target)
        raise Error(error.message, error.hint) from error
    return target


def serve(engine: Engine, plan: RootfsPlan, lock: int = -1) -> None:
    """Mount by fuse-overlayfs, started in a mount namespace of its own; it has `lock` for as long as it runs."""
    fuse = ops.MountFuseOverlay(plan=plan)
    fd = fuse.mount()
    child = os.fork()
    if not child:
        try:
            os.setsid()
            os.chdir("/")
            libc.unshare(libc.CLONE_NEWNS)
            for folder in (engine.paths.mounts, os.path.dirname(engine.paths.container_mount(""))):
                for name in mounted_below(folder):
                    libc.umount(f"{folder}/{name}", libc.MNT_DETACH)
            null = os.open("/dev/null", os.O_RDWR)
            for number in (0, 1, 2):
                os.dup2(null, number)
            os.set_inheritable(fd, True)
            if lock >= 0:
                os.set_inheritable(lock, True)
            os.execve(plan.helper, fuse.argv(fd), {"PATH": "/usr/bin:/bin"})
        except OSError:
            os._exit(127)
    os.close(fd)
    try:
        os.statvfs(plan.merged)  # answered when it serves; an error where it has ended
    except OSError as error:
        libc.umount(plan.merged, libc.MNT_DETACH)
        raise LaunchError("mount", os_error_text(error, f"fuse-overlayfs {plan.merged}")) from error


def unmount(engine: Engine, image_id: str, force: bool) -> bool:
    """Unmount an image; False where it was not mounted.  Raises Error where it is in use and not `force`."""
    if image_id not in mounted(engine):
        return False
    unmount_point(mount_point(engine, image_id), force)
    return True


def forget_point(target: str) -> None:
    """Remove the folder of a mount whose image or container has gone, with the mount if this session has it."""
    try:
        libc.umount(target, libc.MNT_DETACH)
    except OSError:
        pass  # not mounted, or in another session, from which the kernel takes it with the folder
    try:
        os.rmdir(target)
    except OSError:
        pass


def unmount_point(target: str, force: bool) -> None:
    """Unmount what is mounted there, and remove the folder.  Raises Error where it is in use and not `force`."""
    try:
        libc.umount(target, libc.MNT_DETACH if force else 0)
    except OSError as error:
        hint = "leave its directories, or use --force" if error.errno == 16 else ""
        raise Error(os_error_text(error, f"cannot unmount {target}"), hint=hint) from error
    try:
        os.rmdir(target)
    except OSError:
        pass  # mounted in another session too
