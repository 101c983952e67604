"""A generator that runs in a thread of its own, read as a byte stream.

Weight: `threading`.  What is between the two threads is bounded; an error is raised on the reading side.
"""

from __future__ import annotations

import threading
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNKS_AHEAD = 12


class ThreadedReader:
    """A reader of the chunks that `produce` yields.  `close` ends the thread, which `produce` must allow soon."""

    def __init__(self, produce: Iterator[bytes], name: str) -> None:
        self._produce = produce
        self._chunks: deque[bytes] = deque()
        self._rest = b""
        self._change = threading.Condition()
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def read(self, size: int, /) -> bytes:
        """1 to `size` bytes, b"" at the end; raises what the generator raised."""
        if not self._rest:
            with self._change:
                while not self._chunks and not self._ended:
                    self._change.wait()
                if self._chunks:
                    self._rest = self._chunks.popleft()
                    self._change.notify()
                elif self._error is not None:
                    raise self._error
                else:
                    return b""
        out, self._rest = self._rest[:size], self._rest[size:]
        return out

    def close(self) -> None:
        """End the thread; the generator's clean-up has run afterwards."""
        with self._change:
            self._closed = True
            self._chunks.clear()
            self._change.notify()
        self._thread.join()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            for chunk in self._produce:
                with self._change:
                    while len(self._chunks) >= _CHUNKS_AHEAD and not self._closed:
                        self._change.wait()
                    if self._closed:
                        break
                    if chunk:
                        self._chunks.append(chunk)
                        self._change.notify()
            self._produce.close()  # type: ignore[attr-defined]  # a generator: its finally clauses run here
        except BaseException as caught:  # raised again on the reading side
            error = caught
        with self._change:
            self._error = error
            self._ended = True
            self._change.notify()
