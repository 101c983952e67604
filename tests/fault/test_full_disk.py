"""The disk fills at any write of any command: one clear line, nothing half-made, and removing still works.

Each case is tried with several amounts of room, from none to enough: `make soak` tries every one.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import images
from tests.support.disk import SmallDisk, told
from tests.support.engine import Result
from tests.support.images import Entry, layer_tar
from tests.support.registry import Registry

_EVERY = "PYCTL_TEST_CYCLES" in os.environ


class Case(NamedTuple):
    """words: {home}, {files}, {registry} are filled in.  done: what shows afterwards that it was done.

    undo: what takes away the one thing that a failure leaves by design.
    """

    words: str
    done: str = ""
    statuses: tuple[int, ...] = (125,)
    stdin: str = ""
    undo: str = ""


CASES = {
    "import": Case("import -q {files}/box.tar new", "image exists new"),
    "load": Case("load -q -i {files}/app.tar", "image exists app"),
    "load from a pipe": Case("load -q", "image exists app", stdin="{files}/app.tar"),
    "scp": Case("image scp -q build7::app", "image exists app"),
    "pull": Case("pull -q --tls-verify=false {registry}/app:1", "image exists {registry}/app:1"),
    "commit": Case("commit -q c new", "image exists new"),
    "tag": Case("tag busybox new", "image exists new"),
    "untag": Case("untag busybox", ""),
    "save": Case("save -q -o {home}/out.tar busybox", "load -q -i {home}/out.tar"),
    "save to a folder": Case("save -q --format oci-dir -o {home}/out busybox", "load -q -i {home}/out"),
    "export": Case("export -o {home}/out.tar c", "import -q {home}/out.tar again"),
    "run": Case("run --name new --network=none busybox true", "start -a new", (125, 126), undo="rm --ignore new"),
    "run --rm": Case("run --rm --network=none busybox true", "", (125, 126)),
    "new volume": Case(
        "run --rm --network=none -v vol:/bin busybox true",
        "run --rm --network=none -v vol:/filled busybox test -e /filled/zcat",  # the last name
        (125, 126),
    ),
    "cidfile": Case("run --rm --network=none --cidfile {home}/cid busybox true", "", (125, 126)),
    "create": Case("create --name new busybox true", "container exists new"),
    "start": Case("start -a c", "", (125, 126)),
    "rename": Case("rename c new", "container exists new"),
    "cp into": Case("cp {files}/app.tar c:/new", "cp c:/new {home}/back"),
    "cp out": Case("cp c:/some {home}/out", ""),
    "volume": Case("volume create new", "volume exists new"),
    "network": Case("network create new", "network exists new"),
    "manifest": Case("manifest create new busybox", "manifest exists new"),
    "artifact": Case("artifact add localhost/new:1 {files}/app.tar", "artifact inspect localhost/new:1"),
    "copy": Case("copy -q docker-archive:{files}/app.tar oci:{home}/out:x", "load -q -i {home}/out"),
    "extract": Case("artifact extract model {home}/out", ""),
    "update": Case("update --restart=always c", ""),
    "quadlet": Case("quadlet install {files}/web.container", "quadlet print web.container"),
    "trust": Case("image trust set --type reject example.org", "image trust show"),
    "push": Case("push -q --tls-verify=false busybox {registry}/made:1", ""),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, busybox_tar: Path) -> Path:
    """box.tar to import, app.tar to load."""
    folder = tmp_path_factory.mktemp("files")
    noise = random.Random(1).randbytes(200_000)
    entries = [Entry(f"d{n}/f", noise[: 7000 * n], 0o644, uid=n) for n in range(12)]
    (folder / "box.tar").write_bytes(layer_tar(entries))
    (folder / "web.container").write_text("[Container]\nImage=localhost/busybox\n" + "Exec=sleep 1000\n")
    (folder / "tools").mkdir()
    (folder / "tools/ssh").write_text(f"#!/bin/sh\nexec cat {folder}/app.tar\n")
    (folder / "tools/ssh").chmod(0o755)
    layout = images.Layout(folder / "layout")
    layout.image("app", [layer_tar([Entry("a", noise, 0o644)]), layer_tar(entries)])
    images.copy_image(f"oci:{layout.folder}:app", f"docker-archive:{folder}/app.tar:app:latest", home=folder)
    return folder


@pytest.fixture(scope="module")
def place(files: Path, busybox_tar: Path, registry: Registry) -> Iterator[Place]:
    """The disk with images busybox and victim, a container c that wrote something, and what the words name."""
    images.copy_image(
        f"docker-archive:{files}/app.tar", f"docker://{registry.address}/app:1", "--dest-tls-verify=false", home=files
    )
    disk = SmallDisk()
    disk.env["PATH"] = f"{files}/tools:{disk.env['PATH']}"
    try:
        disk("import", "-q", "--change", "CMD=/bin/sh", busybox_tar, "busybox")
        (disk.base / "victim.tar").write_bytes(layer_tar([Entry("victim", b"v" * 3000)]))
        disk("import", "-q", disk.base / "victim.tar", "victim")
        write = "i=0; while [ $i -lt 20 ]; do head -c 9000 /dev/urandom > /tmp/$i; i=$((i+1)); done; cp -r /tmp /some"
        disk("artifact", "add", "model", files / "box.tar")
        disk("run", "--name", "c", "--network=none", "busybox", "sh", "-c", f"test -e /some || {{ {write}; }}")
        disk.keep()
        yield Place(disk, {"home": str(disk.home), "files": str(files), "registry": registry.address})
    finally:
        disk.close()


class Place:
    def __init__(self, disk: SmallDisk, names: dict[str, str]) -> None:
        self.disk = disk
        self.names = names
        self.before = self.listed()

    def listed(self) -> str:
        """All that the store shows, which is whole; and the folders of containers, which have one each at most."""
        disk = self.disk
        assert disk("system", "check", "-q").out == ""
        listed = disk("ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}}").out
        assert all(name in listed for name in os.listdir(disk.inside / ".local/share/pyctl/containers"))
        return disk("images", "-a", "--no-trunc", "-q").out + listed

    def __call__(self, words: str, status: int | None = 0, stdin: str = "") -> Result:
        given = Path(stdin.format(**self.names)).read_bytes() if stdin else None
        return self.disk(*words.format(**self.names).split(), stdin=given, status=status)

    def attempt(self, case: Case, **room: int) -> bool:
        """Run a command with so much room; whether it succeeded."""
        disk = self.disk
        disk.restore()
        disk.room(**room)
        result = self(case.words, None, case.stdin)
        if not result.status:
            return True
        line = told(result)
        assert result.status in case.statuses, result
        # In the hint, where it is a program of others that has another word for it.
        assert "o space left" in (result.err if case.statuses != (125,) else line), result.err
        if case.undo:
            self(case.undo)
        assert self.listed() == self.before
        if "cp " not in case.words:  # which leaves what it has copied, as cp(1)
            assert [n for n in os.listdir(disk.inside) if n.startswith("out")] == [], "half of the output is left"
        self("rmi victim")
        disk.room()
        self(case.words, 0, case.stdin)
        if case.done:
            self(case.done)
        if _EVERY:
            disk.room(**dict.fromkeys(room, 0))
            self("system prune -a -f")
            assert self.listed() == ""
        return False


@pytest.mark.parametrize("kind", ["pages", "inodes"])
@pytest.mark.parametrize("name", CASES)
def test_it_is_told_and_nothing_is_half_made(place: Place, name: str, kind: str) -> None:
    case = CASES[name]
    if _EVERY:
        last, at = -1, 0
        while not place.attempt(case, **{kind: at}):
            last, at = at, at + 1 + at // 24  # where content is written, with steps
        for between in range(last + 1, at):  # the last writes
            place.attempt(case, **{kind: between})
        return
    chance = random.Random(name)
    for at in (0, chance.randrange(1, 30)) if kind == "pages" else (chance.randrange(4),):
        place.attempt(case, **{kind: at})


def test_pruning_a_full_disk(place: Place) -> None:
    """Several times, the second one without what the first has given back."""
    for kind in ("pages", "inodes"):
        place.disk.restore()
        place.disk.room(**{kind: 0})
        place("rmi victim")
        place.disk.room(**{kind: 0})
        place("rm c")
        place.disk.room(**{kind: 0})
        place("system prune -a -f")
        assert place.listed() == ""


def exit_records(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.exit")}


@pytest.mark.parametrize("kind", ["pages", "inodes"])
def test_a_container_that_ends_on_a_full_disk(place: Place, kind: str) -> None:
    """Its exit status is known, it is listed, stopped and removed, whatever of it could not be written."""
    disk = place.disk
    disk.restore()
    others = exit_records(disk.runtime_root)
    script = 'trap "exit 7" USR1; echo up; while :; do echo more; sleep 0.05; done'
    for name in ("one", "two", "three"):
        disk("run", "-d", "--name", name, "--network=none", "busybox", "sh", "-c", script)
        disk.wait_log(name, "up")
    disk.room(**{kind: 0})
    disk("kill", "-s", "USR1", "one")
    assert disk("wait", "one").line == "7"
    assert disk("ps", "-a", "--filter", "name=one", "--format", "{{.State}} {{.ExitCode}}").line == "exited 7"
    assert disk("exec", "two", "echo", "lives").line == "lives"
    disk("stop", "-t", "0", "two")
    assert disk("inspect", "-f", "{{.State.ExitCode}}", "two").line == "137"
    disk("rm", "-f", "-t", "0", "three")
    disk("rm", "one")
    disk.room()
    assert disk("start", "two").line == "two"
    disk("rm", "-f", "-t", "0", "two")
    assert place.listed() == place.before
    # Those of earlier tests' containers, whose storage was put back under them, may lie there.
    assert exit_records(disk.runtime_root) <= others


@pytest.mark.parametrize("kind", ["pages", "inodes"])
def test_the_runtime_folder_is_full(place: Place, kind: str) -> None:
    """XDG_RUNTIME_DIR is a small tmpfs on many machines: a start says so, and leaves nothing there."""
    disk = place.disk
    disk.restore()
    runtime = disk.home / "run"
    env: dict[str, str | None] = {"XDG_RUNTIME_DIR": str(runtime)}
    disk.shell('mkdir -m 700 "$1"; mount -t tmpfs -o size=8m,mode=700 run "$1"', str(runtime))
    try:
        words = ("run", "--rm", "--network=none", "busybox", "echo", "ran")
        disk(*words, env=env)
        at = 0
        while True:
            disk.room(**{kind: at}, where=runtime)
            result = disk(*words, env=env, status=None)
            if not result.status:
                break
            assert told(result)
            assert "o space left" in result.err
            assert result.status in (125, 126)
            disk.room(where=runtime)
            listed = disk("ps", "-a", "--format", "{{.Names}}", env=env)
            assert (listed.out, listed.err) == ("c\n", ""), (at, result)
            assert not [n for n in os.listdir(disk.inside / "run/pyctl") if len(n) == 64]
            at += 1 if _EVERY or at < 3 else 5
        assert disk(*words, env=env).line == "ran"
    finally:
        disk.shell('umount "$1"', str(runtime))
