"""Where an image's signatures are: lookaside stores and attachments of registries, by registries.d; files of `dir:`.

Weight: a YAML parser (where registries.d has files), urllib3 (for lookaside stores on the web).

containers-registries.d(5).  The directory: the user's `~/.config/containers/registries.d` where it is there, else
`/etc/containers/registries.d`.  Where nothing names a store: `~/.local/share/containers/sigstore`.
"""

from __future__ import annotations

import base64
import binascii
import os
from urllib.parse import quote, urlsplit

from rootless.errors import Error, NotFound, os_error_text
from rootless.fds import read_file
from rootless.values import Value, dumps
from storage import digest as digests
from storage import fields
from storage.manifest import Manifest, parse_manifest
from storage.policy import docker_scopes
from storage.signatures import MAX_SIGNATURE_BYTES, Signature

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from storage.reference import Reference
    from storage.registry import Registry

_MAX_SIGNATURES = 100
_MAX_FILE = 1 << 20
ATTACHED_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
ATTACHED_SIGNATURE = "dev.cosignproject.cosign/signature"
_SIGSTORE_HEAD = b"\x00sigstore-json\n"
_KEYS = (
    *("lookaside", "lookaside-staging", "sigstore", "sigstore-staging", "use-sigstore-attachments"),
    *("signature-lookaside", "signature-lookaside-staging"),
)


class SignaturePlace(Value):
    """Where a repository's signatures are.  lookaside: a URL; staging: one to write to; attached: in the registry;
    usual: no file names a store.
    """

    lookaside: str = ""
    staging: str = ""
    attached: bool = False
    usual: bool = False


def place_of(reference: Reference, env: Mapping[str, str], system_dir: str = "/etc/containers") -> SignaturePlace:
    """What registries.d says of a repository.  Raises Error naming the file."""
    tables, default = _read(env, system_dir)
    rows = [*(tables[scope] for scope in docker_scopes(reference) if scope in tables), default]
    url = _first(rows, "lookaside", "sigstore")
    staging = _first(rows, "lookaside-staging", "sigstore-staging")
    attached = next((row["use-sigstore-attachments"] for row in rows if "use-sigstore-attachments" in row), False)
    usual = f"file://{env.get('XDG_DATA_HOME') or env.get('HOME', '') + '/.local/share'}/containers/sigstore"
    return SignaturePlace(lookaside=url or usual, staging=staging or url or usual, attached=attached, usual=not url)


def _first(rows: Sequence[dict[str, Any]], name: str, old: str) -> str:
    for row in rows:
        if row.get(name) or row.get(old):
            return str(row.get(name) or row.get(old))
    return ""


def _read(env: Mapping[str, str], system_dir: str) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """(scope → its table, the default's table) of all files."""
    config = env.get("XDG_CONFIG_HOME") or env.get("HOME", "") + "/.config"
    folder = f"{config}/containers/registries.d"
    folder = folder if os.path.isdir(folder) else f"{system_dir}/registries.d"
    tables: dict[str, dict[str, Any]] = {}
    default: dict[str, Any] = {}
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith((".yaml", ".yml")))
    except OSError:
        return tables, default
    for name in names:
        path = f"{folder}/{name}"
        tree = _parse(path)
        if "default-docker" in tree:
            default = _table(tree["default-docker"], f"{path}: default-docker")
        for scope, table in fields.table(tree, "docker", path).items():
            if scope in tables:
                raise Error(f"{path}: {scope} is described in another file too")
            tables[scope] = _table(table, f"{path}: {scope}")
    return tables, default


def _parse(path: str) -> dict[str, Any]:
    import yaml

    try:
        tree = yaml.safe_load(read_file(path, limit=_MAX_FILE))
    except OSError as error:
        raise Error(os_error_text(error, path)) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Error(f"{path} is not YAML: {' '.join(str(error).split())[:300]}") from error
    if tree is None:
        return {}
    if type(tree) is not dict or any(name not in ("default-docker", "docker") for name in tree):
        raise Error(f"{path}: default-docker and docker are expected, nothing else")
    return tree


def _table(tree: Any, what: str) -> dict[str, Any]:
    if tree is None:
        return {}
    if type(tree) is not dict:
        raise Error(f"{what} is not a table")
    for name in tree:
        if name not in _KEYS:
            raise Error(f"{what}: unknown key {str(name)[:80]!r}")
    for name in _KEYS:
        if name == "use-sigstore-attachments":
            fields.flag(tree, name, what)
        elif fields.text(tree, name, what) and not tree[name].startswith(("file:///", "https://", "http://")):
            raise Error(f"{what}: {name}: {tree[name][:200]!r} is neither file:///PATH nor https://")
    return {name: value for name, value in tree.items() if value is not None}


# --- fetching ------------------------------------------------------------------------------------


