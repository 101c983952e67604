"""`images` and `history`.  Weight: `storage.images`, `storage.lookup`; templates and filters only when asked for."""

from __future__ import annotations

import sys
import time

from pyctl.cli import output
from pyctl.engine.engine import Engine
from storage import lookup
from storage.images import ImageStore
from storage.rfc3339 import format_ns, parse_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pyctl.cli.parser import Parsed
    from storage.images import HistoryRow, ImageRow

NONE = "<none>"
_CREATED_BY_WIDTH = 45
_TITLES = {"ID": "IMAGE ID", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT"}


def split_name(name: str) -> tuple[str, str]:
    """(repository, tag) of a stored name; the tag of a name with a digest is <none>."""
    if "@" in name:
        return name.partition("@")[0], NONE
    repository, _, tag = name.rpartition(":")
    return repository, tag


class View:
    """One line of `images`: each method is a field of --format."""

    def __init__(self, store: ImageStore, row: ImageRow, name: str, *, full: bool, now_ns: int) -> None:
        self._store = store
        self.row = row
        self._full = full
        self._now_ns = now_ns
        self.repository, self.tag = split_name(name) if name else (NONE, NONE)

    def ID(self) -> str:  # noqa: N802 - Podman's name of the field, as all that follow
        return f"sha256:{self.row.id}" if self._full else self.row.id[: output.SHORT_ID]

    def Repository(self) -> str:  # noqa: N802
        return self.repository

    def Tag(self) -> str:  # noqa: N802
        return self.tag

    def Digest(self) -> str:  # noqa: N802
        return self.row.manifest_digest

    def Size(self) -> str:  # noqa: N802
        return output.spaced_size(self.row.size)

    def Created(self) -> str:  # noqa: N802
        return output.ago(self.row.created_ns, self._now_ns)

    def CreatedAt(self) -> str:  # noqa: N802
        return output.local_time(self.row.created_ns)

    def VirtualSize(self) -> int:  # noqa: N802
        return self.row.size

    def SharedSize(self) -> int:  # noqa: N802
        return 0

    def Containers(self) -> int:  # noqa: N802
        return self.row.containers

    def Names(self) -> list[str]:  # noqa: N802
        return list(self.row.names)

    def History(self) -> str:  # noqa: N802
        return ", ".join(self.row.names)

    def RepoDigests(self) -> list[str]:  # noqa: N802
        repositories = dict.fromkeys(split_name(name)[0] for name in self.row.names)
        return [f"{repository}@{digest}" for repository in repositories for digest in self.row.digests]

    def RepoTags(self) -> list[str]:  # noqa: N802
        return [name for name in self.row.names if "@" not in name]

    def Labels(self) -> dict[str, str]:  # noqa: N802
        from pyctl.cli.gotemplate import Map

        return Map({} if self.row.is_list else self._store.config(self.row.id).labels)

    def Label(self, name: str) -> str:  # noqa: N802
        return self.Labels().get(name, "")

    def Dangling(self) -> bool:  # noqa: N802
        return not self.row.names

    def ReadOnly(self) -> bool:  # noqa: N802
        return self.row.read_only

    def ParentId(self) -> str:  # noqa: N802
        return ""

    def Arch(self) -> str:  # noqa: N802
        return self.row.architecture

    def Os(self) -> str:  # noqa: N802
        return self.row.os

    def template_row(self) -> Any:
        """Every field, for a template."""
        from pyctl.cli.report import Row

        row = Row({name: getattr(self, name) for name in _FIELDS})
        row["CreatedSince"] = self.Created
        row.json_form = lambda: {"repository": self.repository, "tag": self.tag, **self.listing()}
        return row

    def listing(self) -> dict[str, Any]:
        """The JSON of --format json, one for an image whatever its names."""
        return {
            "Id": self.row.id,
            "ParentId": "",
            "RepoTags": self.RepoTags() or None,
            "RepoDigests": self.RepoDigests(),
            "Size": self.row.size,
            "SharedSize": 0,
            "VirtualSize": self.row.size,
            "Labels": dict(self.Labels()) or None,
            "Containers": self.row.containers,
            "Digest": self.row.manifest_digest,
            "History": list(self.row.names),
            "Names": list(self.row.names),
            "Arch": self.row.architecture,
            "Os": self.row.os,
            "Created": self.row.created_ns // 10**9,
            "CreatedAt": format_ns(self.row.created_ns),
            **({"ReadOnly": True} if self.row.read_only else {}),
        }


_FIELDS = tuple(name for name in vars(View) if name[:1].isupper())
_SORT_KEYS: dict[str, Callable[[View], Any]] = {
    "created": lambda view: -view.row.created_ns,
    "digest": lambda view: view.row.manifest_digest,
    "id": lambda view: view.row.id,
    "repository": lambda view: (view.repository, view.tag),
    "size": lambda view: view.row.size,
    "tag": lambda view: (view.tag, view.repository),
}


def images(parsed: Parsed) -> int:
    """Prints the list of images."""
    options = parsed.options
    engine = Engine(parsed.globals)
    store = ImageStore(engine.db)
    rows: Sequence[ImageRow] = store.list()
    if engine.db.one("SELECT 1 FROM manifest_lists LIMIT 1"):
        from storage.lists import ListStore

        rows = (*rows, *ListStore(engine.db).image_rows())
    if lookup.additional_roots:
        from storage.additional import image_rows

        rows = (*rows, *image_rows(engine.db, {row.id for row in rows}))
    words = (*options.filter, *(f"reference={name}" for name in parsed.args))
    if words:
        from pyctl.engine.image_filters import image_filter

        matches = image_filter(engine.db, words)
        rows = [row for row in rows if matches(row)]
        if not rows and parsed.args:
            rows = _by_id(store, engine, parsed)
    now_ns = time.time_ns()
    full = bool(options.no_trunc)
    views = [
        View(store, row, name, full=full, now_ns=now_ns)
        for row in rows
        for name in (tuple(reversed(row.names)) or ("",))
    ]
    views.sort(key=_SORT_KEYS[options.sort])
    _print(parsed, views)
    return 0


def _by_id(store: ImageStore, engine: Engine, parsed: Parsed) -> list[ImageRow]:
    from storage.reference import InvalidReferenceError

    try:
        found = lookup.find(engine.db, parsed.args[0])
    except InvalidReferenceError:
        return []
    return list(store.list(found[0])) if found and not parsed.options.filter else []


def _print(parsed: Parsed, views: Sequence[View]) -> None:
    options = parsed.options
    if options.format:
        from pyctl.cli import report

        if report.is_json(options.format):
            report.print_json([view.listing() for view in {view.row.id: view for view in views}.values()])
            return
        rows = [view.template_row() for view in views]
        fields = (*_FIELDS, "CreatedSince")
        report.print_rows(rows, options.format, _TITLES, fields=fields, show_headings=not options.noheading)
    elif options.quiet:
        sys.stdout.write("".join(f"{word}\n" for word in dict.fromkeys(view.ID() for view in views)))
    else:
        headings = ["REPOSITORY", "TAG", *["DIGEST"] * options.digests, "IMAGE ID", "CREATED", "SIZE"]
        marked = any(view.row.read_only for view in views)
        headings += [*["HISTORY"] * options.history, *["R/O"] * marked]
        lines = [
            [
                view.repository,
                view.tag,
                *[view.Digest()] * options.digests,
                view.ID(),
                view.Created(),
                view.Size(),
                *[view.History()] * options.history,
                *[str(view.row.read_only).lower()] * marked,
            ]
            for view in views
        ]
        output.print_table(headings, lines, not options.noheading)


# --- history -----------------------------------------------------------------------------------


def history(parsed: Parsed) -> int:
    """Prints the steps that made an image, newest first."""
    options = parsed.options
    steps = ImageStore(Engine(parsed.globals).db).history(parsed.args[0])
    full = bool(options.no_trunc)
    if options.format:
        from pyctl.cli import report

        if report.is_json(options.format):
            report.print_json([_step_json(step) for step in steps], indent=0)
            return 0
        rows = [_step_row(step, full, bool(options.human)) for step in steps]
        fields = ("ID", "Created", "CreatedSince", "CreatedAt", "CreatedBy", "Size", "Comment", "Tags")
        return report.print_rows(rows, options.format, {"CreatedSince": "CREATED"}, fields=fields)
    if options.quiet:
        sys.stdout.write("".join(f"{_step_id(step, full)}\n" for step in steps))
        return 0
    lines = [
        (
            _step_id(step, full),
            _step_time(step, bool(options.human)),
            _step_command(step, full),
            output.human_size(step.size) if options.human else str(step.size),
            step.comment,
        )
        for step in steps
    ]
    output.print_table(("ID", "CREATED", "CREATED BY", "SIZE", "COMMENT"), lines)
    return 0


def _step_id(step: HistoryRow, full: bool) -> str:
    return (step.id if full else step.id[: output.SHORT_ID]) or "<missing>"


def _step_time(step: HistoryRow, human: bool) -> str:
    moment = parse_ns(step.created)
    return output.ago(moment) if human else format_ns(moment // 10**9 * 10**9)


def _step_command(step: HistoryRow, full: bool) -> str:
    text = " ".join(step.created_by.split())
    return text if full or len(text) <= _CREATED_BY_WIDTH else text[: _CREATED_BY_WIDTH - 3] + "..."


def _step_json(step: HistoryRow) -> dict[str, Any]:
    return {
        "id": step.id or "<missing>",
        "created": step.created,
        "CreatedBy": step.created_by,
        "tags": list(step.tags) or None,
        "size": step.size,
        "comment": step.comment,
        "Created": format_ns(parse_ns(step.created) // 10**9 * 10**9),
    }


def _step_row(step: HistoryRow, full: bool, human: bool) -> Any:
    from pyctl.cli.report import Row

    row = Row(
        ID=_step_id(step, full),
        Created=_step_time(step, human),
        CreatedSince=_step_time(step, True),
        CreatedAt=_step_time(step, False),
        CreatedBy=_step_command(step, full),
        Size=output.human_size(step.size) if human else str(step.size),
        Comment=step.comment,
        Tags=list(step.tags),
    )
    row.json_form = _step_json(step)
    return row
