"""Who is asking: credentials from auth.json, Docker's config.json and credential helpers; challenges.

Weight: `os`, `rootless.values`; `base64` and `subprocess` (13 ms, for helpers) inside the functions that need them.

Files, in the order of containers-auth.json(5): --authfile or `$REGISTRY_AUTH_FILE` alone, where set; else
`$XDG_RUNTIME_DIR/containers/auth.json`, `~/.config/containers/auth.json`, `~/.docker/config.json`.
"""

from __future__ import annotations

import os

from rootless.errors import Error, UsageError
from rootless.fds import read_file
from rootless.values import Value, loads
from storage import fields
from storage.reference import DOCKER_HUB, Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_HELPER_TIMEOUT_S = 120  # it may ask the user for a passphrase
_MAX_AUTH_FILE = 4 << 20
# The names that tools have given to one registry, Docker's.
_HUB_NAMES = ("docker.io", "index.docker.io", "registry-1.docker.io")
_HUB_HELPER_KEY = "https://index.docker.io/v1/"
_TOKEN_USER = "<token>"  # a helper's user name that says: the secret is an identity token


class Credentials(Value):
    """A user's password, or an identity token to be exchanged for access tokens."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    origin: str = ""  # the file or helper that they come from, for messages

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r}, origin={self.origin!r})"  # no secret in a log

    def basic(self) -> str:
        """The value of an Authorization header."""
        import base64

        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class Challenge(Value):
    """One challenge of a WWW-Authenticate header; parameter names in lower case."""

    scheme: str  # "bearer" | "basic" | …
    parameters: dict[str, str] = {}


def parse_creds(text: str) -> Credentials:
    """`USER:PASSWORD` of --creds.  Raises UsageError."""
    username, colon, password = text.partition(":")
    if not colon or not username:
        raise UsageError("--creds: USERNAME:PASSWORD is expected")
    return Credentials(username=username, password=password, origin="--creds")


def auth_files(env: Mapping[str, str], authfile: str = "") -> tuple[str, ...]:
    """The files that may hold credentials, in order."""
    chosen = authfile or env.get("REGISTRY_AUTH_FILE", "")
    if chosen:
        return (chosen,)
    home = env.get("HOME", "")
    config = env.get("XDG_CONFIG_HOME") or home + "/.config"
    docker = env.get("DOCKER_CONFIG") or home + "/.docker"
    runtime = env.get("XDG_RUNTIME_DIR", "")
    first = (f"{runtime}/containers/auth.json",) if runtime else ()
    return (*first, f"{config}/containers/auth.json", f"{docker}/config.json")


def find_credentials(
    reference: Reference, env: Mapping[str, str], authfile: str = "", helpers: Sequence[str] = ()
) -> Credentials | None:
    """The most specific credentials for `reference`: for its repository, a namespace of it, or its registry.

    helpers: registries.conf's `credential-helpers`; "containers-auth.json" stands for the files.  Raises Error
    for a file that is named and missing, or is malformed, and for a helper that fails.
    """
    if authfile and not os.path.exists(authfile):
        raise Error(f"--authfile {authfile} does not exist")
    trees = [(path, read_auth(path)) for path in auth_files(env, authfile) if os.path.exists(path)]
    keys = _keys(reference)
    for helper in helpers or ("containers-auth.json",):
        if helper != "containers-auth.json":
            found = ask_helper(helper, reference.domain, "registries.conf")
            if found:
                return found
            continue
        for path, tree in trees:
            found = _from_file(path, tree, keys)
            if found:
                return found
    return None


def _keys(reference: Reference) -> list[str]:
    """`quay.io/a/b`, `quay.io/a`, `quay.io`, and the registry's other names."""
    parts = reference.name.split("/")
    keys = ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
    if reference.domain in _HUB_NAMES:
        keys += [name for name in _HUB_NAMES if name not in keys]
    return keys


def _from_file(path: str, tree: dict[str, Any], keys: list[str]) -> Credentials | None:
    host = keys[-1] if keys[-1] not in _HUB_NAMES else DOCKER_HUB
    helpers = fields.text_table(tree, "credHelpers", path)
    for key in keys:
        if helpers.get(key):
            return ask_helper(helpers[key], key, path)
    store = fields.text(tree, "credsStore", path)
    if store:
        found = ask_helper(store, helper_key(host), path)
        if found:
            return found
    auths = fields.table(tree, "auths", path)
    by_key = {plain_key(key): key for key in auths}
    for key in keys:
        if key in by_key:
            found = _from_entry(fields.table(auths, by_key[key], path), f"{path}: {by_key[key]}")
            if found:
                return found
    return None


def helper_key(host: str) -> str:
    """The name under which helpers know a registry."""
    return _HUB_HELPER_KEY if host == DOCKER_HUB else host


