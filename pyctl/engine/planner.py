"""From a specification and this host, now, to the plan that a supervisor carries out.

Weight: the engine's and network's light modules.  `plan` gathers facts and calls pure builders; nothing is made.
"""

from __future__ import annotations

import os

from network import facts as network_facts
from network import pasta
from network.hosts import name_files
from network.plan import network_plan
from pyctl.engine import programs, spec_security
from pyctl.engine.spec import oci_config
from pyctl.engine.spec_facts import SpecFacts
from pyctl.engine.users_maps import id_maps, is_nested
from rootless import capabilities, libc, seccomp, userns
from rootless.container_files import LOG_FILES
from rootless.errors import Error, LaunchError, NotFound
from rootless.fds import read_all
from rootless.plan import (
    CgroupPlan,
    CopyUp,
    EventPlan,
    HealthPlan,
    LaunchPlan,
    LogPlan,
    NetworkPlan,
    NotifyPlan,
    RootfsPlan,
    RuntimePlan,
)
from rootless.values import dumps
from storage.lookup import layer_directories

TYPE_CHECKING = False
if TYPE_CHECKING:
    from network.slirp import NetworkFacts
    from pyctl.engine.engine import Engine
    from pyctl.engine.model import ContainerSpec, Health, IdRange
    from rootless.netplan import BridgePlan

_MAX_HOSTS_BYTES = 16 << 20


def plan(
    engine: Engine, spec: ContainerSpec, *, attached: bool, restart_count: int, sockets: int = 0, preserved: int = 0
) -> LaunchPlan:
    """Raises Error for what this host cannot do, before anything is started.

    sockets, preserved: so many descriptors of socket activation, and of --preserve-fds, come with the plan.
    """
    storage_dir = engine.paths.container(spec.id)
    runtime_dir = f"{engine.runtime_root}/{spec.id}"
    uid_map, gid_map = id_maps(spec.userns, engine.uid, os.getgid(), engine.uid_count, engine.gid_count)
    rootfs = _rootfs(engine, spec, storage_dir, uid_map, gid_map)
    runtime = _runtime(engine, spec)
    network, files = _network(engine, spec, rootfs)
    notify, start_env = _service(engine, spec, sockets)
    facts = _facts(engine, spec, rootfs, runtime, f"{runtime_dir}/files", tuple(files))
    if notify is not None and notify.mode == "container":
        facts = facts.replace(notify_dir=f"{runtime_dir}/notify")
    cleanup = [*engine.own_command(), "container", "cleanup", spec.id]
    return LaunchPlan(
        container_id=spec.id,
        name=spec.name,
        storage_dir=storage_dir,
        runtime_dir=runtime_dir,
        config=oci_config(spec, facts, uid_map, gid_map),
        rootfs=rootfs,
        network=network,
        runtime=runtime,
        cgroup=_cgroup(engine, spec, notify is not None),
        log=_log(spec, storage_dir),
        health=health_plan(spec.health),
        user=spec.user,
        group_add=_groups(spec),
        set_home=not any(e.startswith("HOME=") for e in spec.env),
        passwd_name=_caller_name(engine, spec),
        passwd_home=_passwd_home(spec, rootfs),
        passwd_entry=spec.passwd_entry,
        group_entry=spec.group_entry,
        files=files,
        copy_ups=_copy_ups(engine, spec),
        make_dirs=(spec.workdir,) if spec.make_workdir else (),
        require_dir=_required_directory(spec),
        chowns=_chowns(engine, spec),
        shm_of=f"/proc/{_running(engine, spec.ipc[10:], 'ipc')}/ns/mnt" if spec.ipc.startswith("container:") else "",
        tty=spec.tty,
        interactive=spec.interactive,
        private_pid=spec.pid == "private",
        remove=spec.remove,
        cleanup_argv=tuple(cleanup),
        restart=spec.restart,
        restart_retries=spec.restart_retries,
        restart_count=restart_count,
        stop_signal=spec.stop_signal,
        stop_timeout_s=spec.stop_timeout_s,
        timeout_s=spec.timeout_s,
        pidfile=spec.pidfile,
        preserve_fds=sockets + preserved,
        start_env=start_env,
        notify=notify,
        events=EventPlan(path=engine.paths.events_log, image=spec.image, labels=spec.labels),
        attached=attached,
    )


