"""Limits as cgroup files, facts about a machine's cgroups, and the plan: pure, over made-up trees."""

import os

import pytest

from pyctl.engine.model import DeviceRate, Limits
from rootless import cgroup_facts, cgroup_limits, cgroup_plan
from rootless.cgroup_facts import CgroupFacts
from rootless.errors import LimitError
from rootless.plan import CgroupPlan

ALL = ("cpuset", "cpu", "io", "memory", "pids")
SYSTEMD = CgroupFacts(version="v2", own="/x", systemd=True, systemd_controllers=ALL, kernel_controllers=ALL)
ID = "a" * 64


def written(**limits):
    rows = cgroup_limits.cgroup_writes(Limits(**limits), device_number=lambda path: {"/dev/sda": "8:0"}[path])
    return [(row.file, row.value) for row in rows]


@pytest.mark.parametrize(
    ("limits", "files"),
    [
        ({}, []),
        ({"memory_bytes": 64 << 20}, [("memory.max", "67108864"), ("memory.swap.max", "67108864")]),
        ({"memory_bytes": 100, "memory_swap_bytes": 100}, [("memory.max", "100"), ("memory.swap.max", "0")]),
        ({"memory_bytes": 100, "memory_swap_bytes": 300}, [("memory.max", "100"), ("memory.swap.max", "200")]),
        ({"memory_bytes": 100, "memory_swap_bytes": -1}, [("memory.max", "100"), ("memory.swap.max", "max")]),
        ({"memory_bytes": -1}, [("memory.max", "max")]),
        ({"memory_reservation_bytes": 4096}, [("memory.low", "4096")]),
        ({"cpu_quota_us": 50000, "cpu_period_us": 100000}, [("cpu.max", "50000 100000")]),
        ({"cpu_quota_us": 50000}, [("cpu.max", "50000 100000")]),
        ({"cpu_period_us": 20000}, [("cpu.max", "max 20000")]),
        ({"cpu_quota_us": -1, "cpu_period_us": 20000}, [("cpu.max", "max 20000")]),
        ({"cpu_shares": 1024}, [("cpu.weight", "39")]),
        ({"cpu_shares": 2}, [("cpu.weight", "1")]),
        ({"cpu_shares": 262144}, [("cpu.weight", "10000")]),
        ({"cpuset_cpus": "1,0,3-4"}, [("cpuset.cpus", "0-1,3-4")]),
        ({"cpuset_mems": "0"}, [("cpuset.mems", "0")]),
        ({"pids": 32}, [("pids.max", "32")]),
        ({"pids": -1}, [("pids.max", "max")]),
        ({"blkio_weight": 500}, [("io.weight", "default 4950")]),
        (
            {"blkio_weight_device": (DeviceRate(path="/dev/sda", rate=10),)},
            [("io.weight", "8:0 1")],
        ),
        (
            {
                "device_read_bps": (DeviceRate(path="/dev/sda", rate=1048576),),
                "device_write_iops": (DeviceRate(path="/dev/sda", rate=7),),
            },
            [("io.max", "8:0 rbps=1048576"), ("io.max", "8:0 wiops=7")],
        ),
        (
            {"cgroup_conf": ("memory.high=1073741824", "memory.oom.group=1", "cpuset.cpus=1,0")},
            [("memory.high", "1073741824"), ("memory.oom.group", "1"), ("cpuset.cpus", "0-1")],
        ),
    ],
    ids=str,
)
def test_files_of_limits(limits, files):
    assert written(**limits) == files


