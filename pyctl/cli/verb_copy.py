"""`copy`.  Weight: `storage.copy`; urllib3 where a registry is spoken to."""

from __future__ import annotations

import os

from pyctl.cli import mapped, signing
from pyctl.cli.progress import Progress
from pyctl.cli.verb_inspect_remote import temporary_folder
from pyctl.cli.verb_pull import credentials, platform_of, retry_of
from pyctl.engine.engine import Engine
from rootless.errors import Error, UsageError, os_error_text
from rootless.fds import write_file
from storage.archives import PODMAN
from storage.copy import CopyOptions
from storage.copy import copy as copy_image
from storage.copy_sources import REGISTRY, open_source, parse_any
from storage.copy_targets import check_target, open_target
from storage.gate import check_source, signatures_of
from storage.policy import Policy
from storage.policy import load as load_policy
from storage.pull import PullOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyctl.cli.parser import Options, Parsed
    from storage.archives import Transport
    from storage.copy_sources import Source
    from storage.manifest import Index, Manifest
    from storage.signatures import Signature

_SOURCE = (
    *("src_creds", "src_username", "src_password", "src_no_creds", "src_authfile", "src_cert_dir", "src_tls_verify"),
)
_TARGET = (
    *("dest_creds", "dest_username", "dest_password", "dest_no_creds", "dest_authfile", "dest_cert_dir"),
    "dest_tls_verify",
)


def copy(parsed: Parsed) -> int:
    """Copies one image, or an index with its images."""
    options = parsed.options
    engine = Engine(parsed.globals)
    source_place, target_place = (parse_any(text) for text in parsed.args)
    check_target(target_place)
    wanted = _copy_options(options, target_place)
    # Files belong to who called: read and written before a namespace is entered, whose ids are others.
    registries, temporary = engine.registries, temporary_folder(engine)
    source_access = _access(engine, options, _SOURCE, source_place)
    target_access = _access(engine, options, _TARGET, target_place)
    policy = Policy() if options.insecure_policy else load_policy(os.environ, options.policy)

    def signatures(image: Source, document: Manifest | Index) -> Sequence[Signature]:
        return () if options.remove_signatures else signatures_of(image, document, os.environ)

    def allow(image: Source, document: Manifest | Index) -> None:
        check_source(policy, image, document, os.environ)

    if source_place.kind == PODMAN:
        mapped.enter(engine)
    progress = Progress(bool(options.quiet))
    try:
        with open_source(
            source_place,
            source_access,
            os.environ,
            registries,
            temporary=temporary,
            anonymous=bool(options.src_no_creds),
        ) as source:
            target = open_target(
                target_place,
                target_access,
                os.environ,
                registries,
                more_names=tuple(options.additional_tag),
                accept_plain=bool(options.dest_oci_accept_uncompressed_layers),
                anonymous=bool(options.dest_no_creds),
            )
            digest = copy_image(
                source, target, wanted, temporary=temporary, allow=allow, signatures=signatures, events=progress
            )
    finally:
        progress.finish()
    if options.digestfile:
        try:
            write_file(options.digestfile, digest.encode())
        except OSError as error:
            raise Error(os_error_text(error, options.digestfile)) from error
    return 0


def _copy_options(options: Options, target: Transport) -> CopyOptions:
    if options.insecure_policy and options.policy:
        raise UsageError("--insecure-policy excludes --policy")
    if options.all and options.given("multi_arch") and options.multi_arch != "all":
        raise UsageError("--all is --multi-arch all")
    if options.additional_tag and target.kind != "docker-archive":
        raise UsageError("--additional-tag is for docker-archive: only")
    if options.dest_oci_accept_uncompressed_layers and target.kind not in ("oci", "oci-archive"):
        raise UsageError("--dest-oci-accept-uncompressed-layers is for oci: and oci-archive: only")
    for field in ("dest_compress", "dest_decompress"):
        if options.given(field) and target.kind != "dir":
            raise UsageError(f"--{field.replace('_', '-')} is for dir: only")
    if options.dest_compress and options.dest_decompress:
        raise UsageError("--dest-compress excludes --dest-decompress")
    compression = options.dest_compress_format
    if compression and target.kind == "docker-archive":
        raise UsageError("the layers of a docker-archive are not compressed")
    if options.given("dest_compress_level"):
        highest = 22 if compression == "zstd" else 9
        if not compression:
            raise UsageError("--dest-compress-level goes with --dest-compress-format")
        if not 1 <= options.dest_compress_level <= highest:
            raise UsageError(f"--dest-compress-level {options.dest_compress_level}: 1 to {highest} is expected")
    if options.format == "v2s2" and compression == "zstd":
        raise UsageError("--format v2s2 has no zstd layers", hint="--format oci")
    if options.dest_decompress:
        compression = "none"
    if signing.given(options) and target.kind not in (REGISTRY, "dir"):
        raise UsageError(f"{target.kind}: has no place for the signature of --sign-by", hint="docker:// and dir: have")
    return CopyOptions(
        form=options.format,
        multi_arch="all" if options.all else options.multi_arch or "system",
        platform=platform_of(options),
        compression=compression,
        compress_plain=bool(options.dest_compress),
        level=options.dest_compress_level,
        preserve=bool(options.preserve_digests),
        signers=signing.signers_of(options),
        identity=signing.identity_of(options),
    )


def _access(engine: Engine, options: Options, fields: tuple[str, ...], place: Transport) -> PullOptions:
    """How one side's registry is spoken to.  fields: as in `_SOURCE`."""
    creds_field, user_field, password_field, none_field, file_field, certificates_field, tls_field = fields
    attempts, backoff_s = retry_of(engine, options, PullOptions().backoff_s, "retry_times")
    if place.kind != REGISTRY:
        for name in fields:
            if options.given(name):
                raise UsageError(f"--{name.replace('_', '-')} is for registries, not for {place.kind}:")
    creds, user = options.get(creds_field), options.get(user_field)
    given = [f"--{name.replace('_', '-')}" for name in (creds_field, user_field, none_field) if options.get(name)]
    if len(given) > 1:
        raise UsageError(f"{given[0]} excludes {given[1]}")
    if options.given(password_field) and not user:
        raise UsageError(f"--{password_field.replace('_', '-')} goes with --{user_field.replace('_', '-')}")
    if user:
        creds = f"{user}:{options.get(password_field)}" if options.given(password_field) else user
    return PullOptions(
        credentials=credentials(creds),
        authfile=options.get(file_field) or options.authfile,
        tls_verify=options.get(tls_field) if options.given(tls_field) else None,
        cert_dir=options.get(certificates_field),
        attempts=attempts,
        backoff_s=backoff_s,
    )
