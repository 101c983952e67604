"""Platforms (`os/architecture[/variant]`) and the choice of one image out of an index.

Weight: `rootless.values`, `rootless.errors`.  Names are Go's GOOS and GOARCH, as the OCI image
specification has them (image-index.md, "platform"); the kernel's own names are understood too.
"""

from __future__ import annotations

import os

from rootless.errors import NotFound, UsageError
from rootless.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# uname -m and other common spellings → (GOARCH, variant).
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv5l": ("arm", "v5"),
    "armv6l": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv8l": ("arm", "v7"),  # a 32-bit process on a 64-bit CPU
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "ppc64el": ("ppc64le", ""),
    "loongarch64": ("loong64", ""),
}

# What runs on a CPU of a variant, best first; a manifest with no variant comes last.
_COMPATIBLE = {
    "arm": ("v8", "v7", "v6", "v5"),
    "arm64": ("v9", "v8"),
    "amd64": ("v4", "v3", "v2", "v1"),
}
# The variant that is meant where none is named.
_BASELINE = {"arm": "v7", "arm64": "v8", "amd64": "v1"}


class Platform(Value):
    """`linux/arm64/v8`; an empty `variant` means the architecture's baseline."""

    os: str = "linux"
    architecture: str = "amd64"
    variant: str = ""
    os_version: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class NoPlatformError(NotFound):
    """An index holds no image for the platform; the message lists what there is."""


def parse_platform(text: str) -> Platform:
    """`linux/arm64/v8`, `linux/amd64`, `arm64` or `linux` as a platform; the rest is the host's.  Raises UsageError."""
    parts = text.strip().split("/")
    if not 1 <= len(parts) <= 3 or not all(part and part.isascii() and part.isprintable() for part in parts):
        raise UsageError(f"invalid platform {text!r}", hint="OS/ARCH[/VARIANT] is expected, for example linux/arm64/v8")
    host = host_platform()
    if len(parts) == 1:
        if parts[0].lower() in ("linux", "windows", "darwin", "freebsd"):
            return host.replace(os=parts[0].lower())
        return make_platform(host.os, parts[0])
    return make_platform(*parts)


def make_platform(system: str, architecture: str, variant: str = "") -> Platform:
    """A platform with the usual spellings of its architecture understood (`x86_64`, `aarch64`, `armhf`)."""
    name, implied = _ARCHITECTURES.get(architecture.lower(), (architecture.lower(), ""))
    return Platform(os=system.lower(), architecture=name, variant=variant.lower() or implied)


def host_platform() -> Platform:
    """The platform whose programs run here."""
    return make_platform("linux", os.uname().machine)


def matches(wanted: Platform, offered: Platform) -> bool:
    """Whether an image for `offered` runs on `wanted`."""
    return _rank(wanted, offered) >= 0


def select(wanted: Platform, offered: Sequence[Platform | None], what: str) -> int:
    """The position in `offered` of the best image for `wanted`; the first of equals.

    NoPlatformError naming `what` and all that is offered where none fits.
    """
    best, best_rank = -1, 1 << 30
    for position, platform in enumerate(offered):
        rank = -1 if platform is None else _rank(wanted, platform)
        if 0 <= rank < best_rank:
            best, best_rank = position, rank
    if best < 0:
        known = sorted({str(p) for p in offered if p is not None and p.os != "unknown"})
        raise NoPlatformError(
            f"{what} has no image for {wanted}",
            hint=f"there is: {', '.join(known) or 'nothing with a platform'}; choose with --platform",
        )
    return best


def _rank(wanted: Platform, offered: Platform) -> int:
    """0 for the best match, -1 for none."""
    if (offered.os, offered.architecture) != (wanted.os, wanted.architecture):
        return -1
    if wanted.os_version and offered.os_version and wanted.os_version != offered.os_version:
        return -1
    order = _COMPATIBLE.get(wanted.architecture, ())
    baseline = _BASELINE.get(wanted.architecture, "")
    variant = wanted.variant or baseline
    if offered.variant == variant:
        return 0
    stated = offered.variant or baseline
    if variant in order and stated in order and order.index(stated) >= order.index(variant):
        return order.index(stated) - order.index(variant)
    # An image that states no variant may have been built for an older CPU than the baseline: better than none.
    return -1 if offered.variant else len(order)
