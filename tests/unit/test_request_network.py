"""--network, --publish, --expose, names."""

from __future__ import annotations

import pytest

from pyctl.engine.model import NetworkUse, Port
from tests.unit.request_support import FACTS, OTHER, image, refusal, request, spec


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("80", [Port(container_port=80)]),
        (":80", [Port(container_port=80)]),
        ("8080:80", [Port(container_port=80, host_port=8080)]),
        ("127.0.0.1:8080:80", [Port(container_port=80, host_port=8080, host_ip="127.0.0.1")]),
        ("127.0.0.1::80/udp", [Port(container_port=80, protocol="udp", host_ip="127.0.0.1")]),
        ("[::1]:8080:80", [Port(container_port=80, host_port=8080, host_ip="::1")]),
        ("[::]::80", [Port(container_port=80, host_ip="::")]),
        ("8080:80/UDP", [Port(container_port=80, host_port=8080, protocol="udp")]),
        ("8000-8001:80-81", [Port(container_port=80, host_port=8000), Port(container_port=81, host_port=8001)]),
        ("80-81", [Port(container_port=80), Port(container_port=81)]),
    ],
)
def test_publish(word: str, expected: list[Port]) -> None:
    assert list(spec("-p", word).network.ports) == expected


@pytest.mark.parametrize(
    "word",
    [
        "0:80", "80:0", "65536", "x", "8000-8003:80-81", "8001-8000:80-79", "1:2:3:4", "localhost:80:80", "::1:80:80",
        "[::1:80:80", "[127.0.0.1]:80:80", "[::1]80:80", "80:80/icmp", "80/", "-80", "80-", "²:80", "1.2.3:80:80",
    ],
)  # fmt: skip
def test_bad_publish(word: str) -> None:
    assert "--publish" in refusal(f"--publish={word}")


def test_repeated_ports_are_one() -> None:
    assert len(spec("-p", "80:80", "-p", "80:80", "-p", "80:80/udp").network.ports) == 2


def test_private_is_what_the_site_says() -> None:
    assert spec("--network", "private").network.mode == "slirp4netns"
    site = FACTS.replace(defaults=FACTS.defaults.replace(default_rootless_network_cmd="pasta"))
    assert spec(facts=site).network.mode == "pasta"
    options = ("port_handler=slirp4netns", "mtu=1500")
    site = FACTS.replace(defaults=FACTS.defaults.replace(network_cmd_options=options))
    assert spec(facts=site).network.options == options
    assert spec("--network=slirp4netns:mtu=1400", facts=site).network.options == (*options, "mtu=1400")
    bad = FACTS.replace(defaults=FACTS.defaults.replace(network_cmd_options=("nosuch=1",)))
    assert "nosuch" in refusal(facts=bad)


def test_publish_all() -> None:
    of = image(exposed_ports=("80/tcp", "53/udp", "9000-9001"))
    assert not spec("-p", "80").network.publish_all
    network = spec("-P", "--expose", "5000", "-p", "8080:80", of=of).network
    assert network.publish_all
    assert network.exposed == ("53/udp", "80/tcp", "5000/tcp", "9000/tcp", "9001/tcp")
    assert {(p.container_port, p.host_port) for p in network.ports} == {
        (80, 8080),
        (53, 0),
        (5000, 0),
        (9000, 0),
        (9001, 0),
    }
    assert "the image's port" in refusal(of=image(exposed_ports=("http",)))


@pytest.mark.parametrize("mode", ["host", "none", "container:other"])
def test_ports_without_a_network_are_warned_about(mode: str) -> None:
    made = request("--network", mode, "-p", "80:80")
    assert made.spec.network.ports == ()
    assert "--publish" in made.warnings[0]
    assert request("--network", mode).warnings == ()


