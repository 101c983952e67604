"""Reading the log of events: which there are, which of them match, what comes next.

Weight: `rootless.events`, `pyctl.engine.filters`.
"""

from __future__ import annotations

import os
import time

from pyctl.engine import filters
from rootless import events as log
from rootless.errors import Error
from rootless.fds import read_file
from rootless.values import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Matcher = Callable[[dict[str, Any]], bool]

_LOOK_S = 0.1  # a look at the file for what is new (the standard library has no inotify)
_KEYS = ("container", "event", "image", "label", "network", "pod", "status", "type", "volume")


def matcher(words: tuple[str, ...]) -> Matcher:
    """Whether an event matches: one value of each key that is given.  Raises UsageError."""
    by_key: dict[str, list[str]] = {}
    for word, value in filters.parse(words):
        key = word.lower()
        if key not in _KEYS:
            raise Error(f"{key} is an invalid filter", hint=f"filters: {', '.join(_KEYS)}")
        by_key.setdefault("event" if key == "status" else key, []).append(value)
    tests = [_test(key, values) for key, values in by_key.items()]
    return lambda entry: all(test(entry) for test in tests)


def _test(key: str, values: list[str]) -> Matcher:
    if key == "event":
        return lambda entry: entry["s"] in values
    if key == "type":
        return lambda entry: entry["k"] in values
    if key == "network":
        return lambda entry: entry.get("network", "") in values or (
            "driver" in entry and any(v and entry.get("id", "").startswith(v) for v in values)
        )
    if key == "label":
        return lambda entry: any(_has_label(entry.get("labels", {}), value) for value in values)
    return lambda entry: entry["k"] == key and (
        entry.get("name", "") in values or any(v and entry.get("id", "").startswith(v) for v in values)
    )


def _has_label(labels: dict[str, str], wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return name in labels and (not equals or labels[name] == value)


def read(path: str, since_ns: int, until_ns: int, follow: bool) -> Iterator[dict[str, Any]]:
    """Events of [since_ns, until_ns) in the order in which they were written; `follow` waits for more until then."""
    position = 0
    current = -1
    try:
        current = _open(path)
        yield from _between(_lines(path + log.OLDER), since_ns, until_ns)
        rest = b""
        while True:
            if current < 0:
                current, position, rest = _open(path), 0, b""
            data = os.pread(current, 1 << 20, position) if current >= 0 else b""
            position += len(data)
            *whole, rest = (rest + data).split(b"\n")
            yield from _between(whole, since_ns, until_ns)
            if data:
                continue
            if not follow or time.time_ns() >= until_ns:
                return
            if current >= 0 and _was_rotated(path, current) and not os.pread(current, 1, position):
                os.close(current)
                current = -1
                continue
            time.sleep(_LOOK_S)
    finally:
        if current >= 0:
            os.close(current)


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1


def _was_rotated(path: str, fd: int) -> bool:
    try:
        return os.stat(path).st_ino != os.fstat(fd).st_ino
    except FileNotFoundError:
        return True


def _lines(path: str) -> list[bytes]:
    try:
        return read_file(path).split(b"\n")
    except FileNotFoundError:
        return []


def _between(lines: list[bytes], since_ns: int, until_ns: int) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            entry = loads(line)
        except ValueError:
            continue  # half of one: the disk was full
        if isinstance(entry, dict) and since_ns <= entry.get("t", 0) < until_ns and "k" in entry and "s" in entry:
            yield entry
