"""HTTP to one registry: TLS, retries, redirects, time-outs, and which hosts it may send this client to.

Weight: heavy (urllib3 60 ms, ssl); only `storage.registry` imports it, when something is fetched.

Rules, each against something that registries or people between have done:
- Credentials go to the registry's own scheme, host and port and, for a token, to the realm that it names; never along
  a redirect (CVE-2020-15157 sent them to a layer's foreign host).
- https does not become http by a redirect or a realm; plain http leads to plain http only on loopback or the same host.
- A redirect or realm on another host may not lead to link-local (cloud metadata), multicast or unspecified addresses,
  nor to loopback unless the registry is there itself.  The address that was connected to is checked, not the name.
- Every wait is bounded: connecting, each read, and the whole of a small answer.
"""

from __future__ import annotations

import os
import random
import socket
import ssl
import threading
import time
import weakref
from urllib.parse import unquote, urljoin, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from rootless.values import Value
from storage.registry_hosts import (
    CancelledError,
    Origin,
    RegistryError,
    TransientError,
    check_address,
    is_loopback,
    origin_of,
    proxy_for,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from urllib3.response import BaseHTTPResponse

    # What a request carries; a function gives the same bytes anew for each attempt (their length is in the headers).
    Body = bytes | Callable[[], Iterable[bytes]]

_REDIRECTS = (301, 302, 303, 307, 308)
_SAME_METHOD = (307, 308)  # RFC 9110 §15.4.8: method and content stay
RETRIED = (429, 500, 502, 503, 504)
_MAX_REDIRECTS = 5
_ERROR_BODY_BYTES = 64 << 10


class HttpLimits(Value):
    """Bounds on what a registry may cost; seconds and bytes."""

    connect_s: float = 15.0
    stall_s: float = 30.0  # without a single byte
    answer_s: float = 120.0  # for the whole of a small answer: manifest, token, error
    attempts: int = 4
    backoff_s: float = 0.5  # doubled from one attempt to the next, with up to half of it added by chance
    max_wait_s: float = 60.0  # the longest Retry-After that is waited for
    min_bytes_per_s: int = 1024  # a blob that comes more slowly over two stall times is treated as stalled


class TlsOptions(Value):
    """verify: --tls-verify (None: not given); cert_dirs: directories with *.crt, and *.cert with *.key."""

    verify: bool | None = None
    cert_dirs: tuple[str, ...] = ()


class PlainHttpError(TransientError):
    """TLS was answered by something that does not speak it."""


class UnreachableError(TransientError):
    """No connection: refused, no route, no such name, no answer in time."""


class Transport:
    """Requests to one registry and to where it sends them.  Safe to use from several threads.

    own: the host that the user or the configuration named; `plain_http(host)` says which others may be spoken to
    without TLS.
    """

    def __init__(
        self,
        own_host: str,
        *,
        tls: TlsOptions,
        limits: HttpLimits,
        user_agent: str,
        plain_http: Callable[[str], bool],
        env: Mapping[str, str],
    ) -> None:
        self.own_host = own_host
        self.limits = limits
        self._tls = tls
        self._user_agent = user_agent
        self._plain_http = plain_http
        self._env = env
        self._loopback = is_loopback(own_host)
        self._managers: dict[tuple[bool, str], urllib3.PoolManager] = {}
        self._managers_lock = threading.Lock()
        self._answers: weakref.WeakSet[BaseHTTPResponse] = weakref.WeakSet()  # those whose body may be awaited
        self.cancelled = threading.Event()

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None = None, wait_s: float = 0.0
    ) -> BaseHTTPResponse:
        """One request with redirects followed, its answer's body not read yet.  Any status may come back.

        `headers` with Authorization are sent to `url`'s origin only.  wait_s: how long an answer may take to begin
        (0: the stall time).  Raises TransientError, RegistryError.
        """
        origin = origin_of(url)
        sent = {"User-Agent": self._user_agent, "Accept-Encoding": "identity", **headers}
        for _ in range(_MAX_REDIRECTS + 1):
            answer = self._one(method, url, sent, body, wait_s or self.limits.stall_s)
            if answer.status not in _REDIRECTS:
                answer.url = url  # urllib3 knows only the path
                return answer
            target = answer.headers.get("Location", "")
            answer.drain_conn() if _is_small(answer) else answer.close()
            if not target:
                raise RegistryError(f"{origin} redirects to nowhere (status {answer.status})")
            if method not in ("GET", "HEAD") and answer.status not in _SAME_METHOD:
                raise RegistryError(f"{origin} redirects a {method} request, which is not followed")
            try:
                new = urljoin(url, target)
            except ValueError as error:
                raise RegistryError(f"{origin} redirects to a malformed URL {target[:200]!r}") from error
            self.check_target(origin_of(url), new, "redirect")
            if origin_of(new) != origin_of(url):
                sent = {name: value for name, value in sent.items() if name.lower() != "authorization"}
            url = new
        raise RegistryError(f"{origin} redirects more than {_MAX_REDIRECTS} times")

    def check_target(self, source: Origin, url: str, what: str) -> None:
        """RegistryError unless a redirect or realm may lead from `source` to `url`."""
        target = origin_of(url)
        if target.scheme == "http":
            if source.scheme == "https":
                raise RegistryError(f"{source} refused: its {what} leads from https to {target}")
            if target.host != source.host and not self._plain_http(target.host):
                raise RegistryError(f"{source} refused: its {what} leads to {target} without TLS")
        if target.host != self.own_host:
            try:
                check_address(target.host, self._loopback)
            except RegistryError as error:
                raise RegistryError(f"{source}: {what}: {error.message}") from error

    def retrying(
        self,
        method: str,
        url: str,
        headers: Callable[[], Mapping[str, str]],
        what: str,
        body: bytes | None = None,
    ) -> BaseHTTPResponse:
        """`send`, again after 429, 5xx and cut connections, with growing pauses.  `what` names it in messages."""
        limits = self.limits
        for attempt in range(1, limits.attempts + 1):
            wait_s = limits.backoff_s * 2 ** (attempt - 1) * (1 + random.random() / 2)
            try:
                answer = self.send(method, url, headers(), body)
            except TransientError:
                if attempt == limits.attempts:
                    raise
            else:
                if answer.status not in RETRIED:
                    return answer
                asked_s = retry_after(answer.headers.get("Retry-After", ""))
                told = self.read_small(answer, _ERROR_BODY_BYTES, what, strict=False)
                if attempt == limits.attempts or asked_s > limits.max_wait_s:
                    raise status_error(answer.status, told, what, asked_s)
                wait_s = max(wait_s, asked_s)
            self.pause(wait_s)
        raise AssertionError("unreachable")

    def pause(self, seconds: float) -> None:
        """Wait; CancelledError as soon as the transfer is cancelled."""
        if self.cancelled.wait(seconds):
            raise CancelledError("the transfer was cancelled")

    def read_small(self, answer: BaseHTTPResponse, limit: int, what: str, strict: bool = True) -> bytes:
        """The whole of a small body.  RegistryError over `limit` bytes (strict=False: what came until then)."""
        parts: list[bytes] = []
        size, complete, deadline = 0, False, time.monotonic() + self.limits.answer_s
        try:
            while size <= limit and time.monotonic() <= deadline:
                part = self.read_some(answer, limit + 1 - size)
                if not part:
                    complete = True
                    break
                parts.append(part)
                size += len(part)
        except TransientError:
            if strict:
                raise
        finally:
            # A connection with an unread rest must not serve another request.
            answer.release_conn() if complete else answer.close()
        if strict and size > limit:
            raise RegistryError(f"{what}: the answer is larger than {limit} bytes")
        if strict and not complete:
            raise TransientError(f"{what}: the answer takes longer than {self.limits.answer_s:g} s")
        return b"".join(parts)[:limit]

    def read_some(self, answer: BaseHTTPResponse, size: int) -> bytes:
        """What has arrived, 1 to `size` bytes; b"" at the end.  Raises TransientError, CancelledError."""
        if self.cancelled.is_set():
            raise CancelledError("the transfer was cancelled")
        try:
            data = answer.read1(size, decode_content=False)
        except (HTTPError, OSError, ValueError) as error:
            if self.cancelled.is_set():
                raise CancelledError("the transfer was cancelled") from error
            raise TransientError(f"{self.own_host}: {_reason(error, self.limits)}") from error
        if self.cancelled.is_set():  # after a shutdown under TLS, what is read may be ciphertext
            raise CancelledError("the transfer was cancelled")
        return data

    def cancel(self) -> None:
        """End every transfer, also those that wait for data in other threads: they raise CancelledError."""
        self.cancelled.set()
        for answer in list(self._answers):
            try:
                answer.shutdown()
            except (OSError, RuntimeError, ValueError):
                pass  # it has ended by itself

    def close(self) -> None:
        """Close idle connections."""
        for manager in self._managers.values():
            manager.clear()

    def _one(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None, wait_s: float
    ) -> BaseHTTPResponse:
        if self.cancelled.is_set():
            raise CancelledError("the transfer was cancelled")
        origin = origin_of(url)
        where = f"{origin.host}:{origin.port}"
        timeout = urllib3.Timeout(connect=self.limits.connect_s, read=wait_s)
        try:
            answer = self._manager(origin).urlopen(
                method,
                url,
                body=body() if callable(body) else body,
                headers=headers,
                redirect=False,
                retries=False,
                timeout=timeout,
                preload_content=False,
                decode_content=False,
            )
        except LocationParseError as error:
            raise RegistryError(f"malformed URL {url[:200]!r}") from error
        except SSLError as error:
            raise tls_error(error, where) from error
        except (NewConnectionError, ConnectTimeoutError, ProxyError) as error:
            raise UnreachableError(f"{where}: {_reason(error, self.limits)}") from error
        except (HTTPError, OSError) as error:
            raise TransientError(f"{where}: {_reason(error, self.limits)}") from error
        self._answers.add(answer)
        return answer

    def _manager(self, origin: Origin) -> urllib3.PoolManager:
        own = origin.host == self.own_host
        proxy = "" if is_loopback(origin.host) else proxy_for(self._env, origin)
        with self._managers_lock:
            manager = self._managers.get((own, proxy))
            if manager is None:
                manager = self._managers[own, proxy] = self._make_manager(own, proxy)
            return manager

    def _make_manager(self, own: bool, proxy: str) -> urllib3.PoolManager:
        context = _context(self._tls, own, self.own_host)
        if proxy:
            manager: urllib3.PoolManager = urllib3.ProxyManager(
                proxy, num_pools=4, maxsize=8, ssl_context=context, proxy_headers=_proxy_login(proxy)
            )
        else:
            manager = urllib3.PoolManager(num_pools=4, maxsize=8, ssl_context=context)
        if not own:
            manager.pool_classes_by_scheme = _checked_pools(self._loopback)
        return manager


