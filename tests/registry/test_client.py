"""The registry client against registries on loopback: authentication, retries, redirects, caps, time-outs."""

from __future__ import annotations

import base64
import threading
import time

import pytest

from rootless.errors import Error, NotFound
from storage import manifest as manifests
from storage.digest import DigestError
from storage.manifest import Descriptor
from storage.reference import parse
from storage.registry import AccessDenied, Registry
from storage.registry_hosts import CancelledError, RegistryError
from tests.registry.conftest import FAST
from tests.registry.scripted import Request, ScriptedRegistry
from tests.support.images import Layout, sha256


def reference(registry: ScriptedRegistry, rest: str = "small:small"):
    return parse(f"{registry.address}/{rest}")


def big_layer(layout: Layout) -> Descriptor:
    manifest = manifests.parse_manifest(layout.path(layout.index[0]["digest"]).read_bytes())
    assert isinstance(manifest, manifests.Manifest)
    return manifest.layers[1]


def fetch(registry: Registry, descriptor: Descriptor, offset: int = 0) -> bytes:
    stream = registry.blob("small", descriptor, "layer x", offset)
    try:
        return b"".join(iter(lambda: stream.read(4096), b""))
    finally:
        stream.close()


def one_line(error: Error) -> str:
    assert "\n" not in error.message + error.hint
    return f"{error.message} [{error.hint}]"


def on(part: str, function):
    """A hook for requests whose path contains `part`."""
    return lambda request: function(request) if part in request.path else False


def times(count: int, function):
    """A hook that acts for the first `count` requests that it gets."""
    left = [count]

    def limited(request: Request) -> bool:
        left[0] -= 1
        return bool(left[0] >= 0 and function(request))

    return limited


# --- what works ----------------------------------------------------------------------------------


def test_fetches_by_tag_and_by_digest(scripted, client, small_layout):
    registry = client(scripted.address)
    fetched = registry.manifest(reference(scripted))
    digest = small_layout.index[0]["digest"]
    assert (fetched.digest, fetched.content_type) == (digest, manifests.OCI_MANIFEST)
    assert registry.manifest(reference(scripted, f"small@{digest}")).raw == fetched.raw
    layer = big_layer(small_layout)
    assert fetch(registry, layer) == small_layout.path(layer.digest).read_bytes()


def test_one_connection_serves_all(scripted, client, small_layout):
    ports = set()

    def note(request: Request) -> bool:
        ports.add(request.client_address)
        return False

    scripted.hook(note)
    registry = client(scripted.address)
    for _ in range(5):
        registry.manifest(reference(scripted))
        fetch(registry, big_layer(small_layout))
    assert len(ports) <= 2  # the attempt with TLS, and the one that is kept


def test_tls_with_an_own_authority(more_registries, certificates, client):
    registry = more_registries(tls=certificates.server)
    assert client(registry.address, cert_dir=certificates.authority).manifest(reference(registry)).raw
    assert client(registry.address, verify=False).manifest(reference(registry)).raw
    with pytest.raises(RegistryError, match="certificate is not valid") as caught:
        client(registry.address).manifest(reference(registry))
    assert f"certs.d/{registry.address}/ca.crt" in one_line(caught.value)


def test_tls_verify_forbids_plain_http(scripted, client):
    with pytest.raises(RegistryError, match="does not speak TLS") as caught:
        client(scripted.address, verify=True).connect()
    assert "insecure = true" in one_line(caught.value)


def test_plain_http_only_on_loopback_or_by_configuration(scripted, client):
    # A name that is no loopback name but leads there all the same (RFC 6761 keeps it from ever being another host).
    assert not client("registry.example:5000")._may_be_plain
    assert client("registry.example:5000", insecure=True)._may_be_plain
    assert not client("registry.example:5000", insecure=True, verify=True)._may_be_plain
    assert client("registry.example:5000", verify=False)._may_be_plain
    for name in ("localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"):
        assert client(name)._may_be_plain


