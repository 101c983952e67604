"""Reading logs back: all of them, their ends, while they grow and rotate, and several at once."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyctl.engine.logread import LogSource, LogView, show_logs
from pyctl.engine.logread_files import LogFiles, moment_ns, parse_json, parse_k8s
from pyctl.engine.logread_journal import JournalEntries
from rootless.errors import Error
from rootless.logs import FileLog, K8sFormat, json_record

ID = "a" * 64
T0 = 1_700_000_000_000_000_000
SECOND = 1_000_000_000


def k8s(*entries: tuple[int, str, str, str]) -> bytes:
    """Entries of (second, stream, F or P, text) as a k8s-file."""
    form = K8sFormat()
    lines = [
        form(stream.encode(), text.encode() + (b"\n" if mark == "F" else b""), mark == "F", T0 + second * SECOND)
        for second, stream, mark, text in entries
    ]
    return b"".join(lines)


class Screen:
    """What is printed: both streams' pipes, read by threads so that no log is too large for them."""

    def __init__(self) -> None:
        self.out = self.err = b""
        self.fds: dict[str, int] = {}
        self.threads = []
        for name in ("out", "err"):
            read_end, self.fds[name] = os.pipe()
            thread = threading.Thread(target=self._drain, args=(name, read_end), daemon=True)
            thread.start()
            self.threads.append(thread)

    def _drain(self, name: str, fd: int) -> None:
        while chunk := os.read(fd, 1 << 16):
            setattr(self, name, getattr(self, name) + chunk)
        os.close(fd)

    def close(self) -> None:
        for fd in self.fds.values():
            os.close(fd)
        for thread in self.threads:
            thread.join(10)


def wait_for(screen: Screen, text: bytes) -> None:
    deadline = time.monotonic() + 10
    while screen.out != text and time.monotonic() < deadline:
        time.sleep(0.005)
    assert screen.out == text


def shown(*sources: LogSource, **view: object) -> tuple[bytes, bytes]:
    screen = Screen()
    try:
        show_logs(sources, LogView(**view), screen.fds["out"], screen.fds["err"])  # type: ignore[arg-type]
    finally:
        screen.close()
    return screen.out, screen.err


def source(path: Path, name: str = "web", **fields: object) -> LogSource:
    base: dict[str, object] = {"container_id": ID, "name": name, "driver": "k8s-file", "path": str(path)}
    return LogSource(**{**base, **fields})  # type: ignore[arg-type]


# --- records ---------------------------------------------------------------------------------


@given(st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1)), st.integers(-14 * 60, 14 * 60))
def test_moments_against_datetime(moment: datetime, minutes: int) -> None:
    moment = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    expected = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    for timespec in ("microseconds", "auto"):
        text = moment.isoformat(timespec=timespec)
        assert moment_ns(text.encode()) == expected
    assert moment_ns(moment.astimezone(UTC).isoformat().replace("+00:00", "Z").encode()) == expected


def test_moments_of_other_writers() -> None:
    assert moment_ns(b"2023-11-14T22:13:20Z") == T0
    assert moment_ns(b"2023-11-14T22:13:20.5Z") == T0 + SECOND // 2
    assert moment_ns(b"2023-11-14T23:13:20.123456789+01:00") == T0 + 123456789


@given(st.binary(max_size=120))
def test_garbage_is_no_record(line: bytes) -> None:
    for parse in (parse_k8s, parse_json):
        parse(line)
        assert parse(b"\x00" * 50 + line) is None


@given(st.text(max_size=50).filter(lambda t: "\n" not in t), st.sampled_from([b"stdout", b"stderr"]), st.booleans())
def test_records_read_back(text: str, stream: bytes, whole: bool) -> None:
    expected = (T0 + 5, 1 if stream == b"stdout" else 2, whole, text.encode())
    data = text.encode() + (b"\n" if whole else b"")
    assert parse_k8s(K8sFormat()(stream, data, whole, T0 + 5)[:-1]) == expected
    assert parse_json(json_record(stream, data, whole, T0 + 5)[:-1]) == expected


