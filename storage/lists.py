"""Manifest lists that are made here: images for several platforms under one name, to be pushed as an index.

Weight: `storage.images`, `storage.manifest`, `storage.platforms`.

A list's content is JSON: the index without its media type, which follows from the entries.  The manifests and blobs of
the entries are kept with it (`storage.kept`), so a list stays whole when an image that it was made from is removed.
"""

from __future__ import annotations

import os
import time

from rootless.errors import Error, NotFound
from rootless.values import Value, dumps, loads
from storage import images, lookup, reference
from storage.digest import is_hex
from storage.images import local_name
from storage.kept import keep, kept
from storage.manifest import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, Index, parse_manifest
from storage.platforms import Platform, host_platform, matches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from storage.database import Database
    from storage.manifest import Descriptor

# Of an entry, in the order in which they are shown.
_ENTRY_KEYS = ("mediaType", "size", "digest", "platform", "annotations", "artifactType")
_PLATFORM_KEYS = ("architecture", "os", "os.version", "os.features", "variant", "features")


class ListRow(Value):
    """One list.  names: as listed, oldest first."""

    id: str
    names: tuple[str, ...]
    created_ns: int
    content: str


def instance_for(content: str) -> str:
    """The digest of a list's manifest for this machine; "": there is none."""
    host = host_platform()
    for entry in loads(content).get("manifests", []):
        held = entry.get("platform") or {}
        offered = Platform(
            os=held.get("os", ""), architecture=held.get("architecture", ""), variant=held.get("variant", "")
        )
        if matches(host, offered):
            return str(entry["digest"])
    return ""


def render(content: dict[str, Any]) -> dict[str, Any]:
    """The index that a list's content is pushed as."""
    entries = content.get("manifests", [])
    docker = all(entry["mediaType"] == DOCKER_MANIFEST and not entry.get("annotations") for entry in entries)
    if content.get("annotations") or content.get("subject") or content.get("artifactType"):
        docker = False
    tree: dict[str, Any] = {"schemaVersion": 2, "mediaType": DOCKER_LIST if docker else OCI_INDEX}
    if content.get("artifactType"):
        tree["artifactType"] = content["artifactType"]
    tree["manifests"] = [{key: entry[key] for key in _ENTRY_KEYS if entry.get(key)} for entry in entries]
    for key in ("annotations", "subject"):
        if content.get(key):
            tree[key] = content[key]
    return tree


def index_of(content: dict[str, Any]) -> Index:
    """The same, parsed."""
    found = parse_manifest(dumps(render(content)).encode())
    assert isinstance(found, Index)
    return found


def make_entry(descriptor: Descriptor, platform: dict[str, Any] | None) -> dict[str, Any]:
    """A list's entry for a manifest.  platform: the fields of its configuration, None for an artifact."""
    entry: dict[str, Any] = {
        "mediaType": descriptor.media_type,
        "size": descriptor.size,
        "digest": descriptor.digest,
    }
    if platform is not None:
        entry["platform"] = {key: platform[key] for key in _PLATFORM_KEYS if platform.get(key)}
    if descriptor.annotations:
        entry["annotations"] = dict(descriptor.annotations)
    if descriptor.artifact_type:
        entry["artifactType"] = descriptor.artifact_type
    return entry


def change_entry(entry: dict[str, Any], platform: dict[str, Any], annotations: dict[str, str]) -> None:
    """Put what was given into an entry.  Another architecture takes the variant along, which was the former one's."""
    if platform:
        held = dict(entry.get("platform") or {})
        if platform.get("architecture", held.get("architecture")) != held.get("architecture"):
            held.pop("variant", None)
        held.update(platform)
        entry["platform"] = {key: held[key] for key in _PLATFORM_KEYS if held.get(key)}
    if annotations:
        entry["annotations"] = {**entry.get("annotations", {}), **annotations}


