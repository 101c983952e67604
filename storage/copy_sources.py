"""Where an image is read from without a store: a registry, archives, directories, Podman's store.

Weight: `storage.archive_files`; `storage.registry` (urllib3) for docker:, `storage.podman_store` for its own.  Used by
`copy`, `inspect TRANSPORT:…` and the signatures' look-up.
"""

from __future__ import annotations

from rootless.errors import Error, NotFound, UsageError
from rootless.values import dumps
from storage import digest as digests
from storage import fields, registries_conf
from storage.archive_files import DirectoryFiles, read_document
from storage.archives import PODMAN, REF_NAME, TRANSPORTS, Transport, open_archive, parse_transport
from storage.compression import Bounded, detect, open_decompressed
from storage.digest import DigestError
from storage.imageconfig import MAX_CONFIG_BYTES, parse_config
from storage.manifest import (
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    OCI_INDEX,
    Descriptor,
    Index,
    Manifest,
    parse_manifest,
)
from storage.manifest_convert import layer_type
from storage.reference import Reference, parse
from storage.registry_connect import connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol, Self

    from storage.archive_files import Files
    from storage.hooks import ShortNames
    from storage.registries_conf import RegistriesConf
    from storage.registry import Registry
    from storage.registry_connect import Access

    class Bytes(Protocol):
        """A byte stream that is closed."""

        def read(self, size: int, /) -> bytes: ...
        def close(self) -> None: ...

    class Source(Protocol):
        """One name of one place.

        what: begins messages; kind: its transport; path, ref: of files; reference: the full name that it stands for,
        None for files.
        """

        what: str
        kind: str
        path: str
        ref: str

        @property
        def reference(self) -> Reference | None: ...
        def document(self, digest: str = "") -> Manifest | Index: ...
        def open(self, descriptor: Descriptor) -> Bytes: ...
        def cancel(self) -> None: ...
        def close(self) -> None: ...
        def __enter__(self) -> Self: ...
        def __exit__(self, *error: object) -> None: ...


REGISTRY = "docker"
KINDS = (REGISTRY, *TRANSPORTS, PODMAN)
_CHUNK = 1 << 20
_ELSEWHERE = ("docker-daemon", "ostree", "sif", "tarball", "atomic")


def parse_any(text: str) -> Transport:
    """`docker://NAME`, `oci:DIR:REF` and the other names of images with their transport.  Raises UsageError."""
    kind, colon, rest = text.partition(":")
    if colon and kind in _ELSEWHERE:
        raise UsageError(f"{text}: the transport {kind}: is not available", hint=f"there are {', '.join(KINDS)}")
    if kind == REGISTRY and rest.startswith("//"):
        return Transport(kind=kind, path=str(parse(rest[2:]).with_default_tag()))
    if kind == PODMAN and rest:
        return Transport(kind=kind, path=rest)
    found = parse_transport(text)
    if found is None:
        raise UsageError(
            f"{text}: no transport is named", hint=f"docker://{text} for a registry, or {', '.join(KINDS[1:])}"
        )
    return found


def open_source(
    place: Transport,
    access: Access,
    env: Mapping[str, str],
    conf: RegistriesConf,
    *,
    temporary: str,
    short_names: ShortNames | None = None,
    anonymous: bool = False,
) -> Source:
    """The source that `place` names.  temporary: a directory for what must be decompressed first.

    Raises NotFound, Error.  For containers-storage: the process must be root of the user's namespace.
    """
    if place.kind == REGISTRY:
        return RegistrySource(parse(place.path), access, env, conf, anonymous)
    if place.kind == PODMAN:
        from storage.lookup import short_names as usual

        return PodmanSource(place.path, env, short_names or usual)
    if place.kind == "dir":
        return DirSource(place.path)
    if place.kind == "oci":
        return LayoutSource(DirectoryFiles(place.path), place)
    files, kind = open_archive(temporary, place.path)
    if kind != place.kind:
        files.close()
        raise Error(f"{place.path} is no {place.kind}", hint=f"it looks like {kind}:")
    return LayoutSource(files, place) if kind == "oci-archive" else DockerArchiveSource(files, place)


