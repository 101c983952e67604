"""2,000 malformed or random unit files: `verify` never crashes, and never writes anything."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from pyctl.cli import verb_quadlet
from pyctl.units import keys, syntax
from pyctl.units.search import KINDS
from pyctl.units.world import make, world_of
from tests.support.units import FACTS

_KEYS = sorted({key for kind in keys.KINDS.values() for key in kind.rows} | {"Type", "WantedBy", "Alias", "Nope", ""})
_SECTIONS = [*(kind.capitalize() for kind in KINDS), "Unit", "Service", "Install", "Quadlet", "X-Mine", "Nope", ""]
_PIECES = [
    "x.org/a", "y.volume:/x", "y.image", "y.network", "y.pod", "w.container", "%h/x", "%", "%%", "${X}", "$X", "a=b",
    '"', "'", '\\', '\\x00', '\\x41', '\\ud800', "/", ".", "./x:/y", "..", "-1", "0", "99999999999999999999", "64m",
    "true", "no", "--help", "--version", "-it", "--", "-", "--memory", "--root=/nowhere", "type=bind,src=./x,dst=/y",
    "type=volume,source=y.volume", ",", ":", "80:80", "1-70000", "keep-id", "auto", "container:x", "healthy",
    "oneshot", "default.target", "\t", " ", "\u2028", "\xe9", "\U0001f600", "\x7f", "\x85", "[", "]", "#", ";",
    '["a"', "{}",
]  # fmt: skip
_values = st.lists(st.one_of(st.sampled_from(_PIECES), st.text(max_size=6)), max_size=4).map("".join)
_lines = st.one_of(
    st.builds("[{}]".format, st.sampled_from(_SECTIONS)),
    st.builds("{}={}".format, st.sampled_from(_KEYS), _values),
    st.builds("{}={} \\".format, st.sampled_from(_KEYS), _values),
    _values,
)


@st.composite
def _files(draw: st.DrawFn) -> tuple[str, bytes]:
    """(kind, content): nearly right, or any bytes."""
    kind = draw(st.sampled_from(KINDS))
    if draw(st.integers(0, 9)) == 0:
        return kind, draw(st.binary(max_size=200))
    head = f"[{kind.capitalize()}]\n" if draw(st.integers(0, 9)) else ""
    usual = draw(st.sampled_from(["", "Image=x.org/a\n", "Yaml=x\n", "ImageTag=x\nFile=x\n"]))
    own = st.builds("{}={}".format, st.sampled_from(sorted(keys.KINDS[kind].rows)), _values)
    body = draw(st.lists(st.one_of(own, _lines), max_size=8))
    return kind, (head + usual + "\n".join(body)).encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as path:
        (Path(path) / "y.volume").write_text("[Volume]\n")
        (Path(path) / "y.image").write_text("[Image]\nImage=x.org/b\n")
        yield Path(path)


def _tree(folder: Path) -> list[tuple[str, int, int]]:
    return sorted((str(p), p.lstat().st_mtime_ns, p.lstat().st_size) for p in folder.rglob("*"))


@hypothesis.settings(max_examples=2000, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(_files(), st.sampled_from(["w", "w@", "w@i", "a-b"]))
def test_any_file_is_judged_and_nothing_is_written(folder: Path, file: tuple[str, bytes], stem: str) -> None:
    kind, content = file
    path = folder / f"{stem}.{kind}"
    path.write_bytes(content)
    before, here = _tree(folder), os.listdir(".")
    try:
        world, _ = world_of([str(folder)], ["/usr/bin/pyctl"])
        with contextlib.redirect_stderr(io.StringIO()) as told:
            made = make([path.name], world, FACTS)
            verb_quadlet.tell([problem for service in made for problem in service.problems])
        assert told.getvalue().replace("\n", "").isprintable()
        assert _tree(folder) == before
        assert os.listdir(".") == here
        for service in made:
            assert service.is_good == all(problem.warning for problem in service.problems)
            for problem in service.problems:
                assert problem.path
                assert "\n" not in problem.shown().replace("\\n", "")
            # whatever is said of it, the text is a unit file: each line stays what it was meant to be
            unit, wrong = syntax.parse(service.text.encode("utf-8", "surrogatepass"), "/s")
            assert not wrong
            assert unit.has("Service")
    finally:
        path.unlink()


@hypothesis.settings(max_examples=500)
@hypothesis.given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))))
def test_quoted_words_are_read_back(words: list[str]) -> None:
    line = " ".join(syntax.quote(word) for word in words)
    unit, wrong = syntax.parse(f"[S]\nK=x {line}\n".encode(), "/f")
    assert not wrong
    assert syntax.words(unit.entries("S")[0].value) == ["x", *words]