# --- authentication ------------------------------------------------------------------------------


def basic(scripted: ScriptedRegistry, user: str, password: str):
    expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def check(request: Request) -> bool:
        if request.headers.get("Authorization") == expected:
            return False
        return request.json(401, {"errors": [{"message": "who are you"}]}, {"WWW-Authenticate": 'Basic realm="x"'})

    scripted.hook(check)


def test_basic_authentication(scripted, client):
    basic(scripted, "tester", "sécret:")
    assert client(scripted.address, user=("tester", "sécret:")).manifest(reference(scripted)).raw
    with pytest.raises(AccessDenied, match="denies access anonymously: who are you"):
        client(scripted.address).manifest(reference(scripted))
    with pytest.raises(AccessDenied, match="denies access as tester") as caught:
        client(scripted.address, user=("tester", "wrong")).manifest(reference(scripted))
    assert f"pyctl login {scripted.address}" in one_line(caught.value)


class TokenServer:
    """Bearer authentication by the registry itself, or by `realm`."""

    def __init__(self, registry: ScriptedRegistry, realm: str = "") -> None:
        self.registry = registry
        self.realm = realm or f"http://{registry.address}/token"
        self.issued = 0
        self.lifetime = 300
        self.asked: list[str] = []
        self.accepted: set[str] = set()
        registry.hook(self.check)

    def check(self, request: Request) -> bool:
        if request.path.startswith("/token"):
            return self.issue(request)
        if request.headers.get("Authorization", "").removeprefix("Bearer ") in self.accepted:
            return False
        challenge = f'Bearer realm="{self.realm}",service="the \\"registry\\"",scope="repository:small:pull"'
        return request.json(401, {"errors": []}, {"WWW-Authenticate": challenge})

    def issue(self, request: Request) -> bool:
        self.issued += 1
        self.asked.append(f"{request.command} {request.path} {request.headers.get('Authorization', '')}")
        if request.command == "POST":
            self.asked.append(request.rfile.read(int(request.headers["Content-Length"])).decode())
        token = f"t{self.issued}"
        self.accepted.add(token)
        return request.json(200, {"token": token, "expires_in": self.lifetime})


def test_bearer_token_is_fetched_once_with_its_scope(scripted, client, small_layout):
    tokens = TokenServer(scripted)
    registry = client(scripted.address, user=("tester", "secret"))
    registry.manifest(reference(scripted))
    fetch(registry, big_layer(small_layout))
    assert tokens.issued == 1
    assert "scope=repository%3Asmall%3Apull" in tokens.asked[0]
    assert "service=the+%22registry%22" in tokens.asked[0]
    assert base64.b64encode(b"tester:secret").decode() in tokens.asked[0]


def test_anonymous_tokens(scripted, client):
    tokens = TokenServer(scripted)
    client(scripted.address).manifest(reference(scripted))
    assert tokens.asked[0].endswith(" ")


def test_a_revoked_token_is_renewed(scripted, client, small_layout):
    tokens = TokenServer(scripted)
    registry = client(scripted.address)
    registry.manifest(reference(scripted))
    tokens.accepted.clear()
    fetch(registry, big_layer(small_layout))
    assert tokens.issued == 2


def test_identity_token_is_exchanged(scripted, client):
    from storage.registry_auth import Credentials

    tokens = TokenServer(scripted)
    registry = client(scripted.address)
    registry._credentials = Credentials(identity_token="refresh-me", origin="the test")
    registry.manifest(reference(scripted))
    assert tokens.asked[0].startswith("POST /token")
    assert "refresh_token=refresh-me" in tokens.asked[1]
    assert "grant_type=refresh_token" in tokens.asked[1]


