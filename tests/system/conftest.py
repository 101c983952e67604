"""Every test here runs real containers and must leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.engine import Engine


@pytest.fixture(autouse=True)
def _nothing_left(leak_check: list[object]) -> None:
    """Also for tests that take neither `engine` nor `fresh`."""


@pytest.fixture(scope="module")
def _networks(store: Engine) -> Iterator[None]:
    for words in (("front",), ("back",), ("--internal", "vault"), ("--ipv6", "six")):
        store("network", "create", *words)
    yield
    store("network", "prune", "-f")


@pytest.fixture
def nets(_networks: None, engine: Engine) -> Engine:
    """The engine with networks front, back, vault (internal) and six (IPv6)."""
    return engine
