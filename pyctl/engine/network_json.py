"""Networks as JSON, with Podman 5.4's keys, and `--filter` of `network ls` and `network prune`.

Weight: `pyctl.engine.filters`, `storage.rfc3339`.  Source of the filters: podman-network-ls(1).
"""

from __future__ import annotations

from pyctl.engine.filters import label_matcher, moment_ns, parse, text_matcher
from rootless.errors import UsageError
from storage.rfc3339 import format_local_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.netplan import NetworkConfig, Subnet

    Matcher = Callable[[NetworkConfig, bool], bool]  # the network, and whether a container has it


def network_json(network: NetworkConfig) -> dict[str, Any]:
    """One network; empty parts are left out where Podman leaves them out."""
    tree: dict[str, Any] = {
        "name": network.name,
        "id": network.id,
        "driver": network.driver,
        "network_interface": network.interface,
        "created": format_local_ns(network.created_ns),
    }
    if network.subnets:
        tree["subnets"] = [_subnet(subnet) for subnet in network.subnets]
    if network.routes:
        tree["routes"] = [
            {"destination": r.destination, "gateway": r.gateway, **({"metric": r.metric} if r.metric else {})}
            for r in network.routes
        ]
    tree["ipv6_enabled"] = network.ipv6
    tree["internal"] = network.internal
    tree["dns_enabled"] = network.dns_enabled
    for key, value in (
        ("network_dns_servers", list(network.dns_servers)),
        ("labels", dict(sorted(network.labels.items()))),
        ("options", dict(sorted(network.options.items()))),
    ):
        if value:
            tree[key] = value
    tree["ipam_options"] = {"driver": network.ipam_driver}
    return tree


def _subnet(subnet: Subnet) -> dict[str, Any]:
    tree: dict[str, Any] = {"subnet": subnet.subnet}
    if subnet.gateway:
        tree["gateway"] = subnet.gateway
    bounds = {key: value for key, value in (("start_ip", subnet.first), ("end_ip", subnet.last)) if value}
    if bounds:
        tree["lease_range"] = bounds
    return tree


def network_filter(words: tuple[str, ...], prune: bool = False) -> Matcher:
    """Whether a network matches all filters.  Raises UsageError."""
    by_key: dict[str, list[str]] = {}
    for key, value in parse(words):
        by_key.setdefault(key, []).append(value)
    makers = {k: m for k, m in _MAKERS.items() if not prune or k in ("label", "label!", "until")}
    unknown = [key for key in by_key if key not in makers]
    if unknown:
        raise UsageError(f"{unknown[0]} is an invalid filter", hint=f"filters: {', '.join(sorted(makers))}")
    matchers = [makers[key](values) for key, values in by_key.items()]
    return lambda network, used: all(matches(network, used) for matches in matchers)


def _text(values: list[str], field: str) -> Matcher:
    matches = text_matcher(values)
    return lambda network, _used: matches(getattr(network, field))


def _label(values: list[str]) -> Matcher:
    matches = label_matcher(values)
    return lambda network, _used: matches(network.labels)


def _no_label(values: list[str]) -> Matcher:
    matchers = [label_matcher([value]) for value in values]
    return lambda network, _used: not any(matches(network.labels) for matches in matchers)


def _id(values: list[str]) -> Matcher:
    wanted = tuple(value.lower() for value in values)
    return lambda network, _used: network.id.startswith(wanted)


def _dangling(values: list[str]) -> Matcher:
    truths = {"true": True, "1": True, "false": False, "0": False}
    wanted = {truths.get(value.lower()) for value in values}
    if None in wanted:
        raise UsageError(f"filter dangling={values[0]}: not true or false")
    # The default network is never to be removed, so it does not count as left over.
    return lambda network, used: (not used and network.name != "podman") in wanted


def _until(values: list[str]) -> Matcher:
    try:
        moments = [moment_ns(value) for value in values]
    except ValueError as error:
        raise UsageError(f"filter until={values[0]}: not a time", hint="as 24h, or 2024-05-01T12:00:00") from error
    return lambda network, _used: all(network.created_ns < moment for moment in moments)


_MAKERS: dict[str, Callable[[list[str]], Matcher]] = {
    "dangling": _dangling,
    "driver": lambda values: lambda network, _used: network.driver in values,
    "id": _id,
    "label": _label,
    "label!": _no_label,
    "name": lambda values: _text(values, "name"),
    "until": _until,
}
