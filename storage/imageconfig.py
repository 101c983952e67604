"""An image's configuration: what it runs, as whom, with which volumes, and which layers it consists of.

Weight: `rootless.values`, `storage.digest`, `.fields`, `.platforms`: `run` reads one of these.
Source of the fields: the OCI image specification, config.md, and Docker's additions (Healthcheck,
Shell, OnBuild).
"""

from __future__ import annotations

from rootless.values import Value
from storage import fields
from storage.digest import check as check_digest
from storage.platforms import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_CONFIG_BYTES = 4 << 20
MAX_LAYERS = 1000


class ImageHealth(Value):
    """Docker's HEALTHCHECK; times in nanoseconds, 0 where the default is meant."""

    test: tuple[str, ...]  # ("CMD", …) | ("CMD-SHELL", line) | ("NONE",)
    interval_ns: int = 0
    timeout_ns: int = 0
    start_period_ns: int = 0
    start_interval_ns: int = 0
    retries: int = 0


class History(Value):
    """One step of the image's making; steps that made no layer have `empty_layer`."""

    created: str = ""  # RFC 3339
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(Value):
    """One image's configuration.  `diff_ids` are the digests of the uncompressed layers, lowest first."""

    platform: Platform
    diff_ids: tuple[str, ...]
    created: str = ""  # RFC 3339
    author: str = ""
    env: tuple[str, ...] = ()  # "A=b"
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    labels: dict[str, str] = {}
    volumes: tuple[str, ...] = ()  # absolute paths
    exposed_ports: tuple[str, ...] = ()  # "80/tcp"
    stop_signal: str = ""
    stop_timeout_s: int = 0
    shell: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()
    health: ImageHealth | None = None
    history: tuple[History, ...] = ()


def parse_config(raw: bytes, what: str = "the image's configuration") -> ImageConfig:
    """The configuration in `raw`.  FieldError, naming the field, where it is no JSON or has wrong types."""
    tree = fields.parse_object(raw, what, MAX_CONFIG_BYTES)
    run = fields.table(tree, "config", what)
    rootfs = fields.table(tree, "rootfs", what)
    if not fields.text(tree, "os", what) or not fields.text(tree, "architecture", what):
        raise fields.FieldError(f"{what} has no os or no architecture: this is no container image")
    kind = fields.text(rootfs, "type", what)
    if kind != "layers":
        raise fields.FieldError(f"{what}: rootfs has type {kind!r}, not 'layers'")
    diff_ids = tuple(check_digest(d, f"{what}: diff_ids") for d in fields.texts(rootfs, "diff_ids", what))
    if len(diff_ids) > MAX_LAYERS:
        raise fields.FieldError(f"{what}: {len(diff_ids)} layers, at most {MAX_LAYERS} are possible")
    return ImageConfig(
        platform=parse_platform_object(tree, what),
        diff_ids=diff_ids,
        created=fields.text(tree, "created", what),
        author=fields.text(tree, "author", what),
        env=fields.texts(run, "Env", what),
        entrypoint=fields.texts(run, "Entrypoint", what),
        command=fields.texts(run, "Cmd", what),
        user=fields.text(run, "User", what),
        workdir=fields.text(run, "WorkingDir", what),
        labels=fields.text_table(run, "Labels", what),
        volumes=tuple(fields.table(run, "Volumes", what)),
        exposed_ports=tuple(fields.table(run, "ExposedPorts", what)),
        stop_signal=fields.text(run, "StopSignal", what),
        stop_timeout_s=fields.whole(run, "StopTimeout", what),
        shell=fields.texts(run, "Shell", what),
        on_build=fields.texts(run, "OnBuild", what),
        health=_health(run, what),
        history=tuple(_history(step, what) for step in fields.tables(tree, "history", what)),
    )


def parse_platform_object(tree: dict[str, Any], what: str) -> Platform:
    """The platform fields of a configuration or of an index's entry."""
    return Platform(
        os=fields.text(tree, "os", what),
        architecture=fields.text(tree, "architecture", what),
        variant=fields.text(tree, "variant", what),
        os_version=fields.text(tree, "os.version", what),
    )


def _health(run: dict[str, Any], what: str) -> ImageHealth | None:
    tree = fields.table(run, "Healthcheck", what)
    if not tree:
        return None
    what += ": Healthcheck"
    return ImageHealth(
        test=fields.texts(tree, "Test", what),
        interval_ns=fields.whole(tree, "Interval", what),
        timeout_ns=fields.whole(tree, "Timeout", what),
        start_period_ns=fields.whole(tree, "StartPeriod", what),
        start_interval_ns=fields.whole(tree, "StartInterval", what),
        retries=fields.whole(tree, "Retries", what),
    )


def _history(step: dict[str, Any], what: str) -> History:
    what += ": history"
    return History(
        created=fields.text(step, "created", what),
        created_by=fields.text(step, "created_by", what),
        author=fields.text(step, "author", what),
        comment=fields.text(step, "comment", what),
        empty_layer=fields.flag(step, "empty_layer", what),
    )
