"""`network create ls inspect rm prune exists update`: what they print, and what they refuse."""

from __future__ import annotations

import pytest

from tests.support.engine import Engine


def test_a_network_from_making_to_removal(fresh: Engine) -> None:
    assert fresh("network", "create", "--subnet", "10.99.1.7/24", "--label", "a=b", "-o", "mtu=1400", "n").line == "n"
    (made,) = fresh.json("network", "inspect", "n")
    assert len(made.pop("id")) == 64
    assert made.pop("created")
    assert made == {
        "name": "n",
        "driver": "bridge",
        "network_interface": "podman1",
        "subnets": [{"subnet": "10.99.1.0/24", "gateway": "10.99.1.1"}],
        "ipv6_enabled": False,
        "internal": False,
        "dns_enabled": True,
        "labels": {"a": "b"},
        "options": {"mtu": "1400"},
        "ipam_options": {"driver": "host-local"},
        "containers": {},
    }
    fresh("network", "exists", "n")
    assert fresh("inspect", "--type", "network", "-f", "{{.name}}", "n").line == "n"
    assert fresh("network", "rm", "n").line == "n"
    fresh("network", "exists", "n", status=1)
    assert "'n'" in fresh("network", "rm", "n", status=1).err
    assert fresh("network", "rm", "--force", "n").out == ""


def test_everything_that_can_be_asked_for(fresh: Engine) -> None:
    fresh(
        *("network", "create", "--subnet", "10.99.2.0/24", "--gateway", "10.99.2.5", "--ip-range", "10.99.2.16/28"),
        *("--ipv6", "--internal", "--dns", "1.1.1.1", "--route", "10.5.0.0/24,10.99.2.9,50", "--interface-name", "brx"),
        *("--opt", "isolate=false", "--opt", "com.docker.network.driver.mtu=1200", "full"),
    )
    (made,) = fresh.json("network", "inspect", "full")
    assert made["subnets"][0] == {
        "subnet": "10.99.2.0/24",
        "gateway": "10.99.2.5",
        "lease_range": {"start_ip": "10.99.2.17", "end_ip": "10.99.2.31"},
    }
    assert made["subnets"][1]["gateway"].startswith("fd")
    assert made["routes"] == [{"destination": "10.5.0.0/24", "gateway": "10.99.2.9", "metric": 50}]
    assert made["options"] == {"isolate": "false", "mtu": "1200"}
    assert (made["ipv6_enabled"], made["internal"], made["network_interface"]) == (True, True, "brx")
    assert fresh("network", "update", "--dns-add", "9.9.9.9", "--dns-drop", "1.1.1.1", "full").line == "full"
    assert fresh("network", "update", "--dns-drop", "1.1.1.1", "full").line == "full"  # gone already
    assert fresh("network", "inspect", "-f", "{{.NetworkDNSServers}}", "full").line == "[9.9.9.9]"
    assert fresh("network", "inspect", "-f", "{{.Id}}", "full").line == made["id"]
    assert list(made["options"]) == ["isolate", "mtu"]


def test_lists(fresh: Engine) -> None:
    for name in ("bb", "aa"):
        fresh("network", "create", "--label", f"of={name}", name)
    assert fresh("network", "ls", "-q").out.split() == ["aa", "bb", "podman"]
    lines = fresh("network", "ls").out.splitlines()
    assert lines[0].split("  ")[0] == "NETWORK ID"
    assert lines[3].split() == ["2f259bab93aa", "podman", "bridge"]
    assert len(fresh("network", "ls", "-n", "--no-trunc").out.split()[0]) == 64
    assert fresh("network", "ls", "--filter", "label=of=aa", "-q").line == "aa"
    assert fresh("network", "ls", "--filter", "dangling=true", "-q").out.split() == ["aa", "bb"]
    assert fresh("network", "ls", "--format", "{{.Name}} {{.Labels}}").out.splitlines()[0] == "aa of=aa"
    assert [n["name"] for n in fresh.json("network", "ls", "--format", "json")] == ["aa", "bb", "podman"]
    assert "foo is an invalid filter" in fresh("network", "ls", "--filter", "foo=x", status=125).err
    assert sorted(fresh("network", "prune", "-f", "--filter", "label=of=aa").out.split()) == ["aa"]
    assert sorted(fresh("network", "prune", "-f").out.split()) == ["bb"]
    assert "podman\tnetwork" in fresh("__complete", "network", "rm", "p").out
    assert "podman\tnetwork" in fresh("__complete", "run", "--network", "p").out


