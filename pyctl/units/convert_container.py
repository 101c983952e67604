"""From a .container file to its service.

Weight: `pyctl.units.draft`.  The service is Type=notify: the container's supervisor becomes the main process and says
when it is ready, so that systemd restarts and stops it as any other.  It shares the service's cgroup (--cgroups=split),
where `systemctl status` shows its processes.
"""

from __future__ import annotations

import os

from pyctl.units import keys
from pyctl.units.draft import Draft, Line, last_text, resource_name, service_name, service_stem
from pyctl.units.syntax import command_line, unquoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.units.syntax import Entry

_LONG_STOP_S = 60  # systemd waits 90 s for a service to stop; the container must have ended before
_STOP_MARGIN_S = 30


def container(draft: Draft) -> tuple[Line, ...]:
    """The lines of [Service]; returns the command to be tried."""
    oneshot = _service_type(draft)
    image, rootfs = _image(draft)
    name = container_name(draft)
    draft.add("--name", name, entry=draft.entry("ContainerName"))
    draft.add("--replace")
    draft.add("--rm")
    if not oneshot:
        draft.add("-d")
    draft.add("--label", "PODMAN_SYSTEMD_UNIT=%n")  # what tools ask for a container's unit by
    _cgroups(draft)
    notify = _notify(draft)
    if not oneshot:
        draft.add("--sdnotify", notify, entry=draft.entry("Notify"))
    _user(draft)
    _switches(draft)
    _devices(draft)
    _pod(draft)
    draft.apply_rows()
    networks(draft)
    volumes(draft)
    _mounts(draft)
    _auto_update(draft)
    draft.options += draft.args("PodmanArgs")
    if rootfs:
        draft.add("--rootfs", entry=draft.entry("Rootfs"))
    args = _exec(draft)
    line = Line(
        path="run",
        options=tuple(draft.options),
        args=(rootfs or image or "IMAGE", *args),
        entry=draft.entry("Rootfs") or draft.entry("Image"),
        globals_=draft.globals_(),
    )
    _service(draft, line, name, oneshot)
    return (line,)


def container_name(draft: Draft) -> str:
    """ContainerName=, or one that follows from the unit's name."""
    return draft.text("ContainerName") or ("systemd-%p_%i" if "@" in draft.source.name else "systemd-%N")


def _service_type(draft: Draft) -> bool:
    """Whether the service is oneshot; notes what [Service] must not hold."""
    kind = draft.entry("Type", "Service")
    if kind and kind.value not in ("notify", "oneshot"):
        draft.wrong(kind, "must be notify or oneshot", "without it the service is of type notify")
    kill = draft.entry("KillMode", "Service")
    if kill and kill.value not in ("mixed", "control-group"):
        draft.wrong(kill, "must be mixed or control-group", "else processes of the container may outlive the service")
    start = draft.entry("ExecStart", "Service")
    if start:
        draft.wrong(start, f"the command is made of [{draft.source.section}]", "use Exec= there, or ExecStartPre=")
    return bool(kind and kind.value == "oneshot")


def _image(draft: Draft) -> tuple[str, str]:
    image, rootfs = draft.entry("Image"), draft.entry("Rootfs")
    if image and rootfs:
        draft.wrong(rootfs, "cannot be combined with Image=")
    if rootfs:
        return "", draft.path(unquoted(rootfs.value))
    if image is None:
        draft.wrong(None, "[Container] names no image", "Image=docker.io/library/nginx, or Rootfs=FOLDER")
        return "", ""
    return image_name(draft, image), ""


def image_name(draft: Draft, entry: Entry) -> str:
    """The name, or that of the .image or .build source that it refers to."""
    name = unquoted(entry.value)
    source = draft.refer(entry, name, "image", "build")
    if source is None:
        return name
    found = resource_name(source)
    if not found:
        draft.wrong(entry, f"{source.path} names no image")
    return found


def _cgroups(draft: Draft) -> None:
    entry = draft.entry("CgroupsMode")
    draft.add("--cgroups", unquoted(entry.value) if entry else "split", entry=entry)


def _notify(draft: Draft) -> str:
    text = draft.text("Notify")
    if text == "healthy":
        return text
    return "container" if draft.flag("Notify") else "conmon"


def _user(draft: Draft) -> None:
    user, group = draft.entry("User"), draft.entry("Group")
    if group and not user:
        draft.wrong(group, "needs User=")
    elif user:
        words = [unquoted(entry.value) for entry in (user, group) if entry]
        draft.add("--user", ":".join(words), entry=group or user)


def _switches(draft: Draft) -> None:
    for key in ("NoNewPrivileges", "SecurityLabelDisable", "SecurityLabelNested"):
        row = keys.CONTAINER[key]
        if draft.flag(key):
            draft.add(row.option, row.prefix, entry=draft.entry(key))


def _devices(draft: Draft) -> None:
    for entry in draft.entries("AddDevice"):
        for word in draft.words(entry):
            # With a dash: only where the machine has it; looked at now, as Podman does.
            path = word[1:].partition(":")[0]
            if word.startswith("-") and "%" in path:
                draft.wrong(entry, "whether it exists must be known now: no specifiers after a dash")
            elif word.startswith("-") and not os.path.exists(path):
                continue
            draft.add("--device", word.removeprefix("-"), entry=entry)


