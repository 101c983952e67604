"""`--format`: JSON, Go templates, and templates with headings.

Weight: `pyctl.cli.output`; the template engine when a template is given.

Rows are dicts of Go field names ("ID", "Names"); a `Row` also holds what its JSON looks like.
"""

from __future__ import annotations

import sys

from pyctl.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

try:
    from _json import encode_basestring as _quoted  # type: ignore[attr-defined,unused-ignore]  # `json` costs 7 ms
except ImportError:
    from json.encoder import encode_basestring as _quoted  # type: ignore[attr-defined,no-redef,unused-ignore]


class Row(dict):  # type: ignore[type-arg]
    """One line of a list.  `json_form`: what {{json .}} prints, or a function that makes it (None: the fields)."""

    json_form: Any = None


class Heading(str):
    """What a field is called in the first line of `table` output; each of its own fields has a heading too."""

    __slots__ = ()

    def go_field(self, name: str) -> Heading:
        return Heading(heading(name))


def heading(field: str) -> str:
    """ "CreatedAt" -> "CREATED AT", "ID" -> "ID"."""
    out = ""
    for index, char in enumerate(field):
        if index and char.isupper() and (field[index - 1].islower() or field[index + 1 : index + 2].islower()):
            out += " "
        out += char
    return out.upper()


# --- JSON --------------------------------------------------------------------------------------


def to_json(value: Any, indent: int = 0) -> str:
    """JSON text in UTF-8's full range; indent 0: on one line."""
    out: list[str] = []
    _write(value, indent, "\n" if indent else "", out)
    return "".join(out)


def _write(value: Any, indent: int, newline: str, out: list[str]) -> None:
    if isinstance(value, str):
        out.append(_quoted(value))
    elif value is None or isinstance(value, bool):
        out.append({None: "null", True: "true", False: "false"}[value])
    elif isinstance(value, (int, float)):
        out.append(_number(value))
    elif isinstance(value, dict):
        form = getattr(value, "json_form", None)
        members = value if form is None else form() if callable(form) else form
        inner = newline + " " * indent
        mark = "{"
        for key, member in members.items():
            if form is None and callable(member):
                continue
            out.append(f"{mark}{inner}{_quoted(str(key))}:{' ' if indent else ''}")
            _write(member, indent, inner, out)
            mark = ","
        out.append("{}" if mark == "{" else newline + "}")
    elif isinstance(value, (list, tuple)):
        inner = newline + " " * indent
        for index, member in enumerate(value):
            out.append(("," if index else "[") + inner)
            _write(member, indent, inner, out)
        out.append(newline + "]" if value else "[]")
    else:
        out.append("null")


def _number(value: float) -> str:
    if isinstance(value, float) and (not abs(value) < float("inf")):
        return "null"
    return repr(value)


def print_json(value: Any, indent: int = 4) -> None:
    """Writes JSON and a newline to stdout."""
    sys.stdout.write(to_json(value, indent) + "\n")


# --- templates ---------------------------------------------------------------------------------


def normalize(text: str, tabs: bool = False) -> str:
    """`\\t` and `\\n` as typed in a shell become characters, outside of actions; `tabs`: a space becomes a tab too."""
    parts = []
    position = 0
    while True:
        start = text.find("{{", position)
        literal = text[position:] if start < 0 else text[position:start]
        literal = literal.replace("\\t", "\t").replace("\\n", "\n")
        parts.append(literal.replace(" ", "\t") if tabs else literal)
        if start < 0:
            return "".join(parts)
        end = text.find("}}", start)
        position = len(text) if end < 0 else end + 2
        parts.append(text[start:position])


def with_newline(text: str) -> str:
    """A template that ends its line."""
    return text if text.endswith("\n") else text + "\n"


def is_json(text: str) -> bool:
    """Whether the format asks for plain JSON."""
    return text.strip() == "json"


def print_one(data: Any, text: str, aliases: dict[str, str] | None = None, indent: int = 4) -> int:
    """Prints one value by a format; returns 0.  aliases: as `Template.render` takes them."""
    if is_json(text):
        print_json(data, indent)
        return 0
    from pyctl.cli.gotemplate import Template

    sys.stdout.write(Template(with_newline(normalize(text.removeprefix("table ")))).render(data, aliases))
    return 0


def print_rows(
    rows: Sequence[Row],
    text: str,
    headings: dict[str, str],
    *,
    fields: Sequence[str] = (),
    show_headings: bool = True,
    indent: int = 4,
) -> int:
    """Prints a list by a format: json, `table TEMPLATE`, or TEMPLATE for each row; returns 0.

    headings: those that do not follow from the field's name; fields: all names a row may have, which `table`
    needs where there is no row to look at.
    """
    if is_json(text):
        print_json(list(rows), indent)
        return 0
    from pyctl.cli.gotemplate import Template

    if text.startswith("table ") or text == "table":
        template = Template(normalize(text[6:], tabs=True))
        names = dict.fromkeys([*(rows[0] if rows else ()), *fields])
        first = {name: _head(headings.get(name) or heading(name), rows, name) for name in names}
        lines = [template.render(first)] if show_headings else []
        lines += [template.render(row) for row in rows]
        sys.stdout.write(output.table([line.split("\t") for line in lines]))
        return 0
    shown = with_newline(normalize(text))
    if shown.startswith("{{range"):
        sys.stdout.write(Template(shown).render(list(rows)))
        return 0
    template = Template(shown.lstrip(" \t\r\n") or "\n")
    for row in rows:
        sys.stdout.write(template.render(row))
    return 0


def _head(shown: str, rows: Sequence[Row], name: str) -> Any:
    """A heading; for a method that takes arguments one that takes them too."""
    if rows and callable(rows[0].get(name)):
        return lambda *_arguments: Heading(shown)
    return Heading(shown)
