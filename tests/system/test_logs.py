"""logs: what a container printed, from the start, the end, a time, or as it comes."""

from __future__ import annotations

import json
import re

from tests.support.engine import Engine
from tests.support.waiting import wait_until

COUNT = "for i in 1 2 3 4 5; do echo line $i; done; echo oops >&2"


def test_streams_are_kept_apart(engine: Engine) -> None:
    engine("run", "--name", "c", "busybox", "sh", "-c", COUNT)
    result = engine("logs", "c")
    assert result.out == "".join(f"line {i}\n" for i in range(1, 6))
    assert result.err == "oops\n"


def test_tail(engine: Engine) -> None:
    engine("run", "--name", "c", "busybox", "sh", "-c", "for i in 1 2 3 4 5; do echo line $i; done")
    assert engine("logs", "--tail", "2", "c").out == "line 4\nline 5\n"
    assert engine("logs", "--tail", "0", "c").out == ""


def test_timestamps(engine: Engine) -> None:
    engine("run", "--name", "c", "busybox", "echo", "x")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d) x\n", engine("logs", "-t", "c").out)


def test_since_and_until(engine: Engine) -> None:
    engine("run", "--name", "c", "busybox", "echo", "x")
    assert engine("logs", "--since", "1h", "c").out == "x\n"
    assert engine("logs", "--until", "2001-01-01T00:00:00Z", "c").out == ""
    assert engine("logs", "--since", "2001-01-01", "c").out == "x\n"


def test_follow_ends_with_the_container(engine: Engine) -> None:
    engine("run", "-d", "--name", "c", "busybox", "sh", "-c", "echo a; while [ ! -e /go ]; do sleep 0.05; done; echo b")
    follower = engine.spawn("logs", "-f", "c")
    assert follower.stdout is not None
    assert follower.stdout.readline() == b"a\n"
    engine("exec", "c", "touch", "/go")
    assert follower.stdout.readline() == b"b\n"
    assert follower.wait(15) == 0


def test_names_before_lines(engine: Engine) -> None:
    for name in ("a", "b"):
        engine("run", "--name", name, "busybox", "echo", "x")
    assert sorted(engine("logs", "--names", "a", "b").out.splitlines()) == ["a x", "b x"]


def test_of_several(engine: Engine) -> None:
    engine("run", "--name", "a", "busybox", "echo", "from a")
    engine("run", "--name", "b", "busybox", "echo", "from b")
    out = engine("logs", "a", "b").out
    assert "from a" in out
    assert "from b" in out


def test_a_partial_line_is_there(engine: Engine) -> None:
    engine("run", "--name", "c", "busybox", "printf", "no newline")
    assert engine("logs", "c").out.removesuffix("\n") == "no newline"


def test_long_lines_are_whole(engine: Engine) -> None:
    engine("run", "--name", "c", "busybox", "sh", "-c", "head -c 50000 /dev/zero | tr '\\0' x; echo")
    assert engine("logs", "c").out == "x" * 50000 + "\n"


def test_json_file(engine: Engine) -> None:
    engine("run", "--name", "c", "--log-driver", "json-file", "busybox", "echo", "x")
    assert engine("logs", "c").out == "x\n"
    path = engine.inspect("c")["HostConfig"]["LogConfig"]["Path"]
    with open(path) as file:
        first = file.readline()
    if first.startswith("{"):  # podman writes its own form whatever it is asked for
        assert json.loads(first)["log"] == "x\n"


def test_none(engine: Engine) -> None:
    assert engine("run", "--name", "c", "--log-driver", "none", "busybox", "echo", "seen").out == "seen\n"
    assert "none" in engine("logs", "c", status=125).err


def test_size_bound(engine: Engine) -> None:
    script = "i=0; while [ $i -lt 4000 ]; do echo line $i is some thirty bytes; i=$((i+1)); done"
    engine("run", "--name", "c", "--log-opt", "max-size=20k", "busybox", "sh", "-c", script)
    out = engine("logs", "c").out
    assert out.endswith("line 3999 is some thirty bytes\n")
    assert len(out) < 80_000


def test_log_path_and_tag(engine: Engine) -> None:
    path = engine.home / "here.log"
    engine("run", "--name", "c", "--log-opt", f"path={path}", "busybox", "echo", "x")
    wait_until(lambda: path.exists() and " stdout F x" in path.read_text())
    assert engine("logs", "c").out == "x\n"


def test_unknown_container(engine: Engine) -> None:
    assert "absent" in engine("logs", "absent", status=125).err
    engine("create", "--name", "c", "busybox", "true")
    assert engine("logs", "c").out == ""
