"""`--network NAME[:ip=…,mac=…]` and what `network connect` takes: a container's part in a user-defined network.

Weight: `network.ipam`.
"""

from __future__ import annotations

from network import ipam
from network.address import is_interface_name, is_ipv4, is_ipv6
from pyctl.engine.model import NetworkUse
from pyctl.engine.request_facts import refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.engine.model import Network
    from pyctl.engine.request_facts import Lookups, Options

_KEYS = "ip, ip6, mac, alias, interface_name"


def network_use(word: str, name: str, rest: str, lookups: Lookups) -> NetworkUse:
    """One `--network` value; `bridge` is the default network.  Raises NotFound, UsageError, Error."""
    network = lookups.network(name)
    ip = ip6 = mac = interface = ""
    aliases: list[str] = []
    for part in rest.split(",") if rest else ():
        key, equals, value = part.partition("=")
        if not equals or not value:
            raise refused("--network", word, f"{part!r} must be NAME=VALUE", hint=f"options: {_KEYS}")
        if key in ("ip", "ip6"):
            address = fixed_address(f"--network {word}: {key}", value)
            ip, ip6 = (ip, address) if ":" in address else (address, ip6)
        elif key == "mac":
            mac = fixed_mac("--network", value)
        elif key == "alias":
            aliases.append(alias("--network", value))
        elif key in ("interface_name", "interface-name"):
            interface = interface_name("--network", value)
        else:
            raise refused("--network", word, f"unknown option {key!r}", hint=f"options: {_KEYS}")
    for option, address in (("ip", ip), ("ip6", ip6)):
        if address:
            ipam.check_static(network, address, f"--network {name}: {option}")
    return NetworkUse(
        network_id=network.id, name=network.name, interface=interface, ip=ip, ip6=ip6, mac=mac, aliases=tuple(aliases)
    )


def with_static(network: Network, options: Options) -> Network:
    """--ip, --ip6, --mac-address (of a single network), --network-alias (of each)."""
    uses = network.endpoints
    for option in ("ip", "ip6", "mac_address"):
        if options.get(option) and len(uses) > 1:
            shown = option.replace("_", "-")
            hint = f"give it to one: --network NAME:{option.partition('_')[0]}=VALUE"
            raise refused(f"--{shown}", options.get(option), "there is more than one network", hint=hint)
    changes: dict[str, str] = {}
    if options.get("ip"):
        changes["ip"] = fixed_address("--ip", options.get("ip"), version=4)
    if options.get("ip6"):
        changes["ip6"] = fixed_address("--ip6", options.get("ip6"), version=6)
    if options.get("mac_address"):
        changes["mac"] = fixed_mac("--mac-address", options.get("mac_address"))
    aliases = tuple(alias("--network-alias", word) for word in options.get("network_alias") or ())
    return network.replace(endpoints=tuple(use.replace(**changes, aliases=(*use.aliases, *aliases)) for use in uses))


def fixed_address(option: str, text: str, version: int = 0) -> str:
    """An address in its one form.  version: 4 or 6 where only that will do."""
    if (is_ipv4(text) and version != 6) or (is_ipv6(text) and version != 4):
        return ipam.normal(text)
    raise refused(option, text, f"not an IPv{version} address" if version else "not an IP address")


def fixed_mac(option: str, text: str) -> str:
    """Six bytes in hexadecimal.  The kernel takes no group address (ethernet: the first byte's lowest bit)."""
    parts = text.lower().replace("-", ":").split(":")
    digits = frozenset("0123456789abcdef")
    if len(parts) != 6 or any(len(p) != 2 or not digits.issuperset(p) for p in parts):
        raise refused(option, text, "not a MAC address", hint="as 02:42:ac:11:00:02")
    if int(parts[0], 16) & 1 or not any(int(p, 16) for p in parts):
        raise refused(option, text, "an interface cannot have this address", hint="the first byte must be even")
    return ":".join(parts)


def alias(option: str, text: str) -> str:
    """A further name in the networks' DNS."""
    labels = text.rstrip(".").split(".")
    good = all(0 < len(p) < 64 and all(c.isascii() and (c.isalnum() or c in "-_") for c in p) for p in labels)
    if not good or len(text) > 253:
        raise refused(option, text, "no host name", hint="letters, digits, -, _ and dots")
    return text


def interface_name(option: str, text: str) -> str:
    """A name that the kernel takes."""
    if not is_interface_name(text) or text in ("lo", ".", ".."):
        raise refused(option, text, "no name for an interface", hint="1 to 15 characters, no spaces, colons or slashes")
    return text
