"""Containers as services: what a service manager is told, by whom, and what a container gets of it."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import IS_PODMAN, Engine
from tests.support.manager import Manager
from tests.support.processes import alive, descendants
from tests.support.registry import Registry
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(IS_PODMAN, reason="about pyctl's supervisor")

# The host's python in the container: it can send to a socket.
HOST_PROGRAMS = [f"-v={d}:{d}:ro" for d in ("/usr", "/lib", "/lib64") if os.path.isdir(d)]
SPEAK = """
import array, os, socket, sys
address = os.environ["NOTIFY_SOCKET"]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(address)
s.send(b"MAINPID=1\\nFDSTORE=1")
s.sendmsg([b"FDSTORE=1\\nFDNAME=x\\nSTATUS=half way\\nNOTIFYACCESS=all"],
          [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]).tobytes())])
s.send(b"STATUS=" + b"x" * 5000)
s.send(b"READY=1\\nMAINPID=1")
r, w = os.pipe()
s.sendmsg([b"BARRIER=1"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [w]).tobytes())])
os.close(w)
os.read(r, 1)
print("told", address, os.environ.get("WATCHDOG_USEC"), flush=True)
os.execv("/bin/sleep", ["sleep", "1000"])
"""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path)
    yield made
    made.close()


def supervisor_status(pid: int) -> int:
    """The exit status of an ended supervisor, whose orphan's parent this process is."""
    wait_until(lambda: not alive(pid), 30, "the supervisor has ended")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_container_says_itself_that_it_is_ready(engine: Engine, manager: Manager) -> None:
    env = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "7000000"}
    engine("run", "-d", "--name=c", *HOST_PROGRAMS, "busybox", "/usr/bin/python3", "-c", SPEAK, env=env)
    first = manager.receive()
    supervisor = engine.inspect("c")["State"]["ConmonPid"]
    assert first.text == f"MAINPID={supervisor}"
    assert first.pid != supervisor
    # what it may not say is left out, and descriptors; the manager hears it from the process that it follows
    assert manager.receive() == (supervisor, "STATUS=half way", 0)
    assert manager.receive() == (supervisor, "READY=1", 0)
    assert "told /run/notify/notify.sock 7000000" in engine.wait_log("c", "told")
    assert manager.nothing_more()
    # what is run beside it is not the service, and has nothing to do with the caller's manager either
    assert "NOTIFY" not in engine("exec", "c", "env", env=env).out
    engine("stop", "-t", "30", "c", env=env)
    assert manager.receive() == (supervisor, "STOPPING=1", 0)
    assert supervisor_status(supervisor) in (0, 137)  # sleep, as PID 1, does not heed SIGTERM
    engine("rm", "c")
    assert manager.nothing_more()
    # a container may run as any user, in a user namespace of its own too
    user = ("--user=77", "--userns=keep-id")
    engine("run", "-d", "--name=c", *user, *HOST_PROGRAMS, "busybox", "/usr/bin/python3", "-c", SPEAK, env=env)
    manager.until("READY=1")
    engine("rm", "-f", "-t", "0", "c")


def test_ready_when_it_has_been_started(engine: Engine, manager: Manager) -> None:
    env = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "400000"}
    script = "trap 'exit 0' TERM; env; ls /run/notify; sleep 1000 & wait"
    engine("run", "-d", "--name=c", "--sdnotify=conmon", "--env-host", "busybox", "sh", "-c", script, env=env)
    first = manager.receive()
    supervisor = engine.inspect("c")["State"]["ConmonPid"]
    assert first.text == f"MAINPID={supervisor}\nREADY=1"
    assert manager.until("WATCHDOG=1").pid == supervisor
    log = engine.wait_log("c", "No such file")
    assert "NOTIFY_SOCKET" not in log
    assert "WATCHDOG" not in log
    assert engine.inspect("c")["Config"]["sdNotifyMode"] == "conmon"
    engine("stop", "c")
    assert supervisor_status(supervisor) == 0
    # start tells it as run does
    engine("start", "c", env=env)
    assert "READY=1" in manager.until("READY=1").text
    engine("rm", "-f", "-t", "0", "c")


