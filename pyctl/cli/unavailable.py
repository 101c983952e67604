"""Commands of Podman's that do not exist here, with the reason.  Weight: nothing; read when a command is unknown."""

from __future__ import annotations

from pyctl.cli.table import NOT_YET

_MACHINE = "pyctl runs on Linux directly and needs no virtual machine"
_REMOTE = "there is no service to connect to: pyctl acts in this process, on this machine"

COMMANDS: dict[str, str] = {
    **dict.fromkeys(
        (
            "build",
            "builder",
            "buildx",
            "compose",
            "container checkpoint",
            "container clone",
            "container init",
            "container restore",
            "container runlabel",
            "generate kube",
            "generate spec",
            "image build",
            "init",
            "kube",
            "play",
            "pod",
            "secret",
            "volume export",
            "volume import",
            "volume mount",
            "volume reload",
            "volume unmount",
        ),
        NOT_YET,
    ),
    "machine": _MACHINE,
    "farm": _REMOTE,
    "context": _REMOTE,
    "system connection": _REMOTE,
    "system context": _REMOTE,
    "system service": NOT_YET,
    "system migrate": "there is nothing to migrate: no state depends on a running process",
    "system renumber": "there are no lock numbers",
}
