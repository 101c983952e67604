"""Signatures that push and copy make and take along."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import Engine
from tests.support.images import Entry, Layout, layer_tar
from tests.support.policies import Signer, make_signer, write_policy, write_registries_d
from tests.support.registry import Registry
from tests.support.requirements import program
from tests.support.skopeo import skopeo

LABEL = "ENCRYPTED SIGSTORE PRIVATE KEY"


class Pair:
    """A key pair of sigstore's in files: `private` encrypted with `passphrase`, `public` in PEM."""

    def __init__(self, folder: Path, name: str, passphrase: str = "open sesame") -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        self.private, self.public, self.passphrase = folder / f"{name}.key", folder / f"{name}.pub", folder / name
        der = key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.private.write_text(boxed(der, passphrase))
        self.passphrase.write_text(f"{passphrase}\nanother line\n")
        self.public.write_bytes(
            key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )

    @property
    def options(self) -> tuple[object, ...]:
        return ("--sign-by-sigstore-private-key", self.private, "--sign-passphrase-file", self.passphrase)


def boxed(der: bytes, passphrase: str, **changes: Any) -> str:
    """As cosign encrypts a key."""
    from nacl.secret import SecretBox

    salt = os.urandom(32)
    key = hashlib.scrypt(passphrase.encode(), salt=salt, n=32768, r=8, p=1, maxmem=1 << 27, dklen=32)
    sealed = SecretBox(key).encrypt(der)
    tree = {
        "kdf": {"name": "scrypt", "params": {"N": 32768, "r": 8, "p": 1, **changes}, "salt": coded(salt)},
        "cipher": {"name": "nacl/secretbox", "nonce": coded(sealed.nonce)},
        "ciphertext": coded(sealed.ciphertext),
    }
    text = coded(json.dumps(tree).encode())
    lines = "\n".join(text[start : start + 64] for start in range(0, len(text), 64))
    return f"-----BEGIN {LABEL}-----\n{lines}\n-----END {LABEL}-----\n"


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Registry]:
    made = Registry(tmp_path / "registry")
    yield made
    made.close()


@pytest.fixture
def image(fresh: Engine, tmp_path: Path) -> str:
    layout = Layout(tmp_path / "layout")
    layout.image("1", [layer_tar([Entry("a", b"1")])])
    identity = fresh("pull", "-q", f"oci:{layout.folder}:1").line
    fresh("tag", identity, "app:1")
    return "app:1"


def attachments(engine: Engine, own: Registry) -> None:
    write_registries_d(engine, f"docker:\n  {own.address}:\n    use-sigstore-attachments: true\n")


def asks_for(key: Path, repository: str = "") -> dict[str, Any]:
    """A policy that lets in what the key signed, for any name of `repository`."""
    identity = {"type": "matchRepository"}
    if repository:
        identity = {"type": "exactRepository", "dockerRepository": repository}
    return {"default": [{"type": "sigstoreSigned", "keyPath": str(key), "signedIdentity": identity}]}


def takes(engine: Engine, policy: dict[str, Any], source: str, out: Path) -> bool:
    """Whether `copy`, with this policy and the user's registries.d, takes `source`."""
    file = out.with_suffix(".policy")
    file.write_text(json.dumps(policy))
    done = engine("copy", "-q", "--policy", file, "--remove-signatures", source, f"dir:{out}", status=None)
    assert done.status == 0 or "no sigstore signature is accepted" in done.err, done.err
    return done.status == 0


