"""Unpacking: what becomes of every kind of entry, and what hostile archives get.  In a real user namespace."""

from __future__ import annotations

import io
import os
import stat
import struct
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import Error
from rootless.idmap import host_id_map
from storage.removal import remove_tree
from storage.unpack import UnpackLimits, UnpackReport, clean_path, unpack
from tests.support import descriptors
from tests.support.images import Entry, layer_tar
from tests.support.requirements import missing, program

DIR, SYM, HARD, FIFO, CHR, BLK = (
    tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE
)  # fmt: skip
ROOT = os.geteuid() == 0
Inside = Callable[..., Any]


class Source:
    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)

    def read(self, size: int, /) -> bytes:
        return self.file.read(size)


class Found:
    """One file of an unpacked tree."""

    def __init__(self, path: str) -> None:
        held = os.lstat(path)
        self.mode = held.st_mode
        self.owner = (held.st_uid, held.st_gid)
        self.mtime_ns = held.st_mtime_ns
        self.size, self.blocks, self.links, self.inode = held.st_size, held.st_blocks, held.st_nlink, held.st_ino
        self.device = held.st_rdev
        self.link = os.readlink(path) if stat.S_ISLNK(held.st_mode) else ""
        self.content = Path(path).read_bytes() if stat.S_ISREG(held.st_mode) and held.st_size < 1 << 20 else b""
        names = os.listxattr(path, follow_symlinks=False)
        self.xattrs = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}

    @property
    def whiteout(self) -> bool:
        return stat.S_ISCHR(self.mode) and self.device == 0

    @property
    def opaque(self) -> bool:
        return self.xattrs.get("user.overlay.opaque") == b"y"


def do_unpack(archive: bytes, target: str, options: dict[str, Any]) -> tuple[UnpackReport, dict[str, Found]]:
    os.makedirs(target, exist_ok=True)
    os.umask(0o077)
    fd = os.open(target, os.O_RDONLY)
    before = descriptors.held()
    try:
        report = unpack(Source(archive), fd, what="layer test", **options)
    finally:
        assert not descriptors.held() - before, "descriptors leaked"
    tree = {".": Found(target)}
    for folder, folders, files in os.walk(target):
        for name in folders + files:
            path = os.path.join(folder, name)
            tree[os.path.relpath(path, target)] = Found(path)
    return report, tree


@pytest.fixture
def run(inside: Inside, work: Path) -> Callable[..., tuple[UnpackReport, dict[str, Found]]]:
    def call(entries: list[Entry] | bytes, single: bool = False, **options: Any) -> Any:
        archive = entries if isinstance(entries, bytes) else layer_tar(entries)
        return inside(do_unpack, archive, str(work / "layer"), options, single=single)

    return call


