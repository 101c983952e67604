"""`stats`: what containers use, once or again and again.  Weight: `pyctl.engine.usage`."""

from __future__ import annotations

import os
import sys
import time

from pyctl.cli import output, select
from pyctl.engine import state, usage
from pyctl.engine.engine import Engine
from rootless.errors import NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyctl.cli.parser import Parsed
    from pyctl.engine.state import ContainerRecord
    from pyctl.engine.usage import Reading

_UNKNOWN = "--"
_HEADINGS = {
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemUsageBytes": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET IO",
    "BlockIO": "BLOCK IO",
    "PIDS": "PIDS",
    "Up": "CPU TIME",
    "AVGCPU": "AVG CPU %",
}
_COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDS", "CPUTime", "AVGCPU")
_TITLES = (
    *("ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET IO", "BLOCK IO", "PIDS", "CPU TIME", "AVG CPU %"),
)
_JSON = ("id", "name", "cpu_percent", "mem_usage", "mem_percent", "net_io", "block_io", "pids", "cpu_time", "avg_cpu")
_JSON_ORDER = (
    "id",
    "name",
    "cpu_time",
    "cpu_percent",
    "avg_cpu",
    "mem_usage",
    "mem_percent",
    "net_io",
    "block_io",
    "pids",
)
_FIELDS = (
    *("AVGCPU", "AvgCPU", "BlockIO", "BlockInput", "BlockOutput", "CPU", "CPUNano", "CPUPerc", "CPUSystemNano"),
    *("ContainerID", "Duration", "ID", "MemLimit", "MemPerc", "MemUsage", "MemUsageBytes", "Name", "NetIO", "Network"),
    *("PIDS", "PIDs", "PerCPU", "SystemNano", "Up", "UpTime"),
)


def stats(parsed: Parsed) -> int:
    """Prints a table, a list or lines, every --interval seconds until it is interrupted."""
    options = parsed.options
    if options.interval < 1:
        raise UsageError(f"--interval {options.interval}: must be 1 or more seconds")
    if bool(options.all) + bool(options.latest) + bool(parsed.args) > 1:
        raise UsageError("--all, --latest and containers exclude each other")
    engine = Engine(parsed.globals)
    wanted = _wanted(engine, parsed)
    before: dict[str, Reading] = {}
    warned: set[str] = set()
    while True:
        records = _records(engine, wanted, bool(options.all))
        readings = {record.id: usage.read(engine, record) for record in records}
        for record in records:
            reason = readings[record.id].missing
            if reason and reason not in warned:
                warned.add(reason)
                engine.warn(f"processor time, memory and disk traffic of {record.name} are not known: {reason}")
        rows = [_row(r, readings[r.id], before.get(r.id), bool(options.no_trunc)) for r in records]
        if not (options.no_stream or options.no_reset or options.format) and os.isatty(1):
            sys.stdout.write("\x1b[H\x1b[2J")
        _print(options.format, rows)
        sys.stdout.flush()
        if options.no_stream or (wanted and not any(r.alive for r in records)):
            return 0
        before = readings
        time.sleep(options.interval)


def _wanted(engine: Engine, parsed: Parsed) -> list[str]:
    """Ids of the containers that were named."""
    if not parsed.args and not parsed.options.latest:
        return []
    chosen = select.choose(engine, parsed, every=None)
    if chosen.failures:
        raise NotFound("not every container named is there")
    return [record.id for record in chosen.records]


def _records(engine: Engine, wanted: list[str], everything: bool) -> list[ContainerRecord]:
    records = state.every(engine.db)
    if wanted:
        by_id = {record.id: record for record in records}
        return [by_id[i] for i in wanted if i in by_id]
    return records if everything else [r for r in records if r.running or r.paused]


