"""From the stored network settings to a `NetworkPlan`: pure, no look at the host but through `NetworkFacts`.

Weight: `rootless.values`, `rootless.errors`, `rootless.plan`, `_socket` (for inet_pton).  On the path of `run`.
"""

from __future__ import annotations

from network.address import is_ipv4, is_ipv6
from network.hosts import parse_add_host
from network.pasta import HOST_ADDRESS, check_options, pasta_argv
from network.slirp import slirp_addresses, slirp_argv, slirp_options
from rootless.errors import NotFound, UsageError
from rootless.plan import NetworkPlan, PortForward

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from network.slirp import NetworkFacts
    from rootless.netplan import BridgePlan

    class PortLike(Protocol):
        """pyctl.engine.model.Port."""

        @property
        def container_port(self) -> int: ...
        @property
        def host_port(self) -> int: ...
        @property
        def protocol(self) -> str: ...
        @property
        def host_ip(self) -> str: ...

    class NetworkLike(Protocol):
        """pyctl.engine.model.Network, which this package does not import."""

        @property
        def mode(self) -> str: ...
        @property
        def target(self) -> str: ...
        @property
        def options(self) -> tuple[str, ...]: ...
        @property
        def ports(self) -> tuple[PortLike, ...]: ...
        @property
        def dns(self) -> tuple[str, ...]: ...
        @property
        def dns_search(self) -> tuple[str, ...]: ...
        @property
        def dns_option(self) -> tuple[str, ...]: ...
        @property
        def add_hosts(self) -> tuple[str, ...]: ...
        @property
        def no_hosts(self) -> bool: ...
        @property
        def no_resolv(self) -> bool: ...


def network_plan(
    network: NetworkLike, facts: NetworkFacts, join_runtime_dir: str = "", bridge: BridgePlan | None = None
) -> NetworkPlan:
    """The plan for one container; host ports are already chosen (`network.ports.choose`).

    join_runtime_dir: of the container that `container:ID` names; bridge: its interfaces on user-defined networks.
    Raises UsageError for settings that are wrong or contradict each other, Error for what this host cannot do.
    """
    check_network(network)
    mode = network.mode
    if mode == "host":
        # The process itself listens on the host's ports; check_network let only such mappings pass.
        return NetworkPlan(kind="host", ping_group_range="")
    if mode == "none":
        return NetworkPlan(kind="new")
    if mode == "container":
        if not join_runtime_dir:
            raise NotFound(f"container {network.target} has no network namespace to join", hint="start it first")
        return NetworkPlan(kind="join", join_runtime_dir=join_runtime_dir, ping_group_range="")
    if mode == "ns":
        return NetworkPlan(kind="join", join_path=network.target, ping_group_range="")
    if mode == "pasta":
        return NetworkPlan(
            kind="pasta",
            bridge=bridge,
            helper=facts.pasta,
            helper_args=pasta_argv(network.options, facts),
            ports=port_forwards(network.ports, facts.bind_address, facts.ipv6),
            host_addresses=(HOST_ADDRESS, ""),
        )
    if mode == "bridge":
        forwards = port_forwards(network.ports, facts.bind_address, facts.ipv6)
        return NetworkPlan(kind="bridge", bridge=bridge, ports=forwards)
    options = slirp_options(network.options)
    addresses = slirp_addresses(options.cidr)
    return NetworkPlan(
        kind="slirp4netns",
        bridge=bridge,
        helper=facts.slirp4netns,
        helper_args=slirp_argv(options, facts),
        ports=port_forwards(network.ports, facts.bind_address, facts.ipv6, options.port_handler),
        port_handler=options.port_handler,
        host_addresses=(addresses.gateway, addresses.gateway6 if options.enable_ipv6 else ""),
    )


def check_network(network: NetworkLike) -> None:
    """Refuse, by name, what is wrong with the settings alone.  Raises UsageError or Error."""
    mode = network.mode
    if mode not in ("slirp4netns", "private", "pasta", "bridge", "none", "host", "container", "ns"):
        raise UsageError(f"--network={mode}: no such network mode")
    if mode in ("container", "ns"):
        if not network.target:
            raise UsageError(f"--network={mode}: requires a value: {mode}:{'ID' if mode == 'container' else 'PATH'}")
        if mode == "ns" and not network.target.startswith("/"):
            raise UsageError(f"--network=ns:{network.target}: the path must be absolute")
    if mode in ("slirp4netns", "private"):
        slirp_options(network.options)
    elif mode == "pasta":
        check_options(network.options)
    elif network.options:
        raise UsageError(f"--network={mode}:{','.join(network.options)}: {mode} takes no options")
    _check_ports(network)
    _check_names(network)


