"""The functions of a Go template, and Go's way to print values.  Weight: `pyctl.cli.gotemplate`."""

from __future__ import annotations

from pyctl.cli.goparse import fail
from pyctl.cli.gotemplate import MISSING, Map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_WIDEST = 1_000_000  # Go's own bound for a width in printf


def truth(value: Any) -> bool:
    """False for the zero of its kind: false, 0, "", nothing, an empty list or map; a struct is true."""
    if isinstance(value, dict):
        return bool(value)
    return bool(value)


def kind_of(value: Any) -> str:
    """Go's name for the kind of a value."""
    if value is None or value is MISSING:
        return "nil"
    for type_, name in ((bool, "bool"), (int, "int"), (float, "float64"), (str, "string"), (dict, "map")):
        if isinstance(value, type_):
            return name
    return "slice"


def float_text(number: float) -> str:
    """%v of a float: the shortest form, an exponent from 1e21 on and below 1e-4."""
    if not abs(number) < float("inf"):  # an infinity, or not a number
        return {"inf": "+Inf", "-inf": "-Inf"}.get(str(number), "NaN")
    size = abs(number)
    if size and (size < 1e-4 or size >= 1e21):
        mantissa, _, exponent = f"{number!r}".partition("e")
        if not exponent:
            mantissa, _, exponent = f"{number:e}".partition("e")
            mantissa = mantissa.rstrip("0").rstrip(".")
        return f"{mantissa.removesuffix('.0')}e{int(exponent):+03d}"
    shown = repr(number) if size < 1e16 else f"{number:.0f}"
    return shown.removesuffix(".0")


def text(value: Any) -> str:
    """A value as {{.}} prints it (fmt's %v)."""
    if isinstance(value, str):
        return value
    if value is MISSING:
        return "<no value>"
    if callable(value):
        return text(value())
    return _nested(value)


