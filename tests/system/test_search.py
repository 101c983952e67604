"""search: repositories and tags of a registry."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.engine import IS_PODMAN, Engine
from tests.support.images import Layout
from tests.support.registry import Registry


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory, layout: Layout) -> Iterator[Registry]:
    made = Registry(tmp_path_factory.mktemp("several"))
    for name in ("team/busybox:1", "team/busybox:2", "other:1"):
        made.push(layout, "busybox", name)
    yield made
    made.close()


def test_repositories(fresh: Engine, several: Registry) -> None:
    lines = fresh("search", f"{several.address}/bus").out.splitlines()
    assert [line.split() for line in lines] == [["NAME", "DESCRIPTION"], [f"{several.address}/team/busybox"]]
    every = fresh("search", "--format", "{{.Index}} {{.Name}}", f"{several.address}/").out.split()
    assert every == [several.address, f"{several.address}/other", several.address, f"{several.address}/team/busybox"]
    assert fresh("search", f"{several.address}/nosuch").out == ""
    assert len(fresh("search", "--limit=1", f"{several.address}/").out.splitlines()) == 2
    [one] = json.loads(fresh("search", "--format=json", f"{several.address}/other").out)
    assert one["Name"] == f"{several.address}/other"
    assert one["Stars"] == 0


def test_tags(fresh: Engine, several: Registry) -> None:
    name = f"{several.address}/team/busybox"
    assert sorted(fresh("search", "--list-tags", "--format", "{{.Name}}:{{.Tag}}", name).out.split()) == [
        f"{name}:1",
        f"{name}:2",
    ]
    [one] = json.loads(fresh("search", "--list-tags", "--format=json", name).out)
    assert sorted(one["Tags"]) == ["1", "2"]
    assert len(fresh("search", "--list-tags", "--limit=1", name).out.splitlines()) == 2
    assert "not known" in fresh("search", "--list-tags", f"{several.address}/nosuch", status=125).err


def test_the_searched_registries(fresh: Engine, several: Registry) -> None:
    folder = fresh.home / ".config/containers"
    folder.mkdir(parents=True)
    (folder / "registries.conf").write_text(f'unqualified-search-registries = ["{several.address}"]\n')
    assert f"{several.address}/team/busybox" in fresh("search", "busybox").out
    (folder / "registries.conf").write_text(f'unqualified-search-registries = ["127.0.0.1:1", "{several.address}"]\n')
    result = fresh("search", "busybox", status=125)
    assert f"{several.address}/team/busybox" in result.out, "one that fails does not keep the other"
    assert "127.0.0.1:1" in result.err


class Index(http.server.BaseHTTPRequestHandler):
    """A registry with docker's search."""

    def log_message(self, *_args: object) -> None:
        pass

    def do_GET(self) -> None:
        found = parse_qs(urlsplit(self.path).query).get("q", [""])[0]
        rows = [
            {"name": f"me/{found}", "description": "long " * 20 + "\x1b[31m", "star_count": 7, "is_official": True},
            {"name": f"you/{found}", "description": "short", "star_count": 2, "is_automated": True},
        ]
        body = json.dumps({"results": rows} if "/v1/search" in self.path else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def index() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_registry_that_searches_itself(fresh: Engine, index: str) -> None:
    out = fresh("search", "--compatible", f"{index}/thing").out
    assert "\x1b" not in out
    lines = out.splitlines()
    assert lines[0].split() == ["NAME", "DESCRIPTION", "STARS", "OFFICIAL", "AUTOMATED"]
    assert lines[1].startswith(f"{index}/me/thing")
    assert "..." in lines[1]
    assert "[OK]" in lines[1]
    assert "..." not in fresh("search", "--no-trunc", f"{index}/thing").out

    def names(*filters: str) -> str:
        options = [f"--filter={text}" for text in filters]
        return fresh("search", "--format", "{{.Name}}", *options, f"{index}/x").line

    assert names("stars=3") == f"{index}/me/x"
    assert names("is-official=false") == f"{index}/you/x"
    assert names("is-official", "stars=9") == ""


@pytest.mark.skipif(IS_PODMAN, reason="the wording is pyctl's")
@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--filter=x=1", "localhost/x"), "x=1"),
        (("--filter=stars=many", "localhost/x"), "stars=many"),
        (("--limit=101", "localhost/x"), "--limit"),
        (("--list-tags", "--filter=stars=1", "localhost/x"), "--filter"),
        (("127.0.0.1:1/x",), "127.0.0.1:1"),
    ],
)
def test_what_is_refused(fresh: Engine, args: tuple[str, ...], said: str) -> None:
    assert said in fresh("search", *args, status=125).err


def test_authfile(fresh: Engine, several: Registry, tmp_path: Path) -> None:
    """A login in --authfile is read for a search too."""
    (tmp_path / "auth.json").write_text("{}")
    fresh("search", "--authfile", tmp_path / "auth.json", f"{several.address}/")
    assert "does not exist" in fresh("search", "--authfile=/nonexistent", f"{several.address}/", status=125).err