def pax_tar(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info


# --- what entries become -------------------------------------------------------------------------


def test_every_kind_of_entry(run: Callable[..., Any]) -> None:
    report, tree = run(
        [
            Entry("./", mode=0o711, kind=DIR, uid=5, gid=6),
            Entry("bin/", mode=0o755, kind=DIR),
            Entry("bin/su", b"program", 0o4755, uid=0, gid=10),
            Entry("bin/sgid", b"", 0o2755, uid=1000, gid=1000),
            Entry("tmp", mode=0o1777, kind=DIR, uid=1, gid=2),
            Entry("locked", mode=0o000, kind=DIR),
            Entry("locked/secret", b"x", 0o000),
            Entry("bin/alias", kind=SYM, link="/usr/../bin/su", uid=3, gid=4),
            Entry("bin/hard", kind=HARD, link="./bin/su"),
            Entry("pipe", mode=0o622, kind=FIFO, uid=7, gid=8),
            Entry("/absolute/path", b"a"),
        ]
    )
    assert report.root_explicit
    assert tree["."].owner == (5, 6)
    assert stat.S_IMODE(tree["."].mode) == 0o711
    assert tree["bin/su"].content == b"program"
    assert stat.S_IMODE(tree["bin/su"].mode) == 0o4755
    assert tree["bin/su"].owner == (0, 10)
    assert stat.S_IMODE(tree["bin/sgid"].mode) == 0o2755
    assert tree["bin/sgid"].owner == (1000, 1000)
    assert stat.S_IMODE(tree["tmp"].mode) == 0o1777
    assert stat.S_IMODE(tree["locked/secret"].mode) == 0
    assert tree["bin/alias"].link == "/usr/../bin/su"
    assert tree["bin/alias"].owner == (3, 4)
    assert tree["bin/hard"].inode == tree["bin/su"].inode
    assert stat.S_ISFIFO(tree["pipe"].mode)
    assert (stat.S_IMODE(tree["pipe"].mode), tree["pipe"].owner) == (0o622, (7, 8))
    assert tree["absolute/path"].content == b"a"
    assert all(f.mtime_ns == 1700000000 * 10**9 for n, f in tree.items() if n != "absolute")
    assert report.implicit == (b"absolute",)
    assert stat.S_IMODE(tree["absolute"].mode) == 0o755  # whatever the umask


def test_times_are_kept_to_the_nanosecond(run: Callable[..., Any]) -> None:
    info = member("f", pax_headers={"mtime": "1234567890.123456789"})
    old = member("old", pax_headers={"mtime": "-1.5"})
    _, tree = run(pax_tar([(info, b""), (old, b"")]))
    assert tree["f"].mtime_ns == 1234567890123456789
    assert tree["old"].mtime_ns == -1500000000


def test_xattrs_of_the_drivers_are_refused(run: Callable[..., Any]) -> None:
    names = ["user.ok", "user.overlay.opaque", "user.overlay.redirect", "user.fuseoverlayfs.override_stat",
             "user.containers.override_stat", "trusted.overlay.opaque", "security.selinux"]  # fmt: skip
    headers = {f"SCHILY.xattr.{n}": "y" for n in names}
    report, tree = run(pax_tar([(member("d", DIR, mode=0o755, pax_headers=headers), b"")]))
    assert tree["d"].xattrs == {"user.ok": b"y"}
    assert report.skipped_xattrs == 6


def test_file_capabilities_are_kept(run: Callable[..., Any]) -> None:
    # VFS_CAP_REVISION_2, effective, CAP_NET_RAW (capabilities(7), "File capability extended attribute").
    capability = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
    headers = {"SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape")}
    report, tree = run(pax_tar([(member("ping", mode=0o755, uid=0, pax_headers=headers), b"x")]))
    if report.skipped_xattrs:
        missing("a file system with security.capability")
    # The kernel may have added whose root's it is (revision 3).
    assert tree["ping"].xattrs["security.capability"][4:12] == capability[4:12]


def test_later_entries_replace_earlier_ones(run: Callable[..., Any]) -> None:
    _, tree = run(
        [
            Entry("a", b"one"), Entry("a", b"two"),
            Entry("d", kind=DIR), Entry("d/x/y", b""), Entry("d", b"now a file"),
            Entry("f", b"file"), Entry("f", kind=DIR), Entry("f/in", b"in"),
            Entry("l", kind=SYM, link="a"), Entry("l", b"not through the link"),
            Entry("s", b""), Entry("s", kind=SYM, link="a"), Entry("s", kind=SYM, link="f"),
            Entry("h", b""), Entry("h", kind=HARD, link="a"), Entry("a", kind=HARD, link="a"),
            Entry("keep", kind=DIR), Entry("keep/in", b""), Entry("keep", kind=DIR, mode=0o700),
        ]
    )  # fmt: skip
    assert tree["a"].content == b"two"
    assert tree["d"].content == b"now a file"
    assert tree["f/in"].content == b"in"
    assert tree["l"].content == b"not through the link"
    assert tree["s"].link == "f"
    assert tree["h"].inode == tree["a"].inode
    assert "keep/in" in tree
    assert stat.S_IMODE(tree["keep"].mode) == 0o700


