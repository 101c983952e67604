"""A generator that runs in a thread of its own, read as a byte stream: the one bounded hand-over between two threads.

Weight: `threading`.
"""

from __future__ import annotations

import threading
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

_CHUNKS_AHEAD = 12


class ThreadedReader:
    """A reader of the chunks that `produce` yields, of which at most a few are held.

    What `produce` raises is raised on the reading side, behind the chunks that came before it.  `close` ends the
    thread: the generator is closed where it yields (GeneratorExit, its own clean-up), so it must yield, fail or
    return soon.
    """

    def __init__(self, produce: Generator[bytes, None, None], name: str) -> None:
        self._produce = produce
        self._chunks: deque[bytes] = deque()
        self._rest = b""
        self._change = threading.Condition()
        self._ended = self._closed = False
        self.error: BaseException | None = None  # what `produce` ended with; complete when the thread has ended
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
                elif self.error is not None:
                    raise self.error
                else:
                    return b""
        out, self._rest = self._rest[:size], self._rest[size:]
        return out

    def close(self) -> None:
        """End the thread; the generator's clean-up has run afterwards, and `error` says what it met, if anything."""
        with self._change:
            self._closed = True
            self._chunks.clear()
            self._change.notify()
        self._thread.join()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            for chunk in self._produce:
                if chunk and not self._put(chunk):
                    break
            self._produce.close()
        except BaseException as caught:  # raised again on the reading side
            error = caught
        with self._change:
            self.error = error
            self._ended = True
            self._change.notify()

    def _put(self, chunk: bytes) -> bool:
        """Hand a chunk over as soon as there is room; False where nobody reads any more."""
        with self._change:
            while len(self._chunks) >= _CHUNKS_AHEAD and not self._closed:
                self._change.wait()
            if not self._closed:
                self._chunks.append(chunk)
                self._change.notify()
            return not self._closed
