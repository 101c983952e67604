"""Commands on images.  Weight: the table only."""

from __future__ import annotations

from pyctl.cli.options_access import ACCESS, RETRY
from pyctl.cli.table import BOOL, LIST, STRING, Command, command, no, opt

_QUIET = "Print only the image's id"


def cmd_pull() -> Command:
    return command(
        "pull",
        "IMAGE [IMAGE...]",
        "Fetch images from a registry or an archive",
        "pyctl.cli.verb_pull:pull",
        opt("quiet", "q", BOOL, _QUIET),
        opt("platform", "", STRING, "For another system", metavar="OS/ARCH[/VARIANT]"),
        opt("arch", "", STRING, "For another architecture", metavar="ARCH"),
        opt("os", "", STRING, "For another operating system", metavar="OS"),
        opt("variant", "", STRING, "For another variant of the architecture", metavar="VARIANT"),
        opt(
            "policy",
            "",
            STRING,
            "When to fetch it",
            default="always",
            metavar="POLICY",
            choices=("always", "missing", "never", "newer"),
        ),
        opt("all-tags", "a", BOOL, "Every tag of the repository"),
        *ACCESS,
        *RETRY,
        no("decryption-key", "", LIST, "encrypted images are not built yet"),
        opt(
            "disable-content-trust",
            "",
            BOOL,
            "",
            default=True,
            choices=("true",),
            refused="docker's content trust does not exist here",
        ),
        description=(
            "IMAGE is a name with a tag or a digest, or one of docker-archive:FILE, oci-archive:FILE, oci:DIR, dir:DIR,"
            " containers-storage:NAME (an image of your own Podman's store). Layers that are stored already are not"
            " fetched again, and an interrupted download goes on where it stopped."
        ),
        examples=(
            ("pyctl pull docker.io/library/debian:12", "a tag of a repository"),
            ("pyctl pull --tls-verify=false localhost:5000/app", "from a registry without https"),
        ),
        args=(1, -1),
        complete="image",
        aliases=("image pull",),
    )


def cmd_rmi() -> Command:
    return command(
        "rmi",
        "IMAGE [IMAGE...]",
        "Remove images",
        "pyctl.cli.verb_rmi:rmi",
        opt("force", "f", BOOL, "Also an image that containers use: they are removed too"),
        opt("all", "a", BOOL, "Every image that no container uses"),
        opt("ignore", "i", BOOL, "Do not fail when an image does not exist"),
        opt("no-prune", "", BOOL, "Keep parents that no name points to any more"),
        description="Removes a name; the last name of an image takes the image and its layers with it.",
        args=(0, -1),
        complete="image",
        aliases=("image rm", "image remove"),
    )


def cmd_load() -> Command:
    return command(
        "load",
        "",
        "Load images from an archive that `save` made",
        "pyctl.cli.verb_load:load",
        opt("input", "i", STRING, "The archive, or a directory (default: stdin)", metavar="FILE", complete="file"),
        opt("quiet", "q", BOOL, "No progress"),
        examples=(("ssh host pyctl save app | pyctl load", "bring an image over from another machine"),),
        aliases=("image load",),
    )


def cmd_save() -> Command:
    return command(
        "save",
        "IMAGE [IMAGE...]",
        "Write images into an archive",
        "pyctl.cli.verb_save:save",
        opt(
            "output",
            "o",
            STRING,
            "The file, or the directory of oci-dir and docker-dir (default: stdout)",
            metavar="FILE",
            complete="file",
        ),
        opt(
            "format",
            "",
            STRING,
            "The archive's format",
            default="docker-archive",
            metavar="FORMAT",
            choices=("docker-archive", "oci-archive", "oci-dir", "docker-dir"),
        ),
        opt("multi-image-archive", "m", BOOL, "Every argument is an image, not a further name of the first"),
        opt("compress", "", BOOL, "Compress layers (docker-dir only)"),
        no("uncompressed", "", BOOL, "layers are written as they are stored"),
        opt("quiet", "q", BOOL, "No progress"),
        examples=(("pyctl save -o app.tar app:1", "for `pyctl load`, `docker load` or `podman load`"),),
        args=(1, -1),
        complete="image",
        aliases=("image save",),
    )


def cmd_import() -> Command:
    return command(
        "import",
        "FILE|- [NAME[:TAG]]",
        "Make an image from a tar archive of a root file system",
        "pyctl.cli.verb_import:import_",
        opt(
            "change",
            "c",
            LIST,
            "Set a part of its configuration, as in a Containerfile: 'CMD [\"/bin/sh\"]'",
            metavar="INSTRUCTION",
        ),
        opt("message", "m", STRING, "A comment in its history", metavar="TEXT"),
        opt("arch", "", STRING, "Its architecture", metavar="ARCH"),
        opt("os", "", STRING, "Its operating system", metavar="OS"),
        opt("variant", "", STRING, "Its variant of the architecture", metavar="VARIANT"),
        opt("quiet", "q", BOOL, "No progress"),
        examples=(("tar -C rootfs -c . | pyctl import -c CMD=/bin/sh - mine:1", "from a directory"),),
        args=(1, 2),
        complete="file",
        aliases=("image import",),
    )


def cmd_tag() -> Command:
    return command(
        "tag",
        "IMAGE NAME [NAME...]",
        "Give an image further names",
        "pyctl.cli.verb_tag:tag",
        args=(2, -1),
        complete="image",
        aliases=("image tag",),
    )


def cmd_untag() -> Command:
    return command(
        "untag",
        "IMAGE [NAME...]",
        "Take names away from an image (all of them when none is given); the image stays",
        "pyctl.cli.verb_tag:untag",
        args=(1, -1),
        complete="image",
        aliases=("image untag",),
    )


def cmd_image_exists() -> Command:
    return command(
        "image exists",
        "IMAGE",
        "Exit with 0 when an image is stored, 1 when not",
        "pyctl.cli.verb_exists:image",
        args=(1, 1),
        complete="image",
    )


def cmd_image_prune() -> Command:
    return command(
        "image prune",
        "",
        "Remove images that have no name and no container",
        "pyctl.cli.verb_prune:images",
        opt("all", "a", BOOL, "Also those with a name, when no container uses them"),
        opt("force", "f", BOOL, "Do not ask"),
        opt(
            "filter",
            "",
            LIST,
            "Only those that match: until=24h, label=KEY (repeatable)",
            metavar="KEY=VALUE",
            complete="filter",
        ),
        no("build-cache", "", BOOL, "there is no build cache yet"),
        no("external", "", BOOL, "there are no containers of other tools in this storage"),
    )
