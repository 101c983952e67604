"""Images made by hand, byte by byte where a test needs a broken one.

Everything is written as an OCI image layout (image-layout.md of the OCI image specification).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.requirements import missing, program

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
OCI = "application/vnd.oci.image"
PASSWD = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/:/bin/false\nweb:x:1000:1000::/home/web:/bin/sh\n"
GROUP = "root:x:0:\ndaemon:x:1:\nweb:x:1000:\nextra:x:1234:web\n"


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Entry(NamedTuple):
    """One member of a layer."""

    name: str
    content: bytes = b""
    mode: int = 0o755
    kind: bytes = tarfile.REGTYPE
    link: str = ""
    uid: int = 0
    gid: int = 0
    device: tuple[int, int] = (0, 0)


def layer_tar(entries: list[Entry]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry in entries:
            info = tarfile.TarInfo(entry.name)
            info.type, info.mode, info.linkname = entry.kind, entry.mode, entry.link
            info.uid, info.gid, info.size, info.mtime = entry.uid, entry.gid, len(entry.content), 1700000000
            info.devmajor, info.devminor = entry.device
            tar.addfile(info, io.BytesIO(entry.content))
    return out.getvalue()


def busybox_entries() -> list[Entry]:
    """A small system around Debian's static busybox: applets, accounts, the usual folders."""
    binary = Path(program("busybox"))
    names = subprocess.run([binary, "--list"], capture_output=True, text=True, check=True).stdout.split()
    folders = ["bin", "etc", "dev", "home", "home/web", "proc", "root", "run", "sys", "usr", "usr/bin", "var"]
    entries = [Entry(name, kind=tarfile.DIRTYPE) for name in folders]
    entries += [Entry("tmp", kind=tarfile.DIRTYPE, mode=0o1777), Entry("bin/busybox", binary.read_bytes())]
    entries += [Entry(f"bin/{name}", kind=tarfile.SYMTYPE, link="busybox") for name in names if name != "busybox"]
    entries += [Entry("etc/passwd", PASSWD.encode(), 0o644), Entry("etc/group", GROUP.encode(), 0o644)]
    entries += [Entry("etc/notexec", b"plain text\n", 0o644)]
    return entries


class Layout:
    """An OCI layout folder that grows; `image()` adds one and returns its manifest's digest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "blobs/sha256").mkdir(parents=True, exist_ok=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self.index: list[dict[str, Any]] = []

    def blob(self, data: bytes) -> dict[str, Any]:
        digest = sha256(data)
        self.path(digest).write_bytes(data)
        return {"digest": digest, "size": len(data)}

    def path(self, digest: str) -> Path:
        return self.folder / "blobs/sha256" / digest.removeprefix("sha256:")

    def image(
        self,
        tag: str,
        layers: list[bytes],
        config: dict[str, Any] | None = None,
        *,
        raw_config: bytes | None = None,
        architecture: str = ARCHITECTURE,
        compression: str = "gzip",
        manifest_changes: dict[str, Any] | None = None,
    ) -> str:
        """An image of uncompressed layer tars; `config` is the inner "config" object, `raw_config` the whole blob."""
        described = []
        for tar in layers:
            packed = PACKERS[compression](tar)
            suffix = {"gzip": "+gzip", "none": ""}.get(compression, "+zstd")
            described.append({"mediaType": f"{OCI}.layer.v1.tar{suffix}", **self.blob(packed)})
        whole = {
            "architecture": architecture,
            "os": "linux",
            "created": "2024-01-02T03:04:05Z",
            "config": config or {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin:/usr/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [sha256(tar) for tar in layers]},
            "history": [{"created": "2024-01-02T03:04:05Z", "created_by": f"layer {n}"} for n in range(len(layers))],
        }
        blob = json.dumps(whole).encode() if raw_config is None else raw_config
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": {"mediaType": f"{OCI}.config.v1+json", **self.blob(blob)},
            "layers": described,
            **(manifest_changes or {}),
        }
        row = {"mediaType": f"{OCI}.manifest.v1+json", **self.blob(json.dumps(manifest).encode())}
        platform_row = {"platform": {"os": "linux", "architecture": architecture}}
        self.add({**row, **platform_row, "annotations": {"org.opencontainers.image.ref.name": tag}})
        return str(row["digest"])

    def add(self, row: dict[str, Any]) -> None:
        self.index.append(row)
        document = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": self.index}
        (self.folder / "index.json").write_text(json.dumps(document))


def zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(level=3).compress(data)


def zstd_chunked(data: bytes) -> bytes:
    """As containers' zstd:chunked: a frame for each piece, then a table and a footer in frames that readers skip."""
    frames = [zstd(data[at : at + 65_000]) for at in range(0, len(data), 65_000)]
    table = zstd(json.dumps({"version": 1, "entries": []}).encode())
    skipped = (table, b"GNUlInUx".rjust(64, b"\0"))
    return b"".join([*frames, *(b"\x50\x2a\x4d\x18" + len(s).to_bytes(4, "little") + s for s in skipped)])


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 5, mtime=0),
    "zstd": zstd,
    "zstd:chunked": zstd_chunked,
    "none": bytes,
}


def debian_tree(cache: Path) -> Path:
    """A tar of a Debian base with python3, nginx and postgresql, built once by mmdebstrap as this user."""
    tar = cache / "debian-bookworm-web.tar"
    if tar.exists():
        return tar
    cache.mkdir(parents=True, exist_ok=True)
    partial = cache / f"partial-{os.getpid()}.tar"
    argv = [
        program("mmdebstrap"),
        "--quiet",
        "--mode=unshare",
        "--variant=minbase",
        "--include=python3-minimal,nginx-light,postgresql",
        # Documentation is a third of the tree, and nothing here reads it.
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--aptopt=Acquire::Languages none",
        "bookworm",
        str(partial),
    ]
    made = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=1200)
    if made.returncode:
        partial.unlink(missing_ok=True)
        missing(f"mmdebstrap made no tree: {made.stderr.strip()[-800:]}")
    partial.rename(tar)
    return tar


def copy_image(source: str, target: str, *options: str, home: Path) -> None:
    """skopeo copy, with no policy and no credentials of the machine."""
    subprocess.run(
        [program("skopeo"), "--insecure-policy", "copy", "--quiet", *options, source, target],
        check=True,
        capture_output=True,
        timeout=300,
        env={"HOME": str(home), "XDG_RUNTIME_DIR": str(home), "PATH": os.environ["PATH"], "TMPDIR": str(home)},
    )
