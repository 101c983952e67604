"""Limits on a host with systemd and cgroup v2, as a user to whom controllers are delegated: really in force."""

import os
import signal
import time

import pytest

from pyctl.engine.model import DeviceRate, Limits
from rootless import cgroup_files
from rootless.plan import CgroupPlan, CgroupWrite
from tests.cgroup.supervise import SYSFS, facts, held, run_in, supervise
from tests.support.waiting import wait_until

HERE = facts()
pytestmark = pytest.mark.skipif(
    not HERE.systemd or "memory" not in HERE.systemd_controllers,
    reason="needs cgroup v2, a systemd user manager and delegated controllers (contrib/testhost)",
)
MEBIBYTE = 1 << 20


def needs(controller):
    return pytest.mark.skipif(controller not in HERE.systemd_controllers, reason=f"{controller} is not delegated")


def scopes():
    found = []
    for directory, below, _files in os.walk(f"{SYSFS}/user.slice"):
        found += [f"{directory}/{name}" for name in below if name.startswith("pyctl-")]
    return found


@pytest.fixture(autouse=True)
def _nothing_is_left():
    assert scopes() == []
    yield
    wait_until(lambda: scopes() == [], 10, "a scope is left")


def test_memory_is_enforced_and_an_oom_kill_is_seen():
    def work(made):
        assert made.oom_killed() is False
        status = run_in(made, "b = bytearray(128 << 20)\nfor i in range(0, len(b), 4096): b[i] = 1")
        return [held(made, "memory.max"), held(made, "memory.swap.max"), status, made.oom_killed(), made.oom_killed()]

    limit, swap, status, killed, again = supervise(work, Limits(memory_bytes=64 * MEBIBYTE))
    assert limit == str(64 * MEBIBYTE)
    assert swap == str(64 * MEBIBYTE)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert (killed, again) == (True, False)


def test_a_process_within_its_memory_lives():
    status = supervise(lambda made: run_in(made, "b = bytearray(8 << 20)"), Limits(memory_bytes=64 * MEBIBYTE))
    assert status == 0


def test_pids_are_enforced():
    code = """
import os
made = 0
try:
    while made < 100:
        if not os.fork():
            import time; time.sleep(60)
        made += 1
except BlockingIOError:
    pass
os._exit(made)
"""

    def work(made):
        made.settle()
        return [held(made, "pids.max"), os.waitstatus_to_exitcode(run_in(made, code)), held(made, "pids.max")]

    limit, forked, _ = supervise(work, Limits(pids=32))
    assert limit == "32"
    assert forked == 31
    # a limit that the OCI runtime itself would not fit into holds once it is done
    limit, forked, _ = supervise(work, Limits(pids=2))
    assert (limit, forked) == ("2", 1)


@needs("cpu")
def test_half_a_cpu_is_half_a_cpu():
    def work(made):
        before = made.usage().cpu_usec
        pid = run_in(made, "while True: pass", wait=False)
        started = time.monotonic()
        wait_until(lambda: time.monotonic() - started > 2, 5, "time does not pass")
        used = made.usage().cpu_usec - before
        elapsed = time.monotonic() - started
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        return [used / 1e6 / elapsed, held(made, "cpu.max"), held(made, "cpu.weight")]

    share, maximum, weight = supervise(work, Limits(cpu_quota_us=50_000, cpu_period_us=100_000, cpu_shares=512))
    assert 0.4 < share < 0.6
    assert maximum == "50000 100000"
    assert weight == "20"


@needs("cpuset")
def test_cpus_are_chosen_or_refused():
    assert supervise(lambda made: held(made, "cpuset.cpus.effective"), Limits(cpuset_cpus="0")) == "0"
    count = os.cpu_count() or 1
    for absent in (f"0-{count}", f"{count + 3}"):
        text = supervise(lambda made: held(made, "cpuset.cpus.effective"), Limits(cpuset_cpus=absent))
        assert text.startswith(f"--cpuset-cpus {absent} cannot take effect: here are 0"), text


@needs("io")
def test_io_limits_are_written_and_read_back():
    disk = next((f"/dev/{n}" for n in os.listdir("/sys/block") if os.path.exists(f"/dev/{n}") and "loop" not in n), "")
    if not disk:
        pytest.skip("no disk here")
    if not os.path.exists(f"{SYSFS}/user.slice/{HERE.io_weight_file}"):
        pytest.skip("this kernel has no io.weight")
    limits = Limits(
        blkio_weight=100,
        device_read_bps=(DeviceRate(path=disk, rate=MEBIBYTE),),
        device_write_iops=(DeviceRate(path=disk, rate=50),),
    )
    text = supervise(lambda made: [held(made, "io.max"), held(made, HERE.io_weight_file)], limits)
    assert "rbps=1048576 wbps=max riops=max wiops=50" in text[0]
    assert text[1].startswith("default ")


def test_further_files_and_their_units():
    limits = Limits(memory_reservation_bytes=5 * MEBIBYTE + 1, cgroup_conf=("memory.high=32M", "memory.oom.group=1"))

    def work(made):
        return [held(made, name) for name in ("memory.low", "memory.high", "memory.oom.group")]

    assert supervise(work, limits) == [str(5 * MEBIBYTE), str(32 * MEBIBYTE), "1"]


def test_a_refused_value_and_an_absent_file_name_the_option():
    text = supervise(lambda _m: None, Limits(cgroup_conf=("memory.high=much",)))
    assert text == "--cgroup-conf cannot take effect: memory.high refuses 'much': Invalid argument"
    text = supervise(lambda _m: None, Limits(cgroup_conf=("memory.nonsense=1",)))
    assert text == "--cgroup-conf cannot take effect: this kernel has no memory.nonsense"


