"""The command line's side of a launch: take a supervisor that was started early, hand it the plan, hear how it went.

Weight: `os`, `rootless.fds`.
"""

from __future__ import annotations

import os

from rootless import headstart
from rootless.errors import LaunchError
from rootless.fds import Channel, close_all
from rootless.plan import Begin, Exited, Failed, LaunchPlan, Ready

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

class Supervisor:
    """A supervisor that is being born.  `launch` makes it one container's; dropping it before that ends it."""

    def __init__(self, runtime_root: str, private_pid: bool, debug: bool = False) -> None:
        fd, self._pid = headstart.take()
        self.channel = Channel(fd)
        try:
            self.channel.send(Begin(runtime_root=runtime_root, private_pid=private_pid, debug=debug))
        except OSError:
            pass  # it could not start: `launch` will tell

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
