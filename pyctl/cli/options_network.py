"""Commands on networks.  Weight: the table only."""

from __future__ import annotations

from pyctl.cli.table import BOOL, CSV, INT, LIST, STRING, Command, command, opt


def cmd_network_create() -> Command:
    return command(
        "network create",
        "[NAME]",
        "Make a network for containers to reach each other on",
        "pyctl.cli.verb_network:create",
        opt("subnet", "", LIST, "Its addresses (default: a /24 that nobody uses; repeatable)", metavar="CIDR"),
        opt("gateway", "", CSV, "The bridge's own address, for each --subnet (default: the first)", metavar="IP"),
        opt("ip-range", "", LIST, "Give out only these addresses of the --subnet", metavar="CIDR|FIRST-LAST"),
        opt("internal", "", BOOL, "No way out: containers reach only each other"),
        opt("ipv6", "", BOOL, "Also an IPv6 subnet"),
        opt("disable-dns", "", BOOL, "No name server: containers know each other by address only"),
        opt("dns", "", CSV, "Name server for all other names (default: the host's)", metavar="IP"),
        opt("label", "", LIST, "Attach a label", metavar="KEY=VALUE"),
        opt(
            "opt",
            "o",
            LIST,
            "Option of the bridge: mtu=N, isolate=true|false|strict, vlan=N, metric=N, no_default_route=true",
            metavar="NAME=VALUE",
        ),
        opt("route", "", LIST, "A static route in every container", metavar="CIDR,GATEWAY[,METRIC]"),
        opt("interface-name", "", STRING, "Name of the bridge", metavar="NAME"),
        opt("driver", "d", STRING, "Kind of the network", default="bridge", metavar="NAME"),
        opt("ipam-driver", "", STRING, "Who gives out addresses: host-local (the default) or none", metavar="NAME"),
        opt("ignore", "", BOOL, "Do not fail when it exists"),
        description=(
            "Containers on one network reach each other by name (`run --network NAME`); those on different networks do"
            " not, unless both were made with --opt isolate=false. Prints the network's name."
        ),
        examples=(
            ("pyctl network create backend", "a network with a free subnet"),
            ("pyctl run -d --name db --network backend postgres", "reached as `db` by others on it"),
            ("pyctl network create --internal vault", "containers on it have no way out"),
        ),
        args=(0, 1),
    )


def cmd_network_ls() -> Command:
    return command(
        "network ls",
        "",
        "List networks",
        "pyctl.cli.verb_network:list_",
        opt(
            "filter",
            "f",
            LIST,
            "Only those that match: name, id, label, driver, dangling, until (repeatable)",
            metavar="KEY=VALUE",
            complete="filter",
        ),
        opt("format", "", STRING, "json, or a Go template as '{{.Name}}'", metavar="FORMAT"),
        opt("no-trunc", "", BOOL, "Full ids"),
        opt("noheading", "n", BOOL, "No headings"),
        opt("quiet", "q", BOOL, "Only names"),
        aliases=("network list",),
    )


def cmd_network_inspect() -> Command:
    return command(
        "network inspect",
        "NETWORK [NETWORK...]",
        "Show all that is known of networks, and who is on them",
        "pyctl.cli.verb_network:inspect",
        opt("format", "f", STRING, "json, or a Go template as '{{.Name}}'", default="json", metavar="FORMAT"),
        args=(1, -1),
        complete="network:stored",
    )


def cmd_network_rm() -> Command:
    return command(
        "network rm",
        "NETWORK [NETWORK...]",
        "Remove networks",
        "pyctl.cli.verb_network:rm",
        opt(
            "force",
            "f",
            BOOL,
            "Also one that containers use: they are removed first; and do not fail for one that does not exist",
        ),
        opt(
            "time",
            "t",
            INT,
            "With --force: seconds a running container gets before KILL",
            default=10,
            metavar="SECONDS",
        ),
        description="Exit status: 1 for a network that does not exist, 2 for one that a container uses.",
        args=(1, -1),
        complete="network:stored",
        aliases=("network remove",),
    )


def cmd_network_prune() -> Command:
    return command(
        "network prune",
        "",
        "Remove every network that no container uses",
        "pyctl.cli.verb_network:prune",
        opt("force", "f", BOOL, "Do not ask"),
        opt(
            "filter",
            "",
            LIST,
            "Only those that match: label=KEY=VALUE, until=24h (repeatable)",
            metavar="KEY=VALUE",
            complete="filter",
        ),
    )


def cmd_network_exists() -> Command:
    return command(
        "network exists",
        "NETWORK",
        "Exit with 0 when a network exists, 1 when not",
        "pyctl.cli.verb_exists:network",
        args=(1, 1),
        complete="network:stored",
    )


def cmd_network_update() -> Command:
    return command(
        "network update",
        "NETWORK",
        "Change the name servers of a network",
        "pyctl.cli.verb_network:update",
        opt("dns-add", "", CSV, "Ask this one too", metavar="IP"),
        opt("dns-drop", "", CSV, "Ask this one no longer", metavar="IP"),
        args=(1, 1),
        complete="network:stored",
    )


def cmd_network_connect() -> Command:
    return command(
        "network connect",
        "NETWORK CONTAINER",
        "Put a container on one more network",
        "pyctl.cli.verb_network_change:connect",
        opt("alias", "", CSV, "A further name of the container there (repeatable)", metavar="NAME"),
        opt("ip", "", STRING, "A fixed address", metavar="IP"),
        opt("ip6", "", STRING, "A fixed IPv6 address", metavar="IP"),
        opt("mac-address", "", STRING, "A fixed hardware address", metavar="MAC"),
        description="A running container has the interface, and the names of that network, at once.",
        examples=(("pyctl network connect backend web", "`web` reaches all that are on `backend`"),),
        args=(2, 2),
        complete="network:stored",
    )


def cmd_network_disconnect() -> Command:
    return command(
        "network disconnect",
        "NETWORK CONTAINER",
        "Take a container off a network",
        "pyctl.cli.verb_network_change:disconnect",
        opt("force", "f", BOOL, "Also where the container's supervisor does not answer"),
        args=(2, 2),
        complete="network:stored",
    )


def cmd_network_reload() -> Command:
    return command(
        "network reload",
        "[CONTAINER...]",
        "Make the interfaces of running containers anew",
        "pyctl.cli.verb_network_change:reload",
        opt("all", "a", BOOL, "Every running container that is on a user-defined network"),
        opt("latest", "l", BOOL, "The container that was made last"),
        args=(0, -1),
        complete="container:running",
    )
