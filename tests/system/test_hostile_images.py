"""Images made to do harm, through the command line: one line that names layer and entry, and nothing is left."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import pytest

from tests.support import images
from tests.support.engine import TEMPORARY, Engine
from tests.support.images import Entry, Layout, layer_tar
from tests.support.registry import LyingRegistry

SYM, HARD, CHR, FIFO, DIR = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE


@pytest.fixture
def own_layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def said(engine: Engine, *args: object, **options: object) -> str:
    """The one error line of a command that must fail with the engine's status."""
    lines = engine(*args, status=125, **options).err.splitlines()  # type: ignore[arg-type]
    lines = [line for line in lines if not line.startswith(("Copying ", "Trying "))]
    assert len(lines) == 1 + lines[-1].startswith("hint:"), lines
    assert lines[0].startswith("pyctl: "), lines
    return lines[0]


def assert_clean(engine: Engine) -> None:
    """No image, no layer, no part of one; the store is in order."""
    assert engine("images", "-a", "-q").out == ""
    assert os.listdir(engine.storage_root / "layers") == []
    left = [name for name in os.listdir(engine.storage_root / "partial") if not name.endswith(".lock")]
    assert left == []
    engine("system", "check")


# --- what layers hold ----------------------------------------------------------------------------

LAYERS: dict[str, tuple[list[Entry], str]] = {
    "..": ([Entry("../../escaped", b"x")], "entry ../../escaped: its path leads out"),
    "absolute and ..": ([Entry("/../escaped", b"x")], "entry /../escaped: its path leads out"),
    "a link to nothing": ([Entry("l", kind=SYM, link="/nowhere"), Entry("l/f", b"x")], "entry l/f: l is a symbolic"),
    "a link out of the layer": (
        [Entry("l", kind=SYM, link=f"{TEMPORARY}/none"), Entry("l/escaped", b"x")],
        "entry l/escaped: l is a symbolic link to nothing",
    ),
    "the root as a link": ([Entry("/.", kind=SYM, link="/etc"), Entry("escaped", b"x")], "entry /.: the root of a"),
    "a hard link to outside": ([Entry("h", kind=HARD, link="../../../etc/passwd")], "entry h: its link"),
    "a hard link to the host's file": ([Entry("h", kind=HARD, link="/etc/passwd")], "entry h: it links to"),
    "a bomb": ([Entry("bomb", b"a" * (80 << 20))], "entry bomb: the archive expands to more than"),
    "too many entries": ([Entry(f"d{n}") for n in range(2000)], "entry d1500: more than 1500 entries"),
    "endless headers": ([Entry("x", b"")], "extended headers before one member"),
    "a whiteout of nothing": ([Entry("d/.wh...", b"")], "entry d/.wh...: a whiteout that names nothing"),
}


def hostile_tar(name: str) -> bytes:
    archive = layer_tar(LAYERS[name][0])
    if name != "endless headers":
        return archive
    info = tarfile.TarInfo("x")
    info.pax_headers = {"comment": "c" * 900_000}
    return info.tobuf(tarfile.PAX_FORMAT)[:-512] * 6 + archive


@pytest.fixture
def capped(fresh: Engine) -> Engine:
    """With caps from pyctl.conf that a small archive can exceed."""
    folder = fresh.home / ".config/pyctl"
    folder.mkdir(parents=True)
    (folder / "pyctl.conf").write_text("layer_max_entries = 1500\nlayer_max_ratio = 10\n")
    return fresh


@pytest.mark.parametrize("name", LAYERS)
def test_hostile_layers(capped: Engine, own_layout: Layout, name: str) -> None:
    own_layout.image("good-below", [layer_tar([Entry("fine", b"1")]), hostile_tar(name)])
    row = own_layout.index[-1]
    layer = json.loads(own_layout.path(row["digest"]).read_bytes())["layers"][1]["digest"]
    line = said(capped, "pull", f"oci:{own_layout.folder}:good-below")
    assert line.startswith(f"pyctl: layer {layer}: "), line
    assert LAYERS[name][1] in line
    for place in (TEMPORARY, "/", "/etc", capped.base, capped.home, capped.storage_root):
        assert not Path(place, "escaped").exists()
    # What is complete of it may stay for the next attempt, as long as nothing shows it.
    capped("system", "prune", "-f")
    assert_clean(capped)


def test_caps_can_be_raised(fresh: Engine, own_layout: Layout) -> None:
    own_layout.image("it", [layer_tar([Entry("dir", kind=DIR), *(Entry(f"d{n}") for n in range(1999))])])
    folder = fresh.home / ".config/pyctl"
    folder.mkdir(parents=True)
    for cap in ("layer_max_stream = '512k'", "layer_max_entries = 1999", "layer_max_names = 1"):
        (folder / "pyctl.conf").write_text(cap + "\n")
        assert f"({cap.partition(' ')[0]})" in said(fresh, "pull", f"oci:{own_layout.folder}:it")
    (folder / "pyctl.conf").write_text("layer_max_entries = 2000\n")
    fresh("pull", "-q", f"oci:{own_layout.folder}:it")


