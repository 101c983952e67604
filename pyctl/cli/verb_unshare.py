"""`unshare`: a shell or command as root of the user's namespace, where files of mapped ids can be looked after.

Weight: light.  The command replaces this process, so signals and the exit status are its own.
"""

from __future__ import annotations

import os

from pyctl.engine.engine import Engine
from rootless import userns
from rootless.errors import EXIT_CANNOT_INVOKE, EXIT_NOT_FOUND, Error, os_error_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Parsed


def unshare(parsed: Parsed) -> int:
    """Enter the namespace and execute; returns only by an error."""
    engine = Engine(parsed.globals)
    argv = list(parsed.args) or [os.environ.get("SHELL", "/bin/sh")]
    if parsed.options.rootless_netns:
        _enter_networks(engine)
    else:
        userns.enter(engine.runtime_root)
    try:
        os.execvp(argv[0], argv)
    except FileNotFoundError as error:
        raise Error(f"{argv[0]}: command not found", exit_code=EXIT_NOT_FOUND) from error
    except OSError as error:
        raise Error(f"{argv[0]}: {error.strerror}", exit_code=EXIT_CANNOT_INVOKE) from error


def _enter_networks(engine: Engine) -> None:
    """The namespace of the network process, which stays as long as the command does."""
    from pyctl.engine import network_process
    from rootless import libc

    hold = network_process.ensure(engine)
    os.set_inheritable(hold.fileno(), True)
    userns.enter(engine.runtime_root)
    process = userns.open_supervisor(f"{engine.runtime_root}/{userns.NETWORK_DIRECTORY}")
    try:
        if process is None:
            raise Error("the network process has just been killed", hint="try again")
        libc.setns(process, libc.CLONE_NEWNET)
    except OSError as error:
        raise Error(os_error_text(error, "cannot enter the namespace of the networks")) from error
    finally:
        if process is not None:
            os.close(process)
    hold.detach()  # it is the command's now: the process ends with the last of these