def test_ready_with_the_first_good_check(engine: Engine, manager: Manager) -> None:
    env = {"NOTIFY_SOCKET": manager.address}
    check = ("--health-cmd=test -e /good", "--health-interval=300ms", "--health-retries=100")
    engine("run", "-d", "--name=c", "--sdnotify=healthy", *check, "busybox", "sleep", "1000", env=env)
    supervisor = int(manager.receive().text.removeprefix("MAINPID="))
    wait_until(lambda: len(engine.inspect("c")["State"]["Health"]["Log"] or ()) > 1, 30)
    assert manager.nothing_more()
    engine("exec", "c", "touch", "/good")
    assert manager.receive() == (supervisor, "READY=1", 0)
    engine("rm", "-f", "-t", "0", "c")


def test_nothing_is_told_where_nothing_is_to_be_told(engine: Engine, manager: Manager) -> None:
    env = {"NOTIFY_SOCKET": manager.address}
    script = "env; ls -d /run/notify"
    shown = engine("run", "--rm", "--sdnotify=ignore", "busybox", "sh", "-c", script, env=env, status=1)
    assert "NOTIFY" not in shown.out
    assert manager.nothing_more()
    # without a manager nothing is different, whatever was asked for
    assert engine("run", "--rm", "--sdnotify=conmon", "busybox", "echo", "runs").line == "runs"
    assert "NOTIFY" not in engine("run", "--rm", "busybox", "env").out


def test_a_manager_that_is_not_there(engine: Engine, tmp_path: Path) -> None:
    env = {"NOTIFY_SOCKET": str(tmp_path / "none")}
    result = engine("run", "--name=c", "--sdnotify=conmon", "busybox", "true", env=env, status=125)
    assert "--sdnotify=conmon: NOTIFY_SOCKET" in result.err
    assert "no such file" in result.err.lower()
    assert engine("ps", "-aq").out == ""
    result = engine("run", "--rm", "busybox", "echo", "runs", env=env)
    assert (result.line, "the service manager is told nothing" in result.err) == ("runs", True)


def test_bad_words_are_refused(engine: Engine) -> None:
    assert "container, conmon, healthy, ignore" in engine("run", "--sdnotify=yes", "busybox", "true", status=125).err
    assert "health" in engine("run", "--sdnotify=healthy", "busybox", "true", status=125).err


def test_the_supervisor_ends_as_its_container_did(engine: Engine) -> None:
    engine("run", "-d", "--name=d", "busybox", "sleep", "1000")
    pid = engine.inspect("d")["State"]["ConmonPid"]
    engine("kill", "d")
    assert supervisor_status(pid) == 137
    engine("rm", "d")
    # also where another command cleans up in its place
    engine("run", "-d", "--rm", "--name=e", "busybox", "sh", "-c", "trap 'exit 9' TERM; echo up; sleep 1000 & wait")
    engine.wait_log("e", "up")
    pid = engine.inspect("e")["State"]["ConmonPid"]
    engine("kill", "-s", "TERM", "e")
    assert supervisor_status(pid) == 9
    assert engine("ps", "-aq").out == ""


def test_a_guardian_is_followed_and_ends_alike(engine: Engine, manager: Manager) -> None:
    env = {"NOTIFY_SOCKET": manager.address}
    script = "trap 'exit 5' TERM; echo up; sleep 1000 & wait"
    engine("run", "-d", "--name=c", "--pid=host", "--sdnotify=conmon", "busybox", "sh", "-c", script, env=env)
    main = int(manager.receive().text.split("\n")[0].removeprefix("MAINPID="))
    engine.wait_log("c", "up")
    assert engine.inspect("c")["State"]["ConmonPid"] in [p.pid for p in descendants(main)]
    os.kill(main, 15)  # as KillMode=mixed does
    assert manager.until("STOPPING=1").pid != 0
    assert supervisor_status(main) == 5
    assert engine.inspect("c")["State"]["ExitCode"] == 5
    engine("rm", "c")


