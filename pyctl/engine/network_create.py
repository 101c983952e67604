"""`network create`: from options to a stored network.

Weight: `network.ipam`, `storage.networks`.  Not on the path of `run`.
"""

from __future__ import annotations

import os

from network import facts, ipam
from network.address import is_interface_name, is_ipv4, is_ipv6
from network.ipam import Range
from network.slirp import UPLINK_CIDR
from rootless.errors import Error, UsageError
from rootless.netplan import NetworkConfig, Route, Subnet
from storage.networks import NetworkStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyctl.cli.parser import Options
    from storage.database import Database

_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_REST = _FIRST | frozenset("_.-")
# Words that `--network` understands as something else (podman-run(1), --network).
RESERVED = ("bridge", "none", "host", "private", "container", "ns", "slirp4netns", "pasta", "default")
_NO_ROOT = "it needs an interface of the host, which a user without root cannot use"
_DOCKER = {"com.docker.network.driver.mtu": "mtu", "com.docker.network.bridge.name": "name"}
_RESERVED_SUBNETS = (
    *("127.0.0.0/8", "224.0.0.0/4", "0.0.0.0/8", "fe80::/10", "ff00::/8", "::/8"),
    *(UPLINK_CIDR, "fd00::/64"),  # of slirp4netns in the namespace of the bridges
)
_KNOWN = ("mtu", "isolate", "vlan", "metric", "no_default_route")
_UNAVAILABLE = {
    "mode": "every bridge is made here, in a namespace of the user's own",
    "vrf": "no VRF device is in the namespace of the bridges",
}
_TRUTHS = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}
_MIN_MTU, _MAX_MTU = 68, 65535
_MAX_NAME = 255


def asked(name: str, options: Options) -> NetworkConfig:
    """What the options say, checked; what depends on other networks is still open.  Raises UsageError, Error."""
    check_name(name) if name else None
    if options.driver in ("macvlan", "ipvlan"):
        raise Error(f"--driver {options.driver} is not available: {_NO_ROOT}", hint="the driver here is bridge")
    if options.driver != "bridge":
        raise UsageError(f"there is no network driver {options.driver}", hint="the driver here is bridge")
    if options.ipam_driver not in ("", "host-local", "none"):
        why = "no DHCP client runs in this namespace" if options.ipam_driver == "dhcp" else "there is no such driver"
        raise UsageError(f"--ipam-driver {options.ipam_driver}: {why}", hint="use host-local or none")
    driver_options, interface = _driver_options(options.opt)
    interface = options.interface_name or interface
    if interface in ("lo", "tap0") or interface.startswith("veth"):
        raise UsageError(f"--interface-name {interface}: reserved for the namespace of the bridges itself")
    if interface and not is_interface_name(interface):
        raise UsageError(
            f"--interface-name {interface}: no name for an interface", hint="1 to 15 characters, no spaces or slashes"
        )
    return NetworkConfig(
        id="",
        name=name,
        interface=interface,
        subnets=tuple(_given_subnets(options)),
        routes=tuple(_route(word) for word in options.route),
        internal=bool(options.internal),
        dns_enabled=not options.disable_dns and options.ipam_driver != "none",
        dns_servers=_dns_servers(options),
        labels=_pairs(options.label),
        options=driver_options,
        ipam_driver=options.ipam_driver or "host-local",
    )


def create(db: Database, name: str, options: Options) -> NetworkConfig:
    """Check all options, choose what was left open, and store the network.  Raises UsageError, Error."""
    network = asked(name, options)
    store = NetworkStore(db)
    with db.transaction():
        if name and options.ignore:
            found = store.find(name)
            if found is not None and found.name == name:
                return found
        networks = store.every()
        taken = [ipam.parse_range(s.subnet) for other in networks for s in other.subnets]
        names = {other.name for other in networks}
        interfaces = {other.interface for other in networks}
        if network.interface in interfaces:
            raise Error(f"--interface-name {network.interface}: another network has this bridge")
        interface = network.interface or _free_interface(names | interfaces if not name else interfaces)
        subnets = () if options.ipam_driver == "none" else _subnets(options, list(network.subnets), taken)
        network = network.replace(
            id=os.urandom(32).hex(),
            name=name or interface,
            interface=interface,
            subnets=subnets,
            ipv6=bool(options.ipv6) or any(":" in s.subnet for s in subnets),
        )
        store.add(network)
    db.tell("network", "create", id=network.id, network=network.name, driver=network.driver)
    return store.get(network.id)


