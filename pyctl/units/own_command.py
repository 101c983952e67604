"""How a unit calls this pyctl: by an absolute path that works without a shell's PATH.  Weight: `os`."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Options

_GLOBALS = ("log_level", "root", "runroot", "runtime", "storage_driver", "cgroup_manager", "config")


def own_words(globals_: Options) -> tuple[str, ...]:
    """The program, and the options of pyctl itself that this command was given."""
    return (*program(sys.argv[0]), *global_words(globals_))


def global_words(globals_: Options) -> tuple[str, ...]:
    """The options of pyctl itself that are given, as words."""
    given = (field for field in _GLOBALS if globals_.given(field))
    return tuple(f"--{field.replace('_', '-')}={globals_.get(field)}" for field in given)


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
