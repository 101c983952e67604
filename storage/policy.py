"""policy.json: which images may come in, by where they come from and who signed them.

Weight: `rootless.values`; `storage.signatures` (subprocesses, cryptography) only where a signature is asked for.

containers-policy.json(5).  The files, the first that is there alone: the one that is named, the user's
`~/.config/containers/policy.json`, `/etc/containers/policy.json`.  Where there is none, everything is let in.  All of a
scope's requirements must hold; a requirement that cannot be checked here lets nothing in.
"""

from __future__ import annotations

import os

from rootless.errors import Error, os_error_text
from rootless.fds import read_file
from rootless.values import Value
from storage import fields
from storage.reference import InvalidReferenceError, Reference, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from storage.signatures import Signature

    Signatures = Callable[[], Sequence[Signature]]

SYSTEM_FILE = "/etc/containers/policy.json"
_MAX_BYTES = 4 << 20
_TRANSPORTS = (
    *("docker", "docker-archive", "docker-daemon", "dir", "oci", "oci-archive", "containers-storage", "atomic"),
    *("tarball", "ostree", "sif"),
)
_KEY_FIELDS = ("keyPath", "keyPaths", "keyData", "keyDatas")
# What sigstoreSigned may ask for besides keys: certificates of an authority and transparency logs.
_UNCHECKED = (
    *("fulcio", "pki", "rekorPublicKeyPath", "rekorPublicKeyData", "rekorPublicKeyPaths", "rekorPublicKeyDatas"),
)


class Identity(Value):
    """How a signature must name the image.  kind: as in the file; `value`: the reference, repository or prefix that it
    names; `signed`: the prefix of remapIdentity's other side.
    """

    kind: str = "matchRepoDigestOrExact"
    value: str = ""
    signed: str = ""


class Requirement(Value):
    """One requirement.  kind: "insecureAcceptAnything" | "reject" | "signedBy" | "sigstoreSigned".

    key_paths, key_datas (base64): any of the keys; unchecked: what is asked for and cannot be checked here.
    """

    kind: str
    key_paths: tuple[str, ...] = ()
    key_datas: tuple[str, ...] = ()
    identity: Identity = Identity()
    unchecked: tuple[str, ...] = ()


class Policy(Value):
    """A whole file; `path` "" where there is none.  scopes: by transport, then by scope."""

    path: str = ""
    default: tuple[Requirement, ...] = (Requirement(kind="insecureAcceptAnything"),)
    scopes: dict[str, dict[str, tuple[Requirement, ...]]] = {}


class Candidate(Value):
    """An image that asks to be let in.

    what: begins messages; scopes: of the policy, the most specific first; reference: what the user named, None for
    files; digest: of the manifest that is asked about.
    """

    what: str
    transport: str
    scopes: tuple[str, ...]
    digest: str
    reference: Reference | None = None


class RejectedError(Error):
    """The policy does not let the image in."""


def default_path(env: Mapping[str, str]) -> str:
    """The file that counts, "" where there is none."""
    config = env.get("XDG_CONFIG_HOME") or env.get("HOME", "") + "/.config"
    for path in (f"{config}/containers/policy.json", SYSTEM_FILE):
        if os.path.exists(path):
            return path
    return ""


def load(env: Mapping[str, str], path: str = "") -> Policy:
    """The policy in force.  Raises Error naming the file: a malformed policy lets nothing in."""
    path = path or default_path(env)
    if not path:
        return Policy()
    return parse_policy(read(path), path)


def read(path: str) -> dict[str, Any]:
    """A file's JSON.  Raises Error."""
    try:
        raw = read_file(path, limit=_MAX_BYTES + 1)
    except OSError as error:
        raise Error(os_error_text(error, path)) from error
    return fields.parse_object(raw, path, _MAX_BYTES)


def parse_policy(tree: dict[str, Any], path: str) -> Policy:
    """A policy from its JSON.  Raises Error."""
    _only(tree, ("default", "transports"), path)
    scopes: dict[str, dict[str, tuple[Requirement, ...]]] = {}
    for transport, table in fields.table(tree, "transports", path).items():
        if transport not in _TRANSPORTS:
            raise Error(f"{path}: unknown transport {transport!r}")
        if type(table) is not dict:
            raise Error(f"{path}: transports: {transport} is not an object")
        scopes[transport] = {s: _requirements(table, s, f"{path}: {transport} {s!r}") for s in table}
    return Policy(path=path, default=_requirements(tree, "default", f"{path}: default"), scopes=scopes)