def test_whiteouts(run: Callable[..., Any]) -> None:
    report, tree = run(
        [
            Entry("etc", kind=DIR), Entry("etc/.wh.passwd", b""), Entry("etc/.wh..wh..opq", b""),
            Entry("etc/.wh..wh.aufs", b""),
            Entry("a/.wh.b", b""), Entry("a/b", b"same layer's file stays"),
            Entry("c/d/e", b""), Entry("c/.wh.d", b""),
            Entry(".wh.g", b""), Entry("g", kind=DIR), Entry("g/new", b""),
            Entry(".wh.i", b""), Entry("i/j/k", b""),
            Entry("dev/null0", kind=CHR, device=(0, 0)),
        ]
    )  # fmt: skip
    assert tree["etc/passwd"].whiteout
    assert tree["etc"].opaque
    assert set(tree) & {"etc/.wh.passwd", "etc/.wh..wh..opq", "etc/.wh..wh.aufs"} == set()
    assert tree["a/b"].content == b"same layer's file stays"
    assert tree["c/d"].opaque
    assert tree["c/d/e"].content == b""
    assert tree["g"].opaque
    assert tree["i"].opaque
    assert not tree["i/j"].opaque
    assert tree["dev/null0"].whiteout
    assert not report.root_opaque
    report, tree = run([Entry("sub/.wh..wh..opq", b""), Entry(".wh..wh..opq", b"")])
    assert report.root_opaque


def test_device_nodes(run: Callable[..., Any]) -> None:
    report, tree = run([Entry("dev/null", kind=CHR, device=(1, 3)), Entry("dev/sda", kind=BLK, device=(8, 0))])
    if ROOT:
        assert os.major(tree["dev/null"].device) == 1
    else:
        assert report.skipped_devices == 2
        assert set(tree) == {".", "dev"}


def test_links_inside_the_layer_are_followed(run: Callable[..., Any]) -> None:
    _, tree = run(
        [
            Entry("usr/lib", kind=DIR), Entry("lib", kind=SYM, link="usr/lib"), Entry("lib/a.so", b"a"),
            Entry("run", kind=DIR), Entry("var/run", kind=SYM, link="/run"), Entry("var/run/pid", b"1"),
            Entry("lib2", kind=HARD, link="lib/a.so"),
        ]
    )  # fmt: skip
    assert tree["usr/lib/a.so"].links == 2
    assert tree["run/pid"].content == b"1"


def test_sparse_stays_sparse(run: Callable[..., Any], work: Path) -> None:
    folder = work / "made"
    folder.mkdir()
    with open(folder / "lastlog", "wb") as file:
        file.truncate(100 << 30)
        file.seek(50 << 30)
        file.write(b"in the middle")
    archive = subprocess.run(
        ["tar", "-C", folder, "--format=posix", "-Sc", "lastlog"], capture_output=True, check=True
    ).stdout
    _, tree = run(archive)
    assert tree["lastlog"].size == 100 << 30
    assert tree["lastlog"].blocks < 64


def test_zeros_become_holes(run: Callable[..., Any]) -> None:
    end = b"\0" * (3 << 20)
    data = b"x" * 100000 + bytes(5 << 20) + b"y" * 7
    report, tree = run([Entry("middle", data), Entry("all", end), Entry("small", bytes(1000))])
    assert tree["middle"].size == len(data)
    assert tree["middle"].blocks * 512 < 400_000
    assert tree["all"].size == len(end)
    assert tree["all"].blocks == 0
    assert report.written_bytes < 400_000


def test_contents_survive_holes_of_every_offset(run: Callable[..., Any]) -> None:
    entries = []
    for n in range(40):
        data = (b"ab" * 5000 * (n % 3)) + bytes(20000 * n) + bytes([1 + n % 255]) * (n * 777 % 70000) + bytes(n * 3000)
        entries.append(Entry(f"f{n}", data))
    _, tree = run(entries)
    for entry in entries:
        assert tree[entry.name].size == len(entry.content)
        assert tree[entry.name].content == (entry.content if len(entry.content) < 1 << 20 else b"")


def test_many_directories_need_few_descriptors(run: Callable[..., Any]) -> None:
    entries = [Entry(f"d{n}/e{n}/f", b"x") for n in range(300)] + [Entry(f"d{n}", kind=DIR) for n in range(300)]
    report, tree = run(entries)
    assert len(tree) == 901
    assert report.implicit == tuple(f"d{n}/e{n}".encode() for n in range(300))


# --- single-id mode and foreign ids --------------------------------------------------------------


