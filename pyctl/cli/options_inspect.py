"""`inspect`, of anything, of containers, of images.  Weight: the table only."""

from __future__ import annotations

from pyctl.cli.table import BOOL, STRING, UINT, Command, command, no, opt

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
        "Of an image that is not stored (docker://NAME and the like)",
        opt("raw", "", BOOL, "Its manifest, byte for byte; with --config its configuration"),
        opt("config", "", BOOL, "Its configuration"),
        opt("no-tags", "n", BOOL, "Do not list the repository's tags"),
        opt("platform", "", STRING, "The image of an index for another system", metavar="OS/ARCH[/VARIANT]"),
        opt("override-arch", "", STRING, "The same in parts: the architecture", metavar="ARCH", field="arch"),
        opt("override-os", "", STRING, "the operating system", metavar="OS", field="os"),
        opt("override-variant", "", STRING, "the architecture's variant", metavar="VARIANT", field="variant"),
        opt("creds", "", STRING, "Log in with these", metavar="USER[:PASSWORD]"),
        opt("no-creds", "", BOOL, "Log in with nothing, whatever is kept"),
        opt("authfile", "", STRING, "File with logins", metavar="FILE", complete="file"),
        opt("cert-dir", "", STRING, "Directory of ca.crt, client.cert, client.key", metavar="DIR", complete="dir"),
        opt("tls-verify", "", BOOL, "Insist on https and a valid certificate", default=True),
        opt("retry-times", "", UINT, "So many more attempts when the network fails", default=3, metavar="N"),
        no("daemon-host", "", STRING, "there is no docker daemon to ask"),
        no("shared-blob-dir", "", STRING),
        no("registry-token", "", STRING, "tokens are fetched with a login"),
        description=(
            "Prints a JSON list with one object for each name. A container is preferred to an image of the same name,"
            " an image to a volume, a volume to a network. A name with a transport (docker://NAME, oci:DIR[:NAME],"
            " oci-archive:FILE[:NAME], docker-archive:FILE[:NAME], dir:DIR, containers-storage:NAME) is an image that"
            " is looked at where it is, as skopeo does it: one object, nothing is stored."
        ),
        examples=(
            ("pyctl inspect -f '{{.State.ExitCode}}' job", "one value"),
            ("pyctl inspect docker://quay.io/a/app:1", "an image in a registry"),
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
