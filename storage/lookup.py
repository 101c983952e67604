"""Finding a stored image by its name, digest or id: the look-up that every `run` makes.

Weight: `_sqlite3`, `storage.reference`, `rootless.values`.  Own images come first; where the configuration names
stores that are only read, one that lies there is found too (`storage.additional`).
"""

from __future__ import annotations

from rootless.errors import Error, NotFound
from rootless.values import Value
from storage import hooks, reference
from storage.database import Database
from storage.digest import is_hex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from storage.hooks import ShortNames


class ImageForRun(Value):
    """What a container is made from.

    names: as listed, oldest first; config: the configuration's JSON (`storage.imageconfig.parse_config` reads
    it); lower: the layers' directories, topmost first; root: the directory whose mode and owner the container's
    root has, so its own upper directory must have them ("": root:root 0755).
    """

    id: str  # 64 hex digits
    manifest_digest: str
    names: tuple[str, ...]
    config: str
    lower: tuple[str, ...]
    root: str = ""
    name: str = ""  # the stored name that the given one meant; "" where it was an id


def short_names(text: str) -> Sequence[reference.Reference]:
    """What a short name means where the caller does not say."""
    if hooks.short_names is not None:
        return hooks.short_names(text)
    places = ("localhost", reference.DOCKER_HUB)
    return [reference.with_registry(place, text).with_default_tag() for place in places]


# The roots of stores that are only read, in the order to look.  The engine puts in what is configured.
additional_roots: tuple[str, ...] = ()


def find(db: Database, text: str, names: ShortNames | None = None) -> tuple[str, str] | None:
    """As `find_own`; an image that only an additional store has is noted here (`storage.additional`) and returned."""
    found = find_own(db, text, names)
    if found is None and additional_roots:
        from storage.additional import adopt  # few stores have others beside them

        return adopt(db, additional_roots, lambda other: find_own(other, text, names))
    return found


def find_own(db: Database, text: str, names: ShortNames | None = None) -> tuple[str, str] | None:
    """(image id, the stored name that `text` meant or "") of a local image; None where there is none.

    text: a name, `NAME@DIGEST`, an id or an unambiguous beginning of one (with or without "sha256:").
    A short name means what `names` (else `short_names`) says, then an id, then any stored name that ends in /NAME.
    Raises InvalidReferenceError where it can be neither name nor id.
    """
    if text.startswith("sha256:") and is_hex(text[7:71], max(len(text) - 7, 1)):
        found = _by_id(db, text[7:], text)
        return (found, "") if found else None
    try:
        short = reference.is_short(text)
    except reference.InvalidReferenceError:
        if is_hex(text) and (found := _by_id(db, text, text)):
            return found, ""
        if is_hex(text):
            return None
        raise
    candidates = (names or short_names)(text) if short else [reference.parse(text).with_default_tag()]
    digest = candidates[0].digest
    if digest:
        return _by_digest(db, [c.name for c in candidates], digest, short and reference.split_short(text)[0])
    full = [str(c) for c in candidates]
    rows = db.query(f"SELECT name, image_id FROM image_names WHERE name IN ({marks(full)})", full)
    if rows:
        by_name = dict(rows)
        name = next(n for n in full if n in by_name)
        return by_name[name], name
    if listed := _by_list(db, full):
        return listed, ""
    if is_hex(text, len(text)) and (found := _by_id(db, text, text)):
        return found, ""
    return _by_ending(db, text) if short else None


def _by_id(db: Database, digits: str, text: str) -> str:
    if len(digits) == 64:
        row = db.one("SELECT id FROM images WHERE id = ?", (digits,))
        return row[0] if row else ""
    # A range over the index: LIKE and GLOB would read the whole table.
    rows = db.query("SELECT id FROM images WHERE id >= ? AND id < ? LIMIT 2", (digits, digits + "g"))
    if len(rows) > 1:
        raise Error(f"image id {text} is ambiguous: more than one image begins so", hint="give more digits")
    return rows[0][0] if rows else ""


def _by_digest(db: Database, repositories: list[str], digest: str, ending: str | bool) -> tuple[str, str] | None:
    rows = db.query(
        "SELECT n.name, n.image_id FROM image_digests d JOIN image_names n USING (image_id) WHERE d.digest = ?"
        " ORDER BY n.added_ns",
        (digest,),
    )
    for repository in repositories:
        for name, image_id in rows:
            if _repository(name) == repository:
                return image_id, name
    for name, image_id in rows if ending else ():
        if _repository(name).endswith(f"/{ending}"):
            return image_id, name
    return None


def _by_ending(db: Database, text: str) -> tuple[str, str] | None:
    name, tag, _ = reference.split_short(text)
    ending = f"/{name}:{tag or reference.DEFAULT_TAG}"
    row = db.one(
        "SELECT image_id, name FROM image_names WHERE substr(name, -?) = ? ORDER BY added_ns DESC LIMIT 1",
        (len(ending), ending),
    )
    return (row[0], row[1]) if row else None


def _by_list(db: Database, full: Sequence[str]) -> str:
    """The stored image for this machine of a manifest list of one of these names; "": there is none."""
    rows = db.query(
        "SELECT l.content FROM manifest_list_names n JOIN manifest_lists l ON l.id = n.list_id"
        f" WHERE n.name IN ({marks(full)})",
        full,
    )
    if not rows:
        return ""
    from storage.lists import instance_for  # few names are lists

    row = db.one("SELECT image_id FROM image_digests WHERE digest = ?", (instance_for(rows[0][0]),))
    return row[0] if row else ""


def _repository(name: str) -> str:
    """The part of a stored name before its tag or digest."""
    name = name.partition("@")[0]
    return name[: name.rindex(":")] if ":" in name[name.rfind("/") :] else name


def marks(items: Sequence[object]) -> str:
    """The placeholders of a statement that takes each of `items`."""
    return ",".join("?" * len(items))


def resolve(db: Database, text: str) -> tuple[str, str]:
    """As `find`, raising NotFound."""
    found = find(db, text)
    if found is None:
        raise NotFound(f"{text}: image not known")
    return found


def lookup_for_run(db: Database, text: str) -> ImageForRun | None:
    """The image that `text` names, with all that a container needs of it; None where it is not stored."""
    found = find(db, text)
    if found is None:
        return None
    image_id, name = found
    row = db.one("SELECT manifest_digest, config FROM images WHERE id = ?", (image_id,))
    if row is None:
        return None  # removed between the two queries
    lower, root = layer_directories(db, image_id)
    names = db.query("SELECT name FROM image_names WHERE image_id = ? ORDER BY added_ns, name", (image_id,))
    return ImageForRun(
        id=image_id,
        manifest_digest=row[0],
        names=tuple(n for (n,) in names),
        config=row[1],
        lower=lower,
        root=root,
        name=name,
    )


def layer_directories(db: Database, image_id: str) -> tuple[tuple[str, ...], str]:
    """An image's layer directories, topmost first, and the one that says what its root is like ("": none does)."""
    lower: list[str] = []
    root = ""
    for directory, explicit, opaque in db.query(
        "SELECT l.directory, l.root_explicit, l.root_opaque FROM image_layers i JOIN layers l ON l.key = i.layer_key"
        " WHERE i.image_id = ? ORDER BY i.position DESC",
        (image_id,),
    ):
        lower.append(db.paths.layer(directory))
        root = root or (lower[-1] if explicit else "")
        if opaque:
            break  # overlayfs ignores the mark on a lower layer's root
    return tuple(lower), root
