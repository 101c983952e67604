"""Mounts and files as data: small operations that describe themselves before they act.

Weight: `os`, `rootless.libc`.  `rootfs_ops()` and the other builders are pure; `execute()` acts, in the
supervisor's private mount namespace.
"""

from __future__ import annotations

import os

from rootless import libc
from rootless.errors import LaunchError, os_error_text
from rootless.plan import RootfsPlan
from rootless.values import Value

_REASON_S = 2.0  # in which a program that cannot serve says so
_MAX_DEPTH = 100  # levels of a tree to be removed at once


class Operation(Value):
    """One step.  `describe()` is what --log-level=debug prints; `execute()` raises LaunchError."""

    def describe(self) -> str:
        """The step in words."""
        raise NotImplementedError

    def execute(self) -> int:
        """Do it; returns the pid of a helper that was started, else 0."""
        raise NotImplementedError


class MakeDirectories(Operation):
    """mkdir -p, 0700: what is inside belongs to the user alone."""

    paths: tuple[str, ...]

    def describe(self) -> str:
        return f"mkdir {' '.join(self.paths)}"

    def execute(self) -> int:
        for path in self.paths:
            try:
                os.makedirs(path, 0o700, exist_ok=True)
            except OSError as error:
                raise LaunchError("storage", os_error_text(error, path), errno=error.errno or 0) from error
        return 0


class MakeUpper(Operation):
    """The upper directory of an overlay, once.  Its own mode and owner are what `stat /` shows in the container."""

    upper: str
    root_like: str = ""

    def describe(self) -> str:
        return f"mkdir {self.upper} (as {self.root_like or '0755 root'})"

    def execute(self) -> int:
        try:
            os.mkdir(self.upper, 0o755)
            if self.root_like:
                info = os.stat(self.root_like)
                os.chown(self.upper, info.st_uid, info.st_gid)
                os.chmod(self.upper, info.st_mode & 0o7777)  # after chown, which clears set-id bits
        except FileExistsError:
            return 0
        except OSError as error:
            raise LaunchError("storage", os_error_text(error, self.upper), errno=error.errno or 0) from error
        return 0


class MountFileSystem(Operation):
    """mount(2)."""

    source: str
    target: str
    fstype: str
    flags: int = 0
    data: str = ""

    def describe(self) -> str:
        return f"mount -t {self.fstype} -o {self.data or 'defaults'} {self.source} {self.target}"

    def execute(self) -> int:
        try:
            libc.mount(self.source, self.target, self.fstype, self.flags, self.data or None)
        except OSError as error:
            raise _mount_error(error, self.describe()) from error
        return 0


class MountOverlay(Operation):
    """The kernel's overlay, layers set one by one (`lowerdir+`, Linux 6.5) or in one option string.

    `userxattr`: an unprivileged mount keeps its marks in user.overlay.* (overlayfs.rst).
    """

    plan: RootfsPlan

    def describe(self) -> str:
        plan = self.plan
        return f"mount -t overlay ({len(plan.lower)} layers, upper {plan.upper}) {plan.merged}"

    def execute(self) -> int:
        plan = self.plan
        base = os.path.commonpath(plan.lower) if len(plan.lower) > 1 else os.path.dirname(plan.lower[0])
        # mount(2) takes one page of options, so layers are named relative to their directory.
        lower = ":".join(_escape(os.path.relpath(p, base)) for p in plan.lower)
        data = f"lowerdir={lower},userxattr"
        if plan.upper:
            data += f",upperdir={_escape(plan.upper)},workdir={_escape(plan.work)}"
            data += ",volatile" if plan.volatile else ""
        here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.chdir(base)
            if plan.upper and plan.volatile:
                # The kernel's mark of the last volatile mount, which nobody else may have made: the container's lock
                # is held.  Left there, it forbids every other mount (overlayfs.rst, "Volatile mount").
                remove_path(f"{plan.work}/work/incompat")
            libc.mount("overlay", plan.merged, "overlay", 0 if plan.upper else libc.MS_RDONLY, data)
        except OSError as error:
            raise _mount_error(error, self.describe()) from error
        finally:
            os.fchdir(here)
            os.close(here)
        return 0


