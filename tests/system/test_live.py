"""stats, top, pause and update on any machine; their numbers, where there are cgroups, in tests/cgroup/test_live.py."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rootless import cgroup_facts
from tests.support.engine import Engine
from tests.support.waiting import wait_until

NO_CGROUPS = not cgroup_facts.detect(os.environ, os.getuid()).manager
without_cgroups = pytest.mark.skipif(not NO_CGROUPS, reason="containers have cgroups of their own here")


@pytest.fixture
def box(engine: Engine) -> Engine:
    engine("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    return engine


@without_cgroups
def test_numbers_that_cannot_be_known_are_not_zeros(box: Engine) -> None:
    result = box("stats", "--no-stream", "--format", "json", "box")
    (row,) = json.loads(result.out)
    assert list(row) == [
        *("id", "name", "cpu_time", "cpu_percent", "avg_cpu", "mem_usage", "mem_percent", "net_io", "block_io", "pids"),
    ]
    assert (row["cpu_percent"], row["mem_percent"], row["block_io"]) == ("--", "--", "-- / --")
    assert row["mem_usage"].startswith("-- / ")
    assert row["pids"] == "1"
    assert "processor time, memory and disk traffic of box are not known: cgroup" in result.err
    raw = json.loads(box("stats", "--no-stream", "--format", "{{json .}}", "box").out)
    assert raw["CPUNano"] is None
    assert raw["MemUsage"] is None


@without_cgroups
@pytest.mark.parametrize("words", [("pause",), ("update", "--memory=64m"), ("update", "--pids-limit=10")])
def test_what_needs_a_cgroup_says_why_it_cannot_be(box: Engine, words: tuple[str, ...]) -> None:
    result = box(*words, "box", status=125)
    assert "cgroup" in result.err
    assert "hint: " in result.err
    assert box.state("box") == "running"
    assert box.inspect("box")["HostConfig"]["Memory"] == 0


def test_network_traffic_is_that_of_the_container(box: Engine) -> None:
    def raw() -> dict[str, dict[str, int]]:
        made: dict[str, dict[str, int]] = json.loads(box("stats", "--no-stream", "--format", "{{json .}}", "box").out)[
            "Network"
        ]
        return made

    before = raw()["tap0"]["TxBytes"]

    def sent_and_counted() -> bool:
        box("exec", "box", "sh", "-c", "echo x | nc -u -w 1 10.0.2.2 9; true")
        return raw()["tap0"]["TxBytes"] > before

    wait_until(sent_and_counted, 30, "the packet is counted")
    pid = box.inspect("box")["State"]["Pid"]
    line = next(r for r in Path(f"/proc/{pid}/net/dev").read_text().splitlines() if "tap0" in r)
    assert raw()["tap0"]["RxBytes"] >= int(line.split(":")[1].split()[0])


def test_which_containers_stats_shows(box: Engine) -> None:
    box("create", "--name", "idle", "busybox", "true")
    names = ("--no-stream", "--format", "{{.Name}}")
    assert box("stats", *names).out.split() == ["box"]
    assert sorted(box("stats", "--all", *names).out.split()) == ["box", "idle"]
    assert box("stats", *names, "idle").out.split() == ["idle"]
    assert json.loads(box("stats", "--no-stream", "--format", "json", "idle").out)[0]["cpu_percent"] == "0.00%"
    assert len(box("stats", "--no-stream", "--no-trunc", "--format", "{{.ID}}", "box").line) == 64
    assert "no container" in box("stats", "--no-stream", "nope", status=125).err
    assert "--interval 0" in box("stats", "--interval", "0", status=125).err


def test_stats_end_with_the_containers_that_were_named(box: Engine) -> None:
    process = box.spawn("stats", "--interval", "1", "--format", "{{.Name}}", "box")
    assert process.stdout is not None
    assert process.stdout.readline() == b"box\n"
    box("stop", "-t", "0", "box")
    assert process.wait(20) == 0


def test_top_names_processes_as_the_container_sees_them(engine: Engine) -> None:
    script = "sleep 1000 & echo up; exec sleep 1001"
    engine("run", "-d", "--name", "box", "--user", "web", "--entrypoint", "sh", "busybox", "-c", script)
    engine.wait_log("box", "up")
    engine("exec", "-d", "--user", "root", "box", "sleep", "1002")

    def rows(*columns: str) -> list[list[str]]:
        count = len(",".join(columns).split(","))
        return [line.split(None, count - 1) for line in engine("top", "box", *columns).out.splitlines()]

    wait_until(lambda: len(rows("pid")) == 4, 15, "the heading and three processes")
    assert rows("pid", "ppid", "user", "uid", "group", "args") == [
        ["PID", "PPID", "USER", "UID", "GROUP", "COMMAND"],
        ["1", "0", "web", "1000", "web", "sleep 1001"],
        ["2", "1", "web", "1000", "web", "sleep 1000"],
        *([pid, "0", "root", "0", "root", "sleep 1002"] for pid in (rows("pid")[3][0],)),
    ]
    host_pid = engine.inspect("box")["State"]["Pid"]
    assert rows("hpid")[1] == [str(host_pid)]
    assert rows("seccomp,capeff,%p", "comm", "state")[1] == ["filter", "none", "1", "sleep", "S"]
    assert engine("top", "box").out.split("\n")[0].split() == [
        *("USER", "PID", "PPID", "%CPU", "ELAPSED", "TTY", "TIME", "COMMAND"),
    ]
    assert "no descriptor 'nope'" in engine("top", "box", "nope", status=125).err


def test_top_of_a_container_in_the_host_s_pid_namespace(engine: Engine) -> None:
    engine("run", "-d", "--name", "box", "--pid=host", "busybox", "sleep", "1000")
    assert engine("top", "box", "args").out.splitlines() == ["COMMAND", "sleep 1000"]
    engine("rm", "-f", "-t", "0", "box")
    engine("create", "--name", "idle", "busybox", "true")
    assert "is not running" in engine("top", "idle", status=125).err


def test_update_of_the_restart_policy_is_stored_and_obeyed(engine: Engine) -> None:
    engine("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    engine("update", "--restart=on-failure:3", "box")
    policy = engine.inspect("box")["HostConfig"]["RestartPolicy"]
    assert policy == {"Name": "on-failure", "MaximumRetryCount": 3}
    os.kill(engine.inspect("box")["State"]["Pid"], 9)
    wait_until(lambda: engine.inspect("box")["RestartCount"] == 1, 20, "it is restarted")
    assert "say what to change" in engine("update", "box", status=125).err
