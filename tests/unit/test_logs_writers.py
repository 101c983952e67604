"""The log drivers' writers: what was written comes back whole, the bound holds, a full disk costs records only."""

from __future__ import annotations

import json
import os
import resource
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from rootless import logs
from rootless.errors import LaunchError
from rootless.journal import JournalLog, field
from rootless.logs import LINE_MAX, FileLog, K8sFormat, NoLog, character_boundary, cut_lines, json_record, open_log
from rootless.plan import LogPlan

Record = tuple[bytes, bool, bytes]  # stream, end of a line, text


def parse_k8s(data: bytes) -> list[Record]:
    assert not data or data.endswith(b"\n")
    records = []
    for line in data.split(b"\n")[:-1]:
        stamp, stream, mark, text = line.split(b" ", 3)
        assert len(stamp) == len("2026-01-31T12:00:00.123456789+01:00")
        assert mark in (b"F", b"P")
        records.append((stream, mark == b"F", text))
    return records


def parse_json(data: bytes) -> list[Record]:
    assert not data or data.endswith(b"\n")
    records = []
    for line in data.split(b"\n")[:-1]:
        record = json.loads(line)
        text = record["log"].encode()
        records.append((record["stream"].encode(), text.endswith(b"\n"), text.removesuffix(b"\n")))
    return records


def joined(records: list[Record], stream: bytes) -> bytes:
    return b"".join(text + (b"\n" if full else b"") for s, full, text in records if s == stream)


def files_of(path: Path) -> list[Path]:
    """Oldest first."""
    found = [p for p in path.parent.iterdir() if p.name == path.name or p.name.startswith(path.name + ".")]
    return sorted(found, key=lambda p: -int(p.name[len(path.name) + 1 :] or 0))


def chunks(alphabet: SearchStrategy[bytes]) -> SearchStrategy[list[tuple[bytes, bytes]]]:
    return st.lists(st.tuples(st.sampled_from(logs.STREAMS), alphabet), max_size=30)


LINES = st.lists(st.sampled_from([b"a", b"\n", b"line one\n", b"\\n", b'"', b"\x00", b"\xff", "é€".encode(), b"\r"]))
BYTES = st.one_of(st.binary(max_size=200), LINES.map(b"".join), st.integers(0, 40000).map(lambda n: b"x" * n))


@given(chunks(BYTES))
@settings(deadline=None)
def test_k8s_keeps_every_byte(tmp_path_factory: pytest.TempPathFactory, written: list[tuple[bytes, bytes]]) -> None:
    path = tmp_path_factory.mktemp("log") / "ctr.log"
    log = FileLog(str(path), K8sFormat())
    for stream, data in written:
        log.write(stream, data)
    log.close()
    records = parse_k8s(path.read_bytes())
    for stream in logs.STREAMS:
        assert joined(records, stream) == b"".join(data for s, data in written if s == stream)
    assert all(len(text) <= LINE_MAX for _, _, text in records)


@given(chunks(st.text(max_size=60).map(str.encode)))
@settings(deadline=None)
def test_json_keeps_every_character(
    tmp_path_factory: pytest.TempPathFactory, written: list[tuple[bytes, bytes]]
) -> None:
    path = tmp_path_factory.mktemp("log") / "ctr.log"
    log = FileLog(str(path), json_record)
    for stream, data in written:
        log.write(stream, data)
    log.close()
    records = parse_json(path.read_bytes())
    for stream in logs.STREAMS:
        assert joined(records, stream) == b"".join(data for s, data in written if s == stream)


@given(st.binary(max_size=300))
def test_json_replaces_what_is_not_utf8(data: bytes) -> None:
    for whole in (True, False):
        text = data.replace(b"\n", b" ")
        record = json.loads(json_record(b"stderr", text + b"\n" if whole else text, whole, 1_700_000_000_123_456_789))
        assert record == {
            "log": text.decode(errors="replace") + ("\n" if whole else ""),
            "stream": "stderr",
            "time": "2023-11-14T22:13:20.123456789Z",
        }


