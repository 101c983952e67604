"""The containers of a store: their rows, and what is true of them now.

Weight: `storage.database` types, `rootless.lockfile`.

Whether a container runs is never read from a stored pid: its supervisor holds a lock on the container's directory.
A row says `active` from before the launch until somebody notices the end; whoever reads an active row whose lock is
free records what happened, from the exit record or from its absence (a killed supervisor, a reboot).
"""

from __future__ import annotations

import os
import time

from pyctl.engine import hooks
from rootless import lockfile
from rootless.container_files import EXIT_FILE, EXIT_SUFFIX, LOCK_FILE, READY_FILE
from rootless.errors import Error, NotFound
from rootless.fds import read_file
from rootless.plan import Exited, Ready
from rootless.values import decode, dumps
from storage.database import ConstraintError, NoSpaceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyctl.engine.model import ContainerSpec
    from rootless.plan import HealthReport
    from storage.database import Database


class Status:
    """What a row or a container can say of itself.  Only CREATED, ACTIVE and EXITED are stored."""

    CREATED = "created"
    ACTIVE = "active"  # stored: launched, not known to have ended
    RUNNING = "running"
    PAUSED = "paused"
    EXITED = "exited"
    STARTING = "initialized"  # shown: launched, its process not there yet (Podman's word)


_COLUMNS = (
    "id, name, created_ns, status, image_id, remove, pid, pid_start, supervisor_pid, runtime_dir, boot_id,"
    " started_ns, finished_ns, exit_code, exit_signal, oom, error, restart_count, stopped_by_user, spec"
)
_FIELDS = tuple(_COLUMNS.replace(" ", "").split(","))


class ContainerRecord:
    """One container: its row, with what its supervisor says where that lives.  `spec` is decoded when asked for."""

    __slots__ = (*_FIELDS, "_decoded")

    id: str
    name: str
    created_ns: int
    status: str
    image_id: str
    remove: int
    pid: int  # of the first process, on the host; 0 when it does not run
    pid_start: int
    supervisor_pid: int
    runtime_dir: str
    boot_id: str
    started_ns: int
    finished_ns: int
    exit_code: int
    exit_signal: int
    oom: int
    error: str
    restart_count: int
    stopped_by_user: int

    def __init__(self, row: tuple[Any, ...]) -> None:
        for name, value in zip(_FIELDS, row, strict=True):
            setattr(self, "spec" if name == "spec" else name, value)
        self.image_id = self.image_id or ""
        self._decoded: ContainerSpec | None = None

    @property
    def specification(self) -> ContainerSpec:
        """What was asked for."""
        if self._decoded is None:
            from pyctl.engine import model  # noqa: F401 - its classes must be known to decode; ps and exec do without

            decoded: ContainerSpec = decode(getattr(self, "spec"))  # noqa: B009 - a slot, not an attribute of the class
            self._decoded = decoded
        return self._decoded

    @property
    def running(self) -> bool:
        """Its process is there."""
        return self.status == Status.RUNNING

    @property
    def paused(self) -> bool:
        """Its processes are there, and frozen."""
        return self.status == Status.PAUSED

    @property
    def alive(self) -> bool:
        """A supervisor has it: running, paused, starting, or between two restarts."""
        return self.status in (Status.RUNNING, Status.PAUSED, Status.STARTING)


def boot_id() -> str:
    """This boot of the machine; a container that was launched in another one cannot run."""
    return read_file("/proc/sys/kernel/random/boot_id").decode().strip()


# --- reading -----------------------------------------------------------------------------------


def get(db: Database, reference: str) -> ContainerRecord:
    """The container of this name, id or unambiguous beginning of an id.  Raises NotFound, Error."""
    rows = db.query(f"SELECT {_COLUMNS} FROM containers WHERE name = ?1 OR id = ?1", (reference,))
    if not rows and reference and all(c in "0123456789abcdef" for c in reference):
        rows = db.query(
            f"SELECT {_COLUMNS} FROM containers WHERE id >= ? AND id < ? LIMIT 2", (reference, reference + "g")
        )
        if len(rows) > 1:
            raise Error(f"more than one container has an id that begins with {reference}", hint="give more digits")
    if not rows:
        raise NotFound(f"no container with name or ID {reference!r}", hint="pyctl ps --all shows all containers")
    return refresh(db, ContainerRecord(rows[0]))


def every(db: Database) -> list[ContainerRecord]:
    """All containers, oldest first."""
    rows = db.query(f"SELECT {_COLUMNS} FROM containers ORDER BY created_ns")
    records = [refresh(db, ContainerRecord(row)) for row in rows]
    return [record for record in records if record is not None]


