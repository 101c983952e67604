"""A blob's bytes from a registry, in order, whatever happens to the connection.

Weight: as `storage.registry`, which makes these.
"""

from __future__ import annotations

import time

from storage import digest as digests
from storage.registry_hosts import RegistryError, TransientError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

    from storage.manifest import Descriptor
    from storage.registry import Registry

# A blob that was cut is asked for again this often without a byte of progress between.
_CUTS_WITHOUT_PROGRESS = 4


class BlobStream:
    """The bytes of a blob, in order, whatever happens to the connection: a cut or stalled transfer is continued.

    Never gives more than the descriptor's size; fewer, cut for good, and stalled ones are RegistryErrors.
    """

    def __init__(self, registry: Registry, path: str, descriptor: Descriptor, what: str, offset: int) -> None:
        self._registry = registry
        self._path = path
        self._digest = digests.check(descriptor.digest)
        self._size = descriptor.size
        self._what = what
        self._answer: BaseHTTPResponse | None = None
        self._cuts = 0
        self._window_start = time.monotonic()
        self._window_bytes = 0
        self.position = offset

    def read(self, size: int, /) -> bytes:
        """1 to `size` bytes; b"" behind the last one.  Raises RegistryError, CancelledError."""
        transport = self._registry.transport
        while True:
            try:
                if self._answer is None:
                    if self.position == self._size and self._size:
                        return b""
                    self._open()
                assert self._answer is not None
                data = transport.read_some(self._answer, size)
                self._check_pace(len(data))
            except TransientError as error:
                self._cut(error)
                continue
            if data:
                self.position += len(data)
                self._cuts = 0
                if self.position > self._size:
                    self.close()
                    raise RegistryError(f"{self._what}: the registry sends more than its {self._size} bytes")
                return data
            if self.position == self._size:
                self._finish()
                return b""
            self._cut(TransientError(f"only {self.position} of {self._size} bytes came"))

    def close(self) -> None:
        """Drop the connection."""
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.close()

    def _finish(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.release_conn()

    def _cut(self, error: TransientError) -> None:
        """Continue after a pause, or give up."""
        self.close()
        self._cuts += 1
        if self._cuts >= _CUTS_WITHOUT_PROGRESS:
            raise TransientError(f"{self._what}: {error.message}", hint=error.hint) from error
        limits = self._registry.transport.limits
        self._registry.transport.pause(limits.backoff_s * 2 ** (self._cuts - 1))

    def _open(self) -> None:
        offset = self.position
        answer = self._registry.open_blob(self._path, self._digest, offset, self._what)
        self._answer = answer
        self._window_start, self._window_bytes = time.monotonic(), 0
        skip = 0
        if answer.status == 206:
            start = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
            if start != str(offset):
                self.close()
                raise RegistryError(f"{self._what}: another range came than was asked for")
        else:
            skip = offset  # ranges are not supported there
        length = answer.headers.get("Content-Length", "")
        has = int(length[:19]) + offset - skip if length.isdecimal() else self._size
        if has != self._size:
            self.close()
            raise RegistryError(f"{self._what}: the registry has {has} bytes, the manifest says {self._size}")
        while skip and (data := self._registry.transport.read_some(answer, min(skip, 1 << 16))):
            skip -= len(data)

    def _check_pace(self, count: int) -> None:
        """TransientError where bytes trickle: a stall in disguise."""
        limits = self._registry.transport.limits
        self._window_bytes += count
        elapsed = time.monotonic() - self._window_start
        if elapsed > 2 * limits.stall_s:
            if self._window_bytes < limits.min_bytes_per_s * elapsed and count:
                raise TransientError(f"slower than {limits.min_bytes_per_s} bytes a second")
            self._window_start, self._window_bytes = time.monotonic(), 0
