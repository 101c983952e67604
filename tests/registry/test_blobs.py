"""The blob store and compressed streams, without a registry."""

from __future__ import annotations

import bz2
import contextlib
import fcntl
import gzip
import io
import lzma
import multiprocessing
import os
import threading

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless.errors import Error, NotFound
from storage import blobs as blob_module
from storage import compression
from storage.blobs import BlobStore
from storage.compression import CompressionError, open_decompressed
from storage.digest import DigestError, of
from storage.paths import StorePaths
from storage.pipeline import LayerPipeline, WrongBlobError
from tests.support.waiting import wait_until

DATA = bytes(range(256)) * 5000


def gz(data: bytes, level: int = 6) -> bytes:
    """The same bytes at every call, so that tests have the same names in every worker."""
    return gzip.compress(data, level, mtime=0)


@pytest.fixture
def store(tmp_path):
    paths = StorePaths(str(tmp_path))
    paths.prepare()
    return BlobStore(paths)


def begin(store: BlobStore, digest: str, told: list[str] | None = None):
    return store.download(digest, lambda: False, lambda: (told if told is not None else []).append("waiting"))


# --- the store -----------------------------------------------------------------------------------


def test_put_and_read(store):
    digest = store.put(DATA)
    assert digest == of(DATA)
    assert store.has(digest)
    assert store.size(digest) == len(DATA)
    assert store.read(digest, len(DATA)) == DATA
    assert os.listdir(store.paths.partial) == []
    with pytest.raises(Error, match="larger than"):
        store.read(digest, len(DATA) - 1)
    with pytest.raises(NotFound):
        store.read(of(b"none"), 1)
    with pytest.raises(DigestError):
        store.has("sha256:../../x")


def test_a_wrong_digest_leaves_nothing(store):
    with pytest.raises(DigestError):
        store.put(DATA, of(b"other"))
    assert os.listdir(store.paths.partial) == []
    assert os.listdir(f"{store.paths.blobs}/sha256") == []


def test_a_damaged_blob_is_not_read(store):
    digest = store.put(DATA)
    with open(store.paths.blob(digest), "r+b") as file:
        file.write(b"X")
    with pytest.raises(DigestError, match="of the store"):
        store.read(digest, len(DATA))


def test_a_download_keeps_its_bytes(store):
    digest = of(DATA)
    first = begin(store, digest)
    first.append(DATA[:1000])
    first.close()
    second = begin(store, digest)
    assert second.offset == 1000
    assert second.pread(10, 5) == DATA[5:15]
    second.append(DATA[1000:])
    second.commit()
    assert store.read(digest, len(DATA)) == DATA
    assert begin(store, digest) is None
    assert os.listdir(store.paths.partial) == []


def test_discarding_and_empty_downloads_leave_nothing(store):
    download = begin(store, of(DATA))
    download.append(b"x")
    download.discard()
    begin(store, of(DATA)).close()
    assert os.listdir(store.paths.partial) == []


def test_a_second_downloader_waits_and_finds_the_blob(store):
    digest = of(DATA)
    first = begin(store, digest)
    told: list[str] = []
    found = []
    thread = threading.Thread(target=lambda: found.append(begin(store, digest, told)))
    thread.start()
    wait_until(lambda: told, 10, "the second waits")
    first.append(DATA)
    first.commit()
    thread.join(10)
    assert found == [None]
    assert told == ["waiting"]


def test_a_cancelled_wait_ends(store):
    digest = of(DATA)
    with contextlib.closing(begin(store, digest)), pytest.raises(Error, match="cancelled"):
        store.download(digest, lambda: True, lambda: None)


def test_a_stalled_downloader_is_overtaken(store, monkeypatch):
    """Stopped with ^Z, or at a registry that hangs: others do not wait for ever."""
    monkeypatch.setattr(blob_module, "STALLED_S", 0.3)
    digest = of(DATA)
    first = begin(store, digest)
    second = begin(store, digest)
    assert second is not None
    second.append(DATA)
    second.commit()
    assert store.read(digest, len(DATA)) == DATA
    first.append(DATA)
    first.commit()
    assert store.read(digest, len(DATA)) == DATA
    assert os.listdir(store.paths.partial) == []


