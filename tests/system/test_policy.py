"""policy.json in force on pull, load, copy and run; signatures made by skopeo (OpenPGP) and in cosign's form."""

from __future__ import annotations

import base64
import functools
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.registry.scripted import ScriptedRegistry
from tests.support.engine import Engine
from tests.support.images import OCI, Entry, Layout, layer_tar, sha256
from tests.support.policies import Signer, make_signer, write_policy, write_registries_d
from tests.support.skopeo import skopeo

ACCEPT, REJECT = [{"type": "insecureAcceptAnything"}], [{"type": "reject"}]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ScriptedRegistry]:
    """A registry with the image app:1."""
    layout = Layout(tmp_path / "layout")
    layout.image("1", [layer_tar([Entry("a", b"1")])])
    made = ScriptedRegistry(layout)
    yield made
    made.close()


def refused(engine: Engine, *args: object) -> str:
    failed = engine(*args, status=125)  # type: ignore[arg-type]
    lines = [line for line in failed.err.splitlines() if not line.startswith("Trying")]
    assert len(lines) == 1 + lines[-1].startswith("hint:"), lines
    if args[0] != "copy":
        assert engine("images", "-q").out == ""
    return lines[0]


# --- without signatures --------------------------------------------------------------------------


def test_every_way_in_is_closed(fresh: Engine, server: ScriptedRegistry, tmp_path: Path) -> None:
    name, folder = f"{server.address}/app:1", server.layout.folder
    archive = tmp_path / "a.tar"
    skopeo("copy", "-q", f"oci:{folder}:1", f"oci-archive:{archive}:1", home=tmp_path)
    skopeo("copy", "-q", f"oci:{folder}:1", f"docker-archive:{tmp_path}/d.tar:x:1", home=tmp_path)
    skopeo("copy", "-q", f"oci:{folder}:1", f"containers-storage:[vfs@{fresh.base}/s+{fresh.base}/r]x:1",
           home=fresh.base)  # fmt: skip
    write_policy(fresh, {"default": REJECT})
    ways = (
        ("pull", "-q", name),
        ("run", "--rm", name, "true"),
        ("pull", "-q", f"oci:{folder}:1"),
        ("pull", "-q", f"oci-archive:{archive}"),
        ("pull", "-q", f"containers-storage:[vfs@{fresh.base}/s+{fresh.base}/r]x:1"),
        ("load", "-q", "-i", archive),
        ("load", "-q", "-i", tmp_path / "d.tar"),
        ("copy", "-q", f"docker://{name}", f"dir:{tmp_path}/out"),
        ("copy", "-q", f"oci:{folder}:1", f"dir:{tmp_path}/out"),
    )
    for way in ways:
        line = refused(fresh, *way)
        assert "is rejected by" in line, line
        assert line.endswith("policy.json (default)")
    assert not (tmp_path / "out").exists()
    fresh("copy", "-q", "--insecure-policy", f"docker://{name}", f"dir:{tmp_path}/out")
    write_policy(fresh, {"default": REJECT, "transports": {"docker": {server.address: ACCEPT}}})
    fresh("pull", "-q", name)
    write_policy(fresh, {"default": ACCEPT, "transports": {"oci": {str(folder): REJECT}}})
    assert f"(oci {folder})" in fresh("pull", "-q", f"oci:{folder}:1", status=125).err


def test_a_malformed_policy_lets_nothing_in(fresh: Engine, server: ScriptedRegistry) -> None:
    write_policy(fresh, {"default": ACCEPT, "tranpsorts": {}})
    assert "unknown key 'tranpsorts'" in refused(fresh, "pull", "-q", f"{server.address}/app:1")
    assert server.seen == []


# --- OpenPGP -------------------------------------------------------------------------------------


@pytest.fixture
def signers() -> Iterator[tuple[Signer, Signer]]:
    """One who is trusted and one who is not; their agents are ended."""
    made = (make_signer("alice"), make_signer("mallory"))
    yield made
    for signer in made:
        signer.end()


def manifest_of(server: ScriptedRegistry) -> Path:
    return server.layout.path(server.layout.index[0]["digest"])


