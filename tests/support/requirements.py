"""Requirements of a test: a local skip with the reason, a failure in CI."""

from __future__ import annotations

import os
import shutil

import pytest

from rootless.rtnetlink import MAIN_TABLE, RouteSocket

STRICT = os.environ.get("CI", "") not in ("", "false", "0") or os.environ.get("PYCTL_TEST_STRICT", "") == "1"


def missing(what: str) -> None:
    """Skips the test, or fails it where every requirement must be there (CI, PYCTL_TEST_STRICT=1)."""
    if STRICT:
        pytest.fail(f"required here: {what} (contrib/setup/install-deps test)", pytrace=False)
    pytest.skip(what)


def policy_routing(family: int) -> bool:
    """Has the kernel routing by rules for this IP version?  Without IPv6's, such clients' addresses are not kept."""
    routes = RouteSocket()
    try:
        return routes.has_rule(family, MAIN_TABLE)
    finally:
        routes.close()


def program(name: str) -> str:
    """The path of a program that the test needs."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        missing(f"the program {name} is not installed")
        raise AssertionError
    return path
