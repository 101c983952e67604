"""Pushing an image: its blobs as they are stored, then its manifest; an index with all of its images.

Weight: light until something is sent; then `storage.registry` (urllib3) and `storage.fetch`.

Blobs are the caller's own files, so no mapped ids are needed.  A manifest is sent after everything that it names, and
the name last of all: whatever ends a push, the repository never shows an image that is not whole.
"""

from __future__ import annotations

import os
import threading

from rootless.errors import Error, UsageError
from rootless.values import Value
from storage import images, lookup, registries_conf
from storage.archive_files import DescriptorReader
from storage.blobs import BlobStore
from storage.compression import detect, open_decompressed
from storage.manifest import (
    DOCKER_MANIFEST,
    MAX_MANIFEST_BYTES,
    Index,
    Manifest,
    parse_manifest,
)
from storage.manifest_convert import as_docker, as_oci, compression_of, with_layers
from storage.reference import Reference, parse
from storage.registry_connect import connect_target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from storage.database import Database
    from storage.fetch import Events
    from storage.manifest import Descriptor
    from storage.registries_conf import RegistriesConf
    from storage.registry_auth import Credentials
    from storage.registry_upload import Repository
    from storage.signatures import Signature
    from storage.signing import Signer

    # (digest, size, compression) of what a layer became; None: it stays.
    Changed = tuple[str, int, str] | None

FORMATS = ("oci", "v2s2")
COMPRESSIONS = ("gzip", "zstd")
_PARALLEL = 3
_CHUNK = 256 << 10
_CANCEL_WAIT_S = 20.0


class PushOptions(Value):
    """What the command line says about a push; `None` and "" where it says nothing.

    form: "oci" | "v2s2" (Docker's schema 2), "": as it is stored.  compression: "gzip" | "zstd" for layers that have
    another one (only for uncompressed ones with force False), level: of the compressor, 0: its usual one.  signers:
    keys that sign all that is sent, with the name `identity` (None: the one that it is sent to).
    """

    credentials: Credentials | None = None
    authfile: str = ""
    tls_verify: bool | None = None
    cert_dir: str = ""
    attempts: int = 4
    backoff_s: float = 0.5
    parallel: int = 0
    form: str = ""
    compression: str = ""
    level: int = 0
    force: bool = True
    signers: tuple[Signer, ...] = ()
    identity: Reference | None = None


class Pushed(Value):
    """What is in the registry now."""

    reference: Reference
    digest: str  # of the manifest or index that the reference names


def push(
    db: Database,
    text: str,
    target: Reference,
    options: PushOptions,
    env: Mapping[str, str],
    *,
    conf: RegistriesConf | None = None,
    events: Events | None = None,
) -> Pushed:
    """Send the image that `text` names to `target`.

    `NAME@DIGEST` of an index sends it with the images of all its platforms, which must be stored; any other name sends
    one image.  Raises UsageError, NotFound, RegistryError: one line that says what is wrong; blobs that arrived stay
    in the registry and are not sent again.
    """
    _check(options)
    conf = conf or registries_conf.load(env)
    from storage.fetch import Serialised  # and with it the layer store, whose lock is needed

    # What is read, and what is compressed anew, must not be collected meanwhile.
    from storage.layers import LayerStore

    with LayerStore(db):
        index, manifests = _chosen(db, text)
        if index is not None and (options.form or options.compression):
            raise UsageError("an index is pushed as it is: --format and --compression-format go with single images")
        from storage.signature_writing import check_writable, write

        check_writable(target, [signer.kind for signer in options.signers], env)
        registry = connect_target(target, options, env, conf)
        try:
            from storage.registry_upload import Repository

            repository = Repository(registry, target.path)
            sender = _Sender(db, repository, target, options, Serialised(events), registry.cancel)
            pushed, signatures = sender.run(index, manifests)
            for digest, made in signatures.items():
                write(made, target, digest, registry, repository, env)
            return pushed
        finally:
            registry.close()


def _check(options: PushOptions) -> None:
    if options.form and options.form not in FORMATS:
        raise UsageError(f"--format {options.form}: {' or '.join(FORMATS)} is expected")
    if options.compression and options.compression not in COMPRESSIONS:
        raise UsageError(f"--compression-format {options.compression}: {' or '.join(COMPRESSIONS)} is expected")
    if options.form == "v2s2" and options.compression == "zstd":
        raise UsageError("--format v2s2 has no zstd layers", hint="--format oci")


