"""The artifacts of one store: named manifests of files, with their blobs.

Weight: `storage.artifact`, `storage.kept`.
"""

from __future__ import annotations

import os
import time

from rootless.errors import Error, NotFound, os_error_text
from rootless.fds import write_all
from rootless.values import Value
from storage import digest as digests
from storage.artifact import TITLE
from storage.blobs import BlobStore
from storage.digest import is_hex
from storage.kept import keep
from storage.manifest import MAX_MANIFEST_BYTES, Manifest, parse_manifest
from storage.reference import InvalidReferenceError, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from storage.database import Database
    from storage.manifest import Descriptor

_CHUNK = 256 << 10


class Artifact(Value):
    """One artifact.  size: of its files in bytes."""

    name: str  # "quay.io/me/model:1"
    digest: str
    size: int
    added_ns: int


class ArtifactStore:
    """See the module's docstring."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def list(self) -> tuple[Artifact, ...]:
        """All artifacts, oldest first."""
        rows = self.db.query("SELECT name, digest, size, added_ns FROM artifacts ORDER BY added_ns, name")
        return tuple(Artifact(name=r[0], digest=r[1], size=r[2], added_ns=r[3]) for r in rows)

    def find(self, text: str) -> Artifact:
        """By name, digest, or the unambiguous beginning of one.  Raises NotFound, Error."""
        rows = self.list()
        digits = text.removeprefix("sha256:")
        try:
            name = str(parse(text).with_default_tag())
        except InvalidReferenceError:
            name = ""
        named = [row for row in rows if row.name == name]
        if not named and is_hex(digits, len(digits)):
            named = [row for row in rows if row.digest.startswith(f"sha256:{digits}")]
            if len({row.digest for row in named}) > 1:
                raise Error(f"more than one artifact has a digest that begins with {digits}", hint="give more digits")
        if not named:
            raise NotFound(f"no artifact found with name or digest of {text}", hint="pyctl artifact ls shows them")
        return named[0]

    def manifest(self, artifact: Artifact) -> Manifest:
        """Its manifest, verified.  Raises NotFound, Error."""
        raw = BlobStore(self.db.paths).read(artifact.digest, MAX_MANIFEST_BYTES)
        found = parse_manifest(raw, what=f"artifact {artifact.name}")
        if not isinstance(found, Manifest):
            raise Error(f"artifact {artifact.name} is an index")
        return found

    def check_free(self, name: str) -> None:
        """Raise Error where there is an artifact of this name."""
        if self.db.one("SELECT 1 FROM artifacts WHERE name = ?", (name,)):
            raise Error(f"artifact {name} already exists", hint=f"pyctl artifact rm {name}, or add --append")

    def put(self, name: str, manifest: Manifest, replace: bool) -> None:
        """Name a manifest whose blobs are stored and synced.  Raises Error where the name is taken, not `replace`d."""

        def write() -> None:
            if not replace:
                self.check_free(name)
            size = sum(layer.size for layer in manifest.layers)
            self.db.execute(
                "INSERT OR REPLACE INTO artifacts VALUES (?,?,?,?)", (name, manifest.digest, size, time.time_ns())
            )
            blobs = (manifest.digest, manifest.config.digest, *(layer.digest for layer in manifest.layers))
            keep(self.db, f"artifact {name}", blobs)

        self.db.write(write)

    def remove(self, artifact: Artifact) -> None:
        """Forget it; its blobs go when garbage is collected.  Works on a full disk."""

        def write() -> None:
            self.db.execute("DELETE FROM artifacts WHERE name = ?", (artifact.name,))
            self.db.execute("DELETE FROM kept_blobs WHERE owner = ?", (f"artifact {artifact.name}",))

        self.db.write(write, frees_space=True)

    # --- files -----------------------------------------------------------------------------------

    def extract(self, artifact: Artifact, target: str, *, digest: str = "", title: str = "") -> None:
        """Write the files, or the one with this digest or title, into the directory `target`, or one to a file.

        A file's name is the last part of its title, else its digest; nothing that is there is followed or replaced
        but a regular file.  Raises Error, NotFound; half a file is not left.
        """
        chosen = self._chosen(artifact, digest, title)
        if os.path.isdir(target):
            directory = target
        elif len(chosen) == 1 and not target.endswith("/"):
            self._write(chosen[0], os.path.dirname(target) or ".", os.path.basename(target))
            return
        else:
            try:
                os.mkdir(target)
            except OSError as error:
                raise Error(os_error_text(error, target)) from error
            directory = target
        names = [_file_name(layer) for layer in chosen]
        for name in names:
            if names.count(name) > 1:
                raise Error(f"artifact {artifact.name} has two files called {name}", hint="--digest chooses one")
        for layer, name in zip(chosen, names, strict=True):
            self._write(layer, directory, name)

    def _chosen(self, artifact: Artifact, digest: str, title: str) -> Sequence[Descriptor]:
        layers = self.manifest(artifact).layers
        if digest:
            found = [layer for layer in layers if layer.digest.partition(":")[2].startswith(digest.rpartition(":")[2])]
        elif title:
            found = [layer for layer in layers if layer.annotations.get(TITLE) == title]
        else:
            found = list(layers)
        if not found:
            raise NotFound(f"artifact {artifact.name} has no file {digest or title}".rstrip())
        return found

    def _write(self, layer: Descriptor, directory: str, name: str) -> None:
        source = BlobStore(self.db.paths).open(layer.digest)
        part = f".{name[:200]}.{os.urandom(4).hex()}"
        try:
            folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder)
                try:
                    _copy_verified(source, fd, layer.digest)
                    os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
                except BaseException:
                    os.unlink(part, dir_fd=folder)
                    raise
                finally:
                    os.close(fd)
            finally:
                os.close(folder)
        except OSError as error:
            raise Error(os_error_text(error, f"{directory}/{name}")) from error
        finally:
            os.close(source)


def _copy_verified(source: int, target: int, digest: str) -> None:
    running = digests.new(digests.split(digest)[0])
    while data := os.read(source, _CHUNK):
        running.update(data)
        write_all(target, data)
    if running.hexdigest() != digests.split(digest)[1]:
        raise Error(f"blob {digest} of the store is damaged", hint="pull the artifact again")


def _file_name(layer: Descriptor) -> str:
    """A name that leads nowhere else."""
    title = layer.annotations.get(TITLE, "").rstrip("/").rpartition("/")[2]
    if title in ("", ".", "..") or not title.isprintable():
        return layer.digest.partition(":")[2]
    return title
