"""`generate systemd`: the unit of one container.

Weight: `pyctl.cli.parser`, `pyctl.units.syntax`.  With --new the service runs the command line that the container was
made with, less what systemd does itself (restarts, the background), plus what a service needs; without, it starts and
stops this container.
"""

from __future__ import annotations

import os
import time

from pyctl.cli import parser, table
from pyctl.cli.options_global import ROWS as GLOBAL_ROWS
from pyctl.cli.verb_version import VERSION
from pyctl.units import draft
from pyctl.units.convert import is_unit_name
from pyctl.units.own_command import run_words
from pyctl.units.syntax import command_line, literal, plain, quote
from rootless.errors import Error, UsageError
from rootless.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyctl.engine.model import ContainerSpec

MANUAL = "Documentation=man:pyctl-generate-systemd(1)"
_STOP_MARGIN_S = 60  # from the end of the container's time to that of the service's
# Options of the command line that made the container which the service sets by itself.
_REPLACED = frozenset(("detach", "rm", "replace", "cidfile", "cgroups", "restart", "attach", "sig_proxy"))
# Options whose value, or a part of it, is a path: relative to where the container was made, which nobody knows later.
_PATHS = frozenset(("env_file", "label_file", "pidfile", "init_path", "authfile", "hosts_file"))
_POLICIES = {"no": "no", "on-failure": "on-failure", "always": "always", "unless-stopped": "always"}


class Wishes(Value):
    """The options of `generate systemd`."""

    by_name: bool = False
    new: bool = False
    template: bool = False
    header: bool = True
    prefix: str = "container"
    separator: str = "-"
    restart_policy: str = ""  # "": the container's own
    restart_s: int = -1
    start_timeout_s: int = -1
    stop_timeout_s: int = 10
    after: tuple[str, ...] = ()
    wants: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    env: tuple[str, ...] = ()


def unit_name(spec: ContainerSpec, wishes: Wishes) -> str:
    """ "container-web", without its ending."""
    name = spec.name if wishes.by_name else spec.id
    return f"{wishes.prefix}{wishes.separator}{name}" if wishes.prefix else name


def unit(spec: ContainerSpec, wishes: Wishes, pyctl: Sequence[str]) -> tuple[str, str]:
    """(file name, text).  pyctl: how the engine is called.  Raises UsageError."""
    stem = unit_name(spec, wishes)
    file = f"{stem}@.service" if wishes.template else f"{stem}.service"
    if not is_unit_name(file):
        raise UsageError(f"{file!r} cannot be a unit's name", hint="see --container-prefix and --separator")
    lines = [f"# {file}"]
    if wishes.header:
        lines += [f"# made by pyctl {VERSION}", f"# {time.strftime('%a %b %d %H:%M:%S %Z %Y')}"]
    what = f"Container {plain(spec.name)}" + (", instance %I" if wishes.template else "")
    lines += ["", "[Unit]", f"Description={what}", MANUAL]
    lines += ["Wants=network-online.target", "After=network-online.target"]
    for key, units in (("Wants", wishes.wants), ("After", wishes.after), ("Requires", wishes.requires)):
        if units:
            lines.append(f"{key}={' '.join(_unit_word(key, name) for name in units)}")
    lines += ["", "[Service]", *_service(spec, wishes)]
    lines += _new(spec, wishes, pyctl) if wishes.new or wishes.template else _existing(spec, wishes, pyctl)
    return file, "\n".join([*lines, "", "[Install]", "WantedBy=default.target"]) + "\n"


def _unit_word(key: str, name: str) -> str:
    if not name or any(c.isspace() or not c.isprintable() for c in name):
        raise UsageError(f"--{key.lower()} {name!r} names no unit")
    return name


def _service(spec: ContainerSpec, wishes: Wishes) -> list[str]:
    lines = ["Environment=PYCTL_SYSTEMD_UNIT=%n"]
    for word in wishes.env:
        if not word.partition("=")[1] or word[0] == "=":
            raise UsageError(f"--env {word}: must be NAME=VALUE")
        lines.append(f"Environment={quote(plain(word))}")
    lines.append(f"Restart={wishes.restart_policy or _own_policy(spec)}")
    if wishes.restart_s >= 0:
        lines.append(f"RestartSec={wishes.restart_s}")
    if wishes.start_timeout_s >= 0:
        lines.append(f"TimeoutStartSec={wishes.start_timeout_s}")
    lines.append(f"TimeoutStopSec={wishes.stop_timeout_s + _STOP_MARGIN_S}")
    return [*lines, "SyslogIdentifier=%N"]


def _own_policy(spec: ContainerSpec) -> str:
    return "on-failure" if spec.restart == "no" else _POLICIES[spec.restart]


# --- --new -------------------------------------------------------------------------------------


