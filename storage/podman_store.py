"""Reading Podman's store (containers/storage): its images, and each layer as the very archive that was pulled.

Weight: `rootless.values`, `base64`, `zlib` through `storage.compression`; loaded for `containers-storage:` only.  Runs
as uid 0 of the user's namespace, because the files of layers belong to subordinate ids.

What is there (containers-storage(5), the overlay and the vfs driver):

    <root>/<driver>-images/images.json          ids, names, the top layer, the names of the big data
    <root>/<driver>-images/<id>/<key>           manifest and configuration; a key that is no plain name is "=" + base64
    <root>/<driver>-layers/layers.json          ids, parents, diff ids
    <root>/<driver>-layers/<id>.tar-split.gz    everything of the archive but the files' contents, in order
    <root>/overlay/<id>/diff, <root>/vfs/dir/<id>

A layer is put together from its tar-split and its files, so it has its diff id again; compressed forms are not kept
there, so a manifest that names those cannot be had back, and the layers come as they are.  Nothing there is trusted:
names are opened inside the layer only, digests are verified by who reads.
"""

from __future__ import annotations

import base64
import os
import stat

from rootless import libc, userns
from rootless.errors import Error, NotFound, UsageError, os_error_text
from rootless.fds import read_file
from rootless.values import Value, loads
from storage import digest as digests
from storage import fields, reference
from storage.compression import open_decompressed
from storage.imageconfig import MAX_CONFIG_BYTES, parse_config
from storage.manifest import MAX_MANIFEST_BYTES, Manifest, parse_manifest
from storage.threaded import ThreadedReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from typing import Any

    from storage.hooks import ShortNames

DRIVERS = ("overlay", "vfs")
_MAX_DATABASE = 256 << 20
_MAX_LINE = 8 << 20  # of a tar-split: a header's bytes, in base64
_FILE, _SEGMENT = 1, 2  # https://github.com/vbatts/tar-split, tar/storage/entry.go
_CHUNK = 1 << 20


class StorePlace(Value):
    """`[DRIVER@ROOT+RUNROOT:OPTIONS]NAME`: driver and root "" where the name alone is given."""

    driver: str = ""
    root: str = ""
    name: str = ""


class PodmanLayer(Value):
    """One layer: `size` is of its archive."""

    id: str
    diff_id: str
    size: int


class PodmanImage(Value):
    """One image.  layers: lowest first; manifest: as it came, whose blobs may be compressed ones."""

    id: str
    names: tuple[str, ...]
    manifest: Manifest
    config: bytes
    layers: tuple[PodmanLayer, ...]


def parse_place(text: str) -> StorePlace:
    """What follows `containers-storage:`.  Raises UsageError."""
    if not text.startswith("["):
        return StorePlace(name=text)
    spec, bracket, name = text[1:].partition("]")
    if not bracket or not name:
        raise UsageError(f"containers-storage:{text}: [DRIVER@ROOT]NAME is expected")
    driver, at, rest = spec.rpartition("@")
    root = rest.partition("+")[0].partition(":")[0]
    if not root.startswith("/") or (at and driver not in DRIVERS):
        raise UsageError(f"containers-storage:{text}: {' or '.join(DRIVERS)}@/ROOT is expected between the brackets")
    return StorePlace(driver=driver, root=root, name=name)


def default_root(env: Mapping[str, str]) -> str:
    """Where this user's Podman keeps its store: storage.conf's word, or the usual place."""
    home = env.get("HOME", "")
    data = env.get("XDG_DATA_HOME") or f"{home}/.local/share"
    config = env.get("CONTAINERS_STORAGE_CONF") or (
        f"{env.get('XDG_CONFIG_HOME') or home + '/.config'}/containers/storage.conf"
    )
    if os.path.exists(config):
        import tomllib

        try:
            table = tomllib.loads(read_file(config).decode()).get("storage", {})
        except (OSError, ValueError) as error:
            raise Error(f"cannot read {config}: {error}") from error
        named = table.get("rootless_storage_path") or table.get("graphroot") if type(table) is dict else ""
        if type(named) is str and named:
            user = str(userns.host_uid())
            return named.replace("$HOME", home).replace("$UID", user).replace("$USER", env.get("USER", user))
    return f"{data}/containers/storage"


