"""Configuration files to fields of `Config`: the table of keys, and the TOML parser behind it.

Weight: a TOML parser, with `re`; imported only where the cache of `pyctl.engine.config` is not current.

In pyctl.conf an unknown key is an error: a misspelt limit must not be silently none.  containers.conf and storage.conf
belong to other engines too, so there unknown keys are theirs; but a known key of a wrong type is an error everywhere.
"""

from __future__ import annotations

import os

from rootless.errors import Error, os_error_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_MAX_BYTES = 1 << 20
_SIZE_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class _Row:
    """One key: its table ("" stands before any table), its name in the file, field of `Config`, kind, choices.

    kind: "str" | "path" | "bool" | "int" | "list" | "size" | "paths" (a table of lists).
    """

    __slots__ = ("choices", "field", "key", "kind", "table")

    def __init__(self, table: str, key: str, kind: str, field: str = "", choices: tuple[str, ...] = ()) -> None:
        self.table, self.key, self.kind, self.field, self.choices = table, key, kind, field or key, choices

    @property
    def name(self) -> str:
        return f"{self.table}.{self.key}" if self.table else self.key


class _Place:
    """What a value is read from, and for whom: its file (or "$NAME"), the environment, the user."""

    __slots__ = ("env", "path", "uid")

    def __init__(self, path: str, env: Mapping[str, str], uid: int) -> None:
        self.path, self.env, self.uid = path, env, uid


_OWN = (
    _Row("", "limits", "str", choices=("enforce", "warn")),
    _Row("", "root", "path"),
    _Row("", "local_root", "path"),
    _Row("", "runroot", "path"),
    _Row("", "storage_driver", "str", choices=("fuse-overlayfs", "overlay")),
    _Row("", "additional_stores", "list"),
    _Row("", "bind_address", "str"),
    _Row("", "log_max_files", "int"),
    _Row("", "layer_max_size", "size", "layer_max_bytes"),
    _Row("", "layer_max_entries", "int"),
    _Row("", "layer_max_ratio", "int"),
    _Row("", "layer_max_stream", "size", "layer_max_stream_bytes"),
    _Row("", "layer_max_names", "size", "layer_max_name_bytes"),
    _Row("", "layer_max_window", "size", "layer_max_window_bytes"),
)
_CONTAINERS = (
    *(
        _Row("containers", key, "list")
        for key in (
            "annotations", "cgroup_conf", "default_capabilities", "default_sysctls", "default_ulimits", "devices",
            "dns_options", "dns_searches", "dns_servers", "env", "mounts", "volumes",
        )
    ),
    *(
        _Row("containers", key, "bool")
        for key in (
            "container_name_as_hostname", "env_host", "http_proxy", "init", "label", "no_hosts", "privileged",
            "read_only",
        )
    ),
    *(
        _Row("containers", key, "str")
        for key in (
            "apparmor_profile", "base_hosts_file", "host_containers_internal_ip", "log_tag", "netns", "pidns", "tz",
            "umask", "userns", "utsns", "ipcns",
        )
    ),
    _Row("containers", "init_path", "path"),
    _Row("containers", "seccomp_profile", "path"),
    _Row("containers", "cgroupns", "str", choices=("private", "host")),
    _Row("containers", "cgroups", "str", choices=("enabled", "disabled", "no-conmon", "split")),
    _Row(
        "containers", "log_driver", "str",
        choices=("k8s-file", "json-file", "journald", "none", "passthrough", "passthrough-tty"),
    ),
    _Row("containers", "log_size_max", "int"),
    _Row("containers", "oom_score_adj", "int"),
    _Row("containers", "pids_limit", "int"),
    _Row("containers", "shm_size", "size", "shm_size_bytes"),
)  # fmt: skip
_ENGINE = (
    _Row("engine", "cgroup_manager", "str", choices=("systemd", "cgroupfs")),
    _Row("engine", "detach_keys", "str"),
    _Row("engine", "env", "list", "engine_env"),
    _Row("engine", "helper_binaries_dir", "list"),
    _Row("engine", "image_copy_tmp_dir", "path"),
    _Row("engine", "image_parallel_copies", "int"),
    _Row("engine", "image_volume_mode", "str", choices=("anonymous", "tmpfs", "ignore", "bind", "")),
    _Row("engine", "network_cmd_options", "list"),
    _Row("engine", "network_cmd_path", "path"),
    _Row("engine", "no_pivot_root", "bool"),
    _Row("engine", "pull_policy", "str", choices=("always", "missing", "never", "newer")),
    _Row("engine", "retry", "int"),
    _Row("engine", "retry_delay", "str"),
    _Row("engine", "runtime", "str"),
    _Row("engine", "runtimes", "paths"),
    _Row("engine", "stop_timeout", "int", "stop_timeout_s"),
    _Row("network", "default_rootless_network_cmd", "str", choices=("slirp4netns", "pasta", "")),
)
_ROWS = (*_OWN, *_CONTAINERS, *_ENGINE)
_TABLES = ("containers", "engine", "network")


