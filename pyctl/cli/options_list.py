"""Commands that list: ps, images, history.  Weight: the table only."""

from __future__ import annotations

from pyctl.cli.table import BOOL, INT, LIST, STRING, UINT, Command, command, no, opt

FORMAT_HELP = "json, a Go template as '{{.ID}} {{.Names}}', or one with headings: 'table {{.ID}}'"
_FORMAT = opt("format", "", STRING, FORMAT_HELP, metavar="FORMAT", complete="format")


def cmd_ps() -> Command:
    return command(
        "ps",
        "",
        "List containers",
        "pyctl.cli.verb_ps:ps",
        opt("all", "a", BOOL, "Stopped ones too"),
        opt(
            "filter",
            "f",
            LIST,
            "Only those that match: status, name, id, label, ancestor, volume, exited … (repeatable)",
            metavar="KEY=VALUE",
            complete="filter",
        ),
        _FORMAT,
        opt("last", "n", INT, "The last N that were made, in any state", default=-1, metavar="N"),
        opt("latest", "l", BOOL, "The one that was made last, in any state"),
        opt("no-trunc", "", BOOL, "Do not shorten anything", also=("notruncate",)),
        opt("noheading", "", BOOL, "No headings"),
        opt("ns", "", BOOL, "Show namespaces in place of the usual columns"),
        opt("quiet", "q", BOOL, "Only ids"),
        opt("size", "s", BOOL, "Add the size of the writable layer, and with the image's"),
        opt(
            "sort",
            "",
            STRING,
            "Order by this",
            default="created",
            metavar="COLUMN",
            choices=("command", "created", "id", "image", "names", "runningfor", "size", "status"),
        ),
        opt("watch", "w", UINT, "Show it again every N seconds", metavar="N"),
        opt("sync", "", BOOL, "Look at every container's process again (each ps does that)"),
        opt("pod", "p", BOOL, "", refused="there are no pods yet"),
        no("external", "", BOOL, "there are no containers of other tools in this storage"),
        examples=(
            ("pyctl ps -a --filter status=exited", "those that have ended"),
            ("pyctl ps --format 'table {{.Names}} {{.Status}}'", "two columns"),
        ),
        aliases=("container ps", "container ls", "container list"),
    )


def cmd_images() -> Command:
    return command(
        "images",
        "[IMAGE]",
        "List stored images",
        "pyctl.cli.verb_images:images",
        opt("all", "a", BOOL, "Intermediate images too"),
        opt("digests", "", BOOL, "Add the digests of the manifests"),
        opt(
            "filter",
            "f",
            LIST,
            "Only those that match: reference, label, dangling, before, since … (repeatable)",
            metavar="KEY=VALUE",
            complete="filter",
        ),
        _FORMAT,
        opt("history", "", BOOL, "Add the names that the image had before"),
        opt("no-trunc", "", BOOL, "Do not shorten ids", also=("notruncate",)),
        opt("noheading", "n", BOOL, "No headings"),
        opt("quiet", "q", BOOL, "Only ids"),
        opt(
            "sort",
            "",
            STRING,
            "Order by this",
            default="created",
            metavar="COLUMN",
            choices=("repository", "size", "tag", "created", "id", "digest"),
        ),
        examples=(("pyctl images --filter dangling=true -q", "the ids of images without a name"),),
        args=(0, 1),
        complete="image",
        aliases=("image ls", "image list"),
    )


def cmd_history() -> Command:
    return command(
        "history",
        "IMAGE",
        "Show how an image came to be, layer by layer",
        "pyctl.cli.verb_images:history",
        _FORMAT,
        opt("human", "H", BOOL, 'Sizes as 4.5MB and times as "3 days ago"', default=True),
        opt("no-trunc", "", BOOL, "Do not shorten anything", also=("notruncate",)),
        opt("quiet", "q", BOOL, "Only ids"),
        args=(1, 1),
        complete="image",
        aliases=("image history",),
    )
