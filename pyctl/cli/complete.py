"""`pyctl __complete WORD...`: what may stand in place of the last word, one candidate a line, for the shells' scripts.

Weight: the table and, for names, the state's database.  A key press waits for this, so there is no typer here.

A candidate is `WORD<tab>DESCRIPTION`; the last line is `:DIRECTIVE`: "file", "dir" or "command" leave the rest to the
shell, "nospace" leaves the cursor behind the word, "" is nothing special.
"""

from __future__ import annotations

import sys

from pyctl.cli import table
from pyctl.cli.options_global import ROWS as GLOBAL_ROWS
from pyctl.cli.table import FLAG_KINDS, Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    Candidates = list[tuple[str, str]]

_SHELL_KINDS = ("file", "dir", "command")
_STATES = (
    *("configured", "created", "exited", "healthy", "initialized", "paused", "removing", "running", "stopped"),
    *("stopping", "unhealthy", "unknown"),
)
_CONTAINER_FILTERS = (
    *(
        "ancestor",
        "before",
        "command",
        "exited",
        "health",
        "id",
        "label",
        "name",
        "network",
        "publish",
        "restart-policy",
    ),
    *("since", "status", "until", "volume"),
)
_ULIMITS = (
    *("core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio"),
    *("rttime", "sigpending", "stack"),
)


def main(words: list[str]) -> int:
    """`words`: the command line behind the program's name; the last one is being typed."""
    described = words[:1] != ["--no-desc"]
    try:
        candidates, directive = complete(words[not described :] or [""])
    except Exception:  # a completion must never disturb the line that is being typed
        candidates, directive = [], ""
    sys.stdout.write("".join(f"{word}\t{text}\n" if text and described else f"{word}\n" for word, text in candidates))
    sys.stdout.write(f":{directive}\n")
    return 0


def complete(words: list[str]) -> tuple[Candidates, str]:
    """The candidates that begin with the last word, and the directive."""
    *before, current = words
    command, group, rest = _place(before)
    rows = [*(command.rows if command else ()), *GLOBAL_ROWS]
    waiting = _awaits_value(rest, rows)
    if waiting:
        return _value(waiting, current, command, before)
    if current.startswith("--") and "=" in current:
        name, _, text = current.partition("=")
        row = next((r for r in rows if name == f"--{r.name}"), None)
        if row is None:
            return [], ""
        found, directive = _value(row, text, command, before)
        return [(f"{name}={word}", shown) for word, shown in found], directive
    if command is None:
        if current.startswith("-"):
            return _starting(_options(GLOBAL_ROWS), current), ""
        return _starting(table.listing(group), current), ""
    args = _positional(rest, rows)
    if "--" not in rest and (command.interspersed or not args) and current.startswith("-"):
        return _starting(_options(rows), current), ""
    if command.args[1] >= 0 and len(args) >= command.args[1]:
        return [], ""
    return _argument(command, args, current)


def _place(before: list[str]) -> tuple[Command | None, str, list[str]]:
    """The command that the words name (None: not yet), the group they are in, and the words behind the command."""
    group = ""
    position = 0
    while position < len(before):
        word = before[position]
        position += 1
        if word.startswith("-"):
            row = _named(word, list(GLOBAL_ROWS))
            if row is not None and row.kind not in FLAG_KINDS and "=" not in word:
                position += 1
            continue
        path = f"{group} {word}".strip()
        if path in table.HOMES or path in table.ALIASES:
            return table.find(path), group, before[position:]
        group = path
    return None, group, before


def _named(word: str, rows: list[Option]) -> Option | None:
    """The option whose value the word leaves open: `--name`, or the last letter of `-itv`."""
    if word.startswith("--"):
        return next((row for row in rows if word[2:].partition("=")[0] == row.name), None)
    for index, letter in enumerate(word[1:], 1):
        row = next((r for r in rows if r.short == letter), None)
        if row is None:
            return None
        if row.kind not in FLAG_KINDS:
            return row if index == len(word) - 1 else None
    return None


def _awaits_value(rest: list[str], rows: list[Option]) -> Option | None:
    """The option that the word being typed is the value of."""
    if not rest or not rest[-1].startswith("-") or "=" in rest[-1]:
        return None
    row = _named(rest[-1], rows)
    return row if row is not None and row.kind not in FLAG_KINDS else None


def _positional(rest: list[str], rows: list[Option]) -> list[str]:
    found = []
    skip = False
    for word in rest:
        if skip:
            skip = False
        elif word.startswith("-") and word != "-":
            row = _named(word, rows)
            skip = row is not None and row.kind not in FLAG_KINDS and "=" not in word
        else:
            found.append(word)
    return found


def _options(rows: list[Option] | tuple[Option, ...]) -> Candidates:
    shown = [row for row in rows if not row.refused]
    return sorted((f"--{row.name}" + "=" * (row.kind not in FLAG_KINDS), row.help) for row in shown)


def _starting(candidates: Candidates, prefix: str) -> Candidates:
    return [candidate for candidate in candidates if candidate[0].startswith(prefix)]


def _argument(command: Command, args: list[str], current: str) -> tuple[Candidates, str]:
    kind = command.complete
    if kind == "image" and args and not command.interspersed:
        return [], "command"  # what runs in the container
    if kind == "container:running" and args and not command.interspersed:
        return [], "command"
    if kind == "help":
        return _starting(table.listing(" ".join(args)), current), ""
    if kind in _SHELL_KINDS:
        return [], kind
    taken = set(args)
    return [c for c in _starting(names(kind), current) if c[0] not in taken], ""


def _value(row: Option, text: str, command: Command | None, before: list[str]) -> tuple[Candidates, str]:
    if row.choices:
        return _starting([(choice, "") for choice in row.choices], text), ""
    if row.complete == "mount":
        if ":" in text or text[:1] in ("/", ".", "~"):
            return [], "file"
        return [(name + ":", shown) for name, shown in _starting(names("volume"), text)], "nospace"
    if row.complete == "filter":
        keys = _CONTAINER_FILTERS if command is not None and command.path == "ps" else ("label", "name", "until")
        return _starting([(key + "=", "") for key in keys], text), "nospace"
    if row.complete in _SHELL_KINDS:
        return [], row.complete
    return _starting(names(row.complete), text), ""


def names(kind: str) -> Candidates:
    """Every name of a kind, with what tells them apart."""
    what, _, state = kind.partition(":")
    if what == "signal":
        import signal

        return [(member.name.removeprefix("SIG"), "") for member in signal.Signals]
    if what == "capability":
        from rootless.capabilities import NAMES

        return [(name.removeprefix("CAP_"), "") for name in NAMES]
    fixed = {
        "shell": ("bash", "zsh", "fish"),
        "state": _STATES,
        "ulimit": tuple(f"{name}=" for name in _ULIMITS),
        "format": ("json",),
    }
    if kind == "network":  # what --network takes
        from pyctl.cli import complete_names

        modes = [(mode, "") for mode in ("slirp4netns", "pasta", "none", "host", "container:", "ns:")]
        return [*modes, *complete_names.stored("network", "")]
    if what in fixed:
        return [(name, "") for name in fixed[what]]
    from pyctl.cli import complete_names  # the database: only where a name is asked for

    return complete_names.stored(what, state)
