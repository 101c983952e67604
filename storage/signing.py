"""Making signatures of images: with a GPG key (simple signing), or with a private key of sigstore's.

Weight: `subprocess` for GPG; `cryptography`, PyNaCl for sigstore; YAML for parameters.

What is signed is the document that `storage.signatures` reads.  Private keys are files as skopeo generate-sigstore-key
and cosign generate-key-pair write them: PKCS #8 in a NaCl secret box whose key is scrypt's of the passphrase
(https://github.com/secure-systems-lab/go-securesystemslib, encrypted).
"""

from __future__ import annotations

import base64
import binascii
import os
import time

from rootless.errors import Error, UsageError, os_error_text
from rootless.fds import read_file
from rootless.values import Value, dumps
from storage import fields
from storage.signatures import SIGSTORE_TYPE, SIMPLE_TYPE, Signature

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Protocol

    from storage.reference import Reference

    class Signer(Protocol):
        """One key to sign with.  kind: as of a Signature."""

        kind: str

        def sign(self, reference: Reference, digest: str) -> Signature: ...


_GPG_TIMEOUT_S = 600  # a passphrase may be asked for
_MAX_FILE = 1 << 20
_LABELS = (b"ENCRYPTED SIGSTORE PRIVATE KEY", b"ENCRYPTED COSIGN PRIVATE KEY")
_MAX_SCRYPT_MEMORY = 1 << 30
_NO_CERTIFICATES = ("fulcio", "rekorURL")
_PARAMETERS = ("privateKeyFile", "privateKeyPassphraseFile", *_NO_CERTIFICATES)


class SigningOptions(Value):
    """What a command line says: a GPG key's name, the file of a private key or of parameters, a passphrase's."""

    gpg_key: str = ""
    private_key: str = ""
    parameters: str = ""
    passphrase_file: str = ""


def open_signers(options: SigningOptions, ask: Callable[[str], str]) -> tuple[Signer, ...]:
    """The keys to sign with, each read and unlocked.  Raises UsageError, Error.

    ask: for the passphrase of a file's key, where no file has it.
    """
    if options.passphrase_file and not (options.gpg_key or options.private_key):
        raise UsageError("--sign-passphrase-file goes with --sign-by or --sign-by-sigstore-private-key")
    if options.passphrase_file and options.gpg_key and options.private_key:
        raise UsageError("--sign-passphrase-file would be for two keys", hint="sign with one, then with the other")
    said = first_line(options.passphrase_file) if options.passphrase_file else None
    found: list[Signer] = []
    if options.gpg_key:
        found.append(GpgSigner(options.gpg_key, said))
    if options.parameters:
        path, passphrase_file = read_parameters(options.parameters)
        said_there = first_line(passphrase_file) if passphrase_file else None
        found.append(SigstoreSigner(path, said_there, ask))
    if options.private_key:
        found.append(SigstoreSigner(options.private_key, said, ask))
    return tuple(found)


def first_line(path: str) -> str:
    """A passphrase from its file.  Raises Error."""
    return _read(path, "passphrase file").partition(b"\n")[0].decode("utf-8", "surrogateescape")


