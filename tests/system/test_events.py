"""events: what is told of containers, images and volumes, in Podman's words; many writers, a bounded file."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from rootless import events
from tests.support.engine import IS_PODMAN, Engine
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(IS_PODMAN, reason="Podman's log has its own events of storage")


def since(engine: Engine, when: float, *args: str) -> list[Any]:
    shown = engine("events", "--stream=false", "--since", f"{when:.9f}", "--format", "json", *args).out
    return [json.loads(line) for line in shown.splitlines()]


def statuses(engine: Engine, when: float, *args: str) -> list[str]:
    return [entry["Status"] for entry in since(engine, when, *args)]


def test_the_life_of_a_container(engine: Engine) -> None:
    before = time.time()
    engine("run", "--name=c", "--label=a=b", "busybox", "sh", "-c", "exit 3", status=3)
    wait_until(lambda: "cleanup" in statuses(engine, before))
    engine("rm", "c")
    told = since(engine, before)
    assert [entry["Status"] for entry in told] == ["create", "init", "start", "attach", "died", "cleanup", "remove"]
    died = told[4]
    assert died["ContainerExitCode"] == 3
    assert (died["Name"], died["Image"], died["Attributes"]) == ("c", "localhost/busybox:latest", {"a": "b"})
    assert (died["Type"], died["time"]) == ("container", died["timeNano"] // 10**9)
    keys = ["ContainerExitCode", "ID", "Image", "Name", "Status", "time", "timeNano", "Type", "Attributes"]
    assert list(died) == keys
    line = engine("events", "--stream=false", "--since", f"{before:.9f}", "--filter", "event=died").line
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ [+-]\d{4} \S+ container died [0-9a-f]{64}"
        r" \(image=localhost/busybox:latest, name=c, a=b\)", line
    )  # fmt: skip
    short = engine("events", "--stream=false", "--since", f"{before:.9f}", "--no-trunc=false", "-f", "event=died").line
    assert f" {died['ID'][:12]} (" in short


# Names with a letter that no id begins with: the filter takes beginnings of ids, too.


def test_what_is_done_to_a_running_one(engine: Engine) -> None:
    before = time.time()
    engine("run", "-d", "--name=one", "--health-cmd=false", "--health-interval=disable", "busybox", "sleep", "1000")
    engine("exec", "one", "sh", "-c", "exit 4", status=4)
    engine("rename", "one", "other")
    engine("exec", "other", "true")
    assert statuses(engine, before, "-f", "container=other") == ["rename", "exec", "exec_died"]
    engine("rename", "other", "one")
    engine("restart", "-t", "0", "one")
    engine("kill", "one")
    engine("wait", "one")
    engine("start", "one")
    engine("rm", "-f", "-t", "0", "one")
    expected = ["create", "init", "start", "exec", "exec_died", "rename", "restart", "stop", "died", "cleanup"]
    expected += ["init", "start", "kill", "died", "cleanup", "init", "start", "stop", "died", "cleanup", "remove"]
    assert statuses(engine, before, "-f", "container=one") == expected
    ends = ("-f", "container=one", "-f", "event=exec_died", "-f", "event=died")
    codes = [e["ContainerExitCode"] for e in since(engine, before, *ends)]
    assert codes == [4, 137, 137, 137]


def test_a_removed_one_is_told_of_however_it_goes(engine: Engine) -> None:
    before = time.time()
    engine("run", "--rm", "--name=x", "busybox", "true")
    engine("run", "-d", "--rm", "--name=y", "busybox", "true")
    engine("run", "--rm", "--name=n", "busybox", "/no/such/program", status=127)
    wait_until(lambda: statuses(engine, before, "-f", "container=y")[-1:] == ["remove"])
    assert statuses(engine, before, "-f", "container=x")[-1] == "remove"
    assert statuses(engine, before, "-f", "container=n") == ["create", "remove"]


def test_images_and_volumes(fresh: Engine, busybox_tar: Path) -> None:
    before = time.time()
    fresh("import", busybox_tar, "busybox")
    fresh("tag", "busybox", "other:1")
    fresh("untag", "busybox", "other:1")
    archive = fresh.base / "saved.tar"
    fresh("save", "-o", archive, "busybox")
    fresh("rmi", "busybox")
    fresh("load", "-i", archive)
    fresh("volume", "create", "v")
    fresh("volume", "rm", "v")
    fresh("pull", "127.0.0.1:1/none", status=125)
    told = since(fresh, before)
    rows = [(e["Type"], e["Status"], e.get("Name", "")) for e in told]
    assert rows == [
        ("image", "import", "busybox"),
        ("image", "tag", "localhost/other:1"),
        ("image", "untag", "localhost/other:1"),
        ("image", "save", str(archive)),
        ("image", "untag", "localhost/busybox:latest"),
        ("image", "remove", ""),
        ("image", "loadfromarchive", str(archive)),
        ("volume", "create", "v"),
        ("volume", "remove", "v"),
        ("image", "pull-error", "127.0.0.1:1/none"),
    ]
    assert "not reachable" in told[-1]["error"]
    assert told[0]["Attributes"] is None
    assert len(told[0]["ID"]) == 64
    assert statuses(fresh, before, "-f", "type=volume") == ["create", "remove"]
    assert statuses(fresh, before, "-f", "volume=v", "-f", "event=remove") == ["remove"]
    assert statuses(fresh, before, "-f", "image=localhost/other:1") == ["tag", "untag"]
    assert statuses(fresh, before, "-f", "event=nosuch") == []


def test_filters_and_formats(engine: Engine) -> None:
    before = time.time()
    engine("create", "--name=one", "--label=a=b", "busybox", "true")
    engine("create", "--name=two", "--label=a=c", "busybox", "true")
    template = ("--stream=false", "--since", f"{before:.9f}", "--format", "{{.Name}} {{.Status}} {{.Attributes.a}}")
    assert engine("events", *template, "-f", "label=a=b").line == "one create b"
    assert engine("events", *template, "-f", "label=a").out == "one create b\ntwo create c\n"
    both = ("-f", "container=one", "-f", "container=two", "-f", "event=create")
    assert engine("events", *template, *both).out.count("\n") == 2
    container_id = engine.inspect("two")["Id"]
    assert engine("events", *template, "-f", f"container={container_id[:9]}").line == "two create c"
    assert engine("events", *template, "--until", "1h").out == ""
    assert "foo is an invalid filter" in engine("events", "-f", "foo=bar", status=125).err
    assert "not a time" in engine("events", "--since", "bogus", status=125).err
    engine("events", "--stream=false", "--format", "{{.Bogus}}", status=125)
    engine("rm", "one", "two")


def test_a_stream(engine: Engine) -> None:
    process = engine.spawn("events", "--filter", "event=start", "--format", "{{.Name}}")
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    seen = b""

    def started() -> bool:  # the stream begins at some time after its command does
        nonlocal seen
        engine("run", "--rm", "--name=s", "busybox", "true")
        seen += process.stdout.read() or b"" if process.stdout else b""
        return b"s\n" in seen

    wait_until(started, 60)
    # the file is exchanged under it
    log = engine.storage_root / "events.log"
    os.rename(log, f"{log}.1")
    engine("run", "--rm", "--name=t", "busybox", "true")

    def goes_on() -> bool:
        nonlocal seen
        seen += process.stdout.read() or b"" if process.stdout else b""
        return b"t\n" in seen

    wait_until(goes_on, 30)
    process.kill()
    ended = engine("events", "--since", "1h", "--until", "0s", "-f", "container=t", "-f", "event=start").out
    assert ended.count(" start ") == 1


def test_many_writers_and_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every event is in one of the two files, whole, as long as the bound is not reached twice."""
    monkeypatch.setattr(events, "MAX_BYTES", 40_000)
    log = str(tmp_path / "events.log")
    children = []
    for number in range(4):
        pid = os.fork()
        if not pid:
            for count in range(200):
                events.append(log, events.event("volume", "create", name=f"{number}-{count}"))
            os._exit(0)
        children.append(pid)
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    text = Path(log + events.OLDER).read_text() + Path(log).read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert sorted(row["name"] for row in rows) == sorted(f"{n}-{c}" for n in range(4) for c in range(200))
    for count in range(3000):
        events.append(log, events.event("volume", "create", name=str(count)))
    assert os.path.getsize(log) + os.path.getsize(log + events.OLDER) < 81_000
    assert len(os.listdir(tmp_path)) == 2
    events.append("/proc/none/events.log", events.event("volume", "create"))  # never in anybody's way


def test_networks(engine: Engine) -> None:
    before = time.time()
    engine("network", "create", "net")
    engine("create", "--name=c", "busybox")
    engine("network", "connect", "net", "c")
    engine("network", "disconnect", "net", "c")
    engine("network", "rm", "net")
    told = since(engine, before, "--filter", "type=network")
    assert [entry["Status"] for entry in told] == ["create", "connect", "disconnect", "remove"]
    assert {entry["network"] for entry in told} == {"net"}
    assert told[0]["Attributes"] == {"driver": "bridge"}
    assert (told[1]["Name"], told[1]["ID"]) == ("c", engine.inspect("c")["Id"])
    lines = engine("events", "--stream=false", "--since", f"{before:.9f}", "--filter", "network=net").out.splitlines()
    assert lines[0].endswith(f" network create {told[0]['ID']} (name=net, type=bridge)")
    assert lines[1].endswith(f" network connect {told[1]['ID']} (container={told[1]['ID']}, name=net)")