def _new(spec: ContainerSpec, wishes: Wishes, pyctl: Sequence[str]) -> list[str]:
    words, args, globals_ = _made_with(spec, wishes.template)
    called = draft.called((*pyctl, *globals_))
    id_file = ("--cidfile=%t/%N.ctr-id",)
    notify = () if any(word.startswith("--sdnotify=") for word in words) else ("--sdnotify=conmon",)
    label = "--label=PODMAN_SYSTEMD_UNIT=%n"  # what tools ask for a container's unit by
    run = [*called, "run", *id_file, "--cgroups=split", "--rm", *notify, "--detach", "--replace", label, *words, *args]
    stop = ["stop", "--ignore", f"--time={wishes.stop_timeout_s}", *id_file]
    remove = ["rm", "--force", "--ignore", f"--time={wishes.stop_timeout_s}", *id_file]
    return [
        "Type=notify",
        "NotifyAccess=all",
        "KillMode=mixed",
        "Delegate=yes",
        f"ExecStart={_folded(run)}",
        f"ExecStop={command_line([*called, *stop])}",
        f"ExecStopPost={command_line([*called, *remove])}",
    ]


def _folded(argv: Sequence[str]) -> str:
    """A long command line with one option a line."""
    lines = [""]
    for word in argv:
        if word.startswith("--"):
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + quote(word)
    return " \\\n\t".join(lines)


def _made_with(spec: ContainerSpec, template: bool) -> tuple[list[str], list[str], tuple[str, ...]]:
    """(options, arguments, global options) of the command that made the container, ready for a unit's line."""
    argv = list(spec.command_line[1:])
    try:
        parsed = parser.parse(argv)
    except (Error, parser.HelpAsked, parser.VersionAsked) as error:
        raise Error(f"the command that made {spec.name} cannot be read again: {error}") from error
    recorder = _Recorder(parsed.path, table.find(parsed.path).options)
    recorder.words(argv, _start(argv, parsed), False)
    words = []
    named = False
    for row, text in recorder.found:
        if row.field in _REPLACED or row in GLOBAL_ROWS:
            continue
        if row.field == "name":
            named = True
            words.append(f"--name={literal(text)}" + "-%i" * template)
            continue
        words.append(_word(row, _with_absolute_paths(row, text, spec)))
    if not named:
        words.insert(0, f"--name={literal(spec.name)}" + "-%i" * template)
    return words, [literal(word) for word in parsed.args], run_words(parsed.globals)


def _start(argv: list[str], parsed: parser.Parsed) -> int:
    """Where the options of the command begin: after its path, which options of pyctl itself may precede."""
    path = parsed.path.split(" ")
    at, seen = 0, 0
    while seen < len(path):
        seen = seen + 1 if argv[at] == path[seen] and not _is_value(argv, at) else seen
        at += 1
    return at


def _is_value(argv: list[str], at: int) -> bool:
    """Whether a word is the value of the global option before it."""
    before = argv[at - 1] if at else ""
    row = next((r for r in GLOBAL_ROWS if before in (f"--{r.name}", f"-{r.short}" if r.short else None)), None)
    return row is not None and row.kind not in table.FLAG_KINDS


class _Recorder(parser._Scan):
    """Notes each option of a command line in place of storing its value."""

    __slots__ = ("found",)

    def __init__(self, path: str, rows: tuple[Any, ...]) -> None:
        super().__init__(path, rows, {}, set())
        self.found: list[tuple[table.Option, str]] = []

    def _store(self, row: table.Option, text: str, shown: str) -> None:
        self.found.append((row, text))


def _word(row: table.Option, text: str) -> str:
    if row.kind in table.FLAG_KINDS and text in ("true", "+1"):
        return f"--{row.name}"
    return f"--{row.name}={literal(text)}"


def _with_absolute_paths(row: table.Option, text: str, spec: ContainerSpec) -> str:
    """A value whose relative paths are made absolute, where the container tells; UsageError where it does not."""
    if row.field == "volume" and text.startswith("."):
        _, _, rest = text.partition(":")
        target = os.path.normpath(rest.partition(":")[0])
        for mount in spec.mounts:
            if mount.kind == "bind" and os.path.normpath(mount.target) == target:
                return f"{mount.source}:{rest}"
    relative = row.field in _PATHS and not text.startswith("/") and text not in ("none", "image")
    relative = relative or (row.field == "volume" and text.startswith("."))
    if row.field == "mount":
        fields = dict(field.partition("=")[::2] for field in text.split(","))
        source = fields.get("src") or fields.get("source") or "/"
        relative = fields.get("type") == "bind" and not source.startswith("/")
    if row.field == "security_opt":
        relative = text.startswith("seccomp=") and text[8:] != "unconfined" and not text.startswith("seccomp=/")
    if relative:
        raise UsageError(
            f"container {spec.name} was made with a relative path: --{row.name} {text}",
            hint="make it again with an absolute one",
        )
    return text


# --- this container ----------------------------------------------------------------------------


def _existing(spec: ContainerSpec, wishes: Wishes, pyctl: Sequence[str]) -> list[str]:
    called = draft.called(pyctl)
    name = literal(spec.name if wishes.by_name else spec.id)
    stop = command_line([*called, "stop", "--ignore", f"--time={wishes.stop_timeout_s}", name])
    # The container has a cgroup of its own; the main process is the command that stays attached to it.
    return [
        "Type=exec",
        "SuccessExitStatus=143",  # ended by TERM, as asked
        f"ExecStart={command_line([*called, 'start', '--attach', name])}",
        f"ExecStop={stop}",
        f"ExecStopPost={stop}",
    ]
