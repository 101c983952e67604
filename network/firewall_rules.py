"""The rules of `network.firewall`, and their translation for the kernel.

Weight: `pyroute2` (0.13 s, 22 MB); in a process of its own, which `network.firewall` starts where it does not have the
result yet.
"""

from __future__ import annotations

import _struct
import os

from pyroute2.netlink.nfnetlink import nfgen_msg
from pyroute2.netlink.nfnetlink.nftsocket import nft_chain_msg, nft_rule_msg, nft_table_msg
from pyroute2.nftables.expressions import genex, verdict

from network.firewall import INET, ISOLATED, NEW_RULE, OPEN, SUBSYSTEM, UPLINK
from rootless.rtnetlink import ACK, CREATE, REQUEST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TABLE = "pyctl"
# linux/netfilter/nfnetlink.h, nf_tables.h
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEW_TABLE, _NEW_CHAIN = 0, 3
_APPEND = 0x800
_DROP, _ACCEPT = 0, 1
_FORWARD, _POSTROUTING = 2, 4  # nf_inet_hooks
_IIFGROUP, _OIFGROUP = 21, 22  # nft_meta_keys
_ESTABLISHED_OR_RELATED = 2 | 4  # bits of ct state: 1 << IP_CT_ESTABLISHED … shifted by one
_SOURCE_NAT_PRIORITY = 100  # NF_IP_PRI_NAT_SRC


def main() -> None:
    """Writes all messages to standard output."""
    with open(1, "wb", closefd=False) as out:
        out.write(batch())
    os._exit(0)


def batch() -> bytes:
    """One transaction.  Its messages are numbered from 1; those that begin and end it, which nobody answers, are 0."""
    made = [_table(), _chain("forward", "filter", _FORWARD, 0, _DROP)]
    made.append(_chain("postrouting", "nat", _POSTROUTING, _SOURCE_NAT_PRIORITY, _ACCEPT))
    made += [_rule(chain, expressions) for chain, expressions in _rules()]
    for number, message in enumerate(made, 1):
        message["nfgen_family"] = INET
        message["header"]["type"] |= SUBSYSTEM << 8
        message["header"]["flags"] = REQUEST | ACK | CREATE | _APPEND
        message["header"]["sequence_number"] = number
    made = [_limit(_BATCH_BEGIN), *made, _limit(_BATCH_END)]
    for message in made:
        message.encode()
    return b"".join(bytes(message.data) for message in made)


def _limit(kind: int) -> Any:
    message = nfgen_msg()
    message["res_id"] = SUBSYSTEM
    message["header"]["type"] = kind
    message["header"]["flags"] = REQUEST
    return message


def _table() -> Any:
    return _message(nft_table_msg, _NEW_TABLE, [("NFTA_TABLE_NAME", _TABLE)])


def _chain(name: str, kind: str, hook: int, priority: int, policy: int) -> Any:
    place = {"attrs": [("NFTA_HOOK_HOOKNUM", hook), ("NFTA_HOOK_PRIORITY", priority)]}
    attributes = [
        ("NFTA_CHAIN_TABLE", _TABLE),
        ("NFTA_CHAIN_NAME", name),
        ("NFTA_CHAIN_HOOK", place),
        ("NFTA_CHAIN_TYPE", kind),
        ("NFTA_CHAIN_POLICY", policy),
    ]
    return _message(nft_chain_msg, _NEW_CHAIN, attributes)


def _rule(chain: str, expressions: Any) -> Any:
    attributes = [
        ("NFTA_RULE_TABLE", _TABLE),
        ("NFTA_RULE_CHAIN", chain),
        ("NFTA_RULE_EXPRESSIONS", [part for expression in expressions for part in expression]),
    ]
    return _message(nft_rule_msg, NEW_RULE, attributes)


def _message(form: Any, kind: int, attributes: list[tuple[str, Any]]) -> Any:
    message = form()
    message["attrs"] = attributes
    message["header"]["type"] = kind
    return message


def _rules() -> list[tuple[str, Any]]:
    """(chain, expressions) in order; what no rule of `forward` accepts is dropped."""
    accept = verdict(code=_ACCEPT)
    return [
        ("forward", (_established(), accept)),
        ("forward", (_group(_IIFGROUP, ISOLATED), _group(_OIFGROUP, UPLINK), accept)),
        ("forward", (_group(_IIFGROUP, OPEN), _group(_OIFGROUP, UPLINK), accept)),
        ("forward", (_group(_IIFGROUP, OPEN), _group(_OIFGROUP, OPEN), accept)),
        ("postrouting", (_group(_OIFGROUP, UPLINK), [genex("masq", {})])),
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
