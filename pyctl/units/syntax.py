"""Unit files as systemd reads and quotes them (systemd.syntax(7)).  Weight: `rootless.values`.

Nothing here raises for any content of a file: what is wrong becomes a `Problem` with its file and line.
"""

from __future__ import annotations

from rootless.values import Value

_WHITESPACE = " \t\n\r"
_COMMENTS = "#;"
MOST_BYTES = 1 << 20  # what systemd takes of one line (LONG_LINE_MAX); no unit file is near it
_SIMPLE_ESCAPES = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", '"': '"', "'": "'", "s": " ",
}  # fmt: skip
_NUMBERED_ESCAPES = {"x": (2, 16), "u": (4, 16), "U": (8, 16)}
_BOOLS = {
    **dict.fromkeys(("1", "yes", "y", "true", "t", "on"), True),
    **dict.fromkeys(("0", "no", "n", "false", "f", "off"), False),
}


class Problem(Value):
    """What is wrong with a file; `line` 0 is the file as a whole.  A warning keeps nothing from being made."""

    path: str
    line: int = 0
    text: str
    hint: str = ""
    warning: bool = False

    def shown(self) -> str:
        """ "/path/web.container:7: the text"."""
        where = f"{self.path}:{self.line}" if self.line else self.path
        return f"{where}: {'warning: ' * self.warning}{self.text}"


class Entry(Value):
    """One assignment, its value with continuation lines joined."""

    key: str
    value: str
    path: str
    line: int


class Section(Value):
    """One section, from its header to the next; a file may have several of one name."""

    name: str
    path: str
    line: int
    entries: tuple[Entry, ...] = ()


class Unit(Value):
    """The sections of a file and of the drop-ins that were merged into it, in order."""

    sections: tuple[Section, ...] = ()

    def entries(self, name: str) -> tuple[Entry, ...]:
        """All assignments of the sections of that name."""
        return tuple(entry for section in self.sections if section.name == name for entry in section.entries)

    def has(self, name: str) -> bool:
        return any(section.name == name for section in self.sections)

    def names(self) -> tuple[str, ...]:
        """The sections' names, each once."""
        return tuple(dict.fromkeys(section.name for section in self.sections))


def parse(data: bytes, path: str) -> tuple[Unit, tuple[Problem, ...]]:
    """The content of a file, and what is wrong with its lines (these are left out)."""
    if len(data) > MOST_BYTES:
        return Unit(), (Problem(path=path, text=f"longer than {MOST_BYTES} bytes: not a unit file"),)
    sections: list[Section] = []
    entries: list[Entry] = []
    problems: list[Problem] = []
    for number, line in _logical_lines(data, path, problems):
        if line[0] == "[":
            name = line[1:-1]
            if line[-1] != "]" or not name or not name.isprintable() or set("[]") & set(name):
                problems.append(Problem(path=path, line=number, text=f"not a section's header: {_short(line)}"))
                continue
            if sections:
                sections[-1] = sections[-1].replace(entries=tuple(entries))
            entries = []
            sections.append(Section(name=name, path=path, line=number))
            continue
        key, equals, value = line.partition("=")
        key = key.strip(_WHITESPACE)
        if not equals or not key:
            text = f"neither a section, nor KEY=VALUE, nor a comment: {_short(line)}"
            problems.append(Problem(path=path, line=number, text=text))
        elif not sections:
            problems.append(Problem(path=path, line=number, text=f"{_short(key)}= stands before the first section"))
        else:
            entries.append(Entry(key=key, value=value.strip(_WHITESPACE), path=path, line=number))
    if sections:
        sections[-1] = sections[-1].replace(entries=tuple(entries))
    return Unit(sections=tuple(sections)), tuple(problems)


