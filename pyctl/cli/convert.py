"""The text of one option value to a number: Go's integers and durations, docker's sizes.  Weight: nothing.

Every function raises ValueError with the reason when the text is not one.
"""

from __future__ import annotations

_INT64 = 1 << 63
_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def parse_int(text: str) -> int:
    """Go's strconv.ParseInt(text, 0, 64): decimal, 0x, 0o, 0b, and a leading 0 for octal."""
    body = text.removeprefix("-") if text[:1] == "-" else text.removeprefix("+")
    if not body.isascii() or not body.isalnum():
        raise ValueError("not a whole number")
    try:
        number = int(body, 8) if body[0] == "0" and _digits(body) else int(body, 0)
    except ValueError:
        raise ValueError("not a whole number") from None
    number = -number if text[0] == "-" else number
    if not -_INT64 <= number < _INT64:
        raise ValueError("out of range")
    return number


def parse_uint(text: str) -> int:
    """A whole number that is not negative."""
    number = parse_int(text)
    if text[0] in "+-":
        raise ValueError("not a whole number from 0 on")
    return number


def parse_float(text: str) -> float:
    """A finite decimal number."""
    try:
        number = float(text) if text.isascii() and text == text.strip() and "_" not in text else float("nan")
    except ValueError:
        raise ValueError("not a number") from None
    if not abs(number) < float("inf"):  # an infinity, or not a number
        raise ValueError("not a number")
    return number


def _scaled(text: str, factor: int) -> int:
    """`text`, digits with at most one point, times `factor`, in whole numbers (rounded down)."""
    whole, point, fraction = text.partition(".")
    if not (_digits(whole) or (point and not whole)) or not (_digits(fraction) or not fraction) or not whole + fraction:
        raise ValueError
    return int(whole or "0") * factor + (int(fraction) * factor // 10 ** len(fraction) if fraction else 0)


def parse_duration_ns(text: str) -> int:
    """Go's time.ParseDuration: "1h30m", "1.5s", "-250ms", "0".  In nanoseconds."""
    reason = "not a duration as 30s or 1h30m"
    body = text[1:] if text[:1] in ("+", "-") else text
    if body == "0":
        return 0
    total = 0
    if not body:
        raise ValueError(reason)
    while body:
        end = next((i for i, c in enumerate(body) if not (c.isdigit() or c == ".")), len(body))
        unit_end = next((i for i, c in enumerate(body[end:], end) if c.isdigit() or c == "."), len(body))
        factor = _UNITS_NS.get(body[end:unit_end])
        if factor is None:
            raise ValueError("no unit, as in 30s or 1h30m" if end == len(body) else reason)
        try:
            total += _scaled(body[:end], factor)
        except ValueError:
            raise ValueError(reason) from None
        body = body[unit_end:]
    if total >= _INT64:
        raise ValueError("out of range")
    return -total if text[0] == "-" else total


def _parse_size(text: str, base: int) -> int:
    body = text.lower()
    if body.endswith("b"):
        body = body[:-1]
        body = body.removesuffix("i") if body[-2:-1] in _POWERS else body
    power = _POWERS.get(body[-1:], 0)
    number = body[:-1] if power else body
    try:
        size = _scaled(number.removesuffix(" "), base**power)
    except ValueError:
        raise ValueError("not a size as 512m or 1.5g") from None
    if size >= _INT64:
        raise ValueError("out of range")
    return size


def parse_bytes(text: str) -> int:
    """docker's RAMInBytes: "64m", "1.5 GiB", "512" -> bytes; every unit is a power of 1024."""
    return _parse_size(text, 1024)


def parse_bytes_decimal(text: str) -> int:
    """docker's FromHumanSize: as parse_bytes, with powers of 1000."""
    return _parse_size(text, 1000)
