"""`manifest`: lists of images for several platforms.  Weight: `storage.lists`, `storage.copy_sources`."""

from __future__ import annotations

import os
import sys

from pyctl.cli import mapped, output, report
from pyctl.engine.engine import Engine
from rootless.errors import Error, NotFound, UsageError, os_error_text
from rootless.fds import write_file
from rootless.values import loads
from storage import images, lookup
from storage.archives import PODMAN, parse_transport
from storage.blobs import BlobStore
from storage.copy_sources import KINDS, open_source, parse_any, read_config
from storage.digest import is_digest
from storage.kept import StoreSource, bring_in
from storage.layers import LayerStore
from storage.lists import ListStore, change_entry, index_of, make_entry, position_of, render
from storage.manifest import MAX_MANIFEST_BYTES, Descriptor, Index, Manifest, parse_manifest
from storage.reference import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from pyctl.cli.parser import Options, Parsed
    from storage.copy_sources import Source
    from storage.pull import PullOptions

_ALREADY_GONE = 1


def pairs(words: Iterable[str]) -> dict[str, str]:
    """--annotation.  Raises UsageError."""
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise UsageError(f"--annotation {word}: NAME=VALUE is expected")
        found[name] = value
    return found


def _platform(options: Options) -> dict[str, Any]:
    """What the options say of an entry's platform."""
    wanted = {
        "architecture": options.arch,
        "os": options.os,
        "os.version": options.os_version,
        "variant": options.variant,
        "features": list(options.features),
        "os.features": list(options.get("os_features") or ()),
    }
    return {key: value for key, value in wanted.items() if value}


def create(parsed: Parsed) -> int:
    """Makes a list and prints its id."""
    options = parsed.options
    engine = Engine(parsed.globals)
    annotations = pairs(options.annotation)
    store = ListStore(engine.db)
    # What is to be added is found first: no list is left behind for a name that is wrong.
    found = [_Found(engine, options, name) for name in parsed.args[1:]]
    with LayerStore(engine.db):
        collected = [item.collect() for item in found]
        with engine.db.transaction():
            list_id = store.create(parsed.args[0], annotations, bool(options.amend))
            for entries, blobs in collected:
                store.add(list_id, entries, blobs)
    sys.stdout.write(f"{list_id}\n")
    return 0


def add(parsed: Parsed) -> int:
    """Adds to a list and prints its id."""
    options = parsed.options
    engine = Engine(parsed.globals)
    store = ListStore(engine.db)
    list_id = store.resolve(parsed.args[0])
    annotations, platform = pairs(options.annotation), _platform(options)
    if not options.artifact:
        given = [field for field in vars_of_artifacts() if options.given(field)]
        if given:
            raise UsageError(f"--{given[0].replace('_', '-')} goes with --artifact")
        if len(parsed.args) > 2 and (annotations or platform):
            raise UsageError("--annotation and the platform's options are for one image at a time")
    with LayerStore(engine.db):
        if options.artifact:
            collected = [_artifact(engine, options, parsed.args[1:])]
        else:
            collected = [_Found(engine, options, name).collect() for name in parsed.args[1:]]
        for entries, blobs in collected:
            for entry in entries:
                change_entry(entry, platform, annotations)
            store.add(list_id, entries, blobs)
    sys.stdout.write(f"{list_id}\n")
    return 0


def vars_of_artifacts() -> tuple[str, ...]:
    """The fields of the options that --artifact needs."""
    return (
        *("artifact_type", "artifact_config", "artifact_config_type", "artifact_layer_type"),
        *("artifact_exclude_titles", "artifact_subject"),
    )


def _artifact(engine: Engine, options: Options, files: Sequence[str]) -> tuple[list[dict[str, Any]], set[str]]:
    from storage.artifact import make

    subject = _described(engine, options.artifact_subject) if options.artifact_subject else None
    manifest = make(
        BlobStore(engine.paths),
        files,
        artifact_type=options.artifact_type,
        layer_type=options.artifact_layer_type,
        titles=not options.artifact_exclude_titles,
        config=options.artifact_config,
        config_type=options.artifact_config_type,
        subject=subject,
    )
    descriptor = _descriptor(manifest).replace(artifact_type=options.artifact_type)
    digests = {manifest.digest, manifest.config.digest, *(layer.digest for layer in manifest.layers)}
    return [make_entry(descriptor, None)], digests


def _descriptor(manifest: Manifest) -> Descriptor:
    return Descriptor(media_type=manifest.media_type, digest=manifest.digest, size=len(manifest.raw))


def _described(engine: Engine, name: str) -> Descriptor:
    """The descriptor of a stored image's manifest.  Raises NotFound."""
    digest = images.ImageStore(engine.db).digest_of(name)
    return _descriptor(_stored_manifest(engine, digest))


def _stored_manifest(engine: Engine, digest: str) -> Manifest:
    found = parse_manifest(BlobStore(engine.paths).read(digest, MAX_MANIFEST_BYTES), what=f"manifest {digest}")
    if not isinstance(found, Manifest):
        raise Error(f"manifest {digest} is an index")
    return found


