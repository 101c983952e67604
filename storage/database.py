"""The one SQLite database of a store: opening, the schema, transactions, errors, a full disk.

Weight: `storage.sqlite` (the C module; the `sqlite3` package costs 9 ms more), `fcntl`, `os`, `rootless.errors`.

Write-ahead log, so that readers never wait.  `synchronous` is FULL: a committed row survives a power cut; a
transaction that says `durable=False` (rows of --rm containers) skips that fsync.  A process on a hot path leaves by
os._exit without closing, because closing the last connection would checkpoint the log.

Writers queue for an flock before they ask SQLite for its lock: SQLite's own waiting sleeps up to 100 ms at a time,
which made fifty processes at once take four times as long and the last of them wait 2.5 s (0.4 s with the queue).
"""

from __future__ import annotations

import fcntl
import os

from rootless.errors import Error
from storage.paths import StorePaths
from storage.schema import MIGRATIONS
from storage.sqlite import _sqlite3

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType
    from typing import Any, TypeVar

    T = TypeVar("T")

SCHEMA_VERSION = len(MIGRATIONS)
_BUSY_TIMEOUT_S = 60.0
_RESERVE_BYTES = 4 << 20
_LEAST_RESERVE = 64 << 10  # a removal writes some ten pages of 4 KiB, each with those of its indices

_SQLITE_BUSY, _SQLITE_LOCKED, _SQLITE_CORRUPT, _SQLITE_FULL, _SQLITE_NOTADB = 5, 6, 11, 13, 26
_SQLITE_READONLY, _SQLITE_IOERR, _SQLITE_CANTOPEN = 8, 10, 14
# What a full disk or quota looks like: ENOSPC is FULL, EDQUOT is IOERR, a -shm file that cannot be made CANTOPEN.
_NO_SPACE_CODES = frozenset((_SQLITE_FULL, _SQLITE_IOERR, _SQLITE_CANTOPEN))


class ConstraintError(Error):
    """A row that is unique exists already, or one that is referred to is gone or still in use.

    `detail` is SQLite's text: "UNIQUE constraint failed: containers.name", "FOREIGN KEY constraint failed".
    """

    def __init__(self, detail: str) -> None:
        super().__init__(f"state database: {detail}")
        self.detail = detail


class NoSpaceError(Error):
    """The database could not grow: disk full or quota reached."""


