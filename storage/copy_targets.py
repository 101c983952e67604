"""Where `copy` writes an image: a registry, an OCI layout, a directory, an archive; complete or not there at all.

Weight: `storage.archive_targets`; `storage.registry` (urllib3) for docker:.
"""

from __future__ import annotations

import os

from rootless.errors import Error, UsageError
from rootless.values import Value, dumps
from storage import digest as digests
from storage.archive_save import layout_rows
from storage.archive_targets import DirectoryTarget, TarTarget
from storage.archives import PODMAN, REF_NAME
from storage.copy_sources import REGISTRY, blob_path
from storage.manifest import OCI_INDEX, Index, Manifest
from storage.reference import Reference, parse
from storage.registry_connect import connect_target
from storage.signature_places import file_prefix, to_file
from storage.signature_writing import check_writable, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Protocol

    from storage.archives import Transport
    from storage.registries_conf import RegistriesConf
    from storage.registry_connect import Access
    from storage.signatures import Signature

    Files = DirectoryTarget | TarTarget

    class Target(Protocol):
        """One name of one place.

        forms: the families of manifests that it takes, the usual one first; layers: "any", "compressed" or "plain";
        parallel: how many blobs may be put at once; indexes: whether it holds several images under one name; identity:
        the name that signatures made for it say, where it has one.  check_signing: raises
        where it has no place for signatures.
        """

        what: str
        forms: tuple[str, ...]
        layers: str
        indexes: bool

        @property
        def parallel(self) -> int: ...
        def put(self, blob: Blob) -> str: ...
        def put_manifest(self, document: Manifest | Index, top: bool) -> None: ...
        @property
        def identity(self) -> Reference | None: ...
        def check_signing(self, kinds: Sequence[str]) -> None: ...
        def put_signatures(self, signatures: Sequence[Signature], digest: str, top: bool) -> None: ...
        def cancel(self) -> None: ...
        def finish(self) -> None: ...
        def abandon(self) -> None: ...


_CHUNK = 256 << 10
_PARALLEL = 3


class Blob(Value):
    """One blob to put.  fetch: gives a descriptor of its verified bytes (the blob's own; it is closed by its maker);
    source: the source's name, from whose repository a registry may take it.
    """

    digest: str
    size: int
    kind: str  # "layer" | "config"
    fetch: Callable[[], int]
    source: Reference | None = None


def open_target(
    place: Transport,
    access: Access,
    env: Mapping[str, str],
    conf: RegistriesConf,
    *,
    more_names: tuple[str, ...] = (),
    accept_plain: bool = False,
    anonymous: bool = False,
) -> Target:
    """The target that `place` names.  Raises UsageError, Error.

    more_names: of a docker-archive's image; accept_plain: an OCI layout may have uncompressed layers.
    """
    check_target(place)
    if place.kind == REGISTRY:
        return RegistryTarget(parse(place.path), access, env, conf, anonymous)
    if place.kind == "docker-archive":
        return DockerArchiveTarget(place, more_names)
    if place.kind == "dir":
        return DirTarget(place.path)
    return LayoutTarget(place, accept_plain)


def check_target(place: Transport) -> None:
    """UsageError where nothing can be copied to."""
    if place.kind == PODMAN:
        raise UsageError("containers-storage: is only read", hint="podman pull brings an image into Podman's own store")


