"""`quadlet install` and `rm`: what is copied where, and which services are made anew.

Weight: `pyctl.units.world`, `.installed`.
"""

from __future__ import annotations

import os

from pyctl.units import installed, search, systemd_keys
from pyctl.units.draft import Made, World, service_name
from pyctl.units.installed import Changes, Place
from pyctl.units.world import make, world_of
from rootless.errors import Error, NotFound, UsageError, os_error_text
from rootless.fds import read_file
from rootless.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyctl.engine.request_facts import RequestFacts

_MOST_FILES = 1000
_MOST_BYTES = 16 << 20


class Copy(Value):
    """One file to be installed; `link` is what a symbolic link points to, for instances of templates."""

    source: str
    target: str
    link: str = ""


class Job(Value):
    """What an installation will do.

    made: every service to be written, good or not; files: those that were named; copies: what goes where.
    """

    made: tuple[Made, ...]
    files: tuple[str, ...]
    copies: tuple[Copy, ...] = ()


# --- what is copied ----------------------------------------------------------------------------


def copies_of(words: Sequence[str], place: Place) -> list[Copy]:
    """The files that are named, their drop-ins, and whole folders.  Raises NotFound, UsageError."""
    found: list[Copy] = []
    for word in words:
        path = os.path.abspath(word)
        name = os.path.basename(path)
        if os.path.isdir(path):
            found += _tree(path, f"{place.sources}/{name}", word)
            if not any(search.is_unit_file(os.path.basename(copy.target)) for copy in found):
                raise NotFound(f"{word}: no unit file is in it")
            continue
        if not os.path.isfile(path):
            raise NotFound(f"{word}: {'not a file' if os.path.lexists(path) else 'No such file or directory'}")
        found.append(_copy(path, f"{place.sources}/{name}"))
        if search.is_unit_file(name):
            for drop_ins in search.drop_in_names(*name.rsplit(".", 1))[1:]:
                folder = f"{os.path.dirname(path)}/{drop_ins}"
                if os.path.isdir(folder):
                    found += _tree(folder, f"{place.sources}/{drop_ins}", word)
    if not any(search.is_unit_file(os.path.basename(copy.target)) for copy in found):
        raise UsageError("none of these is a unit file", hint=f"their names end with .{' .'.join(search.KINDS)}")
    return _with_whole_links(list(dict.fromkeys(found)))


def _with_whole_links(copies: list[Copy]) -> list[Copy]:
    """A link whose file neither comes along nor is there becomes a file of its own."""
    coming = {copy.target for copy in copies}

    def is_whole(copy: Copy) -> bool:
        file = f"{os.path.dirname(copy.target)}/{copy.link}"
        return file in coming or os.path.isfile(file)

    return [copy.replace(link="") if copy.link and not is_whole(copy) else copy for copy in copies]


def _copy(path: str, target: str) -> Copy:
    link = os.readlink(path) if os.path.islink(path) else ""
    # A link beside its file is an instance of a template and stays a link; any other is copied as what it points to.
    return Copy(source=path, target=target, link=link if link and "/" not in link else "")


def _tree(folder: str, target: str, word: str) -> list[Copy]:
    found: list[Copy] = []
    size = 0
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = f"{parent}/{name}"
            if not os.path.isfile(path):
                raise Error(f"{path} is not a file that can be copied")
            size += os.stat(path).st_size
            found.append(_copy(path, target + path[len(folder) :]))
            if len(found) > _MOST_FILES or size > _MOST_BYTES:
                raise Error(
                    f"{word}: more than {_MOST_FILES} files or {_MOST_BYTES >> 20} MiB",
                    hint="install the unit files alone, and name other files by absolute paths in them",
                )
    return found


# --- what is made ------------------------------------------------------------------------------


def plan(words: Sequence[str], place: Place, world_folders: Sequence[str], *, pyctl: Sequence[str], replace: bool,
         facts: RequestFacts) -> Job:  # fmt: skip
    """What `install` is to do, with all problems in it.  Raises Error for what stands in the way of copying."""
    copies = copies_of(words, place) if words else []
    files = {os.path.basename(c.target): c.target for c in copies if search.is_unit_file(os.path.basename(c.target))}
    folders = tuple(f for f in world_folders if f != place.sources)
    found, _, _ = search.find((place.sources,))
    for copy in copies:
        other = found.get(os.path.basename(copy.target))
        if other and other != copy.target and os.path.basename(copy.target) in files:
            raise Error(f"{other} has the same name", hint=f"pyctl quadlet rm {os.path.basename(other)} removes it")
        if not replace and _differs(copy):
            raise Error(f"{copy.target} exists and is another", hint="--replace installs this one in its place")
    copied = {c.target: c.source for c in copies}
    for copy in copies:  # their folders come along
        folder = os.path.dirname(copy.target)
        while folder.startswith(place.sources + "/"):
            copied.setdefault(folder, os.path.dirname(copy.source))
            folder = os.path.dirname(folder)
    near = dict.fromkeys(os.path.dirname(c.source) for c in copies)
    world, _ = world_of((place.sources, *folders), pyctl, files, drop_ins=tuple(near), copied=copied)
    world.systemd_keys = systemd_keys.known()
    again = [] if place.generator else _again(place, world, set(files))
    made = _closed(tuple(files) or tuple(again), again, world, facts)
    return Job(made=tuple(made), files=tuple(files), copies=tuple(copies))


