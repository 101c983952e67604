"""`diff` of containers and images.  Weight: `storage.differences`."""

from __future__ import annotations

import sys

from pyctl.cli import mapped, select
from pyctl.engine import filesystem, state
from pyctl.engine.engine import Engine
from rootless.errors import NotFound, UsageError
from storage import lookup
from storage.differences import ADDED, CHANGED, DELETED, compare
from storage.layerview import LayerView
from storage.reference import InvalidReferenceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Parsed


def diff(parsed: Parsed) -> int:
    """Of a container or else an image."""
    return _diff(parsed, ("container", "image"))


def container_diff(parsed: Parsed) -> int:
    """Of a container."""
    return _diff(parsed, ("container",))


def image_diff(parsed: Parsed) -> int:
    """Of an image."""
    return _diff(parsed, ("image",))


def _diff(parsed: Parsed, kinds: tuple[str, ...]) -> int:
    options = parsed.options
    if options.format not in ("", "json"):
        raise UsageError(f"--format {options.format}: only json is possible")
    engine = Engine(parsed.globals)
    names = list(parsed.args)
    if options.get("latest"):
        names = [record.id for record in select.choose(engine, parsed, every=None).records]
    if not names:
        raise UsageError(f"{parsed.path}: name a container{' or image' if 'image' in kinds else ''}, or give --latest")
    first, below = _views(engine, names[0], kinds)
    if len(names) > 1:
        below = _views(engine, names[1], kinds)[0]
    mapped.enter(engine)
    with first, below:
        changes = compare(first, below)
    _print(changes, bool(options.format))
    return 0


def _views(engine: Engine, name: str, kinds: tuple[str, ...]) -> tuple[LayerView, LayerView]:
    """(what is named, what it lies on)."""
    if "container" in kinds:
        try:
            record = state.get(engine.db, name)
        except NotFound:
            if "image" not in kinds:
                raise
        else:
            filesystem.settle(record)
            return filesystem.container_view(engine, record), filesystem.image_view(engine, record)
    try:
        found = lookup.find(engine.db, name)
    except InvalidReferenceError:
        found = None
    if found is None:
        raise NotFound(f"{name}: no such {' or '.join(kinds)}")
    directories = filesystem.image_directories(engine, found[0])
    return LayerView(directories), LayerView(directories[1:])


def _print(changes: list[tuple[str, bytes]], as_json: bool) -> None:
    if not as_json:
        sys.stdout.flush()
        sys.stdout.buffer.write(b"".join(b"%s /%s\n" % (kind.encode(), path) for kind, path in changes))
        return
    from pyctl.cli import report

    groups = (("changed", CHANGED), ("added", ADDED), ("deleted", DELETED))
    tree = {
        word: ["/" + path.decode("utf-8", "replace") for held, path in changes if held == kind] for word, kind in groups
    }
    report.print_json({word: paths for word, paths in tree.items() if paths}, indent=5)
