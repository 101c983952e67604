"""Which overlay drivers work here: for info, doctor, and the message when one does not.

Weight: `os`, `rootless.libc`.  The mount itself is `rootless.plan.RootfsPlan`'s, made by the supervisor.
"""

from __future__ import annotations

import os

from rootless import libc
from rootless.errors import Error
from rootless.fds import read_all
from rootless.values import Value
from storage.paths import filesystem_type
from storage.removal import remove_tree

FUSE_DEVICE = "/dev/fuse"
# On these as the upper directory the kernel's overlay refuses to mount, or has no attributes to mark deletions with.
_UNFIT_UPPER = ("overlay", "ecryptfs", "vfat", "ramfs")


class DriverReport(Value):
    """One driver.  reason: why it cannot be used here, "" where it can; hint: what an administrator can do."""

    name: str
    reason: str = ""
    hint: str = ""
    path: str = ""  # of the helper program
    version: str = ""


def fuse_report(helper: str) -> DriverReport:
    """fuse-overlayfs; `helper` is the program's path, "" where there is none."""
    name = "fuse-overlayfs"
    if not helper:
        return DriverReport(name=name, reason=f"{name} is not installed", hint=f"install the package {name}")
    version = helper_version(helper)
    try:
        os.close(os.open(FUSE_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        reason, hint = f"there is no {FUSE_DEVICE}", "an administrator can run: modprobe fuse"
    except OSError as error:
        reason = f"{FUSE_DEVICE} cannot be opened: {error.strerror}"
        hint = f"an administrator can run: chmod 666 {FUSE_DEVICE}"
    else:
        reason = hint = ""
    return DriverReport(name=name, path=helper, version=version, reason=reason, hint=hint)


def helper_version(path: str) -> str:
    """ "1.10" of `fuse-overlayfs --version`, "" where it says nothing."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, writer, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
    try:
        pid = os.posix_spawn(path, [path, "--version"], os.environ, file_actions=actions)
    except OSError:
        os.close(reader)
        return ""
    finally:
        os.close(writer)
        os.close(null)
    try:
        text = read_all(reader, 4096).decode("utf-8", "replace")
    finally:
        os.close(reader)
        os.waitpid(pid, 0)
    for line in text.splitlines():
        if line.startswith("fuse-overlayfs: version "):
            return line.rpartition(" ")[2]
    return ""


def kernel_report(directory: str) -> DriverReport:
    """The kernel's overlay with `userxattr`, tried on two layers below `directory` (on the store's file system).

    Run it in a child that has entered the user's namespace with a mount namespace of its own: it mounts.
    """
    name = "overlay"
    kind = filesystem_type(directory)
    if kind in _UNFIT_UPPER:
        return DriverReport(name=name, reason=f"the storage root is on {kind}, which it cannot write to")
    base = f"{directory}/tmp-probe-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        for part in ("low", "low/d", "up", "up/d", "work", "merged"):
            os.makedirs(f"{base}/{part}", 0o700)
        with open(f"{base}/low/d/hidden", "w"):
            pass
        os.setxattr(f"{base}/up/d", "user.overlay.opaque", b"y")
        data = f"lowerdir={base}/low,upperdir={base}/up,workdir={base}/work,userxattr"
        libc.mount("overlay", f"{base}/merged", "overlay", 0, data)
        try:
            seen = os.listdir(f"{base}/merged/d")
        finally:
            libc.umount(f"{base}/merged", libc.MNT_DETACH)
        reason = "it does not honour user.overlay.opaque" if seen else ""
    except OSError as error:
        reason = f"{error.strerror} ({error.filename})"
    finally:
        try:
            remove_tree(base)
        except OSError:
            pass
    hint = "Linux 5.11 or newer is needed, and a file system with user attributes" if reason else ""
    return DriverReport(name=name, reason=reason, hint=hint)


def require(report: DriverReport) -> None:
    """Raise Error where the driver cannot be used."""
    if report.reason:
        raise Error(f"storage driver {report.name}: {report.reason}", hint=report.hint)
