"""Where a container's cgroup goes and what is limited there: decided before anything starts.

Weight: `rootless.cgroup_facts`, `.cgroup_limits`.  Pure; `rootless.cgroup` acts.

A limit that cannot take effect fails the command here, with the option, the missing controller, what is delegated and
the administrator's remedy; see systemd.resource-control(5) for Delegate=.
"""

from __future__ import annotations

from rootless.cgroup_facts import CgroupFacts
from rootless.cgroup_limits import cgroup_writes
from rootless.errors import LimitError
from rootless.plan import CgroupPlan, CgroupWrite
from rootless.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.cgroup_limits import Limits

ADVICE = (
    "the administrator writes [Service] Delegate=cpu cpuset io memory pids into "
    "/etc/systemd/system/user@.service.d/delegate.conf, runs `systemctl daemon-reload`, and you log in again"
)


class Planned(Value):
    """A plan, and what to tell the user where limits are configured to be "warn"."""

    plan: CgroupPlan
    warnings: tuple[str, ...] = ()


def plan(
    facts: CgroupFacts,
    limits: Limits,
    container_id: str,
    *,
    cgroups: str = "enabled",
    manager: str = "",
    cgroup_parent: str = "",
    default_pids: int = 0,
    enforce: bool = True,
    device_number: Callable[[str], str] | None = None,
) -> Planned:
    """Where the container's cgroup goes and what is written there.

    cgroups: --cgroups ("enabled" | "disabled" | "no-conmon" | "split"); manager: --cgroup-manager ("" found out);
    default_pids: a bound that nobody asked for, set where that is possible.  enforce False (limits = "warn"): a limit
    that cannot take effect is left out and named in `warnings`.  Raises LimitError.
    """
    chosen = manager or facts.manager
    if cgroups == "split":
        chosen = "split"
    reason, hint, controllers = _obstacle(facts, chosen, cgroups)
    writes = cgroup_writes(limits, io_weight_file=facts.io_weight_file, device_number=device_number)
    missing = [w for w in writes if w.required and (reason or w.controller not in controllers)]
    warnings = []
    if missing:
        problem = _limit_error(facts, missing, controllers, reason, hint)
        if enforce:
            raise problem
        warnings = [f"{problem.message}; the container runs without this limit"]
    if reason:
        wish = _wish(cgroups, manager, cgroup_parent)
        if wish and enforce:
            raise LimitError(f"{wish}: {reason}", hint=hint)
        if wish:
            warnings.append(f"{wish}: {reason}")
        return Planned(plan=CgroupPlan(), warnings=tuple(warnings))
    kept = [w for w in writes if w.controller in controllers]
    asked = any(write.file == "pids.max" for write in writes)  # by --cgroup-conf too
    if default_pids > 0 and not asked and not limits.pids and "pids" in controllers:
        kept.append(
            CgroupWrite(
                controller="pids", file="pids.max", value=str(default_pids), option="pids_limit", required=False
            )
        )
    placed = _place(facts, chosen, f"pyctl-{container_id}.scope", cgroup_parent)
    return Planned(
        plan=placed.replace(writes=tuple(kept), move_supervisor=cgroups != "no-conmon"), warnings=tuple(warnings)
    )


def _wish(cgroups: str, manager: str, cgroup_parent: str) -> str:
    """The option by which a cgroup was asked for without any limit; "" where none was."""
    if cgroup_parent:
        return f"--cgroup-parent {cgroup_parent}"
    if cgroups in ("split", "no-conmon"):
        return f"--cgroups={cgroups}"
    return f"--cgroup-manager={manager}" if manager in ("systemd", "cgroupfs") else ""


def obstacle(facts: CgroupFacts) -> tuple[str, str, tuple[str, ...]]:
    """For a container with no option of its own: (why it can't have a cgroup, the remedy, its controllers)."""
    return _obstacle(facts, facts.manager, "enabled")


