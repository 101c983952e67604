"""Which containers a verb is about: names, --all, --latest, --filter, --cidfile.  Weight: `pyctl.engine.state`."""

from __future__ import annotations

from pyctl.engine import state
from rootless.errors import Error, NotFound, UsageError, os_error_text
from rootless.fds import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyctl.cli.parser import Parsed
    from pyctl.engine.engine import Engine
    from pyctl.engine.state import ContainerRecord


class Chosen:
    """The records, in order; `failures` is 0 or the exit status because of names that nothing matches."""

    __slots__ = ("_names", "failures", "missing", "records")

    def __init__(self) -> None:
        self.records: list[ContainerRecord] = []
        self.missing: list[str] = []
        self.failures = 0
        self._names: dict[str, str] = {}

    def add(self, record: ContainerRecord, name: str) -> None:
        """Once each, whatever it is called."""
        if record.id not in self._names:
            self._names[record.id] = name
            self.records.append(record)

    def named(self, record: ContainerRecord) -> str:
        """What to print for a record: the word that the user gave, else its id."""
        return self._names.get(record.id) or record.id


def choose(
    engine: Engine,
    parsed: Parsed,
    *,
    every: Callable[[ContainerRecord], bool] | None,
    ignore_missing: bool = False,
    implied: bool = False,
) -> Chosen:
    """The containers that this command line names.

    every: which ones --all and --filter stand for (None: the verb has neither).  implied: nothing need be named.
    Raises UsageError where nothing is named or too much is; names that nothing matches are reported and counted.
    """
    options = parsed.options
    names = list(parsed.args)
    for path in options.get("cidfile") or ():
        names.append(_read_cidfile(path, bool(options.get("ignore"))))
    filters = options.get("filter") or ()
    wants_all = bool(options.get("all")) or bool(filters) or implied
    if options.get("latest"):
        if names or wants_all:
            raise UsageError("--latest takes no names, --all or --filter")
        return _latest(engine)
    if wants_all and names and (options.get("all") or implied):
        raise UsageError("give containers, or --all, not both")
    if not names and not wants_all:
        raise UsageError(f"{parsed.path}: name a container", hint=f"pyctl {parsed.path} --help shows how")
    if wants_all and every is not None:
        return _filtered(engine, filters, every, names)
    return _by_name(engine, [n for n in names if n], ignore_missing or bool(options.get("ignore")))


def _latest(engine: Engine) -> Chosen:
    chosen = Chosen()
    row = engine.db.one("SELECT id FROM containers ORDER BY created_ns DESC LIMIT 1")
    if row is None:
        raise NotFound("there are no containers")
    chosen.add(state.get(engine.db, row[0]), "")
    return chosen


def _filtered(
    engine: Engine, filters: tuple[str, ...], every: Callable[[ContainerRecord], bool], names: list[str]
) -> Chosen:
    chosen = Chosen()
    records = [state.get(engine.db, n) for n in names] if names else state.every(engine.db)
    if filters:
        from pyctl.engine.filters import container_filter  # only where something is filtered

        matches = container_filter(engine.db, filters)
        records = [r for r in records if matches(r)]
    for record in records:
        if every(record):
            chosen.add(record, "")
    return chosen


def _by_name(engine: Engine, names: list[str], ignore_missing: bool) -> Chosen:
    chosen = Chosen()
    for name in names:
        try:
            chosen.add(state.get(engine.db, name), name)
        except NotFound as error:
            if ignore_missing:
                chosen.missing.append(name)
                continue
            if len(names) == 1:
                raise
            from pyctl.__main__ import report

            report(error)
            chosen.failures = error.exit_code
    return chosen


def _read_cidfile(path: str, ignore: bool) -> str:
    try:
        text = read_file(path, limit=4096).decode("utf-8", "replace").strip()
    except OSError as error:
        if ignore:
            return ""
        raise Error(os_error_text(error, f"--cidfile {path}")) from error
    return text.splitlines()[0] if text else ""