def _service(engine: Engine, spec: ContainerSpec, sockets: int) -> tuple[NotifyPlan | None, tuple[str, ...]]:
    """What a service manager has to do with it, and the variables by which the container knows."""
    if not sockets and "NOTIFY_SOCKET" not in os.environ:
        return None, ()
    from pyctl.engine import service  # only below a service manager

    notify = service.notify_plan(engine, spec, os.environ)
    return notify, service.start_variables(os.environ, sockets, notify)


# --- the root ----------------------------------------------------------------------------------


def container_rootfs(engine: Engine, spec: ContainerSpec) -> RootfsPlan:
    """The root alone, for commands that look into a stopped container.  Raises Error."""
    uid_map, gid_map = id_maps(spec.userns, engine.uid, os.getgid(), engine.uid_count, engine.gid_count)
    return _rootfs(engine, spec, engine.paths.container(spec.id), uid_map, gid_map)


def _rootfs(
    engine: Engine,
    spec: ContainerSpec,
    storage_dir: str,
    uid_map: tuple[IdRange, ...],
    gid_map: tuple[IdRange, ...],
) -> RootfsPlan:
    if spec.rootfs and not spec.rootfs_overlay:
        if not os.path.isdir(spec.rootfs):
            raise NotFound(f"--rootfs {spec.rootfs}: no such directory")
        return RootfsPlan(driver="directory", merged=spec.rootfs)
    lower, root_like = root_layers(engine, spec)
    driver = engine.storage_driver
    helper = ""
    squash = is_squashed(engine, spec, lower)
    if driver == "fuse-overlayfs":
        helper = programs.need("fuse-overlayfs", "install the package fuse-overlayfs, or --storage-driver=overlay")
    elif is_nested(spec.userns) and engine.uid_count > 1:
        raise Error(
            f"--userns={spec.userns.mode} needs the fuse-overlayfs driver, which maps ids without changing the layers",
            hint="leave --storage-driver=overlay out",
        )
    return RootfsPlan(
        driver=driver,
        merged=f"{storage_dir}/merged",
        lower=lower,
        root_like=root_like,
        upper=f"{storage_dir}/upper",
        work=f"{storage_dir}/work",
        # With one id only all files are the caller's, whatever that is called inside.
        uid_mapping=_mapping(uid_map) if engine.uid_count > 1 else "",
        gid_mapping=_mapping(gid_map) if engine.gid_count > 1 else "",
        helper=helper,
        squash=squash,
    )


def is_squashed(engine: Engine, spec: ContainerSpec, lower: tuple[str, ...]) -> bool:
    """Whether layers lie in a store of another user, who must have made them readable.  Raises Error."""
    own = engine.paths.layers + "/"
    if spec.rootfs or all(directory.startswith(own) for directory in lower):
        return False
    from storage.additional import require_readable  # few images lie elsewhere

    return require_readable(spec.image, lower, engine.storage_driver, engine.cache_dir)


def _mapping(rows: tuple[IdRange, ...]) -> str:
    # fuse-overlayfs takes host:container:count triples; its "container" ids are those of the image on disk.
    return ":".join(f"{r.inside}:{r.outside}:{r.size}" for r in rows)


def root_layers(engine: Engine, spec: ContainerSpec) -> tuple[tuple[str, ...], str]:
    """(directories below the container's own, topmost first; the one that says what the root is like, or "")."""
    if spec.rootfs:
        return (spec.rootfs,), spec.rootfs
    directories, root = layer_directories(engine.db, spec.image_id)
    if not directories:
        if engine.db.one("SELECT 1 FROM images WHERE id = ?", (spec.image_id,)) is None:
            raise NotFound(f"image {spec.image} was removed meanwhile", hint=f"pyctl pull {spec.image}")
        raise NotFound(f"image {spec.image} of the container has no layers here", hint=f"pyctl pull {spec.image}")
    return directories, root


def _groups(spec: ContainerSpec) -> tuple[str, ...]:
    """--group-add; with keep-id also the caller's own group, so that files of that group can be shared."""
    if spec.userns.mode != "keep-id" or "keep-groups" in spec.group_add:
        return spec.group_add
    own = spec.userns.keep_gid if spec.userns.keep_gid >= 0 else os.getgid()
    return (*spec.group_add, str(own))


