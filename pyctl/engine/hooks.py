"""What the engine's parts call without knowing which command they serve.

Weight: none, so that a command which needs no containers sets a hook without loading what would call it (2 ms).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyctl.engine.state import ContainerRecord


def ignore(_record: ContainerRecord) -> None:
    """Nothing is to be done."""


# Called with a --rm container whose supervisor was killed before it could remove it: the engine of this command
# sees to that, in a process of its own (files of mapped ids are deleted in the user namespace).
on_abandoned: Callable[[ContainerRecord], None] = ignore