class PodmanStore:
    """One store, for reading.  Raises NotFound where there is none, Error where it is another user's."""

    def __init__(self, root: str, driver: str = "") -> None:
        self.root = root
        try:
            held = os.stat(root)
        except OSError as error:
            raise NotFound(os_error_text(error, f"containers-storage: {root}")) from error
        if held.st_uid != os.getuid():
            raise Error(f"containers-storage: {root} belongs to another user")
        there = [name for name in DRIVERS if os.path.exists(f"{root}/{name}-images/images.json")]
        if driver and driver not in there:
            there = []
        if not there:
            raise NotFound(f"containers-storage: {root} holds no images{' of driver ' + driver if driver else ''}")
        self.driver = driver or there[0]
        self._layers = {fields.text(row, "id", "layers.json"): row for row in self._rows("layers")}

    def find(self, name: str, short_names: ShortNames) -> PodmanImage:
        """The image of a name, `@ID` or an id.  Raises NotFound, Error."""
        what = f"containers-storage:{name}"
        digits = name.removeprefix("@")
        wanted: Sequence[reference.Reference] = ()
        if not name.startswith("@"):
            try:
                short = reference.is_short(name)
                wanted = short_names(name) if short else [reference.parse(name).with_default_tag()]
            except reference.InvalidReferenceError:
                pass
        by_id = []
        rows = self._rows("images")
        for candidate in wanted:
            for row in rows:
                if _is_named(row, candidate, what):
                    return self._image(row, what)
        for row in rows:
            held = fields.text(row, "id", what)
            if len(digits) >= 3 and digests.is_hex(digits, len(digits)) and held.startswith(digits):
                by_id.append(row)
        if len(by_id) == 1:
            return self._image(by_id[0], what)
        if by_id:
            raise Error(f"{what}: more than one image's id begins so", hint="give more digits")
        raise NotFound(f"{what}: no such image in {self.root}", hint="podman images lists them")

    def names(self) -> tuple[str, ...]:
        """Every name that an image has here."""
        return tuple(name for row in self._rows("images") for name in fields.texts(row, "names", "images.json"))

    def open_layer(self, layer: PodmanLayer) -> LayerReader:
        """The layer's archive; not verified."""
        return LayerReader(self, layer)

    # --- the databases ---------------------------------------------------------------------------

    def _rows(self, kind: str) -> list[dict[str, Any]]:
        path = f"{self.root}/{self.driver}-{kind}/{kind}.json"
        try:
            tree = loads(read_file(path, limit=_MAX_DATABASE))
        except OSError as error:
            raise NotFound(os_error_text(error, path)) from error
        except ValueError as error:
            raise Error(f"{path} is not JSON: {error}") from error
        if type(tree) is not list or any(type(row) is not dict for row in tree):
            raise Error(f"{path} is no list of objects")
        return tree

    def _image(self, row: dict[str, Any], what: str) -> PodmanImage:
        image_id = fields.text(row, "id", what)
        if not digests.is_hex(image_id):
            raise Error(f"{what}: an image's id is malformed")
        manifest = parse_manifest(self._big_data(image_id, "manifest", MAX_MANIFEST_BYTES), what=f"{what}: manifest")
        if not isinstance(manifest, Manifest):
            raise Error(f"{what} is an index", hint="name one of its images by its id")
        config = self._big_data(image_id, manifest.config.digest, MAX_CONFIG_BYTES)
        digests.verify(config, manifest.config.digest, f"{what}: the configuration")
        layers = self._chain(fields.text(row, "layer", what), what)
        wanted = parse_config(config, f"{what}: the configuration").diff_ids
        if tuple(layer.diff_id for layer in layers) != wanted:
            raise Error(f"{what}: its layers are not those that the configuration names")
        names = tuple(name for name in fields.texts(row, "names", what) if "@" not in name)
        return PodmanImage(id=image_id, names=names, manifest=manifest, config=config, layers=layers)

    def _chain(self, top: str, what: str) -> tuple[PodmanLayer, ...]:
        found: list[PodmanLayer] = []
        at = top
        while at:
            row = self._layers.get(at)
            if row is None or len(found) > len(self._layers) or not digests.is_hex(at):
                raise Error(f"{what}: its layer {at[:80]!r} is not there", hint="podman system check tells more")
            diff_id = digests.check(row.get("diff-digest"), f"{what}: layer {at}")
            size = fields.whole(row, "diff-size", what)
            found.append(PodmanLayer(id=at, diff_id=diff_id, size=max(size, 0)))
            at = fields.text(row, "parent", what)
        return tuple(reversed(found))

    def _big_data(self, image_id: str, key: str, limit: int) -> bytes:
        plain = all(c in "abcdefghijklmnopqrstuvwxyz0123456789." for c in key)
        name = key if plain else "=" + base64.b64encode(key.encode()).decode()
        path = f"{self.root}/{self.driver}-images/{image_id}/{name}"
        try:
            return read_file(path, limit=limit + 1)
        except OSError as error:
            raise NotFound(os_error_text(error, path)) from error

    # --- layers ----------------------------------------------------------------------------------

    def directory(self, layer: PodmanLayer) -> str:
        """Where the layer's files are."""
        below = f"overlay/{layer.id}/diff" if self.driver == "overlay" else f"vfs/dir/{layer.id}"
        return f"{self.root}/{below}"

    def recipe(self, layer: PodmanLayer) -> str:
        """The layer's tar-split."""
        return f"{self.root}/{self.driver}-layers/{layer.id}.tar-split.gz"


