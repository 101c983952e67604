"""What an OCI configuration depends on beside the container's specification: this host, now.

Weight: `rootless.values` only.  Nothing of this is stored with a container: a limit of the session, a device or a
program that was there yesterday may be gone today, and a stored one made containers unstartable after an upgrade.
"""

from __future__ import annotations

from rootless.values import Value


class SpecFacts(Value):
    """Facts for `pyctl.engine.spec.oci_config`; paths are absolute on the host.

    uid_count, gid_count: how many ids the engine's user namespace maps, from 0 on (1: the caller's own only).
    rlimits: "nofile" → (soft, hard) of this process, -1 for no limit.
    seccomp_bpf: base64 of a finished program (crun only); seccomp: a `linux.seccomp` object as JSON text; at most
    one of the two, both "" where the container runs without a filter.
    joined: namespace type of config.json ("pid", "ipc", "uts", "cgroup", "user") → path to join.
    """

    rootfs: str
    files_dir: str  # holds the files named in `files`
    files: tuple[str, ...] = ("hosts", "resolv.conf", "hostname", ".containerenv")
    uid_count: int = 1
    gid_count: int = 1
    rlimits: dict[str, tuple[int, int]] = {}
    seccomp_bpf: str = ""
    seccomp: str = ""
    default_capabilities: tuple[str, ...] = ()  # the site's own default set; () for the built-in one
    capabilities: tuple[str, ...] = ()  # all that this kernel has; () for all that are known
    init_path: str = ""  # where --init's program is
    devices: tuple[str, ...] = ()  # device nodes that the caller may open, for --privileged
    volumes: dict[str, str] = {}  # volume name → directory
    images: dict[str, str] = {}  # image id → mounted directory
    joined: dict[str, str] = {}
    notify_dir: str = ""  # holds the socket by which the container speaks to its service manager
    shm_source: str = ""  # /dev/shm of the container whose IPC namespace is joined
    zoneinfo: str = "/usr/share/zoneinfo"
    mqueue: bool = True  # the kernel has POSIX message queues
    host_mqueue: bool = False  # /dev/mqueue of the host is mounted, for --ipc=host
    apparmor: bool = False
    rows: int = 0
    columns: int = 0
