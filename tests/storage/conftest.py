"""What the storage tests share: directories that hold files of mapped ids, and archives made by hand."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.removal import remove_tree
from tests.support.engine import TEMPORARY
from tests.support.mapped import mapped


@pytest.fixture
def area() -> Iterator[Path]:
    """A directory that may fill with files of mapped ids."""
    folder = Path(tempfile.mkdtemp(prefix="st-", dir=TEMPORARY))
    yield folder
    (folder / "run").mkdir(exist_ok=True)
    mapped(remove_tree, str(folder / "work"), runtime_root=str(folder / "run"))
    shutil.rmtree(folder)


@pytest.fixture
def work(area: Path) -> Path:
    """What is below this is removed by root of the user's namespace."""
    path = area / "work"
    path.mkdir()
    return path


@pytest.fixture
def inside(area: Path) -> Callable[..., Any]:
    """`inside(function, *args)`: call it as uid 0 of the user's namespace."""
    (area / "run").mkdir(exist_ok=True)
    return lambda function, *args, **options: mapped(function, *args, runtime_root=str(area / "run"), **options)


@pytest.fixture
def outside(area: Path) -> Iterator[Path]:
    """A directory with a file that nothing may touch."""
    folder = area / "outside"
    folder.mkdir()
    (folder / "victim").write_text("untouched")
    os.utime(folder, (1, 1))
    before = os.stat(folder), os.stat(folder / "victim")
    yield folder
    assert (folder / "victim").read_text() == "untouched"
    assert os.listdir(folder) == ["victim"]
    for held, now in zip(before, (os.stat(folder), os.stat(folder / "victim")), strict=True):
        assert (held.st_mode, held.st_uid, held.st_mtime_ns) == (now.st_mode, now.st_uid, now.st_mtime_ns)
