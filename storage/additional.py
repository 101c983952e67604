"""Additional stores: the storage roots of others, from which images are run and to which nothing is ever written.

Weight: `storage.images`, `storage.lookup`, `storage.database`; loaded where the configuration names such stores.

An image that a container is made from is *adopted*: its rows are copied into this store's database, with the absolute
paths of the layers, so that all that works on images works on it.  It gets no name here, and is forgotten with its last
container.  The other store's database is opened read-only: where its write-ahead log is there, through that; where it
is not, as a file that does not change.

Files of another user's store have owners that are not among this user's ids: fuse-overlayfs shows them all as root's
(squash_to_root), and each must be readable by everybody, which is looked at once for each layer.
"""

from __future__ import annotations

import os
import stat

from rootless.errors import Error, os_error_text
from rootless.fds import write_file
from storage import digest as digests
from storage import images, lookup
from storage.database import SCHEMA_VERSION, Database
from storage.paths import StorePaths
from storage.sqlite import _sqlite3

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Find = Callable[[Database], tuple[str, str] | None]

_IMAGE_COLUMNS = (
    "id, manifest_digest, manifest_type, created_ns, added_ns, size, architecture, os, variant, squashed, config"
)
_NAMED = 3  # files that a message names


def is_podmans(root: str) -> bool:
    """Whether this is a store of Podman's form: not for this engine, which storage.conf names for Podman."""
    return os.path.isdir(f"{root}/overlay-images") and not os.path.exists(f"{root}/state.db")


def obstacle(root: str) -> str:
    """Why a store cannot be used, "" where it can."""
    if not root.startswith("/"):
        return "its path is not absolute"
    if is_podmans(root):
        return ""
    try:
        os.close(os.open(f"{root}/state.db", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return os_error_text(error, f"{root}/state.db")
    return ""


def open_read_only(root: str) -> Database:
    """The database of another store.  Raises Error."""
    paths = StorePaths(root)
    # A reader of a write-ahead log needs its index, and where there is none would have to make one.
    mode = "mode=ro" if os.path.exists(f"{paths.database}-shm") else "immutable=1"
    quoted = "".join(char if char.isalnum() or char in "/._-" else f"%{ord(char):02x}" for char in paths.database)
    try:
        connection = _sqlite3.connect(f"file:{quoted}?{mode}", uri=True, timeout=10, isolation_level=None)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except _sqlite3.Error as error:
        raise Error(f"additional store {root}: {error}", hint=f"its owner can run: chmod -R a+rX {root}") from error
    if version != SCHEMA_VERSION:
        raise Error(
            f"additional store {root} has version {version}; this pyctl knows {SCHEMA_VERSION}",
            hint="its owner's next command with a pyctl of this version brings it up to date",
        )
    return Database(connection, paths)


def adopt(db: Database, roots: Sequence[str], find: Find) -> tuple[str, str] | None:
    """What `find` finds in the first of the stores that has it, with its rows copied into `db`."""
    for root in roots:
        other = open_read_only(root)
        try:
            found = find(other)
            if found is not None:
                _copy_rows(db, other, found[0], root)
                return found
        finally:
            other.close()
    return None


def _copy_rows(db: Database, other: Database, image_id: str, root: str) -> None:
    if db.one("SELECT 1 FROM images WHERE id = ?", (image_id,)):
        return
    [row] = other.query(f"SELECT {_IMAGE_COLUMNS} FROM images WHERE id = ?", (image_id,))
    layers = other.query(
        "SELECT i.position, l.key, l.diff_id, l.directory, l.size, l.files, l.created_ns, l.root_explicit,"
        " l.root_opaque, l.squashed FROM image_layers i JOIN layers l ON l.key = i.layer_key WHERE i.image_id = ?",
        (image_id,),
    )

    for _position, _key, _diff_id, directory, *_rest in layers:
        # A row that led elsewhere would have its owner choose what of this user's is mounted.
        if "/" in directory or directory in ("", ".", "..") or not _is_plain_directory(other.paths.layer(directory)):
            raise Error(f"additional store {root}: layer {directory!r} is no directory of that store")

    def write() -> None:
        marks = ",".join("?" * (len(row) + 1))
        db.execute(f"INSERT OR IGNORE INTO images ({_IMAGE_COLUMNS}, store) VALUES ({marks})", (*row, root))
        for position, key, diff_id, directory, *rest in layers:
            # A key that nobody looks a layer up by: what is pulled is unpacked into this store.
            own_key = f"{root}/{key}"
            db.execute(
                "INSERT OR IGNORE INTO layers (key, diff_id, directory, size, files, created_ns, root_explicit,"
                " root_opaque, squashed) VALUES (?,?,?,?,?,?,?,?,?)",
                (own_key, diff_id, other.paths.layer(directory), *rest),
            )
            db.execute("INSERT OR IGNORE INTO image_layers VALUES (?,?,?)", (image_id, position, own_key))

    db.write(write)


def _is_plain_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path, follow_symlinks=False).st_mode)
    except OSError:
        return False


