"""Images: names, digests and layers of what is stored.  `storage.lookup` finds them.

Weight: `storage.lookup`.  `add` and everything below `ImageStore` need no mapped
ids: they touch the database only; files go when `storage.gc` collects what no row names any more.
"""

from __future__ import annotations

import time

from rootless.errors import Error, NotFound
from rootless.values import Value
from storage import lookup, reference
from storage.database import ConstraintError, Database
from storage.digest import is_digest
from storage.lookup import find, marks, resolve
from storage.rfc3339 import parse_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from storage.imageconfig import ImageConfig
    from storage.manifest import Manifest

# How the exit status of `rmi` tells its failures apart (podman-rmi(1), Exit Status).
EXIT_NO_SUCH_IMAGE = 1
EXIT_IMAGE_IN_USE = 2


class ImageRow(Value):
    """One line of `images`."""

    id: str
    manifest_digest: str
    manifest_type: str
    names: tuple[str, ...]  # "docker.io/library/alpine:latest", "…@sha256:…"
    digests: tuple[str, ...]  # every manifest and index digest it is known under
    created_ns: int
    added_ns: int
    size: int  # bytes of the uncompressed layers
    architecture: str
    os: str
    variant: str = ""
    squashed: bool = False  # owners could not be kept: unpacked with a single mapped id
    containers: int = 0  # how many use it
    is_list: bool = False  # a manifest list, see `storage.lists`
    read_only: bool = False  # in an additional store


class ReadOnlyImageError(Error):
    """The image lies in a store that is only read."""

    def __init__(self, text: str, root: str) -> None:
        super().__init__(f"image {text} lies in the read-only store {root}", hint="pyctl pull brings it into your own")


class HistoryRow(Value):
    """One step of `history`, newest first.  `id` "" where the step has no image of its own here."""

    id: str
    created: str  # RFC 3339
    created_by: str
    size: int
    comment: str
    tags: tuple[str, ...] = ()


class Removed(Value):
    """What `rmi` did: names taken away, and the id where the image itself went."""

    untagged: tuple[str, ...] = ()
    deleted: str = ""


class ImageInUseError(Error):
    """The image has containers; `containers` are their ids."""

    def __init__(self, text: str, containers: tuple[str, ...]) -> None:
        super().__init__(
            f"image {text} is in use by container {', '.join(c[:12] for c in containers)}",
            hint="remove the container first, or use --force to remove both",
            exit_code=EXIT_IMAGE_IN_USE,
        )
        self.containers = containers



def local_name(text: str) -> str:
    """The full name that `tag`, `load` or `import` stores: a short name belongs to localhost.  Raises
    InvalidReferenceError, also where a digest is given."""
    short = reference.is_short(text)
    ref = reference.with_registry("localhost", text) if short else reference.parse(text)
    if ref.digest:
        raise reference.InvalidReferenceError(f"{text}: a name to store may not have a digest")
    return str(ref.with_default_tag())


