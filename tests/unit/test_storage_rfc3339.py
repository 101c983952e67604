"""Times against datetime."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.rfc3339 import format_local_ns, format_ns, parse_ns

TIMES = st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2200, 1, 1), timezones=st.timezones())


@given(TIMES.filter(lambda t: t.utcoffset().total_seconds() % 60 == 0))  # type: ignore[union-attr]
def test_agrees_with_datetime(when: datetime.datetime) -> None:
    expected = (when - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(microseconds=1) * 1000
    assert parse_ns(when.isoformat()) == expected
    assert parse_ns(format_ns(expected)) == expected
    assert parse_ns(format_local_ns(expected)) == expected


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2024-13-01T00:00:00Z", "2024-01-01T25:00:00Z", "2024-01-01T00:00:00"]
)
def test_what_is_no_time_is_zero(text: str) -> None:
    assert parse_ns(text) == 0


def test_nanoseconds() -> None:
    assert format_ns(parse_ns("2026-11-23T17:59:41.065285286Z")) == "2026-11-23T17:59:41.065285286Z"
    assert format_ns(0) == "1970-01-01T00:00:00Z"
    assert parse_ns("2024-01-02T03:04:05.5+01:00") == parse_ns("2024-01-02T02:04:05.5Z")
