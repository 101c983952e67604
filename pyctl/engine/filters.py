"""`--filter KEY=VALUE` of containers: what ps, start, stop, restart, rm and prune choose by.

Weight: `pyctl.engine.state`; `re` only for a name with characters of a regular expression.

Values of one key are alternatives, keys must all match; each label must match.  Source: podman-ps(1), FILTERS.
"""

from __future__ import annotations

import time

from pyctl.engine import state
from pyctl.engine.state import ContainerRecord, Status
from rootless.errors import NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from storage.database import Database

    Matcher = Callable[[ContainerRecord], bool]

_STATUSES = (
    "configured",
    "created",
    "exited",
    "initialized",
    "paused",
    "removing",
    "running",
    "stopped",
    "stopping",
    "unknown",
)
_HEALTH = ("healthy", "none", "starting", "unhealthy")
_REGULAR = frozenset(".^$*+?()[]{}|\\")
_UNITS_NS = {"s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def parse(words: tuple[str, ...]) -> list[tuple[str, str]]:
    """(key, value) of each word; a key of `label!` ends in its mark.  Raises UsageError."""
    found = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"invalid filter {word!r}", hint="a filter is KEY=VALUE, as status=running")
        found.append((key, value))
    return found


def container_filter(db: Database, words: tuple[str, ...]) -> Matcher:
    """Whether a container matches all filters.  Raises UsageError, NotFound for what a filter names."""
    by_key: dict[str, list[str]] = {}
    for key, value in parse(words):
        by_key.setdefault(key, []).append(value)
    unknown = [key for key in by_key if key not in _MAKERS]
    if unknown:
        keys = ", ".join(sorted(_MAKERS))
        raise UsageError(f"{unknown[0]} is an invalid filter", hint=f"filters: {keys}")
    matchers = [_MAKERS[key](db, values) for key, values in by_key.items()]
    return lambda record: all(matcher(record) for matcher in matchers)


def text_matcher(patterns: list[str]) -> Callable[[str], bool]:
    """Whether a text contains one of the patterns, which may be regular expressions.  Raises UsageError."""
    plain = [p for p in patterns if not _REGULAR.intersection(p)]
    expressions = []
    for pattern in patterns:
        if _REGULAR.intersection(pattern):
            import re  # 5 ms, and most names are plain

            try:
                expressions.append(re.compile(pattern))
            except re.error as error:
                raise UsageError(f"{pattern!r} is not a regular expression: {error}") from error
    return lambda text: any(p in text for p in plain) or any(e.search(text) for e in expressions)


def label_matcher(words: list[str]) -> Callable[[dict[str, str]], bool]:
    """Whether labels have every `KEY` or `KEY=VALUE`; a * at the end of either stands for anything."""
    wanted = [word.partition("=") for word in words]

    def fits(pattern: str, text: str) -> bool:
        return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern

    def matches(labels: dict[str, str]) -> bool:
        return all(
            any(fits(key, k) and (not equals or fits(value, v)) for k, v in labels.items())
            for key, equals, value in wanted
        )

    return matches


def moment_ns(text: str, now_ns: int | None = None) -> int:
    """A time: a duration before now (`10m`, `1h30m`), Unix seconds, or RFC 3339 (date alone, without zone: local).

    Raises ValueError.
    """
    now = time.time_ns() if now_ns is None else now_ns
    from pyctl.cli.convert import parse_duration_ns  # only where a time is given

    try:
        return now - parse_duration_ns(text)
    except ValueError:
        pass
    seconds, dot, fraction = text.partition(".")
    if text.isascii() and seconds.removeprefix("-").isdigit() and (not dot or fraction.isdigit()):
        return int(seconds) * 10**9 + int((fraction + "000000000")[:9])
    return _date_ns(text)


