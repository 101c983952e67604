"""From the options of `run` and `create`, the image and the host to a `ContainerSpec`.

Weight: `pyctl.engine.model`, `.request_*` as far as their options are given.  On the path of `run`.
Pure but for what it must look at: files that options name, and that mounted paths and devices exist.
Everything that can be known to be wrong is refused here, by name, before anything is made.
"""

from __future__ import annotations

from pyctl.engine import request_env, request_process
from pyctl.engine.model import ContainerSpec, Limits, Log, Security
from pyctl.engine.request_facts import ImageChoice, RequestFacts, refused
from pyctl.engine.request_namespaces import namespace_mode, user_namespace
from pyctl.engine.request_network import container_network
from pyctl.engine.request_text import absolute, pair, signal_number
from pyctl.engine.users_maps import is_nested
from rootless.errors import UsageError
from rootless.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyctl.engine.model import Device, Health, Mount, Ulimit
    from pyctl.engine.request_facts import Lookups, Options

SIGTERM = 15
_CGROUPS = ("enabled", "disabled", "no-conmon", "split")
_SDNOTIFY = ("container", "conmon", "healthy", "ignore")
_LIMITS = (
    "memory", "memory_swap", "memory_reservation", "memory_swappiness", "cpus", "cpu_shares", "cpu_period",
    "cpu_quota", "cpu_rt_period", "cpu_rt_runtime", "cpuset_cpus", "cpuset_mems", "pids_limit", "blkio_weight",
    "blkio_weight_device", "device_read_bps", "device_write_bps", "device_read_iops", "device_write_iops",
    "oom_kill_disable", "cgroup_conf",
)  # fmt: skip
_HEALTH = (
    "health_cmd", "no_healthcheck", "health_interval", "health_timeout", "health_retries", "health_start_period",
    "health_on_failure", "health_startup_cmd", "health_startup_interval", "health_startup_timeout",
    "health_startup_retries", "health_startup_success",
)  # fmt: skip


class Request(Value):
    """What was asked for, checked.  `warnings`: sentences for stderr about what will not be as it may seem."""

    spec: ContainerSpec
    warnings: tuple[str, ...] = ()


def container_request(
    options: Options,
    arguments: tuple[str, ...],
    *,
    image: ImageChoice,
    facts: RequestFacts,
    lookups: Lookups,
    container_id: str,
    name: str,
    created_ns: int,
    command_line: tuple[str, ...] = (),
) -> Request:
    """Check all options and make the specification.

    arguments: the words after the image.  name: taken where --name is not given.  Host ports of 0 are still to be
    chosen, and named volumes to be made.  Raises UsageError or Error, with the option in the message.
    """
    warnings: list[str] = []
    network = container_network(options, image, facts, lookups, warnings)
    modes: dict[str, Any] = {f: namespace_mode(f, options, facts, lookups) for f in ("pid", "ipc", "uts", "cgroupns")}
    hostname = request_process.host_name(options, container_id, network.mode, modes["uts"], facts)
    spec = ContainerSpec(
        id=container_id,
        name=request_process.container_name(options, name),
        created_ns=created_ns,
        command_line=command_line,
        hostname=hostname,
        network=network,
        mounts=_mounts(options, image, facts, lookups),
        devices=_devices(options, facts),
        sysctls=_sysctls(options, facts, network.mode, modes["ipc"]),
        security=_security(options, facts),
        **modes,
        **_image(image, facts),
        **_users(options, image, facts, lookups),
        **_process(options, arguments, image, facts, hostname),
        **_files(options, facts, modes["ipc"]),
        **_resources(options, facts),
        **_life(options, image, facts, modes["pid"]),
        **_identity(options),
    )
    return Request(spec=spec, warnings=tuple(warnings))


# --- groups of fields ----------------------------------------------------------------------------


def _image(image: ImageChoice, facts: RequestFacts) -> dict[str, Any]:
    rootfs, overlay = request_process.rootfs_directory(image.rootfs, facts.cwd) if image.rootfs else ("", False)
    return {
        "image": image.name,
        "image_id": image.id,
        "image_digest": image.digest,
        "platform": _platform(image),
        "rootfs": rootfs,
        "rootfs_overlay": overlay,
    }


def _users(options: Options, image: ImageChoice, facts: RequestFacts, lookups: Lookups) -> dict[str, Any]:
    userns = user_namespace(options, facts, lookups, options.get("user") or "")
    nested = is_nested(userns)
    user = request_process.user(options, image, 0 if nested else facts.uid_count, 0 if nested else facts.gid_count)
    if userns.mode == "keep-id" and not user:
        # To be oneself inside is the point of keep-id; an image's own USER stays who it is, as with Podman.
        own_uid = userns.keep_uid if userns.keep_uid >= 0 else facts.uid
        user = f"{own_uid}:{userns.keep_gid if userns.keep_gid >= 0 else facts.gid}"
    return {"userns": userns, "user": user, "group_add": request_process.groups(options)}