def _caller_name(engine: Engine, spec: ContainerSpec) -> str:
    """The caller's account, where the container's user is the caller (--userns=keep-id); else ""."""
    own = spec.userns.keep_uid if spec.userns.keep_uid >= 0 else engine.uid
    if spec.userns.mode != "keep-id" or spec.user.partition(":")[0] != str(own):
        return ""
    from rootless.idmap import user_name  # pwd

    return user_name(engine.uid)


def _passwd_home(spec: ContainerSpec, rootfs: RootfsPlan) -> str:
    """The home of a user whom the image does not know: the caller's own where that is mounted, else where it starts."""
    if not (spec.passwd and spec.user) or rootfs.driver == "directory":
        return ""
    if any(m.target == "/etc/passwd" for m in spec.mounts):
        return ""
    home = os.environ.get("HOME", "")
    if spec.userns.mode == "keep-id" and any(home == m.target or home.startswith(m.target + "/") for m in spec.mounts):
        return home
    return spec.workdir


def _copy_ups(engine: Engine, spec: ContainerSpec) -> tuple[CopyUp, ...]:
    """Volumes that have never been used take the image's content at their place (podman-run(1), --volume)."""
    found = []
    for mount in spec.mounts:
        if mount.kind != "volume":
            continue
        row = engine.db.one("SELECT needs_copy_up FROM volumes WHERE name = ?", (mount.source,))
        if row is not None and row[0]:
            target = engine.paths.volume_data(mount.source)
            found.append(CopyUp(source=mount.target, target=target, content=not mount.no_copy))
    return tuple(found)


def _required_directory(spec: ContainerSpec) -> str:
    """The working directory where it must be the image's own: one that a mount brings is not in the root yet."""
    if spec.make_workdir or spec.workdir == "/":
        return ""
    covered = any(spec.workdir == m.target or spec.workdir.startswith(m.target.rstrip("/") + "/") for m in spec.mounts)
    engine_made = spec.workdir.startswith(("/proc", "/sys", "/dev"))
    return "" if covered or engine_made else spec.workdir


def _chowns(engine: Engine, spec: ContainerSpec) -> tuple[str, ...]:
    """What `U` gives to the container's user."""
    given = [m for m in spec.mounts if "U" in m.options]
    return tuple(engine.paths.volume_data(m.source) if m.kind == "volume" else m.source for m in given)


# --- the runtime -------------------------------------------------------------------------------


def _runtime(engine: Engine, spec: ContainerSpec) -> RuntimePlan:
    name = spec.runtime or engine.globals.runtime or engine.config.runtime
    path = programs.runtime_path(name, engine.config.runtimes)
    base = os.path.basename(path)
    kind = base if base in ("crun", "runc") else "other"
    flags = tuple(f"--{flag}" for flag in engine.globals.runtime_flag)
    return RuntimePlan(path=path, kind=kind, global_args=flags)


def _facts(
    engine: Engine,
    spec: ContainerSpec,
    rootfs: RootfsPlan,
    runtime: RuntimePlan,
    files_dir: str,
    files: tuple[str, ...],
) -> SpecFacts:
    facts = SpecFacts(
        rootfs=rootfs.merged,
        files_dir=files_dir,
        files=files,
        uid_count=engine.uid_count,
        gid_count=engine.gid_count,
        default_capabilities=engine.config.default_capabilities,
        rlimits=programs.resource_limits(),
        capabilities=() if userns.needs_user_namespace() else capabilities.bounding_set(),
        init_path=programs.init_program(spec.init_path) if spec.init else "",
        devices=programs.accessible_devices() if spec.security.privileged else (),
        volumes={m.source: engine.paths.volume_data(m.source) for m in spec.mounts if m.kind == "volume"},
        joined=_joined(engine, spec),
        shm_source="/dev/shm" if spec.ipc.startswith("container:") else "",
        mqueue=os.path.exists("/proc/sys/fs/mqueue"),
        host_mqueue=os.path.ismount("/dev/mqueue"),
    )
    bpf, section = _seccomp(engine, spec, facts, runtime)
    return facts.replace(seccomp_bpf=bpf, seccomp=section)


