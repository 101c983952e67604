"""The parser against the rules of pflag and cobra, and the table against itself."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyctl.cli import convert, table
from pyctl.cli.options_global import ROWS as GLOBAL_ROWS
from pyctl.cli.parser import HelpAsked, Parsed, VersionAsked, parse, split_csv
from rootless.errors import UsageError

TOP = Path(__file__).parents[2]
EVERY_PATH = sorted({*table.HOMES, *table.ALIASES})


def of(line: str | list[str]) -> Parsed:
    return parse(line.split() if isinstance(line, str) else line)


def refusal(line: str | list[str]) -> UsageError:
    with pytest.raises(UsageError) as raised:
        of(line)
    assert raised.value.exit_code == 125
    return raised.value


@pytest.mark.parametrize(
    "words",
    [
        ["-e", "A=b"],
        ["-eA=b"],
        ["-e=A=b"],
        ["--env", "A=b"],
        ["--env=A=b"],
        ["-ite", "A=b"],
        ["-iteA=b"],
    ],
)
def test_ways_to_write_a_value(words: list[str]) -> None:
    parsed = of(["run", *words, "image"])
    assert parsed.options.env == ("A=b",)
    assert parsed.args == ("image",)


def test_clusters_and_flags() -> None:
    options = of("run -it --rm=false --read-only-tmpfs=0 image").options
    assert (options.interactive, options.tty, options.rm, options.read_only_tmpfs) == (True, True, False, False)
    assert options.given("rm")
    assert not options.given("read_only")
    assert of("run -t=false image").options.tty is False


def test_a_flag_never_takes_the_next_word() -> None:
    parsed = of("run --rm true false")
    assert parsed.options.rm is True
    assert parsed.args == ("true", "false")


def test_run_stops_at_the_image() -> None:
    parsed = of("run -i busybox ls -l --env X -- y")
    assert parsed.args == ("busybox", "ls", "-l", "--env", "X", "--", "y")
    assert parsed.options.env == ()
    assert of("run -i -- -odd --rm").args == ("-odd", "--rm")


def test_others_take_options_behind_arguments() -> None:
    parsed = of("rm a -f b -- -c")
    assert parsed.args == ("a", "b", "-c")
    assert parsed.options.force is True


def test_the_last_one_wins_and_lists_add_up() -> None:
    options = of("run --name a --name b -e A -e B --dns 1.1.1.1,8.8.8.8 --dns 9.9.9.9 image").options
    assert options.name == "b"
    assert options.env == ("A", "B")
    assert options.dns == ("1.1.1.1", "8.8.8.8", "9.9.9.9")


def test_values_are_typed() -> None:
    line = "run -m 1.5g --cpus 0.5 --pids-limit -1 --stop-timeout 0x10 --health-interval 1m30s --memory-swap -1 image"
    options = of(line).options
    assert options.memory == 3 << 29
    assert options.cpus == 0.5
    assert options.pids_limit == -1
    assert options.stop_timeout == 16
    assert options.health_interval == 90_000_000_000
    assert options.memory_swap == -1
    assert of("run --health-interval disable image").options.health_interval == -1


def test_defaults_and_unknown_fields() -> None:
    options = of("run image").options
    assert (options.image_volume, options.stop_timeout, options.sig_proxy) == ("anonymous", 10, True)
    assert options.get("no_such", 7) == 7
    with pytest.raises(AttributeError):
        options.no_such  # noqa: B018
    with pytest.raises(AttributeError):
        options.name = "x"


def test_options_of_pyctl_itself_stand_anywhere() -> None:
    for line in ("--root /x ps -a", "ps --root /x -a", "ps -a --root=/x"):
        parsed = of(line)
        assert parsed.globals.root == "/x"
        assert parsed.globals.given("root")
        assert parsed.options.all is True
    assert of("--log-level debug container --root=/x ls").path == "container ls"


def test_a_commands_own_short_name_comes_first() -> None:
    assert of("run -c 512 -h box image").options.cpu_shares == 512
    assert "connection" in refusal("-c x ps").message


def test_second_names() -> None:
    assert of("run --net none image").options.network == ("none",)
    assert of("stop --timeout 3 x").options.time == 3
    assert of("run --healthcheck-command true image").options.health_cmd == "true"


def test_empty_values_are_values() -> None:
    options = of(["run", "--entrypoint", "", "--detach-keys=", "image"]).options
    assert options.given("entrypoint")
    assert options.entrypoint == ""
    assert options.detach_keys == ""


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("run", "IMAGE is missing", "usage: pyctl run"),
        ("run --memroy 1 x", "unknown option --memroy", "did you mean --memory?"),
        ("run -Z x", "unknown option -Z", "pyctl run --help"),
        ("run -itZ x", "unknown option -Z in -itZ", "pyctl run --help"),
        ("run -name x y", "unknown option -n in -name", "did you mean --name?"),
        ("run -e", "-e needs a value: -e NAME[=VALUE]", "pyctl run --help"),
        ("run --memory", "--memory needs a value: --memory SIZE", ""),
        ("run --rm=maybe x", 'invalid value "maybe" for --rm: not true or false', ""),
        ("run --cpus abc x", 'invalid value "abc" for --cpus: not a number', ""),
        ("run -m 1x x", 'invalid value "1x" for -m, --memory: not a size', ""),
        ("run --stop-timeout -1 x", "not a whole number from 0 on", ""),
        ("run --health-timeout 5 x", "no unit", ""),
        ("run --pull sometimes x", "one of always, missing, never, newer", ""),
        ("ps extra", "pyctl ps takes no arguments: extra", ""),
        ("tag a", "NAME is missing", ""),
        ("image exists a b", "takes at most 1 argument: b", ""),
        ("ru", "there is no command pyctl ru", "did you mean"),
        ("container lst", "there is no command pyctl container lst", "did you mean"),
        ("container", "pyctl container needs a command", ""),
        ("--root=/x", "a command is missing", ""),
        ("machine init", "pyctl machine is not available: pyctl runs on Linux directly", ""),
        ("--log-level loud ps", "one of trace, debug", ""),
    ],
)
def test_mistakes(line: str, message: str, hint: str) -> None:
    error = refusal(line)
    assert message in error.message
    assert "\n" not in error.message
    assert hint in error.hint


def test_refused_options_are_refused_by_name_and_with_the_reason() -> None:
    error = refusal("run --gpus all image")
    assert error.message.startswith("--gpus=all is not available: ")
    assert "CDI" in error.message
    assert refusal("run --rmi image").message.startswith("--rmi is not available: ")
    # What a refused option may be set to is what happens anyway.
    assert of("run --systemd=false image").options.systemd == "false"
    assert "systemd" in refusal("run --systemd=always image").message
    assert of("pull --disable-content-trust image").path == "pull"
    assert "content trust" in refusal("pull --disable-content-trust=false image").message


@pytest.mark.parametrize("path", EVERY_PATH)
def test_every_refused_option_is_refused(path: str) -> None:
    for row in table.find(path).rows:
        if row.refused and not row.choices:
            text = {"uint": "1", "int": "1", "uints": "1", "bytes": "1", "bool": "true"}.get(row.kind, "x")
            assert f"--{row.name}" in refusal([*path.split(), f"--{row.name}={text}"]).message


def test_help_and_version() -> None:
    for words, path in (([], ""), (["--help"], ""), (["ps", "-h"], "ps"), (["run", "--help"], "run")):
        with pytest.raises(HelpAsked) as asked:
            parse(words)
        assert asked.value.path == path
    assert of("run -h name image").options.hostname == "name"
    for words in (["--version"], ["-v"]):
        with pytest.raises(VersionAsked):
            parse(words)


def test_csv() -> None:
    assert split_csv('a,"b,c",d') == ["a", "b,c", "d"]
    assert split_csv('"say ""hi"""') == ['say "hi"']
    assert split_csv("") == []
    assert split_csv("a,,b") == ["a", "", "b"]
    for wrong in ('"a', 'a"b', '"a"b'):
        with pytest.raises(ValueError, match="quotation"):
            split_csv(wrong)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("0", 0), ("1s", 10**9), ("1h30m", 5400 * 10**9), ("1.5s", 15 * 10**8), ("-2ms", -2 * 10**6), ("3µs", 3000)],
)
def test_durations(text: str, nanoseconds: int) -> None:
    assert convert.parse_duration_ns(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "5", "1 s", "s", "1.s.", "--1s", "1e3s", "9999999h", "1S", "²s"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|unit|range"):
        convert.parse_duration_ns(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("1k", 1024),
        ("1KB", 1024),
        ("1KiB", 1024),
        ("1.5g", 3 << 29),
        ("10 mb", 10 << 20),
        ("7b", 7),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert convert.parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "k", "-1", "1x", "1kk", "0x10", "1e3", "9999999p", "1ib", " 1"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match=r"size|range"):
        convert.parse_bytes(text)


@given(st.text())
def test_converters_only_raise_value_errors(text: str) -> None:
    for function in (
        convert.parse_int,
        convert.parse_uint,
        convert.parse_float,
        convert.parse_duration_ns,
        convert.parse_bytes,
        convert.parse_bytes_decimal,
        split_csv,
    ):
        try:
            function(text)
        except ValueError:
            pass


@given(
    st.lists(
        st.one_of(st.sampled_from(["run", "ps", "-it", "--", "-e", "--env=A", "--", "-", "", "--=", "-=x"]), st.text())
    )
)
def test_the_parser_only_raises_its_own_errors(words: list[str]) -> None:
    try:
        parse(words)
    except (UsageError, HelpAsked, VersionAsked):
        pass


# --- the table ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EVERY_PATH)
def test_rows_are_sound(path: str) -> None:
    command = table.find(path)
    names = [row.name for row in command.rows] + [other for row in command.rows for other in row.also]
    assert len(names) == len(set(names))
    shorts = [row.short for row in command.rows if row.short]
    assert len(shorts) == len(set(shorts))
    assert len({row.field for row in command.rows}) == len(command.rows)
    assert command.summary
    assert not command.summary.endswith(".")
    assert path == command.path or path in command.aliases
    module, _, function = command.run.partition(":")
    assert module.startswith("pyctl.cli.")
    assert function.isidentifier()
    for row in command.rows:
        assert bool(row.help) != bool(row.refused), f"{path} --{row.name}: help or a reason, not both"
        assert not row.help.endswith("."), row.help
        if row.choices and not row.refused and row.kind == "string":
            assert row.default == "" or row.default in row.choices


def test_aliases_lead_to_commands() -> None:
    for alias, path in table.ALIASES.items():
        assert alias not in table.HOMES
        assert alias in table.find(path).aliases or alias.startswith(("image ", "container ", "volume ", "system "))
    for path in table.HOMES:
        for alias in table.find(path).aliases:
            assert table.ALIASES[alias] == path


def test_global_rows_are_sound() -> None:
    assert len({row.name for row in GLOBAL_ROWS}) == len(GLOBAL_ROWS)
    assert all(bool(row.help) != bool(row.refused) for row in GLOBAL_ROWS)


def podman_reference() -> dict[str, list[str]]:
    """Podman's commands ("" for its global options) with their options, as the file beside this one writes them."""
    lines = (Path(__file__).parent / "podman_options.txt").read_text().splitlines()
    joined = "\n".join(line for line in lines if not line.startswith("#")).replace("\n    ", " ")
    pairs = (line.partition(": ") for line in joined.splitlines() if line)
    return {"" if path == "-" else path: options.split() for path, _, options in pairs}


def test_every_option_of_podman_has_a_row() -> None:
    missing = []
    for path, known in podman_reference().items():
        if path and path not in table.HOMES and path not in table.ALIASES:
            continue
        rows = {row.name: row for row in (table.find(path).rows if path else GLOBAL_ROWS)}
        for option in known:
            name, _, short = option.rstrip("!").partition("/")
            row = rows.get(name)
            if row is None:
                missing.append(f"{path} --{name}")
            elif (row.kind in table.FLAG_KINDS) != option.endswith("!") or row.short != short:
                missing.append(f"{path} --{name}: another kind or short name")
    assert not missing


def test_a_run_line_loads_the_rows_of_run_only() -> None:
    script = (
        "import sys; from pyctl.cli.parser import parse; parse(['run', '--rm', '-m', '1g', 'x']); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(TOP)!r}); {script}"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    loaded = set(done.stdout.split())
    assert {m for m in loaded if m.startswith("pyctl.cli.options_")} == {
        "pyctl.cli.options_create",
        "pyctl.cli.options_limits",
        "pyctl.cli.options_global",
    }
    assert not loaded & {"re", "typing", "enum", "dataclasses", "collections", "functools", "difflib", "typer"}


def words_in_the_source() -> set[str]:
    """Every attribute and every string literal in pyctl's own code, the rows left out."""
    found: set[str] = set()
    for path in (TOP / "pyctl").rglob("*.py"):
        if path.name.startswith("options_") or path.name in ("table.py", "unavailable.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def test_no_option_is_accepted_and_ignored() -> None:
    """A row that is not refused fills a field that some code reads: necessary, while tests of each show the rest."""
    known = words_in_the_source()
    ignored = {
        f"{path} --{row.name}"
        for path in table.HOMES
        for row in table.find(path).rows
        if row.field not in known and not row.refused
    }
    ignored |= {f"--{row.name}" for row in GLOBAL_ROWS if row.field not in known and not row.refused}
    assert ignored == set()


def test_every_command_has_its_function() -> None:
    for path in table.HOMES:
        module, _, function = table.find(path).run.partition(":")
        assert callable(getattr(importlib.import_module(module), function)), path