class Database:
    """One connection.  Statements outside a transaction commit by themselves.  Errors are `rootless.errors.Error`s."""

    __slots__ = ("_depth", "_queue", "connection", "path", "paths")

    def __init__(self, connection: _sqlite3.Connection, paths: StorePaths) -> None:
        self.connection = connection
        self.paths = paths
        self.path = paths.database
        self._depth = 0
        self._queue = -1

    def tell(self, kind: str, status: str, **facts: Any) -> None:
        """Write an event down, after what it tells of; see `rootless.events.event`."""
        from rootless import events  # commands that only look tell nothing

        events.append(self.paths.events_log, events.event(kind, status, **facts))

    def query(self, sql: str, args: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows of a statement."""
        try:
            return self.connection.execute(sql, args).fetchall()
        except _sqlite3.Error as error:
            raise _translated(error, self.path) from error

    def one(self, sql: str, args: Sequence[object] = ()) -> tuple[Any, ...] | None:
        """The first row, or None."""
        rows = self.query(sql, args)
        return rows[0] if rows else None

    def execute(self, sql: str, args: Sequence[object] = ()) -> int:
        """Run a statement; returns how many rows it changed."""
        try:
            return self.connection.execute(sql, args).rowcount
        except _sqlite3.Error as error:
            raise _translated(error, self.path) from error

    def execute_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement once for each row of arguments."""
        try:
            self.connection.executemany(sql, rows)
        except _sqlite3.Error as error:
            raise _translated(error, self.path) from error

    def transaction(self, durable: bool = True) -> Transaction:
        """`with db.transaction():` — all or nothing; the write lock is taken at once (no upgrade deadlocks).

        durable=False: an application crash loses nothing, a power cut may lose the transaction (never corrupt).
        Inside another transaction it becomes a part of that one.
        """
        return Transaction(self, durable)

    def write(self, work: Callable[[], T], frees_space: bool = False, durable: bool = True) -> T:
        """Run `work` in a transaction.  frees_space: where the disk is full, give the reserve back and run it again."""
        released = False
        while True:
            try:
                with self.transaction(durable):
                    done = work()
                break
            except NoSpaceError:
                # Another command may have set it aside again before this one had its turn.
                if not frees_space or self._depth or not release_reserve(self.paths):
                    raise
                released = True
        if released:
            restore_reserve(self.paths)  # what is left of it, before others take that
        return done

    def close(self) -> None:
        """Close and checkpoint; hot paths leave by os._exit instead."""
        self.connection.close()
        if self._queue >= 0:
            os.close(self._queue)
            self._queue = -1

    def __del__(self) -> None:
        if self._queue >= 0:
            os.close(self._queue)

    def _enter_queue(self) -> None:
        """Wait for the turn to write, as long as SQLite would."""
        if self._queue < 0:
            try:
                self._queue = os.open(self.paths.database_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise NoSpaceError(f"cannot open {self.paths.database_lock}: {error.strerror}") from error
        try:
            fcntl.flock(self._queue, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not _flock_within(self._queue, _BUSY_TIMEOUT_S):
                raise _busy(self.path) from None

    def _leave_queue(self) -> None:
        fcntl.flock(self._queue, fcntl.LOCK_UN)


class Transaction:
    """See `Database.transaction`."""

    __slots__ = ("_database", "_durable")

    def __init__(self, database: Database, durable: bool) -> None:
        self._database = database
        self._durable = durable

    def __enter__(self) -> Database:
        database = self._database
        if database._depth == 0:
            database._enter_queue()
            try:
                if not self._durable:
                    database.execute("PRAGMA synchronous=NORMAL")
                database.execute("BEGIN IMMEDIATE")
            except Error:
                self._restore_synchronous()
                database._leave_queue()
                raise
        database._depth += 1
        return database

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        database = self._database
        database._depth -= 1
        if database._depth:
            return
        try:
            if error is None:
                database.execute("COMMIT")
        finally:
            # A failed COMMIT (disk full) leaves the transaction open; one that SQLite ended itself needs nothing.
            try:
                if database.connection.in_transaction:
                    database.execute("ROLLBACK")
                self._restore_synchronous()
            finally:
                database._leave_queue()

    def _restore_synchronous(self) -> None:
        if not self._durable:
            self._database.execute("PRAGMA synchronous=FULL")


def _translated(error: _sqlite3.Error, path: str) -> Error:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if isinstance(error, _sqlite3.IntegrityError):
        return ConstraintError(str(error))
    if code in (_SQLITE_CORRUPT, _SQLITE_NOTADB):
        return Error(
            f"state database {path} is damaged: {error}",
            hint=f"put back a copy, or move {path} away to start anew (images must then be pulled again)",
        )
    if code in (_SQLITE_BUSY, _SQLITE_LOCKED):
        return _busy(path)
    if code == _SQLITE_FULL:
        return NoSpaceError(f"state database {path}: no space left on its file system", hint="pyctl system prune")
    if code in _NO_SPACE_CODES:
        return NoSpaceError(
            f"state database {path}: {error}", hint="is the disk full, a quota reached, or the directory not writable?"
        )
    if code == _SQLITE_READONLY:
        return Error(f"state database {path} is not writable: {error}", hint="check the owner of the storage root")
    return Error(f"state database {path}: {error}")


def _busy(path: str) -> Error:
    return Error(
        f"state database {path} is locked by another process for more than {_BUSY_TIMEOUT_S:.0f} s",
        hint="see who holds it: fuser " + path,
    )


class _TimeUpError(Exception):
    pass


def _time_up(_signal: int, _frame: object) -> None:
    raise _TimeUpError


def _flock_within(fd: int, seconds: float) -> bool:
    """Lock `fd`, which another process holds, within a time; False at its end (that process was stopped)."""
    import _signal  # type: ignore[import-not-found]  # `signal` imports enum
    import time

    try:
        held = _signal.signal(_signal.SIGALRM, _time_up)
    except ValueError:  # not the main thread, which alone gets signals
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.002)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            return True
        return False
    earlier = _signal.setitimer(_signal.ITIMER_REAL, seconds)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except _TimeUpError:
        return False
    finally:
        _signal.setitimer(_signal.ITIMER_REAL, *earlier)
        _signal.signal(_signal.SIGALRM, held)
    return True


def _connect(paths: StorePaths) -> _sqlite3.Connection:
    connection = _sqlite3.connect(paths.database, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
    # References are checked by SQLite itself, so that an image cannot vanish between look-up and container.
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def open_database(paths: StorePaths) -> Database:
    """Open the store's database; makes the storage root, the database and newer tables where they are missing.

    Raises Error: damaged, newer than this program, no space, not writable.
    """
    try:
        database = _open(paths)
    except NoSpaceError:
        # Even a reader needs the -shm file, which may not exist yet on a disk that has become full.
        if release_reserve(paths):
            return _open(paths)
        raise
    if not _is_whole(paths.reserve):
        restore_reserve(paths)  # given back to a full disk, on which there may be room again
    return database


def _open(paths: StorePaths) -> Database:
    if not os.path.exists(paths.database):
        paths.prepare()
    try:
        connection = _connect(paths)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except _sqlite3.Error as error:
        raise _translated(error, paths.database) from error
    database = Database(connection, paths)
    if version > SCHEMA_VERSION:
        raise Error(
            f"state database {paths.database} has version {version}; this pyctl knows {SCHEMA_VERSION}",
            hint="use the newer pyctl that wrote it, or another storage root (--root)",
        )
    if version < SCHEMA_VERSION:
        _migrate(database)
    return database


def _migrate(database: Database) -> None:
    paths = database.paths
    # The change of the journal mode takes no busy handler, so a hundred processes that make the database at once
    # must not meet in it.
    database._enter_queue()
    try:
        database.query("PRAGMA journal_mode=WAL")
        database.execute("BEGIN IMMEDIATE")
        try:
            version = (database.one("PRAGMA user_version") or (0,))[0]
            for step in MIGRATIONS[version:]:
                for statement in step:
                    database.execute(statement)
            database.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            database.execute("COMMIT")
        except BaseException:
            if database.connection.in_transaction:
                database.execute("ROLLBACK")
            raise
        # Made now, because removing must work when no file can be made any more.
        os.close(os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        restore_reserve(paths)
    finally:
        database._leave_queue()


def restore_reserve(paths: StorePaths) -> None:
    """Set the reserve aside again, or as much of it as there is room for; called after something was removed."""
    try:
        fd = os.open(paths.reserve, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return
    try:
        held = os.fstat(fd).st_size
        size = _RESERVE_BYTES
        while size > held and not _allocate(fd, held, size):
            size //= 2
        if size < _LEAST_RESERVE:
            os.unlink(paths.reserve)
    except OSError:
        return  # another process has given it back meanwhile
    finally:
        os.close(fd)


def _allocate(fd: int, held: int, size: int) -> bool:
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError:
        os.ftruncate(fd, held)  # what was allocated before the room ended
        return False
    return True


def _is_whole(reserve: str) -> bool:
    try:
        return os.stat(reserve).st_size >= _RESERVE_BYTES
    except OSError:
        return False


def release_reserve(paths: StorePaths) -> bool:
    """Give the reserve back to the file system; False where there was none."""
    try:
        os.unlink(paths.reserve)
    except OSError:
        return False
    return True
