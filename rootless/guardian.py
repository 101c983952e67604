"""The end of a container that shares a pid namespace (--pid=host, container:ID): all its processes, whoever ends first.

Weight: `os`, `select` (C), `time`, `rootless.libc`.

With a pid namespace of its own the kernel sees to that (pid_namespaces(7)).  Without one a parent does, the guardian:
a process that only waits for the supervisor, and to which, as a subreaper (PR_SET_CHILD_SUBREAPER), the kernel
gives everything that the supervisor leaves behind: the container, exec sessions, slirp4netns, fuse-overlayfs.  The
supervisor in turn hears by PR_SET_PDEATHSIG when the guardian is killed, and stops the container.

Orphans in another container's pid namespace go to that one's PID 1 instead; they are known by their mount namespace.
"""

from __future__ import annotations

import os
import select
import time

from rootless import libc
from rootless.fds import read_file
from rootless.processes import HANDLED_SIGNALS, SIGCHLD, SIGKILL, SIGTERM, exit_code

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_WAIT_NS = 10_000_000_000  # for processes in the middle of a system call that cannot be interrupted
_ROUND_MS = 100  # then a look for what has been forked meanwhile


class _Table:
    """One look at /proc: who is whose child, and since when (ticks since boot: with the pid, one process for ever)."""

    def __init__(self) -> None:
        self.started: dict[int, int] = {}
        self.children: dict[int, list[int]] = {}
        for name in os.listdir("/proc"):
            if name.isdecimal():
                parent, self.started[int(name)] = _read_stat(int(name))
                self.children.setdefault(parent, []).append(int(name))

    def below(self, pid: int, spare: Collection[int]) -> list[int]:
        """All descendants of a process; those in `spare` are left out with what is below them."""
        found: list[int] = []
        queue = [pid]
        while queue:
            below = [child for child in self.children.get(queue.pop(), ()) if child not in spare]
            found += below
            queue += below
        return found


def _read_stat(pid: int) -> tuple[int, int]:
    """(parent, start time) of /proc/PID/stat; (0, 0) where it has gone."""
    try:
        stat = read_file(f"/proc/{pid}/stat")
    except OSError:
        return 0, 0
    fields = stat[stat.rfind(b")") + 2 :].split()
    return int(fields[1]), int(fields[19])


def mount_namespace(pid: int | str) -> int:
    """The inode that names a process's mount namespace; 0 where it has gone or is another user's."""
    try:
        return os.stat(f"/proc/{pid}/ns/mnt").st_ino
    except OSError:
        return 0


def stand_by(keep_fd: int) -> None:
    """Fork: the new process returns and is the supervisor, this one stays as its guardian.

    keep_fd: the supervisor's lock, held by both: the container counts as alive until the last of it has ended.
    """
    if os.fork():
        os._exit(0)  # a service manager waits for its own children only, not for those of the launching command
    me = os.getpid()
    status = 1
    child = os.fork()
    if child == 0:
        libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 1)
        libc.prctl(libc.PR_SET_PDEATHSIG, SIGTERM)
        if os.getppid() != me:
            os._exit(1)
        return
    try:
        libc.set_name("pyctl-guardian")
        libc.prctl(libc.PR_SET_CHILD_SUBREAPER, 1)
        if keep_fd > 3:
            libc.close_range(3, keep_fd - 1)
        libc.close_range(keep_fd + 1)
        status = _see_to_its_end(child)
        end_descendants()
        _reap()
    finally:
        os._exit(status)


def _see_to_its_end(child: int) -> int:
    """Until the supervisor has ended: its exit status.  A service manager that follows this process signals only it."""
    import _signal  # type: ignore[import-not-found]

    while True:
        number = _signal.sigwait(HANDLED_SIGNALS)
        if number != SIGCHLD:
            os.kill(child, number)
            continue
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == child:
                return exit_code(status)[0]
            if not pid:
                break


def _reap() -> None:
    # The pid namespace of another container cannot end while a zombie of this one is in it (pid_namespaces(7)).
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def end_descendants(spare: Collection[int] = (), mounts: Collection[int] = ()) -> None:
    """Kill all descendants of this process but `spare`, and whoever is in one of their mount namespaces; wait for it.

    mounts: further mount namespaces, of processes that have ended already.
    """
    own, me = mount_namespace("self"), os.getpid()
    # 0 is what cannot be read: the namespace of a container that had ended too soon, and those of all processes
    # outside our user namespace, the caller's other programs among them.
    spaces = {*mounts} - {own, 0}
    ended: set[tuple[int, int]] = set()
    deadline_ns = time.monotonic_ns() + _WAIT_NS
    while time.monotonic_ns() < deadline_ns:
        table = _Table()
        doomed = table.below(me, spare)
        spaces |= {mount_namespace(pid) for pid in doomed} - {own, 0}
        if spaces:
            doomed += [p for p in table.started if p not in doomed and p not in spare and mount_namespace(p) in spaces]
        left = {(pid, table.started[pid]) for pid in doomed} - ended
        if not left:
            return
        ended |= _kill(left)


def _kill(processes: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """SIGKILL to each, by pidfd; those that have ended within a round."""
    ended: set[tuple[int, int]] = set()
    poll = select.poll()
    waiting: dict[int, tuple[int, int]] = {}
    for process in processes:
        pid, started = process
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            ended.add(process)
            continue
        waiting[fd] = process
        poll.register(fd, select.POLLIN)
        try:
            if _read_stat(pid)[1] == started:  # the number is not another's by now
                libc.pidfd_send_signal(fd, SIGKILL)
        except OSError:
            continue
    until_ns = time.monotonic_ns() + _ROUND_MS * 1_000_000
    while len(ended) < len(processes) and (left_ms := (until_ns - time.monotonic_ns()) // 1_000_000) > 0:
        for fd, _events in poll.poll(left_ms):
            poll.unregister(fd)
            ended.add(waiting[fd])
    for fd in waiting:
        os.close(fd)
    return ended
