"""Maps of a container's own user namespace: keep-id, nomap, auto, and those that are written out.

Weight: `pyctl.engine.model`, `rootless.errors`.  Ids outside count in the engine's user namespace, where 0 is the
caller and 1 … are the caller's subordinate range: that is the parent whose ids the kernel wants in uid_map.
"""

from __future__ import annotations

from pyctl.engine.model import IdRange
from rootless.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.engine.model import UserNamespace

AUTO_SIZE = 1024  # ids of --userns=auto, unless the container's user has a higher one
NO_RANGE_HINT = (
    "an administrator can add subordinate ids with:"
    " usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER"
)
_COUNTING = "outside ids count from 0 (you) through your subordinate range, 1 … N"


def is_nested(userns: UserNamespace) -> bool:
    """Does the container get a user namespace of its own, inside the engine's?"""
    return userns.mode in ("keep-id", "nomap", "auto", "map")


def keep_id_map(own: int, count: int) -> tuple[IdRange, ...]:
    """`own` inside is the caller; all other ids inside are the caller's subordinate ones, in order.

    count: ids that the engine's namespace maps, from 0 on.
    """
    below = min(own, count - 1)
    rows = []
    if below:
        rows.append(IdRange(inside=0, outside=1, size=below))
    rows.append(IdRange(inside=own, outside=0, size=1))
    above = count - 1 - below
    if above:
        rows.append(IdRange(inside=own + 1, outside=below + 1, size=above))
    return tuple(rows)


def nomap_map(count: int) -> tuple[IdRange, ...]:
    """Everything but the caller's own id.  Raises Error where there is nothing else."""
    if count < 2:
        raise Error("--userns=nomap needs subordinate ids, and this account has none", hint=NO_RANGE_HINT)
    return (IdRange(inside=0, outside=1, size=count - 1),)


def free_range(
    size: int, ranges: tuple[tuple[int, int], ...], taken: tuple[IdRange, ...], option: str = "--userns=auto"
) -> IdRange:
    """`size` ids in a row that no other container has, lowest first.

    ranges: (first, count) of the ids that may be given away, as the engine's namespace counts them.  taken: what all
    other containers of --userns=auto have.  Raises Error where no gap is large enough.
    """
    for first, count in ranges:
        start, end = first, first + count
        for other in sorted(taken, key=lambda r: r.outside):
            if other.outside + other.size <= start:
                continue
            if other.outside - start >= size:
                break
            start = other.outside + other.size
        if start + size <= end:
            return IdRange(inside=0, outside=start, size=size)
    raise Error(
        f"{option}: no {size} unused ids in a row among the {sum(count for _, count in ranges)} of this account",
        hint="remove a container that has some, or ask for fewer with --userns=auto:size=N"
        if any(count >= size for _, count in ranges)
        else NO_RANGE_HINT,
    )


def common_ranges(one: tuple[tuple[int, int], ...], other: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """The (first, count) of what is in both."""
    found = []
    for first, count in one:
        for begin, length in other:
            low, high = max(first, begin), min(first + count, begin + length)
            if low < high:
                found.append((low, high - low))
    return tuple(found)


def check_map(rows: tuple[IdRange, ...], count: int, option: str) -> None:
    """Raise Error where rows overlap, inside or outside, or name ids that the engine's namespace does not have."""
    for index, row in enumerate(rows):
        if row.outside + row.size > count:
            raise Error(
                f"{option} {row.inside}:{row.outside}:{row.size}: goes beyond the {count} ids that are mapped here",
                hint=_COUNTING if count > 1 else NO_RANGE_HINT,
            )
        for other in rows[:index]:
            if _overlap(row.inside, other.inside, row, other) or _overlap(row.outside, other.outside, row, other):
                raise Error(
                    f"{option} {row.inside}:{row.outside}:{row.size}: overlaps"
                    f" {other.inside}:{other.outside}:{other.size}"
                )


def extended(rows: tuple[IdRange, ...], count: int) -> tuple[IdRange, ...]:
    """`rows` (those with `+` among them) over an identity map of all `count` ids, which they cut pieces out of.

    What a row takes outside no longer stands where it stood; ids that no row names stay themselves where they can.
    """
    base = [IdRange(inside=0, outside=0, size=count)]
    for row in rows:
        base = [piece for old in base for piece in _without(old, row)]
    return tuple(sorted((*rows, *base), key=lambda r: r.inside))


def _without(old: IdRange, cut: IdRange) -> list[IdRange]:
    """What is left of `old` when the ids of `cut`, inside and outside, are taken."""
    pieces = [(old.inside, old.outside, old.size)]
    for side, start in ((0, cut.inside), (1, cut.outside)):
        kept = []
        for piece in pieces:
            low, high = piece[side], piece[side] + piece[2]
            for first, last in ((low, min(high, start)), (max(low, start + cut.size), high)):
                if first < last:
                    kept.append((piece[0] + first - low, piece[1] + first - low, last - first))
        pieces = kept
    return [IdRange(inside=i, outside=o, size=n) for i, o, n in pieces]


def _overlap(one: int, two: int, row: IdRange, other: IdRange) -> bool:
    return one < two + other.size and two < one + row.size


def outside_id(inside: int, rows: tuple[IdRange, ...]) -> int:
    """The id in the engine's namespace for one inside; -1 where it is not mapped."""
    for row in rows:
        if row.inside <= inside < row.inside + row.size:
            return row.outside + inside - row.inside
    return -1


def id_maps(
    userns: UserNamespace, uid: int, gid: int, uid_count: int, gid_count: int
) -> tuple[tuple[IdRange, ...], tuple[IdRange, ...]]:
    """The rows of uid_map and gid_map; both () where the container lives in the engine's namespace.

    uid, gid: the caller's, on the host.  For "auto" the stored ranges hold, which were chosen at create.
    """
    mode = userns.mode
    if mode == "keep-id":
        own_uid = userns.keep_uid if userns.keep_uid >= 0 else uid
        own_gid = userns.keep_gid if userns.keep_gid >= 0 else gid
        if userns.size:
            uid_count, gid_count = min(uid_count, userns.size + 1), min(gid_count, userns.size + 1)
        return keep_id_map(own_uid, uid_count), keep_id_map(own_gid, gid_count)
    if mode == "nomap":
        return nomap_map(uid_count), nomap_map(gid_count)
    if mode in ("auto", "map"):
        option = "--userns=auto" if mode == "auto" else "--uidmap"
        check_map(userns.uid_map, uid_count, option)
        check_map(userns.gid_map, gid_count, option.replace("uid", "gid"))
        return userns.uid_map, userns.gid_map
    return (), ()
