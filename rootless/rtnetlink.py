"""netlink(7) sockets, and a few requests of rtnetlink(7): policy rules, local routes, addresses, default gateways.

Weight: `_socket`, `_struct` (C).  Everything happens in the network namespace that the socket was made in.
"""

from __future__ import annotations

import _socket
import _struct
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAIN_TABLE = 254
LOOPBACK_INDEX = 1  # of `lo`, in every network namespace

# linux/netlink.h
REQUEST, ACK, DUMP, CREATE, EXCL = 0x1, 0x4, 0x300, 0x400, 0x200
ERROR, DONE = 2, 3
# linux/rtnetlink.h
NEWROUTE, _DELROUTE, _GETADDR, _GETROUTE, _NEWRULE, _GETRULE = 24, 25, 22, 26, 32, 34
RTA_DST, RTA_OIF, RTA_GATEWAY, _RTA_PREFSRC, _RTA_METRICS, _RTA_TABLE = 1, 4, 5, 7, 8, 15
_RTAX_CC_ALGO = 16
_RTN_LOCAL, _SCOPE_HOST, PROTO_STATIC = 2, 254, 4
# linux/fib_rules.h
_TO_TABLE = 1
_FRA_PRIORITY, _FRA_FWMARK, _FRA_TABLE, _FRA_IP_PROTO, _FRA_SPORT_RANGE = 6, 10, 15, 22, 23
# linux/if_addr.h
IFA_ADDRESS, IFA_LOCAL = 1, 2
_UNUSABLE = 0x08 | 0x20 | 0x40  # duplicate, deprecated, tentative
_GROUPS = 0x10 | 0x100  # RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR

_HEADER = _struct.Struct("=IHHII")
_ATTRIBUTE = _struct.Struct("=HH")
_ANSWER_BYTES = 1 << 16


class Address:
    """One address of an interface."""

    __slots__ = ("family", "index", "is_global", "text")

    def __init__(self, family: int, index: int, is_global: bool, text: str) -> None:
        self.family = family
        self.index = index
        self.is_global = is_global
        self.text = text


class NetlinkSocket:
    """One socket.  Every request raises OSError with the kernel's reason."""

    def __init__(self, protocol: int) -> None:
        self._socket = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, protocol)
        self._sequence = 0

    def close(self) -> None:
        """Close the descriptor."""
        self._socket.close()

    def request(self, kind: int, flags: int, body: bytes) -> None:
        """One message; returns when the kernel has done what it says."""
        self._send(kind, flags | ACK, body)
        while True:
            for answer, content in self._answers():
                if answer == ERROR:
                    check(content)
                    return

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """What the kernel has of one kind."""
        self._send(kind, DUMP, body)
        found: list[bytes] = []
        while True:
            for answer, content in self._answers():
                if answer == DONE:
                    return found
                if answer == ERROR:
                    check(content)
                found.append(content)

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        header = _HEADER.pack(_HEADER.size + len(body), kind, flags | REQUEST, self._sequence, 0)
        self._socket.send(header + body)

    def _answers(self) -> Iterator[tuple[int, bytes]]:
        for kind, sequence, content in messages(self._socket.recv(_ANSWER_BYTES)):
            if sequence == self._sequence:
                yield kind, content


