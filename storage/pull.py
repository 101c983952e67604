"""Pulling an image: which reference is meant, which of an index's images, its configuration, its layers, its row.

Weight: light until something is fetched; then `storage.registry` (urllib3) and `storage.fetch`.

Runs as uid 0 of the user's namespace (`rootless.userns.enter`), in the host's network namespace.  Whatever happens,
an image is listed with all of its layers and blobs or not at all.
"""

from __future__ import annotations

from rootless.errors import Error, NotFound
from rootless.values import Value
from storage import images, lookup, registries_conf
from storage.blobs import BlobStore, NoRoomError
from storage.digest import DigestError
from storage.gate import check_registry
from storage.imageconfig import MAX_CONFIG_BYTES, parse_config
from storage.manifest import Index, Manifest, ManifestError, check_image, check_layers, parse_manifest
from storage.platforms import Platform, host_platform, matches
from storage.policy import load as load_policy
from storage.reference import Reference
from storage.registry_connect import connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeVar

    from storage.database import Database
    from storage.fetch import Events
    from storage.imageconfig import ImageConfig
    from storage.policy import Policy
    from storage.registries_conf import RegistriesConf, Source
    from storage.registry import Fetched, Registry
    from storage.registry_auth import Credentials
    from storage.unpack import UnpackLimits

    Place = TypeVar("Place")
    Result = TypeVar("Result")
    # Called where nothing decides between several registries: returns the chosen one.
    Choose = Callable[[Sequence[Reference]], Reference]

POLICIES = ("always", "missing", "newer", "never")
_ATTEMPTS = 2


class PullOptions(Value):
    """What the command line says about a pull; `None` and "" where it says nothing.

    policy: one of POLICIES.  tls_verify: None → https, plain http only on loopback or where registries.conf allows.
    attempts: of each request; backoff_s: the first pause between them.
    """

    policy: str = "missing"
    platform: Platform | None = None
    credentials: Credentials | None = None
    authfile: str = ""
    tls_verify: bool | None = None
    cert_dir: str = ""
    attempts: int = 4
    backoff_s: float = 0.5
    parallel: int = 0  # layers at once; 0: the default
    single_id: bool = False  # only one id is mapped
    policy_file: str = ""  # another policy.json than the usual
    limits: UnpackLimits | None = None


class Pulled(Value):
    """The image that a pull ended with.  `fetched`: False where the stored one was taken."""

    image_id: str  # 64 hex digits
    reference: Reference | None  # None where the given name was an id
    manifest_digest: str
    platform: Platform
    fetched: bool = True


def pull(
    db: Database,
    text: str,
    options: PullOptions,
    env: Mapping[str, str],
    *,
    conf: RegistriesConf | None = None,
    events: Events | None = None,
    choose: Choose | None = None,
) -> Pulled:
    """Make the image `text` names stored, as the policy says, and return it.

    conf: registries.conf, read where it is not given; events: called with `PullEvent`s, one at a time, from several
    threads; choose: asked where registries.conf wants the user to decide.  Raises Error: one line that says what
    cannot be had and why; nothing half-made is listed then, and what was received serves the next attempt.
    """
    if options.policy not in POLICIES:
        raise Error(f"pull policy {options.policy!r} is none of {', '.join(POLICIES)}")
    conf = conf or registries_conf.load(env)
    stored = _stored(db, text, options, conf)
    if options.policy == "never" or (options.policy == "missing" and stored):
        if stored is None:
            raise NotFound(f"{text}: image not known here, and the pull policy is never", hint=f"pyctl pull {text}")
        return stored
    policy = load_policy(env, options.policy_file)
    resolution = registries_conf.resolve(conf, text)
    candidates = resolution.candidates
    if resolution.ask:
        if choose is not None:
            candidates = (choose(candidates),)
        elif conf.short_name_mode == "enforcing":
            raise Error(
                f"short name {text!r} is ambiguous, and there is no terminal to ask on",
                hint=f"name the registry: {' or '.join(str(c) for c in candidates)}",
            )
    if options.credentials is not None and len(candidates) > 1:
        raise Error(
            f"short name {text!r} may mean several registries, and each would be sent the password of --creds",
            hint=f"name the registry: {' or '.join(str(c) for c in candidates)}",
        )
    try:
        pulled = _first(
            candidates,
            lambda candidate: _candidate(db, candidate, options, env, conf, events, stored, policy),
            f"short name {text!r}: none of its registries gives it",
        )
    except Error:
        if options.policy == "newer" and stored is not None:
            return stored  # an image that cannot be compared is as new as any that can be had
        raise
    if resolution.ask and choose is not None and conf.short_name_mode != "disabled" and pulled.reference is not None:
        from storage.reference import split_short

        registries_conf.record_alias(split_short(text)[0], pulled.reference, env)
    return pulled


