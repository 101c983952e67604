"""`--filter KEY=VALUE` of volumes.  Weight: `pyctl.engine.filters`.  Source: podman-volume-ls(1)."""

from __future__ import annotations

from pyctl.engine.filters import label_matcher, moment_ns, parse, text_matcher
from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from storage.volumes import Volume

    Matcher = Callable[[Volume], bool]

_TRUTHS = {"true": True, "1": True, "false": False, "0": False}


def volume_filter(words: tuple[str, ...]) -> Matcher:
    """Whether a volume matches all filters.  Raises UsageError."""
    by_key: dict[str, list[str]] = {}
    for key, value in parse(words):
        by_key.setdefault(key, []).append(value)
    unknown = [key for key in by_key if key not in _MAKERS]
    if unknown:
        raise UsageError(f"{unknown[0]} is an invalid filter", hint=f"filters: {', '.join(sorted(_MAKERS))}")
    matchers = [_MAKERS[key](values) for key, values in by_key.items()]
    return lambda volume: all(matcher(volume) for matcher in matchers)


def _name(values: list[str]) -> Matcher:
    matches = text_matcher(values)
    return lambda volume: matches(volume.name)


def _label(values: list[str]) -> Matcher:
    matches = label_matcher(values)
    return lambda volume: matches(volume.labels)


def _no_label(values: list[str]) -> Matcher:
    matchers = [label_matcher([value]) for value in values]
    return lambda volume: not any(matches(volume.labels) for matches in matchers)


def _opt(values: list[str]) -> Matcher:
    matches = label_matcher(values)
    return lambda volume: matches(volume.options)


def _truth(key: str, values: list[str], test: Matcher) -> Matcher:
    wanted = set()
    for value in values:
        if value.lower() not in _TRUTHS:
            raise UsageError(f"filter {key}={value}: not true or false")
        wanted.add(_TRUTHS[value.lower()])
    return lambda volume: test(volume) in wanted


def _moments(key: str, values: list[str], after: bool) -> Matcher:
    try:
        moments = [moment_ns(value) for value in values]
    except ValueError as error:
        raise UsageError(f"filter {key}={values[0]}: not a time", hint="as 24h, or 2024-05-01T12:00:00") from error
    if after:
        return lambda volume: all(volume.created_ns > moment for moment in moments)
    return lambda volume: all(volume.created_ns < moment for moment in moments)


_MAKERS: dict[str, Callable[[list[str]], Matcher]] = {
    "after": lambda values: _moments("after", values, after=True),
    "anonymous": lambda values: _truth("anonymous", values, lambda volume: volume.anonymous),
    "dangling": lambda values: _truth("dangling", values, lambda volume: not volume.containers),
    "driver": lambda values: lambda volume: volume.driver in values,
    "label": _label,
    "label!": _no_label,
    "name": _name,
    "opt": _opt,
    "scope": lambda values: lambda _volume: "local" in values,
    "since": lambda values: _moments("since", values, after=True),
    "until": lambda values: _moments("until", values, after=False),
}