def test_subnets_are_chosen_around_all_that_is_there(fresh: Engine) -> None:
    fresh("network", "create", "--subnet", "10.89.0.0/23", "a")
    name = fresh("network", "create").line
    assert fresh("network", "inspect", "-f", "{{range .Subnets}}{{.Subnet}}{{end}}", name).line == "10.89.2.0/24"
    assert fresh("network", "create", "--ignore", "a").line == "a"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("podman",), "network podman already exists"),
        (("a b",), "'a b' is no name for a network"),
        (("host",), "means something else"),
        (("--subnet", "10.88.3.0/24"), "overlaps with 10.88.0.0/16 of another network"),
        (("--subnet", "foo"), "--subnet foo"),
        (("--subnet", "10.99.0.0/31"), "too small"),
        (("--subnet", "169.254.201.0/28"), "reserved"),
        (("--subnet", "10.99.0.0/24", "--subnet", "10.99.0.128/25"), "overlaps with 10.99.0.0/24"),
        (("--gateway", "10.99.0.1"), "--gateway 10.99.0.1: needs a --subnet"),
        (("--subnet", "10.99.0.0/24", "--gateway", "1.2.3.4"), "not in the subnet 10.99.0.0/24"),
        (("--subnet", "10.99.0.0/24", "--ip-range", "1.2.3.4/28"), "not in the subnet 10.99.0.0/24"),
        (("--opt", "foo=bar"), "the bridge driver has no such option"),
        (("--opt", "mode=unmanaged"), "--opt mode=unmanaged is not available"),
        (("--opt", "vrf=red"), "--opt vrf=red is not available"),
        (("--opt", "mtu=abc"), "--opt mtu=abc: must be a number from 68 to 65535"),
        (("--opt", "isolate=x"), "must be true or false or strict"),
        (("--opt", "vlan=5000"), "from 1 to 4094"),
        (("--driver", "macvlan"), "--driver macvlan is not available"),
        (("--driver", "ipvlan"), "--driver ipvlan is not available"),
        (("--driver", "foo"), "there is no network driver foo"),
        (("--ipam-driver", "dhcp"), "--ipam-driver dhcp"),
        (("--dns", "foo"), "--dns foo: not an IP address"),
        (("--dns", "1.1.1.1", "--disable-dns"), "exclude each other"),
        (("--route", "foo"), "--route foo: must be"),
        (("--route", "10.0.0.0/8,fd00::1"), "mixes"),
        (("--interface-name", "toolonginterfacename"), "no name for an interface"),
        (("--interface-name", "veth1"), "reserved"),
        (("--interface-name", "podman0"), "another network has this bridge"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_made(engine: Engine, words: tuple[str, ...], text: str) -> None:
    result = engine("network", "create", *words, status=125)
    assert text in result.err
    assert result.err.startswith("pyctl: ")
    assert engine("network", "ls", "-q").line == "podman"


def test_a_subnet_of_the_hosts_own_network_is_refused(engine: Engine) -> None:
    from network.facts import host_ranges

    own = next((r for r in host_ranges() if r.bits == 32 and 8 <= r.prefix <= 30), None)
    if own is None:
        pytest.skip("this host has no IPv4 network to collide with")
    assert "which this host has a route to" in engine("network", "create", "--subnet", own.text(), status=125).err
