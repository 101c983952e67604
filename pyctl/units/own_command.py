"""How a unit calls this pyctl: by an absolute path that works without a shell's PATH.  Weight: `os`."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyctl.cli.parser import Options

# Which containers there are, and how much is told: the calling command's own.
_OWN = ("log_level", "root", "runroot")
# How a container is run: also those of the command that made it.
_OF_RUN = ("runtime", "storage_driver", "cgroup_manager", "config")
_FOLDERS = frozenset(("root", "runroot", "config"))


def own_words(globals_: Options) -> tuple[str, ...]:
    """The program, and the options of pyctl itself that this command was given."""
    return (*program(sys.argv[0]), *_words(globals_, (*_OWN, *_OF_RUN)))


def run_words(globals_: Options) -> tuple[str, ...]:
    """The options of pyctl itself that say how a container is run, as another command was given them."""
    return _words(globals_, _OF_RUN)


def _words(globals_: Options, fields: Sequence[str]) -> tuple[str, ...]:
    found = []
    for field in fields:
        if globals_.given(field):
            value = str(globals_.get(field))
            shown = os.path.abspath(value) if field in _FOLDERS else value
            found.append(f"--{field.replace('_', '-')}={shown}")
    return tuple(found)


def program(script: str) -> tuple[str, ...]:
    """The script itself where its first line names an interpreter by path, else this interpreter and the script."""
    path = os.path.abspath(script)
    if os.path.basename(path) == "pyctl" and os.path.isfile(path):
        return (path,) if os.access(path, os.X_OK) and _has_interpreter(path) else (sys.executable, path)
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return (
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {here!r}); from pyctl.__main__ import main; main()",
    )


def _has_interpreter(path: str) -> bool:
    """`#!/path/python`: one that `env` looks up may be another under systemd, whose PATH is not the caller's."""
    try:
        with open(path, "rb") as file:
            first = file.readline(512).split()
    except OSError:
        return False
    return bool(first) and first[0].startswith(b"#!/") and not first[0].endswith(b"/env")
