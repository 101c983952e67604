"""Starting a supervisor's interpreter: before the command line is read, where its first words say that one is needed.

Weight: `os`, `_socket`, `rootless.errors`.  A bare interpreter and its imports take 12 ms, in which the command parses,
reads its settings and plans; what the supervisor is to be is told to it later (`rootless.plan.Begin`).
"""

from __future__ import annotations

import _imp
import _socket
import os
import sys

from rootless.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# What a service manager tells one process (sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3)).
SERVICE_VARIABLES = (
    *("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "WATCHDOG_USEC"),
    *("WATCHDOG_PID", "MAINPID"),
)
_BOOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "boot.py")
# Options that may stand before the command, and take the next word.  A test compares them with the option table.
VALUED = frozenset(("--log-level", "--root", "--runroot", "--runtime", "--runtime-flag", "--storage-driver",
                    "--cgroup-manager", "--config", "--events-backend"))  # fmt: skip
_waiting: tuple[int, int] | None = None


def child_environment() -> dict[str, str]:
    """This process's environment for another one, without what its service manager said to it alone."""
    env = dict(os.environ)
    for name in SERVICE_VARIABLES:
        env.pop(name, None)
    return env


def begin(words: Sequence[str]) -> None:
    """Start one where the command line is one of `run` or `start`.  A wrong guess costs a process that ends at once."""
    global _waiting
    skip = False
    for word in words:
        if skip or word.startswith("-"):
            skip = not skip and word in VALUED
            continue
        if word in ("run", "start"):
            try:
                _waiting = _spawn()
            except OSError:
                pass  # `take` will try again, and tell
        return


def take() -> tuple[int, int]:
    """(the channel's descriptor, pid) of one that was started, or is now.  The caller's from then on.  Raises Error."""
    global _waiting
    try:
        taken, _waiting = _waiting or _spawn(), None
    except BlockingIOError as error:  # EAGAIN, fork(2)
        raise Error(
            "cannot start a process: this user may have no more of them",
            hint="`ulimit -u` shows how many; pyctl ps and ps -u $USER show what runs",
        ) from error
    return taken


def drop() -> None:
    """End the one that nobody took: a command line that was wrong, or asked for help."""
    if _waiting is not None:
        fd, pid = take()
        os.close(fd)
        os.waitpid(pid, 0)


def _spawn() -> tuple[int, int]:
    ours, theirs = (end.detach() for end in _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET))
    argv = [sys.executable, "-I", "-S", _BOOT, search_path(), "3"]
    # stderr is the user's until it is known that nobody debugs: an interpreter that cannot start says why.
    actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_DUP2, theirs, 3),
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0),
        (os.POSIX_SPAWN_DUP2, 0, 1),
    ]
    if theirs == 3:  # dup2 onto itself would keep close-on-exec
        os.set_inheritable(3, True)
    # A session of its own: the terminal's signals are for the command line, which passes them on.
    pid = os.posix_spawn(sys.executable, argv, child_environment(), file_actions=actions, setsid=True)
    os.close(theirs)
    return ours, pid


def search_path() -> str:
    """Where this package and cffi's `_cffi_backend` lie: all that a bare interpreter must be told."""
    here = os.path.dirname(os.path.dirname(_BOOT))
    suffixes = _imp.extension_suffixes()
    for folder in sys.path:
        # Looked for and not imported: that is 1 ms later than it need be.
        if any(os.access(f"{folder}/_cffi_backend{suffix}", os.R_OK) for suffix in suffixes):
            backend = os.path.abspath(folder)
            return here if here == backend else f"{here}:{backend}"
    import _cffi_backend

    return f"{here}:{os.path.dirname(os.path.abspath(_cffi_backend.__file__))}"