class _Base:
    what = ""
    kind = ""
    path = ref = ""
    reference: Reference | None = None

    def cancel(self) -> None:
        """End every transfer."""

    def close(self) -> None:
        """Let go of everything."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class RegistrySource(_Base):
    """A name in a registry, or in the first of its mirrors that has it."""

    kind = REGISTRY
    reference: Reference

    def __init__(
        self,
        name: Reference,
        access: Access,
        env: Mapping[str, str],
        conf: RegistriesConf,
        anonymous: bool = False,
    ) -> None:
        self.reference = name
        self.what = f"docker://{name}"
        errors: list[Error] = []
        for place in registries_conf.sources(conf, name):
            registry = connect(place, access, env, conf, anonymous)
            try:
                fetched = registry.manifest(place.reference)
                self._top = parse_manifest(fetched.raw, fetched.content_type, f"{self.what}: manifest")
            except Error as error:
                registry.close()
                errors.append(error)
                continue
            except BaseException:
                registry.close()
                raise
            self.registry: Registry = registry
            self.place = place.reference
            return
        if len(errors) == 1:
            raise errors[0]
        said = "; ".join(error.message for error in errors)
        raise Error(f"{self.what}: neither its mirrors nor its registry give it: {said}", hint=errors[-1].hint)

    def document(self, digest: str = "") -> Manifest | Index:
        """The manifest or index that the name or `digest` stands for.  Raises NotFound, Error."""
        if not digest:
            return self._top
        fetched = self.registry.manifest(self.place.replace(digest=digest))
        return parse_manifest(fetched.raw, fetched.content_type, f"{self.what}: manifest {digest}")

    def open(self, descriptor: Descriptor) -> Bytes:
        """A blob's bytes; not verified."""
        return self.registry.blob(self.place.path, descriptor, f"{self.what}: blob {descriptor.digest}")

    def tags(self) -> tuple[str, ...]:
        """Every tag of the repository."""
        return self.registry.tags(self.place)

    def cancel(self) -> None:
        """End every transfer."""
        self.registry.cancel()

    def close(self) -> None:
        """Close the connections."""
        self.registry.close()


class LayoutSource(_Base):
    """An image of an OCI layout, in a directory or an archive.  Owns `files`."""

    def __init__(self, files: Files, place: Transport) -> None:
        self.kind, self.path, self.ref = place.kind, place.path, place.ref
        self.what = f"{place.kind}:{place.path}{':' + place.ref if place.ref else ''}"
        self._files = files
        try:
            what = f"{files.what}: index.json"
            top = parse_manifest(read_document(files, "index.json"), OCI_INDEX, what)
            assert isinstance(top, Index)
            self._entry = self._chosen(top, place.ref)
        except BaseException:
            files.close()
            raise

    def _chosen(self, top: Index, ref: str) -> Descriptor:
        names = [entry.annotations.get(REF_NAME, "") for entry in top.manifests]
        found = [entry for entry, name in zip(top.manifests, names, strict=True) if not ref or name == ref]
        if len(found) == 1:
            return found[0]
        there = f"there is: {', '.join(sorted(filter(None, names)))}" if any(names) else ""
        if not found:
            raise NotFound(f"{self.what}: no such image in the layout", hint=there)
        raise Error(f"{self.what}: the layout holds {len(found)} images", hint=there or "name one with :REF")

    def document(self, digest: str = "") -> Manifest | Index:
        """The manifest or index, verified.  Raises NotFound, Error."""
        wanted = digest or self._entry.digest
        what = f"{self.what}: manifest {wanted}"
        raw = read_document(self._files, blob_path(wanted))
        digests.verify(raw, wanted, what)
        return parse_manifest(raw, "" if digest else self._entry.media_type, what)

    def open(self, descriptor: Descriptor) -> Bytes:
        """A blob's bytes; not verified."""
        return self._files.open(blob_path(descriptor.digest))

    def close(self) -> None:
        """Close the files."""
        self._files.close()


