"""Commands on existing containers.  Weight: the table only."""

from __future__ import annotations

from pyctl.cli.table import BOOL, CSV, INT, LIST, STRING, UINT, UINTS, Command, Option, command, no, opt

LATEST = opt("latest", "l", BOOL, "The container that was made last")
_KEYS = 'Keys that detach and leave it running ("" for none)'


def _all(help: str, short: str = "a") -> Option:
    return opt("all", short, BOOL, help)


def _filter(short: str = "f") -> Option:
    return opt(
        "filter",
        short,
        LIST,
        "Those that match: status=exited, label=KEY=VALUE, name=… (repeatable)",
        metavar="KEY=VALUE",
        complete="filter",
    )


def _cidfile() -> Option:
    return opt("cidfile", "", LIST, "Take the container's id from a file (repeatable)", metavar="FILE", complete="file")


def _keys() -> Option:
    return opt("detach-keys", "", STRING, _KEYS, default="ctrl-p,ctrl-q", metavar="KEYS")


def _time() -> Option:
    return opt(
        "time",
        "t",
        INT,
        "Seconds from the stop signal to KILL; -1 waits for ever (default: the container's own, 10)",
        default=10,
        metavar="SECONDS",
        also=("timeout",),
    )


def _ignore() -> Option:
    return opt("ignore", "i", BOOL, "Do not fail when a named container does not exist")


def cmd_exec() -> Command:
    return command(
        "exec",
        "CONTAINER COMMAND [ARG...]",
        "Run another command in a running container",
        "pyctl.cli.verb_exec:exec_",
        opt("interactive", "i", BOOL, "Keep stdin open"),
        opt("tty", "t", BOOL, "Give the command a terminal"),
        opt("detach", "d", BOOL, "Run it in the background and print the session's id"),
        opt("env", "e", LIST, "Set a variable", metavar="NAME[=VALUE]"),
        opt("env-file", "", LIST, "Read variables from a file of NAME=VALUE lines", metavar="FILE", complete="file"),
        opt("user", "u", STRING, "Who the process is, by name or number in the container", metavar="USER[:GROUP]"),
        opt("workdir", "w", STRING, "Working directory in the container; it must exist", metavar="DIR"),
        opt("privileged", "", BOOL, "Give it every capability that the container's user namespace has"),
        opt("preserve-fds", "", UINT, "Pass the file descriptors 3 … 3+N-1 to the command", metavar="N"),
        opt("detach-keys", "", STRING, _KEYS, default="ctrl-p,ctrl-q", metavar="KEYS"),
        LATEST,
        no("preserve-fd", "", UINTS, "use --preserve-fds"),
        description=(
            "The command joins the container's namespaces and cgroup and ends with the container. Options stand before"
            " CONTAINER; what follows it belongs to the command.\n\n"
            "Exit status: the command's own; 125 when pyctl failed, 126 when the command cannot be invoked, 127 when it"
            " does not exist."
        ),
        examples=(
            ("pyctl exec -it web sh", "a shell in the container web"),
            ("pyctl exec -u postgres db psql -c 'select 1'", "one command as another user"),
        ),
        args=(0, -1),
        interspersed=False,
        complete="container:running",
        aliases=("container exec",),
    )


def cmd_start() -> Command:
    return command(
        "start",
        "CONTAINER [CONTAINER...]",
        "Start stopped containers",
        "pyctl.cli.verb_lifecycle:start",
        opt("attach", "a", BOOL, "Stay attached: show its output, pass signals on, return its exit status"),
        opt("interactive", "i", BOOL, "Pass stdin to it (with --attach)"),
        opt("detach-keys", "", STRING, _KEYS, default="ctrl-p,ctrl-q", metavar="KEYS"),
        opt("sig-proxy", "", BOOL, "Pass signals on to the process (default: when attached)"),
        _filter(),
        _all("Every container that is not running", short=""),
        LATEST,
        examples=(
            ("pyctl start web", "in the background, as `run -d` would"),
            ("pyctl start -ai job", "with this terminal attached"),
        ),
        args=(0, -1),
        complete="container:stopped",
        aliases=("container start",),
    )


def cmd_stop() -> Command:
    return command(
        "stop",
        "CONTAINER [CONTAINER...]",
        "Stop running containers",
        "pyctl.cli.verb_lifecycle:stop",
        _time(),
        _all("Every running container"),
        _filter(),
        _cidfile(),
        _ignore(),
        LATEST,
        description=(
            "Sends the container's stop signal (TERM unless the image or --stop-signal says other), and KILL when time"
            " is over. A stopped container is not restarted by its policy."
        ),
        examples=(("pyctl stop -t 60 db", "give it a minute to write its data"),),
        args=(0, -1),
        complete="container:running",
        aliases=("container stop",),
    )


def cmd_restart() -> Command:
    return command(
        "restart",
        "CONTAINER [CONTAINER...]",
        "Stop containers and start them again",
        "pyctl.cli.verb_lifecycle:restart",
        _time(),
        _all("Every container"),
        opt("running", "", BOOL, "Only those that run"),
        _filter(),
        _cidfile(),
        LATEST,
        args=(0, -1),
        complete="container",
        aliases=("container restart",),
    )


def cmd_kill() -> Command:
    return command(
        "kill",
        "CONTAINER [CONTAINER...]",
        "Send a signal to running containers",
        "pyctl.cli.verb_lifecycle:kill",
        opt(
            "signal", "s", STRING, "The signal, by name or number", default="KILL", metavar="SIGNAL", complete="signal"
        ),
        _all("Every running container"),
        _cidfile(),
        LATEST,
        examples=(("pyctl kill -s HUP web", "make a server read its configuration again"),),
        args=(0, -1),
        complete="container:running",
        aliases=("container kill",),
    )


