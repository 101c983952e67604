"""Searching a registry for repositories.

Weight: as `storage.registry`.

Docker Hub and some others answer `GET /v1/search` (docker's index API, never a part of the specifications); where that
is unknown, the catalog of all repositories is read and filtered here.
"""

from __future__ import annotations

from urllib.parse import quote

from rootless.errors import Error
from rootless.values import Value
from storage import fields
from storage.manifest import MAX_MANIFEST_BYTES
from storage.reference import DOCKER_HUB, is_path
from storage.registry_hosts import RegistryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from storage.registry import Registry

# Where Docker Hub is searched; it is not where its images are.
HUB_INDEX = "index.docker.io"
_PAGE = 1000
_MAX_PAGES = 100
_CATALOG_SCOPE = "registry:catalog:*"
_MAX_BYTES = MAX_MANIFEST_BYTES


class Found(Value):
    """One repository, by its name in the registry."""

    name: str
    description: str = ""
    stars: int = 0
    official: bool = False
    automated: bool = False


def search(registry: Registry, term: str, limit: int) -> tuple[Found, ...]:
    """Up to `limit` repositories that fit `term` ("": all).  Raises RegistryError."""
    registry.connect()
    what = f"search at {registry.domain}"
    url = f"{registry.base}/v1/search?q={quote(term, safe='')}&n={limit}"
    if registry.domain == HUB_INDEX:
        answer = registry.transport.retrying("GET", url, dict, what)  # for everybody, without a token
    else:
        answer = registry.request("GET", url, "", {"Accept": "application/json"}, what)
    raw = registry.transport.read_small(answer, _MAX_BYTES, what, strict=answer.status == 200)
    if answer.status == 200:
        try:
            tree = fields.parse_object(raw, what, _MAX_BYTES)
            return tuple(_found(row, what) for row in fields.tables(tree, "results", what))[:limit]
        except Error:
            if registry.domain in (HUB_INDEX, DOCKER_HUB):
                raise
    elif registry.domain == HUB_INDEX:
        raise RegistryError(f"{what}: the registry answered {answer.status}")
    return _catalog(registry, term, limit, what)


def _found(row: dict[str, Any], what: str) -> Found:
    return Found(
        name=fields.text(row, "name", what),
        description=fields.text(row, "description", what),
        stars=fields.whole(row, "star_count", what),
        official=fields.flag(row, "is_official", what),
        automated=fields.flag(row, "is_automated", what),
    )


def _catalog(registry: Registry, term: str, limit: int, what: str) -> tuple[Found, ...]:
    """GET /v2/_catalog, page by page, until enough names contain `term`."""
    found: list[Found] = []
    last = ""
    for _ in range(_MAX_PAGES):
        url = f"{registry.base}/v2/_catalog?n={_PAGE}" + (f"&last={quote(last, safe='')}" if last else "")
        answer = registry.request("GET", url, _CATALOG_SCOPE, {"Accept": "application/json"}, what)
        if answer.status != 200:
            raise registry.refused(answer, what, f"registry {registry.domain} cannot be searched")
        raw = registry.transport.read_small(answer, _MAX_BYTES, what)
        page = fields.texts(fields.parse_object(raw, what, _MAX_BYTES), "repositories", what)
        found += [Found(name=name) for name in page if is_path(name) and term in name]
        more = 'rel="next"' in answer.headers.get("Link", "") and page and page[-1] != last
        if len(found) >= limit or not more:
            break
        last = page[-1]
    return tuple(found[:limit])
