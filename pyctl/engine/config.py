"""The engine's settings: one immutable value from all configuration files, read through a cache.

Weight: `os`, `marshal`, `binascii`, `rootless.values`.  A TOML parser (with `re`, 6 ms and more) is imported only when
a file has changed: `load` otherwise costs 0.1 ms, a dozen stats and one small file.

Later in this list wins, key by key; `pyctl info --config` shows which file set what:

    /usr/share/containers/containers.conf
    /etc/containers/containers.conf, /etc/containers/containers.conf.d/*.conf
    ~/.config/containers/containers.conf, ~/.config/containers/containers.conf.d/*.conf
    storage.conf (one file: the user's, else /etc's, else /usr/share's): root and, from the user's own, driver
    /etc/pyctl/pyctl.conf, /etc/pyctl/pyctl.conf.d/*.conf
    ~/.config/pyctl/pyctl.conf, ~/.config/pyctl/pyctl.conf.d/*.conf
    $CONTAINERS_CONF_OVERRIDE
    $PYCTL_ROOT, $PYCTL_STORAGE_DRIVER

$CONTAINERS_CONF, $CONTAINERS_STORAGE_CONF and $PYCTL_CONF each take the place of all files of their kind.
($XDG_CONFIG_HOME stands for ~/.config where it is set.)
"""

from __future__ import annotations

import marshal
import os
from binascii import crc32

from rootless.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class Config(Value):
    """Every setting that the engine honours, with its default.  A key's name is the field's, or stands beside it.

    "" and () mean not set: the default is found elsewhere (the host, the image, the storage).
    """

    # pyctl.conf, before any table
    limits: str = "enforce"  # "enforce": a limit that cannot take effect fails the command; "warn": it is said
    root: str = ""  # storage root
    local_root: str = ""  # taken where the home is on a network file system
    runroot: str = ""
    storage_driver: str = "fuse-overlayfs"  # | "overlay"
    additional_stores: tuple[str, ...] = ()  # storage roots of others, read only
    bind_address: str = "0.0.0.0"  # of a published port that names none
    log_max_files: int = 1
    layer_max_bytes: int = 0  # caps of unpacking; 0: the storage's own
    layer_max_entries: int = 0
    layer_max_ratio: int = 0
    layer_max_stream_bytes: int = 0
    layer_max_name_bytes: int = 0
    layer_max_window_bytes: int = 0

    # [containers]
    annotations: tuple[str, ...] = ()
    apparmor_profile: str = ""
    base_hosts_file: str = ""
    cgroup_conf: tuple[str, ...] = ()
    cgroupns: str = "private"
    cgroups: str = "enabled"
    container_name_as_hostname: bool = False
    default_capabilities: tuple[str, ...] = ()
    default_sysctls: tuple[str, ...] = ()
    default_ulimits: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    dns_searches: tuple[str, ...] = ()
    dns_servers: tuple[str, ...] = ()
    env: tuple[str, ...] = ()  # into every container
    env_host: bool = False
    host_containers_internal_ip: str = ""
    http_proxy: bool = True
    init: bool = False
    init_path: str = ""
    ipcns: str = "shareable"
    label: bool = True
    log_driver: str = "k8s-file"
    log_size_max: int = -1  # bytes; negative: no bound
    log_tag: str = ""
    mounts: tuple[str, ...] = ()
    netns: str = "private"
    no_hosts: bool = False
    oom_score_adj: int | None = None
    pidns: str = "private"
    pids_limit: int = 2048  # where the pids controller is there; 0 or negative: none
    privileged: bool = False
    read_only: bool = False
    seccomp_profile: str = ""
    shm_size_bytes: int = 65536 << 10  # shm_size
    tz: str = ""
    umask: str = "0022"
    userns: str = "host"
    utsns: str = "private"
    volumes: tuple[str, ...] = ()

    # [engine]
    cgroup_manager: str = ""  # "systemd" | "cgroupfs" | "": found out
    detach_keys: str = "ctrl-p,ctrl-q"
    engine_env: tuple[str, ...] = ()  # env: variables of the engine itself, as proxies for pulling
    helper_binaries_dir: tuple[str, ...] = ()
    image_copy_tmp_dir: str = ""
    image_parallel_copies: int = 0
    image_volume_mode: str = "anonymous"
    network_cmd_options: tuple[str, ...] = ()
    network_cmd_path: str = ""
    no_pivot_root: bool = False
    pull_policy: str = "missing"
    retry: int = 3
    retry_delay: str = ""
    runtime: str = "crun"
    runtimes: dict[str, tuple[str, ...]] = {}  # name → paths, the first that exists is taken
    stop_timeout_s: int = 10  # stop_timeout

    # [network]
    default_rootless_network_cmd: str = "slirp4netns"


