"""Waiting with a deadline, in place of sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(probe: Callable[[], T], deadline_s: float = 15, what: str = "", interval_s: float = 0.02) -> T:
    """The first true value of `probe()`; AssertionError, with its last value, at the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s} s: {what or probe!r}; last seen: {value!r}")
        time.sleep(interval_s)
