"""`image trust` and `image sign`: policy.json shown and changed, signatures made.

Weight: `storage.policy`, `storage.signature_places`; `subprocess` (gpg) where a key is read or used.
"""

from __future__ import annotations

import os

from rootless.errors import Error, UsageError, os_error_text
from rootless.fds import write_durably
from rootless.values import Value
from storage import fields
from storage.policy import default_path, parse_policy, read
from storage.reference import InvalidReferenceError, Reference, parse
from storage.signature_places import place_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from storage.policy import Requirement

KINDS = ("accept", "reject", "signedBy", "sigstoreSigned")
_SHOWN = {"insecureAcceptAnything": "accept", "signedBy": "signed"}
_ACCEPT = {"type": "insecureAcceptAnything"}


class TrustRow(Value):
    """One requirement of one scope.  name: "" of a whole transport, "default" of everything else."""

    transport: str
    name: str
    kind: str
    keys: str = ""  # addresses of GPG keys' owners
    store: str = ""  # where signatures are looked for


def user_path(env: Mapping[str, str]) -> str:
    """The user's own policy.json, there or not."""
    config = env.get("XDG_CONFIG_HOME") or env.get("HOME", "") + "/.config"
    return f"{config}/containers/policy.json"


def show(path: str, env: Mapping[str, str]) -> tuple[TrustRow, ...]:
    """The rows of a policy, the default first.  Raises Error."""
    policy = parse_policy(read(path), path) if path else parse_policy({"default": [_ACCEPT]}, "")
    rows = [_row("all", "default", requirement, env) for requirement in policy.default]
    for transport in sorted(policy.scopes):
        shown = "repository" if transport == "docker" else transport
        for scope, requirements in sorted(policy.scopes[transport].items()):
            rows += [_row(shown, scope, requirement, env) for requirement in requirements]
    return tuple(rows)


def _row(transport: str, name: str, requirement: Requirement, env: Mapping[str, str]) -> TrustRow:
    kind = _SHOWN.get(requirement.kind, requirement.kind)
    keys = store = ""
    if requirement.kind == "signedBy":
        keys = ", ".join(address for path in requirement.key_paths for address in _addresses(path))
    elif requirement.kind == "sigstoreSigned":
        keys = "N/A"
    if transport == "repository" and keys:
        try:
            place = place_of(parse(name if "/" in name else f"{name}/x"), env)
            store = "" if place.usual else place.lookaside
        except InvalidReferenceError:
            pass  # "*.example.com"
    return TrustRow(transport=transport, name=name, kind=kind, keys=keys, store=store)


def _addresses(path: str) -> list[str]:
    """Whose keys a file holds, as the keys themselves say."""
    import subprocess

    argv = ["gpg", "--batch", "--no-tty", "--quiet", "--no-autostart", "--with-colons", "--import-options", "show-only"]
    try:
        done = subprocess.run([*argv, "--import", path], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.split(":") for line in done.stdout.decode("utf-8", "replace").splitlines()]
    names = [row[9] for row in rows if row[0] == "uid" and len(row) > 9]
    return [name.rpartition("<")[2].partition(">")[0] for name in names]


def change(path: str, scope: str, kind: str, keys: Sequence[str], env: Mapping[str, str]) -> None:
    """Give a registry, a repository or "default" one kind of trust.  Raises UsageError, Error.

    What is in force now is kept for the others, also where it stood in the system's file.
    """
    if kind in ("accept", "reject") and keys:
        raise UsageError(f"--type {kind} goes with no key")
    if kind in ("signedBy", "sigstoreSigned") and not keys:
        raise UsageError(f"--type {kind} needs a public key", hint="--pubkeysfile FILE")
    for key in keys:
        if not os.path.isfile(key):
            raise UsageError(f"--pubkeysfile {key}: there is no such file")
    if scope != "default":
        _check_scope(scope)
    absolute = [os.path.abspath(key) for key in keys]
    kinds: dict[str, list[dict[str, str]]] = {
        "accept": [_ACCEPT],
        "reject": [{"type": "reject"}],
        "signedBy": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": key} for key in absolute],
        "sigstoreSigned": [{"type": "sigstoreSigned", "keyPath": key} for key in absolute],
    }
    rows = kinds[kind]
    base = path if os.path.exists(path) else default_path(env)
    tree: dict[str, Any] = read(base) if base else {"default": [_ACCEPT]}
    parse_policy(tree, base)
    if scope == "default":
        tree["default"] = rows
    else:
        transports = fields.table(tree, "transports", path)
        tree["transports"] = transports
        transports["docker"] = {**fields.table(transports, "docker", path), scope: rows}
    parse_policy(tree, path)
    import json

    try:
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        write_durably(path, (json.dumps(tree, indent=4) + "\n").encode(), 0o644)
    except OSError as error:
        raise Error(os_error_text(error, f"cannot write {path}")) from error


def _check_scope(scope: str) -> None:
    bare = scope.removeprefix("*.")
    try:
        named = parse(bare if "/" in bare else f"{bare}/x")
    except InvalidReferenceError:
        named = None
    # A word without a dot or a port is a repository of docker.io's to the grammar, and a misspelt "default" here.
    if named is None or not str(named).startswith(bare):
        raise UsageError(f"{scope!r} is no registry", hint="HOST[:PORT][/PATH][:TAG], *.DOMAIN, or default is expected")


# --- signing -------------------------------------------------------------------------------------


def sign(reference: Reference, digest: str, key: str, env: Mapping[str, str], directory: str = "") -> str:
    """Sign a manifest with one of the user's GPG keys, in the form of simple signing; returns the file's path.

    directory: the lookaside store ("": what registries.d says, which must be on this machine).  Raises Error.
    """
    from storage.signature_writing import staging_of, write_file
    from storage.signing import GpgSigner

    base = directory or staging_of(reference, env)
    return write_file(base, reference, digest, GpgSigner(key).sign(reference, digest))
