"""Published ports as `ps` and `port` show them.  Weight: nothing."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyctl.engine.model import Network, Port


def host_ip(port: Port, bind_address: str) -> str:
    """The address that a port listens on; an IPv6 one without brackets, as Podman shows it."""
    return port.host_ip or bind_address


def ranges(ports: Sequence[Port], bind_address: str) -> list[tuple[str, int, int, int, str]]:
    """(address, host port, container port, how many, protocol): neighbours are joined."""
    rows = sorted((p.protocol, host_ip(p, bind_address), p.container_port, p.host_port) for p in ports)
    found: list[tuple[str, int, int, int, str]] = []
    for protocol, ip, container_port, host_port in rows:
        if found:
            last_ip, last_host, last_container, count, last_protocol = found[-1]
            if (last_ip, last_protocol, last_host + count, last_container + count) == (
                ip,
                protocol,
                host_port,
                container_port,
            ):
                found[-1] = (ip, last_host, last_container, count + 1, protocol)
                continue
        found.append((ip, host_port, container_port, 1, protocol))
    return sorted(found, key=lambda row: (row[4], row[2], row[0]))


def shown(network: Network, bind_address: str) -> str:
    """ "0.0.0.0:8080-8082->80-82/tcp, 5000/tcp": published ports, then those that are only exposed."""

    def span(first: int, count: int) -> str:
        return f"{first}-{first + count - 1}" if count > 1 else f"{first}"

    texts = [
        f"{ip}:{span(host, count)}->{span(container, count)}/{protocol}"
        for ip, host, container, count, protocol in ranges(network.ports, bind_address)
    ]
    published = {f"{port.container_port}/{port.protocol}" for port in network.ports}
    return ", ".join([*texts, *(word for word in network.exposed if word not in published)])
