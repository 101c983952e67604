"""Running a container's health checks on the supervisor's loop: no timer unit, no daemon, on any machine.

Weight: light; imported only for a container that has a check.
"""

from __future__ import annotations

import os
import time

from rootless.errors import Error
from rootless.health import HEALTHY, Health, write_record
from rootless.loop import Timer
from rootless.processes import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.container import Container
    from rootless.plan import HealthPlan, HealthReport
    from rootless.sessions import ExecSession


_PAUSED_LOOK_NS = 1_000_000_000


class HealthChecks:
    """Connects `rootless.health.Health` with exec sessions, timers and the container's end."""

    def __init__(self, container: Container, plan: HealthPlan) -> None:
        self._container = container
        self._health = Health(plan)
        self._timer: Timer | None = None
        self._session: ExecSession | None = None
        self._output = bytearray()
        self._timed_out = False
        self._askers: list[Callable[[HealthReport], None]] = []
        self._stopped = False
        self._save()
        self._schedule()

    def report(self) -> HealthReport:
        """The state, as told to clients."""
        return self._health.report()

    def run_now(self, answer: Callable[[HealthReport], None]) -> None:
        """Run a check now, or wait for the running one; `answer` hears of the result."""
        if self._is_frozen():
            raise Error("the container is paused")
        self._askers.append(answer)
        if not self._health.running:
            self._begin()

    def stop(self) -> None:
        """The container has ended."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        self._health.cancel()
        self._answer()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due_ns = self._health.next_due_ns()
        if due_ns is None or self._stopped:
            return
        self._timer = self._container.loop.after(max(0, due_ns - time.monotonic_ns()), self._due)

    def _is_frozen(self) -> bool:
        return self._container.cgroup is not None and self._container.cgroup.frozen

    def _due(self) -> None:
        if self._is_frozen():  # nothing can run in there, which is no fault of the container's
            self._timer = self._container.loop.after(_PAUSED_LOOK_NS, self._due)
            return
        if self._health.running:
            self._end_check()
        else:
            self._begin()

    def _begin(self) -> None:
        check = self._health.begin()
        if check is None:
            return
        self._output.clear()
        self._timed_out = False
        try:
            self._session = self._container.sessions.start_captured(check.args, self._collect, self._finished)
        except Error as error:
            self._collect(error.message.encode())
            self._finished(1)
            return
        except OSError as error:
            self._collect(str(error).encode())
            self._finished(1)
            return
        self._schedule()

    def _collect(self, data: bytes) -> None:
        room = self._health.output_limit - len(self._output)
        if room > 0:
            self._output += data[:room]

    def _end_check(self) -> None:
        """Too slow: killed; its end comes as any other does."""
        self._timed_out = True
        if self._session is not None:
            self._session.kill(SIGKILL)

    def _finished(self, code: int) -> None:
        self._session = None
        if self._stopped:
            return
        output = bytes(self._output)
        verdict = self._health.timed_out(output) if self._timed_out else self._health.finished(code, output)
        self._save()
        self._container.tell("health_status", health=verdict.status, streak=self._health.failing_streak)
        self._answer()
        if verdict.status == HEALTHY and self._container.notifier is not None:
            self._container.notifier.became_healthy()
        if verdict.action != "none":
            self._container.fail_health(verdict.action)
        self._schedule()

    def _answer(self) -> None:
        report = self._health.report()
        askers, self._askers = self._askers, []
        for answer in askers:
            answer(report)

    def _save(self) -> None:
        try:
            write_record(self._container.plan.storage_dir, self._health.report())
        except OSError as error:
            # `inspect` of a running container asks the supervisor; only the record of an ended one is poorer.
            os.write(2, f"health record: {error.strerror}\n".encode())
