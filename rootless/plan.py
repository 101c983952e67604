"""What is told to a supervisor, and what it says back: every message of the launch in one file.

Weight: `rootless.values` only.  The command line fills a `LaunchPlan` from the stored specification
(a pure function); the supervisor only acts on it.  Paths are absolute on the host; ids count inside
the engine's user namespace unless said.
"""

from __future__ import annotations

from rootless.netplan import BridgePlan
from rootless.values import Value

# --- parts of a plan -------------------------------------------------------------------------


class RootfsPlan(Value):
    """The container's root: an overlay of layers, or a directory as it is.

    driver: "fuse-overlayfs" | "overlay" | "directory" (then `merged` is that directory).
    lower: layer directories, topmost first.  The maps, `inside:outside:size` joined by ":", are
    for fuse-overlayfs's uidmapping/gidmapping options (keep-id: no layer is ever re-chowned).
    """

    driver: str
    merged: str
    lower: tuple[str, ...] = ()
    upper: str = ""
    work: str = ""
    uid_mapping: str = ""
    gid_mapping: str = ""
    root_like: str = ""  # directory whose mode and owner the container's root has; "": root:root 0755
    helper: str = ""  # path of the fuse-overlayfs program
    volatile: bool = True  # no sync of the upper layer: a crash may cost a container's unsaved files
    propagation: str = ""
    writeback: bool = True  # fuse-overlayfs: the kernel keeps writes back for a while; they must be synced
    squash: bool = False  # fuse-overlayfs: every file is root's, because its owner is not among the mapped ids


class CopyUp(Value):
    """Fill the empty directory `target`, a new volume, from `source` inside the mounted root, and give it its owner.

    Where the image has nothing there, or not `content`, the container's user owns it.
    """

    source: str  # absolute path in the container
    target: str  # directory on the host
    content: bool = True


class NetworkPlan(Value):
    """The network namespace and the helper that connects it.

    kind: "new" (an own, loopback only), "slirp4netns" and "pasta" (new + helper), "bridge" (new + `bridge`, by the
    network process; the former may have that too), "host", "join" (`join_path`, or the namespace of the supervisor
    whose runtime directory is `join_runtime_dir`).
    """

    kind: str
    join_path: str = ""
    join_runtime_dir: str = ""
    helper: str = ""  # path of slirp4netns or pasta
    helper_args: tuple[str, ...] = ()  # without descriptors, API socket, pid file and target, which the supervisor adds
    bridge: BridgePlan | None = None
    ports: tuple[PortForward, ...] = ()
    port_handler: str = "forwarder"  # "forwarder": rootless.forwarder; "slirp4netns": its API socket
    host_addresses: tuple[str, str] = ("", "")  # IPv4, IPv6: what the container calls the host; "": its gateway
    ping_group_range: str = "0 2147483647"  # clamped to the mapped ids by the supervisor; "" leaves the kernel's
    sysctls: dict[str, str] = {}  # net.* of a new namespace: a user namespace inside ours could not write them


class PortForward(Value):
    host_ip: str
    host_port: int
    container_port: int
    protocol: str = "tcp"


class CgroupWrite(Value):
    """One line into one cgroup v2 file.  `expected` is what must be read back ("": the value itself).

    Not `required`: a default that nobody asked for, left out where the kernel has no such file.
    """

    controller: str  # "memory"
    file: str  # "memory.max"
    value: str  # "67108864"
    option: str  # "--memory": for the message when it cannot be put in force
    expected: str = ""
    required: bool = True


class CgroupPlan(Value):
    """mode: "scope" (a systemd user scope), "cgroupfs" (below a writable cgroup), "disabled"."""

    mode: str = "disabled"
    slice: str = "user.slice"
    scope: str = ""  # "pyctl-<id>.scope"; cgroupfs: the directory's name, "": `parent` itself is split
    parent: str = ""  # cgroupfs: absolute cgroup path to make the container's cgroup in
    move_supervisor: bool = True  # False: the supervisor stays where it was started
    writes: tuple[CgroupWrite, ...] = ()


class LogPlan(Value):
    driver: str = "k8s-file"  # "k8s-file" | "json-file" | "journald" | "none" | "passthrough"
    path: str = ""
    max_size_bytes: int = 0  # 0: no bound
    max_files: int = 1
    fields: dict[str, str] = {}


