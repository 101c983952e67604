"""Unit files are read as systemd.syntax(7) says, and words are quoted so that systemd reads them back."""

from __future__ import annotations

import pytest

from pyctl.units import syntax
from pyctl.units.specifiers import expand

DOCUMENTED = b"""\
[Section A]
KeyOne=value 1
KeyTwo=value 2

# a comment

[Section B]
Setting="something" "some thing" "\xe2\x80\xa6"
KeyTwo=value 2 \\
       value 2 continued

[Section C]
KeyThree=value 3\\
# this line is ignored
; this line is ignored too
       value 3 continued
"""


def entries(text: bytes) -> list[tuple[str, str, str, int]]:
    unit, problems = syntax.parse(text, "/f")
    assert not problems
    return [(section.name, e.key, e.value, e.line) for section in unit.sections for e in section.entries]


def wrong(text: bytes) -> list[str]:
    return [problem.shown() for problem in syntax.parse(text, "/f")[1]]


def test_the_examples_of_the_manual() -> None:
    assert entries(DOCUMENTED) == [
        ("Section A", "KeyOne", "value 1", 2),
        ("Section A", "KeyTwo", "value 2", 3),
        ("Section B", "Setting", '"something" "some thing" "…"', 8),
        ("Section B", "KeyTwo", "value 2  value 2 continued", 9),
        ("Section C", "KeyThree", "value 3 value 3 continued", 13),
    ]
    assert syntax.words('"something" "some thing" "…"') == ["something", "some thing", "…"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"[A]\nK=v", "v"),
        (b"[A]\r\n  K = v \r\n", "v"),
        (b"\xef\xbb\xbf[A]\nK=v\n", "v"),
        (b"[A]\nK=a=b\n", "a=b"),
        (b"[A]\nK=\n", ""),
        (b"[A]\nK=a \\\n\nL=b\n", "a"),
        (b"[A]\nK=a\\\\\n", "a\\\\"),  # an escaped backslash continues nothing
        (b"[A]\nK=a\\\\\\\nb\n", "a\\\\ b"),
        (b"[A]\nK=a\\", "a"),
        (b"[A]\nK=a # no comment\n", "a # no comment"),
    ],
)
def test_one_value(text: bytes, value: str) -> None:
    assert entries(text)[0][:3] == ("A", "K", value)


def test_mistakes_have_their_lines_and_cost_only_these() -> None:
    text = b"K=v\n[A]\nnothing\n[B\nK=v\n=v\nL=\xff\nM=a\0b\nN=v\n"
    assert wrong(text) == [
        "/f:7: not valid UTF-8",
        "/f:8: holds a NUL character",
        "/f:1: K= stands before the first section",
        "/f:3: neither a section, nor KEY=VALUE, nor a comment: nothing",
        "/f:4: not a section's header: [B",
        "/f:6: neither a section, nor KEY=VALUE, nor a comment: =v",
    ]
    unit, _ = syntax.parse(text, "/f")
    assert [(e.key, e.line) for e in unit.entries("A")] == [("K", 5), ("N", 9)]
    assert wrong(b"x" * (syntax.MOST_BYTES + 1)) == [f"/f: longer than {syntax.MOST_BYTES} bytes: not a unit file"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a  b\tc", ["a", "b", "c"]),
        ("'a b' \"c d\"", ["a b", "c d"]),
        ("a=\"b c\"'d e'", ["a=b cd e"]),
        ("'a\"b' \"c'd\"", ['a"b', "c'd"]),
        ('"" a', ["", "a"]),
        (r"a\x20b \u2026 \101 \n\t\s", ["a b", "…", "A", "\n\t "]),
        (r'"a \"b\" \\ c"', ['a "b" \\ c']),
        (r"\d \x2 \9", [r"\d", r"\x2", r"\9"]),
        ("", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert syntax.words(text) == words


@pytest.mark.parametrize("text", ['"a', "a 'b c", r"\x00", r"\000", r"\ud800", r"\UFFFFFFFF", r"\777"])
def test_words_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"not closed|no character"):
        syntax.words(text)


@pytest.mark.parametrize(
    "word", ["a", "", "a b", ";", "a;b", '"', "'", "\\", "a\nb", "\t", "\x01", "\x7f", "\x85", "…", "-x", "a\\x20", " "]
)
def test_what_is_quoted_is_read_back(word: str) -> None:
    quoted = syntax.quote(word)
    assert syntax.words(f"x {quoted} y") == ["x", word, "y"]
    assert quoted != ";"
    assert "\n" not in quoted


def test_booleans_and_quotes_around_a_value() -> None:
    assert [syntax.boolean(t) for t in ("yes", "On", "1", "TRUE", "no", "off", "0", "f")] == [True] * 4 + [False] * 4
    with pytest.raises(ValueError, match="yes or no"):
        syntax.boolean("perhaps")
    assert syntax.unquoted('"a b"') == "a b"
    assert syntax.unquoted('"a" "b"') == '"a" "b"'
    assert syntax.unquoted('a "b"') == 'a "b"'
    assert syntax.literal("50% of $HOME") == "50%% of $$HOME"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("%h/x", "/home/me/x"),
        ("%t-%U-%u", "/run/user/1500-1500-me"),
        ("%n %N %p %i", "web@one.service web@one web one"),
        ("100%% $$X", "100% $X"),
        ("%! %", "%! %"),
        ("a$b", "a$b"),
        ("%m", None),
        ("$HOME", None),
        ("x${HOME}", None),
    ],
)
def test_specifiers(text: str, value: str | None) -> None:
    environ = {"HOME": "/home/me", "USER": "me", "XDG_RUNTIME_DIR": "/run/user/1500"}
    assert expand(text, "web@one.service", environ, 1500) == value
