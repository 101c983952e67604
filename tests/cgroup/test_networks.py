"""The network process on a host with systemd: it belongs to no container's service and to no login."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless import cgroup_facts
from tests.support.engine import Engine
from tests.support.waiting import wait_until

HERE = cgroup_facts.detect(os.environ, os.getuid())
pytestmark = pytest.mark.skipif(not HERE.systemd, reason="needs a systemd user manager (contrib/testhost)")


def cgroup(pid: int) -> str:
    return next(line[3:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::"))


def test_a_scope_of_its_own(engine: Engine) -> None:
    first = engine("run", "--rm", "--network=podman", "busybox", "true", status=None)
    if "packet filtering" in first.err:
        pytest.skip("this kernel has no nf_tables")
    assert first.status == 0, first.err
    engine("run", "-d", "--name", "a", "--network=podman", "busybox", "sleep", "1000")
    pid = int(Path(engine.runtime_root, "network/supervisor").read_text().split()[0])
    place = cgroup(pid)
    assert "/pyctl-network-" in place
    assert place.endswith(".scope")
    assert len(Path("/sys/fs/cgroup" + place, "cgroup.procs").read_text().split()) == 2  # with its slirp4netns
    engine("rm", "-f", "-t", "0", "a")
    wait_until(lambda: not Path("/sys/fs/cgroup" + place).exists(), 30, "the scope is gone")
