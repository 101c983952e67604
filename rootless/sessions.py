"""The control socket of a running container: attach, exec, signals, waiting.

Weight: light modules only.  One request a connection (rootless.plan lists them); the socket lies in a directory that
only the user can enter, and in the user's own mount namespace, so the container cannot reach it.
"""

from __future__ import annotations

import os
import stat

from rootless import libc, ociruntime, passwd
from rootless.container_files import SOCKET_NAME
from rootless.errors import Error, LaunchError, exception_text, os_error_text
from rootless.fds import Channel, accept, close_all, listen_unix, write_file
from rootless.loop import GONE, READ, WRITE
from rootless.netplan import BridgePlan, Connect, Disconnect, Rejoin
from rootless.plan import (
    Attach,
    Done,
    Exec,
    ExecExited,
    ExecStarted,
    Exited,
    Failed,
    HealthRun,
    Kill,
    OpenRoot,
    Pause,
    Query,
    Resize,
    Status,
    Stop,
    Update,
    Wait,
)
from rootless.processes import SIGKILL, exit_code, pid_on_host
from rootless.streams import STDIN, Client, Console
from rootless.values import Value, decode, dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.container import Container

_STDIN_BACKLOG_BYTES = 256 * 1024


class Sessions:
    """Serves the control socket on the container's loop."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._waiters: list[Channel] = []
        self._listener = -1
        self._exec_count = 0
        self._execs: dict[str, ExecSession] = {}

    def listen(self) -> None:
        """Open the control socket."""
        directory = os.open(self._container.plan.runtime_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._listener = listen_unix(directory, SOCKET_NAME)
        finally:
            os.close(directory)
        self._container.loop.watch(self._listener, READ, lambda _events: self._accept())

    def _accept(self) -> None:
        channel = accept(self._listener)
        # A client that connects and says nothing must not hold the supervisor up.
        channel.set_blocking(False)
        self._container.loop.watch(channel.fileno(), READ, lambda _events: self._request(channel))

    def _request(self, channel: Channel) -> None:
        self._container.loop.forget(channel.fileno())
        try:
            message, fds = channel.receive()
        except (OSError, ValueError):
            channel.close()
            return
        try:
            self._dispatch(channel, message, fds)
        except Error as error:
            close_all(fds)
            stage = error.stage if isinstance(error, LaunchError) else "request"
            self.answer(channel, Failed(stage=stage, message=error.message, hint=error.hint, exit_code=error.exit_code))
        except Exception as error:  # a request that goes wrong must not take the container along
            self.answer(channel, Failed(stage="internal", message=f"supervisor: {exception_text(error)}"))

    def _dispatch(self, channel: Channel, message: Value | None, fds: list[int]) -> None:
        container = self._container
        if isinstance(message, Attach):
            self._attach(channel, message)
        elif isinstance(message, Exec):
            self._exec(channel, message, fds)
        elif isinstance(message, Kill):
            container.stop_requested = container.stop_requested or message.signal in (SIGKILL, 15)
            container.signal(message.signal)
            self.answer(channel, Done())
        elif isinstance(message, Stop):
            self._wait(channel)
            container.stop(message.timeout_s, message.signal)
        elif isinstance(message, Wait):
            self._wait(channel)
        elif isinstance(message, Resize):
            container.streams.resize(message.rows, message.columns)
            self.answer(channel, Done())
        elif isinstance(message, Query):
            self.answer(channel, self._status())
        elif isinstance(message, HealthRun):
            self._health_run(channel)
        elif isinstance(message, (Connect, Disconnect, Rejoin)):
            self._change_networks(message)
            self.answer(channel, Done())
        elif isinstance(message, (OpenRoot, Pause, Update)):
            from rootless import adjust  # few containers are changed while they run

            opened = adjust.carry_out(container, message)
            self.answer(channel, Done(), opened)
            close_all(opened)
        else:
            close_all(fds)
            channel.close()

    def _change_networks(self, message: Connect | Disconnect | Rejoin) -> None:
        surroundings = self._container.surroundings
        bridge = surroundings.bridge
        if bridge is None:
            if not isinstance(message, Connect):
                raise Error("the container is not on a user-defined network")
            from rootless.bridge_link import BridgeLink  # only where a network is connected later

            plan = self._container.plan
            empty = BridgePlan(container_id=plan.container_id, name=plan.name)
            bridge = surroundings.bridge = BridgeLink(empty, plan.runtime_dir)
        if isinstance(message, Rejoin):
            bridge.rejoin(self._container.loop)
        else:
            bridge.change(message, self._container.loop)

    def answer(self, channel: Channel, message: Value, fds: tuple[int, ...] = ()) -> None:
        """Send and close; a client that has gone is nobody's loss."""
        try:
            channel.set_timeout(5.0)
            channel.send(message, fds)
        except OSError:
            pass
        channel.close()

    def _status(self) -> Status:
        container = self._container
        return Status(
            pid=container.host_pid if container.pidfd >= 0 else 0,
            started_ns=container.started_ns,
            restart_count=container.restart_count,
            health=container.health.report() if container.health is not None else None,
            paused=container.cgroup is not None and container.cgroup.frozen,
            cgroup=f"{container.cgroup.path}/container" if container.cgroup is not None else "",
        )

    def _health_run(self, channel: Channel) -> None:
        health = self._container.health
        if health is None:
            raise Error("the container has no health check", exit_code=125)
        health.run_now(lambda report: self.answer(channel, report))

    # -- waiting

    def _wait(self, channel: Channel) -> None:
        self._waiters.append(channel)
        self._container.loop.watch(channel.fileno(), READ, lambda _events: self._waiter_gone(channel))

    def _waiter_gone(self, channel: Channel) -> None:
        if channel in self._waiters:
            self._container.loop.forget(channel.fileno())
            self._waiters.remove(channel)
            channel.close()

    def end(self, ended: Exited) -> None:
        """The container has ended for good: tell all who wait, fail all who run something in it."""
        for channel in self._waiters:
            self.answer(channel, ended)
        for session in tuple(self._execs.values()):
            session.finish(137)

    # -- attach

    def adopt_launcher(self, channel: Channel) -> None:
        """The launching command stays on as the first attached client."""
        self._add_client(Client(channel, streaming=True, stdin=self._container.plan.interactive))

    def _attach(self, channel: Channel, request: Attach) -> None:
        plan = self._container.plan
        if plan.log.driver == "passthrough":
            raise Error("a container with --log-driver=passthrough cannot be attached to")
        channel.set_timeout(5.0)
        channel.send(self._status())
        self._container.streams.resize(request.rows, request.columns)
        self._add_client(Client(channel, streaming=True, stdin=request.stdin and plan.interactive))

    def _add_client(self, client: Client) -> None:
        self._container.tell("attach")
        self._container.streams.on_blocked = self._watch_client
        self._container.streams.add(client)
        self._watch_client(client)

    def _watch_client(self, client: Client) -> None:
        streams = self._container.streams
        events = streams.events_for(client)
        if streams.stdin_backlog > _STDIN_BACKLOG_BYTES:
            events &= ~READ  # the container does not read: the client waits
            streams.on_stdin_drained = lambda: self._input_drained(client)
        self._container.loop.watch(client.channel.fileno(), events, lambda got: self._client_event(client, got))

    def _input_drained(self, client: Client) -> None:
        self._container.streams.on_stdin_drained = None
        if client.channel.fileno() >= 0:
            self._watch_client(client)

    def _client_event(self, client: Client, events: int) -> None:
        streams = self._container.streams
        if events & WRITE:
            streams.writable(client)
        if events & (READ | GONE) and not self._client_input(client):
            self._container.loop.forget(client.channel.fileno())
            streams.remove(client)
            client.channel.close()
            return
        self._watch_client(client)

    def _client_input(self, client: Client) -> bool:
        """One packet from an attached client; False where it has gone."""
        try:
            packet = client.channel.receive_packet()
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not packet:
            return False
        if packet[:1] == STDIN:
            if client.stdin:
                self._container.streams.input(packet[1:])
        elif packet[:1] == b"{":
            message = decode(packet)
            if isinstance(message, Resize):
                self._container.streams.resize(message.rows, message.columns)
            elif isinstance(message, Kill):
                self._container.stop_requested = self._container.stop_requested or message.signal in (SIGKILL, 15)
                self._container.signal(message.signal)
        return True

    # -- exec

    def _exec(self, channel: Channel, request: Exec, fds: list[int]) -> None:
        container = self._container
        if container.pidfd < 0:
            raise Error("the container is not running", exit_code=125)
        self._exec_count += 1
        session = ExecSession(container, channel, request, f"exec{self._exec_count}")
        self._execs[session.name] = session
        session.on_finished = lambda: self._execs.pop(session.name, None)
        try:
            session.start(fds)
        except Error:
            self._execs.pop(session.name, None)
            raise

    def start_captured(
        self, args: tuple[str, ...], on_output: Callable[[bytes], None], on_exit: Callable[[int], None]
    ) -> ExecSession:
        """Run a command in the container with its output captured (health checks).  Raises Error."""
        self._exec_count += 1
        session = ExecSession(self._container, None, Exec(exec_id="", args=args), f"exec{self._exec_count}")
        session.on_output, session.on_exit_code = on_output, on_exit
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        session.capture(read_end)
        session.start([-1, write_end, write_end])
        return session


