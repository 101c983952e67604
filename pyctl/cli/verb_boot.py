"""`system start-on-boot`: a user unit that starts containers again when the machine comes up.

Weight: `pyctl.units.installed` (subprocess).
"""

from __future__ import annotations

import os
import sys

from pyctl.engine import linger
from pyctl.engine.engine import Engine
from pyctl.units import installed
from pyctl.units.own_command import own_words
from pyctl.units.syntax import command_line, literal
from rootless.errors import Error, UsageError, os_error_text
from rootless.idmap import user_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Parsed

UNIT = "pyctl-restart.service"
_HEAD = "# Made by `pyctl system start-on-boot --enable`"
_TEXT = """\
[Unit]
Description=Containers with a restart policy
StartLimitIntervalSec=0

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={start}

[Install]
WantedBy=default.target
"""


def start_on_boot(parsed: Parsed) -> int:
    """Enable, disable, or tell (then the status is 1 where it is not enabled)."""
    options = parsed.options
    if options.enable + options.disable + options.status > 1:
        raise UsageError("--enable, --disable and --status exclude each other")
    engine = Engine(parsed.globals)
    folder = installed.place_of(os.environ).services
    path, link = f"{folder}/{UNIT}", f"{folder}/default.target.wants/{UNIT}"
    if os.path.lexists(path) and _HEAD not in installed.head_of(path):
        raise Error(f"{path} exists, and pyctl did not make it", hint="move it away")
    if options.enable:
        _enable(engine, parsed, path, link)
    elif options.disable:
        with _telling(path), installed.Changes() as changes:
            for made in (link, path):
                if os.path.lexists(made):
                    changes.remove(made)
            changes.keep()
        _reload()
    enabled = os.path.exists(link)
    sys.stdout.write(f"{'enabled' if enabled else 'disabled'}\n")
    name = user_name(engine.uid)
    if enabled and engine.uid and not linger.lingers(name):
        engine.warn(f"your units start when you log in; for a start with the machine: loginctl enable-linger {name}")
    return int(not enabled and not options.disable)


def _enable(engine: Engine, parsed: Parsed, path: str, link: str) -> None:
    words = own_words(parsed.globals)
    if not parsed.globals.given("root"):  # whatever the manager's environment says
        words = (*words, f"--root={engine.paths.root}")
    start = (*words, "start", "--all", "--filter=should-start-on-boot=true")
    text = f"{_HEAD}\n{_TEXT.format(start=command_line([literal(word) for word in start]))}"
    with _telling(path), installed.Changes() as changes:
        changes.write(path, text.encode())
        changes.link(link, f"../{UNIT}")
        changes.keep()
    _reload()


class _telling:  # noqa: N801 - read as a phrase
    """Names the file in what goes wrong with it."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, OSError):
            raise Error(os_error_text(error, self._path)) from error


def _reload() -> None:
    # Without a manager there is nobody to be told: it reads its units when it starts.
    reason = installed.reload()
    if reason and os.path.isdir("/run/systemd/system"):
        sys.stderr.write(f"pyctl: warning: the user manager did not read it: {reason}\n")