def test_memory_is_expected_in_whole_pages():
    row, _swap = cgroup_limits.cgroup_writes(Limits(memory_bytes=10_000_000))
    assert (row.value, row.expected) == ("10000000", str(10_000_000 // 4096 * 4096))


def test_only_defaults_are_not_required():
    rows = cgroup_limits.cgroup_writes(Limits(memory_bytes=1 << 20, pids=5))
    assert [(row.file, row.required) for row in rows] == [
        ("memory.max", True),
        ("memory.swap.max", False),
        ("pids.max", True),
    ]


def test_bfq_takes_the_weight_as_it_is():
    (row,) = cgroup_limits.cgroup_writes(Limits(blkio_weight=500), io_weight_file="io.bfq.weight")
    assert (row.file, row.value) == ("io.bfq.weight", "default 500")


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"memory_swappiness": 10}, "--memory-swappiness has no counterpart in cgroup v2"),
        ({"oom_kill_disable": True}, "--oom-kill-disable has no counterpart"),
        ({"cpu_rt_period_us": 5}, "--cpu-rt-period has no counterpart"),
        ({"memory_swap_bytes": 5}, "--memory-swap needs --memory"),
        ({"memory_bytes": 10, "memory_swap_bytes": 5}, "--memory-swap (5) is less than --memory (10)"),
        ({"memory_bytes": 10, "memory_reservation_bytes": 50}, "--memory-reservation is more"),
        ({"cpu_period_us": 5}, "--cpu-period 5 is not between"),
        ({"cpu_quota_us": 5}, "--cpus: a quota of 5 microseconds"),
        ({"cpuset_cpus": "a"}, "--cpuset-cpus 'a' is not a list of numbers"),
        ({"cpuset_cpus": "3-1"}, "--cpuset-cpus '3-1' is not"),
        ({"cpuset_cpus": "0-99999999999"}, "--cpuset-cpus"),
        ({"cpuset_mems": "0,"}, "--cpuset-mems '0,' is not"),
        ({"blkio_weight": 5}, "--blkio-weight 5 is not between 10 and 1000"),
        ({"cgroup_conf": ("memory.high",)}, "--cgroup-conf 'memory.high' is not"),
        ({"cgroup_conf": ("cgroup.procs=1",)}, "--cgroup-conf 'cgroup.procs=1' is not"),
        ({"cgroup_conf": ("../memory.max=1",)}, "--cgroup-conf"),
        ({"cgroup_conf": ("memory.max=1\n2",)}, "--cgroup-conf"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_name(limits, message):
    with pytest.raises(LimitError) as error:
        written(**limits)
    assert message in error.value.message
    assert "\n" not in error.value.message


def test_devices_are_block_devices(tmp_path):
    for path, message in ((tmp_path / "none", "No such file"), (tmp_path, "is not a block device")):
        with pytest.raises(LimitError, match=message):
            cgroup_limits.block_device_number(str(path))


@pytest.mark.parametrize("text", ["0", "0-3", "0,2,4-6", "63,64"])
def test_cpu_lists_round_trip(text):
    assert cgroup_limits.format_cpu_list(cgroup_limits.parse_cpu_list(text)).replace("63-64", "63,64") == text


# --- facts -----------------------------------------------------------------------------------------


class Machine:
    """Directories in place of /proc, /sys/fs/cgroup and /run."""

    def __init__(self, base):
        self.base = base
        for name in ("proc/self", "sys", "run"):
            (base / name).mkdir(parents=True)
        self.cgroup("")

    def cgroup(self, path, controllers="cpu memory pids", procs="", writable=True):
        directory = self.base / "sys" / path.strip("/")
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in (
            ("cgroup.controllers", controllers),
            ("cgroup.procs", procs),
            ("cgroup.subtree_control", ""),
            *((("cgroup.type", "domain"),) if path else ()),
        ):
            file = directory / name
            file.unlink(missing_ok=True)
            file.write_text(text)
            file.chmod(0o644 if writable else 0o444)
        directory.chmod(0o755 if writable else 0o555)

    def own(self, text):
        (self.base / "proc/self/cgroup").write_text(text)

    def manager(self, uid=1000):
        (self.base / f"run/user/{uid}/systemd").mkdir(parents=True)
        (self.base / f"run/user/{uid}/systemd/private").write_text("")

    def detect(self, uid=1000, **env):
        base = str(self.base)
        return cgroup_facts.detect(env, uid, f"{base}/proc", f"{base}/sys", f"{base}/run")


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    yield made
    for directory, _below, _files in os.walk(tmp_path):
        os.chmod(directory, 0o755)


not_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
USER = "/user.slice/user-1000.slice/user@1000.service"


def test_hybrid_v1_and_none(machine):
    machine.own("4:memory:/a\n0::/\n")
    (machine.base / "sys/cgroup.controllers").unlink()
    assert machine.detect().version == "none"
    (machine.base / "sys/memory").mkdir()
    assert machine.detect().version == "v1"
    (machine.base / "sys/unified").mkdir()
    (machine.base / "sys/unified/cgroup.controllers").write_text("")
    facts = machine.detect()
    assert (facts.version, facts.manager) == ("hybrid", "")
    assert cgroup_facts.detect({}, 1, "/nonexistent", "/nonexistent").version == "none"


def test_a_user_manager(machine):
    machine.own("0::/user.slice/user-1000.slice/session-3.scope\n")
    machine.cgroup(USER, "memory pids")
    assert not machine.detect().systemd
    machine.manager()
    facts = machine.detect()
    assert (facts.manager, facts.systemd_controllers) == ("systemd", ("memory", "pids"))
    assert facts.kernel_controllers == ("cpu", "memory", "pids")


@not_root
def test_a_writable_cgroup_without_a_manager(machine):
    machine.cgroup("/a/b/c", "", procs="7\n")
    machine.cgroup("/a/b", "memory")
    machine.cgroup("/a", writable=False)
    machine.own("0::/a/b/c\n")
    facts = machine.detect()
    assert (facts.manager, facts.parent, facts.parent_controllers) == ("cgroupfs", "/a/b", ("memory",))
    machine.cgroup("/a/b", "memory", procs="9\n")
    assert machine.detect().manager == ""
    machine.cgroup("/a/b/c", "cpu")
    assert machine.detect().parent == "/a/b/c"
    assert machine.detect().own_controllers == ("cpu",)


def test_the_root_may_hold_processes(machine):
    machine.cgroup("", "cpu", procs="1\n")
    machine.own("0::/\n")
    assert (machine.detect().parent, machine.detect().parent_controllers) == ("/", ("cpu",))


JOBS = [
    ("/system.slice/slurmstepd.scope/job_17/step_0/user/task_0", "Slurm job 17"),
    ("/slurm/uid_1000/job_17/step_batch", "Slurm job 17"),
    ("/pbs_jobs.service/jobid/12.server", "PBS job 12.server"),
    ("/lsf/cluster1/job.99.1234.5678", "LSF job 99.1234.5678"),
    ("/UGE/44.1", "Grid Engine job 44.1"),
    ("/system.slice/htcondor/condor_slot1_1", "HTCondor job"),
]


@pytest.mark.parametrize(("path", "job"), JOBS)
def test_batch_jobs_by_their_cgroup(machine, path, job):
    machine.manager()
    machine.cgroup(USER)
    machine.cgroup(path, writable=False)
    machine.own(f"0::{path}\n")
    facts = machine.detect()
    assert facts.job == job
    assert facts.systemd
    assert facts.manager != "systemd"  # the job's cgroup is not left


@not_root
def test_a_job_that_was_given_its_cgroup_is_divided_inside(machine):
    job = "/system.slice/slurmstepd.scope/job_17"
    for path, procs in (("/system.slice", ""), ("/system.slice/slurmstepd.scope", ""), (job, "")):
        machine.cgroup(path, "memory", procs=procs)
    machine.cgroup(f"{job}/step_0", "memory", procs="5\n")
    machine.own(f"0::{job}/step_0\n")
    assert machine.detect().parent == job
    machine.cgroup(job, "memory", procs="6\n")
    assert machine.detect().parent == ""  # and never above it


def test_a_variable_counts_only_outside_of_a_login(machine):
    machine.own("0::/user.slice/user-1000.slice/session-1.scope\n")
    assert machine.detect(SLURM_JOB_ID="5").job == ""
    machine.own("0::/system.slice/slurmd.service\n")
    assert machine.detect(SLURM_JOB_ID="5").job == "Slurm job 5"
    assert machine.detect(JOB_ID="5").job == ""
    assert machine.detect(JOB_ID="5", SGE_ROOT="/opt/sge").job == "Grid Engine job 5"


def test_v1_jobs_are_seen_too(machine):
    (machine.base / "sys/cgroup.controllers").unlink()
    (machine.base / "sys/memory").mkdir()
    machine.own("5:memory:/slurm/uid_1000/job_8/step_0\n1:name=systemd:/system.slice/slurmd.service\n")
    assert machine.detect().job == "Slurm job 8"


# --- the plan ------------------------------------------------------------------------------------


def test_a_scope_under_systemd():
    planned = cgroup_plan.plan(SYSTEMD, Limits(memory_bytes=1 << 20), ID, default_pids=2048)
    assert (planned.plan.mode, planned.plan.scope, planned.plan.slice) == ("scope", f"pyctl-{ID}.scope", "user.slice")
    assert [(w.file, w.required) for w in planned.plan.writes] == [
        ("memory.max", True),
        ("memory.swap.max", False),
        ("pids.max", False),
    ]
    assert cgroup_plan.plan(SYSTEMD.replace(root=True), Limits(), ID).plan.slice == "machine.slice"
    assert cgroup_plan.plan(SYSTEMD, Limits(), ID, cgroup_parent="web.slice").plan.slice == "web.slice"
    with pytest.raises(LimitError, match=r"--cgroup-parent web is not the name of a slice"):
        cgroup_plan.plan(SYSTEMD, Limits(), ID, cgroup_parent="web")


def test_a_default_is_not_written_over_what_was_asked_for():
    limits = Limits(cgroup_conf=("pids.max=9",))
    planned = cgroup_plan.plan(SYSTEMD, limits, ID, default_pids=2048)
    assert [(w.file, w.value) for w in planned.plan.writes] == [("pids.max", "9")]


def test_a_default_never_fails_a_run():
    facts = SYSTEMD.replace(systemd_controllers=("memory",))
    assert cgroup_plan.plan(facts, Limits(), ID, default_pids=2048).plan.writes == ()
    hybrid = CgroupFacts(version="hybrid")
    assert cgroup_plan.plan(hybrid, Limits(), ID, default_pids=2048).plan == CgroupPlan()


@pytest.mark.parametrize(
    ("facts", "words", "hint"),
    [
        (CgroupFacts(version="hybrid"), "cgroup v1/hybrid: no controller of v2", "unified_cgroup_hierarchy"),
        (CgroupFacts(version="v1"), "cgroup v1: no controller of v2", "unified_cgroup_hierarchy"),
        (CgroupFacts(version="none"), "no cgroup file system at /sys/fs/cgroup", ""),
        (CgroupFacts(version="v2", own="/a"), "no systemd user manager can be reached", "enable-linger"),
        (CgroupFacts(version="v2", own="/a", job="Slurm job 3"), "inside Slurm job 3 a container stays", "sbatch"),
        (
            SYSTEMD.replace(systemd_controllers=("cpu", "pids")),
            "controller memory is not delegated to this user (delegated: cpu pids)",
            "Delegate=cpu cpuset io memory pids",
        ),
        (
            SYSTEMD.replace(kernel_controllers=("cpu",), systemd_controllers=("cpu",)),
            "this kernel has no cgroup controller memory",
            "",
        ),
    ],
    ids=["hybrid", "v1", "none", "no manager", "job", "not delegated", "not built"],
)
def test_a_limit_that_cannot_hold_fails_with_the_reason(facts, words, hint):
    limits = Limits(memory_bytes=1 << 20)
    with pytest.raises(LimitError) as error:
        cgroup_plan.plan(facts, limits, ID)
    assert error.value.message.startswith("--memory")
    assert words in error.value.message
    assert hint in error.value.hint
    planned = cgroup_plan.plan(facts, limits, ID, enforce=False)
    assert not [w for w in planned.plan.writes if w.required]
    assert words in planned.warnings[0]


def test_several_options_are_named_together():
    facts = SYSTEMD.replace(systemd_controllers=("pids",))
    with pytest.raises(
        LimitError, match=r"--memory, --cpus cannot take effect: the cgroup controllers memory, cpu are"
    ):
        cgroup_plan.plan(facts, Limits(memory_bytes=1 << 20, cpu_quota_us=50000, pids=3), ID)


def test_cgroups_disabled_contradicts_a_limit():
    assert cgroup_plan.plan(SYSTEMD, Limits(), ID, cgroups="disabled").plan.mode == "disabled"
    with pytest.raises(LimitError, match="--pids-limit cannot take effect: there is no cgroup of its own"):
        cgroup_plan.plan(SYSTEMD, Limits(pids=3), ID, cgroups="disabled")


def test_split_no_conmon_and_parents():
    facts = CgroupFacts(version="v2", own="/s", own_controllers=ALL, kernel_controllers=ALL)
    split = cgroup_plan.plan(facts, Limits(pids=3), ID, cgroups="split").plan
    assert (split.mode, split.parent, split.scope) == ("cgroupfs", "/s", "")
    with pytest.raises(LimitError, match="--pids-limit cannot take effect: the cgroup /s is not ours"):
        cgroup_plan.plan(facts.replace(own_controllers=()), Limits(pids=3), ID, cgroups="split")
    with pytest.raises(LimitError, match="--cgroups=split: the cgroup /s is not ours"):
        cgroup_plan.plan(facts.replace(own_controllers=()), Limits(), ID, cgroups="split")
    free = CgroupFacts(version="v2", own="/p/s", parent="/p", parent_controllers=ALL, kernel_controllers=ALL)
    assert cgroup_plan.plan(free, Limits(), ID).plan.parent == "/p"
    assert not cgroup_plan.plan(free, Limits(), ID, cgroups="no-conmon").plan.move_supervisor
    assert cgroup_plan.plan(free, Limits(), ID, cgroup_parent="web/a").plan.parent == "/p/web/a"
    assert cgroup_plan.plan(free, Limits(), ID, cgroup_parent="/p/web").plan.parent == "/p/web"
    with pytest.raises(LimitError, match="no \\.\\. here"):
        cgroup_plan.plan(free, Limits(), ID, cgroup_parent="../x")
    assert not cgroup_plan.plan(SYSTEMD, Limits(), ID, cgroups="no-conmon").plan.move_supervisor


def test_a_named_manager_is_taken_or_refused():
    inside = SYSTEMD.replace(job="Slurm job 3")
    assert cgroup_plan.plan(inside, Limits(pids=3), ID, manager="systemd").plan.mode == "scope"
    nobody = CgroupFacts(version="v2", own="/a")
    with pytest.raises(LimitError, match="--cgroup-manager=systemd: no systemd user manager can be reached"):
        cgroup_plan.plan(nobody, Limits(), ID, manager="systemd")
    assert cgroup_plan.plan(nobody, Limits(), ID, manager="systemd", enforce=False).warnings
    assert cgroup_plan.plan(nobody, Limits(), ID).plan == CgroupPlan()