def _seccomp(engine: Engine, spec: ContainerSpec, facts: SpecFacts, runtime: RuntimePlan) -> tuple[str, str]:
    profile = spec.security.seccomp
    if profile == "unconfined" or spec.security.privileged:
        return "", ""
    path = profile or engine.config.seccomp_profile or seccomp.site_profile(os.environ.get("HOME", ""))
    held = spec_security.held_capabilities(spec.security, facts.capabilities, facts.default_capabilities)
    if runtime.kind == "crun" and seccomp.annotation_supported(programs.version(runtime.path, engine.cache_dir)):
        program = seccomp.compiled(path, held, f"{engine.cache_dir}/seccomp")
        if program is not None:
            return program, ""
    return "", dumps(seccomp.linux_seccomp(path, held))


def _joined(engine: Engine, spec: ContainerSpec) -> dict[str, str]:
    """Namespaces of other containers, and named ones, by path on the programs."""
    joined: dict[str, str] = {}
    for kind, mode in (("pid", spec.pid), ("ipc", spec.ipc), ("uts", spec.uts), ("cgroup", spec.cgroupns)):
        word, _, rest = mode.partition(":")
        if word == "ns":
            joined[kind] = rest
        elif word == "container":
            joined[kind] = f"/proc/{_running(engine, rest, kind)}/ns/{kind}"
    return joined


def _running(engine: Engine, container_id: str, what: str) -> int:
    from pyctl.engine import state

    record = state.get(engine.db, container_id)
    if what == "ipc" and record.specification.ipc in ("private", "none"):
        raise Error(
            f"container {record.name} keeps its IPC namespace to itself (--ipc={record.specification.ipc})",
            hint="make it with --ipc=shareable, the default",
        )
    if not record.running:
        raise Error(
            f"container {record.name}, whose {what} namespace is to be shared, is not running",
            hint=f"pyctl start {record.name}",
        )
    return record.pid


# --- network, cgroup, log, health --------------------------------------------------------------


def _network(engine: Engine, spec: ContainerSpec, rootfs: RootfsPlan) -> tuple[NetworkPlan, dict[str, str]]:
    network = spec.network
    facts = network_facts_of(engine, spec)
    join_dir = ""
    if network.mode == "container":
        from pyctl.engine import state

        other = state.get(engine.db, network.target)
        if not other.running:
            raise Error(
                f"container {other.name}, whose network is to be shared, is not running",
                hint=f"pyctl start {other.name}",
            )
        join_dir = other.runtime_dir
    bridge = None
    if network.endpoints:
        from pyctl.engine import network_use  # only with user-defined networks

        bridge = network_use.take(engine.db, spec)
    files = {".containerenv": _containerenv(engine, spec), **name_texts(spec, facts, rootfs, bridge, join_dir)}
    sysctls = {name: value for name, value in spec.sysctls.items() if name.startswith("net.")}
    return network_plan(network, facts, join_dir, bridge).replace(sysctls=sysctls), files


def name_texts(
    spec: ContainerSpec,
    facts: NetworkFacts,
    rootfs: RootfsPlan,
    bridge: BridgePlan | None = None,
    join_dir: str = "",
) -> dict[str, str]:
    """/etc/hosts and the like, as far as the container gets them from the engine, by their names there.

    facts: `network_facts_of`; join_dir: the runtime directory of the container whose network it shares.
    """
    network = spec.network
    image_hosts = _image_text(rootfs, "/etc/hosts") if network.hosts_file == "image" else ""
    sources = network_facts.name_sources(network.hosts_file, image_hosts)
    if network.mode == "pasta":
        # The container's address is a copy of the host's, which it then reaches by another one, or not at all.
        reached = pasta.HOST_ADDRESS if facts.pasta_maps_host else ""
        sources = sources.replace(own_address=sources.host_address, host_address=reached)
    if join_dir:
        sources = sources.replace(
            hosts=network_facts.read_text(f"{join_dir}/files/hosts"),
            resolv=network_facts.read_text(f"{join_dir}/files/resolv.conf"),
        )
    made = name_files(network, spec.hostname, spec.name, sources, network.no_hostname, bridge)
    texts = (("hosts", made.hosts), ("resolv.conf", made.resolv), ("hostname", made.hostname))
    return {name: text for name, text in texts if text is not None}


