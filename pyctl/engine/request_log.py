"""--log-driver and --log-opt.  Weight: `pyctl.engine.model`."""

from __future__ import annotations

from pyctl.engine.model import Log
from pyctl.engine.request_facts import refused
from pyctl.engine.request_text import absolute, pair, whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.engine.request_facts import Options, RequestFacts

DRIVERS = ("k8s-file", "json-file", "journald", "none", "passthrough")
_FILES = ("k8s-file", "json-file")


def log(options: Options, facts: RequestFacts, tty: bool) -> Log:
    """Where output goes; `path` "" is the container's own directory."""
    driver: str = options.get("log_driver") or facts.defaults.log_driver or DRIVERS[0]
    if driver not in DRIVERS:
        raise refused("--log-driver", driver, "must be one of " + ", ".join(DRIVERS))
    if driver == "passthrough" and tty:
        raise refused(
            "--log-driver", driver, "cannot be combined with --tty", hint="a terminal's output goes through the engine"
        )
    words = tuple(options.get("log_opt") or ())
    defaults = facts.defaults
    found = Log(
        driver=driver,
        max_size_bytes=max(defaults.log_size_max, 0) if driver in _FILES else 0,
        max_files=max(defaults.log_max_files, 1),
        tag=defaults.log_tag,
        options=words,
    )
    for word in words:
        found = _option(found, word, facts)
    return found


def _option(held: Log, word: str, facts: RequestFacts) -> Log:
    name, value = pair("--log-opt", word)
    if name in ("path", "max-size", "max-file") and held.driver not in _FILES:
        raise refused("--log-opt", word, f"the log driver {held.driver} has no file")
    if name == "path":
        if not value:
            raise refused("--log-opt", word, "needs a file")
        return held.replace(path=absolute(value, facts.cwd))
    if name == "max-size":
        if value == "-1":
            return held.replace(max_size_bytes=0)
        from pyctl.cli.convert import parse_bytes_decimal  # the one parser of sizes; 10m is 10 MB here, with Podman

        try:
            return held.replace(max_size_bytes=parse_bytes_decimal(value))
        except ValueError as error:
            raise refused("--log-opt", word, f"max-size is {error}") from error
    if name == "max-file":
        return held.replace(max_files=whole("--log-opt", word, value, 1, 10000, what="the number of files"))
    if name == "tag":
        return held.replace(tag=value)
    raise refused("--log-opt", word, "unknown", hint="known: path=FILE, max-size=SIZE, max-file=N, tag=TEXT")