def _nested(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is True:
        return "true"
    if value is False:
        return "false"
    if value is None or value is MISSING:
        return "<nil>"
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, Map):
        return "map[" + " ".join(f"{_nested(k)}:{_nested(v)}" for k, v in sorted(value.items(), key=str)) + "]"
    if isinstance(value, dict):
        return "{" + " ".join(_nested(v) for v in value.values() if not callable(v)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(_nested(v) for v in value) + "]"
    return str(value)


# --- comparison --------------------------------------------------------------------------------


def _equal(first: Any, second: Any) -> bool:
    kinds = kind_of(first), kind_of(second)
    if kinds[0] in ("slice", "map") or kinds[1] in ("slice", "map"):
        fail("lists and maps cannot be compared")
    if "nil" in kinds:
        return kinds[0] == kinds[1]
    if kinds[0] != kinds[1]:
        fail(f"cannot compare {kinds[0]} with {kinds[1]}")
    return bool(first == second)


def _eq(first: Any, *others: Any) -> bool:
    return any(_equal(first, other) for other in others)


def _less(first: Any, second: Any) -> bool:
    kinds = kind_of(first), kind_of(second)
    if kinds[0] != kinds[1] or kinds[0] not in ("int", "float64", "string"):
        fail(f"cannot order {kinds[0]} and {kinds[1]}")
    return bool(first < second)


# --- lists and strings -------------------------------------------------------------------------


def _string(function: str, value: Any) -> str:
    if not isinstance(value, str):
        fail(f"{function} takes a string, not {text(value)}")
    return value


def _whole(function: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        fail(f"{function} takes a whole number, not {text(value)}")
    return value


def _len(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if not isinstance(value, (dict, list, tuple)):
        fail(f"len of {text(value)}")
    return len(value)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            if key not in value:
                held = next(iter(value.values()), "")
                # The zero of the map's element type, as Go has it.
                value = [] if isinstance(held, (list, tuple)) else "" if isinstance(held, str) else MISSING
                continue
            value = value[key]
            value = value() if callable(value) else value
        elif isinstance(value, (list, tuple)):
            at = _whole("index", key)
            if not 0 <= at < len(value):
                fail(f"index {at} is outside of a list of {len(value)}")
            value = value[at]
        elif isinstance(value, str):
            raw = value.encode("utf-8", "surrogatepass")
            at = _whole("index", key)
            if not 0 <= at < len(raw):
                fail(f"index {at} is outside of a string of {len(raw)}")
            value = raw[at]
        else:
            fail(f"cannot index {text(value)}")
    return value


def _slice(value: Any, *bounds: Any) -> Any:
    raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    if not isinstance(raw, (bytes, list, tuple)):
        fail(f"cannot slice {text(value)}")
    numbers = [_whole("slice", bound) for bound in bounds]
    low, high = (numbers + [0, len(raw)][len(numbers) :])[:2]
    if not 0 <= low <= high <= len(raw):
        fail(f"slice {low}:{high} is outside of {len(raw)}")
    part = raw[low:high]
    return part.decode("utf-8", "replace") if isinstance(part, bytes) else part


def _join(items: Any, separator: Any = " ") -> str:
    if isinstance(items, str):  # a column that is text already, as {{join .Names ","}} of one name
        return items
    if not isinstance(items, (list, tuple)):
        if items is None or items is MISSING:
            return ""
        fail(f"join takes a list, not {text(items)}")
    return _string("join", separator).join(text(item) for item in items)


def _split(value: Any, separator: Any) -> list[str]:
    whole, mark = _string("split", value), _string("split", separator)
    return whole.split(mark) if mark else list(whole)


def _title(value: Any) -> str:
    previous = " "
    out = []
    for char in _string("title", value):
        out.append(char if previous.isalnum() or previous in "_'" else char.upper())
        previous = char
    return "".join(out)


def _truncate(value: Any, length: Any) -> str:
    return _string("truncate", value)[: max(0, _whole("truncate", length))]


def _pad(value: Any, before: Any, after: Any) -> str:
    whole = _string("pad", value)
    sides = [_whole("pad", side) for side in (before, after)]
    if not whole:
        return ""
    if max(sides) > _WIDEST:
        fail("pad is too wide")
    return " " * sides[0] + whole + " " * sides[1]


def _json(value: Any) -> str:
    from pyctl.cli.report import to_json

    return to_json(value, indent=0)


# --- printf ------------------------------------------------------------------------------------


def _printf(layout: Any, *arguments: Any) -> str:
    source = _string("printf", layout)
    out: list[str] = []
    used = 0
    position = 0
    while True:
        percent = source.find("%", position)
        if percent < 0:
            out.append(source[position:])
            break
        out.append(source[position:percent])
        position = percent + 1
        flags = ""
        while source[position : position + 1] in tuple("+-# 0"):
            flags += source[position]
            position += 1
        width, position, used = _measure(source, position, arguments, used)
        precision = -1
        if source[position : position + 1] == ".":
            precision, position, used = _measure(source, position + 1, arguments, used)
            precision = max(precision, 0)
        verb = source[position : position + 1]
        position += 1
        if not verb:
            out.append("%!(NOVERB)")
            break
        if verb == "%":
            out.append("%")
        elif used >= len(arguments):
            out.append(f"%!{verb}(MISSING)")
        else:
            out.append(_filled(_verb(verb, arguments[used], flags, precision), flags, width))
            used += 1
    if used < len(arguments):
        extra = ", ".join(f"{kind_of(a)}={text(a)}" for a in arguments[used:])
        out.append(f"%!(EXTRA {extra})")
    return "".join(out)


def _measure(source: str, position: int, arguments: tuple[Any, ...], used: int) -> tuple[int, int, int]:
    """A width or precision: digits, or * for the next argument.  -1 where there is none."""
    if source[position : position + 1] == "*":
        value = arguments[used] if used < len(arguments) else 0
        number = _whole("printf", value)
        position, used = position + 1, used + 1
    else:
        end = position
        while source[end : end + 1] in tuple("0123456789"):
            end += 1
        number = int(source[position:end][:8]) if end > position else -1
        position = end
    if abs(number) > _WIDEST:
        fail("a width of printf is too large")
    return number, position, used


def _filled(shown: str, flags: str, width: int) -> str:
    if "-" in flags:
        return shown.ljust(width)
    if "0" in flags and shown[:1] in tuple("+-0123456789"):
        sign = shown[0] if shown[0] in "+-" else ""
        return sign + shown[len(sign) :].rjust(width - len(sign), "0")
    return shown.rjust(width)


def _verb(verb: str, value: Any, flags: str, precision: int) -> str:
    made = _verb_of(verb, value, flags, precision)
    return f"%!{verb}({kind_of(value)}={text(value)})" if made is None else made


def _verb_of(verb: str, value: Any, flags: str, precision: int) -> str | None:
    if verb == "v":
        return quote(value) if "#" in flags and isinstance(value, str) else text(value)
    if verb == "T":
        return kind_of(value)
    if isinstance(value, bool):
        return text(value) if verb == "t" else None
    if isinstance(value, int):
        return _integer(verb, value, flags)
    if isinstance(value, float):
        plus = "+" if "+" in flags else ""
        digits = "" if precision < 0 else f".{precision}"
        if verb == "g" and precision < 0:
            return float_text(value)
        return format(value, f"{plus}{digits}{verb}") if verb in tuple("eEfFgG") else None
    if isinstance(value, str):
        return _words(verb, value, flags, precision)
    if isinstance(value, (list, tuple)) and verb in tuple("sqdx"):
        return "[" + " ".join(_verb(verb, item, flags, precision) for item in value) + "]"
    return text(value) if verb == "s" and isinstance(value, dict) else None


def _integer(verb: str, value: int, flags: str) -> str | None:
    plus = "+" if "+" in flags else ""
    if verb in tuple("dboxX"):
        sharp = "#" if "#" in flags and verb in tuple("xX") else ""
        return format(value, f"{plus}{sharp}{verb}")
    if verb in tuple("cqU"):
        if not 0 <= value < 0x110000 or 0xD800 <= value < 0xE000:
            return "\ufffd"
        return {"c": chr(value), "q": f"'{chr(value)}'", "U": f"U+{value:04X}"}[verb]
    return None


def _words(verb: str, value: str, flags: str, precision: int) -> str | None:
    cut = value if precision < 0 else value[:precision]
    if verb == "s":
        return cut
    if verb == "q":
        return quote(cut)
    if verb in ("x", "X"):
        digits = cut.encode("utf-8", "surrogatepass").hex(*(" " if " " in flags else ()))
        return digits.upper() if verb == "X" else digits
    return None


def quote(value: str) -> str:
    """Go's strconv.Quote, for what people put into names."""
    names = {
        '"': '\\"',
        "\\": "\\\\",
        "\n": "\\n",
        "\t": "\\t",
        "\r": "\\r",
        "\a": "\\a",
        "\b": "\\b",
        "\f": "\\f",
        "\v": "\\v",
    }

    def one(char: str) -> str:
        if char in names:
            return names[char]
        if char.isprintable():
            return char
        code = ord(char)
        return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

    return '"' + "".join(one(char) for char in value) + '"'


def _println(*values: Any) -> str:
    return " ".join(text(value) for value in values) + "\n"


def _print(*values: Any) -> str:
    """Go's Sprint: a space only between two operands of which neither is a string."""
    out = ""
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            out += " "
        out += text(value)
    return out


# name: (function, least arguments, most, -1 for any number)
FUNCTIONS: dict[str, tuple[Callable[..., Any], int, int]] = {
    "not": (lambda value: not truth(value), 1, 1),
    "eq": (_eq, 2, -1),
    "ne": (lambda a, b: not _equal(a, b), 2, 2),
    "lt": (_less, 2, 2),
    "le": (lambda a, b: _less(a, b) or _equal(a, b), 2, 2),
    "gt": (lambda a, b: not (_less(a, b) or _equal(a, b)), 2, 2),
    "ge": (lambda a, b: not _less(a, b), 2, 2),
    "len": (_len, 1, 1),
    "index": (_index, 1, -1),
    "slice": (_slice, 1, 3),
    "print": (_print, 0, -1),
    "printf": (_printf, 1, -1),
    "println": (_println, 0, -1),
    "join": (_join, 1, 2),
    "split": (_split, 2, 2),
    "json": (_json, 1, 1),
    "upper": (lambda value: _string("upper", value).upper(), 1, 1),
    "lower": (lambda value: _string("lower", value).lower(), 1, 1),
    "title": (_title, 1, 1),
    "truncate": (_truncate, 2, 2),
    "pad": (_pad, 3, 3),
}
