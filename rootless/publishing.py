"""The published ports of one container, in its supervisor: by the forwarder, or by slirp4netns.

Weight: `os`, `rootless.host_ports`, `rootless.forwarder`; `rootless.slirp_api` where slirp4netns is to publish.
"""

from __future__ import annotations

import os

from rootless import forwarder
from rootless.host_ports import open_port, paced_congestion
from rootless.loop import READ
from rootless.processes import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.loop import Loop
    from rootless.plan import NetworkPlan
    from rootless.slirp_api import Publisher

_RETRY_NS = 200_000_000
_FEW_PORTS = 200  # sockets that fit into the usual 1024 descriptors beside all else


class Publishing:
    """To be made in the host's network namespace: then a port in use is found before anything is started."""

    def __init__(self, plan: NetworkPlan) -> None:
        """Binds the ports.  Raises LaunchError naming the first that cannot be had, and why."""
        self.pid = 0  # of the forwarder
        self._host_addresses = plan.host_addresses
        self._paced = b""
        self._publisher: Publisher | None = None
        self._services: list[forwarder.Service] = []
        if plan.port_handler == "slirp4netns":
            from rootless.slirp_api import Publisher

            self._publisher = Publisher(plan.ports, "--disable-host-loopback" not in plan.helper_args)
            return
        if len(plan.ports) > _FEW_PORTS:
            # What the runtime starts has limits of its own, from config.json.
            forwarder.raise_descriptor_limit()
        try:
            if plan.ports:
                self._paced = paced_congestion()
            for port in plan.ports:
                made = open_port(port, self._paced)
                self._services.append(forwarder.Service(made, port.container_port, port.protocol))
        except BaseException:
            self._close_services()
            raise

    def enter(self) -> None:
        """In the container's namespace, still empty: what may be missing there is found.  Raises LaunchError."""
        if self._services:
            forwarder.prepare(self._services)

    def connect(self, api_socket: str, loop: Loop, started: Callable[[int], None]) -> None:
        """With the network there: serve the ports.  Raises LaunchError.

        The forwarder is started when its first client comes, so that a container that nobody calls has none, and
        `started` gets its pid.
        """
        if self._publisher is not None:
            self._publisher.publish(api_socket, loop)
        for service in self._services:
            loop.watch(service.socket.fileno(), READ, lambda _events: self._start(loop, started))

    def _start(self, loop: Loop, started: Callable[[int], None]) -> None:
        for service in self._services:
            loop.forget(service.socket.fileno())
        try:
            self.pid = forwarder.start(self._services, *self._host_addresses, paced=self._paced)
        except OSError:  # no more processes or memory at the moment; clients wait
            loop.after(_RETRY_NS, lambda: self.connect("", loop, started))
            return
        self._close_services()
        started(self.pid)

    def close(self) -> None:
        """The ports are free again."""
        if self.pid:
            try:
                os.kill(self.pid, SIGKILL)
                os.waitpid(self.pid, 0)
            except OSError:
                pass  # it has ended, and the loop has reaped it
            self.pid = 0
        self._close_services()
        if self._publisher is not None:
            self._publisher.close()

    def _close_services(self) -> None:
        for service in self._services:
            service.socket.close()
        self._services.clear()
