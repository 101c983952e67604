"""`system check`: does everything that the database names exist, with the content that its digest promises?

Weight: `storage.blobs`, `storage.gc`; reads every blob unless `quick`.  Unpacked files are not compared with the
archives they came from: a layer whose directory is there counts as whole.
"""

from __future__ import annotations

import os
import time

from rootless.errors import Error
from rootless.values import Value
from storage import digest as digests
from storage.blobs import BlobStore
from storage.gc import stored_blobs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from storage.database import Database

_CHUNK = 1 << 20


class Report(Value):
    """What was found.

    images: (image id, what is wrong with it) of each damage; others: damage that removing an image does not repair;
    blobs: digests whose content is wrong; garbage: directories and files that nothing uses, older than was asked (a
    killed pull may be resumed from them).
    """

    images: tuple[tuple[str, str], ...] = ()
    others: tuple[str, ...] = ()
    blobs: tuple[str, ...] = ()
    garbage: int = 0


def check(db: Database, quick: bool, max_age_s: float) -> Report:
    """Look at everything; changes nothing.  Raises Error."""
    images: list[tuple[str, str]] = []
    damaged: list[str] = []
    _layers(db, images)
    _blobs(db, quick, images, damaged)
    return Report(
        images=tuple(images),
        others=tuple(_database(db, quick) + _directories(db) + _kept(db, quick, damaged)),
        blobs=tuple(damaged),
        garbage=_garbage(db, max_age_s),
    )


def _database(db: Database, quick: bool) -> list[str]:
    rows = db.query("PRAGMA quick_check(20)" if quick else "PRAGMA integrity_check(20)")
    found = [f"state database: {text}" for (text,) in rows if text != "ok"]
    return found + [
        f"state database: a row of {row[0]} refers to a missing one" for row in db.query("PRAGMA foreign_key_check")
    ]


def _layers(db: Database, images: list[tuple[str, str]]) -> None:
    rows = db.query(
        "SELECT i.image_id, l.key, l.directory FROM image_layers i JOIN layers l ON l.key = i.layer_key"
        " JOIN images m ON m.id = i.image_id WHERE m.store = ''"
    )
    for image_id, key, directory in rows:
        if not os.path.isdir(db.paths.layer(directory)):
            images.append((image_id, f"layer {key} is missing"))
    empty = db.query("SELECT id FROM images WHERE id NOT IN (SELECT image_id FROM image_layers)")
    for (image_id,) in empty:
        text = db.one("SELECT config FROM images WHERE id = ?", (image_id,))
        if text is not None and '"diff_ids":[]' not in str(text[0]).replace(" ", ""):
            images.append((image_id, "it has no layers"))


def _blobs(db: Database, quick: bool, images: list[tuple[str, str]], damaged: list[str]) -> None:
    blobs = BlobStore(db.paths)
    owners: dict[str, list[str]] = {}
    for image_id, digest in db.query("SELECT image_id, digest FROM image_blobs ORDER BY digest"):
        owners.setdefault(digest, []).append(image_id)
    for digest, image_ids in owners.items():
        if not blobs.has(digest):
            problem = f"blob {digest} is missing"
        elif not quick and not _has_its_digest(blobs, digest):
            problem = f"blob {digest} is damaged"
            damaged.append(digest)
        else:
            continue
        images.extend((image_id, problem) for image_id in image_ids)


def _kept(db: Database, quick: bool, damaged: list[str]) -> list[str]:
    """Of manifest lists and artifacts."""
    blobs = BlobStore(db.paths)
    found = []
    for owner, digest in db.query("SELECT owner, digest FROM kept_blobs ORDER BY owner, digest"):
        if not blobs.has(digest):
            found.append(f"{owner}: blob {digest} is missing")
        elif not quick and digest not in damaged and not _has_its_digest(blobs, digest):
            found.append(f"{owner}: blob {digest} is damaged")
            damaged.append(digest)
    return found


def _has_its_digest(blobs: BlobStore, digest: str) -> bool:
    algorithm, digits = digests.split(digest)
    state = digests.new(algorithm)
    try:
        fd = blobs.open(digest)
    except Error:
        return False
    try:
        while data := os.read(fd, _CHUNK):
            state.update(data)
    except OSError:
        return False  # EIO: the disk itself
    finally:
        os.close(fd)
    return bool(state.hexdigest() == digits)


def _directories(db: Database) -> list[str]:
    found = []
    for (name,) in db.query("SELECT name FROM volumes"):
        if not os.path.isdir(db.paths.volume_data(name)):
            found.append(f"volume {name}: its directory is missing")
    for container_id, name in db.query("SELECT id, name FROM containers WHERE status <> 'created'"):
        if not os.path.isdir(db.paths.container(container_id)):
            found.append(f"container {name}: its directory is missing")
    return found


def _garbage(db: Database, max_age_s: float) -> int:
    paths = db.paths
    used = db.query("SELECT directory FROM layers WHERE key IN (SELECT layer_key FROM image_layers)")
    named = {directory for (directory,) in used}
    candidates = [f"{paths.layers}/{name}" for name in _names(paths.layers) if name not in named]
    candidates += [f"{paths.partial}/{name}" for name in _names(paths.partial) if not name.endswith(".lock")]
    known = {digest for (digest,) in db.query("SELECT digest FROM image_blobs UNION SELECT digest FROM kept_blobs")}
    candidates += [path for digest, path in stored_blobs(paths) if digest not in known]
    oldest = time.time() - max_age_s
    count = 0
    for path in candidates:
        try:
            # Not the time of change of content, which an unpacked directory has from its image.
            count += os.stat(path, follow_symlinks=False).st_ctime <= oldest
        except FileNotFoundError:
            continue  # another process has just finished with it
    return count


def _names(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []
