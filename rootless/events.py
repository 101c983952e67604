"""The log of what happened to containers, images, volumes and networks: a line of JSON for each event, in one file.

Weight: `os`, `time`, `rootless.values`; some 30 µs an event.

Any number of processes append, each with one write(2): O_APPEND makes that one step.  There is no fsync: after a power
cut the last events may be missing, and nothing else.  Beyond `MAX_BYTES` the file becomes the older one, in place of
the older one before it, so both together are bounded.
"""

from __future__ import annotations

import os
import time

from rootless.values import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_BYTES = 1 << 20
OLDER = ".1"


def event(kind: str, status: str, **facts: Any) -> dict[str, Any]:
    """An event of now; `facts` that are empty are left out.

    kind: "container" | "image" | "volume" | "network"; facts: id, name, image, labels, code (an exit status), health,
    streak, error; of networks also network (its name) and driver, or the id of the container that came or went.
    """
    return {"t": time.time_ns(), "k": kind, "s": status, **{k: v for k, v in facts.items() if v not in ("", {}, None)}}


def append(path: str, *events: dict[str, Any]) -> None:
    """Write them down.  Never raises: what happened has happened, on a full disk too."""
    data = "".join(f"{dumps(entry)}\n" for entry in events).encode()
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, data)
            if os.fstat(fd).st_size > MAX_BYTES:
                _rotate(path, fd)
        finally:
            os.close(fd)
    except OSError:
        return


def _rotate(path: str, fd: int) -> None:
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # another process is doing it
    if os.stat(path).st_ino == os.fstat(fd).st_ino:
        os.rename(path, path + OLDER)


class Teller:
    """Writes down what happens to one container."""

    def __init__(self, path: str, container_id: str, name: str, image: str, labels: dict[str, str]) -> None:
        self._path = path
        self._who: dict[str, Any] = {"id": container_id, "name": name, "image": image, "labels": labels}

    def rename(self, name: str) -> None:
        """It is called otherwise from now on."""
        self._who["name"] = name

    def __call__(self, *statuses: str, **facts: Any) -> None:
        """One event for each status."""
        if self._path:
            append(self._path, *(event("container", status, **self._who, **facts) for status in statuses))
