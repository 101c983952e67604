"""A container's files: the directories that its root is made of, and the root itself of a live one.

Weight: `storage.layerview`, `pyctl.engine.state`.  Runs in the user's namespace, where the files' ids are mapped.
"""

from __future__ import annotations

import os
from contextlib import contextmanager

from pyctl.engine import planner, state
from pyctl.engine.execute import connect
from rootless import libc
from rootless.errors import Error
from rootless.fds import close_all
from rootless.plan import Done, Failed, OpenRoot
from storage.layerview import LayerView
from storage.lookup import layer_directories

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyctl.engine.engine import Engine
    from pyctl.engine.state import ContainerRecord


def open_root(record: ContainerRecord, inside: bool, detached: bool = False) -> int:
    """A descriptor of a live container's root, the caller's to close; see `OpenRoot`.

    Raises Error where it has ended.
    """
    channel = connect(record.runtime_dir, record.name)
    try:
        channel.send(OpenRoot(inside=inside, detached=detached))
        answer, fds = channel.receive()
    except OSError as error:
        raise Error(f"container {record.name} has just ended") from error
    finally:
        channel.close()
    if isinstance(answer, Done) and len(fds) == 1:
        return fds[0]
    close_all(fds)
    if isinstance(answer, Failed):
        raise Error(answer.message, answer.hint, answer.exit_code)
    raise Error(f"container {record.name} has just ended")


def settle(record: ContainerRecord) -> None:
    """Have a live container's writes in its upper directory: fuse-overlayfs lets the kernel keep them back."""
    if not record.alive:
        return
    try:
        root = open_root(record, inside=False)
    except Error:
        return  # it has just ended, and its end has written them
    try:
        libc.syncfs(root)
    finally:
        os.close(root)


def image_directories(engine: Engine, image_id: str) -> tuple[str, ...]:
    """The layers of an image, topmost first, down to one that hides all below it."""
    return layer_directories(engine.db, image_id)[0]


def image_view(engine: Engine, record: ContainerRecord) -> LayerView:
    """What the container started from.  Raises NotFound, Error where it has no layers."""
    spec = record.specification
    if spec.rootfs and not spec.rootfs_overlay:
        raise Error(f"container {record.name} was made with --rootfs: it has no image to compare with")
    lower = planner.root_layers(engine, spec)[0]
    return LayerView(lower, planner.is_squashed(engine, spec, lower))


def container_view(engine: Engine, record: ContainerRecord) -> LayerView:
    """The container's root without what is mounted in it.  Raises NotFound, Error."""
    spec = record.specification
    if spec.rootfs and not spec.rootfs_overlay:
        return LayerView((spec.rootfs,))
    lower = planner.root_layers(engine, spec)[0]
    upper = f"{engine.paths.container(record.id)}/upper"
    squashed = planner.is_squashed(engine, spec, lower)
    return LayerView((upper, *lower) if os.path.isdir(upper) else lower, squashed)


@contextmanager
def held_still(engine: Engine, record: ContainerRecord, pause: bool) -> Iterator[None]:
    """Inside, what the container has written can be read below its directory; `pause`: and it writes nothing more.

    Raises Error where it cannot be paused.
    """
    paused = pause and record.running
    if paused:
        from pyctl.engine.adjusting import pause as freeze

        freeze(engine, record, True)
        record = state.get(engine.db, record.id)
    try:
        settle(record)
        yield
    finally:
        if paused:
            record = state.get(engine.db, record.id)
            if record.paused:
                freeze(engine, record, False)
