"""artifact add, ls, inspect, extract, push, pull, rm: files in the form of images."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.registry import Registry
from tests.support.requirements import missing

INSECURE = "--tls-verify=false"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "one.txt").write_text("one\n")
    (tmp_path / "two.bin").write_bytes(b"\0\1\2" * 1000)
    return tmp_path / "one.txt", tmp_path / "two.bin"


def test_files_go_through_a_registry(
    fresh: Engine, registry: Registry, files: tuple[Path, Path], tmp_path: Path
) -> None:
    name = f"{registry.address}/files/it:1"
    digits = fresh("artifact", "add", "--type", "application/x-it", "--annotation", "a=b", name, *files).line
    assert fresh("artifact", "ls", "--no-trunc", "-n").out.split() == [
        f"{registry.address}/files/it", "1", digits, "3.004kB",
    ]  # fmt: skip
    shown = fresh.json("artifact", "inspect", name)
    assert (shown["Name"], shown["Digest"]) == (name, f"sha256:{digits}")
    assert shown["Manifest"]["artifactType"] == "application/x-it"
    one, two = shown["Manifest"]["layers"]
    assert one["annotations"] == {"a": "b", "org.opencontainers.image.title": "one.txt"}
    assert (one["mediaType"], two["mediaType"]) == ("text/plain; charset=utf-8", "application/octet-stream")
    assert two["digest"] == "sha256:" + hashlib.sha256(files[1].read_bytes()).hexdigest()

    fresh("artifact", "push", "-q", INSECURE, "--digestfile", tmp_path / "digest", name)
    assert (tmp_path / "digest").read_text() == f"sha256:{digits}"
    assert fresh("artifact", "rm", name).line == digits
    assert fresh("artifact", "ls", "-n").out == ""
    assert list((fresh.storage_root / "blobs/sha256").iterdir()) == []
    assert fresh("artifact", "pull", "-q", INSECURE, name).line == digits
    fresh("system", "prune", "-f")
    assert fresh("system", "check").out == ""
    fresh("artifact", "extract", digits[:12], tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == ["one.txt", "two.bin"]
    assert (tmp_path / "out/two.bin").read_bytes() == files[1].read_bytes()
    fresh("artifact", "extract", "--title", "one.txt", name, tmp_path / "single")
    assert (tmp_path / "single").read_text() == "one\n"
    fresh("artifact", "extract", "--digest", two["digest"], name, f"{tmp_path}/out2/")
    assert os.listdir(tmp_path / "out2") == ["two.bin"]
    if not shutil.which("skopeo"):
        missing("skopeo is not installed")
    raw = subprocess.run(
        ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}"], check=True, capture_output=True
    ).stdout
    assert json.loads(raw) == shown["Manifest"]


def test_append(fresh: Engine, files: tuple[Path, Path]) -> None:
    fresh("artifact", "add", "localhost/it", files[0])
    assert "already exists" in fresh("artifact", "add", "localhost/it", files[1], status=125).err
    fresh("artifact", "add", "--append", "localhost/it:latest", files[1])
    manifest = fresh.json("artifact", "inspect", "localhost/it")["Manifest"]
    assert [layer["size"] for layer in manifest["layers"]] == [4, 3000]


def test_a_hostile_title_leads_nowhere(fresh: Engine, registry: Registry, tmp_path: Path) -> None:
    """A registry's artifact says what its files are called."""
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "evil").write_text("evil")
    name = f"{registry.address}/files/evil:1"
    fresh("artifact", "add", name, tmp_path / "evil")
    for title in ("../victim", "/etc/passwd", "..", ".", "", "a/../../victim", "x\ny", "x\0y"):
        database = fresh.storage_root / "state.db"
        with_title(fresh, database, name, title)
        out = tmp_path / "out"
        out.mkdir()
        fresh("artifact", "extract", name, out, status=None)
        assert (tmp_path / "victim").read_text() == "untouched"
        assert all("/" not in entry and "\n" not in entry for entry in os.listdir(out))
        shutil.rmtree(out)
    # A link that is there already is replaced, not followed.
    with_title(fresh, database, name, "victim")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/victim").symlink_to("../victim")
    fresh("artifact", "extract", name, tmp_path / "out")
    assert (tmp_path / "victim").read_text() == "untouched"
    assert (tmp_path / "out/victim").read_text() == "evil"


def with_title(engine: Engine, database: Path, name: str, title: str) -> None:
    """The artifact with another title of its file, as a registry could send it."""
    import sqlite3

    with sqlite3.connect(database) as connection:
        [digest] = connection.execute("SELECT digest FROM artifacts WHERE name = ?", (name,)).fetchone()
        blobs = engine.storage_root / "blobs/sha256"
        manifest = json.loads((blobs / digest.removeprefix("sha256:")).read_bytes())
        manifest["layers"][0]["annotations"] = {"org.opencontainers.image.title": title}
        raw = json.dumps(manifest).encode()
        changed = hashlib.sha256(raw).hexdigest()
        (blobs / changed).write_bytes(raw)
        connection.execute("UPDATE artifacts SET digest = ? WHERE name = ?", (f"sha256:{changed}", name))
    connection.close()


def test_a_damaged_blob_is_not_extracted(fresh: Engine, files: tuple[Path, Path], tmp_path: Path) -> None:
    fresh("artifact", "add", "localhost/it", files[1])
    digits = hashlib.sha256(files[1].read_bytes()).hexdigest()
    (fresh.storage_root / "blobs/sha256" / digits).write_bytes(b"other")
    assert digits in fresh("system", "check", status=125).out
    refused = fresh("artifact", "extract", "localhost/it", tmp_path / "out", status=125)
    assert "damaged" in refused.err
    assert not (tmp_path / "out").is_file()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["add", "localhost/x", "/nonexistent"], "/nonexistent"),
        (["add", "localhost/x", "/etc"], "/etc"),
        (["add", "BAD/x", "/etc/passwd"], "lower case"),
        (["inspect", "nosuch"], "nosuch"),
        (["rm", "nosuch"], "nosuch"),
        (["rm"], "--all"),
        (["extract", "nosuch", "/tmp"], "nosuch"),
        (["push", "nosuch"], "nosuch"),
    ],
)
def test_bad_input(fresh: Engine, words: list[str], text: str) -> None:
    refused = fresh("artifact", *words, status=125)
    assert text in refused.err
    assert "Traceback" not in refused.err
    assert fresh("artifact", "ls", "-n").out == ""