class ListStore:
    """The lists of one store."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def find(self, text: str) -> tuple[str, str] | None:
        """(id, the stored name that `text` meant or ""); None where there is no such list."""
        try:
            short = reference.is_short(text)
            candidates = lookup.short_names(text) if short else [reference.parse(text).with_default_tag()]
        except reference.InvalidReferenceError:
            candidates = []
        for name in [str(candidate) for candidate in candidates]:
            row = self.db.one("SELECT list_id FROM manifest_list_names WHERE name = ?", (name,))
            if row:
                return row[0], name
        if is_hex(text, len(text)):
            rows = self.db.query("SELECT id FROM manifest_lists WHERE id >= ? AND id < ? LIMIT 2", (text, text + "g"))
            if len(rows) == 1:
                return rows[0][0], ""
        return None

    def resolve(self, text: str) -> str:
        """The id.  Raises NotFound, or Error where `text` is an image."""
        found = self.find(text)
        if found is not None:
            return found[0]
        try:
            image = lookup.find(self.db, text)
        except reference.InvalidReferenceError:
            image = None
        if image is not None:
            raise Error(f"{text}: image is not a manifest list")
        raise NotFound(f"{text}: image not known")

    def list(self) -> tuple[ListRow, ...]:
        """All lists, newest first."""
        names: dict[str, list[str]] = {}
        for name, owner in self.db.query("SELECT name, list_id FROM manifest_list_names ORDER BY added_ns, name"):
            names.setdefault(owner, []).append(name)
        rows = self.db.query("SELECT id, created_ns, content FROM manifest_lists ORDER BY created_ns DESC, id")
        return tuple(ListRow(id=r[0], names=tuple(names.get(r[0], ())), created_ns=r[1], content=r[2]) for r in rows)

    def image_rows(self) -> tuple[images.ImageRow, ...]:
        """The lists as lines of `images`."""
        rows = []
        for row in self.list():
            index = index_of(loads(row.content))
            rows.append(
                images.ImageRow(
                    id=row.id,
                    manifest_digest=index.digest,
                    manifest_type=index.media_type,
                    names=row.names,
                    digests=(index.digest,),
                    created_ns=row.created_ns,
                    added_ns=row.created_ns,
                    size=len(index.raw),
                    architecture="",
                    os="",
                    is_list=True,
                )
            )
        return tuple(rows)

    def content(self, list_id: str) -> dict[str, Any]:
        """What is in a list.  Raises NotFound."""
        row = self.db.one("SELECT content FROM manifest_lists WHERE id = ?", (list_id,))
        if row is None:
            raise NotFound(f"{list_id}: manifest list not known")
        tree: dict[str, Any] = loads(row[0])
        return tree

    def create(self, text: str, annotations: dict[str, str], amend: bool) -> str:
        """A new list of this name, or with `amend` the one that has it; returns its id.  Raises Error."""
        name = local_name(text)

        def make() -> str:
            held = self.db.one("SELECT list_id FROM manifest_list_names WHERE name = ?", (name,))
            if held is None:
                image = self.db.one("SELECT image_id FROM image_names WHERE name = ?", (name,))
                if image is not None:
                    raise Error(f"the name {name} is that of image {image[0][:12]}", hint="choose another name")
            elif not amend:
                raise Error(f"manifest list {name} exists already", hint="--amend adds to it")
            else:
                self._change(held[0], lambda tree: _annotate(tree, annotations))
                return str(held[0])
            list_id = os.urandom(32).hex()
            tree: dict[str, Any] = {"manifests": []}
            _annotate(tree, annotations)
            now = time.time_ns()
            self.db.execute("INSERT INTO manifest_lists VALUES (?,?,?)", (list_id, now, dumps(tree)))
            self.db.execute("INSERT INTO manifest_list_names VALUES (?,?,?)", (name, list_id, now))
            return list_id

        return self.db.write(make)

    def add(self, list_id: str, entries: Sequence[dict[str, Any]], blobs: Iterable[str]) -> None:
        """Append entries, in the place of those with the same digest.  `blobs`: theirs, stored and synced."""
        digests = {entry["digest"] for entry in entries}

        def change(tree: dict[str, Any]) -> None:
            tree["manifests"] = [e for e in tree["manifests"] if e["digest"] not in digests] + list(entries)

        def write() -> None:
            self._change(list_id, change)
            keep(self.db, f"list {list_id}", kept(self.db, f"list {list_id}") | set(blobs))

        self.db.write(write)

    def change(self, list_id: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Let `change` alter the content.  Raises NotFound, and what it raises; nothing is changed then."""
        self.db.write(lambda: self._change(list_id, change))

    def _change(self, list_id: str, change: Callable[[dict[str, Any]], None]) -> None:
        tree = self.content(list_id)
        change(tree)
        self.db.execute("UPDATE manifest_lists SET content = ? WHERE id = ?", (dumps(tree), list_id))

    def tag(self, list_id: str, names: Sequence[str]) -> None:
        """Give a list further names, taking them from other lists and images."""
        full = [local_name(name) for name in names]

        def write() -> None:
            for number, name in enumerate(full):
                self.db.execute("DELETE FROM image_names WHERE name = ?", (name,))
                self.db.execute(
                    "INSERT INTO manifest_list_names VALUES (?,?,?) ON CONFLICT (name) DO UPDATE"
                    " SET list_id = excluded.list_id, added_ns = excluded.added_ns",
                    (name, list_id, time.time_ns() + number),
                )

        self.db.write(write)

    def untag(self, list_id: str, names: Sequence[str]) -> None:
        """Take names away, all where none is given; the list stays.  Raises NotFound."""
        stored = []
        for name in names:
            found = self.find(name)
            if found is None or found[0] != list_id or not found[1]:
                raise NotFound(f"{name}: tag not known")
            stored.append(found[1])

        def write() -> None:
            if not names:
                self.db.execute("DELETE FROM manifest_list_names WHERE list_id = ?", (list_id,))
            for name in stored:
                self.db.execute("DELETE FROM manifest_list_names WHERE name = ?", (name,))

        self.db.write(write)

    def remove(self, text: str) -> images.Removed:
        """By one of several names only untags; the last name or the id removes the list.  Works on a full disk.

        Raises NotFound (exit status 1).
        """
        found = self.find(text)
        if found is None:
            raise NotFound(f"{text}: image not known", exit_code=images.EXIT_NO_SUCH_IMAGE)
        list_id, name = found

        def write() -> images.Removed:
            rows = self.db.query(
                "SELECT name FROM manifest_list_names WHERE list_id = ? ORDER BY added_ns, name", (list_id,)
            )
            names = tuple(n for (n,) in rows)
            if name and len(names) > 1:
                self.db.execute("DELETE FROM manifest_list_names WHERE name = ?", (name,))
                return images.Removed(untagged=(name,))
            self.db.execute("DELETE FROM manifest_lists WHERE id = ?", (list_id,))
            self.db.execute("DELETE FROM kept_blobs WHERE owner = ?", (f"list {list_id}",))
            return images.Removed(untagged=names, deleted=list_id)

        return self.db.write(write, frees_space=True)


def _annotate(tree: dict[str, Any], annotations: dict[str, str]) -> None:
    if annotations:
        tree["annotations"] = {**tree.get("annotations", {}), **annotations}


def position_of(tree: dict[str, Any], digest: str, what: str) -> int:
    """Where a list has the manifest with this digest.  Raises NotFound."""
    for position, entry in enumerate(tree["manifests"]):
        if entry["digest"] == digest:
            return position
    raise NotFound(f"{what}: it has no manifest {digest}", hint=f"pyctl manifest inspect {what} shows them")
