"""Words of the command line to a `Parsed` command: the rules of pflag and cobra, on the rows of the table.

Weight: the table and the rows of the one command that is asked for.

The rules: `-it` is `-i -t`; `-eA=b`, `-e=A=b`, `-e A=b`, `--env=A=b` and `--env A=b` are one; a flag takes a value by
`=` only (`--tls-verify=false`); `--` ends the options; the last one wins, lists add up; run, create, exec and unshare
stop at their first argument.  Options of pyctl itself may stand before or after the command.
"""

from __future__ import annotations

from pyctl.cli import table
from pyctl.cli.options_global import ROWS as GLOBAL_ROWS
from pyctl.cli.table import (
    BOOL,
    BYTES,
    COUNT,
    CSV,
    DURATION,
    FLAG_KINDS,
    FLOAT,
    INT,
    LIST,
    OPTIONAL,
    STRING,
    UINT,
    Command,
    Option,
)
from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BOOLS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}


class Options:
    """Typed values by field name, as attributes: `options.tls_verify`; what was not given has its default."""

    __slots__ = ("_given", "_values")

    _values: dict[str, Any]
    _given: set[str]

    def __init__(self, values: dict[str, Any], given: set[str]) -> None:
        object.__setattr__(self, "_values", values)
        object.__setattr__(self, "_given", given)

    def __getattr__(self, field: str) -> Any:
        try:
            return self._values[field]
        except KeyError:
            raise AttributeError(f"no option fills the field {field}") from None

    def __setattr__(self, field: str, value: object) -> None:
        raise AttributeError("options are immutable")

    def given(self, field: str) -> bool:
        """Whether the user gave the option, even with its default value."""
        return field in self._given

    def get(self, field: str, default: Any = None) -> Any:
        """The value, or `default` where this command has no such option."""
        return self._values.get(field, default)

    def __repr__(self) -> str:
        return "Options(" + ", ".join(f"{f}={self._values[f]!r}" for f in sorted(self._given)) + ")"


class Parsed:
    """One command line.

    path: the command as typed ("container ls"); command: its row; args: positional arguments;
    options and globals: values; argv: all words after the program's name.
    """

    __slots__ = ("args", "argv", "command", "globals", "options", "path")

    def __init__(
        self,
        path: str,
        command: Command,
        args: tuple[str, ...],
        *,
        options: Options,
        globals_: Options,
        argv: tuple[str, ...],
    ) -> None:
        self.path = path
        self.command = command
        self.args = args
        self.options = options
        self.globals = globals_
        self.argv = argv


class HelpAsked(Exception):  # noqa: N818 - not an error
    """`--help` was met: help on `path` ("" for the top level) is to be shown."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


class VersionAsked(Exception):  # noqa: N818 - not an error
    """`--version` was met before a command."""


def split_csv(text: str) -> list[str]:
    """The fields of one CSV record (RFC 4180): `a,"b,c"` is two.  Raises ValueError."""
    if '"' not in text:
        return text.split(",") if text else []
    fields: list[str] = []
    position = 0
    while True:
        if text[position : position + 1] == '"':
            field, position = _quoted(text, position + 1)
        else:
            end = text.find(",", position)
            end = len(text) if end < 0 else end
            field, position = text[position:end], end
            if '"' in field:
                raise ValueError("a quotation mark inside a value")
        fields.append(field)
        if position == len(text):
            return fields
        if text[position] != ",":
            raise ValueError("text after a closing quotation mark")
        position += 1


def _quoted(text: str, position: int) -> tuple[str, int]:
    """The quoted field that begins at `position`, and the position after its closing mark."""
    field = ""
    while True:
        end = text.find('"', position)
        if end < 0:
            raise ValueError("a quotation mark is not closed")
        field += text[position:end]
        if text[end + 1 : end + 2] != '"':
            return field, end + 1
        field += '"'
        position = end + 2


def convert(row: Option, text: str) -> Any:
    """`text` as a value of the row's kind; for lists, the elements it adds.  Raises ValueError with the reason."""
    kind = row.kind
    if kind in (STRING, OPTIONAL):
        return text
    if kind == LIST:
        return (text,)
    if kind == BOOL:
        if text not in _BOOLS:
            raise ValueError("not true or false")
        return _BOOLS[text]
    if kind == CSV:
        return tuple(split_csv(text))
    from pyctl.cli import convert as to  # only command lines with numbers pay for it

    if text in row.choices:
        return -1
    if kind in (INT, COUNT):
        return to.parse_int(text)
    if kind == UINT:
        return to.parse_uint(text)
    if kind == BYTES:
        return to.parse_bytes(text)
    if kind == DURATION:
        return to.parse_duration_ns(text)
    if kind == FLOAT:
        return to.parse_float(text)
    return tuple(to.parse_uint(part) for part in text.split(","))


