"""`system reset`: everything that the engine stored goes, and nothing else.

Weight: `pyctl.engine.lifecycle`.  Only names that the engine gives are removed: a storage root may be a directory
that other things of the user's are in.  The database goes first, so that whatever ends a reset, no image or container
is listed that is not whole; a second reset takes what is left.
"""

from __future__ import annotations

import fcntl
import os

from pyctl.engine import hooks
from rootless import libc, userns
from rootless.errors import Error, os_error_text
from storage.removal import remove_store_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.engine.engine import Engine

_SIGKILL = 9
_END_S = 30.0


def reset(engine: Engine) -> None:
    """See the module's docstring.  Raises Error."""
    paths = engine.paths
    if not os.path.isdir(paths.root):
        return
    lock = _exclusive(paths.lock)
    try:
        _end_containers(engine)
        userns.enter(engine.runtime_root, mount_namespace=False)
        for suffix in ("", "-wal", "-shm", "-journal"):
            _unlink(paths.database + suffix)
        for directory in (
            *(paths.containers, paths.layers, paths.blobs, paths.partial, paths.volumes, paths.mounts),
            f"{paths.root}/cache",
        ):
            remove_store_directory(directory)
        for name in os.listdir(engine.runtime_root):
            if len(name) == 64 or name == userns.NETWORK_DIRECTORY:
                remove_store_directory(f"{engine.runtime_root}/{name}")
        for path in (paths.reserve, paths.events_log, f"{paths.events_log}.1", paths.database_lock, paths.lock):
            _unlink(path)
    finally:
        os.close(lock)


def _exclusive(path: str) -> int:
    """Keep everybody away who adds to the store.  Raises Error where somebody does."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Error(os_error_text(error, f"cannot open {path}")) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise Error(
            "another command is adding images to the storage", hint=f"wait for it, or end it; fuser {path} names it"
        ) from None
    return fd


def _end_containers(engine: Engine) -> None:
    """Kill every container, by its supervisor: so it goes whatever the database is like."""
    root = engine.runtime_root
    waiting = []
    for name in os.listdir(root):
        pidfd = userns.open_supervisor(f"{root}/{name}")
        if pidfd is not None:
            waiting.append(pidfd)
            libc.pidfd_send_signal(pidfd, _SIGKILL)
    import select

    for pidfd in waiting:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        ended = poll.poll(int(_END_S * 1000))
        os.close(pidfd)
        if not ended:
            raise Error(f"a container's supervisor does not end within {_END_S:.0f} s of being killed")
    # What is noticed of their end must not start processes that make files again.
    hooks.on_abandoned = hooks.ignore


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Error(os_error_text(error, f"cannot remove {path}")) from error