def _pod(draft: Draft) -> None:
    entry = draft.entry("Pod")
    draft.flag("StartWithPod", True)
    if entry is None:
        with_pod = draft.entry("StartWithPod")
        if with_pod:
            draft.wrong(with_pod, "needs Pod=")
        return
    if not entry.value.endswith(".pod"):
        draft.wrong(entry, "must name a .pod file")
        return
    source = draft.refer(entry, entry.value, "pod")
    if source:
        draft.unit.append(("BindsTo", service_name(source)))
        draft.add("--pod-id-file", f"%t/{service_stem(source)}.pod-id", entry=entry)


def networks(draft: Draft) -> None:
    """Each Network=."""
    for entry in draft.entries("Network"):
        draft.add("--network", network_name(draft, entry), entry=entry)


def network_name(draft: Draft, entry: Entry) -> str:
    """The value for --network: a mode, a network's name, or what a .network or .container source makes."""
    name, colon, options = unquoted(entry.value).partition(":")
    source = draft.refer(entry, name, "network", "container")
    if source is None:
        return name + colon + options
    found = resource_name(source)
    if source.kind == "container":
        if colon:
            draft.wrong(entry, "another container's network takes no options")
        if "%" in found:
            draft.wrong(entry, f"{source.path} names its container by a specifier", "give it a plain ContainerName=")
        return f"container:{found}"
    return found + colon + options


def volumes(draft: Draft) -> None:
    """Each Volume=."""
    for entry in draft.entries("Volume"):
        draft.add("--volume", volume_words(draft, entry), entry=entry)


def volume_words(draft: Draft, entry: Entry) -> str:
    """The value for --volume: a relative host path made absolute, a .volume file made its volume's name."""
    source, colon, rest = unquoted(entry.value).partition(":")
    if not colon:
        return source
    return mount_source(draft, entry, source) + colon + rest


def mount_source(draft: Draft, entry: Entry, source: str) -> str:
    """Of Volume= and of Mount=type=bind or volume."""
    if source.startswith((".", "/")) or (source.startswith("%") and "/" in source):
        path = draft.path(source)
        line = ("RequiresMountsFor", command_line([path.replace("$$", "$")]))
        if line not in draft.unit:
            draft.unit.append(line)
        return path
    found = draft.refer(entry, source, "volume")
    return resource_name(found) if found else source


def _mounts(draft: Draft) -> None:
    from pyctl.cli.parser import split_csv

    for entry in draft.entries("Mount"):
        try:
            fields = split_csv(unquoted(entry.value))
        except ValueError as reason:
            draft.wrong(entry, str(reason))
            continue
        kind = next((f.partition("=")[2] for f in fields if f.startswith("type=")), "volume")
        done = [_mount_field(draft, entry, kind, field) for field in fields]
        draft.add("--mount", ",".join(done), entry=entry)


def _mount_field(draft: Draft, entry: Entry, kind: str, field: str) -> str:
    name, _, value = field.partition("=")
    if name in ("src", "source"):
        if kind in ("bind", "glob", "volume"):
            field = f"{name}={mount_source(draft, entry, value)}"
        elif kind == "image" and (source := draft.refer(entry, value, "image", "build")):
            field = f"{name}={resource_name(source)}"
    return '"' + field.replace('"', '""') + '"' if set(field) & set(',"') else field


def _auto_update(draft: Draft) -> None:
    entry = draft.entry("AutoUpdate")
    if entry is None:
        return
    from pyctl.units.check import why_no_command

    missing = why_no_command("auto-update")
    if missing:
        draft.wrong(entry, f"pyctl auto-update is not available: {missing}")
    elif entry.value not in ("registry", "local"):
        draft.wrong(entry, "must be registry or local")
    else:
        draft.add("--label", f"io.containers.autoupdate={entry.value}", entry=entry)


def _exec(draft: Draft) -> list[str]:
    entry = draft.entry("Exec")
    return draft.words(entry) if entry else []


def _service(draft: Draft, line: Line, name: str, oneshot: bool) -> None:
    called = draft.world.called()
    before = [word for given in line.globals_ for word in given.words]
    remove = command_line([*called, *before, "rm", "-v", "-f", "-i", name])
    service = draft.service
    service.append(("Environment", "PYCTL_SYSTEMD_UNIT=%n"))
    draft.default(KillMode="mixed")
    service.append(("Delegate", "yes"))
    if not oneshot:
        draft.default(Type="notify")
        service.append(("NotifyAccess", "all"))
    draft.default(SyslogIdentifier="%N")
    _stop_time(draft)
    service.append(("ExecStart", command_line([*called, *line.words()])))
    service.append(("ExecStop", remove))
    service.append(("ExecStopPost", "-" + remove))


def _stop_time(draft: Draft) -> None:
    seconds = last_text(draft.source, "StopTimeout")
    given = draft.entry("TimeoutStopSec", "Service") or draft.entry("TimeoutSec", "Service")
    if not given and seconds.isascii() and seconds.isdecimal() and len(seconds) < 9 and int(seconds) > _LONG_STOP_S:
        draft.service.append(("TimeoutStopSec", str(int(seconds) + _STOP_MARGIN_S)))
