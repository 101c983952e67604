"""The processes of a container, read from the host's /proc: the image needs no ps.

Weight: `os`, `rootless`.  See proc(5); ids and pids are kept as the host counts them, and mapped by `IdView`.
"""

from __future__ import annotations

import os
import time

from rootless import userns
from rootless.fds import read_file
from rootless.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.engine.state import ContainerRecord

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
_OVERFLOW_ID = 65534  # proc(5), overflowuid: what an id that is not mapped looks like


class Process(Value):
    """One process.  Ids and `hpid` are the host's; `pid` is the container's; times in nanoseconds."""

    hpid: int
    pid: int
    hppid: int
    hpgid: int
    comm: str
    args: str
    state: str  # one letter: "R", "S", "D", "Z" …
    tty: int  # device number, 0 without a terminal
    nice: int
    vsz_kib: int
    rss_kib: int
    cpu_ns: int
    elapsed_ns: int
    uids: tuple[int, int]  # real, effective
    gids: tuple[int, int]
    groups: tuple[int, ...]
    capabilities: dict[str, int]  # "CapEff" → mask
    seccomp: int
    label: str


class IdView:
    """uid_map or gid_map of a process: ids of the host as that process's user namespace counts them."""

    def __init__(self, pid: int, kind: str) -> None:
        self._rows = []
        try:
            for line in read_file(f"/proc/{pid}/{kind}_map").decode().splitlines():
                inside, outside, size = (int(word) for word in line.split())
                self._rows.append((inside, outside, size))
        except (OSError, ValueError):
            pass

    def inside(self, number: int) -> int:
        """The container's number; that of "nobody" for one that is not mapped."""
        for inside, outside, size in self._rows:
            if outside <= number < outside + size:
                return inside + number - outside
        return _OVERFLOW_ID


def pids(record: ContainerRecord) -> list[int]:
    """The host's pids of all processes of a running container, in the order of their start.

    They are the supervisor's descendants that are in the container's pid namespace; where that is the host's, those
    in its mount namespace.
    """
    kind = "mnt" if _namespace(record.pid, "pid") == _namespace(os.getpid(), "pid") else "pid"
    wanted = _namespace(record.pid, kind)
    if not wanted:
        return []
    found, waiting = [], [record.supervisor_pid]
    while waiting:
        pid = waiting.pop()
        if _namespace(pid, kind) == wanted:
            found.append(pid)
        waiting += _children(pid)
    return sorted(set(found), key=lambda pid: (userns.start_time(pid), pid))


def _namespace(pid: int, kind: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return ""


def _children(pid: int) -> list[int]:
    found = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += [int(word) for word in read_file(f"/proc/{pid}/task/{thread}/children").split()]
    except OSError:
        pass  # it has ended
    return found


def read_all(record: ContainerRecord) -> list[Process]:
    """Every process of the container that is there now."""
    up_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    processes = (_read(pid, up_ns) for pid in pids(record))
    return [process for process in processes if process is not None]


def _read(pid: int, up_ns: int) -> Process | None:
    try:
        stat = read_file(f"/proc/{pid}/stat").decode("utf-8", "replace")
        status = read_file(f"/proc/{pid}/status").decode("utf-8", "replace")
        cmdline = read_file(f"/proc/{pid}/cmdline").decode("utf-8", "replace")
    except OSError:
        return None
    # The command's name, in parentheses, may hold anything.
    comm = stat[stat.index("(") + 1 : stat.rindex(")")]
    fields = stat[stat.rindex(")") + 2 :].split()  # from field 3, the state, on
    rows = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    words = cmdline.split("\0")
    uids, gids = rows.get("Uid", "0 0").split(), rows.get("Gid", "0 0").split()
    return Process(
        hpid=pid,
        pid=int(rows.get("NSpid", str(pid)).split()[-1]),
        hppid=int(fields[1]),
        hpgid=int(fields[2]),
        comm=comm,
        args=" ".join(words[:-1] if words[-1] == "" else words) or f"[{comm}]",
        state=fields[0],
        tty=int(fields[4]),
        nice=int(fields[16]),
        vsz_kib=int(fields[20]) // 1024,
        rss_kib=int(fields[21]) * _PAGE_KIB,
        cpu_ns=(int(fields[11]) + int(fields[12])) * 1_000_000_000 // _TICKS,
        elapsed_ns=max(up_ns - int(fields[19]) * 1_000_000_000 // _TICKS, 0),
        uids=(int(uids[0]), int(uids[1])),
        gids=(int(gids[0]), int(gids[1])),
        groups=tuple(int(word) for word in rows.get("Groups", "").split()),
        capabilities={name: int(mask, 16) for name, mask in rows.items() if name.startswith("Cap")},
        seccomp=int(rows.get("Seccomp", "0")),
        label=_label(pid),
    )


def _label(pid: int) -> str:
    try:
        return read_file(f"/proc/{pid}/attr/current").decode("utf-8", "replace").strip("\0\n ")
    except OSError:
        return ""


def names(pid: int, runtime_root: str) -> tuple[dict[int, str], dict[int, str]]:
    """(users, groups) of the container's own /etc/passwd and /etc/group: number → name.

    Enters the user namespace: FUSE shows a container's root to no process outside of it (fuse(4), allow_other).
    """
    from rootless import passwd

    userns.enter(runtime_root, mount_namespace=False)
    try:
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return {}, {}
    try:
        return passwd.names(root, "/etc/passwd"), passwd.names(root, "/etc/group")
    finally:
        os.close(root)