def _append_and_die(root: str, digest: str) -> None:
    download = begin(BlobStore(StorePaths(root)), digest)
    download.append(b"half")
    os.kill(os.getpid(), 9)


def test_a_killed_process_leaves_its_bytes_and_no_lock(store):
    digest = of(DATA)
    process = multiprocessing.get_context("fork").Process(target=_append_and_die, args=(store.paths.root, digest))
    process.start()
    process.join(20)
    assert process.exitcode == -9
    download = begin(store, digest)
    assert download.offset == 4
    download.discard()


def test_a_file_that_was_removed_under_its_lock_is_not_taken(store):
    """`prune` removes under the lock; who waited for it must not go on with the removed file."""
    digest = of(DATA)
    path = store.paths.partial_blob(digest)
    with open(path, "wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        found = []
        thread = threading.Thread(target=lambda: found.append(begin(store, digest)))
        thread.start()
        os.unlink(path)
    thread.join(10)
    assert os.path.exists(path)
    found[0].discard()


# --- compressed streams --------------------------------------------------------------------------


class Dribble:
    """Gives at most `step` bytes at a time, as a network does."""

    def __init__(self, data: bytes, step: int = 4099) -> None:
        self._file = io.BytesIO(data)
        self._step = step

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._step))


def read_all(data: bytes, size: int = 65536, step: int = 4099) -> bytes:
    reader = open_decompressed(Dribble(data, step), "it")
    out = []
    while part := reader.read(size):
        assert len(part) <= size
        out.append(part)
    return b"".join(out)


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


SKIPPABLE = b"\x5e\x2a\x4d\x18" + (10).to_bytes(4, "little") + b"0123456789"


@pytest.fixture(params=["isal", "zlib"])
def inflater(request, monkeypatch):
    """gzip by isal, and by zlib as on machines that isal has no build for."""
    if request.param == "zlib":
        make = compression._make
        fallback = compression._ZlibDecompressor
        monkeypatch.setattr(compression, "_make", lambda kind: fallback() if kind == "gzip" else make(kind))


@pytest.mark.parametrize("size", [1000, 262144])
@pytest.mark.parametrize(
    ("packed", "plain"),
    [
        (gz(DATA), DATA), (gz(DATA) + gz(b"zz") + bytes(1000), DATA + b"zz"),
        (gz(b""), b""), (bz2.compress(DATA), DATA), (lzma.compress(DATA), DATA), (zstd(DATA), DATA),
        (SKIPPABLE + zstd(DATA) + SKIPPABLE + zstd(b"zz") + SKIPPABLE, DATA + b"zz"), (DATA, DATA),
        (b"", b""), (b"ab", b"ab"),
    ],
    ids=["gzip", "members", "gzip-of-nothing", "bzip2", "xz", "zstd", "frames", "plain", "nothing", "short"],
)  # fmt: skip
@pytest.mark.usefixtures("inflater")
def test_decompresses(packed, plain, size):
    assert read_all(packed, size) == plain


@settings(max_examples=40)
@given(st.binary(max_size=20_000), st.integers(1, 5000), st.integers(1, 5000))
def test_decompresses_anything_in_any_steps(plain, size, step):
    for pack in (gz, zstd):
        assert read_all(pack(plain), size, step) == plain


@pytest.mark.parametrize(
    "packed",
    [
        gz(DATA)[:-5], gz(DATA) + b"junk behind it", b"\x1f\x8b\x08\0" + b"\xff" * 5000,
        gz(DATA)[:-8] + bytes(8), lzma.compress(DATA)[:-20],
        zstd(DATA)[:50] + b"\xff" * 50 + zstd(DATA)[100:],
    ],
    ids=["cut", "junk", "noise", "checksum", "xz", "zstd"],
)  # fmt: skip
@pytest.mark.usefixtures("inflater")
def test_damaged_streams(packed):
    with pytest.raises(CompressionError, match=r"^it: the "):
        read_all(packed)


