"""What systemd's specifiers come to (systemd.unit(5)), as far as it is known before a unit starts.

Weight: `os`.  Units keep their specifiers; this is for trying what they will run.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# Known to systemd, but not to us: machine and boot ids, versions, architecture, credentials, the fragment.
_UNKNOWABLE = frozenset("abABdmMoqvwWyYcrRPfDlH")


def expand(text: str, service: str, environ: Mapping[str, str], uid: int) -> str | None:
    """The text of a command line's word as the command will see it; None where that cannot be known.

    An unknown letter stays as it is, as with systemd.
    """
    if "%" not in text and "$" not in text:
        return text
    values = _values(service, environ, uid)
    out = ""
    at = 0
    while at < len(text):
        char, following = text[at], text[at + 1 : at + 2]
        if char == "%" and following:
            if following in _UNKNOWABLE:
                return None
            out += values.get(following, char + following)
            at += 2
        elif char == "$" and (following == "{" or (at == 0 and _is_name(text[1:]))):
            return None  # a variable
        elif char == "$" and following == "$":
            out += "$"
            at += 2
        else:
            out += char
            at += 1
    return out


def _is_name(text: str) -> bool:
    return text.isidentifier() and text.isascii()


def _values(service: str, environ: Mapping[str, str], uid: int) -> dict[str, str]:
    stem = service.removesuffix(".service")
    prefix, _, instance = stem.partition("@")
    instance = instance or ("instance" if "@" in stem else "")
    home = environ.get("HOME", "/")
    config = environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    state = environ.get("XDG_STATE_HOME") or f"{home}/.local/state"
    return {
        "%": "%",
        "n": service,
        "N": stem,
        "p": prefix,
        "i": instance,
        "I": instance,
        "j": prefix.rpartition("-")[2],
        "J": prefix.rpartition("-")[2],
        "h": home,
        "u": environ.get("USER") or str(uid),
        "U": str(uid),
        "g": str(os.getgid()),
        "G": str(os.getgid()),
        "s": environ.get("SHELL") or "/bin/sh",
        "t": environ.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}",
        "T": "/tmp",
        "V": "/var/tmp",
        "E": config,
        "C": environ.get("XDG_CACHE_HOME") or f"{home}/.cache",
        "S": state,
        "L": f"{state}/log",
    }
