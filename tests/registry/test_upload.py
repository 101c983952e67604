"""Pushing to registries that cut, refuse, forget, redirect, or say nonsense."""

from __future__ import annotations

import hashlib

import pytest

from rootless.errors import Error
from storage.registry_hosts import RegistryError
from storage.registry_upload import Repository
from tests.registry.scripted import Request, ScriptedRegistry
from tests.support.images import Layout, sha256

DATA = hashlib.shake_128(b"upload").digest(900_000)
DIGEST = sha256(DATA)


@pytest.fixture
def empty(more_registries, tmp_path) -> ScriptedRegistry:
    """A registry that has nothing."""
    registry = more_registries()
    registry.layout = Layout(tmp_path / "empty")
    return registry


@pytest.fixture
def repository(empty, client) -> Repository:
    return Repository(client(empty.address), "team/it")


def content(start: int, count: int):
    for at in range(start, start + count, 64 << 10):
        yield DATA[at : min(at + (64 << 10), start + count)]


def send(repository: Repository, mount_from: str = "") -> str:
    return repository.upload(DIGEST, len(DATA), content, "layer x", mount_from)


def arrived(registry: ScriptedRegistry) -> bool:
    path = registry.layout.path(DIGEST)
    return path.exists() and path.read_bytes() == DATA


def on(method: str, part: str, times: int, act):
    """A hook for the first `times` requests of a method whose path has `part`."""
    left = [times]

    def hook(request: Request) -> bool:
        if request.command != method or part not in request.path or left[0] <= 0:
            return False
        left[0] -= 1
        return bool(act(request))

    return hook


def one_line(error: Error) -> str:
    assert "\n" not in error.message + error.hint
    return f"{error.message} [{error.hint}]"


def hang_up(request: Request) -> bool:
    request.close_connection = True
    request.connection.close()
    return True


# --- what works ------------------------------------------------------------------------------------


def test_once(empty, repository):
    assert send(repository) == "done"
    assert arrived(empty)
    assert [line.split()[0] for line in empty.seen] == ["GET", "HEAD", "POST", "PATCH", "PUT"]
    assert send(repository) == "exists"


def test_nothing_at_all_can_be_sent(empty, repository):
    digest = sha256(b"")
    assert repository.upload(digest, 0, lambda _start, _count: iter(()), "layer x") == "done"
    assert empty.layout.path(digest).read_bytes() == b""


def test_one_byte_can_be_sent(empty, repository):
    """After which a registry says "0-0", as it does where it has nothing."""
    digest = sha256(b"x")
    assert repository.upload(digest, 1, lambda _start, _count: iter((b"x",)), "layer x") == "done"
    assert empty.layout.path(digest).read_bytes() == b"x"


def test_mount(empty, repository):
    empty.hook(lambda r: r.answer(404) if r.command == "HEAD" else False)
    assert send(repository, "other/place") == "done", "nobody has it: it is sent"
    assert send(repository, "other/place") == "mounted"


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_a_mount_that_is_refused_is_an_upload(empty, repository, status):
    empty.hook(lambda r: r.answer(status) if "mount=" in r.path else False)
    assert send(repository, "other/place") == "done"
    assert arrived(empty)


# --- what another attempt mends ----------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
def test_a_registry_in_trouble(empty, repository, method, status):
    def trouble(request: Request) -> bool:
        request.body()
        return request.json(status, {}, {"Retry-After": "0"})

    empty.hook(on(method, "/uploads/", 2, trouble))
    assert send(repository) == "done"
    assert arrived(empty)


def test_a_cut_upload_goes_on_where_it_was(empty, repository):
    ranges = []

    def cut(request: Request) -> bool:
        session = request.path.split("?")[0].rsplit("/", 1)[1]
        empty.uploads[session] += request.body(200_000)
        return hang_up(request)

    empty.hook(lambda r: ranges.append(r.headers.get("Content-Range")) if r.command == "PATCH" else False)
    empty.hook(on("PATCH", "/uploads/", 1, cut))
    assert send(repository) == "done"
    assert arrived(empty)
    assert ranges == [f"200000-{len(DATA) - 1}"]
    assert empty.count("POST") == 1


