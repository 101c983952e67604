"""What a container is: the immutable values that are stored, planned from and shown by `inspect`.

Weight: `rootless.values` only.  Units live in the names: `_bytes`, `_us` (microseconds), `_ns`, `_s`.
A field left at its default was not asked for.
"""

from __future__ import annotations

from rootless.values import Value


class Mount(Value):
    """One file system that the user or the image put into the container (`-v`, `--mount`, `--tmpfs`, VOLUME)."""

    kind: str  # "bind" | "volume" | "tmpfs" | "image" | "devpts"
    target: str  # absolute path in the container
    source: str = ""  # host path (bind), volume name (volume), image id (image)
    read_only: bool = False
    options: tuple[str, ...] = ()  # further mount options, validated: "rshared", "noexec", "size=64m", "U", "z" …
    anonymous: bool = False  # a volume that goes with its container
    subpath: str = ""
    no_copy: bool = False  # volume: do not fill an empty one from the image
    copy_up: bool = False  # tmpfs: start with the image's content


class Port(Value):
    """One published port (ranges are expanded)."""

    container_port: int
    host_port: int = 0  # 0: the engine picks a free one at create and stores it
    protocol: str = "tcp"  # "tcp" | "udp" | "sctp"
    host_ip: str = ""  # "": the configured default bind address


class NetworkUse(Value):
    """A user-defined network that the container is on, and what was asked for there ("": the engine chooses)."""

    network_id: str
    name: str
    interface: str = ""  # in the container
    ip: str = ""
    ip6: str = ""
    mac: str = ""
    aliases: tuple[str, ...] = ()


class Network(Value):
    """How the container reaches others."""

    mode: str  # "slirp4netns" | "none" | "host" | "container" | "ns" | "private" | "pasta" | "bridge"
    target: str = ""  # container id, namespace path
    options: tuple[str, ...] = ()  # "allow_host_loopback=true", "mtu=1500", …
    endpoints: tuple[NetworkUse, ...] = ()  # of "bridge"
    ports: tuple[Port, ...] = ()
    exposed: tuple[str, ...] = ()  # "80/tcp" from the image and --expose
    publish_all: bool = False
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_option: tuple[str, ...] = ()
    add_hosts: tuple[str, ...] = ()  # "name:ip" as given; "name:host-gateway"
    no_hosts: bool = False
    no_hostname: bool = False
    hosts_file: str = ""  # --hosts-file: "" | "image" | "none" | a path
    no_resolv: bool = False  # --dns=none


class Health(Value):
    """A health check (docker's HEALTHCHECK and podman's --health-*)."""

    test: tuple[str, ...]  # ("CMD", …) | ("CMD-SHELL", line) | ("NONE",)
    interval_ns: int = 30_000_000_000  # 0: never by timer
    timeout_ns: int = 30_000_000_000
    start_period_ns: int = 0
    start_interval_ns: int = 0
    retries: int = 3
    on_failure: str = "none"  # "none" | "kill" | "restart" | "stop"
    startup_test: tuple[str, ...] = ()
    startup_interval_ns: int = 30_000_000_000
    startup_timeout_ns: int = 30_000_000_000
    startup_retries: int = 0
    startup_success: int = 0
    max_log_count: int = 5
    max_log_size: int = 500
    log_destination: str = "local"


class DeviceRate(Value):
    """One row of io.max or io.weight: a block device and a number."""

    path: str
    rate: int


class Limits(Value):
    """Resource limits; 0 and "" mean not asked for, -1 unlimited where Podman accepts it."""

    memory_bytes: int = 0
    memory_swap_bytes: int = 0  # memory + swap, as Docker counts
    memory_reservation_bytes: int = 0
    memory_swappiness: int = -1
    cpu_quota_us: int = 0
    cpu_period_us: int = 0
    cpu_shares: int = 0
    cpu_rt_period_us: int = 0
    cpu_rt_runtime_us: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids: int = 0
    blkio_weight: int = 0
    blkio_weight_device: tuple[DeviceRate, ...] = ()
    device_read_bps: tuple[DeviceRate, ...] = ()
    device_write_bps: tuple[DeviceRate, ...] = ()
    device_read_iops: tuple[DeviceRate, ...] = ()
    device_write_iops: tuple[DeviceRate, ...] = ()
    oom_kill_disable: bool = False
    cgroup_conf: tuple[str, ...] = ()  # "memory.high=1073741824"


class Ulimit(Value):
    name: str  # "nofile"
    soft: int  # -1: unlimited
    hard: int


class IdRange(Value):
    """`size` ids from `inside` on stand for those from `outside` on (one row of uid_map).

    For a container's own nested namespace `outside` counts in the engine's user namespace
    (podman's "intermediate" ids: 0 is the caller).
    """

    inside: int
    outside: int
    size: int


