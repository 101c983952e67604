"""From .volume, .network, .image, .build, .pod and .kube files to their services.

Weight: `pyctl.units.draft`.  Each is written for the command that it runs, whether that is built or not: what its
words come to is tried with the option table afterwards (`pyctl.units.check`).
"""

from __future__ import annotations

import os

from pyctl.units.convert_container import image_name, networks, volumes
from pyctl.units.draft import Draft, Given, Line, service_name
from pyctl.units.syntax import command_line, plain, unquoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.units.syntax import Entry


def _one_shot(draft: Draft, line: Line) -> tuple[Line, ...]:
    """A service that is there once its command has succeeded."""
    given = draft.entry("ExecStart", "Service")
    if given:
        draft.wrong(given, f"the command is made of [{draft.source.section}]", "use ExecStartPre= or ExecStartPost=")
    kind = draft.entry("Type", "Service")
    if kind and kind.value != "oneshot":
        draft.wrong(kind, "must be oneshot")
    service = draft.service
    draft.default(Type="oneshot", RemainAfterExit="yes", SyslogIdentifier="%N")
    service.append(("ExecStart", command_line([*draft.world.called(), *line.words()])))
    return (line,)


def _name(draft: Draft, key: str) -> str:
    entry = draft.entry(key)
    name = unquoted(entry.value) if entry else f"systemd-{plain(draft.source.name).replace('@', '_')}"
    return name + "%i" * (entry is None and draft.source.is_template)


def _line(draft: Draft, path: str, *args: str, entry: Entry | None = None) -> Line:
    draft.options += draft.args("PodmanArgs")
    return Line(path=path, options=tuple(draft.options), args=args, entry=entry, globals_=draft.globals_())


def volume(draft: Draft) -> tuple[Line, ...]:
    """`volume create --ignore`."""
    draft.add("--ignore")
    copy = draft.entry("Copy")
    if copy:
        draft.add("--opt", "copy" if draft.flag("Copy") else "nocopy", entry=copy)
    driver, image_entry = draft.entry("Driver"), draft.entry("Image")
    if driver and unquoted(driver.value) == "image" and image_entry is None:
        draft.wrong(driver, "needs Image=")
    if image_entry:
        draft.add("--opt", f"image={image_name(draft, image_entry)}", entry=image_entry)
    _mount_options(draft)
    draft.apply_rows()
    line = _line(draft, "volume create", _name(draft, "VolumeName"), entry=draft.entry("VolumeName"))
    return _one_shot(draft, line)


def _mount_options(draft: Draft) -> None:
    device = draft.entry("Device")
    for key in ("Type", "Options"):
        entry = draft.entry(key)
        if entry and not device:
            draft.wrong(entry, "needs Device=")
    for key, option in (("User", "uid"), ("Group", "gid")):
        entry = draft.entry(key)
        if entry:
            name = unquoted(entry.value)
            draft.add("--opt", f"o={option}={'0' if name == 'root' else name}", entry=entry)
    _join_options(draft)
    entry = draft.entry("Options")
    if entry:
        draft.add("--opt", f"o={unquoted(entry.value)}", entry=entry)
        _join_options(draft)


def _join_options(draft: Draft) -> None:
    """One `o=` of several: the last one given would count alone."""
    marked = [given for given in draft.options if given.words[-1].startswith("o=")]
    if len(marked) > 1:
        joined = ",".join(given.words[-1][2:] for given in marked)
        draft.options = [given for given in draft.options if given not in marked]
        draft.add("--opt", f"o={joined}", entry=marked[-1].entry)


def network(draft: Draft) -> tuple[Line, ...]:
    """`network create --ignore`."""
    draft.add("--ignore")
    draft.apply_rows()
    subnets = draft.entries("Subnet")
    gateways, ranges = draft.entries("Gateway"), draft.entries("IPRange")
    for more in (gateways, ranges):
        if len(more) > len(subnets):
            draft.wrong(more[len(subnets)], "there is no Subnet= for it")
    for index, subnet in enumerate(subnets):
        draft.add("--subnet", unquoted(subnet.value), entry=subnet)
        for option, more in (("--gateway", gateways), ("--ip-range", ranges)):
            if index < len(more):
                draft.add(option, unquoted(more[index].value), entry=more[index])
    line = _line(draft, "network create", _name(draft, "NetworkName"), entry=draft.entry("NetworkName"))
    return _one_shot(draft, line)


def image(draft: Draft) -> tuple[Line, ...]:
    """`image pull`."""
    entry = draft.entry("Image")
    draft.apply_rows()
    if entry is None:
        draft.wrong(None, "[Image] names no image", "Image=docker.io/library/nginx")
        return ()
    return _one_shot(draft, _line(draft, "image pull", unquoted(entry.value), entry=entry))


def build(draft: Draft) -> tuple[Line, ...]:
    """`build`."""
    draft.apply_rows()
    if not draft.entries("ImageTag"):
        draft.wrong(None, "[Build] has no ImageTag=", "ImageTag=localhost/NAME")
    networks(draft)
    volumes(draft)
    file, context = draft.entry("File"), _context(draft)
    if file:
        text = unquoted(file.value)
        draft.add("--file", text if _is_url(text) else draft.path(text), entry=file)
    elif not context:
        draft.wrong(None, "[Build] has neither File= nor SetWorkingDirectory=")
    return _one_shot(draft, _line(draft, "build", *([context] if context else [])))


