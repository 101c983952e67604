"""Fixtures of all tests; see tests/support for what they hand out."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import images
from tests.support.engine import Engine
from tests.support.leaks import Snapshot, assert_no_leaks
from tests.support.processes import become_subreaper
from tests.support.registry import Registry


def pytest_configure() -> None:
    become_subreaper()
    # In the background of a shell, this process was started to ignore interrupts (sh(1), asynchronous lists), and so
    # would be all that it starts; tests send them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        import hypothesis
    except ImportError:  # the system tests alone run without it
        return
    # No example database: the checkout may be read-only, and a run must not depend on the last one.
    hypothesis.settings.register_profile("tests", database=None, deadline=None)
    hypothesis.settings.load_profile("tests")


@pytest.fixture(scope="session")
def busybox_tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system tarball around Debian's static busybox."""
    path = tmp_path_factory.mktemp("busybox") / "busybox.tar"
    path.write_bytes(images.layer_tar(images.busybox_entries()))
    return path


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory, busybox_tar: Path) -> images.Layout:
    """An OCI layout with the image "busybox"; tests may add images of other names."""
    made = images.Layout(tmp_path_factory.mktemp("layout"))
    made.image("busybox", [busybox_tar.read_bytes()])
    return made


@pytest.fixture(scope="session")
def store(busybox_tar: Path) -> Iterator[Engine]:
    """One storage root for a whole test process, with the image `busybox` in it."""
    engine = Engine()
    try:
        engine("import", "--change", "CMD=/bin/sh", "--change", "ENV=PATH=/bin:/usr/bin", busybox_tar, "busybox")
        yield engine
    finally:
        engine.close()


@pytest.fixture
def leak_check() -> Iterator[list[Engine]]:
    """Compares before and after; the engines of the test are put into the list."""
    before = Snapshot()
    engines: list[Engine] = []
    yield engines
    for engine in engines or [None]:  # type: ignore[list-item]
        assert_no_leaks(before, engine)


@pytest.fixture
def engine(store: Engine, leak_check: list[Engine]) -> Iterator[Engine]:
    """The engine with the image `busybox` and no container; whatever a test leaves running is a failure after it."""
    leak_check.append(store)
    yield store
    store.remove_containers()


@pytest.fixture
def fresh(leak_check: list[Engine]) -> Iterator[Engine]:
    """An engine with an empty storage root, for tests that change images or break things."""
    engine = Engine()
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory, layout: images.Layout) -> Iterator[Registry]:
    """docker-registry on loopback, without TLS, with busybox:1 in it."""
    made = Registry(tmp_path_factory.mktemp("registry"))
    made.push(layout, "busybox", "busybox:1")
    yield made
    made.close()


@pytest.fixture(scope="session")
def debian_tar() -> Path:
    """A Debian base with python3, nginx and postgresql, kept between runs."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))) / "pyctl-test"
    return images.debian_tree(cache)
