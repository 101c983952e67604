"""The targets, by name: each takes bytes, and may only succeed or raise an `Error` of one line.

A seed is something valid, so that changes of it reach behind the first check.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
from collections.abc import Callable
from typing import NamedTuple

import zstandard

from rootless.errors import Error
from storage.archive_files import TarFiles, read_document
from storage.archives import docker_rows
from storage.compression import open_decompressed
from storage.imageconfig import parse_config
from storage.manifest import OCI_INDEX, OCI_MANIFEST, Index, Manifest, check_image, check_layers, parse_manifest
from storage.platforms import host_platform
from storage.policy import parse_policy
from storage.reference import parse
from storage.registry_auth import parse_challenges
from storage.signatures import read_payload
from storage.tarstream import TarStream
from storage.unpack import clean_path
from tests.support.images import OCI, Entry, layer_tar, sha256

_MAX_PLAIN = 4 << 20
_DIGEST = "sha256:" + "a" * 64


class Target(NamedTuple):
    run: Callable[[bytes], object]
    seeds: list[bytes]


def attempt(target: Target, data: bytes) -> None:
    """One input.  AssertionError, or whatever else the code raises, is a finding."""
    try:
        target.run(data)
    except Error as error:
        assert error.message, "an error without words"
        assert "\n" not in error.message, "an error of several lines"


class _Bytes:
    def __init__(self, data: bytes, step: int = 1 << 16) -> None:
        self._file = io.BytesIO(data)
        self._step = step

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._step))


def _reference(data: bytes) -> None:
    found = parse(data.decode("utf-8", "surrogateescape"))
    assert parse(str(found)) == found
    assert ".." not in found.path.split("/")


def _manifest(data: bytes) -> None:
    found = parse_manifest(data, "", "it")
    assert found.digest == sha256(data)
    if isinstance(found, Index):
        found.select(host_platform(), "it")
        return
    check_image(found, "it")
    assert isinstance(found, Manifest)
    assert all(layer.size >= 0 and len(layer.digest) >= 71 for layer in found.layers)


def _config(data: bytes) -> None:
    config = parse_config(data, "it")
    manifest = parse_manifest(MANIFEST)
    assert isinstance(manifest, Manifest)
    check_layers(manifest, config, "it")


def _tar(data: bytes) -> None:
    stream = TarStream(_Bytes(data), "it")
    while (entry := stream.next()) is not None:
        path = clean_path(entry.name)
        assert path is None or b".." not in path.split(b"/")
        assert path is None or not path.startswith(b"/")
        pieces = entry.sparse
        assert pieces is None or all(0 <= at <= at + size <= entry.size for at, size in pieces)
        held = sum(len(piece) for piece in stream.data())
        assert held == (entry.size if pieces is None else sum(size for _, size in pieces))
    while stream.drain():
        pass


def _archive(data: bytes) -> None:
    fd = os.memfd_create("archive")
    os.write(fd, data)
    files = TarFiles(fd, "it")
    try:
        for row, _ in docker_rows(files, ""):
            read_document(files, str(row.get("Config")))
    finally:
        files.close()


def _compressed(data: bytes) -> None:
    reader = open_decompressed(_Bytes(data, 100), "it")
    total = 0
    while total < _MAX_PLAIN and (part := reader.read(5000)):
        assert len(part) <= 5000
        total += len(part)


def _challenge(data: bytes) -> None:
    for challenge in parse_challenges([data.decode("latin-1")]):
        assert challenge.scheme == challenge.scheme.lower()


def _policy(data: bytes) -> None:
    from storage import fields

    parse_policy(fields.parse_object(data, "it", 1 << 20), "it")


def _payload(data: bytes) -> None:
    signed = read_payload(data, "simple")
    assert len(signed.digest) >= 71


def _json(tree: object) -> bytes:
    return json.dumps(tree).encode()


_DESCRIPTOR = {"mediaType": f"{OCI}.layer.v1.tar+gzip", "digest": _DIGEST, "size": 5}
_IMAGE = {
    "schemaVersion": 2,
    "mediaType": OCI_MANIFEST,
    "config": {**_DESCRIPTOR, "mediaType": f"{OCI}.config.v1+json"},
    "layers": [{**_DESCRIPTOR, "annotations": {"a": "b"}, "urls": ["https://x"]}],
    "subject": _DESCRIPTOR,
}
MANIFEST = _json(_IMAGE)
_PLATFORM = {"os": "linux", "architecture": host_platform().architecture, "os.version": "1"}
_INDEX = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [{**_DESCRIPTOR, "platform": _PLATFORM}]}
_CONFIG = {
    "os": "linux",
    "architecture": "amd64",
    "created": "2024-01-02T03:04:05Z",
    "config": {
        "Env": ["A=b"],
        "Cmd": ["x"],
        "ExposedPorts": {"80/tcp": {}},
        "Labels": {"a": "b"},
        "Healthcheck": {"Test": ["CMD", "x"], "Interval": 5},
    },
    "rootfs": {"type": "layers", "diff_ids": [_DIGEST]},
    "history": [{"created_by": "x", "empty_layer": True}],
}
_KEY = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/x", "signedIdentity": {"type": "matchExact"}}


def _tars() -> list[bytes]:
    folder, link = Entry("d/", kind=tarfile.DIRTYPE), Entry("l", kind=tarfile.SYMTYPE, link="d")
    out = [layer_tar([folder, Entry("d/" + "n" * 150, b"data" * 200), link])]
    for form in (tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        held = io.BytesIO()
        with tarfile.open(fileobj=held, mode="w", format=form) as tar:
            info = tarfile.TarInfo("x" * 90)
            info.size = 7
            tar.addfile(info, io.BytesIO(b"content"))
        out.append(held.getvalue())
    sparse = tarfile.TarInfo("s")
    data = b"1\n1024\n512\n".ljust(512, b"\0") + b"e" * 512
    sparse.size = len(data)
    sparse.pax_headers = {
        "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s",
        "GNU.sparse.realsize": "9999", "SCHILY.xattr.user.a": "b", "mtime": "1.5", "uid": "99999999",
    }
    out.append(sparse.tobuf(tarfile.PAX_FORMAT) + data + bytes(1024))
    return out


def _docker_archive() -> bytes:
    rows = [{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l.tar"]}]
    return layer_tar([Entry("manifest.json", _json(rows)), Entry("c.json", _json(_CONFIG)), Entry("l.tar", b"x")])


_PLAIN = b"some text that is packed " * 40
TARGETS: dict[str, Target] = {
    "reference": Target(_reference, [b"quay.io:5000/a/b-c:1.2@" + _DIGEST.encode(), b"busybox", b"[::1]:5/x_y/z"]),
    "manifest": Target(_manifest, [MANIFEST, _json(_INDEX)]),
    "config": Target(_config, [_json(_CONFIG)]),
    "tar": Target(_tar, _tars()),
    "archive": Target(_archive, [_docker_archive()]),
    "compressed": Target(
        _compressed,
        [
            *(pack(_PLAIN) for pack in (gzip.compress, bz2.compress, lzma.compress)),
            zstandard.compress(_PLAIN) + b"\x50\x2a\x4d\x18\x04\0\0\0toc!" + zstandard.compress(_PLAIN),
        ],
    ),
    "challenge": Target(_challenge, [b'Bearer realm="https://a/t",service="s",scope="r:a:pull", Basic realm=x']),
    "policy": Target(
        _policy, [_json({"default": [{"type": "reject"}], "transports": {"docker": {"a.b/c": [_KEY]}}})]
    ),
    "payload": Target(
        _payload,
        [
            _json(
                {
                    "critical": {
                        "type": "atomic container signature",
                        "image": {"docker-manifest-digest": _DIGEST},
                        "identity": {"docker-reference": "a.b/c:1"},
                    },
                    "optional": {},
                }
            )
        ],
    ),
}