# --- files -----------------------------------------------------------------------------------


def reader(path: Path, driver: str) -> LogFiles:
    return LogFiles(str(path), parse_json if driver == "json-file" else parse_k8s)


def read_all(files: LogFiles) -> list[tuple[int, bool, bytes]]:
    entries = []
    while batch := files.read():
        entries += [entry[1:] for entry in batch]
    return entries


WRITES = st.lists(
    st.tuples(
        st.sampled_from([b"stdout", b"stderr"]),
        st.lists(st.sampled_from([b"word", b"\n", b"line\n", b"\n\n", b"x" * 300, b"y" * 20000]), max_size=6).map(
            b"".join
        ),
    ),
    max_size=25,
)


@pytest.mark.parametrize("driver", ["k8s-file", "json-file"])
@given(writes=WRITES, limit=st.sampled_from([0, 60_000]))
@settings(deadline=None, max_examples=50)
def test_what_was_written_reads_back(
    tmp_path_factory: pytest.TempPathFactory, driver: str, writes: list[tuple[bytes, bytes]], limit: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "ctr.log"
    log = FileLog(str(path), json_record if driver == "json-file" else K8sFormat(), limit, 50)
    for stream, data in writes:
        log.write(stream, data)
    log.close()
    files = reader(path, driver)
    entries = read_all(files)
    files.close()
    for number, stream in ((1, b"stdout"), (2, b"stderr")):
        found = b"".join(text + b"\n" * ends for s, ends, text in entries if s == number)
        assert found == b"".join(data for s, data in writes if s == stream)


def tail_of(entries: list[tuple[int, bool, bytes]], count: int) -> list[tuple[int, bool, bytes]]:
    """The reference: lines end with an entry that ends, and with the last one."""
    ends = [index for index, entry in enumerate(entries) if entry[1] or index == len(entries) - 1]
    if count >= len(ends):
        return entries
    return entries[ends[len(ends) - count - 1] + 1 :] if count else []


@given(writes=WRITES, count=st.integers(0, 30), limit=st.sampled_from([0, 60_000]))
@settings(deadline=None, max_examples=50)
def test_tail(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[bytes, bytes]], count: int, limit: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "ctr.log"
    log = FileLog(str(path), K8sFormat(), limit, 50)
    for stream, data in writes:
        log.write(stream, data)
    log.close()
    with path.open("ab") as unfinished:
        unfinished.write(b"2026-01-31T12:0")
    files, again = reader(path, "k8s-file"), reader(path, "k8s-file")
    files.seek(count, 0, 0)
    assert read_all(files) == tail_of(read_all(again), count)
    files.close()
    again.close()


@given(
    seconds=st.lists(st.integers(0, 50), max_size=200).map(sorted),
    since=st.integers(0, 55),
    until=st.integers(0, 55),
    tail=st.sampled_from([-1, 0, 1, 7]),
)
@settings(deadline=None, max_examples=60)
def test_since_until_and_tail(
    tmp_path_factory: pytest.TempPathFactory, seconds: list[int], since: int, until: int, tail: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "ctr.log"
    # Long lines, so that there are several blocks to go back over.
    path.write_bytes(k8s(*((second, "stdout", "F", f"{n} " + "z" * 2000) for n, second in enumerate(seconds))))
    out, _ = shown(source(path), since_ns=T0 + since * SECOND, until_ns=T0 + until * SECOND, tail=tail)
    expected = [n for n, second in enumerate(seconds) if since <= second <= until]
    expected = expected if tail < 0 else expected[len(expected) - tail :] if tail < len(expected) else expected
    assert [int(line.split()[0]) for line in out.splitlines()] == (expected if tail else [])


def test_since_does_not_read_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "ctr.log"
    path.write_bytes(k8s(*((second, "stdout", "F", "q" * 1000) for second in range(3000))))
    files = reader(path, "k8s-file")
    files.seek(-1, T0 + 2990 * SECOND, 0)
    assert len(read_all(files)) < 100
    files.close()


def test_zeros_and_other_garbage_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "ctr.log"
    path.write_bytes(
        k8s((0, "stdout", "F", "one")) + b"\0" * 300_000 + b"\nnonsense\n" + k8s((1, "stdout", "F", "two"))
    )
    assert shown(source(path))[0] == b"one\ntwo\n"
    assert shown(source(path), tail=2)[0] == b"one\ntwo\n"


def test_no_file_at_all(tmp_path: Path) -> None:
    assert shown(source(tmp_path / "none")) == (b"", b"")


# --- following -------------------------------------------------------------------------------


@pytest.fixture
def end() -> Iterator[tuple[int, int]]:
    """A descriptor that becomes readable, and its other end."""
    read_end, write_end = os.pipe()
    yield read_end, write_end
    os.close(read_end)
    try:
        os.close(write_end)
    except OSError:
        return


@pytest.mark.parametrize("driver", ["k8s-file", "json-file"])
@pytest.mark.parametrize("limit", [0, 30_000])
def test_following_a_writer(tmp_path: Path, end: tuple[int, int], driver: str, limit: int) -> None:
    path = tmp_path / "ctr.log"
    count = 2000
    started = threading.Event()

    def write() -> None:
        log = FileLog(str(path), json_record if driver == "json-file" else K8sFormat(), limit, 200)
        dice = random.Random(7)
        log.write(b"stdout", b"line 0\n")
        started.set()
        for number in range(1, count):
            text = b"line %d\n" % number
            cut = dice.randrange(len(text))
            log.write(b"stdout", text[:cut])
            if not dice.randrange(4):
                log.flush()
            log.write(b"stdout", text[cut:])
            if not number % 100:
                time.sleep(0.003)  # the reader is to come to the end now and then
        log.close()
        os.close(end[1])

    writer = threading.Thread(target=write)
    writer.start()
    started.wait(10)
    out, _ = shown(source(path, driver=driver, end_fd=end[0]), follow=True)
    writer.join()
    assert out == b"".join(b"line %d\n" % number for number in range(count))
    if limit:
        assert path.with_name("ctr.log.2").exists()


def test_following_shows_what_comes_at_once_and_ends(tmp_path: Path, end: tuple[int, int]) -> None:
    path = tmp_path / "ctr.log"
    log = FileLog(str(path), K8sFormat())
    log.write(b"stdout", b"old 1\nold 2\n")
    screen = Screen()
    view = LogView(follow=True, tail=1)
    follower = threading.Thread(
        target=show_logs, args=((source(path, end_fd=end[0]),), view, screen.fds["out"], screen.fds["err"])
    )
    follower.start()
    wait_for(screen, b"old 2\n")
    log.write(b"stdout", b"prompt: ")
    log.flush()
    wait_for(screen, b"old 2\nprompt: ")
    assert follower.is_alive()
    log.write(b"stdout", b"answer\n")
    log.close()
    os.close(end[1])
    follower.join(10)
    assert not follower.is_alive()
    screen.close()
    assert screen.out == b"old 2\nprompt: answer\n"


def test_following_until_a_time(tmp_path: Path, end: tuple[int, int]) -> None:
    path = tmp_path / "ctr.log"
    path.write_bytes(k8s((0, "stdout", "F", "one")))
    begun = time.monotonic()
    out, _ = shown(source(path, end_fd=end[0]), follow=True, until_ns=time.time_ns() + SECOND // 5)
    assert out == b"one\n"
    assert 0.15 < time.monotonic() - begun < 5


def test_following_costs_little_while_nothing_happens(tmp_path: Path, end: tuple[int, int]) -> None:
    path = tmp_path / "ctr.log"
    path.write_bytes(k8s((0, "stdout", "F", "one")))
    before = time.process_time()
    shown(source(path, end_fd=end[0]), follow=True, until_ns=time.time_ns() + SECOND)
    assert time.process_time() - before < 0.1


def test_following_what_does_not_run(tmp_path: Path) -> None:
    path = tmp_path / "ctr.log"
    path.write_bytes(k8s((0, "stdout", "F", "one")))
    assert shown(source(path), follow=True)[0] == b"one\n"


def test_a_file_that_was_emptied(tmp_path: Path) -> None:
    path = tmp_path / "ctr.log"
    path.write_bytes(k8s((0, "stdout", "F", "one"), (1, "stdout", "F", "two")))
    files = reader(path, "k8s-file")
    assert len(read_all(files)) == 2
    path.write_bytes(k8s((2, "stdout", "F", "new")))
    assert read_all(files) == [(1, True, b"new")]
    files.close()


# --- how it is shown -------------------------------------------------------------------------


def test_streams_go_where_they_went(tmp_path: Path) -> None:
    path = tmp_path / "ctr.log"
    path.write_bytes(
        k8s((0, "stdout", "P", "par"), (1, "stderr", "F", "bad"), (2, "stdout", "F", "tial"), (3, "stdout", "P", "end"))
    )
    assert shown(source(path)) == (b"partial\nend", b"bad\n")


def test_order_of_both_streams_on_one_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "ctr.log"
    path.write_bytes(k8s(*((n, "stdout" if n % 3 else "stderr", "F", str(n)) for n in range(500))))
    screen = Screen()
    show_logs((source(path),), LogView(), screen.fds["out"], screen.fds["out"])
    screen.close()
    assert screen.out == b"".join(b"%d\n" % n for n in range(500))


def test_timestamps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ctr.log"
    path.write_bytes(k8s((0, "stdout", "P", "a"), (1, "stdout", "F", "b"), (2, "stdout", "F", "c")))
    for zone, first, second in (
        ("UTC0", b"2023-11-14T22:13:20.000000000Z", b"2023-11-14T22:13:22.000000000Z"),
        ("XXX-5:30", b"2023-11-15T03:43:20.000000000+05:30", b"2023-11-15T03:43:22.000000000+05:30"),
    ):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert shown(source(path), timestamps=True)[0] == first + b" ab\n" + second + b" c\n"
    monkeypatch.undo()
    time.tzset()


def test_color(tmp_path: Path) -> None:
    path = tmp_path / "ctr.log"
    path.write_bytes(k8s((0, "stdout", "F", "one")))
    assert shown(source(path), color=True)[0] == b"\x1b[37mone\x1b[0m\n"


def test_several_containers_are_merged_by_time(tmp_path: Path) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    one.write_bytes(
        k8s((0, "stdout", "F", "a"), (2, "stdout", "P", "b"), (4, "stdout", "F", "c"), (9, "stdout", "P", "z"))
    )
    two.write_bytes(k8s((1, "stdout", "F", "A"), (3, "stderr", "F", "B"), (5, "stdout", "F", "C")))
    sources = (source(one, "web"), source(two, "db", container_id="b" * 64))
    out, err = shown(*sources)
    label = {"a": b"a" * 12 + b" ", "b": b"b" * 12 + b" "}
    assert out == b"".join(
        (label["a"] + b"a\n", label["b"] + b"A\n", label["a"] + b"bc\n", label["b"] + b"C\n", label["a"] + b"z\n")
    )
    assert err == label["b"] + b"B\n"
    assert shown(*sources, names=True, tail=1)[0] == b"db C\nweb z\n"
    assert shown(source(one, "web"), names=True, tail=1)[0] == b"z", "one container needs no name"


def test_following_several(tmp_path: Path, end: tuple[int, int]) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    two.write_bytes(k8s((0, "stdout", "F", "has ended")))
    log = FileLog(str(one), K8sFormat())
    log.write(b"stdout", b"first\n")

    def write() -> None:
        for number in range(200):
            log.write(b"stdout", b"%d\n" % number)
        log.write(b"stdout", b"rest")
        log.close()
        os.close(end[1])

    writer = threading.Timer(0.05, write)
    writer.start()
    out, _ = shown(source(one, "web", end_fd=end[0]), source(two, "db"), names=True, follow=True)
    writer.join()
    lines = [b"db has ended", b"web first", *(b"web %d" % n for n in range(200)), b"web rest", b""]
    assert out.split(b"\n") == lines


def test_a_reader_that_has_gone(tmp_path: Path) -> None:
    path = tmp_path / "ctr.log"
    path.write_bytes(k8s(*((0, "stdout", "F", "x" * 1000) for _ in range(500))))
    read_end, write_end = os.pipe()
    os.close(read_end)
    show_logs((source(path),), LogView(), write_end, write_end)
    os.close(write_end)


@pytest.mark.parametrize("driver", ["none", "passthrough"])
def test_drivers_that_kept_nothing(tmp_path: Path, driver: str) -> None:
    with pytest.raises(Error, match=f"container web has the log driver {driver}"):
        shown(source(tmp_path, driver=driver))


# --- journald: against a program that speaks as journalctl does --------------------------------------------------

JOURNALCTL = r"""#!/bin/sh
echo "$@" >> "$0.calls"
entry() {
  printf '{"__CURSOR":"c%s","__REALTIME_TIMESTAMP":"170000000%s000000",' "$1" "$1"
  printf '"MESSAGE":%s,"PRIORITY":"%s"%s}\n' "$2" "$3" "$4"
}
case "$*" in
*denied*) echo "No journal files were opened due to insufficient permissions." >&2; exit 1;;
*--follow*)
  entry 5 '"followed"' 6; exec sleep 100;;
*c5*) entry 6 '"at the end"' 6;;
*)
  entry 1 '"par"' 6 ',"CONTAINER_PARTIAL_MESSAGE":"true"'
  entry 2 '"tial"' 6
  entry 3 '[255,254]' 3
  echo 'not json'
  entry 4 '""' 6;;
esac
"""


@pytest.fixture
def journalctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "journalctl"
    path.write_text(JOURNALCTL)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return path


def test_journal(journalctl: Path) -> None:
    journal = LogSource(container_id=ID, name="web", driver="journald")
    assert shown(journal) == (b"partial\n\n", b"\xff\xfe\n")
    shown(journal, tail=2, since_ns=T0 + 5, until_ns=T0 + SECOND + 5)
    first, second = Path(f"{journalctl}.calls").read_text().splitlines()
    assert f"CONTAINER_ID_FULL={ID}" in first
    assert "--output=json" in first
    assert "--lines=all" in first
    assert "--lines=2 --since=@1700000000 --until=@1700000002" in second


def test_following_the_journal(journalctl: Path, end: tuple[int, int]) -> None:
    journal = LogSource(container_id=ID, name="web", driver="journald", end_fd=end[0])
    screen = Screen()
    follower = threading.Thread(
        target=show_logs, args=((journal,), LogView(follow=True, tail=0), screen.fds["out"], screen.fds["err"])
    )
    follower.start()
    wait_for(screen, b"followed\n")
    os.close(end[1])
    follower.join(10)
    screen.close()
    assert screen.out == b"followed\nat the end\n"
    calls = Path(f"{journalctl}.calls").read_text()
    assert "--follow --lines=all --after-cursor=c4" in calls


def test_a_journal_that_may_not_be_read(journalctl: Path) -> None:
    entries = JournalEntries("denied", str(journalctl))
    entries.seek(-1, 0, 0)
    with pytest.raises(Error, match="journalctl: No journal files were opened") as caught:
        entries.read()
    assert "systemd-journal" in caught.value.hint