def _differs(copy: Copy) -> bool:
    if not os.path.lexists(copy.target):
        return False
    if copy.link or os.path.islink(copy.target):
        return not (os.path.islink(copy.target) and os.readlink(copy.target) == copy.link)
    return not os.path.isfile(copy.target) or read_file(copy.target) != read_file(copy.source)


def _again(place: Place, world: World, named: set[str]) -> list[str]:
    """The sources whose services pyctl has written before."""
    own = set(installed.generated(place.services))
    files = (file for file in sorted(world.paths) if file not in named)
    return [file for file in files if (source := world.source(file)) and service_name(source) in own]


def _closed(files: Sequence[str], again: Sequence[str], world: World, facts: RequestFacts) -> list[Made]:
    """The services of the files, of those that had one before, and of all that they refer to."""
    wanted = dict.fromkeys((*files, *again))
    while True:
        made = make(wanted, world, facts)
        more = [file for service in made for file in service.refers if file not in wanted]
        if not more:
            return made
        wanted.update(dict.fromkeys(more))


# --- doing it ----------------------------------------------------------------------------------


def carry_out(job: Job, place: Place) -> None:
    """Writes everything, or leaves all as it was.  Raises Error."""
    good = [service for service in job.made if service.is_good]
    if not place.generator:
        installed.check_free(place.services, (service.service for service in good))
    with Changes() as changes:
        try:
            changes.folder(place.sources)
            for copy in job.copies:
                if copy.link:
                    changes.folder(os.path.dirname(copy.target))
                    changes.link(copy.target, copy.link)
                else:
                    mode = os.stat(copy.source).st_mode & 0o755
                    changes.write(copy.target, read_file(copy.source), mode | 0o600)
            if place.generator:
                installed.remove_all(changes, place.services)
            else:
                installed.write_services(changes, place.services, good)
        except OSError as error:
            raise Error(os_error_text(error, str(error.filename or "cannot install"))) from error
        changes.keep()


def own_sources(place: Place) -> dict[str, str]:
    """File name → path of the user's own sources."""
    return search.find((place.sources,))[0]


def find_source(name: str, place: Place) -> str:
    """The file name that a word of the user's means: "web.container", "web", or "web.service".  Raises NotFound."""
    found = own_sources(place)
    if name in found:
        return name
    stem = name.removesuffix(".service")
    fitting = [file for file in found if file.rpartition(".")[0] == stem]
    if not fitting:
        world = World(found, (), ())
        fitting = [f for f in found if (source := world.source(f)) and service_name(source) == f"{stem}.service"]
    if not fitting:
        raise NotFound(f"there is no unit file {name} in {place.sources}", hint="pyctl quadlet list shows all")
    if len(fitting) > 1:
        raise UsageError(f"{name} can be {' or '.join(sorted(fitting))}")
    return fitting[0]


def users_of(file: str, place: Place, leaving: set[str]) -> list[str]:
    """The user's other sources that refer to `file`, or are links to it, and stay."""
    from pyctl.units.convert import convert

    world, _ = world_of((place.sources,), ())
    path = os.path.realpath(world.paths[file])
    found = []
    for name in sorted(world.paths.keys() - leaving - {file}):
        source = world.source(name)
        is_link = os.path.islink(world.paths[name]) and os.path.realpath(world.paths[name]) == path
        if is_link or (source and file in convert(source, world).refers):
            found.append(name)
    return found


def remove(file: str, place: Place) -> str:
    """Removes a source with its own drop-ins, and its service; returns the service's name."""
    path = own_sources(place)[file]
    service = service_name(search.load(file, path, ()))
    drop_ins = f"{os.path.dirname(path)}/{file}.d"
    with Changes() as changes:
        try:
            if service in installed.generated(place.services):
                installed.remove_service(changes, place.services, service)
            if os.path.isdir(drop_ins) and not os.path.islink(drop_ins):
                for name in sorted(os.listdir(drop_ins)):
                    if name.endswith(".conf") and os.path.isfile(f"{drop_ins}/{name}"):
                        changes.remove(f"{drop_ins}/{name}")
            changes.remove(path)
        except OSError as error:
            raise Error(os_error_text(error, str(error.filename or path))) from error
        changes.keep()
    for folder in (drop_ins, os.path.dirname(path)):
        if folder != place.sources:
            try:
                os.rmdir(folder)
            except OSError:
                pass  # other files of the user's are in it
    return service