def test_401_for_ever_ends(scripted, client):
    tokens = TokenServer(scripted)
    scripted.hook(
        on("/manifests/", lambda r: r.json(401, {}, {"WWW-Authenticate": f'Bearer realm="{tokens.realm}",service="s"'}))
    )
    with pytest.raises(AccessDenied, match="denies access anonymously"):
        client(scripted.address).manifest(reference(scripted))
    assert scripted.count("/manifests/") == 2


def test_token_server_that_refuses(scripted, client):
    TokenServer(scripted)
    scripted.hook(on("/token", lambda r: r.json(401, {"details": "bad\x1b[31m password"})))
    with pytest.raises(AccessDenied, match=r"does not accept the credentials of tester \(the test\): bad") as caught:
        client(scripted.address, user=("tester", "x")).manifest(reference(scripted))
    assert "\x1b" not in caught.value.message


@pytest.mark.parametrize(
    "body", [b"no json", b"[]", b"{}", b'{"token": 5}', b'{"token": "a\\r\\nX: y"}',
             b'{"token": "a", "expires_in": "1"}', b" " * (2 << 20)]
)  # fmt: skip
def test_malformed_tokens(scripted, client, body):
    TokenServer(scripted)
    scripted.hook(on("/token", lambda r: r.answer(200, body)))
    with pytest.raises(Error, match="token server"):
        client(scripted.address).manifest(reference(scripted))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("", "does not say how"),
        ("Negotiate", "negotiate authentication, which is not supported"),
        ("Bearer service=x", "names no token server"),
        ('Bearer realm="ftp://x/"', "neither http nor https"),
        ('Bearer realm="file:///etc/passwd"', "neither http nor https"),
        ('Bearer realm="http://user:pass@127.0.0.1/"', "contains a user name"),
        ('Bearer realm="http://169.254.169.254/token"', "without TLS"),
        ('Bearer realm="https://169.254.169.254/token"', "link-local"),
        ('Bearer realm="https://[fe80::1]/token"', "link-local"),
        ('Bearer realm="https://[::ffff:169.254.169.254]/token"', "link-local"),
        ('Bearer realm="https://0.0.0.0/token"', "unspecified"),
        ('Bearer realm="http://registry.example/token"', "without TLS"),
        ('Bearer realm="http://["', "malformed URL"),
        ('Bearer realm="/token"', "neither http nor https"),
    ],
)
def test_hostile_challenges(scripted, client, header, words):
    scripted.hook(lambda r: r.json(401, {}, {"WWW-Authenticate": header} if header else {}))
    registry = client(scripted.address, user=("tester", "secret"))
    with pytest.raises(RegistryError, match=words) as caught:
        registry.manifest(reference(scripted))
    one_line(caught.value)


def test_credentials_stay_with_the_realm_of_the_registry(scripted, more_registries, client, small_layout):
    """A blob's redirect leads to a host that answers 401 with a realm of its own: it must get nothing."""
    thief = more_registries()
    stolen = more_registries()
    thief.hook(lambda r: r.json(401, {}, {"WWW-Authenticate": f'Bearer realm="http://{stolen.address}/token"'}))
    TokenServer(scripted)
    scripted.hook(on("/blobs/", lambda r: r.answer(307, b"", {"Location": f"http://{thief.address}{r.path}"})))
    registry = client(scripted.address, user=("tester", "secret"))
    with pytest.raises(AccessDenied):
        fetch(registry, big_layer(small_layout))
    assert thief.authorizations == [""]
    assert stolen.seen == []


# --- redirects -----------------------------------------------------------------------------------


def test_redirects_drop_credentials(scripted, more_registries, client, small_layout):
    other = more_registries()
    basic(scripted, "tester", "secret")
    scripted.hook(on("/blobs/", lambda r: r.answer(307, b"", {"Location": f"http://{other.address}{r.path}"})))
    layer = big_layer(small_layout)
    assert (
        fetch(client(scripted.address, user=("tester", "secret")), layer)
        == small_layout.path(layer.digest).read_bytes()
    )
    assert other.authorizations == [""]


