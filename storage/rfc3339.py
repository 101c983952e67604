"""Times as JSON has them: RFC 3339 text to nanoseconds since the epoch and back.

Weight: none (`datetime` costs 3 ms and knows microseconds only).
"""

from __future__ import annotations

import time

_NS = 1_000_000_000


def days_from_civil(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 to a date of the Gregorian calendar (any year)."""
    year -= month <= 2
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719468


def parse_ns(text: str) -> int:
    """Nanoseconds since the epoch of "2026-11-23T17:59:41.065285286+01:00"; 0 where `text` is no such time."""
    head, zone = text[:19], text[19:]
    fraction = 0
    if zone.startswith("."):
        digits = len(zone) - len(zone[1:].lstrip("0123456789")) - 1
        fraction = int((zone[1 : 1 + digits] + "000000000")[:9]) if digits else 0
        zone = zone[1 + digits :]
    try:
        year, month, day = int(head[0:4]), int(head[5:7]), int(head[8:10])
        hour, minute, second = int(head[11:13]), int(head[14:16]), int(head[17:19])
        offset = 0
        if zone not in ("Z", "z"):
            offset = (int(zone[1:3]) * 3600 + int(zone[4:6]) * 60) * (-1 if zone[0] == "-" else 1)
    except (ValueError, IndexError):
        return 0
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second <= 60):
        return 0
    return (days_from_civil(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset) * _NS + fraction


def format_ns(when_ns: int) -> str:
    """UTC, with as many digits of the fraction as needed: "2026-11-23T17:59:41.065285286Z"."""
    seconds, fraction = divmod(when_ns, _NS)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return text + (f".{fraction:09d}".rstrip("0") if fraction else "") + "Z"


def format_local_ns(when_ns: int) -> str:
    """Local time with its offset: "2026-11-23T18:59:41.065285286+01:00"."""
    seconds, fraction = divmod(when_ns, _NS)
    local = time.localtime(seconds)
    offset = local.tm_gmtoff
    sign, offset = ("-", -offset) if offset < 0 else ("+", offset)
    zone = f"{sign}{offset // 3600:02d}:{offset // 60 % 60:02d}" if offset else "Z"
    text = time.strftime("%Y-%m-%dT%H:%M:%S", local)
    return text + (f".{fraction:09d}".rstrip("0") if fraction else "") + zone
