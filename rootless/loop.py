"""A small event loop: descriptors, timers, children.  One thread, no callbacks kept for what has gone.

Weight: `select` (C), `time`.  asyncio would cost 38 ms and 6 MB a container.
"""

from __future__ import annotations

import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
GONE = select.EPOLLHUP | select.EPOLLERR


class Timer:
    """One pending call; `cancel()` makes it never happen."""

    __slots__ = ("active", "call", "due_ns")

    def __init__(self, due_ns: int, call: Callable[[], None]) -> None:
        self.due_ns = due_ns
        self.call = call
        self.active = True

    def cancel(self) -> None:
        """No call any more."""
        self.active = False


class Loop:
    """epoll(7) with timers on the monotonic clock."""

    def __init__(self) -> None:
        self._epoll = select.epoll(select.EPOLL_CLOEXEC)
        self._handlers: dict[int, Callable[[int], object]] = {}
        self._timers: list[Timer] = []
        self._stopped = False

    def watch(self, fd: int, events: int, handler: Callable[[int], object]) -> None:
        """Call `handler(events)` whenever one of `events` (or GONE) is there.  Replaces an earlier watch of the fd."""
        if fd in self._handlers:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def forget(self, fd: int) -> None:
        """No calls any more; the descriptor stays open."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def release(self, fd: int) -> None:
        """As `forget`, for a descriptor that is closed before the next wait: the kernel then forgets it (epoll(7))."""
        self._handlers.pop(fd, None)

    def after(self, delay_ns: int, call: Callable[[], None]) -> Timer:
        """Call once in `delay_ns` nanoseconds."""
        timer = Timer(time.monotonic_ns() + delay_ns, call)
        self._timers.append(timer)
        return timer

    def stop(self) -> None:
        """Return from `run` when the current calls are done."""
        self._stopped = True

    def run(self) -> None:
        """Serve until `stop`."""
        while not self._stopped:
            for fd, events in self._epoll.poll(self._timeout_s()):
                handler = self._handlers.get(fd)
                if handler is not None:
                    handler(events)
            self._run_timers()

    def _timeout_s(self) -> float:
        self._timers = [t for t in self._timers if t.active]
        if not self._timers:
            return -1
        wait_ns = min(t.due_ns for t in self._timers) - time.monotonic_ns()
        # epoll counts in milliseconds: round up, or the last one is spent in a busy loop.
        return max(0.0, (wait_ns + 999_999) // 1_000_000 / 1000)

    def _run_timers(self) -> None:
        now = time.monotonic_ns()
        for timer in [t for t in self._timers if t.due_ns <= now]:
            if timer.active:
                timer.active = False
                timer.call()
