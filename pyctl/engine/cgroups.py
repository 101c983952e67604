"""Limits of a specification as a plan for this host.  Weight: `rootless.cgroup_plan`, with `os` and values only."""

from __future__ import annotations

import os

from rootless import cgroup_facts, cgroup_plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.engine.engine import Engine
    from pyctl.engine.model import ContainerSpec
    from rootless.plan import CgroupPlan


def plan(engine: Engine, spec: ContainerSpec, followed: bool) -> CgroupPlan:
    """Where the container's cgroup goes.  Raises LimitError where a limit cannot be put in force.

    followed: a service manager is told to follow the supervisor, which must be in the service's cgroup for that.
    """
    facts = cgroup_facts.detect(os.environ, engine.uid)
    config = engine.config
    # A file's cgroup_manager is a preference, only the option is a demand; "systemd" is what is taken anyway.
    preferred = "cgroupfs" if config.cgroup_manager == "cgroupfs" and facts.parent else ""
    planned = cgroup_plan.plan(
        facts,
        spec.limits,
        spec.id,
        cgroups=spec.cgroups,
        manager=engine.globals.cgroup_manager or preferred,
        cgroup_parent=spec.cgroup_parent,
        default_pids=config.pids_limit,
        enforce=config.limits == "enforce",
    )
    for sentence in planned.warnings:
        engine.warn(sentence)
    if planned.plan.mode == "cgroupfs" and not planned.plan.scope:
        from rootless import cgroup_files  # only with --cgroups=split

        # This process and the supervisor, which is there already, leave the service's cgroup for a leaf of it.
        cgroup_files.prepare_split(planned.plan.parent)
    return planned.plan.replace(move_supervisor=False) if followed and planned.plan.mode == "scope" else planned.plan