def _context(draft: Draft) -> str:
    """The folder (or URL) that is built in; "" leaves it to the service's working directory."""
    entry = draft.entry("SetWorkingDirectory")
    if entry is None:
        return "." if draft.entry("WorkingDirectory", "Service") else ""
    text = unquoted(entry.value)
    if _is_url(text):
        return text
    folder = _special_folder(draft, entry, {"unit": "", "file": draft.text("File")})
    folder = draft.path(text) if folder is None else folder
    _work_in(draft, folder)
    return folder


def _special_folder(draft: Draft, entry: Entry, words: dict[str, str]) -> str | None:
    """The folder for `unit` and for the name of another key; None for any other text."""
    text = unquoted(entry.value)
    if text not in words:
        return None
    if text != "unit" and not words[text]:
        draft.wrong(entry, f"needs {text.capitalize()}=")
    return os.path.dirname(draft.path(words[text] or "x"))


def _work_in(draft: Draft, folder: str) -> None:
    if not draft.entry("WorkingDirectory", "Service"):
        draft.service.append(("WorkingDirectory", folder.replace("$$", "$")))


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://", "git://", "git@", "github.com/"))


def pod(draft: Draft) -> tuple[Line, ...]:
    """`pod create` before, `pod start`, and its end; containers of the pod start with it."""
    id_file = "%t/%N.pod-id"
    name = draft.text("PodName") or "systemd-%N"
    draft.add("--name", name, entry=draft.entry("PodName"))
    draft.add("--replace")
    draft.add("--exit-policy", "stop")
    draft.add("--pod-id-file", id_file)
    draft.apply_rows()
    networks(draft)
    volumes(draft)
    create = _line(draft, "pod create")
    start, stop, remove = (
        Line(path=path, options=(Given(words=("--pod-id-file", id_file, *more)),), globals_=create.globals_)
        for path, *more in (["pod start"], ["pod stop", "--ignore", "--time", "10"], ["pod rm", "--ignore", "--force"])
    )
    called = draft.world.called()
    service = draft.service
    draft.default(Type="oneshot", RemainAfterExit="yes", SyslogIdentifier="%N")
    service.append(("Environment", "PYCTL_SYSTEMD_UNIT=%n"))
    for key, line in (("ExecStartPre", create), ("ExecStart", start), ("ExecStop", stop), ("ExecStopPost", remove)):
        service.append((key, command_line([*called, *line.words()])))
    for file in sorted(draft.world.paths):
        other = draft.world.source(file) if file.endswith(".container") else None
        if other and _pod_of(other.unit.entries("Container")) == draft.source.file:
            if _starts_with_pod(other.unit.entries("Container")):
                draft.unit.append(("Wants", service_name(other)))
            draft.unit.append(("Before", service_name(other)))
    return (create, start, stop, remove)


def _pod_of(entries: tuple[Entry, ...]) -> str:
    return next((entry.value for entry in reversed(entries) if entry.key == "Pod"), "")


def _starts_with_pod(entries: tuple[Entry, ...]) -> bool:
    text = next((entry.value for entry in reversed(entries) if entry.key == "StartWithPod"), "yes")
    return text.lower() not in ("no", "false", "0", "off", "n", "f")


def kube(draft: Draft) -> tuple[Line, ...]:
    """`kube play`, and `kube down` at its end."""
    entry = draft.entry("Yaml")
    if entry is None:
        draft.wrong(None, "[Kube] names no file", "Yaml=FILE")
        return ()
    file = draft.path(unquoted(entry.value))
    draft.add("--replace")
    draft.add("--service-container")
    draft.apply_rows()
    networks(draft)
    for update in draft.entries("AutoUpdate"):
        name, slash, policy = unquoted(update.value).rpartition("/")
        draft.add("--annotation", f"io.containers.autoupdate{slash}{name}={policy}", entry=update)
    work = draft.entry("SetWorkingDirectory")
    if work:
        folder = _special_folder(draft, work, {"unit": "", "yaml": unquoted(entry.value)})
        if folder is None:
            draft.wrong(work, "must be yaml or unit")
        else:
            _work_in(draft, folder)
    play = _line(draft, "kube play", file)
    force = (Given(words=("--force",), entry=draft.entry("KubeDownForce")),) if draft.flag("KubeDownForce") else ()
    down = Line(path="kube down", options=force, args=(file,), globals_=play.globals_)
    called = draft.world.called()
    service = draft.service
    draft.default(Type="notify", NotifyAccess="all", KillMode="mixed", SyslogIdentifier="%N")
    service.append(("Environment", "PYCTL_SYSTEMD_UNIT=%n"))
    service.append(("ExecStart", command_line([*called, *play.words()])))
    service.append(("ExecStopPost", command_line([*called, *down.words()])))
    return (play, down)
