"""Hosts: origins of URLs, which addresses a registry may not lead to, and proxies.

Weight: `ipaddress`, `urllib.parse`; imported with `storage.registry_http` only.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from rootless.errors import Error
from rootless.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class RegistryError(Error):
    """A registry cannot be reached, refuses, or breaks the protocol."""


class TransientError(RegistryError):
    """A failure that another attempt may not have: a cut connection, a stall, a server's own trouble."""


class CancelledError(RegistryError):
    """The caller has ended the transfer."""


class Origin(Value):
    """Scheme, host (lower case, no brackets) and port of a URL."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def origin_of(url: str) -> Origin:
    """The origin of an absolute http or https URL.  Raises RegistryError for anything else."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise RegistryError(f"malformed URL {url[:200]!r}: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RegistryError(f"URL {url[:200]!r} is neither http nor https")
    if parts.username is not None or parts.password is not None:
        raise RegistryError(f"a URL at {parts.hostname} contains a user name")
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    return Origin(scheme=parts.scheme, host=parts.hostname, port=port)


def is_loopback(host: str) -> bool:
    """Whether `host` is `localhost` or a loopback address, by its name alone."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def check_address(host: str, loopback: bool) -> None:
    """RegistryError where an IP address is one that a registry has no business to name; names pass."""
    address = _address(host)
    if address is None:
        return
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        raise RegistryError(f"refused to be sent to {address}: a link-local, multicast or unspecified address")
    if address.is_loopback and not loopback:
        raise RegistryError(f"refused to be sent to {address}: a loopback address")


def proxy_for(env: Mapping[str, str], origin: Origin) -> str:
    """The proxy of the environment for a host, "" for none (HTTPS_PROXY, HTTP_PROXY, NO_PROXY in either case)."""

    def variable(name: str) -> str:
        # Upper-case HTTP_PROXY is what a CGI request's "Proxy:" header becomes; there the lower case alone counts.
        upper = "" if name == "http_proxy" and "REQUEST_METHOD" in env else env.get(name.upper(), "")
        return env.get(name, "") or upper

    proxy = variable(f"{origin.scheme}_proxy") or variable("all_proxy")
    if not proxy:
        return ""
    for item in variable("no_proxy").replace(",", " ").split():
        rule = item.lower().lstrip("*").partition(":")[0] if not item.startswith("[") else item.strip("[]")
        if item == "*" or origin.host == rule.lstrip(".") or origin.host.endswith("." + rule.lstrip(".")):
            return ""
        try:
            if ipaddress.ip_address(origin.host) in ipaddress.ip_network(item, strict=False):
                return ""
        except ValueError:
            continue
    if "://" not in proxy:
        proxy = "http://" + proxy
    if not proxy.startswith(("http://", "https://")):
        raise RegistryError(f"proxy {urlsplit(proxy).hostname}: only http and https proxies are supported")
    return proxy
