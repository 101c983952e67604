"""Words of options to values: key=value pairs, numbers, signals, paths, names.

Weight: `_signal` (C), `rootless.errors`.  Sizes and durations arrive as numbers from the command line's parser.
"""

from __future__ import annotations

from pyctl.engine.request_facts import refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal  # signal itself imports enum: 5 ms

_NAME_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_NAME_REST = _NAME_FIRST | frozenset("_.-")
NAME_RULE = "a name is letters, digits, _ . and -, and begins with a letter or a digit"


def is_name(text: str) -> bool:
    """[a-zA-Z0-9][a-zA-Z0-9_.-]*, at most 255 bytes: the grammar of containers' and volumes' names."""
    return bool(text) and len(text) <= 255 and text[0] in _NAME_FIRST and not set(text) - _NAME_REST


def is_number(text: str) -> bool:
    """Decimal digits only."""
    return text.isascii() and text.isdecimal()


def whole(option: str, value: object, text: str, low: int, high: int, *, what: str = "a number") -> int:
    """`text` as an int from `low` to `high`; `value` is the whole option, for the message."""
    if not is_number(text) or not low <= int(text) <= high:
        raise refused(option, value, f"{what} must be from {low} to {high}")
    return int(text)


def utf8(option: str, text: str) -> str:
    """`text`, refused where it holds bytes that are not UTF-8: JSON, and so an OCI runtime, cannot carry them."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise refused(option, text, "is not valid UTF-8") from None
    return text


def pair(option: str, word: str, need_value: bool = True) -> tuple[str, str]:
    """KEY=VALUE; without `need_value` KEY alone has the value ""."""
    key, equals, value = word.partition("=")
    if not key.strip() or (need_value and not equals):
        raise refused(option, word, "must be KEY=VALUE" if need_value else "must be KEY or KEY=VALUE")
    return utf8(option, key), utf8(option, value)


def absolute(path: str, cwd: str) -> str:
    """`path` on the host, seen from `cwd`, with `.` and `..` taken out as text."""
    return normal(path if path.startswith("/") else f"{cwd}/{path}")


def normal(path: str) -> str:
    """An absolute path without `.`, `..` and doubled slashes."""
    if "/." not in path and "//" not in path:
        return path.rstrip("/") or "/"
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def container_path(option: str, word: str, path: str) -> str:
    """A normalized absolute path in the container, which is not the root."""
    if not path.startswith("/"):
        raise refused(option, word, f"the path in the container, {path!r}, must be absolute")
    made = normal(utf8(option, path))
    if made == "/":
        raise refused(option, word, "nothing can be mounted over the container's root")
    return made


def signal_number(option: str, text: str) -> int:
    """`TERM`, `sigterm`, `15`, `RTMIN+3` → 1 to 64."""
    if is_number(text):
        if 1 <= int(text) <= 64:
            return int(text)
        raise refused(option, text, "a signal is from 1 to 64, or a name as TERM")
    name = text.upper().removeprefix("SIG")
    for base, low in (("RTMIN", _signal.SIGRTMIN), ("RTMAX", _signal.SIGRTMAX)):
        rest = name.removeprefix(base)
        if rest != name:
            step = rest[1:] if rest else "0"
            number = low + (int(step) if rest[:1] in ("", "+") else -int(step)) if is_number(step) else 0
            if rest[:1] in ("", "+", "-") and _signal.SIGRTMIN <= number <= _signal.SIGRTMAX:
                return number
            raise refused(option, text, "real-time signals go from RTMIN to RTMAX (RTMIN+30)")
    known = getattr(_signal, "SIG" + name, None) if name.isalnum() else None
    if not isinstance(known, int) or not 1 <= known <= 64:
        raise refused(option, text, "no such signal", "kill -l lists the names")
    return int(known)


def signal_name(number: int) -> str:
    """15 → "SIGTERM", 37 → "SIGRTMIN+3"; the number as text where it has no name."""
    if _signal.SIGRTMIN <= number <= _signal.SIGRTMAX:
        return "SIGRTMIN" + (f"+{number - _signal.SIGRTMIN}" if number > _signal.SIGRTMIN else "")
    for name in ("SIGTERM", "SIGKILL", "SIGINT", "SIGQUIT", "SIGHUP", "SIGWINCH", *dir(_signal)):
        if name.startswith("SIG") and "_" not in name and getattr(_signal, name) == number:
            return name
    return str(number)