@pytest.mark.skipif(ROOT, reason="real root maps every id")
def test_with_one_id_owners_are_squashed_and_told(run: Callable[..., Any]) -> None:
    entries = [Entry("a", b"", uid=5), Entry("d", kind=DIR, gid=7), Entry("s", kind=SYM, link="x", uid=1), Entry("r")]
    report, tree = run(entries, single=True, single_id=True)
    assert report.foreign_owners == 3
    assert {f.owner for f in tree.values()} == {(0, 0)}


@pytest.mark.skipif(ROOT, reason="real root maps every id")
def test_an_owner_that_is_not_mapped_is_named(run: Callable[..., Any]) -> None:
    if host_id_map(os.getuid(), os.getgid()).single:
        missing("subordinate ids for this user")
    with pytest.raises(
        Error, match=r"layer test: entry srv/f: its owner 4000000:0 is not among the mapped ids"
    ) as caught:
        run([Entry("srv", kind=DIR), Entry("srv/f", b"", uid=4_000_000)])
    assert "usermod --add-subuids" in caught.value.hint


# --- hostile archives ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../victim", "a/../../victim", "/../../etc/x", "..", "a/b/../../../x"])
def test_paths_that_climb_out_are_refused(run: Callable[..., Any], outside: Path, work: Path, name: str) -> None:
    with pytest.raises(Error, match="its path leads out of the layer"):
        run([Entry(name, b"evil")])
    assert os.listdir(work) == ["layer"]
    assert os.listdir(work / "layer") == []


def test_dots_inside_are_plain_paths(run: Callable[..., Any]) -> None:
    _, tree = run([Entry("./a/./b/../c//d", b"x"), Entry("e/..", kind=DIR)])
    assert set(tree) == {".", "a", "a/c", "a/c/d"}


@pytest.mark.parametrize("target", ["{outside}", "../../outside", "../../../../../../../../..{outside}"])
def test_a_link_cannot_be_written_through_to_the_outside(
    run: Callable[..., Any], outside: Path, work: Path, target: str
) -> None:
    link = target.format(outside=outside)
    hostile = [
        [Entry("l", kind=SYM, link=link), Entry("l/victim", b"evil")],
        [Entry("l", kind=SYM, link=link), Entry("l", kind=DIR, mode=0o777), Entry("l/victim", b"evil")],
        [Entry("l", kind=SYM, link=f"{link}/victim"), Entry("l", b"evil")],
        [Entry("l", kind=SYM, link=link), Entry("h", kind=HARD, link="l/victim"), Entry("h", b"evil")],
        [Entry("l", kind=SYM, link=link), Entry("l/.wh.victim", b"")],
        [Entry("l", kind=SYM, link=link), Entry("l/.wh..wh..opq", b"")],
        [Entry("a", kind=SYM, link="b"), Entry("b", kind=SYM, link=link), Entry("a/victim", b"evil")],
        [Entry("d", kind=DIR), Entry("d/x", b""), Entry("d", kind=SYM, link=link), Entry("d/victim", b"evil")],
        [Entry("d", kind=DIR, mode=0o777), Entry("e", kind=SYM, link=link), Entry("d", kind=HARD, link="e")],
    ]
    for number, entries in enumerate(hostile):
        try:
            _, tree = run(entries)
        except Error as error:
            if "layer test: entry" not in str(error):
                raise AssertionError(f"archive {number}") from error
        else:
            assert all(not name.startswith("..") for name in tree)
    assert (outside / "victim").read_text() == "untouched"


def test_directory_times_are_not_set_through_a_link(run: Callable[..., Any], outside: Path) -> None:
    run([Entry("d", kind=DIR), Entry("d/e", kind=DIR), Entry("d", kind=SYM, link=str(outside.parent))])
    run([Entry("e", kind=DIR), Entry("e/outside", kind=DIR), Entry("e", kind=SYM, link=str(outside.parent))])