class MountFuseOverlay(Operation):
    """fuse-overlayfs on a /dev/fuse that is mounted already.

    The mount is made here, before the program is started on `/dev/fd/N`: mount(2) returns in 0.3 ms and the
    program's start-up overlaps the rest; it needs no fusermount and stays a plain child to wait for.
    """

    plan: RootfsPlan
    quiet: bool = False  # what the program says is for nobody

    def describe(self) -> str:
        return f"fuse-overlayfs -o {self.options()} {self.plan.merged}"

    def options(self) -> str:
        """The program's -o text.  Without an upper directory the mount is for reading only."""
        plan = self.plan
        options = ["lowerdir=" + ":".join(_escape(p) for p in plan.lower)]
        if plan.upper:
            options += [f"upperdir={_escape(plan.upper)}", f"workdir={_escape(plan.work)}"]
        if plan.uid_mapping:
            options += [f"uidmapping={plan.uid_mapping}", f"gidmapping={plan.gid_mapping}"]
        if plan.squash:
            options.append("squash_to_root")
        if not plan.writeback:
            options.append("writeback=0")
        if plan.volatile and plan.upper:
            options.append("volatile")
        return ",".join(options)

    def argv(self, fd: int) -> list[str]:
        """The program's, which serves the mount on this descriptor."""
        return ["fuse-overlayfs", "-f", "-o", self.options(), f"/dev/fd/{fd}"]

    def mount(self) -> int:
        """The mount alone; returns the descriptor to serve it on."""
        plan = self.plan
        try:
            fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise LaunchError(
                "mount",
                os_error_text(error, "/dev/fuse"),
                hint="an administrator can run: modprobe fuse && chmod 666 /dev/fuse; or use --storage-driver=overlay",
                errno=error.errno or 0,
            ) from error
        data = f"fd={fd},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other"
        flags = libc.MS_NODEV | (0 if plan.upper else libc.MS_RDONLY)
        try:
            libc.mount("fuse-overlayfs", plan.merged, "fuse.fuse-overlayfs", flags, data)
        except OSError as error:
            os.close(fd)
            raise _mount_error(error, f"fuse-overlayfs {plan.merged}") from error
        return fd

    def execute(self) -> int:
        return self._serve(0 if self.quiet else 2)

    def _serve(self, stderr: int) -> int:
        """Start the program; `stderr`: where it writes, 0 for nowhere."""
        fd = self.mount()
        try:
            os.set_inheritable(fd, True)
            return os.posix_spawn(
                self.plan.helper,
                self.argv(fd),
                {"PATH": "/usr/bin:/bin"},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0),
                    (os.POSIX_SPAWN_DUP2, 0, 1),
                    (os.POSIX_SPAWN_DUP2, stderr, 2),
                ],
            )
        except OSError as error:
            raise _mount_error(error, f"fuse-overlayfs {self.plan.merged}") from error
        finally:
            os.close(fd)

    def failure(self) -> LaunchError:
        """Why the program ended at once: what it says when it is started once more, at this moment."""
        import select  # only here

        libc.umount(self.plan.merged, libc.MNT_DETACH)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            pid = self._serve(writer)
            os.close(writer)
            writer = -1
            said = b""
            # A time-out, should it serve this time.
            while select.select([reader], [], [], _REASON_S)[0] and (data := os.read(reader, 4096)):
                said += data
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        finally:
            os.close(reader)
            if writer >= 0:
                os.close(writer)
        lines = [line for line in said.decode(errors="replace").splitlines() if not line.startswith("unknown argument")]
        text = lines[-1].removeprefix("fuse-overlayfs: ") if lines else "the program has ended"
        return LaunchError("mount", f"fuse-overlayfs {self.plan.merged}: {text}")


