"""What an image that is made from a container says of how to run it.

Weight: `storage.changes`.  Podman's rules (podman-commit(1)): the base image's configuration, with the container's
command, environment, user, directory, labels and ports; volumes only where they are asked for.
"""

from __future__ import annotations

from rootless.errors import UsageError, os_error_text
from rootless.fds import read_file
from rootless.values import loads
from storage.changes import apply_changes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyctl.engine.model import ContainerSpec

_MAX_CONFIG_BYTES = 1 << 20
_TEXTS = ("User", "WorkingDir", "StopSignal")
_LISTS = ("Cmd", "Entrypoint", "Shell")
_TABLES = ("ExposedPorts", "Volumes", "Labels")


def run_configuration(
    base: dict[str, Any], spec: ContainerSpec, *, volumes: bool, override: dict[str, Any], changes: Sequence[str]
) -> dict[str, Any]:
    """The configuration's inner object.  base: the image's; override: of --config.  Raises UsageError."""
    run = dict(base)
    _set(run, "User", spec.user)
    ports = [*spec.network.exposed, *(f"{port.container_port}/{port.protocol}" for port in spec.network.ports)]
    _set(run, "ExposedPorts", {**(base.get("ExposedPorts") or {}), **{port: {} for port in ports}})
    own_name = f"HOSTNAME={spec.hostname or spec.id[:12]}"  # every container gets its own
    _set(run, "Env", [word for word in spec.env if word != own_name])
    _set(run, "Entrypoint", list(spec.entrypoint))
    _set(run, "Cmd", list(spec.command))
    mounted = [m.target for m in spec.mounts if m.kind in ("bind", "volume") and not m.anonymous] if volumes else []
    _set(run, "Volumes", {**(base.get("Volumes") or {}), **{target: {} for target in mounted}})
    _set(run, "WorkingDir", spec.workdir)
    _set(run, "Labels", {**(base.get("Labels") or {}), **spec.labels})
    return apply_changes(_overridden(run, override), changes)


def _set(run: dict[str, Any], key: str, value: Any) -> None:
    run.pop(key, None)
    if value:
        run[key] = value


def read_override(path: str) -> dict[str, Any]:
    """--config: a file with a configuration's inner object.  Raises UsageError."""
    try:
        tree = loads(read_file(path, limit=_MAX_CONFIG_BYTES))
    except OSError as error:
        raise UsageError(f"--config {os_error_text(error, path)}") from error
    except ValueError as error:
        raise UsageError(f"--config {path}: this is not JSON: {error}") from error
    if type(tree) is not dict:
        raise UsageError(f"--config {path}: a JSON object is expected")
    for key, value in tree.items():
        if not _is_sound(key, value):
            raise UsageError(
                f"--config {path}: {key} is not a setting of an image, or not of its type",
                hint=", ".join((*_TEXTS, *_LISTS, *_TABLES, "Env", "OnBuild", "Healthcheck", "StopTimeout")),
            )
    return tree


def _is_sound(key: str, value: Any) -> bool:
    if key in _TEXTS:
        return type(value) is str
    if key in (*_LISTS, "Env", "OnBuild"):
        return type(value) is list and all(type(item) is str for item in value)
    if key == "Labels":
        return type(value) is dict and all(type(item) is str for item in value.values())
    if key == "StopTimeout":
        return type(value) is int
    return key in (*_TABLES, "Healthcheck") and type(value) is dict


def _overridden(run: dict[str, Any], override: dict[str, Any]) -> dict[str, Any]:
    """Tables and variables are added to, everything else takes the place of what was there."""
    for key, value in override.items():
        if key in _TABLES:
            run[key] = {**run.get(key, {}), **value}
        elif key == "Env":
            given = {item.partition("=")[0] for item in value}
            run[key] = [item for item in run.get(key, []) if item.partition("=")[0] not in given] + value
        elif key == "OnBuild":
            run[key] = [*run.get(key, []), *value]
        else:
            run[key] = value
    if "Cmd" in override and "Entrypoint" not in override:
        run.pop("Entrypoint", None)  # a new command is not the former entry point's argument
    return run