class RegistryTarget:
    """A name in a registry."""

    forms: tuple[str, ...] = ("oci", "v2s2")
    layers = "compressed"
    parallel = _PARALLEL
    indexes = True

    def __init__(
        self,
        name: Reference,
        access: Access,
        env: Mapping[str, str],
        conf: RegistriesConf,
        anonymous: bool = False,
    ) -> None:
        from storage.registry_upload import Repository

        self.what = f"docker://{name}"
        self._name = name
        self._env = env
        self._registry = connect_target(name, access, env, conf, anonymous)
        try:
            self._repository = Repository(self._registry, name.path)
        except BaseException:
            self._registry.close()
            raise

    def put(self, blob: Blob) -> str:
        """ "exists", "mounted" or "done"."""
        source = blob.source
        mount = source.path if source and source.domain == self._name.domain and source.path != self._name.path else ""

        def content(start: int, count: int) -> Iterator[bytes]:
            fd, end = blob.fetch(), start + count
            while start < end and (data := os.pread(fd, min(_CHUNK, end - start), start)):
                start += len(data)
                yield data

        return self._repository.upload(blob.digest, blob.size, content, f"{self.what}: blob {blob.digest}", mount)

    def put_manifest(self, document: Manifest | Index, top: bool) -> None:
        """Under the name (top), or under its digest."""
        if top and self._name.digest and self._name.digest != document.digest:
            raise UsageError(f"{self.what}: what is copied has the digest {document.digest}")
        wanted = (self._name.tag if top else "") or document.digest
        self._repository.put_manifest(document.raw, document.media_type, wanted, f"{self.what}: manifest")

    @property
    def identity(self) -> Reference | None:
        """The name."""
        return self._name

    def check_signing(self, kinds: Sequence[str]) -> None:
        """Error where registries.d has no place for signatures of these kinds."""
        check_writable(self._name, kinds, self._env)

    def put_signatures(self, signatures: Sequence[Signature], digest: str, _top: bool) -> None:
        """Beside those that the image has, by registries.d.  Raises Error."""
        write(signatures, self._name, digest, self._registry, self._repository, self._env)

    def cancel(self) -> None:
        """End every transfer."""
        self._registry.cancel()

    def finish(self) -> None:
        """Close the connections."""
        self._registry.close()

    abandon = finish


class _FilesTarget:
    what = ""
    _files: Files

    @property
    def parallel(self) -> int:
        """An archive's members come one after the other."""
        return 1 if isinstance(self._files, TarTarget) else _PARALLEL

    identity: Reference | None = None

    def check_signing(self, _kinds: Sequence[str]) -> None:
        """UsageError: only `dir:` and registries have a place for signatures."""
        raise UsageError(f"{self.what} has no place for signatures", hint="docker://NAME and dir:DIR have")

    def put_signatures(self, signatures: Sequence[Signature], digest: str, top: bool) -> None:
        """`check_signing` has said no."""
        raise AssertionError(self.what)

    def cancel(self) -> None:
        """Nothing waits here."""

    def finish(self) -> None:
        """Complete the archive."""
        self._files.finish()

    def abandon(self) -> None:
        """Leave nothing that is half made."""
        self._files.abandon()


class LayoutTarget(_FilesTarget):
    """An OCI layout in a directory or an archive; a directory keeps its other images."""

    forms: tuple[str, ...] = ("oci",)
    indexes = True

    def __init__(self, place: Transport, accept_plain: bool) -> None:
        self.what = f"{place.kind}:{place.path}"
        self.layers = "any" if accept_plain else "compressed"
        self._ref = place.ref
        self._others = layout_rows(place.path, place.ref) if place.kind == "oci" else ()
        self._files = DirectoryTarget(place.path) if place.kind == "oci" else TarTarget(place.path)
        self._folders: set[str] = set()
        self._put: set[str] = set()
        try:
            self._files.file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            self._folder("blobs")
            self._folder("blobs/sha256")
        except BaseException:
            self._files.abandon()
            raise

    def _folder(self, name: str) -> None:
        if name not in self._folders:
            self._folders.add(name)
            self._files.directory(name)

    def put(self, blob: Blob) -> str:
        """Copied, unless it is there."""
        if blob.digest not in self._put:
            self._put.add(blob.digest)
            self._folder(f"blobs/{digests.split(blob.digest)[0]}")
            self._files.blob(blob_path(blob.digest), blob.fetch(), blob.size, blob.digest)
        return "done"

    def put_manifest(self, document: Manifest | Index, top: bool) -> None:
        """As a blob; under the name (top) in the layout's index too."""
        if document.digest not in self._put:
            self._put.add(document.digest)
            self._folder(f"blobs/{digests.split(document.digest)[0]}")
            self._files.file(blob_path(document.digest), document.raw)
        if not top:
            return
        row: dict[str, object] = {
            "mediaType": document.media_type,
            "digest": document.digest,
            "size": len(document.raw),
        }
        if self._ref:
            row["annotations"] = {REF_NAME: self._ref}
        tree = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*self._others, row]}
        self._files.file("index.json", dumps(tree).encode())