class _Scan:
    """The state of one pass over the words."""

    __slots__ = ("given", "global_given", "global_values", "longs", "path", "shorts", "values")

    def __init__(
        self, path: str, rows: tuple[Option | str, ...], global_values: dict[str, Any], global_given: set[str]
    ) -> None:
        self.path = path
        self.longs: dict[str, Option] = {}
        self.shorts: dict[str, Option] = {}
        self.values: dict[str, Any] = {}
        self.given: set[str] = set()
        self.global_values = global_values
        self.global_given = global_given
        for row in rows:
            if isinstance(row, str):
                continue
            name, short, _kind, _help, default, *_rest, field = row
            self.longs[name] = row
            if short:
                self.shorts[short] = row
            self.values[field] = default

    def words(self, words: list[str] | tuple[str, ...], start: int, interspersed: bool) -> tuple[list[str], int]:
        """Reads options from `start` on.  Returns the positional words and, when not interspersed, where they begin."""
        args: list[str] = []
        position, count = start, len(words)
        while position < count:
            word = words[position]
            if word[:1] != "-" or word == "-":
                if not interspersed:
                    return args, position
                args.append(word)
                position += 1
            elif word == "--":
                if not interspersed:
                    return args, position + 1
                args.extend(words[position + 1 :])
                break
            elif word[1] == "-":
                position = self._long(words, position)
            else:
                position = self._cluster(words, position)
        return args, count

    def _long(self, words: list[str] | tuple[str, ...], position: int) -> int:
        name, equals, text = words[position][2:].partition("=")
        row = self.longs.get(name) or self._other_long(name, words[position])
        if not equals:
            if row.kind in FLAG_KINDS:
                text = _bare(row)
            else:
                position += 1
                if position == len(words):
                    raise self._wrong(f"--{name} needs a value" + (f": --{name} {row.metavar}" if row.metavar else ""))
                text = words[position]
        self._store(row, text, "--" + name)
        return position + 1

    def _cluster(self, words: list[str] | tuple[str, ...], position: int) -> int:
        """`-it`, `-eA=b`, `-e=A=b`, `-e A=b`."""
        word = words[position]
        at = 1
        while at < len(word):
            letter = word[at]
            row = self.shorts.get(letter) or self._other_short(letter, word)
            rest = word[at + 1 :]
            if rest[:1] == "=" and len(rest) > 1:
                self._store(row, rest[1:], "-" + letter)
                break
            if row.kind in FLAG_KINDS:
                self._store(row, _bare(row), "-" + letter)
                at += 1
                continue
            if not rest:
                position += 1
                if position == len(words):
                    raise self._wrong(
                        f"-{letter} needs a value" + (f": -{letter} {row.metavar}" if row.metavar else "")
                    )
                rest = words[position]
            self._store(row, rest, "-" + letter)
            break
        return position + 1

    def _store(self, row: Option, text: str, shown: str) -> None:
        values, given = self.values, self.given
        field = row.field
        if field not in values or self.longs.get(row.name) is not row:
            values, given = self.global_values, self.global_given
        try:
            value = convert(row, text)
        except ValueError as reason:
            raise self._wrong(f'invalid value "{text}" for {_full(row, shown)}: {reason}') from None
        if row.refused or row.choices:
            self._check(row, text, value, shown)
        if row.kind in table.LIST_KINDS and field in given:
            value = values[field] + value
        elif row.kind == COUNT and text == "+1":
            value = values[field] + 1
        values[field] = value
        given.add(field)

    def _check(self, row: Option, text: str, value: object, shown: str) -> None:
        """Raises UsageError when the value is not among the choices, or the option is refused."""
        plain = ("false", "true")[value] if value.__class__ is bool else text
        if plain in row.choices:
            return
        if row.refused:
            name = f"--{row.name}" if row.kind in FLAG_KINDS and value is True else f"--{row.name}={plain}"
            raise self._wrong(f"{name} is not available: {row.refused}", see=False)
        if row.kind in (STRING, OPTIONAL) and not (row.kind == STRING and text == row.default):
            raise self._wrong(
                f'invalid value "{text}" for {_full(row, shown)}: it must be one of {", ".join(row.choices)}'
            )

    def _other_long(self, name: str, word: str) -> Option:
        """A name that is none of the command's own: a second name, or an option of pyctl itself."""
        for row in self.longs.values():
            if name in row.also:
                return row
        for row in GLOBAL_ROWS:
            if row.name == name:
                if name == "help":
                    raise HelpAsked(self.path)
                if name == "version":
                    break
                return row
        near = _near(name, [*self.longs, *(r.name for r in GLOBAL_ROWS)])
        raise self._wrong(f"unknown option --{name}", near and f"did you mean --{near}?")

    def _other_short(self, letter: str, word: str) -> Option:
        if letter == "h":
            raise HelpAsked(self.path)
        for row in GLOBAL_ROWS:
            if row.short == letter and row.name != "version":
                return row
        if len(word) > 3 and word[1:].partition("=")[0] in self.longs:
            raise self._wrong(f"unknown option -{letter} in {word}", f"did you mean -{word}?")
        raise self._wrong(f"unknown option -{letter}" + (f" in {word}" if len(word) > 2 else ""))

    def _wrong(self, message: str, hint: str = "", see: bool = True) -> UsageError:
        return UsageError(message, hint or (see_help(self.path) if see else ""))


