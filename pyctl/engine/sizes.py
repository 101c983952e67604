"""How much of the disk a container takes.  Weight: `os`, `stat`; loaded for --size and `system df` only.

The writable layer may hold directories of mapped ids that the caller cannot read from outside: the user namespace is
entered when one is met.
"""

from __future__ import annotations

import os

from rootless import userns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.engine.engine import Engine
    from pyctl.engine.state import ContainerRecord


def container_sizes(engine: Engine, record: ContainerRecord) -> tuple[int, int]:
    """(bytes of the writable layer, bytes of the image's layers)."""
    upper = f"{engine.paths.container(record.id)}/upper"
    try:
        own = tree_size(upper)
    except PermissionError:
        userns.enter(engine.runtime_root, mount_namespace=False)
        own = tree_size(upper)
    row = engine.db.one("SELECT size FROM images WHERE id = ?", (record.image_id,)) if record.image_id else None
    return own, row[0] if row else 0


def tree_size(path: str) -> int:
    """Bytes of all files below `path`, as they were written (sparse files count whole), each inode once; 0 where it
    does not exist.  Raises PermissionError."""
    total = 0
    seen: set[tuple[int, int]] = set()
    pending = [path]
    while pending:
        try:
            entries = os.scandir(pending.pop())
        except FileNotFoundError:
            continue  # it may be a running container's: files come and go
        with entries:
            for entry in entries:
                try:
                    held = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif held.st_nlink == 1 or (held.st_dev, held.st_ino) not in seen:
                    seen.add((held.st_dev, held.st_ino))
                    total += held.st_size
    return total