def test_redirects_within_the_registry_keep_credentials(scripted, client, small_layout):
    basic(scripted, "tester", "secret")
    scripted.hook(
        on("/v2/small/blobs/", lambda r: r.answer(301, b"", {"Location": r.path.replace("/v2/small/", "/v2/b/")}))
    )
    assert fetch(client(scripted.address, user=("tester", "secret")), big_layer(small_layout))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("https://169.254.169.254/latest/meta-data", "link-local"),
        ("http://169.254.169.254/latest/meta-data", "without TLS"),
        ("https://[fe80::1]/", "link-local"),
        ("https://224.0.0.1/", "multicast"),
        ("https://0.0.0.0/", "unspecified"),
        ("http://other.example/", "without TLS"),
        ("ftp://127.0.0.1/", "neither http nor https"),
        ("file:///etc/passwd", "neither http nor https"),
        ("", "to nowhere"),
        ("//[/", "malformed URL"),
    ],
)
def test_hostile_redirects(scripted, client, small_layout, target, words):
    scripted.hook(on("/blobs/", lambda r: r.answer(302, b"", {"Location": target} if target else {})))
    with pytest.raises(RegistryError, match=words) as caught:
        fetch(client(scripted.address), big_layer(small_layout))
    one_line(caught.value)


def test_redirects_for_ever(scripted, client, small_layout):
    scripted.hook(on("/blobs/", lambda r: r.answer(302, b"", {"Location": r.path})))
    with pytest.raises(RegistryError, match="redirects more than 5 times"):
        fetch(client(scripted.address), big_layer(small_layout))


def test_https_does_not_become_http(more_registries, certificates, client, scripted, small_layout):
    registry = more_registries(tls=certificates.server)
    registry.hook(on("/blobs/", lambda r: r.answer(302, b"", {"Location": f"http://{scripted.address}{r.path}"})))
    with pytest.raises(RegistryError, match="from https to http"):
        fetch(client(registry.address, cert_dir=certificates.authority), big_layer(small_layout))
    assert scripted.seen == []


def test_a_remote_registry_may_not_lead_to_loopback(scripted, client):
    """The address that was connected to is checked: a name that resolves to loopback is refused too."""
    from storage.registry_hosts import origin_of

    registry = client("registry.example:5000", insecure_hosts=lambda _host: True)
    source = origin_of("https://registry.example:5000/")
    with pytest.raises(RegistryError, match="loopback"):
        registry.transport.check_target(source, f"https://127.0.0.1:{scripted.port}/", "redirect")
    with pytest.raises(RegistryError, match=r"refused to be sent to 127\.0\.0\.1: a loopback"):
        registry.transport.send("GET", f"http://localhost:{scripted.port}/v2/", {})
    assert scripted.seen == []


# --- retries, time-outs, caps --------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_retries(scripted, client, status):
    scripted.hook(on("/manifests/", times(2, lambda r: r.json(status, {}))))
    assert client(scripted.address).manifest(reference(scripted)).raw
    assert scripted.count("/manifests/") == 3


def test_retry_after_is_waited_for(scripted, client):
    scripted.hook(on("/manifests/", times(1, lambda r: r.json(429, {}, {"Retry-After": "1"}))))
    before = time.monotonic()
    client(scripted.address).manifest(reference(scripted))
    assert time.monotonic() - before >= 1


def test_retry_after_that_is_too_long_is_told(scripted, client):
    scripted.hook(
        on("/manifests/", lambda r: r.json(429, {"errors": [{"message": "slow down"}]}, {"Retry-After": "900"}))
    )
    with pytest.raises(RegistryError, match="answered 429: slow down") as caught:
        client(scripted.address).manifest(reference(scripted))
    assert "900 s" in caught.value.hint
    assert scripted.count("/manifests/") == 1


