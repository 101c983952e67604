"""`quadlet verify print install list rm`, and what the administrator's generator calls.  Weight: `pyctl.units`."""

from __future__ import annotations

import os
import sys

from pyctl.cli import output
from pyctl.engine.engine import Engine
from pyctl.units import installed, installing, search, systemd_keys, world
from pyctl.units.draft import Made, service_name
from pyctl.units.own_command import own_words
from rootless import userns
from rootless.errors import EXIT_ENGINE, Error, NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyctl.cli.parser import Parsed
    from pyctl.units.draft import World
    from pyctl.units.installed import Place
    from pyctl.units.syntax import Problem

_STATUS_UNKNOWN = "unknown"  # no user manager answers
_NOT_LOADED = "Not loaded"


def _folders() -> tuple[str, ...]:
    return search.search_path(os.environ, userns.host_uid())


def tell(problems: Sequence[Problem]) -> None:
    """Problems, one line each on stderr, file and line first, as compilers have it."""
    lines = []
    for problem in sorted(dict.fromkeys(problems), key=lambda p: (p.path, p.line)):
        lines.append(output.clean(problem.shown()))
        if problem.hint:
            lines.append(f"  hint: {output.clean(problem.hint)}")
    sys.stdout.flush()
    sys.stderr.write("".join(f"{line}\n" for line in lines))


# --- verify, print -----------------------------------------------------------------------------


def verify(parsed: Parsed) -> int:
    """Says what is wrong; writes nothing."""
    pyctl = own_words(parsed.globals)
    seen, files, problems = _world_of_words(parsed.args, pyctl)
    seen.systemd_keys = systemd_keys.known()
    made = world.make(files, seen, Engine(parsed.globals, writes=False).request_facts())
    every = [*problems, *(problem for service in made for problem in service.problems)]
    tell(every)
    return EXIT_ENGINE if any(not problem.warning for problem in every) else 0


def _world_of_words(words: Sequence[str], pyctl: Sequence[str]) -> tuple[World, list[str], tuple[Problem, ...]]:
    """The sources that are known, the names of those that are meant, and what is wrong with folders."""
    folders = _folders()
    if not words:
        seen, problems = world.world_of(folders, pyctl)
        return seen, sorted(seen.paths), problems
    known = search.find(folders)[0]
    paths = [word for word in words if word not in known or os.path.exists(word)]
    more, near, beside = world.named_files(paths)
    seen, _ = world.world_of(folders, pyctl, {**beside, **more}, drop_ins=near)
    return seen, [*more, *(word for word in words if word not in paths)], ()


def print_(parsed: Parsed) -> int:
    """The file with the names of its drop-ins, or the service."""
    pyctl = own_words(parsed.globals)
    known = search.find(_folders())[0]
    words = [word if os.path.exists(word) else _known_name(word, known) for word in parsed.args]
    seen, files, _ = _world_of_words(words, pyctl)
    if parsed.options.generated:
        return _print_services(world.make(files, seen, Engine(parsed.globals).request_facts()))
    for number, file in enumerate(files):
        source = seen.source(file)
        assert source is not None
        for path in (source.path, *source.drop_ins):
            if len(files) + len(source.drop_ins) > 1:
                sys.stdout.write(f"{chr(10) * bool(number)}# {path}\n")
            with open(path, encoding="utf-8", errors="replace") as text:
                sys.stdout.write(text.read())
    return 0


def _known_name(word: str, known: dict[str, str]) -> str:
    if word in known:
        return word
    fitting = [file for file in known if file.rpartition(".")[0] == word.removesuffix(".service")]
    if len(fitting) != 1:
        raise NotFound(f"there is no unit file {word}" if not fitting else f"{word} can be {' or '.join(fitting)}")
    return fitting[0]


def _print_services(made: Sequence[Made]) -> int:
    status = 0
    for number, service in enumerate(made):
        tell(service.problems)
        if not service.is_good:
            status = EXIT_ENGINE
            continue
        head = f"---{service.service}---\n" if len(made) > 1 else ""
        sys.stdout.write("\n" * bool(number) + head + installed.service_text(service))
    return status


# --- install, rm -------------------------------------------------------------------------------


def install(parsed: Parsed) -> int:
    """Copies unit files and writes their services; prints the services' names."""
    options = parsed.options
    place = installed.place_of(os.environ)
    facts = Engine(parsed.globals).request_facts()
    pyctl = own_words(parsed.globals)
    job = installing.plan(parsed.args, place, _folders(), pyctl=pyctl, replace=bool(options.replace), facts=facts)
    named = [service for service in job.made if not job.files or service.source.file in job.files]
    needed = {file for service in named for file in service.refers}
    strict = [service for service in job.made if service in named or service.source.file in needed]
    tell([problem for service in job.made for problem in service.problems])
    if any(not service.is_good for service in strict if job.files):
        raise Error("nothing was installed")
    installing.carry_out(job, place)
    _reload(bool(options.reload_systemd))
    sys.stdout.write("".join(f"{service.service}\n" for service in named if service.is_good))
    if place.generator:
        return 0
    return 0 if all(service.is_good for service in job.made if service in named) else EXIT_ENGINE