def openssl_verifies(own: Registry, repository: str, digest: str, public: Path, folder: Path) -> bool:
    """Whether openssl finds the signature that is attached in the registry to be one of the key's."""
    tag = digest.replace(":", "-") + ".sig"
    name = f"docker://{own.address}/{repository}:{tag}"
    fetched = skopeo("inspect", "--raw", "--tls-verify=false", name, home=folder)
    [layer] = json.loads(fetched)["layers"]
    assert layer["mediaType"] == "application/vnd.dev.cosign.simplesigning.v1+json"
    hexed = layer["digest"].removeprefix("sha256:")
    payload = own.folder / f"data/docker/registry/v2/blobs/sha256/{hexed[:2]}/{hexed}/data"
    critical = json.loads(payload.read_bytes())["critical"]
    assert critical["image"]["docker-manifest-digest"] == digest
    (folder / "signature").write_bytes(base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"]))
    argv = [program("openssl"), "dgst", "-sha256", "-verify", public, "-signature", folder / "signature", payload]
    return subprocess.run(argv, capture_output=True, timeout=60, check=False).returncode == 0


def tags(own: Registry, repository: str) -> list[str]:
    folder = own.folder / f"data/docker/registry/v2/repositories/{repository}/_manifests/tags"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_push_signs(fresh: Engine, own: Registry, image: str, tmp_path: Path) -> None:
    good, other = Pair(tmp_path, "good"), Pair(tmp_path, "other")
    name = f"{own.address}/app:1"
    refused = fresh("push", "-q", *good.options, image, name, status=125).err
    assert "registries.d allows no attachments" in refused
    assert tags(own, "app") == [], "nothing was sent"
    attachments(fresh, own)
    fresh("push", "-q", *good.options, image, name)
    assert len(tags(own, "app")) == 2
    digest = fresh("inspect", "--type=image", "--format={{.Digest}}", image).line
    assert openssl_verifies(own, "app", digest, good.public, tmp_path)
    assert not openssl_verifies(own, "app", digest, other.public, tmp_path)
    assert takes(fresh, asks_for(good.public), f"docker://{name}", tmp_path / "one")
    assert not takes(fresh, asks_for(other.public), f"docker://{name}", tmp_path / "two")
    # A second signature stands beside the first.
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text(f"privateKeyFile: {other.private}\nprivateKeyPassphraseFile: {other.passphrase}\n")
    fresh("push", "-q", "--sign-by-sigstore", parameters, image, name)
    for pair in (good, other):
        assert takes(fresh, asks_for(pair.public), f"docker://{name}", tmp_path / f"{pair.public.stem}-again")
    write_policy(fresh, asks_for(good.public))
    fresh("rmi", "-a", "-f")
    fresh("pull", "-q", name)


def test_bad_keys_send_nothing(fresh: Engine, own: Registry, image: str, tmp_path: Path) -> None:
    attachments(fresh, own)
    pair = Pair(tmp_path, "good")
    wrong, plain, greedy, unboxed = (tmp_path / name for name in ("wrong", "plain", "greedy", "unboxed"))
    wrong.write_text("not it\n")
    plain.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    greedy.write_text(boxed(b"x", "p", N=1 << 30))
    unboxed.write_text(boxed(b"no key", "p"))
    fulcio = tmp_path / "fulcio.yaml"
    fulcio.write_text("fulcio: {fulcioURL: https://x}\n")
    by = "--sign-by-sigstore-private-key"
    for options, words in (
        ((by, pair.private, "--sign-passphrase-file", wrong), "the passphrase is wrong"),
        ((by, pair.private, "--sign-passphrase-file", tmp_path / "absent"), "absent"),
        ((by, pair.private), "cannot be asked for: this is no terminal"),
        ((by, tmp_path / "absent"), "absent"),
        ((by, plain), "no encrypted key of sigstore's"),
        ((by, greedy), "scrypt's parameters N=1073741824, r=8, p=1 are out of range"),
        ((by, unboxed, "--sign-passphrase-file", wrong), "the passphrase is wrong"),
        (("--sign-by-sigstore", fulcio), "fulcio: signing is with private keys only"),
        (("--sign-passphrase-file", wrong), "goes with --sign-by"),
    ):
        failed = fresh("push", "-q", *options, image, f"{own.address}/app:1", status=125).err.splitlines()
        assert words in failed[0]
        assert len(failed) == 1 + failed[-1].startswith("hint:"), failed
    assert tags(own, "app") == []
    failed = fresh("push", "-q", *pair.options, image, f"dir:{tmp_path}/d", status=125).err
    assert "--sign-by-sigstore-private-key is for registries only" in failed


def test_copy_signs_and_takes_signatures_along(fresh: Engine, own: Registry, image: str, tmp_path: Path) -> None:
    attachments(fresh, own)
    pair = Pair(tmp_path, "good")
    first, second = f"{own.address}/first", f"{own.address}/second"
    fresh("push", "-q", *pair.options, image, f"{first}:1")
    # From registry to registry, by a directory; what was signed is the first name.
    fresh("copy", "-q", f"docker://{first}:1", f"dir:{tmp_path}/d")
    fresh("copy", "-q", f"dir:{tmp_path}/d", f"docker://{second}:1")
    assert takes(fresh, asks_for(pair.public, first), f"docker://{second}:1", tmp_path / "one")
    assert not takes(fresh, asks_for(pair.public), f"docker://{second}:1", tmp_path / "two")
    fresh("copy", "-q", *pair.options, "--remove-signatures", f"docker://{first}:1", f"docker://{second}:2")
    assert takes(fresh, asks_for(pair.public), f"docker://{second}:2", tmp_path / "three")
    # Where a signature cannot be kept, the image is not there without it.
    failed = fresh("copy", "-q", f"docker://{first}:1", f"oci:{tmp_path}/o", status=125).err
    assert "its signatures cannot be kept" in failed
    assert not (tmp_path / "o").exists()
    for options, words in (
        ((*pair.options, f"docker://{first}:1", f"oci:{tmp_path}/o"), "oci: has no place for the signature"),
        ((*pair.options, f"docker://{first}:1", f"dir:{tmp_path}/o"), "no name that could be signed"),
        (("--sign-identity", first, f"docker://{first}:1", f"dir:{tmp_path}/o"), "--sign-identity goes with"),
    ):
        assert words in fresh("copy", "-q", *options, status=125).err
    fresh("copy", "-q", *pair.options, "--sign-identity", "example.com/named:1", f"docker://{first}:1",
          f"dir:{tmp_path}/named")  # fmt: skip
    assert takes(fresh, asks_for(pair.public, "example.com/named"), f"dir:{tmp_path}/named", tmp_path / "four")


def test_every_image_of_a_list_is_signed(fresh: Engine, own: Registry, image: str, tmp_path: Path) -> None:
    attachments(fresh, own)
    pair = Pair(tmp_path, "good")
    name = f"{own.address}/list:1"
    fresh("manifest", "create", "list:1", image)
    fresh("manifest", "push", "-q", "--all", *pair.options, "list:1", f"docker://{name}")
    assert len(tags(own, "list")) == 3, "the list's and the image's signatures"
    assert takes(fresh, asks_for(pair.public), f"docker://{name}", tmp_path / "one")
    # All of them come along, through a directory too.
    fresh("copy", "-q", "--all", f"docker://{name}", f"dir:{tmp_path}/d")
    assert len(list((tmp_path / "d").glob("*signature-1"))) == 2
    fresh("copy", "-q", "--all", f"dir:{tmp_path}/d", f"docker://{own.address}/other:1")
    assert len(tags(own, "other")) == 3
    fresh("copy", "-q", "--all", "--remove-signatures", f"docker://{name}", f"dir:{tmp_path}/d")
    assert not list((tmp_path / "d").glob("*signature-1")), "those of before are gone"
    file = tmp_path / "file"
    file.write_text("1")
    fresh("artifact", "add", f"{own.address}/model:1", file)
    fresh("artifact", "push", "-q", *pair.options, f"{own.address}/model:1")
    assert len(tags(own, "model")) == 2


@pytest.fixture
def locked() -> Iterator[Signer]:
    """A GPG key with a passphrase."""
    made = make_signer("locked", "hidden word")
    yield made
    made.end()


def test_a_gpg_key_with_a_passphrase(
    fresh: Engine, own: Registry, image: str, locked: Signer, tmp_path: Path
) -> None:
    env = {"GNUPGHOME": str(locked.home)}
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("hidden word\n")
    wrong.write_text("another\n")
    name = f"{own.address}/app:1"
    failed = fresh("push", "-q", "--sign-by", locked.fingerprint, "--sign-passphrase-file", wrong, image, name,
                   env=env, status=125).err  # fmt: skip
    assert "cannot sign with key" in failed
    fresh("push", "-q", "--sign-by", locked.fingerprint, "--sign-passphrase-file", right, image, name, env=env)
    write_policy(fresh, {"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(locked.public)}]})
    fresh("rmi", "-a", "-f")
    fresh("pull", "-q", name)
