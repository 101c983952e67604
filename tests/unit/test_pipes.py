"""The forwarder's pipes, on this kernel: few large ones, none for long, and what stands in for them."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from rootless import pipes
from rootless.loop import Loop
from rootless.pipes import Buffer, Pipe, Pipes

SOON_NS = 1_000_000
AGAIN = -11


class Watched(Pipes):
    """Knows all that it has handed out."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop)
        self.loop = loop
        self.handed: dict[Pipe, int] = {}  # inodes: numbers of descriptors are used again

    def take(self, large: bool) -> Pipe | Buffer:
        pipe = super().take(large)
        if isinstance(pipe, Pipe):
            self.handed[pipe] = os.fstat(pipe._reader).st_ino
        return pipe

    def open_pipes(self) -> set[Pipe]:
        return {pipe for pipe, inode in self.handed.items() if inode_of(pipe._reader) == inode}

    def run_for(self, looks: int) -> None:
        """So long that the large ones are looked at so many times."""
        self.loop.after((looks + 1) * SOON_NS, self.loop.stop)
        self.loop.run()


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setattr(pipes, "_QUIET_NS", SOON_NS)
    made = Watched(Loop())
    yield made
    for pipe in made.open_pipes():
        pipe.close()


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that gives no large ones: so large ones there are not (pipe(7))."""
    monkeypatch.setattr(pipes, "_LARGE_BYTES", 1 << 31)


def inode_of(fd: int) -> int:
    """0: it is closed."""
    try:
        return os.fstat(fd).st_ino
    except OSError:
        return 0


def test_a_few_are_large(pool: Watched) -> None:
    taken = [pool.take(large=True) for _ in range(pipes._MAX_LARGE + 3)]
    assert [p.is_large for p in taken] == [True] * pipes._MAX_LARGE + [False] * 3
    assert not pool.take(large=False).is_large
    for pipe in taken:
        pool.give(pipe, 0)
    assert pool.take(large=True).is_large
    assert not pool.take(large=False).is_large


def test_large_ones_go_when_they_are_not_used(pool: Watched) -> None:
    taken = [pool.take(large=True) for _ in range(pipes._MAX_LARGE)]
    for pipe in taken:
        pool.give(pipe, 0)
    pool.run_for(4)
    assert not pool.open_pipes()
    assert all(pool.take(large=True).is_large for _ in taken), "and make room for others"


def test_a_pipe_with_data_in_it_is_not_used_again(pool: Watched) -> None:
    with Ends() as ends:
        for large in (True, False) * pipes._MAX_LARGE:
            pipe = pool.take(large=large)
            ends.writer.sendall(b"somebody's secret")
            assert pipe.fill(ends.source.fileno()) == 17
            pool.give(pipe, 17)
            assert pipe not in pool.open_pipes()
    assert pool.take(large=True).is_large, "and makes room for another"


def test_buffers_where_there_are_no_large_ones(pool: Watched, refused: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is the kernel asked each time, but now and then."""
    taken = [pool.take(large=True) for _ in range(pipes._MAX_LARGE + 1)]
    assert [isinstance(p, Buffer) for p in taken] == [True] * pipes._MAX_LARGE + [False]
    monkeypatch.undo()
    for pipe in taken:
        pool.give(pipe, 0)
    assert isinstance(pool.take(large=True), Buffer)
    monkeypatch.setattr(pipes, "_QUIET_NS", SOON_NS)
    pool._look()
    pool._look()
    assert pool.take(large=True).is_large


class Ends:
    """A connection to take from, and one to give to, which does not take everything at once."""

    def __enter__(self) -> Ends:
        self.writer, self.source = socket.socketpair()
        self.target, self.reader = socket.socketpair()
        for end in (self.source, self.target):
            end.setblocking(False)
        self.writer.setblocking(False)
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self.writer, self.source, self.target, self.reader):
            end.close()


@pytest.mark.parametrize("kind", ["usual", "large", "buffer"])
def test_what_is_taken_is_given(pool: Watched, kind: str, request: pytest.FixtureRequest) -> None:
    if kind == "buffer":
        request.getfixturevalue("refused")
    pipe = pool.take(large=kind != "usual")
    assert kind != "buffer" or isinstance(pipe, Buffer)
    sent, received, pending, held = hashlib.sha256(), hashlib.sha256(), b"", 0
    blocked = 0
    with Ends() as ends:
        assert pipe.fill(ends.source.fileno()) == AGAIN
        left = 4 << 20
        while True:
            if left:
                pending = pending or os.urandom(min(left, 300_000))
                count = 0
                with suppress(BlockingIOError):
                    count = ends.writer.send(pending)
                sent.update(pending[:count])
                pending, left = pending[count:], left - count
            else:
                ends.writer.close()
            if not held:
                held = pipe.fill(ends.source.fileno())
                if held == 0:
                    break
                assert held > 0
            count = pipe.drain(ends.target.fileno(), held)
            if count < held:
                assert count > 0 or count == AGAIN
                blocked += 1
                received.update(ends.reader.recv(100_000))
            held -= max(count, 0)
        ends.target.close()
        while part := ends.reader.recv(1 << 20):
            received.update(part)
        assert blocked
        assert received.digest() == sent.digest()


@pytest.mark.parametrize("kind", ["usual", "buffer"])
def test_a_connection_that_breaks(pool: Watched, kind: str, request: pytest.FixtureRequest) -> None:
    if kind == "buffer":
        request.getfixturevalue("refused")
    pipe = pool.take(large=kind != "usual")
    with Ends() as ends:
        ends.writer.send(b"x")
        assert pipe.fill(ends.source.fileno()) == 1
        ends.reader.close()
        assert pipe.drain(ends.target.fileno(), 1) == -32  # EPIPE
