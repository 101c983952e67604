"""Registries that tell the truth and ones that do not, certificates, and images to fetch."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from storage.registry import Registry
from storage.registry_auth import Credentials
from storage.registry_http import HttpLimits, TlsOptions
from storage.removal import remove_tree
from tests.registry.scripted import ScriptedRegistry
from tests.support.engine import TEMPORARY, TOP
from tests.support.images import Entry, Layout, layer_tar
from tests.support.mapped import mapped
from tests.support.requirements import program

# Short enough that a test of a stall ends soon, long enough for two busy cores.
FAST = HttpLimits(connect_s=5, stall_s=0.5, answer_s=3, attempts=3, backoff_s=0.01, max_wait_s=2)


class Certificates(NamedTuple):
    authority: Path  # a directory as certs.d has them: ca.crt
    server: tuple[Path, Path]  # certificate and key, for 127.0.0.1 and localhost


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An own certificate authority and a server certificate of it."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = folder / "authority"
    authority.mkdir()
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subprocess.run(
        [program("openssl"), "req", "-x509", *key, "-subj", "/CN=test authority", "-keyout", folder / "ca.key",
         "-out", authority / "ca.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run(
        [program("openssl"), "req", "-x509", *key, "-subj", "/CN=127.0.0.1", "-CA", authority / "ca.crt", "-CAkey",
         folder / "ca.key", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
         "-addext", "basicConstraints=critical,CA:FALSE",
         "-keyout", folder / "server.key", "-out", folder / "server.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    return Certificates(authority, (folder / "server.crt", folder / "server.key"))


@pytest.fixture(scope="session")
def small_layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """The image "small": two layers of a few files, one of them large enough to be cut in the middle."""
    made = Layout(tmp_path_factory.mktemp("small"))
    noise = bytes(range(251)) * 4000  # compresses, but not to nothing
    made.image(
        "small",
        [
            layer_tar([Entry("a", b"first", 0o644)]),
            layer_tar([Entry("b", noise, 0o644), Entry("c", b"3", 0o600, uid=7)]),
        ],
    )
    return made


@pytest.fixture
def scripted(small_layout: Layout) -> Iterator[ScriptedRegistry]:
    """A registry for this test alone, with the image small:small."""
    made = ScriptedRegistry(small_layout)
    yield made
    made.close()


@pytest.fixture
def more_registries(small_layout: Layout) -> Iterator[Callable[..., ScriptedRegistry]]:
    """Further registries: called with `ScriptedRegistry`'s options."""
    made: list[ScriptedRegistry] = []

    def make(**options: object) -> ScriptedRegistry:
        made.append(ScriptedRegistry(small_layout, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for registry in made:
        registry.close()


@pytest.fixture
def client() -> Iterator[Callable[..., Registry]]:
    """Clients: called with an address and `Registry`'s options; `cert_dir` and `verify` for TLS."""
    made: list[Registry] = []

    def make(
        address: str,
        *,
        verify: bool | None = None,
        cert_dir: Path | None = None,
        user: tuple[str, str] | None = None,
        limits: HttpLimits = FAST,
        **options: object,
    ) -> Registry:
        tls = TlsOptions(verify=verify, cert_dirs=(str(cert_dir),) if cert_dir else ())
        credentials = Credentials(username=user[0], password=user[1], origin="the test") if user else None
        options.setdefault("env", {})
        made.append(Registry(address, credentials=credentials, tls=tls, limits=limits, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for registry in made:
        registry.close()


class Store:
    """A storage root that pulls fill, each in a process of its own; `env` is what those processes see."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = base / "root"
        self.home = base / "home"
        self.run = base / "run"
        for folder in (self.root, self.home, self.run):
            folder.mkdir(mode=0o700)
        self.env = {
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.run),
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
            "PYTHONPATH": str(TOP),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, image: str, **order: Any) -> subprocess.Popen[str]:
        """Begin a pull; see tests/registry/puller.py for what an order may hold."""
        order = {"root": str(self.root), "image": image, **order}
        argv = [sys.executable, "-m", "tests.registry.puller", json.dumps(order)]
        process = subprocess.Popen(argv, env=self.env, stdout=subprocess.PIPE, text=True, cwd="/")
        self.processes.append(process)
        return process

    def finish(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        out, _ = process.communicate(timeout=90)
        assert process.returncode == 0
        found: dict[str, Any] = json.loads(out)
        return found

    def pull(self, image: str, **order: Any) -> dict[str, Any]:
        return self.finish(self.start(image, **order))

    def auth(self, tree: dict[str, Any]) -> None:
        """Write auth.json."""
        folder = self.run / "containers"
        folder.mkdir(exist_ok=True)
        (folder / "auth.json").write_text(json.dumps(tree))

    def registries(self, text: str) -> None:
        """Write registries.conf."""
        folder = self.home / ".config/containers"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "registries.conf").write_text(text)

    def blobs(self) -> dict[str, bytes]:
        """Every complete blob, by digest."""
        folder = self.root / "blobs/sha256"
        return {f"sha256:{p.name}": p.read_bytes() for p in folder.iterdir()} if folder.exists() else {}

    def partials(self) -> dict[str, int]:
        """Incomplete downloads and their sizes."""
        folder = self.root / "partial"
        found = folder.iterdir() if folder.exists() else ()
        return {p.name.replace("-", ":", 1): p.stat().st_size for p in found if not p.name.endswith(".lock")}

    def partial(self, digest: str) -> Path:
        """The file of an incomplete download."""
        (self.root / "partial").mkdir(exist_ok=True)
        return self.root / "partial" / digest.replace(":", "-")

    def layers(self) -> list[str]:
        folder = self.root / "layers"
        return sorted(p.name for p in folder.iterdir()) if folder.exists() else []

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self.root / "state.db")) as db:
            found = db.execute(sql).fetchall()
            db.commit()
        return found

    def assert_empty(self) -> None:
        """No image, layer or blob is visible, and none is half there."""
        assert self.query("SELECT id FROM images") == []
        assert self.query("SELECT key FROM layers") == []
        assert (self.blobs(), self.layers()) == ({}, [])

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        mapped(remove_tree, str(self.root), runtime_root=str(self.run))
        shutil.rmtree(self.base)


@pytest.fixture
def new_store() -> Iterator[Callable[[], Store]]:
    made: list[Store] = []

    def make() -> Store:
        made.append(Store(Path(tempfile.mkdtemp(prefix="rg-", dir=TEMPORARY))))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(new_store: Callable[[], Store]) -> Store:  # type: ignore[override]
    """An empty store."""
    return new_store()
