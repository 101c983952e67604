"""The one table of commands and options: what the parser accepts is what help, completion and the man pages show.

Weight: `_operator` (C) only.  The rows of a command live in a module `options_*` that is loaded when that
command is asked for, and a function in it builds just that command: `run` does not pay for the others.

Words used here: a *path* is a command as it is typed without its options ("image ls"); a *field* is the name
under which a parsed value is read (`options.tls_verify`).
"""

from __future__ import annotations

from _operator import itemgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NamedTuple

# --- kinds of options (pflag's, under their own names) -----------------------------------------
BOOL = "bool"  # --x, --x=false; never takes the next word
STRING = "string"
INT = "int"
UINT = "uint"
FLOAT = "float"
DURATION = "duration"  # "1h30m" -> nanoseconds
BYTES = "bytes"  # "64m", "1.5g" -> bytes
LIST = "list"  # repeatable, each value as it is
CSV = "csv"  # repeatable, each value split at commas as CSV
UINTS = "uints"  # repeatable, comma separated numbers
COUNT = "count"  # --x --x is 2
OPTIONAL = "optional"  # --x or --x=value; `choices[0]` is the value of the bare form

FLAG_KINDS = (BOOL, COUNT, OPTIONAL)  # kinds that never take the next word
LIST_KINDS = (LIST, CSV, UINTS)

_ZERO: dict[str, object] = {
    BOOL: False,
    INT: 0,
    UINT: 0,
    FLOAT: 0.0,
    DURATION: 0,
    BYTES: 0,
    LIST: (),
    CSV: (),
    UINTS: (),
    COUNT: 0,
}

NOT_YET = "not built yet"

if TYPE_CHECKING:

    class Option(NamedTuple):
        """One option.

        choices: the accepted values (empty: any); for numbers, words accepted in place of one (they give -1).
        complete: what a shell offers for the value: "container", "image", "volume", "file", "dir", "signal" …
        also: further long names that are accepted and not shown.
        refused: why this option is not available; it parses and is then refused by name.  With `choices`,
        only other values than those are refused.
        """

        name: str
        short: str
        kind: str
        help: str
        default: Any
        metavar: str
        choices: tuple[str, ...]
        complete: str
        also: tuple[str, ...]
        refused: str
        field: str

    class Command(NamedTuple):
        """One command.

        path: "image ls"; args: least and most positional arguments, most -1 for any number.
        options: section titles (str) and the rows of each section.
        examples: (command line, what it does).  run: "module:function".
        interspersed: options may follow positional arguments (not for run, create, exec).
        complete: what positional arguments are, as Option.complete; aliases: other paths of this command.
        """

        path: str
        usage: str
        summary: str
        description: str
        examples: tuple[tuple[str, str], ...]
        options: tuple[Option | str, ...]
        run: str
        args: tuple[int, int]
        interspersed: bool
        hidden: bool
        complete: str
        aliases: tuple[str, ...]

        @property
        def rows(self) -> tuple[Option, ...]: ...
else:

    class Option(tuple):
        __slots__ = ()

    class Command(tuple):
        __slots__ = ()

        @property
        def rows(self):
            return tuple(row for row in self.options if type(row) is not str)

    # collections.namedtuple would import five modules for the same getters.
    for _cls, _names in (
        (Option, "name short kind help default metavar choices complete also refused field"),
        (
            Command,
            "path usage summary description examples options run args interspersed hidden complete aliases",
        ),
    ):
        for _index, _name in enumerate(_names.split()):
            setattr(_cls, _name, property(itemgetter(_index)))


def opt(
    name: str,
    short: str,
    kind: str,
    help: str,
    *,
    default: object = None,
    metavar: str = "",
    choices: tuple[str, ...] = (),
    complete: str = "",
    also: tuple[str, ...] = (),
    refused: str = "",
    field: str = "",
) -> Option:
    """One row; see `Option`.  `default` None means the kind's zero ("" for strings), `field` follows from the name."""
    if default is None:
        default = _ZERO.get(kind, "")
    parts = (
        name,
        short,
        kind,
        help,
        default,
        metavar,
        choices,
        complete,
        also,
        refused,
        field or name.replace("-", "_"),
    )
    return tuple.__new__(Option, parts)


def no(name: str, short: str, kind: str, reason: str = NOT_YET, default: object = None) -> Option:
    """A row of Podman's that is refused by name."""
    return opt(name, short, kind, "", refused=reason, default=default)


def command(
    path: str,
    usage: str,
    summary: str,
    run: str,
    *options: Option | str,
    description: str = "",
    examples: tuple[tuple[str, str], ...] = (),
    args: tuple[int, int] = (0, 0),
    interspersed: bool = True,
    hidden: bool = False,
    complete: str = "",
    aliases: tuple[str, ...] = (),
) -> Command:
    """One command; see `Command`."""
    parts = (path, usage, summary, description, examples, options, run)
    return tuple.__new__(Command, (*parts, args, interspersed, hidden, complete, aliases))


