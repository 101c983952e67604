"""What `info` tells of the machine, the storage and the settings, with Podman's keys as far as they are true here.

Weight: light, but it asks much: every program's version, the state of every container.  Not on the path of `run`.
"""

from __future__ import annotations

import os
import sys

from pyctl.engine import programs
from rootless import capabilities, cgroup_facts, seccomp
from rootless.fds import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyctl.engine.engine import Engine
    from rootless.idmap import IdRow

# uname -m as Go, and so every image, names it.
GO_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm", "ppc64le": "ppc64le"}
_TICKS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")  # proc_stat(5)


def info(engine: Engine, version: str) -> dict[str, Any]:
    """All of it.  Raises Error where the storage or the configuration cannot be read."""
    return {
        "host": _host(engine),
        "store": _store(engine),
        "registries": _registries(engine),
        "plugins": {
            "authorization": None,
            "log": ["k8s-file", "json-file", "journald", "none", "passthrough"],
            "network": [],
            "volume": ["local"],
        },
        "version": {
            "Version": version,
            "Os": "linux",
            "OsArch": f"linux/{machine()}",
            "PythonVersion": ".".join(str(part) for part in sys.version_info[:3]),
        },
    }


def machine() -> str:
    """This machine's architecture under Go's name."""
    name = os.uname().machine
    return GO_MACHINES.get(name, name)


# --- the machine -----------------------------------------------------------------------------------


def _host(engine: Engine, proc: str = "/proc") -> dict[str, Any]:
    kernel = os.uname()
    memory = memory_bytes(proc)
    facts = cgroup_facts.detect(os.environ, engine.uid, proc)
    available = facts.systemd_controllers if facts.manager == "systemd" else facts.parent_controllers
    return {
        "arch": machine(),
        "cgroupControllers": list(available),
        "cgroupManager": facts.manager or "disabled",
        "cgroupVersion": "v2" if facts.version == "v2" else "v1",
        "cpuUtilization": cpu_utilization(proc),
        "cpus": os.cpu_count() or 1,
        "databaseBackend": "sqlite",
        "distribution": distribution(),
        "eventLogger": "file",
        "hostname": kernel.nodename,
        "idMappings": {"gidmap": _mapping(engine.id_map.gids), "uidmap": _mapping(engine.id_map.uids)},
        "kernel": kernel.release,
        "logDriver": engine.config.log_driver,
        "memFree": memory.get("MemAvailable", memory.get("MemFree", 0)),
        "memTotal": memory.get("MemTotal", 0),
        "networkBackend": "slirp4netns",
        "ociRuntime": _runtime(engine),
        "os": "linux",
        "remoteSocket": {"exists": False, "path": ""},
        "pasta": _program("pasta", engine),
        "rootlessNetworkCmd": engine.config.default_rootless_network_cmd or "slirp4netns",
        "security": _security(engine),
        "serviceIsRemote": False,
        "slirp4netns": _program("slirp4netns", engine),
        "swapFree": memory.get("SwapFree", 0),
        "swapTotal": memory.get("SwapTotal", 0),
        "uptime": uptime(proc),
        "variant": "v8" if kernel.machine == "aarch64" else "",
        "batchJob": facts.job,
    }


def _mapping(rows: tuple[IdRow, ...]) -> list[dict[str, int]]:
    return [{"container_id": row.inside, "host_id": row.outside, "size": row.count} for row in rows]


def memory_bytes(proc: str = "/proc") -> dict[str, int]:
    """ "MemTotal" → bytes, of /proc/meminfo."""
    found = {}
    for line in read_file(f"{proc}/meminfo").decode().splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            found[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return found


def cpu_utilization(proc: str = "/proc") -> dict[str, float]:
    """Shares of the time since boot, in per cent."""
    words = read_file(f"{proc}/stat").decode().partition("\n")[0].split()[1:]
    ticks = dict(zip(_TICKS, (int(word) for word in words), strict=False))
    total = sum(ticks.values()) or 1
    return {
        "userPercent": round(100 * (ticks.get("user", 0) + ticks.get("nice", 0)) / total, 2),
        "systemPercent": round(100 * ticks.get("system", 0) / total, 2),
        "idlePercent": round(100 * ticks.get("idle", 0) / total, 2),
    }


def uptime(proc: str = "/proc") -> str:
    """ "26h 3m 7.00s (Approximately 1.08 days)", as Podman writes it."""
    seconds = int(float(read_file(f"{proc}/uptime").split()[0]))
    text = f"{seconds // 3600}h {seconds // 60 % 60}m {seconds % 60}.00s"
    return text if seconds < 3600 else f"{text} (Approximately {seconds / 86400:.2f} days)"


def distribution(path: str = "/etc/os-release") -> dict[str, str]:
    """Name, version, code name and variant, of os-release(5)."""
    try:
        lines = read_file(path).decode("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    values = {name: value.strip("\"'") for name, _, value in (line.partition("=") for line in lines)}
    named = {
        "codename": values.get("VERSION_CODENAME", ""),
        "distribution": values.get("ID", "unknown"),
        "variant": values.get("VARIANT_ID", ""),
        "version": values.get("VERSION_ID", "unknown"),
    }
    return {name: value for name, value in named.items() if value}


