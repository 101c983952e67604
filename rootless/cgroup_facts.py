"""What this session may do with cgroups: version, own place, batch job, who makes new ones, delegated controllers.

Weight: `os`, `rootless.values`.  `detect` takes about 0.1 ms.  See cgroups(7) and the kernel's cgroup-v2.rst.
"""

from __future__ import annotations

import os

from rootless.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class CgroupFacts(Value):
    """What this process may do with cgroups; paths are cgroup paths below `sysfs`."""

    version: str  # "v2" | "hybrid" | "v1" | "none"
    sysfs: str = "/sys/fs/cgroup"
    own: str = ""  # this process's cgroup in the v2 hierarchy
    own_controllers: tuple[str, ...] = ()  # of it, where it is ours to divide (a service with Delegate=yes)
    job: str = ""  # "Slurm job 17": a batch job, whose cgroup containers don't leave
    systemd: bool = False  # a manager of this user (for root: the system's) is there
    systemd_controllers: tuple[str, ...] = ()  # what it may hand on
    parent: str = ""  # nearest cgroup that cgroups may be made in without a manager
    parent_controllers: tuple[str, ...] = ()
    kernel_controllers: tuple[str, ...] = ()
    io_weight_file: str = "io.weight"  # or "io.bfq.weight", where that scheduler alone does weights
    root: bool = False

    @property
    def manager(self) -> str:
        """Who makes a container's cgroup when nobody was named: "systemd", "cgroupfs" or "" for nobody."""
        if self.systemd and not self.job:
            return "systemd"
        return "cgroupfs" if self.parent else ""


def detect(
    env: Mapping[str, str], uid: int, proc: str = "/proc", sysfs: str = "/sys/fs/cgroup", run: str = "/run"
) -> CgroupFacts:
    """Look at the cgroups of this process.  Never fails: what cannot be read is not there."""
    lines = _read(f"{proc}/self/cgroup").splitlines()
    own = next((line[3:] for line in lines if line.startswith("0::")), "")
    version = _version(sysfs)
    if version != "v2":
        paths = [line.split(":", 2)[2] for line in lines if line.count(":") >= 2]
        return CgroupFacts(version=version, sysfs=sysfs, own=own, job=_job(paths, env)[0], root=uid == 0)
    job, job_path = _job([own], env)
    manager = "" if uid == 0 else f"/user.slice/user-{uid}.slice/user@{uid}.service"
    systemd = _has_manager(env, uid, run) and os.path.isdir(sysfs + manager)
    parent = _writable_parent(own, job_path, sysfs)
    return CgroupFacts(
        version=version,
        sysfs=sysfs,
        own=own,
        own_controllers=read_words(f"{sysfs}{own}/cgroup.controllers") if _is_ours(sysfs + own) else (),
        job=job,
        systemd=systemd,
        systemd_controllers=read_words(f"{sysfs}{manager}/cgroup.controllers") if systemd else (),
        parent=parent,
        parent_controllers=read_words(f"{sysfs}{parent}/cgroup.controllers") if parent else (),
        kernel_controllers=read_words(f"{sysfs}/cgroup.controllers"),
        io_weight_file=_io_weight_file(sysfs + (manager or own)),
        root=uid == 0,
    )


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, 1 << 16).decode("utf-8", "surrogateescape")
    except OSError:
        return ""
    finally:
        os.close(fd)


def read_words(path: str) -> tuple[str, ...]:
    """The words of a small file, () where it cannot be read."""
    return tuple(_read(path).split())


def _version(sysfs: str) -> str:
    if os.path.exists(f"{sysfs}/cgroup.controllers"):
        return "v2"
    if os.path.exists(f"{sysfs}/unified/cgroup.controllers"):
        return "hybrid"
    return "v1" if any(os.path.isdir(f"{sysfs}/{name}") for name in ("memory", "cpu", "pids", "systemd")) else "none"


def _has_manager(env: Mapping[str, str], uid: int, run: str) -> bool:
    if uid == 0:
        return os.path.isdir(f"{run}/systemd/system")  # sd_booted(3)
    directories = {env.get("XDG_RUNTIME_DIR", ""), f"{run}/user/{uid}"}
    return any(os.path.exists(f"{d}/systemd/private") for d in directories if d.startswith("/"))


def _io_weight_file(directory: str) -> str:
    if not os.path.exists(f"{directory}/io.weight") and os.path.exists(f"{directory}/io.bfq.weight"):
        return "io.bfq.weight"
    return "io.weight"


_JOB_VARIABLES = (
    ("SLURM_JOB_ID", "Slurm"),
    ("PBS_JOBID", "PBS"),
    ("LSB_JOBID", "LSF"),
    ("_CONDOR_SLOT", "HTCondor"),
    ("FLUX_JOB_ID", "Flux"),
)


def _job(paths: Iterable[str], env: Mapping[str, str]) -> tuple[str, str]:
    """(name of the batch job that this process is in, the job's cgroup path), ("", "") outside of one.

    The cgroup decides; a variable alone may have been carried out of the job (salloc's shell on a login node), so it
    counts only where the process is not below a login's slice.
    """
    for path in paths:
        parts = path.strip("/").split("/")
        for position, part in enumerate(parts):
            before = parts[:position]
            name = ""
            if part.startswith("job_") and any("slurm" in p for p in before):
                name = f"Slurm job {part[4:]}"
            elif before and before[-1] == "jobid" and any(p.startswith("pbs") for p in before):
                name = f"PBS job {part}"
            elif before and before[0] == "lsf" and part.startswith("job."):
                name = f"LSF job {part[4:]}"
            elif before and before[-1].upper() in ("SGE", "UGE", "OGS", "GE"):
                name = f"Grid Engine job {part}"
            elif "htcondor" in part:
                name = "HTCondor job"
            if name:
                return name, "/" + "/".join(parts[: position + 1])
    if not any(part.startswith("user-") and part.endswith(".slice") for path in paths for part in path.split("/")):
        for variable, scheduler in _JOB_VARIABLES:
            if env.get(variable):
                return f"{scheduler} job {env[variable]}", next(iter(paths), "")
        if env.get("JOB_ID") and env.get("SGE_ROOT"):
            return f"Grid Engine job {env['JOB_ID']}", next(iter(paths), "")
    return "", ""


def _is_ours(directory: str) -> bool:
    return all(os.access(directory + n, os.W_OK) for n in ("", "/cgroup.procs", "/cgroup.subtree_control"))


def _writable_parent(own: str, job_path: str, sysfs: str) -> str:
    """The nearest cgroup from `own` upwards in which a child with controllers can be made, "" without one.

    It must be ours to write, and hold no process itself: a cgroup that does may not hand controllers down
    (cgroup-v2.rst, "No Internal Process Constraint"), except for the root.  Not above a job's own cgroup.
    """
    path = own.rstrip("/")
    while own:
        directory = sysfs + path
        if not _is_ours(directory):
            return ""
        if not os.path.exists(f"{directory}/cgroup.type") or not _read(f"{directory}/cgroup.procs"):
            return path or "/"
        if not path or path == job_path:
            return ""
        path = path.rpartition("/")[0]
    return ""
