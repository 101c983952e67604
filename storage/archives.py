"""Images from archives and directories: docker-archive, oci-archive, oci layouts, `dir:`.

Weight: `storage.archive_layers` and what it loads; used by load and by pull's file transports only.  Runs as uid 0 of
the user's namespace.

Everything in these files was chosen by whoever made them: names are looked up inside the archive or beneath the
directory only, digests are verified, documents are bounded.
"""

from __future__ import annotations

import os

from rootless.errors import Error, NotFound, UsageError, os_error_text
from rootless.values import Value, loads
from storage import digest as digests
from storage import fields, reference
from storage.archive_files import DirectoryFiles, TarFiles, open_tar, read_document
from storage.archive_layers import Importer, make_manifest
from storage.gate import check_files
from storage.imageconfig import parse_config
from storage.images import local_name
from storage.manifest import (
    OCI_INDEX,
    Descriptor,
    Index,
    Manifest,
    check_image,
    check_layers,
    parse_manifest,
)
from storage.platforms import Platform, host_platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from storage.archive_files import Files
    from storage.database import Database
    from storage.layers import Layer
    from storage.policy import Policy
    from storage.unpack import UnpackLimits

PODMAN = "containers-storage"  # Podman's own store, whose names are `storage.podman_store`'s to read
TRANSPORTS = ("docker-archive", "oci-archive", "oci", "dir")
REF_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"  # docker 25 and containerd put the full name here, the tag above
_MAX_NESTING = 3


class Loaded(Value):
    """One image that was stored.  names: those that it got, "" none."""

    image_id: str
    names: tuple[str, ...] = ()


class Transport(Value):
    """`oci:PATH:REF` and its like."""

    kind: str  # one of TRANSPORTS
    path: str
    ref: str = ""


def parse_transport(text: str) -> Transport | None:
    """A file transport that `text` names; None where it names none.  Raises UsageError for an empty path."""
    kind, colon, rest = text.partition(":")
    if not colon or kind not in TRANSPORTS:
        return None
    path, _, ref = rest.partition(":") if kind != "dir" else (rest, "", "")
    if not path:
        raise UsageError(f"{text}: {kind}: needs a path")
    return Transport(kind=kind, path=path, ref=ref)


def load(
    db: Database,
    source: str | int,
    *,
    single_id: bool = False,
    limits: UnpackLimits | None = None,
    platform: Platform | None = None,
    policy: Policy | None = None,
) -> tuple[Loaded, ...]:
    """`load`: all images of an archive (path or descriptor, compressed or not) or a directory.

    policy: which of them may come in; None: all.
    What it is shows in its content.  Raises NotFound, Error.
    """
    if isinstance(source, str) and os.path.isdir(source):
        files: Files = DirectoryFiles(source)
        kind = "oci" if files.has("index.json") else "dir"
        if kind == "dir" and not files.has("manifest.json"):
            files.close()
            raise Error(f"{source} is neither an OCI layout nor a directory that `save --format docker-dir` wrote")
    else:
        files, kind = open_archive(db.paths.partial, source)
    path = source if isinstance(source, str) else "/dev/stdin"
    return _Loader(db, files, platform, single_id, limits, _gate(policy, kind, path)).run(kind)


def load_transport(
    db: Database,
    transport: Transport,
    *,
    single_id: bool = False,
    limits: UnpackLimits | None = None,
    platform: Platform | None = None,
    policy: Policy | None = None,
) -> tuple[Loaded, ...]:
    """`pull docker-archive:FILE`, `pull oci:DIR:REF` …: the image that is meant.  Raises NotFound, Error."""
    if transport.kind in ("oci", "dir"):
        files: Files = DirectoryFiles(transport.path)
        kind = transport.kind
    else:
        files, kind = open_archive(db.paths.partial, transport.path)
        if kind != transport.kind:
            files.close()
            raise Error(f"{transport.path} is no {transport.kind}", hint=f"it looks like {kind}:")
    gate = _gate(policy, kind, transport.path, transport.ref)
    return _Loader(db, files, platform, single_id, limits, gate).run(kind, transport)


