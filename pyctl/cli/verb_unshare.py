"""`unshare`: a shell or command as root of the user's namespace, where files of mapped ids can be looked after.

Weight: light.  The command replaces this process, so signals and the exit status are its own.
"""

from __future__ import annotations

import os

from pyctl.engine.engine import Engine
from rootless import userns
from rootless.errors import EXIT_CANNOT_INVOKE, EXIT_NOT_FOUND, Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Parsed


def unshare(parsed: Parsed) -> int:
    """Enter the namespace and execute; returns only by an error."""
    engine = Engine(parsed.globals)
    argv = list(parsed.args) or [os.environ.get("SHELL", "/bin/sh")]
    userns.enter(engine.runtime_root)
    try:
        os.execvp(argv[0], argv)
    except FileNotFoundError as error:
        raise Error(f"{argv[0]}: command not found", exit_code=EXIT_NOT_FOUND) from error
    except OSError as error:
        raise Error(f"{argv[0]}: {error.strerror}", exit_code=EXIT_CANNOT_INVOKE) from error
