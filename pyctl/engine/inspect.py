"""`container inspect`: a container as JSON, with Podman 5.4's keys, which scripts and Docker's tools read.

Weight: `pyctl.engine.model`, `.spec_security`, `.inspect_host`; loaded by `inspect` alone.  Pure.
Where Podman shows a path or number of a daemon that does not exist here, the nearest thing that does is shown.
"""

from __future__ import annotations

from pyctl.engine import inspect_host, spec_security
from pyctl.engine.request_text import signal_name
from pyctl.engine.spec_mounts import INIT_TARGET, PROPAGATION
from rootless import capabilities
from rootless.netplan import Endpoint
from rootless.values import Value
from storage.rfc3339 import format_local_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from pyctl.engine.model import ContainerSpec, Health, Mount
    from rootless.plan import HealthReport

    class Row(Protocol):
        """pyctl.engine.state.ContainerRecord."""

        status: str
        pid: int
        supervisor_pid: int
        started_ns: int
        finished_ns: int
        exit_code: int
        oom: int
        error: str
        restart_count: int


NEVER = "0001-01-01T00:00:00Z"  # Go's zero time, which Podman shows for what has not happened


class InspectFacts(Value):
    """Where the container's things are on this host; "" where there is nothing (it does not run)."""

    storage_dir: str
    runtime_dir: str = ""
    driver: str = "fuse-overlayfs"
    lower: tuple[str, ...] = ()  # layers, topmost first
    volumes: dict[str, str] = {}  # name → directory
    log_path: str = ""
    runtime: str = "crun"
    cgroup_manager: str = "systemd"
    cgroup_path: str = ""
    exec_ids: tuple[str, ...] = ()
    paused: bool = False
    default_capabilities: tuple[str, ...] = ()
    rlimits: dict[str, tuple[int, int]] = {}  # of this session, which limits are clamped to
    uid_map: tuple[str, ...] = ()  # "0:1:1000", with a user namespace of its own
    gid_map: tuple[str, ...] = ()
    shared_network: str = ""  # the network mode of the container whose network is shared
    endpoints: tuple[Endpoint, ...] = ()  # on user-defined networks; without addresses where it does not run
    size_rw_bytes: int = -1  # with --size
    size_root_bytes: int = -1


def container_json(
    spec: ContainerSpec, row: Row, facts: InspectFacts, health: HealthReport | None = None
) -> dict[str, Any]:
    """One element of `container inspect`'s list.  health: the supervisor's, or the last one recorded."""
    args = _executed(spec)
    running = row.status in ("running", "paused", "initialized")
    held = capabilities.process_sets(
        spec_security.held_capabilities(spec.security, defaults=facts.default_capabilities),
        spec_security.is_root(spec.user),
        spec.security.cap_add,
        spec.security.privileged,
    )
    files = f"{facts.runtime_dir}/files" if running and facts.runtime_dir else ""
    tree: dict[str, Any] = {
        "Id": spec.id,
        "Created": format_local_ns(spec.created_ns),
        "Path": args[0],
        "Args": args[1:],
        "State": _state(spec, row, facts, health),
        "Image": spec.image_id,
        "ImageDigest": spec.image_digest,
        "ImageName": spec.image,
        "Rootfs": spec.rootfs,
        "Pod": "",
        "ResolvConfPath": f"{files}/resolv.conf" if files else "",
        "HostnamePath": f"{files}/hostname" if files else "",
        "HostsPath": f"{files}/hosts" if files else "",
        "StaticDir": facts.storage_dir,
        "OCIRuntime": facts.runtime,
        "ConmonPidFile": "",
        "PidFile": spec.pidfile,
        "Name": spec.name,
        "RestartCount": row.restart_count,
        "Driver": facts.driver,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": spec.security.apparmor,
        "EffectiveCaps": sorted(held["effective"]) or None,
        "BoundingCaps": sorted(held["bounding"]) or None,
        "ExecIDs": list(facts.exec_ids),
        "GraphDriver": _graph_driver(spec, facts, running),
        "Mounts": [_mount(m, facts) for m in spec.mounts if m.kind in ("bind", "volume", "image")],
        "Dependencies": inspect_host.dependencies(spec),
        "NetworkSettings": inspect_host.network_settings(spec, facts.shared_network, facts.endpoints),
        "Namespace": "",
        "IsInfra": False,
        "IsService": False,
        "KubeExitCodePropagation": "invalid",
        "lockNumber": 0,
        "Config": _config(spec),
        "HostConfig": inspect_host.host_config(spec, facts),
        "UseImageHosts": spec.network.no_hosts,
        "UseImageHostname": spec.network.no_hostname,
    }
    if running and facts.runtime_dir:
        tree["OCIConfigPath"] = f"{facts.runtime_dir}/bundle/config.json"
    if facts.size_rw_bytes >= 0:
        tree["SizeRw"] = facts.size_rw_bytes
    if facts.size_root_bytes >= 0:
        tree["SizeRootFs"] = facts.size_root_bytes
    return tree


def _executed(spec: ContainerSpec) -> list[str]:
    return [INIT_TARGET, "--", *spec.args] if spec.init else list(spec.args)


def _time(ns: int) -> str:
    return format_local_ns(ns) if ns else NEVER


# --- State ---------------------------------------------------------------------------------------


