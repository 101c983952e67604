"""--pid, --ipc, --uts, --cgroupns, --userns and the id maps of a container.

Weight: `pyctl.engine.model`, `.users_maps` where ids are mapped.
"""

from __future__ import annotations

from pyctl.engine.model import IdRange, UserNamespace
from pyctl.engine.request_facts import refused
from pyctl.engine.request_network import namespace_path
from pyctl.engine.request_text import is_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.engine.request_facts import Lookups, Options, RequestFacts

_EXTRA = {"ipc": ("shareable", "none")}
_SETTINGS = {"pid": "pidns", "ipc": "ipcns", "uts": "utsns", "cgroupns": "cgroupns"}  # option → containers.conf
_MAX_ID = 2**32 - 2
AUTO_ACCOUNT = "containers"  # whose ids --userns=auto takes for root; the name that Podman reserves for it


def namespace_mode(field: str, options: Options, facts: RequestFacts, lookups: Lookups) -> str:
    """`field`: "pid", "ipc", "uts", "cgroupns".  "private", "host", "container:<full id>", "ns:/path", …"""
    word: str = options.get(field) or getattr(facts.defaults, _SETTINGS[field])
    option = "--" + field
    kind, _, rest = word.partition(":")
    extra = _EXTRA.get(field, ())
    if word in ("private", "host", *extra):
        return word
    if kind == "container":
        if not rest:
            raise refused(option, word, "needs a container: container:NAME")
        return "container:" + lookups.container_id(rest)
    if kind == "ns":
        return "ns:" + namespace_path(option, word, rest)
    raise refused(option, word, f"must be {', '.join(('private', 'host', *extra))}, container:NAME or ns:PATH")


def user_namespace(options: Options, facts: RequestFacts, lookups: Lookups, user: str) -> UserNamespace:
    """--userns, or the rows of --uidmap and --gidmap.  user: for the size of auto."""
    by_hand = {f: options.get(f) for f in ("uidmap", "gidmap", "subuidname", "subgidname") if options.get(f)}
    word: str = options.get("userns") or ""
    if by_hand:
        if word:
            other = "--" + next(iter(by_hand))
            raise refused(
                "--userns", word, f"cannot be combined with {other}", hint="the maps alone make a user namespace"
            )
        return _mapped(options, facts)
    word = word or facts.defaults.userns or "host"
    kind, _, rest = word.partition(":")
    if word == "host":
        return UserNamespace()
    if word == "nomap":
        if not facts.uid:
            raise refused("--userns", word, "is for users other than root", hint="use --userns=auto, or --uidmap")
        _need_range(word, facts)
        return UserNamespace(mode="nomap")
    if kind == "keep-id":
        return _keep_id(word, rest)
    if kind == "auto":
        return _auto(word, rest, facts, lookups, user)
    if kind in ("container", "ns"):
        raise refused("--userns", word, "a user namespace that is there already cannot be joined yet")
    if word == "private":
        raise refused("--userns", word, "needs maps", hint="give --uidmap and --gidmap, or use --userns=auto")
    raise refused("--userns", word, "must be host, keep-id[:uid=N,gid=N], auto[:size=N] or nomap")


def _need_range(word: str, facts: RequestFacts) -> None:
    if facts.uid_count < 2 or facts.gid_count < 2:
        from pyctl.engine.users_maps import NO_RANGE_HINT

        raise refused("--userns", word, "needs subordinate ids, and this account has none", hint=NO_RANGE_HINT)


def _keep_id(word: str, text: str) -> UserNamespace:
    ids = {"uid": -1, "gid": -1, "size": 0}
    for part in text.split(",") if text else ():
        name, equals, number = part.partition("=")
        if name not in ids or not equals:
            raise refused("--userns", word, f"unknown option {part!r}: keep-id takes uid=N, gid=N and size=N")
        if not is_number(number) or int(number) > _MAX_ID:
            raise refused("--userns", word, f"{part}: must be a number from 0 to {_MAX_ID}")
        ids[name] = int(number)
    return UserNamespace(mode="keep-id", keep_uid=ids["uid"], keep_gid=ids["gid"], size=ids["size"])


def _auto(word: str, text: str, facts: RequestFacts, lookups: Lookups, user: str) -> UserNamespace:
    from pyctl.engine.users_maps import AUTO_SIZE, free_range

    _need_range(word, facts)
    name, _, group = user.partition(":")
    highest = max((int(p) for p in (name, group) if is_number(p)), default=0)
    size = max(AUTO_SIZE, highest + 1)
    for part in text.split(",") if text else ():
        key, equals, number = part.partition("=")
        if key in ("uidmapping", "gidmapping"):
            raise refused(
                "--userns", word, f"{key} is not built yet", hint="write the whole map with --uidmap and --gidmap"
            )
        if key != "size" or not equals:
            raise refused("--userns", word, f"unknown option {part!r}: auto takes size=N")
        if not is_number(number) or not 1 <= int(number) <= _MAX_ID:
            raise refused("--userns", word, f"{part}: must be a number from 1 on")
        size = int(number)
    row = free_range(size, _auto_ranges(word, facts), lookups.taken_ids())
    return UserNamespace(mode="auto", uid_map=(row,), gid_map=(row,), size=size)


