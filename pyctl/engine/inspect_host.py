"""The HostConfig and NetworkSettings of `container inspect`.  Weight: `pyctl.engine.spec_security`, `.network_use`."""

from __future__ import annotations

from pyctl.engine import network_use, spec_security
from pyctl.engine.spec_facts import SpecFacts
from pyctl.engine.spec_mounts import PROPAGATION
from storage.networks import DEFAULT_NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyctl.engine.inspect import InspectFacts
    from pyctl.engine.model import ContainerSpec, DeviceRate, Mount
    from rootless.netplan import Endpoint


def recorded_annotations(spec: ContainerSpec) -> dict[str, str]:
    """The user's, and what Podman records as its own, under the names by which tools look for it."""
    found = dict(spec.annotations)
    for name, value in (
        ("cid-file", spec.cidfile),
        ("init", "TRUE" if spec.init else ""),
        ("privileged", "TRUE" if spec.security.privileged else ""),
        ("autoremove", "TRUE" if spec.remove else ""),
        ("seccomp", spec.security.seccomp),
        ("apparmor", spec.security.apparmor),
        ("label", ",".join(spec.security.labels)),
    ):
        if value:
            found["io.podman.annotations." + name] = value
    return found


def dependencies(spec: ContainerSpec) -> list[str]:
    """Ids of containers whose namespaces this one lives in."""
    found = [spec.network.target] if spec.network.mode == "container" else []
    for mode in (spec.pid, spec.ipc, spec.uts, spec.cgroupns):
        kind, _, other = mode.partition(":")
        if kind == "container":
            found.append(other)
    return list(dict.fromkeys(found))


# --- NetworkSettings -------------------------------------------------------------------------------


def exposed_ports(spec: ContainerSpec) -> list[str]:
    """ "80/tcp" of all that is exposed or published, by number."""
    keys = {*spec.network.exposed, *(f"{p.container_port}/{p.protocol}" for p in spec.network.ports)}
    return sorted(keys, key=lambda k: (int(k.partition("/")[0]), k))


def port_bindings(spec: ContainerSpec) -> dict[str, list[dict[str, str]]]:
    """HostConfig.PortBindings: published ports only."""
    found: dict[str, list[dict[str, str]]] = {}
    for port in spec.network.ports:
        binding = {"HostIp": port.host_ip or "0.0.0.0", "HostPort": str(port.host_port) if port.host_port else ""}
        found.setdefault(f"{port.container_port}/{port.protocol}", []).append(binding)
    return found


def network_settings(
    spec: ContainerSpec, shared_mode: str = "", endpoints: tuple[Endpoint, ...] = ()
) -> dict[str, Any]:
    """Ports with all that is exposed (null where it is not published); addresses in Networks.

    shared_mode: the network mode of the container that `container:ID` names.  The default network's addresses stand at
    the top too, as Podman has it.
    """
    bound = port_bindings(spec)
    settings: dict[str, Any] = {
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "MacAddress": "",
        "Bridge": "",
        "SandboxID": "",
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "Ports": {key: bound.get(key) for key in exposed_ports(spec)},
        "SandboxKey": spec.network.target if spec.network.mode == "ns" else "",
    }
    mode = shared_mode if spec.network.mode == "container" else spec.network.mode
    if mode in ("host", "none", "slirp4netns", "pasta"):
        settings["Networks"] = {mode: _network(mode)}
    if endpoints or spec.network.mode == "bridge":
        settings.setdefault("Networks", {}).update({e.network.name: _endpoint(e) for e in endpoints})
        if len(endpoints) == 1 and endpoints[0].network.name == DEFAULT_NAME:
            settings.update({k: v for k, v in _addresses(endpoints[0]).items() if v})
    return settings


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    return {
        **_network(endpoint.network.id),
        **_addresses(endpoint),
        "Aliases": list(endpoint.aliases),
    }


