"""`login` and `logout`.  Weight: `storage.registry_logins`; urllib3 where a login is tried."""

from __future__ import annotations

import os
import sys

from pyctl.engine.engine import Engine
from rootless.errors import Error, UsageError
from storage.registry_auth import Credentials, find_credentials
from storage.registry_hosts import RegistryError
from storage.registry_logins import AuthPlace, LoginTarget, auth_place, erase, erase_all, parse_target, store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyctl.cli.parser import Options, Parsed


def login(parsed: Parsed) -> int:
    """Tries a user name and password at the registry and keeps them where they are right."""
    options = parsed.options
    _check(options)
    engine = Engine(parsed.globals)
    target = _target(engine, parsed.args)
    place = _place(engine, options)
    held = _held(engine, options, place, target)
    if options.get_login:
        if held is None:
            raise Error(f"not logged into {target.key}")
        sys.stdout.write(f"{held.username or '<token>'}\n")
        return 0
    if held is not None and not (options.username or options.password or options.password_stdin):
        sys.stdout.write(f"Authenticating with existing credentials for {target.key}\n")
        sys.stdout.flush()
        try:
            _try(engine, options, target, held)
        except RegistryError as error:
            sys.stderr.write(f"Existing credentials are invalid: {error.message}\n")
        else:
            sys.stdout.write(f"Existing credentials are valid. Already logged in to {target.key}\n")
            return 0
    credentials = _asked(options, held)
    _try(engine, options, target, credentials)
    where = store(place, target, credentials)
    if options.verbose:
        sys.stdout.write(f"Used: {where}\n")
    sys.stdout.write("Login Succeeded!\n")
    return 0


def logout(parsed: Parsed) -> int:
    """Forgets a login, or all."""
    options = parsed.options
    if options.authfile and options.compat_auth_file:
        raise UsageError("--authfile excludes --compat-auth-file")
    engine = Engine(parsed.globals)
    place = _place(engine, options)
    if options.all:
        if parsed.args:
            raise UsageError("--all takes no registry")
        erase_all(place)
        sys.stdout.write("Removed login credentials for all registries\n")
        return 0
    target = _target(engine, parsed.args)
    if not erase(place, target):
        elsewhere = _held(engine, options, place, target)
        if elsewhere is not None:
            raise Error(
                f"not logged into {target.key} in {place.path}; there are credentials in {elsewhere.origin}",
                hint="log out with --authfile or --compat-auth-file, or with the tool that wrote them",
            )
        raise Error(f"not logged into {target.key}")
    sys.stdout.write(f"Removed login credentials for {target.key}\n")
    return 0


def _check(options: Options) -> None:
    if options.authfile and options.compat_auth_file:
        raise UsageError("--authfile excludes --compat-auth-file")
    if options.password_stdin and not options.username:
        raise UsageError("--password-stdin needs --username")
    if options.password_stdin and options.password:
        raise UsageError("--password-stdin excludes --password")


def _target(engine: Engine, args: Sequence[str]) -> LoginTarget:
    """The registry that is named, else the first that registries.conf searches."""
    if args:
        return parse_target(args[0])
    conf = engine.registries
    if not conf.search or not conf.search_origin:
        raise UsageError("no registry is given, and registries.conf searches none", hint="pyctl login REGISTRY")
    return parse_target(conf.search[0])


def _place(engine: Engine, options: Options) -> AuthPlace:
    return auth_place(os.environ, options.authfile, options.compat_auth_file, engine.registries.credential_helpers)


def _held(engine: Engine, options: Options, place: AuthPlace, target: LoginTarget) -> Credentials | None:
    """The credentials that a pull would use now."""
    chosen = options.authfile or options.compat_auth_file
    if chosen and not os.path.exists(chosen):
        return None
    return find_credentials(target.reference, os.environ, chosen, place.helpers)


def _asked(options: Options, held: Credentials | None) -> Credentials:
    """User name and password from the options, from stdin, or asked for on the terminal."""
    username, password = options.username, options.password
    terminal = os.isatty(0)
    if not username:
        if not terminal:
            raise UsageError(
                "a user name and a password are needed, and stdin is no terminal",
                hint="--username USER --password-stdin < FILE",
            )
        old = held.username if held is not None else ""
        sys.stdout.write(f"Username ({old}): " if old else "Username: ")
        sys.stdout.flush()
        username = sys.stdin.readline().strip() or old
    if options.password_stdin:
        password = sys.stdin.read().rstrip("\n").rstrip("\r")
    elif not password and not options.given("password"):
        if not terminal:
            raise UsageError("a password is needed, and stdin is no terminal", hint="--password-stdin < FILE")
        from getpass import getpass

        password = getpass("Password: ")
    if not username or not password:
        raise UsageError("neither the user name nor the password may be empty")
    if ":" in username:
        raise UsageError("a user name may have no colon (RFC 7617)")
    return Credentials(username=username, password=password, origin="the command line")


def _try(engine: Engine, options: Options, target: LoginTarget, credentials: Credentials) -> None:
    """Raises RegistryError where the registry does not take them."""
    from storage.pull import PullOptions
    from storage.registries_conf import Source, find
    from storage.registry_connect import connect

    entry = find(engine.registries, target.reference)
    source = Source(reference=target.reference, insecure=entry is not None and entry.insecure)
    wanted = PullOptions(
        credentials=credentials,
        tls_verify=options.tls_verify if options.given("tls_verify") else None,
        cert_dir=options.cert_dir,
    )
    registry = connect(source, wanted, os.environ, engine.registries)
    try:
        registry.check_login()
    finally:
        registry.close()