def _process(
    options: Options, arguments: tuple[str, ...], image: ImageChoice, facts: RequestFacts, hostname: str
) -> dict[str, Any]:
    tty = bool(options.get("tty"))
    args, entrypoint, command = request_process.command(options, arguments, image)
    workdir, make_workdir = request_process.workdir(options, image)
    env = request_env.environment(options, image.config.env if image.config else (), facts, tty)
    env.setdefault("HOSTNAME", hostname)
    return {
        "args": args,
        "entrypoint": entrypoint,
        "command": command,
        "path": args[0],
        "env": tuple(f"{k}={v}" for k, v in env.items()),
        "workdir": workdir,
        "make_workdir": make_workdir,
        "umask": request_process.umask(options, facts),
        "tty": tty,
        "interactive": bool(options.get("interactive")),
        "preserve_fds": options.get("preserve_fds") or 0,
        "detach_keys": _detach_keys(options, facts),
        "log": _log(options, facts, tty),
        "labels": request_process.labels(options, image, facts),
        "annotations": _annotations(options, facts),
    }


def _files(options: Options, facts: RequestFacts, ipc: str) -> dict[str, Any]:
    return {
        "read_only": _flag(options, "read_only", facts.defaults.read_only),
        "read_only_tmpfs": _flag(options, "read_only_tmpfs", True),
        "shm_size_bytes": _shm_size(options, facts, ipc),
        "timezone": request_process.timezone(options, facts),
        "cidfile": request_process.id_file(options, facts),
        "pidfile": absolute(options.get("pidfile"), facts.cwd) if options.get("pidfile") else "",
    }


def _resources(options: Options, facts: RequestFacts) -> dict[str, Any]:
    return {
        "limits": _limits(options),
        "ulimits": _ulimits(options, facts),
        "oom_score_adj": _oom_score(options, facts),
        **_cgroups(options, facts),
    }


def _life(options: Options, image: ImageChoice, facts: RequestFacts, pid: str) -> dict[str, Any]:
    remove = bool(options.get("rm"))
    restart, retries = request_process.restart_policy(options, remove)
    health = _health(options, image)
    init, init_path = _init(options, facts, pid)
    return {
        "remove": remove,
        "restart": restart,
        "restart_retries": retries,
        "health": health,
        "sdnotify": _sdnotify(options, health),
        "init": init,
        "init_path": init_path,
        "stop_signal": _stop_signal(options, image),
        "stop_timeout_s": _stop_timeout(options, image, facts),
        "timeout_s": options.get("timeout") or 0,
        "runtime": _runtime(options, facts),
    }


def _identity(options: Options) -> dict[str, Any]:
    """Lines of the image's passwd and group, uname(2), and where volumes came from."""
    found: dict[str, Any] = {}
    for field in ("passwd_entry", "group_entry"):
        line: str = options.get(field) or ""
        if line and (not line.isprintable() or ":" not in line):
            raise refused("--" + field.replace("_", "-"), line, "must be one line of fields, separated by colons")
        found[field] = line
    if options.given("passwd"):  # only `run` has it
        found["passwd"] = bool(options.get("passwd"))
    return {
        **found,
        "personality": options.get("personality") or "",
        "volumes_from": tuple(options.get("volumes_from") or ()),
    }


# --- themes of their own modules, loaded where one of their options is given (0.3 ms each) ----------


def _mounts(options: Options, image: ImageChoice, facts: RequestFacts, lookups: Lookups) -> tuple[Mount, ...]:
    own = image.config.volumes if image.config else ()
    given = _any(options, ("volume", "mount", "tmpfs", "volumes_from"))
    if not (own or facts.defaults.volumes or facts.defaults.mounts or given):
        return ()
    from pyctl.engine.request_mounts import container_mounts

    return container_mounts(options, image, facts, lookups)


def _security(options: Options, facts: RequestFacts) -> Security:
    defaults = facts.defaults
    if not (
        defaults.privileged
        or defaults.seccomp_profile
        or defaults.apparmor_profile
        or _any(options, ("privileged", "cap_add", "cap_drop", "security_opt"))
    ):
        return Security()
    from pyctl.engine.request_security import security

    return security(options, facts)


def _sysctls(options: Options, facts: RequestFacts, network_mode: str, ipc: str) -> dict[str, str]:
    if not options.get("sysctl") and not facts.defaults.default_sysctls:
        return {}
    from pyctl.engine.request_security import sysctls

    return sysctls(options, facts, network_mode, ipc)


def _devices(options: Options, facts: RequestFacts) -> tuple[Device, ...]:
    if not options.get("device") and not facts.defaults.devices:
        return ()
    from pyctl.engine.request_security import devices

    return devices(options, facts)


def _any(options: Options, fields: tuple[str, ...]) -> bool:
    return any(options.given(f) for f in fields)


def _flag(options: Options, field: str, default: bool) -> bool:
    return bool(options.get(field)) if options.given(field) else default


