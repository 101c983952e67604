"""`doctor`: what keeps containers from working well here.  Weight: `pyctl.engine.doctor`."""

from __future__ import annotations

import sys

from pyctl.cli import output
from pyctl.engine import doctor as findings
from pyctl.engine.engine import Engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Parsed


def doctor(parsed: Parsed) -> int:
    """Prints each finding, with what helps below it; 1 where something is a problem."""
    found = findings.checks(Engine(parsed.globals))
    status = int(any(check.status == findings.PROBLEM for check in found))
    if parsed.options.format:
        from pyctl.cli import report

        rows = [{"Name": c.name, "Status": c.status, "Text": c.text, "Fix": c.fix} for c in found]
        report.print_one(rows, parsed.options.format, indent=2)
        return status
    width = max(len(check.name) for check in found)
    for check in found:
        sys.stdout.write(f"{check.status:8}{check.name:{width}}  {output.clean(check.text)}\n")
        if check.fix:
            sys.stdout.write(f"{'':8}{'':{width}}  -> {output.clean(check.fix)}\n")
    return status