def list_tags(
    text: str, options: PullOptions, env: Mapping[str, str], conf: RegistriesConf | None = None
) -> tuple[Reference, ...]:
    """Every tag of a repository, as references, for --all-tags.  Raises Error."""
    conf = conf or registries_conf.load(env)
    repository = registries_conf.resolve(conf, text).candidates[0]
    source = registries_conf.sources(conf, repository)[-1]
    registry = connect(source, options, env, conf)
    try:
        tags = registry.tags(source.reference)
    finally:
        registry.close()
    return tuple(repository.replace(tag=tag, digest="") for tag in tags)


def fetch_manifest(text: str, options: PullOptions, env: Mapping[str, str], conf: RegistriesConf) -> Fetched:
    """What a registry has under a name, index or manifest; nothing is stored.  Raises NotFound, RegistryError."""

    def attempt(source: Source) -> Fetched:
        registry = connect(source, options, env, conf)
        try:
            return registry.manifest(source.reference)
        finally:
            registry.close()

    def candidate(reference: Reference) -> Fetched:
        what = f"image {reference}: neither its mirrors nor its registry give it"
        return _first(registries_conf.sources(conf, reference), attempt, what)

    candidates = registries_conf.resolve(conf, text).candidates
    return _first(candidates, candidate, f"short name {text!r}: none of its registries gives it")


def _stored(db: Database, text: str, options: PullOptions, conf: RegistriesConf) -> Pulled | None:
    """The image that is here already, if it is of the platform that is wanted."""
    found = lookup.find(db, text, lambda short: registries_conf.local_candidates(conf, short))
    if found is None:
        return None
    image_id, name = found
    (row,) = images.ImageStore(db).list(image_id) or (None,)
    if row is None:
        return None
    platform = Platform(os=row.os, architecture=row.architecture, variant=row.variant)
    if options.platform is not None and not matches(options.platform, platform):
        return None
    from storage.reference import parse

    return Pulled(
        image_id=image_id,
        reference=parse(name) if name else None,
        manifest_digest=row.manifest_digest,
        platform=platform,
        fetched=False,
    )


def _first(places: Sequence[Place], attempt: Callable[[Place], Result], what: str) -> Result:
    """What the first place gives; the only error, or all of them in one line."""
    errors: list[Error] = []
    for place in places:
        try:
            return attempt(place)
        except NoRoomError:
            raise  # another registry's copy would not fit either
        except Error as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    raise Error(f"{what}: {'; '.join(error.message for error in errors)}", hint=errors[-1].hint) from errors[-1]


def _candidate(
    db: Database,
    reference: Reference,
    options: PullOptions,
    env: Mapping[str, str],
    conf: RegistriesConf,
    events: Events | None,
    stored: Pulled | None,
    policy: Policy,
) -> Pulled:
    """Pull one full reference from the first of its mirrors that has it, else from its registry."""
    from storage.fetch import PullEvent, Serialised

    told = Serialised(events)
    told(PullEvent(kind="trying", text=str(reference)))

    def attempt(source: Source) -> Pulled:
        registry = connect(source, options, env, conf)

        def allow(manifest: Manifest) -> None:
            check_registry(policy, reference, manifest.digest, registry, source.reference, env)

        try:
            return _Pull(db, registry, source, reference, options, told, allow).run(stored)
        finally:
            registry.close()

    what = f"image {reference}: neither its mirrors nor its registry give it"
    return _first(registries_conf.sources(conf, reference), attempt, what)


