"""The container's cgroup, made and kept by its supervisor: limits in force, killed, frozen, measured, removed.

Weight: `os`, `time`, `rootless.cgroup_files`; `rootless.systemd` where a scope is asked for. `rootless.cgroup_plan`
decides.

    <scope>/supervisor   the supervisor, slirp4netns, fuse-overlayfs; a placeholder where these stay elsewhere
    <scope>/container    the limits; the OCI runtime is started in it, so that any runtime will do, and the root of
                         the container's cgroup namespace (cgroup_namespaces(7)) is this cgroup

Processes live in the leaves only: a cgroup that hands controllers down may hold none itself (cgroup-v2.rst, "No
Internal Process Constraint").
"""

from __future__ import annotations

import os
import time

from rootless import cgroup_files as files
from rootless import libc
from rootless.errors import Error, LimitError, os_error_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.plan import CgroupPlan, CgroupWrite

_ACCOUNTED = ("cpu", "io", "memory", "pids")  # enabled for `usage` even without a limit
_START_PIDS = 8  # what an OCI runtime needs beside the container's first process while it starts it


def begin(
    plan: CgroupPlan,
    supervisor_pid: int,
    outer_proc: int = -1,
    *,
    guardian_pid: int = 0,
    sysfs: str = files.SYSFS,
    proc: str = "/proc",
) -> Callable[[], ContainerCgroup | None]:
    """Start to make the container's cgroup; the returned function waits for it and puts the limits in force.

    supervisor_pid: this process as the host counts.  outer_proc: an open /proc of the host, by which helpers that
    have been started already are found and taken along; guardian_pid: another that is (rootless.guardian).
    Raises Error or LimitError, from either half.  Where no limit was asked for, a cgroup that cannot be made is
    done without: None.
    """
    needed = any(write.required for write in plan.writes)
    try:
        finish = _begin(plan, supervisor_pid, outer_proc, guardian_pid, sysfs, proc)
    except Error:
        if needed:
            raise
        return lambda: None

    def checked() -> ContainerCgroup | None:
        try:
            return finish()
        except Error:
            if needed:
                raise
            return None

    return checked


def _begin(
    plan: CgroupPlan, supervisor_pid: int, outer_proc: int, guardian_pid: int, sysfs: str, proc: str
) -> Callable[[], ContainerCgroup]:
    if plan.mode == "cgroupfs":
        return lambda: _in_directory(plan, sysfs, proc)
    from rootless import dbus, systemd, userns  # only with a systemd manager

    uid = userns.host_uid()
    anchor = _Anchor(outer_proc) if not plan.move_supervisor else None
    if anchor is not None:
        pids = [anchor.host_pid]
    else:
        pids = [supervisor_pid, *((guardian_pid,) if guardian_pid else ()), *_children(supervisor_pid, outer_proc)]
    pending = systemd.start_scope_begin(
        plan.scope,
        pids,
        dbus.manager_sockets(os.environ, uid),
        uid,
        slice_name=plan.slice,
        description=f"pyctl container {plan.scope.removeprefix('pyctl-').removesuffix('.scope')[:12]}",
    )

    def finish() -> ContainerCgroup:
        try:
            return finish_scope(systemd.start_scope_finish(pending))
        except BaseException:
            if anchor is not None:
                anchor.end()
            raise

    def finish_scope(unit: str) -> ContainerCgroup:
        try:
            path = files.own_path(proc, str(anchor.pid) if anchor is not None else "self")
            if not path.endswith("/" + unit):
                raise LimitError(f"systemd started {unit}, but this process is in {path}")
            made = ContainerCgroup(sysfs + path, plan, home=-1, anchor=anchor)
            if anchor is not None:
                made.limit()
                return made
            stray = [pid for pid in _children(supervisor_pid, outer_proc) if not _is_in(outer_proc, pid, path)]
            if stray:  # started between the two halves
                systemd.attach(pending.connection, unit, "/supervisor", stray)
            made.limit()
        finally:
            pending.connection.close()
        return made

    return finish


class _Anchor:
    """A process that only holds a scope, for a supervisor that stays in its service's cgroup: a scope starts with a
    process, and ends with its last one, between two restarts of a container too."""

    def __init__(self, outer_proc: int) -> None:
        from rootless.processes import SIGKILL, pid_on_host, restore_signals

        self.pid = os.fork()
        if not self.pid:
            try:
                libc.set_name("pyctl-scope")
                libc.prctl(libc.PR_SET_PDEATHSIG, SIGKILL)
                libc.close_range(0)
                restore_signals()  # whoever stops the scope ends this too
                while True:
                    time.sleep(1 << 20)
            finally:
                os._exit(1)
        self._pidfd = os.pidfd_open(self.pid)
        self.host_pid = pid_on_host(outer_proc, self._pidfd)

    def end(self) -> None:
        """Never raises."""
        if self._pidfd < 0:
            return
        try:
            libc.pidfd_send_signal(self._pidfd, 9)
        except OSError:
            pass  # it has been stopped with the scope
        os.close(self._pidfd)
        self._pidfd = -1


