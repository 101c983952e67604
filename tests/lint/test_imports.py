"""Who may import whom, and what the commands on the hot path load."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import COMMAND, IS_PODMAN, TOP, Engine
from tests.support.processes import descendants

# pyctl → storage, network → rootless
ALLOWED = {
    "rootless": {"rootless"},
    "storage": {"storage", "rootless"},
    "network": {"network", "rootless"},
    "pyctl": {"pyctl", "storage", "network", "rootless"},
}
OWN = set(ALLOWED)

# Each of these costs more than the whole of what a hot command does before the container runs.
HEAVY = {
    "typer", "rich", "click", "pyroute2", "urllib3", "http", "ssl", "asyncio", "pydantic", "cffi", "tomli", "tomllib",
    "argparse", "logging", "subprocess", "tempfile", "json", "re", "dataclasses", "typing", "pathlib", "sqlite3",
    "socket", "datetime", "shutil", "inspect", "ctypes", "zstandard", "isal",
}  # fmt: skip


def modules() -> Iterator[Path]:
    for package in OWN:
        yield from (TOP / package).rglob("*.py")


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute module name) of each import, wherever in the file it stands."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield node.lineno, node.module or ""


def test_direction() -> None:
    wrong = []
    for path in modules():
        package = path.relative_to(TOP).parts[0]
        for line, name in imported(path):
            top = name.split(".")[0]
            if top in OWN and top not in ALLOWED[package]:
                wrong.append(f"{path.relative_to(TOP)}:{line} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_rootless_needs_the_standard_library_only() -> None:
    wrong = []
    for path in (TOP / "rootless").rglob("*.py"):
        if path.name == "_syscalls_build.py":
            continue
        for line, name in imported(path):
            top = name.split(".")[0]
            if top not in sys.stdlib_module_names and top not in OWN | {"_cffi_backend"}:
                wrong.append(f"{path.name}:{line} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_pyroute2_is_in_a_process_of_its_own() -> None:
    users = {
        str(path.relative_to(TOP))
        for path in modules()
        for _, name in imported(path)
        if name.split(".")[0] == "pyroute2"
    }
    assert users == {"network/firewall_rules.py"}


def loaded(engine: Engine, *args: str, status: int | None = 0) -> set[str]:
    """The modules that one command loads, as -X importtime lists them."""
    interpreter, script = COMMAND[0], COMMAND[1:]
    process = subprocess.run(
        [interpreter, "-X", "importtime", *script, *args],
        env=engine.environment(None),
        cwd=engine.home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if status is not None:
        assert process.returncode == status, process.stderr[-2000:]
    return set(re.findall(r"^import time:\s*\d+ \|\s*\d+ \|\s*(\S+)$", process.stderr, re.M))


@pytest.fixture(scope="module")
def at_start(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What the interpreter's own start loads here (site, .pth files of the environment)."""
    process = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "pass"], capture_output=True, text=True, check=True
    )
    return set(re.findall(r"^import time:\s*\d+ \|\s*\d+ \|\s*(\S+)$", process.stderr, re.M))


HOT = {
    "run": ["run", "--rm", "--network=none", "busybox", "true"],
    "run with a network and a port": ["run", "--rm", "--network=slirp4netns", "-p", "80", "busybox", "true"],
    "run on a bridge": ["run", "--rm", "--network=podman", "-p", "80", "busybox", "true"],
    "run detached": ["run", "-d", "--name", "second", "-v", "vol:/v", "--tmpfs", "/t", "busybox", "sleep", "100"],
    "exec": ["exec", "c", "true"],
    "ps": ["ps", "-a"],
    "ps json": ["ps", "-a", "--format", "json"],
    "inspect": ["inspect", "c"],
    "logs": ["logs", "c"],
    "version": ["version"],
    "kill": ["kill", "-s", "CONT", "c"],
    "stop": ["stop", "-t", "0", "c"],
    "start": ["start", "c"],
    "rm": ["rm", "-f", "-t", "0", "c"],
}


@pytest.mark.skipif(IS_PODMAN, reason="about pyctl")
@pytest.mark.parametrize("name", HOT)
def test_hot_path(name: str, engine: Engine, at_start: set[str]) -> None:
    engine("run", "-d", "--name", "c", "busybox", "sleep", "1000")
    used = {module.split(".")[0] for module in loaded(engine, *HOT[name]) - at_start}
    assert not used & HEAVY, f"{name} loads {sorted(used & HEAVY)}"


@pytest.mark.skipif(IS_PODMAN, reason="about pyctl")
@pytest.mark.parametrize(
    ("entry", "packages"), [("rootless.supervisor", {"rootless"}), ("network.holder", {"network", "rootless"})]
)
def test_what_stays_in_memory(entry: str, packages: set[str]) -> None:
    """The supervisor and the network process: own modules and light parts of the standard library."""
    import _cffi_backend

    program = (
        f"import sys; sys.path[:0] = sys.argv[1:]; base = set(sys.modules); import {entry};"
        "print('\\n'.join(sorted(set(sys.modules) - base)))"
    )
    argv = [sys.executable, "-I", "-S", "-c", program, str(TOP), os.path.dirname(_cffi_backend.__file__)]
    out = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    foreign = {m for m in out if m.split(".")[0] not in {*packages, *sys.stdlib_module_names}}
    # cffi's run-time part comes with the compiled module.
    assert foreign <= {"_cffi_backend"}
    assert not {m.split(".")[0] for m in out} & HEAVY


@pytest.mark.skipif(IS_PODMAN, reason="about pyctl")
def test_memory_of_a_supervisor(engine: Engine) -> None:
    """What one container costs while it runs; shared pages counted by their part (PSS)."""
    engine("run", "-d", "--name", "c", "--network=none", "busybox", "sleep", "1000")
    engine("exec", "c", "true")
    pid = engine.inspect("c")["State"]["Pid"]
    supervisor = next(p.ppid for p in descendants() if p.pid == pid)
    status = Path(f"/proc/{supervisor}/status").read_text()
    resident_kb = int(re.findall(r"^RssAnon:\s+(\d+)", status, re.M)[0])
    assert resident_kb < 6 * 1024, f"{resident_kb} kB of its own"
