"""The health state machine against Podman 5.4's observed behaviour, and its invariants for any sequence of events."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.health import HEALTHY, STARTING, UNHEALTHY, Health, read_record, write_record
from rootless.plan import HealthLog, HealthPlan, HealthReport

SECOND = 1_000_000_000
WALL = 1_700_000_000 * SECOND


class Clock:
    def __init__(self) -> None:
        self.now_ns = 5 * SECOND

    def __call__(self) -> int:
        return self.now_ns

    def wall(self) -> int:
        return WALL + self.now_ns


def machine(clock: Clock, **fields: object) -> Health:
    base: dict[str, object] = {"args": ("true",), "interval_ns": 30 * SECOND, "timeout_ns": 10 * SECOND}
    return Health(HealthPlan(**{**base, **fields}), clock, clock.wall)  # type: ignore[arg-type]


def check(health: Health, exit_code: int, output: bytes = b"") -> tuple[str, int, str]:
    assert health.begin() is not None
    verdict = health.finished(exit_code, output)
    assert verdict.status == health.status
    return verdict.status, health.failing_streak, verdict.action


def test_retries_in_a_row_make_it_unhealthy_and_one_success_healthy() -> None:
    health = machine(Clock(), retries=2)
    assert health.report() == HealthReport(status=STARTING)
    assert check(health, 1) == (STARTING, 1, "none")
    assert check(health, 1) == (UNHEALTHY, 2, "none")
    assert check(health, 3) == (UNHEALTHY, 3, "none")
    assert check(health, 0) == (HEALTHY, 0, "none")
    assert check(health, 1) == (HEALTHY, 1, "none")
    assert check(health, 0) == (HEALTHY, 0, "none")
    assert [entry.exit_code for entry in health.report().log] == [1, 3, 0, 1, 0]


def test_restart_of_the_container_forgets() -> None:
    health = machine(Clock(), retries=1)
    check(health, 1)
    health.restarted()
    assert health.report() == HealthReport(status=STARTING)


def test_failures_in_the_start_period_are_logged_but_not_counted() -> None:
    clock = Clock()
    health = machine(clock, retries=1, start_period_ns=60 * SECOND, on_failure="kill")
    assert check(health, 1) == (STARTING, 0, "none")
    assert check(health, 0) == (HEALTHY, 0, "none")
    assert check(health, 1) == (HEALTHY, 0, "none")
    assert len(health.report().log) == 3
    clock.now_ns += 59 * SECOND
    health.begin()
    clock.now_ns += 5 * SECOND
    assert health.finished(1).status == HEALTHY, "it began within the start period"
    assert check(health, 1) == (UNHEALTHY, 1, "kill")


@pytest.mark.parametrize("action", ["none", "kill", "restart", "stop"])
def test_the_action_comes_with_every_failure_once_unhealthy(action: str) -> None:
    health = machine(Clock(), retries=2, on_failure=action)
    assert check(health, 1)[2] == "none"
    assert check(health, 1)[2] == action
    assert check(health, 1)[2] == action
    assert check(health, 0)[2] == "none"


def test_startup_check_comes_first() -> None:
    clock = Clock()
    health = machine(
        clock,
        retries=1,
        startup_args=("up",),
        startup_interval_ns=2 * SECOND,
        startup_timeout_ns=SECOND,
        startup_success=2,
        startup_retries=3,
    )
    first = health.begin()
    assert first is not None
    assert (first.args, first.timeout_ns, first.startup) == (("up",), SECOND, True)
    verdict = health.finished(1)
    assert (verdict.status, verdict.failed, verdict.action) == (STARTING, True, "none")
    assert health.next_due_ns() == clock.now_ns + 2 * SECOND
    assert check(health, 0) == (STARTING, 0, "none")
    assert check(health, 0) == (HEALTHY, 0, "none")
    assert health.next_due_ns() == clock.now_ns, "the regular check follows at once"
    regular = health.begin()
    assert regular is not None
    assert (regular.args, regular.startup) == (("true",), False)
    assert health.finished(1).status == UNHEALTHY
    assert health.next_due_ns() == clock.now_ns + 30 * SECOND


def test_startup_retries_restart_the_container() -> None:
    health = machine(Clock(), startup_args=("up",), startup_interval_ns=SECOND, startup_retries=2)
    assert check(health, 1) == (STARTING, 0, "none")
    assert check(health, 1) == (STARTING, 0, "restart")
    health.restarted()
    assert check(health, 1) == (STARTING, 0, "none")


def test_schedule() -> None:
    clock = Clock()
    health = machine(clock)
    assert health.next_due_ns() == clock.now_ns, "the first at once"
    begun = clock.now_ns
    assert health.begin() is not None
    assert health.begin() is None, "one at a time"
    assert health.running
    assert health.next_due_ns() == begun + 10 * SECOND, "the time-out"
    clock.now_ns += 3 * SECOND
    health.finished(0)
    assert health.next_due_ns() == clock.now_ns + 30 * SECOND, "counted from the end of the last"
    health.begin()
    health.cancel()
    assert health.next_due_ns() is None


def test_start_interval_until_healthy_in_the_start_period() -> None:
    clock = Clock()
    health = machine(clock, start_period_ns=60 * SECOND, start_interval_ns=SECOND)
    check(health, 1)
    assert health.next_due_ns() == clock.now_ns + SECOND
    check(health, 0)
    assert health.next_due_ns() == clock.now_ns + 30 * SECOND
    health.restarted()
    clock.now_ns += 60 * SECOND
    check(health, 1)
    assert health.next_due_ns() == clock.now_ns + 30 * SECOND


@pytest.mark.parametrize("startup", [(), ("up",)])
def test_interval_zero_runs_only_when_asked(startup: tuple[str, ...]) -> None:
    health = machine(Clock(), interval_ns=0, startup_args=startup, start_interval_ns=SECOND, start_period_ns=SECOND)
    assert health.next_due_ns() is None
    assert check(health, 0)[0] == HEALTHY
    assert health.next_due_ns() is None


def test_timeout_is_a_failure_that_says_so() -> None:
    health = machine(Clock(), timeout_ns=1_500_000_000, retries=1)
    health.begin()
    verdict = health.timed_out(b"so far")
    assert (verdict.status, verdict.failed) == (UNHEALTHY, True)
    entry = health.report().log[-1]
    assert entry.exit_code == -1
    assert entry.output == "so far\nhealth check exceeded its timeout of 1.5s\n"
    health.begin()
    health.timed_out(b"x" * 1000)
    assert health.report().log[-1].output.endswith("x\nhealth check exceeded its timeout of 1.5s\n")
    assert len(health.report().log[-1].output) == 500


def test_log_bounds() -> None:
    health = machine(Clock(), max_log_count=2, max_log_size=3)
    for _ in range(4):
        check(health, 0, "é€".encode())
    assert [entry.output for entry in health.report().log] == ["é\ufffd"] * 2
    endless = machine(Clock(), max_log_count=0, max_log_size=0)
    for _ in range(20):
        check(endless, 0, b"x" * 10_000)
    assert [len(entry.output) for entry in endless.report().log] == [10_000] * 20


def test_times_of_the_log_are_the_wall_clocks() -> None:
    clock = Clock()
    health = machine(clock)
    health.begin()
    clock.now_ns += 2 * SECOND
    health.finished(0, b"ok")
    assert health.report().log == (
        HealthLog(start_ns=WALL + 5 * SECOND, end_ns=WALL + 7 * SECOND, exit_code=0, output="ok"),
    )


EVENTS = st.lists(st.tuples(st.integers(0, 40), st.sampled_from([0, 0, 1, 3, -1]), st.booleans()), max_size=40)
PLANS = st.fixed_dictionaries(
    {
        "retries": st.integers(1, 4),
        "start_period_ns": st.sampled_from([0, 50 * SECOND]),
        "start_interval_ns": st.sampled_from([0, SECOND]),
        "interval_ns": st.sampled_from([0, 30 * SECOND]),
        "on_failure": st.sampled_from(["none", "kill", "restart", "stop"]),
        "startup_args": st.sampled_from([(), ("up",)]),
        "startup_interval_ns": st.sampled_from([0, SECOND]),
        "startup_retries": st.integers(0, 3),
        "startup_success": st.integers(0, 3),
        "max_log_count": st.integers(0, 5),
    }
)


@given(PLANS, EVENTS)
def test_invariants(plan: dict[str, object], events: list[tuple[int, int, bool]]) -> None:
    clock = Clock()
    health = machine(clock, **plan)
    for wait_s, exit_code, late in events:
        clock.now_ns += wait_s * SECOND
        before = health.status
        begun = health.begin()
        assert begun is not None
        verdict = health.timed_out() if late else health.finished(exit_code)
        failed = late or exit_code != 0
        assert verdict.failed == failed
        assert verdict.changed == (before != verdict.status)
        if not failed:
            assert verdict.action == "none"
            assert health.failing_streak == 0
            assert verdict.status == HEALTHY or (begun.startup and verdict.status == STARTING)
        else:
            assert verdict.status != HEALTHY or before == HEALTHY
            assert (verdict.status == UNHEALTHY) <= (health.failing_streak >= plan["retries"])  # type: ignore[operator]
            if verdict.status == UNHEALTHY:
                assert verdict.action == plan["on_failure"]
        report = health.report()
        assert len(report.log) <= (plan["max_log_count"] or len(events))  # type: ignore[operator]
        due = health.next_due_ns()
        assert due is None or due >= clock.now_ns
        assert [e.start_ns for e in report.log] == sorted(e.start_ns for e in report.log)


def test_record(tmp_path: Path) -> None:
    assert read_record(str(tmp_path)) is None
    health = machine(Clock())
    check(health, 1, b"\xff\x00 out")
    write_record(str(tmp_path), health.report())
    assert read_record(str(tmp_path)) == health.report()
    for broken in (
        b"",
        b"{",
        b'{"@":"HealthLog","start_ns":1,"end_ns":1,"exit_code":0,"output":""}',
        b"\xff",
        b'{"@":"X"}',
    ):
        (tmp_path / "health.json").write_bytes(broken)
        assert read_record(str(tmp_path)) is None
