"""What carries a piece of a connection's data from one socket to the other: pipes for splice(2), else buffers.

Weight: `os`, `fcntl` (C), `rootless.libc`, `rootless.loop`.

The work of a splice is in its calls and wakeups: with pipes of 1 MiB the same bytes cost two thirds of the processor
time that they cost with those of 64 KiB.  But the kernel counts a user's pipes (pipe(7), pipe-user-pages-soft: 64 such
large ones; one pasta(1) has 32), and who has more gets pipes of two pages everywhere, in the shell as well.  So there
are few large ones, for connections that fill an ordinary one, and none when no such data has moved for a while.  Where
the user has none left, copying with a large buffer costs a quarter of splicing with two pages.
"""

from __future__ import annotations

import os
from fcntl import fcntl

from rootless import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.loop import Loop

_USUAL_BYTES = 64 * 1024
_LARGE_BYTES = 1 << 20  # /proc/sys/fs/pipe-max-size, unless it was changed
_BUFFER_BYTES = 256 * 1024  # of what an ordinary processor keeps in its own cache
_MAX_LARGE = 12
_MAX_SPARE = 64
_QUIET_NS = 2_000_000_000
_F_SETPIPE_SZ, _F_GETPIPE_SZ = 1031, 1032  # linux/fcntl.h; `fcntl` has no names for them on all Pythons


class Pipe:
    """Empty while nobody has it.  `much`: who fills so much of it would be served better by a large one."""

    __slots__ = ("_reader", "_size", "_writer", "is_large", "much")

    def __init__(self) -> None:
        """Raises OSError."""
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._size = fcntl(self._writer, _F_GETPIPE_SZ)
        self.much = min(self._size, _USUAL_BYTES)
        self.is_large = False

    def enlarge(self) -> bool:
        """Make it hold more; False: it stays as it is."""
        try:
            self._size = fcntl(self._writer, _F_SETPIPE_SZ, _LARGE_BYTES)
        except OSError:
            return False  # the user has too many already, or such large ones are not allowed
        self.much = _USUAL_BYTES
        self.is_large = True
        return True

    def fill(self, source: int) -> int:
        """Take from a socket what there is; returns as `libc.splice`."""
        return libc.splice(source, self._writer, self._size)

    def drain(self, target: int, held: int) -> int:
        """Give a socket what it takes of the `held` bytes; returns as `libc.splice`."""
        return libc.splice(self._reader, target, held)

    def close(self) -> None:
        """Close both ends."""
        os.close(self._reader)
        os.close(self._writer)


class Buffer:
    """Takes a large pipe's place."""

    __slots__ = ("_start", "_view", "is_large", "much")

    def __init__(self) -> None:
        self._view = memoryview(bytearray(_BUFFER_BYTES))
        self._start = 0
        self.much = _USUAL_BYTES
        self.is_large = True

    def fill(self, source: int) -> int:
        """As a pipe's."""
        self._start = 0
        try:
            return os.readv(source, (self._view,))
        except OSError as error:
            return -(error.errno or 0)

    def drain(self, target: int, held: int) -> int:
        """As a pipe's."""
        try:
            count = os.write(target, self._view[self._start : self._start + held])
        except OSError as error:
            return -(error.errno or 0)
        self._start += count
        return count

    def close(self) -> None:
        """Nothing but memory."""


class Pipes:
    """Those that are spare, and the bound on large ones."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._usual: list[Pipe] = []
        self._large: list[Pipe | Buffer] = []
        self._large_count = 0  # spare or not
        self._refused = False
        self._taken = False  # a large one, since the last look
        self._looking = False

    def take(self, large: bool) -> Pipe | Buffer:
        """An empty one, a large one if that can be had.  Raises OSError."""
        if large:
            self._taken = True
            if self._large:
                return self._large.pop()
            if self._large_count < _MAX_LARGE:
                return self._new_large()
        return self._usual.pop() if self._usual else Pipe()

    def _new_large(self) -> Pipe | Buffer:
        made: Pipe | Buffer | None = None
        if not self._refused:
            made = self._usual.pop() if self._usual else Pipe()
            if not made.enlarge():
                self._refused = True  # until something changes
                self._usual.append(made)
        if self._refused:
            made = Buffer()
        assert made is not None
        self._large_count += 1
        return made

    def give(self, pipe: Pipe | Buffer, held: int) -> None:
        """It goes back; with data in it, it is of no further use."""
        if held or (not pipe.is_large and len(self._usual) >= _MAX_SPARE):
            pipe.close()
            self._large_count -= pipe.is_large
        elif isinstance(pipe, Pipe) and not pipe.is_large:
            self._usual.append(pipe)
        else:
            self._large.append(pipe)
            if not self._looking:
                self._looking = True
                self._loop.after(_QUIET_NS, self._look)

    def _look(self) -> None:
        """Keep large ones only where they are used."""
        self._looking = self._taken and bool(self._large)
        if self._looking:
            self._loop.after(_QUIET_NS, self._look)
        else:
            self._large_count -= len(self._large)
            for pipe in self._large:
                pipe.close()
            self._large.clear()
            self._refused = False
        self._taken = False
