"""What is asked of the kernel for user-defined networks, as pyroute2 reads it back; in real network namespaces."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from network import firewall
from network.links import LinkSocket
from rootless import netns
from rootless.libc import CLONE_NEWNET, setns
from tests.support.mapped import mapped

MAC, BRIDGE_MAC = "02:00:00:00:00:05", "02:00:00:00:00:06"


def private() -> int:
    """A new network namespace for this process."""
    netns.make_private()
    return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def test_a_bridge_and_a_pair(tmp_path: Path) -> None:
    def check() -> None:
        from pyroute2 import IPRoute

        inner, outer = private(), private()
        links = LinkSocket()
        links.add_bridge("br0", mac=BRIDGE_MAC, mtu=1400, group=7)
        bridge = socket.if_nametoindex("br0")
        links.add_address(bridge, "10.9.0.1", 24, "10.9.0.255")
        links.add_address(bridge, "fd00:9::1", 64)
        links.set_up(bridge)
        links.add_pair("veth1", bridge, mtu=1400, netns=inner, inner="eth0", mac=MAC)
        with IPRoute() as read:
            (made,) = read.link("get", index=bridge)
            assert made.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_KIND") == "bridge"
            assert [made.get_attr(f"IFLA_{n}") for n in ("ADDRESS", "MTU", "GROUP")] == [BRIDGE_MAC, 1400, 7]
            (port,) = read.link("get", ifname="veth1")
            assert (port.get_attr("IFLA_MASTER"), port.get_attr("IFLA_MTU"), port["flags"] & 1) == (bridge, 1400, 1)
            found = {a.get_attr("IFA_ADDRESS"): a for a in read.get_addr(index=bridge)}
            assert found["10.9.0.1"]["prefixlen"] == 24
            assert found["10.9.0.1"].get_attr("IFA_BROADCAST") == "10.9.0.255"
            assert found["fd00:9::1"].get_attr("IFA_FLAGS") & 0x02  # IFA_F_NODAD
        setns(inner, CLONE_NEWNET)
        inside = LinkSocket()
        index = socket.if_nametoindex("eth0")
        inside.add_address(index, "10.9.0.2", 24, "10.9.0.255")
        inside.add_address(index, "fd00:9::2", 64)
        inside.set_up(index)
        inside.add_route(index, "0.0.0.0", 0, "10.9.0.1", 33)
        inside.add_route(index, "::", 0, "fd00:9::1", 34)
        inside.add_route(index, "10.5.0.0", 16, "10.9.0.9")
        with pytest.raises(FileExistsError):
            inside.add_address(index, "10.9.0.2", 24)
        with IPRoute() as read:
            assert read.link("get", index=index)[0].get_attr("IFLA_ADDRESS") == MAC
            routes = {(r.get_attr("RTA_DST"), r["dst_len"], r.get_attr("RTA_GATEWAY"), r.get_attr("RTA_PRIORITY"))
                      for r in read.get_routes(oif=index, table=254) if r.get_attr("RTA_GATEWAY")}  # fmt: skip
            assert routes == {
                (None, 0, "10.9.0.1", 33),
                (None, 0, "fd00:9::1", 34),
                ("10.5.0.0", 16, "10.9.0.9", None),
            }
        setns(outer, CLONE_NEWNET)
        for name in ("br0", "veth1"):
            links.set_group(socket.if_nametoindex(name), 9)
        links.delete_group(9)
        assert [name for _index, name in socket.if_nameindex()] == ["lo"]
        setns(inner, CLONE_NEWNET)
        assert [name for _index, name in socket.if_nameindex()] == ["lo"]

    mapped(check, runtime_root=str(tmp_path), single=True)


def rules_as_read() -> list[Any]:
    from pyroute2.nftables.main import NFTables

    with NFTables(nfgen_family=firewall.INET) as tables:
        policies = {c.get_attr("NFTA_CHAIN_NAME"): c.get_attr("NFTA_CHAIN_POLICY") for c in tables.get_chains()}
        names = [
            [part.get_attr("NFTA_EXPR_NAME") for part in rule.get_attr("NFTA_RULE_EXPRESSIONS")]
            for rule in tables.get_rules()
        ]
    return [policies, names]


def test_the_packet_filter_is_translated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyroute2

    cache, library = tmp_path / "cache", str(Path(pyroute2.__file__).parent)
    made = firewall.batch(str(cache), library)
    (file,) = cache.iterdir()
    # What another process could have written, or another version, counts for nothing.
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"\xff")
    assert firewall.batch(str(cache), library) == made
    assert file.read_bytes() == whole
    file.chmod(0o666)
    assert firewall.batch(str(cache), library) == made
    assert file.stat().st_mode & 0o777 == 0o600
    # From now on nothing is translated.
    monkeypatch.setattr(firewall, "_translated", lambda: b"")
    assert firewall.batch(str(cache), library) == made

    def check() -> list[Any]:
        private()
        firewall.install(made)
        return rules_as_read()

    group = ["meta", "cmp"]
    assert mapped(check, runtime_root=str(tmp_path), single=True) == [
        {"forward": 0, "postrouting": 1},
        [
            ["ct", "bitwise", "cmp", "immediate"],
            *[[*group, *group, "immediate"]] * 3,
            [*group, "masq"],
        ],
    ]


def test_rules_that_the_kernel_refuses_are_a_failure(tmp_path: Path) -> None:
    import pyroute2

    from rootless.errors import LaunchError

    made = firewall.batch("", str(Path(pyroute2.__file__).parent))

    def check() -> str:
        private()
        try:
            firewall.install(made.replace(b"masq", b"nosq"))
        except LaunchError as error:
            assert not rules_as_read()[1]
            return error.message
        return ""

    assert "cannot set up packet filtering" in mapped(check, runtime_root=str(tmp_path), single=True)
