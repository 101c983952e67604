"""Tries what a service would run: with the option table's parser, and for containers with the checks of `run`.

Weight: `pyctl.cli.parser`, `pyctl.engine.request`.  Starts nothing, writes nothing, and asks no state: an image or a
container that is named need not be there yet.  A path of the host that is missing is a warning, since it may be there
when the service starts.
"""

from __future__ import annotations

import os

from pyctl.cli import parser, table
from pyctl.cli.unavailable import COMMANDS as UNAVAILABLE
from pyctl.engine.request import container_request
from pyctl.engine.request_facts import ImageChoice
from pyctl.units.specifiers import expand
from pyctl.units.syntax import Problem
from rootless.errors import Error
from rootless.netplan import NetworkConfig, Subnet
from storage import reference
from storage.imageconfig import ImageConfig, ImageHealth
from storage.platforms import Platform
from storage.volumes import check_name, check_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from pyctl.engine.model import IdRange, Mount
    from pyctl.engine.request_facts import RequestFacts
    from pyctl.units.draft import Given, Line, Made
    from pyctl.units.syntax import Entry

_ID = "0" * 64
# What stands in for a path that is not there yet; the option is tried for the rest of its value.
_STAND_INS = {
    "--volume": "/usr/share",
    "--mount": "/usr/share",
    "--rootfs": "/usr/share",
    "--env-file": "/dev/null",
    "--device": "/dev/null",
}
_TRANSPORTS = ("docker-archive:", "oci:", "oci-archive:", "dir:", "docker-daemon:", "containers-storage:", "docker://")
# The image that a container is tried with: what it says must not make a source look wrong.
_IMAGE = ImageConfig(
    platform=Platform(os="linux", architecture="amd64"),
    diff_ids=(),
    command=("sh",),
    health=ImageHealth(test=("CMD", "true")),
)


class AnyContainer:
    """Takes every name for a container's, or for a network's that has every address."""

    def container_id(self, name: str) -> str:
        return _ID

    def mounts(self, name: str) -> tuple[Mount, ...]:
        return ()

    def network(self, name: str) -> NetworkConfig:
        everything = (Subnet(subnet="0.0.0.0/0"), Subnet(subnet="::/0"))
        return NetworkConfig(id=_ID, name=name, interface="", subnets=everything)

    def taken_ids(self) -> tuple[IdRange, ...]:
        return ()


def why_no_command(path: str) -> str:
    """Why pyctl has no such command; "" where it has."""
    if path in table.HOMES or path in table.ALIASES:
        return ""
    return UNAVAILABLE.get(path) or UNAVAILABLE.get(path.split(" ", 1)[0]) or table.NOT_YET


def problems_of(made: Made, facts: RequestFacts, coming: Container[str] = ()) -> list[Problem]:
    """What is wrong with the commands of a service; `facts.environ` and `facts.uid` also expand specifiers.

    coming: paths that do not exist, but are about to.
    """
    for line in made.commands:
        missing = why_no_command(line.path)
        if missing:
            kind = made.source.kind
            return [
                _problem(made, None, Error(f".{kind} files need pyctl {line.path}, which is not available: {missing}"))
            ]
    return [problem for line in made.commands for problem in _Trial(made, line, facts, coming).problems()]


