"""Commands on pyctl itself and on its storage as a whole.  Weight: the table only."""

from __future__ import annotations

from pyctl.cli.table import BOOL, DURATION, LIST, STRING, Command, command, no, opt

_FORMAT = opt("format", "f", STRING, "json, or a Go template as '{{.Host.Arch}}'", metavar="FORMAT")


def cmd_version() -> Command:
    return command(
        "version",
        "",
        "Show the version of pyctl and of what it runs on",
        "pyctl.cli.verb_version:version",
        opt("format", "f", STRING, "json, or a Go template as '{{.Client.Version}}'", metavar="FORMAT"),
    )


def cmd_info() -> Command:
    return command(
        "info",
        "",
        "Show the machine, the storage and the settings as pyctl sees them",
        "pyctl.cli.verb_info:info",
        _FORMAT,
        opt("config", "", BOOL, "Show the settings that are not at their defaults, and which file set each"),
        examples=(
            ("pyctl info -f '{{.Store.GraphRoot}}'", "where images are stored"),
            ("pyctl info --config", "which configuration file set what"),
        ),
        aliases=("system info",),
    )


def cmd_doctor() -> Command:
    return command(
        "doctor",
        "",
        "Find what keeps containers from working well here, and what helps",
        "pyctl.cli.verb_doctor:doctor",
        _FORMAT,
        description=(
            "Each line is a finding; below it stands the command that helps."
            "  The exit status is 1 where one of them is a problem."
        ),
        examples=(("pyctl doctor", "before asking the administrator: the answer has the exact commands"),),
    )


def cmd_unshare() -> Command:
    return command(
        "unshare",
        "[COMMAND [ARG...]]",
        "Run a command, or a shell, as root of the user namespace",
        "pyctl.cli.verb_unshare:unshare",
        opt("rootless-netns", "", BOOL, "Also in the network namespace of the bridges of user-defined networks"),
        description=(
            "Inside, your files belong to root and the files of the containers' other users to their own ids: you may"
            " look at them, change their owners and delete them, which you cannot do outside."
        ),
        examples=(
            ("pyctl unshare rm -rf ~/data/pgdata", "delete what a container's user owns"),
            ("pyctl unshare cat /proc/self/uid_map", "see how ids are mapped"),
        ),
        args=(0, -1),
        interspersed=False,
        complete="command",
    )


def cmd_system_prune() -> Command:
    return command(
        "system prune",
        "",
        "Remove stopped containers, unused networks and images without a name, and what interrupted commands left",
        "pyctl.cli.verb_prune:system",
        opt("all", "a", BOOL, "Also images with a name, when no container uses them"),
        opt("volumes", "", BOOL, "Also volumes that no container uses"),
        opt("force", "f", BOOL, "Do not ask"),
        opt(
            "filter",
            "",
            LIST,
            "Only what matches: until=24h, label=KEY (repeatable)",
            metavar="KEY=VALUE",
            complete="filter",
        ),
        no("build", "", BOOL, "there are no builds yet"),
        no("external", "", BOOL, "there are no containers of other tools in this storage"),
    )


def cmd_system_df() -> Command:
    return command(
        "system df",
        "",
        "Show how much of the disk images, containers and volumes take",
        "pyctl.cli.verb_system:df",
        opt("verbose", "v", BOOL, "One line for each"),
        opt("format", "", STRING, "json, or a Go template as '{{.Type}} {{.Size}}'", metavar="FORMAT"),
    )


def cmd_system_check() -> Command:
    return command(
        "system check",
        "",
        "Check the storage: every image's layers and files, every record",
        "pyctl.cli.verb_system:check",
        opt("quick", "q", BOOL, "Leave out what takes long"),
        opt("repair", "r", BOOL, "Remove images that are damaged"),
        opt("force", "f", BOOL, "Remove damaged images, and the containers that use them"),
        opt(
            "max",
            "m",
            DURATION,
            "Layers that belong to no image are kept when younger than this",
            default=24 * 3600 * 10**9,
            metavar="TIME",
        ),
    )


