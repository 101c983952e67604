"""Plain data as YAML, the way `info` prints it.  Weight: `pyctl.cli.report` for quoting.

Source: yaml.org/spec/1.2.2, the block style; a text that could be read as anything but itself is quoted as in JSON,
which is a subset.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WORDS = frozenset(("true", "false", "yes", "no", "on", "off", "null", "~", "y", "n", ".inf", ".nan", "<<", "="))
_FIRST = frozenset("-?:,[]{}#&*!|>'\"%@` .+0123456789")


def to_yaml(value: Any, depth: int = 0) -> str:
    """The text of a mapping, list or scalar; ends in a newline."""
    lines: list[str] = []
    _write(value, 2 * depth, lines)
    return "\n".join(lines) + "\n"


def _write(value: Any, indent: int, lines: list[str]) -> None:
    pad = " " * indent
    if isinstance(value, dict) and value:
        for key, member in value.items():
            _member(f"{pad}{_scalar(str(key))}:", member, indent, lines)
    elif isinstance(value, (list, tuple)) and value:
        for member in value:
            if isinstance(member, (dict, list, tuple)) and member:
                inner: list[str] = []
                _write(member, indent + 2, inner)
                inner[0] = f"{pad}- {inner[0].lstrip(' ')}"
                lines.extend(inner)
            else:
                lines.append(f"{pad}- {_scalar(member)}")
    else:
        lines.append(pad + _scalar(value))


def _member(head: str, member: Any, indent: int, lines: list[str]) -> None:
    if isinstance(member, dict) and member:
        lines.append(head)
        _write(member, indent + 2, lines)
    elif isinstance(member, (list, tuple)) and member:
        lines.append(head)
        _write(member, indent, lines)
    elif isinstance(member, str) and "\n" in member and _is_block(member):
        lines.append(f"{head} |" + ("" if member.endswith("\n") else "-"))
        lines.extend(" " * (indent + 2) + line if line else "" for line in member.removesuffix("\n").split("\n"))
    else:
        lines.append(f"{head} {_scalar(member)}")


def _is_block(text: str) -> bool:
    """Whether a block scalar holds the text unchanged."""
    plain = all(c.isprintable() or c == "\n" for c in text)
    return plain and not text.startswith((" ", "\n")) and not text.endswith("\n\n")


def _scalar(value: Any) -> str:
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, (list, tuple)):
        return "[]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = str(value)
    if not isinstance(value, str):
        return text
    quoted = (
        not text
        or text[0] in _FIRST
        or text.lower() in _WORDS
        or text[-1] in " :"
        or ": " in text
        or " #" in text
        or not text.isprintable()
    )
    # A path or a version that merely begins with a digit or a dot stays as it is.
    if quoted and text[:1] in "0123456789./" and text and not _numeric(text) and text.isprintable():
        quoted = text[-1] in " :" or ": " in text or " #" in text
    if not quoted:
        return text
    from pyctl.cli.report import to_json

    return to_json(text)


def _numeric(text: str) -> bool:
    """Whether a YAML reader could take the text for a number or a date."""
    return all(c in "0123456789.eE+-_:xXoOabcdefABCDEF" for c in text)