def _proxy_login(proxy: str) -> dict[str, str]:
    """What a proxy's own user name and password become; urllib3 leaves those of a URL out."""
    parts = urlsplit(proxy)
    if not parts.username:
        return {}
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return dict(urllib3.make_headers(proxy_basic_auth=login))


def _checked_pools(loopback: bool) -> dict[str, type[HTTPConnectionPool]]:
    """Pools whose connections refuse the addresses that `check_address` does, whatever name led to them."""

    def checked(sock: socket.socket, connection: HTTPConnection) -> socket.socket:
        if connection.proxy is None:
            try:
                check_address(str(sock.getpeername()[0]), loopback)
            except BaseException:
                sock.close()
                raise
        return sock

    class CheckedHTTP(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return checked(super()._new_conn(), self)

    class CheckedHTTPS(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return checked(super()._new_conn(), self)

    class HTTPPool(HTTPConnectionPool):
        ConnectionCls = CheckedHTTP

    class HTTPSPool(HTTPSConnectionPool):
        ConnectionCls = CheckedHTTPS

    return {"http": HTTPPool, "https": HTTPSPool}


def _context(tls: TlsOptions, own: bool, host: str) -> ssl.SSLContext:
    """The machine's certificate authorities and, for the registry's own host, those of its certs.d directory."""
    context = ssl.create_default_context()
    # Python 3.13 set this anew: authorities that sites make for themselves often lack what RFC 5280 asks of them
    # (key usage), and every other client accepts them.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not own:
        return context
    for directory in tls.cert_dirs:
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        for name in names:
            path = f"{directory}/{name}"
            try:
                if name.endswith(".crt"):
                    context.load_verify_locations(path)
                elif name.endswith(".cert"):
                    context.load_cert_chain(path, path[: -len(".cert")] + ".key")
            except (OSError, ssl.SSLError) as error:
                raise RegistryError(f"registry {host}: certificate {path}: {error}") from error
    if tls.verify is False:
        # The user has said so; a warning for each request would say nothing more.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def tls_error(error: SSLError, where: str) -> RegistryError:
    """A failed handshake: an untrusted certificate, or a server without TLS."""
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        reason = text.partition("certificate verify failed: ")[2].rpartition(" (_ssl")[0] or "not trusted"
        return RegistryError(
            f"{where}: the server's certificate is not valid: {reason}",
            hint=f"put its authority into ~/.config/containers/certs.d/{where}/ca.crt, or use --tls-verify=false",
        )
    if any(sign in text for sign in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH")):
        return PlainHttpError(
            f"{where}: the server does not speak TLS",
            hint="plain http needs --tls-verify=false, or insecure = true in registries.conf",
        )
    return TransientError(f"{where}: TLS failed: {text}")


def status_error(status: int, body: bytes, what: str, retry_after_s: float = 0.0) -> RegistryError:
    """The Error for an unexpected status, with the message of the distribution specification's error body."""
    detail = error_detail(body)
    text = f"{what}: the registry answered {status}{': ' + detail if detail else ''}"
    if status == 429:
        hint = f"it asks to wait {retry_after_s:.0f} s" if retry_after_s else "too many requests: wait, or log in"
        return RegistryError(text, hint=hint)
    return RegistryError(text)


def error_detail(body: bytes) -> str:
    """`message` of the first error in a registry's JSON, or of a token server's; "" where there is none."""
    from rootless.values import loads

    try:
        tree = loads(body)
        if "errors" in tree:
            first = tree["errors"][0]
            text = first.get("message") or first.get("code")
        else:
            text = tree.get("details") or tree.get("message") or tree.get("error")
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""
    # It is shown on a terminal: no control characters, no novel.
    return "".join(c if c.isprintable() else " " for c in text)[:200] if type(text) is str else ""


def retry_after(text: str) -> float:
    """Seconds of a Retry-After header in either form (RFC 9110 §10.2.3), 0 where it is absent or malformed."""
    if text.strip().isdecimal():
        return float(text.strip()[:9])
    if not text:
        return 0.0
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0


def _is_small(answer: BaseHTTPResponse) -> bool:
    length = answer.headers.get("Content-Length", "")
    return length.isdecimal() and int(length[:12]) <= _ERROR_BODY_BYTES


def _reason(error: Exception, limits: HttpLimits) -> str:
    """Why a connection failed, in the kernel's or resolver's words where they are known."""
    if isinstance(error, ProxyError):
        refused = str(error.original_error)  # http.client tells the status in words only
        if refused.startswith("Tunnel connection failed: "):
            return f"the proxy answers {refused.partition(': ')[2][:100]}"
        return f"proxy: {_reason(error.original_error, limits)}"
    if isinstance(error, NameResolutionError):
        return "the host name cannot be resolved"
    if isinstance(error, ConnectTimeoutError) and not isinstance(error, NewConnectionError):
        return f"no connection within {limits.connect_s:g} s"
    if isinstance(error, (ReadTimeoutError, TimeoutError)):
        return "nothing was received in time"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, NewConnectionError):
        return str(error).rpartition("connection: ")[2]
    return f"the connection broke off ({type(error).__name__})"
