"""Durations as Go writes them (time.Duration.String)."""

from __future__ import annotations

import pytest

from pyctl.cli.output import go_duration


@pytest.mark.parametrize(
    ("nanoseconds", "shown"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_100, "1.1µs"),
        (820_000_000, "820ms"),
        (613_824_579, "613.824579ms"),
        (1_000_000_000, "1s"),
        (3_820_367_935, "3.820367935s"),
        (60_000_000_000, "1m0s"),
        (3_723_500_000_000, "1h2m3.5s"),
        (-2_000_000, "-2ms"),
    ],
)
def test_go_duration(nanoseconds: int, shown: str) -> None:
    assert go_duration(nanoseconds) == shown
