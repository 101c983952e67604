"""image tree and manifest inspect."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.images import Entry, Layout, layer_tar, sha256
from tests.support.registry import Registry


@pytest.fixture
def family(fresh: Engine, tmp_path: Path) -> list[bytes]:
    """base:1 of one layer; left:1 and right:1 on it, and deep:1 of one more on left:1.  Returns their layers."""
    tars = [layer_tar([Entry(name, b"x", 0o644)]) for name in ("base", "left", "right", "deep")]
    layout = Layout(tmp_path / "layout")
    for name, parts in {"base": [0], "left": [0, 1], "right": [0, 2], "deep": [0, 1, 3]}.items():
        layout.image(name, [tars[n] for n in parts])
        fresh("tag", fresh("pull", "-q", f"oci:{layout.folder}:{name}").line, f"{name}:1")
        fresh("untag", f"{name}:1", f"localhost/{name}:latest", status=None)
    return tars


def test_tree(fresh: Engine, family: list[bytes]) -> None:
    lines = fresh("image", "tree", "deep:1").out.splitlines()
    assert lines[0].startswith("Image ID: ")
    assert lines[1].startswith("Tags:     [localhost/deep:1")
    assert lines[3] == "Image Layers"
    base = sha256(family[0])
    left = sha256(f"{base} {sha256(family[1])}".encode())
    ids = [line.split("ID: ")[1].split()[0] for line in lines[4:]]
    deep = sha256(f"{left} {sha256(family[3])}".encode())
    assert ids == [digest.removeprefix("sha256:")[:12] for digest in (base, left, deep)]
    assert [line[:4] for line in lines[4:]] == ["├── ", "├── ", "└── "]
    assert "Top Layer of: [localhost/left:1" in lines[5]


def test_what_requires(fresh: Engine, family: list[bytes]) -> None:
    out = fresh("image", "tree", "--whatrequires", "base:1").out
    for name in ("base", "left", "right", "deep"):
        assert f"localhost/{name}:1" in out
    assert len(out.splitlines()) == 8
    only = fresh("image", "tree", "--whatrequires", "left:1").out
    assert "localhost/deep:1" in only
    assert "localhost/right:1" not in only


def test_manifest_inspect(fresh: Engine, registry: Registry, layout: Layout) -> None:
    name = f"{registry.address}/busybox:1"
    wanted = json.loads(layout.path(layout.index[0]["digest"]).read_bytes())
    assert fresh.json("manifest", "inspect", name) == wanted
    assert fresh.json("manifest", "inspect", "--tls-verify=false", f"docker://{name}") == wanted
    assert "not known" in fresh("manifest", "inspect", f"{registry.address}/nosuch", status=125).err
    assert fresh("images", "-q").out == "", "nothing is stored"
