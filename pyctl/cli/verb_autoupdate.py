"""`auto-update`.  Weight: `pyctl.engine.autoupdate`."""

from __future__ import annotations

import sys

from pyctl.cli import output
from pyctl.engine import autoupdate
from pyctl.engine.autoupdate import Candidate, Wishes
from pyctl.engine.engine import Engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyctl.cli.parser import Parsed
    from rootless.errors import Error

_TITLES = ("UNIT", "CONTAINER", "IMAGE", "POLICY", "UPDATED")
_FIELDS = ("Unit", "Container", "ContainerName", "ContainerID", "Image", "Policy", "Updated")


def auto_update(parsed: Parsed) -> int:
    """Update, and tell what became of each container; 125 where something failed."""
    from pyctl.engine.creating import run_self

    options = parsed.options
    engine = Engine(parsed.globals)
    wishes = Wishes(
        dry_run=bool(options.dry_run),
        rollback=bool(options.rollback),
        authfile=options.authfile,
        tls_verify=options.tls_verify if options.given("tls_verify") else None,
    )
    errors = 0

    def failed(error: Error) -> None:
        nonlocal errors
        errors += 1
        output.error_line(error)

    def pull(image: str, authfile: str) -> int:
        words = ["pull", "--quiet"]
        if authfile:
            words.append(f"--authfile={authfile}")
        if wishes.tls_verify is not None:
            words.append(f"--tls-verify={'true' if wishes.tls_verify else 'false'}")
        return run_self(engine, [*words, image], quiet=True)

    candidates = autoupdate.run(engine, wishes, pull, failed)
    if candidates:
        _show(candidates, options.format)
    return 125 if errors else 0


def _show(candidates: list[Candidate], text: str) -> None:
    rows = [_row(candidate) for candidate in candidates]
    if text:
        from pyctl.cli import report

        report.print_rows([report.Row(row) for row in rows], text, {}, fields=_FIELDS)
        return
    lines = [[row[field] for field in ("Unit", "Container", "Image", "Policy", "Updated")] for row in rows]
    output.print_table(_TITLES, lines)
    sys.stdout.flush()


def _row(candidate: Candidate) -> dict[str, Any]:
    spec = candidate.spec
    return {
        "Unit": candidate.unit,
        "Container": f"{spec.id[: output.SHORT_ID]} ({candidate.record.name})",
        "ContainerName": candidate.record.name,
        "ContainerID": spec.id,
        "Image": spec.image,
        "Policy": candidate.policy,
        "Updated": candidate.updated,
    }
