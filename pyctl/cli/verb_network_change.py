"""`network connect`, `disconnect`, `reload`.  Weight: `pyctl.engine.network_change`."""

from __future__ import annotations

import sys

from pyctl.cli import output
from pyctl.engine import network_change, request_bridge, state
from pyctl.engine.creating import Lookups
from pyctl.engine.engine import Engine
from pyctl.engine.model import Network, NetworkUse
from rootless.errors import Error, UsageError
from storage.networks import NetworkStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Parsed


def connect(parsed: Parsed) -> int:
    """One more network for a container."""
    options = parsed.options
    engine = Engine(parsed.globals)
    name, container = parsed.args
    network = Lookups(engine).network(name)
    record = state.get(engine.db, container)
    use = NetworkUse(network_id=network.id, name=network.name)
    (use,) = request_bridge.with_static(Network(mode="bridge", endpoints=(use,)), options).endpoints
    aliases = tuple(request_bridge.alias("--alias", word) for word in options.alias)
    network_change.connect(engine, record, use.replace(aliases=aliases))
    return 0


def disconnect(parsed: Parsed) -> int:
    """One network less."""
    engine = Engine(parsed.globals)
    name, container = parsed.args
    network = NetworkStore(engine.db).get(name)
    network_change.disconnect(engine, state.get(engine.db, container), network, force=bool(parsed.options.force))
    return 0


def reload(parsed: Parsed) -> int:
    """Interfaces made anew; prints the containers' ids."""
    options = parsed.options
    engine = Engine(parsed.globals)
    if bool(parsed.args) + bool(options.all) + bool(options.latest) != 1:
        raise UsageError("give containers, or --all, or --latest")
    records = state.every(engine.db)
    if options.latest:
        records = records[-1:]
    elif options.all:
        records = [record for record in records if record.alive and record.specification.network.endpoints]
    else:
        records = [state.get(engine.db, name) for name in parsed.args]
    status = 0
    for record in records:
        try:
            network_change.reload(engine, record)
        except Error as error:
            output.error_line(error)
            status = error.exit_code
        else:
            sys.stdout.write(f"{record.id}\n")
    return status