def _gate(policy: Policy | None, kind: str, path: str, ref: str = "") -> Callable[[str], None]:
    """Asks the policy about an image by its manifest's digest."""

    def allow(digest: str) -> None:
        if policy is not None:
            check_files(policy, kind, path, ref, digest)

    return allow


def open_archive(folder: str, source: str | int) -> tuple[TarFiles, str]:
    """An archive's files, and which transport reads them.  folder: for what must be decompressed first."""
    what = source if isinstance(source, str) else "the archive on standard input"
    if isinstance(source, str):
        try:
            fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise NotFound(os_error_text(error, source)) from error
    else:
        fd = os.dup(source)
    try:
        files = open_tar(folder, fd, what)
    finally:
        os.close(fd)
    if files.has("oci-layout") and files.has("index.json"):
        return files, "oci-archive"
    if files.has("manifest.json"):
        return files, "docker-archive"
    files.close()
    raise Error(
        f"{what} holds no image: neither docker-archive nor oci-archive",
        hint="a root file system's tarball is made an image by: pyctl import",
    )


def docker_rows(files: Files, ref: str) -> list[tuple[dict[str, Any], list[str]]]:
    """The rows of a docker-archive's manifest.json, with their full names: all, or the one that `ref` names (a name,
    or `@` and a position).  Raises NotFound, Error.
    """
    what = f"{files.what}: manifest.json"
    try:
        rows = loads(read_document(files, "manifest.json"))
    except ValueError as error:
        raise Error(f"{what} is not JSON: {error}") from error
    if type(rows) is not list or not rows or any(type(row) is not dict for row in rows):
        raise Error(f"{what} lists no images")
    chosen = []
    for position, row in enumerate(rows):
        tags = [str(reference.parse(tag).with_default_tag()) for tag in fields.texts(row, "RepoTags", what)]
        if not ref or ref == f"@{position}" or (ref[:1] != "@" and str(_full(ref)) in tags):
            chosen.append((row, tags))
    if not chosen:
        raise NotFound(f"{files.what}: no image {ref}")
    return chosen


