"""`port`: where the ports of containers can be reached.  Weight: `pyctl.engine.state`."""

from __future__ import annotations

import sys

from pyctl.cli import output, ports
from pyctl.engine import state
from pyctl.engine.engine import Engine
from rootless.errors import Error, NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Parsed
    from pyctl.engine.state import ContainerRecord


def port(parsed: Parsed) -> int:
    """Prints `80/tcp -> 0.0.0.0:8080` of each published port, or the addresses of one port."""
    options, args = parsed.options, list(parsed.args)
    engine = Engine(parsed.globals)
    bind_address = engine.config.bind_address
    if options.all:
        if args or options.latest:
            raise UsageError("--all takes no names and no port")
        for record in state.every(engine.db):
            for line in _lines(record, bind_address):
                sys.stdout.write(f"{record.id[: output.SHORT_ID]}\t{line}\n")
        return 0
    if options.latest:
        record = _latest(engine)
    elif args:
        record = state.get(engine.db, args.pop(0))
    else:
        raise UsageError("port: name a container", hint="pyctl port --help shows how")
    if len(args) > 1:
        raise UsageError(f"port takes one port: {args[1]}")
    lines = _addresses(record, args[0], bind_address) if args else _lines(record, bind_address)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _latest(engine: Engine) -> ContainerRecord:
    row = engine.db.one("SELECT id FROM containers ORDER BY created_ns DESC LIMIT 1")
    if row is None:
        raise NotFound("there are no containers")
    return state.get(engine.db, row[0])


def _lines(record: ContainerRecord, bind_address: str) -> list[str]:
    published = sorted(record.specification.network.ports, key=lambda p: (p.protocol, p.container_port))
    return [f"{p.container_port}/{p.protocol} -> {ports.host_ip(p, bind_address)}:{p.host_port}" for p in published]


def _addresses(record: ContainerRecord, word: str, bind_address: str) -> list[str]:
    """Where one port, `80` or `53/udp`, can be reached.  Raises UsageError, Error where it is not published."""
    number, slash, protocol = word.partition("/")
    if not (number.isascii() and number.isdigit()) or (slash and protocol not in ("tcp", "udp", "sctp")):
        raise UsageError(f"{word} is not a port", hint="as 80, or 53/udp")
    found = [
        f"{ports.host_ip(p, bind_address)}:{p.host_port}"
        for p in record.specification.network.ports
        if p.container_port == int(number) and p.protocol == (protocol or "tcp")
    ]
    if not found:
        raise Error(f"port {word} of container {record.name} is not published")
    return found
