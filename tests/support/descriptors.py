"""Which descriptors this process holds: to see what a call leaves open."""

from __future__ import annotations

import gc
import os


def held() -> set[tuple[int, str]]:
    """The open descriptors with what each is of, after what nothing refers to any more was collected.

    Compare by difference: what a test process has from elsewhere may be closed by the collector at any time.
    """
    gc.collect()
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add((int(name), os.readlink(f"/proc/self/fd/{name}")))
        except FileNotFoundError:
            continue  # the one that listed them
    return found
