"""Subnets and addresses: pure arithmetic on integers.

Weight: `_socket`, `rootless.errors`, `rootless.netplan`.  On the path of `run` where a network is user-defined.
(`ipaddress` would import `re` and `functools`.)
"""

from __future__ import annotations

import _socket

from network.address import is_ipv4, is_ipv6
from rootless.errors import Error, UsageError
from rootless.netplan import NetworkConfig, Subnet
from rootless.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

# Where subnets are looked for when none is given: Podman's default_subnet_pools, widest last.
_POOLS = (
    ("10.89.0.0", "10.89.255.255", 24),
    ("10.90.0.0", "10.255.255.255", 24),
    ("192.168.0.0", "192.168.255.255", 24),
)


class Range(Value):
    """A network as integers.  bits: 32 or 128."""

    first: int
    prefix: int
    bits: int

    @property
    def last(self) -> int:
        """The highest address (IPv4: the broadcast address)."""
        return self.first + (1 << (self.bits - self.prefix)) - 1

    def overlaps(self, other: Range) -> bool:
        """Whether any address is in both."""
        return self.bits == other.bits and self.first <= other.last and other.first <= self.last

    def holds(self, address: str) -> bool:
        """Whether the address is in it."""
        number, bits = parse_address(address)
        return bits == self.bits and self.first <= number <= self.last

    def text(self, number: int | None = None) -> str:
        """An address of it (the network itself without a number: with the prefix)."""
        if number is None:
            return f"{address_text(self.first, self.bits)}/{self.prefix}"
        return address_text(number, self.bits)


def parse_address(text: str) -> tuple[int, int]:
    """(number, 32 or 128).  Raises ValueError."""
    if is_ipv4(text):
        return int.from_bytes(_socket.inet_pton(_socket.AF_INET, text), "big"), 32
    if is_ipv6(text):
        return int.from_bytes(_socket.inet_pton(_socket.AF_INET6, text), "big"), 128
    raise ValueError(f"{text!r} is not an IP address")


