"""`network create ls inspect rm prune update`.  Weight: `storage.networks`, `pyctl.engine.network_json`."""

from __future__ import annotations

import sys

from pyctl.cli import output
from pyctl.engine.engine import Engine
from pyctl.engine.network_json import network_filter, network_json
from rootless.errors import EXIT_ENGINE, Error, NotFound, UsageError
from storage.networks import DEFAULT_NAME, EXIT_NO_SUCH_NETWORK, NetworkInUseError, NetworkStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyctl.cli.parser import Parsed
    from rootless.netplan import NetworkConfig

_TITLES = {"ID": "NETWORK ID"}
_FIELDS = (
    *("ID", "Name", "Driver", "NetworkInterface", "Created", "Subnets", "Routes", "IPv6Enabled", "Internal"),
    *("DNSEnabled", "NetworkDNSServers", "Labels", "Options", "IPAMOptions"),
)
_SHORT_ID = 12


def create(parsed: Parsed) -> int:
    """Makes a network and prints its name."""
    from pyctl.engine import network_create

    engine = Engine(parsed.globals)
    made = network_create.create(engine.db, parsed.args[0] if parsed.args else "", parsed.options)
    sys.stdout.write(f"{made.name}\n")
    return 0


def list_(parsed: Parsed) -> int:
    """Prints the list, by name."""
    options = parsed.options
    if options.quiet and options.format:
        raise UsageError("--quiet excludes --format")
    store = NetworkStore(Engine(parsed.globals).db)
    matches = network_filter(options.filter)
    used = store.used()
    networks = [network for network in store.every() if matches(network, network.id in used)]
    if options.format:
        return _formatted(networks, options.format, not options.noheading, bool(options.no_trunc))
    if options.quiet:
        sys.stdout.write("".join(f"{network.name}\n" for network in networks))
        return 0
    size = 64 if options.no_trunc else _SHORT_ID
    rows = [(network.id[:size], network.name, network.driver) for network in networks]
    output.print_table(("NETWORK ID", "NAME", "DRIVER"), rows, not options.noheading)
    return 0


def _formatted(networks: list[NetworkConfig], text: str, headings: bool, full: bool) -> int:
    from pyctl.cli import report

    rows = []
    for network in networks:
        row = report.Row(_go_fields(network))
        row["ID"] = network.id if full else network.id[:_SHORT_ID]
        row["Labels"] = ",".join(f"{key}={value}" for key, value in network.labels.items())
        row.json_form = network_json(network)
        rows.append(row)
    return report.print_rows(rows, text, _TITLES, fields=_FIELDS, show_headings=headings, indent=2)


def _go_fields(network: NetworkConfig) -> dict[str, Any]:
    """Under the names that templates use."""
    from pyctl.cli.gotemplate import Map

    return {
        "Name": network.name,
        "ID": network.id,
        "Driver": network.driver,
        "NetworkInterface": network.interface,
        "Created": output.local_time(network.created_ns),
        "Subnets": [
            {
                "Subnet": subnet.subnet,
                "Gateway": subnet.gateway,
                "LeaseRange": {"StartIP": subnet.first, "EndIP": subnet.last} if subnet.first or subnet.last else None,
            }
            for subnet in network.subnets
        ],
        "Routes": [
            {"Destination": route.destination, "Gateway": route.gateway, "Metric": route.metric or None}
            for route in network.routes
        ],
        "IPv6Enabled": network.ipv6,
        "Internal": network.internal,
        "DNSEnabled": network.dns_enabled,
        "NetworkDNSServers": list(network.dns_servers),
        "Labels": Map(network.labels),
        "Options": Map(network.options),
        "IPAMOptions": Map({"driver": network.ipam_driver}),
    }


def inspect(parsed: Parsed) -> int:
    """All that is known of networks, as JSON or by a template."""
    from pyctl.cli import report
    from pyctl.cli.gotemplate import Template
    from pyctl.cli.verb_inspect import INDENT

    text = parsed.options.format
    engine = Engine(parsed.globals)
    store = NetworkStore(engine.db)
    found: list[NetworkConfig] = []
    errors: list[Error] = []
    for name in parsed.args:
        try:
            found.append(store.get(name))
        except NotFound as error:
            errors.append(error)
    if report.is_json(text):
        report.print_json([inspect_json(engine, network) for network in found], INDENT)
    else:
        template = Template(report.with_newline(report.normalize(text.removeprefix("table "))))
        for network in found:
            more = {"Id": network.id, "Containers": _go_containers(engine, network)}
            sys.stdout.write(template.render({**_go_fields(network), **more}))
    for missing in errors:
        output.error_line(missing)
    return EXIT_ENGINE if errors else 0


