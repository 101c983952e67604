"""`--filter KEY=VALUE` of images.  Weight: `storage.images`; `pyctl.engine.filters` for times and labels.

Source: podman-images(1), FILTERS.  Values of one key are alternatives, keys must all match; each label must match.
"""

from __future__ import annotations

from pyctl.engine.filters import label_matcher, moment_ns, parse
from rootless.errors import NotFound, UsageError
from storage import images, lookup
from storage.reference import InvalidReferenceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from storage.database import Database
    from storage.images import ImageRow

    Matcher = Callable[[ImageRow], bool]

_LONGEST_PATTERN = 256
_BOOLS = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}


def image_filter(db: Database, words: tuple[str, ...]) -> Matcher:
    """Whether an image matches all filters.  Raises UsageError, NotFound for an image that a filter names."""
    by_key: dict[str, list[str]] = {}
    for key, value in parse(words):
        by_key.setdefault("label!" if key == "label!" else key, []).append(value)
    matchers: list[Matcher] = []
    for key, values in by_key.items():
        if key in _TRUTHS:
            matchers.append(_truth_matcher(_TRUTHS[key], {_truth(key, value) for value in values}))
        elif key in _MAKERS:
            matchers.append(_MAKERS[key](db, values))
        else:
            raise UsageError(
                f"{key} is an invalid filter", hint=f"filters: {', '.join(sorted({**_MAKERS, **_TRUTHS}))}"
            )
    return lambda row: all(matcher(row) for matcher in matchers)


def _truth_matcher(test: Matcher, wanted: set[bool]) -> Matcher:
    return lambda row: test(row) in wanted


def _truth(key: str, value: str) -> bool:
    truth = _BOOLS.get(value.lower())
    if truth is None:
        raise UsageError(f"filter {key}={value}: not true or false")
    return truth


def glob(pattern: str, text: str) -> bool:
    """Go's path.Match: `*` and `?` stand for anything but a slash, [a-c] for one of a set."""
    if not pattern:
        return not text
    head, rest = pattern[0], pattern[1:]
    if head == "*":
        end = text.find("/")
        return any(glob(rest, text[i:]) for i in range((len(text) if end < 0 else end) + 1))
    if not text:
        return False
    if head == "?":
        return text[0] != "/" and glob(rest, text[1:])
    if head == "[" and "]" in rest:
        members, _, rest = rest.partition("]")
        negated = members[:1] == "^"
        return (_in_set(members[negated:], text[0]) != negated) and text[0] != "/" and glob(rest, text[1:])
    if head == "\\" and rest:
        head, rest = rest[0], rest[1:]
    return head == text[0] and glob(rest, text[1:])


def _in_set(members: str, char: str) -> bool:
    at = 0
    while at < len(members):
        if members[at + 1 : at + 2] == "-" and at + 2 < len(members):
            if members[at] <= char <= members[at + 2]:
                return True
            at += 3
        else:
            if members[at] == char:
                return True
            at += 1
    return False


def named(row: ImageRow, pattern: str) -> bool:
    """Whether one of the image's names matches: whole, or from any slash on, with its tag or without."""
    for name in row.names:
        bare = name.partition("@")[0]
        if ":" in bare[bare.rfind("/") + 1 :]:
            bare = bare[: bare.rindex(":")]
        for text in (name, bare):
            parts = text.split("/")
            if any(glob(pattern, "/".join(parts[i:])) for i in range(len(parts))):
                return True
    return False


def _reference(db: Database, values: list[str]) -> Matcher:
    ids = set()
    for value in values:
        if len(value) > _LONGEST_PATTERN:
            raise UsageError("filter reference: the pattern is too long")
        try:
            found = lookup.find(db, value)
        except InvalidReferenceError:  # a pattern
            found = None
        if found and found[1]:  # a name, not an id
            ids.add(found[0])
    return lambda row: row.id in ids or any(named(row, value) for value in values)


def _label(db: Database, values: list[str]) -> Matcher:
    matches = label_matcher(values)
    store = images.ImageStore(db)
    return lambda row: not row.is_list and matches(store.config(row.id).labels)


def _no_label(db: Database, values: list[str]) -> Matcher:
    matchers = [label_matcher([value]) for value in values]
    store = images.ImageStore(db)
    return lambda row: row.is_list or not any(matches(store.config(row.id).labels) for matches in matchers)


def _created(db: Database, values: list[str], after: bool) -> Matcher:
    moments = []
    for value in values:
        image_id, _name = lookup.resolve(db, value)
        row = db.one("SELECT created_ns FROM images WHERE id = ?", (image_id,))
        if row is None:
            raise NotFound(f"{value}: image not known")
        moments.append(row[0])
    if after:
        return lambda row: all(row.created_ns > moment for moment in moments)
    return lambda row: all(row.created_ns < moment for moment in moments)


def _until(_db: Database, values: list[str]) -> Matcher:
    try:
        moments = [moment_ns(value) for value in values]
    except ValueError as error:
        raise UsageError(f"filter until={values[0]}: not a time", hint="as 24h, or 2024-05-01T12:00:00") from error
    return lambda row: all(row.created_ns < moment for moment in moments)


def _id(_db: Database, values: list[str]) -> Matcher:
    wanted = tuple(value.removeprefix("sha256:") for value in values)
    return lambda row: row.id.startswith(wanted)


def _digest(_db: Database, values: list[str]) -> Matcher:
    wanted = tuple(value if ":" in value else f"sha256:{value}" for value in values)
    return lambda row: any(digest.startswith(wanted) for digest in (row.manifest_digest, *row.digests))


_TRUTHS: dict[str, Matcher] = {
    "containers": lambda row: row.containers > 0,
    "dangling": lambda row: not row.names,
    "intermediate": lambda _row: False,  # an image without a name is dangling: builds keep no steps as images
    "manifest": lambda row: row.is_list,
    "readonly": lambda row: row.read_only,
}
_MAKERS: dict[str, Callable[[Database, list[str]], Matcher]] = {
    "after": lambda db, values: _created(db, values, after=True),
    "before": lambda db, values: _created(db, values, after=False),
    "digest": _digest,
    "id": _id,
    "label": _label,
    "label!": _no_label,
    "reference": _reference,
    "since": lambda db, values: _created(db, values, after=True),
    "until": _until,
}