def _bare(row: Option) -> str:
    if row.kind == BOOL:
        return "true"
    return "+1" if row.kind == COUNT else row.choices[0]


def _full(row: Option, shown: str) -> str:
    return shown if shown[1] == "-" else f"{shown}, --{row.name}"


def see_help(path: str) -> str:
    """The hint of a usage error."""
    return f"see 'pyctl {path} --help'" if path else "see 'pyctl --help'"


def _near(name: str, names: list[str]) -> str:
    import difflib  # heavy, and only a mistake needs it

    found = difflib.get_close_matches(name, names, 1, 0.6)
    return found[0] if found else ""


def _no_command(group: str, word: str) -> UsageError:
    """The error for a word that is no command."""
    from pyctl.cli.unavailable import COMMANDS  # only a mistake needs it

    path = f"{group} {word}".strip()
    if path in COMMANDS:
        return UsageError(f"pyctl {path} is not available: {COMMANDS[path]}")
    if not word:
        return UsageError(f"pyctl {group} needs a command" if group else "a command is missing", see_help(group))
    import difflib

    near = difflib.get_close_matches(word, table.words_below(group), 3, 0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else see_help(group)
    return UsageError(f"there is no command pyctl {path}", hint)


def parse(argv: list[str]) -> Parsed:
    """`argv` without the program's name.  Raises UsageError, HelpAsked, VersionAsked."""
    global_values: dict[str, Any] = {row.field: row.default for row in GLOBAL_ROWS}
    global_given: set[str] = set()
    globals_ = Options(global_values, global_given)
    group, position = "", 0
    while True:
        if position < len(argv) and argv[position][:1] == "-":
            scan = _Scan(group, (), global_values, global_given)
            if not group and argv[position] in ("--version", "-v"):
                raise VersionAsked
            if argv[position] in ("--", "-"):
                raise _no_command(group, argv[position])
            position = scan._long(argv, position) if argv[position][1] == "-" else scan._cluster(argv, position)
            continue
        if position == len(argv):
            if not group and not global_given:
                raise HelpAsked("")
            raise _no_command(group, "")
        word = argv[position]
        path = f"{group} {word}" if group else word
        position += 1
        if path in table.HOMES or path in table.ALIASES:
            return _parse_command(path, argv, position, globals_)
        if path not in table.GROUPS:
            raise _no_command(group, word)
        group = path


def _parse_command(path: str, argv: list[str], position: int, globals_: Options) -> Parsed:
    command = table.find(path)
    scan = _Scan(path, command.options, globals_._values, globals_._given)
    args, end = scan.words(argv, position, command.interspersed)
    if not command.interspersed:
        args = argv[end:]
    least, most = command.args
    if len(args) < least:
        missing = command.usage.split(" ")[len(args)]
        raise UsageError(f"pyctl {path}: {missing} is missing", f"usage: pyctl {path} [OPTIONS] {command.usage}")
    if 0 <= most < len(args):
        what = "takes no arguments" if most == 0 else f"takes at most {most} argument{'s' * (most > 1)}"
        raise UsageError(f"pyctl {path} {what}: {args[most]}", see_help(path))
    options = Options(scan.values, scan.given)
    return Parsed(path, command, tuple(args), options=options, globals_=globals_, argv=tuple(argv))
