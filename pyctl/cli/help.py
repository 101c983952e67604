"""`--help`: typer's commands, made from the rows of the table.

Weight: typer (40 ms); imported when somebody asks for help, by nothing else.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from pyctl.cli import table
from pyctl.cli.options_global import ROWS as GLOBAL_ROWS
from pyctl.cli.parser import Parsed
from pyctl.cli.table import BOOL, FLAG_KINDS, LIST_KINDS, STRING, Command, Option
from rootless.errors import UsageError

_ABOUT = "Containers without root and without a daemon. Podman's command line: what you know works here."
_WIDEST = 120
# Stands for a hyphen while lines are wrapped: the wrapper would break option names at theirs.
_HYPHEN = "\ue000"

Rows = list[tuple[str, str]]


def command(parsed: Parsed) -> int:
    """The verb `pyctl help [COMMAND]`."""
    return show(" ".join(parsed.args))


def show(path: str) -> int:
    """Prints help on the command, group, or ("") everything; returns 0.  Raises UsageError for an unknown path."""
    made = build(path)
    with typer.Context(made, info_name=f"pyctl {path}".rstrip(), terminal_width=_width()) as context:
        sys.stdout.write(made.get_help(context).replace(_HYPHEN, "-") + "\n")
    return 0


def _width() -> int:
    try:
        return max(40, int(os.environ.get("COLUMNS", "")))
    except ValueError:
        pass
    try:
        return max(40, min(os.get_terminal_size(1).columns, _WIDEST))
    except OSError:
        return 100


def build(path: str) -> TyperCommand | TyperGroup:
    """The typer command or group at `path`."""
    if path in table.HOMES or path in table.ALIASES:
        return _Leaf(table.find(path), path)
    if path and path not in table.GROUPS:
        raise UsageError(f"there is no command pyctl {path}", "see 'pyctl --help'")
    return _Group(path)


class _Sections:
    """Help text in sections, for commands and groups alike."""

    def write_title(self, formatter: Any, title: str) -> None:
        bold = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        formatter.write_paragraph()
        formatter.write(f"\x1b[1m{title}:\x1b[0m\n" if bold else f"{title}:\n")

    def write_rows(self, formatter: Any, title: str, rows: Rows) -> None:
        self.write_title(formatter, title)
        formatter.indent()
        formatter.write_dl([(name, text.replace("-", _HYPHEN)) for name, text in rows], col_max=36, col_spacing=2)
        formatter.dedent()

    def write_text(self, formatter: Any, text: str, indent: str = "  ") -> None:
        for paragraph in text.split("\n\n"):
            formatter.write_paragraph()
            formatter.current_indent += len(indent)
            formatter.write_text(paragraph.replace("-", _HYPHEN))
            formatter.current_indent -= len(indent)


class _Leaf(_Sections, TyperCommand):
    """A command's help."""

    def __init__(self, row: Command, path: str) -> None:
        self.row = row
        params: list[Any] = [typer_option(option) for option in row.rows]
        super().__init__(path, params=params, add_help_option=False, rich_markup_mode=None)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        row = self.row
        formatter.write_usage(ctx.command_path, f"{'[OPTIONS] ' * bool(row.options)}{row.usage}", "Usage: ")
        self.write_text(formatter, row.summary + ".")
        if row.description:
            self.write_text(formatter, row.description)
        others = [path for path in (row.path, *row.aliases) if path != self.name]
        if others:
            self.write_title(formatter, "Aliases")
            formatter.write("".join(f"  pyctl {path}\n" for path in others))
        if row.examples:
            self.write_title(formatter, "Examples")
            formatter.write("".join(f"  {line}\n      {what}\n" for line, what in row.examples))
        for title, rows in self._sections(ctx):
            self.write_rows(formatter, title, rows)
        refused = [option.name for option in row.rows if option.refused and not option.choices]
        if refused:
            # Without their dashes: what is listed as an option works.
            self.write_text(formatter, "Not available here (using one tells why): " + ", ".join(refused), "")
        self.write_text(formatter, "Options of pyctl itself stand before or after the command: see pyctl --help.", "")

    def _sections(self, ctx: Any) -> list[tuple[str, Rows]]:
        sections: list[tuple[str, Rows]] = []
        records = {param.name: param.get_help_record(ctx) for param in self.params}
        for option in self.row.options:
            if isinstance(option, str):
                sections.append((option, []))
                continue
            if not sections:
                sections.append(("Options", []))
            record = records[option.field]
            if record:
                sections[-1][1].append(_aligned(option, record))
        return [section for section in sections if section[1]]


class _Group(_Sections, TyperGroup):
    """A group's help, or the top level's."""

    def __init__(self, path: str) -> None:
        commands: Any = {word: TyperCommand(word, short_help=summary) for word, summary in table.listing(path)}
        super().__init__(name=path, commands=commands, add_help_option=False, rich_markup_mode=None)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        path = self.name or ""
        formatter.write_usage(ctx.command_path, "[OPTIONS] COMMAND [ARGS]...", "Usage: ")
        self.write_text(formatter, f"{table.GROUPS[path]}." if path else _ABOUT)
        self.write_rows(formatter, "Commands", [(word, c.short_help or "") for word, c in self.commands.items()])
        if not path:
            records = [(row, typer_option(row).get_help_record(ctx)) for row in GLOBAL_ROWS]
            self.write_rows(formatter, "Options", [_aligned(row, record) for row, record in records if record])
        self.write_text(formatter, f"See pyctl {path + ' ' if path else ''}COMMAND --help for a command's options.", "")


def _aligned(row: Option, record: tuple[str, str]) -> tuple[str, str]:
    return (record[0] if row.short else "    " + record[0], record[1])


def typer_option(row: Option) -> TyperOption:
    """The row as a typer option; one that is refused is hidden."""
    flags = [f"-{row.short}"] * bool(row.short) + [f"--{row.name}"]
    flag = row.kind in FLAG_KINDS
    return TyperOption(
        param_decls=[*flags, row.field],
        help=row.help + _default_text(row),
        metavar=None if flag else row.metavar or row.kind.upper(),
        is_flag=flag,
        multiple=row.kind in LIST_KINDS,
        hidden=bool(row.refused),
    )


def _default_text(row: Option) -> str:
    choices = f" ({', '.join(row.choices)})" if row.kind == STRING and row.choices else ""
    shown = row.default
    if row.kind == BOOL:
        text = "true" if shown is True else ""
    elif row.kind == "bytes":
        text = f"{shown // 1000}k" if shown else ""
    elif row.kind == "duration":
        text = _duration_text(shown)
    else:
        text = str(shown) if shown not in ("", (), 0) else ""
    return choices + (f" [default: {text}]" if text else "")


def _duration_text(nanoseconds: int) -> str:
    seconds = nanoseconds // 1_000_000_000
    if not seconds:
        return ""
    return f"{seconds // 3600}h" if seconds % 3600 == 0 else f"{seconds}s"