def key_names() -> dict[str, str]:
    """Field of `Config` → the key as it is written in a file."""
    return {row.field: row.name for row in _ROWS}


def read_all(files: list[tuple[str, str]], env: Mapping[str, str], uid: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Merge the files: (field → value, field → origin).  Raises Error naming file and key."""
    fields: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for kind, path in files:
        tree = _parse(path, required=_is_named(path, env))
        if tree is None:
            continue
        place = _Place(path, env, uid)
        if kind.endswith("storage"):
            found = _from_storage(tree, place, own=kind == "user-storage")
        else:
            found = _from_tables(tree, place, strict=kind == "pyctl", held=fields)
        fields.update(found)
        origins.update(dict.fromkeys(found, path))
    return fields, origins


def from_variables(env: Mapping[str, str], uid: int) -> list[tuple[str, Any, str]]:
    """(field, value, origin) of the settings that variables make.  Raises Error naming the variable."""
    return [
        (row.field, _value(row, env[name], _Place(f"${name}", env, uid), None), f"${name}")
        for name, row in (("PYCTL_ROOT", _OWN[1]), ("PYCTL_STORAGE_DRIVER", _OWN[4]))
        if env.get(name)
    ]


def _is_named(path: str, env: Mapping[str, str]) -> bool:
    names = ("CONTAINERS_CONF", "CONTAINERS_CONF_OVERRIDE", "CONTAINERS_STORAGE_CONF", "PYCTL_CONF")
    return any(env.get(name) == path for name in names)


def _parse(path: str, required: bool) -> dict[str, Any] | None:
    try:
        import tomli as toml  # compiled where a wheel is installed: ten times tomllib's speed
    except ImportError:
        import tomllib as toml  # type: ignore[no-redef]
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        if required:
            raise Error(os_error_text(error, path), hint="an environment variable names this file") from error
        return None
    except OSError as error:
        raise Error(os_error_text(error, path)) from error
    if len(data) > _MAX_BYTES:
        raise Error(f"{path}: larger than {_MAX_BYTES} bytes")
    try:
        tree: dict[str, Any] = toml.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Error(f"{path}: not UTF-8 at byte {error.start}") from error
    except toml.TOMLDecodeError as error:
        raise Error(f"{path}: {error}") from error
    return tree


def _from_tables(tree: dict[str, Any], place: _Place, strict: bool, held: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    known = {row.name: row for row in _ROWS if row.table or strict}
    for name, value in _flat(tree, place.path, strict):
        row = known.get(name)
        if row is None:
            if strict:
                raise Error(f"{place.path}: unknown key {name!r}", hint=_nearest(name, known))
            continue
        found[row.field] = _value(row, value, place, held.get(row.field))
    return found


def _flat(tree: dict[str, Any], path: str, strict: bool) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in tree.items():
        if name not in _TABLES:
            pairs.append((name, value))
        elif isinstance(value, dict):
            pairs += [(f"{name}.{key}", item) for key, item in value.items()]
        elif strict or value:
            raise Error(f"{path}: {name}: expected a table, [{name}]")
    return pairs


def _nearest(name: str, known: dict[str, _Row]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}?" if near else ""


def _value(row: _Row, value: Any, place: _Place, held: Any) -> Any:
    """One value, checked and in the field's form; `held` is what an earlier file gave."""

    def wrong(expected: str) -> Error:
        shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
        return Error(f"{place.path}: {row.name}: expected {expected}, not {shown}")

    if row.kind == "bool":
        if not isinstance(value, bool):
            raise wrong("true or false")
        return value
    if row.kind == "int":
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong("a whole number")
        return value
    if row.kind == "size":
        return _size(value, wrong)
    if row.kind == "list":
        return _list(value, held or (), wrong)
    if row.kind == "paths":
        if not isinstance(value, dict):
            raise wrong("a table of lists")
        return {**(held or {}), **{name: _list(paths, (), wrong) for name, paths in value.items()}}
    if not isinstance(value, str) or "\0" in value:
        raise wrong("a text in quotes")
    if row.choices and value not in row.choices:
        raise wrong("one of " + ", ".join(choice for choice in row.choices if choice))
    if row.kind == "path":
        value = expand(value, place.env, place.uid)
        if value and not value.startswith("/"):
            raise wrong("an absolute path")
    return value


def _list(value: Any, held: tuple[str, ...], wrong: Any) -> tuple[str, ...]:
    """A list of texts.  `{append = true}` among them adds to an earlier file's list (containers.conf(5))."""
    if not isinstance(value, list):
        raise wrong("a list of texts")
    texts = [item for item in value if not isinstance(item, dict)]
    if not all(isinstance(item, str) and "\0" not in item for item in texts):
        raise wrong("a list of texts")
    marks = [item for item in value if isinstance(item, dict)]
    if any(set(mark) != {"append"} or not isinstance(mark["append"], bool) for mark in marks):
        raise wrong("a list of texts, with {append = true} at most")
    return (*(held if marks and marks[-1]["append"] else ()), *texts)


def _size(value: Any, wrong: Any) -> int:
    """Bytes: a number, or "65536k" with one of b, k, m, g, t (powers of 1024)."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str):
        text = value.strip().lower()
        digits = text.rstrip("bkmgti")
        unit = text[len(digits) :].removesuffix("ib") if text.endswith("ib") else text[len(digits) :]
        if len(unit) == 2 and unit.endswith("b"):
            unit = unit[0]
        if digits.isascii() and digits.isdecimal() and unit in _SIZE_UNITS:
            return int(digits) * _SIZE_UNITS[unit]
    raise wrong('a size as "64m"')


def expand(text: str, env: Mapping[str, str], uid: int) -> str:
    """`~` and `$HOME`, `$USER`, `$UID`, `$XDG_RUNTIME_DIR` in a path (storage.conf's rootless_storage_path)."""
    if "$" not in text and not text.startswith("~"):
        return text
    if text == "~" or text.startswith("~/"):
        text = env.get("HOME", "") + text[1:]
    values = {"UID": str(uid), "HOME": env.get("HOME", ""), "XDG_RUNTIME_DIR": env.get("XDG_RUNTIME_DIR", "")}
    if "USER" in text:
        import pwd

        try:
            values["USER"] = pwd.getpwuid(uid).pw_name
        except KeyError:
            values["USER"] = str(uid)
    for name in sorted(values, key=len, reverse=True):
        text = text.replace(f"${{{name}}}", values[name]).replace(f"${name}", values[name])
    return text


def _from_storage(tree: dict[str, Any], place: _Place, own: bool) -> dict[str, Any]:
    """Where another engine's storage is, from storage.conf: ours goes beside it, never into it.

    own: the user's file, whose graphroot and driver are meant for them.  In the system's, graphroot is root's, and
    rootless_storage_path is everybody else's (containers-storage.conf(5)).
    """
    storage = tree.get("storage", {})
    if not isinstance(storage, dict):
        raise Error(f"{place.path}: storage: expected a table, [storage]")
    texts = {key: storage.get(key, "") for key in ("driver", "graphroot", "rootless_storage_path")}
    for key, value in texts.items():
        if not isinstance(value, str):
            raise Error(f"{place.path}: storage.{key}: expected a text in quotes, not {value!r}")
    found: dict[str, Any] = {}
    key = "graphroot" if own or place.uid == 0 else "rootless_storage_path"
    root = texts[key]
    if own and place.uid != 0 and texts["rootless_storage_path"]:
        root = texts["rootless_storage_path"]
    root = expand(root, place.env, place.uid).rstrip("/")
    if root and root not in _usual_roots(place.env):
        if not root.startswith("/"):
            raise Error(f"{place.path}: storage.{key}: expected an absolute path, not {root!r}")
        found["root"] = f"{os.path.dirname(root) if os.path.basename(root) == 'storage' else root}/pyctl"
    stores = _image_stores(storage, place)
    if stores:
        found["additional_stores"] = stores
    if own and texts["driver"] == "overlay":
        found["storage_driver"] = "fuse-overlayfs" if _has_mount_program(storage) else "overlay"
    return found


def _image_stores(storage: dict[str, Any], place: _Place) -> tuple[str, ...]:
    """additionalimagestores: those of Podman's form are told apart where they are opened."""
    options = storage.get("options", {})
    listed = options.get("additionalimagestores", []) if isinstance(options, dict) else []
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise Error(f"{place.path}: storage.options.additionalimagestores: expected a list of texts in quotes")
    return tuple(expand(item, place.env, place.uid).rstrip("/") for item in listed if item)


def _usual_roots(env: Mapping[str, str]) -> tuple[str, ...]:
    data = env.get("XDG_DATA_HOME") or env.get("HOME", "") + "/.local/share"
    return (f"{data}/containers/storage", "/var/lib/containers/storage")


def _has_mount_program(storage: dict[str, Any]) -> bool:
    options = storage.get("options", {})
    overlay = options.get("overlay", {}) if isinstance(options, dict) else {}
    tables = [table for table in (options, overlay) if isinstance(table, dict)]
    return any(str(table.get("mount_program", "")).endswith("fuse-overlayfs") for table in tables)