class ImageStore:
    """The images of one store."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def add(
        self,
        config: bytes,
        manifest: Manifest,
        layer_keys: Sequence[str],
        *,
        names: Sequence[str] = (),
        index: tuple[str, str] | None = None,
        squashed: bool = False,
    ) -> str:
        """Record an image whose layers and blobs are stored and synced; returns its id.

        config: the configuration's bytes, whose digest `manifest.config` was checked to be; layer_keys: the base
        first; names: full ones, which move here from any other image; index: (digest, media type) of the index
        that the manifest was found in.  One transaction: the image is there with everything or not at all.
        Raises ConstraintError where a layer has been collected meanwhile.
        """
        from storage.imageconfig import parse_config  # `run` of a stored image parses its own

        parsed = parse_config(config)
        image_id = manifest.image_id
        now = time.time_ns()
        blobs = {manifest.digest, manifest.config.digest, *(layer.digest for layer in manifest.layers)}
        digests = {(manifest.digest, manifest.media_type)}
        if index is not None:
            blobs.add(index[0])
            digests.add(index)
        db = self.db
        with db.transaction():
            if db.one("SELECT 1 FROM images WHERE id = ? AND store <> ''", (image_id,)):
                # Until now it was another store's: from its next start on, a container has the layers of this one.
                db.execute("DELETE FROM image_layers WHERE image_id = ?", (image_id,))
                db.execute("UPDATE images SET store = '' WHERE id = ?", (image_id,))
            sizes = db.query(f"SELECT key, size FROM layers WHERE key IN ({marks(layer_keys)})", layer_keys)
            size_of = dict(sizes)
            missing = [key for key in layer_keys if key not in size_of]
            if missing:
                raise ConstraintError(f"layer {missing[0]} is not stored")
            db.execute(
                "INSERT INTO images (id, manifest_digest, manifest_type, created_ns, added_ns, size, architecture, os,"
                " variant, squashed, config) VALUES (?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET"
                " manifest_digest = excluded.manifest_digest, manifest_type = excluded.manifest_type",
                (
                    image_id, manifest.digest, manifest.media_type, parse_ns(parsed.created), now,
                    sum(size_of[key] for key in layer_keys), parsed.platform.architecture, parsed.platform.os,
                    parsed.platform.variant, int(squashed), config.decode("utf-8"),
                ),
            )  # fmt: skip
            # An image that is stored already keeps its directories: running containers are mounted on them.
            if db.one("SELECT 1 FROM image_layers WHERE image_id = ? LIMIT 1", (image_id,)) is None:
                db.execute_many(
                    "INSERT INTO image_layers VALUES (?,?,?)",
                    [(image_id, position, key) for position, key in enumerate(layer_keys)],
                )
            db.execute_many("INSERT OR IGNORE INTO image_digests VALUES (?,?,?)", [(image_id, *d) for d in digests])
            db.execute_many("INSERT OR IGNORE INTO image_blobs VALUES (?,?)", [(image_id, b) for b in blobs])
            self._name(image_id, names, now)
        return image_id

    def _name(self, image_id: str, names: Sequence[str], now: int) -> None:
        if names:
            self.db.execute(f"DELETE FROM manifest_list_names WHERE name IN ({marks(names)})", names)
        self.db.execute_many(
            "INSERT INTO image_names VALUES (?,?,?) ON CONFLICT (name) DO UPDATE SET image_id = excluded.image_id,"
            " added_ns = excluded.added_ns WHERE image_id <> excluded.image_id",
            [(name, image_id, now + position) for position, name in enumerate(names)],
        )

    def tag(self, text: str, names: Sequence[str]) -> None:
        """Give an image further names (short ones belong to localhost), taking them from other images."""
        full = [local_name(name) for name in names]
        with self.db.transaction():
            image_id, _ = resolve(self.db, text)
            self._require_own(text, image_id)
            self._name(image_id, full, time.time_ns())
        for name in full:
            self.db.tell("image", "tag", id=image_id, name=name)

    def _require_own(self, text: str, image_id: str) -> None:
        row = self.db.one("SELECT store FROM images WHERE id = ? AND store <> ''", (image_id,))
        if row is not None:
            raise ReadOnlyImageError(text, row[0])

    def untag(self, text: str, names: Sequence[str] = ()) -> None:
        """Take names away, all where none is given; the image stays."""
        with self.db.transaction():
            image_id, _ = resolve(self.db, text)
            self._require_own(text, image_id)
            taken = []
            if not names:
                held = self.db.query("SELECT name FROM image_names WHERE image_id = ?", (image_id,))
                taken = [name for (name,) in held]
                self.db.execute("DELETE FROM image_names WHERE image_id = ?", (image_id,))
            for name in names:
                found, stored = resolve(self.db, name)
                if found != image_id or not stored:
                    raise NotFound(f"{name}: tag not known")
                self.db.execute("DELETE FROM image_names WHERE name = ?", (stored,))
                taken.append(stored)
        for name in taken:
            self.db.tell("image", "untag", id=image_id, name=name)

    def exists(self, text: str) -> bool:
        """Whether `text` names a stored image."""
        try:
            return find(self.db, text) is not None
        except reference.InvalidReferenceError:
            return False

    def users(self, image_id: str) -> tuple[str, ...]:
        """The ids of the containers that were made from an image."""
        rows = self.db.query("SELECT id FROM containers WHERE image_id = ? ORDER BY created_ns", (image_id,))
        return tuple(r for (r,) in rows)

    def remove(self, text: str, force: bool = False) -> Removed:
        """`rmi`: by one of several names only untags; by the last name or the id removes the image.

        Raises NotFound (exit status 1), ImageInUseError (2): with --force the caller removes the containers that it
        names and calls again.  Works on a full disk.  The files go with `storage.gc.collect`.
        """
        image_id, removed = self.db.write(lambda: self._remove(text, force), frees_space=True)
        for name in removed.untagged:
            self.db.tell("image", "untag", id=image_id, name=name)
        if removed.deleted:
            self.db.tell("image", "remove", id=image_id)
        return removed

    def _remove(self, text: str, force: bool) -> tuple[str, Removed]:
        found = find(self.db, text)
        if found is None:
            raise NotFound(f"{text}: image not known", exit_code=EXIT_NO_SUCH_IMAGE)
        image_id, name = found
        self._require_own(text, image_id)
        rows = self.db.query("SELECT name FROM image_names WHERE image_id = ? ORDER BY added_ns, name", (image_id,))
        names = tuple(n for (n,) in rows)
        if "@" in text and "@" not in name:
            name = ""  # by the manifest's digest: that means the image, as its id does
        if name and len(names) > 1:
            self.db.execute("DELETE FROM image_names WHERE name = ?", (name,))
            return image_id, Removed(untagged=(name,))
        if not name and len(names) > 1 and not force:
            raise Error(
                f"image {text} has more than one name ({', '.join(names)})",
                hint="remove it by name, or use --force",
                exit_code=EXIT_IMAGE_IN_USE,
            )
        if containers := self.users(image_id):
            raise ImageInUseError(text, containers)
        self.db.execute("DELETE FROM images WHERE id = ?", (image_id,))
        return image_id, Removed(untagged=names, deleted=image_id)

    def list(self, image_id: str = "") -> tuple[ImageRow, ...]:
        """All images, newest first, or the one with this full id."""
        db = self.db
        where, args = ("WHERE id = ?", (image_id,)) if image_id else ("WHERE store = ''", ())
        by_image = "WHERE image_id = ?" if image_id else ""
        names: dict[str, list[str]] = {}
        for owner, name in db.query(f"SELECT image_id, name FROM image_names {by_image} ORDER BY added_ns, name", args):
            names.setdefault(owner, []).append(name)
        digests: dict[str, list[str]] = {}
        for owner, digest in db.query(f"SELECT image_id, digest FROM image_digests {by_image}", args):
            digests.setdefault(owner, []).append(digest)
        containers = dict(
            db.query(f"SELECT image_id, count(*) FROM containers {by_image} GROUP BY image_id", args)
        )  # an image is never used without being counted: the reference is checked by the database
        rows = db.query(
            "SELECT id, manifest_digest, manifest_type, created_ns, added_ns, size, architecture, os, variant,"
            f" squashed, store FROM images {where} ORDER BY created_ns DESC, id",
            args,
        )
        return tuple(
            ImageRow(
                id=r[0], manifest_digest=r[1], manifest_type=r[2], names=tuple(names.get(r[0], ())),
                digests=tuple(digests.get(r[0], ())), created_ns=r[3], added_ns=r[4], size=r[5], architecture=r[6],
                os=r[7], variant=r[8], squashed=bool(r[9]), containers=containers.get(r[0], 0), read_only=bool(r[10]),
            )
            for r in rows
        )  # fmt: skip

    def config_text(self, image_id: str) -> str:
        """The configuration's JSON, byte for byte as its digest was taken.  Raises NotFound."""
        row = self.db.one("SELECT config FROM images WHERE id = ?", (image_id,))
        text = str(row[0]) if row is not None else ""
        if row is None and lookup.additional_roots:
            from storage.additional import config_text

            text = config_text(image_id)
        if not text:
            raise NotFound(f"{image_id}: image not known")
        return text

    def config(self, image_id: str) -> ImageConfig:
        """The configuration, read.  Raises NotFound."""
        from storage.imageconfig import parse_config

        return parse_config(self.config_text(image_id).encode())

    def history(self, text: str) -> tuple[HistoryRow, ...]:
        """The steps that made an image, newest first, each with the size of its layer."""
        image_id, _ = resolve(self.db, text)
        sizes = self.db.query(
            "SELECT l.size FROM image_layers i JOIN layers l ON l.key = i.layer_key WHERE i.image_id = ?"
            " ORDER BY i.position",
            (image_id,),
        )
        remaining = [size for (size,) in sizes]
        steps = self.config(image_id).history
        known = {**self.ancestors(image_id), len(steps): image_id}
        rows = []
        for number, step in enumerate(steps, 1):
            size = 0 if step.empty_layer or not remaining else remaining.pop(0)
            owner = known.get(number, "")
            rows.append(
                HistoryRow(
                    id=owner,
                    created=step.created,
                    created_by=step.created_by,
                    size=size,
                    comment=step.comment,
                    tags=self.list(owner)[0].names if owner else (),
                )
            )
        return tuple(reversed(rows))

    def ancestors(self, image_id: str) -> dict[int, str]:
        """The stored images that this one was made from: id by the number of steps of history that they have."""
        config = self.config(image_id)
        others = self.db.query(
            "SELECT DISTINCT o.image_id FROM image_layers i JOIN image_layers o ON o.layer_key = i.layer_key"
            " AND o.position = i.position WHERE i.image_id = ? AND i.position = 0 AND o.image_id <> ?",
            (image_id, image_id),
        )
        found = {}
        for (other,) in others:
            held = self.config(other)
            steps, layers = len(held.history), len(held.diff_ids)
            begins = held.history == config.history[:steps] and held.diff_ids == config.diff_ids[:layers]
            if 0 < steps < len(config.history) and begins:
                found[steps] = other
        return found

    def digest_of(self, text: str) -> str:
        """The digest of the manifest that `text` names: the one given, or the image's own.  Raises NotFound."""
        image_id, _ = resolve(self.db, text)
        given = text.partition("@")[2]
        if is_digest(given):
            return given
        row = self.db.one("SELECT manifest_digest FROM images WHERE id = ?", (image_id,))
        if row is None:
            raise NotFound(f"{text}: image not known")
        return str(row[0])
