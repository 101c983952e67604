"""Network settings to a plan: what passes, and that what cannot work is refused by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network.address import dotted, is_ipv4, is_ipv6, number
from network.plan import check_network, describe_port, network_plan, port_forwards
from network.slirp import NetworkFacts, SlirpAddresses, slirp_addresses, slirp_options
from pyctl.engine.model import Network, Port
from rootless.errors import Error, NotFound, UsageError
from rootless.plan import NetworkPlan, PortForward

FACTS = NetworkFacts(slirp4netns="/usr/bin/slirp4netns", slirp_version=(1, 2, 0), interfaces=("lo", "eth0"))
DEFAULT_ARGS = (
    "--configure",
    "--mtu=65520",
    "--disable-host-loopback",
    "--enable-sandbox",
    "--enable-seccomp",
    "--enable-ipv6",
)


def slirp(*options: str, **fields: object) -> Network:
    return Network(mode="slirp4netns", options=options, **fields)  # type: ignore[arg-type]


def args_of(*options: str, facts: NetworkFacts = FACTS) -> tuple[str, ...]:
    return network_plan(slirp(*options), facts).helper_args


def test_default() -> None:
    for mode in ("slirp4netns", "private"):
        plan = network_plan(Network(mode=mode), FACTS)
        assert plan == NetworkPlan(
            kind="slirp4netns",
            helper="/usr/bin/slirp4netns",
            helper_args=DEFAULT_ARGS,
            host_addresses=("10.0.2.2", "fd00::2"),
        )


def test_what_the_container_calls_the_host() -> None:
    assert network_plan(slirp("cidr=10.77.0.0/16"), FACTS).host_addresses == ("10.77.0.2", "fd00::2")
    assert network_plan(slirp("enable_ipv6=false"), FACTS).host_addresses == ("10.0.2.2", "")


def test_port_handlers() -> None:
    """Podman's names: its rootlesskit stands for a forwarder of the engine's own."""
    assert network_plan(slirp("port_handler=rootlesskit"), FACTS).port_handler == "forwarder"
    assert network_plan(slirp("port_handler=slirp4netns"), FACTS).port_handler == "slirp4netns"


def test_pasta() -> None:
    here = FACTS.replace(pasta="/usr/bin/pasta")

    def args(*options: str, facts: NetworkFacts = here) -> tuple[str, ...]:
        return network_plan(Network(mode="pasta", options=options), facts).helper_args

    closed = ("-t", "none", "-u", "none", "-T", "none", "-U", "none")
    names = ("--dns-forward", "169.254.1.1")
    assert args() == ("--config-net", *closed, *names, "--no-map-gw", "--quiet")
    assert args("--map-gw", "-t", "80", "--udp-ns=53", "--dns-forward", "169.254.1.9") == (
        "--config-net", "-t", "80", "--udp-ns=53", "--dns-forward", "169.254.1.9",
        "-u", "none", "-T", "none", "--quiet",
    )  # fmt: skip
    newer = FACTS.replace(pasta="/usr/bin/pasta", pasta_maps_host=True)
    assert args(facts=newer)[-3:] == ("--map-guest-addr", "169.254.1.2", "--quiet")
    with pytest.raises(Error, match="pasta is not installed") as caught:
        args(facts=FACTS)
    assert "install the package passt" in caught.value.hint
    for option in ("--netns", "--pid=x", "-f", "--runas", "mtu=1500"):
        with pytest.raises(UsageError, match="--network=pasta"):
            args(option)


def test_where_a_port_listens() -> None:
    def addresses(host_ip: str, bind_address: str = "0.0.0.0", ipv6: bool = True, *options: str) -> list[str]:
        port = Port(container_port=80, host_port=8080, host_ip=host_ip)
        facts = FACTS.replace(bind_address=bind_address, ipv6=ipv6)
        return [forward.host_ip for forward in network_plan(slirp(*options, ports=(port,)), facts).ports]

    assert addresses("") == ["0.0.0.0", "::"]
    assert addresses("", ipv6=False) == ["0.0.0.0"]
    assert addresses("", "0.0.0.0", True, "port_handler=slirp4netns") == ["0.0.0.0"]
    assert addresses("", "127.0.0.1") == ["127.0.0.1"]
    assert addresses("::") == ["0.0.0.0", "::"]
    for address in ("0.0.0.0", "::1", "192.0.2.1"):
        assert addresses(address) == [address]


def test_other_modes() -> None:
    assert network_plan(Network(mode="none"), FACTS) == NetworkPlan(kind="new")
    # The ping range belongs to a network namespace: that of the host or of another container is not ours to write.
    assert network_plan(Network(mode="host"), FACTS) == NetworkPlan(kind="host", ping_group_range="")
    joined = network_plan(Network(mode="container", target="abc"), FACTS, join_runtime_dir="/run/x/abc")
    assert joined == NetworkPlan(kind="join", join_runtime_dir="/run/x/abc", ping_group_range="")
    named = network_plan(Network(mode="ns", target="/run/netns/x"), FACTS)
    assert named == NetworkPlan(kind="join", join_path="/run/netns/x", ping_group_range="")
    with pytest.raises(NotFound):
        network_plan(Network(mode="container", target="abc"), FACTS)


def test_only_slirp_needs_slirp() -> None:
    for mode in ("none", "host"):
        network_plan(Network(mode=mode), NetworkFacts())
    with pytest.raises(Error, match="slirp4netns is not installed") as caught:
        network_plan(slirp(), NetworkFacts())
    assert "install" in caught.value.hint
    with pytest.raises(Error, match=r"version 0\.3\.2: too old"):
        network_plan(slirp(), FACTS.replace(slirp_version=(0, 3, 2)))


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("mtu=1500", "--mtu=1500"),
        ("cidr=10.9.0.0/16", "--cidr=10.9.0.0/16"),
        ("outbound_addr=192.0.2.7", "--outbound-addr=192.0.2.7"),
        ("outbound_addr=eth0", "--outbound-addr=eth0"),
        ("outbound_addr6=2001:db8::1", "--outbound-addr6=2001:db8::1"),
        ("outbound_addr6=eth0", "--outbound-addr6=eth0"),
    ],
)
def test_options_become_arguments(option: str, expected: str) -> None:
    assert expected in args_of(option)


def test_switches() -> None:
    assert "--disable-host-loopback" not in args_of("allow_host_loopback=true")
    assert "--enable-ipv6" not in args_of("enable_ipv6=false")
    assert "--enable-sandbox" not in args_of(facts=FACTS.replace(resolv_in_sandbox=False))
    assert args_of("port_handler=slirp4netns") == DEFAULT_ARGS
    assert "--mtu=1400" in args_of("mtu=1500", "mtu=1400")
    without = FACTS.replace(ipv6=False)
    assert "--enable-ipv6" not in args_of(facts=without)
    for option in ("enable_ipv6=true", "outbound_addr6=2001:db8::1"):
        with pytest.raises(Error, match="the kernel has no IPv6"):
            args_of(option, facts=without)
    with pytest.raises(Error, match=r"outbound_addr needs slirp4netns 1\.1\.0"):
        args_of("outbound_addr=1.2.3.4", facts=FACTS.replace(slirp_version=(1, 0, 1)))


@pytest.mark.parametrize(
    "option",
    [
        "foo=1",
        "",
        "enable_ipv6",
        "mtu=abc",
        "mtu=0",
        "mtu=-1",
        "mtu=67",
        "mtu=65522",
        "mtu=99999999999",
        "mtu=\uff11500",
        "cidr=abc",
        "cidr=10.0.0.0",
        "cidr=10.0.0.0/",
        "cidr=10.0.0.0/26",
        "cidr=10.0.0.0/0",
        "cidr=10.0.0.5/24",
        "cidr=fd00::/64",
        "cidr=10.0.0.0/24x",
        "port_handler=abc",
        "outbound_addr=",
        "outbound_addr=fe80::1",
        "outbound_addr=a/b",
        "outbound_addr6=1.2.3.4",
        "allow_host_loopback=1",
        "allow_host_loopback=",
        "enable_ipv6=T",
    ],
)
def test_bad_options_are_named(option: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_network(slirp(option))
    assert option.rpartition("=")[2] in caught.value.message
    assert "slirp4netns" in caught.value.message


def test_contradicting_and_unknown_outbound() -> None:
    with pytest.raises(UsageError, match="needs enable_ipv6=true"):
        args_of("enable_ipv6=false", "outbound_addr6=eth0")
    with pytest.raises(Error, match="outbound_addr=eth7: not an address or interface of this host"):
        args_of("outbound_addr=eth7")


@given(st.integers(0, 0xFFFFFFFF), st.integers(1, 25))
def test_addresses_stay_in_their_network(base: int, length: int) -> None:
    network = base >> (32 - length) << (32 - length)
    found = slirp_addresses(f"{dotted(network)}/{length}")
    inside = [number(a) - network for a in (found.gateway, found.forwarder, found.container)]
    assert inside == [2, 3, 100]
    assert found.prefix_length == length


def test_addresses_default() -> None:
    assert slirp_addresses() == SlirpAddresses()


@given(st.text(max_size=40))
def test_any_text_is_an_option_or_a_usage_error(text: str) -> None:
    for option in (text, *(f"{n}={text}" for n in ("cidr", "mtu", "outbound_addr", "outbound_addr6", "enable_ipv6"))):
        try:
            slirp_options((option,))
        except UsageError:
            continue


@pytest.mark.parametrize(
    ("mode", "target", "message"),
    [
        ("foo", "", "no such network mode"),
        ("container", "", "requires a value"),
        ("ns", "", "requires a value"),
        ("ns", "relative", "must be absolute"),
    ],
)
def test_modes_that_are_refused(mode: str, target: str, message: str) -> None:
    with pytest.raises(Error, match=message):
        check_network(Network(mode=mode, target=target))


@pytest.mark.parametrize("mode", ["none", "host", "container", "ns"])
def test_modes_without_options(mode: str) -> None:
    with pytest.raises(UsageError, match="takes no options"):
        check_network(Network(mode=mode, target="/x", options=("mtu=1500",)))


# --- ports -----------------------------------------------------------------------------------


def test_ports() -> None:
    ports = (
        Port(container_port=80, host_port=8080),
        Port(container_port=53, host_port=8080, protocol="udp"),
        Port(container_port=81, host_port=8081, host_ip="127.0.0.1"),
        Port(container_port=82, host_port=8081, host_ip="127.0.0.2"),
        Port(container_port=80, host_port=8080),
    )
    assert port_forwards(ports, "192.0.2.1") == (
        PortForward(host_ip="192.0.2.1", host_port=8080, container_port=80),
        PortForward(host_ip="192.0.2.1", host_port=8080, container_port=53, protocol="udp"),
        PortForward(host_ip="127.0.0.1", host_port=8081, container_port=81),
        PortForward(host_ip="127.0.0.2", host_port=8081, container_port=82),
    )
    assert network_plan(slirp(ports=ports), FACTS.replace(bind_address="127.0.0.1")).ports[0].host_ip == "127.0.0.1"


@pytest.mark.parametrize(
    ("port", "message"),
    [
        (Port(container_port=80, host_port=8080, protocol="sctp"), "8080:80/sctp: sctp cannot be forwarded"),
        (Port(container_port=80, host_port=8080, host_ip="300.1.1.1"), "is not an IP address"),
        (Port(container_port=80, host_port=8080, host_ip="localhost"), "is not an IP address"),
        (Port(container_port=80, host_port=0), "ports go from 1 to 65535"),
        (Port(container_port=0, host_port=1), "ports go from 1 to 65535"),
        (Port(container_port=80, host_port=70000), "70000:80: ports go from 1 to 65535"),
    ],
)
def test_ports_that_cannot_be(port: Port, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_network(slirp(ports=(port,)))


def test_slirp4netns_forwards_ipv4_only() -> None:
    port = Port(container_port=80, host_port=8080, host_ip="::1")
    check_network(slirp(ports=(port,)))
    with pytest.raises(UsageError, match=r"\[::1\]:8080:80: slirp4netns forwards IPv4 only"):
        check_network(slirp("port_handler=slirp4netns", ports=(port,)))


def test_one_host_port_for_two() -> None:
    for host_ip in ("", "127.0.0.1"):
        ports = (Port(container_port=80, host_port=8080), Port(container_port=81, host_port=8080, host_ip=host_ip))
        with pytest.raises(UsageError, match="host port 8080 is published already, to 80"):
            check_network(slirp(ports=ports))


def test_ports_without_a_network_of_ones_own() -> None:
    port = Port(container_port=80, host_port=8080)
    for mode in ("none", "host", "container", "ns"):
        with pytest.raises(UsageError, match=f"8080:80: ports cannot be published with --network={mode}"):
            check_network(Network(mode=mode, target="/x", ports=(port,)))
    same = Port(container_port=8080, host_port=8080)
    check_network(Network(mode="host", ports=(same,)))
    assert network_plan(Network(mode="host", ports=(same,)), FACTS).ports == ()
    with pytest.raises(UsageError):
        check_network(Network(mode="host", ports=(same.replace(host_ip="127.0.0.1"),)))


@pytest.mark.parametrize(
    ("port", "shown"),
    [
        (Port(container_port=80), "80"),
        (Port(container_port=80, host_port=8080), "8080:80"),
        (Port(container_port=80, host_ip="127.0.0.1"), "127.0.0.1::80"),
        (Port(container_port=53, host_port=5353, host_ip="::", protocol="udp"), "[::]:5353:53/udp"),
    ],
)
def test_ports_are_shown_as_on_the_command_line(port: Port, shown: str) -> None:
    assert describe_port(port) == shown


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dns": ("bad",)}, "--dns bad: not an IP address"),
        ({"dns_search": (".", "a")}, "cannot be combined with search domains"),
        ({"dns_search": ("a b",)}, "must be one word"),
        ({"dns_option": ("x\ny",)}, "must be one word"),
        ({"no_resolv": True, "dns": ("1.1.1.1",)}, "--dns=none cannot be combined"),
        ({"no_hosts": True, "add_hosts": ("a:1.1.1.1",)}, "--no-hosts and --add-host"),
        ({"add_hosts": ("bad",)}, "--add-host 'bad': must be NAME:ADDRESS"),
        ({"add_hosts": ("bad:",)}, "'' is not an IP address"),
        ({"add_hosts": (":1.2.3.4",)}, "must be NAME:ADDRESS"),
        ({"add_hosts": ("a;;b:1.2.3.4",)}, "must be NAME:ADDRESS"),
        ({"add_hosts": ("bad:1.2.3",)}, "'1.2.3' is not an IP address"),
        ({"add_hosts": ("a\tb:1.2.3.4",)}, "must be NAME:ADDRESS"),
        ({"mode": "none", "dns": ("1.1.1.1",)}, "--dns cannot be combined with --network=none"),
        ({"mode": "none", "dns_search": ("x",)}, "--dns-search cannot be combined with --network=none"),
        ({"mode": "container", "target": "x", "dns_option": ("x",)}, "--dns-option cannot be combined"),
        ({"mode": "container", "target": "x", "add_hosts": ("a:1.1.1.1",)}, "--add-host cannot be combined"),
    ],
)
def test_name_settings_that_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_network(Network(**{"mode": "slirp4netns", **fields}))  # type: ignore[arg-type]


@given(st.text(max_size=20))
def test_address_tests_take_any_text(text: str) -> None:
    assert not (is_ipv4(text) and is_ipv6(text))
