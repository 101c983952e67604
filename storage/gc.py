"""Collecting garbage: what lies in the store and no row names, after removals and killed processes.

Weight: `os`, `fcntl`, `storage.removal`.  Runs where the ids of the layers' files are mapped.

Everything that adds to the store (pull, load, import, commit, build) holds the shared lock of `StorePaths.lock` from
before its first file to after the row that names it (`storage.layers.LayerStore`).  What is removed here is removed
under the exclusive lock: so nothing that is about to be named is ever taken for garbage.  While something is being
added, nothing is collected; the next removal or prune does it.
"""

from __future__ import annotations

import fcntl
import os
import time

from rootless.errors import Error, os_error_text
from rootless.values import Value
from storage.blobs import no_room
from storage.database import Database, restore_reserve
from storage.removal import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from storage.paths import StorePaths

# A download that was cut is resumed from its bytes; after so long nobody will.
KEEP_PARTIAL_S = 7 * 86400
_TRASH = "tmp-removed-"


class Collected(Value):
    """What was removed.  busy: nothing was, because something is being added to the store."""

    layers: tuple[str, ...] = ()  # keys
    blobs: tuple[str, ...] = ()  # digests
    partial: int = 0  # cut downloads, temporary files and directories
    bytes: int = 0  # of blobs and partial files; layers are not measured
    busy: bool = False


def collect(db: Database, partial_age_s: float = KEEP_PARTIAL_S) -> Collected:
    """Remove layers and blobs that no image has, and what killed processes left.

    partial_age_s: how old a cut download must be (0: prune takes all).  Works on a full disk.  Raises Error.
    """
    paths = db.paths
    try:
        lock = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise no_room(error, f"cannot open {paths.lock}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return Collected(busy=True)
        # First what needs no write: it makes the room for those that follow, should the reserve be used up.
        blobs, freed = _remove_blobs(db)
        partial, more = _remove_partial(db, partial_age_s)
        layers = db.write(lambda: _forget_layers(db), frees_space=True)
        trash = _move_away(db)
    finally:
        os.close(lock)
    # The slow part needs no lock: nothing can name these any more.
    for path in trash:
        try:
            remove_tree(path)
        except OSError as error:
            raise Error(os_error_text(error, f"cannot remove {path}")) from error
    restore_reserve(paths)
    return Collected(
        layers=tuple(layers), blobs=tuple(blobs), partial=partial + len(trash) - len(layers), bytes=freed + more
    )


def _forget_layers(db: Database) -> list[str]:
    # What was noted of other stores' images, and no container uses any more.
    db.execute(
        "DELETE FROM images WHERE store <> '' AND id NOT IN"
        " (SELECT image_id FROM containers WHERE image_id IS NOT NULL)"
    )
    rows = db.query("SELECT key FROM layers WHERE key NOT IN (SELECT layer_key FROM image_layers)")
    db.execute_many("DELETE FROM layers WHERE key = ?", rows)
    return [key for (key,) in rows if not key.startswith("/")]


def _move_away(db: Database) -> list[str]:
    """Give every directory that no row names a name that nothing can get again; returns those."""
    paths = db.paths
    named = {directory for (directory,) in db.query("SELECT directory FROM layers")}
    trash = []
    for name in os.listdir(paths.layers):
        if name in named:
            continue
        path = f"{paths.layers}/{name}"
        if not name.startswith(_TRASH):
            target = f"{paths.layers}/{_TRASH}{os.urandom(8).hex()}"
            try:
                os.rename(path, target)
                path = target
            except OSError:
                pass  # on a full disk even that may fail; removing in place is right too, under the lock
        trash.append(path)
    volumes = {name for (name,) in db.query("SELECT name FROM volumes")}
    trash += [
        f"{paths.volumes}/{n}" for n in os.listdir(paths.volumes) if n.startswith(".removed-") and n not in volumes
    ]
    return trash


def _remove_blobs(db: Database) -> tuple[list[str], int]:
    named = {digest for (digest,) in db.query("SELECT digest FROM image_blobs UNION SELECT digest FROM kept_blobs")}
    removed, freed = [], 0
    for digest, path in stored_blobs(db.paths):
        if digest not in named:
            freed += _unlink(path)
            removed.append(digest)
    return removed, freed


def stored_blobs(paths: StorePaths) -> Iterator[tuple[str, str]]:
    """(digest, path) of every blob in the store."""
    for algorithm in ("sha256", "sha512"):
        folder = f"{paths.blobs}/{algorithm}"
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            yield f"{algorithm}:{name}", f"{folder}/{name}"


def _remove_partial(db: Database, age_s: float) -> tuple[int, int]:
    """Cut downloads that are old enough, temporary files and lock files at once: nobody is adding anything."""
    count = freed = 0
    for name in os.listdir(db.paths.partial):
        path = f"{db.paths.partial}/{name}"
        try:
            held = os.stat(path, follow_symlinks=False)
        except FileNotFoundError:
            continue
        resumable = name.startswith(("sha256-", "sha512-")) and held.st_size
        if resumable and time.time() - held.st_mtime < age_s:
            continue
        size = _unlink(path)
        if not name.endswith(".lock"):
            count, freed = count + 1, freed + size
    return count, freed


def _unlink(path: str) -> int:
    try:
        size = os.stat(path, follow_symlinks=False).st_size
        os.unlink(path)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise Error(os_error_text(error, f"cannot remove {path}")) from error
    return size
