"""The network of a container: --network, ports, names.

Weight: `pyctl.engine.model`, `network.address`; `network.hosts`, `network.slirp`, `pyctl.engine.request_bridge`
where their options are given.
"""

from __future__ import annotations

import os

from network.address import is_ipv4, is_ipv6
from pyctl.engine.model import Network, Port
from pyctl.engine.request_facts import refused
from pyctl.engine.request_text import absolute, is_name, is_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.engine.config import Config
    from pyctl.engine.request_facts import ImageChoice, Lookups, Options, RequestFacts

PROTOCOLS = ("tcp", "udp", "sctp")
_SINGLE = ("host", "none", "private", "slirp4netns", "pasta", "container", "ns")  # modes that stand alone
_SHARED = ("host", "container", "ns")  # modes in which the container has no network of its own
_NO_PORTS = ("host", "container", "ns", "none")


def container_network(
    options: Options, image: ImageChoice, facts: RequestFacts, lookups: Lookups, warnings: list[str]
) -> Network:
    """All network settings; what cannot hold with the mode is refused, or (ports) warned about as Podman does."""
    network = _mode(options, facts, lookups)
    mode = network.mode
    ports = published(options.get("publish") or ())
    exposed = exposed_ports(options.get("expose") or (), image)
    if options.get("publish_all"):
        taken = {(p.container_port, p.protocol) for p in ports}
        wanted = [_split_exposed(e) for e in exposed]
        ports += tuple(Port(container_port=n, protocol=p) for n, p in wanted if (n, p) not in taken)
    if ports and mode in _NO_PORTS:
        shown = mode if mode in ("host", "none") else f"{mode}:…"
        warnings.append(f"--publish has no effect with --network={shown}: published ports are left out")
        ports = ()
    no_hosts = bool(options.get("no_hosts")) or (facts.defaults.no_hosts and not options.given("no_hosts"))
    dns, no_resolv = _dns(options, facts, mode)
    return network.replace(
        ports=ports,
        exposed=exposed,
        publish_all=bool(options.get("publish_all")),
        dns=dns,
        dns_search=_words(options, "dns_search", facts.defaults.dns_searches),
        dns_option=_words(options, "dns_option", facts.defaults.dns_options),
        add_hosts=_add_hosts(options, mode, no_hosts),
        no_hosts=no_hosts,
        no_hostname=bool(options.get("no_hostname")),
        hosts_file=_hosts_file(options, facts),
        no_resolv=no_resolv,
    )


# --- --network -----------------------------------------------------------------------------------


def _mode(options: Options, facts: RequestFacts, lookups: Lookups) -> Network:
    given = [m for m in options.get("network") or () if m]
    words = given or [facts.defaults.netns or "private"]
    if len(words) > 1:
        for word in words:
            if word.partition(":")[0] in _SINGLE:
                raise refused("--network", word, "cannot be combined with other networks")
    network = network_mode(words[0], facts.defaults, lookups)
    if network.mode == "bridge" and len(words) > 1:
        uses = {use.network_id: use for word in words for use in network_mode(word, facts.defaults, lookups).endpoints}
        names = [use.interface for use in uses.values() if use.interface]
        for name in names:
            if names.count(name) > 1:
                raise refused("--network", words[-1], f"the interface {name} is on another network already")
        network = network.replace(endpoints=tuple(uses.values()))
    return _with_static(network, options)


def network_mode(word: str, defaults: Config, lookups: Lookups) -> Network:
    """`none`, `host`, `private`, `slirp4netns[:opt,opt]`, `pasta[:opt,opt]`, `container:NAME`, `ns:PATH`,
    `NETWORK[:opt,opt]`.

    private: what the site's configuration says (default_rootless_network_cmd), slirp4netns if nothing else.
    """
    mode, colon, rest = word.partition(":")
    if mode in ("none", "host", "private") and colon:
        raise refused("--network", word, f"{mode} takes no options")
    if mode == "private":
        mode = defaults.default_rootless_network_cmd or "slirp4netns"
    if mode in ("none", "host"):
        return Network(mode=mode)
    if mode == "slirp4netns":
        words = (*defaults.network_cmd_options, *(w for w in rest.split(",") if w))
        if words:
            from network.slirp import slirp_options  # its grammar is that module's

            slirp_options(words)
        return Network(mode=mode, options=words)
    if mode == "container":
        if not rest:
            raise refused("--network", word, "needs a container: container:NAME")
        return Network(mode=mode, target=lookups.container_id(rest))
    if mode == "ns":
        return Network(mode=mode, target=namespace_path("--network", word, rest))
    if mode == "pasta":
        from network.pasta import check_options  # its grammar is that module's

        words = tuple(w for w in rest.split(",") if w)
        check_options(words)
        return Network(mode=mode, options=words)
    if mode == "bridge" or is_name(mode):
        from pyctl.engine import request_bridge  # only with user-defined networks

        return Network(mode="bridge", endpoints=(request_bridge.network_use(word, mode, rest, lookups),))
    known = "slirp4netns[:options], pasta[:options], none, host, container:NAME, ns:PATH or a network's name"
    raise refused("--network", word, f"must be {known}")


def _with_static(network: Network, options: Options) -> Network:
    """--ip, --ip6, --mac-address, --network-alias: of the one network that there is (aliases: of all)."""
    given = [n for n in ("ip", "ip6", "mac_address", "network_alias") if options.get(n)]
    if not given:
        return network
    if network.mode != "bridge":
        option = "--" + given[0].replace("_", "-")
        raise refused(
            option,
            str(options.get(given[0])),
            f"needs a user-defined network, not --network={network.mode}",
            hint="pyctl network create NET, then --network NET",
        )
    from pyctl.engine import request_bridge

    return request_bridge.with_static(network, options)