class RouteSocket(NetlinkSocket):
    """One NETLINK_ROUTE socket."""

    def __init__(self) -> None:
        super().__init__(_socket.NETLINK_ROUTE)

    def add_mark_rule(self, family: int, mark: int, table: int, priority: int) -> None:
        """`ip rule add fwmark MARK lookup TABLE priority PRIORITY`."""
        self._add_rule(family, table, priority, attribute(_FRA_FWMARK, u32(mark)))

    def add_source_port_rule(self, family: int, protocol: int, port: int, table: int, priority: int) -> None:
        """`ip rule add ipproto PROTOCOL sport PORT lookup TABLE priority PRIORITY`."""
        match = attribute(_FRA_IP_PROTO, bytes((protocol,)))
        match += attribute(_FRA_SPORT_RANGE, _struct.pack("=HH", port, port))
        self._add_rule(family, table, priority, match)

    def add_local_route(
        self, family: int, address: str, length: int, table: int, *, source: str = "", congestion: bytes = b""
    ) -> None:
        """`ip route add local ADDRESS/LENGTH dev lo table TABLE [src SOURCE] [congctl CONGESTION]`."""
        body = _local_route(family, address, length, table)
        if source:
            body += attribute(_RTA_PREFSRC, _socket.inet_pton(family, source))
        if congestion:
            body += attribute(_RTA_METRICS, attribute(_RTAX_CC_ALGO, congestion + b"\0"))
        self.request(NEWROUTE, CREATE | EXCL, body)

    def delete_local_route(self, family: int, address: str, length: int, table: int) -> None:
        """The opposite."""
        self.request(_DELROUTE, 0, _local_route(family, address, length, table))

    def addresses(self) -> list[Address]:
        """All that can be used now, of all interfaces that are not `lo`."""
        found = []
        for body in self.dump(_GETADDR, bytes(8)):
            family, _length, flags, scope, index = _struct.unpack_from("=BBBBI", body)
            if index == LOOPBACK_INDEX or flags & _UNUSABLE or family not in (_socket.AF_INET, _socket.AF_INET6):
                continue
            held = attributes(body, 8)
            raw = held.get(IFA_LOCAL) or held.get(IFA_ADDRESS, b"")
            found.append(Address(family, index, scope == 0, _socket.inet_ntop(family, raw)))
        return found

    def gateways(self, family: int) -> list[str]:
        """The gateways of the default routes in the main table."""
        found = []
        for body in self.dump(_GETROUTE, bytes((family,)) + bytes(11)):
            if body[0] != family or body[1] != 0 or body[4] != MAIN_TABLE:
                continue
            raw = attributes(body, 12).get(RTA_GATEWAY)
            if raw is not None:
                found.append(_socket.inet_ntop(family, raw))
        return found

    def has_rule(self, family: int, table: int) -> bool:
        """Is there a rule that leads to `table`?"""
        try:
            bodies = self.dump(_GETRULE, bytes((family,)) + bytes(11))
        except OSError:
            return False  # no policy routing for this family in this kernel
        return any(
            body[0] == family and _struct.unpack("=I", attributes(body, 12).get(_FRA_TABLE, bytes(4)))[0] == table
            for body in bodies
        )

    def _add_rule(self, family: int, table: int, priority: int, match: bytes) -> None:
        body = _struct.pack("=BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, _TO_TABLE, 0)
        body += match + attribute(_FRA_PRIORITY, u32(priority)) + attribute(_FRA_TABLE, u32(table))
        self.request(_NEWRULE, CREATE | EXCL, body)


def subscribe() -> _socket.socket:
    """A non-blocking socket that becomes readable when addresses of this namespace change."""
    kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
    made = _socket.socket(_socket.AF_NETLINK, kind, _socket.NETLINK_ROUTE)
    made.bind((0, _GROUPS))
    return made


def _local_route(family: int, address: str, length: int, table: int) -> bytes:
    body = _struct.pack("=BBBBBBBBI", family, length, 0, 0, 0, PROTO_STATIC, _SCOPE_HOST, _RTN_LOCAL, 0)
    if length:
        body += attribute(RTA_DST, _socket.inet_pton(family, address))
    return body + attribute(RTA_OIF, u32(LOOPBACK_INDEX)) + attribute(_RTA_TABLE, u32(table))


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(type, sequence number, content) of each message in a packet."""
    place = 0
    while place + _HEADER.size <= len(data):
        length, kind, _flags, sequence, _pid = _HEADER.unpack_from(data, place)
        yield kind, sequence, data[place + _HEADER.size : place + length]
        place += max(length + 3 & ~3, _HEADER.size)


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute of a message (`struct rtattr`, `struct nlattr`)."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(body: bytes, place: int) -> dict[int, bytes]:
    """All from `place` on, by their types."""
    found = {}
    while place + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, place)
        if length < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = body[place + _ATTRIBUTE.size : place + length]
        place += (length + 3) & ~3
    return found


def u32(number: int) -> bytes:
    """As the kernel's `__u32`."""
    return _struct.pack("=I", number)


def check(content: bytes) -> None:
    """Raises OSError where a message of type ERROR says so."""
    (number,) = _struct.unpack_from("=i", content)
    if number:
        raise OSError(-number, os.strerror(-number), "netlink")
