"""slirp4netns's options and arguments: pure.

Weight: `rootless.values`, `rootless.errors`, `network.address`.  On the path of `run`.
The API socket's protocol is in `rootless.slirp_api`, because the supervisor speaks it.
"""

from __future__ import annotations

from network.address import dotted, is_interface_name, is_ipv4, is_ipv6, number
from rootless.errors import Error, UsageError
from rootless.values import Value

OLDEST_SLIRP = (0, 4, 0)  # --enable-sandbox, --enable-seccomp, --netns-type; ready-fd after the API socket
OUTBOUND_SLIRP = (1, 1, 0)  # --outbound-addr, --outbound-addr6

# slirp4netns(1): MTU up to 65521; 65520 is a multiple of 8 and twice as fast as 1500.  The kernel's tap takes 68 up.
DEFAULT_MTU = 65520
MIN_MTU, MAX_MTU = 68, 65521
DEFAULT_CIDR = "10.0.2.0/24"
# In the namespace of the bridges: link-local, so that no subnet that a user chooses is in the way.
UPLINK_CIDR = "169.254.201.0/24"

_SLIRP_OPTIONS = (
    "allow_host_loopback",
    "cidr",
    "enable_ipv6",
    "mtu",
    "outbound_addr",
    "outbound_addr6",
    "port_handler",
)

# Podman's names.  Its rootlesskit forwards in a process of its own, as `rootless.forwarder` does here.
_PORT_HANDLERS = {"rootlesskit": "forwarder", "slirp4netns": "slirp4netns"}


class NetworkFacts(Value):
    """What of the host a plan depends on; `network.facts.gather` reads it."""

    slirp4netns: str = ""  # path of the program, "" where it is not installed
    slirp_version: tuple[int, ...] = ()  # (1, 2, 0)
    pasta: str = ""  # path of the program; looked for only where it is asked for
    pasta_maps_host: bool = False  # it has --map-guest-addr
    ipv6: bool = True  # the kernel has IPv6
    resolv_in_sandbox: bool = True  # /etc/resolv.conf stays readable when only /etc and /run are there
    interfaces: tuple[str, ...] = ()  # names of the host's network interfaces
    bind_address: str = "0.0.0.0"  # where ports are published that name no address


class SlirpOptions(Value):
    """`--network slirp4netns:…`, checked.  Names and defaults are Podman's (podman-run(1), --network)."""

    allow_host_loopback: bool = False
    cidr: str = DEFAULT_CIDR
    enable_ipv6: bool = True
    ipv6_asked: bool = False  # enable_ipv6=true was given: no IPv6 in the kernel is then an error
    mtu: int = DEFAULT_MTU
    outbound_addr: str = ""
    outbound_addr6: str = ""
    port_handler: str = "forwarder"  # as in NetworkPlan


class SlirpAddresses(Value):
    """Where things are behind slirp4netns: fixed offsets in its network (slirp4netns(1))."""

    gateway: str = "10.0.2.2"  # the host
    gateway6: str = "fd00::2"  # the host, where IPv6 is enabled
    forwarder: str = "10.0.2.3"
    container: str = "10.0.2.100"
    prefix_length: int = 24


def slirp_options(options: tuple[str, ...]) -> SlirpOptions:
    """Parse `name=value` words; the last of a name holds.  Raises UsageError naming the bad one."""
    given: dict[str, str] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or name not in _SLIRP_OPTIONS:
            raise UsageError(
                f"--network=slirp4netns: unknown option {option!r}", hint="known: " + ", ".join(_SLIRP_OPTIONS)
            )
        given[name] = value
    if "cidr" in given:
        slirp_addresses(given["cidr"])
    handler = given.get("port_handler", "rootlesskit")
    if handler not in _PORT_HANDLERS:
        raise UsageError(f"--network=slirp4netns: port_handler={handler}: must be rootlesskit or slirp4netns")
    ipv6 = _flag(given, "enable_ipv6", True)
    if "outbound_addr6" in given and not ipv6:
        raise UsageError("--network=slirp4netns: outbound_addr6 needs enable_ipv6=true")
    for name, wanted, other in (("outbound_addr", is_ipv4, is_ipv6), ("outbound_addr6", is_ipv6, is_ipv4)):
        outbound = given.get(name)
        if outbound is not None and not wanted(outbound) and (other(outbound) or not is_interface_name(outbound)):
            raise UsageError(f"--network=slirp4netns: {name}={outbound}: not an address or interface")
    return SlirpOptions(
        allow_host_loopback=_flag(given, "allow_host_loopback", False),
        cidr=given.get("cidr", DEFAULT_CIDR),
        enable_ipv6=ipv6,
        ipv6_asked="enable_ipv6" in given and ipv6,
        mtu=_mtu(given["mtu"]) if "mtu" in given else DEFAULT_MTU,
        outbound_addr=given.get("outbound_addr", ""),
        outbound_addr6=given.get("outbound_addr6", ""),
        port_handler=_PORT_HANDLERS[handler],
    )


