"""Interfaces, their addresses and routes, by rtnetlink(7).

Weight: `rootless.rtnetlink`.  In the network process.  (pyroute2 has all of this and is what the tests compare with;
it takes 3 ms to put a container on a bridge, of which this takes one, and 22 MB as long as the process lives.)
"""

from __future__ import annotations

import _socket
import _struct

from rootless.rtnetlink import (
    CREATE,
    EXCL,
    IFA_ADDRESS,
    IFA_LOCAL,
    MAIN_TABLE,
    NEWROUTE,
    PROTO_STATIC,
    RTA_DST,
    RTA_GATEWAY,
    RTA_OIF,
    RouteSocket,
    attribute,
    u32,
)

# linux/rtnetlink.h, linux/if.h
_NEWLINK, _DELLINK, _NEWADDR = 16, 17, 20
_RTA_PRIORITY, _RTN_UNICAST = 6, 1
_UP = 0x1
# linux/if_link.h, linux/veth.h
_ADDRESS, _NAME, _MTU, _MASTER, _LINKINFO, _GROUP, _NET_NS_FD = 1, 3, 4, 10, 18, 27, 28
_KIND, _DATA = 1, 2
_PEER = 1
_VLAN_FILTERING, _VLAN_DEFAULT_PVID = 7, 39
# linux/if_addr.h
_BROADCAST, _FLAGS = 4, 8
_NO_DETECTION = 0x02  # IFA_F_NODAD: nobody else can have the address


class LinkSocket(RouteSocket):
    """Acts in the network namespace that it was made in.  Every request raises OSError."""

    def add_bridge(self, name: str, *, mac: str, mtu: int, group: int, vlan: int = 0) -> None:
        """vlan: what ports of it are tagged with, 0: nothing."""
        data = b""
        if vlan:
            data = attribute(_VLAN_FILTERING, b"\1") + attribute(_VLAN_DEFAULT_PVID, _struct.pack("=H", vlan))
        self.request(
            _NEWLINK,
            CREATE | EXCL,
            _link()
            + _text(_NAME, name)
            + attribute(_ADDRESS, _mac(mac))
            + attribute(_MTU, u32(mtu))
            + attribute(_GROUP, u32(group))
            + _info("bridge", data),
        )

    def add_pair(self, name: str, bridge: int, *, mtu: int, netns: int, inner: str, mac: str) -> None:
        """A veth(4) pair: `name`, up, as a port of a bridge; `inner`, in another namespace.

        bridge: its index; netns: a descriptor of the namespace; mac: of the inner end.
        """
        peer = _link() + _text(_NAME, inner) + attribute(_NET_NS_FD, u32(netns)) + attribute(_MTU, u32(mtu))
        peer += attribute(_ADDRESS, _mac(mac))
        self.request(
            _NEWLINK,
            CREATE | EXCL,
            _link(flags=_UP)
            + _text(_NAME, name)
            + attribute(_MTU, u32(mtu))
            + attribute(_MASTER, u32(bridge))
            + _info("veth", attribute(_PEER, peer)),
        )

    def set_group(self, index: int, group: int) -> None:
        """`ip link set dev … group GROUP`."""
        self.request(_NEWLINK, 0, _link(index) + attribute(_GROUP, u32(group)))

    def set_up(self, index: int) -> None:
        """`ip link set dev … up`."""
        self.request(_NEWLINK, 0, _link(index, _UP))

    def delete(self, index: int) -> None:
        """`ip link delete dev …`, with the other end where it has one."""
        self.request(_DELLINK, 0, _link(index))

    def delete_group(self, group: int) -> None:
        """All interfaces of a group at once.  There must be one."""
        self.request(_DELLINK, 0, _link() + attribute(_GROUP, u32(group)))

    def add_address(self, index: int, address: str, length: int, broadcast: str = "") -> None:
        """`ip address add ADDRESS/LENGTH [broadcast …] dev … [nodad]`."""
        family, packed = _packed(address)
        body = _struct.pack("=BBBBI", family, length, 0, 0, index)
        body += attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
        if broadcast:
            body += attribute(_BROADCAST, _packed(broadcast)[1])
        if family == _socket.AF_INET6:
            body += attribute(_FLAGS, u32(_NO_DETECTION))
        self.request(_NEWADDR, CREATE | EXCL, body)

    def add_route(self, index: int, destination: str, length: int, gateway: str, metric: int = 0) -> None:
        """`ip route add DESTINATION/LENGTH via GATEWAY dev … [metric METRIC]`."""
        family, packed = _packed(destination)
        body = _struct.pack("=BBBBBBBBI", family, length, 0, 0, MAIN_TABLE, PROTO_STATIC, 0, _RTN_UNICAST, 0)
        if length:
            body += attribute(RTA_DST, packed)
        body += attribute(RTA_GATEWAY, _packed(gateway)[1]) + attribute(RTA_OIF, u32(index))
        if metric:
            body += attribute(_RTA_PRIORITY, u32(metric))
        self.request(NEWROUTE, CREATE | EXCL, body)


def _link(index: int = 0, flags: int = 0) -> bytes:
    """`struct ifinfomsg`; the flags given are those to be changed."""
    return _struct.pack("=BxHiII", 0, 0, index, flags, flags)


def _text(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def _info(kind: str, data: bytes) -> bytes:
    return attribute(_LINKINFO, _text(_KIND, kind) + (attribute(_DATA, data) if data else b""))


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", "").replace("-", ""))


def _packed(address: str) -> tuple[int, bytes]:
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    return family, _socket.inet_pton(family, address)