class ExecSession:
    """One process beside the container's first: from process.json to its exit status."""

    def __init__(self, container: Container, channel: Channel | None, request: Exec, name: str) -> None:
        self._container = container
        self._channel = channel
        self._request = request
        self.name = name
        self._console: Console | None = None
        self._pid = 0
        self._pidfd = -1
        self._capture_fd = -1
        self.on_finished: Callable[[], object] = lambda: None
        self.on_output: Callable[[bytes], None] | None = None
        self.on_exit_code: Callable[[int], None] | None = None

    def _path(self, what: str) -> str:
        return f"{self._container.plan.runtime_dir}/{self.name}.{what}"

    def start(self, fds: list[int]) -> None:
        """Write process.json and run the runtime; fds: the three pipe ends, then those to preserve."""
        container, request, plan = self._container, self._request, self._container.plan
        process, owner = self._process()
        write_file(self._path("json"), dumps(process).encode(), 0o600)
        if request.tty:
            self._console = Console(plan.runtime_dir, f"{self.name}.sock")
        argv = ociruntime.exec_argv(
            plan.runtime,
            state_dir=container.runtime.state_dir,
            log=self._path("log"),
            process=self._path("json"),
            pid_file=self._path("pid"),
            container_id=plan.container_id,
            console_socket=self._console.path if self._console else "",
            preserve_fds=request.preserve_fds,
        )
        count = 0 if request.tty else 3
        stdio = (fds[0], fds[1], fds[2]) if count and len(fds) >= count else (-1, -1, -1)
        if owner != (0, 0):
            for fd in stdio:
                if fd >= 0 and stat.S_ISFIFO(os.fstat(fd).st_mode):  # see RuntimeCalls._make_stdio
                    os.fchown(fd, *owner)
        keep = list(self._console.keep) if self._console else []
        pid = container.runtime.spawn(argv, stdio, keep, fds[count : count + request.preserve_fds])
        close_all([fd for fd in dict.fromkeys(fds) if fd >= 0])
        container.on_exit(pid, self._runtime_ended)

    def _process(self) -> tuple[dict[str, Any], tuple[int, int]]:
        """process.json, and who its user is out here."""
        container, request = self._container, self._request
        owner = container.surroundings.owner
        process: dict[str, Any] = loads(dumps(container.surroundings.process))
        process["args"] = list(request.args)
        process["terminal"] = request.tty
        if request.env:
            given = {e.split("=", 1)[0] for e in request.env}
            process["env"] = [e for e in process["env"] if e.split("=", 1)[0] not in given] + list(request.env)
        if request.workdir:
            process["cwd"] = request.workdir
        if request.tty and request.rows:
            process["consoleSize"] = {"height": request.rows, "width": request.columns}
        if request.tty and not any(e.startswith("TERM=") for e in process["env"]):
            process["env"].append("TERM=xterm")
        if request.privileged:
            everything = container.surroundings.exec_privileges()
            process["capabilities"] = everything
        elif request.user:
            process["capabilities"] = container.surroundings.configured_capabilities()
        if request.user:
            root = os.open(f"/proc/{container.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                user = passwd.look_up(root, request.user)
            finally:
                os.close(root)
            owner = container.surroundings.owner_of(user)
            process["user"] = {"uid": user.uid, "gid": user.gid}
            home_given = any(e.startswith("HOME=") for e in request.env)
            container.surroundings.apply_user(process, user, set_home=not home_given)
        return process, owner

    def _runtime_ended(self, wait_status: int) -> None:
        if wait_status:
            error = ociruntime.failure(self._path("log"), self._request.args[0], self._container.plan.runtime)
            self._fail(error)
            return
        try:
            self._pid = ociruntime.read_pid(self._path("pid"))
            master = [self._console.take()] if self._console else []
        except (OSError, ValueError) as error:
            text = os_error_text(error, "exec") if isinstance(error, OSError) else str(error)
            self._fail(LaunchError("exec", text))
            return
        for what in ("json", "log", "pid"):
            try:
                os.unlink(self._path(what))
            except FileNotFoundError:
                pass
        try:
            self._pidfd = os.pidfd_open(self._pid)
        except ProcessLookupError:
            self._pidfd = -1
        if self._request.exec_id:
            self._container.tell("exec")
        if self._channel is not None:
            self._started(master)
        close_all(master)
        self._container.on_exit(self._pid, self._process_ended)

    def _started(self, master: list[int]) -> None:
        assert self._channel is not None
        host_pid = pid_on_host(self._container.outer_proc, self._pidfd) if self._pidfd >= 0 else 0
        try:
            self._channel.set_timeout(5.0)
            self._channel.send(ExecStarted(pid=host_pid), master)
        except OSError:
            self._drop_channel()
            return
        if self._request.detach:
            self._drop_channel()
            return
        self._channel.set_blocking(False)
        self._container.loop.watch(self._channel.fileno(), READ, self._client_event)

    def _client_event(self, _events: int) -> None:
        """A signal to pass on, or the client's end (the process goes on, as Podman's does)."""
        assert self._channel is not None
        try:
            packet = self._channel.receive_packet()
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self._drop_channel()
            return
        message = decode(packet)
        if isinstance(message, Kill):
            self.kill(message.signal)

    def kill(self, number: int) -> None:
        """Signal the process."""
        if self._pidfd >= 0:
            try:
                libc.pidfd_send_signal(self._pidfd, number)
            except ProcessLookupError:
                return

    def _drop_channel(self) -> None:
        if self._channel is not None:
            self._container.loop.forget(self._channel.fileno())
            self._channel.close()
            self._channel = None

    def capture(self, read_end: int) -> None:
        """Collect the process's output from this pipe."""
        self._capture_fd = read_end
        os.set_blocking(read_end, False)
        self._container.loop.watch(read_end, READ, lambda _events: self._captured())

    def _captured(self) -> bool:
        if self._capture_fd < 0:
            return False
        try:
            data = os.read(self._capture_fd, 65536)
        except BlockingIOError:
            return False
        if not data:
            self._close_capture()
            return False
        if self.on_output is not None:
            self.on_output(data)
        return True

    def _close_capture(self) -> None:
        if self._capture_fd >= 0:
            self._container.loop.forget(self._capture_fd)
            os.close(self._capture_fd)
            self._capture_fd = -1

    def _process_ended(self, wait_status: int) -> None:
        self.finish(exit_code(wait_status)[0])

    def _fail(self, error: LaunchError) -> None:
        self._close_capture()
        if self._console is not None:
            self._console.close()
        if self._channel is not None:
            failed = Failed(stage=error.stage, message=error.message, hint=error.hint, exit_code=error.exit_code)
            self._container.sessions.answer(self._channel, failed)
            self._channel = None
        if self.on_exit_code is not None:
            if self.on_output is not None:
                self.on_output(error.message.encode())
            self.on_exit_code(error.exit_code)
        self.on_finished()

    def finish(self, code: int) -> None:
        """The process has ended: tell the client."""
        if self._request.exec_id:
            self._container.tell("exec_died", code=code)
        while self._captured():
            pass
        self._close_capture()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        if self._channel is not None:
            self._container.loop.forget(self._channel.fileno())
            self._container.sessions.answer(self._channel, ExecExited(exit_code=code))
            self._channel = None
        if self.on_exit_code is not None:
            self.on_exit_code(code)
        self.on_finished()
