"""What systemd calls at every reload of a user's manager, where an administrator has installed it.

Weight: `pyctl.units.world`.  One bad file must cost its own service only: systemd waits for generators, and a reload
that fails stops everything else of the user's.
"""

from __future__ import annotations

import os
import sys

from pyctl.units import installed
from pyctl.units.convert import WAIT_SERVICE, WAIT_TEXT
from pyctl.units.world import make, world_of
from rootless.errors import EXIT_ENGINE
from rootless.fds import write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyctl.engine.request_facts import RequestFacts
    from pyctl.units.draft import Made


def run(folder: str, folders: Sequence[str], pyctl: Sequence[str], facts: RequestFacts) -> int:
    """Writes what can be made of the sources in `folders` to `folder`; returns 125 when something was left out."""
    world, problems = world_of(folders, pyctl)
    status = 0
    for problem in problems:
        tell(problem.shown())
    made = make(sorted(world.paths), world, facts)
    for service in made:
        for problem in service.problems:
            tell(problem.shown())
        if not service.is_good:
            status = EXIT_ENGINE
            continue
        try:
            _write(folder, service)
        except OSError as error:
            tell(f"{folder}/{service.service}: {error.strerror}")
            status = EXIT_ENGINE
    if any(service.is_good and service.waits_for_network for service in made):
        write_file(f"{folder}/{WAIT_SERVICE}", WAIT_TEXT.encode())
    return status


def _write(folder: str, made: Made) -> None:
    write_file(f"{folder}/{made.service}", installed.service_text(made).encode())
    for path, target in made.links:
        link = f"{folder}/{path}"
        os.makedirs(os.path.dirname(link), exist_ok=True)
        if not os.path.lexists(link):
            os.symlink(target, link)


def tell(text: str) -> None:
    """To the journal: by the kernel's log for root, else by stderr, which is the manager's."""
    line = f"pyctl-user-generator: {text}"
    try:
        fd = os.open("/dev/kmsg", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:  # only root may write there
        sys.stderr.write(line + "\n")
        return
    try:
        os.write(fd, f"<3>{line}\n".encode())
    except OSError:
        sys.stderr.write(line + "\n")
    finally:
        os.close(fd)
