"""What is there before a test must be all that is there after it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tests.support.engine import IS_PODMAN, TEMPORARY, Engine, runtime_entries
from tests.support.processes import descendants, reap_orphans
from tests.support.waiting import wait_until


def own_mounts() -> set[str]:
    """The mount points of this process's namespace that could be an engine's: FUSE, or below a test's folders.

    Others on the machine may mount what they like while a test runs.
    """
    found = set()
    with open("/proc/self/mountinfo") as file:
        for line in file:
            fields, _, rest = line.partition(" - ")
            point = fields.split()[4]
            if rest.startswith("fuse") or point.startswith((f"{TEMPORARY}/pt-", f"{tempfile.gettempdir()}/pytest-")):
                found.add(point)
    return found


def own_cgroups() -> set[str]:
    """The cgroups below this process's own, where it has one in the version 2 tree."""
    with open("/proc/self/cgroup") as file:
        unified = [line.split(":", 2)[2].strip() for line in file if line.startswith("0::")]
    found: set[str] = set()
    for mount in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        top = Path(mount + (unified[0] if unified else "/"))
        if unified and unified[0] != "/" and (top / "cgroup.procs").exists():
            found.update(str(folder) for folder, _, _ in os.walk(top))
    return found


class Snapshot:
    """Processes that came from this one, its mounts, its cgroups, and other traces in public places."""

    def __init__(self) -> None:
        self.processes = {(p.pid, p.start_time): p for p in descendants()}
        self.mounts = own_mounts()
        self.cgroups = own_cgroups()
        self.public = {f"/dev/shm/{n}" for n in os.listdir("/dev/shm")} if os.path.isdir("/dev/shm") else set()

    def leaks(self, engine: Engine | None) -> list[str]:
        """One line for each thing that is there now and was not then."""
        found = [
            f"process {p.pid} ({p.state}) {p.command[:150]}"
            for p in descendants()
            if (p.pid, p.start_time) not in self.processes
        ]
        found += [f"mount {m}" for m in sorted(own_mounts() - self.mounts)]
        found += [f"cgroup {c}" for c in sorted(own_cgroups() - self.cgroups)]
        if engine and not IS_PODMAN:
            found += [f"runtime folder {n}" for n in runtime_entries(engine.runtime_root)]
            found += [f"container folder {n}" for n in engine.container_dirs()]
            found += [f"socket or pipe {p}" for p in special_files(engine.runtime_root)]
        return found


def special_files(folder: Path) -> list[str]:
    found = []
    for path, _, names in os.walk(folder):
        for name in names:
            full = Path(path, name)
            if full.is_socket() or full.is_fifo():
                found.append(str(full))
    return found


def assert_no_leaks(before: Snapshot, engine: Engine | None, deadline_s: float = 10) -> None:
    """Fails with the list; what is on its way out gets `deadline_s` to end."""
    own = {p.pid for p in engine.started} if engine else set()
    if IS_PODMAN:
        return  # its pause process and its runtime files stay by design

    def clean() -> bool:
        reap_orphans(own)
        return not before.leaks(engine)

    try:
        wait_until(clean, deadline_s)
    except AssertionError:
        raise AssertionError("left behind:\n  " + "\n  ".join(before.leaks(engine))) from None
