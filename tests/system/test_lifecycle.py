"""create, start, stop, kill, restart, wait, rm, ps: the states of a container."""

from __future__ import annotations

import time

import pytest

from tests.support.engine import Engine
from tests.support.processes import alive
from tests.support.waiting import wait_until

# Ends at once on SIGTERM; as PID 1 a plain `sleep` would ignore it.
POLITE = ["sh", "-c", "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.1; done"]


def test_create_then_start(engine: Engine) -> None:
    engine("create", "--name", "c", "busybox", "echo", "started")
    assert engine.state("c") == "created"
    assert engine.inspect("c")["State"]["Pid"] == 0
    assert engine("start", "-a", "c").line == "started"
    assert engine.state("c") == "exited"
    assert engine("start", "-a", "c").line == "started"


def test_start_prints_the_name_given(engine: Engine) -> None:
    engine("create", "--name", "c", "busybox", "sleep", "1000")
    assert engine("start", "c").line == "c"
    assert engine.state("c") == "running"
    assert engine("start", "c").line == "c"  # already running: no error


def test_start_attached_returns_the_status(engine: Engine) -> None:
    engine("create", "--name", "c", "busybox", "sh", "-c", "exit 9")
    engine("start", "--attach", "c", status=9)


def test_start_interactive(engine: Engine) -> None:
    engine("create", "-i", "--name", "c", "busybox", "cat")
    assert engine("start", "-ai", "c", stdin="in and out").out == "in and out"


def test_stop_sends_the_signal_and_waits(engine: Engine) -> None:
    engine("run", "-d", "--name", "c", "busybox", *POLITE)
    engine.wait_log("c", "ready")
    assert engine("stop", "c").line == "c"
    state = engine.inspect("c")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 5)
    assert "bye" in engine("logs", "c").out


def test_stop_kills_after_its_time(engine: Engine) -> None:
    engine("run", "-d", "--name", "c", "busybox", "sleep", "1000")
    start = time.monotonic()
    engine("stop", "-t", "1", "c")
    assert 0.9 < time.monotonic() - start < 10
    assert engine.inspect("c")["State"]["ExitCode"] == 137


def test_stop_signal_of_the_container(engine: Engine) -> None:
    line = "trap 'exit 11' USR1; echo ready; while :; do sleep 0.1; done"
    engine("run", "-d", "--name", "c", "--stop-signal", "SIGUSR1", "--stop-timeout", "30", "busybox", "sh", "-c", line)
    engine.wait_log("c", "ready")
    engine("stop", "c")
    assert engine.inspect("c")["State"]["ExitCode"] == 11


def test_stop_of_a_stopped_one_is_no_error(engine: Engine) -> None:
    engine("run", "--name", "c", "busybox", "true")
    engine("stop", "c")
    engine("create", "--name", "d", "busybox", "true")
    engine("stop", "d")


def test_kill_with_a_signal(engine: Engine) -> None:
    engine("run", "-d", "--name", "c", "busybox", *POLITE)
    engine.wait_log("c", "ready")
    assert engine("kill", "-s", "TERM", "c").line == "c"
    assert engine("wait", "c").line == "5"


@pytest.mark.parametrize("name", ["SIGTERM", "term", "15", "sigTERM"])
def test_kill_signal_names(engine: Engine, name: str) -> None:
    engine("run", "-d", "--name", "c", "busybox", *POLITE)
    engine.wait_log("c", "ready")
    engine("kill", "--signal", name, "c")
    assert engine("wait", "c").line == "5"


def test_kill_errors(engine: Engine) -> None:
    engine("create", "--name", "c", "busybox", "true")
    assert "c" in engine("kill", "c", status=125).err
    assert "NOSUCH" in engine("kill", "-s", "NOSUCH", "c", status=125).err
    assert "absent" in engine("kill", "absent", status=125).err


def test_restart(engine: Engine) -> None:
    engine("run", "-d", "--name", "c", "busybox", *POLITE)
    engine.wait_log("c", "ready")
    before = engine.inspect("c")["State"]
    assert engine("restart", "c").line == "c"
    after = engine.inspect("c")["State"]
    assert after["Status"] == "running"
    assert after["Pid"] != before["Pid"]
    assert not alive(before["Pid"])


def test_wait_for_several(engine: Engine) -> None:
    engine("run", "-d", "--name", "a", "busybox", "sh", "-c", "sleep 0.3; exit 1")
    engine("run", "-d", "--name", "b", "busybox", "sh", "-c", "exit 2")
    assert engine("wait", "a", "b").out == "1\n2\n"


def test_wait_condition(engine: Engine) -> None:
    engine("run", "-d", "--name", "c", "busybox", "sleep", "1000")
    engine("wait", "--condition", "running", "c")
    waiting = engine.spawn("wait", "--condition=stopped", "c")
    engine("kill", "c")
    assert waiting.communicate(timeout=20)[0].strip() in (b"137", b"-1")


def test_rm_of_a_running_one_needs_force(engine: Engine) -> None:
    engine("run", "-d", "--name", "c", "busybox", "sleep", "1000")
    assert "running" in engine("rm", "c", status=2).err
    assert engine.state("c") == "running"
    pid = engine.inspect("c")["State"]["Pid"]
    assert engine("rm", "-f", "-t", "0", "c").line == "c"
    wait_until(lambda: not alive(pid))