def namespace_path(option: str, word: str, path: str) -> str:
    """The absolute path of a namespace that exists."""
    if not path.startswith("/"):
        raise refused(option, word, "needs an absolute path: ns:/proc/PID/ns/…")
    if not os.path.exists(path):
        raise refused(option, word, f"{path} does not exist")
    return path


# --- ports -----------------------------------------------------------------------------------------


def published(words: tuple[str, ...]) -> tuple[Port, ...]:
    """--publish: `[[IP:]HOST:]CONTAINER[/PROTOCOL]`, with ranges expanded and exact repetitions left out."""
    ports: dict[Port, None] = {}
    for word in words:
        if word:
            ports.update(dict.fromkeys(publish_option(word)))
    return tuple(ports)


def publish_option(word: str) -> list[Port]:
    """One --publish value.  host_port 0: a free one is to be chosen."""
    body, slash, protocol = word.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in PROTOCOLS:
        raise refused("--publish", word, f"protocol {protocol!r} must be tcp, udp or sctp")
    head, _, container_part = body.rpartition(":")
    address, host_part = "", ""
    if head.startswith("["):
        address, bracket, rest = head[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or not is_ipv6(address):
            raise refused("--publish", word, "an IPv6 address must stand in brackets: [::1]:8080:80")
        host_part = rest[1:]
    elif ":" in head:
        address, _, host_part = head.rpartition(":")
        if ":" in address:
            raise refused("--publish", word, "must be [[IP:]HOST:]CONTAINER[/PROTOCOL], an IPv6 address in brackets")
        if not is_ipv4(address):
            raise refused(
                "--publish", word, f"{address!r} is no IP address", hint="names are not looked up: give the address"
            )
    else:
        host_part = head
    inside = _range("--publish", word, container_part)
    outside = _range("--publish", word, host_part) if host_part else None
    if outside and len(outside) != len(inside):
        raise refused(
            "--publish", word, f"{len(outside)} ports of the host cannot stand for {len(inside)} of the container"
        )
    return [
        Port(container_port=port, host_port=outside[i] if outside else 0, protocol=protocol, host_ip=address)
        for i, port in enumerate(inside)
    ]


def _range(option: str, word: str, text: str) -> range:
    first, dash, last = text.partition("-")
    last = last if dash else first
    if not is_number(first) or not is_number(last) or not 1 <= int(first) <= 65535 or not 1 <= int(last) <= 65535:
        raise refused(option, word, f"{text!r} is no port from 1 to 65535, nor a range of them")
    if int(last) < int(first):
        raise refused(option, word, f"the range {text} ends before it begins")
    return range(int(first), int(last) + 1)


def exposed_ports(words: tuple[str, ...], image: ImageChoice) -> tuple[str, ...]:
    """The image's EXPOSE and --expose as "80/tcp", ranges expanded, each once, by number."""
    found: set[tuple[int, str]] = set()
    config = image.config
    for option, given in (("--expose", words), ("the image's port", config.exposed_ports if config else ())):
        for word in given:
            numbers, slash, protocol = word.partition("/")
            protocol = protocol.lower() if slash else "tcp"
            if protocol not in PROTOCOLS:
                raise refused(option, word, f"protocol {protocol!r} must be tcp, udp or sctp")
            found.update((n, protocol) for n in _range(option, word, numbers))
    return tuple(f"{number}/{protocol}" for number, protocol in sorted(found))


def _split_exposed(word: str) -> tuple[int, str]:
    number, _, protocol = word.partition("/")
    return int(number), protocol


# --- names -----------------------------------------------------------------------------------------


def _dns(options: Options, facts: RequestFacts, mode: str) -> tuple[tuple[str, ...], bool]:
    """(name servers, leave the image's resolv.conf)."""
    given = tuple(s for s in options.get("dns") or () if s)
    if given and mode in ("none", "container"):
        raise refused("--dns", ",".join(given), f"cannot be combined with --network={mode}")
    if "none" in given:
        if len(given) > 1:
            raise refused("--dns", ",".join(given), "none cannot be combined with addresses")
        return (), True
    for server in given:
        if not is_ipv4(server) and not is_ipv6(server):
            raise refused("--dns", server, "must be an IP address, or none to leave the image's resolv.conf")
    return given or (() if mode in ("none", "container") else facts.defaults.dns_servers), False


def _words(options: Options, field: str, default: tuple[str, ...]) -> tuple[str, ...]:
    option = "--" + field.replace("_", "-")
    given = tuple(w for w in options.get(field) or () if w)
    for word in given:
        if any(c.isspace() or not c.isprintable() for c in word):
            raise refused(option, word, "must be one word")
    if "." in given and len(given) > 1 and field == "dns_search":
        raise refused(option, ",".join(given), "a lone . (no search domains) cannot be combined with others")
    return given or default


def _add_hosts(options: Options, mode: str, no_hosts: bool) -> tuple[str, ...]:
    given: tuple[str, ...] = tuple(options.get("add_host") or ())
    if not given:
        return ()
    from network.hosts import parse_add_host  # its grammar is that module's

    for word in given:
        parse_add_host(word)
    if no_hosts:
        raise refused("--add-host", given[0], "cannot be combined with --no-hosts")
    if mode == "container":
        raise refused(
            "--add-host", given[0], "cannot be combined with --network=container", hint="give it to that container"
        )
    return given


def _hosts_file(options: Options, facts: RequestFacts) -> str:
    given: str = options.get("hosts_file") or facts.defaults.base_hosts_file
    if given in ("", "image", "none"):
        return given
    path = absolute(given, facts.cwd)
    if not os.path.isfile(path):
        raise refused("--hosts-file", given, "no such file", hint="or: image, none")
    return path