def test_many_cuts_with_progress_are_no_failure(empty, repository):
    def cut(request: Request) -> bool:
        session = request.path.split("?")[0].rsplit("/", 1)[1]
        empty.uploads[session] += request.body(100_000)
        return hang_up(request)

    empty.hook(on("PATCH", "/uploads/", 8, cut))
    assert send(repository) == "done"
    assert arrived(empty)
    assert empty.count("POST") == 1


def test_a_registry_that_forgets_for_ever(empty, repository):
    def forget(request: Request) -> bool:
        empty.uploads.clear()
        request.body(1000)
        return hang_up(request)

    empty.hook(on("PATCH", "/uploads/", 1000, forget))
    with pytest.raises(RegistryError, match=r"^layer x: "):
        send(repository)
    assert empty.count("PATCH") == 3


def test_a_forgotten_upload_begins_anew(empty, repository):
    def forget(request: Request) -> bool:
        empty.uploads.clear()
        request.body(1000)
        return hang_up(request)

    empty.hook(on("PATCH", "/uploads/", 1, forget))
    assert send(repository) == "done"
    assert arrived(empty)
    assert empty.count("POST") == 2


def test_the_lost_answer_to_the_last_request(empty, repository):
    def done_and_gone(request: Request) -> bool:
        empty.blob(DATA)
        return hang_up(request)

    empty.hook(on("PUT", "/uploads/", 1, done_and_gone))
    assert send(repository) == "done"
    assert empty.count("PATCH") == 1


def test_too_large_a_body_is_cut_into_pieces(empty, repository, monkeypatch):
    monkeypatch.setattr("storage.registry_upload._CHUNK_BYTES", 400_000)
    sizes = []

    def small_only(request: Request) -> bool:
        if request.command != "PATCH":
            return False
        sizes.append(int(request.headers["Content-Length"]))
        if sizes[-1] <= 400_000:
            return False
        request.body()
        return request.answer(413)

    empty.hook(small_only)
    assert send(repository) == "done"
    assert arrived(empty)
    assert sizes == [900_000, 400_000, 400_000, 100_000]


def test_a_new_token_in_the_middle(empty, client):
    """The token ends between two requests: one new one is fetched."""
    issued = []

    def guard(request: Request) -> bool:
        if request.path.startswith("/token"):
            issued.append(request.path)
            return request.json(200, {"token": f"t{len(issued)}", "expires_in": 3600})
        wanted = "Bearer t2" if request.command in ("PATCH", "PUT") else "Bearer t1"
        if request.headers.get("Authorization", "") in (wanted, "Bearer t2"):
            return False
        request.body()
        realm = f'Bearer realm="http://{empty.address}/token",service="s"'
        return request.answer(401, headers={"WWW-Authenticate": realm})

    empty.hook(guard)
    assert send(Repository(client(empty.address), "team/it")) == "done"
    assert arrived(empty)
    assert len(issued) == 2
    assert "scope=repository%3Ateam%2Fit%3Apull%2Cpush" in issued[0]


# --- what ends a push --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["HEAD", "POST", "PATCH", "PUT"])
def test_401_for_ever(empty, repository, method):
    def no(request: Request) -> bool:
        request.body()
        return request.json(401, {"errors": [{"message": "no"}]}, {"WWW-Authenticate": 'Basic realm="x"'})

    empty.hook(on(method, "/blobs/", 1000, no))
    with pytest.raises(RegistryError) as caught:
        send(repository)
    assert "denies access" in one_line(caught.value)
    assert "pyctl login" in one_line(caught.value)
    assert empty.count(f"{method} ") <= 2


def test_500_for_ever(empty, repository):
    empty.hook(on("PATCH", "/uploads/", 1000, lambda r: r.body() and r.answer(500)))
    with pytest.raises(RegistryError, match=r"^layer x: .*answered 500"):
        send(repository)
    assert empty.count("PATCH") == 3


def test_a_registry_that_always_cuts(empty, repository):
    empty.hook(on("PATCH", "/uploads/", 1000, hang_up))
    with pytest.raises(RegistryError, match=r"^layer x: "):
        send(repository)
    assert empty.count("PATCH") == 3


def test_a_registry_that_takes_nothing(empty, repository):
    """It answers, with no progress at all: that must end."""
    empty.hook(on("PATCH", "/uploads/", 1000, lambda r: bool(r.body()) and r.answer(202, headers={"Range": "0-0"})))
    with pytest.raises(RegistryError, match="the registry has 0 bytes"):
        send(repository)