def test_a_bomb_is_read_in_bounded_steps():
    bomb = gz(bytes(64 << 20), 9)
    assert len(bomb) < 100_000
    reader = open_decompressed(io.BytesIO(bomb), "it")
    assert all(len(reader.read(1000)) <= 1000 for _ in range(1000))


def zstd_with_window(log: int) -> bytes:
    """A frame of one uncompressed block that asks for a window of 2**log bytes (RFC 8878 §3.1.1)."""
    block = b"a few bytes"
    return b"\x28\xb5\x2f\xfd\0" + bytes(((log - 10) << 3,)) + (len(block) << 3 | 1).to_bytes(3, "little") + block


@pytest.mark.parametrize(("log", "limit"), [(27, 0), (26, 64 << 20), (28, 1 << 40)])
def test_a_zstd_window_within_its_bound(log, limit):
    reader = open_decompressed(io.BytesIO(zstd_with_window(log)), "it", limit)
    assert b"".join(iter(lambda: reader.read(4), b"")) == b"a few bytes"


@pytest.mark.parametrize(
    ("log", "limit", "words"),
    [
        (28, 0, "^it: .* more than 134217728 bytes of memory$"),
        (27, 64 << 20, r"^it: .* more than 67108864 bytes of memory \(layer_max_window\)$"),
        (20, 1, r"^it: .* more than 1024 bytes .*layer_max_window"),
    ],
)
def test_a_zstd_window_beyond_its_bound(log, limit, words):
    with pytest.raises(CompressionError, match=words):
        open_decompressed(io.BytesIO(zstd_with_window(log)), "it", limit).read(10)


# --- the pipeline --------------------------------------------------------------------------------


def test_pipeline():
    packed = gz(DATA)
    pipeline = LayerPipeline(Dribble(packed), of(packed), of(DATA), "layer x")
    assert b"".join(iter(lambda: pipeline.read(777), b"")) == DATA
    pipeline.close()


@pytest.mark.parametrize(
    ("digest", "diff_id", "kind", "words"),
    [
        (of(b"x"), of(DATA), WrongBlobError, "layer x: wrong digest"),
        (of(gz(DATA)), of(b"x"), DigestError, "layer x: unpacked it is not sha256:"),
    ],
)
def test_pipeline_gives_no_end_before_the_digests_are_right(digest, diff_id, kind, words):
    pipeline = LayerPipeline(Dribble(gz(DATA)), digest, diff_id, "layer x")
    with pytest.raises(kind, match=words):
        while pipeline.read(4096):
            pass
    pipeline.close()


def test_damaged_bytes_are_a_wrong_digest_first_of_all():
    packed = bytearray(gz(DATA))
    good = of(bytes(packed))
    packed[50:100] = bytes(50)
    pipeline = LayerPipeline(Dribble(bytes(packed)), good, of(DATA), "layer x")
    with pytest.raises(WrongBlobError):
        pipeline.drain()
    pipeline.close()


def test_blame():
    """The reader failed: was it the bytes?"""
    packed = gz(DATA)
    own = Error("an entry is bad")
    pipeline = LayerPipeline(Dribble(packed), of(packed), of(DATA), "layer x")
    assert pipeline.read(10)
    assert pipeline.blame(own) is own
    pipeline = LayerPipeline(Dribble(packed), of(b"x"), of(DATA), "layer x")
    assert pipeline.read(10)
    assert isinstance(pipeline.blame(own), WrongBlobError)


def test_an_abandoned_pipeline_ends():
    class Endless:
        def read(self, size: int, /) -> bytes:
            return bytes(size)

    pipeline = LayerPipeline(Endless(), of(b""), "", "layer x")
    assert pipeline.read(10)
    pipeline.close()
    assert not any(thread.name.startswith("layer ") for thread in threading.enumerate())
