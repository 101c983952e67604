"""The database: made by many at once, migrated, damaged, newer, full."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rootless.errors import Error
from storage import database
from storage.database import ConstraintError, open_database
from storage.paths import StorePaths


@pytest.fixture
def paths(tmp_path: Path) -> StorePaths:
    return StorePaths(str(tmp_path / "store"))


def _insert_container(db: database.Database, name: str) -> None:
    db.execute("INSERT INTO containers (id, name, created_ns, spec) VALUES (?,?,?,?)", (name * 2, name, 1, "{}"))


def test_opening_makes_everything_private(paths: StorePaths) -> None:
    db = open_database(paths)
    assert os.stat(paths.root).st_mode & 0o777 == 0o700
    assert db.query("SELECT * FROM containers") == []
    assert db.one("PRAGMA journal_mode") == ("wal",)
    assert db.one("PRAGMA synchronous") == (2,)
    assert db.one("PRAGMA user_version") == (database.SCHEMA_VERSION,)
    assert os.stat(paths.reserve).st_blocks * 512 >= 4 << 20
    db.close()


def test_no_heavy_module_is_imported() -> None:
    code = "import sys, storage.images, storage.database; print(*sorted(m for m in sys.modules if '.' not in m))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    loaded = subprocess.run([sys.executable, "-S", "-c", code], env=environment, capture_output=True, check=True)
    heavy = {b"typing", b"re", b"json", b"dataclasses", b"enum", b"pathlib", b"sqlite3", b"datetime", b"functools"}
    assert heavy.isdisjoint(loaded.stdout.split())


def _worker(root: str, name: str, gate: str, queue: multiprocessing.Queue[str]) -> None:
    while not os.path.exists(gate):
        os.sched_yield()
    try:
        db = open_database(StorePaths(root))
        with db.transaction():
            _insert_container(db, name)
        queue.put("")
    except Exception as error:
        queue.put(repr(error))


def test_forty_processes_make_the_database_at_once(paths: StorePaths, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[str] = context.Queue()
    gate = str(tmp_path / "gate")
    workers = [context.Process(target=_worker, args=(paths.root, f"c{i}", gate, queue)) for i in range(40)]
    for worker in workers:
        worker.start()
    Path(gate).touch()
    assert [queue.get(timeout=60) for _ in workers] == [""] * len(workers)
    for worker in workers:
        worker.join()
    assert open_database(paths).one("SELECT count(*) FROM containers") == (40,)


def test_a_transaction_is_all_or_nothing_and_restores_synchronous(paths: StorePaths) -> None:
    db = open_database(paths)
    with pytest.raises(RuntimeError), db.transaction(durable=False):
        _insert_container(db, "a")
        assert db.one("PRAGMA synchronous") == (1,)
        raise RuntimeError
    assert db.one("PRAGMA synchronous") == (2,)
    assert db.query("SELECT * FROM containers") == []
    with db.transaction():
        with db.transaction(durable=False):
            _insert_container(db, "a")
        _insert_container(db, "b")
    assert db.one("SELECT count(*) FROM containers") == (2,)


def test_a_second_row_of_the_same_name_is_told_apart(paths: StorePaths) -> None:
    db = open_database(paths)
    _insert_container(db, "a")
    with pytest.raises(ConstraintError) as caught:
        db.execute("INSERT INTO containers (id, name, created_ns, spec) VALUES ('z','a',1,'{}')")
    assert caught.value.detail == "UNIQUE constraint failed: containers.name"
    with pytest.raises(ConstraintError, match="FOREIGN KEY"):
        db.execute("UPDATE containers SET image_id = 'gone'")


def _hold(root: str, ready: int) -> None:
    db = open_database(StorePaths(root))
    with db.transaction():
        os.write(ready, b"x")
        os.kill(os.getpid(), signal.SIGSTOP)


def _try_to_write(root: str, out: list[str]) -> None:
    try:
        with open_database(StorePaths(root)).transaction():
            out.append("written")
    except Error as error:
        out.append(error.message)


def test_a_stopped_writer_is_told_and_a_killed_one_is_no_hindrance(
    paths: StorePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_BUSY_TIMEOUT_S", 0.2)
    open_database(paths)
    reader, writer = os.pipe()
    child = multiprocessing.get_context("fork").Process(target=_hold, args=(paths.root, writer))
    child.start()
    os.read(reader, 1)
    handler = signal.getsignal(signal.SIGALRM)
    out: list[str] = []
    try:
        _try_to_write(paths.root, out)
        thread = threading.Thread(target=_try_to_write, args=(paths.root, out))
        thread.start()
        thread.join()
    finally:
        child.kill()
        child.join()
    assert ["is locked by another process" in text for text in out] == [True, True]
    assert signal.getsignal(signal.SIGALRM) == handler
    _try_to_write(paths.root, out)
    assert out[2] == "written"


def _worst_wait(root: str, name: str, gate: str, queue: multiprocessing.Queue[float]) -> None:
    db = open_database(StorePaths(root))
    while not os.path.exists(gate):
        os.sched_yield()
    worst = 0.0
    for turn in range(4):
        start = time.monotonic()
        with db.transaction():
            _insert_container(db, f"{name}-{turn}")
        worst = max(worst, time.monotonic() - start)
    queue.put(worst)


def test_writers_take_turns(paths: StorePaths, tmp_path: Path) -> None:
    """SQLite's own waiting let one of thirty wait for seconds."""
    open_database(paths)
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[float] = context.Queue()
    gate = str(tmp_path / "gate")
    workers = [context.Process(target=_worst_wait, args=(paths.root, f"c{i}", gate, queue)) for i in range(30)]
    for worker in workers:
        worker.start()
    start = time.monotonic()
    Path(gate).touch()
    waits = [queue.get(timeout=60) for _ in workers]
    total = time.monotonic() - start
    for worker in workers:
        worker.join()
    assert max(waits) <= total
    assert open_database(paths).one("SELECT count(*) FROM containers") == (120,)


