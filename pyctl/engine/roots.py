"""A container's root with all that is mounted in it, of a running container or of a stopped one.

Weight: `pyctl.engine.filesystem`, `rootless.ops`.  A stopped container's root is mounted in this process's own mount
namespace, under a lock for which a start waits; everything is unmounted, and fuse-overlayfs has ended, before the lock
goes.
"""

from __future__ import annotations

import os
from contextlib import contextmanager

from pyctl.engine import planner, state
from pyctl.engine.filesystem import open_root
from rootless import libc, lockfile, ops, passwd, userns
from rootless.container_files import LOCK_FILE, ROOT_LOCK_FILE
from rootless.errors import Error, os_error_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyctl.engine.engine import Engine
    from pyctl.engine.model import IdRange, Mount
    from pyctl.engine.state import ContainerRecord
    from rootless.plan import RootfsPlan


class ContainerRoot:
    """One container's root.  Make it before the user's namespace is entered, in which the caller's ids look other."""

    def __init__(self, engine: Engine, record: ContainerRecord) -> None:
        self.record = record
        self.ids = Ids(engine, record)
        self._engine = engine
        self._plan = None if record.alive else planner.container_rootfs(engine, record.specification)

    @contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor of the root directory, with volumes and binds.  As root of the user's namespace."""
        if self._plan is None:
            root = open_root(self.record, inside=True)
            try:
                yield root
            finally:
                os.close(root)
            return
        engine, record = self._engine, self.record
        directory = engine.paths.container(record.id)
        os.makedirs(directory, 0o700, exist_ok=True)
        lock = lockfile.hold_root(f"{directory}/{ROOT_LOCK_FILE}", record.name)
        try:
            if lockfile.is_held(f"{directory}/{LOCK_FILE}"):
                raise Error(f"container {record.name} has just been started", hint="try again")
            state.get(engine.db, record.id)  # it may have been removed while this waited
            userns.enter_mount_namespace()
            with self._mounted(self._plan) as root:
                yield root
        finally:
            lockfile.release(lock)

    @contextmanager
    def _mounted(self, plan: RootfsPlan) -> Iterator[int]:
        helper = 0
        for operation in ops.rootfs_ops(plan):
            quiet = isinstance(operation, ops.MountFuseOverlay)
            helper = (operation.replace(quiet=True) if quiet else operation).execute() or helper
        try:
            root = os.open(plan.merged, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                for mount in self.record.specification.mounts:
                    if mount.kind in ("bind", "volume"):
                        _mount(self._engine, root, mount)
                yield root
            finally:
                os.close(root)
        finally:
            if plan.driver != "directory":
                libc.umount(plan.merged, libc.MNT_DETACH)
            if helper:
                os.waitpid(helper, 0)  # it has written what the kernel held back


def _mount(engine: Engine, root: int, mount: Mount) -> None:
    source = engine.paths.volume_data(mount.source) if mount.kind == "volume" else mount.source
    held = -1
    target = tree = -1
    try:
        held = os.open(source, os.O_PATH | os.O_CLOEXEC)
        if mount.subpath:
            below = libc.open_in_root(held, mount.subpath, os.O_PATH)
            os.close(held)
            held = below
        if os.path.isdir(f"/proc/self/fd/{held}"):
            ops.make_directory_in_root(root, mount.target)
        target = libc.open_in_root(root, mount.target, os.O_PATH)
        tree = libc.open_tree(held, "", libc.OPEN_TREE_CLONE | libc.AT_EMPTY_PATH | libc.AT_RECURSIVE)
        if mount.read_only:
            libc.mount_setattr(tree, "", libc.AT_EMPTY_PATH | libc.AT_RECURSIVE, libc.MOUNT_ATTR_RDONLY)
        flags = libc.MOVE_MOUNT_F_EMPTY_PATH | libc.MOVE_MOUNT_T_EMPTY_PATH
        libc.move_mount(tree, "", target, "", flags)
    except FileNotFoundError:
        return  # it was never started: there is nothing to mount on, or nothing to mount
    except OSError as error:
        raise Error(os_error_text(error, f"cannot mount {source} at {mount.target}")) from error
    finally:
        for fd in (held, target, tree):
            if fd >= 0:
                os.close(fd)


class Ids:
    """A container's ids and what they are called in the engine's namespace."""

    def __init__(self, engine: Engine, record: ContainerRecord) -> None:
        from pyctl.engine.users_maps import id_maps

        userns_ = record.specification.userns
        maps = id_maps(userns_, engine.uid, os.getgid(), engine.uid_count, engine.gid_count)
        self._maps: tuple[tuple[IdRange, ...], tuple[IdRange, ...]] = maps

    def outside(self, uid: int, gid: int) -> tuple[int, int]:
        """In the engine's namespace; 65534 for one that the container cannot have."""
        return _mapped(self._maps[0], uid, inwards=False), _mapped(self._maps[1], gid, inwards=False)

    def inside(self, uid: int, gid: int) -> tuple[int, int]:
        """As the container sees it."""
        return _mapped(self._maps[0], uid, inwards=True), _mapped(self._maps[1], gid, inwards=True)


def _mapped(rows: tuple[IdRange, ...], number: int, inwards: bool) -> int:
    if not rows:
        return number
    for row in rows:
        first, other = (row.outside, row.inside) if inwards else (row.inside, row.outside)
        if first <= number < first + row.size:
            return number - first + other
    return 65534


def primary_user(record: ContainerRecord, root: int) -> tuple[int, int]:
    """Uid and gid of the user that the container runs as, by its own /etc/passwd.  Raises Error."""
    user = passwd.look_up(root, record.specification.user)
    return user.uid, user.gid
