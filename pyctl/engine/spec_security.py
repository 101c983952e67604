"""Capabilities, paths of /proc and /sys that stay hidden, and resource limits of a process in config.json.

Weight: `rootless.capabilities`, `rootless.errors`.
"""

from __future__ import annotations

from rootless import capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyctl.engine.model import ContainerSpec, Security
    from pyctl.engine.spec_facts import SpecFacts

# What the kernel shows of the whole machine, or lets a root of a user namespace touch (Podman's and Docker's lists).
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/interrupts",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
)
READ_ONLY_PATHS = ("/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

RLIMITS = (
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss",
    "rtprio", "rttime", "sigpending", "stack",
)  # fmt: skip
_UNLIMITED = 0xFFFFFFFFFFFFFFFF  # RLIM_INFINITY
_NOFILE_DEFAULT = 1048576


def is_root(user: str) -> bool:
    """Does the container's process start as uid 0?  Digits are always a uid, so "00" is root as well."""
    name = user.partition(":")[0]
    return name in ("", "root") or (name.isascii() and name.isdecimal() and int(name) == 0)


def held_capabilities(
    security: Security, known: tuple[str, ...] = (), defaults: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """The bounding set of the container.  defaults: the site's own set (containers.conf, default_capabilities)."""
    return capabilities.effective(
        security.cap_add,
        security.cap_drop,
        defaults or capabilities.DEFAULT,
        security.privileged,
        known or capabilities.NAMES,
    )


def process_capabilities(spec: ContainerSpec, facts: SpecFacts) -> tuple[dict[str, list[str]], list[str]]:
    """(`process.capabilities` for uid 0, the sets that another user is to have in place of its effective one).

    Which of the two holds is known where the user is looked up: by the supervisor, in the mounted root.
    """
    security = spec.security
    held = held_capabilities(security, facts.capabilities, facts.default_capabilities)
    for_root = capabilities.process_sets(held, root=True)
    for_others = capabilities.process_sets(held, False, security.cap_add, security.privileged)["ambient"]
    return {name: members for name, members in for_root.items() if members}, for_others


def masked_paths(security: Security) -> tuple[list[str], list[str]]:
    """`linux.maskedPaths` and `linux.readonlyPaths`, after --security-opt mask= and unmask=."""
    if security.privileged:
        return [], []
    masked = [p for p in MASKED_PATHS if not is_unmasked(p, security.unmask)]
    locked = [p for p in READ_ONLY_PATHS if not is_unmasked(p, security.unmask)]
    return masked + [p for p in security.mask if p not in masked], locked


def is_unmasked(path: str, patterns: tuple[str, ...]) -> bool:
    """Does one of --security-opt unmask= name `path`, or match it?"""
    for pattern in patterns:
        if pattern in ("ALL", path):
            return True
        if "*" in pattern or "?" in pattern or "[" in pattern:
            from fnmatch import fnmatchcase  # imports re: only for the rare pattern

            # filepath.Match: a star does not cross a slash.
            if pattern.count("/") == path.count("/") and fnmatchcase(path, pattern):
                return True
    return False


def rlimits(spec: ContainerSpec, facts: SpecFacts) -> list[dict[str, Any]]:
    """`process.rlimits`, each clamped to this session's hard limit, which only root may exceed (setrlimit(2)).

    Without --ulimit, nofile and nproc are as high as the session allows: servers in images expect a machine's
    limits, not a login shell's soft ones.
    """
    wanted: dict[str, tuple[int, int]] = {}
    for name, ceiling in (("nofile", _NOFILE_DEFAULT), ("nproc", -1)):
        hard = facts.rlimits.get(name, (0, 0))[1]
        if hard:
            wanted[name] = (_least(hard, ceiling),) * 2
    for limit in spec.ulimits:
        if limit.name == "host":
            wanted.update(facts.rlimits)
        else:
            hard = facts.rlimits.get(limit.name, (-1, -1))[1]
            wanted[limit.name] = (_least(limit.soft, hard), _least(limit.hard, hard))
    return [
        {"type": "RLIMIT_" + name.upper(), "soft": _number(soft), "hard": _number(hard)}
        for name, (soft, hard) in wanted.items()
    ]


def _least(one: int, two: int) -> int:
    return two if one < 0 else one if two < 0 else min(one, two)


def _number(value: int) -> int:
    return value if value >= 0 else _UNLIMITED
