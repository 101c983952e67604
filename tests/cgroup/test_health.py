"""Health checks on a host with systemd: the supervisor runs them, and no timer unit is made for them."""

from __future__ import annotations

import subprocess

import pytest

from tests.cgroup.test_engine import HERE, _no_scope_is_left  # noqa: F401 - a fixture
from tests.support.engine import Engine
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(not HERE.systemd, reason="needs a systemd user manager (contrib/testhost)")


def timers() -> str:
    done = subprocess.run(
        ["systemctl", "--user", "list-units", "--all", "--type=timer", "--plain", "--no-legend"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_from_starting_to_the_action_on_failure_without_a_timer(engine: Engine) -> None:
    before = timers()
    check = ["--health-cmd", "test -e /ok", "--health-interval", "1s", "--health-retries", "2"]
    busy = ["busybox", "sh", "-c", "touch /ok; exec sleep 1000"]
    engine("run", "-d", "--name", "c", *check, "--health-on-failure", "kill", *busy)

    def status() -> str:
        return str(engine.inspect("c")["State"]["Health"]["Status"])

    wait_until(lambda: status() == "healthy", 60)
    assert timers() == before
    engine("exec", "c", "rm", "/ok")
    wait_until(lambda: engine.state("c") == "exited", 60)
    health = engine.inspect("c")["State"]["Health"]
    assert (health["Status"], health["FailingStreak"]) == ("unhealthy", 2)
    assert engine.inspect("c")["State"]["ExitCode"] == 137
    assert timers() == before
    engine("rm", "c")
