"""Ports of the host: binding them, and why one cannot be had.

Weight: `os`, `_socket`, `rootless.errors`.  In the supervisor before it leaves the host's network namespace, and in
the command line, which asks beforehand.
"""

from __future__ import annotations

import _socket
import errno
import os

from rootless.errors import LaunchError, os_error_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan import PortForward

STAGE = "publish ports"
_BACKLOG = 4096  # clients that wait while the forwarder is busy; the kernel takes net.core.somaxconn if that is less

# Connections that do not leave this host have nothing to gain from a congestion control that paces what it sends, as
# BBR does: its timers and small packets halve their throughput.  Reno is in every kernel, and everybody may have it.
UNPACED = b"reno"
TCP_CONGESTION = 13  # linux/tcp.h
_WITHOUT_PACING = (UNPACED, b"cubic")

_IP_PKTINFO, _IPV6_RECVPKTINFO = 8, 49  # linux/in.h, linux/in6.h: `_socket` has no names for them on all Pythons
# What the sockets of `accept` inherit; a client that has gone without a word is noticed after four minutes.
_TCP_OPTIONS = (
    (_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1),
    (_socket.IPPROTO_TCP, _socket.TCP_KEEPIDLE, 120),
    (_socket.IPPROTO_TCP, _socket.TCP_KEEPINTVL, 30),
    (_socket.IPPROTO_TCP, _socket.TCP_KEEPCNT, 4),
    (_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1),
)


def paced_congestion(proc: str = "/proc") -> bytes:
    """This host's congestion control, if it is one that connections within the host had better not have."""
    try:
        fd = os.open(f"{proc}/sys/net/ipv4/tcp_congestion_control", os.O_RDONLY | os.O_CLOEXEC)
        try:
            name = os.read(fd, 64).rstrip()
        finally:
            os.close(fd)
    except OSError:
        return b""
    return b"" if name in _WITHOUT_PACING else name


def open_port(port: PortForward, paced: bytes = b"") -> _socket.socket:
    """A socket for `rootless.forwarder`: bound, non-blocking, listening if it is TCP.  Raises LaunchError.

    All options are set here, because what comes before the forwarder is there has waited in the socket, as it was.
    paced: what `paced_congestion` says.  The forwarder gives it back to clients from elsewhere; a connection that has
    once had it keeps its pace, so it is not to be taken from those of this host.
    """
    made = bound(port)
    try:
        if port.protocol == "udp":
            ipv6 = made.family == _socket.AF_INET6
            level = _socket.IPPROTO_IPV6 if ipv6 else _socket.IPPROTO_IP
            made.setsockopt(level, _IPV6_RECVPKTINFO if ipv6 else _IP_PKTINFO, 1)
        else:
            for level, option, value in _TCP_OPTIONS:
                made.setsockopt(level, option, value)
            if paced:
                made.setsockopt(_socket.IPPROTO_TCP, TCP_CONGESTION, UNPACED)
            made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        raise bind_error(port, error) from error
    made.setblocking(False)
    return made


def check_free(port: PortForward) -> None:
    """Raises LaunchError where this process could not bind the port now: in use, privileged, not an address of here."""
    bound(port).close()


def bound(port: PortForward) -> _socket.socket:
    """A socket that has the port.  Raises LaunchError."""
    try:
        made = socket_for(port)
    except OSError as error:
        raise bind_error(port, error) from error
    try:
        bind(made, port)
    except LaunchError:
        made.close()
        raise
    return made


def socket_for(port: PortForward) -> _socket.socket:
    """An unbound socket of the port's family and kind."""
    kind = _socket.SOCK_DGRAM if port.protocol == "udp" else _socket.SOCK_STREAM
    ipv6 = ":" in port.host_ip
    made = _socket.socket(_socket.AF_INET6 if ipv6 else _socket.AF_INET, kind | _socket.SOCK_CLOEXEC)
    if ipv6:
        # IPv4 has a socket of its own, or was not asked for: with both in one, clients' addresses have two forms.
        made.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
    return made


def bind(probe: _socket.socket, port: PortForward) -> None:
    """bind(2) as servers do it.  Raises LaunchError."""
    try:
        if port.protocol != "udp":
            # Connections in TIME_WAIT are no conflict, a listening socket is.
            probe.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        probe.bind((port.host_ip, port.host_port))
    except OSError as error:
        raise bind_error(port, error) from error


def bind_error(port: PortForward, error: OSError) -> LaunchError:
    """The kernel's refusal of a bind(2), in the user's terms."""
    number = error.errno or 0
    if number == errno.EADDRINUSE:
        message = f"port {port.host_port} is already in use on {port.host_ip}"
        hint = f"choose another host port; ss -{'u' if port.protocol == 'udp' else 't'}lnp shows what holds it"
        if port.protocol == "udp":
            message = f"udp {message}"
    elif number in (errno.EACCES, errno.EPERM):
        message = f"port {port.host_port} on {port.host_ip} is reserved for the administrator"
        hint = (
            f"publish a port of {_privileged_below()} or more, or have an administrator run: "
            f"sysctl net.ipv4.ip_unprivileged_port_start={port.host_port}"
        )
    elif number == errno.EADDRNOTAVAIL:
        message, hint = f"cannot publish on {port.host_ip}: not an address of this host", ""
    else:
        message, hint = os_error_text(error, f"publish {shown(port)}"), ""
    return LaunchError(STAGE, message, hint=hint, exit_code=126, errno=number)


def _privileged_below(proc: str = "/proc") -> int:
    try:
        fd = os.open(f"{proc}/sys/net/ipv4/ip_unprivileged_port_start", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return int(os.read(fd, 16))
        finally:
            os.close(fd)
    except (OSError, ValueError):
        return 1024


def shown(port: PortForward) -> str:
    """As in messages: `127.0.0.1:8080:80/tcp`."""
    address = f"[{port.host_ip}]" if ":" in port.host_ip else port.host_ip
    return f"{address}:{port.host_port}:{port.container_port}/{port.protocol}"
