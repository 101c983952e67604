"""User-defined networks as values: what is stored of them, and what is told to the network process.

Weight: `rootless.values` only.  Addresses are text as inet_ntop(3) writes it; `cidr` is an address with a prefix
length ("10.89.0.2/24").
"""

from __future__ import annotations

from rootless.values import Value

# --- stored ------------------------------------------------------------------------------------


class Subnet(Value):
    """One range of addresses.  first, last: bounds of what is handed out, "" for the whole subnet."""

    subnet: str  # "10.89.0.0/24"
    gateway: str = ""  # the bridge's own address; "": none
    first: str = ""
    last: str = ""


class Route(Value):
    """A static route of every container on a network."""

    destination: str  # cidr
    gateway: str
    metric: int = 0  # 0: not given


class NetworkConfig(Value):
    """One network as it was created."""

    id: str  # 64 hex digits
    name: str
    interface: str  # of the bridge
    created_ns: int = 0
    driver: str = "bridge"
    subnets: tuple[Subnet, ...] = ()
    routes: tuple[Route, ...] = ()
    internal: bool = False
    ipv6: bool = False
    dns_enabled: bool = True
    dns_servers: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    options: dict[str, str] = {}  # "mtu", "isolate", "vlan", "metric", "no_default_route"
    ipam_driver: str = "host-local"  # or "none": containers get no addresses


# --- told to the network process ----------------------------------------------------------------


class Endpoint(Value):
    """One interface of one container on one network."""

    network: NetworkConfig
    interface: str  # in the container: "eth0"
    mac: str
    addresses: tuple[str, ...] = ()  # cidr, IPv4 before IPv6
    aliases: tuple[str, ...] = ()


class BridgePlan(Value):
    """What a supervisor asks the network process for; also what it asks for again when that was killed."""

    container_id: str
    name: str
    endpoints: tuple[Endpoint, ...] = ()
    dns_servers: tuple[str, ...] = ()  # --dns: asked in place of the host's for what is outside


class Join(Value):
    """supervisor → network process, first on its connection; its network namespace comes along.  Answer: Joined."""

    plan: BridgePlan


class Connect(Value):
    """Add one interface (`network connect`).  To the supervisor, which passes it on.  Answer: Done or Failed."""

    endpoint: Endpoint
    hosts: str = ""  # new text of /etc/hosts; "": as it was


class Disconnect(Value):
    """Take one interface away.  To the supervisor, which passes it on.  Answer: Done or Failed."""

    network_id: str
    hosts: str = ""


class Joined(Value):
    """Every interface is there and configured."""


class Rejoin(Value):
    """network process → supervisors: it was started anew, connect again.  Answer: Done."""


class Refresh(Value):
    """command → network process: a network's name servers have changed.  Answer: Done."""

    network: NetworkConfig


class Probe(Value):
    """command → network process.  Answer: Standing, when it has made its namespace."""


class Standing(Value):
    """The network process is ready."""

    pid: int
    networks: tuple[str, ...] = ()  # ids of those that have a bridge now
