"""Containers as services of a real systemd: followed, ready when they say so, restarted, stopped in time.

Needs the test host, as test_engine does.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cgroup.test_engine import HERE, SLICE, _no_scope_is_left, cgroup_of, held  # noqa: F401 - a fixture
from tests.cgroup.units import Units, show, systemctl, wait_active
from tests.support.engine import Engine
from tests.support.registry import free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(not HERE.systemd, reason="needs a systemd user manager (contrib/testhost)")
HOST_PROGRAMS = [f"-v={d}:{d}:ro" for d in ("/usr", "/lib", "/lib64") if os.path.isdir(d)]
SPLIT = ("run", "-d", "--rm", "--cgroups=split", "--network=none")


@pytest.fixture
def units(engine: Engine) -> Iterator[Units]:
    made = Units(engine)
    yield made
    made.close()


def pids_below(unit: str) -> set[int]:
    found: set[int] = set()
    for path in Path("/sys/fs/cgroup" + show(unit, "ControlGroup")).rglob("cgroup.procs"):
        found.update(int(word) for word in path.read_text().split())
    return found


def test_systemd_follows_the_supervisor(engine: Engine, units: Units) -> None:
    name = units.service(
        "pt-web.service", *SPLIT, "--name=web", "--memory=64m", "--sdnotify=conmon", "busybox", "sh", "-c",
        "trap 'exit 0' TERM; sleep 4321 & wait", settings="NotifyAccess=main\nKillMode=mixed",
    )  # fmt: skip
    systemctl("start", name)
    state = engine.inspect("web")["State"]
    assert show(name, "MainPID") == str(state["ConmonPid"])
    assert {state["Pid"], state["ConmonPid"]} <= pids_below(name)
    group = Path("/sys/fs/cgroup" + show(name, "ControlGroup"))
    assert (group / "container/memory.max").read_text().strip() == "67108864"
    assert "sleep 4321" in systemctl("status", name)
    assert engine("exec", "web", "echo", "here").line == "here"
    systemctl("stop", name)
    assert (show(name, "ActiveState"), show(name, "Result")) == ("inactive", "success")
    assert engine("ps", "-aq").out == ""
    # the same unit again
    systemctl("start", name)
    assert show(name, "MainPID") == str(engine.inspect("web")["State"]["ConmonPid"])
    systemctl("stop", name)
    assert engine("ps", "-aq").out == ""


@pytest.mark.parametrize(("mode", "pid"), [("enabled", "host"), ("no-conmon", "private")])
def test_a_scope_of_its_own_beside_the_service(engine: Engine, units: Units, mode: str, pid: str) -> None:
    """Without --cgroups=split the container has its usual scope, and systemd still follows the supervisor."""
    name = units.service(
        "pt-web.service", "run", "-d", "--name=web", "--replace", "--network=none", f"--cgroups={mode}", f"--pid={pid}",
        "--memory=64m", "--sdnotify=conmon", "--restart=on-failure", "busybox", "sh", "-c",
        "trap 'exit 0' TERM; sleep 4321 & wait", settings="KillMode=mixed",
    )  # fmt: skip
    systemctl("start", name)
    state = engine.inspect("web")["State"]
    main = int(show(name, "MainPID"))
    assert main == state["ConmonPid"] or pid == "host"
    assert {main, state["ConmonPid"]} <= pids_below(name)
    assert held(engine, "web", "memory.max") == "67108864"
    assert cgroup_of(engine, "web") == SLICE / f"pyctl-{engine.inspect('web')['Id']}.scope" / "container"
    # the scope outlasts a restart
    os.kill(state["Pid"], 9)
    wait_until(lambda: engine.inspect("web")["RestartCount"] == 1 and engine.state("web") == "running", 60, "", 0.2)
    assert held(engine, "web", "memory.max") == "67108864"
    systemctl("stop", name)
    assert (show(name, "ActiveState"), show(name, "Result")) == ("inactive", "success")
    assert engine.state("web") == "exited"


def test_failures_are_seen_and_the_service_is_restarted(engine: Engine, units: Units) -> None:
    name = units.service(
        "pt-web.service", *SPLIT, "--name=web", "--replace", "--sdnotify=conmon", "--stop-timeout=0", "busybox",
        "sleep", "4321", settings="Restart=on-failure\nRestartSec=100ms\nKillMode=mixed",
    )  # fmt: skip
    systemctl("start", name)

    def restarted(times: int) -> bool:
        return show(name, "NRestarts") == str(times) and show(name, "ActiveState") == "active"

    os.kill(engine.inspect("web")["State"]["Pid"], 9)
    wait_until(lambda: restarted(1), 60, "it is started again", 0.2)
    os.kill(engine.inspect("web")["State"]["ConmonPid"], 9)
    wait_until(lambda: restarted(2), 60, "it is started again", 0.2)
    assert engine.state("web") == "running"
    once = units.service("pt-once.service", *SPLIT, "--name=once", "--sdnotify=conmon", "busybox", "sh", "-c", "exit 3")
    systemctl("start", once, status=None)
    wait_active(once, "failed")
    assert (show(once, "Result"), show(once, "ExecMainStatus")) == ("exit-code", "3")
    systemctl("stop", name)
    assert show(name, "ActiveState") in ("inactive", "failed")


def test_a_container_that_does_not_heed_its_stop_signal_is_killed_in_time(engine: Engine, units: Units) -> None:
    name = units.service(
        "pt-deaf.service", *SPLIT, "--name=deaf", "--sdnotify=conmon", "--stop-timeout=2", "busybox", "sleep", "4321",
        settings="KillMode=mixed\nTimeoutStopSec=25",
    )  # fmt: skip
    systemctl("start", name)
    started = time.monotonic()
    systemctl("stop", name)
    assert time.monotonic() - started < 25
    assert (show(name, "Result"), show(name, "ExecMainStatus")) == ("exit-code", "137")
    assert engine("ps", "-aq").out == ""


SPEAKS = """
import os, socket, time
def say(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(text, os.environ["NOTIFY_SOCKET"])
say(b"MAINPID=1\\nSTATUS=warming up")
while not os.path.exists("/go"):
    time.sleep(0.1)
say(b"READY=1\\nSTATUS=serving")
time.sleep(4321)
"""


def test_a_service_that_says_itself_that_it_is_ready(engine: Engine, units: Units) -> None:
    name = units.service(
        "pt-app.service", *SPLIT, "--name=app", "--stop-timeout=0", *HOST_PROGRAMS, "busybox", "/usr/bin/python3", "-c",
        SPEAKS, settings="KillMode=mixed",
    )  # fmt: skip
    order = f"[Unit]\nRequires={name}\nAfter={name}\n"
    after = units.write("pt-after.service", f"{order}[Service]\nType=exec\nExecStart=/bin/sleep 4321\n")
    systemctl("start", "--no-block", after)
    wait_until(lambda: show(name, "StatusText") == "warming up", 60, "its status is shown", 0.2)
    assert (show(name, "ActiveState"), show(after, "ActiveState")) == ("activating", "inactive")
    assert show(name, "MainPID") == str(engine.inspect("app")["State"]["ConmonPid"])
    engine("exec", "app", "touch", "/go")
    wait_active(after, "active")
    assert (show(name, "ActiveState"), show(name, "StatusText")) == ("active", "serving")
    assert show(name, "MainPID") == str(engine.inspect("app")["State"]["ConmonPid"])
    systemctl("stop", after, name)
    assert engine("ps", "-aq").out == ""


def test_a_service_is_ready_with_its_first_good_check(engine: Engine, units: Units) -> None:
    name = units.service(
        "pt-well.service", *SPLIT, "--name=well", "--stop-timeout=0", "--sdnotify=healthy",
        "--health-cmd=test -e /good", "--health-interval=1s", "--health-retries=1000", "busybox", "sleep", "4321",
        settings="KillMode=mixed",
    )  # fmt: skip
    systemctl("start", "--no-block", name)
    wait_until(lambda: engine("ps", "-q").out != "", 60, "it runs", 0.2)
    wait_until(lambda: engine.inspect("well")["State"]["Health"]["Log"], 60, "it is checked", 0.2)
    assert show(name, "ActiveState") == "activating"
    engine("exec", "well", "touch", "/good")
    wait_active(name, "active")
    systemctl("stop", name)


def test_in_the_foreground(engine: Engine, units: Units) -> None:
    name = units.service(
        "pt-front.service", "run", "--rm", "--cgroups=split", "--network=none", "--name=front", "--sdnotify=conmon",
        "busybox", "sh", "-c", "trap 'exit 0' TERM; sleep 4321 & wait", settings="KillMode=mixed",
    )  # fmt: skip
    systemctl("start", name)
    assert show(name, "MainPID") == str(engine.inspect("front")["State"]["ConmonPid"])
    systemctl("stop", name)
    assert (show(name, "ActiveState"), show(name, "Result")) == ("inactive", "success")
    wait_until(lambda: engine("ps", "-aq").out == "", 30)


def test_a_socket_starts_its_container(engine: Engine, units: Units) -> None:
    port = free_port()
    code = "import socket; s = socket.socket(fileno=3)\nwhile True: c, a = s.accept(); c.sendall(b'served'); c.close()"
    units.service(
        "pt-lazy.service", *SPLIT, "--name=lazy", "--sdnotify=conmon", "--stop-timeout=0", *HOST_PROGRAMS, "busybox",
        "/usr/bin/python3", "-c", code, settings="KillMode=mixed",
    )  # fmt: skip
    name = units.write("pt-lazy.socket", f"[Socket]\nListenStream=127.0.0.1:{port}\n")
    systemctl("start", name)
    assert engine("ps", "-q").out == ""
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", port), 60) as client:
            client.settimeout(60)
            assert client.recv(10) == b"served"
    assert engine.inspect("lazy")["HostConfig"]["NetworkMode"] == "none"
    systemctl("stop", name, "pt-lazy.service")