def address_text(number: int, bits: int) -> str:
    """As inet_ntop(3) writes it."""
    family = _socket.AF_INET if bits == 32 else _socket.AF_INET6
    return _socket.inet_ntop(family, number.to_bytes(bits // 8, "big"))


def normal(address: str) -> str:
    """The one form of an address, so that two spellings are the same.  Raises ValueError."""
    return address_text(*parse_address(address))


def parse_range(text: str) -> Range:
    """A cidr; bits behind the prefix are dropped.  Raises ValueError."""
    address, slash, length = text.partition("/")
    number, bits = parse_address(address)
    if not slash or not (length.isascii() and length.isdigit() and len(length) < 4 and int(length) <= bits):
        raise ValueError(f"{text!r} is not a network: it must be ADDRESS/LENGTH")
    prefix = int(length)
    shift = bits - prefix
    return Range(first=number >> shift << shift, prefix=prefix, bits=bits)


def free_subnet(taken: Collection[Range]) -> Range:
    """The first IPv4 network of the pools that overlaps none of `taken`.  Raises Error where all are taken."""
    for low, high, prefix in _POOLS:
        end = parse_address(high)[0]
        candidate = Range(first=parse_address(low)[0], prefix=prefix, bits=32)
        while candidate.last <= end:
            clash = next((t for t in taken if t.overlaps(candidate)), None)
            if clash is None:
                return candidate
            step = 1 << (32 - prefix)
            candidate = candidate.replace(first=max(candidate.last + 1, (clash.last // step + 1) * step))
    raise Error("every subnet that could be chosen is in use", hint="give one with --subnet")


def random_ipv6_subnet(random: bytes) -> Range:
    """A unique local /64 (RFC 4193) from seven random bytes."""
    return Range(first=int.from_bytes(b"\xfd" + random[:7] + bytes(8), "big"), prefix=64, bits=128)


def gateway_of(subnet: Range) -> str:
    """The first address, which the bridge has where no other is asked for."""
    return subnet.text(subnet.first + 1 if subnet.bits - subnet.prefix > 1 else subnet.first)


def lease_bounds(word: str, subnet: Range) -> tuple[str, str]:
    """--ip-range, a cidr or FIRST-LAST: first and last address to hand out.  Raises UsageError."""
    first_text, dash, last_text = word.partition("-")
    try:
        if dash:
            first, last = parse_address(first_text), parse_address(last_text)
            low, high = first[0], last[0]
            same = first[1] == last[1] == subnet.bits
        else:
            part = parse_range(word)
            low, high, same = part.first, part.last, part.bits == subnet.bits
            low += part.prefix < part.bits  # as Podman's: without the range's own first address
            same = same and part.first >= subnet.first and part.last <= subnet.last
    except ValueError as error:
        raise UsageError(f"--ip-range {word}: {error}", hint="as 10.89.0.128/25 or 10.89.0.10-10.89.0.20") from error
    if not same or low < subnet.first or high > subnet.last:
        raise UsageError(f"--ip-range {word}: not in the subnet {subnet.text()}")
    if high < low:
        raise UsageError(f"--ip-range {word}: ends before it begins")
    return subnet.text(low), subnet.text(high)


def usable(subnet: Subnet) -> tuple[int, int, int]:
    """(lowest, highest address to hand out, bits) of a stored subnet."""
    whole = parse_range(subnet.subnet)
    # IPv4's first and last address are the network's and the broadcast's; IPv6's first is the routers' anycast.
    low = whole.first + (whole.bits - whole.prefix > 1)
    high = whole.last - (whole.bits == 32 and whole.prefix < 31)
    if subnet.first:
        low = max(low, parse_address(subnet.first)[0])
    if subnet.last:
        high = min(high, parse_address(subnet.last)[0])
    return low, high, whole.bits


def next_address(subnet: Subnet, taken: Collection[int], after: int = 0) -> int | None:
    """An address nobody has: the first above `after`, then from the beginning.  None where all are taken."""
    low, high, _bits = usable(subnet)
    gateway = parse_address(subnet.gateway)[0] if subnet.gateway else -1
    start = after + 1 if low <= after < high else low
    for number in _chain(range(start, high + 1), range(low, start)):
        if number not in taken and number != gateway:
            return number
    return None


def _chain(*ranges: range) -> Iterable[int]:
    for part in ranges:
        yield from part


def subnet_with(network: NetworkConfig, address: str) -> Subnet | None:
    """The subnet of a network that an address is in."""
    return next((s for s in network.subnets if parse_range(s.subnet).holds(address)), None)


def check_static(network: NetworkConfig, address: str, option: str) -> str:
    """A fixed address in its one form.  Raises Error where the network cannot give it."""
    try:
        number, _bits = parse_address(address)
    except ValueError as error:
        raise UsageError(f"{option} {address}: {error}") from error
    subnet = subnet_with(network, address)
    if subnet is None:
        held = ", ".join(s.subnet for s in network.subnets) or "no subnet"
        raise Error(f"{option} {address}: not in network {network.name}", hint=f"it has {held}")
    shown = normal(address)
    if shown == subnet.gateway:
        raise Error(f"{option} {shown}: that is the gateway of network {network.name}")
    whole = parse_range(subnet.subnet)
    if whole.prefix < whole.bits - 1 and (number == whole.first or (whole.bits == 32 and number == whole.last)):
        raise Error(f"{option} {shown}: no container can have the first or last address of {subnet.subnet}")
    return shown


def mac_address(container_id: str, network_id: str) -> str:
    """A locally administered address that is the same at every start."""
    number = int(container_id[:10], 16) ^ int(network_id[:10], 16)
    return "02:" + ":".join(f"{b:02x}" for b in number.to_bytes(5, "big"))