class DirTarget(_FilesTarget):
    """`dir:`: blobs by their hex digits, manifest.json."""

    forms: tuple[str, ...] = ("oci", "v2s2")
    layers = "any"
    indexes = True

    def __init__(self, path: str) -> None:
        self.what = f"dir:{path}"
        self._path = path
        self._signatures: set[str] = set()
        self._files = DirectoryTarget(path)

    def put(self, blob: Blob) -> str:
        """Copied, unless it is there."""
        self._files.blob(digests.split(blob.digest)[1], blob.fetch(), blob.size, blob.digest)
        return "done"

    def put_manifest(self, document: Manifest | Index, top: bool) -> None:
        """As manifest.json (top), or beside it under its digest."""
        name = "manifest.json" if top else f"{digests.split(document.digest)[1]}.manifest.json"
        if top:
            self._files.file("version", b"Directory Transport Version: 1.1\n")
        self._files.file(name, document.raw)

    def check_signing(self, _kinds: Sequence[str]) -> None:
        """It keeps them all."""

    def put_signatures(self, signatures: Sequence[Signature], digest: str, top: bool) -> None:
        """As `signature-1` and so on; those of an index's image begin with its digest."""
        begin = "" if top else file_prefix(digest)
        for number, signature in enumerate(signatures, 1):
            self._files.file(f"{begin}signature-{number}", to_file(signature))
            self._signatures.add(f"{begin}signature-{number}")

    def finish(self) -> None:
        """Remove the signatures of an image that was here before."""
        for name in os.listdir(self._path):
            kind, _, number = name.rpartition("signature-")
            if number.isdecimal() and name not in self._signatures and (not kind or _is_hex_prefix(kind)):
                os.unlink(f"{self._path}/{name}")
        super().finish()


def _is_hex_prefix(text: str) -> bool:
    return text.endswith(".") and digests.is_hex(text[:-1])


class DockerArchiveTarget(_FilesTarget):
    """The form of `docker save`: uncompressed layers, which `docker load` and all others read."""

    forms: tuple[str, ...] = ("v2s2",)
    layers = "plain"
    indexes = False

    def __init__(self, place: Transport, more_names: tuple[str, ...]) -> None:
        self.what = f"docker-archive:{place.path}"
        names = (*((place.ref,) if place.ref else ()), *more_names)
        self._names = [str(parse(name).with_default_tag()) for name in names]
        self._files = TarTarget(place.path)
        self._put: set[str] = set()

    def put(self, blob: Blob) -> str:
        """A member, once."""
        name = digests.split(blob.digest)[1] + (".tar" if blob.kind == "layer" else ".json")
        if name not in self._put:
            self._put.add(name)
            self._files.blob(name, blob.fetch(), blob.size, blob.digest)
        return "done"

    def put_manifest(self, document: Manifest | Index, top: bool) -> None:
        """manifest.json, and what old versions of docker read."""
        assert top
        assert isinstance(document, Manifest)
        layers = [f"{digests.split(layer.digest)[1]}.tar" for layer in document.layers]
        row = {"Config": f"{document.image_id}.json", "RepoTags": self._names, "Layers": layers}
        repositories: dict[str, dict[str, str]] = {}
        for name in self._names:
            repository, _, tag = name.rpartition(":")
            repositories.setdefault(repository, {})[tag] = layers[-1].removesuffix(".tar") if layers else ""
        self._files.file("manifest.json", dumps([row]).encode())
        self._files.file("repositories", dumps(repositories).encode())


def refuse_index(target: Target) -> Error:
    """The Error where several images cannot be one name's."""
    return Error(f"{target.what} holds single images only", hint="--multi-arch system copies this machine's image")