class DirSource(_Base):
    """What `dir:` holds: manifest.json, blobs by their hex digits, `<hex>.manifest.json` for the images of an index."""

    kind = "dir"

    def __init__(self, path: str) -> None:
        self.what = f"dir:{path}"
        self.path = path
        self.files = DirectoryFiles(path)

    def document(self, digest: str = "") -> Manifest | Index:
        """The manifest or index, verified where a digest is asked for.  Raises NotFound, Error."""
        name = f"{digest.partition(':')[2]}.manifest.json" if digest else "manifest.json"
        raw = read_document(self.files, name)
        if digest:
            digests.verify(raw, digest, f"{self.what}: {name}")
        return parse_manifest(raw, "", f"{self.what}: {name}")

    def open(self, descriptor: Descriptor) -> Bytes:
        """A blob's bytes; not verified."""
        return self.files.open(digests.split(descriptor.digest)[1])

    def close(self) -> None:
        """Close the directory."""
        self.files.close()


class _Plain(_Base):
    """Sources that have layers uncompressed and no manifest of their own: one is made."""

    manifest: Manifest

    def document(self, digest: str = "") -> Manifest | Index:
        """The manifest that was made."""
        if digest and digest != self.manifest.digest:
            raise NotFound(f"{self.what}: there is no manifest {digest}")
        return self.manifest


class DockerArchiveSource(_Plain):
    """One image of `docker save`'s form.  Owns `files`."""

    kind = "docker-archive"

    def __init__(self, files: Files, place: Transport) -> None:
        self.what = f"docker-archive:{place.path}{':' + place.ref if place.ref else ''}"
        self.path, self.ref = place.path, place.ref
        self._files = files
        self._paths: dict[str, str] = {}
        try:
            self._read(place.ref)
        except BaseException:
            files.close()
            raise

    def _read(self, ref: str) -> None:
        from storage.archives import docker_rows

        rows = docker_rows(self._files, ref)
        if len(rows) > 1:
            names = [name for _, tags in rows for name in tags]
            raise Error(f"{self.what} holds {len(rows)} images", hint=f"name one: {', '.join(names)}")
        row, _ = rows[0]
        what = f"{self._files.what}: manifest.json"
        self._config = read_document(self._files, fields.text(row, "Config", what))
        parsed = parse_config(self._config, f"{self.what}: the configuration")
        paths = fields.texts(row, "Layers", what)
        if len(paths) != len(parsed.diff_ids):
            raise Error(f"{what} has {len(paths)} layers, the configuration {len(parsed.diff_ids)} diff_ids")
        layers = []
        for path, diff_id in zip(paths, parsed.diff_ids, strict=True):
            self._paths[diff_id] = path
            layers.append((diff_id, self._plain_size(path)))
        self.manifest = plain_manifest(self._config, layers)

    def _plain_size(self, path: str) -> int:
        """The bytes of the uncompressed layer; some tools compress the layers inside."""
        with self._files.open(path) as reader:
            if not detect(reader.read(6)):
                return reader.size
        plain = Decompressed(self._files.open(path), f"{self.what}: {path}")
        try:
            return sum(len(part) for part in iter(lambda: plain.read(_CHUNK), b""))
        finally:
            plain.close()

    def open(self, descriptor: Descriptor) -> Bytes:
        """A layer's uncompressed bytes, or the configuration's; not verified."""
        if descriptor.digest == self.manifest.config.digest:
            return Memory(self._config)
        return Decompressed(self._files.open(self._paths[descriptor.digest]), f"{self.what}: {descriptor.digest}")

    def close(self) -> None:
        """Close the archive."""
        self._files.close()


