"""Faults on purpose: programs that fail, hang or die, limits that are too low, places that cannot be written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.engine import IS_PODMAN, Engine


@pytest.fixture(autouse=True)
def _nothing_left(leak_check: list[object]) -> None:
    if IS_PODMAN:
        pytest.skip("about pyctl's helpers")


@pytest.fixture
def fake(engine: Engine, tmp_path: Path) -> Callable[..., dict[str, str | None]]:
    """fake(name, script): an environment in which the program `name` is this shell script; REAL is the true one."""

    def make(name: str, script: str) -> dict[str, str | None]:
        folder = tmp_path / "fakes"
        folder.mkdir(exist_ok=True)
        real = next(p for d in ("/usr/bin", "/usr/sbin") if (p := Path(d, name)).exists())
        program = folder / name
        # Facts such as the version are asked before: only the real work fails.
        program.write_text(
            f'#!/bin/sh\nREAL={real}\ncase "$*" in *--version*|*--help*) exec $REAL "$@";; esac\n{script}\n'
        )
        program.chmod(0o755)
        return {"PATH": f"{folder}:{engine.env['PATH']}"}

    return make
