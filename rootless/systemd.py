"""What is asked of the systemd manager: transient scopes, and to follow them.

Weight: `rootless.dbus`.  Methods and properties: org.freedesktop.systemd1(5).

A scope is started in two halves, so that other work fits between them: `start_scope_begin` sends everything in one
write, `start_scope_finish` reads until the job is done.
"""

from __future__ import annotations

from rootless.dbus import MANAGER, BusError, Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class PendingScope:
    """A scope that has been asked for; see `start_scope_finish`."""

    __slots__ = ("connection", "properties", "serial", "unit")

    def __init__(self, connection: Connection, unit: str, properties: list[Any]) -> None:
        self.connection, self.unit, self.properties = connection, unit, properties
        self.serial = 0

    def send(self) -> None:
        """Ask the manager; "fail" is the mode of a job that must not push others aside."""
        self.serial = self.connection.post(
            MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", self.unit, "fail", self.properties, []
        )
        self.connection.flush()


def connect(sockets: list[tuple[str, bool]], uid: int, timeout_s: float = 25.0) -> Connection:
    """Connect to the first of `manager_sockets` that answers.  Raises BusError."""
    problem = BusError(
        "no systemd user manager can be reached",
        hint="log in by ssh or `machinectl shell`, or ask the administrator for `loginctl enable-linger`",
    )
    for path, is_bus in sockets:
        try:
            return Connection(path, is_bus, uid, timeout_s)
        except BusError as error:
            problem = error
    raise problem


def start_scope_begin(
    unit: str,
    pids: list[int],
    sockets: list[tuple[str, bool]],
    uid: int,
    *,
    slice_name: str = "",
    description: str = "",
    timeout_s: float = 25.0,
) -> PendingScope:
    """Ask for a delegated scope `unit` with the processes `pids` (as the host counts them) in it.

    Delegate: what is below the scope's cgroup is ours to arrange, with every controller that the manager itself was
    given.  CollectMode: nothing is left of it after an OOM kill either.  TasksMax: the manager's default for a scope
    would stand above the container's own limit.  Raises BusError.
    """
    properties: list[Any] = [
        ("Description", ("s", description or unit)),
        ("PIDs", ("au", pids)),
        ("Delegate", ("b", True)),
        ("CollectMode", ("s", "inactive-or-failed")),
        ("TasksMax", ("t", 2**64 - 1)),
    ]
    if slice_name:
        properties.append(("Slice", ("s", slice_name)))
    connection = connect(sockets, uid, timeout_s)
    # Subscribed before the call: a job may be done before its number is known here.
    connection.listen("JobRemoved")
    pending = PendingScope(connection, unit, properties)
    pending.send()
    return pending


def start_scope_finish(pending: PendingScope) -> str:
    """Wait until the processes are in the scope; the unit's name.  The connection stays open, it is the caller's.

    Raises BusError; the connection is closed then.
    """
    connection = pending.connection
    try:
        for attempt in range(2, 5):
            try:
                (job,) = connection.answer(pending.serial)
                break
            except BusError as error:
                # The scope of the container's last start, which the manager has yet to notice empty.
                if error.name != "org.freedesktop.systemd1.UnitExists" or attempt == 4:
                    raise
                pending.unit = f"{pending.unit.removesuffix('.scope')}-{attempt}.scope"
                pending.send()
        while True:
            _number, removed, _unit, result = connection.signal("JobRemoved")
            if removed == job:
                break
    except BaseException:
        connection.close()
        raise
    if result != "done":
        connection.close()
        raise BusError(f"systemd could not start {pending.unit}: {result}", hint="systemctl --user status")
    return pending.unit


def attach(connection: Connection, unit: str, subgroup: str, pids: list[int]) -> None:
    """Move processes into the unit's cgroup, or `subgroup` ("/name") of it.  Raises BusError."""
    connection.call("AttachProcessesToUnit", "ssau", unit, subgroup, pids)


def stop_unit(connection: Connection, unit: str) -> None:
    """Stop a unit and return when it has; one that is not there has stopped already.  Raises BusError."""
    connection.listen("JobRemoved")
    try:
        (job,) = connection.call("StopUnit", "ss", unit, "replace")
    except BusError as error:
        if error.name == "org.freedesktop.systemd1.NoSuchUnit":
            return
        raise
    while connection.signal("JobRemoved")[1] != job:
        pass


def restart_unit(connection: Connection, unit: str) -> None:
    """Stop and start a unit, and return when it is up.  Raises BusError where it did not come up."""
    connection.listen("JobRemoved")
    (job,) = connection.call("RestartUnit", "ss", unit, "replace")
    while True:
        _number, removed, _unit, result = connection.signal("JobRemoved")
        if removed == job:
            break
    if result != "done":
        raise BusError(f"systemd could not restart {unit}: {result}", hint=f"systemctl --user status {unit}")


def unit_properties(connection: Connection, unit: str, interface: str = "Scope") -> dict[str, Any]:
    """The properties of a unit: interface "Unit", "Scope", "Service" … Raises BusError."""
    (path,) = connection.call("GetUnit", "s", unit)
    return connection.properties(path, f"org.freedesktop.systemd1.{interface}")
