"""Clients' own addresses inside a container's network namespace.

Weight: `_socket`, `rootless.host_ports`, `rootless.rtnetlink`.  Runs in the namespace, with CAP_NET_ADMIN over it.

A socket that connects to the container is bound to the address of the client outside, which is not one of this
namespace (IP_TRANSPARENT, ip(7)).  What the container answers would leave by its default route.  So that it comes
back to that socket:

- TCP: the socket's packets have a mark; the container's side of the connection takes it over (tcp_fwmark_accept), as
  do resets (fwmark_reflect), and a rule sends all that has the mark to a table in which every address is local.
  The route names a congestion control too, for the container's side (`rootless.host_ports.UNPACED`).
- UDP: no mark comes back.  A rule sends what leaves from a published port to a table that holds, as local, only the
  addresses of clients that are being served.

Addresses that would look like the container's own (any of its addresses, any loopback one) are never used: services
trust them (CVE-2021-20199).  Such clients, and those of the other IP version, appear as the host, under the address
that the container knows it by.
"""

from __future__ import annotations

import _socket
import os

from rootless.errors import LaunchError, os_error_text
from rootless.fds import write_file
from rootless.host_ports import TCP_CONGESTION, UNPACED
from rootless.rtnetlink import RouteSocket, subscribe

_AF_INET, _AF_INET6 = _socket.AF_INET, _socket.AF_INET6

# The engine's own numbers: of the mark, the two tables, and where the rules stand before the main table (32766).
MARK = 0x70637431
_TCP_TABLE, _UDP_TABLE = 28771, 28772
_TCP_PRIORITY, _UDP_PRIORITY = 28771, 28772
_ANY = {_AF_INET: "0.0.0.0", _AF_INET6: "::"}
_LENGTH = {_AF_INET: 32, _AF_INET6: 128}

# linux/in.h, in6.h, asm-generic/socket.h: `_socket` has no names for them.
_IP_TRANSPARENT, _IPV6_TRANSPARENT, _SO_MARK = 19, 75, 36
_UNSUPPORTED = (95, 97)  # EOPNOTSUPP, EAFNOSUPPORT
_SYSCTLS = ("ipv4/tcp_fwmark_accept", "ipv4/fwmark_reflect", "ipv6/fwmark_reflect")


class Target:
    """One way to reach the container: its address, and who the client appears as."""

    __slots__ = ("address", "client", "family", "own_family")

    def __init__(self, family: int, address: str, client: str, own_family: bool) -> None:
        self.family = family
        self.address = address
        self.client = client
        self.own_family = own_family


def prepare(udp_ports: tuple[int, ...]) -> None:
    """Make this namespace answer to clients' addresses.  Raises LaunchError with what the kernel lacks."""
    has_ipv6 = os.path.isdir("/proc/sys/net/ipv6")
    try:
        for name in _SYSCTLS:
            if has_ipv6 or not name.startswith("ipv6"):
                write_file(f"/proc/sys/net/{name}", b"1")
        routes = RouteSocket()
        try:
            _prepare_family(routes, _AF_INET, udp_ports)
            if has_ipv6:
                try:
                    _prepare_family(routes, _AF_INET6, udp_ports)
                except OSError as error:
                    if error.errno not in _UNSUPPORTED:
                        raise  # else without IPv6's policy routing such clients are handed on by IPv4, as the host
        finally:
            routes.close()
    except OSError as error:
        raise LaunchError(
            "publish ports",
            os_error_text(error, "this kernel cannot show clients' addresses to a container"),
            hint="use --network slirp4netns:port_handler=slirp4netns",
            errno=error.errno or 0,
        ) from error


def _prepare_family(routes: RouteSocket, family: int, udp_ports: tuple[int, ...]) -> None:
    # The rule first: without policy routing the kernel would put the route into the one table that it has.
    routes.add_mark_rule(family, MARK, _TCP_TABLE, _TCP_PRIORITY)
    routes.add_local_route(family, _ANY[family], 0, _TCP_TABLE, congestion=UNPACED)
    for port in dict.fromkeys(udp_ports):
        routes.add_source_port_rule(family, _socket.IPPROTO_UDP, port, _UDP_TABLE, _UDP_PRIORITY)


