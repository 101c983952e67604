"""`--change`: Dockerfile instructions that alter an image's configuration (import, commit).

Weight: `rootless.values`.  A change is "INSTRUCTION VALUE" or "INSTRUCTION=VALUE".  (podman-import(1), --change.)
"""

from __future__ import annotations

from rootless.errors import UsageError
from rootless.values import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

INSTRUCTIONS = ("CMD", "ENTRYPOINT", "ENV", "EXPOSE", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR")
_PROTOCOLS = ("tcp", "udp", "sctp")


def apply_changes(run: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """The configuration's inner object (OCI "config": Cmd, Env …) with the changes made; `run` stays as it is.

    Raises UsageError naming the change.
    """
    out = {key: _copied(value) for key, value in run.items()}
    for change in changes:
        instruction, value = _split(change)
        if instruction not in INSTRUCTIONS:
            raise UsageError(f"invalid change {change!r}: no instruction {instruction!r}", hint=", ".join(INSTRUCTIONS))
        if not value:
            raise UsageError(f"invalid change {change!r}: it has no value")
        _apply(out, instruction, value, change)
    return out


def _copied(value: Any) -> Any:
    if type(value) is dict:
        return dict(value)
    return list(value) if type(value) is list else value


def _split(change: str) -> tuple[str, str]:
    text = change.strip()
    end = next((n for n, char in enumerate(text) if not char.isalpha()), len(text))
    if end < len(text) and text[end] not in " \t=":
        return text, ""
    return text[:end].upper(), text[end + 1 :].strip()


def _apply(out: dict[str, Any], instruction: str, value: str, change: str) -> None:
    if instruction == "CMD":
        out["Cmd"] = _command(value, change)
    elif instruction == "ENTRYPOINT":
        out["Entrypoint"] = _command(value, change)
    elif instruction == "ENV":
        name, setting = _pair(value, change)
        kept = [item for item in out.get("Env", []) if item.partition("=")[0] != name]
        out["Env"] = [*kept, f"{name}={setting}"]
    elif instruction == "EXPOSE":
        out.setdefault("ExposedPorts", {})[_port(value, change)] = {}
    elif instruction == "LABEL":
        name, setting = _pair(value, change)
        out.setdefault("Labels", {})[name] = setting
    elif instruction == "ONBUILD":
        out.setdefault("OnBuild", []).append(value)
    elif instruction == "STOPSIGNAL":
        out["StopSignal"] = _signal(value, change)
    elif instruction == "USER":
        out["User"] = value
    elif instruction == "VOLUME":
        for path in _paths(value, change):
            out.setdefault("Volumes", {})[path] = {}
    else:
        out["WorkingDir"] = value


def _command(value: str, change: str) -> list[str]:
    """The JSON form, or a line for the shell."""
    words = _json_words(value, change)
    return ["/bin/sh", "-c", value] if words is None else words


def _paths(value: str, change: str) -> list[str]:
    words = _json_words(value, change)
    return value.split() if words is None else words


def _json_words(value: str, change: str) -> list[str] | None:
    if not value.startswith("["):
        return None
    try:
        words = loads(value)
    except ValueError as error:
        raise UsageError(f"invalid change {change!r}: {error}") from error
    if type(words) is not list or any(type(word) is not str for word in words):
        raise UsageError(f"invalid change {change!r}: a JSON list of strings is expected")
    return words


def _pair(value: str, change: str) -> tuple[str, str]:
    """NAME=VALUE, or Docker's older NAME VALUE; quotes around the value are taken off."""
    name, equals, setting = value.partition("=")
    if not equals or " " in name.strip():
        name, blank, setting = value.partition(" ")
        if not blank:
            raise UsageError(f"invalid change {change!r}: NAME=VALUE is expected")
    name, setting = name.strip(), setting.strip()
    if len(setting) > 1 and setting[0] == setting[-1] and setting[0] in "\"'":
        setting = setting[1:-1]
    if not name:
        raise UsageError(f"invalid change {change!r}: NAME=VALUE is expected")
    return name, setting


def _port(value: str, change: str) -> str:
    number, slash, protocol = value.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if not number.isdecimal() or not 0 < int(number) < 65536 or protocol not in _PROTOCOLS:
        raise UsageError(f"invalid change {change!r}: a port, or PORT/tcp, /udp, /sctp is expected")
    return f"{int(number)}/{protocol}"


def _signal(value: str, change: str) -> str:
    """The signal's number as text, which is what Podman stores."""
    if value.isdecimal() and 0 < int(value) < 65:
        return str(int(value))
    import signal  # its enums cost 3 ms, which this rare command can pay

    name = value.upper() if value.upper().startswith("SIG") else f"SIG{value.upper()}"
    if name.startswith(("SIGRTMIN", "SIGRTMAX")):
        base = signal.SIGRTMIN if name.startswith("SIGRTMIN") else signal.SIGRTMAX
        offset = name[8:] or "+0"
        if offset[0] in "+-" and offset[1:].isdecimal() and 34 <= base + int(offset) <= 64:
            return str(base + int(offset))
    elif name in signal.Signals.__members__:
        return str(int(signal.Signals[name]))
    raise UsageError(f"invalid change {change!r}: unknown signal {value!r}")