def inspect_json(engine: Engine, network: NetworkConfig) -> dict[str, Any]:
    """What `network inspect` shows of one."""
    from pyctl.engine import network_use

    containers = {
        record.id: {
            "name": record.name,
            "interfaces": {
                endpoint.interface: {
                    "subnets": [
                        {"ipnet": address, **({"gateway": gateway} if gateway else {})}
                        for address, gateway in network_use.with_gateways(endpoint)
                    ],
                    "mac_address": endpoint.mac,
                }
            },
        }
        for record, endpoint in network_use.on_network(engine, network)
    }
    return {**network_json(network), "containers": containers}


def _go_containers(engine: Engine, network: NetworkConfig) -> dict[str, Any]:
    from pyctl.cli.gotemplate import Map
    from pyctl.engine import network_use

    return Map(
        {
            record.id: {
                "Name": record.name,
                "Interfaces": Map(
                    {
                        endpoint.interface: {
                            "Subnets": [
                                {"IPNet": address, "Gateway": gateway}
                                for address, gateway in network_use.with_gateways(endpoint)
                            ],
                            "MacAddress": endpoint.mac,
                        }
                    }
                ),
            }
            for record, endpoint in network_use.on_network(engine, network)
        }
    )


def rm(parsed: Parsed) -> int:
    """Removes networks, and with --force the containers that have them."""
    options = parsed.options
    engine = Engine(parsed.globals)
    store = NetworkStore(engine.db)
    status = 0
    for name in parsed.args:
        try:
            network = store.get(name)
            _remove(engine, store, network, bool(options.force), options.time if options.given("time") else -1)
        except NotFound as error:
            if not options.force:
                output.error_line(error)
                status = EXIT_NO_SUCH_NETWORK
        except Error as error:
            output.error_line(error)
            status = error.exit_code
        else:
            sys.stdout.write(f"{name}\n")
    return status


def _remove(engine: Engine, store: NetworkStore, network: NetworkConfig, force: bool, timeout_s: int) -> None:
    while True:
        try:
            store.remove(network)
        except NetworkInUseError as error:
            if not force:
                raise
            from pyctl.cli.verb_volume import remove_containers

            remove_containers(engine, error.containers, timeout_s)
        else:
            return


def prune(parsed: Parsed) -> int:
    """Removes networks that no container has."""
    if not parsed.options.force:
        sys.stdout.write(
            "WARNING! This will remove all networks not used by at least one container.\n"
            "Are you sure you want to continue? [y/N] "
        )
        sys.stdout.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return 0
    removed, status = prune_networks(Engine(parsed.globals), parsed.options.filter)
    sys.stdout.write("".join(f"{name}\n" for name in removed))
    return status


def prune_networks(engine: Engine, words: tuple[str, ...]) -> tuple[list[str], int]:
    """(names of those removed, exit status)."""
    store = NetworkStore(engine.db)
    matches = network_filter(words, prune=True)
    used = store.used()
    removed: list[str] = []
    status = 0
    for network in store.every():
        if network.name == DEFAULT_NAME or network.id in used or not matches(network, False):
            continue
        try:
            store.remove(network)
        except NetworkInUseError:
            continue  # a container was made meanwhile
        except Error as error:
            output.error_line(error)
            status = error.exit_code
        else:
            removed.append(network.name)
    return removed, status


def update(parsed: Parsed) -> int:
    """Other name servers; containers that run get them at once."""
    from pyctl.engine.network_create import checked_servers

    options = parsed.options
    if not options.dns_add and not options.dns_drop:
        raise UsageError("network update: nothing to change", hint="give --dns-add or --dns-drop")
    added = checked_servers("--dns-add", options.dns_add)
    dropped = checked_servers("--dns-drop", options.dns_drop)
    engine = Engine(parsed.globals)
    store = NetworkStore(engine.db)
    with engine.db.transaction():
        network = store.get(parsed.args[0])
        if not network.dns_enabled:
            raise Error(f"network {network.name} has no name server (--disable-dns)")
        kept = [server for server in network.dns_servers if server not in dropped]
        network = network.replace(dns_servers=tuple(dict.fromkeys((*kept, *added))))
        store.replace(network)
    from pyctl.engine import network_process

    network_process.refresh(engine, network)
    sys.stdout.write(f"{parsed.args[0]}\n")
    return 0
