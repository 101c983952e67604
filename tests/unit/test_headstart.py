"""Which command lines start a supervisor before they are read, and what becomes of one that nobody takes."""

from __future__ import annotations

import os

import pytest

from pyctl.cli.options_global import ROWS
from pyctl.cli.table import BOOL
from rootless import headstart


def started(*words: str) -> bool:
    """Whether a command line starts one, which is ended then."""
    headstart.begin(words)
    waiting = headstart._waiting
    headstart.drop()
    assert headstart._waiting is None
    if waiting is None:
        return False
    with pytest.raises(ChildProcessError):
        os.waitpid(waiting[1], os.WNOHANG)
    return True


@pytest.mark.parametrize(
    "line",
    ["run busybox", "--root /x run busybox", "--root=/x --log-level debug run", "start c", "--remote=false start -a c"],
)
def test_lines_that_need_one(line: str) -> None:
    assert started(*line.split())


@pytest.mark.parametrize("line", ["", "ps", "exec run true", "--root run ps", "--version", "rm run", "logs start"])
def test_lines_that_do_not(line: str) -> None:
    assert not started(*line.split())


def test_options_with_a_value_are_known() -> None:
    # Those that are refused whatever their value is end the command anyway.
    taken = {f"--{row.name}" for row in ROWS if row.kind != BOOL and (row.choices or not row.refused)}
    assert taken == headstart.VALUED


def test_the_one_that_was_started_is_taken() -> None:
    headstart.begin(["run"])
    waiting = headstart._waiting
    assert waiting is not None
    assert headstart.take() == waiting
    os.close(waiting[0])
    os.waitpid(waiting[1], 0)
    fd, pid = headstart.take()
    assert pid != waiting[1], "another one, where none waits"
    os.close(fd)
    os.waitpid(pid, 0)
