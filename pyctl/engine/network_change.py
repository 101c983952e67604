"""`network connect`, `disconnect` and `reload`: other networks for a container that exists, running or not.

Weight: `pyctl.engine.network_use`, `.network_process`, `.planner`.  Not on the path of `run`.
"""

from __future__ import annotations

from pyctl.engine import network_process, network_use, planner, state
from pyctl.engine.execute import ask
from rootless.errors import Error
from rootless.netplan import Connect, Disconnect, Rejoin
from storage.networks import NetworkStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.engine.engine import Engine
    from pyctl.engine.model import ContainerSpec, NetworkUse
    from pyctl.engine.state import ContainerRecord
    from rootless.netplan import BridgePlan, NetworkConfig

_CHANGEABLE = ("bridge", "slirp4netns", "pasta")  # the container has a network namespace of its own, with a way out


def connect(engine: Engine, record: ContainerRecord, use: NetworkUse) -> None:
    """Put a container on one more network; a running one has the interface when this returns.

    Raises Error; the container is then as it was.  One that does not run may be connected twice, as with Podman.
    """
    mode = record.specification.network.mode
    if mode not in _CHANGEABLE:
        raise Error(
            f"container {record.name} was made with --network={mode}, and cannot be on other networks",
            hint="make it with --network NETWORK, or with the default network",
        )
    store = NetworkStore(engine.db)
    hold = network_process.ensure(engine) if record.alive else None
    try:
        with engine.db.transaction():
            spec = state.get(engine.db, record.id).specification  # two commands may connect it at once
            if any(held.network_id == use.network_id for held in spec.network.endpoints):
                if not record.alive:
                    return
                raise Error(f"container {record.name} is already connected to network {use.name}")
            changed = _with_endpoints(spec, (*spec.network.endpoints, use))
            store.attach(spec.id, [use.network_id])
            state.replace_specification(engine.db, changed)
            plan = network_use.take(engine.db, changed) if record.alive else None
        if plan is not None:
            request = Connect(network_id=use.network_id, plan=plan, files=_files(engine, changed, plan))
            try:
                ask(record.runtime_dir, record.name, request)
            except BaseException:
                _forget(engine, record, use.network_id)
                raise
    finally:
        if hold is not None:
            hold.close()
    engine.db.tell("network", "connect", id=spec.id, name=spec.name, network=use.name)


def disconnect(engine: Engine, record: ContainerRecord, network: NetworkConfig, *, force: bool = False) -> None:
    """Take a container off a network; a running one has lost the interface when this returns.

    force: also where its supervisor does not answer.  Raises Error.
    """
    spec = record.specification
    kept = tuple(use for use in spec.network.endpoints if use.network_id != network.id)
    if len(kept) == len(spec.network.endpoints):
        raise Error(f"container {record.name} is not connected to network {network.name}")
    changed = _with_endpoints(spec, kept)
    if record.alive:
        endpoints = tuple(e for e in network_use.current(engine.db, spec) if e.network.id != network.id)
        files = _files(engine, changed, network_use.bridge_plan(changed, endpoints))
        try:
            ask(record.runtime_dir, record.name, Disconnect(network_id=network.id, files=files))
        except Error:
            if not force:
                raise
    _forget(engine, record, network.id)
    engine.db.tell("network", "disconnect", id=spec.id, name=spec.name, network=network.name)


def _forget(engine: Engine, record: ContainerRecord, network_id: str) -> None:
    with engine.db.transaction():
        spec = state.get(engine.db, record.id).specification
        kept = tuple(use for use in spec.network.endpoints if use.network_id != network_id)
        NetworkStore(engine.db).detach(spec.id, network_id)
        state.replace_specification(engine.db, _with_endpoints(spec, kept))


def reload(engine: Engine, record: ContainerRecord) -> None:
    """Make the interfaces of a running container anew.  Raises Error."""
    if not record.alive:
        raise Error(f"container {record.name} is not running", hint=f"pyctl start {record.name}")
    if not record.specification.network.endpoints:
        raise Error(f"container {record.name} is not on a user-defined network")
    hold = network_process.ensure(engine)
    try:
        ask(record.runtime_dir, record.name, Rejoin())
    finally:
        hold.close()


def _with_endpoints(spec: ContainerSpec, endpoints: tuple[NetworkUse, ...]) -> ContainerSpec:
    # Names of interfaces that a container has are kept when another one goes.
    named = tuple(
        use.replace(interface=network_use.interface_name(spec, index)) if use in spec.network.endpoints else use
        for index, use in enumerate(spec.network.endpoints)
        if use in endpoints
    )
    fresh = tuple(use for use in endpoints if use not in spec.network.endpoints)
    return spec.replace(network=spec.network.replace(endpoints=(*named, *fresh)))


def _files(engine: Engine, spec: ContainerSpec, plan: BridgePlan) -> dict[str, str]:
    texts = planner.name_texts(spec, planner.network_facts_of(engine, spec), planner.root_plan(engine, spec), plan)
    return {name: text for name, text in texts.items() if name in ("hosts", "resolv.conf")}