class _Loader:
    """One load.  Owns `files`."""

    def __init__(
        self,
        db: Database,
        files: Files,
        platform: Platform | None,
        single_id: bool,
        limits: UnpackLimits | None,
        allow: Callable[[str], None],
    ) -> None:
        self._files = files
        self._allow = allow
        self._platform = platform or host_platform()
        self._importer = Importer(db, single_id, limits)

    def run(self, kind: str, transport: Transport | None = None) -> tuple[Loaded, ...]:
        try:
            with self._importer:
                if kind == "docker-archive":
                    return self._docker_archive(transport.ref if transport else "")
                if kind == "dir":
                    return (self._directory(),)
                return self._layout(kind, transport)
        finally:
            self._files.close()

    # --- docker-archive ---

    def _docker_archive(self, ref: str) -> tuple[Loaded, ...]:
        what = f"{self._files.what}: manifest.json"
        return tuple(self._docker_image(row, tags, what) for row, tags in docker_rows(self._files, ref))

    def _docker_image(self, row: dict[str, object], tags: Sequence[str], what: str) -> Loaded:
        config = read_document(self._files, fields.text(row, "Config", what))
        parsed = parse_config(config, f"{self._files.what}: the configuration")
        paths = fields.texts(row, "Layers", what)
        if len(paths) != len(parsed.diff_ids):
            raise Error(f"{what} has {len(paths)} layers, the configuration {len(parsed.diff_ids)} diff_ids")
        self._allow(digests.of(config))  # there is no manifest whose signature could be asked for
        layers: list[Layer] = []
        blobs: list[Descriptor] = []
        for path, diff_id in zip(paths, parsed.diff_ids, strict=True):
            layer, blob = self._importer.plain_layer(
                lambda p=path: self._files.open(p),  # type: ignore[misc]
                diff_id,
                layers,
                f"layer {diff_id}",
            )
            layers.append(layer)
            blobs.append(blob)
        image_id = self._importer.image(config, make_manifest(config, blobs, oci=False), layers, tags)
        return Loaded(image_id=image_id, names=tuple(tags))

    # --- oci layouts and dir ---

    def _layout(self, kind: str, transport: Transport | None) -> tuple[Loaded, ...]:
        what = f"{self._files.what}: index.json"
        top = parse_manifest(read_document(self._files, "index.json"), OCI_INDEX, what)
        assert isinstance(top, Index)
        groups: dict[str, list[Descriptor]] = {}
        for entry in top.manifests:
            name = entry.annotations.get(_CONTAINERD_NAME) or entry.annotations.get(REF_NAME, "")
            if entry.platform is None or entry.platform.os != "unknown":  # BuildKit's attestations
                groups.setdefault(name, []).append(entry)
        if transport is not None and transport.ref:
            matching = [e for e in top.manifests if e.annotations.get(REF_NAME) == transport.ref]
            groups = {transport.ref: matching} if matching else {}
        if not groups:
            wanted = f"{transport.ref}: " if transport is not None and transport.ref else ""
            names = sorted(e.annotations[REF_NAME] for e in top.manifests if REF_NAME in e.annotations)
            raise NotFound(f"{what} has no image {wanted}".rstrip(": "), hint=f"there is: {', '.join(names)}")
        out = []
        for name, entries in groups.items():
            # Several of one name are one image for several platforms; without a name they are several images.
            several = [Index(media_type=OCI_INDEX, digest="", raw=b"", manifests=tuple(entries))]
            if not name or len(entries) == 1:
                several = [i.replace(manifests=(entry,)) for i in several for entry in entries]
            for index in several:
                entry = index.select(self._platform, what) if len(index.manifests) > 1 else index.manifests[0]
                out.append(self._described(entry, _names(name, kind, transport), 0))
        return tuple(out)

    def _described(self, entry: Descriptor, names: Sequence[str], depth: int, index: Index | None = None) -> Loaded:
        what = f"{self._files.what}: manifest {entry.digest}"
        raw = read_document(self._files, _blob_path(entry.digest))
        digests.verify(raw, entry.digest, what)
        document = parse_manifest(raw, entry.media_type, what)
        if isinstance(document, Index):
            if depth >= _MAX_NESTING:
                raise Error(f"{what}: indexes are nested too deeply")
            below = document.select(self._platform, what)
            return self._described(below, names, depth + 1, index or document)
        return self._manifest(document, names, _blob_path, index, what)

    def _directory(self) -> Loaded:
        what = f"{self._files.what}/manifest.json"
        document = parse_manifest(read_document(self._files, "manifest.json"), "", what)
        if isinstance(document, Index):
            raise Error(f"{what} is an index; a directory of one image is expected")
        return self._manifest(document, (), lambda digest: digest.partition(":")[2], None, what)

    def _manifest(
        self,
        manifest: Manifest,
        names: Sequence[str],
        path_of: Callable[[str], str],
        index: Index | None,
        what: str,
    ) -> Loaded:
        check_image(manifest, what)
        self._allow(manifest.digest)
        config = read_document(self._files, path_of(manifest.config.digest))
        digests.verify(config, manifest.config.digest, f"{what}: the configuration")
        parsed = parse_config(config, f"{what}: the configuration")
        check_layers(manifest, parsed, what)
        layers: list[Layer] = []
        for descriptor, diff_id in zip(manifest.layers, parsed.diff_ids, strict=True):
            name = path_of(descriptor.digest)
            layers.append(self._importer.described_layer(self._files, name, descriptor, diff_id, layers))
        image_id = self._importer.image(config, manifest, layers, names, index)
        return Loaded(image_id=image_id, names=tuple(names))


def _blob_path(digest: str) -> str:
    algorithm, digits = digests.split(digest)
    return f"blobs/{algorithm}/{digits}"


def _full(ref: str) -> reference.Reference:
    return reference.parse(ref).with_default_tag()


def _names(name: str, kind: str, transport: Transport | None) -> tuple[str, ...]:
    """The names that an image of a layout gets: what its annotation says, where that is more than a bare tag."""
    if not name or (transport is None and kind == "oci" and not set(name) & {"/", ":"}):
        return ()
    return (local_name(name.partition("@")[0]),)
