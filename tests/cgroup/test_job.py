"""Inside a batch job containers stay in the job's cgroup; where else a container's cgroup goes, as its options say.

Needs the test host, as test_engine does.  The job is a scope of the user's own with a scheduler's directories in it.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.cgroup.test_engine import SLICE, _no_scope_is_left, cgroup_of, held, pytestmark  # noqa: F401
from tests.cgroup.units import RUNTIME, systemctl
from tests.support.engine import Engine
from tests.support.waiting import wait_until

# $1: the job's directory for this process; then a command to run there.
ENTER = """
top=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
mkdir -p "$top/$1"
echo $$ > "$top/$1/cgroup.procs"
path=$top
for part in $(dirname "$1" | tr / ' '); do
  echo '+memory +pids +cpu' > "$path/cgroup.subtree_control"
  [ "$part" = . ] || path=$path/$part
done
[ "$path" = "$top" ] || echo '+memory +pids +cpu' > "$path/cgroup.subtree_control"
shift
exec "$@"
"""


def job(engine: Engine, place: str) -> tuple[str, ...]:
    """What to put before a command that is to run in the job's `place`."""
    scope = ("systemd-run", "--user", "--quiet", "--scope", "--collect", "--unit=slurmstepd", "--property=Delegate=yes")
    own = ("env", f"XDG_RUNTIME_DIR={engine.runtime}", "sh", "-c", ENTER, "sh", place)
    return ("env", f"XDG_RUNTIME_DIR={RUNTIME}", *scope, *own)


def no_job_is_left() -> None:
    state = ("show", "-P", "ActiveState", "slurmstepd.scope")
    wait_until(lambda: systemctl(*state).strip() == "inactive", 30, "the job has ended", 0.2)


def test_a_container_stays_in_the_job_with_its_limits(engine: Engine) -> None:
    run = ("run", "-d", "--network=none", "--name=box", "--memory=64m", "busybox", "sleep", "1000")
    engine(*run, prefix=job(engine, "job_17/step_0/task_0"))
    group = cgroup_of(engine, "box")
    assert f"/slurmstepd.scope/job_17/step_0/pyctl-{engine.inspect('box')['Id']}.scope/container" in str(group)
    assert held(engine, "box", "memory.max") == "67108864"
    supervisor = engine.inspect("box")["State"]["ConmonPid"]
    assert "/slurmstepd.scope/job_17/" in Path(f"/proc/{supervisor}/cgroup").read_text()
    # started from outside it is no part of the job
    engine("restart", "-t", "0", "box")
    assert "slurmstepd" not in str(cgroup_of(engine, "box"))
    engine("rm", "-f", "-t", "0", "box")
    no_job_is_left()


def test_a_job_that_may_not_be_divided(engine: Engine) -> None:
    place = job(engine, "job_18")
    result = engine("run", "--rm", "--memory=64m", "busybox", "true", prefix=place, status=125)
    assert "--memory cannot take effect: inside Slurm job 18" in result.err
    assert "ask the scheduler" in result.err
    no_job_is_left()
    # without a limit it runs, in the job's own cgroup
    engine("run", "-d", "--network=none", "--name=box", "busybox", "sleep", "1000", prefix=place)
    assert str(cgroup_of(engine, "box")).endswith("/slurmstepd.scope/job_18")
    engine("rm", "-f", "-t", "0", "box")
    no_job_is_left()
    # who wants Podman's way is warned
    config = engine.home / ".config/pyctl/pyctl.conf"
    config.parent.mkdir(parents=True)
    config.write_text('limits = "warn"\n')
    try:
        result = engine("run", "--rm", "--memory=64m", "busybox", "echo", "runs", prefix=place)
        assert result.line == "runs"
        assert "the container runs without this limit" in result.err
        assert "Slurm job 18" in result.err
    finally:
        config.unlink()
    no_job_is_left()


def test_no_cgroup_of_its_own(engine: Engine) -> None:
    own = Path("/proc/self/cgroup").read_text().strip()
    engine("run", "-d", "--network=none", "--name=box", "--cgroups=disabled", "busybox", "sleep", "1000")
    pid = engine.inspect("box")["State"]["Pid"]
    assert Path(f"/proc/{pid}/cgroup").read_text().strip() == own
    result = engine("run", "--rm", "--cgroups=disabled", "--pids-limit=5", "busybox", "true", status=125)
    assert "--pids-limit cannot be combined with --cgroups=disabled" in result.err
    engine("rm", "-f", "-t", "0", "box")


def test_a_slice_and_files_by_name(engine: Engine) -> None:
    conf = ("--cgroup-parent=pt-web.slice", "--cgroup-conf=memory.high=33554432", "--cgroup-conf=pids.max=9")
    engine("run", "-d", "--network=none", "--name=box", *conf, "busybox", "sleep", "1000")
    assert "/pt.slice/pt-web.slice/pyctl-" in str(cgroup_of(engine, "box"))
    assert [held(engine, "box", name) for name in ("memory.high", "pids.max")] == ["33554432", "9"]
    engine("rm", "-f", "-t", "0", "box")
    systemctl("stop", "pt-web.slice", "pt.slice", status=None)
    result = engine("run", "--rm", "--cgroup-parent=/no/slice", "busybox", "true", status=125)
    assert "is not the name of a slice" in result.err
    assert engine("ps", "-aq").out == ""


def test_the_supervisor_stays_where_it_was(engine: Engine) -> None:
    """--cgroups=no-conmon: the scope is the container's alone, and ends with it."""
    own = Path("/proc/self/cgroup").read_text().strip()
    limits = ("--cgroups=no-conmon", "--memory=64m")
    engine("run", "-d", "--network=none", "--name=box", *limits, "busybox", "sleep", "1000")
    state = engine.inspect("box")["State"]
    assert Path(f"/proc/{state['ConmonPid']}/cgroup").read_text().strip() == own
    assert cgroup_of(engine, "box").parent.parent == SLICE
    assert held(engine, "box", "memory.max") == "67108864"
    engine("pause", "box")
    engine("unpause", "box")
    os.kill(state["ConmonPid"], 9)
    engine.wait_state("box", "exited")
    engine("rm", "box")