def _platform(image: ImageChoice) -> str:
    if image.config is None:
        return ""
    platform = image.config.platform
    parts = (platform.os, platform.architecture, platform.variant)
    return "/".join(p for p in parts if p)


def _init(options: Options, facts: RequestFacts, pid: str) -> tuple[bool, str]:
    import os

    init = _flag(options, "init", facts.defaults.init)
    path: str = options.get("init_path") or facts.defaults.init_path
    if init and pid != "private":
        if not options.given("init"):
            return False, ""
        # An init program must be PID 1: nothing else is handed the orphans of a namespace.
        raise refused("--init", "true", f"cannot be combined with --pid={pid.partition(':')[0]}")
    if options.get("init_path"):
        path = absolute(path, facts.cwd)
        if not os.access(path, os.X_OK):
            raise refused("--init-path", path, "no such program")
    return init, path


def _stop_signal(options: Options, image: ImageChoice) -> int:
    given: str = options.get("stop_signal") or ""
    if given:
        return signal_number("--stop-signal", given)
    own = image.config.stop_signal if image.config else ""
    return signal_number("the image's stop signal", own) if own else SIGTERM


def _stop_timeout(options: Options, image: ImageChoice, facts: RequestFacts) -> int:
    if options.given("stop_timeout"):
        given: int = options.get("stop_timeout")
        return given
    own = image.config.stop_timeout_s if image.config else 0
    return own or facts.defaults.stop_timeout_s


def _annotations(options: Options, facts: RequestFacts) -> dict[str, str]:
    found = dict(pair("containers.conf: annotations", w) for w in facts.defaults.annotations)
    found.update(pair("--annotation", w) for w in options.get("annotation") or ())
    return found


def _shm_size(options: Options, facts: RequestFacts, ipc: str) -> int:
    if not options.given("shm_size"):
        return facts.defaults.shm_size_bytes
    given: int = options.get("shm_size")
    if ipc not in ("private", "shareable"):
        raise refused(
            "--shm-size",
            given,
            f"cannot be combined with --ipc={ipc.partition(':')[0]}",
            hint="that /dev/shm is not the container's own",
        )
    return given


def _ulimits(options: Options, facts: RequestFacts) -> tuple[Ulimit, ...]:
    if not options.get("ulimit") and not facts.defaults.default_ulimits:
        return ()
    from pyctl.engine.request_limits import ulimits  # start-up: few containers have limits

    return ulimits(options, facts)


def _oom_score(options: Options, facts: RequestFacts) -> int | None:
    if not options.given("oom_score_adj"):
        return None
    from pyctl.engine.request_limits import oom_score

    return oom_score(options, facts)


def _limits(options: Options) -> Limits:
    if not _any(options, _LIMITS):
        return Limits()
    from pyctl.engine.request_limits import limits

    return limits(options)


def _cgroups(options: Options, facts: RequestFacts) -> dict[str, Any]:
    mode: str = options.get("cgroups") if options.given("cgroups") else facts.defaults.cgroups
    if mode not in _CGROUPS:
        raise refused("--cgroups", mode, "must be one of " + ", ".join(_CGROUPS))
    parent: str = options.get("cgroup_parent") or ""
    if mode == "disabled":
        for field in _LIMITS:
            if options.given(field):
                raise UsageError(f"--{field.replace('_', '-')} cannot be combined with --cgroups=disabled")
        if parent:
            raise refused("--cgroup-parent", parent, "cannot be combined with --cgroups=disabled")
    if parent and (".." in parent.split("/") or not parent.isprintable()):
        raise refused("--cgroup-parent", parent, "must be a cgroup's path or a systemd slice")
    return {"cgroups": mode, "cgroup_parent": parent}


def _log(options: Options, facts: RequestFacts, tty: bool) -> Log:
    from pyctl.engine.request_log import log

    return log(options, facts, tty)


def _health(options: Options, image: ImageChoice) -> Health | None:
    own = image.config.health if image.config else None
    if own is None and not _any(options, _HEALTH):
        return None
    from pyctl.engine.request_health import health  # start-up: few containers have one

    return health(options, image)


def _sdnotify(options: Options, health: Health | None) -> str:
    mode: str = options.get("sdnotify") or "container"
    if mode not in _SDNOTIFY:
        raise refused("--sdnotify", mode, "must be one of " + ", ".join(_SDNOTIFY))
    if mode == "healthy" and (health is None or health.test == ("NONE",)):
        raise refused("--sdnotify", mode, "needs a health check", hint="add --health-cmd")
    return mode


def _detach_keys(options: Options, facts: RequestFacts) -> str:
    keys: str = options.get("detach_keys", "") if options.given("detach_keys") else facts.defaults.detach_keys
    return request_process.detach_keys(keys)


def _runtime(options: Options, facts: RequestFacts) -> str:
    """--runtime, which stands before or after the command; "" is the configured one."""
    given: str = options.get("runtime") or ""
    if "/" in given:
        import os

        path = absolute(given, facts.cwd)
        if not os.access(path, os.X_OK):
            raise refused("--runtime", given, "no such program")
        return path
    return given