def test_a_registry_that_has_more_than_was_sent(empty, repository):
    empty.hook(
        on("PATCH", "/uploads/", 1, lambda r: bool(r.body()) and r.answer(202, headers={"Range": "0-999999999"}))
    )
    with pytest.raises(RegistryError, match="has 1000000000 bytes"):
        send(repository)


def test_a_registry_that_received_something_else(empty, repository):
    def corrupt(request: Request) -> bool:
        next(iter(empty.uploads.values()))[0:1] = b"!"
        return False

    empty.hook(on("PUT", "/uploads/", 1, corrupt))
    with pytest.raises(RegistryError, match="digest is wrong"):
        send(repository)


@pytest.mark.parametrize(
    "location", ["http://169.254.169.254/x", "ftp://127.0.0.1/x", "http://example.org/x", "http://[::", "http://u:p@h/"]
)
def test_where_an_upload_may_not_lead(empty, repository, location):
    empty.hook(on("POST", "/uploads/", 1, lambda r: r.answer(202, headers={"Location": location})))
    with pytest.raises(RegistryError):
        send(repository)
    assert empty.count("PATCH") == 0


def test_an_upload_elsewhere_gets_no_credentials(empty, more_registries, client, tmp_path):
    other = more_registries()
    other.layout = Layout(tmp_path / "other")
    other.uploads["s"] = bytearray()

    def ask(request: Request) -> bool:
        if request.headers.get("Authorization"):
            return False
        request.body()
        return request.answer(401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    empty.hook(ask)
    where = f"http://{other.address}/v2/team/it/blobs/uploads/s"
    empty.hook(on("POST", "/uploads/", 1, lambda r: r.answer(202, headers={"Location": where})))
    send(Repository(client(empty.address, user=("u", "p")), "team/it"))
    assert arrived(other)
    assert set(other.authorizations) == {""}


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirected_upload_is_followed(empty, more_registries, client, tmp_path, status):
    other = more_registries()
    other.layout = Layout(tmp_path / "other")
    other.uploads["session-0"] = bytearray()
    empty.hook(
        on("PATCH", "/uploads/", 1, lambda r: bool(r.body()) and r.answer(
            status, headers={"Location": f"http://{other.address}{r.path}"}))
    )  # fmt: skip
    empty.hook(on("PUT", "/uploads/", 1, lambda r: r.answer(201)))
    send(Repository(client(empty.address, user=("u", "p")), "team/it"))
    assert bytes(other.uploads["session-0"]) == DATA
    assert set(other.authorizations) == {""}


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirect_that_loses_the_body_is_not_followed(empty, repository, status):
    empty.hook(on("PATCH", "/uploads/", 9, lambda r: bool(r.body()) and r.answer(status, headers={"Location": "/x"})))
    with pytest.raises(RegistryError, match="redirects a PATCH"):
        send(repository)


def test_a_redirect_to_a_metadata_address(empty, repository):
    target = {"Location": "http://169.254.169.254/latest"}
    empty.hook(on("PATCH", "/uploads/", 9, lambda r: bool(r.body()) and r.answer(307, headers=target)))
    with pytest.raises(RegistryError, match="169"):
        send(repository)


# --- manifests ---------------------------------------------------------------------------------------


def test_a_manifest(empty, repository):
    empty.hook(on("PUT", "/manifests/", 2, lambda r: bool(r.body()) and r.answer(503)))
    repository.put_manifest(b"{}", "application/json", "latest", "image x")
    assert empty.tags == {"latest": b"{}"}


def test_a_manifest_that_is_refused(empty, repository):
    said = {"errors": [{"code": "MANIFEST_INVALID", "message": "blob unknown"}]}
    empty.hook(on("PUT", "/manifests/", 9, lambda r: bool(r.body()) and r.json(400, said)))
    with pytest.raises(RegistryError, match=r"^image x: .*blob unknown"):
        repository.put_manifest(b"{}", "application/json", "latest", "image x")


def test_a_manifest_that_was_changed(empty, repository):
    empty.hook(
        on("PUT", "/manifests/", 9, lambda r: bool(r.body()) and r.answer(
            201, headers={"Docker-Content-Digest": DIGEST}))
    )  # fmt: skip
    with pytest.raises(RegistryError, match="stored sha256:"):
        repository.put_manifest(b"{}", "application/json", "latest", "image x")