def cmd_rm() -> Command:
    return command(
        "rm",
        "CONTAINER [CONTAINER...]",
        "Remove containers",
        "pyctl.cli.verb_lifecycle:rm",
        opt("force", "f", BOOL, "Also a running one: it is stopped first; and do not fail for one that does not exist"),
        opt("volumes", "v", BOOL, "And the anonymous volumes that belong to it"),
        _all("Every container (running ones need --force)"),
        opt(
            "time",
            "t",
            INT,
            "With --force: seconds from the stop signal to KILL",
            default=10,
            metavar="SECONDS",
            also=("timeout",),
        ),
        _filter(short=""),
        _cidfile(),
        _ignore(),
        LATEST,
        opt("depend", "", BOOL, "And the containers that share its namespaces"),
        description="Deletes the container's writable layer, log and record. Images and named volumes stay.",
        examples=(
            ("pyctl rm web", "a stopped container"),
            ("pyctl rm -fa", "every container, running or not"),
        ),
        args=(0, -1),
        complete="container",
        aliases=("container rm",),
    )


def cmd_wait() -> Command:
    return command(
        "wait",
        "CONTAINER [CONTAINER...]",
        "Wait until containers stop and print their exit statuses",
        "pyctl.cli.verb_lifecycle:wait",
        opt(
            "condition",
            "",
            CSV,
            "Wait for one of these states: stopped, running, healthy, removed …",
            metavar="STATE",
            complete="state",
        ),
        opt("ignore", "", BOOL, "Print -1 for a container that does not exist"),
        opt(
            "interval",
            "i",
            STRING,
            "Time between looks for conditions that cannot be waited on",
            default="250ms",
            metavar="TIME",
        ),
        LATEST,
        args=(0, -1),
        complete="container:running",
        aliases=("container wait",),
    )


def cmd_attach() -> Command:
    return command(
        "attach",
        "CONTAINER",
        "Connect this terminal to a running container",
        "pyctl.cli.verb_lifecycle:attach",
        _keys(),
        opt("no-stdin", "", BOOL, "Only watch: do not pass stdin on"),
        opt("sig-proxy", "", BOOL, "Pass signals on to the process", default=True),
        LATEST,
        description=(
            "Shows what the container writes from now on. The detach keys leave it running; without a terminal, Ctrl-C"
            " is passed on as a signal."
        ),
        args=(0, 1),
        complete="container:running",
        aliases=("container attach",),
    )


def cmd_port() -> Command:
    return command(
        "port",
        "CONTAINER [PORT[/PROTO]]",
        "Show the published ports of containers",
        "pyctl.cli.verb_port:port",
        _all("Of every container"),
        LATEST,
        examples=(("pyctl port web 80", "where port 80 of the container can be reached"),),
        args=(0, 2),
        complete="container",
        aliases=("container port",),
    )


def cmd_logs() -> Command:
    return command(
        "logs",
        "CONTAINER [CONTAINER...]",
        "Show what containers have written",
        "pyctl.cli.verb_logs:logs",
        opt("follow", "f", BOOL, "Go on until the container ends"),
        opt("tail", "", INT, "Only the last N lines (-1: all)", default=-1, metavar="N"),
        opt(
            "since",
            "",
            STRING,
            "Only from a time on: 2024-05-01T12:00:00, a Unix time, or 10m for ten minutes ago",
            metavar="TIME",
        ),
        opt("until", "", STRING, "Only up to a time", metavar="TIME"),
        opt("timestamps", "t", BOOL, "Begin each line with its time"),
        opt("names", "n", BOOL, "Begin each line with the container's name"),
        opt("color", "", BOOL, "Begin each line with the container's id, one colour for each container"),
        LATEST,
        examples=(
            ("pyctl logs -f --tail 20 web", "the last lines, and what follows"),
            ("pyctl logs --since 1h web db", "the last hour of two containers"),
        ),
        args=(0, -1),
        complete="container",
        aliases=("container logs",),
    )


def cmd_container_exists() -> Command:
    return command(
        "container exists",
        "CONTAINER",
        "Exit with 0 when a container exists, 1 when not",
        "pyctl.cli.verb_exists:container",
        no("external", "", BOOL, "there are no containers of other tools in this storage"),
        args=(1, 1),
        complete="container",
    )


def cmd_container_cleanup() -> Command:
    return command(
        "container cleanup",
        "CONTAINER [CONTAINER...]",
        "Bring the records of ended containers up to date",
        "pyctl.cli.verb_lifecycle:cleanup",
        opt("rm", "", BOOL, "Remove the container afterwards"),
        _all("Every container"),
        LATEST,
        opt("exit-status", "", UINT, "End with this status, as the supervisor in whose place this runs would have"),
        no("exec", "", STRING, "exec sessions leave nothing behind"),
        no("rmi", "", BOOL),
        args=(0, -1),
        hidden=True,
        complete="container",
    )


def cmd_container_prune() -> Command:
    return command(
        "container prune",
        "",
        "Remove every container that is not running",
        "pyctl.cli.verb_prune:containers",
        opt("force", "f", BOOL, "Do not ask"),
        _filter(short=""),
        examples=(("pyctl container prune --filter until=24h", "those made more than a day ago"),),
    )