def _version_text(path: str, engine: Engine) -> str:
    numbers = programs.version(path, engine.cache_dir)
    return f"{os.path.basename(path)} version {'.'.join(str(n) for n in numbers)}" if numbers else ""


def _program(name: str, engine: Engine) -> dict[str, str]:
    path = programs.find(name)
    return {"executable": path, "version": _version_text(path, engine) if path else ""}


def _runtime(engine: Engine) -> dict[str, str]:
    name = str(engine.globals.runtime or engine.config.runtime)
    path = programs.runtime_path(name, engine.config.runtimes)
    return {"name": os.path.basename(name), "path": path, "version": _version_text(path, engine)}


def _security(engine: Engine) -> dict[str, Any]:
    profile = engine.config.seccomp_profile or seccomp.site_profile(os.environ.get("HOME", ""))
    held = capabilities.effective(base=engine.config.default_capabilities or capabilities.DEFAULT)
    return {
        "apparmorEnabled": os.path.isdir("/sys/kernel/security/apparmor"),
        "capabilities": ",".join(sorted(held)),
        "rootless": engine.uid != 0,
        "seccompEnabled": os.path.exists("/proc/sys/kernel/seccomp/actions_avail"),
        "seccompProfilePath": profile or "default",
        "selinuxEnabled": os.path.isdir("/sys/fs/selinux"),
    }


# --- the storage -----------------------------------------------------------------------------------


def _store(engine: Engine) -> dict[str, Any]:
    from pyctl.engine import state
    from pyctl.engine.config import load
    from storage.overlay import fuse_report
    from storage.paths import filesystem_type

    paths = engine.paths
    records = state.every(engine.db)
    running = sum(record.alive for record in records)
    paused = sum(record.paused for record in records)
    (images,) = engine.db.one("SELECT count(*) FROM images") or (0,)
    room = os.statvfs(paths.root)
    origin = load(os.environ, engine.uid).origins.get("root", "")
    driver = engine.storage_driver
    options = {}
    if driver == "fuse-overlayfs":
        report = fuse_report(programs.find(driver))
        version = f"{driver} version {report.version}" if report.version else ""
        options = {"overlay.mount_program": {"Executable": report.path, "Version": version}}
    return {
        "configFile": origin,
        "containerStore": {
            "number": len(records),
            "paused": paused,
            "running": running - paused,
            "stopped": len(records) - running,
        },
        "graphDriverName": driver,
        "graphOptions": options,
        "graphRoot": paths.root,
        "graphRootAllocated": room.f_blocks * room.f_frsize,
        "graphRootUsed": (room.f_blocks - room.f_bfree) * room.f_frsize,
        "graphStatus": {"Backing Filesystem": filesystem_type(paths.root)},
        "imageCopyTmpDir": engine.config.image_copy_tmp_dir or paths.partial,
        "imageStore": {"number": images},
        "runRoot": engine.runtime_root,
        "transientStore": False,
        "volumePath": paths.volumes,
    }


def _registries(engine: Engine) -> dict[str, Any]:
    from storage import registries_conf

    conf = registries_conf.load(os.environ)
    found: dict[str, Any] = {"search": list(conf.search)} if conf.search_origin else {}
    for entry in conf.registries:
        found[entry.prefix] = {
            "Prefix": entry.prefix,
            "Location": entry.location,
            "Insecure": entry.insecure,
            "Blocked": entry.blocked,
            "Mirrors": [{"Location": m.location, "Insecure": m.insecure} for m in entry.mirrors],
        }
    return found
