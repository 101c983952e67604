"""`ps`: the list of containers.  Weight: `pyctl.engine.state`; filters, templates, sizes where they are asked for."""

from __future__ import annotations

import os
import sys
import time

from pyctl.cli import output
from pyctl.engine import state
from pyctl.engine.engine import Engine
from pyctl.engine.state import ContainerRecord, Status
from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pyctl.cli.parser import Options, Parsed

_COMMAND_WIDTH = 17  # and three dots
_ZERO_TIME_S = -62135596800  # Go's zero time in Unix seconds
_HEADINGS = ("CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES")
_NAMESPACES = (
    ("CGROUPNS", "cgroup"),
    ("IPC", "ipc"),
    ("MNT", "mnt"),
    ("NET", "net"),
    ("PIDNS", "pid"),
    ("USERNS", "user"),
    ("UTS", "uts"),
)
_NAMESPACE_KEYS = (
    ("Mnt", "mnt"),
    ("Cgroup", "cgroup"),
    ("Ipc", "ipc"),
    ("Net", "net"),
    ("Pidns", "pid"),
    ("Uts", "uts"),
    ("User", "user"),
)
_NAMESPACE_HEADINGS = ("CONTAINER ID", "NAMES", "PID", *(name for name, _file in _NAMESPACES))
_TITLES = {"ID": "CONTAINER ID", "ImageID": "IMAGE ID", "CIDFile": "CID FILE", "CreatedHuman": "CREATED"}
_WORDS = {Status.CREATED: "Created", Status.STARTING: "Initialized"}


