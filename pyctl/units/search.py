"""Where Quadlet's files are, and which drop-ins belong to them (podman-systemd.unit(5), systemd.unit(5)).

Weight: `os`, `pyctl.units.syntax`.  Reads only.
"""

from __future__ import annotations

import os

from pyctl.units.syntax import MOST_BYTES, Problem, Unit, parse
from rootless.errors import Error
from rootless.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

KINDS = ("container", "volume", "network", "image", "build", "kube", "pod")
_DEEPEST = 16
_MOST_FILES = 10_000


class Source(Value):
    """One unit file with its drop-ins merged.

    file: "web@one.container"; name: "web@one"; folder: where relative paths of it begin (that of the link, not of
    what it points to).  drop_ins: the files that were merged.
    """

    file: str
    name: str
    kind: str
    path: str
    unit: Unit
    drop_ins: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def folder(self) -> str:
        return os.path.dirname(self.path)

    @property
    def section(self) -> str:
        """The section that is its kind's own: "Container"."""
        return self.kind.capitalize()

    @property
    def instance(self) -> str:
        """What follows the @ of an instance; "" for a template and for a plain name."""
        return self.name.partition("@")[2]

    @property
    def is_template(self) -> bool:
        return self.name.endswith("@")


def user_folder(environ: Mapping[str, str]) -> str:
    """Where a user's own sources are: ~/.config/containers/systemd."""
    return f"{config_home(environ)}/containers/systemd"


def config_home(environ: Mapping[str, str]) -> str:
    """$XDG_CONFIG_HOME, or ~/.config."""
    home = environ.get("XDG_CONFIG_HOME", "")
    return home if home.startswith("/") else environ.get("HOME", "") + "/.config"


def search_path(environ: Mapping[str, str], uid: int, etc: str = "/etc", share: str = "/usr/share") -> tuple[str, ...]:
    """The folders in which sources are looked for, the strongest first; with QUADLET_UNIT_DIRS those alone."""
    if environ.get("QUADLET_UNIT_DIRS"):
        return tuple(f for f in environ["QUADLET_UNIT_DIRS"].split(":") if f.startswith("/"))
    if not uid:
        return ("/run/containers/systemd", f"{etc}/containers/systemd", f"{share}/containers/systemd")
    of_all = f"{etc}/containers/systemd/users"
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    first = (f"{runtime}/containers/systemd",) if runtime.startswith("/") else ()
    return (*first, user_folder(environ), f"{of_all}/{uid}", of_all)


def is_unit_file(name: str) -> bool:
    """Whether a file of this name is a source."""
    stem, dot, kind = name.rpartition(".")
    return bool(dot and stem and kind in KINDS)


def find(folders: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...], tuple[Problem, ...]]:
    """(file name → path of the strongest, all folders that may hold drop-ins, problems) below `folders`.

    Raises Error for more files than anybody has.
    """
    found: dict[str, str] = {}
    every: list[str] = []
    problems: list[Problem] = []
    for folder in folders:
        for below in _walk(folder, problems):
            every.append(below)
            for name in sorted(_names(below)):
                path = f"{below}/{name}"
                if is_unit_file(name) and name not in found and not os.path.isdir(path):
                    found[name] = path
                    if len(found) > _MOST_FILES:
                        hint = "name the files that are meant"
                        raise Error(f"{folder}: more than {_MOST_FILES} unit files", hint=hint)
    # Linked to /dev/null: masked, as systemd has it.
    shown = {name: path for name, path in found.items() if os.path.realpath(path) != "/dev/null"}
    return shown, tuple(dict.fromkeys(every)), tuple(problems)


def _walk(folder: str, problems: list[Problem]) -> Iterator[str]:
    """`folder` and what is below it; drop-in folders, and those of single users below `users`, are left out."""
    seen: set[str] = set()
    waiting = [(folder, 0)]
    while waiting:
        path, depth = waiting.pop(0)
        real = os.path.realpath(path)
        if real in seen or not os.path.isdir(path):
            continue
        seen.add(real)
        yield path
        if depth == _DEEPEST:
            problems.append(Problem(path=path, text="deeper folders are not looked at", warning=True))
            continue
        of_users = path.endswith("/etc/containers/systemd/users")
        of_root = path.endswith("/etc/containers/systemd")
        for name in sorted(_names(path)):
            below = f"{path}/{name}"
            foreign = name.endswith(".d") or (of_users and name.isdecimal()) or (of_root and name == "users")
            if not foreign and os.path.isdir(below):
                waiting.append((below, depth + 1))


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def load(file: str, path: str, folders: Sequence[str], content: str = "") -> Source:
    """The source at `path`, called `file`, with the drop-ins that `folders` hold for it.

    content: where the file is as yet, if it is still to be installed at `path`.
    """
    stem, _, kind = file.rpartition(".")
    problems: list[Problem] = []
    unit = _read(content or path, problems)
    drop_ins = _drop_ins(stem, kind, folders)
    merged = unit.sections
    for drop_in in drop_ins:
        merged += _read(drop_in, problems).sections
    return Source(
        file=file,
        name=stem,
        kind=kind,
        path=path,
        unit=Unit(sections=merged),
        drop_ins=drop_ins,
        problems=tuple(problems),
    )


def _read(path: str, problems: list[Problem]) -> Unit:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a fifo must not hold anybody up
        try:
            data = b""
            while len(data) <= MOST_BYTES and (piece := os.read(fd, MOST_BYTES + 1)):
                data += piece
        finally:
            os.close(fd)
    except OSError as error:
        problems.append(Problem(path=path, text=f"cannot be read: {error.strerror}"))
        return Unit()
    unit, wrong = parse(data, path)
    problems += wrong
    return unit


def drop_in_names(stem: str, kind: str) -> list[str]:
    """The drop-in folders of a source, the weakest first: container.d, web-.container.d, web-one.container.d …"""
    base, at, _instance = stem.partition("@")
    stems = [base[: index + 1] for index, char in enumerate(base) if char == "-" and index + 1 < len(base)]
    if at:
        stems.append(f"{base}@")
    names = [f"{kind}.d", *(f"{name}.{kind}.d" for name in (*stems, stem))]
    return list(dict.fromkeys(names))


def _drop_ins(stem: str, kind: str, folders: Sequence[str]) -> tuple[str, ...]:
    chosen: dict[str, str] = {}
    for name in drop_in_names(stem, kind):
        for folder in reversed(folders):  # the strongest folder has the last word
            held = f"{folder}/{name}"
            for file in _names(held):
                if file.endswith(".conf"):
                    chosen[file] = f"{held}/{file}"
    paths = (chosen[file] for file in sorted(chosen))
    return tuple(path for path in paths if os.path.realpath(path) != "/dev/null")
