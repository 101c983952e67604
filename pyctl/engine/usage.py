"""What a container uses: one reading of its cgroup and its network namespace, and two readings compared.

Weight: `os`, `rootless.cgroup_files`, `pyctl.engine.state`.  Files: the kernel's cgroup-v2.rst, proc(5).
-1 and None stand for what cannot be known; a container that does not run uses nothing.
"""

from __future__ import annotations

import os
import time

from pyctl.engine import adjusting, processes
from rootless import cgroup_files
from rootless.errors import Error
from rootless.fds import read_file
from rootless.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.engine.engine import Engine
    from pyctl.engine.state import ContainerRecord

_COUNTERS = ("RxBytes", "RxPackets", "RxErrors", "RxDropped", "TxBytes", "TxPackets", "TxErrors", "TxDropped")


class Reading(Value):
    """Totals since the container's start."""

    at_ns: int  # of the wall clock
    up_ns: int = 0
    cpu_ns: int = 0
    system_ns: int = 0  # of it in the kernel
    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    pids: int = 0
    block_read_bytes: int = 0
    block_written_bytes: int = 0
    interfaces: dict[str, dict[str, int]] | None = {}  # None: the host's network, or unreadable
    missing: str = ""  # why numbers are not available

    def network_bytes(self) -> tuple[int, int]:
        """(received, sent) over all interfaces but the loopback; -1 where that cannot be known."""
        if self.interfaces is None:
            return -1, -1
        rows = self.interfaces.values()
        return sum(row["RxBytes"] for row in rows), sum(row["TxBytes"] for row in rows)


def read(engine: Engine, record: ContainerRecord) -> Reading:
    """One container, now."""
    if not (record.running or record.paused):
        return Reading(at_ns=time.time_ns())
    try:
        status = adjusting.supervisor_status(record)
    except Error:
        return Reading(at_ns=time.time_ns())  # it has ended meanwhile
    used, missing = cgroup_files.CgroupUsage(), ""
    if status.cgroup:
        used = _usage(status.cgroup)
    else:
        missing = adjusting.without_cgroup(engine, record)[0]
    now_ns = time.time_ns()
    limit = used.memory_max_bytes
    return Reading(
        at_ns=now_ns,
        up_ns=max(now_ns - status.started_ns, 0),
        cpu_ns=used.cpu_usec * 1000 if used.cpu_usec >= 0 else -1,
        system_ns=used.system_usec * 1000 if used.system_usec >= 0 else -1,
        memory_bytes=used.memory_bytes,
        memory_limit_bytes=min(limit, _host_memory()) if limit >= 0 else _host_memory(),
        pids=used.pids if used.pids >= 0 else len(processes.pids(record)),
        block_read_bytes=used.read_bytes,
        block_written_bytes=used.write_bytes,
        interfaces=_interfaces(record),
        missing=missing,
    )


def _usage(path: str) -> cgroup_files.CgroupUsage:
    try:
        directory = cgroup_files.open_directory(path)
    except OSError:
        return cgroup_files.CgroupUsage()
    try:
        return cgroup_files.read_usage(directory)
    finally:
        os.close(directory)


def _host_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _interfaces(record: ContainerRecord) -> dict[str, dict[str, int]] | None:
    """/proc/PID/net/dev shows the network namespace of that process."""
    if record.specification.network.mode == "host":
        return None
    try:
        lines = read_file(f"/proc/{record.pid}/net/dev").decode("utf-8", "replace").splitlines()[2:]
    except OSError:
        return None
    found = {}
    for line in lines:
        name, _, rest = line.partition(":")
        numbers = [int(word) for word in rest.split()]
        if name.strip() != "lo":
            # eight columns received, eight sent: bytes, packets, errors, dropped first
            found[name.strip()] = dict(zip(_COUNTERS, numbers[:4] + numbers[8:12], strict=True))
    return found


def cpu_percent(now: Reading, before: Reading | None) -> float | None:
    """Processor time since `before` (None: since the start), 100 for one processor's whole; None where not known."""
    if now.cpu_ns < 0:
        return None
    fresh = before is None or before.cpu_ns < 0 or before.cpu_ns > now.cpu_ns or before.up_ns > now.up_ns
    used, span = (
        (now.cpu_ns, now.up_ns)
        if fresh or before is None
        else (
            now.cpu_ns - before.cpu_ns,
            now.at_ns - before.at_ns,
        )
    )
    return used * 100 / span if span > 0 else 0.0
