"""Hundreds of command lines against what Podman 5.4.2 says of them at `create`.

Where the two differ it is on purpose: what Podman accepts and ignores, or lets fail at the start, is refused here;
some that it refuses work here.  Each difference stands in the file, so that a new one shows.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from rootless.errors import Error
from tests.unit.request_support import FACTS, request

SHORT = {"v": "volume", "m": "memory", "p": "publish", "e": "env", "u": "user", "w": "workdir", "net": "network"}
ROWS = [
    line.split(" ", 2)
    for line in (Path(__file__).parent / "test_request_verdicts.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("verdicts")
    (directory / "rel").mkdir()
    return str(directory)


@pytest.mark.parametrize(("podman", "ours", "words"), ROWS, ids=[row[2] for row in ROWS])
def test_verdict(podman: str, ours: str, words: str, here: str) -> None:
    if words.startswith("--tz UTC") and not Path(FACTS.zoneinfo, "UTC").exists():
        pytest.skip("no time zones installed")
    error = None
    try:
        request(*shlex.split(words), facts=FACTS.replace(cwd=here), args=("true",))
    except Error as refused:
        error = refused
    assert (error is None) == (ours == "ok"), f"Podman: {podman}; {error}"
    if error is not None:
        given = [w.partition("=")[0].lstrip("-") for w in shlex.split(words) if w.startswith("-")]
        assert error.exit_code == 125
        assert "no container" in error.message or any(SHORT.get(g, g) in error.message for g in given), error.message
