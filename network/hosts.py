"""/etc/hosts, /etc/resolv.conf and /etc/hostname of a container: pure functions of texts.

Weight: `rootless.values`, `rootless.errors`, `network.slirp`.  On the path of `run`.
Texts of the host are decoded with surrogateescape, so that bytes that are not UTF-8 pass through.
"""

from __future__ import annotations

from network.address import is_ipv4, is_ipv6
from network.pasta import dns_forwarder
from network.slirp import UPLINK_CIDR, slirp_addresses, slirp_options
from rootless.errors import Error, UsageError
from rootless.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from network.plan import NetworkLike
    from network.slirp import SlirpAddresses
    from rootless.netplan import BridgePlan

GATEWAY_NAMES = ("host.containers.internal", "host.docker.internal")
RESOLVED_STUB = "127.0.0.53"  # systemd-resolved(8): on the host's loopback, so of no use to a container
# resolv.conf(5) has no fallback but the loopback; Podman and Docker take these where the host names only that.
PUBLIC_NAMESERVERS = ("8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844")


class NameSources(Value):
    """The host's texts that a container's files are made from ("" where a file is missing).

    For `--network container:ID`, `hosts` and `resolv` are those of that container.
    """

    hosts: str = ""  # of the base file: the host's /etc/hosts, or what --hosts-file names
    resolv: str = ""  # /etc/resolv.conf
    resolved: str = ""  # /run/systemd/resolve/resolv.conf: the real servers behind RESOLVED_STUB
    host_address: str = ""  # the host as a container reaches it; "" where there is none
    own_address: str = ""  # the container's, where it is a copy of the host's (pasta)


class NameFiles(Value):
    """Contents to mount over /etc/hosts, /etc/resolv.conf, /etc/hostname; None: leave the image's alone."""

    hosts: str | None = None
    resolv: str | None = None
    hostname: str | None = None


def name_files(
    network: NetworkLike,
    hostname: str,
    name: str,
    sources: NameSources,
    no_hostname: bool = False,
    bridge: BridgePlan | None = None,
) -> NameFiles:
    """All three for one container: what Podman 5.4 writes.

    hostname: as the container sees it (the host's own where it shares the UTS namespace); name: the container's;
    bridge: its interfaces on user-defined networks.
    """
    mode = network.mode
    hosts = resolv = None
    slirp = slirp_addresses(slirp_options(network.options).cidr) if mode in ("slirp4netns", "private") else None
    if not network.no_hosts:
        own = (slirp.container,) if slirp else (sources.own_address,) if sources.own_address else ()
        if mode in ("none", "container"):
            own = ("127.0.0.1",)
        if bridge is not None:
            own = (*own, *(a.partition("/")[0] for e in bridge.endpoints for a in e.addresses))
        hosts = hosts_text(
            sources.hosts,
            add_hosts=network.add_hosts,
            host_address=sources.host_address,
            own_addresses=own,
            own_names=(hostname, name),
        )
    if mode == "container":
        resolv = sources.resolv
    elif bridge is not None and not network.no_resolv and bridge_servers(bridge):
        resolv = resolv_text(
            sources.resolv,
            resolved=sources.resolved,
            dns=bridge_servers(bridge),
            dns_search=network.dns_search or ("dns.podman",),
            dns_option=network.dns_option,
        )
    elif mode != "none" and not network.no_resolv:
        resolv = resolv_text(
            sources.resolv,
            resolved=sources.resolved,
            own_network=mode != "host",
            forwarder=dns_forwarder(network.options) if mode == "pasta" else _forwarder(slirp, bridge),
            dns=network.dns,
            dns_search=network.dns_search,
            dns_option=network.dns_option,
        )
    return NameFiles(hosts=hosts, resolv=resolv, hostname=None if no_hostname else hostname + "\n")


def _forwarder(slirp: SlirpAddresses | None, bridge: BridgePlan | None) -> str:
    """slirp4netns's own name server: the container's, or that of the way out of the bridges."""
    if slirp is None and bridge is not None:
        slirp = slirp_addresses(UPLINK_CIDR)
    return slirp.forwarder if slirp is not None else ""


def bridge_servers(bridge: BridgePlan) -> tuple[str, ...]:
    """The name servers of a container's networks: their bridges' addresses."""
    return tuple(s.gateway for e in bridge.endpoints if e.network.dns_enabled for s in e.network.subnets if s.gateway)


# --- /etc/hosts ------------------------------------------------------------------------------