class Source(Value):
    """One setting that is not at its default: where it comes from, for `info --config`."""

    key: str  # as it is written in a file: "containers.pids_limit"
    value: str  # as JSON
    origin: str  # the file's path, or "$NAME"


class Loaded(Value):
    """What `load` finds: the settings, and the origin (path or "$NAME") of each field that was set."""

    config: Config
    origins: dict[str, str] = {}
    files: tuple[str, ...] = ()  # the files that were read, in order


def cache_directory(env: Mapping[str, str]) -> str:
    """Where this user's derived data is kept ("" without a home): anything there can be made again."""
    base = env.get("XDG_CACHE_HOME", "")
    if not base.startswith("/"):  # "must be absolute, else ignored": XDG base directory specification
        home = env.get("HOME", "")
        base = f"{home}/.cache" if home.startswith("/") else ""
    return base and f"{base}/pyctl"


def load(
    env: Mapping[str, str], uid: int, etc: str = "/etc", share: str = "/usr/share", *, keep: bool = True
) -> Loaded:
    """Read the settings of the user `uid` with the environment `env`.  Raises Error naming file and key.

    keep: write the result to the cache, for commands that may write.
    """
    files = config_files(env, etc, share)
    key = _cache_key(files, env, uid)
    directory = cache_directory(env)
    name = cache_name("config", env, uid)
    held = _read_cache(f"{directory}/{name}", key) if directory else None
    if held is None:
        from pyctl.engine import config_parse  # tables and a TOML parser: only after a change

        fields, origins = config_parse.read_all(files, env, uid)
        if directory and keep:
            _write_cache(directory, name, key, (fields, origins))
    else:
        fields, origins = held
    if env.get("PYCTL_ROOT") or env.get("PYCTL_STORAGE_DRIVER"):
        from pyctl.engine import config_parse  # the rows' checks; no TOML

        for field, value, origin in config_parse.from_variables(env, uid):
            fields[field], origins[field] = value, origin
    return Loaded(config=Config(**fields), origins=origins, files=tuple(key[1]))


def config_files(env: Mapping[str, str], etc: str, share: str) -> list[tuple[str, str]]:
    """(kind, path) of every file that is looked at, in order, whether it exists or not.

    kind: "containers" | "storage" | "user-storage" | "pyctl".
    """
    home = env.get("XDG_CONFIG_HOME", "")
    if not home.startswith("/"):
        home = env["HOME"] + "/.config" if env.get("HOME", "").startswith("/") else ""
    files: list[tuple[str, str]] = []
    if env.get("CONTAINERS_CONF"):
        files.append(("containers", env["CONTAINERS_CONF"]))
    else:
        files.append(("containers", f"{share}/containers/containers.conf"))
        for base in (etc, home):
            if base:
                files += _with_drop_ins("containers", f"{base}/containers/containers.conf")
    if env.get("CONTAINERS_STORAGE_CONF"):
        files.append(("user-storage", env["CONTAINERS_STORAGE_CONF"]))
    else:
        candidates = [("storage", f"{etc}/containers/storage.conf"), ("storage", f"{share}/containers/storage.conf")]
        if home:
            candidates.insert(0, ("user-storage", f"{home}/containers/storage.conf"))
        files += next(([c] for c in candidates if os.path.exists(c[1])), candidates[:1])
    if env.get("PYCTL_CONF"):
        files.append(("pyctl", env["PYCTL_CONF"]))
    else:
        for base in (etc, home):
            if base:
                files += _with_drop_ins("pyctl", f"{base}/pyctl/pyctl.conf")
    if env.get("CONTAINERS_CONF_OVERRIDE"):
        files.append(("containers", env["CONTAINERS_CONF_OVERRIDE"]))
    return files


