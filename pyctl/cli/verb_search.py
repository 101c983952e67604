"""`search`.  Weight: `storage.registry_search` (urllib3)."""

from __future__ import annotations

import os

from pyctl.cli import output
from pyctl.cli.verb_pull import credentials
from pyctl.engine.engine import Engine
from rootless.errors import Error, UsageError
from storage.pull import PullOptions, list_tags
from storage.reference import DOCKER_HUB, Reference, parse
from storage.registries_conf import Source, find
from storage.registry_connect import connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyctl.cli.parser import Options, Parsed
    from storage.registry_search import Found

_USUAL_LIMIT = 25
_MAX_LIMIT = 100
_DESCRIPTION = 44
_FIELDS = ("Index", "Name", "Description", "Stars", "Official", "Automated", "Tag")


def search(parsed: Parsed) -> int:
    """Lists repositories of the registries, or the tags of one; a registry that fails does not keep the others."""
    options = parsed.options
    engine = Engine(parsed.globals)
    limit = options.limit or _USUAL_LIMIT
    if not 0 < limit <= (1 << 31 if options.list_tags else _MAX_LIMIT):
        raise UsageError(f"--limit {limit}: 1 to {_MAX_LIMIT} is expected")
    wanted = PullOptions(
        credentials=credentials(options.creds),
        authfile=options.authfile,
        tls_verify=options.tls_verify if options.given("tls_verify") else None,
        cert_dir=options.cert_dir,
    )
    if options.list_tags:
        return _tags(engine, parsed.args[0], wanted, limit, options)
    keep = _filter(options.filter)
    registries, term = _places(engine, parsed.args[0])
    if wanted.credentials is not None and len(registries) > 1:
        raise UsageError("several registries are searched, and each would be sent the password of --creds")
    rows: list[dict[str, object]] = []
    errors: list[Error] = []
    for domain in registries:
        try:
            rows += [_row(domain, one) for one in _search(engine, domain, term, limit, wanted) if keep(one)]
        except Error as error:
            if len(registries) == 1:
                raise
            errors.append(error)
    _show(rows, options)
    for met in errors:
        output.error_line(met)
    return errors[0].exit_code if errors else 0


def _places(engine: Engine, text: str) -> tuple[tuple[str, ...], str]:
    """The registries to search and what for: REGISTRY/TERM names one, any other term all of registries.conf's."""
    first, slash, rest = text.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return (first,), rest
    return engine.registries.search, text


def _search(engine: Engine, domain: str, term: str, limit: int, wanted: PullOptions) -> tuple[Found, ...]:
    from storage.registry_search import HUB_INDEX
    from storage.registry_search import search as search_registry

    host, _, space = domain.partition("/")  # registries.conf may search a part of a registry
    reference = parse(f"{host}/x") if host != DOCKER_HUB else Reference(domain=HUB_INDEX, path="x")
    entry = find(engine.registries, reference)
    if entry is not None and entry.blocked:
        raise Error(f"registry {entry.prefix} is blocked by registries.conf")
    source = Source(reference=reference, insecure=entry is not None and entry.insecure)
    registry = connect(source, wanted, os.environ, engine.registries)
    try:
        return search_registry(registry, f"{space}/{term}" if space else term, limit)
    finally:
        registry.close()


def _row(domain: str, found: Found) -> dict[str, object]:
    host = domain.partition("/")[0]
    name = f"library/{found.name}" if host == DOCKER_HUB and "/" not in found.name else found.name
    return {
        "Index": host,
        "Name": f"{host}/{name}",
        "Description": output.clean(found.description),
        "Stars": found.stars,
        "Official": "[OK]" if found.official else "",
        "Automated": "[OK]" if found.automated else "",
        "Tag": "",
    }


def _filter(texts: tuple[str, ...]) -> Callable[[Found], bool]:
    """The --filter options: stars=N, is-official[=BOOL], is-automated[=BOOL].  Raises UsageError."""
    stars, flags = 0, dict[str, bool]()
    for text in texts:
        key, equals, value = text.partition("=")
        if key == "stars" and value.isascii() and value.isdecimal():
            stars = int(value[:9])
        elif key in ("is-official", "is-automated") and (not equals or value in ("true", "false", "1", "0")):
            flags[key] = value in ("", "true", "1")
        else:
            raise UsageError(f"invalid filter {text!r}", hint="stars=N, is-official[=BOOL], is-automated[=BOOL]")

    def keep(found: Found) -> bool:
        have = {"is-official": found.official, "is-automated": found.automated}
        return found.stars >= stars and all(have[key] == wanted for key, wanted in flags.items())

    return keep


def _tags(engine: Engine, text: str, wanted: PullOptions, limit: int, options: Options) -> int:
    if options.filter:
        raise UsageError("--filter does not go with --list-tags")
    found = list_tags(text.removeprefix("docker://"), wanted, os.environ, engine.registries)[:limit]
    name = found[0].name if found else text
    from pyctl.cli import report

    if options.format and report.is_json(options.format):
        report.print_json([{"Name": name, "Tags": [reference.tag for reference in found]}])
        return 0
    rows = [{**dict.fromkeys(_FIELDS, ""), "Stars": 0, "Name": name, "Tag": reference.tag} for reference in found]
    if options.format:
        return report.print_rows([report.Row(row) for row in rows], options.format, {}, fields=_FIELDS)
    output.print_table(("NAME", "TAG"), [(str(row["Name"]), str(row["Tag"])) for row in rows], bool(rows))
    return 0


def _show(rows: list[dict[str, object]], options: Options) -> None:
    from pyctl.cli import report

    if options.format and report.is_json(options.format):
        report.print_json(rows)
        return
    if not options.no_trunc:
        for row in rows:
            text = str(row["Description"])
            row["Description"] = text[:_DESCRIPTION] + "..." if len(text) > _DESCRIPTION else text
    if options.format:
        report.print_rows([report.Row(row) for row in rows], options.format, {}, fields=_FIELDS)
        return
    columns = ["Name", "Description", *["Stars", "Official", "Automated"] * bool(options.compatible)]
    lines = [[str(row[column]) for column in columns] for row in rows]
    output.print_table([column.upper() for column in columns], lines, bool(rows))