def refresh(db: Database, record: ContainerRecord) -> ContainerRecord:
    """Make a record say what is true now; an end that nobody has noticed yet is written down."""
    if record.status != Status.ACTIVE:
        return record
    storage_dir = db.paths.container(record.id)
    if lockfile.is_held(f"{storage_dir}/{LOCK_FILE}"):
        return _from_supervisor(record)
    if _being_launched(record, storage_dir):
        record.status = Status.STARTING
        return record
    _record_end(db, record, _exit_record(record, storage_dir))
    if record.remove:
        hooks.on_abandoned(record)
    return record


def _from_supervisor(record: ContainerRecord) -> ContainerRecord:
    try:
        ready = decode(read_file(f"{record.runtime_dir}/{READY_FILE}"))
    except (OSError, ValueError):
        record.status = Status.STARTING
        return record
    if isinstance(ready, Ready):
        record.status = Status.PAUSED if ready.paused else Status.RUNNING
        record.pid, record.pid_start = ready.pid, ready.start_time
        record.supervisor_pid = ready.supervisor_pid
        record.started_ns = ready.started_ns
        record.restart_count = ready.restart_count
    return record


def _being_launched(record: ContainerRecord, storage_dir: str) -> bool:
    """Between the row and the supervisor's lock lie some milliseconds: the launcher's pid bridges them.

    A supervisor writes into the lock file when it takes the lock, so an empty one was never taken since.
    """
    from rootless.userns import start_time

    try:
        taken = os.stat(f"{storage_dir}/{LOCK_FILE}").st_size > 0
    except OSError:
        taken = False
    return not taken and bool(record.pid_start) and start_time(record.pid) == record.pid_start


def _exit_files(record: ContainerRecord, storage_dir: str) -> tuple[str, str]:
    return f"{storage_dir}/{EXIT_FILE}", record.runtime_dir + EXIT_SUFFIX


def _exit_record(record: ContainerRecord, storage_dir: str) -> Exited | None:
    for path in _exit_files(record, storage_dir):
        try:
            ended = decode(read_file(path))
        except (OSError, ValueError):
            continue
        if isinstance(ended, Exited):
            return ended
    return None


def _unexplained(record: ContainerRecord) -> Exited:
    """A supervisor that left no record: it was killed, or the machine went down with it."""
    if record.boot_id and record.boot_id != boot_id():
        reason = "the machine was restarted while the container ran"
    else:
        reason = "the container's supervisor was killed, and the container with it"
    return Exited(
        exit_code=137,
        signal=9,
        finished_ns=time.time_ns(),
        started_ns=record.started_ns,
        restart_count=record.restart_count,
        error=reason,
    )


def _record_end(db: Database, record: ContainerRecord, ended: Exited | None) -> None:
    if ended is None:
        ended = _unexplained(record)
    record.status = Status.EXITED
    record.pid = record.pid_start = record.supervisor_pid = 0
    record.started_ns = ended.started_ns or record.started_ns
    record.finished_ns = ended.finished_ns
    record.exit_code, record.exit_signal = ended.exit_code, ended.signal
    record.oom, record.error = int(ended.oom_killed), ended.error
    record.restart_count = ended.restart_count
    try:
        db.execute(
            "UPDATE containers SET status = ?, pid = 0, pid_start = 0, supervisor_pid = 0, started_ns = ?,"
            " finished_ns = ?, exit_code = ?, exit_signal = ?, oom = ?, error = ?, restart_count = ?"
            " WHERE id = ? AND status = ?",
            (
                Status.EXITED, record.started_ns, record.finished_ns, record.exit_code, record.exit_signal, record.oom,
                record.error, record.restart_count, record.id, Status.ACTIVE,
            ),
        )  # fmt: skip
    except NoSpaceError:
        pass  # what is shown is right all the same; the next command that finds room writes it down


# --- writing -----------------------------------------------------------------------------------


def insert(db: Database, spec: ContainerSpec, active: bool, runtime_dir: str, volumes: tuple[str, ...] = ()) -> None:
    """A new container, `active` where it is launched at once.  Raises Error where the name is taken.

    A row of a --rm container is not worth a sync of the disk: after a power cut it would be swept up anyway.
    """
    from rootless.userns import start_time

    pid = os.getpid() if active else 0
    try:
        with db.transaction(durable=not spec.remove):
            db.execute(
                "INSERT INTO containers (id, name, created_ns, status, image_id, remove, pid, pid_start, runtime_dir,"
                " boot_id, spec) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    spec.id,
                    spec.name,
                    spec.created_ns,
                    Status.ACTIVE if active else Status.CREATED,
                    spec.image_id or None,
                    int(spec.remove),
                    pid,
                    start_time(pid) if active else 0,
                    runtime_dir if active else "",
                    boot_id() if active else "",
                    dumps(spec),
                ),
            )
            for volume in volumes:
                db.execute(
                    "INSERT OR IGNORE INTO container_volumes (container_id, volume_name) VALUES (?, ?)",
                    (spec.id, volume),
                )
            if spec.network.endpoints:
                from storage.networks import NetworkStore  # only with user-defined networks

                NetworkStore(db).attach(spec.id, [use.network_id for use in spec.network.endpoints])
    except ConstraintError as error:
        raise _insert_error(db, spec, error) from error


