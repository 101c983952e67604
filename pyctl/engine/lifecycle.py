"""What can be done to containers that exist: stop, kill, wait, remove.  Starting is in `pyctl.engine.starting`.

Weight: `rootless`, `pyctl.engine.state`.  Requests go to the container's supervisor; many containers are asked
first and waited for afterwards, so that a slow one holds no other up.
"""

from __future__ import annotations

import os
import select
import time

from pyctl.engine import state
from pyctl.engine.execute import ask
from pyctl.engine.state import ContainerRecord, Status
from rootless import libc, lockfile, userns
from rootless.container_files import EXIT_SUFFIX, LOCK_FILE, SOCKET_NAME
from rootless.errors import Error
from rootless.fds import Channel, connect_unix
from rootless.launch import wait_for_end
from rootless.plan import Exited, Kill, Query, Stop, Wait
from rootless.plan import Status as LiveStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from storage.database import Database

_SIGKILL, _SIGTERM = 9, 15
_RELEASE_S = 15.0  # longer than a guardian takes (rootless.guardian)


def live_status(record: ContainerRecord) -> LiveStatus | None:
    """What the supervisor says: pid, health, restarts.  None where nobody answers."""
    if not record.alive:
        return None
    try:
        answer = ask(record.runtime_dir, record.name, Query())
    except Error:
        return None
    return answer if isinstance(answer, LiveStatus) else None


def kill(db: Database, record: ContainerRecord, signal: int) -> None:
    """Send a signal to the first process.  Raises Error where it does not run."""
    if not record.alive:
        raise Error(f"container {record.name} is not running", hint=f"pyctl start {record.name} starts it")
    if signal in (_SIGKILL, _SIGTERM):
        state.note_stopped(db, record.id)  # as the supervisor takes it: no restart follows
    state.tell(db, "kill", record.specification)
    ask(record.runtime_dir, record.name, Kill(signal=signal))


class Ending:
    """A container whose end somebody waits for."""

    __slots__ = ("_pidfd", "channel", "record")

    def __init__(self, record: ContainerRecord, channel: Channel | None, pidfd: int | None) -> None:
        self.record = record
        self.channel = channel
        self._pidfd = pidfd

    def wait(self, db: Database) -> Exited:
        """Until it has ended; the end is recorded when this returns."""
        ended = wait_for_end(self.channel) if self.channel is not None else None
        if self.channel is not None:
            self.channel.close()
        if ended is None and self._pidfd is not None:
            # Killed: what it held goes while the kernel takes its pid namespace apart, and only then is it gone.
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            poll.poll()
        if self._pidfd is not None:
            os.close(self._pidfd)
        if ended is None:
            _wait_for_release(db, self.record)
        settle(db, self.record)
        return ended or Exited(exit_code=self.record.exit_code, signal=self.record.exit_signal)


def _wait_for_release(db: Database, record: ContainerRecord) -> None:
    """Until the lock is free: a supervisor may be writing its record, a guardian ending what a killed one left."""
    path = f"{db.paths.container(record.id)}/{LOCK_FILE}"
    deadline = time.monotonic() + _RELEASE_S
    while lockfile.is_held(path) and time.monotonic() < deadline:
        time.sleep(0.005)


def settle(db: Database, record: ContainerRecord) -> None:
    """Record an end that has been heard of."""
    if record.status != Status.EXITED:
        record.status = Status.ACTIVE
        state.refresh(db, record)


def request_stop(record: ContainerRecord, timeout_s: int) -> Ending:
    """Ask a live container to stop (`timeout_s` -1: its own).  Falls back on killing a supervisor that is stuck."""
    pidfd = userns.open_supervisor(record.runtime_dir)
    try:
        channel = connect_unix(record.runtime_dir, SOCKET_NAME)
        channel.send(Stop(timeout_s=timeout_s))
    except OSError:
        kill_supervisor(record)
        return Ending(record, None, pidfd)
    return Ending(record, channel, pidfd)


def request_wait(record: ContainerRecord) -> Ending:
    """Hear of the end of a live container."""
    pidfd = userns.open_supervisor(record.runtime_dir)
    try:
        channel = connect_unix(record.runtime_dir, SOCKET_NAME)
        channel.send(Wait())
    except OSError:
        return Ending(record, None, pidfd)
    return Ending(record, channel, pidfd)