class RuntimePlan(Value):
    """How the OCI runtime is called.  `kind` chooses the dialect: "crun" | "runc" | "other"."""

    path: str
    kind: str = "crun"
    global_args: tuple[str, ...] = ()  # "--debug" …


class HealthPlan(Value):
    """See pyctl.engine.model.Health; `args` are ready for exec, shell form expanded."""

    args: tuple[str, ...]
    interval_ns: int
    timeout_ns: int
    start_period_ns: int = 0
    start_interval_ns: int = 0
    retries: int = 3
    on_failure: str = "none"
    startup_args: tuple[str, ...] = ()
    startup_interval_ns: int = 0
    startup_timeout_ns: int = 0
    startup_retries: int = 0
    startup_success: int = 0
    max_log_count: int = 5
    max_log_size: int = 500


class NotifyPlan(Value):
    """How a service manager hears of the container, by sd_notify(3).

    mode: who says READY=1: "conmon" (the launching command, when the container has been started), "container" (itself),
    "healthy" (its health check).  The launching command says MAINPID; then it closes the gate, the last descriptor
    that comes with the plan, and from then on the supervisor speaks.
    """

    socket: str  # NOTIFY_SOCKET
    mode: str
    watchdog_usec: int = 0  # the supervisor gives signs of life for the container


class EventPlan(Value):
    """Where the supervisor writes down what happens to the container, and what it is called there; path "": nowhere."""

    path: str = ""
    image: str = ""
    labels: dict[str, str] = {}


class LaunchPlan(Value):
    """Everything a supervisor needs for one container, for all its restarts."""

    container_id: str
    name: str
    storage_dir: str  # <storage root>/containers/<id>: log, exit record, overlay directories
    runtime_dir: str  # <runtime root>/<id>: control socket, bundle, runtime state; gone with the supervisor
    config: str  # OCI config.json; the supervisor fills process.user (and HOME) from the mounted root
    rootfs: RootfsPlan
    network: NetworkPlan
    runtime: RuntimePlan
    cgroup: CgroupPlan = CgroupPlan()
    log: LogPlan = LogPlan()
    health: HealthPlan | None = None
    user: str = ""  # "", "name", "uid", "user:group", looked up in the root's /etc/passwd and /etc/group
    group_add: tuple[str, ...] = ()
    set_home: bool = True  # HOME was not given: take it from passwd
    passwd_name: str = ""  # of the line that a user without one gets in the root's /etc/passwd; "": its number
    passwd_home: str = ""  # its home; "": no line is added
    passwd_entry: str = ""  # the lines to add in place of the usual ones, with $UID and the like in them
    group_entry: str = ""
    files: dict[str, str] = {}  # name → content, written to <runtime_dir>/files before the runtime: /etc/hosts …
    copy_ups: tuple[CopyUp, ...] = ()
    make_dirs: tuple[str, ...] = ()  # made (0755, in the root, beneath only) before the runtime: the working directory
    require_dir: str = ""  # must be a directory in the root: a --workdir that no mount covers
    chowns: tuple[str, ...] = ()  # trees of the host that are given to the container's user (-v …:U)
    shm_of: str = ""  # "/proc/PID/ns/mnt": that container's /dev/shm takes the place of the supervisor's own
    tty: bool = False
    interactive: bool = False
    private_pid: bool = True  # False (pid=host, container:, ns:): the supervisor may not own a pid namespace
    remove: bool = False  # --rm: the supervisor deletes storage_dir when the container has ended
    cleanup_argv: tuple[str, ...] = ()  # executed in place of the supervisor at its end when nobody is attached
    restart: str = "no"
    restart_retries: int = 0
    restart_count: int = 0
    stop_signal: int = 15
    stop_timeout_s: int = 10
    timeout_s: int = 0
    pidfile: str = ""
    preserve_fds: int = 0
    start_env: tuple[str, ...] = ()  # further variables of the first process: NOTIFY_SOCKET, LISTEN_FDS …
    notify: NotifyPlan | None = None
    events: EventPlan = EventPlan()
    attached: bool = False  # the launching command stays and takes the streams (run without -d, start -a)


