"""`healthcheck run`.  Weight: the engine's light modules."""

from __future__ import annotations

import sys

from pyctl.engine import state
from pyctl.engine.engine import Engine
from pyctl.engine.execute import ask
from pyctl.engine.state import Status
from rootless.errors import Error
from rootless.plan import HealthReport, HealthRun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Parsed


def run(parsed: Parsed) -> int:
    """Run a container's check now: 0 where it passed, else 1 and a word on stdout."""
    engine = Engine(parsed.globals)
    record = state.get(engine.db, parsed.args[0])
    health = record.specification.health
    if record.status != Status.RUNNING:
        raise Error(f"container {record.name} is not running", hint=f"pyctl start {record.name}")
    if health is None or health.test[:1] == ("NONE",):
        raise Error(
            f"container {record.name} has no health check", hint=f"pyctl update --health-cmd COMMAND {record.name}"
        )
    report = ask(record.runtime_dir, record.name, HealthRun())
    if not isinstance(report, HealthReport) or not report.log:
        raise Error(f"container {record.name} has just ended")
    if report.log[-1].exit_code == 0:
        return 0
    sys.stdout.write("unhealthy\n")
    return 1