def test_a_value_that_the_kernel_changes_is_noticed():
    row = CgroupWrite(controller="pids", file="pids.max", value="5", option="--pids-limit", expected="6")
    plan = CgroupPlan(mode="scope", scope=f"pyctl-changed{os.getpid()}.scope", writes=(row,))
    text = supervise(lambda made: made.settle(), plan=plan)
    assert "is not in force: pids.max holds" in text


def test_helpers_go_along_into_the_scope():
    def work(made):
        with open(f"{made.path}/supervisor/cgroup.procs") as file:
            return [len(file.read().split()), held(made, "cgroup.procs"), made.path.rsplit("/", 1)[1]]

    assert supervise(work, helpers=2, name="withhelpers") == [3, "", "pyctl-withhelpers.scope"]


def test_freezing_stops_time_for_the_container():
    def work(made):
        pid = run_in(made, "while True: pass", wait=False)
        wait_until(lambda: made.usage().cpu_usec > 0, 10, "it does not run")
        made.freeze(True)
        frozen = [made.usage().cpu_usec for _ in range(2)]
        made.freeze(False)
        wait_until(lambda: made.usage().cpu_usec > frozen[1], 10, "it does not go on")
        made.kill()
        return [frozen[0] == frozen[1], os.waitpid(pid, 0)[1]]

    assert supervise(work) == [True, signal.SIGKILL]


def test_usage_is_what_the_files_say():
    code = "import os, time; b = bytearray(20 << 20); os.write(1, b'.'); time.sleep(60)"

    def work(made):
        pid = run_in(made, code, wait=False)
        wait_until(lambda: made.usage().memory_bytes > 20 * MEBIBYTE, 20, "it does not allocate")
        usage = made.usage()
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        return [usage.memory_bytes, usage.memory_max_bytes, usage.pids, usage.pids_max, usage.cpu_usec]

    memory, maximum, pids, pids_max, cpu = supervise(work, Limits(memory_bytes=64 * MEBIBYTE, pids=10))
    assert 20 * MEBIBYTE < memory < 64 * MEBIBYTE
    assert (maximum, pids, pids_max) == (64 * MEBIBYTE, 1, 10)
    assert cpu > 0


def test_removal_ends_what_is_left_with_nested_cgroups():
    code = """
import os, time
os.mkdir("{0}/container/inner"); os.mkdir("{0}/container/inner/deeper")
if not os.fork():
    open("{0}/container/inner/deeper/cgroup.procs", "w").write("0")
os.write(1, b".")
time.sleep(600)
"""

    def work(made):
        run_in(made, code.format(made.path), wait=False)
        inner = "inner/deeper/cgroup.procs"
        wait_until(lambda: os.path.exists(f"{made.path}/container/{inner}") and held(made, inner), 20, "no start")

    assert supervise(work) is None


# --- without a manager, below a cgroup of ours -------------------------------------------------------


def below_a_scope(work):
    """Calls work(cgroup path that is ours, and holds no process itself), inside a scope."""

    def inside(made):
        return work(made.path.removeprefix(SYSFS))

    return supervise(inside)


def test_a_directory_in_place_of_a_scope():
    def work(parent):
        def limited(made):
            text = [held(made, "memory.max"), held(made, "pids.max"), made.path.removeprefix(SYSFS + parent)]
            status = run_in(made, "b = bytearray(128 << 20)\nfor i in range(0, len(b), 4096): b[i] = 1")
            return [*text, os.WTERMSIG(status), made.oom_killed()]

        row = CgroupWrite(controller="memory", file="memory.max", value=str(32 * MEBIBYTE), option="--memory")
        pids = CgroupWrite(controller="pids", file="pids.max", value="9", option="--pids-limit")
        plan = CgroupPlan(mode="cgroupfs", parent=parent, scope="pyctl-direct.scope", writes=(row, pids))
        result = supervise(limited, plan=plan)
        return [result, sorted(n for n in os.listdir(SYSFS + parent) if n.startswith("pyctl-"))]

    result, left = below_a_scope(work)
    assert result == [str(32 * MEBIBYTE), "9", "/pyctl-direct.scope", signal.SIGKILL, True]
    assert left == []


def test_what_a_killed_supervisor_left_is_swept():
    def work(parent):
        for name in ("pyctl-old.scope/container/x", "pyctl-old.scope/supervisor", "other"):
            os.makedirs(f"{SYSFS}{parent}/{name}")
        return [cgroup_files.sweep(parent), sorted(os.listdir(SYSFS + parent))]

    count, names = below_a_scope(work)
    assert count == 1
    assert "other" in names
    assert not [n for n in names if n.startswith("pyctl-")]


def test_a_service_s_own_cgroup_is_split():
    def work(parent):
        # a cgroup with processes in it, as a unit with Delegate=yes has them
        os.mkdir(f"{SYSFS}{parent}/unit")
        with open(f"{SYSFS}{parent}/cgroup.subtree_control", "w") as file:
            file.write("+memory +pids")
        pid = os.fork()
        if not pid:
            with open(f"{SYSFS}{parent}/unit/cgroup.procs", "w") as file:
                file.write("0")
            cgroup_files.prepare_split(f"{parent}/unit")
            row = CgroupWrite(controller="pids", file="pids.max", value="9", option="--pids-limit")
            plan = CgroupPlan(mode="cgroupfs", parent=f"{parent}/unit", writes=(row,))
            ok = supervise(lambda made: held(made, "pids.max"), plan=plan) == "9"
            own = cgroup_files.own_path()
            os._exit(0 if ok and own == f"{parent}/unit/supervisor" else 1)
        return os.waitpid(pid, 0)[1]

    assert below_a_scope(work) == 0
