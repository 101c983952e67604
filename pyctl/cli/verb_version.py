"""`version` and `--version`.  Weight: `pyctl.cli.report` for --format only."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Parsed

VERSION = "0.1.0"


def short() -> int:
    """The line of `pyctl --version`."""
    sys.stdout.write(f"pyctl version {VERSION}\n")
    return 0


def facts() -> dict[str, object]:
    """The fields of `version`, under Podman's names where it has them."""
    kernel = os.uname()
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(kernel.machine, kernel.machine)
    return {
        "Version": VERSION,
        "PythonVersion": ".".join(str(part) for part in sys.version_info[:3]),
        "Kernel": kernel.release,
        "OsArch": f"linux/{machine}",
        "Os": "linux",
    }


def version(parsed: Parsed) -> int:
    """Prints the client's facts; there is no server."""
    client = facts()
    if parsed.options.format:
        from pyctl.cli import report

        # {{.Version}} as docker's scripts write it, beside {{.Client.Version}}.
        return report.print_one({"Client": client}, parsed.options.format, indent=0)
    width = max(len(key) for key in client) + 3
    sys.stdout.write(f"{'Client:':{width}}pyctl\n")
    names = {"PythonVersion": "Python", "OsArch": "OS/Arch"}
    for key, value in client.items():
        if key != "Os":
            sys.stdout.write(f"{names.get(key, key) + ':':{width}}{value}\n")
    return 0
