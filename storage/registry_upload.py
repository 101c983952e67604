"""Putting blobs and manifests into a repository, whatever happens to the connection.

Weight: as `storage.registry`.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md#push: HEAD, then POST (with a mount from another
repository of the same registry, where one has the blob), PATCH with all bytes, PUT with the digest.  A transfer that
was cut goes on from what the registry says it has; one that it has forgotten begins anew.  A registry, or a proxy
before it, that refuses a body as too large (413) gets chunks.
"""

from __future__ import annotations

from urllib.parse import quote, urljoin

from rootless.errors import Error
from storage import digest as digests
from storage.registry_hosts import RegistryError, TransientError, origin_of
from storage.registry_http import RETRIED, error_detail, retry_after, status_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from urllib3.response import BaseHTTPResponse

    from storage.registry import Registry

    # (first byte, how many) → these bytes of the blob
    Content = Callable[[int, int], Iterator[bytes]]

_CHUNK_BYTES = 32 << 20  # where a registry takes no larger body
_ERROR_BODY_BYTES = 64 << 10
_BINARY = "application/octet-stream"


class _BusyError(TransientError):
    """The registry asks to come back in `wait_s` seconds."""

    def __init__(self, error: RegistryError, wait_s: float) -> None:
        super().__init__(error.message, hint=error.hint)
        self.wait_s = wait_s


class Repository:
    """One repository to write to.  Safe to use from several threads."""

    def __init__(self, registry: Registry, path: str) -> None:
        registry.connect()
        self._registry = registry
        self._path = path
        self._scope = f"repository:{path}:pull,push"
        self._limits = registry.transport.limits

    def has(self, digest: str) -> bool:
        """Whether the blob is there already."""
        what = f"blob {digest}"
        answer = self._registry.request("HEAD", self._url(f"blobs/{digests.check(digest)}"), self._scope, {}, what)
        answer.close()
        if answer.status in (401, 403):
            raise self._registry.refused(answer, what, "")
        # Whatever else it says, an upload will tell more.
        return answer.status == 200

    def upload(self, digest: str, size: int, content: Content, what: str, mount_from: str = "") -> str:
        """Have the blob there: "exists", "mounted" (from repository `mount_from`) or "done" (sent).

        Raises RegistryError: one line that begins with `what`.
        """
        if self.has(digest):
            return "exists"
        session = self._start(digest, what, mount_from)
        if not session:
            return "mounted"
        _Upload(self, digest, size, content, what).run(session)
        return "done"

    def put_manifest(self, raw: bytes, media_type: str, wanted: str, what: str) -> None:
        """Store a manifest under a tag or its digest; all that it names must be there.  Raises RegistryError."""
        url = self._url(f"manifests/{wanted}")
        answer = self._registry.request("PUT", url, self._scope, {"Content-Type": media_type}, what, raw)
        if answer.status not in (200, 201, 202):
            raise self._registry.refused(answer, what, f"{what}: registry {self._registry.domain} does not take it")
        stored = answer.headers.get("Docker-Content-Digest", "")
        answer.close()
        if stored and stored != digests.of(raw) and stored.startswith("sha256:"):
            raise RegistryError(f"{what}: the registry says that it stored {stored[:80]}, sent was {digests.of(raw)}")

    # --- for `_Upload` ---------------------------------------------------------------------------

    def _url(self, rest: str) -> str:
        return f"{self._registry.base}/v2/{self._path}/{rest}"

    def _start(self, digest: str, what: str, mount_from: str = "") -> str:
        """The URL of a new upload, "" where the blob was mounted instead."""
        url = self._url("blobs/uploads/")
        empty = {"Content-Length": "0"}
        if mount_from:
            scope = f"{self._scope} repository:{mount_from}:pull"
            query = f"?mount={quote(digest)}&from={quote(mount_from, safe='')}"
            answer = self._registry.request("POST", url + query, scope, empty, what)
            if answer.status == 201:
                answer.close()
                return ""
            if answer.status == 202:
                return self.location(answer, url)
            answer.close()  # not allowed to read there, or mounts are unknown: it is sent
        answer = self._registry.request("POST", url, self._scope, empty, what)
        if answer.status != 202:
            raise self._registry.refused(answer, what, f"{what}: registry {self._registry.domain} takes no uploads")
        return self.location(answer, url)

    def location(self, answer: BaseHTTPResponse, url: str) -> str:
        """Where an upload goes on, by an answer's Location; that of before where there is none."""
        target = answer.headers.get("Location", "")
        answer.close()
        if not target:
            return url
        try:
            new = urljoin(answer.url or url, target)
        except ValueError as error:
            raise RegistryError(f"registry {self._registry.domain}: malformed URL {target[:200]!r}") from error
        self._registry.transport.check_target(origin_of(url), new, "upload location")
        return new

    def send(self, method: str, url: str, headers: dict[str, str], what: str, body: object = None) -> BaseHTTPResponse:
        """One attempt; 429 and 5xx are TransientErrors."""
        answer = self._registry.request(method, url, self._scope, headers, what, body, retry=False)  # type: ignore[arg-type]
        if answer.status in RETRIED:
            wait_s = retry_after(answer.headers.get("Retry-After", ""))
            raw = self._registry.transport.read_small(answer, _ERROR_BODY_BYTES, what, strict=False)
            raise _BusyError(status_error(answer.status, raw, what, wait_s), wait_s)
        return answer


