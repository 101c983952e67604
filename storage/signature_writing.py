"""Keeping the signatures of an image in a registry: in a lookaside store on this machine, and attached to the image.

Weight: as `storage.signature_places`; `storage.registry_upload` for attachments.

Attachments are cosign's: an image of the tag `sha256-<hex>.sig` whose layers are the payloads.  They are written only
where registries.d says use-sigstore-attachments, as they are read only there.
"""

from __future__ import annotations

import base64
import os

from rootless.errors import Error, NotFound, os_error_text
from rootless.fds import read_file, write_durably
from rootless.values import dumps, loads
from storage import digest as digests
from storage.manifest import OCI_MANIFEST, Manifest, parse_manifest
from storage.signature_places import (
    ATTACHED_SIGNATURE,
    ATTACHED_TYPE,
    attachments_of,
    folder_of,
    place_of,
    to_file,
)
from storage.signatures import MAX_SIGNATURE_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from storage.reference import Reference
    from storage.registry import Registry
    from storage.registry_upload import Repository
    from storage.signatures import Signature

_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"


def check_writable(reference: Reference, kinds: Iterable[str], env: Mapping[str, str]) -> None:
    """Error unless signatures of these kinds can be kept for a repository: asked before anything is sent."""
    for kind in kinds:
        if kind == "simple":
            staging_of(reference, env)
        elif not place_of(reference, env).attached:
            raise Error(
                f"sigstore signatures of {reference.name} cannot be kept: registries.d allows no attachments",
                hint=f"docker: {{{reference.domain}: {{use-sigstore-attachments: true}}}} in"
                " ~/.config/containers/registries.d/NAME.yaml",
            )


def staging_of(reference: Reference, env: Mapping[str, str]) -> str:
    """The directory that new signatures of a repository belong into.  Raises Error where it is not on this machine."""
    staging = place_of(reference, env).staging
    if not staging.startswith("file://"):
        raise Error(
            f"signatures of {reference.name} are kept at {staging}, which is not on this machine",
            hint="image sign --directory DIR, or lookaside-staging: file:///DIR in registries.d",
        )
    return staging.removeprefix("file://")


def write(
    signatures: Sequence[Signature],
    reference: Reference,
    digest: str,
    registry: Registry,
    repository: Repository,
    env: Mapping[str, str],
) -> None:
    """Keep signatures of the manifest `digest`, which the registry has, beside those that are there.  Raises Error."""
    check_writable(reference, {signature.kind for signature in signatures}, env)
    attached = [signature for signature in signatures if signature.kind == "sigstore"]
    for signature in signatures:
        if signature.kind != "sigstore":
            write_file(staging_of(reference, env), reference, digest, signature)
    if attached:
        _attach(attached, reference, digest, registry, repository)


def write_file(base: str, reference: Reference, digest: str, signature: Signature) -> str:
    """Keep one below a directory in a lookaside store's form; returns its path.  Raises Error."""
    folder = folder_of(base, reference, digest)
    raw = to_file(signature)
    try:
        os.makedirs(folder, 0o751, exist_ok=True)
        number = 1
        while os.path.exists(path := f"{folder}/signature-{number}"):
            if read_file(path, limit=MAX_SIGNATURE_BYTES) == raw:
                return path
            number += 1
        write_durably(path, raw, 0o644)
    except OSError as error:
        raise Error(os_error_text(error, f"cannot write a signature below {folder}")) from error
    return path


def _attach(
    signatures: Sequence[Signature], reference: Reference, digest: str, registry: Registry, repository: Repository
) -> None:
    tagged = attachments_of(reference, digest)
    what = f"signatures {tagged}"
    layers: list[dict[str, Any]] = []
    try:
        fetched = registry.manifest(tagged)
    except NotFound:
        pass
    else:
        held = parse_manifest(fetched.raw, fetched.content_type, what)
        if not isinstance(held, Manifest) or held.media_type != OCI_MANIFEST:
            raise Error(f"{what} are no OCI image: none is added to it")
        layers = list(loads(held.raw)["layers"])
    new = [(row, signature) for signature in signatures if (row := _layer(signature)) not in layers]
    if not new:
        return
    for row, signature in new:
        repository.upload(row["digest"], row["size"], _content(signature.data), f"{what}: payload")
        layers.append(row)
    rootfs = {"type": "layers", "diff_ids": [row["digest"] for row in layers]}
    config = dumps({"architecture": "", "os": "", "config": {}, "rootfs": rootfs}).encode()
    repository.upload(digests.of(config), len(config), _content(config), f"{what}: config")
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": _CONFIG_TYPE, "digest": digests.of(config), "size": len(config)},
        "layers": layers,
    }
    repository.put_manifest(dumps(manifest).encode(), OCI_MANIFEST, tagged.tag, what)


def _layer(signature: Signature) -> dict[str, Any]:
    return {
        "mediaType": ATTACHED_TYPE,
        "digest": digests.of(signature.data),
        "size": len(signature.data),
        "annotations": {ATTACHED_SIGNATURE: base64.b64encode(signature.signature).decode()},
    }


def _content(data: bytes) -> Any:
    def content(start: int, count: int) -> Iterator[bytes]:
        yield data[start : start + count]

    return content
