"""Health of a container: when to check, what a result means, what is to be done.  No process, no timer, no file but
the record: the supervisor runs the commands and asks `next_due_ns`.

Weight: `os`, `time`, `rootless.plan`, `rootless.values`.

    starting --success--> healthy --`retries` failures in a row--> unhealthy --success--> healthy

A start-up check, where there is one, runs instead of the regular one until it has succeeded `startup_success` times;
`startup_retries` failures of it restart the container.  Failures within the start period are logged, not counted.
"""

from __future__ import annotations

import os
import time

from rootless.plan import HealthLog, HealthReport
from rootless.values import Value, decode, dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.plan import HealthPlan

STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"
TIMED_OUT = -1  # exit code in the log, as Podman and Docker have it
# What a caller should keep of a check's output where the plan sets no bound.
_OUTPUT_MAX = 64 * 1024


class Check(Value):
    """One run of a check: the command, and how long it may take."""

    args: tuple[str, ...]
    timeout_ns: int
    startup: bool = False


class Verdict(Value):
    """What came of a check.  action: "none" | "kill" | "restart" | "stop", to be done to the container now."""

    status: str
    failed: bool
    action: str = "none"
    changed: bool = False  # the status is another one than before


class Health:
    """The state of one container's checks.  Intervals count on `monotonic`, the log's times on `wall` (nanoseconds)."""

    def __init__(
        self,
        plan: HealthPlan,
        monotonic: Callable[[], int] = time.monotonic_ns,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        self._plan = plan
        self._monotonic = monotonic
        self._wall = wall
        self.restarted()

    def restarted(self) -> None:
        """The container has just started, for the first time or again: nothing is known of it."""
        self.status = STARTING
        self.failing_streak = 0
        self._log: list[HealthLog] = []
        self._started_ns = self._monotonic()
        self._startup = bool(self._plan.startup_args)
        self._startup_successes = self._startup_failures = 0
        self._running: Check | None = None
        self._begun_ns = self._begun_wall_ns = 0
        # The first check runs at once: a container that is up quickly is healthy quickly.
        self._due_ns: int | None = self._started_ns if self._interval_ns() else None

    def _in_start_period(self, now_ns: int) -> bool:
        return now_ns < self._started_ns + self._plan.start_period_ns

    def _interval_ns(self) -> int:
        plan = self._plan
        if self._startup:
            return plan.startup_interval_ns
        if (
            plan.interval_ns
            and plan.start_interval_ns
            and self.status != HEALTHY
            and self._in_start_period(self._monotonic())
        ):
            return plan.start_interval_ns
        return plan.interval_ns

    def next_due_ns(self) -> int | None:
        """When, on the monotonic clock, something is to be done: a check to begin, or the running one to be ended.

        None: nothing until somebody asks (an interval of 0).
        """
        if self._running is not None:
            return self._begun_ns + self._running.timeout_ns if self._running.timeout_ns else None
        return self._due_ns

    @property
    def running(self) -> bool:
        """A check has begun and is not finished."""
        return self._running is not None

    @property
    def output_limit(self) -> int:
        """How many bytes of a check's output are worth keeping."""
        return self._plan.max_log_size or _OUTPUT_MAX

    def begin(self) -> Check | None:
        """The check to run now, by the timer or because somebody asks; None while one is running."""
        if self._running is not None:
            return None
        plan = self._plan
        self._begun_ns, self._begun_wall_ns = self._monotonic(), self._wall()
        if self._startup:
            self._running = Check(args=plan.startup_args, timeout_ns=plan.startup_timeout_ns, startup=True)
        else:
            self._running = Check(args=plan.args, timeout_ns=plan.timeout_ns)
        return self._running

    def cancel(self) -> None:
        """The container ended, or the check could not be started for want of a container: no verdict."""
        self._running = None
        self._due_ns = None

    def timed_out(self, output: bytes = b"") -> Verdict:
        """The running check took too long and has been killed."""
        limit_ns = self._running.timeout_ns if self._running is not None else 0
        separator = b"" if not output or output.endswith(b"\n") else b"\n"
        reason = f"health check exceeded its timeout of {limit_ns / 1e9:g}s\n".encode()
        # The reason must survive the bound on the output.
        kept = output[: max(0, self.output_limit - len(reason) - len(separator))]
        return self.finished(TIMED_OUT, kept + separator + reason)

    def finished(self, exit_code: int, output: bytes = b"") -> Verdict:
        """The running check has ended (0: success).  `output`: stdout, then stderr."""
        check, self._running = self._running, None
        before = self.status
        self._record(exit_code, output)
        if check is not None and check.startup:
            action = self._startup_result(exit_code == 0)
        else:
            action = self._regular_result(exit_code == 0)
        interval_ns = self._interval_ns()
        now_ns = self._monotonic()
        if check is not None and check.startup and not self._startup:
            self._due_ns = now_ns if interval_ns else None  # the first regular check follows at once
        else:
            self._due_ns = now_ns + interval_ns if interval_ns else None
        return Verdict(status=self.status, failed=exit_code != 0, action=action, changed=self.status != before)

    def _record(self, exit_code: int, output: bytes) -> None:
        plan = self._plan
        if plan.max_log_size:
            output = output[: plan.max_log_size]
        text = output.decode("utf-8", "replace")
        self._log.append(HealthLog(start_ns=self._begun_wall_ns, end_ns=self._wall(), exit_code=exit_code, output=text))
        if plan.max_log_count:
            del self._log[: -plan.max_log_count]

    def _startup_result(self, success: bool) -> str:
        plan = self._plan
        if success:
            self._startup_successes += 1
            if self._startup_successes >= max(1, plan.startup_success):
                self._startup = False
                self.status = HEALTHY
                self.failing_streak = 0
            return "none"
        self._startup_failures += 1
        if plan.startup_retries and self._startup_failures >= plan.startup_retries:
            return "restart"
        return "none"

    def _regular_result(self, success: bool) -> str:
        plan = self._plan
        if success:
            self.status = HEALTHY
            self.failing_streak = 0
            return "none"
        if not self._in_start_period(self._begun_ns):
            self.failing_streak += 1
            if self.failing_streak >= plan.retries:
                self.status = UNHEALTHY
        return plan.on_failure if self.status == UNHEALTHY else "none"

    def report(self) -> HealthReport:
        """The state as it is told and recorded."""
        return HealthReport(status=self.status, failing_streak=self.failing_streak, log=tuple(self._log))


# --- the record, for `inspect` after the supervisor has gone -------------------------------------

RECORD = "health.json"


def write_record(directory: str, report: HealthReport) -> None:
    """Replace the record in `directory`.  Raises OSError; after a power cut the old one may be there, or none."""
    path = f"{directory}/{RECORD}"
    partial = f"{path}.new"
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        data = memoryview(dumps(report).encode())
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)
    os.rename(partial, path)


def read_record(directory: str) -> HealthReport | None:
    """The last record; None where there is none that can be read."""
    try:
        fd = os.open(f"{directory}/{RECORD}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = b""
        while chunk := os.read(fd, 1 << 16):
            data += chunk
    except OSError:
        return None
    finally:
        os.close(fd)
    try:
        report = decode(data)
    except (ValueError, TypeError):
        return None
    return report if isinstance(report, HealthReport) else None
