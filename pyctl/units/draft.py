"""A service in the making: the source's values, the words they become, and what is wrong with them.

Weight: `pyctl.units.keys`, `.search`, `.syntax`.
"""

from __future__ import annotations

import os

from pyctl.units import keys
from pyctl.units.search import Source, load
from pyctl.units.syntax import Entry, Problem, boolean, literal, plain, unquoted, words
from rootless.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Given(Value):
    """Words of a command, and the assignment that they come from (None: this module's own)."""

    words: tuple[str, ...]
    entry: Entry | None = None


class Line(Value):
    """One command of a service: `path` is the command of pyctl's, `options` precede `args`, which come from `entry`."""

    path: str
    options: tuple[Given, ...] = ()
    args: tuple[str, ...] = ()
    entry: Entry | None = None
    globals_: tuple[Given, ...] = ()

    def words(self) -> list[str]:
        """All words after `pyctl`."""
        found = [word for given in self.globals_ for word in given.words]
        found += self.path.split(" ")
        return [*found, *(word for given in self.options for word in given.words), *self.args]


class Made(Value):
    """What a source became.

    service: "web.service"; links: (path below the unit folder, what it points to) of its [Install];
    commands: what is to be tried before it is written; refers: file names of the sources that it needs.
    """

    source: Source
    service: str
    text: str = ""
    links: tuple[tuple[str, str], ...] = ()
    commands: tuple[Line, ...] = ()
    problems: tuple[Problem, ...] = ()
    waits_for_network: bool = False
    refers: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        return not any(not problem.warning for problem in self.problems)


class World:
    """The sources among which references are looked up, and how pyctl is called.

    paths: file name → path.  pyctl: the words that a service calls it by, as they are (not yet `literal`).
    systemd_keys: section → keys that systemd knows; {}: its sections are not judged.
    copied: path → where its content still is, for files (and folders) that are about to be installed there.
    """

    def __init__(
        self,
        paths: dict[str, str],
        folders: Sequence[str],
        pyctl: Sequence[str],
        copied: Mapping[str, str] | None = None,
    ) -> None:
        self.paths = paths
        self.copied = copied or {}
        self.systemd_keys: dict[str, frozenset[str]] = {}
        self.folders = tuple(folders)
        self.pyctl = tuple(pyctl)
        self._loaded: dict[str, Source] = {}

    def source(self, file: str) -> Source | None:
        """The source of that file name; None where there is none."""
        if file not in self._loaded:
            path = self.paths.get(file)
            if path is None:
                return None
            self._loaded[file] = load(file, path, self.folders, self.copied.get(path, path))
        return self._loaded[file]

    def called(self) -> list[str]:
        """How a service calls pyctl; nothing in it is to be expanded."""
        return called(self.pyctl)


def called(pyctl: Sequence[str]) -> list[str]:
    """The first words of a command line; no variables are looked for in the program's path."""
    return [plain(pyctl[0]), *(literal(word) for word in pyctl[1:])] if pyctl else []


