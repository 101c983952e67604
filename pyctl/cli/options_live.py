"""Commands that look at or change running containers: stats, top, pause, update, rename.  Weight: the table only."""

from __future__ import annotations

from pyctl.cli.table import BOOL, INT, LIST, STRING, Command, Option, command, opt

_LATEST = opt("latest", "l", BOOL, "The container that was made last")
_LIMITS = (
    *("memory", "memory-swap", "memory-reservation", "memory-swappiness", "cpus", "cpu-shares", "cpu-period"),
    *("cpu-quota", "cpu-rt-period", "cpu-rt-runtime", "cpuset-cpus", "cpuset-mems", "pids-limit", "blkio-weight"),
    *("blkio-weight-device", "device-read-bps", "device-write-bps", "device-read-iops", "device-write-iops"),
)


def cmd_stats() -> Command:
    return command(
        "stats",
        "[CONTAINER...]",
        "Show what running containers use",
        "pyctl.cli.verb_stats:stats",
        opt("all", "a", BOOL, "Also those that do not run"),
        opt("no-stream", "", BOOL, "Print one table and end"),
        opt("no-reset", "", BOOL, "Print one table below the other, the screen is not cleared"),
        opt("interval", "i", INT, "Seconds between two tables", default=5, metavar="SECONDS"),
        opt("format", "", STRING, "json, or a Go template as '{{.Name}} {{.MemUsage}}'", metavar="FORMAT"),
        opt("no-trunc", "", BOOL, "Whole ids"),
        _LATEST,
        description=(
            "Processor time, memory, disk traffic and processes are read from the container's cgroup, network traffic"
            " from its network namespace. Without names: of every running container. CPU % is the use since the last"
            " table, in the first one since the container's start; 100% is one processor. A number that cannot be known"
            " is shown as --, and a warning says why."
        ),
        examples=(
            ("pyctl stats --no-stream", "one table of all running containers"),
            ("pyctl stats --format '{{.Name}} {{.CPUPerc}}' web", "two columns, every five seconds"),
        ),
        args=(0, -1),
        complete="container:running",
        aliases=("container stats",),
    )


def cmd_top() -> Command:
    return command(
        "top",
        "CONTAINER [DESCRIPTOR...]",
        "Show the processes of a container",
        "pyctl.cli.verb_top:top",
        _LATEST,
        description=(
            "Reads /proc on the host: the image needs no ps. Descriptors, apart or joined by commas, choose the"
            " columns: args, capamb, capbnd, capeff, capinh, capprm, comm, etime, group, groups, hgroup, hgroups, hpid,"
            " huid, huser, label, nice, pcpu, pgid, pid, ppid, rgroup, rss, ruser, seccomp, state, stime, time, tty,"
            " uid, user, vsz; the codes of ps(1), as %C, are understood too. Ids are those inside the container; an h"
            " in front means the host's."
        ),
        examples=(("pyctl top web pid user args", "three columns"),),
        args=(0, -1),
        complete="container:running",
        aliases=("container top",),
    )


def _choosing(states: str) -> tuple[Option, ...]:
    return (
        opt("all", "a", BOOL, f"Every {states} container"),
        opt("filter", "f", LIST, "Those that match: label=KEY=VALUE, name=… (repeatable)", metavar="KEY=VALUE"),
        opt("cidfile", "", LIST, "Take the container's id from a file (repeatable)", metavar="FILE", complete="file"),
        _LATEST,
    )


def cmd_pause() -> Command:
    return command(
        "pause",
        "CONTAINER [CONTAINER...]",
        "Stop every process of containers where it is",
        "pyctl.cli.verb_update:pause",
        *_choosing("running"),
        description="The kernel's cgroup freezer holds the processes; memory stays. `pyctl unpause` lets them go on.",
        args=(0, -1),
        complete="container:running",
        aliases=("container pause",),
    )


def cmd_unpause() -> Command:
    return command(
        "unpause",
        "CONTAINER [CONTAINER...]",
        "Let paused containers go on",
        "pyctl.cli.verb_update:unpause",
        *_choosing("paused"),
        args=(0, -1),
        complete="container",
        aliases=("container unpause",),
    )


def _limits() -> list[Option]:
    from pyctl.cli.options_limits import resources

    rows = {row.name: row for row in resources() if not isinstance(row, str)}
    return [rows[name] for name in _LIMITS]


def _health() -> list[Option]:
    from pyctl.cli.options_limits import logs_and_health

    return [r for r in logs_and_health() if not isinstance(r, str) and r.name.startswith(("health-", "no-healthcheck"))]


def cmd_healthcheck_run() -> Command:
    return command(
        "healthcheck run",
        "CONTAINER",
        "Run a container's health check now",
        "pyctl.cli.verb_healthcheck:run",
        description=(
            "The result counts as any other. The exit status is 0 where the check passed, 1 where it failed, 125 where"
            " it could not be run."
        ),
        examples=(("pyctl healthcheck run web && echo well", "in a script"),),
        args=(1, 1),
        complete="container:running",
    )


def cmd_update() -> Command:
    return command(
        "update",
        "CONTAINER",
        "Change limits, the restart policy or the health check of a container",
        "pyctl.cli.verb_update:update",
        *_limits(),
        opt(
            "restart",
            "",
            STRING,
            "What to do when it ends: no, on-failure[:N], always, unless-stopped",
            metavar="POLICY",
        ),
        *_health(),
        description=(
            "Each limit of a running container is written to its cgroup and read back, all of them or none; what is not"
            " named stays as it is. The change is kept for later starts. 0 takes a bound on memory or processors away,"
            " -1 one on processes. A health check that is changed begins anew."
        ),
        examples=(("pyctl update --memory 1g --cpus 2 web", "more of both, at once"),),
        args=(1, 1),
        complete="container",
        aliases=("container update",),
    )


def cmd_rename() -> Command:
    return command(
        "rename",
        "CONTAINER NAME",
        "Give a container another name",
        "pyctl.cli.verb_update:rename",
        description="Works on running containers too. The host name inside stays.",
        args=(2, 2),
        complete="container",
        aliases=("container rename",),
    )
