"""Starting programs as the engine wants them started.

Weight: `os`, `rootless.libc`.  Every program gets an empty signal mask and the default action of SIGPIPE and
SIGXFSZ, which Python ignores and a container would inherit.
"""

from __future__ import annotations

import os

from rootless import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SIGHUP, SIGINT, SIGKILL, SIGPIPE, SIGTERM, SIGCHLD, SIGXFSZ, SIGWINCH = 1, 2, 9, 13, 15, 17, 25, 28
HANDLED_SIGNALS = (SIGCHLD, SIGTERM, SIGINT, SIGHUP)  # blocked, and read, by a supervisor
_NULL = -1


def spawn(
    argv: Sequence[str],
    env: Mapping[str, str],
    stdio: tuple[int, int, int] = (_NULL, _NULL, _NULL),
    keep: Sequence[int] = (),
    cgroup_fd: int = -1,
    numbered: Sequence[int] = (),
    before: Callable[[], None] | None = None,
    program: str = "",
) -> int:
    """Start `argv[0]` (the file `program`, where that is given); returns its pid.

    stdio: descriptors for 0, 1, 2 (-1: /dev/null).  keep: descriptors it inherits under their own numbers.
    numbered: descriptors that become 3, 4, 5 … (--preserve-fds).  cgroup_fd: an open cgroup directory that it is
    moved to before it executes; before: called in the new process (posix_spawn can do neither: that costs a fork).
    """
    if cgroup_fd >= 0 or before is not None:
        return _fork(argv, env, stdio, keep, cgroup_fd, numbered, before, program or argv[0])
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = []
    for number, fd in enumerate(stdio):
        if fd == _NULL:
            actions.append((os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDWR, 0))
        else:
            actions.append((os.POSIX_SPAWN_DUP2, fd, number))
    for number, fd in enumerate(numbered, 3):
        actions.append((os.POSIX_SPAWN_DUP2, fd, number))
    for fd in keep:
        os.set_inheritable(fd, True)
    try:
        return os.posix_spawn(
            program or argv[0],
            list(argv),
            dict(env),
            file_actions=actions,
            setsigmask=(),
            setsigdef=(SIGPIPE, SIGXFSZ),
        )
    finally:
        for fd in keep:
            os.set_inheritable(fd, False)


def _fork(
    argv: Sequence[str],
    env: Mapping[str, str],
    stdio: tuple[int, int, int],
    keep: Sequence[int],
    cgroup_fd: int,
    numbered: Sequence[int],
    before: Callable[[], None] | None,
    program: str,
) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        if cgroup_fd >= 0:
            procs = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=cgroup_fd)
            os.write(procs, b"0")
        if before is not None:
            before()
        for number, fd in enumerate(stdio):
            os.dup2(os.open("/dev/null", os.O_RDWR) if fd == _NULL else fd, number)
        for number, fd in enumerate(numbered, 3):
            os.dup2(fd, number)
        for fd in keep:
            os.set_inheritable(fd, True)
        restore_signals()
        os.execve(program, list(argv), dict(env))
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def restore_signals() -> None:
    """In a forked child, before exec: what Python and the engine changed is set back."""
    import _signal  # type: ignore[import-not-found]

    _signal.signal(SIGPIPE, _signal.SIG_DFL)
    _signal.signal(SIGXFSZ, _signal.SIG_DFL)
    libc.unblock_all_signals()


def exit_code(wait_status: int) -> tuple[int, int]:
    """(exit code as a shell counts it, signal or 0) of a waitpid(2) status."""
    if os.WIFSIGNALED(wait_status):
        signal = os.WTERMSIG(wait_status)
        return 128 + signal, signal
    return os.WEXITSTATUS(wait_status), 0


def wait_or_hang_up(pid: int, peer_fd: int) -> int | None:
    """The child's wait status; None where the peer on `peer_fd` (-1: nobody) closed first, and the child was killed."""
    import select

    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if peer_fd >= 0:
            poll.register(peer_fd, select.POLLHUP)
        ready = {fd for fd, _events in poll.poll()}
        if pidfd not in ready:
            os.kill(pid, SIGKILL)
        status = os.waitpid(pid, 0)[1]
        return status if pidfd in ready else None
    finally:
        os.close(pidfd)


def wait_for_end_of(pipe: int, timeout_ms: int) -> None:
    """Until nobody holds the pipe's other end, or the time is over."""
    import select

    poll = select.poll()
    poll.register(pipe, 0)  # POLLHUP always comes
    poll.poll(timeout_ms)


def pid_on_host(outer_proc: int, pidfd: int) -> int:
    """The pid that the machine sees; 0 for a process that has gone.

    outer_proc: a descriptor of the host's /proc, whose /proc/self/fdinfo counts pids in the host's namespace.
    """
    try:
        fd = os.open(f"self/fdinfo/{pidfd}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=outer_proc)
    except OSError:
        return 0
    try:
        for line in os.read(fd, 4096).split(b"\n"):
            if line.startswith(b"Pid:"):
                return int(line.split()[1])
    finally:
        os.close(fd)
    return 0