def check_name(name: str) -> None:
    """Raises UsageError."""
    if name in RESERVED:
        raise UsageError(f"a network cannot be called {name}: --network={name} means something else")
    if not (name[:1] in _FIRST and _REST.issuperset(name) and len(name) <= _MAX_NAME):
        raise UsageError(
            f"{name!r} is no name for a network", hint="a letter or digit, then letters, digits, _ . and -"
        )


def _pairs(words: Sequence[str]) -> dict[str, str]:
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def _free_interface(taken: set[str]) -> str:
    number = 1
    while f"podman{number}" in taken:
        number += 1
    return f"podman{number}"


# --- --opt -------------------------------------------------------------------------------------


def _driver_options(words: Sequence[str]) -> tuple[dict[str, str], str]:
    """(options under their short names, the bridge's name where Docker's option gives one)."""
    found: dict[str, str] = {}
    interface = ""
    for word in words:
        given, equals, value = word.partition("=")
        key = _DOCKER.get(given, given)
        if not equals:
            raise UsageError(f"--opt {word}: must be NAME=VALUE")
        if key == "name":
            interface = value
            continue
        if key == "mode" and value == "managed":
            continue  # what it is anyway
        if key in _UNAVAILABLE:
            raise Error(f"--opt {word} is not available: {_UNAVAILABLE[key]}")
        if key not in _KNOWN:
            raise UsageError(
                f"--opt {given}: the bridge driver has no such option", hint=f"known: {', '.join((*_KNOWN, *_DOCKER))}"
            )
        found[key] = _checked(word, key, value)
    return found, interface


def _checked(word: str, key: str, value: str) -> str:
    if key == "isolate" and value == "strict":
        return value
    if key in ("isolate", "no_default_route"):
        if value.lower() not in _TRUTHS:
            raise UsageError(f"--opt {word}: must be true or false{' or strict' if key == 'isolate' else ''}")
        return str(_TRUTHS[value.lower()]).lower()
    low, high = {"mtu": (_MIN_MTU, _MAX_MTU), "vlan": (1, 4094), "metric": (1, 2**32 - 1)}[key]
    if not (value.isascii() and value.isdigit() and len(value) < 11 and low <= int(value) <= high):
        raise UsageError(f"--opt {word}: must be a number from {low} to {high}")
    return value


# --- subnets -----------------------------------------------------------------------------------


def _given_subnets(options: Options) -> list[Subnet]:
    """--subnet, each with the --gateway and --ip-range that belong to it (by their order, as Podman's)."""
    if not options.subnet:
        for option, given in (("--gateway", options.gateway), ("--ip-range", options.ip_range)):
            if given:
                raise UsageError(f"{option} {given[0]}: needs a --subnet")
        return []
    for option, given in (("--gateway", options.gateway), ("--ip-range", options.ip_range)):
        if len(given) > len(options.subnet):
            raise UsageError(f"{option} {given[-1]}: there are more of it than of --subnet")
    if options.ipam_driver == "none":
        raise UsageError("--subnet: --ipam-driver=none gives out no addresses")
    found: list[Subnet] = []
    for index, word in enumerate(options.subnet):
        try:
            subnet = ipam.parse_range(word)
        except ValueError as error:
            raise UsageError(f"--subnet {word}: {error}", hint="as 10.89.0.0/24 or fd00:1::/64") from error
        _check_subnet(word, subnet, [ipam.parse_range(s.subnet) for s in found])
        gateway = options.gateway[index] if index < len(options.gateway) else ""
        bounds = ("", "")
        if index < len(options.ip_range):
            bounds = ipam.lease_bounds(options.ip_range[index], subnet)
        found.append(
            Subnet(
                subnet=subnet.text(),
                gateway=_gateway(gateway, subnet) if gateway else ipam.gateway_of(subnet),
                first=bounds[0],
                last=bounds[1],
            )
        )
    return found