def test_rm_several_and_all(engine: Engine) -> None:
    for name in ("a", "b", "c"):
        engine("create", "--name", name, "busybox", "true")
    assert engine("rm", "a", "b").out == "a\nb\n"
    engine("rm", "--all")
    assert engine("ps", "-aq").out == ""


def test_rm_of_an_unknown_one(engine: Engine) -> None:
    assert "absent" in engine("rm", "absent", status=1).err
    engine("rm", "-f", "absent")
    engine("rm", "--ignore", "absent")


def test_one_bad_name_does_not_hide_the_others(engine: Engine) -> None:
    engine("run", "-d", "--name", "a", "busybox", "sleep", "1000")
    result = engine("kill", "absent", "a", status=125)
    assert "absent" in result.err
    assert engine("rm", "-f", "-t", "0", "absent", "a").line == "a"


def test_ps_table(engine: Engine) -> None:
    engine("run", "-d", "--name", "up", "busybox", "sleep", "1000")
    engine("create", "--name", "made", "busybox", "true")
    header, row = engine("ps").out.splitlines()
    assert header.split("  ")[0] == "CONTAINER ID"
    assert [word for word in header.split() if word != "CONTAINER"] == [
        "ID",
        "IMAGE",
        "COMMAND",
        "CREATED",
        "STATUS",
        "PORTS",
        "NAMES",
    ]
    assert row.split()[-1] == "up"
    assert "localhost/busybox:latest" in row
    assert len(engine("ps", "-a").out.splitlines()) == 3
    assert "Up " in row
    assert "Created" in engine("ps", "-a", "--filter", "status=created").out


def test_ps_json(engine: Engine) -> None:
    identity = engine("run", "-d", "--name", "up", "--label", "k=v", "busybox", "sleep", "1000").line
    [row] = engine.json("ps", "--format", "json")
    assert (row["Id"], row["Names"], row["State"]) == (identity, ["up"], "running")
    assert row["Image"] == "localhost/busybox:latest"
    assert row["Command"] == ["sleep", "1000"]
    assert row["Labels"]["k"] == "v"
    assert alive(row["Pid"])


@pytest.mark.parametrize(
    ("flter", "expected"),
    [
        ("name=al", {"alpha"}),
        ("status=exited", {"beta"}),
        ("status=running", {"alpha"}),
        ("label=k", {"beta"}),
        ("label=k=other", set()),
        ("exited=4", {"beta"}),
        ("ancestor=busybox", {"alpha", "beta"}),
    ],
)
def test_ps_filters(engine: Engine, flter: str, expected: set[str]) -> None:
    engine("run", "-d", "--name", "alpha", "busybox", "sleep", "1000")
    engine("run", "--name", "beta", "--label", "k=v", "busybox", "sh", "-c", "exit 4", status=4)
    assert set(engine("ps", "-a", "--format", "{{.Names}}", "--filter", flter).out.split()) == expected


def test_ps_last_and_quiet(engine: Engine) -> None:
    for name in ("a", "b", "c"):
        engine("create", "--name", name, "busybox", "true")
    assert engine("ps", "-a", "--last", "2", "--format", "{{.Names}}").out.split() == ["b", "c"]
    assert engine("ps", "-l", "--format", "{{.Names}}").line == "c"
    assert len(engine("ps", "-aq").out.split()) == 3


def test_names_by_id_prefix(engine: Engine) -> None:
    identity = engine("create", "busybox", "true").line
    assert engine("inspect", "-f", "{{.Id}}", identity[:6]).line == identity
    engine("rm", identity[:12])


def test_generated_names_are_names(engine: Engine) -> None:
    engine("create", "busybox", "true")
    name = engine("ps", "-a", "--format", "{{.Names}}").line
    assert "_" in name
    engine("rm", name)


def test_latest_option(engine: Engine) -> None:
    engine("create", "--name", "old", "busybox", "true")
    engine("create", "--name", "new", "busybox", "echo", "newest")
    assert engine("start", "-a", "-l").line == "newest"


def test_a_stopped_container_keeps_its_files(engine: Engine) -> None:
    engine("run", "--name", "c", "busybox", "sh", "-c", "cat /state 2>/dev/null; echo written >> /state")
    assert engine("start", "-a", "c").line == "written"


def test_inspect_of_a_running_one(engine: Engine) -> None:
    identity = engine("run", "-d", "--name", "c", "--hostname", "h", "-e", "K=V", "busybox", "sleep", "1000").line
    seen = engine.inspect("c")
    assert seen["Id"] == identity
    assert seen["State"]["Running"] is True
    assert alive(seen["State"]["Pid"])
    assert seen["Config"]["Hostname"] == "h"
    assert "K=V" in seen["Config"]["Env"]
    assert seen["ImageName"] == "localhost/busybox:latest"
    assert (seen["Path"], seen["Args"]) == ("sleep", ["1000"])
    assert seen["HostConfig"]["NetworkMode"] == "slirp4netns" or seen["HostConfig"]["NetworkMode"] == "pasta"
    assert seen["RestartCount"] == 0


def test_a_start_that_fails_is_the_engines_failure(engine: Engine) -> None:
    """126 and 127 are the statuses of `run`, whose own command it is."""
    engine("create", "--name", "c", "busybox", "/no/such")
    engine("start", "c", status=125)
    engine("start", "-a", "c", status=125)
