"""Health checks: --health-* on top of the image's HEALTHCHECK.  Weight: `pyctl.engine.model`, `rootless.values`.

Loaded where the image has a check or such an option is given.
"""

from __future__ import annotations

from pyctl.engine.model import Health
from pyctl.engine.request_facts import refused
from pyctl.engine.request_text import utf8
from rootless.errors import UsageError
from rootless.values import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyctl.engine.request_facts import ImageChoice, Options

_STARTUP = ("health_startup_interval", "health_startup_timeout", "health_startup_retries", "health_startup_success")
_REGULAR = (
    "health_interval", "health_timeout", "health_retries", "health_start_period", "health_on_failure",
    "health_startup_cmd", *_STARTUP,
)  # fmt: skip
NONE = Health(test=("NONE",))


def health(options: Options, image: ImageChoice) -> Health | None:
    """The check, `NONE` where one of the image is switched off, None where there is none."""
    command: str = options.get("health_cmd") or ""
    own = image.config.health if image.config else None
    if options.get("no_healthcheck"):
        if command:
            raise refused("--no-healthcheck", "true", "cannot be combined with --health-cmd")
        _refuse_leftovers(options, "--no-healthcheck")
        return NONE if own else None
    if command:
        test = check_words("--health-cmd", command)
    elif own and own.test and own.test[0].upper() != "NONE":
        test = check_list("the image's health check", own.test)
    else:
        test = NONE.test
    if test == NONE.test:
        _refuse_leftovers(options, "no health check")
        return NONE if command or own else None
    base = Health(test=test)
    if own and not command:
        base = base.replace(
            interval_ns=own.interval_ns or base.interval_ns,
            timeout_ns=own.timeout_ns or base.timeout_ns,
            start_period_ns=own.start_period_ns,
            start_interval_ns=own.start_interval_ns,
            retries=own.retries or base.retries,
        )
    return _startup(options, _regular(options, base))


OPTIONS = ("health_cmd", "no_healthcheck", *_REGULAR, "health_max_log_count", "health_max_log_size")


def updated(options: Options, held: Health | None) -> Health:
    """`update`: what is given over what the container has.  Raises UsageError."""
    if options.get("no_healthcheck"):
        for field in OPTIONS:
            if field != "no_healthcheck" and options.given(field):
                raise UsageError(f"--no-healthcheck excludes --{field.replace('_', '-')}")
        return NONE
    command: str = options.get("health_cmd") or ""
    test = check_words("--health-cmd", command) if command else held.test if held else NONE.test
    if test[:1] == NONE.test:
        _refuse_leftovers(options, "no health check")
        return NONE
    base = _regular(options, (held or Health(test=test)).replace(test=test))
    if not options.get("health_startup_cmd") and any(options.given(field) for field in _STARTUP):
        if not base.startup_test:
            raise UsageError("there is no start-up check that it could change", hint="add --health-startup-cmd")
        return _startup_changes(options, base)
    return _startup(options, base)


def _refuse_leftovers(options: Options, why: str) -> None:
    for field in _REGULAR:
        if options.given(field) and not (field == "health_on_failure" and options.get(field) == "none"):
            option = "--" + field.replace("_", "-")
            raise UsageError(
                f"{option}: there is no health check that it could change ({why})", hint="add --health-cmd"
            )


def _regular(options: Options, base: Health) -> Health:
    changes: dict[str, Any] = {}
    if options.given("health_interval"):
        changes["interval_ns"] = _interval(options, "health_interval")
    if options.given("health_timeout"):
        changes["timeout_ns"] = _positive(options, "health_timeout")
    if options.given("health_start_period"):
        period = options.get("health_start_period")
        if period < 0:
            raise refused("--health-start-period", _shown(period), "must be 0 or more")
        changes["start_period_ns"] = period
    if options.given("health_retries"):
        if options.get("health_retries") < 1:
            raise refused("--health-retries", options.get("health_retries"), "must be at least 1")
        changes["retries"] = options.get("health_retries")
    for field, name in (
        ("health_on_failure", "on_failure"),
        ("health_max_log_count", "max_log_count"),
        ("health_max_log_size", "max_log_size"),
    ):
        if options.given(field):
            changes[name] = options.get(field)
    if changes.get("on_failure", "none") not in ("none", "kill", "restart", "stop"):
        raise refused("--health-on-failure", changes["on_failure"], "must be none, kill, restart or stop")
    return base.replace(**changes)


def _startup(options: Options, base: Health) -> Health:
    command: str = options.get("health_startup_cmd") or ""
    if not command:
        for field in _STARTUP:
            if options.given(field):
                raise UsageError(f"--{field.replace('_', '-')}: needs --health-startup-cmd")
        return base
    changes: dict[str, Any] = {"startup_test": check_words("--health-startup-cmd", command)}
    if changes["startup_test"] == NONE.test:
        return base.replace(startup_test=())
    return _startup_changes(options, base.replace(**changes))


def _startup_changes(options: Options, base: Health) -> Health:
    changes: dict[str, Any] = {}
    if options.given("health_startup_interval"):
        changes["startup_interval_ns"] = _interval(options, "health_startup_interval")
    if options.given("health_startup_timeout"):
        changes["startup_timeout_ns"] = _positive(options, "health_startup_timeout")
    for field, name in (("health_startup_retries", "startup_retries"), ("health_startup_success", "startup_success")):
        if options.given(field):
            changes[name] = options.get(field) or 0
    return base.replace(**changes)


def _interval(options: Options, field: str) -> int:
    """Nanoseconds; 0 for "disable" (-1) and for 0, which are the same to Podman."""
    value: int = options.get(field)
    if value < -1:
        raise refused("--" + field.replace("_", "-"), _shown(value), "must be a time, or disable")
    return max(value, 0)


def _shown(ns: int) -> str:
    return f"{ns / 1_000_000_000:g}s"


def _positive(options: Options, field: str) -> int:
    value: int = options.get(field)
    if value <= 0:
        raise refused("--" + field.replace("_", "-"), _shown(value), "must be more than 0")
    return value


def check_words(option: str, text: str) -> tuple[str, ...]:
    """A command line for the shell, `CMD …`, `CMD-SHELL …`, `none`, or a JSON list of words."""
    utf8(option, text)
    if text.lower() == "none":
        return NONE.test
    if text.lstrip().startswith("["):
        try:
            words = loads(text)
        except ValueError:
            return ("CMD-SHELL", text)  # `[ -e /file ]` is a shell command
        if not isinstance(words, list) or not words or any(not isinstance(w, str) for w in words):
            raise refused(option, text, "a JSON list must hold words, at least one")
        return check_list(option, tuple(words))
    first, _, rest = text.partition(" ")
    if first == "CMD-SHELL" and rest.strip():
        return ("CMD-SHELL", rest.strip())
    if first == "CMD" and rest.strip():
        return ("CMD", *rest.split())
    return ("CMD-SHELL", text)


def check_list(option: str, words: tuple[str, ...]) -> tuple[str, ...]:
    """Docker's form: CMD and words, CMD-SHELL and one line, NONE; any other first word begins a command."""
    first = words[0].upper()
    if first == "NONE":
        return NONE.test
    if first in ("CMD", "CMD-SHELL"):
        if len(words) < 2:
            raise refused(option, " ".join(words), "has no command")
        rest = words[1:] if first == "CMD" else (" ".join(words[1:]),)
        return (first, *(utf8(option, w) for w in rest))
    return ("CMD", *(utf8(option, w) for w in words))
