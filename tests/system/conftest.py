"""Every test here runs real containers and must leave nothing behind."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _nothing_left(leak_check: list[object]) -> None:
    """Also for tests that take neither `engine` nor `fresh`."""
