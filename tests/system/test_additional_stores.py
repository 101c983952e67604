"""additional_stores: images of a directory that others look after, run from there and never written."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import images
from tests.support.engine import Engine
from tests.support.images import Entry, Layout


def snapshot(folder: Path) -> dict[str, tuple[int, ...]]:
    """What must not change below a store.  SQLite's own files beside a log that is read are left out."""
    found = {}
    for path, folders, names in os.walk(folder):
        for name in (*folders, *names):
            full = os.path.join(path, name)
            if not name.startswith("state.db-"):
                held = os.lstat(full)
                found[full] = (held.st_mode, held.st_uid, held.st_size, held.st_mtime_ns, held.st_ino)
    return found


@pytest.fixture
def lab(leak_check: list[Engine], busybox_tar: Path) -> Iterator[Engine]:
    """Another engine, with the images lab and two:1 (of two layers)."""
    engine = Engine()
    engine("import", "--change", "CMD=/bin/sh", "--change", "LABEL=of=lab", busybox_tar, "lab")
    layout = Layout(engine.base / "layout")
    small = images.layer_tar([Entry("etc/two", b"two\n", 0o644), Entry("etc/shadow", b"secret\n", 0o640, gid=42)])
    layout.image("two", [busybox_tar.read_bytes(), small])
    engine("tag", engine("pull", "-q", f"oci:{layout.folder}:two").line, "two:1")
    yield engine
    engine.close()


@pytest.fixture
def user(fresh: Engine, lab: Engine) -> Engine:
    """An engine that has the lab's store beside its own, empty one."""
    configure(fresh, lab)
    return fresh


def configure(engine: Engine, lab: Engine) -> None:
    folder = engine.home / ".config/pyctl"
    folder.mkdir(parents=True)
    (folder / "pyctl.conf").write_text(f'additional_stores = ["{lab.storage_root}"]\n')


def test_run_from_another_store(user: Engine, lab: Engine) -> None:
    lab("images", "-q")
    before = snapshot(lab.storage_root)
    assert user("run", "--rm", "--network=none", "lab", "echo", "ran").line == "ran"
    table = user("images").out.splitlines()
    assert table[0].endswith("R/O")
    assert any(line.startswith("localhost/lab") and line.endswith("true") for line in table)
    user("run", "--name", "c", "--network=none", "lab", "sh", "-c", "echo new > /new; rm /bin/vi")
    assert user("diff", "c").out.splitlines() == ["C /bin", "D /bin/vi", "C /etc", "A /new"]
    assert user("images", "--format", "{{.Repository}} {{.Containers}}", "--filter", "readonly=true", "lab").out == (
        "localhost/lab 1\n"
    )
    assert user("images", "-q", "--filter", "label=of=lab").out.count("\n") == 1
    assert user("image", "inspect", "-f", "{{.Config.Labels.of}}", "lab").line == "lab"
    user("start", "c")
    for words in (("rmi", "lab"), ("rmi", "-f", "lab"), ("tag", "lab", "mine"), ("untag", "lab"), ("commit", "c", "x")):
        assert "read-only store" in user(*words, status=125).err
    user("commit", "-q", "--squash", "c", "mine")
    assert user("run", "--rm", "--network=none", "mine", "cat", "/new").line == "new"
    user("save", "-q", "-o", str(user.base / "lab.tar"), "lab")
    assert user("system", "check").out == ""
    user("system", "prune", "-a", "-f")
    user("rm", "-f", "-t", "0", "-a")
    user("system", "prune", "-a", "-f")
    assert user("system", "check").out == ""
    assert snapshot(lab.storage_root) == before
    assert lab("run", "--rm", "--network=none", "lab", "echo", "ran").line == "ran"


def test_an_image_that_is_pulled_is_one_s_own(user: Engine, lab: Engine) -> None:
    user("run", "--name", "c", "--network=none", "lab", "sh", "-c", "echo kept > /kept")
    lab("save", "-q", "-o", str(lab.base / "lab.tar"), "lab")
    user("load", "-q", "-i", str(lab.base / "lab.tar"))
    assert user("images", "--format", "{{.ReadOnly}}", "lab").line == "false"
    lab("system", "reset", "-f")
    user("start", "-a", "c")
    assert user("run", "--rm", "--network=none", "lab", "echo", "own").line == "own"
    user("rm", "c")
    assert user("system", "check").out == ""
    user("rmi", "lab")


def give_away(lab: Engine) -> None:
    """The layers' files get another owner: one of the subordinate ids stands for another user."""
    lab("unshare", "sh", "-c", f"chown -R 1:1 {lab.storage_root}/layers/*")


def test_a_store_of_another_user(user: Engine, lab: Engine) -> None:
    give_away(lab)
    assert user("run", "--rm", "--network=none", "lab", "stat", "-c", "%u:%g", "/bin/busybox").line == "0:0"
    user("run", "--name", "c", "--network=none", "lab", "sh", "-c", "echo x >> /etc/passwd; touch /new")
    assert user("diff", "c").out.splitlines() == ["C /etc", "C /etc/passwd", "A /new"]
    kernel = user("--storage-driver=overlay", "run", "--rm", "--network=none", "lab", "true", status=125)
    assert "fuse-overlayfs" in kernel.err
    user("rm", "c")
    # Of the other image a file is the owner's alone.
    refused = user("run", "--rm", "--network=none", "two:1", "true", status=125)
    assert "/etc/shadow" in refused.err
    assert f"chmod -R a+rX {lab.storage_root}" in refused.err
    lab("unshare", "chmod", "-R", "a+rX", str(lab.storage_root))
    assert user("run", "--rm", "--network=none", "two:1", "cat", "/etc/two").line == "two"


@pytest.mark.parametrize("bad", ["missing", "closed", "row", "link"])
def test_a_store_that_cannot_be_used(fresh: Engine, lab: Engine, bad: str, tmp_path: Path) -> None:
    configure(fresh, lab)
    root = lab.storage_root
    fix: Callable[[], object] = lambda: None  # noqa: E731
    if bad == "missing":
        lab("system", "reset", "-f")
    elif bad == "closed":
        (root / "state.db").chmod(0)
        fix = lambda: (root / "state.db").chmod(0o600)  # noqa: E731
    elif bad == "row":
        subprocess.run(
            ["python3", "-c", f"import sqlite3; c = sqlite3.connect('{root}/state.db');"
             f" c.execute(\"UPDATE layers SET directory = '{tmp_path}/' || key\"); c.commit()"], check=True,
        )  # fmt: skip
    else:
        for layer in (root / "layers").iterdir():
            layer.rename(tmp_path / layer.name)
            layer.symlink_to(tmp_path / layer.name)
    refused = fresh("run", "--rm", "--pull=never", "--network=none", "lab", "true", status=125)
    fix()
    assert str(root) in refused.err
    assert "Traceback" not in refused.err
    assert fresh("images", "-q", status=None).status in (0, 125)
    if bad == "link":
        for layer in (root / "layers").iterdir():
            layer.unlink()
            (tmp_path / layer.name).rename(layer)
