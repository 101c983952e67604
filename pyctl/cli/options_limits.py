"""Options of `run` and `create` on resources, logs and health.  Weight: the table only."""

from __future__ import annotations

from pyctl.cli.table import BOOL, BYTES, CSV, DURATION, FLOAT, INT, LIST, STRING, UINT, Option, no, opt

NO_POD = "there are no pods yet"
SIZE = "SIZE"  # 512m, 1.5g
_SECOND = 1_000_000_000
_RATE = "DEVICE:RATE"
_TIME = "TIME"  # 30s, 1h30m


def resources() -> tuple[Option | str, ...]:
    return (
        "Resources",
        opt("memory", "m", BYTES, "Most memory; beyond it the kernel kills a process of the container", metavar=SIZE),
        opt("memory-swap", "", BYTES, "Memory plus swap together; -1 for no bound", metavar=SIZE, choices=("-1",)),
        opt(
            "memory-reservation",
            "",
            BYTES,
            "Memory that is kept for the container when the host runs short",
            metavar=SIZE,
        ),
        opt("memory-swappiness", "", INT, "How willingly to swap, 0 to 100 (cgroup v1 only)", default=-1, metavar="N"),
        opt("cpus", "", FLOAT, "So many processors' time: 0.5, 2", metavar="N"),
        opt("cpu-shares", "c", UINT, "Weight against other containers (1024 is the usual)", metavar="N"),
        opt("cpu-period", "", UINT, "Length of the CFS period", metavar="MICROSECONDS"),
        opt("cpu-quota", "", INT, "Processor time in one CFS period", metavar="MICROSECONDS"),
        opt("cpu-rt-period", "", UINT, "Length of the real-time period (cgroup v1 only)", metavar="MICROSECONDS"),
        opt("cpu-rt-runtime", "", INT, "Real-time in one period (cgroup v1 only)", metavar="MICROSECONDS"),
        opt("cpuset-cpus", "", STRING, "Processors it may run on: 0-3,6", metavar="LIST"),
        opt("cpuset-mems", "", STRING, "Memory nodes it may use", metavar="LIST"),
        opt("pids-limit", "", INT, "Most processes and threads; -1 for no bound", metavar="N"),
        opt(
            "ulimit",
            "",
            CSV,
            "A resource limit of the process, as nofile=1024:4096, or host",
            metavar="NAME=SOFT[:HARD]",
            complete="ulimit",
        ),
        opt("oom-score-adj", "", INT, "Preference of the host's OOM killer, -1000 to 1000", metavar="N"),
        opt("oom-kill-disable", "", BOOL, "Never let the kernel kill it for memory (cgroup v1 only)"),
        opt("blkio-weight", "", UINT, "Weight of its disk traffic, 10 to 1000", metavar="N"),
        opt("blkio-weight-device", "", LIST, "The same for one device", metavar="DEVICE:WEIGHT"),
        opt("device-read-bps", "", LIST, "Most bytes a second read from a device: /dev/sda:10mb", metavar=_RATE),
        opt("device-write-bps", "", LIST, "Most bytes a second written to a device", metavar=_RATE),
        opt("device-read-iops", "", LIST, "Most reads a second from a device", metavar=_RATE),
        opt("device-write-iops", "", LIST, "Most writes a second to a device", metavar=_RATE),
        opt(
            "cgroups",
            "",
            STRING,
            "Whether the container gets cgroups",
            default="enabled",
            metavar="MODE",
            choices=("enabled", "disabled", "no-conmon", "split"),
        ),
        opt("cgroup-parent", "", STRING, "The cgroup (or systemd slice) to make the container's in", metavar="PATH"),
        opt("cgroup-conf", "", CSV, "Write a value into a cgroup v2 file: memory.high=1073741824", metavar="KEY=VALUE"),
        no("rdt-class", "", STRING, "it needs root"),
    )


def logs_and_health() -> tuple[Option | str, ...]:
    return (
        "Logs",
        opt(
            "log-driver",
            "",
            STRING,
            "Where output is kept: k8s-file, json-file, journald, none, passthrough",
            metavar="DRIVER",
        ),
        opt("log-opt", "", LIST, "path=FILE, max-size=10m, max-file=3, tag=TEMPLATE", metavar="KEY=VALUE"),
        "Health",
        opt(
            "health-cmd",
            "",
            STRING,
            "Command that tells whether the container is well; none for no check",
            metavar="COMMAND",
            also=("healthcheck-command",),
        ),
        opt(
            "health-interval",
            "",
            DURATION,
            "Time between checks; disable to check only by hand",
            default=30 * _SECOND,
            metavar=_TIME,
            choices=("disable",),
            also=("healthcheck-interval",),
        ),
        opt(
            "health-timeout",
            "",
            DURATION,
            "A check that takes longer has failed",
            default=30 * _SECOND,
            metavar=_TIME,
            also=("healthcheck-timeout",),
        ),
        opt(
            "health-retries",
            "",
            UINT,
            "So many failures in a row make it unhealthy",
            default=3,
            metavar="N",
            also=("healthcheck-retries",),
        ),
        opt(
            "health-start-period",
            "",
            DURATION,
            "Failures do not count for so long after the start",
            metavar=_TIME,
            also=("healthcheck-start-period",),
        ),
        opt(
            "health-on-failure",
            "",
            STRING,
            "What to do when it turns unhealthy",
            default="none",
            metavar="ACTION",
            choices=("none", "kill", "restart", "stop"),
        ),
        opt(
            "health-startup-cmd",
            "",
            STRING,
            "Another check that must pass before the usual one begins",
            metavar="COMMAND",
        ),
        opt(
            "health-startup-interval",
            "",
            DURATION,
            "Time between checks while starting",
            default=30 * _SECOND,
            metavar=_TIME,
            choices=("disable",),
        ),
        opt(
            "health-startup-timeout",
            "",
            DURATION,
            "A check while starting that takes longer has failed",
            default=30 * _SECOND,
            metavar=_TIME,
        ),
        opt(
            "health-startup-retries",
            "",
            UINT,
            "So many failures while starting restart the container (0: never)",
            metavar="N",
        ),
        opt("health-startup-success", "", UINT, "So many successes end the start (0: one)", metavar="N"),
        opt("health-max-log-count", "", UINT, "Results kept for inspect (0: all)", default=5, metavar="N"),
        opt("health-max-log-size", "", UINT, "Characters kept of each result (0: all)", default=500, metavar="N"),
        opt(
            "health-log-destination",
            "",
            STRING,
            "",
            default="local",
            choices=("local",),
            refused="results are kept with the container",
        ),
        opt("no-healthcheck", "", BOOL, "Ignore the image's health check"),
        "Start-up",
        opt(
            "sdnotify",
            "",
            STRING,
            "Who tells systemd that the service is up: the container itself, conmon (when it has been started), healthy"
            " (its first good health check); ignore tells nothing",
            default="container",
            metavar="MODE",
            choices=("container", "conmon", "healthy", "ignore"),
        ),
        no("conmon-pidfile", "", STRING, "there is no conmon: --pidfile names the container's process"),
        no("requires", "", CSV),
        no("pod", "", STRING, NO_POD),
        no("pod-id-file", "", STRING, NO_POD),
    )