def test_retries_end(scripted, client):
    scripted.hook(on("/manifests/", lambda r: r.answer(503, b"<html>down</html>")))
    with pytest.raises(RegistryError, match="answered 503"):
        client(scripted.address).manifest(reference(scripted))
    assert scripted.count("/manifests/") == FAST.attempts


def test_unknown_image(scripted, client):
    with pytest.raises(
        NotFound, match=f"image {scripted.address}/none:latest is not known to registry {scripted.address}"
    ):
        client(scripted.address).manifest(reference(scripted, "none:latest"))


def test_unreachable_registry(client):
    from tests.support.registry import free_port

    port = free_port()
    with pytest.raises(RegistryError, match=f"127.0.0.1:{port} is not reachable: Connection refused"):
        client(f"127.0.0.1:{port}").connect()


def test_unresolvable_registry(client):
    with pytest.raises(RegistryError, match=r"registry\.invalid:443: the host name cannot be resolved"):
        client("registry.invalid").connect()


def test_something_that_is_no_registry(client):
    """A server that accepts and says nothing."""
    import socket

    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(RegistryError, match="nothing was received in time"),
    ):
        client(f"127.0.0.1:{silent.getsockname()[1]}", limits=FAST.replace(connect_s=0.5)).connect()


def test_manifest_with_a_wrong_digest(scripted, client):
    wanted = sha256(b"something else")
    scripted.hook(on(f"/manifests/{wanted}", lambda r: r.answer(200, b"{}", {"Content-Type": manifests.OCI_MANIFEST})))
    with pytest.raises(DigestError, match="wrong digest"):
        client(scripted.address).manifest(reference(scripted, f"small@{wanted}"))


def test_manifest_that_is_too_large(scripted, client):
    scripted.hook(on("/manifests/", lambda r: r.answer(200, b" " * (manifests.MAX_MANIFEST_BYTES + 1))))
    with pytest.raises(RegistryError, match="larger than 4194304 bytes"):
        client(scripted.address).manifest(reference(scripted))


def chunked_without_end(request: Request) -> bool:
    request.send_response(200)
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    try:
        while not request.registry.stopped.is_set():
            request.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
    except OSError:
        pass
    request.close_connection = True
    return True


def test_manifest_without_end(scripted, client):
    scripted.hook(on("/manifests/", chunked_without_end))
    with pytest.raises(RegistryError, match="larger than"):
        client(scripted.address).manifest(reference(scripted))


def test_blob_without_end(scripted, client, small_layout):
    scripted.hook(on("/blobs/", chunked_without_end))
    layer = big_layer(small_layout)
    with pytest.raises(RegistryError, match=f"sends more than its {layer.size} bytes"):
        fetch(client(scripted.address), layer)


@pytest.mark.parametrize("difference", [-1, 1])
def test_blob_of_another_size(scripted, client, small_layout, difference):
    layer = big_layer(small_layout)
    raw = small_layout.path(layer.digest).read_bytes()
    sent = raw[:difference] if difference < 0 else raw + b"x"
    scripted.hook(on("/blobs/", lambda r: r.answer(200, sent)))
    with pytest.raises(RegistryError, match=f"the registry has {len(sent)} bytes, the manifest says {layer.size}"):
        fetch(client(scripted.address), layer)


