"""Containers on user-defined networks: their addresses, taken and given back, and the plan of their interfaces.

Weight: `network.ipam`, `storage.networks`.  On the path of `run` where a network is user-defined.

An address belongs to a container from its launch to its removal, but a stopped one's may be taken when a network has
no other left, or somebody asks for it by number.  It is never taken from one that lives: the process that took it
counts, and after that the container's supervisor (`pyctl.engine.state`).
"""

from __future__ import annotations

import os

from network import ipam
from rootless.errors import Error, NotFound
from rootless.netplan import BridgePlan, Endpoint
from rootless.userns import start_time
from storage.networks import Lease, NetworkStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyctl.engine.engine import Engine
    from pyctl.engine.model import ContainerSpec, NetworkUse
    from pyctl.engine.state import ContainerRecord
    from rootless.netplan import NetworkConfig, Subnet
    from storage.database import Database


def take(db: Database, spec: ContainerSpec) -> BridgePlan:
    """Addresses for a container that is about to be launched by this process.

    Raises Error: an address that somebody has, no address left.
    """
    store = NetworkStore(db)
    me = os.getpid()
    started = start_time(me)
    # Not synced: after a power cut no container lives, and every address is free.
    with db.transaction(durable=False):
        endpoints = tuple(
            _endpoint(spec, use, store.get(use.network_id), index, _lease(db, store, spec, use, me, started))
            for index, use in enumerate(spec.network.endpoints)
        )
    return bridge_plan(spec, endpoints)


def bridge_plan(spec: ContainerSpec, endpoints: tuple[Endpoint, ...]) -> BridgePlan:
    """What the container's supervisor asks the network process for."""
    return BridgePlan(
        container_id=spec.id,
        name=spec.name,
        endpoints=endpoints,
        dns_servers=spec.network.dns,
        uplink=spec.network.mode != "bridge",
    )


def current(db: Database, spec: ContainerSpec) -> tuple[Endpoint, ...]:
    """The endpoints of a container that runs, with the addresses that it has."""
    store = NetworkStore(db)
    held = store.addresses(spec.id)
    found = []
    for index, use in enumerate(spec.network.endpoints):
        network = store.find(use.network_id)
        if network is not None:
            found.append(_endpoint(spec, use, network, index, held.get(use.network_id, ())))
    return tuple(found)


def on_network(engine: Engine, network: NetworkConfig) -> Iterator[tuple[ContainerRecord, Endpoint]]:
    """Running containers with this network."""
    from pyctl.engine import state

    for container_id in NetworkStore(engine.db).users(network.id):
        try:
            record = state.get(engine.db, container_id)
        except NotFound:
            continue  # removed meanwhile
        if record.alive:
            for endpoint in current(engine.db, record.specification):
                if endpoint.network.id == network.id:
                    yield record, endpoint


def with_gateways(endpoint: Endpoint) -> Iterator[tuple[str, str]]:
    """(address with prefix, gateway or "") of an endpoint."""
    for address in endpoint.addresses:
        subnet = ipam.subnet_with(endpoint.network, address.partition("/")[0])
        yield address, subnet.gateway if subnet is not None and not endpoint.network.internal else ""


def interface_name(spec: ContainerSpec, index: int) -> str:
    """The name asked for, or the first ethN that no other endpoint of the container has."""
    uses = spec.network.endpoints
    if uses[index].interface:
        return uses[index].interface
    asked = {use.interface for use in uses}
    free = (f"eth{n}" for n in range(2 * len(uses)) if f"eth{n}" not in asked)
    wanted = sum(1 for use in uses[:index] if not use.interface)
    for _ in range(wanted):
        next(free)
    return next(free)


def _endpoint(
    spec: ContainerSpec, use: NetworkUse, network: NetworkConfig, index: int, addresses: tuple[str, ...]
) -> Endpoint:
    lengths = {s.subnet: s.subnet.rpartition("/")[2] for s in network.subnets}
    shown = []
    for address in addresses:
        subnet = ipam.subnet_with(network, address)
        if subnet is not None:
            shown.append(f"{address}/{lengths[subnet.subnet]}")
    return Endpoint(
        network=network,
        interface=interface_name(spec, index),
        mac=use.mac or ipam.mac_address(spec.id, network.id),
        addresses=tuple(shown),
        aliases=tuple(dict.fromkeys((*use.aliases, spec.id[:12]))),
    )


# --- leases ------------------------------------------------------------------------------------


def _lease(
    db: Database, store: NetworkStore, spec: ContainerSpec, use: NetworkUse, pid: int, pid_start: int
) -> tuple[str, ...]:
    """One address for each subnet of the network; IPv4 first.  In a transaction."""
    network = store.get(use.network_id)
    store.drop_orphans(network.id, start_time)
    leases = {lease.address: lease for lease in store.leases(network.id)}
    taken: list[str] = []
    for option, asked in (("--ip", use.ip), ("--ip6", use.ip6)):
        if asked:
            ipam.check_static(network, asked, option)
            _claim(db, leases.get(asked), spec, f"{option} {asked}")
            taken.append(asked)
    for subnet in network.subnets:
        if not any(ipam.parse_range(subnet.subnet).holds(address) for address in taken):
            taken.append(_dynamic(db, subnet, network, leases, spec))
    for address, lease in leases.items():
        if lease.container_id == spec.id and address not in taken:
            db.execute("DELETE FROM network_leases WHERE network_id = ? AND address = ?", (network.id, address))
    for address in taken:
        store.put_lease(Lease(network.id, address, spec.id, pid, pid_start))
    return tuple(sorted(taken, key=lambda address: ":" in address))


def _claim(db: Database, lease: Lease | None, spec: ContainerSpec, what: str) -> None:
    if lease is None or lease.container_id == spec.id:
        return
    if _lives(db, lease):
        raise Error(
            f"{what}: container {lease.container_id[:12]} has this address",
            hint="choose another, or leave it out to get a free one",
        )


def _dynamic(
    db: Database, subnet: Subnet, network: NetworkConfig, leases: dict[str, Lease], spec: ContainerSpec
) -> str:
    low, high, bits = ipam.usable(subnet)
    held = {}
    for address, lease in leases.items():
        number, of = ipam.parse_address(address)
        if of == bits and low <= number <= high:
            held[number] = lease
    own = next((n for n, lease in held.items() if lease.container_id == spec.id), None)
    if own is not None and ipam.address_text(own, bits) != subnet.gateway:
        return ipam.address_text(own, bits)
    free = ipam.next_address(subnet, held)
    if free is None:
        free = next((n for n, lease in sorted(held.items()) if not _lives(db, lease)), None)
    if free is None:
        raise Error(
            f"network {network.name} has no address left in {subnet.subnet}",
            hint="remove containers that are not needed, or make a network with a larger --subnet",
        )
    return ipam.address_text(free, bits)


def _lives(db: Database, lease: Lease) -> bool:
    """Whether an address may not be taken: its container, or the process that launches it, is there."""
    if lease.pid and start_time(lease.pid) == lease.pid_start:
        return True
    from pyctl.engine import state  # only where an address is wanted that somebody has, or had

    try:
        return state.get(db, lease.container_id).alive
    except NotFound:
        return False