def _check_subnet(word: str, subnet: Range, others: list[Range]) -> None:
    if subnet.prefix > subnet.bits - 2:
        raise UsageError(f"--subnet {word}: too small: it has no room for a gateway and a container")
    if subnet.prefix < 8:
        raise UsageError(f"--subnet {word}: larger than a /8")
    for reserved in _RESERVED_SUBNETS:
        if subnet.overlaps(ipam.parse_range(reserved)):
            raise UsageError(f"--subnet {word}: {reserved} is reserved")
    clash = next((o for o in others if o.overlaps(subnet)), None)
    if clash is not None:
        raise UsageError(f"--subnet {word}: overlaps with {clash.text()}")


def _gateway(word: str, subnet: Range) -> str:
    try:
        inside = subnet.holds(word)
    except ValueError as error:
        raise UsageError(f"--gateway {word}: {error}") from error
    if not inside:
        raise UsageError(f"--gateway {word}: not in the subnet {subnet.text()}")
    number, _bits = ipam.parse_address(word)
    if number == subnet.first or (subnet.bits == 32 and number == subnet.last):
        raise UsageError(f"--gateway {word}: the first and last address of {subnet.text()} are reserved")
    return ipam.normal(word)


def _subnets(options: Options, given: list[Subnet], taken: list[Range]) -> tuple[Subnet, ...]:
    """Those asked for, and what is chosen: none may overlap with another network's, nor (chosen) with the host's."""
    for subnet in given:
        asked = ipam.parse_range(subnet.subnet)
        clash = next((t for t in taken if t.overlaps(asked)), None)
        if clash is not None:
            raise Error(f"--subnet {asked.text()}: overlaps with {clash.text()} of another network")
        clash = next((h for h in facts.host_ranges() if h.overlaps(asked)), None)
        if clash is not None:
            raise Error(
                f"--subnet {asked.text()}: overlaps with {clash.text()}, which this host has a route to",
                hint="containers could not reach that part of the host's network: choose another subnet",
            )
    found = list(given)
    if not found:
        found.append(_chosen(ipam.free_subnet([*taken, *facts.host_ranges(), ipam.parse_range(UPLINK_CIDR)])))
    if options.ipv6 and not any(":" in s.subnet for s in found):
        random = ipam.random_ipv6_subnet(os.urandom(7))
        while any(t.overlaps(random) for t in taken):
            random = ipam.random_ipv6_subnet(os.urandom(7))
        found.append(_chosen(random))
    return tuple(found)


def _chosen(subnet: Range) -> Subnet:
    return Subnet(subnet=subnet.text(), gateway=ipam.gateway_of(subnet))


# --- names and routes --------------------------------------------------------------------------


def _dns_servers(options: Options) -> tuple[str, ...]:
    if options.dns and options.disable_dns:
        raise UsageError("--dns and --disable-dns exclude each other")
    return checked_servers("--dns", options.dns)


def checked_servers(option: str, words: Sequence[str]) -> tuple[str, ...]:
    """Addresses of name servers.  Raises UsageError."""
    for word in words:
        if not is_ipv4(word) and not is_ipv6(word):
            raise UsageError(f"{option} {word}: not an IP address")
    return tuple(dict.fromkeys(words))


def _route(word: str) -> Route:
    parts = word.split(",")
    hint = "DESTINATION/LENGTH,GATEWAY[,METRIC], as 10.5.0.0/24,10.89.0.9"
    if len(parts) not in (2, 3):
        raise UsageError(f"--route {word}: must be {hint}")
    try:
        destination = ipam.parse_range(parts[0])
        _number, bits = ipam.parse_address(parts[1])
    except ValueError as error:
        raise UsageError(f"--route {word}: {error}", hint=hint) from error
    if bits != destination.bits:
        raise UsageError(f"--route {word}: mixes IPv4 and IPv6")
    metric = parts[2] if len(parts) == 3 else "0"
    if not (metric.isascii() and metric.isdigit() and len(metric) < 11 and int(metric) < 2**32):
        raise UsageError(f"--route {word}: the metric must be a number", hint=hint)
    return Route(destination=destination.text(), gateway=ipam.normal(parts[1]), metric=int(metric))
