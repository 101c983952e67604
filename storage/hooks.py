"""What the engine puts into the storage.

Weight: none, so that a command which looks no image up puts it in without loading `storage.images` (2 ms).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from storage.reference import Reference

    # The full names that a short one may have here, each with a tag or digest, in the order to look.
    ShortNames = Callable[[str], Sequence[Reference]]

# What short names mean where the caller does not say: what registries.conf says
# (`storage.registries_conf.local_candidates`), which is read only when a short name is looked up.  None: Docker's.
short_names: ShortNames | None = None
