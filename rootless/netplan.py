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
    uplink: bool = False  # it has another way out than its networks, so names outside are its business in any case


class Join(Value):
    """supervisor → network process, first on its connection; its network namespace comes along.  Answer: Joined."""

    plan: BridgePlan


class Connect(Value):
    """Add one interface (`network connect`).  To the supervisor, which passes it on.  Answer: Done or Failed."""

    network_id: str
    plan: BridgePlan  # with the new endpoint; the others in it count for nothing
    files: dict[str, str] = {}  # new texts of /etc/hosts and /etc/resolv.conf, by their names there


class Disconnect(Value):
    """Take one interface away.  To the supervisor, which passes it on.  Answer: Done or Failed."""

    network_id: str
    files: dict[str, str] = {}


class Joined(Value):
    """Every interface is there and configured."""


class Rejoin(Value):
    """network process → supervisors: it was started anew, connect again.  Answer: Done."""


class Refresh(Value):
    """command → network process: a network's name servers have changed.  Answer: Done."""

    network: NetworkConfig


class Hold(Value):
    """command → network process, on the channel that it was started with.  Answer: Standing or Failed."""

    runtime_root: str
    helper: str  # path of slirp4netns
    helper_args: tuple[str, ...] = ()
    scope: str = ""  # a systemd scope to be in; "": it stays in the command's cgroup
    cache_dir: str = ""
    library: str = ""  # the directory of pyroute2


class Probe(Value):
    """command → network process.  Answer: Standing.  It does not end as long as the connection is open."""


class Standing(Value):
    """The network process is ready."""

    pid: int  # on the host
    containers: tuple[str, ...] = ()  # ids of those that are joined now
