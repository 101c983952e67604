"""The packet filter of the namespace that holds the bridges: who may reach whom, and masquerading on the way out.

Weight: `pyroute2` (0.1 s); loaded by the network process alone.

The rules never change: interfaces are told apart by their group (ip-link(8), `group`), so a new bridge needs none.
"""

from __future__ import annotations

import _struct

from pyroute2.nftables.expressions import genex, masq, verdict
from pyroute2.nftables.main import NFTables

from rootless.errors import LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.netplan import NetworkConfig

# Groups of interfaces.
ISOLATED, OPEN, INTERNAL, UPLINK = 1, 2, 3, 4

_TABLE = "pyctl"
_INET = 1  # NFPROTO_INET: IPv4 and IPv6 alike
_DROP, _ACCEPT = 0, 1
_IIFGROUP, _OIFGROUP = 21, 22  # nft_meta_keys in linux/netfilter/nf_tables.h
_ESTABLISHED_OR_RELATED = 2 | 4  # bits of ct state: 1 << IP_CT_ESTABLISHED … shifted by one
_SOURCE_NAT_PRIORITY = 100  # NF_IP_PRI_NAT_SRC


def group_of(network: NetworkConfig) -> int:
    """The group of a network's bridge.  Networks are isolated from each other unless both say isolate=false."""
    if network.internal:
        return INTERNAL
    return OPEN if network.options.get("isolate") == "false" else ISOLATED


def install() -> None:
    """Put all rules into the current network namespace, at once.  Raises LaunchError: the kernel has no nftables."""
    try:
        with NFTables(nfgen_family=_INET) as tables:
            tables.begin()
            tables.table("add", name=_TABLE)
            tables.chain("add", table=_TABLE, name="forward", hook="forward", type="filter", policy=_DROP)
            tables.chain(
                "add",
                table=_TABLE,
                name="postrouting",
                hook="postrouting",
                type="nat",
                priority=_SOURCE_NAT_PRIORITY,
                policy=_ACCEPT,
            )
            for chain, expressions in rules():
                tables.rule("add", table=_TABLE, chain=chain, expressions=expressions)
            tables.commit()
            held = len(list(tables.get_rules()))
    except Exception as error:
        text = getattr(error, "args", (error,))[-1]
        raise LaunchError(
            "network",
            f"cannot set up packet filtering: {text}",
            hint="user-defined networks need the kernel's nf_tables (an administrator can run: modprobe nf_tables)",
        ) from error
    if held != len(rules()):
        raise LaunchError("network", "the kernel did not take the rules that keep networks apart")


def rules() -> list[tuple[str, Any]]:
    """(chain, expressions) in order; what no rule of `forward` accepts is dropped."""
    accept = verdict(code=_ACCEPT)
    return [
        ("forward", (_established(), accept)),
        ("forward", (_group(_IIFGROUP, ISOLATED), _group(_OIFGROUP, UPLINK), accept)),
        ("forward", (_group(_IIFGROUP, OPEN), _group(_OIFGROUP, UPLINK), accept)),
        ("forward", (_group(_IIFGROUP, OPEN), _group(_OIFGROUP, OPEN), accept)),
        ("postrouting", (_group(_OIFGROUP, UPLINK), masq())),
    ]


def _value(number: int) -> dict[str, Any]:
    return {"attrs": [("NFTA_DATA_VALUE", _struct.pack("=I", number))]}


def _group(key: int, group: int) -> list[Any]:
    return [
        genex("meta", {"key": key, "dreg": 1}),
        genex("cmp", {"sreg": 1, "op": 0, "data": _value(group)}),
    ]


def _established() -> list[Any]:
    return [
        genex("ct", {"key": 0, "dreg": 1}),
        genex(
            "bitwise",
            {"sreg": 1, "dreg": 1, "len": 4, "mask": _value(_ESTABLISHED_OR_RELATED), "xor": _value(0)},
        ),
        genex("cmp", {"sreg": 1, "op": 1, "data": _value(0)}),
    ]