@pytest.mark.parametrize("name", [".", "./", "/", "/.", "a/.."])
@pytest.mark.parametrize("kind", [SYM, HARD, tarfile.REGTYPE, FIFO])
def test_the_root_stays_a_directory(run: Callable[..., Any], work: Path, name: str, kind: bytes) -> None:
    with pytest.raises(Error, match="the root of a layer must be a directory"):
        run([Entry(name, kind=kind, link="/tmp")])
    assert stat.S_ISDIR(os.lstat(work / "layer").st_mode)


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ("../outside/victim", "leads out"),
        ("{outside}/victim", "not in the layer"),
        ("..", "leads out"),
        ("", "leads out"),
    ],
)
def test_hard_links_to_the_outside(run: Callable[..., Any], outside: Path, link: str, message: str) -> None:
    with pytest.raises(Error, match=message):
        run([Entry("h", kind=HARD, link=link.format(outside=outside))])
    assert os.lstat(outside / "victim").st_nlink == 1


def test_a_dangling_link_on_the_way_is_told(run: Callable[..., Any]) -> None:
    with pytest.raises(Error, match="entry l/f: l is a symbolic link to nothing"):
        run([Entry("l", kind=SYM, link="/nowhere"), Entry("l/f", b"")])
    with pytest.raises(Error, match="entry f/g: f is not a directory"):
        run([Entry("f", b""), Entry("f/g", b"")])
    with pytest.raises(Error, match="entry m/f: Too many levels"):
        run([Entry("m", kind=SYM, link="m"), Entry("m/f", b"")])


@pytest.mark.parametrize(
    ("entries", "limits", "message"),
    [
        ([Entry("big", os.urandom(3 << 20))], UnpackLimits(max_bytes=1 << 20), r"entry big: .*layer_max_size"),
        ([Entry("big", bytes(9 << 20))], UnpackLimits(max_stream_bytes=1 << 20), r"entry big: .*layer_max_stream"),
        ([Entry(f"f{n}") for n in range(50)], UnpackLimits(max_entries=49), r"entry f49: more than 49 entries"),
        ([Entry("d/" * 300 + "f")], UnpackLimits(max_entries=100), r"$"),
        (
            [Entry(f"{n}" * 200, kind=DIR) for n in range(9)],
            UnpackLimits(max_name_bytes=1500),
            r"entry 8+[.:]+ paths of directories of more than 1500 bytes",
        ),
    ],
)
def test_caps(run: Callable[..., Any], entries: list[Entry], limits: UnpackLimits, message: str) -> None:
    if message == "$":
        entries = [*entries, Entry("last")]
        message = "more than 100 entries"
    with pytest.raises(Error, match=message):
        run(entries, limits=limits)


def test_the_ratio_is_capped(run: Callable[..., Any]) -> None:
    bomb = [Entry("bomb", b"a" * (70 << 20))]
    with pytest.raises(Error, match="entry bomb: the archive expands to more than"):
        run(bomb, compressed_bytes=70 << 10, limits=UnpackLimits(max_ratio=10))
    run([Entry("fine", b"a" * (60 << 20))], compressed_bytes=60 << 10, limits=UnpackLimits(max_ratio=10))


def test_what_follows_the_archive_is_bounded_too(run: Callable[..., Any]) -> None:
    with pytest.raises(Error, match="layer_max_stream"):
        run(layer_tar([Entry("a")]) + bytes(4 << 20), limits=UnpackLimits(max_stream_bytes=2 << 20))


def do_deep(target: str) -> int:
    os.mkdir(target)
    archive = layer_tar([Entry("d/" * 1900 + "f", b"x")])
    implicit = unpack(Source(archive), os.open(target, os.O_RDONLY), what="layer test").implicit
    remove_tree(target)
    assert not os.path.lexists(target)
    return len(implicit)


def test_deep_trees_are_made_and_removed(inside: Inside, work: Path) -> None:
    """1900 levels: more than the interpreter's stack holds."""
    assert inside(do_deep, str(work / "deep")) == 1900


def test_a_truncated_archive_names_the_entry(run: Callable[..., Any]) -> None:
    archive = layer_tar([Entry("a", b"x"), Entry("usr/bin/tool", b"y" * 5000)])
    with pytest.raises(Error, match="layer test: entry usr/bin/tool: the archive ends in the middle of its data"):
        run(archive[:4000])


