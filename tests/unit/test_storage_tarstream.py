"""The tar reader against Python's own on generated archives, and against damage."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootless.errors import Error
from storage.tarstream import MAX_EXTENDED_HEADER, Entry, TarError, TarStream


class Slow:
    """A source that returns pieces of odd sizes, as a network does."""

    def __init__(self, data: bytes, step: int) -> None:
        self.data, self.step, self.position = data, step, 0

    def read(self, size: int, /) -> bytes:
        piece = self.data[self.position : self.position + min(size, self.step)]
        self.position += len(piece)
        return piece


def read_all(archive: bytes, step: int = 1 << 20) -> list[tuple[Entry, bytes]]:
    stream = TarStream(Slow(archive, step), "test")
    out = []
    while (entry := stream.next()) is not None:
        out.append((entry, b"".join(bytes(p) for p in stream.data())))
    return out


def expand(entry: Entry, data: bytes) -> bytes:
    if entry.sparse is None:
        return data
    out, position = bytearray(entry.size), 0
    for offset, length in entry.sparse:
        out[offset : offset + length] = data[position : position + length]
        position += length
    return bytes(out)


NAMES = st.text(
    st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), min_size=1, max_size=300
).filter(lambda n: n.strip("/ ") == n and n)
KINDS = {"file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "sym": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE,
         "fifo": tarfile.FIFOTYPE, "chr": tarfile.CHRTYPE, "blk": tarfile.BLKTYPE}  # fmt: skip


@st.composite
def members(draw: st.DrawFn) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(draw(NAMES))
    info.type = KINDS[draw(st.sampled_from(sorted(KINDS)))]
    info.mode = draw(st.integers(0, 0o7777))
    info.uid, info.gid = draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, 2**21 - 1))
    info.mtime = draw(st.one_of(st.integers(-(2**33), 2**33), st.integers(0, 2**32).map(lambda n: n + 0.5)))
    data = draw(st.binary(max_size=2000)) if info.type == tarfile.REGTYPE else b""
    info.size = len(data)
    if info.type in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        info.linkname = draw(NAMES)
    if info.type in (tarfile.CHRTYPE, tarfile.BLKTYPE):
        info.devmajor, info.devminor = draw(st.integers(0, 4095)), draw(st.integers(0, 4095))
    if draw(st.booleans()):
        info.pax_headers = {"SCHILY.xattr.user.k": draw(st.text("abc=\n ", min_size=1, max_size=20))}
    return info, data


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(members(), max_size=6),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.integers(1, 5000),
)
def test_reads_what_tarfile_writes(items: list[tuple[tarfile.TarInfo, bytes]], form: int, step: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for info, data in items:
            if form == tarfile.GNU_FORMAT:
                info.pax_headers, info.mtime = {}, int(info.mtime)
            tar.addfile(info, io.BytesIO(data))
    found = read_all(out.getvalue(), step)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        expected = tar.getmembers()
    assert len(found) == len(expected) == len(items)
    for (entry, data), info, (original, content) in zip(found, expected, items, strict=True):
        assert entry.name.decode().removesuffix("/") == original.name
        assert entry.kind == (b"0" if info.type == b"\0" else info.type)
        assert (entry.mode, entry.uid, entry.gid) == (info.mode, info.uid, info.gid)
        assert entry.mtime_ns == int(original.mtime * 10) * 10**8
        assert data == content
        assert entry.size == len(content)
        if info.type in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            assert entry.link.decode() == original.linkname
        if info.type in (tarfile.CHRTYPE, tarfile.BLKTYPE):
            assert entry.device == (original.devmajor, original.devminor)
        if original.pax_headers:
            assert entry.xattrs == {"user.k": original.pax_headers["SCHILY.xattr.user.k"].encode()}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_is_an_error_and_nothing_else(data: st.DataObject) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=data.draw(st.sampled_from([1, 2]))) as tar:
        for info, content in data.draw(st.lists(members(), min_size=1, max_size=3)):
            tar.addfile(info, io.BytesIO(content))
    archive = bytearray(out.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(archive)))
    try:
        read_all(bytes(archive[:cut]))
    except Error as error:
        if not str(error).startswith("test"):
            raise


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=3000), st.sampled_from(b"xgLKS0157\x00"))
def test_hostile_extended_data_with_valid_checksums(payload: bytes, kind: int) -> None:
    block = bytearray(512)
    block[:4] = b"name"
    block[124:136] = b"%011o\0" % len(payload)
    block[156] = kind
    block[257:265] = b"ustar\x0000"
    block[386 : 386 + 96] = payload[:96].ljust(96, b"\0")
    block[482:495] = payload[96:109].ljust(13, b"\0")
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    try:
        read_all(bytes(block) + payload + bytes(-len(payload) % 512) + bytes(1024))
    except TarError:
        pass


def gnu_tar(arguments: list[str], folder: Path) -> bytes:
    return subprocess.run(["tar", "-C", str(folder), "-c", *arguments, "."], capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--format=gnu", "-S"],
        ["--format=posix", "--sparse-version=0.0", "-S"],
        ["--format=posix", "--sparse-version=0.1", "-S"],
        ["--format=posix", "--sparse-version=1.0", "-S"],
        ["--format=oldgnu", "-S"],
        ["--format=v7"],
        ["--format=ustar"],
    ],
)
def test_reads_gnu_tar(arguments: list[str], tmp_path: Path) -> None:
    """Sparse files of every version, with more pieces than a header holds."""
    content = bytearray(4 << 20)
    for start in range(0, len(content), 128 << 10):
        content[start : start + 4096] = random.Random(start).randbytes(4096)
    with open(tmp_path / "sparse", "wb") as file:
        for start in range(0, len(content), 128 << 10):
            file.seek(start)
            file.write(content[start : start + 4096])
        file.truncate(len(content))
    (tmp_path / "hole").touch()
    (tmp_path / "after").write_bytes(b"after")
    with open(tmp_path / "hole", "r+b") as file:
        file.truncate(1 << 20)
    archive = gnu_tar(arguments, tmp_path)
    found = {e.name.lstrip(b"./"): expand(e, d) for e, d in read_all(archive)}
    assert found[b"sparse"] == bytes(content)
    assert found[b"hole"] == bytes(1 << 20)
    assert found[b"after"] == b"after"
    if "-S" in arguments:
        assert len(archive) < 1 << 20


def test_long_names_and_large_numbers_of_gnu_tar(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 120)
    deep.mkdir(parents=True)
    (deep / ("f" * 200)).symlink_to("t" * 300)
    archive = gnu_tar(["--format=gnu", "--owner=4294967294", "--group=4000000", "--mtime=@-5"], tmp_path)
    entry, _ = read_all(archive)[-1]
    assert entry.name.endswith(b"f" * 200)
    assert entry.link == b"t" * 300
    assert (entry.uid, entry.gid, entry.mtime_ns) == (4294967294, 4000000, -5 * 10**9)


def header(name: bytes = b"x", size: bytes = b"0", kind: bytes = b"0") -> bytes:
    block = bytearray(512)
    block[: len(name)] = name
    block[124 : 124 + len(size)] = size
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(key: bytes, value: bytes, *more: bytes) -> bytes:
    """An extended header with one record, or more."""
    length = len(key) + len(value) + 3
    record = b"%d %s=%s\n" % (length + len(str(length + len(str(length)))), key, value)
    if more:
        rest = pax(*more)[512:].rstrip(b"\0")
        record += rest
    return header(kind=b"x", size=b"%o" % len(record)) + record.ljust(-(-len(record) // 512) * 512, b"\0")


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (b"no tar at all" * 100, "wrong checksum"),
        (header(size=b"77777777777") + b"short", "entry x: the archive ends in the middle of its data"),
        (header()[:300], "ends in the middle of a header"),
        (header(size=struct.pack(">B11x", 0xC0)), "the size .* is impossible"),
        (header(size=b"9"), "the size .* is not a number"),
        (header(kind=b"x", size=b"%o" % (MAX_EXTENDED_HEADER + 1)), "too large"),
        (header(kind=b"L", size=b"10000000"), "too large"),
        (header(kind=b"M"), "not supported"),
        (header(kind=b"x", size=b"5") + b"9 a=b".ljust(512, b"\0"), "malformed"),
        (header(kind=b"x", size=b"10") + b"8 path=\n".ljust(512, b"\0") + bytes(1024), "behind an extended header"),
        (pax(b"path", b"a\0b") + header(), "NUL"),
        (pax(b"size", b"-100") + header(), "not a number"),
        (pax(b"mtime", b"x") + header(), "time"),
        (header(b"s", kind=b"S")[:483], "middle of a header"),
    ],
)
def test_malformed_archives_name_what_is_wrong(archive: bytes, message: str) -> None:
    with pytest.raises(TarError, match=message):
        read_all(archive)


def test_headers_without_a_member_end() -> None:
    """Extended headers are not counted as members: a small archive must not make them without end, or keep them."""
    many = b"".join(pax(b"k%d" % n, bytes([97]) * 500_000) for n in range(12))
    with pytest.raises(TarError, match="extended headers before one member"):
        read_all(many + header() + bytes(1024))
    kept = [pax(b"k%d" % n, b"v" * 500_000) for n in range(4)]
    globals_ = b"".join(header(kind=b"g", size=block[124:136].strip(b"\0")) + block[512:] + header() for block in kept)
    with pytest.raises(TarError, match="global headers of more than"):
        read_all(globals_ + bytes(1024))


def test_a_sparse_map_must_fit_its_file() -> None:
    for pieces in (b"0,4,2,4", b"0,1", b"0,600", b"0,512,512", b"9,1,0,511"):
        extended = pax(b"GNU.sparse.map", pieces, b"GNU.sparse.size", b"600")
        archive = extended + header(size=b"1000") + bytes(2048)
        with pytest.raises(TarError, match="sparse map"):
            read_all(archive)


def test_memory_does_not_follow_the_size() -> None:
    import tracemalloc

    size = 64 << 20
    source = Slow(header(size=b"%o" % size) + bytes(size) + bytes(1024), 1 << 18)
    stream = TarStream(source, "test")
    tracemalloc.start()
    stream.next()
    assert sum(len(piece) for piece in stream.data()) == size
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()