def lookaside(folder: Path, server: ScriptedRegistry) -> Path:
    """Where the signatures of app:1 are below a lookaside store."""
    made = folder / f"app@{sha256(manifest_of(server).read_bytes()).replace(':', '=')}"
    made.mkdir(parents=True, exist_ok=True)
    return made


def test_signed_by_gpg(
    fresh: Engine, server: ScriptedRegistry, signers: tuple[Signer, Signer], tmp_path: Path
) -> None:
    alice, mallory = signers
    name = f"{server.address}/app:1"
    signed = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(alice.public)}
    write_policy(fresh, {"default": REJECT, "transports": {"docker": {server.address: [signed]}}})
    store = tmp_path / "lookaside"
    write_registries_d(fresh, f"docker:\n  {server.address}:\n    lookaside: file://{store}\n")
    signature = lookaside(store, server) / "signature-1"
    assert "has no signature" in refused(fresh, "pull", "-q", name)

    for content, words in (
        (mallory.sign(manifest_of(server), name), "of an unknown key"),
        (alice.sign(manifest_of(server), f"{server.address}/other:1"), "it is for the name"),
        (alice.sign(manifest_of(server), f"{server.address}/app:2"), "it is for the name"),
        (b"no signature at all", "not valid"),
        (b"", "not valid"),
    ):
        signature.write_bytes(content)
        assert words in refused(fresh, "pull", "-q", name)
    good = alice.sign(manifest_of(server), name)
    signature.write_bytes(good[:-20] + bytes(20))
    assert "not valid" in refused(fresh, "pull", "-q", name)
    # Another manifest's signature under this one's name.
    other = tmp_path / "other.json"
    other.write_bytes(manifest_of(server).read_bytes().replace(b" ", b"  ", 1))
    signature.write_bytes(alice.sign(other, name))
    assert "it is for sha256:" in refused(fresh, "pull", "-q", name)

    # One good among bad ones is enough.
    signature.write_bytes(b"bad")
    signature.with_name("signature-2").write_bytes(good)
    fresh("pull", "-q", name)
    failed = fresh("copy", "-q", f"docker://{name}", f"oci:{tmp_path}/out:1", status=125).err
    assert "its signatures cannot be kept: oci:" in failed
    fresh("copy", "-q", "--remove-signatures", f"docker://{name}", f"oci:{tmp_path}/out:1")
    fresh("copy", "-q", f"docker://{name}", f"dir:{tmp_path}/signed")
    assert [(tmp_path / f"signed/signature-{n}").read_bytes() for n in (1, 2)] == [b"bad", good]
    fresh("copy", "-q", "--insecure-policy", f"oci:{server.layout.folder}:1", f"dir:{tmp_path}/signed")
    assert not [p.name for p in (tmp_path / "signed").iterdir() if p.name.startswith("signature")]
    # What skopeo says of the same policy, signature and image.
    digest = skopeo("standalone-verify", str(manifest_of(server)), name, alice.fingerprint,
                    str(signature.with_name("signature-2")), home=alice.home, gnupg=alice.home)  # fmt: skip
    assert sha256(manifest_of(server).read_bytes()) in digest


def test_lookaside_on_the_web_and_in_directories(
    fresh: Engine, server: ScriptedRegistry, signers: tuple[Signer, Signer], tmp_path: Path
) -> None:
    alice, _ = signers
    name = f"{server.address}/app:1"
    signed = {"type": "signedBy", "keyType": "GPGKeys", "keyData": base64.b64encode(alice.public.read_bytes()).decode()}
    write_policy(fresh, {"default": [signed]})
    folder = tmp_path / "www/base"
    signature = lookaside(folder, server) / "signature-1"
    signature.write_bytes(alice.sign(manifest_of(server), name))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_args: object) -> None:
            pass

    web = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path / "www")))
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{web.server_address[1]}/base"
        write_registries_d(fresh, f"default-docker:\n  lookaside: {url}\n")
        fresh("pull", "-q", name)
        fresh("rmi", "-a", "-f")
        write_registries_d(fresh, "default-docker:\n  lookaside: http://127.0.0.1:1/base\n")
        assert "127.0.0.1" in refused(fresh, "pull", "-q", name)
        write_registries_d(fresh, "default-docker: [\n")
        assert "is not YAML" in refused(fresh, "pull", "-q", name)
    finally:
        web.shutdown()
        web.server_close()
        thread.join()
    # `dir:` has its signatures beside it; the name is the signature's own, so the policy must say which.
    exact = {**signed, "signedIdentity": {"type": "exactReference", "dockerReference": name}}
    skopeo("copy", "-q", f"oci:{server.layout.folder}:1", f"dir:{tmp_path}/d", home=tmp_path)
    write_policy(fresh, {"default": [exact]})
    assert "has no signature" in refused(fresh, "pull", "-q", f"dir:{tmp_path}/d")
    shutil.copy(signature, tmp_path / "d/signature-1")
    fresh("pull", "-q", f"dir:{tmp_path}/d")


