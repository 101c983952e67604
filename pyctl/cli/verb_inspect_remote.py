"""`inspect docker://NAME` and its like: an image that is looked at where it is.  Weight: `storage.copy_sources`."""

from __future__ import annotations

import os
import sys

from pyctl.cli import mapped, report
from pyctl.cli.verb_pull import credentials, platform_of, retry_of
from pyctl.engine.engine import Engine
from rootless.errors import UsageError
from rootless.values import loads
from storage.archives import PODMAN
from storage.copy import choose
from storage.copy_sources import RegistrySource, open_source, parse_any, read_config
from storage.imageconfig import parse_config
from storage.manifest import Index, check_image
from storage.pull import PullOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyctl.cli.parser import Options, Parsed
    from storage.copy_sources import Source
    from storage.manifest import Manifest
    from storage.platforms import Platform


def inspect_remote(parsed: Parsed) -> int:
    """Prints what skopeo's inspect prints."""
    options = parsed.options
    if len(parsed.args) != 1:
        raise UsageError("an image that is not stored is inspected alone")
    if options.given("type") and options.type != "image":
        raise UsageError(f"{parsed.args[0]} is an image, not a {options.type}")
    for field in ("size", "latest"):
        if options.given(field):
            raise UsageError(f"--{field} is about containers")
    if options.creds and options.no_creds:
        raise UsageError("--creds excludes --no-creds")
    engine = Engine(parsed.globals)
    place = parse_any(parsed.args[0])
    if place.kind == PODMAN:
        mapped.enter(engine)
    attempts, backoff_s = retry_of(engine, options, PullOptions().backoff_s, "retry_times")
    access = PullOptions(
        credentials=credentials(options.creds),
        authfile=options.authfile,
        tls_verify=options.tls_verify if options.given("tls_verify") else None,
        cert_dir=options.cert_dir,
        attempts=attempts,
        backoff_s=backoff_s,
    )
    temporary = temporary_folder(engine)
    anonymous = bool(options.no_creds)
    with open_source(
        place, access, os.environ, engine.registries, temporary=temporary, anonymous=anonymous
    ) as source:
        _print(source, options, platform_of(options))
    return 0


def temporary_folder(engine: Engine) -> str:
    """Where files without a name are made: as large as images are, so not a tmpfs by default."""
    return engine.config.image_copy_tmp_dir or os.environ.get("TMPDIR") or "/var/tmp"


def _print(source: Source, options: Options, platform: Platform | None) -> None:
    top = source.document()
    if options.raw and not options.config:
        sys.stdout.flush()
        sys.stdout.buffer.write(top.raw)
        return
    manifest, index = choose(source, platform)
    check_image(manifest, source.what)
    config = read_config(source, manifest)
    if options.raw:
        sys.stdout.flush()
        sys.stdout.buffer.write(config)
        return
    parse_config(config, f"{source.what}: the configuration")
    tree = loads(config) if options.config else _facts(source, manifest, index, config, bool(options.no_tags))
    report.print_one(tree, options.format if options.given("format") else "json")


def _facts(
    source: Source, manifest: Manifest, index: Index | None, config: bytes, without_tags: bool
) -> dict[str, Any]:
    from pyctl.cli.verb_inspect import with_maps

    tree = loads(config)
    run = tree.get("config") or {}
    remote = isinstance(source, RegistrySource)
    facts = {
        **({"Name": source.reference.name} if source.reference is not None and remote else {}),
        "Digest": (index or manifest).digest,
        "RepoTags": list(source.tags()) if isinstance(source, RegistrySource) and not without_tags else [],
        "Created": tree.get("created"),
        "DockerVersion": tree.get("docker_version", ""),
        "Labels": run.get("Labels"),
        "Architecture": tree.get("architecture", ""),
        "Os": tree.get("os", ""),
        "Layers": [layer.digest for layer in manifest.layers],
        "LayersData": [
            {
                "MIMEType": layer.media_type,
                "Digest": layer.digest,
                "Size": layer.size,
                "Annotations": layer.annotations or None,
            }
            for layer in manifest.layers
        ],
        "Env": run.get("Env"),
    }
    marked: dict[str, Any] = with_maps(facts)
    return marked
