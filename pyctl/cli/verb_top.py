"""`top`: the processes of a container, with the descriptors of ps.  Weight: `pyctl.engine.processes`."""

from __future__ import annotations

import os
import time

from pyctl.cli import output
from pyctl.engine import processes, state
from pyctl.engine.engine import Engine
from rootless.errors import Error, NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyctl.cli.parser import Parsed
    from pyctl.engine.processes import Process

_DEFAULT = ("user", "pid", "ppid", "pcpu", "etime", "tty", "time", "args")
_CAPABILITIES = {
    "capamb": ("AMBIENT CAPS", "CapAmb"),
    "capbnd": ("BOUNDING CAPS", "CapBnd"),
    "capeff": ("EFFECTIVE CAPS", "CapEff"),
    "capinh": ("INHERITED CAPS", "CapInh"),
    "capprm": ("PERMITTED CAPS", "CapPrm"),
}
_HEADINGS = {
    **{name: name.upper() for name in ("group", "groups", "hgroup", "hgroups", "hpid", "huid", "huser", "label")},
    **{name: name.upper() for name in ("pgid", "pid", "ppid", "rgroup", "rss", "ruser", "seccomp", "state", "stime")},
    **{name: name.upper() for name in ("time", "tty", "uid", "user", "vsz")},
    **{name: heading for name, (heading, _field) in _CAPABILITIES.items()},
    "args": "COMMAND",
    "comm": "COMMAND",
    "etime": "ELAPSED",
    "nice": "NI",
    "pcpu": "%CPU",
}
# The codes of ps(1), AIX format descriptors.
_CODES = {
    "%C": "pcpu",
    "%G": "group",
    "%P": "ppid",
    "%U": "user",
    "%a": "args",
    "%c": "comm",
    "%g": "rgroup",
    "%n": "nice",
    "%p": "pid",
    "%r": "pgid",
    "%t": "etime",
    "%u": "ruser",
    "%x": "time",
    "%y": "tty",
    "%z": "vsz",
}
_NAMED = {"user", "ruser", "group", "rgroup", "groups"}  # need the container's passwd and group
_SECCOMP = {0: "disabled", 1: "strict", 2: "filter"}


def top(parsed: Parsed) -> int:
    """Prints one line for each process."""
    engine = Engine(parsed.globals)
    words = list(parsed.args)
    if parsed.options.latest:
        row = engine.db.one("SELECT id FROM containers ORDER BY created_ns DESC LIMIT 1")
        if row is None:
            raise NotFound("there are no containers")
        words.insert(0, row[0])
    if not words:
        raise UsageError("top: name a container", hint="pyctl top --help shows how")
    record = state.get(engine.db, words[0])
    columns = _columns(words[1:], record.name)
    if not (record.running or record.paused):
        raise Error(f"container {record.name} is not running, so it has no processes")
    found = processes.read_all(record)
    table = Table(found, record.pid)
    if _NAMED & set(columns):
        table.users, table.groups = processes.names(record.pid, engine.runtime_root)
    output.print_table([_HEADINGS[name] for name in columns], [table.line(p, columns) for p in found])
    return 0


def _columns(words: list[str], container: str) -> tuple[str, ...]:
    if words and words[0].startswith("-"):
        raise UsageError(
            f"top {words[0]}: options of ps are not taken",
            hint=f"name descriptors, as pid,user,args; or, where the image has it: pyctl exec {container} ps",
        )
    columns = tuple(part for word in words for part in word.replace(",", " ").split())
    named = tuple(_CODES.get(part, part.lower()) for part in columns)
    for part, name in zip(columns, named, strict=True):
        if name not in _HEADINGS:
            raise UsageError(
                f"top: there is no descriptor {part!r}", hint="descriptors: " + ", ".join(sorted(_HEADINGS))
            )
    return named or _DEFAULT


