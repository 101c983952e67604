"""Stored networks, who uses them, and who has which address.

Weight: `storage.database`, `rootless.netplan`.  On the path of `run` where a network is user-defined.
"""

from __future__ import annotations

import time

from rootless.errors import Error, NotFound
from rootless.netplan import NetworkConfig
from rootless.values import decode, dumps
from storage.database import ConstraintError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from storage.database import Database

DEFAULT_NAME = "podman"  # what `--network bridge` means
# Exit statuses of `network rm` (podman-network-rm(1), Exit Status).
EXIT_NO_SUCH_NETWORK = 1
EXIT_NETWORK_IN_USE = 2


class NetworkInUseError(Error):
    """Containers have this network; `containers` are their ids."""

    def __init__(self, name: str, containers: Sequence[str]) -> None:
        super().__init__(
            f"network {name} is in use by {', '.join(c[:12] for c in containers[:5])}",
            hint=f"disconnect or remove the containers, or remove all with: pyctl network rm --force {name}",
            exit_code=EXIT_NETWORK_IN_USE,
        )
        self.containers = tuple(containers)


class Lease:
    """One address that a container has.  pid, pid_start: the process that took it."""

    __slots__ = ("address", "container_id", "network_id", "pid", "pid_start")

    def __init__(self, network_id: str, address: str, container_id: str, pid: int, pid_start: int) -> None:
        self.network_id = network_id
        self.address = address
        self.container_id = container_id
        self.pid = pid
        self.pid_start = pid_start


class NetworkStore:
    """The networks of one store."""

    def __init__(self, db: Database) -> None:
        self.db = db

    # -- networks -------------------------------------------------------------------------------

    def find(self, reference: str) -> NetworkConfig | None:
        """The network of this name, id or unambiguous beginning of an id.  Raises Error where it is ambiguous."""
        rows = self.db.query("SELECT config, created_ns FROM networks WHERE name = ?1 OR id = ?1", (reference,))
        if not rows and reference and all(c in "0123456789abcdef" for c in reference):
            sql = "SELECT config, created_ns FROM networks WHERE id >= ? AND id < ? LIMIT 2"
            rows = self.db.query(sql, (reference, reference + "g"))
            if len(rows) > 1:
                raise Error(f"more than one network has an id that begins with {reference}", hint="give more digits")
        return _decoded(rows[0]) if rows else None

    def get(self, reference: str) -> NetworkConfig:
        """As `find`.  Raises NotFound."""
        found = self.find(reference)
        if found is None:
            raise NotFound(
                f"no network with name or ID {reference!r}",
                hint="pyctl network ls shows all, pyctl network create makes one",
            )
        return found

    def every(self) -> tuple[NetworkConfig, ...]:
        """All networks, by name."""
        rows = self.db.query("SELECT config, created_ns FROM networks ORDER BY name")
        return tuple(_decoded(row) for row in rows)

    def add(self, network: NetworkConfig) -> None:
        """A new one.  To be called in the transaction in which its subnets were chosen.  Raises Error: the name."""
        created_ns = time.time_ns()
        try:
            self.db.execute(
                "INSERT INTO networks (id, name, driver, created_ns, config) VALUES (?, ?, ?, ?, ?)",
                (network.id, network.name, network.driver, created_ns, dumps(network.replace(created_ns=created_ns))),
            )
        except ConstraintError as error:
            raise Error(
                f"network {network.name} already exists", hint="choose another name, or use --ignore"
            ) from error

    def replace(self, network: NetworkConfig) -> None:
        """Store what `network update` changed."""
        self.db.execute("UPDATE networks SET config = ? WHERE id = ?", (dumps(network), network.id))

    def remove(self, network: NetworkConfig) -> None:
        """Forget one.  Raises NetworkInUseError, Error for the default one."""
        if network.name == DEFAULT_NAME:
            raise Error(f"the default network {network.name} cannot be removed")

        def take() -> None:
            users = self.users(network.id)
            if users:
                raise NetworkInUseError(network.name, users)
            self.db.execute("DELETE FROM networks WHERE id = ?", (network.id,))

        self.db.write(take, frees_space=True)
        self.db.tell("network", "remove", id=network.id, network=network.name, driver=network.driver)

    # -- containers -----------------------------------------------------------------------------

    def users(self, network_id: str) -> tuple[str, ...]:
        """Ids of the containers that have the network."""
        rows = self.db.query("SELECT container_id FROM container_networks WHERE network_id = ?", (network_id,))
        return tuple(container_id for (container_id,) in rows)

    def used(self) -> frozenset[str]:
        """Ids of the networks that any container has."""
        return frozenset(network_id for (network_id,) in self.db.query("SELECT network_id FROM container_networks"))

    def attach(self, container_id: str, network_ids: Sequence[str]) -> None:
        """A container has these networks from now on.  Raises NotFound where one was removed meanwhile."""
        try:
            for network_id in network_ids:
                self.db.execute(
                    "INSERT OR IGNORE INTO container_networks (container_id, network_id) VALUES (?, ?)",
                    (container_id, network_id),
                )
        except ConstraintError as error:
            raise NotFound("a network of the container was removed meanwhile") from error

    def detach(self, container_id: str, network_id: str) -> None:
        """It has this one no longer, nor an address in it."""
        for table in ("container_networks", "network_leases"):
            self.db.execute(
                f"DELETE FROM {table} WHERE container_id = ? AND network_id = ?", (container_id, network_id)
            )

    # -- addresses ------------------------------------------------------------------------------

    def leases(self, network_id: str) -> list[Lease]:
        """Every address of a network that somebody has or had last."""
        sql = "SELECT network_id, address, container_id, pid, pid_start FROM network_leases WHERE network_id = ?"
        return [Lease(*row) for row in self.db.query(sql, (network_id,))]

    def addresses(self, container_id: str) -> dict[str, tuple[str, ...]]:
        """network id → addresses of one container."""
        found: dict[str, tuple[str, ...]] = {}
        sql = "SELECT network_id, address FROM network_leases WHERE container_id = ? ORDER BY address LIKE '%:%'"
        for network_id, address in self.db.query(sql, (container_id,)):
            found[network_id] = (*found.get(network_id, ()), address)
        return found

    def put_lease(self, lease: Lease) -> None:
        """Give an address to a container, whoever had it before."""
        self.db.execute(
            "INSERT OR REPLACE INTO network_leases (network_id, address, container_id, pid, pid_start)"
            " VALUES (?, ?, ?, ?, ?)",
            (lease.network_id, lease.address, lease.container_id, lease.pid, lease.pid_start),
        )

    def drop_orphans(self, network_id: str, start_time: Callable[[int], int]) -> None:
        """Forget addresses taken by a process that was killed before its container was stored."""
        rows = self.db.query(
            "SELECT address, pid, pid_start FROM network_leases WHERE network_id = ?"
            " AND container_id NOT IN (SELECT id FROM containers)",
            (network_id,),
        )
        for address, pid, pid_start in rows:
            if start_time(pid) != pid_start:
                self.db.execute(
                    "DELETE FROM network_leases WHERE network_id = ? AND address = ?", (network_id, address)
                )

    def drop_leases(self, container_id: str, network_id: str = "") -> None:
        """Give a container's addresses back (of one network, or all)."""
        self.db.execute(
            "DELETE FROM network_leases WHERE container_id = ?1 AND (?2 = '' OR network_id = ?2)",
            (container_id, network_id),
        )


def _decoded(row: tuple[str, int]) -> NetworkConfig:
    network: NetworkConfig = decode(row[0])
    return network if network.created_ns else network.replace(created_ns=row[1])
