"""Verifying signatures of images: simple signing (OpenPGP, by gpg) and sigstore's with public keys.

Weight: `subprocess`, `tempfile` for OpenPGP; `cryptography` for sigstore; loaded where a policy asks for a signature.

What is signed is a small JSON document that names a manifest's digest and the image's name (containers-signature(5),
"critical"); nothing of it is read before its signature was found to be one of the given keys'.
"""

from __future__ import annotations

import base64
import binascii
import os

from rootless.errors import Error, os_error_text
from rootless.fds import read_file
from rootless.values import Value
from storage import fields
from storage.digest import check as check_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol, Self

    class Keys(Protocol):
        """Public keys of one kind."""

        def verify(self, signature: Signature) -> Signed: ...
        def __enter__(self) -> Self: ...
        def __exit__(self, *error: object) -> None: ...


MAX_SIGNATURE_BYTES = 4 << 20
_MAX_KEY_BYTES = 4 << 20
SIMPLE_TYPE = "atomic container signature"
SIGSTORE_TYPE = "cosign container image signature"
_GPG_TIMEOUT_S = 60
_BAD_STATUS = ("BADSIG", "ERRSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG", "NODATA", "FAILURE")


class SignatureError(Error):
    """A signature is not valid, or says something else than is asked."""


class Signature(Value):
    """One signature.  kind "simple": `data` is an OpenPGP message with the payload in it; "sigstore": `data` is the
    payload, `signature` what signs it.
    """

    kind: str
    data: bytes
    signature: bytes = b""


class Signed(Value):
    """What a verified signature says."""

    digest: str
    reference: str


def open_keys(kind: str, paths: Sequence[str], datas: Sequence[str]) -> Keys:
    """The keys of files, and those given in base64, as a context manager.  Raises Error."""
    raw = []
    for path in paths:
        try:
            raw.append(read_file(path, limit=_MAX_KEY_BYTES))
        except OSError as error:
            raise Error(os_error_text(error, f"key {path}")) from error
    for data in datas:
        try:
            raw.append(base64.b64decode(data, validate=True))
        except binascii.Error as error:
            raise Error("policy.json: keyData is not base64") from error
    return GpgKeys(raw) if kind == "simple" else SigstoreKeys(raw)


def read_payload(raw: bytes, kind: str) -> Signed:
    """The claims of a payload.  Raises SignatureError."""
    what = "its payload"
    try:
        tree = fields.parse_object(raw, what, MAX_SIGNATURE_BYTES)
        critical = fields.table(tree, "critical", what)
        said = fields.text(critical, "type", what)
        digest = check_digest(fields.table(critical, "image", what).get("docker-manifest-digest"), what)
        reference = fields.text(fields.table(critical, "identity", what), "docker-reference", what)
    except Error as error:
        raise SignatureError(error.message) from error
    if said != (SIMPLE_TYPE if kind == "simple" else SIGSTORE_TYPE):
        raise SignatureError(f"its payload is of type {said[:80]!r}")
    if set(critical) != {"type", "image", "identity"}:
        raise SignatureError("its payload has other critical parts than are known")
    return Signed(digest=digest, reference=reference)


class GpgKeys:
    """OpenPGP keys in a home directory of their own: the user's keyring vouches for nobody here."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = keys
        self._home = ""
        self._fingerprints: set[str] = set()

    def __enter__(self) -> GpgKeys:
        import tempfile

        self._home = tempfile.mkdtemp(prefix="pyctl-gpg-")
        try:
            for key in self._keys:
                status, _ = self._gpg(["--import"], key)
                # "IMPORT_OK <reason> <fingerprint>" (gnupg, doc/DETAILS).
                self._fingerprints.update(row[2] for row in status if row[:1] == ["IMPORT_OK"] and len(row) > 2)
        except BaseException:
            self.__exit__()
            raise
        if not self._fingerprints:
            self.__exit__()
            raise Error("policy.json: the key files hold no OpenPGP public key")
        return self

    def __exit__(self, *_error: object) -> None:
        import shutil

        shutil.rmtree(self._home, ignore_errors=True)

    def verify(self, signature: Signature) -> Signed:
        """What it says.  Raises SignatureError."""
        status, payload = self._gpg(["--max-output", str(MAX_SIGNATURE_BYTES), "--decrypt"], signature.data)
        words = [row[0] for row in status if row]
        valid = [row for row in status if row[:1] == ["VALIDSIG"]]
        if "NO_PUBKEY" in words:
            raise SignatureError("it is of an unknown key")
        if len(valid) != 1 or any(word in _BAD_STATUS for word in words) or "GOODSIG" not in words:
            raise SignatureError("it is not valid")
        # The last field is the primary key's fingerprint, where a subkey signed.
        if not {valid[0][1], valid[0][-1]} & self._fingerprints:
            raise SignatureError("it is of an unknown key")
        return read_payload(payload, "simple")

    def _gpg(self, arguments: Sequence[str], given: bytes) -> tuple[list[list[str]], bytes]:
        """The lines of gpg's status, split, and what it wrote."""
        import subprocess

        reader, writer = os.pipe2(os.O_CLOEXEC)
        argv = [
            *("gpg", "--homedir", self._home, "--batch", "--no-tty", "--quiet", "--no-autostart", "--no-options"),
            *("--trust-model", "always", "--no-auto-key-locate", "--status-fd", str(writer), *arguments),
        ]
        try:
            try:
                done = subprocess.run(
                    argv, input=given, capture_output=True, pass_fds=(writer,), timeout=_GPG_TIMEOUT_S, check=False
                )
            finally:
                os.close(writer)
            status = b""
            while part := os.read(reader, 1 << 16):
                status += part
        except FileNotFoundError as error:
            raise Error(
                "signatures cannot be checked: gpg is not installed", hint="apt install gpg, or your system's package"
            ) from error
        except (OSError, subprocess.SubprocessError) as error:
            raise Error(f"signatures cannot be checked: gpg: {error}") from error
        finally:
            os.close(reader)
        lines = status.decode("utf-8", "replace").splitlines()
        return [line.removeprefix("[GNUPG:] ").split(" ") for line in lines], done.stdout


class SigstoreKeys:
    """Public keys in PEM: ECDSA, RSA (PKCS #1 v1.5) and Ed25519, as cosign makes them."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        try:
            from cryptography.hazmat.primitives import serialization
        except ImportError as error:
            raise Error(
                "sigstore signatures cannot be checked: the Python package cryptography is not installed",
                hint="pip install cryptography",
            ) from error
        self._keys: list[Any] = []
        for key in keys:
            try:
                self._keys.append(serialization.load_pem_public_key(key))
            except Exception as error:  # ValueError, UnsupportedAlgorithm: one meaning
                raise Error(f"policy.json: a key is no public key in PEM: {error}") from error

    def __enter__(self) -> SigstoreKeys:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def verify(self, signature: Signature) -> Signed:
        """What it says.  Raises SignatureError."""
        if not any(_verifies(key, signature) for key in self._keys):
            raise SignatureError("it is not valid, or of an unknown key")
        return read_payload(signature.data, "sigstore")


def _verifies(key: Any, signature: Signature) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature.signature, signature.data, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature.signature, signature.data, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature.signature, signature.data)
        else:
            return False
    except InvalidSignature:
        return False
    return True
