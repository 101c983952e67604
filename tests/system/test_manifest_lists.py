"""manifest create, add, annotate, inspect, push, remove, rm, exists: lists of images that are made here."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import Engine
from tests.support.registry import Registry
from tests.support.requirements import missing

INSECURE = "--tls-verify=false"


@pytest.fixture
def two(fresh: Engine, busybox_tar: Path) -> Engine:
    """Images box:host, for this machine, and box:other."""
    fresh("import", "--change", "CMD=/bin/sh", busybox_tar, "box:host")
    other = "arm64" if fresh("image", "inspect", "-f", "{{.Architecture}}", "box:host").line == "amd64" else "amd64"
    fresh("import", "--arch", other, "--variant", "v8" if other == "arm64" else "", busybox_tar, "box:other")
    return fresh


def digest(engine: Engine, name: str) -> str:
    return engine("image", "inspect", "-f", "{{.Digest}}", name).line


def entries(engine: Engine, name: str = "list") -> list[Any]:
    return list(engine.json("manifest", "inspect", name)["manifests"])


def skopeo(*words: str) -> bytes:
    if not shutil.which("skopeo"):
        missing("skopeo is not installed")
    return subprocess.run(["skopeo", *words], check=True, capture_output=True, timeout=60).stdout


def test_a_list_from_its_making_to_a_registry(two: Engine, registry: Registry) -> None:
    identity = two("manifest", "create", "list", "box:host").line
    assert two("manifest", "add", "--annotation", "k=v", "list", "box:other").line == identity
    host, other = entries(two)
    assert [host["digest"], other["digest"]] == [digest(two, "box:host"), digest(two, "box:other")]
    assert host["platform"]["os"] == "linux"
    assert other["annotations"] == {"k": "v"}
    two("manifest", "annotate", "--arch", "riscv64", "--os-version", "7", "list", "box:other")
    two("manifest", "annotate", "--index", "--annotation", "top=1", "list")
    assert entries(two)[1]["platform"] == {"architecture": "riscv64", "os": "linux", "os.version": "7"}

    name = f"{registry.address}/made/list:1"
    digestfile = two.base / "digest"
    two("manifest", "push", INSECURE, "-q", "--digestfile", digestfile, "list", name)
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}")
    shown = two.json("manifest", "inspect", "list")
    assert json.loads(raw) == shown
    assert shown["annotations"] == {"top": "1"}
    assert skopeo("manifest-digest", write(two.base / "raw", raw)).decode().strip() == digestfile.read_text()

    # Both images arrived whole; another store takes the one for its machine.
    two("rmi", "-f", "-a")
    two("pull", INSECURE, "-q", name)
    assert two("run", "--rm", "--network=none", name, "echo", "ran").line == "ran"
    two("pull", INSECURE, "-q", "--platform", "linux/riscv64", name, status=None)
    assert two("system", "check").out == ""


def write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def test_a_list_keeps_what_it_needs(two: Engine, tmp_path: Path) -> None:
    two("manifest", "create", "list", "box:host", "box:other")
    assert two("run", "--rm", "--network=none", "list", "echo", "ran").line == "ran"
    two("rmi", "box:host", "box:other")
    two("system", "prune", "-f")
    assert two("system", "check").out == ""
    two("manifest", "push", "-q", "list", f"oci:{tmp_path}/out")
    for entry in entries(two):
        assert (tmp_path / "out/blobs/sha256" / entry["digest"].removeprefix("sha256:")).exists()
    two("load", "-q", "-i", str(tmp_path / "out"))
    assert two("manifest", "rm", "list").out.startswith("Untagged: localhost/list:latest\nDeleted: ")
    two("rmi", "-a", "-f")
    assert list((two.storage_root / "blobs/sha256").iterdir()) == []


def test_prune(two: Engine) -> None:
    """A list is an image that no container has."""
    two("manifest", "create", "list", "box:host")
    two("image", "prune", "-f")
    two("manifest", "exists", "list")
    two("image", "prune", "-a", "-f")
    assert two("images", "-aq").out == ""
    assert list((two.storage_root / "blobs/sha256").iterdir()) == []


def test_of_a_registry(two: Engine, registry: Registry) -> None:
    """An index that is elsewhere: its image for this machine, or with --all every one."""
    two("manifest", "create", "list", "box:host", "box:other")
    name = f"{registry.address}/made/source:1"
    two("manifest", "push", "-q", INSECURE, "list", name)
    both = [entry["digest"] for entry in entries(two)]
    two("rmi", "-a", "-f")
    two("manifest", "create", "one")
    two("manifest", "add", INSECURE, "one", name)
    assert [entry["digest"] for entry in entries(two, "one")] == both[:1]
    two("manifest", "create", INSECURE, "--all", "all", f"docker://{name}")
    assert [entry["digest"] for entry in entries(two, "all")] == both
    assert two("images", "-q").out.count("\n") == 2, "nothing was unpacked: only the lists are there"
    again = f"{registry.address}/made/again:1"
    two("manifest", "push", "-q", INSECURE, "--rm", "all", again)
    two("manifest", "exists", "all", status=1)
    assert [entry["digest"] for entry in entries(two, again)] == both


def test_lists_among_the_images(two: Engine) -> None:
    identity = two("manifest", "create", "list", "box:host").line
    rows = two("images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").out.splitlines()
    assert f"localhost/list:latest {identity[:12]}" in rows
    assert two("images", "-q", "--no-trunc", "--filter", "manifest=true").line == f"sha256:{identity}"
    two("tag", "list", "second")
    assert two("rmi", "list").out == "Untagged: localhost/list:latest\n"
    two("manifest", "exists", identity[:12])
    two("untag", "second")
    two("image", "exists", identity)
    two("manifest", "rm", identity)
    two("image", "exists", "box:host")
    two("manifest", "create", "box:host", status=125)
    # A name that goes to an image is no longer a list's.
    two("manifest", "create", "name")
    two("tag", "box:other", "name")
    two("manifest", "exists", "name", status=125)


def test_of_an_artifact(two: Engine, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"\0weights")
    two("manifest", "create", "list")
    two("manifest", "add", "--artifact", "--artifact-type", "application/x-model", "list", tmp_path / "model")
    [entry] = entries(two)
    assert entry["artifactType"] == "application/x-model"
    two("manifest", "push", "-q", "list", f"oci:{tmp_path}/out")
    manifest = json.loads((tmp_path / "out/blobs/sha256" / entry["digest"].removeprefix("sha256:")).read_bytes())
    assert manifest["layers"][0]["annotations"] == {"org.opencontainers.image.title": "model"}
    assert manifest["layers"][0]["mediaType"] == "application/octet-stream"


def test_nothing_that_is_added_at_once_is_lost(two: Engine) -> None:
    two("manifest", "create", "list")
    names = ["box:host", "box:other"]
    for number in range(4):
        two("create", "--name", f"c{number}", "box:host")
        two("commit", "-q", "-c", f"ENV N={number}", f"c{number}", f"n:{number}")
        two("rm", f"c{number}")
        names.append(f"n:{number}")
    running = [two.spawn("manifest", "add", "list", name) for name in names]
    assert [process.wait(60) for process in running] == [0] * len(names)
    assert sorted(entry["digest"] for entry in entries(two)) == sorted(digest(two, name) for name in names)


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["manifest", "create", "list"], 125, "exists already"),
        (["manifest", "add", "nosuch", "box:host"], 125, "nosuch"),
        (["manifest", "add", "box:host", "box:other"], 125, "not a manifest list"),
        (["manifest", "add", "list", "dir:/nonexistent"], 125, "/nonexistent"),
        (["manifest", "add", "--artifact", "list", "/nonexistent"], 125, "/nonexistent"),
        (["manifest", "add", "--artifact", "list", "/etc"], 125, "/etc"),
        (["manifest", "add", "--artifact-type", "x", "list", "box:host"], 125, "--artifact"),
        (["manifest", "add", "--annotation", "x", "list", "box:host"], 125, "--annotation x"),
        (["manifest", "annotate", "list", "sha256:" + "0" * 64], 125, "it has no manifest"),
        (["manifest", "annotate", "list"], 125, "--index"),
        (["manifest", "remove", "list", "box:host"], 125, "it has no manifest"),
        (["manifest", "push", "list", "oci:/nowhere/x"], 125, "empty"),
        (["manifest", "rm", "nosuch"], 1, "nosuch"),
        (["manifest", "exists", "nosuch"], 1, ""),
        (["push", "list", "oci:/nowhere/x"], 125, "manifest push"),
    ],
)
def test_bad_input(engine: Engine, words: list[str], status: int, text: str) -> None:
    engine("tag", "busybox", "box:host", "box:other")
    engine("manifest", "create", "list")
    try:
        refused = engine(*words, status=status)
        assert text in refused.err
        assert "Traceback" not in refused.err
        assert engine.json("manifest", "inspect", "list")["manifests"] == []
    finally:
        engine("manifest", "rm", "list")
        engine("untag", "busybox", "box:host", "box:other")