class _Found:
    """An image that is to be added: a stored one, or one that is read from elsewhere.  Raises NotFound, Error."""

    def __init__(self, engine: Engine, options: Options, name: str) -> None:
        self._engine = engine
        self._options = options
        self._name = name
        self._image = ""
        if name.partition(":")[0] not in KINDS:
            found = lookup.find(engine.db, name)
            self._image = found[0] if found else ""

    def collect(self) -> tuple[list[dict[str, Any]], set[str]]:
        """The entries, and the blobs that they need, stored."""
        if self._image:
            return self._stored()
        name = self._name if self._name.partition(":")[0] in KINDS else f"docker://{self._resolved()}"
        place = parse_any(name)
        if place.kind == PODMAN:
            mapped.enter(self._engine)
        from pyctl.cli.verb_inspect_remote import temporary_folder
        from storage.gate import check_source
        from storage.policy import load as load_policy

        with open_source(
            place,
            access(self._engine, self._options),
            os.environ,
            self._engine.registries,
            temporary=temporary_folder(self._engine),
        ) as source:
            policy = load_policy(os.environ, "")
            entries: list[dict[str, Any]] = []
            blobs: set[str] = set()
            for manifest, platform in self._chosen(source):
                check_source(policy, source, manifest, os.environ)
                blobs.update(bring_in(source, manifest, BlobStore(self._engine.paths), _tell))
                held = platform or loads(read_config(source, manifest))
                entries.append(make_entry(_descriptor(manifest), held))
            return entries, blobs

    def _resolved(self) -> str:
        from storage import registries_conf

        candidates = registries_conf.resolve(self._engine.registries, self._name).candidates
        if len(candidates) != 1:
            raise Error(
                f"short name {self._name!r} may mean several registries",
                hint=f"name one: {' or '.join(str(c) for c in candidates)}",
            )
        return str(candidates[0])

    def _stored(self) -> tuple[list[dict[str, Any]], set[str]]:
        engine = self._engine
        store = images.ImageStore(engine.db)
        row = store.list(self._image)[0]
        manifest = _stored_manifest(engine, row.manifest_digest)
        entries = [make_entry(_descriptor(manifest), loads(store.config_text(self._image)))]
        digests = {manifest.digest, manifest.config.digest, *(layer.digest for layer in manifest.layers)}
        return entries, digests

    def _chosen(self, source: Source) -> list[tuple[Manifest, dict[str, Any] | None]]:
        """The image for this machine, or with --all every one, with the platform that an index says."""
        from storage.copy import choose, instance

        top = source.document()
        if not self._options.all or isinstance(top, Manifest):
            return [(choose(source, None)[0], None)]
        rows = loads(top.raw)["manifests"]
        return [(instance(source, entry), row.get("platform")) for entry, row in zip(top.manifests, rows, strict=True)]


def access(engine: Engine, options: Options) -> PullOptions:
    """How a registry is spoken to, by the options that a command has."""
    from pyctl.cli.verb_pull import credentials, retry_of
    from storage.pull import PullOptions

    usual = PullOptions()
    attempts, backoff_s = usual.attempts, usual.backoff_s
    if options.get("retry") is not None:
        attempts, backoff_s = retry_of(engine, options, usual.backoff_s)
    return PullOptions(
        credentials=credentials(options.get("creds") or ""),
        authfile=options.get("authfile") or "",
        tls_verify=options.tls_verify if options.given("tls_verify") else None,
        cert_dir=options.get("cert_dir") or "",
        attempts=attempts,
        backoff_s=backoff_s,
    )


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")


# --- looking at and changing lists ---------------------------------------------------------------


def inspect(parsed: Parsed) -> int:
    """Prints a list, or the index or manifest that a registry has under a name."""
    options = parsed.options
    engine = Engine(parsed.globals)
    name = parsed.args[0]
    store = ListStore(engine.db)
    if found := store.find(name):
        report.print_json(render(store.content(found[0])))
        return 0
    from storage.pull import fetch_manifest

    name = name.removeprefix("docker://")
    fetched = fetch_manifest(name, access(engine, options), os.environ, engine.registries)
    parse_manifest(fetched.raw, fetched.content_type, f"image {name}: manifest")
    report.print_json(loads(fetched.raw))
    return 0


def exists(parsed: Parsed) -> int:
    """Status 0 or 1; 125 where the name is that of an image."""
    try:
        ListStore(Engine(parsed.globals).db).resolve(parsed.args[0])
    except NotFound:
        return _ALREADY_GONE
    return 0


