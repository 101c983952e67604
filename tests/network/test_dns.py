"""The name server on real sockets, in a network namespace of its own, with name servers for it to ask."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

WORLD = Path(__file__).with_name("dns_world.py")


def test_the_name_server(tmp_path: Path) -> None:
    argv = ["unshare", "--user", "--map-root-user", "--net", sys.executable, str(WORLD), str(tmp_path / "resolv.conf")]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {
        "own": "0 1 10.9.0.2",
        "unknown": "3",
        "stranger": "5",
        "forwarded": "0 1 192.0.2.9",  # by the second server: nobody listens where the first should be
        "lied to": "0 1 192.0.2.9",  # an answer with another number counts for nothing
        "truncated": "0 truncated",
        "over tcp": ["0 1 192.0.2.9", "0 1 10.9.0.2", "3", "0 1 192.0.2.9"],
        "pipelined": 1,
        "next to a greedy one": ["5"],
        "after garbage": "0 1 10.9.0.2",
        "nobody to ask": "2",
        "gone": "5",
    }
