"""Namespaces that are shared: with the host, another container, a path."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.support.engine import IS_PODMAN, Engine
from tests.support.processes import Process, alive, descendants
from tests.support.waiting import wait_until


@pytest.fixture
def other(engine: Engine) -> Engine:
    """A running container named other."""
    engine("run", "-d", "--name", "other", "--ipc", "shareable", "--hostname", "otherhost", "busybox", "sleep", "1000")
    return engine


def link(engine: Engine, namespace: str, *options: str) -> str:
    return engine("run", "--rm", *options, "busybox", "readlink", f"/proc/self/ns/{namespace}").line


@pytest.mark.parametrize(
    ("namespace", "option"), [("pid", "--pid"), ("ipc", "--ipc"), ("uts", "--uts"), ("net", "--network")]
)
def test_of_the_host(engine: Engine, namespace: str, option: str) -> None:
    assert link(engine, namespace, option, "host") == os.readlink(f"/proc/self/ns/{namespace}")


@pytest.mark.parametrize(
    ("namespace", "option"), [("pid", "--pid"), ("ipc", "--ipc"), ("uts", "--uts"), ("net", "--network")]
)
def test_of_another_container(other: Engine, namespace: str, option: str) -> None:
    its = other("exec", "other", "readlink", f"/proc/self/ns/{namespace}").line
    assert link(other, namespace, option, "container:other") == its


def test_pid_of_the_host_sees_its_processes(engine: Engine) -> None:
    assert (
        engine("run", "--rm", "--pid=host", "busybox", "sh", "-c", f"test -d /proc/{os.getpid()} && echo seen").line
        == "seen"
    )


def test_pid_of_the_host_ends_with_its_container(engine: Engine) -> None:
    engine("run", "-d", "--name", "c", "--pid=host", "busybox", "sh", "-c", "sleep 4321 & sleep 4322")
    engine("stop", "-t", "1", "c")
    assert engine.state("c") == "exited"


def supervisor_and_guardian(engine: Engine, container: str) -> tuple[Process, Process]:
    folder = engine.runtime_root / engine.inspect(container)["Id"]
    table = {p.pid: p for p in descendants()}
    supervisor = table[int((folder / "supervisor").read_text().split()[0])]
    return supervisor, table[supervisor.ppid]


@pytest.mark.skipif(IS_PODMAN, reason="about pyctl's supervisor")
@pytest.mark.parametrize("mode", ["host", "container:other"])
@pytest.mark.parametrize("victim", ["supervisor", "guardian"])
def test_shared_pid_namespace_and_a_kill(other: Engine, mode: str, victim: str) -> None:
    """Without a pid namespace of its own the kernel does not end the container's processes: the engine does."""
    script = "(setsid sleep 1001 &); sleep 1002 & echo here; sleep 1003"
    mine = {p.pid for p in descendants()}
    other("run", "-d", "--name", "c", f"--pid={mode}", "busybox", "sh", "-c", script)
    other.wait_log("c", "here")
    doomed = [p.pid for p in descendants() if p.pid not in mine]
    supervisor, guardian = supervisor_and_guardian(other, "c")
    os.kill(supervisor.pid if victim == "supervisor" else guardian.pid, signal.SIGKILL)
    wait_until(lambda: not [pid for pid in doomed if alive(pid)], what=f"all of {doomed} end")
    assert other.state("c") == "exited"
    assert other.state("other") == "running"
    other("start", "c")
    other("stop", "-t", "0", "c")


def test_pid_of_another_sees_it(other: Engine) -> None:
    out = other("run", "--rm", "--pid=container:other", "busybox", "ps").out
    assert "sleep 1000" in out


def test_uts_of_the_host(engine: Engine) -> None:
    assert engine("run", "--rm", "--uts=host", "busybox", "hostname").line == os.uname().nodename


def test_uts_of_another(other: Engine) -> None:
    assert other("run", "--rm", "--uts=container:other", "busybox", "hostname").line == "otherhost"


def test_cgroupns(engine: Engine) -> None:
    own = engine("run", "--rm", "--cgroupns=private", "busybox", "readlink", "/proc/self/ns/cgroup").line
    assert own != os.readlink("/proc/self/ns/cgroup")


def test_shared_memory_of_another(other: Engine) -> None:
    other("exec", "other", "sh", "-c", "echo shared > /dev/shm/file")
    assert other("run", "--rm", "--ipc=container:other", "busybox", "cat", "/dev/shm/file").line == "shared"


def test_private_ipc_is_not_given_away(engine: Engine) -> None:
    engine("run", "-d", "--name", "closed", "--ipc", "private", "busybox", "sleep", "1000")
    assert engine("run", "--rm", "--ipc=container:closed", "busybox", "true", status=None).status == 125


def test_by_path(other: Engine) -> None:
    pid = other.inspect("other")["State"]["Pid"]
    its = other("exec", "other", "readlink", "/proc/self/ns/net").line
    assert link(other, "net", "--network", f"ns:/proc/{pid}/ns/net") == its


@pytest.mark.parametrize("option", ["--pid", "--ipc", "--uts", "--network"])
def test_of_a_container_that_is_not_there(engine: Engine, option: str) -> None:
    assert "absent" in engine("run", "--rm", f"{option}=container:absent", "busybox", "true", status=125).err
    engine("create", "--name", "still", "busybox", "true")
    result = engine("run", "--rm", f"{option}=container:still", "busybox", "true", status=None)
    assert result.status != 0
    assert engine("ps", "-aq", "--filter", "status=running").out == ""


@pytest.mark.parametrize("option", ["--pid", "--ipc", "--uts", "--cgroupns"])
def test_bad_modes(engine: Engine, option: str) -> None:
    assert "nosuchmode" in engine("run", "--rm", f"{option}=nosuchmode", "busybox", "true", status=125).err


def test_the_end_of_the_owner_is_the_end_of_a_shared_pid_namespace(other: Engine) -> None:
    other("run", "-d", "--name", "guest", "--pid=container:other", "busybox", "sleep", "1000")
    other("kill", "other")
    wait_until(lambda: other.state("guest") == "exited")


def test_the_end_of_a_short_container_harms_nobody_else(engine: Engine) -> None:
    """One that shares the host's pid namespace and has ended before its own namespaces could be looked at."""
    with subprocess.Popen(["sleep", "1000"]) as bystander:
        for _ in range(15):
            engine("run", "--rm", "--pid=host", "--network=none", "busybox", "true")
            assert bystander.poll() is None
        bystander.kill()
