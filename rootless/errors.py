"""The one error family that reaches the user.  Weight: nothing beyond builtins.

Every package raises `Error` (or a subclass); only `pyctl.__main__` turns it into a line on
stderr and an exit status.  Messages are lower case, name the path or the operation, have no
full stop, and leave the remedy to `hint`.
"""

# Exit statuses of the command line, as Podman and Docker define them (podman-run(1), EXIT STATUS).
EXIT_ENGINE = 125  # the engine itself failed
EXIT_CANNOT_INVOKE = 126  # the contained command cannot be invoked
EXIT_NOT_FOUND = 127  # the contained command cannot be found


class Error(Exception):
    """A failure that the user is told in one line.

    message: what failed, naming the thing; hint: what fixes it ("" where nothing is known);
    exit_code: the command's exit status.
    """

    def __init__(self, message: str, hint: str = "", exit_code: int = EXIT_ENGINE) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


class UsageError(Error):
    """The command line itself is wrong: unknown option, bad value, missing argument."""


class NotFound(Error):  # noqa: N818 - reads better where it is raised
    """A named image, container, volume, network or file does not exist."""


class LimitError(Error):
    """A resource limit was asked for that cannot be put in force."""


class LaunchError(Error):
    """A stage of starting a container failed; `stage` names it, `errno` is 0 where none applies."""

    def __init__(self, stage: str, message: str, hint: str = "", exit_code: int = EXIT_ENGINE, errno: int = 0) -> None:
        super().__init__(message, hint, exit_code)
        self.stage = stage
        self.errno = errno


def os_error_text(error: OSError, what: str) -> str:
    """`what: No such file or directory` — the operation first, then the kernel's words."""
    return f"{what}: {error.strerror or error}"


def exception_text(error: Exception) -> str:
    """What an exception says that nobody foresaw: the kernel's words with the path, else the mistake's own name."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}"
