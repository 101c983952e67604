"""/etc/hosts, /etc/resolv.conf and /etc/hostname: the texts that Podman 5.4.2 was seen to write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from network.hosts import (
    PUBLIC_NAMESERVERS,
    NameFiles,
    NameSources,
    hosts_text,
    name_files,
    parse_resolv,
    resolv_text,
)
from pyctl.engine.model import Network
from rootless.errors import Error

BASE = """127.0.0.1\tlocalhost
::1\t\tlocalhost ip6-localhost ip6-loopback
ff02::1\t\tip6-allnodes
ff02::2\t\tip6-allrouters

"""
BASE_OUT = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
GATEWAY = "192.0.2.2\thost.containers.internal host.docker.internal\n"
SOURCES = NameSources(hosts=BASE, resolv="nameserver 10.255.255.53\n", host_address="192.0.2.2")


def files(mode: str, **fields: object) -> NameFiles:
    return name_files(Network(mode=mode, **fields), "foo", "bar", SOURCES)  # type: ignore[arg-type]


def test_each_mode() -> None:
    own = BASE_OUT + GATEWAY
    assert files("slirp4netns") == NameFiles(
        hosts=own + "10.0.2.100\tfoo bar\n",
        resolv="nameserver 10.0.2.3\nnameserver 10.255.255.53\n",
        hostname="foo\n",
    )
    assert files("private") == files("slirp4netns")
    assert files("slirp4netns", options=("cidr=10.9.0.0/16",)).hosts == own + "10.9.0.100\tfoo bar\n"
    assert (files("slirp4netns", options=("cidr=10.9.0.0/16",)).resolv or "").startswith("nameserver 10.9.0.3\n")
    assert files("none") == NameFiles(hosts=own + "127.0.0.1\tfoo bar\n", resolv=None, hostname="foo\n")
    assert files("host") == NameFiles(hosts=own, resolv="nameserver 10.255.255.53\n", hostname="foo\n")
    assert files("ns", target="/x") == files("host")
    joined = name_files(
        Network(mode="container", target="x"),
        "bar",
        "baz",
        NameSources(
            hosts=own + "10.0.2.100\tfoo bar\n", resolv="search z\nnameserver 10.0.2.3\n", host_address="192.0.2.2"
        ),
    )
    assert joined.hosts == own + "10.0.2.100\tfoo bar\n127.0.0.1\tbaz\n"
    assert joined.resolv == "search z\nnameserver 10.0.2.3\n"


def test_leaving_files_alone() -> None:
    assert files("slirp4netns", no_hosts=True).hosts is None
    assert files("slirp4netns", no_resolv=True).resolv is None
    assert name_files(Network(mode="none"), "foo", "bar", SOURCES, no_hostname=True).hostname is None


@pytest.mark.parametrize(
    ("base", "add", "expected"),
    [
        ("", (), "127.0.0.1\tlocalhost\n::1\tlocalhost\n" + GATEWAY + "10.0.2.100\th n\n"),
        (
            "# comment\n127.0.0.1 localhost # x\n\n  10.0.0.1   a  b\tc\n10.0.0.2\n10.0.0.3 #foo\nbad x\n"
            "1.2.3.4 h\n5.5.5.5 n other",
            (),
            "127.0.0.1\tlocalhost\n10.0.0.1\ta b c\nbad\tx\n1.2.3.4\th\n5.5.5.5\tn other\n" + GATEWAY,
        ),
        (
            "127.0.0.1 localhost h n host.containers.internal\n127.0.1.1 vm\n",
            ("a:1.1.1.1",),
            "1.1.1.1\ta\n127.0.0.1\tlocalhost h n host.containers.internal\n127.0.1.1\tvm\n"
            "192.0.2.2\thost.docker.internal\n",
        ),
        (
            "127.0.0.1 foo\n",
            (),
            "127.0.0.1\tfoo\n127.0.0.1\tlocalhost\n::1\tlocalhost\n" + GATEWAY + "10.0.2.100\th n\n",
        ),
        (
            "::1 localhost foo\n10.1.1.1 a\n10.1.1.1 b\n10.1.1.1 a\n",
            (),
            "::1\tlocalhost foo\n10.1.1.1\ta\n10.1.1.1\tb\n10.1.1.1\ta\n" + GATEWAY + "10.0.2.100\th n\n",
        ),
        (
            "127.0.0.1 localhost\n",
            ("localhost:1.2.3.4", "h:6.6.6.6"),
            "1.2.3.4\tlocalhost\n6.6.6.6\th\n127.0.0.1\tlocalhost\n" + GATEWAY + "10.0.2.100\tn\n",
        ),
        (
            "127.0.0.1 localhost\n",
            ("n:1.2.3.4", "a:6.6.6.6", "a:6.6.6.7", "b;c:2001:db8::2", "g:host-gateway"),
            "1.2.3.4\tn\n6.6.6.6\ta\n6.6.6.7\ta\n2001:db8::2\tb c\n192.0.2.2\tg\n127.0.0.1\tlocalhost\n"
            + GATEWAY
            + "10.0.2.100\th\n",
        ),
        (
            "127.0.0.1 localhost\n",
            ("host.docker.internal:1.2.3.4",),
            "1.2.3.4\thost.docker.internal\n127.0.0.1\tlocalhost\n192.0.2.2\thost.containers.internal\n"
            "10.0.2.100\th n\n",
        ),
    ],
)
def test_hosts(base: str, add: tuple[str, ...], expected: str) -> None:
    text = hosts_text(base, add, host_address="192.0.2.2", own_addresses=("10.0.2.100",), own_names=("h", "n"))
    assert text == expected


def test_hosts_without_a_way_out() -> None:
    assert "internal" not in hosts_text(BASE)
    with pytest.raises(Error, match="has no address"):
        hosts_text(BASE, ("g:host-gateway",))


def test_a_name_cannot_add_lines() -> None:
    for name in ("a\n6.6.6.6 evil", "a b", "a\x00"):
        with pytest.raises(Error, match="cannot hold"):
            hosts_text(BASE, own_addresses=("10.0.2.100",), own_names=(name,))


RESOLVED = "nameserver 192.0.2.53\nsearch corp\n"
MANY = "nameserver 127.0.0.1\nnameserver 8.8.8.8\nnameserver ::1\nnameserver 2001:db8::1\nnameserver fe80::1%eth0\n"
LAN = "options edns0 trust-ad\nsearch lan\n"


@pytest.mark.parametrize(
    ("host", "resolved", "slirp", "plain"),
    [
        ("nameserver 127.0.0.1\n", "", "nameserver 10.0.2.3\n", "nameserver 127.0.0.1\n"),
        (
            "nameserver 127.0.0.53\n" + LAN,
            "",
            "search lan\nnameserver 10.0.2.3\noptions edns0 trust-ad\n",
            "search lan\nnameserver 127.0.0.53\noptions edns0 trust-ad\n",
        ),
        (
            "nameserver 127.0.0.53\n" + LAN,
            RESOLVED,
            "search corp\nnameserver 10.0.2.3\nnameserver 192.0.2.53\n",
            "search lan\nnameserver 127.0.0.53\noptions edns0 trust-ad\n",
        ),
        (
            "nameserver 127.0.0.53\nnameserver 8.8.8.8\n" + LAN,
            RESOLVED,
            "search lan\nnameserver 10.0.2.3\nnameserver 8.8.8.8\noptions edns0 trust-ad\n",
            "search lan\nnameserver 127.0.0.53\nnameserver 8.8.8.8\noptions edns0 trust-ad\n",
        ),
        (
            MANY,
            "",
            "nameserver 10.0.2.3\nnameserver 8.8.8.8\nnameserver 2001:db8::1\n",
            MANY,
        ),
        ("", "", "nameserver 10.0.2.3\n", ""),
        (
            "# c\n; d\nnameserver 1.1.1.1 # x\n  nameserver 2.2.2.2\nnameserver bad\nsearch a b\nsearch c d\n"
            "sortlist 1.2.3.4\n",
            "",
            "search c d\nnameserver 10.0.2.3\nnameserver 1.1.1.1\nnameserver 2.2.2.2\n",
            "search c d\nnameserver 1.1.1.1\nnameserver 2.2.2.2\n",
        ),
    ],
)
def test_resolv(host: str, resolved: str, slirp: str, plain: str) -> None:
    assert resolv_text(host, resolved=resolved, forwarder="10.0.2.3") == slirp
    assert resolv_text(host, resolved=resolved, own_network=False) == plain


def test_resolv_of_a_namespace_without_forwarder() -> None:
    assert parse_resolv(resolv_text("nameserver 127.0.0.1\n")).nameservers == PUBLIC_NAMESERVERS


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"dns_search": (".",)}, "nameserver 10.0.2.3\nnameserver 1.1.1.1\noptions ndots:2\n"),
        ({"dns_search": ("q",)}, "search q a b\nnameserver 10.0.2.3\nnameserver 1.1.1.1\noptions ndots:2\n"),
        (
            {"dns_option": ("timeout:1",)},
            "search a b\nnameserver 10.0.2.3\nnameserver 1.1.1.1\noptions timeout:1 ndots:2\n",
        ),
        (
            {"dns": ("7.7.7.7", "2001:db8::5")},
            "search a b\nnameserver 7.7.7.7\nnameserver 2001:db8::5\noptions ndots:2\n",
        ),
    ],
)
def test_resolv_options(options: dict[str, tuple[str, ...]], expected: str) -> None:
    host = "nameserver 1.1.1.1\nsearch a b\noptions ndots:2\n"
    assert resolv_text(host, forwarder="10.0.2.3", **options) == expected  # type: ignore[arg-type]


def test_resolv_as_glibc_reads_it() -> None:
    parsed = parse_resolv("domain foo.bar\noptions ndots:2\noptions rotate\n")
    assert parsed.search == ("foo.bar",)
    assert parsed.options == ("ndots:2", "rotate")


@given(st.text(max_size=200), st.text(max_size=100))
def test_any_host_file_gives_files_that_read_back_the_same(hosts: str, resolv: str) -> None:
    once = hosts_text(hosts, own_addresses=("10.0.2.100",), own_names=("h", "n"))
    assert hosts_text(once, own_addresses=("10.0.2.100",), own_names=("h", "n")) == once
    first = resolv_text(resolv, forwarder="10.0.2.3")
    assert parse_resolv(first).nameservers[0] == "10.0.2.3"
    assert resolv_text(first, own_network=False) == first
