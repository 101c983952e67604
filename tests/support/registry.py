"""Registries on loopback: Debian's docker-registry, and one that lies."""

from __future__ import annotations

import http.server
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from tests.support.images import Layout, copy_image
from tests.support.requirements import program
from tests.support.waiting import wait_until


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def reachable(port: int, host: str = "127.0.0.1") -> bool:
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return False
    return True


class Registry:
    """docker-registry serving `folder` at `address`; `auth` is an htpasswd file, `tls` a certificate and its key."""

    def __init__(self, folder: Path, auth: Path | None = None, tls: tuple[Path, Path] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        config = [
            "version: 0.1",
            "log: {level: error, accesslog: {disabled: true}}",
            f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}",
            f"http: {{addr: '{self.address}', secret: tests}}"
            if tls is None
            else f"http: {{addr: '{self.address}', secret: tests, tls: {{certificate: {tls[0]}, key: {tls[1]}}}}}",
        ]
        if auth:
            config.append(f"auth: {{htpasswd: {{realm: tests, path: {auth}}}}}")
        (folder / "config.yml").write_text("\n".join(config) + "\n")
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [program("docker-registry"), "serve", str(folder / "config.yml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"},
            )
        wait_until(lambda: reachable(int(self.address.split(":")[1])), 20, "the registry answers")

    def push(self, layout: Layout, tag: str, name: str, *options: str) -> None:
        """Copies the image `tag` of a layout to `name` ("busybox:1") here."""
        copy_image(
            f"oci:{layout.folder}:{tag}",
            f"docker://{self.address}/{name}",
            "--dest-tls-verify=false",
            *options,
            home=self.folder,
        )

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)


def self_signed(folder: Path) -> tuple[Path, Path]:
    """(certificate, key) for 127.0.0.1; the certificate is `ca.crt`, alone in a folder, as --cert-dir wants it."""
    authority = folder / "authority"
    authority.mkdir()
    subprocess.run(
        [program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key",
         "-out", authority / "ca.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    return authority / "ca.crt", folder / "key"


class LyingRegistry:
    """Serves the images of a layout, each answer through `twist(path, status, body)` → (status, body).

    A body shorter than announced is what a connection that breaks looks like: `announce` keeps the true length.
    """

    def __init__(self, layout: Layout, twist: Callable[[str, int, bytes], tuple[int, bytes]]) -> None:
        outer = self
        self.requests: list[str] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_args: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, body: bool) -> None:
                outer.requests.append(f"{self.command} {self.path}")
                status, true, kind = outer.look_up(layout, self.path)
                status, sent = twist(self.path, status, true)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(max(len(true), len(sent))))
                self.end_headers()
                if body:
                    self.wfile.write(sent)
                if len(sent) < len(true):
                    self.close_connection = True

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    @staticmethod
    def look_up(layout: Layout, path: str) -> tuple[int, bytes, str]:
        """(status, body, media type) of an honest answer."""
        parts = path.split("?", maxsplit=1)[0].strip("/").split("/")
        if parts == ["v2"]:
            return 200, b"{}", "application/json"
        wanted = parts[-1]
        for row in layout.index:
            if parts[-2] == "manifests" and wanted in (
                row["digest"],
                row["annotations"]["org.opencontainers.image.ref.name"],
            ):
                return 200, layout.path(row["digest"]).read_bytes(), row["mediaType"]
        if parts[-2] in ("blobs", "manifests") and wanted.startswith("sha256:") and layout.path(wanted).exists():
            return 200, layout.path(wanted).read_bytes(), "application/octet-stream"
        return 404, b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}', "application/json"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
