"""The wheel: built once, installed with no compiler, the launcher as quick as the interpreter allows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.engine import IS_PODMAN, TOP
from tests.support.requirements import missing

pytestmark = [pytest.mark.skipif(IS_PODMAN, reason="about pyctl"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for part in ("pyctl", "rootless", "network", "storage", "bin"):
        shutil.copytree(TOP / part, source / part, ignore=shutil.ignore_patterns("*.so", "_syscalls.c", "__pycache__"))
    for part in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(TOP / part, source)
    argv = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder / "out"),
        str(source),
    ]
    subprocess.run(argv, check=True, capture_output=True, timeout=240)
    [built] = (folder / "out").glob("*.whl")
    return built


def test_one_wheel_for_every_python(wheel: Path) -> None:
    assert "-cp311-abi3-" in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    assert [n for n in names if n.endswith(".so")] == ["rootless/_syscalls.abi3.so"]
    assert not [n for n in names if n.startswith("tests/")]


def test_the_symbols_are_old_enough(wheel: Path) -> None:
    """The wheel runs with glibc 2.28 (Debian 10, RHEL 8) and newer."""
    out = subprocess.run(
        [sys.executable, "-m", "auditwheel", "show", str(wheel)], capture_output=True, text=True, check=False
    )
    if out.returncode:
        missing(f"auditwheel: {out.stderr.strip()[-300:]}")
    shown = " ".join(out.stdout.split())
    tags = [word.strip('".,') for word in shown.split() if word.startswith('"manylinux')]
    assert tags
    assert all(
        tag.startswith(("manylinux_2_5", "manylinux_2_12", "manylinux_2_17", "manylinux_2_28")) for tag in tags
    ), shown


def pythons() -> list[str]:
    found = {os.path.realpath(p): p for n in (11, 12, 13, 14) if (p := shutil.which(f"python3.{n}"))}
    return list(found.values()) or [sys.executable]


@pytest.mark.parametrize("python", pythons())
def test_installs_and_starts(wheel: Path, tmp_path: Path, python: str) -> None:
    venv = tmp_path / "venv"
    subprocess.run([python, "-m", "venv", "--without-pip", venv], check=True)
    site = next((venv / "lib").glob("python3*/site-packages"))
    # The compiled module needs cffi's run time; the rest of the dependencies are not on this path.
    version = subprocess.run(
        [python, "-c", "import sys; print(sys.version_info[:2] >= (3, 11))"], capture_output=True, text=True
    )
    assert version.stdout.strip() == "True"
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(venv / "bin/python"),
        "install",
        "-q",
        "--no-deps",
        str(wheel),
    ]
    env = {**os.environ, "PATH": "/nonexistent"}  # no compiler in reach
    subprocess.run(install, check=True, env=env, capture_output=True, timeout=120)
    subprocess.run([*install[:-1], "cffi"], check=True, env=env, capture_output=True, timeout=120)
    assert (site / "rootless/_syscalls.abi3.so").exists()
    launcher = venv / "bin/pyctl"
    assert launcher.read_text().splitlines()[0] == f"#!{venv}/bin/python" or launcher.read_text().startswith(
        "#!/bin/sh"
    )
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    out = subprocess.run([launcher, "version"], capture_output=True, text=True, env=clean, check=True, cwd=tmp_path)
    assert "Version" in out.stdout
    check = "import rootless._syscalls as s; print(s.lib.pyctl_effective_capabilities() >= 0)"
    done = subprocess.run(
        [venv / "bin/python", "-c", check], capture_output=True, text=True, env=clean, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "True"


def test_launcher_is_not_a_wrapper(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert [n for n in names if n.endswith(".data/scripts/pyctl")]
    assert not [n for n in names if n.endswith("entry_points.txt")]