def _addresses(endpoint: Endpoint) -> dict[str, Any]:
    found: dict[str, Any] = {"MacAddress": endpoint.mac}
    for address, gateway in network_use.with_gateways(endpoint):
        text, _, length = address.partition("/")
        if ":" in text:
            found.update({"IPv6Gateway": gateway, "GlobalIPv6Address": text, "GlobalIPv6PrefixLen": int(length)})
        else:
            found.update({"Gateway": gateway, "IPAddress": text, "IPPrefixLen": int(length)})
    return found


def _network(name: str) -> dict[str, Any]:
    return {
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "MacAddress": "",
        "NetworkID": name,
        "DriverOpts": None,
        "IPAMConfig": None,
        "Links": None,
    }


def network_mode(spec: ContainerSpec) -> str:
    """HostConfig.NetworkMode."""
    network = spec.network
    if network.mode in ("container", "ns"):
        return f"{network.mode}:{network.target}"
    return network.target or network.mode if network.mode == "bridge" else network.mode


# --- HostConfig ------------------------------------------------------------------------------------


def host_config(spec: ContainerSpec, facts: InspectFacts) -> dict[str, Any]:
    """Everything about how the container stands in the host."""
    tree: dict[str, Any] = {
        "Binds": [_bind(m) for m in spec.mounts if m.kind in ("bind", "volume")],
        "CgroupManager": facts.cgroup_manager,
        "CgroupMode": spec.cgroupns,
        "ContainerIDFile": spec.cidfile,
        "LogConfig": {
            "Type": spec.log.driver,
            "Config": None,
            "Path": facts.log_path,
            "Tag": spec.log.tag,
            "Size": _decimal_size(spec.log.max_size_bytes),
        },
        "NetworkMode": network_mode(spec),
        "PortBindings": port_bindings(spec),
        "RestartPolicy": {"Name": spec.restart, "MaximumRetryCount": spec.restart_retries},
        "AutoRemove": spec.remove,
        "AutoRemoveImage": False,
        "Annotations": recorded_annotations(spec) or None,
        "VolumeDriver": "",
        "VolumesFrom": list(spec.volumes_from) or None,
        "CapAdd": list(spec.security.cap_add),
        "CapDrop": list(spec.security.cap_drop),
        "Dns": list(spec.network.dns),
        "DnsOptions": list(spec.network.dns_option),
        "DnsSearch": list(spec.network.dns_search),
        "ExtraHosts": list(spec.network.add_hosts),
        "HostsFile": spec.network.hosts_file,
        "GroupAdd": list(spec.group_add),
        "IpcMode": spec.ipc,
        "Cgroup": "",
        "Cgroups": "default" if spec.cgroups == "enabled" else spec.cgroups,
        "Links": None,
        "OomScoreAdj": spec.oom_score_adj or 0,
        "PidMode": spec.pid,
        "Privileged": spec.security.privileged,
        "PublishAllPorts": spec.network.publish_all,
        "ReadonlyRootfs": spec.read_only,
        "SecurityOpt": sorted(spec.security.options),
        "Tmpfs": {m.target: _tmpfs(m) for m in spec.mounts if m.kind == "tmpfs"},
        "UTSMode": spec.uts,
        "UsernsMode": _userns(spec),
        "ShmSize": spec.shm_size_bytes,
        "Runtime": "oci",
        "ConsoleSize": [0, 0],
        "Isolation": "",
        "Devices": [
            {"PathOnHost": d.source, "PathInContainer": d.target, "CgroupPermissions": d.permissions}
            for d in spec.devices
        ],
        "DiskQuota": 0,
        "KernelMemory": 0,
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
        "CgroupParent": spec.cgroup_parent,
        "Ulimits": _ulimits(spec, facts),
        **_limits(spec),
    }
    if spec.init:
        tree["Init"] = True
    if facts.uid_map:
        tree["IDMappings"] = {"UidMap": list(facts.uid_map), "GidMap": list(facts.gid_map)}
    return tree


