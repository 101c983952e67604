"""A short run of every target: its seeds, changed at random; `python -m tests.fuzz TARGET SECONDS` goes on for long."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, Target, attempt

# What parsers of such formats stumble over: NUL, quotes, borders of numbers, half a surrogate, depth.
_TOKENS = [
    *(b"\0", b'"', b"\\", b"\n", b"=", b"/", b"..", b":", b"@", b"-1", b"1e9", b"null", b"[]", b"{}", b"true"),
    *(b"9" * 30, b"\xff", b"\xed\xa0\x80", b"\\ud800", b"[" * 50, b"sha256:", b"\x80" + bytes(11)),
]


@st.composite
def changed(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed with a few places replaced, cut out, repeated, or filled with something odd."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(data)))
        how = draw(st.sampled_from("ritcd"))
        if how == "r":
            data[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif how == "i":
            data[at:at] = draw(st.binary(max_size=20))
        elif how == "t":
            token = draw(st.sampled_from(_TOKENS))
            data[at : at + draw(st.integers(0, len(token)))] = token
        elif how == "c":
            del data[at : at + draw(st.integers(1, 600))]
        else:
            data[at:at] = data[at : at + draw(st.integers(1, 600))]
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_valid(name: str) -> None:
    for seed in TARGETS[name].seeds:
        TARGETS[name].run(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_short_run(name: str) -> None:
    target = TARGETS[name]

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(changed(target.seeds))
    def run(data: bytes) -> None:
        attempt(target, data)

    run()


def test_a_finding_is_one() -> None:
    """The harness itself: what is no Error of one line ends it."""

    def raises(error: Exception) -> Target:
        def run(_data: bytes) -> None:
            raise error

        return Target(run, [])

    from rootless.errors import Error

    attempt(raises(Error("one line")), b"")
    for error in (Error("two\nlines"), Error(""), KeyError("x"), RecursionError()):
        with pytest.raises((AssertionError, KeyError, RecursionError)):
            attempt(raises(error), b"")