# --- where each command lives ------------------------------------------------------------------
# path -> module pyctl.cli.options_<value>, in which function cmd_<path> makes the row.
HOMES: dict[str, str] = {
    "run": "create",
    "create": "create",
    "exec": "container",
    "ps": "list",
    "logs": "container",
    "start": "container",
    "stop": "container",
    "restart": "container",
    "kill": "container",
    "rm": "container",
    "wait": "container",
    "attach": "container",
    "port": "container",
    "stats": "live",
    "top": "live",
    "pause": "live",
    "unpause": "live",
    "update": "live",
    "rename": "live",
    "healthcheck run": "live",
    "commit": "files",
    "cp": "files",
    "export": "files",
    "diff": "files",
    "container diff": "files",
    "image diff": "files",
    "mount": "files",
    "unmount": "files",
    "image mount": "files",
    "image unmount": "files",
    "container exists": "container",
    "container cleanup": "container",
    "container prune": "container",
    "inspect": "inspect",
    "container inspect": "inspect",
    "image inspect": "inspect",
    "images": "list",
    "history": "list",
    "pull": "image",
    "rmi": "image",
    "load": "image",
    "save": "image",
    "import": "image",
    "tag": "image",
    "untag": "image",
    "login": "registry",
    "logout": "registry",
    "push": "registry",
    "search": "registry",
    "copy": "transport",
    "image scp": "transport",
    "image sign": "transport",
    "image trust set": "transport",
    "image trust show": "transport",
    "manifest inspect": "registry",
    **{f"manifest {verb}": "manifest" for verb in ("add", "annotate", "create", "exists", "push", "remove", "rm")},
    **{f"artifact {verb}": "manifest" for verb in ("add", "extract", "inspect", "ls", "pull", "push", "rm")},
    "image tree": "registry",
    "image exists": "image",
    "image prune": "image",
    "volume create": "volume",
    "volume ls": "volume",
    "volume inspect": "volume",
    "volume rm": "volume",
    "volume prune": "volume",
    "volume exists": "volume",
    "network create": "network",
    "network ls": "network",
    "network inspect": "network",
    "network rm": "network",
    "network prune": "network",
    "network exists": "network",
    "network update": "network",
    "network connect": "network",
    "network disconnect": "network",
    "network reload": "network",
    **{f"quadlet {verb}": "units" for verb in ("install", "list", "print", "rm", "verify", "generator")},
    "generate systemd": "units",
    "info": "system",
    "doctor": "system",
    "version": "system",
    "unshare": "system",
    "system prune": "system",
    "system df": "system",
    "system check": "system",
    "system start-on-boot": "system",
    "system reset": "system",
    "events": "system",
    "auto-update": "system",
    "completion": "system",
    "help": "system",
}

# Other paths of the same commands: groups repeat the top level, and some verbs have a second name.
ALIASES: dict[str, str] = {
    **{
        f"container {verb}": verb
        for verb in (
            *("attach", "commit", "cp", "create", "exec", "export", "kill", "logs", "port", "ps", "restart"),
            *("mount", "pause", "rename", "rm", "run", "start", "stats", "stop", "top", "unmount", "unpause", "update"),
            "wait",
        )
    },
    "container ls": "ps",
    "container list": "ps",
    **{
        f"image {verb}": verb
        for verb in ("history", "import", "load", "pull", "push", "save", "search", "tag", "untag")
    },
    "image ls": "images",
    "image list": "images",
    "image rm": "rmi",
    "image remove": "rmi",
    "image umount": "image unmount",
    "container umount": "unmount",
    "umount": "unmount",
    "artifact list": "artifact ls",
    "artifact remove": "artifact rm",
    "volume list": "volume ls",
    "network list": "network ls",
    "network remove": "network rm",
    "volume remove": "volume rm",
    "quadlet ls": "quadlet list",
    "system info": "info",
    "system events": "events",
}

GROUPS: dict[str, str] = {
    "container": "Work with containers",
    "generate": "Make units of systemd of containers",
    "image": "Work with images",
    "image trust": "Which images may come in: policy.json",
    "manifest": "Work with manifest lists and indexes",
    "artifact": "Work with artifacts: files in registries",
    "network": "Work with networks",
    "quadlet": "Run containers as services, from unit files",
    "volume": "Work with volumes",
    "healthcheck": "Work with health checks",
    "system": "Look after the storage as a whole",
}


def find(path: str) -> Command:
    """The command at `path` or at one of its aliases.  Raises KeyError."""
    path = ALIASES.get(path, path)
    module = __import__("pyctl.cli.options_" + HOMES[path], None, None, ("COMMANDS",))
    made: Command = getattr(module, "cmd_" + path.replace(" ", "_").replace("-", "_"))()
    return made


def listing(group: str = "") -> list[tuple[str, str]]:
    """(word, summary) of what is below `group` ("" for the top level), in alphabetical order, hidden ones left out.

    Loads every row; for help, completion and man pages.
    """
    depth = group.count(" ") + 1 if group else 0
    found: dict[str, str] = {}
    for path in (*HOMES, *ALIASES):
        words = path.split(" ")
        if len(words) == depth + 1 and " ".join(words[:depth]) == group:
            target = find(path)
            if not target.hidden:
                found[words[depth]] = target.summary
    for name, summary in GROUPS.items():
        above, _, word = name.rpartition(" ")
        if above == group:
            found[word] = summary
    return sorted(found.items())


def words_below(group: str = "") -> list[str]:
    """Every word accepted after `group`, hidden ones and aliases too; loads no rows."""
    prefix = group + " " if group else ""
    below = {path[len(prefix) :].split(" ")[0] for path in (*HOMES, *ALIASES) if path.startswith(prefix)}
    return sorted(below)
