"""Commands on the files of containers and images: commit, cp, diff, export, mount.  Weight: the table only."""

from __future__ import annotations

from pyctl.cli.table import BOOL, LIST, STRING, Command, command, opt

_LATEST = opt("latest", "l", BOOL, "The container that was made last")


def cmd_commit() -> Command:
    return command(
        "commit",
        "CONTAINER [IMAGE]",
        "Make an image from a container's changes",
        "pyctl.cli.verb_commit:commit",
        opt("author", "a", STRING, "Who made it", metavar="NAME"),
        opt(
            "change",
            "c",
            LIST,
            "Set a part of its configuration, as in a Containerfile: 'CMD [\"/bin/sh\"]'",
            metavar="INSTRUCTION",
        ),
        opt("config", "", STRING, "File with a configuration to merge, as JSON", metavar="FILE", complete="file"),
        opt("format", "f", STRING, "The manifest's format", default="oci", metavar="FORMAT", choices=("oci", "docker")),
        opt("iidfile", "", STRING, "Write the image's id to this file", metavar="FILE", complete="file"),
        opt("include-volumes", "", BOOL, "Declare the container's volumes and binds in the image, without content"),
        opt("message", "m", STRING, "A comment (docker format only)", metavar="TEXT"),
        opt("pause", "p", BOOL, "Freeze the container meanwhile"),
        opt("quiet", "q", BOOL, "No progress"),
        opt("squash", "s", BOOL, "One layer with everything, in place of one more"),
        description=(
            "What is mounted in the container (volumes, binds, tmpfs) is not part of its files. Without --pause a"
            " running container may write while its files are read; --pause needs a cgroup of the container's own."
        ),
        examples=(
            ("pyctl commit -c 'CMD [\"server\"]' work app:2", "an image that starts the server"),
            ("pyctl commit --pause db db-snapshot", "all files of one moment"),
        ),
        args=(1, 2),
        complete="container",
        aliases=("container commit",),
    )


def cmd_cp() -> Command:
    return command(
        "cp",
        "[CONTAINER:]PATH|- [CONTAINER:]PATH|-",
        "Copy files between the host and a container, or between containers",
        "pyctl.cli.verb_cp:cp",
        opt("archive", "a", BOOL, "Copies in a container belong to the user that it runs as", default=True),
        opt("overwrite", "", BOOL, "A file may take a directory's place, and a directory a file's"),
        description=(
            "The container may run or not. A directory that exists gets the copy into it, under its own name; DIR/."
            " means what is in DIR. - is a tar archive on stdin or stdout. Copies on the host are yours, without set-id"
            " bits. A link that is named is followed, inside the container for a container's; links within a tree stay"
            " links."
        ),
        examples=(
            ("pyctl cp site/. web:/usr/share/nginx/html", "the content of a directory"),
            ("pyctl cp db:/etc/conf.d - | tar tv", "an archive of a directory"),
        ),
        args=(2, 2),
        complete="container",
        aliases=("container cp",),
    )


def cmd_export() -> Command:
    return command(
        "export",
        "CONTAINER",
        "Write a container's files as a tar archive",
        "pyctl.cli.verb_export:export",
        opt("output", "o", STRING, "The file (default: stdout)", metavar="FILE", complete="file"),
        description="What is mounted in the container (volumes, binds, tmpfs) is left out. For `pyctl import`.",
        examples=(("pyctl export work | ssh host pyctl import - work", "move a container's files"),),
        args=(1, 1),
        complete="container",
        aliases=("container export",),
    )


def _diff(path: str, usage: str, summary: str, complete: str, latest: bool) -> Command:
    return command(
        path,
        usage,
        summary,
        f"pyctl.cli.verb_diff:{path.replace(' ', '_')}",
        opt("format", "", STRING, "json for JSON", metavar="FORMAT"),
        *([_LATEST] if latest else ()),
        description=(
            "A is added, C changed, D removed. A container is compared with its image, an image with the image below"
            " its topmost layer; either with the second name where one is given."
        ),
        args=(0 if latest else 1, 2),
        complete=complete,
    )


def cmd_diff() -> Command:
    return _diff(
        "diff", "CONTAINER|IMAGE [CONTAINER|IMAGE]", "Show what a container or image changed", "container", latest=True
    )


def cmd_container_diff() -> Command:
    return _diff("container diff", "CONTAINER [CONTAINER]", "Show what a container changed", "container", latest=True)


def cmd_image_diff() -> Command:
    return _diff("image diff", "IMAGE [IMAGE]", "Show what an image's topmost layer changed", "image", latest=False)


def cmd_mount() -> Command:
    return command(
        "mount",
        "[CONTAINER...]",
        "Mount containers' roots, or list those that are mounted",
        "pyctl.cli.verb_mount:mount_containers",
        opt("all", "a", BOOL, "Every container"),
        opt("format", "", STRING, "json for JSON", metavar="FORMAT"),
        _LATEST,
        opt("no-trunc", "", BOOL, "Whole ids"),
        description=(
            "For a session of `pyctl unshare`, with which the mount ends. What is written there is the container's; one"
            " that is not running cannot be started meanwhile. What is mounted in it (volumes, binds) is not there."
        ),
        examples=(("pyctl unshare sh -c 'cp file $(pyctl mount web)/srv/'", "change a container's files"),),
        args=(0, -1),
        complete="container",
        aliases=("container mount",),
    )


def cmd_unmount() -> Command:
    return command(
        "unmount",
        "CONTAINER [CONTAINER...]",
        "Unmount containers' roots",
        "pyctl.cli.verb_mount:unmount_containers",
        opt("all", "a", BOOL, "Every container that is mounted"),
        opt("force", "f", BOOL, "Also one whose files are in use"),
        _LATEST,
        args=(0, -1),
        complete="container",
        aliases=("umount", "container unmount", "container umount"),
    )


def cmd_image_mount() -> Command:
    return command(
        "image mount",
        "[IMAGE...]",
        "Mount images for reading, or list those that are",
        "pyctl.cli.verb_mount:mount",
        opt("all", "a", BOOL, "Every image"),
        opt("format", "", STRING, "json for JSON", metavar="FORMAT"),
        description=(
            "For a session of `pyctl unshare`, with which the mount ends. Prints the mount point; with several images,"
            " or none, the name before it."
        ),
        examples=(("pyctl unshare sh -c 'ls $(pyctl image mount app)'", "look into an image"),),
        args=(0, -1),
        complete="image",
    )


def cmd_image_unmount() -> Command:
    return command(
        "image unmount",
        "IMAGE [IMAGE...]",
        "Unmount images",
        "pyctl.cli.verb_mount:unmount",
        opt("all", "a", BOOL, "Every image that is mounted"),
        opt("force", "f", BOOL, "Also one whose files are in use"),
        args=(0, -1),
        complete="image",
        aliases=("image umount",),
    )
