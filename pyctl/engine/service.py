"""What a service manager told this command (sd_notify(3), sd_listen_fds(3)), and what it is told by it.

Weight: `os`, `time`; on the path of `run` only where NOTIFY_SOCKET or LISTEN_FDS is set.
"""

from __future__ import annotations

import os
import time

from rootless.errors import Error, UsageError, os_error_text
from rootless.plan import NotifyPlan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyctl.engine.engine import Engine
    from pyctl.engine.model import ContainerSpec
    from storage.fetch import PullEvent

_FIRST = 3  # SD_LISTEN_FDS_START
_MAX_FDS = 60  # what one message of rootless.fds carries
# While an image arrives: so long beyond each sign of life, which is given every so often.
_EXTEND_USEC, _PULSE_S = 60_000_000, 5.0
PROGRESS_FD = "_PYCTL_PROGRESS_FD"


def listened(environ: Mapping[str, str]) -> int:
    """How many sockets, from descriptor 3 on, were passed to this very process.  Raises UsageError."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return 0
    text = environ.get("LISTEN_FDS", "")
    if not (text.isascii() and text.isdecimal()) or int(text) > _MAX_FDS:
        raise UsageError(f"LISTEN_FDS={text}: must be a number of sockets, at most {_MAX_FDS}")
    for fd in range(_FIRST, _FIRST + int(text)):
        try:
            os.set_inheritable(fd, False)  # they are the container's, not every helper's
        except OSError as error:
            raise UsageError(f"LISTEN_FDS={text}: descriptor {fd} is not open") from error
    return int(text)


def start_variables(environ: Mapping[str, str], sockets: int, notify: NotifyPlan | None) -> tuple[str, ...]:
    """Variables of the container's first process: it is PID 1, and these are for it."""
    found = []
    if sockets:
        found += [f"LISTEN_FDS={sockets}", "LISTEN_PID=1"]
        if "LISTEN_FDNAMES" in environ:
            found.append(f"LISTEN_FDNAMES={environ['LISTEN_FDNAMES']}")
    if notify is not None and notify.mode == "container":
        from pyctl.engine.spec_mounts import NOTIFY_TARGET
        from rootless.notify import SOCKET

        found.append(f"NOTIFY_SOCKET={NOTIFY_TARGET}/{SOCKET}")
        if _watchdog_usec(environ):
            found.append(f"WATCHDOG_USEC={_watchdog_usec(environ)}")
    return tuple(found)


def _watchdog_usec(environ: Mapping[str, str]) -> int:
    text = environ.get("WATCHDOG_USEC", "")
    own = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(text) if own and text.isascii() and text.isdecimal() else 0


def notify_plan(engine: Engine, spec: ContainerSpec, environ: Mapping[str, str]) -> NotifyPlan | None:
    """How the service manager is to hear of the container; None where it is not.

    Raises Error where it cannot be reached; for the default mode, which nobody may have asked for, that is a warning.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address or spec.sdnotify == "ignore":
        return None
    from rootless.notify import Manager

    try:
        Manager(address).close()
    except OSError as error:
        text = os_error_text(error, f"NOTIFY_SOCKET {address}")
        if spec.sdnotify == "container":
            engine.warn(f"the service manager is told nothing: {text}")
            return None
        hint = "--sdnotify=ignore tells the service manager nothing"
        raise Error(f"--sdnotify={spec.sdnotify}: {text}", hint=hint) from error
    watchdog = 0 if spec.sdnotify == "container" else _watchdog_usec(environ)
    return NotifyPlan(socket=address, mode=spec.sdnotify, watchdog_usec=watchdog)


def announce(plan: NotifyPlan, main_pid: int) -> None:
    """Tell whom to follow from now on, before this process ends; for --sdnotify=conmon that is READY as well."""
    ready = "\nREADY=1" if plan.mode == "conmon" else ""
    _tell(plan.socket, f"MAINPID={main_pid}{ready}")


class Pulse:
    """The pulling process's side: a byte into a pipe while something arrives; `then` gets every event."""

    def __init__(self, fd: int, then: Callable[[PullEvent], None]) -> None:
        self._fd, self._then = fd, then
        self._due = 0.0
        os.set_inheritable(fd, False)

    def __call__(self, event: PullEvent) -> None:
        """Take note of an event."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + _PULSE_S
            try:
                os.write(self._fd, b".")
            except OSError:
                pass  # whoever wanted to hear of it has gone
        self._then(event)


def pass_on(pulses: int, address: str) -> None:
    """The other side: tell the manager at each pulse that the start takes longer, until the pipe's end."""
    while os.read(pulses, 64):
        _tell(address, f"EXTEND_TIMEOUT_USEC={_EXTEND_USEC}", barrier=False)


def _tell(address: str, text: str, barrier: bool = True) -> None:
    from rootless.notify import Manager

    try:
        manager = Manager(address)
    except OSError:
        return  # it was there a moment ago: a manager that ends ends its services too
    try:
        manager.send(text.encode())
        if barrier:
            manager.barrier()
    except OSError:
        return
    finally:
        manager.close()
