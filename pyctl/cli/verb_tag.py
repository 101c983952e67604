"""`tag` and `untag`.  Weight: `storage.images`."""

from __future__ import annotations

from pyctl.engine.engine import Engine
from storage.images import ImageStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Parsed


def tag(parsed: Parsed) -> int:
    """Gives an image further names."""
    ImageStore(Engine(parsed.globals).db).tag(parsed.args[0], parsed.args[1:])
    return 0


def untag(parsed: Parsed) -> int:
    """Takes names away."""
    ImageStore(Engine(parsed.globals).db).untag(parsed.args[0], parsed.args[1:])
    return 0
