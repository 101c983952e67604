"""kill -9 at any moment of what changes the store: nothing half-made is listed, and the next command works."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.registry import Registry

_KILLS = 20 if "PYCTL_TEST_CYCLES" in os.environ else 7


@pytest.fixture
def big(fresh: Engine, busybox_tar: Path) -> Engine:
    """A container `c` with some megabytes in many files: its commit takes a while at every step."""
    fresh("import", "--change", "CMD=/bin/sh", busybox_tar, "busybox")
    script = (
        "i=0; while [ $i -lt 300 ]; do head -c 30000 /dev/urandom > /tmp/$i; i=$((i+1)); done; sha256sum /tmp/* > /s"
    )
    fresh("run", "--name", "c", "--network=none", "busybox", "sh", "-c", script)
    return fresh


def killed(engine: Engine, longest_s: float, chance: random.Random, *words: str) -> int | None:
    """Runs a command and kills it at some moment; its status, None where it was killed."""
    process = engine.spawn(*words)
    try:
        process.communicate(timeout=chance.uniform(0.02, longest_s))
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None
    return process.returncode


def duration_s(work: Callable[[], object]) -> float:
    begin = time.monotonic()
    work()
    return time.monotonic() - begin


def check_store(engine: Engine) -> None:
    """After each kill: a list of images that are whole."""
    assert engine("system", "check").out == ""
    for name in engine("images", "--format", "{{.Repository}}:{{.Tag}}").out.split():
        if "<none>" not in name:
            engine("image", "inspect", name)


def check_leftovers(engine: Engine) -> None:
    """What the killed left is garbage that a prune takes."""
    engine("rmi", "-f", "-a")
    engine("system", "prune", "-f")
    assert [n for n in (engine.storage_root / "partial").iterdir() if not n.name.endswith(".lock")] == []
    assert list((engine.storage_root / "layers").iterdir()) == []


def test_commit(big: Engine) -> None:
    chance = random.Random(1)
    longest_s = duration_s(lambda: big("commit", "-q", "c", "whole"))
    big("rmi", "whole")
    for _ in range(_KILLS):
        killed(big, longest_s, chance, "commit", "-q", "c", "made")
        if big("image", "exists", "made", status=None).status == 0:
            done = big("run", "--rm", "--network=none", "made", "sha256sum", "-c", "-s", "/s", status=None)
            assert done.status == 0, done.err
            big("rmi", "made")
        check_store(big)
    big("commit", "-q", "c", "made")
    assert big("run", "--rm", "--network=none", "made", "sha256sum", "-c", "-s", "/s").status == 0
    big("rm", "c")
    check_leftovers(big)


def test_load(big: Engine, tmp_path: Path) -> None:
    chance = random.Random(2)
    big("commit", "-q", "c", "made")
    big("save", "-o", str(tmp_path / "made.tar"), "made")
    big("rm", "c")
    big("rmi", "made")
    longest_s = duration_s(lambda: big("load", "-q", "-i", str(tmp_path / "made.tar")))
    big("rmi", "made")
    for _ in range(_KILLS):
        killed(big, longest_s, chance, "load", "-q", "-i", str(tmp_path / "made.tar"))
        if big("image", "exists", "made", status=None).status == 0:
            big("run", "--rm", "--network=none", "made", "sha256sum", "-c", "-s", "/s")
            big("rmi", "made")
        check_store(big)
    big("load", "-q", "-i", str(tmp_path / "made.tar"))
    big("run", "--rm", "--network=none", "made", "sha256sum", "-c", "-s", "/s")
    check_leftovers(big)


def test_rmi(big: Engine) -> None:
    chance = random.Random(3)
    for _ in range(_KILLS):
        big("commit", "-q", "c", "made")
        killed(big, 0.25, chance, "rmi", "made")
        if big("image", "exists", "made", status=None).status == 0:
            big("run", "--rm", "--network=none", "made", "sha256sum", "-c", "-s", "/s")
        check_store(big)
    big("rm", "c")
    check_leftovers(big)


@pytest.fixture
def pushed(big: Engine, registry: Registry) -> str:
    """The name of the image in a registry, from where the engine has nothing yet."""
    name = f"{registry.address}/killed:{os.urandom(4).hex()}"
    big("commit", "-q", "c", "made")
    big("push", "-q", "--tls-verify=false", "made", name)
    return name


def test_pull(big: Engine, pushed: str) -> None:
    chance = random.Random(4)
    pull = ("pull", "-q", "--tls-verify=false", pushed)
    big("rm", "c")
    big("rmi", "-f", "-a")
    longest_s = duration_s(lambda: big(*pull))
    for _ in range(_KILLS):
        big("rmi", "-f", "-a")
        killed(big, longest_s, chance, *pull)
        if big("image", "exists", pushed, status=None).status == 0:
            big("run", "--rm", "--network=none", pushed, "sha256sum", "-c", "-s", "/s")
        check_store(big)
        big(*pull)  # goes on from what the killed one left
        big("run", "--rm", "--network=none", pushed, "sha256sum", "-c", "-s", "/s")
        check_store(big)
    check_leftovers(big)


def test_pushes(big: Engine, pushed: str) -> None:
    """A name is there with all of its image or not at all, and this store only reads."""
    chance = random.Random(5)
    repository = pushed.rpartition(":")[0]

    def push(tag: str) -> tuple[str, ...]:
        # Another repository each time, for blobs that are there are not sent again.
        return ("push", "-q", "--tls-verify=false", "made", f"{repository}-{tag}:1")

    longest_s = duration_s(lambda: big(*push(os.urandom(4).hex())))
    before = big("images", "-q", "--no-trunc").out
    for _ in range(_KILLS):
        tag = os.urandom(4).hex()
        killed(big, longest_s, chance, *push(tag))
        check_store(big)
        assert big("images", "-q", "--no-trunc").out == before
        whole_or_absent(f"{repository}-{tag}")
        big(*push(tag))
        assert whole_or_absent(f"{repository}-{tag}")
    big("rm", "c")
    check_leftovers(big)


def whole_or_absent(repository: str) -> bool:
    """Whether the tag 1 is in the registry; if so, with all of its blobs."""
    address, _, path = repository.partition("/")

    def ask(kind: str, name: str, method: str = "GET") -> bytes:
        accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
        request = urllib.request.Request(f"http://{address}/v2/{path}/{kind}/{name}", headers=accept, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())

    try:
        manifest = json.loads(ask("manifests", "1"))
    except urllib.error.HTTPError as error:
        assert error.code == 404
        return False
    for blob in (manifest["config"], *manifest["layers"]):
        ask("blobs", blob["digest"], "HEAD")
    return True
