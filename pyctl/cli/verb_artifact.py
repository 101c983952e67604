"""`artifact`: files in the form of images.  Weight: `storage.artifacts`; urllib3 where a registry is spoken to."""

from __future__ import annotations

import os
import sys

from pyctl.cli import output, report
from pyctl.cli.verb_manifest import access, pairs, reference_of, send, write_digest
from pyctl.engine.engine import Engine
from rootless.errors import Error, UsageError
from rootless.values import loads
from storage.artifacts import ArtifactStore
from storage.blobs import BlobStore
from storage.layers import LayerStore
from storage.manifest import Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Parsed

_TITLES = ("REPOSITORY", "TAG", "DIGEST", "SIZE")
_FIELDS = ("Digest", "Repository", "Size", "Tag")
_SHORT_DIGEST = 12


def add(parsed: Parsed) -> int:
    """Stores files and prints the manifest's digest."""
    from storage.artifact import make

    options = parsed.options
    name = reference_of(parsed.args[0])
    if "@" in name:
        raise UsageError(f"{parsed.args[0]}: a name to store may not have a digest")
    if options.append and options.type:
        raise UsageError("--append leaves the artifact's type as it is")
    engine = Engine(parsed.globals)
    store = ArtifactStore(engine.db)
    held = store.manifest(store.find(name)) if options.append else None
    if held is None:
        store.check_free(name)
    with LayerStore(engine.db):
        manifest = make(
            BlobStore(engine.paths),
            parsed.args[1:],
            artifact_type=options.type,
            file_annotations=pairs(options.annotation),
            layer_type=options.file_type,
            before=held,
        )
        store.put(name, manifest, replace=held is not None)
    sys.stdout.write(f"{manifest.digest.partition(':')[2]}\n")
    return 0


def ls(parsed: Parsed) -> int:
    """Prints the list of artifacts."""
    options = parsed.options
    rows = []
    for artifact in ArtifactStore(Engine(parsed.globals).db).list():
        repository, _, tag = artifact.name.rpartition(":")
        digits = artifact.digest.partition(":")[2]
        rows.append(
            report.Row(
                Digest=digits if options.no_trunc else digits[:_SHORT_DIGEST],
                Repository=repository,
                Size=output.human_size(artifact.size, 4),
                Tag=tag,
            )
        )
    if options.format:
        return report.print_rows(rows, options.format, {}, fields=_FIELDS, show_headings=not options.noheading)
    lines = [(row["Repository"], row["Tag"], row["Digest"], row["Size"]) for row in rows]
    output.print_table(_TITLES, lines, not options.noheading)
    return 0


def inspect(parsed: Parsed) -> int:
    """Prints an artifact's manifest, name and digest."""
    store = ArtifactStore(Engine(parsed.globals).db)
    artifact = store.find(parsed.args[0])
    manifest = loads(store.manifest(artifact).raw)
    report.print_json({"Manifest": manifest, "Name": artifact.name, "Digest": artifact.digest}, indent=5)
    return 0


def rm(parsed: Parsed) -> int:
    """Removes artifacts and prints their digests; one that cannot be removed does not keep the others."""
    from pyctl.cli.verb_rmi import collect_garbage

    if bool(parsed.options.all) == bool(parsed.args):
        raise UsageError("give artifacts, or --all")
    engine = Engine(parsed.globals)
    store = ArtifactStore(engine.db)
    status = 0
    for name in [row.name for row in store.list()] if parsed.options.all else parsed.args:
        try:
            artifact = store.find(name)
            store.remove(artifact)
        except Error as error:
            output.error_line(error)
            status = error.exit_code
        else:
            sys.stdout.write(f"{artifact.digest.partition(':')[2]}\n")
    collect_garbage(engine)
    return status


def extract(parsed: Parsed) -> int:
    """Writes an artifact's files."""
    options = parsed.options
    if options.digest and options.title:
        raise UsageError("--digest excludes --title")
    store = ArtifactStore(Engine(parsed.globals).db)
    store.extract(store.find(parsed.args[0]), parsed.args[1], digest=options.digest, title=options.title)
    return 0


def pull(parsed: Parsed) -> int:
    """Fetches an artifact and prints its manifest's digest."""
    from pyctl.cli.verb_inspect_remote import temporary_folder
    from storage.copy_sources import open_source, parse_any
    from storage.gate import check_source
    from storage.kept import bring_in
    from storage.policy import load as load_policy

    options = parsed.options
    name = reference_of(parsed.args[0])
    engine = Engine(parsed.globals)
    where = parse_any(f"docker://{name}")
    quiet = bool(options.quiet)
    with open_source(
        where, access(engine, options), os.environ, engine.registries, temporary=temporary_folder(engine)
    ) as source:
        manifest = source.document()
        if not isinstance(manifest, Manifest):
            raise Error(f"{name} is an index, not an artifact", hint=f"pyctl pull {name}")
        check_source(load_policy(os.environ, ""), source, manifest, os.environ)
        with LayerStore(engine.db):
            bring_in(source, manifest, BlobStore(engine.paths), lambda line: None if quiet else _tell(line))
            ArtifactStore(engine.db).put(name, manifest, replace=True)
    sys.stdout.write(f"{manifest.digest.partition(':')[2]}\n")
    return 0


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def push(parsed: Parsed) -> int:
    """Sends an artifact to where its name says."""
    options = parsed.options
    engine = Engine(parsed.globals)
    store = ArtifactStore(engine.db)
    artifact = store.find(parsed.args[0])
    manifest = store.manifest(artifact)
    with LayerStore(engine.db):
        digest = send(engine, options, manifest, f"docker://{artifact.name}", f"artifact {artifact.name}")
    if options.digestfile:
        write_digest(options.digestfile, digest)
    return 0
