"""`system check`: does the store hold what its rows say, and nothing else?

Weight: `storage.gc`, `storage.images`; hashes every blob when asked to.  Runs where the ids of the layers' files are
mapped.
"""

from __future__ import annotations

import os
import time

from rootless.values import Value
from storage import digest as digests
from storage.blobs import BlobStore
from storage.database import Database
from storage.gc import collect, stored_blobs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

GARBAGE_AGE_S = 86400.0
_CHUNK = 1 << 20


class Problem(Value):
    """One thing that is wrong.  kind: "database" | "layer" | "blob" | "garbage" | "volume"."""

    kind: str
    text: str
    images: tuple[str, ...] = ()  # ids of the images that cannot be run, or not be saved and pushed
    repaired: bool = False


def check(
    db: Database, quick: bool = False, repair: bool = False, garbage_age_s: float = GARBAGE_AGE_S
) -> tuple[Problem, ...]:
    """Everything that is wrong.  quick: names only; without it every blob is hashed.

    garbage_age_s: what nothing names is a problem only when it is older, because a killed pull may be resumed from it.
    repair: garbage is collected; a damaged blob is removed, and an image whose layers are not there any more loses
    them, so that the next pull brings them again under the same id.  Nothing that a container uses is removed.
    """
    found = [*_database(db), *_layers(db, repair), *_blobs(db, quick, repair), *_volumes(db, repair)]
    found += _garbage(db, repair, garbage_age_s)
    return tuple(found)


def _database(db: Database) -> Iterator[Problem]:
    for (text,) in db.query("PRAGMA integrity_check(10)"):
        if text != "ok":
            yield Problem(kind="database", text=f"state database: {text}")
    for table, _row, parent, _number in db.query("PRAGMA foreign_key_check"):
        yield Problem(kind="database", text=f"state database: a row of {table} refers to a missing row of {parent}")


def _layers(db: Database, repair: bool) -> Iterator[Problem]:
    for key, directory in db.query("SELECT key, directory FROM layers"):
        path = db.paths.layer(directory)
        if os.path.isdir(path) and not os.path.islink(path):
            continue
        images = tuple(i for (i,) in db.query("SELECT image_id FROM image_layers WHERE layer_key = ?", (key,)))
        used = db.one(
            "SELECT 1 FROM image_layers i JOIN containers c ON c.image_id = i.image_id WHERE i.layer_key = ?", (key,)
        )
        if repair and used is None:
            for image in images:
                db.execute("DELETE FROM images WHERE id = ?", (image,))
        # The row stays where it is used: the next pull unpacks into the same directory.
        yield Problem(
            kind="layer", text=f"layer {key} is not unpacked in {path}", images=images, repaired=repair and used is None
        )


def _blobs(db: Database, quick: bool, repair: bool) -> Iterator[Problem]:
    blobs = BlobStore(db.paths)
    for (digest,) in db.query("SELECT DISTINCT digest FROM image_blobs"):
        text = _blob_problem(blobs, digest, quick)
        if not text:
            continue
        images = tuple(i for (i,) in db.query("SELECT image_id FROM image_blobs WHERE digest = ?", (digest,)))
        repaired = False
        if repair and blobs.has(digest):
            os.unlink(db.paths.blob(digest))  # what is missing is pulled again; what is wrong would be trusted
            repaired = True
        yield Problem(kind="blob", text=text, images=images, repaired=repaired)


def _blob_problem(blobs: BlobStore, digest: str, quick: bool) -> str:
    if not blobs.has(digest):
        return f"blob {digest} is missing"
    if quick:
        return ""
    fd = blobs.open(digest)
    running = digests.new(digests.split(digest)[0])
    try:
        while data := os.read(fd, _CHUNK):
            running.update(data)
    except OSError as error:
        return f"blob {digest} cannot be read: {error.strerror}"
    finally:
        os.close(fd)
    return "" if running.hexdigest() == digests.split(digest)[1] else f"blob {digest} has other content"


def _volumes(db: Database, repair: bool) -> Iterator[Problem]:
    for (name,) in db.query("SELECT name FROM volumes"):
        path = db.paths.volume_data(name)
        if os.path.isdir(path):
            continue
        repaired = False
        if repair:
            try:
                os.makedirs(path, 0o755, exist_ok=True)
                repaired = True
            except OSError:
                pass
        yield Problem(kind="volume", text=f"volume {name} has no directory {path}", repaired=repaired)


def _garbage(db: Database, repair: bool, age_s: float) -> Iterator[Problem]:
    paths = db.paths
    named = {directory for (directory,) in db.query("SELECT directory FROM layers")}
    unused = db.query("SELECT directory FROM layers WHERE key NOT IN (SELECT layer_key FROM image_layers)")
    known = {digest for (digest,) in db.query("SELECT digest FROM image_blobs UNION SELECT digest FROM kept_blobs")}
    groups = {
        "directories of layers": [paths.layer(name) for name in os.listdir(paths.layers) if name not in named],
        "unused layers": [paths.layer(name) for (name,) in unused],
        "blobs": [path for digest, path in stored_blobs(paths) if digest not in known],
    }
    counts = {what: sum(_older(path, age_s) for path in group) for what, group in groups.items()}
    if not any(counts.values()):
        return
    repaired = repair and not collect(db).busy
    text = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    yield Problem(kind="garbage", text=f"nothing names {text}", repaired=repaired)


def _older(path: str, age_s: float) -> bool:
    try:
        # ctime: a layer's directory has the mtime that the image gives it.
        return time.time() - os.stat(path, follow_symlinks=False).st_ctime >= age_s
    except OSError:
        return False
