"""`manifest inspect`.  Weight: `storage.pull`, urllib3."""

from __future__ import annotations

import os

from pyctl.cli import report
from pyctl.engine.engine import Engine
from rootless.values import loads
from storage.manifest import parse_manifest
from storage.pull import PullOptions, fetch_manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Parsed


def inspect(parsed: Parsed) -> int:
    """Prints the index or manifest that a registry has under a name."""
    options = parsed.options
    wanted = PullOptions(
        authfile=options.authfile, tls_verify=options.tls_verify if options.given("tls_verify") else None
    )
    name = parsed.args[0].removeprefix("docker://")
    fetched = fetch_manifest(name, wanted, os.environ, Engine(parsed.globals).registries)
    parse_manifest(fetched.raw, fetched.content_type, f"image {name}: manifest")
    report.print_json(loads(fetched.raw))
    return 0
