"""One container's life in its supervisor: launch, restarts, end.

Weight: light modules only.  `launch()` does everything that can fail before the container's first process runs;
`serve()` is the event loop until the end.
"""

from __future__ import annotations

import os
import time

from rootless import libc, lockfile, ops, userns
from rootless.container_files import EXIT_FILE, EXIT_SUFFIX, READY_FILE
from rootless.errors import Error
from rootless.events import Teller
from rootless.fds import Channel, write_durably, write_file
from rootless.loop import READ, Loop, Timer
from rootless.plan import Exited, HealthPlan, LaunchPlan, Ready
from rootless.processes import SIGCHLD, SIGKILL, exit_code, pid_on_host
from rootless.runtime_calls import RuntimeCalls
from rootless.sessions import Sessions
from rootless.streams import STDOUT, Streams
from rootless.surroundings import FORWARDER, Surroundings
from rootless.values import Value, dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.cgroup import ContainerCgroup
    from rootless.checks import HealthChecks
    from rootless.notify import Notifier

_SECOND_NS = 1_000_000_000
_RESTART_FIRST_NS, _RESTART_LAST_NS = 100_000_000, 60 * _SECOND_NS


class Container:
    """The supervisor's state.  One thread; every method runs between two waits of the loop."""

    def __init__(
        self,
        *,
        plan: LaunchPlan,
        channel: Channel,
        fds: list[int],
        lock: int,
        outer_proc: int,
        supervisor_pid: int,
        own_pid_namespace: bool,
        shared_keyring: bool,
        debug: bool,
    ) -> None:
        self.plan = plan
        self._debug = debug
        self.channel: Channel | None = channel
        self.loop = Loop()
        self.outer_proc = outer_proc
        self.pid = 0  # the container's first process, in this pid namespace
        self.pidfd = -1
        self.host_pid = 0
        self.started_ns = 0
        self.restart_count = plan.restart_count
        self.surroundings = Surroundings(
            plan,
            outer_proc=outer_proc,
            supervisor_pid=supervisor_pid,
            own_pid_namespace=own_pid_namespace,
            trace=self._trace,
        )
        self.runtime = RuntimeCalls(plan, self.surroundings, fds, shared_keyring, self._trace)
        self.streams = Streams(self.loop, None)
        self.sessions = Sessions(self)
        self.health: HealthChecks | None = None
        self.notifier: Notifier | None = None
        events = plan.events
        self.tell = Teller(events.path, plan.container_id, plan.name, events.image, events.labels)
        self.stop_requested = False
        self._stop_signal = 0  # that was sent to stop it
        self._end_error = ""
        self._health_restart = False
        self._fds = fds
        self._lock = lock
        self._supervisor_pid = supervisor_pid
        self._own_pid_namespace = own_pid_namespace
        self._children: dict[int, Callable[[int], None]] = {}
        self._early: dict[int, int] = {}  # statuses of children reaped before somebody asked for them
        self._mounts = 0  # the container's mount namespace, where its pid namespace is shared
        self._ended: Exited | None = None
        self._restart_delay_ns = _RESTART_FIRST_NS
        self._kill_timer: Timer | None = None

    # -- launch ---------------------------------------------------------------------------------

    @property
    def cgroup(self) -> ContainerCgroup | None:
        """The container's cgroup, where it has one of its own."""
        return self.surroundings.cgroup

    def launch(self) -> None:
        """Everything up to the container's first process, and Ready to the launching command.  Raises Error."""
        surroundings, plan = self.surroundings, self.plan
        if plan.notify is not None:
            from rootless.notify import Notifier

            # Before there is another network namespace, in which an abstract socket could not be found.
            self.notifier = Notifier(plan.notify, self.loop, self._fds.pop(), self._is_well)
        surroundings.prepare(self.loop, lambda pid: self.on_exit(pid, self._helper_watch(FORWARDER)))
        for pid, name in surroundings.helpers.items():
            self._children[pid] = self._helper_watch(name)
        if plan.log.driver not in ("none", "passthrough"):
            from rootless.logs import open_log

            self.streams = Streams(self.loop, open_log(plan.log))
        self.sessions.listen()
        if self.notifier is not None and plan.notify is not None and plan.notify.mode == "container":
            self.notifier.listen(plan.runtime_dir)
        self._start()
        self._say_ready()

    def _trace(self, text: str) -> None:
        if self._debug:
            os.write(2, f"supervisor: {text}\n".encode())

    # -- one start of the container -------------------------------------------------------------

    def _start(self) -> None:
        """Have the container's first process executed, and take its output.  Raises LaunchError."""
        launcher = self.channel.fileno() if self.channel is not None else -1
        started = self.runtime.start(launcher)
        self.started_ns = started.started_ns
        if self.cgroup is not None:
            self.cgroup.settle()
        self._adopt(started.pid)
        if started.console is not None:
            master = started.console.take()
            self.streams.open({master: STDOUT}, master, True)
        elif started.ours:
            sources = {fd: kind for fd, kind in started.ours.items() if kind}
            stdin_fd = next((fd for fd, kind in started.ours.items() if not kind), -1)
            self.streams.open(sources, stdin_fd, False)
        self._arm_timeout()

    def _adopt(self, pid: int) -> None:
        """The runtime has ended and left this process its child."""
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.host_pid = pid_on_host(self.outer_proc, self.pidfd)
        self._children[pid] = self._container_ended
        if not self._own_pid_namespace:
            from rootless import guardian

            self._mounts = guardian.mount_namespace(pid)

    def _arm_timeout(self) -> None:
        if self.plan.timeout_s > 0:
            self.loop.after(self.plan.timeout_s * _SECOND_NS, self._timed_out)

    def _timed_out(self) -> None:
        self._end_error = f"stopped after --timeout={self.plan.timeout_s}"
        self.stop_requested = True
        self.signal(SIGKILL)

    def _say_ready(self) -> None:
        ready = Ready(
            pid=self.host_pid,
            start_time=userns.start_time(self.host_pid, f"/proc/self/fd/{self.outer_proc}"),
            supervisor_pid=self._supervisor_pid,
            started_ns=self.started_ns,
            main_pid=self._supervisor_pid if self._own_pid_namespace else os.getppid(),
            restart_count=self.restart_count,
        )
        write_file(f"{self.plan.runtime_dir}/{READY_FILE}", dumps(ready).encode(), 0o600)
        self.tell("init", "start")
        if self.plan.pidfile:
            write_file(self.plan.pidfile, str(self.host_pid).encode())
        self._begin_checks()
        if self.channel is None:
            return
        try:
            self.channel.send(ready)
        except OSError:
            self.channel.close()
            self.channel = None
            return
        channel, self.channel = self.channel, None
        if self.plan.attached:
            self.sessions.adopt_launcher(channel)
        else:
            channel.close()

    def _begin_checks(self) -> None:
        if self.plan.health is not None:
            from rootless.checks import HealthChecks

            self.health = HealthChecks(self, self.plan.health)

    def replace_health(self, plan: HealthPlan | None) -> None:
        """Another health check, which begins anew; or none."""
        if self.health is not None:
            self.health.stop()
            self.health = None
        self.plan = self.plan.replace(health=plan)
        self._begin_checks()

    # -- running --------------------------------------------------------------------------------

    def serve(self, signals: tuple[int, ...]) -> None:
        """Until the container has ended for good; never returns."""
        signal_fd = libc.signalfd(signals)
        self.loop.watch(signal_fd, READ, lambda _events: self._signals(signal_fd))
        self._reap()
        self.loop.run()
        self._finish()

    def _signals(self, signal_fd: int) -> None:
        record = 128  # struct signalfd_siginfo (signalfd(2)); the number is its first word
        try:
            data = os.read(signal_fd, record * 16)
        except BlockingIOError:
            return
        numbers = {int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), record)}
        if SIGCHLD in numbers:
            self._reap()
        if numbers - {SIGCHLD}:
            # Its service is stopped, or the session or the machine is going down: it gets its own way of stopping.
            self._end_error = "" if self.notifier is not None else "stopped with its session or the machine"
            self.stop(self.plan.stop_timeout_s, 0)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            call = self._children.pop(pid, None)
            if call is None:
                self._early[pid] = status
                if len(self._early) > 256:  # orphans of the container: nobody asks for most of them
                    self._early.pop(next(iter(self._early)))
            else:
                call(status)

    def on_exit(self, pid: int, call: Callable[[int], None]) -> None:
        """Call with the wait status when this child has ended (at once where it has been reaped already)."""
        if pid in self._early:
            call(self._early.pop(pid))
        else:
            self._children[pid] = call

    def signal(self, number: int) -> None:
        """To the container's first process, by pidfd."""
        if self.pidfd >= 0:
            try:
                libc.pidfd_send_signal(self.pidfd, number)
            except ProcessLookupError:
                return

    def stop(self, timeout_s: int, number: int) -> None:
        """The stop signal, then SIGKILL after `timeout_s` (negative: the container's own)."""
        self.stop_requested = True
        if self.notifier is not None:
            self.notifier.stopping()
        if self.pidfd < 0:  # between two restarts
            self.loop.stop()
            return
        seconds = self.plan.stop_timeout_s if timeout_s < 0 else timeout_s
        self._stop_signal = number or self.plan.stop_signal if seconds else SIGKILL
        self.signal(self._stop_signal)
        if self.cgroup is not None:
            self.cgroup.thaw()
        if self._kill_timer is None and seconds:
            self._kill_timer = self.loop.after(seconds * _SECOND_NS, lambda: self.signal(SIGKILL))

    def _helper_watch(self, name: str) -> Callable[[int], None]:
        return lambda _status: self._helper_died(name)

    def _helper_died(self, name: str) -> None:
        """It ended under a running container: what was promised is no longer there."""
        if self._ended is None and self.pidfd >= 0:
            self._end_error = f"{name} ended unexpectedly, so the container was stopped"
            self.signal(SIGKILL)

    def fail_health(self, action: str) -> None:
        """The health check's on-failure action: "kill" | "stop" | "restart"."""
        if action == "kill":
            self.signal(SIGKILL)
        elif action == "stop":
            self.stop(-1, 0)
        elif action == "restart":
            self._restart_delay_ns = 0
            self._health_restart = True
            self.signal(self.plan.stop_signal)
            self.loop.after(self.plan.stop_timeout_s * _SECOND_NS, self._kill_if_restarting)

    def _is_well(self) -> bool:
        return self.health is None or self.health.report().status != "unhealthy"

    def _kill_if_restarting(self) -> None:
        if self._health_restart:
            self.signal(SIGKILL)

    def _container_ended(self, wait_status: int) -> None:
        code, number = exit_code(wait_status)
        if self.cgroup is not None:
            self.cgroup.thaw()
        os.close(self.pidfd)
        self.pidfd = -1
        if not self._own_pid_namespace:
            from rootless import guardian

            anchor = self.cgroup.anchor_pid if self.cgroup is not None else 0
            guardian.end_descendants((*self.surroundings.helpers, anchor), (self._mounts,))
        self.streams.finish()
        if self._kill_timer is not None:
            self._kill_timer.cancel()
            self._kill_timer = None
        if self.health is not None:
            self.health.stop()
        self._ended = Exited(
            exit_code=code,
            signal=number,
            oom_killed=self.cgroup.oom_killed() if self.cgroup is not None else False,
            finished_ns=time.time_ns(),
            started_ns=self.started_ns,
            restart_count=self.restart_count,
            error=self._end_error,
        )
        if self._ended.oom_killed:
            self.tell("oom")
        self.tell("died", code=code)
        if self._wants_restart(code):
            delay, self._restart_delay_ns = self._next_delay()
            self.loop.after(delay, self._restart)
        else:
            self.loop.stop()

    def _wants_restart(self, code: int) -> bool:
        plan = self.plan
        if self.stop_requested:
            return False
        if self._health_restart:
            return True
        if plan.restart == "on-failure":
            return code != 0 and (not plan.restart_retries or self.restart_count < plan.restart_retries)
        return plan.restart in ("always", "unless-stopped")

    def _next_delay(self) -> tuple[int, int]:
        # A container that ran for ten seconds starts the back-off anew (dockerd's rule).
        ran_ns = time.time_ns() - self.started_ns
        delay = _RESTART_FIRST_NS if ran_ns > 10 * _SECOND_NS else self._restart_delay_ns
        return delay, min(max(delay, _RESTART_FIRST_NS // 2) * 2, _RESTART_LAST_NS)

    def _restart(self) -> None:
        if self.stop_requested:
            return
        self._health_restart = False
        self.restart_count += 1
        self.runtime.forget()
        try:
            self._start()
        except Error as error:
            assert self._ended is not None
            self._ended = self._ended.replace(error=f"restart failed: {error.message}")
            self.loop.stop()
            return
        self._ended = None
        self._say_ready()
        self._reap()

    # -- the end --------------------------------------------------------------------------------

    def abandon(self) -> None:
        """A launch that failed: everything that was made for it goes."""
        self._release()
        ops.remove_path(self.plan.runtime_dir)
        if self.plan.remove:
            ops.remove_path(self.plan.storage_dir)
        lockfile.release(self._lock)

    def _release(self) -> None:
        self.surroundings.release()
        self.runtime.delete()
        if self.cgroup is not None:
            self.cgroup.remove()

    def _finish(self) -> None:
        plan = self.plan
        ended = self._ended or Exited(exit_code=137, finished_ns=time.time_ns(), error=self._end_error)
        attached = self.streams.attached
        self.streams.close_log()
        self._release()
        ops.remove_path(plan.runtime_dir)
        self.tell("cleanup")
        if plan.remove:
            ops.remove_path(plan.storage_dir)
            ended = ended.replace(removed=True)
        else:
            self._record(ended)
        # From here on the container may be started again: the lock goes before anybody hears of the end.
        lockfile.release(self._lock)
        self.streams.end(ended)
        self.sessions.end(ended)
        status = self._exit_status(ended)
        if plan.cleanup_argv and not attached:
            try:
                if self._own_pid_namespace:
                    # The command must see the machine's processes, not the empty namespace that it runs in.
                    libc.umount("/proc", libc.MNT_DETACH)
                os.execv(plan.cleanup_argv[0], [*plan.cleanup_argv, f"--exit-status={status}"])
            except OSError:
                pass  # the next command finds the record
        os._exit(status)

    def _exit_status(self, ended: Exited) -> int:
        """What a service manager that follows this process judges by: the container's, 0 where it stopped as asked."""
        if self.stop_requested and ended.exit_code == 128 + self._stop_signal and self._stop_signal != SIGKILL:
            return 0
        return ended.exit_code & 0xFF

    def _record(self, ended: Value) -> None:
        record = dumps(ended).encode()
        for path in (f"{self.plan.storage_dir}/{EXIT_FILE}", self.plan.runtime_dir + EXIT_SUFFIX):
            try:
                write_durably(path, record)
            except OSError:
                continue  # a full disk; with both full the next command finds the lock free and no record
            return