class PodmanSource(_Plain):
    """An image of Podman's store; its manifest is kept where the blobs that it names can be had."""

    kind = PODMAN

    def __init__(self, text: str, env: Mapping[str, str], short_names: ShortNames) -> None:
        from storage.podman_store import PodmanStore, default_root, parse_place

        self.what = f"containers-storage:{text}"
        place = parse_place(text)
        self.store = PodmanStore(place.root or default_root(env), place.driver)
        self.image = image = self.store.find(place.name, short_names)
        self.layers = {layer.diff_id: layer for layer in image.layers}
        if image.names:
            self.reference = parse(image.names[0])
        held = tuple(layer.digest for layer in image.manifest.layers)
        self.keeps_manifest = held == tuple(layer.diff_id for layer in image.layers)
        if self.keeps_manifest:
            self.manifest = image.manifest
        else:
            self.manifest = plain_manifest(image.config, [(x.diff_id, x.size) for x in image.layers])

    def open(self, descriptor: Descriptor) -> Bytes:
        """A layer's uncompressed bytes, or the configuration's; not verified."""
        if descriptor.digest == self.manifest.config.digest:
            return Memory(self.image.config)
        return self.store.open_layer(self.layers[descriptor.digest])


class Memory:
    """Bytes as a source of a blob."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int, /) -> bytes:
        out, self._data = self._data[:size], self._data[size:]
        return out

    def close(self) -> None:
        """Nothing is held."""


class _Counted:
    """Counts for a `Decompressed` what it takes."""

    def __init__(self, owner: Decompressed, reader: Bytes) -> None:
        self._owner = owner
        self._reader = reader

    def read(self, size: int, /) -> bytes:
        data = self._reader.read(size)
        self._owner.taken += len(data)
        return data


class Decompressed:
    """A blob's uncompressed bytes; owns the reader of the compressed ones."""

    def __init__(self, reader: Bytes, what: str) -> None:
        self._reader = reader
        self.taken = 0
        self._plain = Bounded(open_decompressed(_Counted(self, reader), what), lambda: self.taken, what)

    def read(self, size: int, /) -> bytes:
        return self._plain.read(size)

    def close(self) -> None:
        """Close what is read from."""
        self._reader.close()


def plain_manifest(config: bytes, layers: list[tuple[str, int]]) -> Manifest:
    """A manifest of Docker's schema 2 for uncompressed layers, (diff id, size) each; the same for the same input."""
    tree = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": {"mediaType": DOCKER_CONFIG, "digest": digests.of(config), "size": len(config)},
        "layers": [{"mediaType": layer_type(False, ""), "digest": d, "size": size} for d, size in layers],
    }
    found = parse_manifest(dumps(tree).encode())
    assert isinstance(found, Manifest)
    return found


def read_config(source: Source, manifest: Manifest) -> bytes:
    """The configuration's bytes, verified.  Raises Error."""
    return read_small(source, manifest.config, "the configuration", MAX_CONFIG_BYTES)


def read_small(source: Source, descriptor: Descriptor, name: str, limit: int) -> bytes:
    """A small blob, verified.  Raises Error."""
    what = f"{source.what}: {name}"
    if descriptor.size > limit:
        raise Error(f"{what} is larger than {limit} bytes")
    reader = source.open(descriptor)
    parts: list[bytes] = []
    left = descriptor.size
    try:
        while left >= 0 and (part := reader.read(1 << 16)):
            parts.append(part)
            left -= len(part)
    finally:
        reader.close()
    raw = b"".join(parts)
    if left:
        raise DigestError(f"{what} is not {descriptor.size} bytes long")
    digests.verify(raw, descriptor.digest, what)
    return raw


def blob_path(digest: str) -> str:
    """Where an OCI layout has a blob."""
    algorithm, digits = digests.split(digest)
    return f"blobs/{algorithm}/{digits}"