def _logical_lines(data: bytes, path: str, problems: list[Problem]) -> list[tuple[int, str]]:
    """(number of its first line, text) of each line that is neither empty nor a comment, continuations joined."""
    found: list[tuple[int, str]] = []
    held, first = "", 0
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            line = raw.decode()
        except UnicodeDecodeError:
            problems.append(Problem(path=path, line=number, text="not valid UTF-8"))
            continue
        if "\0" in line:
            problems.append(Problem(path=path, line=number, text="holds a NUL character"))
            continue
        line = line.lstrip(_WHITESPACE)
        if line[:1] and line[0] in _COMMENTS:
            continue  # also between the lines of a continued one
        if not held:
            first = number
        held += line.rstrip("\r")
        if (len(held) - len(held.rstrip("\\"))) % 2:
            held = held[:-1] + " "
            continue
        if held.strip(_WHITESPACE):
            found.append((first, held.strip(_WHITESPACE)))
        held = ""
    if held.strip(_WHITESPACE):
        found.append((first, held.strip(_WHITESPACE)))
    return found


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "…"


# --- values ------------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    """The words of a value: white space parts them, quotes keep it, C's escapes are taken.  Raises ValueError.

    Quotes may stand within a word (`a="b c"`), and an unknown escape stays as it is, as in systemd.
    """
    found: list[str] = []
    word: str | None = None
    quote = ""
    at = 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            piece, at = _escape(text, at + 1)
            word = (word or "") + piece
            continue
        at += 1
        if quote:
            if char == quote:
                quote = ""
            else:
                word = (word or "") + char
        elif char in "\"'":
            quote = char
            word = word or ""
        elif char in _WHITESPACE:
            if word is not None:
                found.append(word)
            word = None
        else:
            word = (word or "") + char
    if quote:
        raise ValueError(f"a quotation mark {quote} is not closed")
    if word is not None:
        found.append(word)
    return found


def _escape(text: str, at: int) -> tuple[str, int]:
    """What stands for the escape whose letter is at `at`, and where it ends."""
    letter = text[at : at + 1]
    if not letter:
        return "\\", at
    if letter in _SIMPLE_ESCAPES:
        return _SIMPLE_ESCAPES[letter], at + 1
    length, base = _NUMBERED_ESCAPES.get(letter, (3, 8))
    start = at + (letter in _NUMBERED_ESCAPES)
    digits = text[start : start + length]
    allowed = "0123456789abcdefABCDEF" if base == 16 else "01234567"
    if len(digits) < length or set(digits) - set(allowed):
        return "\\" + letter, at + 1
    code = int(digits, base)
    if not code or code > 0x10FFFF or 0xD800 <= code < 0xE000 or (base == 8 and code > 0xFF):
        raise ValueError(f"the escape \\{text[at : start + length]} is no character")
    return chr(code), start + length


def unquoted(text: str) -> str:
    """A value of one word: without the quotes around the whole of it."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" and text[0] not in text[1:-1]:
        return text[1:-1]
    return text


def boolean(text: str) -> bool:
    """yes, true, on, 1 … or their opposites, in any case.  Raises ValueError."""
    found = _BOOLS.get(text.lower())
    if found is None:
        raise ValueError("must be yes or no")
    return found


def quote(word: str) -> str:
    """A word as it must stand in ExecStart= or Environment= to be read back as itself; % and $ keep their meaning."""
    if word and word != ";" and not any(c in "\"'\\" or c.isspace() or not c.isprintable() for c in word):
        return word
    out = ""
    for char in word:
        if char in '"\\':
            out += "\\" + char
        elif char in "\n\t":
            out += "\\n" if char == "\n" else "\\t"
        elif char == " " or char.isprintable():
            out += char
        elif ord(char) < 0x80:
            out += f"\\x{ord(char):02x}"
        else:
            out += f"\\U{ord(char):08x}"
    return f'"{out}"'


def literal(word: str) -> str:
    """For a command line: the characters doubled that systemd would expand, of specifiers and of variables."""
    return plain(word).replace("$", "$$")


def plain(text: str) -> str:
    """For any other value, where systemd expands specifiers only."""
    return text.replace("%", "%%")


def command_line(argv: list[str] | tuple[str, ...]) -> str:
    """Words as one ExecStart= line; what is not to be expanded went through `literal` before."""
    return " ".join(quote(word) for word in argv)