def _date_ns(text: str) -> int:
    from storage.rfc3339 import parse_ns

    date, _, clock = text.replace(" ", "T", 1).partition("T")
    parts = clock.split(":")
    if not clock:
        clock = "00:00:00"
    elif len(parts) < 3 and clock[-1:] != "Z" and "+" not in clock:
        clock = ":".join([*parts, *["00"] * (3 - len(parts))])
    zoned = clock[-1:] == "Z" or "+" in clock or "-" in clock
    moment = parse_ns(f"{date}T{clock}" + ("" if zoned else "Z"))
    if not moment:
        raise ValueError("not a time")
    if zoned:
        return moment
    # Without a zone it is the caller's local time.
    return moment - time.localtime(moment // 10**9).tm_gmtoff * 10**9


# --- one maker for each key ----------------------------------------------------------------------


def _status(_db: Database, values: list[str]) -> Matcher:
    for value in values:
        if value not in _STATUSES:
            raise UsageError(f"unknown container state {value!r}", hint=f"one of {', '.join(_STATUSES)}")
    wanted = {Status.EXITED if v == "stopped" else Status.CREATED if v == "configured" else v for v in values}
    return lambda record: record.status in wanted


def _exited(_db: Database, values: list[str]) -> Matcher:
    codes = set()
    for value in values:
        if not value.isascii() or not value.isdigit():
            raise UsageError(f"filter exited={value}: not an exit status")
        codes.add(int(value))
    return lambda record: record.status == Status.EXITED and record.exit_code in codes


def _name(_db: Database, values: list[str]) -> Matcher:
    matches = text_matcher(values)
    return lambda record: matches(record.name)


def _id(_db: Database, values: list[str]) -> Matcher:
    hexadecimal = [v.lower() for v in values if all(c in "0123456789abcdef" for c in v.lower())]
    others = text_matcher([v for v in values if v.lower() not in hexadecimal])
    return lambda record: any(record.id.startswith(v) for v in hexadecimal) or others(record.id)


def _label(_db: Database, values: list[str]) -> Matcher:
    matches = label_matcher(values)
    return lambda record: matches(record.specification.labels)


def _no_label(_db: Database, values: list[str]) -> Matcher:
    matchers = [label_matcher([value]) for value in values]
    return lambda record: not any(matches(record.specification.labels) for matches in matchers)


def _ancestor(db: Database, values: list[str]) -> Matcher:
    from storage import lookup
    from storage.reference import InvalidReferenceError

    ids = set()
    for value in values:
        try:
            found = lookup.find(db, value)
        except InvalidReferenceError:
            found = None
        if found:
            ids.add(found[0])

    def matches(record: ContainerRecord) -> bool:
        if record.image_id and (record.image_id in ids or any(v and record.image_id.startswith(v) for v in values)):
            return True
        image = record.specification.image
        bare = image.removesuffix(":latest")
        return any(v in (image, bare) or f"/{v}" in (image[-len(v) - 1 :], bare[-len(v) - 1 :]) for v in values if v)

    return matches


def _created(db: Database, values: list[str], after: bool) -> Matcher:
    moments = [state.get(db, value).created_ns for value in values]
    if after:
        return lambda record: all(record.created_ns > moment for moment in moments)
    return lambda record: all(record.created_ns < moment for moment in moments)


def _until(_db: Database, values: list[str]) -> Matcher:
    try:
        moments = [moment_ns(value) for value in values]
    except ValueError as error:
        raise UsageError(f"filter until={values[0]}: not a time", hint="as 24h, or 2024-05-01T12:00:00") from error
    return lambda record: all(record.created_ns < moment for moment in moments)


def _volume(_db: Database, values: list[str]) -> Matcher:
    wanted = {value.rstrip("/") or "/" for value in values}

    def matches(record: ContainerRecord) -> bool:
        return any(m.source in wanted or m.target in wanted for m in record.specification.mounts if m.kind != "tmpfs")

    return matches


def _health(db: Database, values: list[str]) -> Matcher:
    for value in values:
        if value not in _HEALTH:
            raise UsageError(f"unknown health {value!r}", hint=f"one of {', '.join(_HEALTH)}")

    def matches(record: ContainerRecord) -> bool:
        return (health_of(db, record) or "none") in values

    return matches


def health_of(db: Database, record: ContainerRecord) -> str:
    """ "starting", "healthy", "unhealthy", or "" where there is no check; asks the supervisor of a running one."""
    if record.specification.health is None:
        return ""
    if record.running:
        from pyctl.engine.lifecycle import live_status

        live = live_status(record)
        if live is not None and live.health is not None:
            return live.health.status
    recorded = state.recorded_health(db, record)
    return recorded.status if recorded is not None else ""


def _network(db: Database, values: list[str]) -> Matcher:
    targets = set()
    for value in values:
        if value.startswith("container:"):
            try:
                targets.add(state.get(db, value.removeprefix("container:")).id)
            except NotFound:
                continue

    def matches(record: ContainerRecord) -> bool:
        network = record.specification.network
        if any(use.name in values or use.network_id.startswith(tuple(values)) for use in network.endpoints):
            return True
        return network.mode in values or (network.mode == "container" and network.target in targets)

    return matches


def _restart_policy(_db: Database, values: list[str]) -> Matcher:
    return lambda record: record.specification.restart in values


def _should_start(_db: Database, values: list[str]) -> Matcher:
    """Podman 5.6's: which containers come back with the machine."""
    for value in values:
        if value not in ("true", "false"):
            raise UsageError(f"filter should-start-on-boot={value}: not true or false")
    wanted = {value == "true" for value in values}

    def matches(record: ContainerRecord) -> bool:
        policy = record.specification.restart
        return (policy == "always" or (policy == "unless-stopped" and not record.stopped_by_user)) in wanted

    return matches


def _command(_db: Database, values: list[str]) -> Matcher:
    return lambda record: record.specification.args[:1] != () and record.specification.args[0] in values


def _pod(_db: Database, _values: list[str]) -> Matcher:
    return lambda _record: False  # no container is in a pod


_MAKERS: dict[str, Callable[[Database, list[str]], Matcher]] = {
    "ancestor": _ancestor,
    "before": lambda db, values: _created(db, values, after=False),
    "command": _command,
    "exited": _exited,
    "health": _health,
    "id": _id,
    "label": _label,
    "label!": _no_label,
    "name": _name,
    "network": _network,
    "pod": _pod,
    "restart-policy": _restart_policy,
    "should-start-on-boot": _should_start,
    "since": lambda db, values: _created(db, values, after=True),
    "status": _status,
    "until": _until,
    "volume": _volume,
}