class Draft:
    """See the module's docstring."""

    def __init__(self, source: Source, world: World) -> None:
        self.source = source
        self.world = world
        self.kind = keys.KINDS[source.kind]
        self.problems: list[Problem] = []
        self.unit: list[tuple[str, str]] = []
        self.service: list[tuple[str, str]] = []
        self.options: list[Given] = []
        self.refers: list[str] = []

    # --- values ---

    def entries(self, key: str, section: str = "") -> list[Entry]:
        """The assignments of a key since the last empty one."""
        found: list[Entry] = []
        for entry in self.source.unit.entries(section or self.source.section):
            if entry.key == key:
                found = [*found, entry] if entry.value else []
        return found

    def entry(self, key: str, section: str = "") -> Entry | None:
        """The assignment that counts; None where there is none, or an empty one took it back."""
        found = self.entries(key, section)
        return found[-1] if found else None

    def text(self, key: str, section: str = "") -> str:
        """The value that counts, without the quotes around it; "" for none."""
        entry = self.entry(key, section)
        return unquoted(entry.value) if entry else ""

    def flag(self, key: str, default: bool = False, section: str = "") -> bool:
        entry = self.entry(key, section)
        if entry is None:
            return default
        try:
            return boolean(unquoted(entry.value))
        except ValueError as reason:
            self.wrong(entry, str(reason))
            return default

    def words(self, entry: Entry) -> list[str]:
        try:
            return words(entry.value)
        except ValueError as reason:
            self.wrong(entry, str(reason))
            return []

    def wrong(self, where: Entry | None, text: str, hint: str = "") -> None:
        """Note a mistake, at an assignment or (None) in the file as a whole."""
        if where is None:
            self.problems.append(Problem(path=self.source.path, text=text, hint=hint))
        else:
            told = f"{where.key}={_short(where.value)}: {text}"
            self.problems.append(Problem(path=where.path, line=where.line, text=told, hint=hint))

    # --- what they become ---

    def add(self, *given: str, entry: Entry | None = None) -> None:
        """Words of the command."""
        self.options.append(Given(words=given, entry=entry))

    def default(self, **values: str) -> None:
        """Lines of [Service], for keys that the source leaves open there."""
        self.service += [(key, value) for key, value in values.items() if not self.entry(key, "Service")]

    def path(self, text: str) -> str:
        """A path of the source: relative to its folder, where it does not begin with a specifier (`%h/x`)."""
        if text.startswith(("/", "%")):
            return text
        return os.path.normpath(f"{literal(self.source.folder)}/{text}")

    def apply(self, row: keys.Row) -> None:
        """What the key of one row becomes; nothing for kinds that have a function elsewhere."""
        if row.refused:
            for entry in self.entries(row.key):
                self.wrong(entry, "is not available", row.refused)
        elif row.kind == keys.FLAG:
            for entry in self.entries(row.key)[-1:]:
                self.add(row.option if self.flag(row.key, True) else f"{row.option}=false", entry=entry)
        elif row.kind in (keys.TEXT, keys.TEXTS):
            for entry in self.entries(row.key)[-1 if row.kind == keys.TEXT else 0 :]:
                self.add(row.option, row.prefix + unquoted(entry.value), entry=entry)
        elif row.kind in (keys.WORDS, keys.PAIRS, keys.FILES):
            for entry in self.entries(row.key):
                for word in self.words(entry):
                    self._word(row, entry, word)

    def _word(self, row: keys.Row, entry: Entry, word: str) -> None:
        if row.kind == keys.PAIRS and not word.partition("=")[1]:
            self.wrong(entry, f"{word!r} is not KEY=VALUE", 'quote a value with spaces: "KEY=some words"')
            return
        self.add(row.option, row.prefix + (self.path(word) if row.kind == keys.FILES else word), entry=entry)

    def apply_rows(self) -> None:
        """All rows of the kind that need no function of their own."""
        for row in self.kind.rows.values():
            self.apply(row)

    def globals_(self) -> tuple[Given, ...]:
        """The words that stand before the command."""
        modules = self.entries("ContainersConfModule")
        named = [Given(words=("--module", unquoted(entry.value)), entry=entry) for entry in modules]
        return (*named, *self.args("GlobalArgs"))

    def args(self, key: str) -> list[Given]:
        """GlobalArgs= or PodmanArgs=."""
        return [Given(words=tuple(self.words(entry)), entry=entry) for entry in self.entries(key)]

    # --- other sources ---

    def depend(self, service: str) -> None:
        """The service needs another one, which starts before it."""
        for line in (("Requires", service), ("After", service)):
            if line not in self.unit:
                self.unit.append(line)

    def refer(self, entry: Entry, name: str, *kinds: str) -> Source | None:
        """The source that `name` names ("data.volume"), which becomes a dependency; None where it is no reference
        to one of `kinds`, or (a problem) where there is no such source."""
        kind = name.rpartition(".")[2]
        if kind not in kinds or "/" in name:
            return None
        found = self.world.source(name)
        if found is None and "@" in name:  # an instance of a template
            found = self.world.source(f"{name.partition('@')[0]}@.{kind}")
        if found is None:
            self.wrong(entry, f"there is no {name}", f"install both together: pyctl quadlet install FILE {name}")
            return None
        self.depend(service_name(found))
        self.refers.append(found.file)
        return found


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "…"


def last_text(source: Source, key: str) -> str:
    """The value of a key of the source's own section that counts."""
    found = ""
    for entry in source.unit.entries(source.section):
        if entry.key == key:
            found = unquoted(entry.value)
    return found


def service_stem(source: Source) -> str:
    """ "web", "data-volume", "web@one": the service's name without its ending."""
    base, at, instance = source.name.partition("@")
    name = last_text(source, "ServiceName").removesuffix(".service")
    name = name or base + keys.KINDS[source.kind].suffix
    return name if "@" in name else name + at + instance


def service_name(source: Source) -> str:
    """ "web.service"."""
    return service_stem(source) + ".service"


def resource_name(source: Source) -> str:
    """What the volume, network, container or pod of a source is called, seen from another unit; an image's name."""
    kind = source.kind
    if kind == "image":
        return last_text(source, "ImageTag") or last_text(source, "Image")
    if kind == "build":
        for entry in source.unit.entries("Build"):
            if entry.key == "ImageTag" and entry.value:
                return unquoted(entry.value)
        return ""
    stem = service_stem(source) if kind == "container" else source.name
    return last_text(source, f"{source.section}Name") or f"systemd-{stem.replace('@', '_')}"