@pytest.mark.parametrize("content", [b"this is no database at all, but long enough to be read as one" * 100, b"short"])
def test_a_damaged_database_is_one_clear_line(paths: StorePaths, content: bytes) -> None:
    paths.prepare()
    Path(paths.database).write_bytes(content)
    with pytest.raises(Error, match=r"state\.db.* is damaged"):
        open_database(paths)


def test_damage_inside_is_told(paths: StorePaths) -> None:
    db = open_database(paths)
    db.execute_many(
        "INSERT INTO containers (id, name, created_ns, spec) VALUES (?,?,1,?)",
        [(f"i{i}", f"n{i}", "x" * 500) for i in range(200)],
    )
    db.close()
    raw = bytearray(Path(paths.database).read_bytes())
    for page in range(4, len(raw) // 4096):
        raw[page * 4096 : page * 4096 + 100] = b"\xff" * 100
    Path(paths.database).write_bytes(raw)
    with pytest.raises(Error, match="is damaged"):
        open_database(paths).query("SELECT * FROM containers ORDER BY created_ns")


def test_a_newer_database_is_refused(paths: StorePaths) -> None:
    open_database(paths).close()
    with sqlite3.connect(paths.database) as raw:
        raw.execute("PRAGMA user_version=99")
    with pytest.raises(Error, match="has version 99; this pyctl knows") as caught:
        open_database(paths)
    assert "newer pyctl" in caught.value.hint


def test_migrations_run_in_order_and_once(paths: StorePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    open_database(paths).close()
    more = (*database.MIGRATIONS, ("CREATE TABLE added (a)", "INSERT INTO added VALUES (1)"))
    monkeypatch.setattr(database, "MIGRATIONS", more)
    monkeypatch.setattr(database, "SCHEMA_VERSION", len(more))
    for _ in range(2):
        db = open_database(paths)
        assert db.query("SELECT * FROM added") == [(1,)]
        db.close()


def test_a_root_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Error, match="cannot make the storage root"):
        open_database(StorePaths(str(tmp_path / "file/store")))


def test_opening_is_fast(paths: StorePaths) -> None:
    open_database(paths)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        open_database(paths).query("SELECT * FROM containers")
        times.append(time.perf_counter() - start)
    assert min(times) < 0.002
