"""One registry, spoken to by the OCI distribution specification: manifests and blobs of a repository.

Weight: heavy (through `storage.registry_http`); imported only where something is fetched.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md; tokens by Docker's
https://distribution.github.io/distribution/spec/auth/token/.  Everything that becomes a part of a URL (repository,
tag, digest) was checked by its grammar before.
"""

from __future__ import annotations

import threading
import time
from urllib.parse import urlencode

from rootless.errors import Error, NotFound
from rootless.values import Value
from storage import digest as digests
from storage import fields
from storage.manifest import ACCEPTED, MAX_MANIFEST_BYTES, Descriptor
from storage.reference import DOCKER_HUB, Reference, is_tag
from storage.registry_auth import Challenge, Credentials, parse_challenges
from storage.registry_blob import BlobStream
from storage.registry_hosts import RegistryError, TransientError, is_loopback, origin_of
from storage.registry_http import (
    HttpLimits,
    PlainHttpError,
    TlsOptions,
    Transport,
    UnreachableError,
    error_detail,
    status_error,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from urllib3.response import BaseHTTPResponse

    from storage.registry_http import Body

USER_AGENT = "pyctl/0.1"
_HUB_HOST = "registry-1.docker.io"  # where docker.io's registry is
_CLIENT_ID = "pyctl"
_MAX_TOKEN_BYTES = 1 << 20
_ERROR_BODY_BYTES = 64 << 10
# The specification's minimum for a token that states no lifetime.
_TOKEN_LIFETIME_S = 60
_TAGS_A_PAGE = 1000
_MAX_TAGS = 100_000
# The first request of all: a host that is not there should not take a minute to be told.
_PINGS = 2


class Fetched(Value):
    """A document as it came: `digest` is verified where it was asked for by digest, computed otherwise."""

    raw: bytes
    content_type: str
    digest: str


class AccessDenied(RegistryError):  # noqa: N818 - the field's term
    """The registry wants credentials, or others than these."""


class Registry:
    """A connection to the registry of one reference's domain.  Safe to use from several threads.

    insecure: registries.conf allows plain http and unverified TLS; tls.verify False: the command line does.
    plain_http(host): whether another host may be spoken to without TLS.
    """

    def __init__(
        self,
        domain: str,
        *,
        env: Mapping[str, str],
        credentials: Credentials | None = None,
        insecure: bool = False,
        tls: TlsOptions | None = None,
        limits: HttpLimits | None = None,
        insecure_hosts: Callable[[str], bool] = lambda _host: False,
        user_agent: str = USER_AGENT,
    ) -> None:
        tls = tls or TlsOptions()
        self.domain = domain
        self._host = _HUB_HOST if domain == DOCKER_HUB else domain
        self._credentials = credentials
        own = origin_of(f"https://{self._host}").host
        unverified = tls.verify is False or (insecure and tls.verify is None)
        self._may_be_plain = unverified or (tls.verify is None and is_loopback(own))
        self.base = ""  # scheme and host; known after `connect`
        self._challenges: tuple[Challenge, ...] = ()
        self._tokens: dict[str, tuple[str, float]] = {}  # scope → header value, monotonic time of its end
        self._tokens_lock = threading.Lock()
        self.transport = Transport(
            own,
            tls=tls.replace(verify=False) if unverified else tls,
            limits=limits or HttpLimits(),
            user_agent=user_agent,
            plain_http=lambda host: is_loopback(host) or insecure_hosts(host),
            env=env,
        )

    # --- what callers ask ------------------------------------------------------------------------

    def connect(self) -> None:
        """Find out the scheme and what authentication is asked for (GET /v2/).  Called by every other method.

        Raises RegistryError: unreachable, no TLS where it is needed, no registry.
        """
        if self.base:
            return
        answer = self._ping("https")
        if answer is None:
            answer = self._ping("http")
        assert answer is not None
        body = self.transport.read_small(answer, _ERROR_BODY_BYTES, f"registry {self.domain}", strict=False)
        if answer.status == 401:
            self._challenges = parse_challenges(answer.headers.getlist("WWW-Authenticate"))
            if not self._challenges:
                raise RegistryError(f"registry {self.domain} asks for authentication but does not say how")
        elif answer.status not in (200, 403, 404, 405):
            # 404 and 405: some static registries serve manifests and blobs, but no /v2/.
            raise status_error(answer.status, body, f"registry {self.domain}")

    def manifest(self, reference: Reference) -> Fetched:
        """The manifest or index of `reference`, by its digest if it has one.  Raises NotFound, RegistryError."""
        wanted = reference.digest or reference.tag
        what = f"image {reference}"
        headers = {"Accept": ", ".join(ACCEPTED)}
        answer = self._get(reference.path, f"manifests/{wanted}", headers, what)
        if answer.status != 200:
            raise self.refused(answer, what, f"image {reference} is not known to registry {self.domain}")
        raw = self.transport.read_small(answer, MAX_MANIFEST_BYTES, f"{what}: manifest")
        if reference.digest:
            digests.verify(raw, reference.digest, f"{what}: manifest")
        digest = reference.digest or digests.of(raw)
        return Fetched(raw=raw, content_type=answer.headers.get("Content-Type", ""), digest=digest)

    def tags(self, reference: Reference) -> tuple[str, ...]:
        """All tags of `reference`'s repository, page by page.  Raises NotFound, RegistryError."""
        what = f"tags of {reference.name}"
        found: list[str] = []
        rest = f"tags/list?n={_TAGS_A_PAGE}"
        while rest and len(found) <= _MAX_TAGS:
            answer = self._get(reference.path, rest, {"Accept": "application/json"}, what)
            if answer.status != 200:
                raise self.refused(answer, what, f"repository {reference.name} is not known there")
            link = answer.headers.get("Link", "")
            tree = fields.parse_object(
                self.transport.read_small(answer, MAX_MANIFEST_BYTES, what), what, MAX_MANIFEST_BYTES
            )
            page = [tag for tag in fields.texts(tree, "tags", what) if is_tag(tag)]
            found += page
            # The link's own address is not followed: only the query of a next page is ever wanted from it.
            rest = f"tags/list?n={_TAGS_A_PAGE}&last={page[-1]}" if page and 'rel="next"' in link else ""
        return tuple(found)

    def small_blob(self, path: str, descriptor: Descriptor, what: str, limit: int) -> bytes:
        """A blob of at most `limit` bytes (a configuration), verified.  Raises NotFound, RegistryError, DigestError."""
        if descriptor.size > limit:
            raise RegistryError(f"{what}: {descriptor.size} bytes, at most {limit} are accepted")
        stream = self.blob(path, descriptor, what)
        try:
            parts = []
            while part := stream.read(1 << 16):
                parts.append(part)
        finally:
            stream.close()
        raw = b"".join(parts)
        digests.verify(raw, descriptor.digest, what)
        return raw

    def blob(self, path: str, descriptor: Descriptor, what: str, offset: int = 0) -> BlobStream:
        """A stream of a blob's bytes from `offset` on; not verified.  Raises NotFound, RegistryError."""
        return BlobStream(self, path, descriptor, what, offset)

    def check_login(self) -> None:
        """AccessDenied unless the registry accepts the credentials, or asks for none."""
        self.connect()
        if not self._challenges:
            return
        what = f"login to registry {self.domain}"
        answer = self.request("GET", f"{self.base}/v2/", "", {}, what)
        if answer.status in (401, 403):
            body = self.transport.read_small(answer, _ERROR_BODY_BYTES, what, strict=False)
            detail = error_detail(body)
            raise AccessDenied(
                f"registry {self.domain} does not accept this user name and password{': ' + detail if detail else ''}"
            )
        if answer.status >= 400 and answer.status != 404:
            raise self.refused(answer, what, "")
        answer.close()

    def cancel(self) -> None:
        """End every transfer: they raise CancelledError at their next step."""
        self.transport.cancel()

    def close(self) -> None:
        """Close idle connections."""
        self.transport.close()

    # --- requests --------------------------------------------------------------------------------

    def open_blob(self, path: str, digest: str, offset: int, what: str) -> BaseHTTPResponse:
        """The answer (200 or 206) to a request for a blob's bytes from `offset` on.  For `BlobStream`."""
        headers = {"Accept": "*/*"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        answer = self._get(path, f"blobs/{digest}", headers, what)
        if answer.status not in (200, 206):
            raise self.refused(answer, what, f"{what} is missing in registry {self.domain}")
        return answer

    def _ping(self, scheme: str) -> BaseHTTPResponse | None:
        """The answer to GET /v2/; None where TLS is not spoken and plain http is allowed."""
        base = f"{scheme}://{self._host}"
        limits = self.transport.limits
        attempts = min(limits.attempts, _PINGS)
        for attempt in range(1, attempts + 1):
            try:
                answer = self.transport.send("GET", f"{base}/v2/", {})
            except PlainHttpError as error:
                if self._may_be_plain:
                    return None
                raise RegistryError(f"registry {error.message}", hint=error.hint) from error
            except UnreachableError as error:
                raise RegistryError(
                    f"registry {self.domain} is not reachable: {error.message.removeprefix(self.domain + ': ')}",
                    hint="check the registry's name, the network and the proxy settings",
                ) from error
            except TransientError as error:
                if attempt == attempts:
                    raise RegistryError(f"registry {self.domain}: {error.message}", hint=error.hint) from error
            else:
                if answer.status < 500 or attempt == attempts:
                    self.base = base
                    return answer
                answer.close()
            self.transport.pause(limits.backoff_s * 2 ** (attempt - 1))
        raise AssertionError("unreachable")

    def _get(self, path: str, rest: str, headers: Mapping[str, str], what: str) -> BaseHTTPResponse:
        """GET /v2/<path>/<rest> with authorisation to pull."""
        self.connect()
        return self.request("GET", f"{self.base}/v2/{path}/{rest}", f"repository:{path}:pull", headers, what)

    def request(
        self,
        method: str,
        url: str,
        scope: str,
        headers: Mapping[str, str],
        what: str,
        body: Body | None = None,
        *,
        retry: bool = True,
    ) -> BaseHTTPResponse:
        """Any answer to a request with authorisation for `scope` (several: separated by spaces; "": none).

        A 401 gets one new token, then it is an answer as any.  retry: after 429, 5xx and cut connections; a body that
        is a function is sent once only.  Credentials go to the registry's own origin alone.
        """
        own = origin_of(url) == origin_of(self.base)

        def authorised() -> dict[str, str]:
            value = self._authorization(scope) if own else ""
            return {**headers, "Authorization": value} if value else dict(headers)

        def send() -> BaseHTTPResponse:
            if retry and not callable(body):
                return self.transport.retrying(method, url, authorised, what, body)
            return self.transport.send(method, url, authorised(), body, self.transport.limits.answer_s)

        answer = send()
        if answer.status == 401:
            challenges = parse_challenges(answer.headers.getlist("WWW-Authenticate"))
            # Only the registry's own word counts: a host that it redirected to may not ask for credentials.
            if challenges and own and origin_of(answer.url or url) == origin_of(url):
                self._challenges = challenges
                with self._tokens_lock:
                    self._tokens.pop(scope, None)
                answer.close()
                answer = send()
        return answer

    def refused(self, answer: BaseHTTPResponse, what: str, unknown: str) -> Error:
        """The Error for an answer that is not the content."""
        body = self.transport.read_small(answer, _ERROR_BODY_BYTES, what, strict=False)
        detail = error_detail(body)
        if answer.status == 404:
            return NotFound(unknown, hint="check the name and the tag or digest")
        if answer.status in (401, 403):
            as_whom = f"as {self._credentials.username or 'the stored token'}" if self._credentials else "anonymously"
            return AccessDenied(
                f"{what}: registry {self.domain} denies access {as_whom}{': ' + detail if detail else ''}",
                hint=f"check the image's name, or log in: pyctl login {self.domain}",
            )
        return status_error(answer.status, body, what)

    # --- authorisation ---------------------------------------------------------------------------

    def _authorization(self, scope: str) -> str:
        """The Authorization header's value for `scope`, "" where none is asked for."""
        schemes = {challenge.scheme: challenge for challenge in reversed(self._challenges)}
        if "bearer" in schemes:
            with self._tokens_lock:
                held, until = self._tokens.get(scope, ("", 0.0))
                if time.monotonic() >= until:
                    held, until = self._fetch_token(schemes["bearer"], scope)
                    self._tokens[scope] = held, until
                return held
        if "basic" in schemes:
            return self._credentials.basic() if self._credentials and self._credentials.username else ""
        if schemes:
            raise RegistryError(
                f"registry {self.domain} asks for {' or '.join(schemes)} authentication, which is not supported"
            )
        return ""

    def _fetch_token(self, challenge: Challenge, scope: str) -> tuple[str, float]:
        """A bearer token from the challenge's realm, and the monotonic time until which it is used."""
        realm = challenge.parameters.get("realm", "")
        what = f"registry {self.domain}: token server"
        if not realm:
            raise RegistryError(f"registry {self.domain} names no token server")
        self.transport.check_target(origin_of(self.base), realm, "token server")
        service = challenge.parameters.get("service", "")
        wanted = [("service", service)] if service else []
        held = self._credentials
        if held and held.identity_token:
            form = [*wanted, ("scope", scope), ("grant_type", "refresh_token"), ("client_id", _CLIENT_ID)]
            body = urlencode([*form, ("refresh_token", held.identity_token)]).encode()
            answer = self.transport.send("POST", realm, {"Content-Type": "application/x-www-form-urlencoded"}, body)
        else:
            headers = {"Authorization": held.basic()} if held else {}
            query = urlencode([*wanted, *(("scope", part) for part in scope.split())])
            url = f"{realm}{'&' if '?' in realm else '?'}{query}"
            answer = self.transport.retrying("GET", url, lambda: headers, what)
        raw = self.transport.read_small(answer, _MAX_TOKEN_BYTES, what)
        if answer.status in (401, 403):
            whom = f"the credentials of {held.username or 'the stored token'} ({held.origin})" if held else "anonymity"
            detail = error_detail(raw)
            raise AccessDenied(
                f"registry {self.domain}: its token server does not accept {whom}{': ' + detail if detail else ''}",
                hint=f"log in again: pyctl login {self.domain}",
            )
        if answer.status != 200:
            raise status_error(answer.status, raw, what)
        return _parse_token(raw, f"{what}: the answer")


def _parse_token(raw: bytes, what: str) -> tuple[str, float]:
    tree = fields.parse_object(raw, what, _MAX_TOKEN_BYTES)
    token = fields.text(tree, "token", what) or fields.text(tree, "access_token", what)
    # It becomes a header: nothing that ends one may be in it.
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise RegistryError(f"{what} holds no token")
    lifetime = fields.whole(tree, "expires_in", what) or _TOKEN_LIFETIME_S
    return f"Bearer {token}", time.monotonic() + max(_TOKEN_LIFETIME_S, lifetime) * 0.9
