"""A runtime, network or mount helper that does not do its work: the reason is told, and nothing of the start stays."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.support.engine import Engine
from tests.support.processes import descendants
from tests.support.waiting import wait_until

Fake = Callable[..., dict[str, str | None]]
RUN = ("run", "--rm", "--name", "c", "--network=slirp4netns")
HELPERS = ["crun", "slirp4netns", "fuse-overlayfs", "newuidmap", "newgidmap"]


def refused(engine: Engine, env: dict[str, str | None]) -> str:
    result = engine(*RUN, "busybox", "echo", "ran", env=env, status=None)
    assert result.status in (125, 126, 127), result
    assert "ran" not in result.out
    assert "Traceback" not in result.err
    assert result.err.strip()
    assert engine("ps", "-aq").out == ""
    return result.err


@pytest.mark.parametrize("name", HELPERS)
def test_it_fails(engine: Engine, fake: Fake, name: str) -> None:
    message = refused(engine, fake(name, "echo 'peculiar reason' >&2; exit 1"))
    if name != "fuse-overlayfs":  # what is told there is the mount's own error
        assert name in message or "peculiar reason" in message


@pytest.mark.parametrize("name", HELPERS)
def test_it_is_killed(engine: Engine, fake: Fake, name: str) -> None:
    refused(engine, fake(name, "kill -9 $$"))


@pytest.mark.parametrize("name", HELPERS)
def test_it_succeeds_without_doing_anything(engine: Engine, fake: Fake, name: str) -> None:
    refused(engine, fake(name, "exit 0"))


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_runtime_hangs_and_the_user_gives_up(engine: Engine, fake: Fake, by: signal.Signals) -> None:
    process = engine.spawn(*RUN, "busybox", "true", env=fake("crun", "exec sleep 1234"))
    wait_until(lambda: [p for p in descendants(process.pid) + descendants() if "sleep 1234" in p.command])
    process.send_signal(by)
    assert process.wait(20) != 0
    wait_until(lambda: not [p for p in descendants() if "sleep 1234" in p.command])
    engine("rm", "-f", "c")
    assert engine("ps", "-aq").out == ""


def test_exec_with_a_broken_runtime_leaves_the_container(engine: Engine, fake: Fake) -> None:
    env = fake("crun", 'case "$*" in *exec*) echo no exec >&2; exit 1;; esac; exec $REAL "$@"')
    engine("run", "-d", "--name", "c", "busybox", "sleep", "1000", env=env)
    assert engine("exec", "c", "true", status=None, env=env).status != 0
    assert engine.state("c") == "running"
    engine("rm", "-f", "-t", "0", "c", env=env)
