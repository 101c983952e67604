"""Commands that make units of systemd.  Weight: the table only."""

from __future__ import annotations

from pyctl.cli.table import BOOL, LIST, STRING, UINT, Command, Option, command, opt


def _reload() -> Option:
    return opt("reload-systemd", "", BOOL, "Have systemd read its units again afterwards", default=True)


def cmd_quadlet_verify() -> Command:
    return command(
        "quadlet verify",
        "[FILE|FOLDER|NAME...]",
        "Say what is wrong with Quadlet's unit files",
        "pyctl.cli.verb_quadlet:verify",
        description=(
            "Reads unit files (.container .volume .network .image .build .pod .kube) as the services are made of them,"
            " tries what they would run, and names the file and the line of every unknown section and key, of every"
            " value that pyctl would refuse, and of what is not available. Writes nothing. Without arguments it looks"
            " at all of the search path.\n\nExit status: 125 when something is wrong."
        ),
        examples=(("pyctl quadlet verify ./web.container", "before it is installed"),),
        args=(0, -1),
        complete="file",
    )


def cmd_quadlet_print() -> Command:
    return command(
        "quadlet print",
        "FILE|NAME [FILE|NAME...]",
        "Show unit files, or the services that are made of them",
        "pyctl.cli.verb_quadlet:print_",
        opt("generated", "g", BOOL, "Show the service in place of the file", also=("dryrun",)),
        examples=(("pyctl quadlet print --generated web", "the service that web.container becomes"),),
        args=(1, -1),
        complete="file",
    )


def cmd_quadlet_install() -> Command:
    return command(
        "quadlet install",
        "[FILE|FOLDER...]",
        "Install unit files, and the services that are made of them",
        "pyctl.cli.verb_quadlet:install",
        opt("replace", "", BOOL, "Also over an installed file that is another"),
        _reload(),
        description=(
            "Checks the files as `quadlet verify` does, copies them to ~/.config/containers/systemd, and writes the"
            " services to ~/.config/systemd/user, with the links that their [Install] asks for. Nothing is written when"
            " one of them is wrong. A folder is copied as a whole, with the files that its units refer to by relative"
            " paths. Without arguments, the services of what is installed are made anew.\n\n"
            "Where the administrator has installed pyctl's generator, systemd makes the services itself, and only the"
            " files are copied."
        ),
        examples=(
            ("pyctl quadlet install web.container data.volume", "a service, and a volume that it uses"),
            ("systemctl --user start web", "start it"),
        ),
        args=(0, -1),
        complete="file",
    )


def cmd_quadlet_list() -> Command:
    return command(
        "quadlet list",
        "",
        "List unit files with the state of their services",
        "pyctl.cli.verb_quadlet:list_",
        opt(
            "filter",
            "f",
            LIST,
            "Only those that match: name=PATTERN, kind=container, status=active",
            metavar="KEY=VALUE",
        ),
        opt("format", "", STRING, "json, or a Go template as '{{.Name}}'", metavar="FORMAT"),
        opt("noheading", "n", BOOL, "No headings"),
        aliases=("quadlet ls",),
    )


def cmd_quadlet_rm() -> Command:
    return command(
        "quadlet rm",
        "NAME [NAME...]",
        "Remove unit files and their services",
        "pyctl.cli.verb_quadlet:rm",
        opt("all", "a", BOOL, "Every one that pyctl has installed"),
        opt("force", "f", BOOL, "Also when the service runs: it is stopped first"),
        opt("ignore", "i", BOOL, "Do not fail when a named one does not exist"),
        _reload(),
        description=(
            "Removes the file from ~/.config/containers/systemd, its drop-ins, and the service with its links."
            " Containers end with their service; volumes, networks and images stay."
        ),
        args=(0, -1),
    )


def cmd_quadlet_generator() -> Command:
    return command(
        "quadlet generator",
        "NORMAL [EARLY [LATE]]",
        "Write services where systemd wants those of generators",
        "pyctl.cli.verb_quadlet:generator",
        description=(
            "What contrib/systemd/pyctl-user-generator calls (systemd.generator(7)). Mistakes in files are told in the"
            " journal and cost only their own services."
        ),
        args=(1, 3),
        hidden=True,
    )


def cmd_generate_systemd() -> Command:
    after = "A unit that {}, in addition to the usual ones (repeatable)"
    return command(
        "generate systemd",
        "CONTAINER",
        "Make a unit of systemd that runs a container as a service",
        "pyctl.cli.verb_generate:systemd",
        opt("files", "f", BOOL, "Write the unit to a file in the current directory, and print its path"),
        opt("format", "", STRING, "json", metavar="FORMAT", choices=("json",)),
        opt("name", "n", BOOL, "Call unit and container by the container's name, not by its id"),
        opt("new", "", BOOL, "The service makes a new container at each start, and removes it at its end"),
        opt("template", "", BOOL, "A template unit (NAME@.service), each instance with a container; implies --new"),
        opt("no-header", "", BOOL, "Leave out the comment with the version and the time"),
        "Service",
        opt("restart-policy", "", STRING, "When systemd starts it again (default: the container's own, or on-failure)",
            metavar="POLICY", choices=("no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort",
                                       "always")),
        opt("restart-sec", "", UINT, "Seconds between an end and the next start", metavar="SECONDS"),
        opt("start-timeout", "", UINT, "Seconds in which it must be ready", metavar="SECONDS"),
        opt("stop-timeout", "", UINT, "Seconds from the stop signal to KILL", default=10, metavar="SECONDS",
            also=("time",)),
        opt("env", "e", LIST, "Set a variable of the service, for --env NAME of the container", metavar="NAME=VALUE"),
        "Names and order",
        opt("container-prefix", "", STRING, "What the unit's name begins with", default="container", metavar="TEXT"),
        opt("pod-prefix", "", STRING, "The same for pods", default="pod", metavar="TEXT"),
        opt("separator", "", STRING, "What stands between prefix and name", default="-", metavar="TEXT"),
        opt("after", "", LIST, after.format("starts before this one"), metavar="UNIT"),
        opt("wants", "", LIST, after.format("is to be started along with it"), metavar="UNIT"),
        opt("requires", "", LIST, after.format("it cannot do without"), metavar="UNIT"),
        description=(
            "With --new, the service runs `pyctl run` with the options that the container was made with; the container"
            " itself may be removed. Without, the service starts and stops this very container. Quadlet's files"
            " (`pyctl quadlet`) are easier to keep."
        ),
        examples=(
            ("pyctl generate systemd --new --name --files web", "container-web.service, in the current directory"),
            ("mv container-web.service ~/.config/systemd/user && systemctl --user daemon-reload", "install it"),
            ("systemctl --user enable --now container-web", "start it, now and with the machine"),
        ),
        args=(1, 1),
        complete="container",
    )  # fmt: skip
