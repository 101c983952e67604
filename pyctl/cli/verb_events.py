"""`events`.  Weight: `pyctl.cli.report` where a format is given."""

from __future__ import annotations

import sys
import time

from pyctl.engine import events
from pyctl.engine.engine import Engine
from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyctl.cli.parser import Parsed

_NS = 1_000_000_000
_EVER = 1 << 63
_FIELDS = (
    *("Attributes", "ContainerExitCode", "Error", "HealthStatus", "ID", "Image", "Name", "Network", "PodID", "Status"),
    *("Time", "TimeNano", "Type"),
)


def show(parsed: Parsed) -> int:
    """Print what happened, and what happens."""
    options = parsed.options
    matches = events.matcher(options.filter)
    follow = bool(options.stream)
    since = _moment("--since", options.since) if options.since else 0
    until = _moment("--until", options.until) if options.until else _EVER
    if follow and not options.since and not options.until:
        since = time.time_ns()  # what is new
    engine = Engine(parsed.globals)
    show_one = _printer(options.format, bool(options.no_trunc))
    for entry in events.read(engine.paths.events_log, since, until, follow):
        if matches(entry):
            show_one(entry)
            if follow:
                sys.stdout.flush()
    return 0


def _moment(option: str, text: str) -> int:
    from pyctl.engine.filters import moment_ns

    try:
        return moment_ns(text)
    except ValueError as error:
        raise UsageError(f"{option} {text}: not a time", hint="as 10m, 2024-05-01T12:00:00 or Unix seconds") from error


def _printer(text: str, whole: bool) -> Any:
    """A function that prints one event."""
    if not text:
        return lambda entry: sys.stdout.write(f"{_line(entry, whole)}\n")
    from pyctl.cli import report

    template = "{{json .}}" if text == "json" else text
    report.print_rows([], template, {}, fields=_FIELDS)  # a bad template fails now
    return lambda entry: report.print_rows([_row(entry)], template, {}, fields=_FIELDS)


def _line(entry: dict[str, Any], whole: bool) -> str:
    seconds, fraction = divmod(entry["t"], _NS)
    when = time.localtime(seconds)
    digits = f".{fraction:09d}".rstrip("0").rstrip(".")
    head = f"{time.strftime('%Y-%m-%d %H:%M:%S', when)}{digits} {time.strftime('%z %Z', when)}"
    shown_id = entry.get("id", "") if whole else entry.get("id", "")[:12]
    name = entry.get("name", "")
    if entry["k"] == "volume":
        return f"{head} volume {entry['s']} {name}"
    if entry["k"] == "image":
        return f"{head} image {entry['s']} {shown_id} {name}" + (f" {entry['error']}" if "error" in entry else "")
    if entry["k"] == "network":
        rest = f"name={entry.get('network', '')}, type={entry['driver']}" if "driver" in entry else ""
        rest = rest or f"container={entry.get('id', '')}, name={entry.get('network', '')}"
        return f"{head} network {entry['s']} {shown_id} ({rest})"
    facts = [f"image={entry.get('image', '')}", f"name={name}"]
    if "health" in entry:
        facts += [f"health_status={entry['health']}", f"health_failing_streak={entry.get('streak', 0)}", "health_log="]
    facts += [f"{key}={value}" for key, value in entry.get("labels", {}).items()]
    return f"{head} {entry['k']} {entry['s']} {shown_id} ({', '.join(facts)})"


def _row(entry: dict[str, Any]) -> Any:
    from pyctl.cli import report

    labels = entry.get("labels", {}) if entry["k"] == "container" else None
    if "driver" in entry:
        labels = {"driver": entry["driver"]}
    row = report.Row(
        Attributes=labels or {},
        ContainerExitCode=entry.get("code"),
        Error=entry.get("error", ""),
        HealthStatus=entry.get("health", ""),
        ID=entry.get("id", ""),
        Image=entry.get("image", ""),
        Name=entry.get("name", ""),
        Network=entry.get("network", ""),
        PodID="",
        Status=entry["s"],
        Time=entry["t"] // _NS,
        TimeNano=entry["t"],
        Type=entry["k"],
    )
    shown = {
        "ContainerExitCode": entry.get("code"),
        **{key: row[key] or None for key in ("ID", "Image", "Name")},
        "network": row["Network"] or None,
        "Status": row["Status"],
        "time": row["Time"],
        "timeNano": row["TimeNano"],
        "Type": row["Type"],
        "health_status": row["HealthStatus"] or None,
        "error": row["Error"] or None,
    }
    row.json_form = {**{key: value for key, value in shown.items() if value is not None}, "Attributes": labels}
    return row