def _userns(spec: ContainerSpec) -> str:
    userns = spec.userns
    if userns.mode in ("container", "ns"):
        return f"{userns.mode}:{userns.target}"
    return "" if userns.mode == "host" else "private"


def _bind(mount: Mount) -> str:
    words = ["ro" if mount.read_only else "rw", *(o for o in mount.options if o not in PROPAGATION)]
    words.append(next((o for o in mount.options if o in PROPAGATION), "private" if "bind" in words else "rprivate"))
    if mount.kind == "volume":
        words += [w for w in ("nosuid", "nodev") if w not in words and w[2:] not in words]
    if "bind" not in words and "rbind" not in words:
        words.append("rbind")
    return f"{mount.source}:{mount.target}:{','.join(words)}"


def _tmpfs(mount: Mount) -> str:
    words = [*mount.options, "ro" if mount.read_only else "rw"]
    if not any(w in PROPAGATION for w in words):
        words.append("rprivate")
    words += [w for w in ("nosuid", "nodev") if w not in words and w[2:] not in words]
    return ",".join([*words, *(("tmpcopyup",) if mount.copy_up else ())])


def _decimal_size(size: int) -> str:
    """Bytes as docker/go-units writes them: at most four digits, units of 1000."""
    value, unit = float(size), 0
    while value >= 1000 and unit < 4:
        value /= 1000
        unit += 1
    return f"{value:.4g}{('B', 'kB', 'MB', 'GB', 'TB')[unit]}"


def _ulimits(spec: ContainerSpec, facts: InspectFacts) -> list[dict[str, Any]]:
    held = SpecFacts(rootfs="", files_dir="", rlimits=facts.rlimits)
    return [
        {"Name": r["type"], "Soft": _signed(r["soft"]), "Hard": _signed(r["hard"])}
        for r in spec_security.rlimits(spec, held)
    ]


def _signed(value: int) -> int:
    return -1 if value >= 1 << 63 else value


def _limits(spec: ContainerSpec) -> dict[str, Any]:
    limits = spec.limits
    swap = limits.memory_swap_bytes or limits.memory_bytes * 2  # twice the memory, where only that is bounded
    return {
        "CpuShares": limits.cpu_shares,
        "Memory": limits.memory_bytes,
        "NanoCpus": limits.cpu_quota_us * 1_000_000_000 // limits.cpu_period_us if limits.cpu_period_us else 0,
        "BlkioWeight": limits.blkio_weight,
        "BlkioWeightDevice": [{"Path": d.path, "Weight": d.rate} for d in limits.blkio_weight_device] or None,
        "BlkioDeviceReadBps": _rates(limits.device_read_bps),
        "BlkioDeviceWriteBps": _rates(limits.device_write_bps),
        "BlkioDeviceReadIOps": _rates(limits.device_read_iops),
        "BlkioDeviceWriteIOps": _rates(limits.device_write_iops),
        "CpuPeriod": limits.cpu_period_us,
        "CpuQuota": limits.cpu_quota_us,
        "CpuRealtimePeriod": limits.cpu_rt_period_us,
        "CpuRealtimeRuntime": limits.cpu_rt_runtime_us,
        "CpusetCpus": limits.cpuset_cpus,
        "CpusetMems": limits.cpuset_mems,
        "MemoryReservation": limits.memory_reservation_bytes,
        "MemorySwap": swap,
        "MemorySwappiness": max(limits.memory_swappiness, 0),
        "OomKillDisable": limits.oom_kill_disable,
        "PidsLimit": limits.pids,
        "CgroupConf": dict(_pair(w) for w in limits.cgroup_conf) or None,
    }


def _pair(word: str) -> tuple[str, str]:
    name, _, value = word.partition("=")
    return name, value


def _rates(rates: tuple[DeviceRate, ...]) -> list[dict[str, Any]] | None:
    return [{"Path": d.path, "Rate": d.rate} for d in rates] or None