def test_harmless_oddities_are_stored(fresh: Engine, own_layout: Layout, busybox_tar: Path) -> None:
    """Device nodes, FIFOs and absolute names are no attack by themselves: the first are left out, the others placed."""
    odd = [
        Entry("/absolute", b"1", 0o644),
        Entry("disk", kind=tarfile.BLKTYPE, device=(8, 0), mode=0o666),
        Entry("mem", kind=CHR, device=(1, 1), mode=0o666),
        Entry("pipe", kind=FIFO, mode=0o666),
    ]
    own_layout.image("it", [busybox_tar.read_bytes(), layer_tar(odd)])
    name = fresh("pull", "-q", f"oci:{own_layout.folder}:it").line
    script = "cat /absolute; test -p /pipe || echo none; ! ls -d /disk /mem 2>/dev/null"
    seen = fresh("run", "--rm", "--network=none", name, "sh", "-c", script)
    assert seen.out == "1"


ODD = ["a FIFO", "a link to the host", "huge"]


@pytest.mark.parametrize("kind", ODD)
def test_etc_passwd(fresh: Engine, own_layout: Layout, busybox_tar: Path, kind: str) -> None:
    """CVE-2024-9676 and its like: a user is looked up in the image, without blocking or reading without end."""
    entry = {
        "a FIFO": Entry("etc/passwd", kind=FIFO, mode=0o644),
        "a link to the host": Entry("etc/passwd", kind=SYM, link="../../../../../../../../../../etc/shadow"),
        "huge": Entry("etc/passwd", b"x:x:1:1::/:\n" * (2 << 20), 0o644),
    }[kind]
    own_layout.image("it", [busybox_tar.read_bytes(), layer_tar([entry])])
    name = fresh("pull", "-q", f"oci:{own_layout.folder}:it").line
    failed = fresh("run", "--rm", "--network=none", "-u", "web", name, "true", status=None)
    assert failed.status in (125, 126)
    expected = {"a FIFO": "not a regular file", "a link to the host": "web", "huge": "larger than 16 MiB"}[kind]
    assert expected in failed.err
    assert len(failed.err.splitlines()) <= 2


def test_a_sparse_file_of_100_gigabytes_stays_sparse(fresh: Engine, own_layout: Layout) -> None:
    """As /var/log/lastlog of a host with large uids, in GNU tar's form 1.0."""
    size = 100 << 30
    info = tarfile.TarInfo("var/log/lastlog")
    table = b"1\n%d\n512\n" % (size - 512)
    data = table.ljust(512, b"\0") + b"e" * 512
    info.size = len(data)
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "var/log/lastlog",
        "GNU.sparse.realsize": str(size),
    }
    archive = info.tobuf(tarfile.PAX_FORMAT) + data + bytes(1024)
    own_layout.image("it", [archive])
    fresh("pull", "-q", f"oci:{own_layout.folder}:it")
    [layer] = os.listdir(fresh.storage_root / "layers")
    held = os.stat(fresh.storage_root / "layers" / layer / "var/log/lastlog")
    assert held.st_size == size
    assert held.st_blocks * 512 < 1 << 20


# --- what archives say ---------------------------------------------------------------------------

BAD = "sha256:" + "../" * 21 + "x"


@pytest.mark.parametrize("where", ["index entry", "config", "layer", "subject", "diff id", "name"])
def test_a_malformed_digest_anywhere(fresh: Engine, own_layout: Layout, where: str) -> None:
    """CVE-2024-3727: no path is made of it, whichever field it stands in."""
    changes: dict[str, object] = {}
    config = None
    bad = {"mediaType": f"{images.OCI}.layer.v1.tar", "digest": BAD, "size": 5}
    if where == "layer":
        changes["layers"] = [bad]
    elif where == "config":
        changes["config"] = {**bad, "mediaType": f"{images.OCI}.config.v1+json"}
    elif where == "subject":
        changes["subject"] = bad
    elif where == "diff id":
        rootfs = {"type": "layers", "diff_ids": [BAD]}
        config = json.dumps({"os": "linux", "architecture": images.ARCHITECTURE, "rootfs": rootfs}).encode()
    own_layout.image("it", [layer_tar([Entry("a")])], manifest_changes=changes, raw_config=config)
    if where == "index entry":
        own_layout.index.clear()
        own_layout.add({**bad, "mediaType": f"{images.OCI}.manifest.v1+json", "annotations": {}})
    ref = "" if where == "index entry" else ":it"
    if where == "name":
        server = LyingRegistry(own_layout, lambda _path, status, body: (status, body))
        try:
            line = said(fresh, "pull", f"{server.address}/x@{BAD}")
            assert server.requests == []
        finally:
            server.close()
    else:
        line = said(fresh, "pull", f"oci:{own_layout.folder}{ref}")
    assert "invalid digest" in line
    if (fresh.storage_root / "layers").exists():
        assert_clean(fresh)