def image_rows(db: Database, known: set[str]) -> Iterator[images.ImageRow]:
    """The images of the additional stores as lines of `images`, without those in `known`."""
    used = dict(db.query("SELECT image_id, count(*) FROM containers GROUP BY image_id"))
    known = set(known)
    for root in lookup.additional_roots:
        other = open_read_only(root)
        try:
            rows = [row for row in images.ImageStore(other).list() if row.id not in known]
        finally:
            other.close()
        known.update(row.id for row in rows)
        yield from (row.replace(read_only=True, containers=used.get(row.id, 0)) for row in rows)


def config_text(image_id: str) -> str:
    """An image's configuration from the first additional store that has it; "" where none does."""
    for root in lookup.additional_roots:
        other = open_read_only(root)
        try:
            row = other.one("SELECT config FROM images WHERE id = ?", (image_id,))
        finally:
            other.close()
        if row is not None:
            return str(row[0])
    return ""


# --- files of another user ---------------------------------------------------------------------


def require_readable(name: str, lower: Sequence[str], driver: str, cache: str) -> bool:
    """Whether the layers are another user's, so that their files must count as root's.  Raises Error.

    name: the image's, for messages; cache: a directory where it is noted which layers were looked at.
    """
    foreign = [directory for directory in lower if _is_foreign(directory)]
    if not foreign:
        return False
    if driver != "fuse-overlayfs":
        raise Error(
            f"image {name} lies in a store of another user, whose files only fuse-overlayfs can show as root's",
            hint="leave --storage-driver=overlay out",
        )
    unreadable: list[str] = []
    for directory in foreign:
        mark = _mark(directory, cache)
        if os.path.exists(mark):
            continue
        found = list(_unreadable(directory))
        unreadable += found
        if not found:
            _note(mark)
    if unreadable:
        root = os.path.dirname(os.path.dirname(foreign[0]))
        shown = ", ".join(unreadable[:_NAMED]) + (", …" if len(unreadable) > _NAMED else "")
        raise Error(
            f"image {name} lies in a store of another user, and {len(unreadable)} of its files can be read by that one"
            f" only: {shown}",
            hint=f"its owner can run: pyctl --root {root} unshare chmod -R a+rX {root}; or pull the image yourself",
        )
    return True


def _is_foreign(directory: str) -> bool:
    try:
        return os.stat(directory).st_uid != os.getuid()
    except OSError as error:
        raise Error(os_error_text(error, f"additional store: {directory}")) from error


def _unreadable(directory: str) -> Iterator[str]:
    """What of a layer this user cannot read, as paths in the image."""
    pending = [directory]
    while pending:
        path = pending.pop()
        try:
            with os.scandir(path) as found:
                entries = [(entry.path, entry.stat(follow_symlinks=False).st_mode) for entry in found]
        except OSError:
            yield path[len(directory) :] or "/"
            continue
        for inner, mode in entries:
            if stat.S_ISDIR(mode):
                pending.append(inner)
            elif stat.S_ISREG(mode) and not os.access(inner, os.R_OK):
                yield inner[len(directory) :]


def _mark(directory: str, cache: str) -> str:
    # A layer's directory is filled once; its change time moves when its owner changes modes at its top.
    key = f"{directory} {os.stat(directory).st_ctime_ns} {os.getuid()}"
    return f"{cache}/readable-{digests.of(key.encode())[7:31]}"


def _note(mark: str) -> None:
    try:
        os.makedirs(os.path.dirname(mark), 0o700, exist_ok=True)
        write_file(mark, b"")
    except OSError:
        return  # it is looked at again