class UserNamespace(Value):
    """`mode`: "host" (the engine's shared one), "keep-id", "auto", "nomap", "map" (--uidmap), "container", "ns"."""

    mode: str = "host"
    target: str = ""
    uid_map: tuple[IdRange, ...] = ()
    gid_map: tuple[IdRange, ...] = ()
    keep_uid: int = -1  # keep-id:uid=N
    keep_gid: int = -1
    size: int = 0  # keep-id:size=N and auto:size=N; 0: the default


class Security(Value):
    privileged: bool = False
    cap_add: tuple[str, ...] = ()  # "CAP_NET_ADMIN" | "ALL"
    cap_drop: tuple[str, ...] = ()
    no_new_privileges: bool = False
    seccomp: str = ""  # "" default profile | "unconfined" | path of a JSON profile
    apparmor: str = ""
    labels: tuple[str, ...] = ()  # SELinux: "disable", "type:…"
    mask: tuple[str, ...] = ()
    unmask: tuple[str, ...] = ()  # "ALL" or paths and globs
    proc_options: tuple[str, ...] = ()  # --security-opt proc-opts=: "hidepid=2"
    options: tuple[str, ...] = ()  # --security-opt as given, for inspect


class Log(Value):
    driver: str = "k8s-file"  # "k8s-file" | "json-file" | "journald" | "none" | "passthrough"
    path: str = ""
    max_size_bytes: int = 0  # 0: the configured default
    max_files: int = 1
    tag: str = ""
    options: tuple[str, ...] = ()


class Device(Value):
    source: str
    target: str
    permissions: str = "rwm"


class ContainerSpec(Value):
    """All that was asked for and resolved at `create`; written once, never changed by running.

    `update` and `rename` replace it whole.
    """

    id: str  # 64 hex digits
    name: str
    created_ns: int  # since the epoch
    command_line: tuple[str, ...] = ()  # the pyctl command that made it, for inspect's CreateCommand

    image: str = ""  # as the user named it, resolved: "docker.io/library/alpine:latest"
    image_id: str = ""  # 64 hex digits of the config's digest; "" with rootfs
    image_digest: str = ""  # "sha256:…" of the manifest
    rootfs: str = ""  # --rootfs directory
    rootfs_overlay: bool = False  # --rootfs DIR:O
    platform: str = "linux/amd64"

    args: tuple[str, ...] = ()  # what runs: entrypoint + command
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    path: str = ""
    env: tuple[str, ...] = ()  # "A=b", in order, names once
    workdir: str = "/"
    make_workdir: bool = False  # it is the image's, which is made where it is missing; --workdir must be there
    user: str = ""  # "", "name", "uid", "user:group"
    group_add: tuple[str, ...] = ()  # names, numbers or "keep-groups"
    hostname: str = ""
    umask: int = 0o022
    stop_signal: int = 15
    stop_timeout_s: int = 10
    timeout_s: int = 0  # 0: may run for ever
    tty: bool = False
    interactive: bool = False  # stdin stays open
    init: bool = False
    init_path: str = ""
    remove: bool = False  # --rm
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}

    mounts: tuple[Mount, ...] = ()
    read_only: bool = False
    read_only_tmpfs: bool = True
    shm_size_bytes: int = 65536 * 1000
    devices: tuple[Device, ...] = ()
    ulimits: tuple[Ulimit, ...] = ()
    sysctls: dict[str, str] = {}
    oom_score_adj: int | None = None
    timezone: str = ""

    network: Network = Network(mode="slirp4netns")
    pid: str = "private"  # "private" | "host" | "container:ID" | "ns:PATH"
    ipc: str = "private"  # + "shareable" | "none"
    uts: str = "private"
    cgroupns: str = "private"
    userns: UserNamespace = UserNamespace()
    security: Security = Security()

    cgroups: str = "enabled"  # "enabled" | "disabled" | "no-conmon" | "split"
    cgroup_parent: str = ""
    limits: Limits = Limits()

    runtime: str = ""  # "" the configured one | a name | a path
    log: Log = Log()
    restart: str = "no"  # "no" | "on-failure" | "always" | "unless-stopped"
    restart_retries: int = 0  # of on-failure; 0: no bound
    health: Health | None = None
    detach_keys: str = "ctrl-p,ctrl-q"
    preserve_fds: int = 0
    sdnotify: str = "container"
    passwd: bool = True  # a user whom the image does not know gets lines in its passwd and group
    passwd_entry: str = ""
    group_entry: str = ""
    personality: str = ""  # "LINUX32": personality(2)
    volumes_from: tuple[str, ...] = ()  # as given, for inspect; what they brought is in `mounts`
    cidfile: str = ""
    pidfile: str = ""