def test_modes() -> None:
    assert spec().network.mode == "slirp4netns"
    assert spec("--network", "private").network.mode == "slirp4netns"
    assert spec("--network", "slirp4netns:mtu=1500,enable_ipv6=false").network.options == (
        "mtu=1500",
        "enable_ipv6=false",
    )
    assert spec("--network", "container:other").network.target == OTHER
    assert spec("--network", "ns:/proc/self/ns/net").network.target == "/proc/self/ns/net"
    for bad in (
        "none:x",
        "host:x",
        "container:",
        "ns:rel",
        "ns:/none",
        "pasta:mtu=1500",
        "pasta:--pid,x",
        "a b",
        "slirp4netns:x=1",
    ):
        assert "--network" in refusal("--network", bad)
    assert "combined" in refusal("--network", "host", "--network", "none")
    assert "combined" in refusal("--network", "net", "--network", "host")


def test_user_defined_networks() -> None:
    network = spec(
        *("--network", "net:ip=10.9.0.7,alias=a,mac=02-00-00-00-00-AA,interface_name=xx0"),
        *("--network", "bridge", "--network-alias", "b,c.d"),
    ).network
    assert network.mode == "bridge"
    assert network.endpoints == (
        NetworkUse(
            network_id="ab" * 32,
            name="net",
            interface="xx0",
            ip="10.9.0.7",
            mac="02:00:00:00:00:aa",
            aliases=("a", "b", "c.d"),
        ),
        NetworkUse(network_id="cd" * 32, name="podman", aliases=("b", "c.d")),
    )
    (use,) = spec("--network", "net", "--ip", "10.9.0.9", "--ip6", "FD00:1:0::9").network.endpoints
    assert (use.ip, use.ip6) == ("10.9.0.9", "fd00:1::9")
    assert len(spec("--network", "net", "--network", "net").network.endpoints) == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--network", "nosuch"), "no network"),
        (("--network", "net:foo=bar"), "unknown option 'foo'"),
        (("--network", "net:ip"), "'ip' must be NAME=VALUE"),
        (("--network", "net:ip=x"), "not an IP address"),
        (("--network", "net:ip=10.9.1.2"), "not in network net"),
        (("--network", "net:ip=10.9.0.1"), "that is the gateway of network net"),
        (("--network", "net:mac=01:00:00:00:00:00"), "an interface cannot have this address"),
        (("--network", "net:mac=1"), "not a MAC address"),
        (("--network", "net:alias=a b"), "no host name"),
        (("--network", "net:interface_name=lo"), "no name for an interface"),
        (("--network", "net", "--network", "bridge", "--ip", "10.9.0.9"), "more than one network"),
        (("--ip", "10.9.0.9"), "needs a user-defined network"),
        (("--network", "none", "--mac-address", "02:00:00:00:00:aa"), "needs a user-defined network"),
        (("--network", "net", "--ip", "fd00:1::9"), "not an IPv4 address"),
    ],
)
def test_what_a_user_defined_network_cannot_be(words: tuple[str, ...], text: str) -> None:
    assert text in refusal(*words)


def test_names() -> None:
    network = spec(
        "--dns", "1.1.1.1,::1", "--dns-search", "a.b", "--dns-option", "ndots:2", "--add-host", "a;b:1.2.3.4"
    ).network
    assert network.dns == ("1.1.1.1", "::1")
    assert network.dns_search == ("a.b",)
    assert network.dns_option == ("ndots:2",)
    assert network.add_hosts == ("a;b:1.2.3.4",)
    assert spec("--dns", "none").network.no_resolv
    for words in (
        ("--dns", "x"),
        ("--dns", "none,1.1.1.1"),
        ("--dns", "1.1.1.1", "--network", "none"),
        ("--dns-search", "a b"),
        ("--dns-search", ".,a"),
        ("--add-host", "a"),
        ("--add-host", "a:1.2.3.4", "--no-hosts"),
        ("--add-host", "a:1.2.3.4", "--network", "container:other"),
        ("--hosts-file", "/none/such"),
    ):
        assert words[0] in refusal(*words)