def _requirements(table: dict[str, Any], key: str, what: str) -> tuple[Requirement, ...]:
    rows = fields.tables(table, key, what)
    if not rows:
        raise Error(f"{what} has no requirements", hint='[{"type": "reject"}] lets nothing in')
    return tuple(_requirement(row, what) for row in rows)


def _requirement(row: dict[str, Any], what: str) -> Requirement:
    kind = fields.text(row, "type", what)
    if kind in ("insecureAcceptAnything", "reject"):
        _only(row, ("type",), what)
        return Requirement(kind=kind)
    if kind not in ("signedBy", "sigstoreSigned"):
        raise Error(f"{what}: unknown requirement {kind[:80]!r}")
    known = ("type", "signedIdentity", *_KEY_FIELDS)
    _only(row, (*known, "keyType") if kind == "signedBy" else (*known, *_UNCHECKED), what)
    if kind == "signedBy" and fields.text(row, "keyType", what) != "GPGKeys":
        raise Error(f"{what}: keyType {fields.text(row, 'keyType', what)[:80]!r} is not supported, only GPGKeys is")
    given = [name for name in (*_KEY_FIELDS, *_UNCHECKED) if name in row]
    if len([name for name in given if name in (*_KEY_FIELDS, "fulcio", "pki")]) != 1:
        raise Error(f"{what}: {kind} names exactly one of {', '.join(_KEY_FIELDS)}")
    paths = [fields.text(row, "keyPath", what)] if "keyPath" in row else fields.texts(row, "keyPaths", what)
    datas = [fields.text(row, "keyData", what)] if "keyData" in row else fields.texts(row, "keyDatas", what)
    if not any((*paths, *datas)) and not set(given) & set(_UNCHECKED):
        raise Error(f"{what}: {kind} names no key")
    return Requirement(
        kind=kind,
        key_paths=tuple(paths),
        key_datas=tuple(datas),
        identity=_identity(row, what),
        unchecked=tuple(name for name in given if name in _UNCHECKED),
    )


def _identity(row: dict[str, Any], what: str) -> Identity:
    tree = fields.table(row, "signedIdentity", what)
    if not tree:
        return Identity()
    kind = fields.text(tree, "type", what)
    more = {
        "matchExact": (), "matchRepoDigestOrExact": (), "matchRepository": (), "exactReference": ("dockerReference",),
        "exactRepository": ("dockerRepository",), "remapIdentity": ("prefix", "signedPrefix"),
    }  # fmt: skip
    if kind not in more:
        raise Error(f"{what}: unknown signedIdentity {kind[:80]!r}")
    _only(tree, ("type", *more[kind]), what)
    values = [fields.text(tree, name, what) for name in more[kind]]
    if not all(values):
        raise Error(f"{what}: signedIdentity {kind} needs {' and '.join(more[kind])}")
    if kind.startswith("exact"):
        parse(values[0])
    return Identity(kind=kind, value=values[0] if values else "", signed=values[1] if len(values) > 1 else "")


def _only(tree: dict[str, Any], known: Sequence[str], what: str) -> None:
    for name in tree:
        if name not in known:
            raise Error(f"{what}: unknown key {name[:80]!r}")


# --- deciding ------------------------------------------------------------------------------------


def requirements_for(policy: Policy, transport: str, scopes: Sequence[str]) -> tuple[tuple[Requirement, ...], str]:
    """The requirements of the most specific scope, and its name for messages."""
    table = policy.scopes.get(transport, {})
    for scope in (*scopes, ""):
        if scope in table:
            return table[scope], f"{transport} {scope}".rstrip()
    return policy.default, "default"


