"""Values: immutability, JSON and back, whatever strings they hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyctl.engine.model import ContainerSpec, Limits, Mount
from rootless.values import Value, decode, dumps, loads


class Point(Value):
    x: int
    y: int = 0
    names: tuple[str, ...] = ()
    labels: dict[str, str] = {}


class Line(Value):
    start: Point
    rest: tuple[Point, ...] = ()


texts = st.text(max_size=20)
points = st.builds(
    Point,
    x=st.integers(),
    y=st.integers(),
    names=st.lists(texts, max_size=3).map(tuple),
    labels=st.dictionaries(st.one_of(texts, st.just("@")), st.one_of(texts, st.just("Point")), max_size=4),
)


@given(st.builds(Line, start=points, rest=st.lists(points, max_size=3).map(tuple)))
def test_there_and_back(line: Line) -> None:
    assert decode(dumps(line)) == line


def test_a_label_cannot_pass_for_a_type() -> None:
    spec = ContainerSpec(id="0" * 64, name="c", created_ns=1, labels={"@": "Limits", "memory_bytes": "1"})
    assert decode(dumps(spec)).labels == spec.labels


def test_defaults_are_left_out() -> None:
    assert loads(dumps(Point(x=1))) == {"@": "Point", "x": 1}
    assert decode(dumps(Limits())) == Limits()


def test_immutable() -> None:
    with pytest.raises(AttributeError):
        Point(x=1).x = 2  # type: ignore[misc]


def test_construction() -> None:
    with pytest.raises(TypeError, match="x is missing"):
        Point()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no field z"):
        Point(x=1, z=2)  # type: ignore[call-arg]
    assert Point(x=1).replace(y=3) == Point(x=1, y=3)
    assert Mount(kind="bind", target="/a") != Mount(kind="bind", target="/b")


def test_fields_of_a_newer_version_are_dropped() -> None:
    assert decode('{"@":"Point","x":1,"later":true}') == Point(x=1)


@given(st.text(max_size=40))
def test_no_text_is_worse_than_an_error(text: str) -> None:
    for read in (loads, decode):
        try:
            read(text)
        except (ValueError, TypeError):
            continue
