"""Calling the OCI runtime for one container: its starts, and whatever else is run by the runtime.

Weight: light modules only; on the way of every start.  `rootless.ociruntime` knows the command lines.
"""

from __future__ import annotations

import fcntl
import os
import time

from rootless import libc, ociruntime, ops, processes
from rootless.errors import LaunchError, os_error_text
from rootless.fds import close_all, move_high, write_file
from rootless.streams import STDERR, STDOUT, Console
from rootless.values import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.exposure import Exposure
    from rootless.plan import LaunchPlan
    from rootless.surroundings import Surroundings

_EXEC_WAIT_MS = 1000
_HIGH_FD = 512  # above descriptors that a program is given by number


class Started:
    """A container whose first process, `pid` in this pid namespace, has been executed.

    console: where its terminal comes from; else ours: this side's ends of its streams, fd → kind (b"" is its
    standard input).  All of these are the caller's now.
    """

    __slots__ = ("console", "ours", "pid", "started_ns")

    def __init__(self, pid: int, started_ns: int, console: Console | None, ours: dict[int, bytes]) -> None:
        self.pid = pid
        self.started_ns = started_ns
        self.console = console
        self.ours = ours


class RuntimeCalls:
    """Of one container, over all its restarts.

    fds: what came with the plan, the streams for --log-driver=passthrough and those to preserve.  shared_keyring: this
    process's own session keyring is one that a container may have.  trace: prints a command line when debugging.
    """

    def __init__(
        self,
        plan: LaunchPlan,
        surroundings: Surroundings,
        fds: list[int],
        shared_keyring: bool,
        trace: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._surroundings = surroundings
        self._fds = fds
        self._shared_keyring = shared_keyring
        self._trace = trace
        self._read_only = ""  # crun's program on a mount of its own; found when it is first called
        self.state_dir = f"{plan.runtime_dir}/runtime"  # the runtime's --root
        self._log = f"{plan.runtime_dir}/runtime.log"

    def start(self, launcher: int, new_keyring: bool = True) -> Started:
        """`RUNTIME run`; after it the container's first process is executed.  Raises LaunchError.

        launcher: the launching command's channel (-1: none), whose end is the launch's end.
        """
        plan = self._plan
        exposure = self._exposure()
        bundle = self._write_bundle(exposure)
        console = Console(plan.runtime_dir, "console.sock") if plan.tty else None
        stdio, ours = ((-1, -1, -1), {}) if plan.tty else self._make_stdio()
        pid_file = f"{plan.runtime_dir}/pid"
        argv = ociruntime.run_argv(
            plan.runtime,
            state_dir=self.state_dir,
            log=self._log,
            bundle=bundle,
            pid_file=pid_file,
            container_id=plan.container_id,
            console_socket=console.path if console else "",
            preserve_fds=plan.preserve_fds,
            new_keyring=new_keyring,
        )
        self._trace(" ".join(argv))
        started_ns = time.time_ns()
        if self._run(argv, stdio, console.keep if console else (), exposure, launcher):
            return Started(ociruntime.read_pid(pid_file), started_ns, console, ours)
        for fd in ours:
            os.close(fd)
        if console is not None:
            console.close()
        if new_keyring and ociruntime.lacks_room_for_a_keyring(self._log) and self._shared_keyring:
            ops.remove_path(self._log)
            return self.start(launcher, new_keyring=False)
        error = ociruntime.failure(self._log, self._surroundings.process["args"][0], plan.runtime)
        if exposure:
            error.message = exposure.original(error.message)
        raise error

    def _run(
        self,
        argv: list[str],
        stdio: tuple[int, int, int],
        kept: tuple[int, ...],
        exposure: Exposure | None,
        launcher: int,
    ) -> bool:
        """Whether the runtime has done its work; then its child has executed the container's program."""
        plan = self._plan
        preserved = self._fds[3:] if plan.log.driver == "passthrough" else self._fds
        before = (lambda: self._prepare_exposure(exposure)) if exposure else None
        # The runtime ends before its child executes the container's program.  That child holds this pipe until then:
        # it is close-on-exec there (runtimes see to that for all that they do not pass on).
        executed, held = os.pipe2(os.O_CLOEXEC)
        held = move_high(held, plan.preserve_fds + 64)
        keep = [*self._surroundings.namespace_fds, held, *kept]
        runtime = self.spawn(argv, stdio, keep, preserved[: plan.preserve_fds], before)
        os.close(held)
        close_all([fd for fd in stdio if fd > 2 and fd not in self._fds])
        status = processes.wait_or_hang_up(runtime, launcher)
        if status is None:
            raise LaunchError("runtime", "the launching command has gone")
        if not status:
            processes.wait_for_end_of(executed, _EXEC_WAIT_MS)
        os.close(executed)
        return not status

    def forget(self) -> None:
        """What the runtime wrote of a container that has ended: a restart is a first start to it."""
        ops.remove_path(self.state_dir)

    def delete(self) -> None:
        """Have a runtime clean up that keeps more than its state directory (processes, virtual machines)."""
        if self._plan.runtime.kind == "other":
            argv = ociruntime.delete_argv(
                self._plan.runtime, state_dir=self.state_dir, log=self._log, container_id=self._plan.container_id
            )
            os.waitpid(self.spawn(argv, (-1, -1, -1), [], []), 0)

    def _write_bundle(self, exposure: Exposure | None) -> str:
        """The OCI bundle's directory, with config.json in it."""
        bundle = f"{self._plan.runtime_dir}/bundle"
        os.makedirs(bundle, 0o700, exist_ok=True)
        os.makedirs(self.state_dir, 0o700, exist_ok=True)
        config = exposure.config if exposure else self._surroundings.config
        if self._plan.start_env:
            from rootless.notify import with_variables

            config = with_variables(config, self._plan.start_env)
        write_file(f"{bundle}/config.json", dumps(config).encode(), 0o600)
        return bundle

    def _exposure(self) -> Exposure | None:
        """With a user namespace of the container's own: how its runtime is to be started."""
        if "uidMappings" not in self._surroundings.config["linux"]:
            return None
        from rootless.exposure import Exposure

        made = Exposure(self._surroundings.config, self._plan.network.kind in ("new", "slirp4netns", "pasta", "bridge"))
        return made if made.needed else None

    def _prepare_exposure(self, exposure: Exposure) -> None:
        try:
            exposure.prepare()
        except LaunchError as error:  # told where the runtime tells what failed
            line = {"level": "error", "msg": error.message}
            write_file(self._log, dumps(line).encode())
            raise

    def spawn(
        self,
        argv: list[str],
        stdio: tuple[int, int, int],
        keep: list[int],
        numbered: list[int],
        before: Callable[[], None] | None = None,
    ) -> int:
        """Start the runtime, in the container's cgroup where there is one."""
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        for name in ("XDG_RUNTIME_DIR", "HOME"):
            if name in os.environ:
                env[name] = os.environ[name]
        if self._plan.runtime.kind == "crun":
            # Where crun puts the file that it binds its own program to (CVE-2019-5736): else /tmp, where a kill
            # would leave it, and which may be full.
            env["_LIBCONTAINER_STATEDIR"] = self._plan.runtime_dir
            self._read_only = self._read_only or _on_read_only_mount(argv[0])
        program = self._read_only if len(numbered) < _HIGH_FD - 3 else ""
        cgroup = self._surroundings.cgroup
        cgroup_fd = cgroup.container_fd if cgroup is not None else -1
        try:
            return processes.spawn(
                argv, env, stdio, keep, cgroup_fd=cgroup_fd, numbered=numbered, before=before, program=program
            )
        except OSError as error:
            raise LaunchError(
                "runtime", os_error_text(error, argv[0]), hint="is this OCI runtime installed?", errno=error.errno or 0
            ) from error

    def _make_stdio(self) -> tuple[tuple[int, int, int], dict[int, bytes]]:
        """Descriptors for the container's 0, 1, 2, and this side's ends: fd → kind (b"" is its standard input)."""
        if self._plan.log.driver == "passthrough":
            return (self._fds[0], self._fds[1], self._fds[2]), {}
        out_read, out_write = os.pipe2(os.O_CLOEXEC)
        err_read, err_write = os.pipe2(os.O_CLOEXEC)
        ours = {out_read: STDOUT, err_read: STDERR}
        in_read = -1
        if self._plan.interactive:
            in_read, in_write = os.pipe2(os.O_CLOEXEC)
            ours[in_write] = b""
        if self._surroundings.owner != (0, 0):
            # A process that opens /dev/stdout again opens the pipe by its owner (proc(5), /proc/PID/fd).
            for fd in (out_write, err_write, in_read):
                if fd >= 0:
                    os.fchown(fd, *self._surroundings.owner)
        return (in_read, out_write, err_write), ours


def _on_read_only_mount(path: str) -> str:
    """crun's program on a read-only mount that nothing else sees, open for good; `path` where there can be none.

    So that no container writes to its file (CVE-2019-5736), crun makes itself such a mount and executes itself again,
    unless it finds itself on one: that saves the second start, with nine libraries to link.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            if file.read(4) != b"\x7fELF":
                return path  # a script: its interpreter would look for a descriptor that is closed by then
        tree = libc.open_tree(-1, path, libc.OPEN_TREE_CLONE)
        try:
            libc.mount_setattr(tree, "", libc.AT_EMPTY_PATH, libc.MOUNT_ATTR_RDONLY)
            return f"/proc/self/fd/{fcntl.fcntl(tree, fcntl.F_DUPFD_CLOEXEC, _HIGH_FD)}"
        finally:
            os.close(tree)
    except OSError:  # a kernel before 5.12, or few descriptors (RLIMIT_NOFILE)
        return path
