"""`cp`: files between the host and containers.  Weight: `pyctl.engine.copying`, `pyctl.engine.roots`."""

from __future__ import annotations

import os
from contextlib import ExitStack

from pyctl.cli import mapped
from pyctl.engine import state
from pyctl.engine.copying import Copier, Place, Source, Target
from pyctl.engine.engine import Engine
from pyctl.engine.roots import ContainerRoot, primary_user
from rootless.errors import Error, UsageError, os_error_text
from rootless.fds import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Options, Parsed
    from pyctl.engine.copying import Owner

_STREAM = "-"
_PIECE = 1 << 20


class _Side:
    """One of the two arguments.  `root` is None for the host."""

    def __init__(self, engine: Engine, text: str, roots: dict[str, ContainerRoot]) -> None:
        self.container, self.path = _split(text)
        self.root: ContainerRoot | None = None
        self.place = Place("the host")
        if self.container:
            record = state.get(engine.db, self.container)
            self.root = roots.setdefault(record.id, ContainerRoot(engine, record))

    @property
    def is_stream(self) -> bool:
        """Standard input or output."""
        return not self.container and self.path == _STREAM


def _split(text: str) -> tuple[str, str]:
    """(container, path); "" for a path of the host, which has no colon before its first slash."""
    name, colon, path = text.partition(":")
    if not colon or text.startswith(("/", ".")) or "/" in name:
        return "", text
    if not name or not path:
        raise UsageError(f"{text}: CONTAINER:PATH is expected", hint=f"a file of this name is ./{text}")
    return name, path if path.startswith("/") else f"/{path}"


def cp(parsed: Parsed) -> int:
    """Copies one file or tree."""
    options = parsed.options
    engine = Engine(parsed.globals)
    roots: dict[str, ContainerRoot] = {}
    source, target = (_Side(engine, text, roots) for text in parsed.args)
    if not roots:
        raise UsageError("one of the two must be a container's: CONTAINER:PATH")
    if target.is_stream and os.isatty(1):
        raise UsageError("an archive is not written to a terminal", hint="redirect stdout")
    mapped.enter(engine)
    with ExitStack() as stack:
        # In one order, so that two copies between the same containers do not wait for each other.
        opened = {key: stack.enter_context(roots[key].opened()) for key in sorted(roots)}
        for side in (source, target):
            if side.root is not None:
                side.place = Place(f"container {side.container}", opened[side.root.record.id])
        try:
            _copy(engine, options, source, target)
        except OSError as error:
            raise Error(os_error_text(error, error.filename or "cp")) from error
    return 0


def _copy(engine: Engine, options: Options, source: _Side, target: _Side) -> None:
    copier = Copier(
        _owner(engine, options, source, target),
        overwrite=bool(options.overwrite),
        keep_set_id=target.root is not None,
        told=engine.warn,
    )
    if source.is_stream:
        _receive(target, copier)
        return
    opened = Source(source.place, source.path)
    try:
        if target.is_stream:
            _send(source, opened)
        else:
            _copy_opened(opened, target, copier)
    finally:
        opened.close()


def _copy_opened(opened: Source, side: _Side, copier: Copier) -> None:
    target = Target(side.place, side.path, opened.is_directory)
    try:
        if opened.is_directory:
            _refuse_cycle(opened, target.parent)
        shown = side.path.rstrip("/")
        if target.fd >= 0:
            copier.overwrite(target.fd, opened, shown)
        elif target.name:
            copier.copy(opened, target.parent, target.name, shown)
        elif opened.name:
            copier.copy(opened, target.parent, os.fsencode(opened.name), f"{shown}/{opened.name}")
        else:
            copier.fill(opened.fd, target.parent, shown)
    finally:
        target.close()


def _refuse_cycle(opened: Source, parent: int) -> None:
    """Raise Error where the target lies in the directory that is copied."""
    wanted = (opened.held.st_dev, opened.held.st_ino)
    fd = os.dup(parent)
    try:
        while True:
            held = os.fstat(fd)
            if (held.st_dev, held.st_ino) == wanted:
                raise UsageError(f"{opened.path}: a directory cannot be copied into itself")
            above = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
            os.close(fd)
            fd = above
            if os.path.samestat(os.fstat(fd), held):
                return
    finally:
        os.close(fd)


def _owner(engine: Engine, options: Options, source: _Side, target: _Side) -> Owner:
    """Whose the copies are: the container's user's, or with --archive=false as they were; on the host the caller's."""
    if target.root is None or engine.id_map.single:
        return lambda _uid, _gid: None
    ids = target.root.ids
    if options.archive:
        user = ids.outside(*primary_user(target.root.record, target.place.root))
        return lambda _uid, _gid: user
    if source.root is not None:
        former = source.root.ids
        return lambda uid, gid: ids.outside(*former.inside(uid, gid))
    if source.is_stream:
        return ids.outside
    return lambda uid, gid: (uid, gid)


def _send(side: _Side, opened: Source) -> None:
    from storage import tarwriter

    assert side.root is not None
    name = os.fsencode(opened.name)
    make = tarwriter.one_directory if opened.is_directory else tarwriter.one_file
    reader = tarwriter.ArchiveReader(make(opened.fd, name, side.root.ids.inside))
    while data := reader.read(_PIECE):
        write_all(1, data)


def _receive(side: _Side, copier: Copier) -> None:
    from pyctl.engine.copy_tar import unpack
    from storage.archive_files import DescriptorReader
    from storage.compression import open_decompressed

    try:
        fd = side.place.open(side.path, os.O_RDONLY | os.O_DIRECTORY)
    except NotADirectoryError:
        raise Error("destination must be a directory when copying from stdin") from None
    except FileNotFoundError:
        raise side.place.missing(side.path) from None
    os.close(fd)
    reader = open_decompressed(DescriptorReader(0, "standard input"), "standard input")
    unpack(side.place, side.path.rstrip("/"), reader, copier)
