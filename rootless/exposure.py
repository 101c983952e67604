"""What a runtime must find that starts a container in a user namespace of its own: passable paths, its own /sys.

Weight: `os`, `rootless.libc`, `rootless.values`.  For --userns=keep-id, nomap, auto and --uidmap.

The root of such a namespace is some subordinate id of the caller.  Where the caller's own id is not mapped inside, it
is a stranger to the caller's directories: a home or a runtime directory of mode 0700 bars its way to the container's
root, and the runtime's mounts fail.  So the runtime is started in one more mount namespace, in which all that it is to
mount lies below one directory that everybody may pass, and gets a configuration that says so.

Nor may that root mount sysfs, as the network namespace is the outer user namespace's; so that is done for it, or it
would get the host's /sys with all the host's network interfaces.
"""

from __future__ import annotations

import os

from rootless import libc
from rootless.errors import LaunchError, os_error_text
from rootless.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Covered in the runtime's mount namespace; what a container is to get of it has been taken out before.
_PLACES = ("/mnt", "/media", "/srv", "/opt", "/tmp")
_KERNEL = ("/proc", "/sys", "/dev")  # passable, and not to be moved: /proc shows another pid namespace to the runtime


class Move(Value):
    """A directory or file that the runtime mounts, and its name in the passable directory."""

    source: str
    name: str
    recursive: bool = True  # with the mounts in it


class Exposure:
    """How one container's runtime is started.  `config`: its config.json; `prepare` acts, in the new process."""

    def __init__(self, config: dict[str, Any], own_network: bool) -> None:
        self._own_network = own_network
        self._moves: tuple[Move, ...] = ()
        self._place = ""
        self.config = config
        moves = plan_moves(config)
        if any(_is_barred(os.path.realpath(move.source), config["linux"]) for move in moves):
            passable = (p for p in _PLACES if _is_directory(p) and not _is_barred(f"{p}/x", config["linux"]))
            self._moves, self._place = moves, next(passable, "")
            if not self._place:
                raise LaunchError("namespace", f"none of {', '.join(_PLACES)} is a directory that every user may pass")
            self.config = moved(config, moves, self._place)

    @property
    def needed(self) -> bool:
        """Is there anything to do?"""
        return self._own_network or bool(self._moves)

    def original(self, text: str) -> str:
        """A message of the runtime's, with the names that the user knows."""
        for move in reversed(self._moves):
            text = text.replace(f"{self._place}/{move.name}", move.source)
        return text

    def prepare(self) -> None:
        """Leave for a mount namespace of this process's own and make it fit.  Raises LaunchError."""
        try:
            libc.unshare(libc.CLONE_NEWNS)
            if self._own_network:
                _mount_sysfs()
            if self._moves:
                self._stage()
        except OSError as error:
            text = os_error_text(error, "cannot make the container's files passable for its user namespace")
            raise LaunchError("namespace", text, errno=error.errno or 0) from error

    def _stage(self) -> None:
        # All are taken before any is put: one source may lie in, or hold, the place or another source.
        trees = []
        for move in self._moves:
            flags = libc.OPEN_TREE_CLONE | (libc.AT_RECURSIVE if move.recursive else 0)
            trees.append(libc.open_tree(-1, move.source, flags))
        libc.mount("tmpfs", self._place, "tmpfs", libc.MS_NOSUID | libc.MS_NODEV, "mode=711,size=1m")
        for move, tree in zip(self._moves, trees, strict=True):
            target = f"{self._place}/{move.name}"
            if os.fstat(tree).st_mode & 0o170000 == 0o040000:
                os.mkdir(target, 0o711)
            else:
                os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            libc.move_mount(tree, "", -1, target, libc.MOVE_MOUNT_F_EMPTY_PATH)
            os.close(tree)


def plan_moves(config: dict[str, Any]) -> tuple[Move, ...]:
    """The root and all that is bound into it, but for the kernel's own file systems."""
    moves = [Move(source=config["root"]["path"], name="root")]
    for index, mount in enumerate(config["mounts"]):
        if _is_movable(mount):
            moves.append(Move(source=mount["source"], name=str(index), recursive="rbind" in mount["options"]))
    return tuple(moves)


def moved(config: dict[str, Any], moves: tuple[Move, ...], place: str) -> dict[str, Any]:
    """The configuration with the new paths."""
    names = {move.name for move in moves}
    mounts = [
        {**mount, "source": f"{place}/{index}"} if str(index) in names else mount
        for index, mount in enumerate(config["mounts"])
    ]
    return {**config, "root": {**config["root"], "path": f"{place}/root"}, "mounts": mounts}


def _is_movable(mount: dict[str, Any]) -> bool:
    source = mount.get("source", "")
    return (
        not {"bind", "rbind"}.isdisjoint(mount.get("options", ()))
        and source.startswith("/")
        and source not in _KERNEL
        and not source.startswith(tuple(k + "/" for k in _KERNEL))
    )


def _is_directory(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _is_barred(path: str, linux: dict[str, Any]) -> bool:
    """Is there a directory above it that the root of the namespace cannot pass?"""
    parts = path.split("/")[1:-1]
    for index in range(len(parts)):
        try:
            info = os.stat("/" + "/".join(parts[: index + 1]))
        except OSError:
            return False  # the runtime will say what is wrong with it
        # CAP_DAC_OVERRIDE holds for files whose owner and group are both mapped (user_namespaces(7)).
        mapped = _is_mapped(info.st_uid, linux["uidMappings"]) and _is_mapped(info.st_gid, linux["gidMappings"])
        if not info.st_mode & 0o001 and not mapped:
            return True
    return False


def _is_mapped(number: int, rows: list[dict[str, int]]) -> bool:
    return any(r["hostID"] <= number < r["hostID"] + r["size"] for r in rows)


def _mount_sysfs() -> None:
    cgroup = os.open("/sys/fs/cgroup", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        libc.mount("sysfs", "/sys", "sysfs", libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC)
        libc.mount(f"/proc/self/fd/{cgroup}", "/sys/fs/cgroup", None, libc.MS_BIND | libc.MS_REC)
    except OSError:
        return  # a sandbox around us hides parts of /sys, and the kernel then gives no other: the outer one stays
    finally:
        os.close(cgroup)
