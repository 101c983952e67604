"""image mount and unmount: in a session of unshare, with which they end."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable

import pytest

from tests.support.engine import COMMAND, Engine, Result
from tests.support.processes import descendants
from tests.support.waiting import wait_until


@pytest.fixture(params=["fuse-overlayfs", "overlay"])
def session(request: pytest.FixtureRequest, engine: Engine) -> Callable[[str], Result]:
    """session(script): shell commands in a session of unshare; $P is the engine with one of the drivers."""
    driver = f"--storage-driver={request.param}"
    tried = engine(driver, "run", "--rm", "--network=none", "busybox", "true", status=None)
    if tried.status:
        pytest.skip(f"storage driver {request.param}: {tried.err}")
    command = shlex.join([*COMMAND, driver])
    return lambda script: engine("unshare", "sh", "-c", f'P="{command}"\n{script}')


def test_mount_and_unmount(engine: Engine, session: Callable[[str], Result]) -> None:
    engine("run", "--name", "c", "--network=none", "busybox", "sh", "-c", "rm /bin/vi; echo new > /new")
    identity = engine("commit", "-q", "c", "made").line
    out = session("""
        m=$($P image mount made); cat $m/new
        test -e $m/bin/vi || echo gone
        touch $m/x 2>/dev/null || echo read-only
        test "$($P image mount made)" = $m && echo again
        $P image mount | wc -l
        $P image mount busybox >/dev/null
        $P image mount | wc -l
        cd $m; $P image unmount made 2>/dev/null || echo busy; cd /
        $P image unmount made
        test -d $m/bin || echo unmounted
        $P image unmount made; echo $?
        $P image unmount --all | wc -l
        $P image mount
    """).out.splitlines()
    assert out == [
        *("new", "gone", "read-only", "again", "1", "2", "busy", identity, "unmounted", "0", "1"),
    ]  # fmt: skip
    listed = json.loads(session("$P image mount --format json made").out)
    assert (listed[0]["id"], listed[0]["Repositories"]) == (identity, ["localhost/made:latest"])
    wait_until(lambda: not [p for p in descendants() if "fuse-overlayfs" in p.command], what="the helpers end")
    engine("rm", "c")
    engine("rmi", "made")


def test_outside_of_a_session(engine: Engine) -> None:
    for words in (("image", "mount", "busybox"), ("image", "mount"), ("image", "unmount", "busybox")):
        assert "pyctl unshare" in engine(*words, status=125).err
    assert "nosuch" in engine("unshare", *COMMAND, "image", "mount", "nosuch", status=125).err