# --- supervisor -> command line, on the launch channel -----------------------------------------


class Ready(Value):
    """The container's first process has been executed."""

    pid: int  # on the host
    start_time: int  # field 22 of /proc/PID/stat, in clock ticks: pid + start time identify a process
    supervisor_pid: int
    started_ns: int
    main_pid: int = 0  # whom a service manager is to follow: the supervisor, or its guardian
    restart_count: int = 0
    paused: bool = False  # in the file that `ps` reads


class Failed(Value):
    """A stage failed; nothing of the container is left."""

    stage: str
    message: str
    hint: str = ""
    exit_code: int = 125
    errno: int = 0


class Exited(Value):
    """The container has ended for good (no restart follows).  Also the content of the exit record."""

    exit_code: int  # 128 + signal where a signal ended it
    signal: int = 0
    oom_killed: bool = False
    finished_ns: int = 0
    started_ns: int = 0
    restart_count: int = 0
    error: str = ""  # an honest reason where it was not the container's own end
    removed: bool = False  # storage_dir is gone (--rm)


# --- command line -> supervisor, on the control socket <runtime_dir>/ctl (SOCK_SEQPACKET) -------
# One request a connection.  After Attach, packets are one byte of kind and then data: b"i" stdin (alone: its
# end), b"o" stdout, b"e" stderr; a packet that starts with "{" is a message.


class Attach(Value):
    """Take the streams.  Stream packets follow both ways, Exited at the end."""

    stdin: bool = True
    rows: int = 0
    columns: int = 0


class Exec(Value):
    """Run another process in the container.  The three pipe ends, or nothing for a tty, come along by SCM_RIGHTS.

    Answer: ExecStarted (with the pty's master for a tty), then ExecExited; or Failed.
    """

    exec_id: str
    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    tty: bool = False
    detach: bool = False
    privileged: bool = False
    rows: int = 0
    columns: int = 0
    preserve_fds: int = 0
    detach_keys: str = ""


class ExecStarted(Value):
    pid: int


class ExecExited(Value):
    exit_code: int


class Kill(Value):
    """Send `signal` to the container's first process.  Answer: Done or Failed."""

    signal: int
    all: bool = False


class Begin(Value):
    """The first message to a supervisor: whose namespaces, and whether a pid namespace of its own is among them."""

    runtime_root: str
    private_pid: bool
    debug: bool = False


class Stop(Value):
    """Stop signal, then SIGKILL after `timeout_s` (-1: the container's own); no restart follows.  Answer: Exited."""

    timeout_s: int = -1
    signal: int = 0


class Resize(Value):
    rows: int
    columns: int


class Wait(Value):
    """Answer: Exited, when it has."""


class HealthRun(Value):
    """Run the health check now.  Answer: HealthReport."""


class HealthLog(Value):
    start_ns: int
    end_ns: int
    exit_code: int
    output: str


class HealthReport(Value):
    status: str  # "starting" | "healthy" | "unhealthy"
    failing_streak: int = 0
    log: tuple[HealthLog, ...] = ()


class Query(Value):
    """Answer: Status."""


class Status(Value):
    pid: int
    started_ns: int
    restart_count: int
    health: HealthReport | None = None
    paused: bool = False
    cgroup: str = ""  # directory of the container's own cgroup, "" where it has none


class OpenRoot(Value):
    """Answer: Done, with a descriptor of the root directory: the image's files with the container's changes, or,
    `inside`, as the container's processes see it, with all that is mounted there.  detached: of a mount of its own,
    which who asked can put somewhere."""

    inside: bool = False
    detached: bool = False


class Pause(Value):
    """Freeze every process of the container, or let them go on.  Answer: Done or Failed."""

    freeze: bool = True


class Update(Value):
    """Other limits (all of them or none), policy, check, now and after restarts.  Answer: Done or Failed."""

    writes: tuple[CgroupWrite, ...] = ()
    name: str = ""  # another name, "" keeps it
    new_health: bool = False  # `health` is another check from now on, or none
    health: HealthPlan | None = None
    restart: str = ""  # another restart policy, "" keeps it
    restart_retries: int = 0


class Done(Value):
    """The request was carried out."""