def kill_supervisor(record: ContainerRecord) -> None:
    """The last resort, which cannot be refused: with PID 1 of its pid namespace the kernel kills all that is in it."""
    fd = userns.open_supervisor(record.runtime_dir)
    if fd is None:
        return
    try:
        libc.pidfd_send_signal(fd, _SIGKILL)
    finally:
        os.close(fd)


def stop(
    db: Database, records: Sequence[ContainerRecord], timeout_s: int, done: Callable[[ContainerRecord], None]
) -> None:
    """Stop containers, all at once; `done` is told of each in the order given.  Those that do not run are done."""
    endings: list[tuple[ContainerRecord, Ending | None]] = []
    for record in records:
        if record.alive:
            state.note_stopped(db, record.id)
            state.tell(db, "stop", record.specification)
            endings.append((record, request_stop(record, timeout_s)))
        else:
            endings.append((record, None))
    for record, ending in endings:
        if ending is not None:
            ending.wait(db)
        done(record)


# --- removing ----------------------------------------------------------------------------------


def dependents(db: Database, record: ContainerRecord) -> list[ContainerRecord]:
    """Containers that live in a namespace of this one."""
    found = []
    for other in state.every(db):
        if other.id == record.id:
            continue
        spec = other.specification
        shared = (spec.network.target if spec.network.mode == "container" else "", spec.pid, spec.ipc, spec.uts)
        if record.id in shared or f"container:{record.id}" in shared:
            found.append(other)
    return found


class Removal:
    """Removes containers; enters the user namespace once, and only if there are files to delete."""

    def __init__(self, db: Database, runtime_root: str) -> None:
        self._db = db
        self._runtime_root = runtime_root
        self._entered = False

    def remove(self, record: ContainerRecord, *, force: bool, volumes: bool, timeout_s: int) -> None:
        """Forget one container and delete its files.  Raises Error for a running one without `force`."""
        if record.alive:
            if not force:
                raise Error(
                    f"container {record.name} is running",
                    hint=f"pyctl stop {record.name} first, or remove it with --force",
                )
            request_stop(record, timeout_s).wait(self._db)
        self.forget(record, volumes=volumes or bool(record.remove))

    def forget(self, record: ContainerRecord, *, volumes: bool) -> None:
        """Delete the row and then the files: what a crash leaves between the two is garbage that prune finds."""
        anonymous = state.delete(self._db, record.id, durable=not record.remove)
        state.tell(self._db, "remove", record.specification, record.exit_code)
        self.delete_files(record)
        if volumes:
            self.remove_volumes(anonymous)

    def delete_files(self, record: ContainerRecord) -> None:
        """The storage and runtime directories of a container that is not running."""
        from rootless.ops import remove_path

        storage_dir = self._db.paths.container(record.id)
        if record.runtime_dir and os.path.isdir(record.runtime_dir):
            remove_path(record.runtime_dir)
        if os.path.exists(record.runtime_dir + EXIT_SUFFIX):  # it ended on a full disk
            os.unlink(record.runtime_dir + EXIT_SUFFIX)
        if os.path.isdir(mount_point := self._db.paths.container_mount(record.id)):
            from pyctl.engine.mounting import forget_point  # few were ever mounted

            forget_point(mount_point)
        if os.path.isdir(storage_dir):
            self._enter()
            remove_path(storage_dir)

    def collect(self) -> None:
        """Delete the directories of containers that no row names any more: their removal was interrupted."""
        names = os.listdir(self._db.paths.containers)  # before the rows: a container has its row first
        known = {container_id for (container_id,) in self._db.query("SELECT id FROM containers")}
        from rootless.ops import remove_path

        for name in names:
            path = self._db.paths.container(name)
            if name not in known and not lockfile.is_held(f"{path}/{LOCK_FILE}"):
                self._enter()
                remove_path(path)

    def remove_volumes(self, names: Iterable[str]) -> None:
        """Anonymous volumes whose container has gone; one that another container uses stays."""
        for name in names:
            if self._db.one("SELECT 1 FROM container_volumes WHERE volume_name = ?", (name,)) is None:
                self._enter()
                from storage.volumes import VolumeStore

                VolumeStore(self._db).remove(name, force=True)

    def _enter(self) -> None:
        # Files of mapped ids can be deleted by the namespace's root only.
        if not self._entered:
            userns.enter(self._runtime_root, mount_namespace=False)
            self._entered = True
