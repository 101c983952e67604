"""The mounts of an OCI configuration: the kernel's file systems, the user's mounts, the engine's files.

Weight: `rootless.values`, `rootless.errors`, `.spec_security`.  Order and options are those that a rootless
Podman 5.4 gives; see config.md and config-linux.md of the OCI runtime specification.
"""

from __future__ import annotations

from pyctl.engine.spec_security import is_unmasked
from pyctl.engine.users_maps import is_nested
from rootless.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyctl.engine.model import ContainerSpec, Mount
    from pyctl.engine.spec_facts import SpecFacts

INIT_TARGET = "/run/podman-init"  # the name that scripts which look at PID 1 know
TTY_GID = 5  # group "tty" of every distribution: owns the terminals, so that wall(1) and write(1) work
PROPAGATION = ("shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable")
# Words of -v and --mount that speak to the engine and not to mount(2).
ENGINE_WORDS = frozenset(("U", "z", "Z", "idmap", "nocopy", "copy", "tmpcopyup", "notmpcopyup"))
_NAMED_FILES = {
    "hosts": "/etc/hosts",
    "resolv.conf": "/etc/resolv.conf",
    "hostname": "/etc/hostname",
    ".containerenv": "/run/.containerenv",
}
NOTIFY_TARGET = "/run/notify"  # as with Podman
_READ_ONLY_TMPFS = ("/run", "/tmp", "/var/tmp")


def oci_mounts(spec: ContainerSpec, facts: SpecFacts) -> list[dict[str, Any]]:
    """All mounts, parents before what lies in them.

    A mount of the user's takes the place of the engine's at the same path; over /dev, /proc or /sys it
    also takes the place of all that the engine would put below.
    """
    own = {m.target for m in spec.mounts}
    hidden = tuple(t + "/" for t in own if t in ("/dev", "/proc", "/sys"))
    mounts = [
        m
        for m in (*_kernel_mounts(spec, facts), *_engine_mounts(spec, facts))
        if m["destination"] not in own and not m["destination"].startswith(hidden)
    ]
    mounts += [_user_mount(m, facts) for m in spec.mounts]
    mounts += _device_mounts(spec, facts)
    # The runtime mounts in this order: a parent that came later would cover what is in it.
    mounts.sort(key=lambda m: m["destination"].rstrip("/").count("/"))
    return mounts


def rootfs_propagation(spec: ContainerSpec) -> str:
    """`linux.rootfsPropagation`: as wide as the widest that a mount asks for, or its events never get out."""
    words = {o for m in spec.mounts for o in m.options}
    if words & {"shared", "rshared"}:
        return "shared"
    return "rslave" if words & {"slave", "rslave"} or spec.devices else ""


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def _kernel_mounts(spec: ContainerSpec, facts: SpecFacts) -> list[dict[str, Any]]:
    security = spec.security
    dev_options = ["nosuid", "strictatime", "mode=755", "size=65536k"]
    if spec.read_only and not spec.read_only_tmpfs:
        dev_options.append("ro")
    mounts = [_proc(spec), _mount("/dev", "tmpfs", "tmpfs", *dev_options), _sys(spec)]
    pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    if _group_is_mapped(TTY_GID, spec, facts):
        pts.append(f"gid={TTY_GID}")
    mounts.append(_mount("/dev/pts", "devpts", "devpts", *pts))
    mounts += _ipc_mounts(spec, facts)
    writable = security.privileged or is_unmasked("/sys/fs/cgroup", security.unmask)
    # A writable view of the host's own hierarchy would be CVE-2023-25809.
    access = "rw" if writable and spec.cgroupns == "private" else "ro"
    safe = ("rprivate", "nosuid", "noexec", "nodev", "relatime")
    mounts.append(_mount("/sys/fs/cgroup", "cgroup", "cgroup", *safe, access))
    return mounts


def _group_is_mapped(number: int, spec: ContainerSpec, facts: SpecFacts) -> bool:
    userns = spec.userns
    if userns.mode in ("auto", "map"):
        return any(r.inside <= number < r.inside + r.size for r in userns.gid_map)
    # keep-id and nomap number the subordinate ids from 0 on; without a namespace of its own, 0 is the caller.
    return facts.gid_count > number + (1 if is_nested(userns) else 0)


def _proc(spec: ContainerSpec) -> dict[str, Any]:
    if spec.pid == "host" or spec.pid.startswith("ns:"):
        # procfs can be mounted only for a pid namespace that the user namespace owns (user_namespaces(7)).
        return _mount("/proc", "bind", "/proc", "rbind", "nosuid", "noexec", "nodev", "rprivate")
    return _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev", *spec.security.proc_options)


