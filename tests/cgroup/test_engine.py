"""Limits as a user gives them, on a host where they can hold: `pyctl run --memory=64m` means 64 MiB.

Needs a host with systemd, cgroup v2 and delegated controllers (contrib/testhost); skipped elsewhere.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless import cgroup_facts
from tests.support.engine import Engine
from tests.support.waiting import wait_until

HERE = cgroup_facts.detect(os.environ, os.getuid())
pytestmark = pytest.mark.skipif(
    not HERE.systemd or not {"cpu", "memory", "pids"} <= set(HERE.systemd_controllers),
    reason="needs cgroup v2, a systemd user manager and delegated controllers (contrib/testhost)",
)
SLICE = Path(f"/sys/fs/cgroup/user.slice/user-{os.getuid()}.slice/user@{os.getuid()}.service/user.slice")
# 128 MiB in one block, each page of it written
HUNGRY = "dd if=/dev/zero of=/dev/null bs=128M count=1"


def scopes() -> list[str]:
    return sorted(path.name for path in SLICE.glob("pyctl-*"))


@pytest.fixture(autouse=True)
def _no_scope_is_left() -> Iterator[None]:
    assert scopes() == []
    yield
    wait_until(lambda: not scopes(), 10, "no scope is left")


def cgroup_of(engine: Engine, container: str) -> Path:
    """The container's cgroup, as the kernel says."""
    pid = engine.inspect(container)["State"]["Pid"]
    line = Path(f"/proc/{pid}/cgroup").read_text().strip()
    assert line.startswith("0::")
    return Path("/sys/fs/cgroup" + line[3:])


def held(engine: Engine, container: str, file: str) -> str:
    return (cgroup_of(engine, container) / file).read_text().strip()


def test_memory_beyond_the_limit_is_an_oom_kill(engine: Engine) -> None:
    engine("run", "--name", "hungry", "--memory=64m", "busybox", "sh", "-c", f"exec {HUNGRY}", status=137)
    state = engine.inspect("hungry")["State"]
    assert state["OOMKilled"] is True
    assert state["ExitCode"] == 137
    form = ("--format", "{{.Status}} {{.ContainerExitCode}}")
    shown = engine("events", "--stream=false", "-f", "container=hungry", *form)
    assert shown.out.splitlines()[-3:-1] == ["oom <nil>", "died 137"]
    assert engine("run", "--name", "fed", "--memory=256m", "busybox", "sh", "-c", f"exec {HUNGRY}").status == 0
    assert engine.inspect("fed")["State"]["OOMKilled"] is False
    engine("rm", "hungry", "fed")


def test_the_limits_are_in_force_below_the_user_s_slice(engine: Engine) -> None:
    engine("run", "-d", "--name", "box", "--memory=64m", "--pids-limit=32", "--cpus=0.5", "busybox", "sleep", "1000")
    container_id = engine.inspect("box")["Id"]
    assert cgroup_of(engine, "box") == SLICE / f"pyctl-{container_id}.scope" / "container"
    assert held(engine, "box", "memory.max") == "67108864"
    assert held(engine, "box", "pids.max") == "32"
    assert held(engine, "box", "cpu.max") == "50000 100000"
    # what comes into the container later is in it as well
    assert engine("exec", "box", "cat", "/proc/self/cgroup").line == "0::/"
    engine("rm", "-f", "-t", "0", "box")


def test_half_a_cpu_over_five_seconds(engine: Engine) -> None:
    engine("run", "-d", "--name", "busy", "--cpus=0.5", "busybox", "sh", "-c", "while :; do :; done")
    stat = cgroup_of(engine, "busy") / "cpu.stat"

    def used_usec() -> int:
        return int(stat.read_text().split()[1])  # usage_usec comes first

    wait_until(lambda: used_usec() > 100_000, 30, "it runs")
    started, before = time.monotonic(), used_usec()
    wait_until(lambda: time.monotonic() - started >= 5, 10)
    share = (used_usec() - before) / (time.monotonic() - started) / 1e6
    engine("rm", "-f", "-t", "0", "busy")
    assert 0.45 <= share <= 0.55


def test_a_fork_bomb_stops_at_its_limit(engine: Engine) -> None:
    bomb = "bomb() { bomb | bomb & }; bomb; sleep 1000"
    engine("run", "-d", "--name", "bomb", "--pids-limit=32", "busybox", "sh", "-c", bomb)
    cgroup = cgroup_of(engine, "bomb")
    refused = cgroup / "pids.events"
    wait_until(lambda: int(refused.read_text().split()[1]) > 0, 60, "a fork is refused")
    assert int((cgroup / "pids.current").read_text()) <= 32
    # the host is usable: another container starts beside it
    assert engine("run", "--rm", "busybox", "echo", "fine").line == "fine"
    engine("rm", "-f", "-t", "0", "bomb")


def test_a_controller_that_is_not_there_fails_before_the_start(engine: Engine) -> None:
    result = engine("run", "--name", "no", "--cgroup-conf=nonsense.max=0", "busybox", "true", status=None)
    assert result.status == 125
    assert "--cgroup-conf" in result.err
    assert "no cgroup controller nonsense" in result.err
    assert engine("ps", "-a", "-q").out == ""


@pytest.mark.skipif("cpuset" in HERE.systemd_controllers, reason="the kernel has cpuset")
def test_a_limit_on_a_missing_controller_names_it(engine: Engine) -> None:
    result = engine("run", "--cpuset-cpus=0", "busybox", "true", status=None)
    assert result.status == 125
    assert "--cpuset-cpus: this kernel has no cgroup controller cpuset" in result.err
    assert engine("ps", "-a", "-q").out == ""


def test_a_killed_supervisor_leaves_no_cgroup(engine: Engine) -> None:
    engine("run", "-d", "--name", "victim", "--memory=64m", "busybox", "sleep", "1000")
    scope = cgroup_of(engine, "victim").parent
    os.kill(engine.inspect("victim")["State"]["ConmonPid"], 9)
    wait_until(lambda: not scope.exists(), 15, "the scope goes with its supervisor")
    assert engine.state("victim") == "exited"
    engine("rm", "victim")
