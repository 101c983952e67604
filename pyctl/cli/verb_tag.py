"""`tag` and `untag`.  Weight: `storage.images`, `storage.lists`."""

from __future__ import annotations

from pyctl.engine.engine import Engine
from storage.images import ImageStore
from storage.lists import ListStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Parsed


def tag(parsed: Parsed) -> int:
    """Gives an image further names."""
    db = Engine(parsed.globals).db
    if found := ListStore(db).find(parsed.args[0]):
        ListStore(db).tag(found[0], parsed.args[1:])
    else:
        ImageStore(db).tag(parsed.args[0], parsed.args[1:])
    return 0


def untag(parsed: Parsed) -> int:
    """Takes names away."""
    db = Engine(parsed.globals).db
    if found := ListStore(db).find(parsed.args[0]):
        ListStore(db).untag(found[0], parsed.args[1:])
    else:
        ImageStore(db).untag(parsed.args[0], parsed.args[1:])
    return 0
