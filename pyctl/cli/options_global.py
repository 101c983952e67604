"""Options that stand before or after any command.  Weight: the table only."""

from __future__ import annotations

from pyctl.cli.table import BOOL, LIST, NOT_YET, STRING, Option, no, opt

_NO_REMOTE = "there is no service to connect to: pyctl acts in this process, on this machine"

ROWS: tuple[Option, ...] = (
    opt(
        "log-level",
        "",
        STRING,
        "What to tell on stderr: debug prints each operation, and a traceback for internal errors",
        default="warn",
        metavar="LEVEL",
        choices=("trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"),
    ),
    opt(
        "root", "", STRING, "Storage root: images, containers, volumes and the database", metavar="DIR", complete="dir"
    ),
    opt(
        "runroot",
        "",
        STRING,
        "Directory of sockets and other files of running containers",
        metavar="DIR",
        complete="dir",
    ),
    opt("runtime", "", STRING, "OCI runtime: crun, runc, youki, a configured name, or a path", metavar="NAME|PATH"),
    opt("runtime-flag", "", LIST, "A global flag for the OCI runtime, without its dashes (repeatable)", metavar="FLAG"),
    opt(
        "storage-driver",
        "",
        STRING,
        "How layers are joined: fuse-overlayfs, or the kernel's overlay",
        metavar="DRIVER",
        choices=("fuse-overlayfs", "overlay"),
    ),
    no("storage-opt", "", LIST, "the storage drivers have no options"),
    opt(
        "cgroup-manager",
        "",
        STRING,
        "Who makes cgroups: the user's systemd, or pyctl below a delegated cgroup (found out when not given)",
        metavar="MANAGER",
        choices=("systemd", "cgroupfs", "disabled"),
    ),
    opt("config", "", STRING, "Directory of docker's config.json, for registry logins", metavar="DIR", complete="dir"),
    opt("help", "", BOOL, "Show help"),
    opt("version", "v", BOOL, "Show the version"),
    no("conmon", "", STRING, "there is no conmon: each container has pyctl's own supervisor"),
    no("connection", "c", STRING, _NO_REMOTE),
    opt("events-backend", "", STRING, "", refused="events are kept in a file of the storage", choices=("file",)),
    no("hooks-dir", "", LIST, NOT_YET),
    no("identity", "", STRING, _NO_REMOTE),
    no("imagestore", "", STRING, NOT_YET),
    no("module", "", LIST, NOT_YET),
    no("network-cmd-path", "", STRING, "name the helper's path in pyctl.conf"),
    no("network-config-dir", "", STRING, "networks are kept in the database below --root"),
    no("out", "", STRING, "redirect stdout in the shell: pyctl … > FILE"),
    opt("remote", "r", BOOL, "", refused=_NO_REMOTE, choices=("false",)),
    no("ssh", "", STRING, _NO_REMOTE),
    opt("syslog", "", BOOL, "", refused="messages go to stderr only", choices=("false",)),
    no("tmpdir", "", STRING, "runtime files live in --runroot"),
    opt("transient-store", "", BOOL, "", refused=NOT_YET, choices=("false",)),
    no("url", "", STRING, _NO_REMOTE),
    no("volumepath", "", STRING, "volumes live below --root"),
)