def _children(pid: int, outer_proc: int) -> list[int]:
    """Child processes by the host's numbers (proc_pid_task(5), children)."""
    if outer_proc < 0:
        return []
    try:
        return [int(word) for word in files.read(outer_proc, f"{pid}/task/{pid}/children").split()]
    except OSError:
        return []


def _is_in(outer_proc: int, pid: int, path: str) -> bool:
    try:
        held = next(
            (line[3:] for line in files.read(outer_proc, f"{pid}/cgroup").splitlines() if line[:3] == "0::"), ""
        )
    except OSError:
        return True  # it has ended
    return held == path or held.startswith(path + "/")


def _in_directory(plan: CgroupPlan, sysfs: str, proc: str) -> ContainerCgroup:
    """A cgroup below a parent of ours, without any manager."""
    base = sysfs + plan.parent.rstrip("/")
    path = f"{base}/{plan.scope}" if plan.scope else base
    try:
        os.makedirs(path, 0o755, exist_ok=True)
        home = os.open(f"{sysfs}{files.own_path(proc)}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LimitError(os_error_text(error, f"cannot make the cgroup {path}")) from error
    try:
        if plan.scope:
            _enable_down_to(base, path, plan)
        made = ContainerCgroup(path, plan, home=home)
        made.limit()
    except BaseException:
        os.close(home)
        raise
    return made


def _enable_down_to(base: str, path: str, plan: CgroupPlan) -> None:
    """Hand controllers from `base` to `path`, which may be several levels below it (--cgroup-parent)."""
    at = base
    for part in path[len(base) :].strip("/").split("/"):
        directory = files.open_directory(at)
        try:
            _enable(directory, plan, at)
        finally:
            os.close(directory)
        at = f"{at}/{part}"


def _enable(directory: int, plan: CgroupPlan, path: str) -> None:
    """Controllers for the children of a cgroup: those that limits need, and those that only account."""
    available = files.read(directory, "cgroup.controllers").split()
    held = files.read(directory, "cgroup.subtree_control").split()
    needed = {write.controller for write in plan.writes if write.required}
    wanted = needed | {write.controller for write in plan.writes} | set(_ACCOUNTED)
    for name in available:
        if name not in wanted or name in held:
            continue
        try:
            files.write(directory, "cgroup.subtree_control", f"+{name}")
        except OSError as error:
            if name in needed:
                text = os_error_text(error, f"the cgroup controller {name} cannot be handed down in {path}")
                raise LimitError(text, hint="does a process live in this cgroup itself?") from error


class ContainerCgroup:
    """The cgroup of one container; owns the descriptor of its directory."""

    def __init__(self, path: str, plan: CgroupPlan, home: int, anchor: _Anchor | None = None) -> None:
        self.path = path  # of the scope, in the file system
        self._plan = plan
        self._home = home  # cgroup.procs that the supervisor came from; -1 under systemd, which cleans up itself
        self._anchor = anchor
        self._oom_kills = 0
        self.frozen = False
        try:
            for name in ("supervisor", "container"):
                os.makedirs(f"{path}/{name}", 0o755, exist_ok=True)
            self.container_fd = files.open_directory(f"{path}/container")
        except OSError as error:
            raise LimitError(os_error_text(error, f"cannot make the cgroup {error.filename or path}")) from error

    @property
    def anchor_pid(self) -> int:
        """The process that holds the scope in the supervisor's stead; 0 without one."""
        return self._anchor.pid if self._anchor is not None else 0

    def limit(self) -> None:
        """Leave the scope's own cgroup for the leaf, hand controllers down, put every limit in force.

        Raises LimitError; what was made is removed then.
        """
        try:
            directory = files.open_directory(self.path)
            try:
                if self._plan.move_supervisor:
                    self._move_to_leaf(directory)
                elif self._anchor is not None:
                    files.write(directory, "supervisor/cgroup.procs", str(self._anchor.pid))
                _enable(directory, self._plan, self.path)
            finally:
                os.close(directory)
            files.apply_writes(self.container_fd, (self._at_start(write) for write in self._plan.writes))
            self._oom_kills = self._count_oom_kills()
        except OSError as error:
            self.remove()
            raise LimitError(os_error_text(error, f"cannot set up the cgroup {self.path}")) from error
        except Error:
            self.remove()
            raise

    def _move_to_leaf(self, directory: int) -> None:
        leaf = os.open(f"{self.path}/supervisor/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(leaf, b"0")
            for pid in files.read(directory, "cgroup.procs").split():
                if pid == "0":
                    continue  # of another pid namespace: not ours to move
                try:
                    os.write(leaf, pid.encode())
                except ProcessLookupError:
                    continue
        finally:
            os.close(leaf)

    def _at_start(self, write: CgroupWrite) -> CgroupWrite:
        if write.file == "pids.max" and write.value.isdigit() and int(write.value) < _START_PIDS:
            return write.replace(value=str(_START_PIDS))
        return write

    def settle(self) -> None:
        """After the runtime has started the container: limits that would have kept the runtime itself from working."""
        files.apply_writes(self.container_fd, (w for w in self._plan.writes if self._at_start(w) is not w))

    def _count_oom_kills(self) -> int:
        try:
            return files.keyed(files.read(self.container_fd, "memory.events")).get("oom_kill", 0)
        except OSError:
            return 0

    def oom_killed(self) -> bool:
        """Has the kernel killed for memory in here since this was last asked?"""
        before, self._oom_kills = self._oom_kills, self._count_oom_kills()
        return self._oom_kills > before

    def usage(self) -> files.CgroupUsage:
        """What the container has used up to now."""
        return files.read_usage(self.container_fd)

    def freeze(self, on: bool, timeout_s: float = 5.0) -> None:
        """Stop or go on with every process of the container; returns when that is so.  Raises Error."""
        try:
            files.write(self.container_fd, "cgroup.freeze", "1" if on else "0")
        except OSError as error:
            raise Error(os_error_text(error, f"{self.path}/container/cgroup.freeze")) from error
        if not files.wait_event(self.container_fd, "frozen", int(on), timeout_s):
            files.write(self.container_fd, "cgroup.freeze", "0")
            raise Error(f"the container is not {'frozen' if on else 'thawed'} after {timeout_s:g} s")
        self.frozen = on

    def thaw(self) -> None:
        """What is frozen cannot act on a signal, and nothing can be started in it.  Never raises."""
        if not self.frozen:
            return
        self.frozen = False
        try:
            files.write(self.container_fd, "cgroup.freeze", "0")
        except OSError:
            return

    def update(self, writes: tuple[CgroupWrite, ...]) -> None:
        """Put other limits in force, all or none: what was written before one that fails is taken back.

        Raises LimitError.
        """
        directory = files.open_directory(self.path)
        try:
            _enable(directory, self._plan.replace(writes=writes), self.path)
        finally:
            os.close(directory)
        before: list[tuple[str, str]] = []
        try:
            for write in writes:
                before.append((write.file, self._held(write.file)))
                files.apply_writes(self.container_fd, (write,))
        except Error:
            for name, content in reversed(before):
                for line in content.splitlines():
                    try:
                        files.write(self.container_fd, name, line)
                    except OSError:
                        continue
            raise
        changed = {write.file for write in writes}
        kept = tuple(write for write in self._plan.writes if write.file not in changed)
        self._plan = self._plan.replace(writes=kept + writes)

    def _held(self, name: str) -> str:
        try:
            return files.read(self.container_fd, name)
        except OSError:
            return ""

    def kill(self) -> None:
        """SIGKILL to every process of the container."""
        try:
            files.write(self.container_fd, "cgroup.kill", "1")  # Linux 5.14
        except OSError:
            for pid in files.processes(f"{self.path}/container"):
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    continue

    def remove(self, timeout_s: float = 5.0) -> None:
        """End what is left of the container and remove the cgroups.  Never raises: nobody is there to be told.

        Under systemd the scope goes with its last process, the supervisor.
        """
        try:
            self.kill()
            files.wait_event(self.container_fd, "populated", 0, timeout_s)
        except OSError:
            pass
        os.close(self.container_fd)
        files.remove_tree(f"{self.path}/container")
        if self._anchor is not None:
            self._anchor.end()
        if self._home < 0:
            return
        try:
            if self._plan.move_supervisor:
                os.write(self._home, b"0")
        except OSError:
            pass
        os.close(self._home)
        files.remove_tree(f"{self.path}/supervisor")
        if self._plan.scope:
            files.remove_tree(self.path)
