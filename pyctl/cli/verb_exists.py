"""`container exists`, `image exists`, `volume exists`: status 0 or 1, no output.  Weight: the database."""

from __future__ import annotations

from pyctl.engine.engine import Engine
from rootless.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Parsed

_MISSING = 1


def container(parsed: Parsed) -> int:
    """By name, id or the beginning of an id."""
    from pyctl.engine import state

    try:
        state.get(Engine(parsed.globals).db, parsed.args[0])
    except NotFound:
        return _MISSING
    return 0


def image(parsed: Parsed) -> int:
    """By name, digest, id or the beginning of an id."""
    from storage.images import ImageStore
    from storage.lists import ListStore

    db = Engine(parsed.globals).db
    return 0 if ImageStore(db).exists(parsed.args[0]) or ListStore(db).find(parsed.args[0]) else _MISSING


def volume(parsed: Parsed) -> int:
    """By its whole name."""
    found = Engine(parsed.globals).db.one("SELECT 1 FROM volumes WHERE name = ?", (parsed.args[0],))
    return 0 if found else _MISSING


def network(parsed: Parsed) -> int:
    """By name, id or the beginning of an id."""
    from storage.networks import NetworkStore

    return 0 if NetworkStore(Engine(parsed.globals).db).find(parsed.args[0]) is not None else _MISSING