@given(st.lists(st.integers(0, 3 * LINE_MAX), max_size=6), st.sampled_from([b"y", "é".encode(), "€".encode()]))
@settings(deadline=None)
def test_long_lines_are_cut_between_characters(lengths: list[int], unit: bytes) -> None:
    data = b"\n".join(unit * (n // len(unit)) for n in lengths)
    pieces, rest = cut_lines(data)
    assert b"".join(text for _, text in pieces) + rest == data
    assert b"\n" not in rest
    assert len(rest) <= LINE_MAX
    for whole, text in pieces:
        text.decode()
        if whole:
            assert text.endswith(b"\n")
            assert max(map(len, text.split(b"\n"))) <= LINE_MAX
        else:
            assert b"\n" not in text
            assert LINE_MAX - 3 <= len(text) <= LINE_MAX


def test_character_boundary_stays_on_bytes_that_are_not_utf8() -> None:
    assert character_boundary(b"\x80\x80\x80\x80\x80", 5) == 5
    assert character_boundary(b"ab\xe2\x82", 4) == 2
    assert character_boundary("a€".encode(), 4) == 4


@pytest.mark.parametrize("form", [K8sFormat(), json_record])
@given(written=st.lists(st.integers(0, 700), max_size=60), limit=st.integers(900, 5000), count=st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_rotation_never_exceeds_the_bound_and_keeps_the_newest(
    tmp_path_factory: pytest.TempPathFactory, form: logs.Format, written: list[int], limit: int, count: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "ctr.log"
    log = FileLog(str(path), form, limit, count)
    expected = []
    for number, length in enumerate(written):
        line = b"%d " % number + b"x" * min(length, limit // 2 - 120) + b"\n"
        expected.append(line[:-1])
        log.write(b"stdout", line)
        sizes = [p.stat().st_size for p in files_of(path)]
        assert sum(sizes) <= limit * count
        assert len(sizes) <= max(2, count)
    log.close()
    parse = parse_json if form is json_record else parse_k8s
    kept = [text for _, _, text in parse(b"".join(p.read_bytes() for p in files_of(path)))]
    assert kept == expected[len(expected) - len(kept) :]
    if expected:
        assert kept


def test_one_gigabyte_in_small_never_holds_more_than_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "ctr.log"
    log = FileLog(str(path), K8sFormat(), 100_000, 3)
    chunk = (b"z" * 79 + b"\n") * 400
    for _ in range(100):
        log.write(b"stdout", chunk)
        assert sum(p.stat().st_size for p in files_of(path)) <= 300_000
    log.close()
    assert [p.name for p in files_of(path)] == ["ctr.log.2", "ctr.log.1", "ctr.log"]
    assert sum(p.stat().st_size for p in files_of(path)) > 200_000


def test_fewer_files_than_before(tmp_path: Path) -> None:
    path = tmp_path / "ctr.log"
    for count in (5, 2):
        log = FileLog(str(path), K8sFormat(), 500, count)
        for _ in range(100):
            log.write(b"stdout", b"a line\n")
        log.close()
    assert [p.name for p in files_of(path)] == ["ctr.log.1", "ctr.log"]


def test_partial_lines_wait_and_are_flushed(tmp_path: Path) -> None:
    path = tmp_path / "ctr.log"
    log = FileLog(str(path), K8sFormat())
    log.write(b"stdout", b"one\nPass")
    log.write(b"stderr", b"complaint\n")
    log.write(b"stdout", b"word: \xe2\x82")
    assert log.pending
    assert [r[2] for r in parse_k8s(path.read_bytes())] == [b"one", b"complaint"]
    log.flush()
    assert parse_k8s(path.read_bytes())[2:] == [(b"stdout", False, b"Password: ")]
    assert log.pending, "half a character waits for its other half"
    log.write(b"stdout", b"\xac\nrest")
    log.close()
    assert parse_k8s(path.read_bytes())[3:] == [(b"stdout", True, "€".encode()), (b"stdout", False, b"rest")]


def test_a_record_cut_short_by_a_crash_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "ctr.log"
    path.write_bytes(b"2026-01-31T12:00:00.123456789+01:00 stdout F whole\n2026-01-31T12:00:00.1234")
    log = FileLog(str(path), K8sFormat())
    log.write(b"stdout", b"next\n")
    log.close()
    assert [r[2] for r in parse_k8s(path.read_bytes())] == [b"whole", b"next"]


def test_reopen_after_somebody_moved_the_file(tmp_path: Path) -> None:
    path = tmp_path / "ctr.log"
    log = FileLog(str(path), K8sFormat())
    log.write(b"stdout", b"old\n")
    path.rename(tmp_path / "moved")
    log.write(b"stdout", b"still old\n")
    log.reopen()
    log.write(b"stdout", b"new\n")
    log.close()
    assert [r[2] for r in parse_k8s((tmp_path / "moved").read_bytes())] == [b"old", b"still old"]
    assert [r[2] for r in parse_k8s(path.read_bytes())] == [b"new"]


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    # The kernel then takes the beginning of a write and refuses the rest (EFBIG), as a disk that fills up does.
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("form", [K8sFormat(), json_record])
@pytest.mark.parametrize("limit", [0, 100, 1000, 1017, 3000])
def test_a_refused_write_costs_records_and_leaves_a_mark(tmp_path: Path, form: logs.Format, limit: int) -> None:
    path = tmp_path / "ctr.log"
    log = FileLog(str(path), form)
    with file_size_limit(limit):
        for number in range(100):
            log.write(b"stdout", b"before %d\nand more\n" % number)
    assert path.stat().st_size <= limit
    log.write(b"stdout", b"after\n")
    log.close()
    records = (parse_json if form is json_record else parse_k8s)(path.read_bytes())
    texts = [text for _, _, text in records]
    mark, after = records[-2:]
    assert after == (b"stdout", True, b"after")
    assert mark[0] == b"stderr"
    assert mark[2].startswith(b"[")
    assert mark[2].endswith(b" bytes of the log were lost: File too large]")
    assert texts[:-2] == [t for n in range(100) for t in (b"before %d" % n, b"and more")][: len(texts) - 2]


def test_a_full_device_does_not_raise() -> None:
    log = FileLog("/dev/full", K8sFormat(), 1000, 3)
    for _ in range(10):
        log.write(b"stdout", b"lost\n")
    log.close()


def test_the_directory_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    log = FileLog(str(folder / "ctr.log"), K8sFormat(), 300, 2)
    for p in folder.iterdir():
        p.unlink()
    folder.rmdir()
    for _ in range(20):
        log.write(b"stdout", b"into nothing, across rotations\n")
    folder.mkdir()
    log.write(b"stdout", b"back\n")
    log.close()
    assert parse_k8s((folder / "ctr.log").read_bytes())[-1] == (b"stdout", True, b"back")


@pytest.mark.parametrize("made", ["directory", "fifo", "missing folder", "socket"])
def test_paths_that_cannot_be_a_log(tmp_path: Path, made: str) -> None:
    path = tmp_path / "x"
    listener = None
    if made == "directory":
        path.mkdir()
    elif made == "fifo":
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    elif made == "socket":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
    else:
        path = tmp_path / "no" / "x"
    with pytest.raises(LaunchError) as caught:
        open_log(LogPlan(path=str(path)))
    assert str(path) in caught.value.message
    if made == "fifo":
        os.close(reader)
    if listener:
        listener.close()


def test_the_log_is_the_owners_alone(tmp_path: Path) -> None:
    open_log(LogPlan(path=str(tmp_path / "ctr.log"))).close()
    assert (tmp_path / "ctr.log").stat().st_mode & 0o777 == 0o600


def test_drivers_that_keep_nothing() -> None:
    for driver in ("none", "passthrough"):
        log = open_log(LogPlan(driver=driver))
        assert isinstance(log, NoLog)
        log.write(b"stdout", b"x")
        log.close()
    with pytest.raises(LaunchError):
        open_log(LogPlan(driver="syslog"))


# --- journald: the protocol, against a socket that takes what journald takes ---------------------


class Journal:
    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(5)

    def take(self) -> dict[str, bytes]:
        data, ancillary, _, _ = self.socket.recvmsg(1 << 20, socket.CMSG_SPACE(4))
        for _, _, packed in ancillary:
            fd = struct.unpack("i", packed[:4])[0]
            assert not data
            with os.fdopen(fd, "rb") as record:
                record.seek(0)
                data = record.read()
        fields = {}
        while data:
            line, _, rest = data.partition(b"\n")
            name, equals, value = line.partition(b"=")
            if not equals:
                length = struct.unpack("<Q", rest[:8])[0]
                value, rest = rest[8 : 8 + length], rest[8 + length :]
                assert rest[:1] == b"\n"
                rest = rest[1:]
            fields[name.decode()] = value
            data = rest
        return fields


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "socket")
    yield made
    made.socket.close()


def test_journal_fields(journal: Journal) -> None:
    log = JournalLog({"CONTAINER_NAME": "web", "NOTE": "two\nlines", "_UID": "0", "bad": "x"}, journal.path)
    log.write(b"stdout", b"one\n\xff=two\n\npart")
    log.write(b"stderr", b"error\n")
    log.close()
    common = {"CONTAINER_NAME": b"web", "NOTE": b"two\nlines"}
    for expected in (b"one", b"\xff=two", b""):
        assert journal.take() == {**common, "PRIORITY": b"6", "MESSAGE": expected}
    assert journal.take() == {**common, "PRIORITY": b"3", "MESSAGE": b"error"}
    partial = {**common, "PRIORITY": b"6", "CONTAINER_PARTIAL_MESSAGE": b"true", "MESSAGE": b"part"}
    assert journal.take() == partial


def test_journal_records_too_large_for_a_datagram(journal: Journal) -> None:
    label = "v" * 400_000
    log = JournalLog({"LABEL": label}, journal.path)
    log.write(b"stdout", b"big\n")
    assert journal.take() == {"LABEL": label.encode(), "PRIORITY": b"6", "MESSAGE": b"big"}
    log.close()


def test_journal_restarted(journal: Journal) -> None:
    log = JournalLog({}, journal.path)
    log.write(b"stdout", b"one\n")
    assert journal.take()["MESSAGE"] == b"one"
    journal.socket.close()
    os.unlink(journal.path)
    log.write(b"stdout", b"lost\n")
    again = Journal(Path(journal.path))
    log.write(b"stdout", b"two\n")
    assert again.take()["MESSAGE"].startswith(b"[1 records of the log were lost: ")
    assert again.take()["MESSAGE"] == b"two"
    log.close()
    again.socket.close()


def test_a_journal_that_takes_nothing_does_not_hold_the_container_back(journal: Journal) -> None:
    log = JournalLog({}, journal.path)
    line = b"q" * 8000 + b"\n"
    for _ in range(400):
        log.write(b"stdout", line)
    journal.socket.settimeout(0.5)
    with pytest.raises(TimeoutError):
        while True:
            journal.take()
    log.write(b"stdout", b"again\n")
    assert b"records of the log were lost" in journal.take()["MESSAGE"]
    assert journal.take()["MESSAGE"] == b"again"
    log.close()


def test_closing_waits_until_the_journal_has_taken_all(journal: Journal) -> None:
    log = JournalLog({}, journal.path)
    for number in range(5):
        log.write(b"stdout", b"%d\n" % number)
    closer = threading.Thread(target=log.close)
    closer.start()
    closer.join(0.05)
    assert closer.is_alive()
    for _ in range(5):
        journal.take()
    closer.join(0.2)
    assert not closer.is_alive()


def test_no_journal(tmp_path: Path) -> None:
    with pytest.raises(LaunchError) as caught:
        JournalLog({}, str(tmp_path / "none"))
    assert caught.value.hint


@pytest.mark.parametrize("name", ["", "_UID", "1A", "a", "A-B", "A" * 65, "É"])
def test_bad_journal_fields_are_left_out(name: str) -> None:
    assert field(name, b"x") == b""
