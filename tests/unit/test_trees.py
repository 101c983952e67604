"""Trees that strangers made: given away and removed, whatever is in them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless import ops
from rootless.errors import LaunchError
from rootless.ownership import chown_tree
from tests.support import descriptors
from tests.support.mapped import mapped

DEPTH = 1500  # more than Python's recursion, a process's descriptors and a path can take


def deep_tree(top: Path) -> Path:
    """A directory in a directory in …, made from the bottom up."""
    tree, wrap = top / "tree", top / "wrap"
    tree.mkdir()
    (tree / "leaf").write_text("x")
    for _ in range(DEPTH):
        wrap.mkdir()
        tree.rename(wrap / "d")
        wrap.rename(tree)
    return tree


def owners(top: str) -> set[int]:
    """Of everything in a chain of directories `d`, the leaf included."""
    found = set()
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    while True:
        found.add(os.fstat(fd).st_uid)
        found |= {os.stat(name, dir_fd=fd, follow_symlinks=False).st_uid for name in os.listdir(fd)}
        try:
            below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        except FileNotFoundError:
            return found
        finally:
            os.close(fd)
        fd = below


@pytest.fixture
def runtime_root(tmp_path: Path) -> str:
    (tmp_path / "run").mkdir()
    return str(tmp_path / "run")


def test_deep_tree(tmp_path: Path, runtime_root: str) -> None:
    tree = deep_tree(tmp_path)
    before = descriptors.held()

    def give() -> set[int]:
        chown_tree(str(tree), 7, 7)
        return owners(str(tree))

    assert mapped(give, runtime_root=runtime_root) == {7}
    mapped(ops.remove_path, str(tree), runtime_root=runtime_root)
    assert not tree.exists()
    assert not descriptors.held() - before


def test_removal_leaves_what_links_point_to(tmp_path: Path, runtime_root: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("kept")
    tree = tmp_path / "tree"
    (tree / "closed").mkdir(parents=True)
    (tree / "closed" / "up").symlink_to(outside)
    (tree / "loop").symlink_to(".")
    os.mkfifo(tree / "closed" / "pipe")
    (tree / "closed").chmod(0)
    mapped(ops.remove_path, str(tree), runtime_root=runtime_root)
    assert not tree.exists()
    assert (outside / "file").read_text() == "kept"
    mapped(ops.remove_path, str(tree), runtime_root=runtime_root)


def test_a_link_given_as_the_source_is_followed(tmp_path: Path, runtime_root: str) -> None:
    """As the mount follows it."""
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    os.mkfifo(tmp_path / "real" / "pipe")

    def give_and_look() -> list[int]:
        chown_tree(str(tmp_path / "link"), 7, 8)
        chown_tree(str(tmp_path / "real" / "pipe"), 9, 9)
        found = [os.lstat(tmp_path / name).st_uid for name in ("link", "real", "real/deep", "real/pipe")]
        chown_tree(str(tmp_path / "real"), 0, 0)
        return found

    assert mapped(give_and_look, runtime_root=runtime_root) == [0, 7, 7, 9]


def test_files_of_others_are_named(tmp_path: Path, runtime_root: str) -> None:
    with pytest.raises(LaunchError, match="cannot give /etc/hostname to the container's user") as caught:
        mapped(chown_tree, "/etc/hostname", 0, 0, runtime_root=runtime_root)
    assert "other users" in caught.value.hint
