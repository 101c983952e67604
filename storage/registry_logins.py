"""Keeping logins: auth.json and Docker's config.json written, credential helpers told.

Weight: `storage.registry_auth`; `json` and `fcntl` where something is written.

Which file and which helper are asked to keep a login follows from the same settings that `find_credentials` reads:
containers-auth.json(5), containers-registries.conf(5) `credential-helpers`.
"""

from __future__ import annotations

import os

from rootless.errors import Error, os_error_text
from rootless.fds import write_durably
from rootless.values import Value, loads
from storage import fields
from storage.reference import DOCKER_HUB, InvalidReferenceError, Reference, parse
from storage.registry_auth import Credentials, auth_files, helper_key, plain_key, read_auth, run_helper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

_FILES_ENTRY = "containers-auth.json"  # how `credential-helpers` names the files


class AuthPlace(Value):
    """Where logins are kept.  docker: the file has Docker's form, which knows registries only."""

    path: str
    docker: bool = False
    helpers: tuple[str, ...] = ()  # registries.conf's


class LoginTarget(Value):
    """What one logs in to.  `key`: "quay.io", "quay.io/team"; `reference`: anything below it, for a look-up."""

    key: str
    reference: Reference

    @property
    def domain(self) -> str:
        """The registry to talk to."""
        return self.reference.domain


def auth_place(env: Mapping[str, str], authfile: str, compat_authfile: str, helpers: Sequence[str]) -> AuthPlace:
    """The file that the options or the environment choose, in the order of containers-auth.json(5)."""
    if compat_authfile:
        return AuthPlace(path=compat_authfile, docker=True)
    return AuthPlace(path=auth_files(env, authfile)[0], helpers=tuple(helpers))


def parse_target(text: str) -> LoginTarget:
    """REGISTRY[/NAMESPACE…], with or without https:// before it.  Raises InvalidReferenceError."""
    bare = text.rstrip("/")
    for scheme in ("https://", "http://"):
        if bare.startswith(scheme):
            bare = bare[len(scheme) :].partition("/")[0]  # /v1/ and /v2/, as docker writes them
    domain, slash, rest = bare.partition("/")
    if not domain or "@" in bare:
        raise InvalidReferenceError(f"{text!r} is no registry", hint="HOST[:PORT][/NAMESPACE] is expected")
    # A host's name may lack what tells it from a repository (a dot, a port): a port is lent to it for the grammar.
    plain = _is_plain(domain)
    reference = parse(f"{domain}{':443' if plain else ''}/{rest + '/' if rest else ''}x")
    if plain:
        reference = reference.replace(domain=domain)
    return LoginTarget(key=f"{reference.domain}/{rest}" if slash else reference.domain, reference=reference)


def _is_plain(domain: str) -> bool:
    return not any(c in domain for c in ".:[") and domain != "localhost"


def store(place: AuthPlace, target: LoginTarget, credentials: Credentials) -> str:
    """Keep a login; returns where it is now: a path, or a helper's program.  Raises Error."""
    import base64

    helper, server = _helper(place, target)
    if helper:
        entry = {"ServerURL": server, "Username": credentials.username, "Secret": credentials.password}
        run_helper(helper, "store", _json(entry), place.path)
        return f"docker-credential-{helper}"
    coded = base64.b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()

    def change(tree: dict[str, Any]) -> bool:
        auths = tree.setdefault("auths", {})
        for key in _keys_of(auths, target, place):
            del auths[key]
        auths[_key(target, place)] = {"auth": coded}
        return True

    _edit(place.path, change)
    return place.path


def erase(place: AuthPlace, target: LoginTarget) -> bool:
    """Forget a login; False where there is none in this place.  Raises Error."""
    found = False
    helper, server = _helper(place, target)
    if helper and run_helper(helper, "get", server, place.path) is not None:
        run_helper(helper, "erase", server, place.path)
        found = True

    def change(tree: dict[str, Any]) -> bool:
        auths = tree.get("auths") or {}
        keys = _keys_of(auths, target, place)
        for key in keys:
            del auths[key]
        return bool(keys)

    return (os.path.exists(place.path) and _edit(place.path, change)) or found


def erase_all(place: AuthPlace) -> None:
    """Forget every login of the file and of the helpers that it and registries.conf name.  Raises Error."""
    tree = read_auth(place.path) if os.path.exists(place.path) else {}
    for server, helper in fields.text_table(tree, "credHelpers", place.path).items():
        run_helper(helper, "erase", server, place.path)
    everywhere = [*(h for h in place.helpers if h != _FILES_ENTRY), fields.text(tree, "credsStore", place.path)]
    for helper in filter(None, everywhere):
        try:
            held = loads(run_helper(helper, "list", "", place.path) or "{}")
        except ValueError as error:
            raise Error(f"credential helper docker-credential-{helper} answered no JSON") from error
        for server in held:
            run_helper(helper, "erase", server, place.path)

    def change(tree: dict[str, Any]) -> bool:
        changed = bool(tree.get("auths") or tree.get("credHelpers"))
        tree["auths"] = {}
        tree.pop("credHelpers", None)
        return changed

    if tree:
        _edit(place.path, change)


def _helper(place: AuthPlace, target: LoginTarget) -> tuple[str, str]:
    """The helper that keeps this login and the name under which it does; "" where the file does."""
    for helper in place.helpers[:1]:
        if helper != _FILES_ENTRY:
            return helper, target.domain
    tree = read_auth(place.path) if os.path.exists(place.path) else {}
    own = fields.text_table(tree, "credHelpers", place.path)
    for key in (target.key, target.domain):
        if own.get(key):
            return own[key], key
    return fields.text(tree, "credsStore", place.path), helper_key(target.domain)


def _key(target: LoginTarget, place: AuthPlace) -> str:
    if not place.docker:
        return target.key
    if target.key != target.domain:
        raise Error(f"{target.key}: docker's configuration keeps logins of whole registries only")
    return helper_key(target.domain)


def _keys_of(auths: dict[str, Any], target: LoginTarget, place: AuthPlace) -> list[str]:
    """Every spelling under which the file has this login."""
    names = {target.key}
    if target.key == DOCKER_HUB:
        names.add("index.docker.io")
    return [key for key in auths if plain_key(key) in names or (place.docker and key == helper_key(target.domain))]


def _edit(path: str, change: Callable[[dict[str, Any]], bool]) -> bool:
    """Replace a file by what `change` makes of it, unless it says False.  Of two commands at once both count."""
    import fcntl

    real = os.path.realpath(path)  # a link into a folder of dot files stays one
    folder = os.path.dirname(real)
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            tree = read_auth(real) if os.path.exists(real) else {}
            fields.table(tree, "auths", path)
            changed = change(tree)
            if changed:
                write_durably(real, (_json(tree, indent="\t") + "\n").encode(), 0o600)
        finally:
            os.close(lock)
    except OSError as error:
        raise Error(os_error_text(error, f"cannot write {path}")) from error
    return changed


def _json(tree: object, indent: str | None = None) -> str:
    import json  # the form that other tools write, which people edit

    return json.dumps(tree, indent=indent)
