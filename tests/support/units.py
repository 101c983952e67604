"""Quadlet's files in a folder, and what pyctl makes of them, for an invented caller."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pyctl.engine.request_facts import RequestFacts
from pyctl.units.draft import Made
from pyctl.units.world import make, world_of

FACTS = RequestFacts(
    uid=1500,
    gid=1500,
    cwd="/",
    environ={"HOME": "/home/me", "USER": "me", "XDG_RUNTIME_DIR": "/run/user/1500"},
    uid_count=65537,
    gid_count=65537,
    rlimits={"nofile": (1024, 20000), "nproc": (100, 100), "core": (0, -1)},
    host_name="machine",
    subuid_ranges=((100000, 65536),),
    subgid_ranges=((100000, 65536),),
)


def write(folder: Path, files: dict[str, str]) -> None:
    """Files by their paths below the folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def services(
    folder: Path, names: Iterable[str] = (), systemd: dict[str, frozenset[str]] | None = None
) -> dict[str, Made]:
    """Service → what was made, of all sources in the folder or of some.  systemd: the keys that it knows."""
    world, _ = world_of([str(folder)], ["/usr/bin/pyctl"])
    world.systemd_keys = systemd or {}
    return {made.service: made for made in make(names or sorted(world.paths), world, FACTS)}


def lines(made: Made, section: str, key: str) -> list[str]:
    """The values of a key in the service."""
    found, here = [], False
    for line in made.text.splitlines():
        if line.startswith("["):
            here = line == f"[{section}]"
        elif here and line.startswith(f"{key}="):
            found.append(line[len(key) + 1 :])
    return found


def told(made: Made, folder: Path) -> list[str]:
    """The problems, with paths relative to the folder."""
    return [problem.shown().replace(f"{folder}/", "") for problem in made.problems]
