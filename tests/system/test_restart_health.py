"""Restart policies and health checks: the supervisor's own work, with no timer of the host."""

from __future__ import annotations

import pytest

from tests.support.engine import IS_PODMAN, Engine
from tests.support.waiting import wait_until


def restarts(engine: Engine) -> int:
    return int(engine.inspect("c")["RestartCount"])


def test_no_restart_by_default(engine: Engine) -> None:
    engine("run", "-d", "--name", "c", "busybox", "false")
    engine("wait", "c")
    assert (restarts(engine), engine.state("c")) == (0, "exited")


def test_on_failure_ends_after_its_tries(engine: Engine) -> None:
    engine("run", "-d", "--name", "c", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo try; exit 3")
    wait_until(lambda: engine.state("c") == "exited" and restarts(engine) == 2)
    assert engine("logs", "c").out == "try\n" * 3
    assert engine.inspect("c")["State"]["ExitCode"] == 3


def test_on_failure_is_content_with_success(engine: Engine) -> None:
    engine("run", "-d", "--name", "c", "--restart=on-failure", "busybox", "true")
    engine("wait", "c")
    assert restarts(engine) == 0


def test_always_until_stopped(engine: Engine) -> None:
    engine("run", "-d", "--name", "c", "--restart=always", "busybox", "sh", "-c", "echo go; sleep 0.2")
    wait_until(lambda: restarts(engine) >= 2, 30)
    engine("stop", "-t", "1", "c")
    assert engine.state("c") == "exited"
    count = restarts(engine)
    engine("start", "c")
    wait_until(lambda: restarts(engine) != count or engine.state("c") == "running")
    engine("rm", "-f", "-t", "0", "c")


def test_killed_from_inside_is_restarted(engine: Engine) -> None:
    engine("run", "-d", "--name", "c", "--restart=unless-stopped", "busybox", "sleep", "1000")
    engine("exec", "c", "kill", "-9", "1", status=None)
    pid = engine.inspect("c")["State"]["Pid"]
    engine("exec", "c", "sh", "-c", "echo $$ > /mark")
    assert pid
    engine("stop", "-t", "0", "c")


@pytest.mark.parametrize("value", ["nosuch", "always:3", "on-failure:x", "on-failure:-1"])
def test_bad_policies(engine: Engine, value: str) -> None:
    engine("run", "--rm", f"--restart={value}", "busybox", "true", status=125)


def test_restart_and_rm_exclude_each_other(engine: Engine) -> None:
    engine("run", "--rm", "--restart=always", "busybox", "true", status=125)


@pytest.mark.skipif(IS_PODMAN, reason="podman needs systemd for its timers")
class TestHealth:
    def status(self, engine: Engine) -> str:
        return str(engine.inspect("c")["State"]["Health"]["Status"])

    def log(self, engine: Engine) -> list[dict[str, object]]:
        """The checks so far: null in the JSON before the first one, as with Podman."""
        return engine.inspect("c")["State"]["Health"]["Log"] or []

    def test_becomes_healthy_and_unhealthy(self, engine: Engine) -> None:
        check = ["--health-cmd", "test -e /ok", "--health-interval", "100ms", "--health-retries", "2"]
        engine("run", "-d", "--name", "c", *check, "busybox", "sleep", "1000")
        wait_until(lambda: self.status(engine) == "unhealthy")
        engine("exec", "c", "touch", "/ok")
        wait_until(lambda: self.status(engine) == "healthy")
        assert "(healthy)" in engine("ps", "--format", "{{.Status}}").line
        engine("exec", "c", "rm", "/ok")
        wait_until(lambda: self.status(engine) == "unhealthy")
        health = engine.inspect("c")["State"]["Health"]
        assert health["FailingStreak"] >= 2
        assert health["Log"][-1]["ExitCode"] == 1

    def test_failures_do_not_count_in_the_start_period(self, engine: Engine) -> None:
        check = ["--health-cmd", "false", "--health-interval", "50ms", "--health-retries", "1"]
        engine("run", "-d", "--name", "c", *check, "--health-start-period", "1h", "busybox", "sleep", "1000")
        wait_until(lambda: len(self.log(engine)) >= 3)
        assert self.status(engine) == "starting"

    def test_slow_check_fails(self, engine: Engine) -> None:
        check = ["--health-cmd", "sleep 4321", "--health-timeout", "300ms", "--health-interval", "100ms"]
        engine("run", "-d", "--name", "c", *check, "--health-retries", "1", "busybox", "sleep", "1000")
        wait_until(lambda: self.status(engine) == "unhealthy")
        # Each one that was too slow has been ended: there is never more than the one that runs now.
        wait_until(lambda: len(self.log(engine)) >= 3)
        assert engine("exec", "c", "ps").out.count("sleep 4321") <= 2  # the shell's line and its child's

    def test_on_failure_kill(self, engine: Engine) -> None:
        check = ["--health-cmd", "false", "--health-interval", "100ms", "--health-retries", "1"]
        engine("run", "-d", "--name", "c", *check, "--health-on-failure", "kill", "busybox", "sleep", "1000")
        wait_until(lambda: engine.state("c") == "exited")
        assert self.status(engine) == "unhealthy"  # still told, as the reason of its end
        assert self.log(engine)[-1]["ExitCode"] == 1
        assert engine("ps", "-a", "--filter", "health=unhealthy", "--format", "{{.Names}}").line == "c"

    def test_output_is_kept(self, engine: Engine) -> None:
        check = ["--health-cmd", "echo reason; exit 1", "--health-interval", "100ms"]
        engine("run", "-d", "--name", "c", *check, "busybox", "sleep", "1000")
        wait_until(lambda: (self.log(engine) or [{}])[-1].get("Output") == "reason\n")

    def test_no_healthcheck(self, engine: Engine) -> None:
        engine("run", "-d", "--name", "c", "--no-healthcheck", "busybox", "sleep", "1000")
        assert "health" not in engine("ps", "--format", "{{.Status}}").line

    def test_run_by_hand(self, engine: Engine) -> None:
        check = ["--health-cmd", "echo said; test -e /ok", "--health-interval=disable", "--health-start-period=1h"]
        engine("run", "-d", "--name", "c", *check, "busybox", "sleep", "1000")
        assert self.log(engine) == []
        result = engine("healthcheck", "run", "c", status=1)
        assert (result.out, result.err) == ("unhealthy\n", "")
        engine("exec", "c", "touch", "/ok")
        assert engine("healthcheck", "run", "c").out == ""
        assert [entry["ExitCode"] for entry in self.log(engine)] == [1, 0]
        assert self.status(engine) == "healthy"
        engine("kill", "c")
        engine("wait", "c")
        assert "is not running" in engine("healthcheck", "run", "c", status=125).err
        engine("run", "-d", "--name", "d", "busybox", "sleep", "1000")
        assert "has no health check" in engine("healthcheck", "run", "d", status=125).err
        assert "no container" in engine("healthcheck", "run", "nosuch", status=125).err

    def test_another_check_for_a_running_container(self, engine: Engine) -> None:
        engine("run", "-d", "--name", "c", "busybox", "sleep", "1000")
        assert "add --health-cmd" in engine("update", "--health-retries=2", "c", status=125).err
        engine("update", "--health-cmd=test -e /ok", "--health-interval=100ms", "--health-retries=2", "c")
        wait_until(lambda: self.status(engine) == "unhealthy")
        engine("update", "--health-cmd=true", "c")  # what is not named stays as it is
        wait_until(lambda: self.status(engine) == "healthy")
        held = engine.inspect("c")["Config"]["Healthcheck"]
        assert (held["Test"], held["Interval"], held["Retries"]) == (["CMD-SHELL", "true"], 100_000_000, 2)
        engine("update", "--health-startup-cmd=false", "--health-startup-interval=100ms", "c")
        wait_until(lambda: self.status(engine) == "starting" and len(self.log(engine)) > 1)
        assert "excludes" in engine("update", "--no-healthcheck", "--health-cmd=true", "c", status=125).err
        assert "more than 0" in engine("update", "--health-timeout=0s", "c", status=125).err
        engine("update", "--no-healthcheck", "c")
        assert engine.inspect("c")["Config"]["Healthcheck"]["Test"] == ["NONE"]
        assert "has no health check" in engine("healthcheck", "run", "c", status=125).err
        assert "health" not in engine("ps", "--format", "{{.Status}}").line
        # one that does not run has it at its next start
        engine("stop", "-t", "0", "c")
        engine("update", "--health-cmd=true", "--health-interval=100ms", "--health-on-failure=kill", "c")
        engine("start", "c")
        wait_until(lambda: self.status(engine) == "healthy")
        assert engine.inspect("c")["Config"]["HealthcheckOnFailureAction"] == "kill"

    def test_checks_stop_with_the_container(self, engine: Engine) -> None:
        check = ["--health-cmd", "true", "--health-interval", "50ms"]
        engine("run", "-d", "--name", "c", *check, "busybox", "sleep", "1000")
        wait_until(lambda: self.status(engine) == "healthy")
        engine("stop", "-t", "0", "c")
        assert engine.state("c") == "exited"


@pytest.mark.parametrize(
    "option", ["--health-interval=x", "--health-retries=0", "--health-timeout=soon", "--health-on-failure=x"]
)
def test_bad_health_options(engine: Engine, option: str) -> None:
    engine("run", "--rm", "--health-cmd", "true", option, "busybox", "true", status=125)