def test_the_network_outlives_a_signal_to_all(engine: Engine) -> None:
    """KillMode=control-group and the end of a session signal every process, helpers too."""
    script = "trap 'ls /sys/class/net; sleep 1; echo bye; exit 0' TERM; echo up; sleep 1000 & wait; wait"
    engine("run", "-d", "--name=c", "--network=slirp4netns", "busybox", "sh", "-c", script)
    engine.wait_log("c", "up")
    state = engine.inspect("c")["State"]
    below = descendants(state["ConmonPid"])
    assert any("slirp4netns" in p.command for p in below)
    for pid in [state["ConmonPid"], *(p.pid for p in below if p.pid != state["Pid"] and p.ppid != state["Pid"])]:
        os.kill(pid, 15)
    engine.wait_state("c", "exited")
    ended = engine.inspect("c")["State"]
    assert (ended["ExitCode"], ended["Error"]) == (0, "stopped with its session or the machine")
    assert "bye" in engine("logs", "c").out
    engine("rm", "c")


LISTENER = """
import os, sys
high = [os.dup(os.dup(int(word))) for word in sys.argv[1].split(",")]
for number, fd in enumerate(high, 3):
    os.dup2(fd, number)
os.environ.setdefault("LISTEN_PID", str(os.getpid()))
os.execvp(sys.argv[2], sys.argv[2:])
"""


def test_sockets_are_passed_on(engine: Engine, tmp_path: Path) -> None:
    with socket.socket() as listener, (tmp_path / "other").open("w") as other:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        both = (listener.fileno(), other.fileno())
        passed = {"pass_fds": both, "prefix": (sys.executable, "-c", LISTENER, ",".join(map(str, both)))}
        env = {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "web"}
        script = "env | grep LISTEN; echo told >&4; ls -l /proc/self/fd"
        out = engine("run", "--rm", "--preserve-fds=1", "busybox", "sh", "-c", script, env=env, **passed).out
        assert {"LISTEN_FDS=1", "LISTEN_PID=1", "LISTEN_FDNAMES=web"} <= set(out.splitlines())
        assert "3 -> socket:" in out
        assert (tmp_path / "other").read_text() == "told\n"
        # accept in the container, without any network of its own
        script = "import socket; s = socket.socket(fileno=3); c, a = s.accept(); c.sendall(b'served'); c.close()"
        engine("create", "--name=c", "--network=none", *HOST_PROGRAMS, "busybox", "/usr/bin/python3", "-c", script)
        engine("start", "c", env=env, **passed)
        with socket.create_connection(listener.getsockname(), 30) as client:
            assert client.recv(10) == b"served"
        engine("wait", "c")
        engine("rm", "c")
        # they were meant for another process: as with any program, nothing happens
        assert "LISTEN" not in engine("run", "--rm", "busybox", "env", env={**env, "LISTEN_PID": "1"}, **passed).out
        result = engine("run", "--rm", "busybox", "true", env={**env, "LISTEN_FDS": "19"}, status=125, **passed)
        assert "LISTEN_FDS=19: descriptor" in result.err


def test_a_start_takes_longer_while_an_image_arrives(fresh: Engine, registry: Registry, manager: Manager) -> None:
    env = {"NOTIFY_SOCKET": manager.address}
    image = f"{registry.address}/busybox:1"
    fresh("run", "--rm", "--tls-verify=false", "--sdnotify=conmon", image, "/bin/busybox", "true", env=env)
    assert manager.receive(60).text == "EXTEND_TIMEOUT_USEC=60000000"
    assert "READY=1" in manager.until("READY=1", 60).text
