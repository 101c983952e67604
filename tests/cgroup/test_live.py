"""stats, update and pause, where a container has a cgroup of its own.  Needs the test host, as test_engine does."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.cgroup.test_engine import HERE, SLICE, _no_scope_is_left, cgroup_of, held  # noqa: F401 - a fixture
from tests.support.engine import Engine
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(
    not HERE.systemd or not {"cpu", "memory", "pids"} <= set(HERE.systemd_controllers),
    reason="needs cgroup v2, a systemd user manager and delegated controllers (contrib/testhost)",
)
MEBIBYTE = 1 << 20
# Holds some 30 MiB in a tmpfs, then counts for ever.
BUSY = "dd if=/dev/zero of=/dev/shm/held bs=1M count=30 2>/dev/null; echo full; i=0; while :; do i=$((i+1)); done"


def test_stats_agree_with_the_cgroup_s_files(engine: Engine) -> None:
    engine("run", "-d", "--name", "box", "--memory=128m", "--cpus=0.5", "busybox", "sh", "-c", BUSY)
    engine.wait_log("box", "full", 60)
    cgroup = cgroup_of(engine, "box")
    before = int((cgroup / "cpu.stat").read_text().split()[1])
    shown = json.loads(engine("stats", "--no-stream", "--format", "{{json .}}", "box").out)
    after = int((cgroup / "cpu.stat").read_text().split()[1])
    assert before * 1000 <= shown["CPUNano"] <= after * 1000
    assert 0 <= shown["CPUSystemNano"] <= shown["CPUNano"]
    assert shown["MemLimit"] == 128 * MEBIBYTE
    current = int(held(engine, "box", "memory.current"))
    inactive = next(
        int(r.split()[1]) for r in (cgroup / "memory.stat").read_text().splitlines() if "inactive_file" in r
    )
    assert shown["MemUsage"] == pytest.approx(current - inactive, rel=0.05)
    assert shown["MemUsage"] > 30 * MEBIBYTE
    assert shown["PIDs"] == int(held(engine, "box", "pids.current"))
    assert 5 < shown["AvgCPU"] < 60
    table = engine("stats", "--no-stream").out.splitlines()
    assert "MEM USAGE / LIMIT  MEM %" in table[0]
    assert " / 134.2MB " in table[1]
    engine("rm", "-f", "-t", "0", "box")


def test_the_second_table_shows_the_use_since_the_first(engine: Engine) -> None:
    script = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo done; exec sleep 1000"
    engine("run", "-d", "--name", "box", "busybox", "sh", "-c", script)
    engine.wait_log("box", "done", 120)
    process = engine.spawn("stats", "--interval", "1", "--format", "{{.CPUPerc}} {{.AVGCPU}}", "box")
    assert process.stdout is not None
    first, second = (process.stdout.readline().decode().split() for _ in range(2))
    process.kill()
    process.wait()
    assert float(first[0].rstrip("%")) > 5  # since the start
    assert float(second[0].rstrip("%")) < 5  # it sleeps
    engine("rm", "-f", "-t", "0", "box")


def test_update_changes_what_is_in_force_and_what_is_stored(engine: Engine) -> None:
    engine("run", "-d", "--name", "box", "--memory=64m", "busybox", "sleep", "1000")
    container_id = engine.inspect("box")["Id"]
    shown = engine("update", "--memory=128m", "--cpus=0.5", "--pids-limit=77", "--cpu-shares=512", "box").line
    assert shown == container_id
    files = ("memory.max", "memory.swap.max", "cpu.max", "cpu.weight", "pids.max")
    assert [held(engine, "box", f) for f in files] == ["134217728", "134217728", "50000 100000", "20", "77"]
    host = engine.inspect("box")["HostConfig"]
    assert (host["Memory"], host["CpuQuota"], host["PidsLimit"]) == (128 * MEBIBYTE, 50_000, 77)
    # a bound is taken away
    engine("update", "--memory=0", "--pids-limit=-1", "--cpus=0", "box")
    assert [held(engine, "box", f) for f in ("memory.max", "pids.max")] == ["max", "max"]
    assert held(engine, "box", "cpu.max").startswith("max ")
    # and holds after the next start
    engine("update", "--memory=32m", "box")
    engine("restart", "-t", "0", "box")
    assert held(engine, "box", "memory.max") == str(32 * MEBIBYTE)
    engine("rm", "-f", "-t", "0", "box")


def test_an_update_is_whole_or_not_at_all(engine: Engine) -> None:
    engine("run", "-d", "--name", "box", "--memory=64m", "busybox", "sleep", "1000")
    count = os.cpu_count() or 1
    if "cpuset" in HERE.systemd_controllers:  # pids.max comes after the cpuset, memory.max before it
        args = ["--memory=128m", f"--cpuset-cpus={count + 3}", "--pids-limit=5"]
        result = engine("update", *args, "box", status=125)
        assert "--cpuset-cpus" in result.err
    result = engine("update", "--memory-swap=32m", "box", status=125)
    assert "is less than --memory 64m" in result.err
    assert [held(engine, "box", f) for f in ("memory.max", "pids.max")] == ["67108864", "2048"]
    assert engine.inspect("box")["HostConfig"]["Memory"] == 64 * MEBIBYTE
    engine("rm", "-f", "-t", "0", "box")


def ticks(cgroup: Path) -> int:
    return int((cgroup / "cpu.stat").read_text().split()[1])


def test_a_paused_container_stands_still(engine: Engine) -> None:
    engine("run", "-d", "--name", "box", "--restart=always", "busybox", "sh", "-c", "while :; do :; done")
    cgroup = cgroup_of(engine, "box")
    assert engine("pause", "box").line == "box"
    assert held_events(cgroup)["frozen"] == "1"
    still = ticks(cgroup)
    state = engine.inspect("box")["State"]
    assert (state["Status"], state["Paused"], state["Running"]) == ("paused", True, False)
    assert engine("ps", "-a", "--format", "{{.State}}").line == "paused"
    assert engine("ps", "-q", "--filter", "status=paused").out != ""
    assert "is paused" in engine("exec", "box", "true", status=125).err
    assert "paused" in engine("pause", "box", status=125).err
    assert ticks(cgroup) == still
    engine("unpause", "--all")
    wait_until(lambda: ticks(cgroup) > still, 20, "it goes on")
    assert engine.state("box") == "running"
    # a paused container can be stopped, and killed; its restart policy is not held up
    engine("pause", "box")
    engine("kill", "box")
    engine("start", "box")
    engine.wait_state("box", "running", 30)
    engine("pause", "box")
    engine("stop", "-t", "2", "box")
    assert engine.state("box") == "exited"
    engine("rm", "box")


def test_a_paused_container_is_not_unhealthy(engine: Engine) -> None:
    check = ("--health-cmd=true", "--health-interval=500ms", "--health-timeout=3s", "--health-retries=1")
    engine("run", "-d", "--name", "box", *check, "--health-on-failure=kill", "busybox", "sleep", "1000")

    def checks() -> int:
        health = engine.inspect("box")["State"]["Health"]
        assert health["FailingStreak"] == 0
        return len(health["Log"] or ())

    wait_until(lambda: checks() > 0, 60, "a check")
    engine("pause", "box")
    assert engine.json("info", "--format", "json")["store"]["containerStore"]["paused"] == 1
    before = checks()
    started = time.monotonic()
    wait_until(lambda: time.monotonic() - started > 5, 10)
    assert checks() <= before + 1  # one may have been under way
    engine("unpause", "box")
    wait_until(lambda: engine.inspect("box")["State"]["Health"]["Status"] == "healthy", 30, "it goes on")
    assert engine.state("box") == "running"
    engine("rm", "-f", "-t", "0", "box")


def held_events(cgroup: Path) -> dict[str, str]:
    rows = (line.split(" ", 1) for line in (cgroup / "cgroup.events").read_text().splitlines())
    return {key: value for key, value in rows}  # noqa: C416 - lists, not pairs


def test_commit_of_one_moment(engine: Engine) -> None:
    """--pause: two files that are written in turn do not come apart, and the container goes on afterwards."""
    script = "i=0; while :; do i=$((i+1)); for f in first second; do echo $i > /t; mv /t /$f; done; done"
    engine("run", "-d", "--name", "box", "busybox", "sh", "-c", script)
    wait_until(lambda: engine("exec", "box", "cat", "/second", status=None).out)
    engine("commit", "-q", "--pause", "box", "moment", timeout_s=120)
    assert engine.state("box") == "running"
    first, second = engine("run", "--rm", "moment", "cat", "/first", "/second").out.split()
    assert int(first) - int(second) in (0, 1)
    wait_until(lambda: int(engine("exec", "box", "cat", "/second").out or 0) > int(second))
    engine("pause", "box")
    engine("commit", "-q", "--pause", "box", "moment", timeout_s=120)
    assert engine.state("box") == "paused", "it was paused before"
    engine("rm", "-f", "-t", "0", "box")
    engine("rmi", "moment")