def _obstacle(facts: CgroupFacts, chosen: str, cgroups: str) -> tuple[str, str, tuple[str, ...]]:
    """(why no cgroup can be made, the remedy, the controllers that one would have)."""
    if cgroups == "disabled" or chosen == "disabled":
        return "there is no cgroup of its own with cgroups disabled", "leave --cgroups=disabled out", ()
    if facts.version in ("v1", "hybrid"):
        return (
            f"cgroup v1{'/hybrid' if facts.version == 'hybrid' else ''}: no controller of v2, the only ones that a "
            "user can be given, is there",
            "the administrator boots with systemd.unified_cgroup_hierarchy=1 (and no cgroup v1 mounts)",
            (),
        )
    if facts.version == "none":
        return f"no cgroup file system at {facts.sysfs}", "", ()
    if chosen == "systemd" and facts.systemd:
        return "", "", facts.systemd_controllers
    if chosen == "cgroupfs" and facts.parent:
        return "", "", facts.parent_controllers
    if chosen == "split":
        if facts.own_controllers:
            return "", "", facts.own_controllers
        return f"the cgroup {facts.own} is not ours to divide", "a service needs Delegate=yes for --cgroups=split", ()
    if facts.job:
        return (
            f"inside {facts.job} a container stays in the job's cgroup, which may not be divided",
            "ask the scheduler for the limit (as sbatch --mem, --cpus-per-task)",
            (),
        )
    if chosen == "systemd" or not facts.own:
        hint = "log in by ssh or `machinectl shell`, or the administrator runs `loginctl enable-linger`"
        return "no systemd user manager can be reached", hint, ()
    return (
        f"no systemd user manager can be reached, and the cgroup of this session, {facts.own}, is not ours to divide",
        "log in by ssh or `machinectl shell`, or the administrator runs `loginctl enable-linger`",
        (),
    )


def _limit_error(
    facts: CgroupFacts, missing: list[CgroupWrite], controllers: tuple[str, ...], reason: str, hint: str
) -> LimitError:
    options = ", ".join(dict.fromkeys(w.option for w in missing))
    if reason:
        return LimitError(f"{options} cannot take effect: {reason}", hint=hint)
    names = list(dict.fromkeys(w.controller for w in missing))
    absent = [name for name in names if name not in facts.kernel_controllers]
    if absent:
        return LimitError(f"{options}: this kernel has no cgroup controller {', '.join(absent)}")
    delegated = " ".join(controllers) or "none"
    plural = "s" if len(names) > 1 else ""
    return LimitError(
        f"{options} cannot take effect: the cgroup controller{plural} {', '.join(names)} "
        f"{'are' if plural else 'is'} not delegated to this user (delegated: {delegated})",
        hint=ADVICE,
    )


def _place(facts: CgroupFacts, chosen: str, name: str, cgroup_parent: str) -> CgroupPlan:
    if chosen == "systemd":
        if cgroup_parent and not (cgroup_parent.endswith(".slice") and "/" not in cgroup_parent):
            raise LimitError(f"--cgroup-parent {cgroup_parent} is not the name of a slice", hint="as web.slice")
        default = "machine.slice" if facts.root else "user.slice"
        return CgroupPlan(mode="scope", scope=name, slice=cgroup_parent or default)
    if chosen == "split":
        if cgroup_parent:
            raise LimitError("--cgroup-parent and --cgroups=split contradict each other")
        return CgroupPlan(mode="cgroupfs", parent=facts.own)
    parent = facts.parent
    if cgroup_parent:
        below = "/" + cgroup_parent.strip("/")
        if ".." in below.split("/"):
            raise LimitError(f"--cgroup-parent {cgroup_parent}: no .. here")
        parent = below if (below + "/").startswith(parent.rstrip("/") + "/") else parent.rstrip("/") + below
    return CgroupPlan(mode="cgroupfs", scope=name, parent=parent)
