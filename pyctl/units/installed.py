"""Files and links below a unit folder of systemd's: written whole or not at all, and known again as pyctl's.

Weight: `os`, `subprocess` for systemctl.
"""

from __future__ import annotations

import os
import subprocess

from pyctl.engine import programs
from pyctl.units.convert import MARK, WAIT_SERVICE, WAIT_TEXT
from pyctl.units.search import config_home, user_folder
from rootless.errors import Error
from rootless.fds import read_file, write_durably
from rootless.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pyctl.units.draft import Made

LINK = "# link "
GENERATOR = "pyctl-user-generator"
_GENERATORS = (
    "/run/systemd/user-generators",
    "/etc/systemd/user-generators",
    "/usr/local/lib/systemd/user-generators",
    "/usr/lib/systemd/user-generators",
)
_SYSTEMCTL_TIMEOUT_S = 120


class Place(Value):
    """Where a user's units are.

    sources: Quadlet's files; services: systemd's; generator: the administrator's program that makes the services at
    each reload, "" where there is none.
    """

    sources: str
    services: str
    generator: str = ""


def place_of(environ: Mapping[str, str]) -> Place:
    """The caller's."""
    paths = (f"{folder}/{GENERATOR}" for folder in _GENERATORS)
    return Place(
        sources=user_folder(environ),
        services=f"{config_home(environ)}/systemd/user",
        generator=next((path for path in paths if os.access(path, os.X_OK)), ""),
    )


# --- writing with undo -------------------------------------------------------------------------


class Changes:
    """Changes of files that are taken back, the last first, unless `keep` is called."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def __enter__(self) -> Changes:
        return self

    def __exit__(self, *_exception: object) -> None:
        for undo in reversed(self._undo):
            try:
                undo()
            except OSError:
                pass  # the first error is the one to be told
        self._undo.clear()

    def keep(self) -> None:
        """All of it is to stay."""
        self._undo.clear()

    def folder(self, path: str) -> None:
        """Makes a folder and those above it."""
        missing = []
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for folder in reversed(missing):
            os.mkdir(folder, 0o755)
            self._undo.append(lambda folder=folder: os.rmdir(folder))  # type: ignore[misc]

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """A file, by way of a temporary one; what was there is put back on undo."""
        self.folder(os.path.dirname(path))
        self._aside(path)
        write_durably(path, data, mode)

    def link(self, path: str, target: str) -> None:
        """A symbolic link, in place of what was there."""
        self.folder(os.path.dirname(path))
        self._aside(path)
        temporary = f"{path}.{os.getpid()}.tmp"
        os.symlink(target, temporary)
        os.rename(temporary, path)

    def remove(self, path: str) -> None:
        """A file or a link."""
        self._aside(path)
        os.unlink(path)

    def _aside(self, path: str) -> None:
        """Notes how what is at `path` now is brought back."""
        if os.path.islink(path):
            target = os.readlink(path)
            self._undo.append(lambda: _relink(path, target))
        elif os.path.lexists(path):
            held, mode = read_file(path), os.stat(path).st_mode & 0o777
            self._undo.append(lambda: write_durably(path, held, mode))
        else:
            self._undo.append(lambda: os.unlink(path))


def _relink(path: str, target: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.lexists(path):
        os.unlink(path)
    os.symlink(target, path)


# --- services ----------------------------------------------------------------------------------


def service_text(made: Made) -> str:
    """The unit, with its links named in comments, by which they are found again."""
    first, _, rest = made.text.partition("\n")
    return "\n".join([first, *(f"{LINK}{path}" for path, _ in made.links), rest])


def generated(folder: str) -> dict[str, str]:
    """Service → path of its source, of each service in a folder that was made by pyctl."""
    found: dict[str, str] = {}
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return {}
    for name in names:
        first = head_of(f"{folder}/{name}")[:1] if name.endswith(".service") else []
        if first and first[0].startswith(MARK):
            found[name] = first[0][len(MARK) :].partition("; ")[0]
    return found


def head_of(path: str) -> list[str]:
    """The comments that a file begins with; [] where it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            text = os.read(fd, 65536).decode("utf-8", "replace")
        finally:
            os.close(fd)
    except OSError:
        return []
    lines = text.split("\n")
    return lines[: next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))]


def check_free(folder: str, services: Iterable[str]) -> None:
    """Raises Error where a unit that pyctl did not make has one of the names."""
    own = generated(folder)
    for name in services:
        path = f"{folder}/{name}"
        if os.path.lexists(path) and name not in own:
            raise Error(f"{path} exists, and pyctl did not make it", hint="move it away, or give a ServiceName=")


def write_services(changes: Changes, folder: str, made: Sequence[Made]) -> None:
    """Writes services and their links; links that an earlier one had and this one has not are removed."""
    for service in made:
        _remove_links(changes, folder, service.service, {path for path, _ in service.links})
        changes.write(f"{folder}/{service.service}", service_text(service).encode())
        for path, target in service.links:
            if os.path.lexists(f"{folder}/{path}") and not os.path.islink(f"{folder}/{path}"):
                raise Error(
                    f"{folder}/{path} is a unit of its own", hint=f"take the Alias= out of {service.source.path}"
                )
            changes.link(f"{folder}/{path}", target)
    if any(service.waits_for_network for service in made):
        changes.write(f"{folder}/{WAIT_SERVICE}", WAIT_TEXT.encode())


def remove_service(changes: Changes, folder: str, service: str) -> None:
    """Removes one, with its links."""
    _remove_links(changes, folder, service, set())
    changes.remove(f"{folder}/{service}")
    if generated(folder).keys() == {WAIT_SERVICE}:
        changes.remove(f"{folder}/{WAIT_SERVICE}")


def remove_all(changes: Changes, folder: str) -> None:
    """Removes all that pyctl has written: they would stand before those of a generator, and go stale."""
    for service in generated(folder):
        _remove_links(changes, folder, service, set())
        changes.remove(f"{folder}/{service}")


def _remove_links(changes: Changes, folder: str, service: str, kept: set[str]) -> None:
    for line in head_of(f"{folder}/{service}"):
        path = line.removeprefix(LINK)
        link = f"{folder}/{path}"
        if line.startswith(LINK) and path not in kept and ".." not in path.split("/") and os.path.islink(link):
            changes.remove(link)
            try:
                os.rmdir(os.path.dirname(link))
            except OSError:
                pass  # other units are wanted there


# --- systemd -----------------------------------------------------------------------------------


def systemctl(*words: str) -> subprocess.CompletedProcess[str] | None:
    """`systemctl --user WORDS`; None where there is no such program or it does not answer."""
    program = programs.find("systemctl")
    if not program:
        return None
    argv = [program, "--user", "--no-pager", *words]
    try:
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SYSTEMCTL_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def states(services: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """Service → (load state, active state, sub state); {} where no user manager answers."""
    if not services:
        return {}
    result = systemctl("show", "--property=Id,LoadState,ActiveState,SubState", "--", *services)
    if result is None or result.returncode:
        return {}
    found: dict[str, tuple[str, str, str]] = {}
    blocks = result.stdout.split("\n\n")
    for name, block in zip(services, blocks, strict=False):
        values = dict(line.partition("=")[::2] for line in block.splitlines())
        found[name] = (values.get("LoadState", ""), values.get("ActiveState", ""), values.get("SubState", ""))
    return found


def reload() -> str:
    """Has the user's manager read its units; returns why that could not be, "" where it was."""
    result = systemctl("daemon-reload")
    if result is None:
        return "systemctl is not installed"
    return result.stderr.strip().splitlines()[-1] if result.returncode and result.stderr.strip() else ""
