"""Commands on volumes.  Weight: the table only."""

from __future__ import annotations

from pyctl.cli.table import BOOL, INT, LIST, STRING, Command, command, opt


def cmd_volume_create() -> Command:
    return command(
        "volume create",
        "[NAME]",
        "Make a volume",
        "pyctl.cli.verb_volume:create",
        opt("label", "l", LIST, "Attach a label", metavar="KEY=VALUE"),
        opt("opt", "o", LIST, "Set an option of the driver", metavar="KEY=VALUE"),
        opt("driver", "d", STRING, "The volume's driver", default="local", metavar="NAME"),
        opt("ignore", "", BOOL, "Do not fail when it exists"),
        examples=(
            ("pyctl volume create data && pyctl run -v data:/data IMAGE", "keep files beyond a container's life"),
        ),
        args=(0, 1),
    )


def cmd_volume_ls() -> Command:
    return command(
        "volume ls",
        "",
        "List volumes",
        "pyctl.cli.verb_volume:list_",
        opt(
            "filter",
            "f",
            LIST,
            "Only those that match: name, label, dangling, driver … (repeatable)",
            metavar="KEY=VALUE",
            complete="filter",
        ),
        opt("format", "", STRING, "json, or a Go template as '{{.Name}}'", metavar="FORMAT"),
        opt("noheading", "n", BOOL, "No headings"),
        opt("quiet", "q", BOOL, "Only names"),
        aliases=("volume list",),
    )


def cmd_volume_inspect() -> Command:
    return command(
        "volume inspect",
        "VOLUME [VOLUME...]",
        "Show all that is known of volumes",
        "pyctl.cli.verb_volume:inspect",
        opt("all", "a", BOOL, "Every volume"),
        opt("format", "f", STRING, "json, or a Go template as '{{.Mountpoint}}'", default="json", metavar="FORMAT"),
        args=(0, -1),
        complete="volume",
    )


def cmd_volume_rm() -> Command:
    return command(
        "volume rm",
        "VOLUME [VOLUME...]",
        "Remove volumes and what is in them",
        "pyctl.cli.verb_volume:rm",
        opt(
            "force",
            "f",
            BOOL,
            "Also one that containers use: they are removed first; and do not fail for one that does not exist",
        ),
        opt("all", "a", BOOL, "Every volume"),
        opt(
            "time",
            "t",
            INT,
            "With --force: seconds a running container gets before KILL",
            default=10,
            metavar="SECONDS",
        ),
        args=(0, -1),
        complete="volume",
        aliases=("volume remove",),
    )


def cmd_volume_prune() -> Command:
    return command(
        "volume prune",
        "",
        "Remove every volume that no container uses",
        "pyctl.cli.verb_prune:volumes",
        opt("force", "f", BOOL, "Do not ask"),
        opt(
            "filter",
            "",
            LIST,
            "Only those that match: label=KEY=VALUE, until=24h (repeatable)",
            metavar="KEY=VALUE",
            complete="filter",
        ),
    )


def cmd_volume_exists() -> Command:
    return command(
        "volume exists",
        "VOLUME",
        "Exit with 0 when a volume exists, 1 when not",
        "pyctl.cli.verb_exists:volume",
        args=(1, 1),
        complete="volume",
    )
