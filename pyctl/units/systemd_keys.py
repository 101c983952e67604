"""The keys that this machine's systemd knows, by section: it passes over others with a line in the journal.

Weight: `subprocess`.  Asked of systemd itself, so that there is no list to go stale.
"""

from __future__ import annotations

import os
import subprocess

_PROGRAMS = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")


def known(programs: tuple[str, ...] = _PROGRAMS) -> dict[str, frozenset[str]]:
    """Section → keys; {} where there is no systemd to ask, and then none is called unknown."""
    program = next((path for path in programs if os.access(path, os.X_OK)), "")
    if not program:
        return {}
    argv = [program, "--dump-configuration-items"]
    try:
        ended = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return parse(ended.stdout) if ended.returncode == 0 else {}


def parse(text: str) -> dict[str, frozenset[str]]:
    """What `systemd --dump-configuration-items` prints: [Section] and KEY=WHAT lines."""
    found: dict[str, set[str]] = {}
    keys: set[str] = set()
    for line in text.splitlines():
        if line.startswith("[") and line.endswith("]"):
            keys = found.setdefault(line[1:-1], set())
        else:
            keys.add(line.partition("=")[0])
    return {section: frozenset(names) for section, names in found.items()}
