"""Completion: what is offered, and that the shells' own scripts offer it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pyctl.cli import table
from pyctl.cli.complete import complete
from pyctl.cli.verb_completion import SCRIPTS
from tests.support.terminal import Terminal

TOP = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Names come from the user's own storage: here an empty one."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)


def words(line: str) -> list[str]:
    """The words offered for the last one of the line."""
    return [word for word, _text in complete(line.split(" "))[0]]


def directive(line: str) -> str:
    return complete(line.split(" "))[1]


def test_commands() -> None:
    assert words("ru") == ["run"]
    assert words("container l") == ["list", "logs", "ls"]
    assert words("--root /x volume i") == ["inspect"]
    assert "cleanup" not in words("container ")
    assert set(words("")) == {word for word, _summary in table.listing()}
    assert words("help volume e") == ["exists"]


def test_options() -> None:
    assert words("run --na") == ["--name="]
    assert words("run --log-l") == ["--log-level="]
    assert "--gpus=" not in words("run --")  # refused options are not offered
    assert words("rm a --vol") == ["--volumes"]
    assert words("run busybox --na") == []  # behind the image everything is the container's
    assert directive("run busybox --na") == "command"
    assert words("rm -- --vol") == []


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ps --sort n", ["names"]),
        ("ps --sort=n", ["--sort=names"]),
        ("--log-level d", ["debug"]),
        ("run --cap-add NET_A", ["NET_ADMIN"]),
        ("kill -s HU", ["HUP"]),
        ("kill -aps HU", []),  # no such cluster
        ("completion z", ["zsh"]),
        ("ps -f stat", ["status="]),
        ("run --ulimit nof", ["nofile="]),
    ],
)
def test_values(line: str, offered: list[str]) -> None:
    assert words(line) == offered


def test_what_the_shell_completes() -> None:
    assert directive("run --env-file ") == "file"
    assert directive("run --env-file=/etc/") == "file"
    assert directive("run -v /etc") == "file"
    assert directive("--root ") == "dir"
    assert directive("unshare l") == "command"
    assert directive("import ") == "file"


# --- the shells --------------------------------------------------------------------------------


@pytest.fixture
def shell_env(tmp_path: Path) -> dict[str, str]:
    """An environment in which `pyctl` is the checkout's."""
    program = tmp_path / "bin/pyctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{TOP}" exec "{sys.executable}" -m pyctl "$@"\n')
    program.chmod(0o755)
    (tmp_path / "some-file").touch()
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    return {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "XDG_RUNTIME_DIR": str(runtime),
        "TERM": "dumb",
    }


def shell(name: str, script: str, env: dict[str, str], *args: str) -> str:
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"no {name} here")
    done = subprocess.run(
        [program, "-c", script, name, *args], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    return done.stdout


_BASH = r"""
source <(pyctl completion bash)
COMP_LINE=$1 COMP_POINT=${#1} COMPREPLY=()
_pyctl
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("pyctl ru", "run"),
        ("pyctl ps --sort=n", "names"),  # behind the =, which readline keeps
        ("pyctl ps --sort n", "names"),
        ("pyctl run --env-file=HOME/some", "HOME/some-file"),
        ("pyctl run --pull ", "always\nmissing\nnever\nnewer"),
        ("pyctl --root /tm", "/tmp"),
    ],
)
def test_bash(line: str, offered: str, shell_env: dict[str, str]) -> None:
    home = shell_env["HOME"]
    shown = shell("bash", _BASH, shell_env, line.replace("HOME", home)).rstrip("\n")
    assert shown == offered.replace("HOME", home)


def test_fish(shell_env: dict[str, str]) -> None:
    home = shell_env["HOME"]
    script = f"""
        pyctl completion fish | source
        complete -C "pyctl ps --sort=n"
        complete -C "pyctl run --env-file={home}/some"
    """
    assert shell("fish", script, shell_env).splitlines() == ["--sort=names", f"--env-file={home}/some-file"]


def test_zsh(shell_env: dict[str, str]) -> None:
    zsh = shutil.which("zsh")
    if zsh is None:
        pytest.skip("no zsh here")
    terminal = Terminal([zsh, "-f", "-i"], {**shell_env, "PS1": "> "}, 24, 80, Path("/"))
    try:
        setup = "autoload -Uz compinit && compinit -u && source <(pyctl completion zsh) && print set''up"
        terminal.send(setup.encode() + b"\n")
        terminal.expect(b"setup\r\n")
        terminal.send(b"pyctl unta\t")
        terminal.expect(b"unta")
        terminal.expect(b"g ")
    finally:
        terminal.process.kill()
        terminal.finish()


def test_no_descriptions(shell_env: dict[str, str]) -> None:
    assert "__complete --no-desc" in shell("sh", "pyctl completion --no-desc fish", shell_env)
    assert shell("sh", "pyctl __complete --no-desc ru", shell_env) == "run\n:\n"


def test_the_scripts_for_packages_are_current() -> None:
    for name, shell_name in (("pyctl.bash", "bash"), ("_pyctl", "zsh"), ("pyctl.fish", "fish")):
        assert (TOP / "contrib/completions" / name).read_text() == SCRIPTS[shell_name]
