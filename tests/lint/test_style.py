"""ruff and mypy, as the project configures them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.engine import TOP

PACKAGES = ["pyctl", "rootless", "network", "storage"]


def check(*argv: str) -> None:
    result = subprocess.run([sys.executable, "-m", *argv], cwd=TOP, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]


def test_ruff() -> None:
    check("ruff", "check", "--no-cache", *PACKAGES, "tests", "bin/pyctl", "setup.py")


@pytest.mark.timeout(600)
def test_mypy() -> None:
    check("mypy", "--no-incremental", "--cache-dir=/dev/null")


def test_package_inits_are_empty() -> None:
    """Importing a leaf must cost that leaf only."""
    import ast

    for package in [*PACKAGES, "pyctl/cli", "pyctl/engine", "pyctl/units"]:
        tree = ast.parse((TOP / package / "__init__.py").read_text())
        assert all(isinstance(node, ast.Expr) for node in tree.body), f"{package}/__init__.py does more than document"
