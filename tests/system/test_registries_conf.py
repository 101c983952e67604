"""registries.conf: what a short name means to every command, not to pull alone."""

from __future__ import annotations

import pytest

from tests.support.engine import IS_PODMAN, Engine
from tests.support.images import Layout
from tests.support.registry import Registry


def configure(engine: Engine, text: str) -> None:
    folder = engine.home / ".config/containers"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "registries.conf").write_text(text)


def test_an_alias_is_pulled_and_run(fresh: Engine, registry: Registry) -> None:
    configure(fresh, f'[aliases]\n"box" = "{registry.address}/busybox"\n')
    identity = fresh("pull", "-q", "box:1").line
    assert fresh("run", "--rm", "--network=none", "--pull=never", "box:1", "echo", "ran").line == "ran"
    assert fresh("inspect", "--type=image", "-f", "{{.Id}}", "box:1").line == identity
    fresh("image", "exists", "box:1")
    fresh("tag", "box:1", "other")
    assert fresh("rmi", "box:1").out.startswith(f"Untagged: {registry.address}/busybox:1")
    fresh("image", "exists", "box:1", status=1)
    fresh("image", "exists", "other")


def test_an_alias_is_pulled_by_run(fresh: Engine, registry: Registry) -> None:
    configure(fresh, f'[aliases]\n"box" = "{registry.address}/busybox"\n')
    assert fresh("run", "--rm", "--network=none", "box:1", "echo", "ran").line == "ran"
    assert fresh("images", "--format", "{{.Repository}}").line == f"{registry.address}/busybox"


def test_searched_registries_decide_between_images(fresh: Engine, registry: Registry, layout: Layout) -> None:
    """Two images end in the same name: the registry that is searched first is meant, whatever came last."""
    registry.push(layout, "busybox", "searched-for:1")  # no alias that a distribution ships
    configure(fresh, f'unqualified-search-registries = ["{registry.address}"]\n')
    identity = fresh("pull", "-q", "searched-for:1").line
    fresh("tag", identity, "example.org/later/searched-for:1")
    assert fresh("run", "--rm", "--network=none", "--pull=never", "searched-for:1", "echo", "ran").line == "ran"
    assert fresh("rmi", "searched-for:1").out == f"Untagged: {registry.address}/searched-for:1\n"


def test_a_changed_file_counts_at_once(fresh: Engine, registry: Registry) -> None:
    """The merged files are cached; the cache must notice."""
    configure(fresh, f'[aliases]\n"box" = "{registry.address}/busybox"\n')
    fresh("pull", "-q", "box:1")
    configure(fresh, f'[aliases]\n"crate" = "{registry.address}/busybox"\n')
    fresh("image", "exists", "crate:1")
    fresh("image", "exists", "box:1", status=1)


@pytest.mark.skipif(IS_PODMAN, reason="the wording is pyctl's")
def test_a_malformed_file_is_named(fresh: Engine) -> None:
    configure(fresh, "[aliases\n")
    error = fresh("run", "--rm", "--pull=never", "box", status=125).err
    assert "registries.conf" in error
    assert error.count("\n") == 1
