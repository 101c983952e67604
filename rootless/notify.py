"""Telling a service manager about a container by sd_notify(3), and letting the container speak to it, within bounds.

Weight: `_socket` (C) and `os`; imported only where NOTIFY_SOCKET is set.

Who may speak to the manager may also hand it descriptors to keep (FDSTORE) and name another main process (MAINPID).
So a container never sees the manager's socket: it gets one of its supervisor, which passes on the lines of `ALLOWED`
and drops all others, and descriptors, on the way.  What is passed on comes from the supervisor, the service's main
process, and so is accepted with NotifyAccess=main too.  (With a guardian, which is that process then, it takes all.)
"""

from __future__ import annotations

import _socket
import os

from rootless.errors import LaunchError, os_error_text
from rootless.loop import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.loop import Loop
    from rootless.plan import NotifyPlan

DIRECTORY, SOCKET = "notify", "notify.sock"  # below the runtime directory
ALLOWED = frozenset(
    (
        *("READY", "RELOADING", "MONOTONIC_USEC", "STOPPING", "STATUS", "NOTIFYSTATUS", "ERRNO", "BUSERROR"),
        *("EXIT_STATUS", "WATCHDOG", "WATCHDOG_USEC", "EXTEND_TIMEOUT_USEC"),
    )
)
_MAX_BYTES = 4096  # systemd takes no longer message (NOTIFY_BUFFER_MAX)
_BUSY_NS = 50_000_000  # until the manager is tried again
_BARRIER_S = 5


class Manager:
    """A connection to a service manager's socket.  Raises OSError."""

    def __init__(self, address: str) -> None:
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC, 0)
        try:
            self._socket.connect("\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            self._socket.close()
            raise

    def send(self, message: bytes, fds: tuple[int, ...] = ()) -> None:
        """One datagram.  BlockingIOError: the manager has not read the earlier ones."""
        ancillary: list[tuple[int, int, bytes]] = []
        if fds:
            import _struct

            ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, _struct.pack(f"{len(fds)}i", *fds))]
        self._socket.sendmsg([message], ancillary, _socket.MSG_NOSIGNAL)

    def set_blocking(self, blocking: bool) -> None:
        """Wait for a manager that does not read, or BlockingIOError."""
        self._socket.setblocking(blocking)

    def barrier(self) -> None:
        """Until the manager has taken note of what was sent: it looks up who the sender is, which must not be gone."""
        import select

        ours, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            self.send(b"BARRIER=1", (theirs,))
            os.close(theirs)
            theirs = -1
            poll = select.poll()
            poll.register(ours, 0)  # POLLHUP always comes
            poll.poll(_BARRIER_S * 1000)
        finally:
            os.close(ours)
            if theirs >= 0:
                os.close(theirs)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def permitted(message: bytes) -> bytes:
    """The lines that a container may say to its service manager; b"" where there are none."""
    if len(message) > _MAX_BYTES or b"\0" in message:
        return b""
    lines = message.split(b"\n")
    return b"\n".join(line for line in lines if line.partition(b"=")[0].decode("latin-1") in ALLOWED)


class Notifier:
    """The supervisor's side.

    gate: end of file on it says that the manager knows this process as the service's main one; until then nothing is
    sent.  `is_well` is asked before each sign of life where the supervisor gives those (NotifyPlan.watchdog_usec).
    """

    def __init__(self, plan: NotifyPlan, loop: Loop, gate: int, is_well: Callable[[], bool]) -> None:
        try:
            self._manager = Manager(plan.socket)
        except OSError as error:
            raise LaunchError(
                "notify",
                os_error_text(error, f"NOTIFY_SOCKET {plan.socket}"),
                hint="--sdnotify=ignore tells the service manager nothing",
                errno=error.errno or 0,
            ) from error
        self._manager.set_blocking(False)
        self._plan = plan
        self._loop = loop
        self._is_well = is_well
        self._queue: list[bytes] = []
        self._open = False
        self._waiting = False
        self._ready_said = False
        self._proxy: Any = None
        loop.watch(gate, READ, lambda _events: self._opened(gate))

    def _opened(self, gate: int) -> None:
        self._loop.forget(gate)
        os.close(gate)
        self._open = True
        self._flush()
        if self._plan.watchdog_usec:
            self._sign_of_life()

    def listen(self, runtime_dir: str) -> None:
        """Open the container's own socket, in a directory that config.json mounts."""
        directory = f"{runtime_dir}/{DIRECTORY}"
        os.makedirs(directory, 0o755, exist_ok=True)
        directory_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            path = f"/proc/self/fd/{directory_fd}/{SOCKET}"  # sun_path has 108 bytes (unix(7))
            self._proxy = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC, 0)
            self._proxy.bind(path)
            os.chmod(path, 0o777)  # any user of the container; nobody else gets into the runtime directory
        finally:
            os.close(directory_fd)
        self._proxy.setblocking(False)
        self._loop.watch(self._proxy.fileno(), READ, lambda _events: self._from_container())

    def _from_container(self) -> None:
        try:
            # Without room for them the kernel closes descriptors that come along: a sender's BARRIER ends here, when
            # what it sent before has been passed on.
            message = permitted(self._proxy.recv(_MAX_BYTES + 1))
        except OSError:
            return
        if message:
            self._say(message)

    def ready(self) -> None:
        """The service is up (once: a restart is no other start of the service)."""
        if not self._ready_said:
            self._ready_said = True
            self._say(b"READY=1")

    def became_healthy(self) -> None:
        """The health check has passed."""
        if self._plan.mode == "healthy":
            self.ready()

    def stopping(self) -> None:
        """The container is being stopped for good."""
        self._say(b"STOPPING=1")

    def _sign_of_life(self) -> None:
        if self._is_well() and not self._queue:
            self._say(b"WATCHDOG=1")
        self._loop.after(self._plan.watchdog_usec * 500, self._sign_of_life)  # half of it, in nanoseconds

    def _say(self, message: bytes) -> None:
        self._queue.append(message)
        if self._open and not self._waiting:
            self._flush()
        elif self._proxy is not None:
            self._loop.forget(self._proxy.fileno())  # its next message waits in the socket, as the container does

    def _flush(self) -> None:
        self._waiting = False
        while self._queue:
            try:
                self._manager.send(self._queue[0])
            except BlockingIOError:
                if self._proxy is not None:
                    self._loop.forget(self._proxy.fileno())
                self._waiting = True
                self._loop.after(_BUSY_NS, self._flush)
                return
            except OSError:
                self._queue.clear()  # there is no manager any more
                break
            del self._queue[0]
        if self._proxy is not None:
            self._loop.watch(self._proxy.fileno(), READ, lambda _events: self._from_container())


def with_variables(config: dict[str, Any], variables: tuple[str, ...]) -> dict[str, Any]:
    """config.json with further variables for the first process alone: what `exec` starts is not the service."""
    names = {word.partition("=")[0] for word in variables}
    process = config["process"]
    env = [word for word in process["env"] if word.partition("=")[0] not in names]
    return {**config, "process": {**process, "env": [*env, *variables]}}
