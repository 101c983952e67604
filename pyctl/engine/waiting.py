"""`wait`: until a container is in one of some states.  Weight: `pyctl.engine.lifecycle`.

The end of a container is heard from its supervisor; states that nobody announces (created, running, removed,
healthy) are looked for at an interval, as the user was told.
"""

from __future__ import annotations

import time

from pyctl.engine import lifecycle, state
from pyctl.engine.state import Status
from rootless.errors import NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from storage.database import Database

CONDITIONS = (
    "configured", "created", "exited", "healthy", "initialized", "paused", "removing", "running", "stopped",
    "stopping", "unhealthy", "removed",
)  # fmt: skip
_ENDED = frozenset(("stopped", "exited"))


def conditions(words: tuple[str, ...]) -> frozenset[str]:
    """The states to wait for; the end where none is given.  Raises UsageError."""
    for word in words:
        if word not in CONDITIONS:
            raise UsageError(f"--condition {word!r}: not a state", hint=f"one of {', '.join(CONDITIONS)}")
    return frozenset(words) or _ENDED


def interval_ns(text: str) -> int:
    """`250ms`, `1.5s`, `2m`, or milliseconds.  Raises UsageError."""
    units = (
        ("ms", 1_000_000),
        ("us", 1000),
        ("ns", 1),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    )
    number, factor = text, 1_000_000
    for unit, size in units:
        if text.endswith(unit):
            number, factor = text[: -len(unit)], size
            break
    try:
        value = int(float(number) * factor)
    except (ValueError, OverflowError):
        value = 0
    if value <= 0:
        raise UsageError(f"--interval {text!r}: not a time", hint="for example 250ms or 2s")
    return value


def wait(db: Database, record: state.ContainerRecord, wanted: frozenset[str], every_ns: int) -> int:
    """Until the container is in one of the states; its exit status where it has ended, else -1."""
    while True:
        if _matches(record, wanted):
            return record.exit_code if record.status == Status.EXITED else -1
        if wanted <= _ENDED:
            if not record.alive:  # made but never started: its end is still to come
                time.sleep(every_ns / 1e9)
            else:
                return lifecycle.request_wait(record).wait(db).exit_code
        else:
            time.sleep(every_ns / 1e9)
        try:
            record = state.get(db, record.id)
        except NotFound:
            return record.exit_code if wanted & (_ENDED | {"removed"}) else -1


def _matches(record: state.ContainerRecord, wanted: frozenset[str]) -> bool:
    status = {"created": {"created", "configured"}, "exited": {"exited", "stopped"}}.get(record.status, {record.status})
    if status & wanted:
        return True
    if wanted & {"healthy", "unhealthy"} and (live := lifecycle.live_status(record)) is not None:
        return live.health is not None and live.health.status in wanted
    return False