def _flag(given: dict[str, str], name: str, default: bool) -> bool:
    value = given.get(name)
    if value is None:
        return default
    if value not in ("true", "false"):
        raise UsageError(f"--network=slirp4netns: {name}={value}: must be true or false")
    return value == "true"


def _mtu(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6 and MIN_MTU <= int(text) <= MAX_MTU):
        raise UsageError(f"--network=slirp4netns: mtu={text}: must be a number from {MIN_MTU} to {MAX_MTU}")
    return int(text)


def slirp_addresses(cidr: str = DEFAULT_CIDR) -> SlirpAddresses:
    """The addresses in the network `cidr`.  Raises UsageError unless it is an IPv4 network of /1 to /25."""
    base, slash, length = cidr.partition("/")
    valid = slash and length.isascii() and length.isdigit() and len(length) < 3 and is_ipv4(base)
    if not valid or not 1 <= int(length) <= 25:
        raise UsageError(
            f"--network=slirp4netns: cidr={cidr}: not an IPv4 network of /1 to /25, such as {DEFAULT_CIDR}"
        )
    given = number(base)
    network = given >> (32 - int(length)) << (32 - int(length))
    if network != given:
        raise UsageError(
            f"--network=slirp4netns: cidr={cidr}: not a network address", hint=f"use {dotted(network)}/{length}"
        )
    return SlirpAddresses(
        gateway=dotted(network + 2),
        forwarder=dotted(network + 3),
        container=dotted(network + 100),
        prefix_length=int(length),
    )


def slirp_argv(options: SlirpOptions, facts: NetworkFacts) -> tuple[str, ...]:
    """slirp4netns's arguments, without the descriptors, API socket, target and interface name (`NetworkPlan`)."""
    if not facts.slirp4netns:
        raise Error(
            "slirp4netns is not installed",
            hint="install the package slirp4netns, or use --network=none or --network=host",
        )
    if facts.slirp_version < OLDEST_SLIRP:
        raise Error(
            f"{facts.slirp4netns} is version {_version(facts.slirp_version)}: too old",
            hint=f"install slirp4netns {_version(OLDEST_SLIRP)} or later",
        )
    argv = ["--configure", f"--mtu={options.mtu}"]
    if options.cidr != DEFAULT_CIDR:
        argv.append(f"--cidr={options.cidr}")
    if not options.allow_host_loopback:
        argv.append("--disable-host-loopback")
    if facts.resolv_in_sandbox:
        # The sandbox keeps /etc and /run only: with a resolv.conf elsewhere (WSL) the forwarder would be blind.
        argv.append("--enable-sandbox")
    argv.append("--enable-seccomp")
    if options.enable_ipv6:
        if facts.ipv6:
            argv.append("--enable-ipv6")
        elif options.ipv6_asked or options.outbound_addr6:
            raise Error("--network=slirp4netns: enable_ipv6=true: the kernel has no IPv6")
    for name, address in (("outbound_addr", options.outbound_addr), ("outbound_addr6", options.outbound_addr6)):
        if not address:
            continue
        if facts.slirp_version < OUTBOUND_SLIRP:
            raise Error(
                f"--network=slirp4netns: {name} needs slirp4netns {_version(OUTBOUND_SLIRP)} or later",
                hint=f"{facts.slirp4netns} is {_version(facts.slirp_version)}",
            )
        if not (is_ipv4(address) or is_ipv6(address) or address in facts.interfaces):
            raise Error(f"--network=slirp4netns: {name}={address}: not an address or interface of this host")
        argv.append(f"--{name.replace('_', '-')}={address}")
    return tuple(argv)


def _version(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version)) or "unknown"
