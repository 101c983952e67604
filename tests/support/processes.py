"""Processes as /proc shows them, and those that came from this one, however they were detached.

The test process is a subreaper (prctl(2), PR_SET_CHILD_SUBREAPER): what a command leaves running becomes its
child, so a leak is found by descent, without a look at other users of the machine or other test processes.
"""

from __future__ import annotations

import ctypes
import os
from typing import NamedTuple

PR_SET_CHILD_SUBREAPER = 36


class Process(NamedTuple):
    pid: int
    ppid: int
    state: str
    start_time: int  # clock ticks after boot: with the pid it names one process for ever
    command: str


def become_subreaper() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def read_process(pid: int) -> Process | None:
    """The process, or None where it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            stat = file.read()
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name may hold blanks and brackets: what counts starts after the last one.
    name, rest = stat[stat.index("(") + 1 : stat.rindex(")")], stat[stat.rindex(")") + 2 :].split()
    return Process(pid, int(rest[1]), rest[0], int(rest[19]), command or f"[{name}]")


def alive(pid: int) -> bool:
    """Whether it still runs (a zombie does not)."""
    process = read_process(pid)
    return process is not None and process.state not in "ZX"


def everything() -> dict[int, Process]:
    found = (read_process(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return {process.pid: process for process in found if process}


def descendants(of: int | None = None) -> list[Process]:
    """All living descendants of `of` (this process), parents before children."""
    table = everything()
    children: dict[int, list[Process]] = {}
    for process in table.values():
        children.setdefault(process.ppid, []).append(process)
    found: list[Process] = []
    queue = [of or os.getpid()]
    while queue:
        for child in children.get(queue.pop(0), []):
            queue.append(child.pid)
            if child.state not in "ZX":
                found.append(child)
    return found


def reap_orphans(own: set[int]) -> None:
    """Takes away the zombies that were adopted; those in `own` have somebody who waits for them."""
    me = os.getpid()
    for process in everything().values():
        if process.ppid == me and process.state == "Z" and process.pid not in own:
            try:
                os.waitpid(process.pid, os.WNOHANG)
            except ChildProcessError:
                continue