class Clients:
    """Which addresses the container has at the moment, and what its clients are shown as."""

    def __init__(self, host_ipv4: str = "", host_ipv6: str = "") -> None:
        """host_…: the host's address as the container knows it; "": the gateway of its default route."""
        self._given = {_AF_INET: host_ipv4, _AF_INET6: host_ipv6}
        self._host: dict[int, str] = {}
        self._own: set[str] = set()
        self._targets: dict[int, str] = {}
        self._routes = RouteSocket()
        self._families = [f for f in (_AF_INET, _AF_INET6) if self._routes.has_rule(f, _TCP_TABLE)]
        self._changes = subscribe()
        self._served: dict[tuple[int, str], int] = {}  # UDP: client → flows
        self._refresh()

    def fileno(self) -> int:
        """Readable when `changed` is to be called."""
        return self._changes.fileno()

    def changed(self) -> bool:
        """Addresses have come or gone; True: what is connected to the old ones is of no further use."""
        try:
            while self._changes.recv(65536):
                pass
        except OSError:
            pass  # that was all (EAGAIN), or more than the socket holds (ENOBUFS): one look tells everything
        before = self._targets
        self._refresh()
        return any(before[family] != self._targets.get(family) for family in before)

    def _refresh(self) -> None:
        found = self._routes.addresses()
        self._own = {address.text for address in found}
        self._targets = {}
        for address in found:
            if address.is_global and address.family in self._families:
                self._targets.setdefault(address.family, address.text)
        self._host = {}

    def _host_address(self, family: int) -> str:
        """Who the host is in there; "" where nothing is known that would not look like the container itself."""
        known = self._host.get(family)
        if known is None:
            gateways = () if self._given[family] else self._routes.gateways(family)
            known = self._given[family] or next((g for g in gateways if not g.startswith("fe80:")), "")
            if known in self._own:
                known = ""
            if known:
                self._host[family] = known  # else a route may still come
        return known

    def targets(self, family: int, client: str) -> list[Target]:
        """The container's addresses in the order to try them, for a client of this family outside."""
        found = []
        for other in (family, _AF_INET6 if family == _AF_INET else _AF_INET):
            address = self._targets.get(other)
            if address:
                shown = client if other == family and self._is_presentable(client) else self._host_address(other)
                if shown:  # else it would appear as the container itself
                    found.append(Target(other, address, shown, other == family))
        return found

    def _is_presentable(self, client: str) -> bool:
        # An IPv6 address of the link means nothing in another namespace.
        return not (
            client.startswith(("127.", "0.", "fe80:", "::ffff:")) or client in ("::1", "::") or client in self._own
        )

    def socket(self, kind: int, target: Target, client_port: int) -> _socket.socket:
        """A non-blocking socket towards `target`, bound as its client.  Raises OSError."""
        made = _socket.socket(target.family, kind | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
        try:
            if target.family == _AF_INET:
                made.setsockopt(_socket.IPPROTO_IP, _IP_TRANSPARENT, 1)
            else:
                made.setsockopt(_socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
            made.setsockopt(_socket.SOL_SOCKET, _SO_MARK, MARK)
            if kind == _socket.SOCK_STREAM:
                # One client may use one port of its own for connections to several published ones.
                made.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
                made.setsockopt(_socket.IPPROTO_TCP, TCP_CONGESTION, UNPACED)
            made.bind((target.client, client_port))
        except OSError:
            made.close()
            raise
        return made

    def serve(self, target: Target) -> None:
        """UDP: answers to this client come back from now on.  Raises OSError."""
        key = target.family, target.client
        if not self._served.get(key):
            self._routes.add_local_route(*key, _LENGTH[target.family], _UDP_TABLE, source=target.address)
        self._served[key] = self._served.get(key, 0) + 1

    def leave(self, target: Target) -> None:
        """UDP: the opposite."""
        key = target.family, target.client
        self._served[key] -= 1
        if self._served[key]:
            return
        del self._served[key]
        try:
            self._routes.delete_local_route(*key, _LENGTH[target.family], _UDP_TABLE)
        except OSError:
            return  # the address that it names as source has gone, and the route with it
