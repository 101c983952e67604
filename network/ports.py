"""Host ports: choosing free ones, and finding conflicts before anything is made.

Weight: `_socket`, `rootless.host_ports`, `network.plan`.  On the path of `run -p`.
"""

from __future__ import annotations

import _socket
import os

from network.plan import describe_port, listen_on, port_forwards
from rootless.errors import Error
from rootless.host_ports import check_free, socket_for
from rootless.plan import PortForward

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from network.plan import PortLike

_ATTEMPTS = 64


def choose(port: PortLike, taken: Container[tuple[str, int]], bind_address: str = "0.0.0.0") -> int:
    """A free host port for a mapping that leaves it open (`host_port` 0).

    taken: (protocol, port) pairs of other containers, running or not.  The caller stores the answer.
    Raises Error when the kernel gives none.
    """
    tried: list[_socket.socket] = []
    try:
        for _ in range(_ATTEMPTS):
            probe = _bound(port, 0, bind_address)
            tried.append(probe)  # kept open, so that the kernel does not give the same one again
            number = int(probe.getsockname()[1])
            if (port.protocol, number) not in taken and _is_free_elsewhere(port, number, bind_address):
                return number
    except OSError as error:
        raise Error(f"--publish {describe_port(port)}: no free host port: {error.strerror}") from error
    finally:
        for probe in tried:
            probe.close()
    raise Error(f"--publish {describe_port(port)}: no free host port in {_ATTEMPTS} attempts")


def first_free(
    port: PortLike, numbers: Iterable[int], taken: Container[tuple[str, int]], bind_address: str = "0.0.0.0"
) -> int:
    """The first port of a range (`-p 8000-8010:80`) that can be bound now.  Raises Error when none can."""
    for number in numbers:
        if (port.protocol, number) in taken:
            continue
        try:
            _bound(port, number, bind_address).close()
        except OSError:
            continue
        return number
    raise Error(f"--publish {describe_port(port)}: no free host port in the range")


def _is_free_elsewhere(port: PortLike, number: int, bind_address: str) -> bool:
    """Also on the other addresses that the port is published on (IPv6)."""
    for address in listen_on(port.host_ip, bind_address, os.path.isdir("/proc/sys/net/ipv6"))[1:]:
        try:
            _bound(port, number, address).close()
        except OSError:
            return False
    return True


def _bound(port: PortLike, number: int, bind_address: str) -> _socket.socket:
    address = port.host_ip or bind_address
    probe = socket_for(
        PortForward(host_ip=address, host_port=number, container_port=port.container_port, protocol=port.protocol)
    )
    try:
        probe.bind((address, number))
    except OSError:
        probe.close()
        raise
    return probe


def check_ports(ports: tuple[PortLike, ...], bind_address: str = "0.0.0.0") -> tuple[PortForward, ...]:
    """The ports as they will be published, each tested for being free on this host now.

    Raises UsageError (a mapping that cannot be) or LaunchError (in use, privileged, not an address of this host).
    The test at launch decides; this one spares the user a container that could not have started.
    """
    forwards = port_forwards(ports, bind_address)
    for forward in forwards:
        check_free(forward)
    return forwards
