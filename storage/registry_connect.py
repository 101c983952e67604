"""From a place of registries.conf and a command's options to a connection.

Weight: none until `connect` is called; then `storage.registry` (urllib3).
"""

from __future__ import annotations

from rootless.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    from storage.reference import Reference
    from storage.registries_conf import RegistriesConf, Source
    from storage.registry import Registry
    from storage.registry_auth import Credentials

    class Access(Protocol):
        """What the options of pull, push, login and search have in common."""

        @property
        def credentials(self) -> Credentials | None: ...
        @property
        def authfile(self) -> str: ...
        @property
        def tls_verify(self) -> bool | None: ...
        @property
        def cert_dir(self) -> str: ...
        @property
        def attempts(self) -> int: ...
        @property
        def backoff_s(self) -> float: ...


def connect(
    source: Source, options: Access, env: Mapping[str, str], conf: RegistriesConf, anonymous: bool = False
) -> Registry:
    """The registry of `source`, with the credentials and certificates that the options or the machine have for it.

    anonymous: with none, whatever there is.
    """
    from storage.registry import Registry  # urllib3: 60 ms
    from storage.registry_auth import find_credentials
    from storage.registry_http import HttpLimits, TlsOptions

    reference = source.reference
    home = (env.get("XDG_CONFIG_HOME") or env.get("HOME", "") + "/.config") + "/containers"
    places = (f"{home}/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d")
    cert_dirs = (options.cert_dir,) if options.cert_dir else tuple(f"{p}/{reference.domain}" for p in places)

    def insecure_host(host: str) -> bool:
        """Whether registries.conf allows plain http to `host`, on any port of it that is named there."""
        return any(e.insecure and e.location.partition("/")[0].partition(":")[0] == host for e in conf.registries)

    # A password on the command line is for the registry that it names, not for its mirrors.
    credentials = None if source.mirror else options.credentials
    if credentials is None and not anonymous:
        credentials = find_credentials(reference, env, options.authfile, conf.credential_helpers)
    return Registry(
        reference.domain,
        env=env,
        credentials=credentials,
        insecure=source.insecure,
        tls=TlsOptions(verify=options.tls_verify, cert_dirs=cert_dirs),
        limits=HttpLimits(attempts=options.attempts, backoff_s=options.backoff_s),
        insecure_hosts=insecure_host,
    )


def connect_target(
    target: Reference, options: Access, env: Mapping[str, str], conf: RegistriesConf, anonymous: bool = False
) -> Registry:
    """The registry that `target` is to be written to: itself, never a mirror.  Raises Error where it is blocked."""
    from storage.registries_conf import Source, find

    entry = find(conf, target)
    if entry is not None and entry.blocked:
        raise Error(f"registry {entry.prefix} is blocked by registries.conf", hint="ask who manages this machine")
    source = Source(reference=target, insecure=entry is not None and entry.insecure)
    return connect(source, options, env, conf, anonymous)