def read_parameters(path: str) -> tuple[str, str]:
    """(private key's file, its passphrase's or "") of a file of containers-sigstore-signing-params.yaml(5).

    Raises Error.
    """
    import yaml

    try:
        tree = yaml.safe_load(_read(path, "parameters"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Error(f"{path} is not YAML: {' '.join(str(error).split())[:300]}") from error
    if type(tree) is not dict:
        raise Error(f"{path}: a table with privateKeyFile is expected")
    for name in tree:
        if name not in _PARAMETERS:
            raise Error(f"{path}: unknown key {str(name)[:80]!r}")
    asked = [name for name in _NO_CERTIFICATES if name in tree]
    if asked:
        raise Error(f"{path}: {', '.join(asked)}: signing is with private keys only here")
    key = fields.text(tree, "privateKeyFile", path)
    if not key:
        raise Error(f"{path}: privateKeyFile is missing")
    return key, fields.text(tree, "privateKeyPassphraseFile", path)


def _payload(kind: str, reference: Reference, digest: str) -> bytes:
    critical = {
        "identity": {"docker-reference": str(reference)},
        "image": {"docker-manifest-digest": digest},
        "type": SIMPLE_TYPE if kind == "simple" else SIGSTORE_TYPE,
    }
    return dumps({"critical": critical, "optional": {"creator": "pyctl", "timestamp": int(time.time())}}).encode()


def _read(path: str, what: str) -> bytes:
    try:
        return read_file(path, limit=_MAX_FILE)
    except OSError as error:
        raise Error(os_error_text(error, f"{what} {path}")) from error


class GpgSigner:
    """One of the user's GPG keys.  passphrase None: gpg's own agent asks, on the terminal where there is one."""

    kind = "simple"

    def __init__(self, key: str, passphrase: str | None = None) -> None:
        self._key = key
        self._passphrase = passphrase

    def sign(self, reference: Reference, digest: str) -> Signature:
        """Raises Error."""
        return Signature(kind="simple", data=self._gpg(_payload("simple", reference, digest)))

    def _gpg(self, payload: bytes) -> bytes:
        import subprocess

        quiet = [] if self._passphrase is None and os.isatty(2) else ["--batch", "--no-tty"]
        argv = ["gpg", "--quiet", *quiet, "--local-user", self._key, "--output", "-"]
        pass_fds: tuple[int, ...] = ()
        if self._passphrase is not None:
            reader, writer = os.pipe2(os.O_CLOEXEC)
            os.write(writer, self._passphrase.encode("utf-8", "surrogateescape")[: 32 << 10] + b"\n")
            os.close(writer)
            pass_fds = (reader,)
            argv += ["--pinentry-mode", "loopback", "--passphrase-fd", str(reader)]
        try:
            done = subprocess.run(
                [*argv, "--sign"], input=payload, capture_output=True, timeout=_GPG_TIMEOUT_S, check=False,
                pass_fds=pass_fds,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise Error("signing needs gpg, which is not installed", hint="apt install gpg") from error
        except (OSError, subprocess.SubprocessError) as error:
            raise Error(f"gpg: {error}") from error
        finally:
            for fd in pass_fds:
                os.close(fd)
        if done.returncode != 0 or not done.stdout:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise Error(f"cannot sign with key {self._key}: {said[-1] if said else 'gpg failed'}")
        return done.stdout


class SigstoreSigner:
    """A private key in a file.  passphrase None: it is asked for."""

    kind = "sigstore"

    def __init__(self, path: str, passphrase: str | None, ask: Callable[[str], str]) -> None:
        self._sign = _load_key(path, passphrase, ask)

    def sign(self, reference: Reference, digest: str) -> Signature:
        """A signature whose payload names `reference` and `digest`."""
        payload = _payload("sigstore", reference, digest)
        return Signature(kind="sigstore", data=payload, signature=self._sign(payload))


def _load_key(path: str, passphrase: str | None, ask: Callable[[str], str]) -> Callable[[bytes], bytes]:
    """What signs bytes with the key of a file."""
    try:
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
    except ImportError as error:
        raise _not_installed("cryptography") from error
    box = _parse_box(_read(path, "private key"), path)
    if passphrase is None:
        passphrase = ask(f"Passphrase for {path}: ")
    der = _open_box(box, passphrase.encode("utf-8", "surrogateescape"), path)
    try:
        key: Any = serialization.load_der_private_key(der, None)
    except Exception as error:  # ValueError, TypeError, UnsupportedAlgorithm: one meaning
        raise Error(f"private key {path}: what is encrypted in it is no private key") from error
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return lambda data: key.sign(data, ec.ECDSA(hashes.SHA256()))
    if isinstance(key, rsa.RSAPrivateKey):
        return lambda data: key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return lambda data: bytes(key.sign(data))
    raise Error(f"private key {path} is of a kind that images are not signed with")


class _Box(Value):
    """A secret box and how its key is made."""

    n: int
    r: int
    p: int
    salt: bytes
    nonce: bytes
    ciphertext: bytes


def _parse_box(raw: bytes, path: str) -> _Box:
    what = f"private key {path}"
    lines = [line.strip() for line in raw.splitlines() if line.strip()]
    known = [label for label in _LABELS if lines and lines[0] == b"-----BEGIN " + label + b"-----"]
    if not known or lines[-1] != b"-----END " + known[0] + b"-----":
        raise Error(
            f"{what} is no encrypted key of sigstore's", hint="skopeo generate-sigstore-key or cosign makes one"
        )
    tree = fields.parse_object(_decoded(b"".join(lines[1:-1]), what), what, _MAX_FILE)
    kdf, cipher = fields.table(tree, "kdf", what), fields.table(tree, "cipher", what)
    names = fields.text(kdf, "name", what), fields.text(cipher, "name", what)
    if names != ("scrypt", "nacl/secretbox"):
        raise Error(f"{what} is encrypted by {' and '.join(names)[:80]}, which is not known")
    params = fields.table(kdf, "params", what)
    n, r, p = (fields.whole(params, name, what) for name in ("N", "r", "p"))
    # 128 * N * r bytes are needed (RFC 7914, section 2); a malformed file must not ask for all memory.
    if n < 2 or n & (n - 1) or not 0 < r <= 64 or not 0 < p <= 16 or 128 * n * r > _MAX_SCRYPT_MEMORY:
        raise Error(f"{what}: scrypt's parameters N={n}, r={r}, p={p} are out of range")
    parts = [_decoded(fields.text(where, name, what).encode(), what) for where, name in
             ((kdf, "salt"), (cipher, "nonce"), (tree, "ciphertext"))]  # fmt: skip
    if len(parts[1]) != 24:
        raise Error(f"{what}: the nonce has {len(parts[1])} bytes, not 24")
    return _Box(n=n, r=r, p=p, salt=parts[0], nonce=parts[1], ciphertext=parts[2])


def _open_box(box: _Box, passphrase: bytes, path: str) -> bytes:
    import hashlib

    try:
        from nacl.exceptions import CryptoError
        from nacl.secret import SecretBox
    except ImportError as error:
        raise _not_installed("PyNaCl") from error
    most = _MAX_SCRYPT_MEMORY + (64 << 20)
    key = hashlib.scrypt(passphrase, salt=box.salt, n=box.n, r=box.r, p=box.p, maxmem=most, dklen=32)
    try:
        return bytes(SecretBox(key).decrypt(box.ciphertext, box.nonce))
    except CryptoError as error:
        raise Error(f"private key {path}: the passphrase is wrong") from error


def _decoded(text: bytes, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise Error(f"{what} is not base64") from error


def _not_installed(name: str) -> Error:
    return Error(
        f"sigstore signatures cannot be made: the Python package {name} is not installed",
        hint="pip install 'pyctl[sigstore]'",
    )


def signed_by(signers: Sequence[Signer], reference: Reference, digest: str) -> tuple[Signature, ...]:
    """One signature by each."""
    return tuple(signer.sign(reference, digest) for signer in signers)
