"""From a source to its service: the sections that are systemd's pass through, its own becomes a command.

Weight: `pyctl.units.draft`, `.convert_*`.
"""

from __future__ import annotations

from pyctl.units import convert_others, keys
from pyctl.units.convert_container import container
from pyctl.units.draft import Draft, Line, Made, World, service_name
from pyctl.units.search import Source, is_unit_file
from pyctl.units.syntax import Entry, Problem, plain, unquoted, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MARK = "# Made by pyctl of "
WAIT_SERVICE = "pyctl-network-online.service"
# A user's units cannot wait for the system's: this one asks whether network-online.target is still about to come.
# Where nothing starts that target there is no job for it, and nothing is waited for.
WAIT_TEXT = f"""{MARK}itself, for units that pull images
[Unit]
Description=Wait until the machine's network is up

[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutStartSec=90
ExecStart=/bin/sh -c "while systemctl show -p Job network-online.target | grep -q '=.*[1-9]'; do sleep 0.5; done"
"""
_CONVERT: dict[str, Callable[[Draft], tuple[Line, ...]]] = {
    "container": container,
    "volume": convert_others.volume,
    "network": convert_others.network,
    "image": convert_others.image,
    "build": convert_others.build,
    "pod": convert_others.pod,
    "kube": convert_others.kube,
}
_DEPENDENCIES = frozenset(
    ("After", "Before", "BindsTo", "Conflicts", "OnFailure", "OnSuccess", "PartOf", "PropagatesReloadTo", "Requires",
     "Requisite", "StopPropagatedFrom", "Upholds", "Wants")
)  # fmt: skip
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@")
_UNIT_ENDINGS = (".service", ".target", ".socket", ".timer", ".path", ".mount", ".slice", ".automount", ".device")


def convert(source: Source, world: World) -> Made:
    """The service, as far as it can be made; `problems` says what keeps it from being used."""
    draft = Draft(source, world)
    draft.problems += source.problems
    service = service_name(source)
    if not is_unit_name(service):
        draft.wrong(draft.entry("ServiceName"), f"{service!r} names no unit", "letters, digits and :-_.@ are allowed")
    if not source.path.isprintable():
        draft.wrong(None, "the path holds characters that a unit file cannot")
    _check_keys(draft)
    _check_dependencies(draft)
    commands: tuple[Line, ...] = ()
    if source.unit.has(source.section):
        commands = _CONVERT[source.kind](draft)
    elif not source.problems:
        draft.wrong(None, f"there is no section [{source.section}]")
    waits = draft.flag("DefaultDependencies", True, "Quadlet")
    if waits:
        draft.unit += [("Wants", WAIT_SERVICE), ("After", WAIT_SERVICE)]
    draft.unit.append(("SourcePath", plain(source.path)))
    links = _links(draft, service)
    return Made(
        source=source,
        service=service,
        text=_text(draft),
        links=links,
        commands=commands,
        problems=tuple(draft.problems),
        waits_for_network=waits,
        refers=tuple(dict.fromkeys(draft.refers)),
    )


def _check_keys(draft: Draft) -> None:
    """Name the sections and keys that nothing reads."""
    own = draft.source.section
    systemd = draft.world.systemd_keys
    known: dict[str, Iterable[str]] = {own: draft.kind.rows, "Quadlet": keys.QUADLET, "Install": keys.INSTALL}
    known.update((name, systemd[name]) for name in ("Unit", "Service") if name in systemd)
    for section in draft.source.unit.sections:
        if section.name.startswith("X-") or (section.name in ("Unit", "Service") and section.name not in known):
            continue
        if section.name not in known:
            text = f"unknown section [{section.name}]"
            hint = f"a .{draft.source.kind} file has [{own}], [Quadlet] and systemd's [Unit], [Service], [Install]"
            draft.problems.append(Problem(path=section.path, line=section.line, text=text, hint=hint))
            continue
        for entry in section.entries:
            if entry.key not in known[section.name] and not entry.key.startswith("X-"):
                _unknown(draft, section.name, entry, tuple(known[section.name]))