def _escape(path: str) -> str:
    """Overlay option syntax: backslash before what separates (overlayfs.rst; fuse-overlayfs reads the same)."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _mount_error(error: OSError, what: str) -> LaunchError:
    hint = ""
    if error.errno == 1:
        hint = "the kernel refuses this mount in a user namespace; try the other --storage-driver"
    elif error.errno == 28:
        hint = "too many mounts, see sysctl fs.mount-max"
    return LaunchError("mount", os_error_text(error, what), hint=hint, errno=error.errno or 0)


def rootfs_ops(plan: RootfsPlan) -> tuple[Operation, ...]:
    """What makes the container's root appear at `plan.merged`."""
    if plan.driver == "directory":
        return ()
    # fuse-overlayfs makes one below its own, too, and where it cannot says only that there is none.
    work = plan.work if plan.driver == "overlay" else f"{plan.work}/work"
    directories = (
        MakeDirectories(paths=(work, plan.merged)),
        MakeUpper(upper=plan.upper, root_like=plan.root_like),
    )
    if plan.driver == "overlay":
        return (*directories, MountOverlay(plan=plan))
    return (*directories, MountFuseOverlay(plan=plan))


def make_directory_in_root(root_fd: int, path: str, mode: int = 0o755) -> None:
    """mkdir -p as the container would see it; links resolve inside the root (GHSA-q6r4-3wmg-fwcq)."""
    done = ""
    for part in path.split("/"):
        if not part or part == ".":
            continue
        done += "/" + part
        try:
            os.close(libc.open_in_root(root_fd, done, os.O_PATH | os.O_DIRECTORY))
        except FileNotFoundError:
            parent = libc.open_in_root(root_fd, os.path.dirname(done), os.O_PATH | os.O_DIRECTORY)
            try:
                os.mkdir(part, mode, dir_fd=parent)
            finally:
                os.close(parent)


def remove_tree(parent_fd: int, name: str) -> None:
    """rm -r by directory descriptors; links are unlinked, never followed.  What has gone meanwhile is no error."""
    try:
        os.unlink(name, dir_fd=parent_fd)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        try:
            fd = _open_directory(parent_fd, name)
        except FileNotFoundError:
            return
        try:
            empty_directory(fd, fd, 0)
        finally:
            os.close(fd)
        try:
            os.rmdir(name, dir_fd=parent_fd)
        except FileNotFoundError:
            return


def _open_directory(parent_fd: int, name: str) -> int:
    # Never across a mount: what is mounted there is not ours to delete (EXDEV then).
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    fd = libc.openat2(parent_fd, name, flags, 0, libc.RESOLVE_NO_XDEV | libc.RESOLVE_BENEATH)
    if os.fstat(fd).st_mode & 0o700 != 0o700:
        os.fchmod(fd, 0o700)  # overlay's work/work is 0000
    return fd


def empty_directory(fd: int, top_fd: int, depth: int) -> None:
    """One descriptor and one call a level; a tree that a container has made deeper than that is taken apart."""
    while names := os.listdir(fd):
        for name in names:
            try:
                os.unlink(name, dir_fd=fd)
            except FileNotFoundError:
                continue
            except (IsADirectoryError, PermissionError):
                if depth >= _MAX_DEPTH:
                    os.rename(name, f"{os.getpid()}.{os.urandom(8).hex()}", src_dir_fd=fd, dst_dir_fd=top_fd)
                else:
                    _remove_directory(fd, name, top_fd, depth)
        if fd != top_fd:
            return  # the top alone gets new entries while it is emptied


def _remove_directory(parent_fd: int, name: str, top_fd: int, depth: int) -> None:
    try:
        fd = _open_directory(parent_fd, name)
    except FileNotFoundError:
        return
    try:
        empty_directory(fd, top_fd, depth + 1)
    finally:
        os.close(fd)
    try:
        os.rmdir(name, dir_fd=parent_fd)
    except FileNotFoundError:
        return


def remove_path(path: str) -> None:
    """`remove_tree` by path."""
    try:
        parent = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        remove_tree(parent, os.path.basename(path))
    finally:
        os.close(parent)