def _check_ports(network: NetworkLike) -> None:
    mode = network.mode
    if mode in ("slirp4netns", "private", "pasta", "bridge"):
        handler = "forwarder" if mode in ("pasta", "bridge") else slirp_options(network.options).port_handler
        port_forwards(network.ports, "0.0.0.0", handler=handler)
        return
    for port in network.ports:
        # With the host's network a mapping of a port to itself is true without any help; all others would be lost.
        if mode == "host" and port.host_port == port.container_port and port.host_ip in ("", "0.0.0.0", "::"):
            continue
        raise UsageError(
            f"--publish {describe_port(port)}: ports cannot be published with --network={mode}",
            hint="the container's ports are the host's own: drop --publish"
            if mode == "host"
            else "publish them where the network namespace is made"
            if mode in ("container", "ns")
            else "use --network=slirp4netns (the default)",
        )


def _check_names(network: NetworkLike) -> None:
    mode = network.mode
    if network.no_resolv and (network.dns or network.dns_search or network.dns_option):
        raise UsageError("--dns=none cannot be combined with other --dns options")
    if mode in ("none", "container"):
        for option, given in (
            ("--dns", network.dns),
            ("--dns-search", network.dns_search),
            ("--dns-option", network.dns_option),
        ):
            if given:
                raise UsageError(f"{option} cannot be combined with --network={mode}")
    for address in network.dns:
        if not (is_ipv4(address) or is_ipv6(address)):
            raise UsageError(f"--dns {address}: not an IP address")
    if "." in network.dns_search and len(network.dns_search) > 1:
        raise UsageError("--dns-search . (no search domains) cannot be combined with search domains")
    for option, words in (("--dns-search", network.dns_search), ("--dns-option", network.dns_option)):
        for word in words:
            if not word or not word.isprintable() or " " in word:
                raise UsageError(f"{option} {word!r}: must be one word")
    if network.add_hosts and network.no_hosts:
        raise UsageError("--no-hosts and --add-host cannot be combined")
    if network.add_hosts and mode == "container":
        raise UsageError("--add-host cannot be combined with --network=container", hint="give it to that container")
    for entry in network.add_hosts:
        parse_add_host(entry)


def port_forwards(
    ports: tuple[PortLike, ...], bind_address: str, ipv6: bool = True, handler: str = "forwarder"
) -> tuple[PortForward, ...]:
    """The sockets of the host that the ports stand for.  Raises UsageError naming the port that cannot be.

    bind_address: of ports that name none; ipv6: the host has it; handler: as in NetworkPlan.
    """
    forwards: list[PortForward] = []
    held: dict[tuple[str, int], list[PortForward]] = {}
    for port in ports:
        _check_port(port, port.host_ip or bind_address, handler)
        for address in listen_on(port.host_ip, bind_address, ipv6 and handler == "forwarder"):
            forward = PortForward(
                host_ip=address, host_port=port.host_port, container_port=port.container_port, protocol=port.protocol
            )
            others = held.setdefault((port.protocol, port.host_port), [])
            if forward in others:
                continue
            clash = next((f for f in others if _overlap(f, forward)), None)
            if clash is not None:
                raise UsageError(
                    f"--publish {describe_port(port)}: "
                    f"host port {port.host_port} is published already, to {clash.container_port}"
                )
            others.append(forward)
            forwards.append(forward)
    return tuple(forwards)


def _check_port(port: PortLike, address: str, handler: str) -> None:
    shown = describe_port(port)
    if port.protocol not in ("tcp", "udp"):
        raise UsageError(
            f"--publish {shown}: {port.protocol} cannot be forwarded without root, tcp and udp can",
            hint="use --network=host, or reach the container from another one",
        )
    if not (0 < port.container_port < 65536 and 0 < port.host_port < 65536):
        raise UsageError(f"--publish {shown}: ports go from 1 to 65535")
    if not (is_ipv4(address) or is_ipv6(address)):
        raise UsageError(f"--publish {shown}: {address!r} is not an IP address")
    if is_ipv6(address) and handler == "slirp4netns":
        raise UsageError(
            f"--publish {shown}: slirp4netns forwards IPv4 only", hint="leave out port_handler=slirp4netns"
        )


def _overlap(one: PortForward, other: PortForward) -> bool:
    """Of the same port and protocol: do their addresses meet?"""
    if (":" in one.host_ip) != (":" in other.host_ip):
        return False
    return one.host_ip == other.host_ip or not {"0.0.0.0", "::"}.isdisjoint((one.host_ip, other.host_ip))


def listen_on(host_ip: str, bind_address: str, ipv6: bool) -> tuple[str, ...]:
    """The addresses to bind: a port that names none, or [::], is published on all of both IP versions."""
    if host_ip == "::" or (not host_ip and bind_address in ("0.0.0.0", "::")):
        return ("0.0.0.0", "::") if ipv6 else ("0.0.0.0",)
    return (host_ip or bind_address,)


def describe_port(port: PortLike) -> str:
    """As on the command line: `127.0.0.1:8080:80/udp`."""
    address = f"[{port.host_ip}]" if ":" in port.host_ip else port.host_ip
    host = f"{address}:{port.host_port or ''}" if address else str(port.host_port or "")
    return f"{host + ':' if host else ''}{port.container_port}{'' if port.protocol == 'tcp' else '/' + port.protocol}"