def _sys(spec: ContainerSpec) -> dict[str, Any]:
    access = "rw" if spec.security.privileged else "ro"
    # sysfs shows one network namespace, and can be mounted only by the user namespace that owns that.
    if spec.network.mode in ("host", "ns") or is_nested(spec.userns):
        return _mount("/sys", "bind", "/sys", "rprivate", "nosuid", "noexec", "nodev", access, "rbind")
    return _mount("/sys", "sysfs", "sysfs", "rprivate", "nosuid", "noexec", "nodev", access)


def _ipc_mounts(spec: ContainerSpec, facts: SpecFacts) -> list[dict[str, Any]]:
    mounts = []
    locked = ["ro"] if spec.read_only and not spec.read_only_tmpfs else []
    shared = "/dev/shm" if spec.ipc == "host" or spec.ipc.startswith("ns:") else facts.shm_source
    if shared:
        mounts.append(_mount("/dev/shm", "bind", shared, "rbind", "rprivate", "nosuid", "noexec", "nodev", *locked))
    elif spec.ipc != "none":
        size = (f"size={spec.shm_size_bytes}",) if spec.shm_size_bytes else ()
        mounts.append(_mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", *size, *locked))
    if spec.ipc == "host" or spec.ipc.startswith("ns:"):
        if facts.host_mqueue:
            mounts.append(_mount("/dev/mqueue", "bind", "/dev/mqueue", "rbind", "nosuid", "noexec", "nodev"))
    elif facts.mqueue:
        mounts.append(_mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"))
    return mounts


def _engine_mounts(spec: ContainerSpec, facts: SpecFacts) -> list[dict[str, Any]]:
    mounts = []
    locked = ("ro", "nosuid", "noexec", "nodev") if spec.read_only else ()
    for name in facts.files:
        mounts.append(_mount(_NAMED_FILES[name], "bind", f"{facts.files_dir}/{name}", "bind", "rprivate", *locked))
    if facts.notify_dir:
        safe = ("ro", "rprivate", "nosuid", "noexec", "nodev")
        mounts.append(_mount(NOTIFY_TARGET, "bind", facts.notify_dir, "bind", *safe))
    if spec.init:
        mounts.append(_mount(INIT_TARGET, "bind", facts.init_path, "bind", "ro", "private"))
    if spec.timezone:
        zone = "/etc/localtime" if spec.timezone == "local" else f"{facts.zoneinfo}/{spec.timezone}"
        mounts.append(_mount("/etc/localtime", "bind", zone, "bind", "ro", "rprivate"))
    if spec.read_only and spec.read_only_tmpfs:
        # Not over a directory in which the user has mounted something: that would be hidden.
        mounts += [
            _mount(path, "tmpfs", "tmpfs", "rw", "rprivate", "nosuid", "nodev", "tmpcopyup")
            for path in _READ_ONLY_TMPFS
        ]
    return mounts


def _user_mount(mount: Mount, facts: SpecFacts) -> dict[str, Any]:
    words = [o for o in mount.options if o not in ENGINE_WORDS]
    access = "ro" if mount.read_only else "rw"
    if mount.kind == "tmpfs":
        copy = ["tmpcopyup"] if mount.copy_up else []
        return _mount(mount.target, "tmpfs", "tmpfs", access, *_with_defaults(words, ("nosuid", "nodev")), *copy)
    if mount.kind == "devpts":
        return _mount(mount.target, "devpts", "devpts", *words)
    source = mount.source
    defaults: tuple[str, ...] = ()
    if mount.kind == "volume":
        if mount.source not in facts.volumes:
            raise Error(
                f"volume {mount.source} of the container does not exist",
                hint=f"make an empty one: pyctl volume create {mount.source}",
            )
        source, defaults = facts.volumes[mount.source], ("nosuid", "nodev")
    elif mount.kind == "image":
        source, defaults = facts.images[mount.source], ("nosuid", "nodev")
    if mount.subpath:
        source = f"{source}/{mount.subpath.strip('/')}"
    words = _with_defaults(words, defaults)
    if "bind" not in words and "rbind" not in words:
        words.append("rbind")
    return _mount(mount.target, "bind", source, access, *words)


def _with_defaults(words: list[str], defaults: tuple[str, ...]) -> list[str]:
    """Add each default unless the word or its contrary is there, and a private propagation unless one is."""
    out = list(words)
    for default in defaults:
        if default not in out and default.removeprefix("no") not in out:
            out.append(default)
    if not any(w in PROPAGATION for w in out):
        out.append("private" if "bind" in out else "rprivate")
    return out


def _device_mounts(spec: ContainerSpec, facts: SpecFacts) -> list[dict[str, Any]]:
    """Device nodes: mknod(2) needs privileges of the host, so the host's node itself is put there."""
    given = {d.target: d for d in spec.devices}
    mounts = [
        _mount(path, "bind", path, "bind", "slave", "nosuid", "noexec", "rw")
        for path in (facts.devices if spec.security.privileged else ())
        if path not in given
    ]
    for device in spec.devices:
        mounts.append(_mount(device.target, "bind", device.source, "bind", "slave", "nosuid", "noexec", "rw"))
    return mounts
