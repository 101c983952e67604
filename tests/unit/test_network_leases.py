"""Stored networks and the addresses of their containers: never two of one, whatever is killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
from pathlib import Path

import pytest

from pyctl.engine import network_use
from pyctl.engine.model import ContainerSpec, Network, NetworkUse
from rootless.errors import Error, NotFound
from rootless.netplan import NetworkConfig, Subnet
from rootless.userns import start_time
from storage.database import Database, open_database
from storage.networks import DEFAULT_NAME, Lease, NetworkInUseError, NetworkStore
from storage.paths import StorePaths

NET = "ab" * 32


@pytest.fixture
def db(tmp_path: Path) -> Database:
    return make(tmp_path / "store")


def make(root: Path, subnet: str = "10.9.0.0/24") -> Database:
    db = open_database(StorePaths(str(root)))
    gateway = subnet.rpartition(".")[0] + ".1"
    NetworkStore(db).add(
        NetworkConfig(id=NET, name="net", interface="br", subnets=(Subnet(subnet=subnet, gateway=gateway),))
    )
    return db


def spec(number: int, **use: str) -> ContainerSpec:
    made = NetworkUse(network_id=NET, name="net", **use)
    return ContainerSpec(
        id=f"{number:064x}", name=f"c{number}", created_ns=number, network=Network(mode="bridge", endpoints=(made,))
    )


def address(db: Database, number: int, **use: str) -> str:
    (endpoint,) = network_use.take(db, spec(number, **use)).endpoints
    return endpoint.addresses[0]


def dead_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def abandon(db: Database, number: int) -> None:
    """As if the process that took the lease had been killed before its container was there."""
    db.execute(
        "UPDATE network_leases SET pid = ?, pid_start = 1 WHERE container_id = ?", (dead_process(), f"{number:064x}")
    )


def test_the_default_network_is_there(db: Database) -> None:
    store = NetworkStore(db)
    assert store.get("podman").subnets == (Subnet(subnet="10.88.0.0/16", gateway="10.88.0.1"),)
    assert store.get("podman").created_ns > 10**18
    assert store.find("2f259bab") == store.get(DEFAULT_NAME)
    with pytest.raises(Error, match="default network podman cannot be removed"):
        store.remove(store.get("podman"))


def test_one_that_a_container_has_stays(db: Database) -> None:
    store = NetworkStore(db)
    db.execute("INSERT INTO containers (id, name, created_ns, spec) VALUES ('c', 'c', 1, '{}')")
    store.attach("c", [NET])
    with pytest.raises(NetworkInUseError) as caught:
        store.remove(store.get("net"))
    assert caught.value.exit_code == 2
    with pytest.raises(NotFound):
        store.attach("c", ["no such network"])
    db.execute("DELETE FROM containers")
    store.remove(store.get("net"))
    assert store.find("net") is None


def test_names_are_unique(db: Database) -> None:
    with pytest.raises(Error, match="network net already exists"):
        NetworkStore(db).add(NetworkConfig(id="cd" * 32, name="net", interface="br1"))


def test_addresses_in_order_and_kept(db: Database) -> None:
    assert [address(db, n) for n in (1, 2, 3)] == ["10.9.0.2/24", "10.9.0.3/24", "10.9.0.4/24"]
    assert address(db, 2) == "10.9.0.3/24"  # its own, at every start


def test_a_lease_goes_with_its_container(db: Database) -> None:
    address(db, 1)
    db.execute("INSERT INTO containers (id, name, created_ns, spec) VALUES (?, 'c', 1, '{}')", (f"{1:064x}",))
    db.execute("DELETE FROM containers")
    assert NetworkStore(db).leases(NET) == []


def test_a_fixed_address_is_not_taken_from_one_that_lives(db: Database) -> None:
    assert address(db, 1, ip="10.9.0.7") == "10.9.0.7/24"
    with pytest.raises(Error, match=r"--ip 10\.9\.0\.7: container 000000000000 has this address"):
        address(db, 2, ip="10.9.0.7")
    abandon(db, 1)
    assert address(db, 2, ip="10.9.0.7") == "10.9.0.7/24"
    assert address(db, 1) == "10.9.0.2/24"


def test_a_failure_gives_nothing_out(db: Database) -> None:
    address(db, 1, ip="10.9.0.7")
    before = [(x.address, x.container_id) for x in NetworkStore(db).leases(NET)]
    with pytest.raises(Error):
        address(db, 2, ip="10.9.0.7")
    assert [(x.address, x.container_id) for x in NetworkStore(db).leases(NET)] == before


def test_the_last_address_comes_from_the_dead_only(tmp_path: Path) -> None:
    db = make(tmp_path / "small", "10.9.0.0/29")  # five addresses beside the gateway's
    assert [address(db, n)[:-3] for n in range(1, 6)] == [f"10.9.0.{n}" for n in range(2, 7)]
    with pytest.raises(Error, match=r"network net has no address left in 10\.9\.0\.0/29"):
        address(db, 6)
    abandon(db, 3)
    assert address(db, 6) == "10.9.0.4/29"
    with pytest.raises(Error, match="no address left"):
        address(db, 3)


def test_the_gateway_is_never_given_out(db: Database) -> None:
    NetworkStore(db).put_lease(Lease(NET, "10.9.0.1", f"{1:064x}", 0, 0))  # left by an older configuration
    assert address(db, 1) == "10.9.0.2/24"


def _take_many(root: str, first: int, gate: str, queue: multiprocessing.Queue[tuple[int, list[str]]]) -> None:
    while not os.path.exists(gate):
        os.sched_yield()
    db = open_database(StorePaths(root))
    queue.put((os.getpid(), [address(db, n) for n in range(first, first + 20)]))
    signal.pause()


def test_many_processes_never_get_the_same(tmp_path: Path) -> None:
    make(tmp_path / "store").close()
    gate = tmp_path / "gate"
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[tuple[int, list[str]]] = context.Queue()
    workers = [
        context.Process(target=_take_many, args=(str(tmp_path / "store"), n * 100 + 1, str(gate), queue))
        for n in range(6)
    ]
    for worker in workers:
        worker.start()
    gate.touch()
    found = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.kill()
        worker.join()
    everything = [a for _pid, addresses in found for a in addresses]
    assert len(everything) == len(set(everything)) == 120
    # They are dead: what they had can be had.
    db = open_database(StorePaths(str(tmp_path / "store")))
    assert address(db, 999, ip=everything[0].partition("/")[0]) == everything[0]


def test_a_pid_that_another_process_has_now_is_not_the_one(db: Database) -> None:
    address(db, 1, ip="10.9.0.7")
    db.execute("UPDATE network_leases SET pid = ?, pid_start = ?", (os.getpid(), start_time(os.getpid()) + 1))
    assert address(db, 2, ip="10.9.0.7") == "10.9.0.7/24"


def test_interfaces_are_named_in_order_around_those_that_are_given(db: Database) -> None:
    uses = tuple(NetworkUse(network_id=NET, name="net", interface=i) for i in ("", "eth1", "", "xx0", ""))
    made = ContainerSpec(id="0" * 64, name="c", created_ns=1, network=Network(mode="bridge", endpoints=uses))
    assert [network_use.interface_name(made, i) for i in range(5)] == ["eth0", "eth1", "eth2", "xx0", "eth3"]
