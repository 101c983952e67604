"""The name server in a thread of its own.

Weight: `_thread`, `network.dns_server`.  In the network process alone.

Two reasons.  Whatever puts interfaces in and takes them away waits for the kernel, tens of milliseconds where one is
deleted, and names are to be answered meanwhile.  And other name servers are asked through sockets of the host's
network, so that even one on the host's loopback is reached: this thread never leaves it.  The sockets on the bridges'
addresses are made by the thread that is there.
"""

from __future__ import annotations

import _thread
import os
import sys

from network.dns_server import NameServer, listeners
from rootless.loop import READ, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.netplan import BridgePlan, NetworkConfig

# How long one thread computes while the other has something to do (sys.setswitchinterval): a tenth of the default.
_TURN_S = 0.0005


class NameThread:
    """To be made in the host's network namespace; called from the other thread, in that of the bridges.

    Each call returns when the name server has done it.
    """

    def __init__(self) -> None:
        self._loop = Loop()
        self._server = NameServer(self._loop)
        self._listening: set[str] = set()  # network ids
        self._orders: list[Callable[[], None]] = []
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._loop.watch(self._bell, READ, lambda _events: self._work())
        sys.setswitchinterval(_TURN_S)
        _thread.start_new_thread(self._run, ())

    def put(self, plan: BridgePlan) -> None:
        """A container has joined, or changed."""
        self._do(lambda: self._server.names.put(plan))

    def drop(self, container_id: str) -> None:
        """A container has gone."""
        self._do(lambda: self._server.names.drop(container_id))

    def change(self, network: NetworkConfig) -> None:
        """Other name servers of a network."""
        self._do(lambda: self._server.names.change(network))

    def listen(self, network: NetworkConfig) -> None:
        """Serve on a network's bridge.  Raises OSError."""
        if network.id in self._listening or not network.dns_enabled:
            return
        made = listeners(network)
        self._listening.add(network.id)
        self._do(lambda: self._server.serve(network.id, made))

    def silence(self, network_id: str) -> None:
        """A network's bridge has gone."""
        self._listening.discard(network_id)
        self._do(lambda: self._server.silence(network_id))

    def _do(self, work: Callable[[], None]) -> None:
        done = _thread.allocate_lock()
        done.acquire()
        failed: list[Exception] = []

        def order() -> None:
            try:
                work()
            except Exception as error:
                failed.append(error)
            finally:
                done.release()

        self._orders.append(order)
        os.eventfd_write(self._bell, 1)
        done.acquire()
        if failed:
            raise failed[0]

    def _work(self) -> None:
        os.eventfd_read(self._bell)
        while self._orders:
            self._orders.pop(0)()

    def _run(self) -> None:
        try:
            self._loop.run()
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(1)  # networks without names are not what was promised: the next command makes all of it anew