def hosts_text(
    base: str,
    add_hosts: tuple[str, ...] = (),
    host_address: str = "",
    own_addresses: tuple[str, ...] = (),
    own_names: tuple[str, ...] = (),
) -> str:
    """hosts(5): --add-host first (the first match wins), the base, localhost, the host gateway, the container itself.

    A name that an earlier line has is not given again, so that --add-host and the base file win.
    """
    lines: list[str] = []
    seen: set[str] = set()

    def put(address: str, names: Iterable[str]) -> None:
        fresh = [n for n in dict.fromkeys(names) if n and n not in seen]
        if fresh:
            lines.append(f"{address}\t{' '.join(fresh)}\n")

    for entry in add_hosts:
        names, address = parse_add_host(entry)
        if address == "host-gateway":
            if not host_address:
                raise Error(f"--add-host {entry}: this host has no address that a container can reach")
            address = host_address
        lines.append(f"{address}\t{' '.join(names)}\n")
        seen.update(names)
    for address, found in _host_entries(base):
        lines.append(f"{address}\t{' '.join(found)}\n")
        seen.update(found)
    if "localhost" not in seen:
        put("127.0.0.1", ("localhost",))
        put("::1", ("localhost",))
    if host_address:
        put(host_address, GATEWAY_NAMES)
    if own_addresses:
        for own in own_names:
            if any(c.isspace() or not c.isprintable() for c in own):
                raise Error(f"host name {own!r} has a character that /etc/hosts cannot hold")
        fresh = [n for n in dict.fromkeys(own_names) if n and n not in seen]
        lines += [f"{address}\t{' '.join(fresh)}\n" for address in own_addresses if fresh]
    return "".join(lines)


def _host_entries(text: str) -> Iterator[tuple[str, list[str]]]:
    for line in text.split("\n"):
        fields = line.partition("#")[0].split()
        if len(fields) > 1:
            yield fields[0], fields[1:]


def parse_add_host(entry: str) -> tuple[tuple[str, ...], str]:
    """`name[;name…]:address` → names and an IP address or "host-gateway".  Raises UsageError."""
    joined, colon, address = entry.partition(":")
    names = tuple(joined.split(";"))
    if not colon or any(not n or n.startswith("#") or not n.isprintable() or " " in n for n in names):
        raise UsageError(f"--add-host {entry!r}: must be NAME:ADDRESS")
    if address != "host-gateway" and not is_ipv4(address) and not is_ipv6(address):
        raise UsageError(f"--add-host {entry!r}: {address!r} is not an IP address or host-gateway")
    return names, address


# --- /etc/resolv.conf ------------------------------------------------------------------------


class Resolver(Value):
    """resolv.conf(5), parsed: the last `search` (or `domain`) holds, options add up, as in glibc."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def parse_resolv(text: str) -> Resolver:
    """What a resolver makes of it; anything else is dropped."""
    nameservers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.split("\n"):
        words = line.partition("#")[0].partition(";")[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver" and (is_ipv4(words[1]) or is_ipv6(words[1].partition("%")[0])):
            nameservers.append(words[1])
        elif words[0] == "search":
            search = tuple(words[1:])
        elif words[0] == "domain":
            search = (words[1],)
        elif words[0] == "options":
            options += words[1:]
    return Resolver(nameservers=tuple(nameservers), search=search, options=tuple(options))


def resolv_text(
    host: str,
    *,
    resolved: str = "",
    own_network: bool = True,
    forwarder: str = "",
    dns: tuple[str, ...] = (),
    dns_search: tuple[str, ...] = (),
    dns_option: tuple[str, ...] = (),
) -> str:
    """search, nameserver and options lines.

    own_network: the container is not in the host's network, so the host's loopback servers (and those with a zone)
    cannot be reached; with a `forwarder`, that one asks them, else public ones stand in.  `dns` replaces the
    servers; `dns_search` and `dns_option` go before the host's; `dns_search` of "." means none at all.
    """
    source = parse_resolv(host)
    if own_network and source.nameservers == (RESOLVED_STUB,) and resolved:
        source = parse_resolv(resolved)
    if dns:
        nameservers = dns
    elif not own_network:
        nameservers = source.nameservers
    else:
        nameservers = tuple(n for n in source.nameservers if not _host_only(n))
        if forwarder:
            nameservers = (forwarder, *nameservers)
        elif not nameservers:
            nameservers = PUBLIC_NAMESERVERS
    search = () if "." in dns_search else tuple(dict.fromkeys((*dns_search, *source.search)))
    options = tuple(dict.fromkeys((*dns_option, *source.options)))
    lines = [f"search {' '.join(search)}\n"] if search else []
    lines += [f"nameserver {n}\n" for n in nameservers]
    if options:
        lines.append(f"options {' '.join(options)}\n")
    return "".join(lines)


def _host_only(nameserver: str) -> bool:
    return nameserver.startswith("127.") or nameserver == "::1" or "%" in nameserver
