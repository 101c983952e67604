"""Content digests, `sha256:<64 lower-case hex digits>`: checked before any path or URL is made from one.

Weight: `rootless.errors`; `_hashlib` (OpenSSL, 1 ms) only when something is hashed.

The grammar is the OCI image specification's (descriptor.md, "Digests") with its two registered
algorithms.  Everything that arrives from outside goes through `check` first (CVE-2024-3727: a
malformed digest that became part of a path).
"""

from __future__ import annotations

from rootless.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Hash(Protocol):
        """What `new` returns: hashlib's interface, as far as it is used."""

        def update(self, data: bytes | bytearray | memoryview, /) -> None: ...
        def hexdigest(self) -> str: ...


# Hex digits of each algorithm that is registered by the OCI image specification.
HEX_LENGTHS = {"sha256": 64, "sha512": 128}

_HEX_DIGITS = frozenset("0123456789abcdef")


class DigestError(Error):
    """A string that should be a digest is none, or content has another digest than was promised."""


def is_digest(text: object) -> bool:
    """Whether `text` is `sha256:` + 64 or `sha512:` + 128 lower-case hex digits, and nothing else."""
    if type(text) is not str:
        return False
    algorithm, colon, digits = text.partition(":")
    return colon == ":" and len(digits) == HEX_LENGTHS.get(algorithm, -1) and _HEX_DIGITS.issuperset(digits)


def is_hex(text: str, length: int = 64) -> bool:
    """Whether `text` is exactly `length` lower-case hex digits."""
    return len(text) == length and _HEX_DIGITS.issuperset(text)


def check(text: object, what: str = "digest") -> str:
    """`text` if it is a digest, DigestError naming `what` if not."""
    if is_digest(text):
        return text  # type: ignore[return-value]
    shown = text if type(text) is str else type(text).__name__
    raise DigestError(f"{what}: invalid digest {shown[:100]!r}", hint="sha256: and 64 lower-case hex digits are valid")


def split(digest: str) -> tuple[str, str]:
    """`("sha256", "<hex>")` of a digest; DigestError if it is none."""
    algorithm, _, digits = check(digest).partition(":")
    return algorithm, digits


def short(digest: str) -> str:
    """The first 12 hex digits, as listings show them."""
    return digest.partition(":")[2][:12] or digest[:12]


def new(algorithm: str = "sha256") -> Hash:
    """A running hash.  Raises DigestError for an algorithm that is not registered."""
    # OpenSSL's own module: hashlib would load every other implementation beside it.
    if algorithm not in HEX_LENGTHS:
        raise DigestError(f"digest algorithm {algorithm[:40]!r} is not supported", hint="sha256 and sha512 are")
    try:
        import _hashlib
    except ImportError:
        import hashlib

        return hashlib.new(algorithm, usedforsecurity=False)
    return _hashlib.new(algorithm, usedforsecurity=False)


def of(data: bytes, algorithm: str = "sha256") -> str:
    """The digest of `data`."""
    running = new(algorithm)
    running.update(data)
    return f"{algorithm}:{running.hexdigest()}"


def verify(data: bytes, digest: str, what: str) -> None:
    """DigestError unless `data` has `digest`; `what` names it in the message."""
    found = of(data, split(digest)[0])
    if found != digest:
        raise DigestError(f"{what}: wrong digest: {digest} was expected, the content has {found}")
