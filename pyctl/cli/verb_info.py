"""`info`.  Weight: `pyctl.engine.host`, which asks every program for its version."""

from __future__ import annotations

import os
import sys

from pyctl.cli import output
from pyctl.cli.verb_version import VERSION
from pyctl.engine.engine import Engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Parsed

# Names of Podman's fields that are not those of its JSON in another case.
_GO_NAMES = {"CgroupsVersion": "cgroupVersion", "DefaultCapabilities": "capabilities"}
_GO_NAMES.update({"ContainerID": "container_id", "HostID": "host_id"})


def info(parsed: Parsed) -> int:
    """Prints what is known of the machine, the storage and the settings, as YAML where no format is asked for."""
    engine = Engine(parsed.globals)
    if parsed.options.config:
        return _settings(engine)
    from pyctl.engine import host

    facts = host.info(engine, VERSION)
    if parsed.options.format:
        from pyctl.cli import report

        # Keys are spelt as in JSON ("graphRoot"), and found under Go's names ("GraphRoot") too.
        return report.print_one(facts, parsed.options.format, aliases=_GO_NAMES, indent=2)
    from pyctl.cli.yaml import to_yaml

    sys.stdout.write(to_yaml(facts))
    return 0


def _settings(engine: Engine) -> int:
    """Every setting that is not at its default, and which file or variable set it."""
    from pyctl.engine.config import load, sources

    rows = [(source.key, source.value, source.origin) for source in sources(load(os.environ, engine.uid))]
    output.print_table(("SETTING", "VALUE", "SET BY"), rows)
    return 0
