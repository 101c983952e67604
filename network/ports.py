"""Host ports: choosing free ones, and finding conflicts before anything is made.

Weight: `_socket`, `rootless.slirp_api`, `network.plan`.  On the path of `run -p`.
"""

from __future__ import annotations

import _socket

from network.plan import describe_port, port_forwards
from rootless.errors import Error
from rootless.slirp_api import check_free

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from network.plan import PortLike
    from rootless.plan import PortForward

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
            if (port.protocol, number) not in taken:
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


def _bound(port: PortLike, number: int, bind_address: str) -> _socket.socket:
    address = port.host_ip or bind_address
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    kind = _socket.SOCK_DGRAM if port.protocol == "udp" else _socket.SOCK_STREAM
    probe = _socket.socket(family, kind | _socket.SOCK_CLOEXEC)
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