def check_name_is_free(db: Database, spec: ContainerSpec) -> None:
    """Raise Error where a container has this name already."""
    held = db.one("SELECT id FROM containers WHERE name = ?", (spec.name,))
    if held is not None:
        raise _name_error(spec.name, held[0])


def _name_error(name: str, holder: str) -> Error:
    return Error(
        f"the container name {name!r} is already in use by {holder[:12]}",
        hint=f"choose another --name, or remove that one: pyctl rm {name} (or run with --replace)",
    )


def _insert_error(db: Database, spec: ContainerSpec, error: ConstraintError) -> Error:
    held = db.one("SELECT id FROM containers WHERE name = ?", (spec.name,))
    if held is not None:
        return _name_error(spec.name, held[0])
    if "FOREIGN KEY" in error.detail:
        return NotFound(f"image {spec.image} was removed meanwhile")
    return error


def mark_launched(db: Database, record: ContainerRecord, runtime_dir: str) -> None:
    """Before `start`: active, by this process.  The exit record of the last run is gone before that."""
    from rootless.userns import start_time

    pid = os.getpid()
    storage_dir = db.paths.container(record.id)
    for path in _exit_files(record, storage_dir):
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
    try:
        os.truncate(f"{storage_dir}/{LOCK_FILE}", 0)
    except FileNotFoundError:
        pass  # it was never started
    db.execute(
        "UPDATE containers SET status = ?, pid = ?, pid_start = ?, runtime_dir = ?, boot_id = ?, started_ns = 0,"
        " finished_ns = 0, exit_code = 0, exit_signal = 0, oom = 0, error = '', stopped_by_user = 0 WHERE id = ?",
        (Status.ACTIVE, pid, start_time(pid), runtime_dir, boot_id(), record.id),
    )


def mark_launch_failed(db: Database, container_id: str, error: Error) -> None:
    """The launch failed and left nothing running: the container is as if it had ended with the engine's status."""
    try:
        db.execute(
            "UPDATE containers SET status = ?, pid = 0, pid_start = 0, exit_code = ?, error = ?, finished_ns = ?"
            " WHERE id = ?",
            (Status.CREATED, error.exit_code, error.message, time.time_ns(), container_id),
        )
    except NoSpaceError:
        pass  # the disk may be what it failed by, and that is what is to be told


def recorded_health(db: Database, record: ContainerRecord) -> HealthReport | None:
    """What the last supervisor knew of a container's health; None of one that has not been started."""
    from rootless.health import read_record  # few containers have a check

    return read_record(db.paths.container(record.id)) if record.started_ns else None


def tell(db: Database, status: str, spec: ContainerSpec, code: int | None = None) -> None:
    """Write down that something happened to a container."""
    db.tell("container", status, id=spec.id, name=spec.name, image=spec.image, labels=spec.labels, code=code)


def note_stopped(db: Database, container_id: str) -> None:
    """The user has stopped it: `unless-stopped` holds it down, also across a reboot."""
    sql = "UPDATE containers SET stopped_by_user = 1 WHERE id = ?"
    db.write(lambda: db.execute(sql, (container_id,)), frees_space=True)


def delete(db: Database, container_id: str, durable: bool = True) -> tuple[str, ...]:
    """Forget a container; returns its anonymous volumes, whose content is the caller's to remove."""

    def work() -> list[tuple[Any, ...]]:
        volumes = db.query(
            "SELECT v.name FROM container_volumes c JOIN volumes v ON v.name = c.volume_name"
            " WHERE c.container_id = ? AND v.anonymous = 1",
            (container_id,),
        )
        db.execute("DELETE FROM containers WHERE id = ?", (container_id,))
        return volumes

    return tuple(name for (name,) in db.write(work, frees_space=True, durable=durable))


def rename(db: Database, record: ContainerRecord, name: str) -> None:
    """Give it another name.  Raises Error where that is taken."""
    spec = record.specification.replace(name=name)
    try:
        db.execute("UPDATE containers SET name = ?, spec = ? WHERE id = ?", (name, dumps(spec), record.id))
    except ConstraintError as error:
        raise _insert_error(db, spec, error) from error


def replace_specification(db: Database, spec: ContainerSpec) -> None:
    """Store what `update` changed."""
    db.execute("UPDATE containers SET spec = ? WHERE id = ?", (dumps(spec), spec.id))
