"""Bridges, and the pairs of interfaces that put containers on them.

Weight: `pyroute2` (0.1 s, 20 MB); loaded by the network process alone.  Everything acts in the network namespace
that is this thread's when `Bridges` is made.
"""

from __future__ import annotations

import _socket
import errno
import os

from pyroute2 import IPRoute, NetlinkError

from network import firewall
from network.ipam import parse_range, subnet_with
from network.slirp import DEFAULT_MTU
from rootless import libc
from rootless.errors import LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.netplan import Endpoint, NetworkConfig

_NO_DETECTION = 0x02  # IFA_F_NODAD (linux/if_addr.h): nobody else can have the address
_METRIC = 100  # of default routes, as netavark's


class Bridges:
    """All bridges of one user, in the namespace that holds them."""

    def __init__(self) -> None:
        self._links = IPRoute()
        self._own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._bridges: dict[str, int] = {}  # network id → index of its bridge
        self._pairs: dict[str, set[str]] = {}  # network id → outer ends on its bridge
        self._count = 0

    def set_uplink(self, name: str) -> None:
        """Mark the interface that leads out."""
        self._links.link("set", index=_socket.if_nametoindex(name), group=firewall.UPLINK)

    def attach(self, endpoint: Endpoint, netns: int, order: int, *, replace: bool) -> str:
        """Give a container an interface; returns the name of its outer end, for `detach`.

        netns: descriptor of the container's network namespace; order: how many networks it is on already (routes by
        later ones come second); replace: one of that name, left by a network process that was killed, goes first.
        Raises LaunchError; nothing is left then.
        """
        network = endpoint.network
        try:
            bridge = self._bridge(network)
            outer = self._pair(endpoint, bridge, netns, replace)
        except (NetlinkError, OSError) as error:
            self._drop_bridge(network.id)
            raise _failed(endpoint, error) from error
        self._pairs.setdefault(network.id, set()).add(outer)
        try:
            inside, index = self._inside(netns, endpoint.interface)
            try:
                _configure(inside, index, endpoint, order)
            finally:
                inside.close()
        except (NetlinkError, OSError) as error:
            self.detach(network.id, outer)
            raise _failed(endpoint, error) from error
        return outer

    def detach(self, network_id: str, outer: str) -> None:
        """Take an interface away; the bridge goes with its last one."""
        try:
            self._links.link("del", index=_socket.if_nametoindex(outer))
        except OSError:
            pass  # it went with the container's namespace: there is no such interface (ENODEV, by name or by index)
        except NetlinkError as error:
            if error.code != errno.ENODEV:
                raise
        pairs = self._pairs.get(network_id, set())
        pairs.discard(outer)
        if not pairs:
            self._drop_bridge(network_id)

    def has(self, network_id: str) -> bool:
        """Whether a network has a bridge now."""
        return network_id in self._bridges

    # -- the namespace of the bridges -----------------------------------------------------------

    def _bridge(self, network: NetworkConfig) -> int:
        index = self._bridges.get(network.id)
        if index is not None:
            return index
        links = self._links
        options: dict[str, Any] = {}
        if "vlan" in network.options:
            options = {"br_vlan_filtering": 1, "br_vlan_default_pvid": int(network.options["vlan"])}
        # An address of its own: a bridge without one has its lowest port's, and changes it as containers come and go.
        links.link(
            "add",
            ifname=network.interface,
            kind="bridge",
            address="02:" + ":".join(network.id[i : i + 2] for i in range(0, 10, 2)),
            group=firewall.group_of(network),
            mtu=_mtu(network),
            **options,
        )
        index = _socket.if_nametoindex(network.interface)
        self._bridges[network.id] = index
        for subnet in network.subnets:
            if subnet.gateway:
                prefix = parse_range(subnet.subnet).prefix
                _add_address(links, index, f"{subnet.gateway}/{prefix}")
        links.link("set", index=index, state="up")
        return index

    def _drop_bridge(self, network_id: str) -> None:
        if self._pairs.get(network_id):
            return
        self._pairs.pop(network_id, None)
        index = self._bridges.pop(network_id, None)
        if index is not None:
            self._links.link("del", index=index)

    def _pair(self, endpoint: Endpoint, bridge: int, netns: int, replace: bool) -> str:
        self._count += 1
        outer = f"veth{self._count}"
        mtu = _mtu(endpoint.network)
        peer = {"ifname": endpoint.interface, "net_ns_fd": netns, "address": endpoint.mac, "mtu": mtu}
        try:
            self._links.link("add", ifname=outer, kind="veth", master=bridge, mtu=mtu, state="up", peer=peer)
        except NetlinkError as error:
            if error.code != errno.EEXIST or not replace:
                raise
            inside, index = self._inside(netns, endpoint.interface)
            inside.link("del", index=index)
            inside.close()
            self._links.link("add", ifname=outer, kind="veth", master=bridge, mtu=mtu, state="up", peer=peer)
        return outer

    # -- the container's namespace --------------------------------------------------------------

    def _inside(self, netns: int, interface: str) -> tuple[IPRoute, int]:
        """A netlink socket of the container's namespace (in which it is made), and an interface's index there."""
        libc.setns(netns, libc.CLONE_NEWNET)
        try:
            index = _socket.if_nametoindex(interface)
            return IPRoute(), index
        finally:
            libc.setns(self._own, libc.CLONE_NEWNET)


def _configure(inside: IPRoute, index: int, endpoint: Endpoint, order: int) -> None:
    network = endpoint.network
    for address in endpoint.addresses:
        _add_address(inside, index, address)
    inside.link("set", index=index, state="up")
    for route in network.routes:
        extra = {"priority": route.metric} if route.metric else {}
        inside.route("add", dst=route.destination, gateway=route.gateway, oif=index, **extra)
    if network.internal or network.options.get("no_default_route") == "true":
        return
    metric = int(network.options.get("metric", _METRIC)) + order
    for address in endpoint.addresses:
        subnet = subnet_with(network, address.partition("/")[0])
        if subnet is not None and subnet.gateway:
            everything = "::/0" if ":" in subnet.gateway else "0.0.0.0/0"
            inside.route("add", dst=everything, gateway=subnet.gateway, oif=index, priority=metric)


def _add_address(links: IPRoute, index: int, address: str) -> None:
    text, _, length = address.partition("/")
    extra: dict[str, Any] = {"flags": _NO_DETECTION} if ":" in text else {}
    if not extra and int(length) < 31:
        extra["broadcast"] = parse_range(address).text(parse_range(address).last)
    links.addr("add", index=index, address=text, prefixlen=int(length), **extra)


def _mtu(network: NetworkConfig) -> int:
    # slirp4netns's: with small packets it is several times slower.
    return int(network.options.get("mtu", DEFAULT_MTU))


def _failed(endpoint: Endpoint, error: OSError | NetlinkError) -> LaunchError:
    number = getattr(error, "code", None) or getattr(error, "errno", 0) or 0
    words = {errno.EEXIST: f"the container has an interface {endpoint.interface} already"}
    text = words.get(number) or os.strerror(number)
    vlan = endpoint.network.options.get("vlan")
    if number == errno.EOPNOTSUPP and vlan:
        text = f"this kernel cannot tag bridges (vlan={vlan}): it was built without VLAN filtering"
    return LaunchError("network", f"network {endpoint.network.name}: {text}", errno=number)