def _auto_ranges(word: str, facts: RequestFacts) -> tuple[tuple[int, int], ...]:
    """The ids that --userns=auto may give away, those that are uids and gids."""
    if facts.uid:
        return ((1, min(facts.uid_count, facts.gid_count) - 1),)
    # Root has every id of the machine, and most are somebody's: it takes what the administrator has set aside.
    from pyctl.engine.users_maps import common_ranges
    from rootless.idmap import subid_advice, subordinate_ranges

    uids, gids = (tuple(subordinate_ranges(0, AUTO_ACCOUNT, groups)) for groups in (False, True))
    found = common_ranges(uids, gids)
    if not found:
        hint = subid_advice(AUTO_ACCOUNT)
        raise refused("--userns", word, f"as root it takes ids of the name {AUTO_ACCOUNT} in /etc/subuid", hint)
    return found


# --- --uidmap, --gidmap --------------------------------------------------------------------------


def _mapped(options: Options, facts: RequestFacts) -> UserNamespace:
    """The rows of both maps; the one that is not given is a copy of the other, as in Podman."""
    from pyctl.engine.users_maps import check_map, extended

    rows: dict[str, list[IdRange]] = {"u": [], "g": []}
    extend = {"u": False, "g": False}
    given = {"u": bool(options.get("uidmap")), "g": bool(options.get("gidmap"))}
    for own, field in (("u", "uidmap"), ("g", "gidmap")):
        for word in options.get(field) or ():
            flags, row = map_row(f"--{field}", word, facts, own)
            # Without a flag, a row of --uidmap is for uids, and for gids as well where --gidmap is not given.
            kinds = [k for k in "ug" if k in flags] or [own, *(k for k in "ug" if not given[k])]
            for kind in kinds:
                rows[kind].append(row)
                extend[kind] = extend[kind] or "+" in flags
    for kind, field, count in (("u", "subuidname", facts.uid_count), ("g", "subgidname", facts.gid_count)):
        if options.get(field):
            raise refused(f"--{field}", options.get(field), "the ranges of another name cannot be mapped")
        if extend[kind]:
            rows[kind] = list(extended(tuple(rows[kind]), count))
    check_map(tuple(rows["u"]), facts.uid_count, "--uidmap")
    check_map(tuple(rows["g"]), facts.gid_count, "--gidmap")
    return UserNamespace(mode="map", uid_map=tuple(rows["u"]), gid_map=tuple(rows["g"]))


def map_row(option: str, word: str, facts: RequestFacts, kind: str) -> tuple[str, IdRange]:
    """`[+ug]INSIDE:[@]OUTSIDE[:SIZE]` → (flags, row).  @: an id of the host, else one of the engine's namespace."""
    body = word.lstrip("+ug")
    flags = word[: len(word) - len(body)]
    parts = body.split(":")
    if len(parts) not in (2, 3):
        raise refused(option, word, "must be INSIDE:OUTSIDE[:SIZE]")
    inside, outside, size = parts[0], parts[1], parts[2] if len(parts) == 3 else "1"
    on_host = outside.startswith("@")
    outside = outside[1:] if on_host else outside
    for number in (inside, outside, size):
        if not is_number(number) or int(number) > _MAX_ID:
            raise refused(option, word, f"{number!r} must be a number from 0 to {_MAX_ID}")
    if int(size) == 0:
        raise refused(option, word, "the size must be at least 1")
    first = int(outside)
    if on_host:
        first = _from_host(first, int(size), facts, kind)
        if first < 0:
            raise refused(
                option, word, f"the host's id {outside} is not yours to map", hint="see /etc/subuid and /etc/subgid"
            )
    return flags, IdRange(inside=int(inside), outside=first, size=int(size))


def _from_host(number: int, size: int, facts: RequestFacts, kind: str) -> int:
    """The id in the engine's namespace for one of the host, -1 where `size` from there on are not all mapped."""
    own, ranges = (facts.uid, facts.subuid_ranges) if kind == "u" else (facts.gid, facts.subgid_ranges)
    if number == own and size == 1:
        return 0
    inside = 1
    for first, count in ranges:
        if first <= number and number + size <= first + count:
            return inside + number - first
        inside += count
    return -1
