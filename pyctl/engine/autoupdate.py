"""Services whose image has changed, started anew with it: what is due, the pull, the restart, and the way back.

Weight: `storage.pull` (urllib3) where a registry is asked.

A container takes part by its label io.containers.autoupdate, and belongs to the unit that PODMAN_SYSTEMD_UNIT names;
the unit must make its container anew at each start, as those of Quadlet and `generate systemd --new` do.  Containers of
one unit are updated together: the unit is restarted once.  Where it does not come up, the names go back to the images
that they had, and it is restarted with those.
"""

from __future__ import annotations

import os

from pyctl.engine import state
from rootless import dbus, systemd, userns
from rootless.dbus import BusError
from rootless.errors import Error
from rootless.values import Value
from storage import images, lookup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyctl.engine.engine import Engine
    from pyctl.engine.state import ContainerRecord

LABEL = "io.containers.autoupdate"
UNIT_LABEL = "PODMAN_SYSTEMD_UNIT"
_POLICIES = {"registry": "registry", "image": "registry", "local": "local"}
_OFF = ("", "disabled")
_RESTART_TIMEOUT_S = 1800.0  # systemd's own time-outs end the job before


class Wishes(Value):
    """What the command line says."""

    dry_run: bool = False
    rollback: bool = True
    authfile: str = ""
    tls_verify: bool | None = None


class Candidate:
    """One container, and what became of it: updated is Podman's word for it."""

    def __init__(self, record: ContainerRecord) -> None:
        self.record = record
        self.spec = record.specification
        self.unit = self.spec.labels.get(UNIT_LABEL, "")
        self.policy = self.spec.labels.get(LABEL, "")
        self.updated = "false"


def run(
    engine: Engine, wishes: Wishes, pull: Callable[[str, str], int], failed: Callable[[Error], None]
) -> list[Candidate]:
    """Look at every running container and update what is due.

    pull: (image, authfile) fetches it in another process, its exit status.  failed: told of each error.
    """
    units: dict[str, list[Candidate]] = {}
    for record in state.every(engine.db):
        if not record.running or record.specification.labels.get(LABEL, "") in _OFF:
            continue
        candidate = Candidate(record)
        if candidate.policy not in _POLICIES:
            words = ", ".join((*_POLICIES, "disabled"))
            failed(Error(f"container {record.name}: {LABEL}={candidate.policy}: must be one of {words}"))
        elif not candidate.unit:
            hint = "run it by a unit of pyctl quadlet or pyctl generate systemd --new"
            failed(Error(f"container {record.name} is not of a systemd unit: it has no label {UNIT_LABEL}", hint=hint))
        else:
            units.setdefault(candidate.unit, []).append(candidate)
    for unit, candidates in units.items():
        try:
            _update(engine, wishes, unit, candidates, pull)
        except Error as error:
            failed(error)
    return [candidate for candidates in units.values() for candidate in candidates]


def _update(
    engine: Engine, wishes: Wishes, unit: str, candidates: Sequence[Candidate], pull: Callable[[str, str], int]
) -> None:
    _check_unit(unit)
    problem: Error | None = None
    for candidate in candidates:
        try:
            if _is_due(engine, wishes, candidate, pull):
                candidate.updated = "pending"
        except Error as error:
            candidate.updated = "failed"
            problem = problem or error
    due = [candidate for candidate in candidates if candidate.updated == "pending"]
    if not due or wishes.dry_run:
        if problem:
            raise problem
        return
    try:
        _restart(unit)
    except BusError as error:
        _go_back(engine, wishes, unit, due, error)
    else:
        for candidate in due:
            candidate.updated = "true"
            state.tell(engine.db, "auto-update", candidate.spec)
    if problem:
        raise problem


def _go_back(engine: Engine, wishes: Wishes, unit: str, due: Sequence[Candidate], error: Error) -> None:
    for candidate in due:
        candidate.updated = "failed"
    if not wishes.rollback:
        raise error
    store = images.ImageStore(engine.db)
    for candidate in due:
        store.tag(candidate.record.image_id, [candidate.spec.image])
    _restart(unit)
    for candidate in due:
        candidate.updated = "rolled back"


def _is_due(engine: Engine, wishes: Wishes, candidate: Candidate, pull: Callable[[str, str], int]) -> bool:
    """Whether the container's image is no longer the one of its name; fetches that first where a registry has it."""
    name, own = candidate.spec.image, candidate.record.image_id
    if candidate.spec.rootfs or name == own or "/" not in name:
        raise Error(f"container {candidate.spec.name}: {name or 'its root'} is no image's name that could change")
    if _POLICIES[candidate.policy] == "registry":
        authfile = candidate.spec.labels.get(f"{LABEL}.authfile", "") or wishes.authfile
        if _is_known(engine, wishes, name, own, authfile):
            return False
        if wishes.dry_run:
            return True
        if pull(name, authfile):
            raise Error(f"container {candidate.spec.name}: its image {name} could not be pulled")
    found = lookup.find(engine.db, name)
    return found is not None and found[0] != own


def _is_known(engine: Engine, wishes: Wishes, name: str, own: str, authfile: str) -> bool:
    """Whether what the registry has under the name is the image that the container has."""
    from storage.pull import PullOptions, fetch_manifest

    options = PullOptions(authfile=authfile, tls_verify=wishes.tls_verify)
    digest = fetch_manifest(name, options, os.environ, engine.registries).digest
    held = engine.db.one("SELECT 1 FROM image_digests WHERE image_id = ? AND digest = ?", (own, digest))
    return held is not None


# --- systemd -----------------------------------------------------------------------------------


def _connect(timeout_s: float = 25.0) -> dbus.Connection:
    uid = userns.host_uid()
    return systemd.connect(dbus.manager_sockets(os.environ, uid), uid, timeout_s)


def _check_unit(unit: str) -> None:
    connection = _connect()
    try:
        held = systemd.unit_properties(connection, unit, "Unit")["LoadState"]
    except BusError as error:
        raise Error(f"unit {unit}, which its container's label names: {error.message}") from error
    finally:
        connection.close()
    if held != "loaded":
        raise Error(f"unit {unit}, which its container's label names, is {held}")


def _restart(unit: str) -> None:
    """Raises BusError where it does not come up."""
    connection = _connect(_RESTART_TIMEOUT_S)
    try:
        systemd.restart_unit(connection, unit)
    finally:
        connection.close()
