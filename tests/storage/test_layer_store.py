"""Layers and garbage: sharing, chains, processes at once, kill -9 at any moment, a full disk, checks and repair."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyctl.engine.check import Report, check
from rootless import libc
from rootless.errors import Error
from storage import database
from storage.archive_import import import_tarball
from storage.archives import load
from storage.blobs import BlobStore
from storage.database import NoSpaceError, open_database
from storage.disk import spread
from storage.gc import Collected, collect
from storage.images import ImageStore
from storage.layers import Layer, LayerStore, chain_ids
from storage.lookup import lookup_for_run
from storage.paths import StorePaths, filesystem_type
from tests.support.images import Entry, Layout, layer_tar, sha256

Inside = Callable[..., Any]
DIR = tarfile.DIRTYPE
_DAY_S = 86400.0


class Source:
    def __init__(self, data: bytes) -> None:
        self.data = memoryview(data)

    def read(self, size: int, /) -> bytes:
        piece, self.data = self.data[:size], self.data[size:]
        return bytes(piece)


def store_layer(layers: LayerStore, archive: bytes, parents: tuple[Layer, ...] = ()) -> Layer:
    with layers.stage("layer test") as staging:
        staging.unpack(Source(archive))
        return staging.commit(sha256(archive), parents)


@pytest.fixture
def root(work: Path) -> str:
    return str(work / "store")


def leftovers(root: str) -> list[str]:
    return sorted(n for n in os.listdir(f"{root}/layers") if n.startswith("tmp-"))


# --- storing -------------------------------------------------------------------------------------


def do_store(root: str) -> None:
    db = open_database(StorePaths(root))
    base, top = layer_tar([Entry("etc", kind=DIR, uid=3, mode=0o700), Entry("etc/a")]), layer_tar([Entry("b")])
    with LayerStore(db) as layers:
        one = store_layer(layers, base)
        assert (one.key, one.diff_id) == (sha256(base), sha256(base))
        assert one.directory == sha256(base)[7:31]
        assert one.size == len(base)
        assert store_layer(layers, base) == one, "stored twice"
        assert layers.find(sha256(base), sha256(base)) == one
        two = store_layer(layers, top, (one,))
        assert two.key == sha256(top), "a layer that is complete in itself is shared between chains"
        assert layers.find(sha256(b"other"), sha256(b"other")) is None
        with pytest.raises(Error, match="ends in the middle"), layers.stage("layer cut") as staging:
            staging.unpack(Source(base[:600]))
    assert leftovers(root) == []
    assert stat.S_IMODE(os.stat(f"{root}/layers/{two.directory}").st_mode) == 0o755
    with pytest.raises(RuntimeError):
        layers.stage("layer test")


def test_layers_are_stored_once(inside: Inside, root: str) -> None:
    inside(do_store, root)


def do_chain(root: str) -> None:
    db = open_database(StorePaths(root))
    base = layer_tar(
        [Entry("srv", kind=DIR, uid=33, gid=34, mode=0o710), Entry("srv/www", kind=DIR, mode=0o2775, gid=5)]
    )
    other = layer_tar([Entry("srv", kind=DIR, uid=99, mode=0o755)])
    link = layer_tar([Entry("srv", kind=tarfile.SYMTYPE, link="/")])
    top = layer_tar([Entry("srv/www/new/page", b"x")])  # no entry for its directories
    with LayerStore(db) as layers:
        below, foreign, linked = (store_layer(layers, a) for a in (base, other, link))
        chained = store_layer(layers, top, (below,))
        assert chained.key == chain_ids([below.diff_id, sha256(top)])[1] != sha256(top)
        srv = os.stat(f"{root}/layers/{chained.directory}/srv")
        assert (srv.st_uid, srv.st_gid, stat.S_IMODE(srv.st_mode)) == (33, 34, 0o710)
        www = os.stat(f"{root}/layers/{chained.directory}/srv/www")
        assert (www.st_gid, stat.S_IMODE(www.st_mode)) == (5, 0o2775)
        new = os.stat(f"{root}/layers/{chained.directory}/srv/www/new")
        assert (new.st_uid, stat.S_IMODE(new.st_mode)) == (0, 0o755)
        elsewhere = store_layer(layers, top, (below, foreign))
        assert os.stat(f"{root}/layers/{elsewhere.directory}/srv").st_uid == 99
        assert elsewhere.directory != chained.directory
        behind_link = store_layer(layers, top, (below, linked))
        assert os.stat(f"{root}/layers/{behind_link.directory}/srv").st_uid == 0
        assert layers.find(sha256(top), chained.key) == chained
        assert layers.find(sha256(top), elsewhere.key) == elsewhere
        assert layers.find(sha256(top), sha256(top)) is None
        alone = store_layer(layers, top)
        assert alone.key == sha256(top)


def test_directories_without_an_entry_look_as_they_do_below(inside: Inside, root: str) -> None:
    inside(do_chain, root)


def do_collide(root: str) -> None:
    """Two keys with the same first 24 digits, as somebody may make them."""
    db = open_database(StorePaths(root))
    archive = layer_tar([Entry("a")])
    db.execute(
        "INSERT INTO layers (key, diff_id, directory, size, files, created_ns) VALUES ('sha256:x','sha256:x',?,1,1,1)",
        (sha256(archive)[7:31],),
    )
    with LayerStore(db) as layers:
        layer = store_layer(layers, archive)
    assert layer.directory != sha256(archive)[7:31]
    assert os.listdir(f"{root}/layers") == [layer.directory]


def do_spread(root: str) -> list[str]:
    found = []
    with LayerStore(open_database(StorePaths(root))) as layers:
        for name in ("a", "b"):  # the second time there is nothing to change
            store_layer(layers, layer_tar([Entry(name)]))
            lsattr = subprocess.run(["lsattr", "-d", layers.paths.layers], capture_output=True, text=True, check=True)
            found.append(lsattr.stdout.split()[0])
    return found


def test_layers_are_spread_over_the_block_groups_of_ext4(inside: Inside, root: str, work: Path) -> None:
    if filesystem_type(str(work)) != "ext4":
        pytest.skip("not on ext4")
    assert all("T" in flags for flags in inside(do_spread, root))


def test_other_file_systems_have_no_block_groups(tmp_path: Path) -> None:
    if not Path("/dev/shm").is_dir():
        pytest.skip("no tmpfs at /dev/shm")
    spread("/dev/shm")


def test_directories_do_not_collide(inside: Inside, root: str) -> None:
    inside(do_collide, root)


def do_restore(root: str) -> None:
    db = open_database(StorePaths(root))
    archive = layer_tar([Entry("a")])
    os.makedirs(f"{root}/layers/{sha256(archive)[7:31]}/stale")  # killed between rename and commit
    with LayerStore(db) as layers:
        layer = store_layer(layers, archive)
        assert os.listdir(f"{root}/layers/{layer.directory}") == ["a"]
        os.rename(f"{root}/layers/{layer.directory}", f"{root}/gone")
        assert layers.find(layer.key, layer.key) is None
        assert store_layer(layers, archive) == layer
    assert os.listdir(f"{root}/layers/{layer.directory}") == ["a"]


def test_stale_and_missing_directories_are_put_right(inside: Inside, root: str) -> None:
    inside(do_restore, root)


def do_root(root: str) -> tuple[list[str], str]:
    db = open_database(StorePaths(root))
    layout = Layout(Path(root) / "layout")
    layers = [
        [Entry("below", b"")],
        [Entry("./", kind=DIR, mode=0o711), Entry(".wh..wh..opq", b""), Entry("a", b"")],
        [Entry("b", b"")],
    ]
    layout.image("x/y:1", [layer_tar(entries) for entries in layers])
    load(db, str(layout.folder))
    found = lookup_for_run(db, "x/y:1")
    assert found is not None
    return [os.listdir(path)[0] for path in found.lower], os.listdir(found.root)[0]


def test_an_opaque_root_hides_and_an_explicit_one_is_found(inside: Inside, root: str) -> None:
    lower, explicit = inside(do_root, root)
    assert lower == ["b", "a"]
    assert explicit == "a"


# --- at once -------------------------------------------------------------------------------------


def do_import(root: str, archive: str, name: str) -> str:
    return import_tarball(open_database(StorePaths(root)), archive, name=name)


def do_many(root: str, archives: list[str], runs: int) -> int:
    """Processes that import and remove the same layers, and collect garbage, all at once; returns failures."""
    children = []
    for number in range(runs):
        pid = os.fork()
        if pid:
            children.append(pid)
            continue
        status = 1
        try:
            db = open_database(StorePaths(root))
            for turn in range(4):
                path = archives[(number + turn) % len(archives)]
                image = import_tarball(db, path, name=f"n{number}-{turn}")
                if number % 3 == 0:
                    ImageStore(db).remove(image, force=True)
                    collect(db)
            status = 0
        finally:
            os._exit(status)
    return sum(os.waitpid(pid, 0)[1] != 0 for pid in children)


def test_many_processes_add_and_remove_at_once(inside: Inside, root: str, area: Path) -> None:
    archives = []
    for number in range(3):
        path = area / f"{number}.tar"
        path.write_bytes(layer_tar([Entry(f"d{n}/f", bytes([number]) * 3000) for n in range(60)]))
        archives.append(str(path))
    assert inside(do_many, root, archives, 9) == 0
    db = open_database(StorePaths(root))
    for row in ImageStore(db).list():
        found = lookup_for_run(db, row.id)
        assert found is not None
        assert all(len(os.listdir(path)) == 60 for path in found.lower)
    assert inside(do_check, root) == Report()
    assert len(ImageStore(db).list()) == 6 * 4
    assert leftovers(root) == []


def do_check(root: str) -> Report:
    return check(open_database(StorePaths(root)), False, _DAY_S)


def do_wait_for_lock(root: str) -> tuple[bool, list[str]]:
    db = open_database(StorePaths(root))
    told: list[str] = []
    with LayerStore(db) as layers:
        ready, go = os.pipe()
        held, hold = os.pipe()
        child = os.fork()
        if not child:
            with layers.lock(sha256(b"l")):
                os.write(hold, b"x")
                os.read(ready, 1)
            os._exit(0)
        os.read(held, 1)
        with pytest.raises(Error, match="cancelled"), layers.lock(sha256(b"l"), lambda: True):
            pass
        assert collect(db).busy
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with layers.lock(sha256(b"l"), waiting=lambda: told.append("w")):
            pass
        os.close(go)
    return collect(db).busy, told


def test_a_layers_lock_goes_with_its_process(inside: Inside, root: str) -> None:
    assert inside(do_wait_for_lock, root) == (False, [])


def do_stalled(root: str) -> bool:
    db = open_database(StorePaths(root))
    with LayerStore(db) as layers, layers.lock(sha256(b"l")) as first:
        os.utime(first._fd, (1, 1))  # no progress for long
        with layers.lock(sha256(b"l"), lambda: True):
            return True


def test_a_stalled_process_does_not_hold_others_up(inside: Inside, root: str) -> None:
    assert inside(do_stalled, root)


def do_killed(root: str, archive: str, delay_s: float) -> None:
    os.setpgid(0, 0)
    child = os.fork()
    if not child:
        import_tarball(open_database(StorePaths(root)), archive, name="killed")
        os._exit(0)
    time.sleep(delay_s)  # the moment at which it is killed is what this test varies
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def do_use(root: str, archive: str) -> None:
    db = open_database(StorePaths(root))
    for row in ImageStore(db).list():
        found = lookup_for_run(db, row.id)
        assert found is not None
        assert [len(os.listdir(path)) for path in found.lower] == [120]
    assert check(db, False, _DAY_S) == Report()
    import_tarball(db, archive, name="after")
    assert not collect(db, 0).busy
    assert leftovers(root) == []
    assert check(db, False, 0) == Report()
    for row in ImageStore(db).list():
        ImageStore(db).remove(row.id, force=True)
    collect(db)
    assert os.listdir(f"{root}/layers") == os.listdir(f"{root}/blobs/sha256") == []


def test_kill_at_any_moment_leaves_only_garbage(inside: Inside, root: str, area: Path) -> None:
    archive = area / "a.tar"
    archive.write_bytes(layer_tar([Entry(f"d{n}/f", os.urandom(2000)) for n in range(120)]))
    for number in range(10):
        inside(do_killed, root, str(archive), number * 0.008)
        inside(do_use, root, str(archive))


def do_killed_removal(root: str, archive: str, delay_s: float) -> None:
    db = open_database(StorePaths(root))
    image = import_tarball(db, archive, name="x")
    child = os.fork()
    if not child:
        fresh = open_database(StorePaths(root))
        ImageStore(fresh).remove(image)
        collect(fresh)
        os._exit(0)
    time.sleep(delay_s)  # the moment at which it is killed is what this test varies
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_killed_removal_is_all_or_nothing(inside: Inside, root: str, area: Path) -> None:
    archive = area / "a.tar"
    archive.write_bytes(layer_tar([Entry(f"d{n}/f", b"x") for n in range(120)]))
    for number in range(6):
        inside(do_killed_removal, root, str(archive), number * 0.006)
        inside(do_use, root, str(archive))


# --- garbage -------------------------------------------------------------------------------------


def do_garbage(root: str) -> tuple[Collected, Collected]:
    db = open_database(StorePaths(root))
    Path(f"{root}/a.tar").write_bytes(layer_tar([Entry("a", b"a")]))
    Path(f"{root}/b.tar").write_bytes(layer_tar([Entry("b", b"b", uid=1000)]))
    kept = import_tarball(db, f"{root}/a.tar", name="kept")
    gone = import_tarball(db, f"{root}/b.tar", name="gone")
    blobs = BlobStore(db.paths)
    loose = blobs.put(b"loose")
    os.makedirs(f"{root}/layers/tmp-dead/x/y")
    os.makedirs(f"{root}/volumes/.removed-abc-v/_data")
    resumable, old = f"{root}/partial/sha256-{'1' * 64}", f"{root}/partial/sha256-{'2' * 64}"
    for path in (resumable, old, f"{root}/partial/tmp-1"):
        Path(path).write_bytes(b"half")
    os.utime(old, (1, 1))
    ImageStore(db).remove("gone")
    first = collect(db)
    assert not blobs.has(loose)
    assert os.path.exists(resumable)
    assert not os.path.exists(old)
    assert os.listdir(f"{root}/volumes") == []
    assert len(os.listdir(f"{root}/layers")) == 1
    assert [row.id for row in ImageStore(db).list()] == [kept]
    assert gone != kept
    return first, collect(db, 0)


def test_garbage_is_what_no_row_names(inside: Inside, root: str) -> None:
    first, second = inside(do_garbage, root)
    assert len(first.layers) == 1
    assert len(first.blobs) == 3 + 1  # manifest, configuration, layer; and the loose one
    assert first.partial == 4
    assert (second.layers, second.blobs, second.partial) == ((), (), 1)


def do_damage(root: str) -> None:
    db = open_database(StorePaths(root))
    Path(f"{root}/a.tar").write_bytes(layer_tar([Entry("a", b"a")]))
    image = import_tarball(db, f"{root}/a.tar", name="x")
    assert check(db, False, 0) == Report()
    found = lookup_for_run(db, "x")
    assert found is not None
    os.rename(found.lower[0], f"{root}/elsewhere")
    digest = ImageStore(db).list()[0].manifest_digest
    Path(db.paths.blob(digest)).write_bytes(b"changed")
    layer, blob = check(db, False, 0).images
    assert layer == (image, f"layer {sha256(Path(f'{root}/a.tar').read_bytes())} is missing")
    assert blob == (image, f"blob {digest} is damaged")
    assert check(db, False, 0).blobs == (digest,)
    assert check(db, True, 0).images == (layer,)
    ImageStore(db).remove("x")
    assert check(db, False, 0).garbage == 3  # manifest, configuration, archive; the directory is not there
    assert check(db, False, _DAY_S).garbage == 0
    os.makedirs(f"{root}/layers/tmp-dead")
    os.utime(f"{root}/layers/tmp-dead", (1, 1))  # as its image has it
    assert check(db, False, _DAY_S).garbage == 0
    assert check(db, False, 0).garbage == 4
    collect(db, 0)
    assert check(db, False, 0) == Report()


def test_check_finds_what_is_missing_damaged_and_unused(inside: Inside, root: str) -> None:
    inside(do_damage, root)


# --- a full disk ---------------------------------------------------------------------------------


def fill(path: str) -> None:
    fd = os.open(f"{path}/filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for size in (1 << 16, 4096, 1):
        try:
            while os.write(fd, bytes(size)) == size:
                pass
        except OSError:
            pass
    os.close(fd)


def do_full(root: str) -> list[str]:
    os.makedirs(root, exist_ok=True)
    libc.mount("tmpfs", root, "tmpfs", 0, "size=24m")
    paths = StorePaths(root)
    db = open_database(paths)
    Path(f"{root}/a.tar").write_bytes(layer_tar([Entry("a", os.urandom(1 << 20))]))
    Path(f"{root}/big.tar").write_bytes(layer_tar([Entry("usr/big", os.urandom(9 << 20))]))
    messages = []
    image = import_tarball(db, f"{root}/a.tar", name="small")
    with pytest.raises(Error) as caught:
        import_tarball(db, f"{root}/big.tar", name="big")
    messages.append(caught.value.message)
    assert [n for n in os.listdir(f"{root}/layers") if n.startswith("tmp-")] == []
    assert [n for n in os.listdir(f"{root}/partial") if not n.endswith(".lock")] == []
    fill(root)
    with pytest.raises(NoSpaceError):
        for number in range(500):
            db.execute(
                "INSERT INTO containers (id, name, created_ns, spec) VALUES (?,?,1,?)",
                (f"i{number}", f"n{number}", "x" * 9000),
            )
    fill(root)
    # Another process that has no -shm file yet, and the removal itself.
    fresh = open_database(paths)
    assert ImageStore(fresh).remove("small").deleted == image
    collected = collect(fresh)
    assert len(collected.layers) == 1
    assert check(fresh, False, 0) == Report()
    assert os.path.exists(paths.reserve), "the reserve was not set aside again"
    return messages


def test_a_full_disk_is_told_and_removal_still_works(inside: Inside, root: str) -> None:
    (message,) = inside(do_full, root)
    assert "No space left on device" in message
    assert "usr/big" in message or "partial" in message


def do_full_at_open(root: str) -> None:
    os.makedirs(root, exist_ok=True)
    libc.mount("tmpfs", root, "tmpfs", 0, "size=8m")
    paths = StorePaths(root)
    open_database(paths).close()  # takes -wal and -shm away
    fill(root)
    assert open_database(paths).query("SELECT id FROM images") == []
    assert not os.path.exists(paths.reserve)
    database.restore_reserve(paths)


def test_a_database_opens_on_a_full_disk(inside: Inside, root: str) -> None:
    inside(do_full_at_open, root)