def _with_drop_ins(kind: str, path: str) -> list[tuple[str, str]]:
    try:
        names = sorted(name for name in os.listdir(path + ".d") if name.endswith(".conf"))
    except OSError:
        names = []
    return [(kind, path), *((kind, f"{path}.d/{name}") for name in names)]


# --- the cache: a marshalled (key, (fields, origins)) ------------------------------------------------


# What the files' result depends on, besides them.
_VARIABLES = (
    "HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "CONTAINERS_CONF", "CONTAINERS_CONF_OVERRIDE",
    "CONTAINERS_STORAGE_CONF", "CONTAINERS_REGISTRIES_CONF", "PYCTL_CONF",
)  # fmt: skip


def cache_name(kind: str, env: Mapping[str, str], uid: int) -> str:
    """One file of a `kind` ("config", "registries") for each environment.

    So a login shell and a cron job don't push each other's out.
    """
    text = "\0".join((str(uid), *(env.get(name, "") for name in _VARIABLES)))
    return f"{kind}-{crc32(text.encode('utf-8', 'surrogateescape')):08x}"


def _cache_key(files: list[tuple[str, str]], env: Mapping[str, str], uid: int) -> tuple[Any, ...]:
    """Changes whenever the result could: the files, what is expanded in them, and this code."""
    here = os.path.dirname(__file__)
    code = [_stamp(f"{here}/{name}.py") for name in ("config", "config_parse")]
    stamps: list[Any] = []
    present: list[str] = []
    for kind, path in files:
        stamp = _stamp(path)
        stamps.append((kind, path, stamp))
        if stamp is not None:
            present.append(path)
    return (uid, present, stamps, code, [env.get(name, "") for name in _VARIABLES])


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        held = os.stat(path)
    except OSError:
        return None
    return held.st_mtime_ns, held.st_size, held.st_ino


def _read_cache(path: str, key: tuple[Any, ...]) -> tuple[dict[str, Any], dict[str, str]] | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        held = os.fstat(fd)
        if held.st_uid != os.geteuid() or held.st_mode & 0o022:
            return None  # somebody else could have written it, and marshal trusts its input
        found, result = marshal.loads(os.read(fd, held.st_size))
    except (OSError, ValueError, EOFError, TypeError):
        return None
    finally:
        os.close(fd)
    return result if found == key else None


def _write_cache(directory: str, name: str, key: tuple[Any, ...], result: Any) -> None:
    temporary = f"{directory}/.{name}.{os.getpid()}"
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(fd, marshal.dumps((key, result)))
        finally:
            os.close(fd)
        os.rename(temporary, f"{directory}/{name}")
    except OSError:
        return  # a cache that cannot be written costs only time


def sources(loaded: Loaded) -> tuple[Source, ...]:
    """Every setting that is not at its default, in the order of `Config`'s fields, for `info --config`."""
    from pyctl.engine import config_parse  # the names of the keys: not on the path of run
    from rootless.values import dumps

    names = config_parse.key_names()
    return tuple(
        Source(key=names[field], value=dumps(getattr(loaded.config, field)), origin=loaded.origins[field])
        for field in Config._defaults_
        if field in loaded.origins
    )
