"""IP addresses as text.  Weight: `_socket` (`ipaddress` imports `re` and `functools`)."""

from __future__ import annotations

import _socket


def is_ipv4(text: str) -> bool:
    """Four decimal numbers with dots, nothing else."""
    return _is_address(_socket.AF_INET, text)


def is_ipv6(text: str) -> bool:
    """An IPv6 address without a zone."""
    return _is_address(_socket.AF_INET6, text)


def _is_address(family: int, text: str) -> bool:
    try:
        _socket.inet_pton(family, text)
    except (OSError, ValueError):  # ValueError: an embedded NUL, an unpaired surrogate
        return False
    return True


def is_interface_name(text: str) -> bool:
    """Could name a network interface: up to 15 bytes, no slash, colon or space (the kernel's dev_valid_name)."""
    return 0 < len(text) < 16 and text.isascii() and text.isprintable() and not any(c in "/: " for c in text)


def dotted(number: int) -> str:
    """A 32-bit number as an IPv4 address."""
    return _socket.inet_ntop(_socket.AF_INET, number.to_bytes(4, "big"))


def number(address: str) -> int:
    """An IPv4 address as a 32-bit number."""
    return int.from_bytes(_socket.inet_pton(_socket.AF_INET, address), "big")