class View:
    """One container as `ps` shows it: each method is a field of --format."""

    def __init__(self, engine: Engine, record: ContainerRecord, options: Options, now_ns: int) -> None:
        self._engine = engine
        self.record = record
        self._full = bool(options.no_trunc)
        self._with_size = bool(options.size)
        self._with_ns = bool(options.ns)
        self._now_ns = now_ns
        self._sizes: tuple[int, int] | None = None

    def ID(self) -> str:  # noqa: N802 - Podman's name of the field, as all that follow
        return self.record.id if self._full else self.record.id[: output.SHORT_ID]

    def Image(self) -> str:  # noqa: N802
        spec = self.record.specification
        return spec.image or spec.rootfs

    def ImageID(self) -> str:  # noqa: N802
        return self.record.image_id if self._full else self.record.image_id[: output.SHORT_ID]

    def Command(self) -> str:  # noqa: N802
        text = " ".join(self.record.specification.args)
        return text if self._full or len(text) <= _COMMAND_WIDTH + 3 else text[:_COMMAND_WIDTH] + "..."

    def CreatedAt(self) -> str:  # noqa: N802
        return output.local_time(self.record.created_ns)

    def RunningFor(self) -> str:  # noqa: N802
        return output.ago(self.record.created_ns, self._now_ns)

    def State(self) -> str:  # noqa: N802
        return self.record.status

    def Status(self) -> str:  # noqa: N802
        record = self.record
        if record.status == Status.RUNNING:
            up = output.human_duration((self._now_ns - record.started_ns) / 1e9)
            return f"Up {up}" + self._health()
        if record.status == Status.EXITED:
            return f"Exited ({record.exit_code}) {output.ago(record.finished_ns, self._now_ns)}"
        return _WORDS.get(record.status, record.status.capitalize())

    def _health(self) -> str:
        if self.record.specification.health is None:
            return ""
        from pyctl.engine.filters import health_of  # asks the supervisor

        health = health_of(self._engine.db, self.record)
        return f" ({health})" if health else ""

    def Ports(self) -> str:  # noqa: N802
        network = self.record.specification.network
        if not network.ports and not network.exposed:
            return ""
        from pyctl.cli import ports

        return ports.shown(network, self._engine.config.bind_address)

    def Names(self) -> str:  # noqa: N802
        return self.record.name

    def Size(self) -> str:  # noqa: N802
        if not self._with_size:
            raise UsageError("the field .Size needs --size", hint="pyctl ps --size --format …")
        own, image = self.sizes()
        return f"{output.human_size(own)} (virtual {output.human_size(own + image)})"

    def Mounts(self) -> list[str]:  # noqa: N802
        return [mount.target for mount in self.record.specification.mounts if mount.kind != "tmpfs"]

    def Networks(self) -> str:  # noqa: N802
        return ",".join(self.networks())

    def Labels(self) -> dict[str, str]:  # noqa: N802
        from pyctl.cli.gotemplate import Map

        return Map(self.record.specification.labels)

    def Label(self, name: str) -> str:  # noqa: N802
        return self.record.specification.labels.get(name, "")

    def ExposedPorts(self) -> dict[str, list[str]]:  # noqa: N802
        from pyctl.cli.gotemplate import Map

        found: dict[str, list[str]] = Map()
        for word in self.record.specification.network.exposed:
            port, _, protocol = word.partition("/")
            found.setdefault(port, []).append(protocol or "tcp")
        return found

    def Pid(self) -> int:  # noqa: N802
        return self.record.pid if self.record.running or self.record.paused else 0

    def StartedAt(self) -> int:  # noqa: N802
        return self.record.started_ns // 10**9 if self.record.started_ns else _ZERO_TIME_S

    def ExitedAt(self) -> int:  # noqa: N802
        return self.record.finished_ns // 10**9 if self.record.finished_ns else _ZERO_TIME_S

    def ExitCode(self) -> int:  # noqa: N802
        return self.record.exit_code

    def Exited(self) -> bool:  # noqa: N802
        return self.record.status == Status.EXITED

    def Restarts(self) -> int:  # noqa: N802
        return self.record.restart_count

    def AutoRemove(self) -> bool:  # noqa: N802
        return bool(self.record.remove)

    def CIDFile(self) -> str:  # noqa: N802
        return self.record.specification.cidfile

    def IsInfra(self) -> bool:  # noqa: N802
        return False

    def Pod(self) -> str:  # noqa: N802
        return ""

    def Namespaces(self) -> dict[str, str]:  # noqa: N802
        return {key: self.namespace(file) for key, file in _NAMESPACE_KEYS}

    def networks(self) -> list[str]:
        """Names of the user-defined networks that it is on."""
        return sorted(use.name for use in self.record.specification.network.endpoints)

    def namespace(self, file: str) -> str:
        """The inode number of a namespace of a running container; "" where it cannot be read."""
        try:
            return (
                os.readlink(f"/proc/{self.record.pid}/ns/{file}").rpartition("[")[2].rstrip("]") if self.Pid() else ""
            )
        except OSError:
            return ""

    def sizes(self) -> tuple[int, int]:
        """Bytes of the writable layer, and of the image."""
        if self._sizes is None:
            from pyctl.engine.sizes import container_sizes

            self._sizes = container_sizes(self._engine, self.record)
        return self._sizes

    def template_row(self) -> Any:
        """Every field, for a template; its JSON is that of {{json .}}."""
        from pyctl.cli.report import Row

        row = Row({name: getattr(self, name) for name in _FIELDS})
        row.update({"CreatedHuman": self.RunningFor, "Created": self.CreatedAt, "PodName": self.Pod})
        row.update({name: (lambda file=file: self.namespace(file)) for name, file in _NAMESPACES})
        row.json_form = self.json_row
        return row

    def json_row(self) -> dict[str, Any]:
        """The JSON of {{json .}}."""
        from storage.rfc3339 import format_ns

        return {**self.listing(), "CreatedAt": "", "Status": "", "Created": format_ns(self.record.created_ns)}

    def listing(self) -> dict[str, Any]:
        """The JSON of --format json."""
        from pyctl.cli import ports

        spec = self.record.specification
        own, image = self.sizes() if self._with_size else (0, 0)
        rows = ports.ranges(spec.network.ports, "")
        return {
            "AutoRemove": bool(self.record.remove),
            "Command": list(spec.args),
            "CreatedAt": self.RunningFor(),
            "CIDFile": spec.cidfile,
            "Exited": self.Exited(),
            "ExitedAt": self.ExitedAt(),
            "ExitCode": self.record.exit_code,
            "ExposedPorts": self.ExposedPorts() or None,
            "Id": self.record.id,
            "Image": self.Image(),
            "ImageID": self.record.image_id,
            "IsInfra": False,
            "Labels": spec.labels or None,
            "Mounts": self.Mounts(),
            "Names": [self.record.name],
            "Namespaces": {key: held for key, held in self.Namespaces().items() if held} if self._with_ns else {},
            "Networks": self.networks(),
            "Pid": self.Pid(),
            "Pod": "",
            "PodName": "",
            "Ports": [
                {"host_ip": ip.strip("[]"), "container_port": port, "host_port": host, "range": count, "protocol": kind}
                for ip, host, port, count, kind in rows
            ]
            or None,
            "Restarts": self.record.restart_count,
            "Size": {"rootFsSize": own + image, "rwSize": own} if self._with_size else None,
            "StartedAt": self.StartedAt(),
            "State": self.record.status,
            "Status": self.Status(),
            "Created": self.record.created_ns // 10**9,
        }