def of_registry(
    reference: Reference, digest: str, registry: Registry, place: Reference, env: Mapping[str, str]
) -> list[Signature]:
    """The signatures of the image `reference`, whose manifest has `digest`, read from `place` of `registry`.

    Raises Error where a store cannot be read: a signature that is not found is not the same as none.
    """
    where = place_of(reference, env)
    found = list(_lookaside(where.lookaside, reference, digest, env))
    return [*found, *_attached(registry, place, digest)] if where.attached else found


def folder_of(base: str, reference: Reference, digest: str) -> str:
    """Below which URL or path the files `signature-1` … of an image are."""
    algorithm, digits = digests.split(digest)
    return f"{base.rstrip('/')}/{reference.path}@{algorithm}={digits}"


def _lookaside(base: str, reference: Reference, digest: str, env: Mapping[str, str]) -> Iterator[Signature]:
    if base.startswith("file://"):
        folder = folder_of(base.removeprefix("file://"), reference, digest)
        yield from of_folder(folder)
        return
    from storage.registry_hosts import is_loopback, origin_of
    from storage.registry_http import HttpLimits, TlsOptions, Transport, status_error

    what = f"signature of {reference}"
    host = origin_of(base).host
    transport = Transport(
        host, tls=TlsOptions(), limits=HttpLimits(), user_agent="pyctl", plain_http=is_loopback, env=env
    )
    try:
        folder = folder_of(base, reference, digest)
        for number in range(1, _MAX_SIGNATURES + 1):
            parts = urlsplit(f"{folder}/signature-{number}")
            url = f"{parts.scheme}://{parts.netloc}{quote(parts.path, safe='/@=:')}"
            answer = transport.retrying("GET", url, dict, what)
            raw = transport.read_small(answer, MAX_SIGNATURE_BYTES, what)
            if answer.status == 404:
                return
            if answer.status != 200:
                raise status_error(answer.status, raw, f"{what}: {base}")
            yield _from_file(raw)
    finally:
        transport.close()


def of_folder(folder: str, digest: str = "") -> Iterator[Signature]:
    """The signatures in files `signature-1` and so on, as `dir:` and a lookaside store on disk have them.

    digest: of an image that `dir:` has as one of an index's.
    """
    begin = file_prefix(digest)
    for number in range(1, _MAX_SIGNATURES + 1):
        path = f"{folder}/{begin}signature-{number}"
        try:
            raw = read_file(path, limit=MAX_SIGNATURE_BYTES)
        except FileNotFoundError:
            return
        except OSError as error:
            raise Error(os_error_text(error, path)) from error
        yield _from_file(raw)


def file_prefix(digest: str) -> str:
    """How the names of the signatures of an index's image begin in `dir:`; "" of the image or index itself."""
    return f"{digests.split(digest)[1]}." if digest else ""


def _from_file(raw: bytes) -> Signature:
    """Simple signing's are bare; others begin with a NUL and a name (containers/image, docs/signature-protocols.md)."""
    if not raw.startswith(_SIGSTORE_HEAD):
        return Signature(kind="unknown" if raw.startswith(b"\x00") else "simple", data=raw)
    what = "a sigstore signature's file"
    tree = fields.parse_object(raw[len(_SIGSTORE_HEAD) :], what, MAX_SIGNATURE_BYTES)
    annotations = fields.text_table(tree, "annotations", what)
    payload = _decoded(fields.text(tree, "payload", what), what)
    return Signature(kind="sigstore", data=payload, signature=_decoded(annotations.get(ATTACHED_SIGNATURE, ""), what))


def to_file(signature: Signature) -> bytes:
    """A signature in the form of a file."""
    if signature.kind != "sigstore":
        return signature.data
    tree = {
        "mimeType": ATTACHED_TYPE,
        "payload": base64.b64encode(signature.data).decode(),
        "annotations": {ATTACHED_SIGNATURE: base64.b64encode(signature.signature).decode()},
    }
    return _SIGSTORE_HEAD + dumps(tree).encode()


def _decoded(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Error(f"{what} is not base64") from error


def attachments_of(place: Reference, digest: str) -> Reference:
    """The name of the image whose layers are the signatures of another in its repository."""
    return place.replace(tag=digest.replace(":", "-") + ".sig", digest="")


def _attached(registry: Registry, place: Reference, digest: str) -> Iterator[Signature]:
    tagged = attachments_of(place, digest)
    what = f"signatures {tagged}"
    try:
        fetched = registry.manifest(tagged)
    except NotFound:
        return
    found = parse_manifest(fetched.raw, fetched.content_type, what)
    if not isinstance(found, Manifest):
        raise Error(f"{what} are an index")
    for layer in found.layers[:_MAX_SIGNATURES]:
        coded = layer.annotations.get(ATTACHED_SIGNATURE, "")
        if layer.media_type != ATTACHED_TYPE or not coded:
            continue
        payload = registry.small_blob(place.path, layer, what, MAX_SIGNATURE_BYTES)
        yield Signature(kind="sigstore", data=payload, signature=_decoded(coded, what))