class _Pull:
    """One reference from one place.  `reference` is what it is stored as, `source.reference` where it is read."""

    def __init__(
        self,
        db: Database,
        registry: Registry,
        source: Source,
        reference: Reference,
        options: PullOptions,
        events: Events,
        allow: Callable[[Manifest], None],
    ) -> None:
        self._allow = allow
        self._db = db
        self._blobs = BlobStore(db.paths)
        self._registry = registry
        self._place = source.reference
        self._reference = reference
        self._options = options
        self._events = events
        self._what = f"image {reference}"

    def run(self, stored: Pulled | None) -> Pulled:
        """Everything; retried once where a layer was collected between its unpacking and the image's row."""
        from storage.database import ConstraintError

        manifest, index = self._manifest()
        check_image(manifest, self._what)
        self._allow(manifest)
        if self._options.policy == "newer" and stored is not None and stored.manifest_digest == manifest.digest:
            return stored
        raw_config = self._config(manifest)
        config = parse_config(raw_config, f"{self._what}: configuration")
        check_layers(manifest, config, self._what)
        self._check_platform(config)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                image_id = self._store(manifest, index, raw_config, config)
            except ConstraintError:
                if attempt == _ATTEMPTS:
                    raise
            else:
                break
        return Pulled(
            image_id=image_id,
            reference=self._reference,
            manifest_digest=manifest.digest,
            platform=config.platform,
        )

    def _manifest(self) -> tuple[Manifest, Index | None]:
        """The manifest for the platform, and the index that it was found in."""
        fetched = self._registry.manifest(self._place)
        found = parse_manifest(fetched.raw, fetched.content_type, f"{self._what}: manifest")
        if isinstance(found, Manifest):
            return found, None
        wanted = self._options.platform or host_platform()
        entry = found.select(wanted, self._what)
        what = f"{self._what}: manifest {entry.digest}"
        inner = self._registry.manifest(self._place.replace(digest=entry.digest))
        if len(inner.raw) != entry.size:
            raise ManifestError(f"{what} has {len(inner.raw)} bytes, the index says {entry.size}")
        manifest = parse_manifest(inner.raw, inner.content_type, what)
        if not isinstance(manifest, Manifest):
            raise ManifestError(f"{what} is an index inside an index")
        if entry.media_type and entry.media_type != manifest.media_type:
            raise ManifestError(f"{what} is of type {manifest.media_type!r}, the index says {entry.media_type!r}")
        return manifest, found

    def _config(self, manifest: Manifest) -> bytes:
        """The configuration's bytes, from the store if they are there."""
        from storage.fetch import PullEvent

        descriptor = manifest.config
        if self._blobs.has(descriptor.digest):
            try:
                return self._blobs.read(descriptor.digest, MAX_CONFIG_BYTES)
            except DigestError:
                self._blobs.remove_damaged(descriptor.digest)
        what = f"{self._what}: configuration"
        self._events(PullEvent(kind="start", digest=descriptor.digest, total=descriptor.size, text="config"))
        raw = self._registry.small_blob(self._place.path, descriptor, what, MAX_CONFIG_BYTES)
        self._events(PullEvent(kind="done", digest=descriptor.digest, done=len(raw), total=descriptor.size))
        return raw

    def _check_platform(self, config: ImageConfig) -> None:
        """An image of one platform that is another than was asked for is an error; than the host's, a warning."""
        from storage.fetch import PullEvent

        wanted = self._options.platform
        if wanted is not None and not matches(wanted, config.platform):
            raise ManifestError(f"{self._what} is for {config.platform}, not for {wanted}")
        if wanted is None and not matches(host_platform(), config.platform):
            text = f"{self._what} is for {config.platform}; this machine is {host_platform()}"
            self._events(PullEvent(kind="warning", text=text))

    def _store(self, manifest: Manifest, index: Index | None, raw_config: bytes, config: ImageConfig) -> str:
        from storage.fetch import PARALLEL_LAYERS, LayerFetcher
        from storage.layers import LayerStore

        options = self._options
        with LayerStore(self._db, options.single_id, options.limits):
            fetcher = LayerFetcher(
                self._db,
                self._registry,
                self._place.path,
                self._events,
                single_id=options.single_id,
                limits=options.limits,
                parallel=options.parallel or PARALLEL_LAYERS,
            )
            layers = fetcher.fetch(manifest.layers, config.diff_ids)
            for raw, digest in (
                (raw_config, manifest.config.digest),
                (manifest.raw, ""),
                (index.raw if index else b"", ""),
            ):
                if raw:
                    self._blobs.put(raw, digest)
            self._blobs.sync()
            reference = self._reference
            name = f"{reference.name}@{reference.digest}" if reference.digest else str(reference)
            return images.ImageStore(self._db).add(
                raw_config,
                manifest,
                [layer.key for layer in layers],
                names=[name],
                index=(index.digest, index.media_type) if index else None,
                squashed=any(layer.squashed for layer in layers),
            )
