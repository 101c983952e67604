"""Bridges, and the pairs of interfaces that put containers on them.

Weight: `network.links`; in the network process alone.  Everything acts in the network namespace that is this thread's
when `Bridges` is made.
"""

from __future__ import annotations

import _socket
import errno
import os

from network import firewall
from network.ipam import parse_range, subnet_with
from network.links import LinkSocket
from network.slirp import DEFAULT_MTU
from rootless import libc
from rootless.errors import LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rootless.netplan import Endpoint, NetworkConfig

_METRIC = 100  # of default routes, as netavark's


class Bridges:
    """All bridges of one user, in the namespace that holds them."""

    def __init__(self) -> None:
        self._links = LinkSocket()
        self._own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._bridges: dict[str, int] = {}  # network id → index of its bridge
        self._pairs: dict[str, set[str]] = {}  # network id → outer ends on its bridge
        self._count = 0

    def set_uplink(self, name: str) -> None:
        """Mark the interface that leads out."""
        self._links.set_group(_socket.if_nametoindex(name), firewall.UPLINK)

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
        except OSError as error:
            self._drop_bridge(network.id)
            raise _failed(endpoint, error) from error
        self._pairs.setdefault(network.id, set()).add(outer)
        try:
            inside, index = self._inside(netns, endpoint.interface)
            try:
                _configure(inside, index, endpoint, order)
            finally:
                inside.close()
        except OSError as error:
            self.detach([(network.id, outer)])
            raise _failed(endpoint, error) from error
        return outer

    def detach(self, ends: Iterable[tuple[str, str]]) -> None:
        """Take interfaces away (network id, outer end); a bridge goes with its last one.

        All at once: the kernel waits tens of milliseconds for the last user of an interface, but for many together no
        longer than for one.
        """
        marked = False
        touched: dict[str, None] = {}
        for network_id, outer in ends:
            touched[network_id] = None
            self._pairs.get(network_id, set()).discard(outer)
            try:
                self._links.set_group(_socket.if_nametoindex(outer), firewall.LEAVING)
                marked = True
            except OSError as error:
                # It may have gone with the container's namespace: there is no such interface, by name or by index.
                if error.errno not in (errno.ENODEV, None):
                    raise
        for network_id in touched:
            if network_id in self._bridges and not self._pairs.get(network_id):
                self._links.set_group(self._forget_bridge(network_id), firewall.LEAVING)
                marked = True
        if marked:
            self._delete_leaving()

    def _delete_leaving(self) -> None:
        try:
            self._links.delete_group(firewall.LEAVING)
        except OSError as error:
            if error.errno != errno.ENODEV:  # the last of them went by itself just now
                raise

    def has(self, network_id: str) -> bool:
        """Whether a network has a bridge now."""
        return network_id in self._bridges

    # -- the namespace of the bridges -----------------------------------------------------------

    def _bridge(self, network: NetworkConfig) -> int:
        index = self._bridges.get(network.id)
        if index is not None:
            return index
        links = self._links
        # An address of its own: a bridge without one has its lowest port's, and changes it as containers come and go.
        mac = "02:" + ":".join(network.id[i : i + 2] for i in range(0, 10, 2))
        links.add_bridge(
            network.interface,
            mac=mac,
            mtu=_mtu(network),
            group=firewall.group_of(network),
            vlan=int(network.options.get("vlan", 0)),
        )
        index = _socket.if_nametoindex(network.interface)
        self._bridges[network.id] = index
        for subnet in network.subnets:
            if subnet.gateway:
                prefix = parse_range(subnet.subnet).prefix
                _add_address(links, index, f"{subnet.gateway}/{prefix}")
        links.set_up(index)
        return index

    def _drop_bridge(self, network_id: str) -> None:
        if network_id in self._bridges and not self._pairs.get(network_id):
            self._links.delete(self._forget_bridge(network_id))

    def _forget_bridge(self, network_id: str) -> int:
        self._pairs.pop(network_id, None)
        return self._bridges.pop(network_id)

    def _pair(self, endpoint: Endpoint, bridge: int, netns: int, replace: bool) -> str:
        self._count += 1
        outer = f"veth{self._count}"

        def add() -> None:
            mtu, inner, mac = _mtu(endpoint.network), endpoint.interface, endpoint.mac
            self._links.add_pair(outer, bridge, mtu=mtu, netns=netns, inner=inner, mac=mac)

        try:
            add()
        except OSError as error:
            if error.errno != errno.EEXIST or not replace:
                raise
            inside, index = self._inside(netns, endpoint.interface)
            inside.delete(index)
            inside.close()
            add()
        return outer

    # -- the container's namespace --------------------------------------------------------------

    def _inside(self, netns: int, interface: str) -> tuple[LinkSocket, int]:
        """A netlink socket of the container's namespace (in which it is made), and an interface's index there."""
        libc.setns(netns, libc.CLONE_NEWNET)
        try:
            index = _socket.if_nametoindex(interface)
            return LinkSocket(), index
        finally:
            libc.setns(self._own, libc.CLONE_NEWNET)


def _configure(inside: LinkSocket, index: int, endpoint: Endpoint, order: int) -> None:
    network = endpoint.network
    for address in endpoint.addresses:
        _add_address(inside, index, address)
    inside.set_up(index)
    for route in network.routes:
        destination, _, length = route.destination.partition("/")
        inside.add_route(index, destination, int(length), route.gateway, route.metric)
    if network.internal or network.options.get("no_default_route") == "true":
        return
    metric = int(network.options.get("metric", _METRIC)) + order
    for address in endpoint.addresses:
        subnet = subnet_with(network, address.partition("/")[0])
        if subnet is not None and subnet.gateway:
            inside.add_route(index, "::" if ":" in subnet.gateway else "0.0.0.0", 0, subnet.gateway, metric)


def _add_address(links: LinkSocket, index: int, address: str) -> None:
    text, _, length = address.partition("/")
    broadcast = ""
    if ":" not in text and int(length) < 31:
        whole = parse_range(address)
        broadcast = whole.text(whole.last)
    links.add_address(index, text, int(length), broadcast)


def _mtu(network: NetworkConfig) -> int:
    # slirp4netns's: with small packets it is several times slower.
    return int(network.options.get("mtu", DEFAULT_MTU))


def _failed(endpoint: Endpoint, error: OSError) -> LaunchError:
    number = error.errno or 0
    words = {errno.EEXIST: f"the container has an interface {endpoint.interface} already"}
    text = words.get(number) or os.strerror(number)
    vlan = endpoint.network.options.get("vlan")
    if number == errno.EOPNOTSUPP and vlan:
        text = f"this kernel cannot tag bridges (vlan={vlan}): it was built without VLAN filtering"
    return LaunchError("network", f"network {endpoint.network.name}: {text}", errno=number)