def _reload(wanted: bool) -> None:
    if not wanted:
        return
    reason = installed.reload()
    if reason:
        sys.stderr.write(
            f"pyctl: warning: systemd did not read the units: {reason}; once your user manager runs:"
            " systemctl --user daemon-reload\n"
        )


def rm(parsed: Parsed) -> int:
    """Removes unit files and services; prints what was removed."""
    options = parsed.options
    if bool(parsed.args) == bool(options.all):
        raise UsageError("give names, or --all")
    place = installed.place_of(os.environ)
    files, status = _files_to_remove(parsed, place)
    for file in files:
        try:
            _remove(file, place, set(files), bool(options.force))
        except Error as error:
            output.error_line(error)
            status = error.exit_code
        else:
            sys.stdout.write(f"{file}\n")
    if files:
        _reload(bool(options.reload_systemd))
    return status


def _files_to_remove(parsed: Parsed, place: Place) -> tuple[list[str], int]:
    if parsed.options.all:
        own = installing.own_sources(place)
        written = installed.generated(place.services)
        seen = {file: search.load(file, path, ()) for file, path in own.items()}
        return [f for f, source in sorted(seen.items()) if place.generator or service_name(source) in written], 0
    files, status = [], 0
    for word in parsed.args:
        try:
            files.append(installing.find_source(word, place))
        except NotFound as error:
            if not parsed.options.ignore:
                output.error_line(error)
                status = error.exit_code
    return list(dict.fromkeys(files)), status


def _remove(file: str, place: Place, leaving: set[str], force: bool) -> None:
    users = installing.users_of(file, place, leaving)
    if users:
        raise Error(f"{file} is used by {', '.join(users)}", hint="remove that first, or both in one command")
    service = service_name(search.load(file, installing.own_sources(place)[file], ()))
    state = installed.states([service]).get(service, ("", "", ""))[1]
    if state in ("active", "activating", "reloading", "deactivating"):
        if not force:
            raise Error(f"{service} is {state}", hint=f"systemctl --user stop {service}, or --force")
        stopped = installed.systemctl("stop", "--", service)
        if stopped is None or stopped.returncode:
            raise Error(f"{service} could not be stopped", hint=f"systemctl --user status {service}")
    installing.remove(file, place)


# --- list --------------------------------------------------------------------------------------


def list_(parsed: Parsed) -> int:
    """The table of all sources."""
    options = parsed.options
    seen, problems = world.world_of(_folders(), own_words(parsed.globals))
    rows = _rows(seen, options.filter)
    tell(problems)
    if options.format:
        from pyctl.cli import report

        titles = {"Name": "NAME", "UnitName": "UNIT NAME", "Path": "PATH ON DISK", "Status": "STATUS"}
        shown = [report.Row(row) for row in rows]
        fields = ("Name", "UnitName", "Path", "Status")
        return report.print_rows(shown, options.format, titles, fields=fields, show_headings=not options.noheading)
    lines = [tuple(row.values()) for row in rows]
    output.print_table(("NAME", "UNIT NAME", "PATH ON DISK", "STATUS"), lines, not options.noheading)
    return 0


def _rows(seen: World, filters: Sequence[str]) -> list[dict[str, str]]:
    services = {file: service_name(source) for file in sorted(seen.paths) if (source := seen.source(file))}
    plain = [name for name in services.values() if "@." not in name]
    found = installed.states(plain)
    rows = []
    for file, service in services.items():
        load, active, sub = found.get(service, ("", "", ""))
        status = f"{active}/{sub}" if load == "loaded" else _NOT_LOADED if load else _STATUS_UNKNOWN
        rows.append({"Name": file, "UnitName": service, "Path": seen.paths[file], "Status": status})
    return [row for row in rows if all(_matches(row, word) for word in filters)]


def _matches(row: dict[str, str], word: str) -> bool:
    from fnmatch import fnmatchcase

    key, equals, value = word.partition("=")
    if key not in ("name", "kind", "status") or not equals:
        raise UsageError(f"--filter {word}: unknown", hint="known: name=PATTERN, kind=container, status=active")
    if key == "name":
        return fnmatchcase(row["Name"], value) or fnmatchcase(row["Name"].rpartition(".")[0], value)
    if key == "kind":
        return row["Name"].endswith(f".{value}")
    return row["Status"].lower().startswith(value.lower())


# --- the generator -----------------------------------------------------------------------------


def generator(parsed: Parsed) -> int:
    """systemd.generator(7): writes the services of all good sources to the first folder, tells of the others."""
    from pyctl.units import generator as generator_

    folder = parsed.args[0]
    try:
        facts = Engine(parsed.globals).request_facts()
        return generator_.run(folder, _folders(), own_words(parsed.globals), facts)
    except (Error, OSError) as error:
        generator_.tell(getattr(error, "message", None) or str(error))
        return EXIT_ENGINE
