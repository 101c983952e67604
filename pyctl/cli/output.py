"""What a command prints: tables, sizes, times, colours.  Weight: `os`, `time`."""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rootless.errors import Error

_LEAST_WIDTH = 12  # a column's, and the space between two: Podman's
_GAP = 2
_SIZES = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
SHORT_ID = 12


def table(rows: Sequence[Sequence[str]]) -> str:
    """The rows in columns; the last cell of a row is not filled up."""
    if not rows:
        return ""
    shown = [row if "".join(row).isprintable() else [clean(cell) for cell in row] for row in rows]
    widths = [_LEAST_WIDTH] * max(len(row) for row in shown)
    for row in shown:
        for index, cell in enumerate(row[:-1]):
            widths[index] = max(widths[index], len(cell) + _GAP)
    lines = ("".join([c.ljust(w) for c, w in zip(row[:-1], widths, strict=False)]) + "".join(row[-1:]) for row in shown)
    return "\n".join(lines) + "\n"


def clean(text: str) -> str:
    """Without control characters: names and labels of an image must not move the cursor, or a table's columns."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c in "\n\t\r" else f"\\x{ord(c):02x}" for c in text)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], show_headings: bool = True) -> None:
    """Writes a table to stdout."""
    sys.stdout.write(table([*([headings] if show_headings else []), *rows]))


def error_line(error: Error) -> None:
    """Tells one error of several on stderr, as the boundary would; the command goes on."""
    from pyctl.__main__ import report

    report(error)


def coloured(stream_fd: int = 1) -> bool:
    """Whether colours are wanted on this descriptor: a terminal that is not dumb, and no NO_COLOR."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb" and os.isatty(stream_fd)


# --- sizes and times ---------------------------------------------------------------------------


def human_size(size_bytes: float, digits: int = 3) -> str:
    """ "2.18MB": powers of 1000, so many significant digits."""
    size, unit = float(size_bytes), 0
    while size >= 1000 and unit < len(_SIZES) - 1:
        size /= 1000
        unit += 1
    shown = f"{size:.{digits}g}"
    return f"{shown if 'e' not in shown else f'{size:.0f}'}{_SIZES[unit]}"


def spaced_size(size_bytes: float) -> str:
    """ "2.18 MB", as the list of images has it."""
    shown = human_size(size_bytes)
    letters = len(shown) - len(shown.rstrip("kMGTPEB"))
    return f"{shown[:-letters]} {shown[-letters:]}"


def human_duration(seconds: float) -> str:
    """ "3 minutes", "About an hour", "2 weeks": one unit, the way docker rounds."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return f"{whole} second{'s' * (whole > 1)}"
    minutes = whole // 60
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    for most, divisor, unit in (
        (48, 1, "hours"),
        (14 * 24, 24, "days"),
        (60 * 24, 168, "weeks"),
        (730 * 24, 720, "months"),
    ):
        if hours < most:
            return f"{hours // divisor} {unit}"
    return f"{hours // 24 // 365} years"


def ago(then_ns: int, now_ns: int | None = None) -> str:
    """ "3 minutes ago"."""
    now = time.time_ns() if now_ns is None else now_ns
    return human_duration((now - then_ns) / 1e9) + " ago"


def _fraction(nanoseconds: int) -> str:
    return f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""


def local_time(then_ns: int) -> str:
    """ "2026-11-23 18:25:50.280426761 +0000 UTC", in the caller's time zone."""
    seconds, rest = divmod(then_ns, 1_000_000_000)
    at = time.localtime(seconds)
    return time.strftime("%Y-%m-%d %H:%M:%S", at) + _fraction(rest) + time.strftime(" %z %Z", at)


def go_duration(nanoseconds: int) -> str:
    """ "1h2m3.5s", "820ms", "0s": the way Go writes a time.Duration."""
    if not nanoseconds:
        return "0s"
    sign, left = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if left < size * 1000:
            whole, rest = divmod(left, size)
            fraction = f".{rest:0{len(str(size)) - 1}d}".rstrip("0") if rest else ""
            return f"{sign}{whole}{fraction}{unit}"
    seconds, rest = divmod(left, 1_000_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    shown = f"{seconds}{_fraction(rest)}s"
    if minutes or hours:
        shown = f"{minutes}m{shown}"
    return sign + (f"{hours}h{shown}" if hours else shown)
