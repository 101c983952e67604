"""What says which images are trusted, and by whose keys."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.engine import Engine
from tests.support.requirements import program


def write_policy(engine: Engine, tree: dict[str, Any]) -> None:
    folder = engine.home / ".config/containers"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policy.json").write_text(json.dumps(tree))


def write_registries_d(engine: Engine, text: str) -> None:
    folder = engine.home / ".config/containers/registries.d"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test.yaml").write_text(text)


class Signer(NamedTuple):
    """A key pair in a home of gpg's own."""

    home: Path
    fingerprint: str
    public: Path

    def sign(self, manifest: Path, reference: str) -> bytes:
        """A signature by skopeo."""
        out = self.home / "signature"
        out.unlink(missing_ok=True)
        argv = [program("skopeo"), "standalone-sign", "-o", out, manifest, reference, self.fingerprint]
        env = {**os.environ, "GNUPGHOME": str(self.home)}
        subprocess.run(argv, check=True, capture_output=True, env=env, timeout=60)
        return out.read_bytes()

    def end(self) -> None:
        """End its agent and remove it."""
        env = {**os.environ, "GNUPGHOME": str(self.home)}
        subprocess.run([program("gpgconf"), "--kill", "all"], env=env, check=False, timeout=60)
        shutil.rmtree(self.home, ignore_errors=True)


def make_signer(name: str, passphrase: str = "") -> Signer:
    home = Path(tempfile.mkdtemp(prefix="gpg-", dir="/tmp"))  # a socket's path is short
    env = {**os.environ, "GNUPGHOME": str(home)}

    def gpg(*args: str) -> str:
        argv = [program("gpg"), "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", passphrase, *args]
        return subprocess.run(argv, check=True, capture_output=True, text=True, env=env, timeout=60).stdout

    gpg("--quick-generate-key", f"{name} <{name}@example.com>", "rsa2048", "sign", "never")
    listed = gpg("--list-keys", "--with-colons")
    fingerprint = next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:"))
    (home / "public.asc").write_text(gpg("--armor", "--export"))
    return Signer(home, fingerprint, home / "public.asc")
