"""Subnets and addresses, against `ipaddress`."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network import facts, ipam
from rootless.errors import Error, UsageError
from rootless.netplan import NetworkConfig, Subnet

V4 = st.builds(lambda n, p: f"{ipaddress.IPv4Address(n)}/{p}", st.integers(0, 2**32 - 1), st.integers(0, 32))
V6 = st.builds(lambda n, p: f"{ipaddress.IPv6Address(n)}/{p}", st.integers(0, 2**128 - 1), st.integers(0, 128))


def network(*subnets: Subnet) -> NetworkConfig:
    return NetworkConfig(id="ab" * 32, name="net", interface="br", subnets=subnets)


@given(V4 | V6)
def test_a_range_is_what_ipaddress_says(text: str) -> None:
    made, known = ipam.parse_range(text), ipaddress.ip_network(text, strict=False)
    assert (made.first, made.last, made.prefix) == (
        int(known.network_address), int(known.broadcast_address), known.prefixlen,
    )  # fmt: skip
    assert ipaddress.ip_network(made.text()) == known
    assert made.holds(str(known.network_address))


@given(V4 | V6, V4 | V6)
def test_overlap_is_what_ipaddress_says(one: str, other: str) -> None:
    left, right = (ipaddress.ip_network(t, strict=False) for t in (one, other))
    known = left.version == right.version and left.overlaps(right)
    assert ipam.parse_range(one).overlaps(ipam.parse_range(other)) == known


@given(st.text(max_size=40))
def test_no_text_makes_it_fail_otherwise_than_by_saying_so(text: str) -> None:
    for parse in (ipam.parse_address, ipam.parse_range):
        try:
            parse(text)
        except ValueError:
            continue


@given(st.lists(V4.filter(lambda t: int(t.rpartition("/")[2]) >= 12), max_size=12))
def test_a_chosen_subnet_overlaps_with_nothing(taken: list[str]) -> None:
    ranges = [ipam.parse_range(t) for t in taken]
    chosen = ipam.free_subnet(ranges)
    assert chosen.prefix == 24
    assert not any(r.overlaps(chosen) for r in ranges)


def test_the_first_subnet_is_podmans_and_none_is_left_of_all() -> None:
    assert ipam.free_subnet([]).text() == "10.89.0.0/24"
    assert ipam.free_subnet([ipam.parse_range("10.0.0.0/8")]).text() == "192.168.0.0/24"
    with pytest.raises(Error, match="every subnet"):
        ipam.free_subnet([ipam.parse_range("0.0.0.0/0")])


@given(V4.filter(lambda t: int(t.rpartition("/")[2]) >= 24) | V6.filter(lambda t: int(t.rpartition("/")[2]) >= 121))
def test_every_address_is_given_out_once_and_none_that_is_reserved(text: str) -> None:
    whole = ipam.parse_range(text)
    if whole.prefix > whole.bits - 2:
        return
    subnet = Subnet(subnet=whole.text(), gateway=ipam.gateway_of(whole))
    taken: set[int] = set()
    while (number := ipam.next_address(subnet, taken)) is not None:
        assert number not in taken
        taken.add(number)
    known = list(ipaddress.ip_network(whole.text()).hosts())
    expected = {int(h) for h in known} - {int(ipaddress.ip_address(subnet.gateway))}
    assert taken == expected


def test_the_next_address_goes_on_and_comes_round() -> None:
    subnet = Subnet(subnet="10.9.0.0/29", gateway="10.9.0.1")
    base = ipam.parse_address("10.9.0.0")[0]
    assert ipam.next_address(subnet, (), after=base + 4) == base + 5
    assert ipam.next_address(subnet, {base + 6}, after=base + 5) == base + 2
    assert ipam.next_address(subnet.replace(first="10.9.0.4", last="10.9.0.4"), ()) == base + 4


@pytest.mark.parametrize(
    ("word", "bounds"),
    [
        ("10.9.0.128/25", ("10.9.0.129", "10.9.0.255")),
        ("10.9.0.16/32", ("10.9.0.16", "10.9.0.16")),
        ("10.9.0.10-10.9.0.20", ("10.9.0.10", "10.9.0.20")),
        ("10.9.0.0/28", ("10.9.0.1", "10.9.0.15")),
    ],
)
def test_ranges_to_give_out(word: str, bounds: tuple[str, str]) -> None:
    assert ipam.lease_bounds(word, ipam.parse_range("10.9.0.0/24")) == bounds


@pytest.mark.parametrize("word", ["10.8.0.0/25", "10.9.0.9-10.9.0.2", "10.0.0.0/8", "x", "10.9.0.9-", "fd00::/64", ""])
def test_ranges_that_are_none(word: str) -> None:
    with pytest.raises(UsageError, match="--ip-range"):
        ipam.lease_bounds(word, ipam.parse_range("10.9.0.0/24"))


@pytest.mark.parametrize("word", ["10.9.1.5", "10.9.0.1", "10.9.0.0", "10.9.0.255", "fd00::5", "10.9.0", ""])
def test_fixed_addresses_that_a_network_cannot_give(word: str) -> None:
    with pytest.raises(Error, match="--ip"):
        ipam.check_static(network(Subnet(subnet="10.9.0.0/24", gateway="10.9.0.1")), word, "--ip")


def test_a_fixed_address_has_one_form() -> None:
    subnet = Subnet(subnet="fd00:1::/64", gateway="fd00:1::1")
    assert ipam.check_static(network(subnet), "fd00:0001:0:0::00aa", "--ip6") == "fd00:1::aa"


def test_mac_addresses_are_local_stable_and_differ() -> None:
    one, other = (ipam.mac_address("0" * 63 + "1", "ab" * 32), ipam.mac_address("f" * 64, "ab" * 32))
    assert one != other
    assert one == ipam.mac_address("0" * 63 + "1", "ab" * 32)
    assert all(m.startswith("02:") and len(m) == 17 for m in (one, other))


def test_the_hosts_routes_as_the_kernel_writes_them(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "route").write_text(
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    )
    (folder / "ipv6_route").write_text(
        "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 "
        "00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth0\n"
        "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
        "00000000000000000000000000000000 ffffffff 00000001 00000000 00200200 lo\n"
    )
    assert [r.text() for r in facts.host_ranges(str(tmp_path))] == ["10.0.0.0/24", "fd00::/64"]
    assert facts.host_ranges(str(tmp_path / "nothing")) == []