_FIELDS = tuple(name for name in vars(View) if name[:1].isupper())

_SORT_KEYS: dict[str, Callable[[View], Any]] = {
    "command": lambda view: view.record.specification.args,
    "created": lambda view: view.record.created_ns,
    "id": lambda view: view.record.id,
    "image": View.Image,
    "names": lambda view: view.record.name,
    "runningfor": lambda view: view.record.started_ns,
    "size": lambda view: view.sizes()[0],
    "status": lambda view: view.record.status,
}


def ps(parsed: Parsed) -> int:
    """Prints the list once, or again and again with --watch."""
    options = parsed.options
    if options.quiet and (options.size or options.ns):
        raise UsageError("--quiet excludes --size and --ns")
    if options.last >= 0 and options.latest:
        raise UsageError("--last and --latest exclude each other")
    engine = Engine(parsed.globals)
    if not options.watch:
        _print(parsed, _views(engine, parsed))
        return 0
    while True:
        if os.isatty(1):
            sys.stdout.write("\x1b[H\x1b[2J")
        _print(parsed, _views(engine, parsed))
        sys.stdout.flush()
        time.sleep(options.watch)


def _views(engine: Engine, parsed: Parsed) -> list[View]:
    options = parsed.options
    records = state.every(engine.db)
    filters = options.filter
    if filters:
        from pyctl.engine.filters import container_filter

        matches = container_filter(engine.db, filters)
        records = [record for record in records if matches(record)]
    last = 1 if options.latest else options.last
    # A filter on the state says which states are meant.
    stateful = any(word.startswith(("status=", "exited=")) for word in filters)
    if last >= 0:
        records = records[len(records) - last :] if last < len(records) else records
    elif not options.all and not stateful:
        records = [record for record in records if record.running]
    now_ns = time.time_ns()
    views = [View(engine, record, options, now_ns) for record in records]
    if options.sort != "created":
        views.sort(key=_SORT_KEYS[options.sort])
    return views


def _print(parsed: Parsed, views: Sequence[View]) -> None:
    options = parsed.options
    headings = not options.noheading
    if options.format:
        from pyctl.cli import report

        if report.is_json(options.format):
            report.print_json([view.listing() for view in views], indent=2)
            return
        rows = [view.template_row() for view in views]
        fields = (*_FIELDS, "CreatedHuman", "Created", "PodName", *(name for name, _file in _NAMESPACES))
        report.print_rows(rows, options.format, _TITLES, fields=fields, show_headings=headings)
    elif options.quiet:
        sys.stdout.write("".join(f"{view.ID()}\n" for view in views))
    elif options.ns:
        lines = ((v.ID(), v.Names(), str(v.Pid()), *(v.namespace(file) for _n, file in _NAMESPACES)) for v in views)
        output.print_table(_NAMESPACE_HEADINGS, lines, headings)
    else:
        names = (*_HEADINGS, *(("SIZE",) if options.size else ()))
        output.print_table(names, (_line(view, bool(options.size)) for view in views), headings)


def _line(view: View, with_size: bool) -> tuple[str, ...]:
    line = (
        view.ID(),
        view.Image(),
        view.Command(),
        view.RunningFor(),
        view.Status(),
        view.Ports(),
        view.Names(),
    )
    return (*line, view.Size()) if with_size else line
