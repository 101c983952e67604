"""A supervisor's connection to the network process, which puts its container on bridges.

Weight: `rootless.fds`, `rootless.netplan`.  In the supervisor, where a network is user-defined.

The connection is the lease: as long as it is open the container has its interfaces and names, and however this
process ends, the network process sees it and takes them away.
"""

from __future__ import annotations

import os

from rootless.errors import Error, LaunchError
from rootless.fds import Channel, close_all, connect_unix, write_file
from rootless.loop import READ
from rootless.netplan import BridgePlan, Connect, Disconnect, Join, Joined
from rootless.plan import Done, Failed
from rootless.userns import NETWORK_DIRECTORY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.loop import Loop
    from rootless.values import Value

DIRECTORY = NETWORK_DIRECTORY
SOCKET_NAME = "ctl"
LOCK_FILE = "lock"  # in it, held by the network process for its whole life
START_FILE = "start"  # flocked by whoever starts it, and by itself while it ends
MARKER = "bridged"  # in a container's runtime directory: it wants to be joined again
_ANSWER_S = 30.0


class BridgeLink:
    """One container's."""

    def __init__(self, plan: BridgePlan, runtime_dir: str) -> None:
        self.plan = plan
        self._runtime_dir = runtime_dir
        self._directory = f"{os.path.dirname(runtime_dir)}/{DIRECTORY}"
        self._channel: Channel | None = None
        self._loop: Loop | None = None

    def ask(self) -> None:
        """Ask for all interfaces, in the network namespace that this process is in now; `wait` hears the answer."""
        netns = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            channel = connect_unix(self._directory, SOCKET_NAME)
            channel.set_timeout(_ANSWER_S)
            channel.send(Join(plan=self.plan), [netns])
        except OSError as error:
            raise LaunchError("network", f"the network process does not answer: {error.strerror}") from error
        finally:
            os.close(netns)
        self._channel = channel

    def wait(self, loop: Loop) -> None:
        """Until every interface is there.  Raises LaunchError."""
        answer = self._receive()
        if isinstance(answer, Failed):
            raise LaunchError(answer.stage, answer.message, answer.hint, answer.exit_code, answer.errno)
        if not isinstance(answer, Joined):
            raise LaunchError("network", "the network process ended before the container was on its networks")
        write_file(f"{self._runtime_dir}/{MARKER}", b"", 0o600)
        self._loop = loop
        assert self._channel is not None
        loop.watch(self._channel.fileno(), READ, lambda _events: self.lost())

    def lost(self) -> None:
        """The network process was killed, and the interfaces went with it: `rejoin` gets them back."""
        if self._channel is None:
            return
        if self._loop is not None:
            self._loop.forget(self._channel.fileno())
        self._channel.close()
        self._channel = None

    def rejoin(self, loop: Loop) -> None:
        """Ask a new network process for the same interfaces, or the living one for fresh ones.  Raises LaunchError."""
        self.lost()
        self.ask()
        self.wait(loop)

    def change(self, request: Connect | Disconnect, loop: Loop) -> None:
        """Carry `network connect` or `disconnect` out; the plan holds what is so from now on.  Raises Error."""
        if isinstance(request, Connect):
            (endpoint,) = (e for e in request.plan.endpoints if e.network.id == request.network_id)
            held, self.plan = self.plan, request.plan.replace(endpoints=(*self.plan.endpoints, endpoint))
            try:
                if self._channel is None:
                    self.rejoin(loop)
                else:
                    self._pass_on(request)
            except Error:
                self.plan = held
                raise
        else:
            self._pass_on(request)
            kept = tuple(e for e in self.plan.endpoints if e.network.id != request.network_id)
            self.plan = self.plan.replace(endpoints=kept)
            if not kept:
                self.close()
        for name, text in request.files.items():
            # In place, because the container has this very file mounted.
            write_file(f"{self._runtime_dir}/files/{name}", text.encode("utf-8", "surrogateescape"))

    def _pass_on(self, request: Connect | Disconnect) -> None:
        if self._channel is None:
            raise Error("the network process has gone", hint="pyctl network reload brings the container back")
        netns = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._channel.send(request, [netns])
        except OSError as error:
            raise Error(f"the network process does not answer: {error.strerror}") from error
        finally:
            os.close(netns)
        answer = self._receive()
        if isinstance(answer, Failed):
            raise Error(answer.message, answer.hint)
        if not isinstance(answer, Done):
            raise Error("the network process has gone")

    def _receive(self) -> Value | None:
        assert self._channel is not None
        try:
            answer, fds = self._channel.receive()
        except OSError:
            return None
        close_all(fds)
        return answer

    def close(self) -> None:
        """The container leaves its networks."""
        self.lost()
        try:
            os.unlink(f"{self._runtime_dir}/{MARKER}")
        except FileNotFoundError:
            return
