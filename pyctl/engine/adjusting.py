"""Containers that exist, changed: paused, unpaused, given other limits.

Weight: `pyctl.engine.planner`; the parsers of limits where some are given.

A limit is computed as `run` would compute it, from what was asked for at first and what is asked for now; only files
whose content differs are written.  The supervisor writes them and reads them back, and only then the new
specification is stored: what `inspect` shows is what is in force.
"""

from __future__ import annotations

import os

from pyctl.engine import request_health, state
from pyctl.engine.execute import ask
from pyctl.engine.model import Limits
from pyctl.engine.planner import health_plan
from rootless import cgroup_facts, cgroup_limits, cgroup_plan
from rootless.errors import Error, LimitError, UsageError
from rootless.plan import Pause, Query, Status, Update

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyctl.cli.parser import Options
    from pyctl.engine.engine import Engine
    from pyctl.engine.model import ContainerSpec
    from pyctl.engine.state import ContainerRecord

# option → the fields of Limits that it stands for
_FIELDS: dict[str, tuple[str, ...]] = {
    "memory": ("memory_bytes",),
    "memory_swap": ("memory_swap_bytes",),
    "memory_reservation": ("memory_reservation_bytes",),
    "memory_swappiness": ("memory_swappiness",),
    "cpus": ("cpu_quota_us", "cpu_period_us"),
    "cpu_quota": ("cpu_quota_us",),
    "cpu_period": ("cpu_period_us",),
    "cpu_shares": ("cpu_shares",),
    "cpu_rt_period": ("cpu_rt_period_us",),
    "cpu_rt_runtime": ("cpu_rt_runtime_us",),
    "cpuset_cpus": ("cpuset_cpus",),
    "cpuset_mems": ("cpuset_mems",),
    "pids_limit": ("pids",),
    "blkio_weight": ("blkio_weight",),
    "blkio_weight_device": ("blkio_weight_device",),
    "device_read_bps": ("device_read_bps",),
    "device_write_bps": ("device_write_bps",),
    "device_read_iops": ("device_read_iops",),
    "device_write_iops": ("device_write_iops",),
}
_MEMORY = ("memory", "memory_swap", "memory_reservation")  # checked against each other


class _Overlay:
    """Options of `update` over what the container has, so that memory is checked against the memory it has."""

    def __init__(self, options: Options, held: Limits) -> None:
        self._options = options
        self._held = {name: getattr(held, _FIELDS[name][0]) for name in _MEMORY}

    def given(self, field: str) -> bool:
        return self._options.given(field) or bool(self._held.get(field))

    def get(self, field: str, default: Any = None) -> Any:
        if field in self._held and not self._options.given(field):
            return self._held[field]
        return self._options.get(field, default)


# --- pause ---------------------------------------------------------------------------------------


def supervisor_status(record: ContainerRecord) -> Status:
    """What the supervisor of a live container says.  Raises Error."""
    answer = ask(record.runtime_dir, record.name, Query())
    if not isinstance(answer, Status):
        raise Error(f"container {record.name} has just ended")
    return answer


def without_cgroup(engine: Engine, record: ContainerRecord) -> tuple[str, str]:
    """Why a container has no cgroup of its own, and the remedy."""
    if record.specification.cgroups == "disabled":
        return "it was made with --cgroups=disabled", ""
    reason, hint, _controllers = cgroup_plan.obstacle(cgroup_facts.detect(os.environ, engine.uid))
    return reason or "it was started where none could be made", hint


def pause(engine: Engine, record: ContainerRecord, freeze: bool) -> None:
    """Stop every process of a running container where it is, or let those of a paused one go on.  Raises Error."""
    wanted = state.Status.RUNNING if freeze else state.Status.PAUSED
    if record.status != wanted:
        verb = "paused" if freeze else "unpaused"
        raise Error(f"container {record.name} is {record.status}, only a {wanted} one can be {verb}")
    if not supervisor_status(record).cgroup:
        reason, hint = without_cgroup(engine, record)
        raise Error(f"container {record.name} cannot be paused without a cgroup of its own: {reason}", hint=hint)
    ask(record.runtime_dir, record.name, Pause(freeze=freeze))


def tell_name(record: ContainerRecord, name: str) -> None:
    """A living supervisor names the container in its events."""
    if not record.alive:
        return
    try:
        ask(record.runtime_dir, record.name, Update(name=name))
    except Error:
        return  # it is between two starts, or has just ended: the old name stands in what it still tells


# --- update --------------------------------------------------------------------------------------


def update(engine: Engine, record: ContainerRecord, options: Options) -> None:
    """Change limits, restart policy and health check.  Raises Error, LimitError; then nothing has changed."""
    spec = record.specification
    given = [name for name in _FIELDS if options.given(name)]
    restart = options.given("restart")
    checks = any(options.given(name) for name in request_health.OPTIONS)
    if not given and not restart and not checks:
        raise UsageError("update: say what to change", hint="as pyctl update --memory 512m CONTAINER")
    limits, asked = _merged(spec.limits, options, given)
    changed = spec.replace(limits=limits)
    if restart:
        from pyctl.engine.request_process import restart_policy

        policy, retries = restart_policy(options, spec.remove)
        changed = changed.replace(restart=policy, restart_retries=retries)
    if checks:
        changed = changed.replace(health=request_health.updated(options, spec.health))
    if given:
        _check(engine, changed, asked)
    if record.alive:
        writes = _differences(engine, spec.limits, asked) if given else ()
        if given and not supervisor_status(record).cgroup:
            reason, hint = without_cgroup(engine, record)
            raise LimitError(f"container {record.name} has no cgroup of its own: {reason}", hint=hint)
        request = Update(
            writes=writes,
            restart=changed.restart if restart else "",
            restart_retries=changed.restart_retries,
            new_health=checks,
            health=health_plan(changed.health) if checks else None,
        )
        ask(record.runtime_dir, record.name, request)
    state.replace_specification(engine.db, changed)


def _merged(held: Limits, options: Options, given: list[str]) -> tuple[Limits, Limits]:
    """(what is stored, what is written: -1 where a bound was taken away)."""
    if not given:
        return held, held
    from pyctl.engine.request_limits import limits as parse

    parsed = parse(_Overlay(options, held))
    stored: dict[str, Any] = {}
    lifted: dict[str, Any] = {}
    for name in given:
        for field in _FIELDS[name]:
            stored[field] = getattr(parsed, field)
            if field in ("memory_bytes", "cpu_quota_us") and not stored[field]:
                lifted[field] = -1
    merged = held.replace(**stored)
    return merged, merged.replace(**lifted)


def _check(engine: Engine, spec: ContainerSpec, asked: Limits) -> None:
    """Refuse here what a start would refuse."""
    planned = cgroup_plan.plan(
        cgroup_facts.detect(os.environ, engine.uid),
        asked,
        spec.id,
        cgroups=spec.cgroups,
        manager=engine.globals.cgroup_manager,
        cgroup_parent=spec.cgroup_parent,
        enforce=engine.config.limits == "enforce",
    )
    for sentence in planned.warnings:
        engine.warn(sentence)


def _differences(engine: Engine, held: Limits, asked: Limits) -> tuple[Any, ...]:
    """The files to write, in the order that `run` has."""
    facts = cgroup_facts.detect(os.environ, engine.uid)
    before = cgroup_limits.cgroup_writes(held, io_weight_file=facts.io_weight_file)
    after = cgroup_limits.cgroup_writes(asked, io_weight_file=facts.io_weight_file)
    return tuple(write for write in after if write not in before)
