"""The network process cannot start, or is killed in the middle of it: the reason is told, and nothing of it stays."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.support.engine import Engine
from tests.support.processes import descendants
from tests.support.waiting import wait_until

Fake = Callable[..., dict[str, str | None]]
RUN = ("run", "--rm", "--name", "c", "--network=podman", "busybox")


@pytest.mark.parametrize(
    "script", ["echo 'peculiar reason' >&2; exit 1", "kill -9 $$", "exit 0", "sleep 0.2; exec $REAL --nonsense"]
)
def test_the_way_out_fails(engine: Engine, fake: Fake, script: str) -> None:
    result = engine(*RUN, "echo", "ran", env=fake("slirp4netns", script), status=125)
    assert "slirp4netns" in result.err
    assert "Traceback" not in result.err
    assert engine("ps", "-aq").out == ""
    assert engine(*RUN, "echo", "ran").line == "ran"  # and nothing of it is in the way


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_way_out_hangs_and_the_user_gives_up(engine: Engine, fake: Fake, by: signal.Signals) -> None:
    process = engine.spawn(*RUN, "true", env=fake("slirp4netns", "exec sleep 1234"))
    wait_until(lambda: [p for p in descendants() if "sleep 1234" in p.command])
    process.send_signal(by)
    assert process.wait(20) != 0
    wait_until(lambda: not [p for p in descendants() if "holder_boot" in p.command and p.state != "Z"])
    for left in [p for p in descendants() if "sleep 1234" in p.command]:
        os.kill(left.pid, signal.SIGKILL)  # it has the exit-fd that a real one would watch
    assert engine("ps", "-aq").out == ""
    assert engine(*RUN, "echo", "ran").line == "ran"


def test_the_way_out_is_killed_later(engine: Engine) -> None:
    """Then the network process is not what was promised: the next command makes another one."""
    engine("run", "-d", "--name", "c", "--network=podman", "busybox", "sleep", "1000")
    (uplink,) = [p.pid for p in descendants() if "--cidr=169.254.201.0/24" in p.command]
    os.kill(uplink, signal.SIGKILL)
    wait_until(lambda: not [p for p in descendants() if "holder_boot" in p.command and p.state != "Z"])
    assert "gets its networks back" in engine("ps").err
    wait_until(lambda: "10.88." in engine("exec", "c", "ip", "addr").out)


def test_a_stopped_network_process_is_not_waited_for_without_end(engine: Engine) -> None:
    """SIGSTOP: a start fails in bounded time, and goes on where it continues."""
    engine("run", "-d", "--name", "c", "--network=podman", "busybox", "sleep", "1000")
    (holder,) = [p.pid for p in descendants() if "holder_boot" in p.command]
    os.kill(holder, signal.SIGSTOP)
    try:
        assert engine("ps", "-q").out
        assert engine("exec", "c", "echo", "still there").line == "still there"
        engine("rm", "-f", "-t", "0", "c")
    finally:
        os.kill(holder, signal.SIGCONT)
    assert engine(*RUN, "echo", "ran").line == "ran"
