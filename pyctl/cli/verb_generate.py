"""`generate systemd`.  Weight: `pyctl.engine.state`, `pyctl.units.of_container`."""

from __future__ import annotations

import os
import sys

from pyctl.engine import state
from pyctl.engine.engine import Engine
from pyctl.units import of_container
from pyctl.units.own_command import own_words
from rootless.errors import Error, NotFound, UsageError, os_error_text
from rootless.fds import read_file, write_durably

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Parsed
    from pyctl.units.of_container import Wishes


def systemd(parsed: Parsed) -> int:
    """Prints the unit, or with --files writes it into the current directory and prints its path."""
    options = parsed.options
    engine = Engine(parsed.globals)
    word = parsed.args[0]
    try:
        spec = state.get(engine.db, word).specification
    except NotFound as error:
        raise NotFound(f"{word} is no container", hint="there are no pods yet; pyctl ps -a lists containers") from error
    file, text = of_container.unit(spec, _wishes(parsed), own_words(parsed.globals))
    shown = text
    if options.files:
        shown = _write(file, text)
    if options.format:
        from pyctl.cli import report

        report.print_json({file.removesuffix(".service"): shown}, 1)
    else:
        sys.stdout.write(shown if not options.files else f"{shown}\n")
    return 0


def _wishes(parsed: Parsed) -> Wishes:
    options = parsed.options
    if options.given("pod_prefix"):
        raise UsageError("--pod-prefix: there are no pods yet")
    return of_container.Wishes(
        by_name=bool(options.name),
        new=bool(options.new),
        template=bool(options.template),
        header=not options.no_header,
        prefix=options.container_prefix,
        separator=options.separator,
        restart_policy=options.restart_policy,
        restart_s=options.restart_sec if options.given("restart_sec") else -1,
        start_timeout_s=options.start_timeout if options.given("start_timeout") else -1,
        stop_timeout_s=options.stop_timeout,
        after=tuple(options.after),
        wants=tuple(options.wants),
        requires=tuple(options.requires),
        env=tuple(options.env),
    )


def _write(file: str, text: str) -> str:
    """The path.  An earlier unit of pyctl's is replaced; another file is not."""
    path = os.path.abspath(file)
    try:
        if os.path.lexists(path) and of_container.MANUAL.encode() not in read_file(path):
            raise Error(f"{path} exists, and pyctl did not make it", hint="move it away first")
        write_durably(path, text.encode(), 0o644)
    except OSError as error:
        raise Error(os_error_text(error, path)) from error
    return path