def network_facts_of(engine: Engine, spec: ContainerSpec) -> NetworkFacts:
    """What of this host the container's network depends on."""
    config = engine.config
    facts = network_facts.gather(engine.cache_dir, config.network_cmd_path, config.bind_address)
    return network_facts.with_pasta(facts, engine.cache_dir) if spec.network.mode == "pasta" else facts


def root_plan(engine: Engine, spec: ContainerSpec) -> RootfsPlan:
    """The container's root, as `plan` has it."""
    uid_map, gid_map = id_maps(spec.userns, engine.uid, os.getgid(), engine.uid_count, engine.gid_count)
    return _rootfs(engine, spec, engine.paths.container(spec.id), uid_map, gid_map)


def _image_text(rootfs: RootfsPlan, path: str) -> str:
    """A file of the image, before there is a mounted root: the topmost layer's that has it."""
    for layer in rootfs.lower or (rootfs.merged,):
        root = os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = libc.open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:
            continue
        finally:
            os.close(root)
        try:
            regular = os.fstat(fd).st_mode & 0o170000 == 0o100000  # else a whiteout: no layer below counts
            return read_all(fd, _MAX_HOSTS_BYTES).decode("utf-8", "surrogateescape") if regular else ""
        finally:
            os.close(fd)
    return ""


def _containerenv(engine: Engine, spec: ContainerSpec) -> str:
    """/run/.containerenv: that it is there says "a container"; only a privileged one is told more (as by Podman)."""
    if not spec.security.privileged:
        return ""
    rows = (
        ("engine", "pyctl"),
        ("name", spec.name),
        ("id", spec.id),
        ("image", spec.image),
        ("imageid", spec.image_id),
    )
    return "".join(f'{name}="{value}"\n' for name, value in rows) + f"rootless={int(engine.uid != 0)}\n"


def _cgroup(engine: Engine, spec: ContainerSpec, followed: bool) -> CgroupPlan:
    from pyctl.engine import cgroups

    return cgroups.plan(engine, spec, followed)


def _log(spec: ContainerSpec, storage_dir: str) -> LogPlan:
    log = spec.log
    path = log.path or (f"{storage_dir}/{LOG_FILES[log.driver]}" if log.driver in LOG_FILES else "")
    fields = {}
    if log.driver == "journald":
        fields = {
            "CONTAINER_NAME": spec.name,
            "CONTAINER_ID": spec.id[:12],
            "CONTAINER_ID_FULL": spec.id,
            "CONTAINER_TAG": log.tag,
            "IMAGE_NAME": spec.image,
            "SYSLOG_IDENTIFIER": log.tag or spec.name,
        }
    return LogPlan(
        driver=log.driver, path=path, max_size_bytes=log.max_size_bytes, max_files=log.max_files, fields=fields
    )


def health_plan(health: Health | None) -> HealthPlan | None:
    """For the supervisor; None where nothing is to be checked."""
    if health is None or not health.test or health.test[0] == "NONE":
        return None
    return HealthPlan(
        args=health_args(health.test),
        interval_ns=health.interval_ns,
        timeout_ns=health.timeout_ns,
        start_period_ns=health.start_period_ns,
        start_interval_ns=health.start_interval_ns,
        retries=health.retries,
        on_failure=health.on_failure,
        startup_args=health_args(health.startup_test) if health.startup_test else (),
        startup_interval_ns=health.startup_interval_ns,
        startup_timeout_ns=health.startup_timeout_ns,
        startup_retries=health.startup_retries,
        startup_success=health.startup_success,
        max_log_count=health.max_log_count,
        max_log_size=health.max_log_size,
    )


def health_args(test: tuple[str, ...]) -> tuple[str, ...]:
    """("CMD", …) as it is, ("CMD-SHELL", line) through the container's shell.  Raises LaunchError for neither."""
    if test[0] == "CMD":
        return test[1:]
    if test[0] == "CMD-SHELL" and len(test) == 2:
        return ("/bin/sh", "-c", test[1])
    raise LaunchError("health", f"health check {test!r}: neither CMD nor CMD-SHELL")
