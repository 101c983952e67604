"""`export`.  Weight: `storage.tarwriter`."""

from __future__ import annotations

import os
import stat

from pyctl.cli import mapped
from pyctl.engine import filesystem, state
from pyctl.engine.engine import Engine
from rootless.errors import Error, UsageError, os_error_text
from rootless.fds import write_all
from storage import tarwriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Parsed

_PIECE = 1 << 20


def export(parsed: Parsed) -> int:
    """Writes the archive to a file or to stdout."""
    path = parsed.options.output
    if not path and os.isatty(1):
        raise UsageError(
            "an archive is not written to a terminal", hint="name a file with --output, or redirect stdout"
        )
    engine = Engine(parsed.globals)
    record = state.get(engine.db, parsed.args[0])
    out = _open(path) if path else 1
    try:
        mapped.enter(engine)
        filesystem.settle(record)
        with filesystem.container_view(engine, record) as view:
            reader = tarwriter.ArchiveReader(tarwriter.whole_tree(view))
            while data := reader.read(_PIECE):
                write_all(out, data)
        state.get(engine.db, record.id)  # removed meanwhile: the archive may lack files
        state.tell(engine.db, "export", record.specification)
    except OSError as error:
        _discard(path, out)
        if not path and isinstance(error, BrokenPipeError):
            raise
        raise Error(os_error_text(error, path or "standard output")) from error
    except BaseException:
        _discard(path, out)
        raise
    return 0


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise Error(os_error_text(error, path)) from error


def _discard(path: str, fd: int) -> None:
    """Half an archive is not left; a device or pipe that was named stays."""
    try:
        if path and stat.S_ISREG(os.fstat(fd).st_mode):
            os.unlink(path)
    except OSError:
        return