def _state(spec: ContainerSpec, row: Row, facts: InspectFacts, health: HealthReport | None) -> dict[str, Any]:
    running = row.status == "running"
    state: dict[str, Any] = {
        "OciVersion": "1.0.2",
        "Status": "paused" if facts.paused else row.status,
        "Running": running,
        "Paused": facts.paused,
        "Restarting": False,
        "OOMKilled": bool(row.oom),
        "Dead": False,
        "Pid": row.pid if running or facts.paused else 0,
        "ExitCode": 0 if running else row.exit_code,
        "Error": row.error,
        "StartedAt": _time(row.started_ns),
        "FinishedAt": NEVER if running else _time(row.finished_ns),
        "CheckpointedAt": NEVER,
        "RestoredAt": NEVER,
    }
    if running:
        state["ConmonPid"] = row.supervisor_pid
        if facts.cgroup_path:
            state["CgroupPath"] = facts.cgroup_path
    if has_check(spec.health):
        state["Health"] = health_json(health, running)
    return state


def has_check(health: Health | None) -> bool:
    """Is there a check that runs?"""
    return health is not None and health.test[:1] not in ((), ("NONE",))


def health_json(report: HealthReport | None, running: bool) -> dict[str, Any]:
    """`State.Health`; "starting" before the first result, as Docker has it."""
    if report is None:
        return {"Status": "starting" if running else "", "FailingStreak": 0, "Log": None}
    return {
        "Status": report.status,
        "FailingStreak": report.failing_streak,
        "Log": [
            {"Start": _time(e.start_ns), "End": _time(e.end_ns), "ExitCode": e.exit_code, "Output": e.output}
            for e in report.log
        ]
        or None,
    }


# --- parts ---------------------------------------------------------------------------------------


def _graph_driver(spec: ContainerSpec, facts: InspectFacts, running: bool) -> dict[str, Any]:
    if spec.rootfs and not spec.rootfs_overlay:
        return {"Name": "rootfs", "Data": {"MergedDir": spec.rootfs}}
    data = {
        "LowerDir": ":".join(facts.lower or ((spec.rootfs,) if spec.rootfs else ())),
        "UpperDir": f"{facts.storage_dir}/upper",
        "WorkDir": f"{facts.storage_dir}/work",
    }
    if running:
        data["MergedDir"] = f"{facts.storage_dir}/merged"
    return {"Name": facts.driver, "Data": data}


def _mount(mount: Mount, facts: InspectFacts) -> dict[str, Any]:
    words = [o for o in mount.options if o not in PROPAGATION and o not in ("z", "Z", "U")]
    if "bind" not in words and "rbind" not in words:
        words.append("rbind")
    volume = mount.kind == "volume"
    if volume:
        words = [*(f for f in ("nosuid", "nodev") if f[2:] not in words and f not in words), *words]
    tree: dict[str, Any] = {
        "Type": mount.kind,
        "Source": facts.volumes.get(mount.source, "") if volume else mount.source,
        "Destination": mount.target,
        "Driver": "local" if volume else "",
        "Mode": next((o for o in mount.options if o in ("z", "Z")), ""),
        "Options": words,
        "RW": not mount.read_only,
        "Propagation": next(
            (o for o in mount.options if o in PROPAGATION), "private" if "bind" in words else "rprivate"
        ),
    }
    if volume:
        tree = {"Type": "volume", "Name": mount.source, **{k: v for k, v in tree.items() if k != "Type"}}
    return tree


def _config(spec: ContainerSpec) -> dict[str, Any]:
    config: dict[str, Any] = {
        "Hostname": spec.hostname,
        "Domainname": "",
        "User": spec.user,
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "Tty": spec.tty,
        "OpenStdin": spec.interactive,
        "StdinOnce": False,
        "Env": list(spec.env),
        "Cmd": list(spec.command) or None,
        "Image": spec.image,
        "Volumes": None,
        "WorkingDir": spec.workdir,
        "Entrypoint": list(spec.entrypoint) or None,
        "OnBuild": None,
        "Labels": dict(spec.labels) or None,
        "Annotations": inspect_host.recorded_annotations(spec) or None,
        "StopSignal": signal_name(spec.stop_signal),
        "HealthcheckOnFailureAction": spec.health.on_failure if spec.health else "none",
        "HealthLogDestination": spec.health.log_destination if spec.health else "local",
        "HealthcheckMaxLogCount": spec.health.max_log_count if spec.health else 5,
        "HealthcheckMaxLogSize": spec.health.max_log_size if spec.health else 500,
        "CreateCommand": list(spec.command_line),
        "Umask": f"{spec.umask:04o}",
        "Timeout": spec.timeout_s,
        "StopTimeout": spec.stop_timeout_s,
        "Passwd": True,
        "sdNotifyMode": spec.sdnotify,
    }
    if spec.health is not None:
        config["Healthcheck"] = _check(spec.health)
        if spec.health.startup_test:
            config["StartupHealthCheck"] = _startup_check(spec.health)
    ports = inspect_host.exposed_ports(spec)
    if ports:
        config["ExposedPorts"] = {port: {} for port in ports}
    return config


def _check(health: Health) -> dict[str, Any]:
    """Docker's Healthcheck object: a time of 0 is left out."""
    if health.test == ("NONE",):
        return {"Test": ["NONE"]}
    tree: dict[str, Any] = {"Test": list(health.test)}
    for name, value in (
        ("StartPeriod", health.start_period_ns),
        ("StartInterval", health.start_interval_ns),
        ("Interval", health.interval_ns),
        ("Timeout", health.timeout_ns),
        ("Retries", health.retries),
    ):
        if value:
            tree[name] = value
    return tree


def _startup_check(health: Health) -> dict[str, Any]:
    tree: dict[str, Any] = {"Test": list(health.startup_test)}
    for name, value in (
        ("Interval", health.startup_interval_ns),
        ("Timeout", health.startup_timeout_ns),
        ("Retries", health.startup_retries),
        ("Successes", health.startup_success),
    ):
        if value:
            tree[name] = value
    return tree
