"""All sources of a user, and the services that they make.  Weight: `pyctl.units.convert`, `.check`."""

from __future__ import annotations

import os

from pyctl.units import search
from pyctl.units.check import problems_of
from pyctl.units.convert import convert
from pyctl.units.draft import Made, World
from pyctl.units.syntax import Problem
from rootless.errors import NotFound, os_error_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pyctl.engine.request_facts import RequestFacts


def world_of(
    folders: Sequence[str],
    pyctl: Sequence[str],
    more: Mapping[str, str] | None = None,
    *,
    drop_ins: Sequence[str] = (),
    copied: Mapping[str, str] | None = None,
) -> tuple[World, tuple[Problem, ...]]:
    """What is found in `folders`, with `more` (file name → path) in front of it, and what is wrong with the folders.

    drop_ins: folders in which drop-ins of `more` are looked for, before all others; copied: see `World`.
    """
    found, every, problems = search.find(folders)
    return World({**found, **(more or {})}, (*drop_ins, *every), pyctl, copied), problems


def make(files: Iterable[str], world: World, facts: RequestFacts) -> list[Made]:
    """The services of some of the world's files, tried; each with all its problems."""
    made = []
    for file in files:
        source = world.source(file)
        if source is None:
            raise NotFound(f"there is no unit file {file}")
        service = convert(source, world)
        problems = (*service.problems, *problems_of(service, facts, world.copied))
        made.append(service.replace(problems=problems))
    return _once_each(made)


def _once_each(made: list[Made]) -> list[Made]:
    """With a problem for each of two sources that make the same service."""
    owners: dict[str, Made] = {}
    done = []
    for service in made:
        other = owners.setdefault(service.service, service)
        problems = service.problems
        if other is not service:
            text = f"makes {service.service}, as {other.source.path} does"
            problems += (Problem(path=service.source.path, text=text, hint="give one of them a ServiceName="),)
        done.append(service.replace(problems=problems))
    return done


def named_files(words: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...], dict[str, str]]:
    """Unit files by path, and those in folders that are named: (file name → path, their folders, the other unit files
    beside them).

    Raises NotFound for a path that does not exist, and for one that is no unit file.
    """
    found: dict[str, str] = {}
    folders: list[str] = []
    for word in words:
        path = os.path.abspath(word)
        if os.path.isdir(path):
            inside, every, _ = search.find([path])
            if not inside:
                raise NotFound(f"{word}: no unit file is in it", hint=_hint())
            found.update(inside)
            folders += every
        else:
            try:
                os.stat(path)
            except OSError as error:
                raise NotFound(os_error_text(error, word)) from error
            if not search.is_unit_file(os.path.basename(path)):
                raise NotFound(f"{word} is not a unit file", hint=_hint())
            found[os.path.basename(path)] = path
            folders.append(os.path.dirname(path))
    folders = list(dict.fromkeys(folders))
    beside = {name: f"{f}/{name}" for f in folders for name in sorted(os.listdir(f)) if search.is_unit_file(name)}
    return found, tuple(folders), {name: path for name, path in beside.items() if name not in found}


def _hint() -> str:
    return "their names end with " + " ".join(f".{kind}" for kind in search.KINDS)
