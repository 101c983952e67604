"""Who is called what on which network: what the name server answers itself.

Weight: `network.dns_wire`, `network.ipam`.  Pure: no sockets.
"""

from __future__ import annotations

from network import dns_wire
from network.dns_wire import Labels, Question
from network.ipam import parse_range
from rootless.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from network.ipam import Range
    from rootless.netplan import BridgePlan, Endpoint, NetworkConfig

DOMAIN = (b"dns", b"podman")  # the search domain of containers, with Podman's name


class Verdict(Value):
    """What to do with a question: answer `code` and `records`, or ask `servers` (`forward`; none: the host's)."""

    code: int = dns_wire.NOERROR
    records: tuple[tuple[int, bytes], ...] = ()
    forward: bool = False
    servers: tuple[str, ...] = ()


class Names:
    """All joined containers.  `version` is another one after every change."""

    def __init__(self) -> None:
        self.version = 0
        self._plans: dict[str, BridgePlan] = {}
        self._sources: dict[str, str] = {}  # address → container
        self._named: dict[str, dict[Labels, dict[str, tuple[str, ...]]]] = {}  # network → name → container → addresses
        self._ranges: dict[str, tuple[Range, ...]] = {}  # network → subnets
        self._configs: dict[str, NetworkConfig] = {}

    def put(self, plan: BridgePlan) -> None:
        """A container, or another state of it."""
        self.version += 1
        self.drop(plan.container_id)
        self._plans[plan.container_id] = plan
        for endpoint in plan.endpoints:
            network = endpoint.network
            self._configs.setdefault(network.id, network)
            if network.id not in self._ranges:
                self._ranges[network.id] = tuple(parse_range(s.subnet) for s in network.subnets)
            addresses = _addresses(endpoint)
            for address in addresses:
                self._sources[address] = plan.container_id
            table = self._named.setdefault(network.id, {})
            for labels in _labels(plan, endpoint):
                table.setdefault(labels, {})[plan.container_id] = addresses

    def drop(self, container_id: str) -> None:
        """A container that has gone."""
        self.version += 1
        plan = self._plans.pop(container_id, None)
        if plan is None:
            return
        for endpoint in plan.endpoints:
            for address in _addresses(endpoint):
                if self._sources.get(address) == container_id:
                    del self._sources[address]
            table = self._named.get(endpoint.network.id, {})
            for labels in _labels(plan, endpoint):
                holders = table.get(labels, {})
                holders.pop(container_id, None)
                if not holders:
                    table.pop(labels, None)

    def change(self, network: NetworkConfig) -> None:
        """Other name servers of a network."""
        self.version += 1
        if network.id in self._configs:
            self._configs[network.id] = network

    def forget(self, network_id: str) -> None:
        """A network that nobody is on any more."""
        self.version += 1
        self._named.pop(network_id, None)
        self._ranges.pop(network_id, None)
        self._configs.pop(network_id, None)

    def judge(self, source: str, question: Question) -> Verdict:
        """What a container that asks from `source` is told.  Only its own networks are looked at."""
        plan = self._plans.get(self._sources.get(source, ""))
        if plan is None:
            return Verdict(code=dns_wire.REFUSED)
        networks = [self._configs[e.network.id] for e in plan.endpoints]
        networks = [n for n in networks if n.dns_enabled]
        labels = question.labels
        if labels[-2:] == (b"in-addr", b"arpa") or labels[-2:] == (b"ip6", b"arpa"):
            return self._reverse(plan, networks, question)
        below = len(labels) > len(DOMAIN) and labels[-len(DOMAIN) :] == DOMAIN
        name = labels[: -len(DOMAIN)] if below else labels
        found: dict[str, None] = {}
        known = False
        for network in networks:
            for addresses in self._named.get(network.id, {}).get(name, {}).values():
                known = True
                found.update(dict.fromkeys(addresses))
        if known:
            records = [dns_wire.address_record(address) for address in found]
            return Verdict(records=tuple(r for r in records if question.type in (r[0], dns_wire.ANY)))
        if below or len(labels) < 2 or labels == DOMAIN:
            return Verdict(code=dns_wire.NXDOMAIN)
        return self._outside(plan, networks)

    def _reverse(self, plan: BridgePlan, networks: list[NetworkConfig], question: Question) -> Verdict:
        address = dns_wire.reversed_address(question.labels)
        owner = self._plans.get(self._sources.get(address, "")) if address else None
        if owner is not None:
            shared = {network.id for network in networks}
            for endpoint in owner.endpoints:
                labels = dns_wire.labels_of(owner.name)
                if endpoint.network.id in shared and address in _addresses(endpoint) and labels is not None:
                    if question.type not in (dns_wire.PTR, dns_wire.ANY):
                        return Verdict()
                    return Verdict(records=(dns_wire.pointer_record((*labels, *DOMAIN)),))
            return Verdict(code=dns_wire.NXDOMAIN)  # of a network that this container is not on
        if address and any(r.holds(address) for ranges in self._ranges.values() for r in ranges):
            return Verdict(code=dns_wire.NXDOMAIN)
        return self._outside(plan, networks)

    def _outside(self, plan: BridgePlan, networks: list[NetworkConfig]) -> Verdict:
        if not plan.uplink and all(network.internal for network in networks):
            return Verdict(code=dns_wire.NXDOMAIN)
        servers = plan.dns_servers or tuple(dict.fromkeys(s for n in networks for s in n.dns_servers))
        return Verdict(forward=True, servers=servers)


def _addresses(endpoint: Endpoint) -> tuple[str, ...]:
    return tuple(address.partition("/")[0] for address in endpoint.addresses)


def _labels(plan: BridgePlan, endpoint: Endpoint) -> set[Labels]:
    if not endpoint.network.dns_enabled:
        return set()
    names = (plan.name, *endpoint.aliases)  # the short id is one; the whole one is longer than a label may be
    return {labels for labels in map(dns_wire.labels_of, names) if labels is not None}