class _Upload:
    """One blob on its way."""

    def __init__(self, repository: Repository, digest: str, size: int, content: Content, what: str) -> None:
        self._repository = repository
        self._registry = repository._registry
        self._digest = digest
        self._size = size
        self._content = content
        self._what = what
        self._at_once = size  # bytes of one request
        self._offset = 0  # bytes that the registry has
        self._url = ""

    def run(self, url: str) -> None:
        """Send until the blob is there.  Gives up after as many failures in a row as attempts.

        The row ends when more of the blob is there than ever before; a registry that forgets again and again makes
        none.
        """
        self._url = url
        limits = self._registry.transport.limits
        failures = most = 0
        while True:
            try:
                self._send_rest()
                self._finish()
            except TransientError as error:
                failures += 1
                wait_s = error.wait_s if isinstance(error, _BusyError) else 0.0
                if failures >= limits.attempts or wait_s > limits.max_wait_s:
                    told = error.message.removeprefix(f"{self._what}: ")
                    raise RegistryError(f"{self._what}: {told}", hint=error.hint) from error
                self._registry.transport.pause(max(wait_s, limits.backoff_s * 2 ** (failures - 1)))
                if self._recover():
                    return
                if self._offset > most:
                    failures, most = 0, self._offset
            else:
                return

    def _send_rest(self) -> None:
        while self._offset < self._size:
            start, count = self._offset, min(self._at_once, self._size - self._offset)
            headers = {"Content-Type": _BINARY, "Content-Length": str(count)}
            if count < self._size:
                headers["Content-Range"] = f"{start}-{start + count - 1}"
            answer = self._repository.send(
                "PATCH", self._url, headers, self._what, lambda s=start, c=count: self._guarded(s, c)
            )
            if answer.status == 413 and count > _CHUNK_BYTES:
                answer.close()
                self._at_once = _CHUNK_BYTES
                # What came before the refusal is nowhere: a new upload.
                self._restart()
                continue
            if answer.status not in (201, 202, 204):
                raise self._refused(answer)
            has = _received(answer)
            if has == 0 and start + count == 1:
                has = 1  # a blob of one byte: "0-0" means what it says
            self._url = self._repository.location(answer, self._url)
            if has is not None and not start < has <= start + count:
                raise RegistryError(f"{self._what}: the registry has {has} bytes after {start + count} were sent")
            self._offset = start + count if has is None else has

    def _guarded(self, start: int, count: int) -> Iterator[bytes]:
        """The bytes to send; the user's interrupt and another blob's failure end them."""
        cancelled = self._registry.transport.cancelled
        for part in self._content(start, count):
            if cancelled.is_set():
                raise TransientError("the transfer was cancelled")
            yield part

    def _finish(self) -> None:
        url = f"{self._url}{'&' if '?' in self._url else '?'}digest={quote(self._digest)}"
        answer = self._repository.send("PUT", url, {"Content-Type": _BINARY, "Content-Length": "0"}, self._what)
        if answer.status not in (201, 202, 204):
            raise self._refused(answer)
        answer.close()

    def _recover(self) -> bool:
        """Learn what the registry has after a failure; True: everything, the answer alone was lost."""
        try:
            if self._repository.has(self._digest):
                return True
            answer = self._repository.send("GET", self._url, {}, self._what)
        except TransientError:
            return False  # the next attempt will show
        has = _received(answer)
        if answer.status in (200, 202, 204) and has is not None and has <= self._size:
            self._url, self._offset = self._repository.location(answer, self._url), has
            return False
        answer.close()
        self._restart()
        return False

    def _restart(self) -> None:
        self._url = self._repository._start(self._digest, self._what)
        self._offset = 0

    def _refused(self, answer: BaseHTTPResponse) -> Error:
        if answer.status != 400:
            return self._registry.refused(answer, self._what, f"{self._what}: the registry has forgotten the upload")
        raw = self._registry.transport.read_small(answer, _ERROR_BODY_BYTES, self._what, strict=False)
        return RegistryError(
            f"{self._what}: the registry refuses what it received: {error_detail(raw) or 'status 400'}"
        )


def _received(answer: BaseHTTPResponse) -> int | None:
    """How many bytes an upload has, by `Range: 0-N`; None where the answer does not say.

    No byte at all cannot be said: "0-0" is what registries answer then, though it means one.
    """
    last = answer.headers.get("Range", "").removeprefix("bytes=").partition("-")[2]
    if not last.isdecimal():
        return None
    return int(last[:19]) + 1 if int(last[:19]) else 0