def _check_dependencies(draft: Draft) -> None:
    """After=data.volume: systemd knows no such unit; the service of it is meant."""
    for entry in draft.source.unit.entries("Unit"):
        if entry.key not in _DEPENDENCIES:
            continue
        for name in draft.words(entry):
            if is_unit_file(name):
                other = draft.world.source(name)
                hint = f"{entry.key}={service_name(other)}" if other else "name the service that is made of it"
                draft.wrong(entry, f"{name} is no unit of systemd's", hint)


def _unknown(draft: Draft, section: str, entry: Entry, known: tuple[str, ...]) -> None:
    import difflib

    near = difflib.get_close_matches(entry.key, known, 1, 0.6)
    where = next((kind.name for kind in keys.KINDS.values() if entry.key in kind.rows), "")
    hint = f"did you mean {near[0]}=?" if near else f"that is a key of .{where} files" if where else ""
    problem = Problem(path=entry.path, line=entry.line, text=f"unknown key {entry.key}= in [{section}]", hint=hint)
    draft.problems.append(problem)


# --- [Install] ---------------------------------------------------------------------------------


def is_unit_name(name: str) -> bool:
    """As systemd has it: at most 255 of its characters, with one of its endings."""
    stem = name.rpartition(".")[0]
    return bool(
        stem and len(name) < 256 and name.endswith(_UNIT_ENDINGS) and not set(name) - _NAME_CHARACTERS
    ) and not stem.startswith((".", "@"))


def _links(draft: Draft, service: str) -> tuple[tuple[str, str], ...]:
    """What `systemctl enable` would make of the section; a template is enabled by DefaultInstance= only."""
    found: list[tuple[str, str]] = []
    target, shown = service, service
    if draft.source.is_template:
        instance = draft.text("DefaultInstance", "Install")
        shown = service.replace("@.", f"@{instance}.") if instance else ""
    for key, folder in (("WantedBy", "wants"), ("RequiredBy", "requires")):
        for _, name in _unit_names(draft, key):
            if shown:
                found.append((f"{_with_instance(draft, name)}.{folder}/{shown}", f"../{target}"))
    for entry, name in _unit_names(draft, "Alias"):
        if not name.endswith(".service"):
            draft.wrong(entry, f"{name} is not the name of a service")
        elif name != service:
            found.append((_with_instance(draft, name), target))
    if shown and not is_unit_name(shown):
        draft.wrong(draft.entry("DefaultInstance", "Install"), "is no instance's name")
    return tuple(dict.fromkeys(found))


def _with_instance(draft: Draft, name: str) -> str:
    return name.replace("%i", draft.source.instance or draft.text("DefaultInstance", "Install"))


def _unit_names(draft: Draft, key: str) -> list[tuple[Entry, str]]:
    found = []
    for entry in draft.entries(key, "Install"):
        try:
            names = words(unquoted(entry.value))
        except ValueError as reason:
            draft.wrong(entry, str(reason))
            continue
        for name in names:
            if is_unit_name(name.replace("%i", "i")):
                found.append((entry, name))
            else:
                draft.wrong(entry, f"{name!r} names no unit")
    return found


# --- the file ----------------------------------------------------------------------------------


def _text(draft: Draft) -> str:
    source = draft.source
    lines = [f"{MARK}{source.path}; change that file, and have this one made again"]
    added = {"Unit": draft.unit, "Service": draft.service}
    own = {source.section: f"X-{source.section}", "Quadlet": "X-Quadlet"}
    for name in dict.fromkeys((*source.unit.names(), "Unit", "Service")):
        lines += ["", f"[{own.get(name, name)}]"]
        # What waits for the network goes first, so that an empty assignment of the user's can take it back.
        waits = [line for line in added.get(name, ()) if line[1] == WAIT_SERVICE]
        lines += [f"{key}={value}" for key, value in waits]
        lines += [f"{entry.key}={entry.value}" for entry in source.unit.entries(name)]
        lines += [f"{key}={value}" for key, value in added.get(name, ()) if (key, value) not in waits]
    return "\n".join(lines) + "\n"
