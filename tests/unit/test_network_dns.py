"""The name server's words and its knowledge: whatever bytes come, and who may know whom."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network import dns_wire
from network.dns_names import Names, Verdict
from network.dns_wire import Malformed, Question
from rootless.netplan import BridgePlan, Endpoint, NetworkConfig, Subnet

LABELS = st.lists(st.binary(min_size=1, max_size=63), max_size=6).map(tuple)


def query(*labels: bytes, kind: int = dns_wire.A, number: int = 7, flags: int = 0x0100, tail: bytes = b"") -> bytes:
    name = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    return struct.pack(">6H", number, flags, 1, 0, 0, 1 if tail else 0) + name + struct.pack(">2H", kind, 1) + tail


def ask(name: str, kind: int = dns_wire.A) -> Question:
    return dns_wire.parse(query(*(label.encode() for label in name.split(".")), kind=kind))


# --- bytes -------------------------------------------------------------------------------------


@given(
    st.binary(max_size=600)
    | st.builds(lambda a, b: a[: b % (len(a) + 1)], st.just(query(b"abc", b"de")), st.integers(0))
)
def test_any_bytes_are_a_question_or_are_refused(packet: bytes) -> None:
    try:
        question = dns_wire.parse(packet)
    except Malformed as malformed:
        assert malformed.reply == b"" or (malformed.reply[:2] == packet[:2] and len(malformed.reply) == 12)
        return
    reply = dns_wire.answer(packet, question, dns_wire.NXDOMAIN)
    assert dns_wire.is_answer_to(reply, packet, question.end)
    assert question.end <= len(packet)


@given(LABELS, st.integers(0, 65535), st.integers(0, 65535))
def test_a_question_is_read_as_it_was_written(labels: tuple[bytes, ...], kind: int, number: int) -> None:
    question = dns_wire.parse(query(*labels, kind=kind, number=number))
    assert question.labels == tuple(label.lower() for label in labels)
    assert (question.type, question.id) == (kind, number)


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (query(b"a")[:-1], dns_wire.FORMERR),
        (query(b"a" * 63, b"a" * 63, b"a" * 63, b"a" * 63), dns_wire.FORMERR),
        (struct.pack(">6H", 7, 0x0100, 2, 0, 0, 0) + query(b"a")[12:], dns_wire.FORMERR),
        (query(b"a")[:12] + b"\xc0\x0c" + b"\0\1\0\1", dns_wire.FORMERR),  # a name that points to itself
        (query(b"a", flags=0x2800), dns_wire.NOTIMP),  # an update
        (query(b"a")[:-1] + b"\3", dns_wire.REFUSED),  # of the class CHAOS
    ],
)
def test_what_is_said_to_nonsense(packet: bytes, code: int) -> None:
    with pytest.raises(Malformed) as caught:
        dns_wire.parse(packet)
    assert caught.value.reply[3] & 15 == code


def test_an_answer_is_never_answered() -> None:
    with pytest.raises(Malformed) as caught:
        dns_wire.parse(query(b"a", flags=0x8180))
    assert caught.value.reply == b""


def test_what_does_not_fit_is_to_be_asked_over_tcp() -> None:
    packet = query(b"a")
    records = tuple(dns_wire.address_record(f"10.0.0.{n}") for n in range(100))
    short = dns_wire.answer(packet, dns_wire.parse(packet), 0, records)
    assert len(short) <= 512
    assert short[2] & 2  # truncated
    whole = dns_wire.answer(packet, dns_wire.parse(packet), 0, records, stream=True)
    assert struct.unpack_from(">H", whole, 6) == (100,)
    wide = query(b"a", tail=b"\0" + struct.pack(">2HIH", dns_wire.OPT, 4096, 0, 0))
    assert dns_wire.answer(wide, dns_wire.parse(wide), 0, records)[2] & 2 == 0


@given(st.ip_addresses())
def test_reversed_names(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    labels = tuple(label.encode() for label in address.reverse_pointer.split("."))
    text = dns_wire.reversed_address(labels)
    assert ipaddress.ip_address(text) == address


@given(LABELS)
def test_reversed_names_that_are_none(labels: tuple[bytes, ...]) -> None:
    for tail in ((b"in-addr", b"arpa"), (b"ip6", b"arpa")):
        text = dns_wire.reversed_address((*labels, *tail))
        assert text == "" or ipaddress.ip_address(text)


# --- who knows whom ----------------------------------------------------------------------------


def network(number: int, **more: object) -> NetworkConfig:
    subnets = (Subnet(subnet=f"10.9.{number}.0/24", gateway=f"10.9.{number}.1"),)
    return NetworkConfig(id=f"{number:064x}", name=f"n{number}", interface=f"br{number}", subnets=subnets, **more)  # type: ignore[arg-type]


def plan(number: int, *networks: NetworkConfig, aliases: tuple[str, ...] = (), **more: object) -> BridgePlan:
    endpoints = tuple(
        Endpoint(
            network=net,
            interface="eth0",
            mac="",
            addresses=(f"{net.subnets[0].subnet[:-4]}{number}/24",),
            aliases=aliases,
        )
        for net in networks
    )
    return BridgePlan(container_id=f"{number:064x}", name=f"c{number}", endpoints=endpoints, **more)  # type: ignore[arg-type]


def addresses(verdict: Verdict) -> list[str]:
    return [str(ipaddress.ip_address(data)) for _kind, data in verdict.records]


@pytest.fixture
def names() -> Names:
    """c5 on n1; c6, called web, on n1 and n2; c7 on n2; c8 on the internal n3; c9 on n4 without names."""
    made = Names()
    for one in (
        plan(5, network(1)),
        plan(6, network(1), network(2), aliases=("web", "Web.Example")),
        plan(7, network(2), aliases=("web",)),
        plan(8, network(3, internal=True)),
        plan(9, network(4, dns_enabled=False)),
    ):
        made.put(one)
    return made


def test_names_aliases_and_ids(names: Names) -> None:
    for name in ("c6", "C6", "web", "web.example", "c6.dns.podman"):
        question = ask(name)
        assert addresses(names.judge("10.9.1.5", question)) == ["10.9.1.6"], name
    # Who shares two networks with it sees it on both, and who has the same alias on another network is not seen.
    assert addresses(names.judge("10.9.2.6", ask("web"))) == ["10.9.1.6", "10.9.2.6", "10.9.2.7"]


def test_other_networks_are_not_seen(names: Names) -> None:
    for name in ("c7", "c8", "c9", "nobody", "c7.dns.podman", "dns.podman"):
        assert names.judge("10.9.1.5", ask(name)) == Verdict(code=dns_wire.NXDOMAIN), name
    assert names.judge("10.9.2.1", ask("c7")) == Verdict(code=dns_wire.REFUSED)  # nobody has that address


def test_a_name_without_such_an_address_exists_all_the_same(names: Names) -> None:
    assert names.judge("10.9.1.5", ask("c6", dns_wire.AAAA)) == Verdict()


def test_pointers(names: Names) -> None:
    (record,) = names.judge("10.9.1.5", ask("6.1.9.10.in-addr.arpa", dns_wire.PTR)).records
    assert record == (dns_wire.PTR, b"\2c6\3dns\6podman\0")
    for hidden in ("7.2.9.10.in-addr.arpa", "77.1.9.10.in-addr.arpa", "8.3.9.10.in-addr.arpa"):
        assert names.judge("10.9.1.5", ask(hidden, dns_wire.PTR)).code == dns_wire.NXDOMAIN, hidden
    assert names.judge("10.9.1.5", ask("4.4.8.8.in-addr.arpa", dns_wire.PTR)).forward


def test_the_rest_is_asked_of_others_but_not_from_an_internal_network(names: Names) -> None:
    assert names.judge("10.9.1.5", ask("example.com")) == Verdict(forward=True)
    assert names.judge("10.9.3.8", ask("example.com")) == Verdict(code=dns_wire.NXDOMAIN)
    names.put(plan(8, network(3, internal=True), uplink=True))
    assert names.judge("10.9.3.8", ask("example.com")).forward
    names.change(network(1, dns_servers=("9.9.9.9",)))
    assert names.judge("10.9.1.5", ask("example.com")).servers == ("9.9.9.9",)
    names.put(plan(5, network(1), dns_servers=("1.1.1.1",)))
    assert names.judge("10.9.1.5", ask("example.com")).servers == ("1.1.1.1",)


def test_who_has_gone_is_not_known_any_more(names: Names) -> None:
    names.drop(f"{6:064x}")
    assert names.judge("10.9.1.5", ask("c6")).code == dns_wire.NXDOMAIN
    assert names.judge("10.9.1.6", ask("c5")).code == dns_wire.REFUSED
    assert addresses(names.judge("10.9.2.7", ask("web"))) == ["10.9.2.7"]
    for number in (5, 7, 8, 9):
        names.drop(f"{number:064x}")
    assert not any(names._named.values())
    assert not names._sources