def annotate(parsed: Parsed) -> int:
    """Changes an entry, or the list itself, and prints the list's id."""
    options = parsed.options
    engine = Engine(parsed.globals)
    store = ListStore(engine.db)
    name = parsed.args[0]
    list_id = store.resolve(name)
    annotations, platform = pairs(options.annotation), _platform(options)
    if bool(options.index) == (len(parsed.args) > 1):
        raise UsageError("give an image of the list, or --index for the list itself")
    if options.index and platform:
        raise UsageError("--index: the list itself is for no platform")
    if options.subject and not options.index:
        raise UsageError("--subject goes with --index")
    subject = _described(engine, options.subject) if options.subject else None
    digest = "" if options.index else _digest_of(engine, parsed.args[1])

    def change(tree: dict[str, Any]) -> None:
        if digest:
            change_entry(tree["manifests"][position_of(tree, digest, name)], platform, annotations)
            return
        if annotations:
            tree["annotations"] = {**tree.get("annotations", {}), **annotations}
        if subject is not None:
            tree["subject"] = {"mediaType": subject.media_type, "size": subject.size, "digest": subject.digest}

    store.change(list_id, change)
    sys.stdout.write(f"{list_id}\n")
    return 0


def _digest_of(engine: Engine, text: str) -> str:
    return text if is_digest(text) else images.ImageStore(engine.db).digest_of(text)


def remove(parsed: Parsed) -> int:
    """Takes an image out of a list and prints the list's id."""
    engine = Engine(parsed.globals)
    store = ListStore(engine.db)
    name = parsed.args[0]
    list_id = store.resolve(name)
    digest = _digest_of(engine, parsed.args[1])

    def change(tree: dict[str, Any]) -> None:
        del tree["manifests"][position_of(tree, digest, name)]

    store.change(list_id, change)
    sys.stdout.write(f"{list_id}\n")
    return 0


def rm(parsed: Parsed) -> int:
    """Removes lists; one that cannot be removed does not keep the others."""
    from pyctl.cli.verb_rmi import collect_garbage, tell

    engine = Engine(parsed.globals)
    store = ListStore(engine.db)
    status, deleted = 0, False
    for name in parsed.args:
        try:
            if store.find(name) is None:
                try:
                    store.resolve(name)
                except NotFound as error:
                    if parsed.options.ignore:
                        continue
                    raise NotFound(error.message, exit_code=images.EXIT_NO_SUCH_IMAGE) from error
            removed = store.remove(name)
        except Error as error:
            output.error_line(error)
            status = error.exit_code
        else:
            tell(removed)
            deleted = deleted or bool(removed.deleted)
    if deleted:
        collect_garbage(engine)
    return status


def push(parsed: Parsed) -> int:
    """Sends a list with its images."""
    options = parsed.options
    engine = Engine(parsed.globals)
    store = ListStore(engine.db)
    list_id = store.resolve(parsed.args[0])
    found = store.find(parsed.args[0])
    name = found[1] if found else ""
    where = parsed.args[1] if len(parsed.args) > 1 else name
    if not where:
        raise UsageError(f"{parsed.args[0]} is an id: where it is pushed to must be said")
    if parse_transport(where) is None and not where.startswith("docker://"):
        where = f"docker://{where}"
    index = index_of(store.content(list_id))
    if not index.manifests:
        raise Error(f"manifest list {parsed.args[0]} is empty", hint=f"pyctl manifest add {parsed.args[0]} IMAGE")
    with LayerStore(engine.db):
        digest = send(engine, options, index, where, parsed.args[0])
    if options.rm:
        store.remove(list_id)
    if options.digestfile:
        write_digest(options.digestfile, digest)
    return 0


def write_digest(path: str, digest: str) -> None:
    """--digestfile.  Raises Error."""
    try:
        write_file(path, digest.encode())
    except OSError as error:
        raise Error(os_error_text(error, path)) from error


def send(engine: Engine, options: Options, top: Manifest | Index, where: str, what: str) -> str:
    """Copy a document of the store, with all that it names, to `where`; returns its digest there.  Raises Error."""
    from pyctl.cli.progress import Progress
    from pyctl.cli.signing import signers_of
    from pyctl.cli.verb_inspect_remote import temporary_folder
    from storage.copy import CopyOptions, copy
    from storage.copy_targets import open_target

    place = parse_any(where)
    wanted = CopyOptions(
        multi_arch="all" if isinstance(top, Manifest) or options.all else "index-only",
        form=options.get("format") or "",
        compression=options.get("compression_format") or "",
        level=options.get("compression_level") or 0,
        signers=signers_of(options),
    )
    if wanted.level and not wanted.compression:
        raise UsageError("--compression-level goes with --compression-format")
    progress = Progress(bool(options.quiet))
    try:
        with StoreSource(engine.db, top, what) as source:
            target = open_target(place, access(engine, options), os.environ, engine.registries)
            return copy(
                source,
                target,
                wanted,
                temporary=temporary_folder(engine),
                allow=lambda _source, _document: None,  # it passed the gate when it came in
                events=progress,
            )
    finally:
        progress.finish()


def reference_of(text: str) -> str:
    """The whole name of an artifact.  Raises UsageError."""
    return str(parse(text).with_default_tag())