class _Trial:
    """One command line, with its options as they are seen by the command."""

    def __init__(self, made: Made, line: Line, facts: RequestFacts, coming: Container[str]) -> None:
        self.made = made
        self.coming = coming
        self.line = line
        self.facts = facts
        self.warnings: list[Problem] = []
        self.globals = [g for g in (self._known(given) for given in line.globals_) if g]
        self.options = [g for g in (self._known(given) for given in line.options) if g]
        self.args = tuple(self._expanded(word) or "x" for word in line.args)
        if line.path == "run" and any(given.words == ("--rootfs",) for given in line.options):
            self.args = (self._there(self.args[0], "--rootfs", None), *self.args[1:])

    def _expanded(self, word: str) -> str | None:
        return expand(word, self.made.service, self.facts.environ, self.facts.uid)

    def _known(self, given: Given) -> Given | None:
        """With specifiers expanded and missing paths replaced; None where a word cannot be known."""
        words: list[str] = []
        for word in given.words:
            known = self._expanded(word)
            if known is None:
                return None
            words.append(known)
        if len(words) == 2 and given.entry:
            if words[0] in ("--volume", "--env-file", "--device"):
                words[1] = self._there(words[1], words[0], given)
            elif words[0] == "--mount" and "type=bind" in words[1].split(","):
                fields = words[1].split(",")
                for index, field in enumerate(fields):
                    name, _, path = field.partition("=")
                    if name in ("src", "source"):
                        fields[index] = f"{name}={self._there(path, words[0], given)}"
                words[1] = ",".join(fields)
            elif words[1].startswith("seccomp=/") and not os.path.exists(words[1][8:]):
                self._missing(words[1][8:], given)
                return None
        return given.replace(words=tuple(words))

    def _there(self, text: str, option: str, given: Given | None) -> str:
        path, colon, rest = text.partition(":")
        if not path.startswith("/") or os.path.lexists(path) or (option == "--volume" and not colon):
            return text
        self._missing(path, given)
        return _STAND_INS[option] + colon + rest

    def _missing(self, path: str, given: Given | None) -> None:
        if path in self.coming:
            return
        entry = given.entry if given else None
        where = (entry.path, entry.line) if entry else (self.made.source.path, 0)
        text = f"{entry.key}={entry.value}: " if entry else ""
        hint = "it must be there when the service starts"
        self.warnings.append(
            Problem(path=where[0], line=where[1], text=f"{text}{path} does not exist", hint=hint, warning=True)
        )

    def problems(self) -> list[Problem]:
        """All that is wrong: after one value is found, it is left out and the rest tried again."""
        found: list[Problem] = []
        known = list(self.options)
        for given in tuple(self.globals):
            if error := self._error([given], []):
                found.append(_problem(self.made, given, error))
                self.globals.remove(given)
        while error := self._error(self.globals, known):
            culprit = self._culprit(known, error)
            found.append(_problem(self.made, culprit, error, self.line.entry if self._is_of_args(error) else None))
            if culprit is None:
                break
            known.remove(culprit)
        return [*self.warnings, *found]

    def _is_of_args(self, error: Error) -> bool:
        own = self._error(self.globals, [])
        return own is not None and own.message == error.message

    def _culprit(self, known: list[Given], error: Error) -> Given | None:
        """The option that brings the error about: alone, or (the last of several) by being there."""
        if self._is_of_args(error):
            return None
        named = [given for given in known if given.entry]
        for given in named:
            alone = self._error(self.globals, [given])
            if alone and alone.message == error.message:
                return given
        for given in reversed(named):
            without = self._error(self.globals, [other for other in known if other is not given])
            if without is None or without.message != error.message:
                return given
        return None

    def _error(self, globals_: list[Given], options: list[Given]) -> Error | None:
        """What the command would say; None where it would begin its work."""
        words = [word for given in globals_ for word in given.words]
        words += self.line.path.split(" ")
        words += [word for given in options for word in given.words]
        try:
            parsed = parser.parse([*words, *self.args])
            if parsed.args != self.args:
                stray = [word for word in parsed.args if word not in self.args]
                lost = [word for word in self.args if word not in parsed.args]
                return Error(
                    f"{stray[0]} is no option" if stray else f"{''.join(lost[:1])} would be taken for an option"
                )
            deeper = _DEEPER.get(parsed.command.path)
            if deeper:
                deeper(parsed, self.facts)
        except (parser.HelpAsked, parser.VersionAsked):
            return Error("--help and --version run nothing")
        except Error as error:
            return error
        except OSError as error:
            return Error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return None


def _problem(made: Made, given: Given | None, error: Error, entry: Entry | None = None) -> Problem:
    entry = given.entry if given else entry
    if entry is None:
        section = next((s for s in made.source.unit.sections if s.name == made.source.section), None)
        path, line = (section.path, section.line) if section else (made.source.path, 0)
        return Problem(path=path, line=line, text=error.message, hint=error.hint)
    return Problem(path=entry.path, line=entry.line, text=f"{entry.key}=: {error.message}", hint=error.hint)


# --- what the commands check beyond their options ------------------------------------------------


def _run(parsed: parser.Parsed, facts: RequestFacts) -> None:
    rootfs = bool(parsed.options.rootfs)
    if not rootfs:
        _image_name(parsed.args[0])
    container_request(
        parsed.options,
        parsed.args[1:] or (("sh",) if rootfs else ()),
        image=ImageChoice(rootfs=parsed.args[0]) if rootfs else ImageChoice(name=parsed.args[0], config=_IMAGE),
        facts=facts,
        lookups=AnyContainer(),
        container_id=_ID,
        name="name",
        created_ns=0,
    )


def _image_name(name: str) -> None:
    if not name.startswith(_TRANSPORTS):
        reference.parse(name)


def _pull(parsed: parser.Parsed, _facts: RequestFacts) -> None:
    for name in parsed.args:
        _image_name(name)


def _volume(parsed: parser.Parsed, _facts: RequestFacts) -> None:
    check_name(parsed.args[0])
    check_options({key: value for key, _, value in (word.partition("=") for word in parsed.options.opt)})


def _network(parsed: parser.Parsed, _facts: RequestFacts) -> None:
    from pyctl.engine.network_create import asked  # addresses and more, for those who have a .network file

    asked(parsed.args[0], parsed.options)


_DEEPER: dict[str, Callable[[parser.Parsed, RequestFacts], None]] = {
    "run": _run,
    "pull": _pull,
    "volume create": _volume,
    "network create": _network,
}