class Table:
    """Processes as lines; `users` and `groups` name the container's ids where they are known."""

    def __init__(self, found: list[Process], pid: int) -> None:
        self.users: dict[int, str] = {}
        self.groups: dict[int, str] = {}
        self._pids = {p.hpid: p.pid for p in found}
        self._uids = processes.IdView(pid, "uid")
        self._gids = processes.IdView(pid, "gid")
        # Before the user namespace is entered, where the host's ids look other.
        self._host_users = {n: _host_name(n, "user") for p in found for n in p.uids}
        self._host_groups = {n: _host_name(n, "group") for p in found for n in (*p.gids, *p.groups)}
        self._groups_inside = {n: self._gids.inside(n) for p in found for n in (*p.gids, *p.groups)}
        self._uids_inside = {n: self._uids.inside(n) for p in found for n in p.uids}

    def line(self, process: Process, columns: tuple[str, ...]) -> list[str]:
        """One line's cells."""
        return [self._cell(process, name) for name in columns]

    def _user(self, number: int) -> str:
        inside = self._uids_inside[number]
        return self.users.get(inside, str(inside))

    def _group(self, number: int) -> str:
        inside = self._groups_inside[number]
        return self.groups.get(inside, str(inside))

    def _cell(self, process: Process, name: str) -> str:
        if name in _CAPABILITIES:
            return _capabilities(process.capabilities.get(_CAPABILITIES[name][1], 0))
        make: Callable[[Table, Process], str] = _CELLS[name]
        return make(self, process)

    # Named in _CELLS, which reads like the list of descriptors.
    def user(self, p: Process) -> str:
        return self._user(p.uids[1])

    def ruser(self, p: Process) -> str:
        return self._user(p.uids[0])

    def group(self, p: Process) -> str:
        return self._group(p.gids[1])

    def rgroup(self, p: Process) -> str:
        return self._group(p.gids[0])

    def all_groups(self, p: Process) -> str:
        return ",".join(self._group(n) for n in p.groups)

    def hgroups(self, p: Process) -> str:
        return ",".join(self._host_groups[n] for n in p.groups)

    def huser(self, p: Process) -> str:
        return self._host_users[p.uids[1]]

    def hgroup(self, p: Process) -> str:
        return self._host_groups[p.gids[1]]

    def uid(self, p: Process) -> str:
        return str(self._uids_inside[p.uids[1]])

    def ppid(self, p: Process) -> str:
        return str(self._pids.get(p.hppid, 0))

    def pgid(self, p: Process) -> str:
        return str(self._pids.get(p.hpgid, 0))


def _percent(p: Process) -> str:
    return f"{p.cpu_ns * 100 / p.elapsed_ns if p.elapsed_ns else 0:.3f}"


def _started(p: Process) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime((time.time_ns() - p.elapsed_ns) // 10**9))


def _terminal(p: Process) -> str:
    major, minor = os.major(p.tty), os.minor(p.tty)
    if 136 <= major <= 143:  # Unix98 pseudo-terminals (the kernel's devices.txt)
        return f"pts/{minor + (major - 136) * 256}"
    return f"tty{minor}" if major == 4 else "?"


def _capabilities(mask: int) -> str:
    from rootless.capabilities import NAMES

    held = [name[4:] for number, name in enumerate(NAMES) if mask >> number & 1]
    if not held:
        return "none"
    return "full" if len(held) == len(NAMES) else ",".join(held)


def _host_name(number: int, kind: str) -> str:
    try:
        if kind == "user":
            import pwd  # a name service may be behind it

            return pwd.getpwuid(number).pw_name
        import grp

        return grp.getgrgid(number).gr_name
    except (KeyError, OverflowError):
        return str(number)


_CELLS: dict[str, Callable[[Table, Process], str]] = {
    "args": lambda _t, p: p.args,
    "comm": lambda _t, p: p.comm,
    "etime": lambda _t, p: output.go_duration(p.elapsed_ns),
    "group": Table.group,
    "groups": Table.all_groups,
    "hgroup": Table.hgroup,
    "hgroups": Table.hgroups,
    "hpid": lambda _t, p: str(p.hpid),
    "huid": lambda _t, p: str(p.uids[1]),
    "huser": Table.huser,
    "label": lambda _t, p: p.label or "?",
    "nice": lambda _t, p: str(p.nice),
    "pcpu": lambda _t, p: _percent(p),
    "pgid": Table.pgid,
    "pid": lambda _t, p: str(p.pid),
    "ppid": Table.ppid,
    "rgroup": Table.rgroup,
    "rss": lambda _t, p: str(p.rss_kib),
    "ruser": Table.ruser,
    "seccomp": lambda _t, p: _SECCOMP.get(p.seccomp, str(p.seccomp)),
    "state": lambda _t, p: p.state,
    "stime": lambda _t, p: _started(p),
    "time": lambda _t, p: output.go_duration(p.cpu_ns),
    "tty": lambda _t, p: _terminal(p),
    "uid": Table.uid,
    "user": Table.user,
    "vsz": lambda _t, p: str(p.vsz_kib),
}
