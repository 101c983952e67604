"""A small registry on loopback that does as it is told: honest by default, hostile where a test says so."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl

from tests.support.images import Layout, sha256

Hook = Callable[["Request"], bool]


class Request(http.server.BaseHTTPRequestHandler):
    """One request and the means to answer it.  `hook` functions get it and return True where they answered."""

    protocol_version = "HTTP/1.1"
    registry: ScriptedRegistry
    timeout = 60

    def log_message(self, *_args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.registry.handle(self)

    do_POST = do_GET  # noqa: N815 - http.server finds a method by this name
    do_HEAD = do_GET  # noqa: N815
    do_PATCH = do_GET  # noqa: N815
    do_PUT = do_GET  # noqa: N815

    def body(self, limit: int = -1) -> bytes:
        """What the client sends, or its first `limit` bytes; what comes before the connection ends."""
        length = int(self.headers.get("Content-Length", "0"))
        return self.rfile.read(length if limit < 0 else min(limit, length))

    def answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, *, length: int | None = None
    ) -> bool:
        """Send an answer; a `length` that is not the body's is announced all the same and the connection cut."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        if length is not None and length != len(body):
            self.close_connection = True
        return True

    def json(self, status: int, tree: object, headers: dict[str, str] | None = None) -> bool:
        return self.answer(status, json.dumps(tree).encode(), {"Content-Type": "application/json", **(headers or {})})


class ScriptedRegistry:
    """Serves a layout's blobs and its tags.  `hooks` are asked first, newest first; `seen` lists all requests."""

    def __init__(self, layout: Layout, tls: tuple[Path, Path] | None = None, host: str = "127.0.0.1") -> None:
        self.layout = layout
        self.hooks: list[Hook] = []
        self.seen: list[str] = []
        self.authorizations: list[str] = []
        self.uploads: dict[str, bytearray] = {}
        self.tags: dict[str, bytes] = {}  # manifests that were put, by tag or digest
        self.stopped = threading.Event()
        handler = type("Handler", (Request,), {"registry": self})
        self._server = http.server.ThreadingHTTPServer((host, 0), handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that hangs up is no news
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.scheme = "https" if tls else "http"
        self.port = self._server.server_address[1]
        self.address = f"{host}:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def hook(self, function: Hook) -> Hook:
        self.hooks.insert(0, function)
        return function

    def count(self, part: str) -> int:
        """How many requests had `part` in their line."""
        return sum(part in line for line in self.seen)

    def handle(self, request: Request) -> None:
        self.seen.append(f"{request.command} {request.path}")
        self.authorizations.append(request.headers.get("Authorization", ""))
        if not any(hook(request) for hook in self.hooks):
            self.honest(request)

    def honest(self, request: Request) -> bool:
        parts = request.path.split("?")[0].strip("/").split("/")
        if parts == ["v2"]:
            return request.json(200, {})
        kind, wanted = parts[-2], parts[-1]
        if "uploads" in parts:
            return self.upload(request, "" if wanted == "uploads" else wanted)
        if request.command == "PUT":
            self.tags[wanted] = raw = request.body()
            return request.answer(201, headers={"Docker-Content-Digest": sha256(raw)})
        if kind == "manifests":
            for row in self.layout.index:
                if wanted in (row["digest"], row["annotations"]["org.opencontainers.image.ref.name"]):
                    raw = self.layout.path(row["digest"]).read_bytes()
                    return request.answer(200, raw, {"Content-Type": row["mediaType"]})
        path = self.layout.path(wanted) if wanted.startswith("sha256:") else None
        if path is None or not path.exists():
            return request.json(404, {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]})
        raw = path.read_bytes()
        if kind == "manifests":
            return request.answer(200, raw, {"Content-Type": json.loads(raw)["mediaType"]})
        wanted_range = request.headers.get("Range", "")
        if wanted_range:
            start = int(wanted_range.removeprefix("bytes=").rstrip("-"))
            headers = {"Content-Range": f"bytes {start}-{len(raw) - 1}/{len(raw)}"}
            return request.answer(206, raw[start:], headers)
        return request.answer(200, raw, {"Content-Type": "application/octet-stream"})

    def upload(self, request: Request, session: str) -> bool:
        """POST, PATCH, GET and PUT of blob uploads."""
        prefix, _, query = request.path.partition("?")
        arguments = dict(parse_qsl(query))
        if request.command == "POST":
            if "mount" in arguments and self.layout.path(arguments["mount"]).exists():
                return request.answer(201)
            session = f"session-{len(self.uploads)}"
            self.uploads[session] = bytearray()
            return request.answer(202, headers={"Location": f"{prefix}{session}?state=first"})
        held = self.uploads.get(session)
        if held is None:
            return request.json(404, {"errors": [{"code": "BLOB_UPLOAD_UNKNOWN", "message": "upload unknown"}]})
        status = 204
        if request.command == "PATCH":
            start = request.headers.get("Content-Range", "0-").partition("-")[0]
            if int(start) != len(held):
                return request.answer(416)
            held += request.body()
            status = 202
        elif request.command == "PUT":
            if sha256(bytes(held)) != arguments["digest"]:
                return request.json(400, {"errors": [{"code": "DIGEST_INVALID", "message": "digest is wrong"}]})
            self.blob(bytes(held))
            return request.answer(201)
        here = {"Location": f"{prefix}?state={len(held)}", "Range": f"0-{max(len(held) - 1, 0)}"}
        return request.answer(status, headers=here)

    def blob(self, data: bytes) -> str:
        digest = sha256(data)
        self.layout.path(digest).write_bytes(data)
        return digest

    def close(self) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