def check(policy: Policy, candidate: Candidate, signatures: Signatures) -> None:
    """RejectedError unless every requirement holds.  signatures: the image's, fetched when they are asked for."""
    requirements, scope = requirements_for(policy, candidate.transport, candidate.scopes)
    where = f"{policy.path} ({scope})"
    held: Sequence[Signature] | None = None
    for requirement in requirements:
        if requirement.kind == "insecureAcceptAnything":
            continue
        if requirement.kind == "reject":
            raise RejectedError(f"{candidate.what} is rejected by {where}", hint="pyctl image trust show")
        if requirement.unchecked:
            raise RejectedError(
                f"{candidate.what}: {where} asks for {', '.join(requirement.unchecked)}, which cannot be checked here",
                hint="signatures are checked with public keys only",
            )
        if held is None:
            held = signatures()
        _check_signed(requirement, candidate, held, where)


def _check_signed(
    requirement: Requirement, candidate: Candidate, signatures: Sequence[Signature], where: str
) -> None:
    from storage.signatures import SignatureError, open_keys

    kind = "simple" if requirement.kind == "signedBy" else "sigstore"
    found = [signature for signature in signatures if signature.kind == kind]
    name = "signature" if kind == "simple" else "sigstore signature"
    if not found:
        raise RejectedError(f"{candidate.what} has no {name}, which {where} asks for")
    reasons = []
    with open_keys(kind, requirement.key_paths, requirement.key_datas) as keys:
        for signature in found:
            try:
                signed = keys.verify(signature)
            except SignatureError as error:
                reasons.append(error.message)
                continue
            if signed.digest != candidate.digest:
                reasons.append(f"it is for {signed.digest}")
            elif not matches(requirement.identity, candidate.reference, signed.reference):
                reasons.append(f"it is for the name {signed.reference[:200]}")
            else:
                return
    raise RejectedError(f"{candidate.what}: no {name} is accepted by {where}: {'; '.join(dict.fromkeys(reasons))}")


def matches(identity: Identity, wanted: Reference | None, signed: str) -> bool:
    """Whether a signature for the name `signed` is one for the image that was asked for."""
    try:
        named = parse(signed)
        if identity.kind == "exactReference":
            return _is_whole(named) and named == parse(identity.value)
        if identity.kind == "exactRepository":
            return named.name == parse(identity.value).name
    except InvalidReferenceError:
        return False
    if wanted is None:
        return False
    if identity.kind == "matchRepository":
        return named.name == wanted.name
    if identity.kind == "matchExact":
        return _is_whole(named) and named == wanted
    if identity.kind == "remapIdentity":
        remapped = _remapped(identity, wanted)
        if remapped is None:
            return False
        wanted = remapped
    if not _is_whole(named):
        return False
    return named.name == wanted.name if wanted.digest else named == wanted


def _is_whole(reference: Reference) -> bool:
    return bool(reference.tag or reference.digest)


def _remapped(identity: Identity, wanted: Reference) -> Reference | None:
    text = str(wanted)
    prefix = identity.value
    if not text.startswith(prefix) or text[len(prefix) : len(prefix) + 1] not in ("", "/", ":", "@"):
        return wanted
    try:
        return parse(identity.signed + text[len(prefix) :])
    except InvalidReferenceError:
        return None


# --- scopes --------------------------------------------------------------------------------------


def docker_scopes(reference: Reference) -> tuple[str, ...]:
    """Of a name in a registry: itself, its repository, the namespaces above, the host, `*.` of its domains."""
    found = [str(reference)]
    parts = reference.name.split("/")
    found += ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
    labels = reference.domain.split(".")  # a port stays: another port is another registry
    found += [f"*.{'.'.join(labels[count:])}" for count in range(1, len(labels))]
    return tuple(dict.fromkeys(found))


def path_scopes(transport: str, path: str, ref: str) -> tuple[str, ...]:
    """Of a file or directory: with its reference, itself, the directories above but the root."""
    if transport == "docker-archive":
        return ()
    real = os.path.realpath(path)
    found = [f"{real}:{ref}"] if transport in ("oci", "oci-archive") else []
    while real != "/":
        found.append(real)
        real = os.path.dirname(real)
    return tuple(found)


def store_scopes(driver: str, root: str, image_id: str, names: Sequence[str]) -> tuple[str, ...]:
    """Of an image in Podman's store: by its names and id, then the store."""
    store = f"[{driver}@{root}]"
    repositories = [f"{store}{name.rpartition(':')[0]}" for name in names]
    return (*(store + name for name in names), *repositories, f"{store}@{image_id}", store, f"[{root}]")
