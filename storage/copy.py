"""`copy`: an image, or an index with all of its images, from one place to another, through no store.

Weight: `concurrent.futures`, `storage.copy_sources`, `storage.copy_targets`.

Every blob is verified before anything of it is where others see it: it goes through a file without a name, unless the
target has it already.  Bytes stay as they are, and so digests do, wherever the target can hold them so.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from rootless.errors import Error, UsageError
from rootless.fds import write_all
from rootless.values import Value, dumps, loads
from storage import digest as digests
from storage.archive_files import temporary_file
from storage.blobs import no_room
from storage.compression import Bounded, open_decompressed
from storage.copy_targets import Blob, refuse_index
from storage.digest import DigestError
from storage.fetch import PullEvent, Serialised
from storage.gzip_writer import GzipWriter, ZstdWriter
from storage.manifest import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Index,
    Manifest,
    ManifestError,
    check_image,
    parse_manifest,
)
from storage.manifest_convert import as_docker, as_oci, compression_of, with_layers
from storage.platforms import Platform, host_platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from storage.compression import Reader
    from storage.copy_sources import Bytes, Source
    from storage.copy_targets import Target
    from storage.fetch import Events
    from storage.manifest import Descriptor
    from storage.reference import Reference
    from storage.signatures import Signature
    from storage.signing import Signer

    # Raises where the policy does not let an image in.
    Allow = Callable[[Source, Manifest | Index], None]
    Signatures = Callable[[Source, Manifest | Index], Sequence[Signature]]

MULTI_ARCH = ("system", "all", "index-only")
_CHUNK = 256 << 10
_FORMS = {"oci": (OCI_MANIFEST, OCI_INDEX), "v2s2": (DOCKER_MANIFEST, DOCKER_LIST)}


class CopyOptions(Value):
    """What the command line says; "" and None where it says nothing.

    form: "oci" | "v2s2"; multi_arch: one of MULTI_ARCH; compression: "gzip" | "zstd" for layers that are compressed
    otherwise or not at all, "none": they are decompressed; compress_plain: gzip for uncompressed ones; level: 0 the
    compressor's usual one; preserve: fail rather than change a digest.  signers: keys that sign all that is copied,
    with the name `identity` (None: the target's).
    """

    form: str = ""
    multi_arch: str = "system"
    platform: Platform | None = None
    compression: str = ""
    compress_plain: bool = False
    level: int = 0
    preserve: bool = False
    signers: tuple[Signer, ...] = ()
    identity: Reference | None = None


def copy(
    source: Source,
    target: Target,
    options: CopyOptions,
    *,
    temporary: str,
    allow: Allow,
    signatures: Signatures | None = None,
    events: Events | None = None,
) -> str:
    """Copy; returns the digest of the manifest or index that the target's name has now.

    temporary: a directory for files without names; signatures: those of an image, which are copied too (None: without
    them).  Raises Error: one line; nothing half-copied has a name then.
    """
    copier = _Copier(source, target, options, temporary, allow, signatures, Serialised(events))
    try:
        digest = copier.run()
        target.finish()
    except BaseException:
        target.abandon()
        raise
    return digest


def choose(source: Source, platform: Platform | None) -> tuple[Manifest, Index | None]:
    """The image that is meant, and the index that it was found in.  Raises Error."""
    found = source.document()
    if isinstance(found, Manifest):
        return found, None
    entry = found.select(platform or host_platform(), source.what)
    return instance(source, entry), found


def instance(source: Source, entry: Descriptor) -> Manifest:
    """The image of an index's entry.  Raises Error."""
    what = f"{source.what}: manifest {entry.digest}"
    found = source.document(entry.digest)
    if not isinstance(found, Manifest):
        raise ManifestError(f"{what} is an index inside an index")
    if len(found.raw) != entry.size:
        raise ManifestError(f"{what} has {len(found.raw)} bytes, the index says {entry.size}")
    if entry.media_type and entry.media_type != found.media_type:
        raise ManifestError(f"{what} is of type {found.media_type!r}, the index says {entry.media_type!r}")
    return found


class _Copier:
    """One copy."""

    def __init__(
        self,
        source: Source,
        target: Target,
        options: CopyOptions,
        temporary: str,
        allow: Allow,
        signatures: Signatures | None,
        events: Events,
    ) -> None:
        self._signatures = signatures
        self._source = source
        self._target = target
        self._options = options
        self._temporary = temporary
        self._allow = allow
        self._events = events
        self._changed: dict[str, tuple[str, int, str]] = {}  # of blobs that were put: what they became
        self._put: set[str] = set()
        self._stop = threading.Event()

    def run(self) -> str:
        options, target = self._options, self._target
        if options.form and options.form not in target.forms:
            raise UsageError(f"{target.what} holds no manifests of the form {options.form}")
        if options.signers:
            self._check_signing()
        if options.multi_arch == "system":
            manifest, _ = choose(self._source, options.platform)
            return self._name(manifest, self._image(manifest))
        found = self._source.document()
        if isinstance(found, Manifest):
            if options.multi_arch == "index-only":
                raise UsageError(f"{self._source.what} is no index", hint="leave --multi-arch out")
            return self._name(found, self._image(found))
        if not target.indexes:
            raise refuse_index(target)
        self._allow(self._source, found)
        if options.multi_arch == "index-only":
            return self._name(found, self._index(found, {}))
        became: dict[str, Manifest] = {}
        for entry in found.manifests:
            held = instance(self._source, entry)
            sent = self._image(held)
            self._put_manifest(held, sent, top=False)
            became[entry.digest] = sent
        return self._name(found, self._index(found, became))

    def _check_signing(self) -> None:
        options = self._options
        self._target.check_signing([signer.kind for signer in options.signers])
        if options.identity is None and self._target.identity is None:
            raise UsageError(f"{self._target.what} has no name that could be signed", hint="--sign-identity NAME")

    def _found_signatures(self, held: Manifest | Index, sent: Manifest | Index) -> Sequence[Signature]:
        """The source's, where there are any: for what is sent, or the copy fails."""
        found = self._signatures(self._source, held) if self._signatures is not None else ()
        if found and sent.digest != held.digest:
            raise self._unsigned("its digest changes, and its signatures would be for another image")
        return found

    def _unsigned(self, problem: str) -> Error:
        return Error(f"{self._source.what}: {problem}", hint="--remove-signatures copies the image without them")

    def _name(self, held: Manifest | Index, sent: Manifest | Index) -> str:
        self._events(PullEvent(kind="line", text=f"Writing manifest {sent.digest} to {self._target.what}"))
        self._put_manifest(held, sent, top=True)
        return sent.digest

    def _put_manifest(self, held: Manifest | Index, sent: Manifest | Index, top: bool) -> None:
        """With its signatures, old ones and those that are asked for: the target keeps them or the copy fails."""
        target, options = self._target, self._options
        found = [*self._found_signatures(held, sent)]
        if found:
            try:
                target.check_signing([signature.kind for signature in found])
            except Error as error:
                raise self._unsigned(f"its signatures cannot be kept: {error.message}") from error
        if options.signers:
            from storage.signing import signed_by

            identity = options.identity or target.identity
            assert identity is not None
            found += signed_by(options.signers, identity, sent.digest)
        target.put_manifest(sent, top)
        if found:
            target.put_signatures(found, sent.digest, top)

    # --- manifests -------------------------------------------------------------------------------

    def _image(self, manifest: Manifest) -> Manifest:
        """Have the blobs of an image in the target; returns the manifest that names them there."""
        self._allow(self._source, manifest)
        form = self._form(manifest)
        plan = {layer.digest: self._wanted(layer, form) for layer in manifest.layers}
        changes = any(wanted is not None for wanted in plan.values()) or _FORMS[form][0] != manifest.media_type
        if changes:
            if self._options.preserve:
                raise Error(
                    f"{self._source.what}: its digest cannot be kept in {self._target.what}",
                    hint="leave --preserve-digests out, or copy to a place that holds the image as it is",
                )
            check_image(manifest, self._source.what)
        self._put_blobs(manifest, plan)
        if not changes:
            return manifest
        if _FORMS[form][0] == OCI_MANIFEST:
            manifest = as_oci(manifest)
        blobs = [self._changed.get(layer.digest) for layer in manifest.layers]
        manifest = with_layers(manifest, blobs)
        return as_docker(manifest) if form == "v2s2" else manifest

    def _form(self, manifest: Manifest) -> str:
        own = "oci" if manifest.media_type == OCI_MANIFEST else "v2s2"
        if self._options.form:
            return self._options.form
        if own not in self._target.forms or (own == "v2s2" and self._options.compression == "zstd"):
            return self._target.forms[0]
        return own

    def _wanted(self, layer: Descriptor, form: str) -> str | None:
        """What a layer is to be compressed by ("": not at all); None: it stays."""
        options, target = self._options, self._target
        if "tar" not in layer.media_type:
            return None  # an artifact's file
        held = compression_of(layer.media_type)
        wanted = held
        if options.compression:
            wanted = "" if options.compression == "none" else options.compression
        if target.layers == "plain":
            wanted = ""
        elif not wanted and (target.layers == "compressed" or options.compress_plain):
            wanted = "gzip"
        if wanted == "zstd" and form == "v2s2":
            wanted = "gzip"
        return None if wanted == held and not (options.level and options.compression) else wanted

    def _index(self, index: Index, became: dict[str, Manifest]) -> Index:
        """The index with what its images became; itself where nothing changed."""
        own = "oci" if index.media_type == OCI_INDEX else "v2s2"
        form = self._options.form or (own if own in self._target.forms else self._target.forms[0])
        if form == own and all(digest == sent.digest for digest, sent in became.items()):
            return index
        if any(sent.media_type == OCI_MANIFEST for sent in became.values()):
            form = "oci"
        if self._options.preserve:
            raise Error(f"{self._source.what}: the index's digest cannot be kept in {self._target.what}")
        tree = loads(index.raw)
        tree["mediaType"] = _FORMS[form][1]
        for row in tree["manifests"]:
            sent = became.get(row["digest"])
            if sent is not None:
                row["digest"], row["size"], row["mediaType"] = sent.digest, len(sent.raw), sent.media_type
        changed = parse_manifest(dumps(tree).encode())
        assert isinstance(changed, Index)
        return changed

    # --- blobs -----------------------------------------------------------------------------------

    def _put_blobs(self, manifest: Manifest, plan: dict[str, str | None]) -> None:
        todo = {layer.digest: layer for layer in manifest.layers}
        todo[manifest.config.digest] = manifest.config
        jobs = [(d, plan.get(d.digest)) for d in todo.values() if d.digest not in self._put]
        pool = ThreadPoolExecutor(self._target.parallel)
        futures: list[Future[None]] = []
        try:
            for descriptor, wanted in jobs:
                kind = "config" if descriptor is manifest.config else "layer"
                futures.append(pool.submit(self._one, descriptor, kind, wanted))
            wait(futures, return_when=FIRST_EXCEPTION)
        except BaseException:  # the user's interrupt
            self._end(pool)
            raise
        failed = [error for future in futures if future.done() and (error := future.exception()) is not None]
        if failed:
            self._end(pool)
            raise failed[0]
        pool.shutdown()
        self._put.update(d.digest for d, _ in jobs)

    def _end(self, pool: ThreadPoolExecutor) -> None:
        self._stop.set()
        self._source.cancel()
        self._target.cancel()
        pool.shutdown(cancel_futures=True)

    def _one(self, descriptor: Descriptor, kind: str, wanted: str | None) -> None:
        digest, size = descriptor.digest, descriptor.size
        files: list[int] = []
        self._event("start", digest, 0, size, kind)
        try:
            if wanted is not None:
                fd = self._fetched(descriptor, wanted, files)
                digest, size = _digest_of(fd), os.fstat(fd).st_size
                self._changed[descriptor.digest] = digest, size, wanted

            def fetch() -> int:
                fd = files[0] if files else self._fetched(descriptor, None, files)
                os.lseek(fd, 0, os.SEEK_SET)
                return fd

            blob = Blob(digest=digest, size=size, kind=kind, fetch=fetch, source=self._source.reference)
            outcome = self._target.put(blob)
        finally:
            for fd in files:
                os.close(fd)
        self._event("done", descriptor.digest, size, size, "" if outcome == "done" else outcome)

    def _fetched(self, descriptor: Descriptor, wanted: str | None, files: list[int]) -> int:
        """A file without a name with the verified bytes, compressed as is wanted; it is put into `files`."""
        what = f"{self._source.what}: blob {descriptor.digest}"
        fd = temporary_file(self._temporary)
        files.append(fd)
        reader = self._source.open(descriptor)
        try:
            checked = _Checked(reader, descriptor, what)
            sink = _Sink(fd, what)
            plain: Reader = checked
            if wanted is not None:
                plain = Bounded(open_decompressed(checked, what), lambda: checked.count, what)
            packer = _packer(wanted, sink, self._options.level) if wanted else sink
            while chunk := plain.read(_CHUNK):
                if self._stop.is_set():
                    raise Error("the copy was cancelled")
                packer.write(chunk)
                self._event("bytes", descriptor.digest, checked.count, descriptor.size)
            while checked.read(_CHUNK):
                pass  # what follows the compressed data belongs to the digest
            packer.finish()
        finally:
            reader.close()
        return fd

    def _event(self, kind: str, digest: str, done: int, total: int, text: str = "") -> None:
        self._events(PullEvent(kind=kind, digest=digest, done=done, total=total, text=text))


class _Checked:
    """A reader that fails at its end unless the bytes were those that the descriptor promises."""

    def __init__(self, reader: Bytes, descriptor: Descriptor, what: str) -> None:
        self._reader = reader
        self._descriptor = descriptor
        self._what = what
        self._hash = digests.new(digests.split(descriptor.digest)[0])
        self.count = 0

    def read(self, size: int, /) -> bytes:
        data = self._reader.read(size)
        self._hash.update(data)
        self.count += len(data)
        promised = self._descriptor
        if self.count > promised.size or (not data and self.count < promised.size):
            raise DigestError(f"{self._what}: it is not {promised.size} bytes long, as the manifest says")
        if not data and self._hash.hexdigest() != digests.split(promised.digest)[1]:
            found = f"{digests.split(promised.digest)[0]}:{self._hash.hexdigest()}"
            raise DigestError(f"{self._what}: wrong digest: the content has {found}")
        return data


class _Sink:
    """A descriptor to write to."""

    def __init__(self, fd: int, what: str) -> None:
        self._fd = fd
        self._what = what

    def write(self, data: bytes, /) -> None:
        try:
            write_all(self._fd, data)
        except OSError as error:
            raise no_room(error, self._what) from error

    def finish(self) -> None:
        """Nothing is held back."""


def _packer(wanted: str, sink: _Sink, level: int) -> GzipWriter:
    return (ZstdWriter if wanted == "zstd" else GzipWriter)(sink, level)


def _digest_of(fd: int) -> str:
    running = digests.new()
    position = 0
    while data := os.pread(fd, _CHUNK, position):
        running.update(data)
        position += len(data)
    return f"sha256:{running.hexdigest()}"