def _is_named(row: dict[str, Any], wanted: reference.Reference, what: str) -> bool:
    names = fields.texts(row, "names", what)
    if not wanted.digest:
        return str(wanted) in names
    return wanted.digest in fields.text_table(row, "big-data-digests", what).values() and any(
        name.startswith((f"{wanted.name}:", f"{wanted.name}@")) for name in names
    )


class LayerReader:
    """A layer's archive as a byte stream, put together by a thread of its own; a context manager."""

    def __init__(self, store: PodmanStore, layer: PodmanLayer) -> None:
        self.size = 0  # what it takes in Podman's store says nothing of what it is compressed to
        self._reader = ThreadedReader(_assembled(store, layer), f"layer {digests.short(layer.diff_id)}")

    def read(self, size: int, /) -> bytes:
        return self._reader.read(size)

    def cancel(self) -> None:
        """Files never keep a reader waiting: nothing has to be ended."""

    def close(self) -> None:
        """End the thread."""
        self._reader.close()

    def __enter__(self) -> LayerReader:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _assembled(store: PodmanStore, layer: PodmanLayer) -> Generator[bytes, None, None]:
    what = f"layer {layer.diff_id} of {store.root}"
    try:
        root = os.open(store.directory(layer), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise NotFound(os_error_text(error, what)) from error
    try:
        for entry in _entries(store.recipe(layer), what):
            kind = entry.get("type")
            if kind == _SEGMENT:
                yield base64.b64decode(entry.get("payload") or "")
            elif kind == _FILE:
                size = fields.whole(entry, "size", what)
                if size > 0:
                    raw = entry.get("name_raw")
                    name = base64.b64decode(raw) if raw else fields.text(entry, "name", what).encode()
                    yield from _content(root, name, size, what)
            else:
                raise Error(f"{what}: its tar-split has an entry of an unknown type")
    except (TypeError, ValueError) as error:
        raise Error(f"{what}: its tar-split is damaged: {error}") from error
    finally:
        os.close(root)


def _entries(path: str, what: str) -> Iterator[dict[str, Any]]:
    """The lines of a tar-split, each a JSON object."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NotFound(os_error_text(error, f"{what}: its tar-split")) from error
    try:
        reader = open_decompressed(_Descriptor(fd), f"{what}: its tar-split")
        rest = b""
        while data := reader.read(_CHUNK):
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > _MAX_LINE:
                raise Error(f"{what}: its tar-split is malformed")
            for line in lines:
                if line:
                    yield fields.parse_object(line, f"{what}: its tar-split", _MAX_LINE)
        if rest.strip():
            yield fields.parse_object(rest, f"{what}: its tar-split", _MAX_LINE)
    finally:
        os.close(fd)


class _Descriptor:
    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, size: int, /) -> bytes:
        return os.read(self._fd, size)


def _content(root: int, name: bytes, size: int, what: str) -> Iterator[bytes]:
    """The `size` bytes of a file of the layer; links on the way are those of the layer, the last part is none."""
    shown = name.decode("utf-8", "replace")[:200]
    try:
        fd = libc.open_in_root(root, name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise Error(os_error_text(error, f"{what}: file {shown}")) from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Error(f"{what}: {shown} is not the regular file that it was")
        while size:
            data = os.read(fd, min(size, _CHUNK))
            if not data:
                raise Error(f"{what}: file {shown} is shorter than it was")
            size -= len(data)
            yield data
    finally:
        os.close(fd)