def _row(record: ContainerRecord, now: Reading, before: Reading | None, full: bool) -> dict[str, Any]:
    """Every field that a format may name."""
    recent, average = usage.cpu_percent(now, before), usage.cpu_percent(now, None)
    received, sent = now.network_bytes()
    share = now.memory_bytes * 100 / now.memory_limit_bytes if now.memory_limit_bytes else 0.0
    known_memory = now.memory_bytes >= 0
    limit = now.memory_limit_bytes
    return {
        "ID": record.id if full else record.id[: output.SHORT_ID],
        "ContainerID": record.id,
        "Name": record.name,
        "CPU": _known(recent),
        "CPUPerc": _percent(recent),
        "AvgCPU": _known(average),
        "AVGCPU": _percent(average),
        "CPUNano": _known(now.cpu_ns),
        "CPUSystemNano": _known(now.system_ns),
        "CPUTime": _UNKNOWN if now.cpu_ns < 0 else output.go_duration(now.cpu_ns),
        "Up": _UNKNOWN if now.cpu_ns < 0 else output.go_duration(now.cpu_ns),
        "UpTime": _UNKNOWN if now.cpu_ns < 0 else output.go_duration(now.cpu_ns),
        "Duration": _known(now.cpu_ns),
        "SystemNano": now.at_ns,
        "PerCPU": None,
        "MemUsage": f"{_size(now.memory_bytes)} / {_size(limit)}",
        "MemUsageBytes": f"{_binary(now.memory_bytes)} / {_binary(limit)}",
        "MemPerc": _percent(share if known_memory else None),
        "_memory": _known(now.memory_bytes),
        "_share": share if known_memory else _UNKNOWN,
        "MemLimit": limit,
        "NetIO": _pair(received, sent),
        "Network": now.interfaces,
        "BlockIO": _pair(now.block_read_bytes, now.block_written_bytes),
        "BlockInput": _known(now.block_read_bytes),
        "BlockOutput": _known(now.block_written_bytes),
        "PIDS": str(now.pids),
        "PIDs": now.pids,
    }


def _known(value: float | None) -> Any:
    return _UNKNOWN if value is None or value < 0 else value


def _percent(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.2f}%"


def _pair(first: int, second: int) -> str:
    if first < 0 or second < 0:
        return f"{_UNKNOWN} / {_UNKNOWN}"
    return f"{_size(first)} / {_size(second)}"


def _size(size_bytes: int) -> str:
    """ "25.28GB"."""
    return _UNKNOWN if size_bytes < 0 else output.human_size(size_bytes, 4)


def _binary(size_bytes: int) -> str:
    """ "23.54GiB"."""
    if size_bytes < 0:
        return _UNKNOWN
    size, unit = float(size_bytes), 0
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
    while size >= 1024 and unit < len(units) - 1:
        size /= 1024
        unit += 1
    return f"{size:.4g}{units[unit]}"


def _print(text: str, rows: list[dict[str, Any]]) -> None:
    if not text:
        output.print_table(_TITLES, [[row[name] for name in _COLUMNS] for row in rows])
        return
    from pyctl.cli import report

    if report.is_json(text):
        shown = []
        for row in rows:
            cells = dict(zip(_JSON, (row[name] for name in _COLUMNS), strict=True))
            shown.append({name: cells[name] for name in _JSON_ORDER})
        report.print_json(shown, indent=1)
        return
    made = []
    for row in rows:
        line = report.Row({name: row[name] for name in _FIELDS})
        line.json_form = _raw(row)
        made.append(line)
    report.print_rows(made, text, _HEADINGS, fields=_FIELDS)


def _raw(row: dict[str, Any]) -> dict[str, Any]:
    """The JSON of {{json .}}: numbers, by Podman's names; null for one that is not known."""
    names = ("AvgCPU", "ContainerID", "Name", "PerCPU", "CPU", "CPUNano", "CPUSystemNano", "SystemNano")
    reading = {name: row[name] for name in names}
    reading["MemUsage"] = row["_memory"]
    reading["MemLimit"] = row["MemLimit"]
    reading["MemPerc"] = row["_share"]
    for name in ("Network", "BlockInput", "BlockOutput", "PIDs"):
        reading[name] = row[name]
    reading["UpTime"] = row["Duration"]
    reading["Duration"] = row["Duration"]
    return {name: None if value == _UNKNOWN else value for name, value in reading.items()}
