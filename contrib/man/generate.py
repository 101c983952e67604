"""Man pages from the option table: pyctl.1, and pyctl-COMMAND.1 for each command.

    python contrib/man/generate.py DIRECTORY

Weight: the table.  Roff as man(7) has it; see also man-pages(7).
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from pyctl.cli import table
from pyctl.cli.options_global import ROWS as GLOBAL_ROWS
from pyctl.cli.table import FLAG_KINDS, Command, Option
from pyctl.cli.verb_version import VERSION

_EXIT_STATUS = """125 when pyctl itself fails; run and exec give the command's own status, 126 when it cannot be
invoked, 127 when it does not exist, and 128+N when signal N ended it."""


def escape(text: str) -> str:
    """Text as roff takes it: backslashes, hyphens that are to stay hyphens, and no line that begins a request."""
    shown = text.replace("\\", "\\e").replace("-", "\\-")
    shown = "\n".join("\\&" + line if line[:1] in (".", "'") else line for line in shown.split("\n"))
    return "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in shown)


def option_lines(row: Option) -> list[str]:
    """One option as a tagged paragraph."""
    names = ([f"\\fB\\-{row.short}\\fR"] if row.short else []) + [f"\\fB{escape('--' + row.name)}\\fR"]
    value = "" if row.kind in FLAG_KINDS else f" \\fI{escape(row.metavar or row.kind.upper())}\\fR"
    text = row.help + ("." if row.help[-1:] not in (".", ")") else "")
    if row.choices:
        text += " One of: " + ", ".join(row.choices) + "."
    if row.default not in ("", (), 0, False):
        shown = "true" if row.default is True else str(row.default)
        if row.kind == "duration":
            shown = f"{row.default // 1_000_000_000}s"
        text += f" Default: {shown}."
    return [".TP", ", ".join(names) + value, escape(text)]


def _page(name: str, summary: str, body: list[str]) -> str:
    title = f'.TH "{name.upper()}" 1 "" "pyctl {VERSION}" "pyctl manual"'
    head = [title, ".SH NAME", f"{escape(name)} \\- {escape(summary)}"]
    return "\n".join([*head, *body]) + "\n"


def command_page(command: Command) -> str:
    """The page of one command."""
    body = [".SH SYNOPSIS", f"\\fBpyctl {escape(command.path)}\\fR {escape('[OPTIONS] ' + command.usage)}".rstrip()]
    body += [f".br\n\\fBpyctl {escape(path)}\\fR ..." for path in command.aliases]
    body += [".SH DESCRIPTION", escape(command.summary) + "."]
    for paragraph in command.description.split("\n\n") if command.description else ():
        body += [".PP", escape(paragraph)]
    section = "Options"
    shown: list[tuple[str, list[Option]]] = []
    for row in command.options:
        if isinstance(row, str):
            section = row
        elif not row.refused:
            if not shown or shown[-1][0] != section:
                shown.append((section, []))
            shown[-1][1].append(row)
    if shown:
        body.append(".SH OPTIONS")
    for title, rows in shown:
        body += [f'.SS "{title}"'] if title != "Options" else []
        for row in rows:
            body += option_lines(row)
    refused = [row for row in command.rows if row.refused and not row.choices]
    if refused:
        body += [".SH NOT AVAILABLE", "These options of Podman are refused:"]
        for row in refused:
            body += [".TP", f"\\fB{escape('--' + row.name)}\\fR", escape(row.refused)]
    if command.examples:
        body.append(".SH EXAMPLES")
        for line, what in command.examples:
            body += [".PP", escape(what[:1].upper() + what[1:]) + ":"]
            body += [".PP", ".RS 4", ".nf", escape(line), ".fi", ".RE"]
    body += [".SH EXIT STATUS", escape(_EXIT_STATUS), ".SH SEE ALSO", "\\fBpyctl\\fR(1)"]
    return _page("pyctl-" + command.path.replace(" ", "-"), command.summary, body)


def main_page(commands: list[Command]) -> str:
    """pyctl.1."""
    body = [
        ".SH SYNOPSIS",
        "\\fBpyctl\\fR [OPTIONS] COMMAND [ARGS]...",
        ".SH DESCRIPTION",
        "Runs containers as an ordinary user, without a daemon. The command line is Podman's.",
        ".SH COMMANDS",
    ]
    for command in commands:
        page = "pyctl-" + command.path.replace(" ", "-")
        body += [".TP", f"\\fB{escape(page)}\\fR(1)", escape(command.summary) + "."]
    body.append(".SH OPTIONS")
    for row in GLOBAL_ROWS:
        body += option_lines(row) if not row.refused else []
    body += [".SH EXIT STATUS", escape(_EXIT_STATUS)]
    return _page("pyctl", "containers without root and without a daemon", body)


def pages() -> dict[str, str]:
    """File name → content."""
    commands = sorted((c for c in map(table.find, table.HOMES) if not c.hidden), key=lambda c: c.path)
    found = {f"pyctl-{c.path.replace(' ', '-')}.1": command_page(c) for c in commands}
    found["pyctl.1"] = main_page(commands)
    return found


def main() -> None:
    """Writes every page into the directory that is named."""
    if len(sys.argv) != 2:
        sys.exit("usage: generate.py DIRECTORY")
    os.makedirs(sys.argv[1], exist_ok=True)
    for name, text in pages().items():
        with open(f"{sys.argv[1]}/{name}", "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main()