# --- sigstore ------------------------------------------------------------------------------------


def attach(server: ScriptedRegistry, key: Any, reference: str, digest: str, **changes: Any) -> None:
    """A signature in cosign's form, as an image beside the signed one."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    critical = {
        "identity": {"docker-reference": reference},
        "image": {"docker-manifest-digest": digest},
        "type": "cosign container image signature",
        **changes,
    }
    payload = json.dumps({"critical": critical, "optional": None}).encode()
    coded = base64.b64encode(key.sign(payload, ec.ECDSA(hashes.SHA256()))).decode()
    layer = {
        "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
        **server.layout.blob(payload),
        "annotations": {"dev.cosignproject.cosign/signature": coded},
    }
    config = {"mediaType": f"{OCI}.config.v1+json", **server.layout.blob(b"{}")}
    manifest = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": config, "layers": [layer]}
    tag = manifest_of(server).name
    row = {"mediaType": manifest["mediaType"], **server.layout.blob(json.dumps(manifest).encode())}
    del server.layout.index[1:]
    server.layout.add({**row, "annotations": {"org.opencontainers.image.ref.name": f"sha256-{tag}.sig"}})


def test_signed_by_sigstore(fresh: Engine, server: ScriptedRegistry, tmp_path: Path) -> None:
    ec = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec")
    from cryptography.hazmat.primitives import serialization

    good, bad = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    public = tmp_path / "cosign.pub"
    public.write_bytes(
        good.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    name, digest = f"{server.address}/app:1", server.layout.index[0]["digest"]
    repository = name.removesuffix(":1")
    signed = {
        "type": "sigstoreSigned",
        "keyPath": str(public),
        "signedIdentity": {"type": "matchRepository"},
    }
    write_policy(fresh, {"default": [signed]})
    attach(server, good, repository, digest)
    assert "has no sigstore signature" in refused(fresh, "pull", "-q", name), "attachments are looked for where asked"
    write_registries_d(fresh, f"docker:\n  {server.address}:\n    use-sigstore-attachments: true\n")
    for key, reference, named, changes, words in (
        (bad, repository, digest, {}, "not valid, or of an unknown key"),
        (good, f"{repository}x", digest, {}, "it is for the name"),
        (good, repository, "sha256:" + "0" * 64, {}, "it is for sha256:000"),
        (good, repository, digest, {"type": "something else"}, "of type 'something else'"),
        (good, repository, digest, {"extra": 1}, "other critical parts"),
    ):
        attach(server, key, reference, named, **changes)
        assert words in refused(fresh, "pull", "-q", name)
    attach(server, good, repository, digest)
    fresh("pull", "-q", name)
    fresh("rmi", "-a", "-f")
    write_policy(fresh, {"default": [{**signed, "rekorPublicKeyPath": "/x"}]})
    assert "rekorPublicKeyPath, which cannot be checked here" in refused(fresh, "pull", "-q", name)
    write_policy(fresh, {"default": [{**signed, "keyPath": str(tmp_path / "absent")}]})
    assert "absent" in refused(fresh, "pull", "-q", name)
    write_policy(fresh, {"default": [signed, {"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(public)}]})
    assert "has no signature" in refused(fresh, "pull", "-q", name), "all requirements must hold"


# --- image trust, image sign ---------------------------------------------------------------------


def test_image_sign_and_trust(
    fresh: Engine, server: ScriptedRegistry, signers: tuple[Signer, Signer], tmp_path: Path
) -> None:
    alice, _ = signers
    name = f"{server.address}/app:1"
    env = {"GNUPGHOME": str(alice.home)}
    fresh("image", "trust", "set", "-f", alice.public, server.address)
    fresh("image", "trust", "set", "-t", "reject", "default")
    assert "has no signature" in refused(fresh, "pull", "-q", name)
    assert "is rejected by" in refused(fresh, "pull", "-q", f"oci:{server.layout.folder}:1")
    # Where registries.d says nothing, both sides take the same place.
    fresh("image", "sign", "--sign-by", "alice@example.com", f"docker://{name}", env=env)
    fresh("pull", "-q", name)
    # Another tool takes the signature for one, and another directory has the form of a lookaside store.
    fresh("image", "sign", "--sign-by", alice.fingerprint, "-d", tmp_path / "store", name, env=env)
    [made] = (tmp_path / "store").rglob("signature-1")
    assert made.parent == lookaside(tmp_path / "store", server)
    skopeo("standalone-verify", str(manifest_of(server)), name, alice.fingerprint, str(made), home=alice.home,
           gnupg=alice.home)  # fmt: skip
    fresh("push", "-q", "--sign-by", "alice@example.com", name, f"{server.address}/pushed:2", env=env)
    server.layout.add({**server.layout.index[0], "annotations": {"org.opencontainers.image.ref.name": "2"}})
    fresh("pull", "-q", f"{server.address}/pushed:2")
    failed = fresh("image", "sign", "--sign-by", "nobody@example.com", name, env=env, status=125).err
    assert "cannot sign with key nobody@example.com" in failed
    assert "--sign-by KEY is missing" in fresh("image", "sign", name, status=125).err

    shown = fresh("image", "trust", "show").out.splitlines()
    assert [line.split() for line in shown] == [
        ["TRANSPORT", "NAME", "TYPE", "ID", "STORE"],
        ["all", "default", "reject"],
        ["repository", server.address, "signed", "alice@example.com"],
    ]
    rows = fresh.json("image", "trust", "show", "--json")
    assert rows[0] == {"transport": "all", "name": "* (default)", "repo_name": "default", "type": "reject"}
    assert rows[1]["gpg_id"] == "alice@example.com"
    policy = fresh.home / ".config/containers/policy.json"
    assert fresh("image", "trust", "show", "--raw").out == policy.read_text()


def test_image_trust_set_keeps_the_rest(fresh: Engine, tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    before = {"default": REJECT, "transports": {"oci": {"/srv": ACCEPT}, "docker": {"quay.io": REJECT}}}
    path.write_text(json.dumps(before))
    key = tmp_path / "key.pub"
    key.write_text("")

    def change(*args: object) -> Any:
        fresh("image", "trust", "set", "--policypath", path, *args)  # type: ignore[arg-type]
        return json.loads(path.read_text())

    assert change("-t", "accept", "quay.io/team/app:1")["transports"]["docker"]["quay.io/team/app:1"] == ACCEPT
    signed = [{"type": "sigstoreSigned", "keyPath": str(key)}]
    assert change("-t", "sigstoreSigned", "-f", key, "*.example.com")["transports"]["docker"]["*.example.com"] == signed
    after = change("-t", "accept", "default")
    assert after["default"] == ACCEPT
    assert after["transports"]["oci"] == {"/srv": ACCEPT}
    held = path.read_bytes()
    for args, words in (
        (("-t", "signedBy", "quay.io"), "needs a public key"),
        (("-t", "reject", "-f", key, "quay.io"), "goes with no key"),
        (("-t", "signedBy", "-f", tmp_path / "absent", "quay.io"), "there is no such file"),
        (("-t", "reject", "defualt"), "is no registry"),
        (("-t", "reject", "https://quay.io"), "is no registry"),
        (("-t", "some", "quay.io"), "some"),
    ):
        assert words in fresh("image", "trust", "set", "--policypath", path, *args, status=125).err  # type: ignore[misc]
    assert path.read_bytes() == held