def cmd_system_start_on_boot() -> Command:
    return command(
        "system start-on-boot",
        "",
        "Start containers with a restart policy when the machine, or your session, comes up",
        "pyctl.cli.verb_boot:start_on_boot",
        opt("enable", "", BOOL, "From the next start of your systemd manager on"),
        opt("disable", "", BOOL, "No longer"),
        opt("status", "", BOOL, "Say which; the exit status is 1 for disabled"),
        description=(
            "Writes a unit of your own systemd manager, pyctl-restart.service, which starts every container of"
            " --restart=always, and of --restart=unless-stopped unless you had stopped it. With the machine, and not"
            " only with your login, it comes up after `loginctl enable-linger`. Units of `pyctl quadlet` and of `pyctl"
            " generate systemd` see to their own start."
        ),
        examples=(("pyctl system start-on-boot --enable", "once"),),
    )


def cmd_system_reset() -> Command:
    return command(
        "system reset",
        "",
        "Remove everything that is stored: containers, images, volumes",
        "pyctl.cli.verb_system:reset",
        opt("force", "f", BOOL, "Do not ask"),
        description=(
            "Running containers are killed. Works on a storage that is damaged, too. Configuration, logins and files of"
            " yours that lie in the storage's directory stay."
        ),
    )


def cmd_auto_update() -> Command:
    return command(
        "auto-update",
        "",
        "Restart the services whose image has changed",
        "pyctl.cli.verb_autoupdate:auto_update",
        opt("dry-run", "", BOOL, "Only say what would be updated"),
        opt("rollback", "", BOOL, "Where the service does not come up, restart it with the image it had", default=True),
        opt("authfile", "", STRING, "Where logins to registries are kept", metavar="FILE", complete="file"),
        opt("tls-verify", "", BOOL, "Ask registries for a valid certificate", default=True),
        opt("format", "", STRING, "json, or a Go template as '{{.Unit}} {{.Updated}}'", metavar="FORMAT"),
        description=(
            "About running containers with the label io.containers.autoupdate whose unit, which the label"
            " PODMAN_SYSTEMD_UNIT names, makes them anew at each start: Quadlet's (AutoUpdate=) and those of `pyctl"
            " generate systemd --new`. registry: when the registry has another image under its name, that is pulled;"
            " local: when the name here stands for another image. UPDATED is true, false, pending (--dry-run), failed"
            " or rolled back."
        ),
        examples=(("pyctl auto-update --dry-run", "what is due"),),
    )


def cmd_events() -> Command:
    return command(
        "events",
        "",
        "Show what happens, and what happened, to containers, images and volumes",
        "pyctl.cli.verb_events:show",
        opt(
            "filter",
            "f",
            LIST,
            "Only what matches: container=…, event=died, image=…, label=KEY[=VALUE], type=…, volume=… (repeatable)",
            metavar="KEY=VALUE",
        ),
        opt("format", "", STRING, "json, or a Go template as '{{.Status}} {{.Name}}'", metavar="FORMAT"),
        opt("no-trunc", "", BOOL, "Whole ids", default=True),
        opt("since", "", STRING, "From then on: 10m (ago), 2024-05-01T12:00:00, Unix seconds", metavar="TIME"),
        opt("until", "", STRING, "Up to then", metavar="TIME"),
        opt("stream", "", BOOL, "Wait for further events", default=True),
        description=(
            "Without --since and --until: what happens from now on. Events are kept in a file below the storage root;"
            " beyond some megabytes the oldest are dropped."
        ),
        examples=(
            ("pyctl events --since 1h --stream=false", "what happened within the last hour"),
            ("pyctl events -f event=died --format '{{.Name}} {{.ContainerExitCode}}'", "containers that end"),
        ),
        aliases=("system events",),
    )


def cmd_completion() -> Command:
    return command(
        "completion",
        "bash|zsh|fish",
        "Print the script that teaches a shell to complete pyctl's commands",
        "pyctl.cli.verb_completion:completion",
        opt("file", "f", STRING, "Write to a file", metavar="FILE", complete="file"),
        opt("no-desc", "", BOOL, "Offer words without their descriptions"),
        examples=(
            (
                "pyctl completion bash > ~/.local/share/bash-completion/completions/pyctl",
                "for bash, from the next shell on",
            ),
            ("pyctl completion zsh > ~/.zfunc/_pyctl", "for zsh, with ~/.zfunc in fpath"),
            ("pyctl completion fish > ~/.config/fish/completions/pyctl.fish", "for fish"),
        ),
        args=(1, 1),
        complete="shell",
    )


def cmd_help() -> Command:
    return command(
        "help", "[COMMAND]", "Show help on a command", "pyctl.cli.help:command", args=(0, -1), complete="help"
    )