def _chosen(db: Database, text: str) -> tuple[Index | None, list[Manifest]]:
    """The index that is meant, if one is, and the manifests to send."""
    blobs = BlobStore(db.paths)
    store = images.ImageStore(db)
    image_id, name = lookup.resolve(db, text)
    digest = store.digest_of(text if "@" in text else name or text)
    found = parse_manifest(blobs.read(digest, MAX_MANIFEST_BYTES), what=f"manifest {digest}")
    if isinstance(found, Manifest):
        return None, [found]
    if "@" not in text:
        # A name that was pulled by the index's digest, given as an id or found otherwise: this machine's image.
        row = store.list(image_id)[0]
        found_one = parse_manifest(blobs.read(row.manifest_digest, MAX_MANIFEST_BYTES))
        assert isinstance(found_one, Manifest)
        return None, [found_one]
    manifests, missing = [], []
    for entry in found.manifests:
        held = _held(blobs, entry)
        if held is None:
            missing.append(str(entry.platform or entry.digest))
        else:
            manifests.append(held)
    if missing:
        raise Error(
            f"{text} is an index, and of its images are not stored here: {', '.join(missing)}",
            hint="pull them with --platform, or push this machine's image by its name or id",
        )
    return found, manifests


def _held(blobs: BlobStore, entry: Descriptor) -> Manifest | None:
    """The manifest of an index's entry, where all of it is stored."""
    if not blobs.has(entry.digest):
        return None
    found = parse_manifest(blobs.read(entry.digest, MAX_MANIFEST_BYTES), entry.media_type, f"manifest {entry.digest}")
    if not isinstance(found, Manifest) or not all(blobs.has(d.digest) for d in (found.config, *found.layers)):
        return None
    return found


