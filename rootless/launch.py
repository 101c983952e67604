"""The command line's side of a launch: start a supervisor early, hand it the plan, hear how it went.

Weight: `os`, `rootless.fds`.
"""

from __future__ import annotations

import os
import sys

from rootless.errors import LaunchError
from rootless.fds import Channel, close_all, seqpacket_pair
from rootless.plan import Exited, Failed, LaunchPlan, Ready
from rootless.processes import child_environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_BOOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "boot.py")


def search_path() -> str:
    """Where this package and cffi's `_cffi_backend` lie: all that a bare interpreter must be told."""
    here = os.path.dirname(os.path.dirname(_BOOT))
    import _cffi_backend  # loaded already, by the compiled module

    backend = os.path.dirname(os.path.abspath(_cffi_backend.__file__))
    return here if here == backend else f"{here}:{backend}"


class Supervisor:
    """A supervisor that is being born.  `launch` makes it one container's; dropping it before that ends it."""

    def __init__(self, runtime_root: str, private_pid: bool, debug: bool = False) -> None:
        self.channel, theirs = seqpacket_pair()
        argv = [sys.executable, "-I", "-S", _BOOT, search_path(), "3", runtime_root]
        argv += ["1" if private_pid else "0", "1" if debug else "0"]
        actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = [
            (os.POSIX_SPAWN_DUP2, theirs, 3),
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0),
            (os.POSIX_SPAWN_DUP2, 0, 1),
        ]
        if not debug:
            actions.append((os.POSIX_SPAWN_DUP2, 0, 2))
        if theirs == 3:  # dup2 onto itself would keep close-on-exec
            os.set_inheritable(3, True)
        # A session of its own: the terminal's signals are for the command line, which passes them on.
        self._pid = os.posix_spawn(sys.executable, argv, child_environment(), file_actions=actions, setsid=True)
        os.close(theirs)

    def launch(self, plan: LaunchPlan, fds: Sequence[int] = ()) -> Ready:
        """Send the plan and wait for the container's first process.  Raises LaunchError; nothing is left then."""
        try:
            self.channel.send(plan, fds)
        except OSError:
            pass  # it has failed already: its reason is in the channel
        try:
            message, extra = self.channel.receive()
        except OSError:
            message, extra = None, []
        close_all(extra)
        self._reap()
        if isinstance(message, Ready):
            return message
        if isinstance(message, Failed):
            raise LaunchError(message.stage, message.message, message.hint, message.exit_code, message.errno)
        raise LaunchError("supervisor", "the supervisor ended before the container started")

    def _reap(self) -> None:
        # The process that was started has forked into its pid namespace and ended; without one it stays.
        try:
            os.waitpid(self._pid, os.WNOHANG)
        except ChildProcessError:
            return

    def abandon(self) -> None:
        """Not needed after all; it sees the end of the channel and goes."""
        self.channel.close()
        try:
            os.waitpid(self._pid, 0)
        except ChildProcessError:
            return


def wait_for_end(channel: Channel) -> Exited | None:
    """The next Exited on a channel, None where the supervisor has gone without one."""
    while True:
        try:
            message, fds = channel.receive()
        except OSError:
            return None
        close_all(fds)
        if message is None:
            return None
        if isinstance(message, Exited):
            return message
