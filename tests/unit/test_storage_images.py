"""Names and ids of images, against what Podman 5.4 answers."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import pytest

from rootless.errors import Error, NotFound
from storage import images
from storage.database import ConstraintError, Database, open_database
from storage.images import ImageInUseError, ImageStore
from storage.lookup import find, lookup_for_run
from storage.manifest import OCI_INDEX, Manifest, parse_manifest
from storage.paths import StorePaths


@pytest.fixture
def db(tmp_path: Path) -> Database:
    return open_database(StorePaths(str(tmp_path / "store")))


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def add(db: Database, *names: str, layers: int = 2, salt: str = "", index: str = "") -> str:
    keys = [_digest(f"layer {i} {salt}".encode()) for i in range(layers)]
    db.execute_many(
        "INSERT OR IGNORE INTO layers (key, diff_id, directory, size, files, created_ns) VALUES (?,?,?,?,1,1)",
        [(k, k, k[7:31], 100) for k in keys],
    )
    config = json.dumps(
        {
            "os": "linux", "architecture": "amd64", "created": "2024-01-02T03:04:05.5Z", "salt": salt,
            "rootfs": {"type": "layers", "diff_ids": keys},
            "history": [{"created_by": "ADD"}, {"created_by": "ENV", "empty_layer": True}, {"created_by": "RUN"}],
        }
    ).encode()  # fmt: skip
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": _digest(config),
            "size": len(config),
        },
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": k, "size": 5} for k in keys],
    }
    parsed = parse_manifest(json.dumps(manifest).encode())
    assert isinstance(parsed, Manifest)
    return ImageStore(db).add(config, parsed, keys, names=names, index=(index, OCI_INDEX) if index else None)


def test_lookup_for_run_has_all_that_a_container_needs(db: Database) -> None:
    image = add(db, "docker.io/library/alpine:latest", "localhost/mine:1")
    found = lookup_for_run(db, "alpine")
    assert found is not None
    assert (found.id, found.name) == (image, "docker.io/library/alpine:latest")
    assert found.names == ("docker.io/library/alpine:latest", "localhost/mine:1")
    base, top = (_digest(f"layer {i} ".encode())[7:31] for i in range(2))
    assert found.lower == (f"{db.paths.layers}/{top}", f"{db.paths.layers}/{base}")
    assert json.loads(found.config)["os"] == "linux"
    assert lookup_for_run(db, "nosuch") is None


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("bb:v1", "quay.io/foo/bar/bb:v1"),
        ("bar/bb:v1", "quay.io/foo/bar/bb:v1"),
        ("foo/bar/bb:v1", "quay.io/foo/bar/bb:v1"),
        ("bb", None),
        ("b:v1", None),
        ("docker.io/bb:v1", None),
        ("lib1", "docker.io/library/lib1:latest"),
        ("library/lib1", "docker.io/library/lib1:latest"),
        ("docker.io/lib1", "docker.io/library/lib1:latest"),
        ("lib2", "myreg:5000/a/lib2:latest"),
        ("a/lib2", "myreg:5000/a/lib2:latest"),
        ("both", "localhost/both:latest"),
        ("docker.io/both", "docker.io/library/both:latest"),
    ],
)
def test_short_names_mean_what_they_mean_to_podman(db: Database, text: str, stored: str | None) -> None:
    add(db, "quay.io/foo/bar/bb:v1", "docker.io/library/lib1:latest", "myreg:5000/a/lib2:latest")
    add(db, "docker.io/library/both:latest", salt="other")
    add(db, "localhost/both:latest", salt="third")
    found = find(db, text)
    assert (found[1] if found else None) == stored


def test_ids_and_digests(db: Database) -> None:
    index = _digest(b"index")
    image = add(db, "localhost/x:1", index=index)
    digest = ImageStore(db).list()[0].manifest_digest
    for text in (image, image[:12], image[:1], "sha256:" + image, "sha256:" + image[:9]):
        assert find(db, text) == (image, ""), text
    for text in (f"x@{digest}", f"x:9@{digest}", f"localhost/x@{digest}", f"x@{index}"):
        assert find(db, text) == (image, "localhost/x:1"), text
    for text in (f"y@{digest}", f"x@{_digest(b'no')}", "0" * 64, f"docker.io/x@{digest}"):
        assert find(db, text) is None, text
    assert ImageStore(db).digest_of(f"x@{index}") == index


def test_a_name_goes_before_the_beginning_of_an_id(db: Database) -> None:
    image = add(db, "localhost/x:1")
    other = add(db, f"localhost/{image[:4]}:latest", salt="other")
    assert find(db, image[:4]) == (other, f"localhost/{image[:4]}:latest")
    assert find(db, image[:5]) == (image, "")


def test_an_ambiguous_id_is_refused(db: Database) -> None:
    first: dict[str, str] = {}
    for i in range(17):
        image = add(db, salt=str(i))
        if image[0] in first:
            break
        first[image[0]] = image
    with pytest.raises(Error, match="ambiguous"):
        find(db, image[0])


def test_tag_moves_a_name_and_untag_keeps_the_image(db: Database) -> None:
    store = ImageStore(db)
    one, two = add(db, "localhost/a:latest"), add(db, "localhost/b:latest", salt="2")
    store.tag("b", ["a", "quay.io/q"])
    assert find(db, "a") == (two, "localhost/a:latest")
    assert {r.id: r.names for r in store.list()}[one] == ()
    with pytest.raises(NotFound):
        store.untag("b", ["nosuch"])
    store.untag("b", ["quay.io/q"])
    store.untag("b")
    assert {r.id: r.names for r in store.list()} == {one: (), two: ()}
    with pytest.raises(Error, match="digest"):
        store.tag(two, [f"x@{_digest(b'')}"])


def test_remove_untags_first_then_removes(db: Database) -> None:
    store = ImageStore(db)
    image = add(db, "localhost/a:latest", "localhost/b:latest")
    with pytest.raises(Error, match="more than one name"):
        store.remove(image[:8])
    assert store.remove("a") == images.Removed(untagged=("localhost/a:latest",))
    assert store.remove("b") == images.Removed(untagged=("localhost/b:latest",), deleted=image)
    with pytest.raises(NotFound) as caught:
        store.remove("b")
    assert caught.value.exit_code == 1
    assert db.query("SELECT * FROM image_layers") == []
    assert len(db.query("SELECT * FROM layers")) == 2  # the collection of garbage takes those
    image = add(db, "localhost/a:latest", "localhost/b:latest")
    assert store.remove(image, force=True).deleted == image


def test_an_image_with_a_container_stays(db: Database) -> None:
    store = ImageStore(db)
    image = add(db, "localhost/a:latest", "localhost/b:latest")
    db.execute(
        "INSERT INTO containers (id, name, created_ns, image_id, spec) VALUES (?,?,1,?,'{}')", ("c" * 64, "n", image)
    )
    assert store.remove("a").untagged  # a name may go
    with pytest.raises(ImageInUseError) as caught:
        store.remove("b", force=True)
    assert caught.value.containers == ("c" * 64,)
    assert caught.value.exit_code == 2
    assert store.exists("b")
    assert store.list()[0].containers == 1
    with pytest.raises(ConstraintError):
        db.execute("DELETE FROM images")


def test_adding_needs_its_layers_and_keeps_directories(db: Database) -> None:
    image = add(db, "localhost/a:latest")
    assert add(db, "localhost/c:latest") == image  # again: another name
    assert ImageStore(db).list()[0].names == ("localhost/a:latest", "localhost/c:latest")
    db.execute("DELETE FROM images")
    db.execute("DELETE FROM layers WHERE directory = ?", (_digest(b"layer 1 ")[7:31],))
    config = b'{"os":"linux","architecture":"amd64","rootfs":{"type":"layers"}}'
    manifest = {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": [],
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": _digest(config), "size": 64},
    }  # fmt: skip
    parsed = parse_manifest(json.dumps(manifest).encode())
    assert isinstance(parsed, Manifest)
    with pytest.raises(ConstraintError):
        ImageStore(db).add(config, parsed, [_digest(b"layer 1 ")], names=["q/w:1"])
    assert ImageStore(db).list() == ()
    assert db.query("SELECT * FROM image_names") == []


def test_history_gives_sizes_to_steps_with_layers(db: Database) -> None:
    image = add(db, "localhost/a:latest")
    rows = ImageStore(db).history("a")
    assert [(r.created_by, r.size, r.id) for r in rows] == [("RUN", 100, image), ("ENV", 0, ""), ("ADD", 100, "")]
    assert rows[0].tags == ("localhost/a:latest",)


def test_look_up_is_fast_among_a_thousand(db: Database) -> None:
    with db.transaction():
        for i in range(1000):
            add(db, f"quay.io/team/image{i}:latest", salt=str(i))
    for text in ("quay.io/team/image500", "image500"):
        times = []
        for _ in range(20):
            start = time.perf_counter()
            assert lookup_for_run(db, text)
            times.append(time.perf_counter() - start)
        assert min(times) < 0.001, text
    start = time.perf_counter()
    assert len(ImageStore(db).list()) == 1000
    assert time.perf_counter() - start < 0.2