class _Sender:
    """One push."""

    def __init__(
        self,
        db: Database,
        repository: Repository,
        target: Reference,
        options: PushOptions,
        events: Events,
        cancel: Callable[[], None],
    ) -> None:
        self._db = db
        self._blobs = BlobStore(db.paths)
        self._repository = repository
        self._target = target
        self._options = options
        self._events = events
        self._cancel = cancel
        self._change = threading.Condition()
        self._waiting: list[str] = []
        self._running = 0
        self._error: BaseException | None = None
        self._sizes: dict[str, int] = {}
        self._kinds: dict[str, str] = {}
        self._mounts: dict[str, str] = {}
        self._changed: dict[str, Changed] = {}

    def run(self, index: Index | None, manifests: Sequence[Manifest]) -> tuple[Pushed, dict[str, Sequence[Signature]]]:
        """Send it all; returns also the signatures that are asked for, by the digest of the manifest that each is of.

        They are made before the name is there: a key that fails leaves none.
        """
        for manifest in manifests:
            for descriptor in manifest.layers:
                self._kinds[descriptor.digest] = "layer"
                self._sizes[descriptor.digest] = descriptor.size
            self._kinds[manifest.config.digest] = "config"
            self._sizes[manifest.config.digest] = manifest.config.size
        self._mounts = {digest: self._mount_from(digest) for digest in self._sizes}
        self._waiting = sorted(self._sizes, key=self._sizes.__getitem__)  # the largest first, from the end
        self._send_blobs()
        what = f"image {self._target}: manifest"
        if index is not None:
            for manifest in manifests:
                self._repository.put_manifest(manifest.raw, manifest.media_type, manifest.digest, what)
            signatures = self._signatures([index.digest, *(manifest.digest for manifest in manifests)])
            return self._name(index.raw, index.media_type, index.digest, what), signatures
        manifest = self._rewritten(manifests[0])
        signatures = self._signatures([manifest.digest])
        return self._name(manifest.raw, manifest.media_type, manifest.digest, what), signatures

    def _signatures(self, digests: Sequence[str]) -> dict[str, Sequence[Signature]]:
        signers, identity = self._options.signers, self._options.identity or self._target
        if not signers:
            return {}
        from storage.signing import signed_by

        return {digest: signed_by(signers, identity, digest) for digest in digests}

    def _name(self, raw: bytes, media_type: str, digest: str, what: str) -> Pushed:
        target = self._target
        if target.digest and target.digest != digest:
            raise UsageError(f"{target}: the image that is pushed has the digest {digest}")
        from storage.fetch import PullEvent

        self._events(PullEvent(kind="line", text=f"Writing manifest {digest} to {target}"))
        self._repository.put_manifest(raw, media_type, target.tag or digest, what)
        return Pushed(reference=target, digest=digest)

    def _rewritten(self, manifest: Manifest) -> Manifest:
        """The manifest in the wanted form, with what the layers became; the stored bytes where nothing is asked."""
        blobs = [self._changed.get(layer.digest) for layer in manifest.layers]
        form = self._options.form
        zstd = any(
            (blob[2] if blob else compression_of(layer.media_type)) == "zstd"
            for blob, layer in zip(blobs, manifest.layers, strict=True)
        )
        if form == "oci" or (zstd and manifest.media_type == DOCKER_MANIFEST):
            manifest = as_oci(manifest)
        manifest = with_layers(manifest, blobs)
        return as_docker(manifest) if form == "v2s2" else manifest

    def _mount_from(self, digest: str) -> str:
        """A repository of the same registry that should have the blob, by the names of the images here; "": none."""
        rows = self._db.query(
            "SELECT n.name FROM image_blobs b JOIN image_names n USING (image_id) WHERE b.digest = ?"
            " ORDER BY n.added_ns",
            (digest,),
        )
        for (name,) in rows:
            reference = parse(name)
            if reference.domain == self._target.domain and reference.path != self._target.path:
                return reference.path
        return ""

    # --- blobs, several at once --------------------------------------------------------------------

    def _send_blobs(self) -> None:
        threads = [
            threading.Thread(target=self._work, name=f"push {n}", daemon=True)
            for n in range(min(self._options.parallel or _PARALLEL, len(self._waiting)))
        ]
        self._running = len(threads)
        for thread in threads:
            thread.start()
        try:
            with self._change:
                while self._running and self._error is None:
                    self._change.wait()
        except BaseException as error:
            self._fail(error)  # the user's interrupt
        if self._error is not None:
            self._cancel()
            for thread in threads:
                thread.join(_CANCEL_WAIT_S)
            raise self._error

    def _work(self) -> None:
        try:
            while True:
                with self._change:
                    if not self._waiting or self._error is not None:
                        return
                    digest = self._waiting.pop()
                self._one(digest)
        except BaseException as error:
            self._fail(error)
        finally:
            with self._change:
                self._running -= 1
                self._change.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._change:
            if self._error is None:
                self._error = error
            self._change.notify_all()

    def _one(self, digest: str) -> None:
        what = f"{self._kinds[digest]} {digest}"
        mount_from = self._mounts[digest]
        if self._kinds[digest] == "layer":
            changed = self._changed[digest] = self._compressed(digest, what)
            if changed is not None:
                digest, mount_from = changed[0], ""
        size = self._blobs.size(digest)
        self._event("start", digest, 0, size, self._kinds.get(digest, "layer"))

        def content(start: int, count: int) -> Iterator[bytes]:
            return self._content(digest, start, count, size, what)

        outcome = self._repository.upload(digest, size, content, what, mount_from)
        self._event("done", digest, size, size, "" if outcome == "done" else outcome)

    def _content(self, digest: str, start: int, count: int, size: int, what: str) -> Iterator[bytes]:
        """Bytes of a stored blob, verified where all of it passes."""
        from storage import digest as digests

        hashing = digests.new(digests.split(digest)[0]) if count == size else None
        fd = self._blobs.open(digest)
        try:
            end = start + count
            while start < end:
                data = os.pread(fd, min(_CHUNK, end - start), start)
                if not data:
                    raise Error(f"{what} in the store is shorter than it was", hint="pull the image again")
                start += len(data)
                if hashing is not None:
                    hashing.update(data)
                    if start == end and hashing.hexdigest() != digests.split(digest)[1]:
                        raise Error(f"{what} in the store is damaged", hint="pull the image again")
                yield data
                self._event("bytes", digest, start, size)
        finally:
            os.close(fd)

    def _event(self, kind: str, digest: str, done: int, total: int, text: str = "") -> None:
        from storage.fetch import PullEvent

        self._events(PullEvent(kind=kind, digest=digest, done=done, total=total, text=text))

    # --- compressing anew --------------------------------------------------------------------------

    def _compressed(self, digest: str, what: str) -> Changed:
        """The layer as it is asked for, in the store's blobs; None where it is so already."""
        options = self._options
        fd = self._blobs.open(digest)
        try:
            held = detect(os.pread(fd, 6, 0))
            wanted = options.compression
            if options.form == "v2s2" and held == "zstd":
                wanted = "gzip"
            elif not wanted or (held and not options.force) or (held == wanted and not options.level):
                return None
            from storage.gzip_writer import GzipWriter, ZstdWriter

            plain = open_decompressed(DescriptorReader(fd, what), what)
            with self._blobs.writer() as writer:
                packer = (ZstdWriter if wanted == "zstd" else GzipWriter)(writer, options.level)
                while chunk := plain.read(_CHUNK):
                    if self._error is not None:
                        raise Error(f"{what}: the push was cancelled")
                    packer.write(chunk)
                packer.finish()
                size = writer.size
                return writer.commit(), size, wanted
        finally:
            os.close(fd)
