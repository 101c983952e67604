"""Names of containers, images, volumes and networks for completion.  Weight: the state's database."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from storage.database import Database


def stored(kind: str, state: str) -> list[tuple[str, str]]:
    """(name, description) of everything of a kind.

    kind: "container" | "image" | "volume" | "network" | "artifact" | "any"; state, of containers: "running" |
    "stopped" | "".
    """
    from pyctl.cli.options_global import ROWS
    from pyctl.cli.parser import Options
    from pyctl.engine.engine import Engine

    db = Engine(Options({row.field: row.default for row in ROWS}, set())).db
    found: list[tuple[str, str]] = []
    if kind in ("container", "any"):
        found += _containers(db, state)
    if kind in ("image", "any"):
        found += _images(db)
    if kind in ("volume", "any"):
        found += [
            (name, "volume") for (name,) in db.query("SELECT name FROM volumes WHERE NOT anonymous ORDER BY name")
        ]
    if kind == "artifact":
        found += [(name, "artifact") for (name,) in db.query("SELECT name FROM artifacts ORDER BY name")]
    if kind in ("network", "any"):
        found += [(name, "network") for (name,) in db.query("SELECT name FROM networks ORDER BY name")]
    return found


def _containers(db: Database, state: str) -> list[tuple[str, str]]:
    from pyctl.engine import state as states

    return [
        (record.name, record.specification.image)
        for record in states.every(db)
        if not state or record.alive == (state == "running")
    ]


def _images(db: Database) -> list[tuple[str, str]]:
    # What is usually typed: docker.io/library/alpine:latest is alpine, localhost/app:1 is app:1.
    names = [
        name
        for (name,) in db.query("SELECT name FROM image_names UNION SELECT name FROM manifest_list_names ORDER BY 1")
    ]
    short = [n.removeprefix("docker.io/library/").removeprefix("localhost/").removesuffix(":latest") for n in names]
    return [(word, "image") for word in dict.fromkeys((*short, *names)) if "@" not in word]
