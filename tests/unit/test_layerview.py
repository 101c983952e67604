"""Layers read as one tree, and written as archives: against Python's tarfile and this project's own reader."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import tarwriter
from storage.differences import compare
from storage.layerview import LayerView
from storage.tarstream import TarStream
from tests.unit.test_storage_tarstream import Slow


def make(folder: Path, files: dict[str, str | None]) -> str:
    """Files with a content; None: a directory; names ".wh.X" hide, ".wh..wh..opq" makes opaque."""
    folder.mkdir()
    for name, content in files.items():
        path = folder / name
        if content is None:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            if path.name.startswith(".wh."):
                path.chmod(0o600)  # a mark is private
    return str(folder)


@pytest.fixture
def stack(tmp_path: Path) -> list[str]:
    """Topmost first."""
    base = {"a/one": "1", "a/two": "2", "b/deep/x": "x", "c": "file", "d/kept": "k", "e/f": "f", "g/low": "l"}
    middle = {"a/.wh.one": "", "b/.wh..wh..opq": "", "b/deep/y": "y", "c/now": "dir", "g": "file now"}
    top = {"d": "file now", ".wh.e": "", "a/three": "3", "g/top": "t"}
    layers = [make(tmp_path / n, f) for n, f in (("base", base), ("middle", middle), ("top", top))]
    return layers[::-1]


def test_walk(stack: list[str]) -> None:
    with LayerView(stack) as view:
        found = {node.path.decode(): node.layer for node in view.walk()}
    assert found == {
        "a": 0, "a/three": 0, "a/two": 2, "b": 1, "b/deep": 1, "b/deep/y": 1, "c": 1, "c/now": 1, "d": 0, "g": 0,
        "g/top": 0,
    }  # fmt: skip
    # A directory before what it holds.
    assert list(found) == sorted(found)


def test_compare(stack: list[str]) -> None:
    with LayerView(stack) as view, LayerView(stack[1:]) as below, LayerView(stack[2:]) as base:
        assert compare(view, below) == [
            ("C", b"a"), ("A", b"a/three"), ("C", b"d"), ("D", b"e"), ("C", b"g"), ("A", b"g/top"),
        ]  # fmt: skip
        assert {path.decode(): kind for kind, path in compare(below, base)} == {
            "a": "C", "a/one": "D", "b": "D", "b/deep": "A", "b/deep/y": "A", "c": "C", "c/now": "A", "g": "C",
        }  # fmt: skip
        # The other way round nothing is stacked: trees are compared file by file.
        assert ("A", b"a/one") in compare(base, below)
        assert compare(view, view) == []


def test_the_layer_of_a_change_makes_the_change(stack: list[str]) -> None:
    with LayerView(stack) as view, LayerView(stack[1:]) as base:
        archive = b"".join(tarwriter.top_layer(view, base))
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        names = [member.name for member in tar]
    assert names[0] == "."
    assert set(names[1:]) == {".wh.e", "a", "a/three", "d", "g", "g/top"}


def test_links_do_not_lead_out(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "layer"
    make(folder, {"d/f": "x"})
    (folder / "out").symlink_to(tmp_path)
    (folder / "up").symlink_to("../secret")
    with LayerView([str(folder)]) as view:
        archive = b"".join(tarwriter.whole_tree(view))
        listing = view.listing(0, b"out")
    assert not listing.entries
    assert b"secret" not in archive.replace(b"../secret", b"")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert {m.name: m.linkname for m in tar if m.issym()} == {"out": str(tmp_path), "up": "../secret"}


attribute_names = st.from_regex(r"user\.[a-z]{1,20}", fullmatch=True)
name_parts = st.binary(min_size=1, max_size=120).filter(
    lambda b: b"/" not in b and b"\0" not in b and b not in (b".", b"..")
)


@given(
    name=st.lists(name_parts, min_size=1, max_size=4).map(b"/".join),
    size=st.integers(0, 1 << 36),
    ids=st.tuples(st.integers(0, 2**32 - 2), st.integers(0, 2**32 - 2)),
    seconds=st.integers(-(2**32), 2**33),
    xattrs=st.dictionaries(
        st.from_regex(r"user\.[a-z]{1,20}", fullmatch=True), st.binary(min_size=1, max_size=80), max_size=3
    ),
)
def test_a_header_is_read_as_it_was_written(
    name: bytes, size: int, ids: tuple[int, int], seconds: int, xattrs: dict[str, bytes]
) -> None:
    held = os.stat_result((0o104755, 0, 0, 1, *ids, size, seconds, seconds, seconds))
    raw = tarwriter.header(name, held, xattrs=xattrs)
    assert len(raw) % 512 == 0
    entry = TarStream(Slow(raw + bytes(1024), 7), "it").next()
    assert entry is not None
    assert (entry.name, entry.mode, entry.uid, entry.gid) == (name, 0o4755, *ids)
    assert (entry.size, entry.mtime_ns // 10**9) == (size, seconds)
    assert (entry.xattrs or {}) == xattrs


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 700)
    fd = os.open(path, os.O_RDONLY)
    try:
        data = b"".join(tarwriter.content(fd, 2000))
    finally:
        os.close(fd)
    assert data == b"x" * 700 + bytes(2048 - 700)
