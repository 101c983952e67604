"""`inspect`, of anything, of containers, of images.  Weight: the table only."""

from __future__ import annotations

from pyctl.cli.table import BOOL, STRING, Command, command, opt

_FORMAT = opt("format", "f", STRING, "json, or a Go template as '{{.State.Status}}'", default="json", metavar="FORMAT")
_SIZE = opt("size", "s", BOOL, "Add the sizes of a container's files")
_LATEST = opt("latest", "l", BOOL, "The container that was made last")


def cmd_inspect() -> Command:
    return command(
        "inspect",
        "NAME [NAME...]",
        "Show all that is known of containers, images, volumes",
        "pyctl.cli.verb_inspect:inspect",
        _FORMAT,
        opt(
            "type",
            "t",
            STRING,
            "Look only among these",
            default="all",
            metavar="TYPE",
            choices=("all", "container", "image", "volume", "network", "pod"),
        ),
        _SIZE,
        _LATEST,
        description=(
            "Prints a JSON list with one object for each name. A container is preferred to an image of the same name,"
            " an image to a volume."
        ),
        examples=(
            ("pyctl inspect -f '{{.State.ExitCode}}' job", "one value"),
            ("pyctl inspect -f '{{range .Mounts}}{{.Source}} {{end}}' web", "one value of each element"),
        ),
        args=(0, -1),
        complete="any",
    )


def cmd_container_inspect() -> Command:
    return command(
        "container inspect",
        "CONTAINER [CONTAINER...]",
        "Show all that is known of containers",
        "pyctl.cli.verb_inspect:container",
        _FORMAT,
        _SIZE,
        _LATEST,
        args=(0, -1),
        complete="container",
    )


def cmd_image_inspect() -> Command:
    return command(
        "image inspect",
        "IMAGE [IMAGE...]",
        "Show all that is known of images",
        "pyctl.cli.verb_inspect:image",
        _FORMAT,
        args=(1, -1),
        complete="image",
    )