def test_long_and_odd_names(run: Callable[..., Any]) -> None:
    names = ["n" * 255, "sp ace\n\ttab", "ünï/cödé", "-rf", "a" * 200 + "/" + "b" * 200]
    _, tree = run([Entry(name, name.encode()) for name in names])
    for name in names:
        assert tree[name].content == name.encode()
    with pytest.raises(Error, match="File name too long"):
        run([Entry("n" * 256, b"")])
    with pytest.raises(Error, match=r"path is longer than 4096"):
        run([Entry("n/" * 2049 + "x", b"")])
    archive = bytearray(layer_tar([Entry("xyz", b"")]))
    archive[0:3] = b"\xff\xfe\x80"
    archive[148:156] = b"        "
    archive[148:156] = b"%06o\0 " % sum(archive[:512])
    _, tree = run(bytes(archive))
    assert os.fsdecode(b"\xff\xfe\x80") in tree


@pytest.mark.parametrize("name", [".wh.", ".wh...", "a/.wh.", "a/.wh..", "../.wh.x"])
def test_whiteouts_of_nothing(run: Callable[..., Any], outside: Path, name: str) -> None:
    with pytest.raises(Error, match=r"names nothing|leads out"):
        run([Entry(name, b"")])


def test_clean_path_agrees_with_the_slow_way() -> None:
    for name in (b"a", b"a/b", b"./a", b"a//b", b"a/./b", b"/a", b"a/", b"", b".", b"/", b"a/../b", b"a/b/..", b".x/y"):
        expected = os.path.normpath(b"/" + name).lstrip(b"/")
        assert clean_path(name) == expected, name


# --- both drivers read it ------------------------------------------------------------------------


def view(driver: str, lower: list[str], base: str) -> dict[str, str]:
    """What a mount of `lower` (topmost first) shows."""
    from rootless import libc

    merged = f"{base}/merged"
    os.makedirs(merged, exist_ok=True)
    data = "lowerdir=" + ":".join(lower)
    if driver == "overlay":
        libc.mount("overlay", merged, "overlay", 0, data + ",userxattr")
        helper = 0
    else:
        fd = os.open("/dev/fuse", os.O_RDWR)
        os.set_inheritable(fd, True)
        options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other"
        libc.mount("fuse-overlayfs", merged, "fuse.fuse-overlayfs", libc.MS_NOSUID | libc.MS_NODEV, options)
        argv = ["fuse-overlayfs", "-f", "-o", data, f"/dev/fd/{fd}"]
        helper = os.posix_spawnp(argv[0], argv, os.environ)
        os.close(fd)
    try:
        return {
            os.path.relpath(os.path.join(folder, name), merged): str(os.lstat(os.path.join(folder, name)).st_uid)
            for folder, folders, files in os.walk(merged)
            for name in folders + files
        }
    finally:
        libc.umount(merged, libc.MNT_DETACH)
        if helper:
            os.waitpid(helper, 0)


def do_layers(archives: list[bytes], base: str, driver: str) -> dict[str, str]:
    lower = []
    for number, archive in enumerate(archives):
        target = f"{base}/{number}"
        do_unpack(archive, target, {})
        lower.insert(0, target)
    return view(driver, lower, base)


@pytest.mark.parametrize("driver", ["overlay", "fuse-overlayfs"])
def test_drivers_see_whiteouts(inside: Inside, work: Path, driver: str) -> None:
    if driver == "fuse-overlayfs":
        program("fuse-overlayfs")
    base = [
        Entry("etc", kind=DIR), Entry("etc/passwd", b""), Entry("etc/group", b"", uid=33),
        Entry("old", kind=DIR), Entry("old/a", b""), Entry("old/b", b""),
        Entry("gone", kind=DIR), Entry("gone/x", b""), Entry("back", kind=DIR), Entry("back/old", b""),
    ]  # fmt: skip
    top = [
        Entry("etc", kind=DIR), Entry("etc/.wh.passwd", b""), Entry("old", kind=DIR), Entry("old/.wh..wh..opq", b""),
        Entry("old/c", b""), Entry(".wh.gone", b""), Entry(".wh.back", b""), Entry("back", kind=DIR),
        Entry("back/new", b""),
    ]  # fmt: skip
    tree = inside(do_layers, [layer_tar(base), layer_tar(top)], str(work), driver)
    assert tree == {"etc": "0", "etc/group": "33", "old": "0", "old/c": "0", "back": "0", "back/new": "0"}