def plain_key(key: str) -> str:
    """`https://host/v1/`, as Docker once wrote them, is `host`; a key with no scheme may name a repository."""
    if "://" in key:
        return key.partition("://")[2].partition("/")[0]
    return key.rstrip("/")


def _from_entry(entry: dict[str, Any], what: str) -> Credentials | None:
    token = fields.text(entry, "identitytoken", what)
    username, password = fields.text(entry, "username", what), fields.text(entry, "password", what)
    coded = fields.text(entry, "auth", what)
    if coded:
        import base64

        try:
            username, colon, password = base64.b64decode(coded, validate=True).decode().partition(":")
        except ValueError as error:
            raise Error(f"{what}: auth is not base64 of USER:PASSWORD") from error
        if not colon:
            raise Error(f"{what}: auth is not base64 of USER:PASSWORD")
        password = password.rstrip("\0")
    if not token and not username:
        return None
    return Credentials(username=username, password=password, identity_token=token, origin=what)


def read_auth(path: str) -> dict[str, Any]:
    try:
        raw = read_file(path, limit=_MAX_AUTH_FILE + 1)
    except OSError as error:
        raise Error(f"cannot read {path}: {error.strerror}") from error
    return fields.parse_object(raw, path, _MAX_AUTH_FILE) if raw.strip() else {}


def ask_helper(name: str, server: str, where: str) -> Credentials | None:
    """What `docker-credential-NAME get` knows of `server` (https://github.com/docker/docker-credential-helpers).

    where: the file that names the helper.  None where it knows nothing.  Raises Error where it is missing or fails.
    """
    said = run_helper(name, "get", server, where)
    if said is None:
        return None
    what = f"credential helper docker-credential-{name}"
    try:
        tree = loads(said)
    except ValueError as error:
        raise Error(f"{what} answered no JSON") from error
    if type(tree) is not dict:
        raise Error(f"{what} answered no JSON object")
    user, secret = fields.text(tree, "Username", what), fields.text(tree, "Secret", what)
    origin = f"docker-credential-{name}"
    if user == _TOKEN_USER:
        return Credentials(identity_token=secret, origin=origin)
    return Credentials(username=user, password=secret, origin=origin) if user else None


def run_helper(name: str, action: str, given: str, where: str) -> str | None:
    """What `docker-credential-NAME ACTION` answers to `given` on its standard input; None: it knows no such server."""
    import subprocess  # 13 ms; only where a helper is configured

    program = f"docker-credential-{name}"
    if not name or "/" in name or "\0" in name:
        raise Error(f"credential helper {name!r} is no program's name")
    try:
        done = subprocess.run(
            [program, action], input=given.encode(), capture_output=True, timeout=_HELPER_TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        raise Error(f"credential helper {program} is not installed", hint=f"install it or change {where}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Error(f"credential helper {program}: {error}") from error
    said = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode != 0:
        # The protocol reports "nothing stored" as a failure with this text.
        if "credentials not found" in said.lower():
            return None
        raise Error(f"credential helper {program} failed: {(said or done.stderr.decode('utf-8', 'replace'))[:200]!r}")
    return said


def parse_challenges(headers: Sequence[str]) -> tuple[Challenge, ...]:
    """The challenges of all WWW-Authenticate headers (RFC 9110 §11.6.1); what is malformed is left out."""
    found: list[Challenge] = []
    for header in headers:
        scheme, parameters = "", dict[str, str]()
        for token, value in _challenge_tokens(header):
            if value is None:
                if scheme:
                    found.append(Challenge(scheme=scheme, parameters=parameters))
                scheme, parameters = token.lower(), {}
            elif scheme:
                parameters[token.lower()] = value
        if scheme:
            found.append(Challenge(scheme=scheme, parameters=parameters))
    return tuple(found)


def _challenge_tokens(header: str) -> list[tuple[str, str | None]]:
    """(name, value) for each parameter, (scheme, None) for each scheme, in order."""
    tokens: list[tuple[str, str | None]] = []
    at, end = 0, len(header)
    while at < end:
        if header[at] in " ,\t":
            at += 1
            continue
        start = at
        while at < end and header[at] not in " ,\t=":
            at += 1
        name = header[start:at]
        if at >= end or header[at] != "=":
            tokens.append((name, None))
            continue
        at += 1
        if at < end and header[at] == '"':
            value, at = _quoted(header, at + 1)
        else:
            start = at
            while at < end and header[at] not in " ,\t":
                at += 1
            value = header[start:at]
        tokens.append((name, value))
    return tokens


def _quoted(text: str, at: int) -> tuple[str, int]:
    """The quoted string whose first character is at `at`, and the position behind its closing quote."""
    out = []
    while at < len(text) and text[at] != '"':
        if text[at] == "\\":
            at += 1
        out.append(text[at : at + 1])
        at += 1
    return "".join(out), at + 1