def test_a_cut_blob_is_continued(scripted, client, small_layout):
    layer = big_layer(small_layout)
    raw = small_layout.path(layer.digest).read_bytes()
    ranges = []

    def cut(request: Request) -> bool:
        asked = request.headers.get("Range", "bytes=0-")
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        ranges.append(start)
        end = min(len(raw), start + len(raw) // 3)
        status = 206 if start else 200
        headers = {"Content-Range": f"bytes {start}-{len(raw) - 1}/{len(raw)}"} if start else {}
        return request.answer(status, raw[start:end], headers, length=len(raw) - start)

    scripted.hook(on("/blobs/", cut))
    assert fetch(client(scripted.address), layer) == raw
    assert ranges == sorted(set(ranges))
    assert len(ranges) >= 3


def test_a_blob_that_is_always_cut_at_the_same_byte(scripted, client, small_layout):
    layer = big_layer(small_layout)
    scripted.hook(on("/blobs/", lambda r: r.answer(200, b"x" * 100, length=layer.size) if "Range" not in r.headers
                     else r.answer(206, b"", {"Content-Range": "bytes 100-"}, length=layer.size - 100)))  # fmt: skip
    with pytest.raises(RegistryError, match="layer x: "):
        fetch(client(scripted.address), layer)


def test_a_range_that_was_not_asked_for(scripted, client, small_layout):
    layer = big_layer(small_layout)
    scripted.hook(on("/blobs/", lambda r: r.answer(206, b"x" * 10, {"Content-Range": "bytes 0-9/10"}, length=10)))
    with pytest.raises(RegistryError, match="another range"):
        fetch(client(scripted.address), layer, offset=5)


def test_a_registry_without_ranges(scripted, client, small_layout):
    layer = big_layer(small_layout)
    raw = small_layout.path(layer.digest).read_bytes()
    scripted.hook(on("/blobs/", lambda r: r.answer(200, raw)))
    assert fetch(client(scripted.address), layer, offset=1000) == raw[1000:]


def test_a_stalled_blob_ends(scripted, client, small_layout):
    layer = big_layer(small_layout)

    def stall(request: Request) -> bool:
        request.send_response(200)
        request.send_header("Content-Length", str(layer.size))
        request.end_headers()
        request.registry.stopped.wait(60)
        request.close_connection = True
        return True

    scripted.hook(on("/blobs/", stall))
    with pytest.raises(RegistryError, match=r"layer x: 127\.0\.0\.1: nothing was received in time"):
        fetch(client(scripted.address), layer)


def test_a_trickling_blob_is_no_progress(scripted, client, small_layout):
    layer = big_layer(small_layout)

    def trickle(request: Request) -> bool:
        request.send_response(200)
        request.send_header("Content-Length", str(layer.size))
        request.end_headers()
        try:
            while not request.registry.stopped.wait(0.05):
                request.wfile.write(b"x")
        except OSError:
            pass
        request.close_connection = True
        return True

    scripted.hook(on("/blobs/", trickle))
    stream = client(scripted.address, limits=FAST.replace(stall_s=0.2)).blob("small", layer, "layer x")
    before = time.monotonic()
    with pytest.raises(RegistryError, match="slower than 1024 bytes a second"):
        while stream.read(4096):
            pass
    assert time.monotonic() - before < 20


def test_cancel_ends_a_transfer_from_another_thread(scripted, client, small_layout):
    layer = big_layer(small_layout)
    sent = threading.Event()

    def slow(request: Request) -> bool:
        request.send_response(200)
        request.send_header("Content-Length", str(layer.size))
        request.end_headers()
        request.wfile.write(b"x")
        sent.set()
        request.registry.stopped.wait(60)
        request.close_connection = True
        return True

    scripted.hook(on("/blobs/", slow))
    registry = client(scripted.address, limits=FAST.replace(stall_s=60))
    stream = registry.blob("small", layer, "layer x")
    assert stream.read(10) == b"x"
    timer = threading.Timer(0.1, registry.cancel)
    timer.start()
    before = time.monotonic()
    with pytest.raises(CancelledError):
        stream.read(10)
    assert time.monotonic() - before < 10
    timer.join()


def test_a_configuration_of_a_gigabyte_is_not_fetched(scripted, client):
    descriptor = Descriptor(media_type=manifests.OCI_CONFIG, digest=sha256(b"x"), size=1 << 30)
    with pytest.raises(RegistryError, match="1073741824 bytes, at most"):
        client(scripted.address).small_blob("small", descriptor, "configuration", 4 << 20)
    assert scripted.count("/blobs/") == 0


def test_a_configuration_with_a_wrong_digest(scripted, client):
    wanted = sha256(b"right")
    scripted.hook(on(f"/blobs/{wanted}", lambda r: r.answer(200, b"wrong")))
    descriptor = Descriptor(media_type=manifests.OCI_CONFIG, digest=wanted, size=5)
    with pytest.raises(DigestError, match="wrong digest"):
        client(scripted.address).small_blob("small", descriptor, "configuration", 100)


def test_error_bodies_are_bounded_and_printable(scripted, client):
    scripted.hook(on("/manifests/", lambda r: r.json(418, {"errors": [{"message": "\x1b]0;x\x07" + "y" * 10_000}]})))
    with pytest.raises(RegistryError) as caught:
        client(scripted.address).manifest(reference(scripted))
    assert len(caught.value.message) < 500
    assert caught.value.message.isprintable()


def test_proxy(scripted, more_registries, client):
    """Plain http goes through a proxy as an absolute URL; loopback and NO_PROXY do not."""
    proxy = more_registries()
    env = {
        "http_proxy": f"http://{proxy.address}",
        "https_proxy": f"http://{proxy.address}",
        "NO_PROXY": ".local,10.0.0.0/8",
    }
    connects = []

    def refuse(request: Request) -> bool:
        connects.append(request.path)
        return request.answer(403)

    proxy.hook(refuse)
    proxy._server.RequestHandlerClass.do_CONNECT = proxy._server.RequestHandlerClass.do_GET
    with pytest.raises(RegistryError, match="not reachable"):
        client("registry.example:5000", env=env).connect()
    assert connects == ["registry.example:5000"]
    assert client(scripted.address, env=env).manifest(reference(scripted)).raw
    from storage.registry_hosts import origin_of, proxy_for

    for host in ("a.local", "10.1.2.3"):
        assert proxy_for(env, origin_of(f"https://{host}/")) == ""
    assert proxy_for({**env, "NO_PROXY": "*"}, origin_of("https://x/")) == ""
    assert proxy_for(env, origin_of("https://a.localx/")) != ""


def test_a_proxy_for_https_is_a_tunnel(scripted, more_registries, certificates, client, small_layout):
    """What passes is the registry's alone: the proxy sees its own password, a host and a port."""
    import select
    import socket

    registry = more_registries(tls=certificates.server)
    registry.hook(lambda request: not request.headers.get("Authorization") and basic(request))

    def basic(request: Request) -> bool:
        return request.answer(401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    def tunnel(request: Request) -> None:
        scripted.handle(request)
        if request.headers.get("Proxy-Authorization") != "Basic bWU6c2VjcmV0":
            request.answer(407)
            return
        request.send_response(200)
        request.end_headers()
        request.close_connection = True
        with socket.create_connection(("127.0.0.1", registry.port)) as there:
            sides = {request.connection: there, there: request.connection}
            while not scripted.stopped.is_set():
                for side in select.select(list(sides), [], [], 0.1)[0]:
                    data = side.recv(1 << 16)
                    if not data:
                        return
                    sides[side].sendall(data)

    scripted._server.RequestHandlerClass.do_CONNECT = tunnel
    scripted.hook(lambda request: request.command == "CONNECT")
    env = {"https_proxy": f"http://me:secret@{scripted.address}"}
    made = client("registry.example:5000", env=env, verify=False, user=("tester", "password"))
    assert made.manifest(parse("registry.example:5000/small:small")).raw
    assert {line for line in scripted.seen if line.startswith("CONNECT")} == {"CONNECT registry.example:5000"}
    assert set(scripted.authorizations) == {""}
    assert any(registry.authorizations)
    wrong = client("registry.example:5000", env={"https_proxy": f"http://{scripted.address}"}, verify=False)
    with pytest.raises(RegistryError, match=r"registry\.example:5000 .* the proxy answers 407"):
        wrong.connect()
