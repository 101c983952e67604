"""`update`, `pause`, `unpause`, `rename`.  Weight: `pyctl.engine.adjusting`."""

from __future__ import annotations

import sys

from pyctl.cli import select
from pyctl.engine import adjusting, state
from pyctl.engine.engine import Engine
from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Parsed
    from pyctl.engine.state import ContainerRecord


def pause(parsed: Parsed) -> int:
    """Freeze containers; prints what each was called."""
    return _each(parsed, freeze=True)


def unpause(parsed: Parsed) -> int:
    """Thaw containers."""
    return _each(parsed, freeze=False)


def _each(parsed: Parsed, freeze: bool) -> int:
    from pyctl.cli.verb_lifecycle import for_each

    engine = Engine(parsed.globals)
    chosen = select.choose(engine, parsed, every=lambda r: r.running if freeze else r.paused)

    def act(record: ContainerRecord) -> None:
        adjusting.pause(engine, record, freeze)
        state.tell(engine.db, "pause" if freeze else "unpause", record.specification)
        sys.stdout.write(f"{chosen.named(record)}\n")

    return for_each(chosen.records, act) or chosen.failures


def update(parsed: Parsed) -> int:
    """Change limits; prints the id."""
    engine = Engine(parsed.globals)
    record = state.get(engine.db, parsed.args[0])
    adjusting.update(engine, record, parsed.options)
    state.tell(engine.db, "update", record.specification)
    sys.stdout.write(f"{record.id}\n")
    return 0


def rename(parsed: Parsed) -> int:
    """Gives a container another name."""
    from pyctl.engine.request_text import NAME_RULE, is_name

    name = parsed.args[1]
    if not is_name(name):
        raise UsageError(f"invalid name {name!r}: {NAME_RULE}")
    engine = Engine(parsed.globals)
    record = state.get(engine.db, parsed.args[0])
    if record.name != name:
        state.rename(engine.db, record, name)
        state.tell(engine.db, "rename", record.specification.replace(name=name))
        adjusting.tell_name(record, name)
    return 0
