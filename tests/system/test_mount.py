"""mount and unmount of containers: in a session of unshare, with which they end."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable

import pytest

from tests.support.engine import COMMAND, Engine, Result
from tests.support.processes import descendants
from tests.support.waiting import wait_until


class Session:
    """Shell commands in a session of unshare; $P is the engine with one of the drivers."""

    def __init__(self, engine: Engine, driver: str) -> None:
        self.driver = f"--storage-driver={driver}"
        self.engine = engine

    def __call__(self, script: str) -> Result:
        command = shlex.join([*COMMAND, self.driver])
        return self.engine("unshare", "sh", "-c", f'P="{command}"\n{script}')

    def outside(self, *words: str, status: int | None = 0) -> Result:
        return self.engine(self.driver, *words, status=status)


@pytest.fixture(params=["fuse-overlayfs", "overlay"])
def session(request: pytest.FixtureRequest, engine: Engine) -> Session:
    made = Session(engine, request.param)
    tried = made.outside("run", "--rm", "--network=none", "busybox", "true", status=None)
    if tried.status:
        pytest.skip(f"storage driver {request.param}: {tried.err}")
    return made


def no_helpers(alive: Callable[[str], bool] = lambda command: "fuse-overlayfs" in command) -> None:
    wait_until(lambda: not [p for p in descendants() if alive(p.command)], what="the helpers end")


def test_a_stopped_container(engine: Engine, session: Session) -> None:
    """What is written there is the container's, owners too; it is committed, and cannot be started meanwhile."""
    identity = session.outside("create", "--name", "c", "--network=none", "busybox", "cat", "/new").line
    out = session("""
        m=$($P mount c); test -e $m/bin/busybox && echo there
        echo written > $m/new; chown 7:8 $m/new; rm $m/bin/vi
        test "$($P container mount c)" = $m && echo again
        $P mount | tr -s " " | cut -d" " -f1; $P mount --no-trunc | cut -d" " -f1
        $P start c 2>&1 | head -n 1
        $P cp c:/new - 2>&1 >/dev/null | head -n 1
        $P commit -q c made > /dev/null
        cd $m; $P unmount c 2>/dev/null || echo busy; cd /
        $P unmount c; test -d $m/bin || echo unmounted
        $P unmount c; $P mount
        $P start -a c
        $P mount -a > /dev/null; $P umount -a
    """).out.splitlines()
    held = "pyctl: container c is mounted in a session of `pyctl unshare`"
    assert out == [
        *("there", "again", identity[:12], identity, held, held, "busy", "c", "unmounted", "c", "written", identity),
    ]  # fmt: skip
    script = "stat -c %u:%g /new; test -e /bin/vi || echo gone"
    assert session.outside("run", "--rm", "--network=none", "made", "sh", "-c", script).out == "7:8\ngone\n"
    listed = json.loads(session("$P mount c > /dev/null; $P mount --format json").out)
    assert [(row["id"], row["Names"]) for row in listed] == [(identity, ["c"])]
    assert listed[0]["mountpoint"].endswith(identity)
    no_helpers()
    # The session has ended, and what it held with it.
    assert wait_until(lambda: session.outside("start", "-a", "c", status=None).out) == "written\n"
    session.outside("rm", "c")
    session.outside("rmi", "made")


def test_a_running_container(engine: Engine, session: Session) -> None:
    """Both see what the other writes; the mount outlasts the container without holding it up."""
    loop = "while ! test -e /from-outside; do sleep 0.02; done; echo inside > /from-inside; sleep 1000"
    session.outside("run", "-d", "--name", "c", "--network=none", "busybox", "sh", "-c", loop)
    out = session("""
        m=$($P mount c); : > $m/from-outside
        i=0; while ! test -s $m/from-inside && test $i -lt 500; do sleep 0.02; i=$((i+1)); done; cat $m/from-inside
        $P stop -t 0 c
        $P unmount c
        $P cp c:/from-inside - | tar -xO
        $P rm c
    """).out.splitlines()
    assert out == ["inside", "c", "c", "inside", "c"]
    no_helpers()


def test_what_was_written_at_the_end_is_kept(engine: Engine, session: Session) -> None:
    """Though the supervisor's unmount, which writes what the kernel holds back, is not the last one."""
    session.outside("run", "-d", "--name", "c", "--network=none", "busybox", "sleep", "1000")
    out = session("""
        m=$($P mount c)
        $P exec c sh -c 'yes | head -c 3000000 > /late'
        $P stop -t 0 c > /dev/null
        $P unmount -f c
        $P cp c:/late - | tar -xO | wc -c
    """).out.split()
    assert out == ["c", "3000000"]
    session.outside("rm", "c")


def test_a_removed_container_is_unmounted(engine: Engine, session: Session) -> None:
    for name in ("c", "d"):
        session.outside("create", "--name", name, "busybox", "true")
    out = session("$P mount c d > /dev/null; $P rm c; $P mount | wc -l")
    assert out.out.split() == ["c", "1"]
    no_helpers()
    session.outside("rm", "d")
    assert list((engine.storage_root / "mounts/containers").iterdir()) == []


def test_outside_of_a_session_and_wrong_words(engine: Engine) -> None:
    engine("create", "--name", "c", "busybox", "true")
    for words in (("mount", "c"), ("mount",), ("container", "mount", "c"), ("unmount", "c"), ("umount", "-a")):
        assert "pyctl unshare" in engine(*words, status=125).err
    inside = ("unshare", *COMMAND)
    assert "nosuch" in engine(*inside, "mount", "nosuch", status=125).err
    assert "xml" in engine(*inside, "mount", "--format", "xml", status=125).err
    engine(*inside, "mount", "-a", "c", status=125)
    engine(*inside, "unmount", status=125)
    engine("rm", "c")
