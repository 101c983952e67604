"""Help, man pages and versions: everything that is generated from the table."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from pyctl.cli import help as help_
from pyctl.cli import table
from pyctl.cli.verb_version import VERSION
from pyctl.cli.yaml import to_yaml
from rootless.errors import UsageError

TOP = Path(__file__).parents[2]
EVERY_PATH = ["", *table.GROUPS, *sorted({*table.HOMES, *table.ALIASES})]


def shown(path: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert help_.show(path) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("path", EVERY_PATH)
def test_every_command_has_help(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(path, capsys)
    assert text.startswith(f"Usage: {f'pyctl {path}'.rstrip()} ")
    assert max(len(line) for line in text.splitlines()) <= 120
    assert "\ue000" not in text
    if path in table.HOMES or path in table.ALIASES:
        listed = set(re.findall(r"^ +(?:-\w, )?--([a-z0-9-]+)", text, re.MULTILINE))
        rows = table.find(path).rows
        assert listed == {row.name for row in rows if not row.refused}


def test_the_groups_list_their_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for group in ("", *table.GROUPS):
        listed = re.findall(r"^  ([a-z-]+)  ", shown(group, capsys).split("Commands:")[1], re.MULTILINE)
        assert [word for word, _summary in table.listing(group)] == listed[: len(table.listing(group))]


def test_unknown_commands_have_no_help() -> None:
    with pytest.raises(UsageError, match="there is no command pyctl nope"):
        help_.show("nope")


def test_options_are_not_broken_at_their_hyphens(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text = shown("run", capsys)
    assert not re.search(r"[a-z]-\n", text)
    assert max(len(line) for line in text.splitlines()) < 120


# --- man pages -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", TOP / "contrib/man/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_man_pages(generator: ModuleType) -> None:
    pages = generator.pages()
    assert set(pages) == {"pyctl.1"} | {
        f"pyctl-{path.replace(' ', '-')}.1" for path in table.HOMES if not table.find(path).hidden
    }
    groff = shutil.which("groff")
    for name, text in pages.items():
        assert text.isascii(), name
        assert text.startswith(".TH ")
        if groff:
            done = subprocess.run([groff, "-man", "-ww", "-z"], input=text, capture_output=True, text=True, check=True)
            assert done.stderr == "", name


def test_no_text_is_a_request_of_roff(generator: ModuleType) -> None:
    assert generator.escape(".so /etc/passwd") == "\\&.so /etc/passwd"
    assert generator.escape("a-b\\c\n'x") == "a\\-b\\ec\n\\&'x"


# --- small things --------------------------------------------------------------------------------


def test_the_version_is_the_packages() -> None:
    with (TOP / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["project"]["version"] == VERSION


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": 1, "b": {"c": [], "d": {}}}, "a: 1\nb:\n  c: []\n  d: {}\n"),
        ({"a": [1, "x", {"k": "v", "l": 2}]}, "a:\n- 1\n- x\n- k: v\n  l: 2\n"),
        ({"a": None, "b": True, "c": 1.5}, "a: null\nb: true\nc: 1.5\n"),
        ({"a": "two\nlines"}, "a: |-\n  two\n  lines\n"),
        ({"a": "two\nlines\n"}, "a: |\n  two\n  lines\n"),
        ("plain text", "plain text\n"),
        ("/a/path", "/a/path\n"),
        ("6.18.44-generic", "6.18.44-generic\n"),
    ],
)
def test_yaml(value: object, text: str) -> None:
    assert to_yaml(value) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12",
        "1.5",
        "0x1f",
        "2024-01-02",
        "true",
        "No",
        "null",
        "~",
        "a: b",
        "a #b",
        "- a",
        "[a",
        "a:",
        " a",
        "a ",
        "\x01",
    ],
)
def test_yaml_quotes_what_could_be_read_as_something_else(text: str) -> None:
    assert to_yaml(text).startswith('"')
