"""Which ids a user may map: own id, ranges of /etc/subuid and /etc/subgid, or of nsswitch by getsubids(1).

Weight: `os` only (`pwd` where the user's name is needed).
"""

from __future__ import annotations

import os

from rootless.errors import EXIT_CANNOT_INVOKE, LaunchError
from rootless.fds import read_all, read_file
from rootless.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class IdRow(Value):
    """One line of uid_map or gid_map (user_namespaces(7)): `count` ids from `inside` and `outside` on."""

    inside: int
    outside: int
    count: int


class IdMap(Value):
    """The maps of the engine's user namespace.  `single`: no range is there, only the caller's own id is mapped."""

    uids: tuple[IdRow, ...]
    gids: tuple[IdRow, ...]
    single: bool = False


def parse_subid(text: str, name: str, number: int) -> list[tuple[int, int]]:
    """The (first, count) ranges of one user in subuid(5) text; malformed lines are passed over, as shadow does."""
    found = []
    for line in text.splitlines():
        parts = line.split(":")
        if len(parts) == 3 and parts[0] in (name, str(number)) and parts[1].isdecimal() and parts[2].isdecimal():
            first, count = int(parts[1]), int(parts[2])
            if count > 0 and first + count <= 0xFFFFFFFF:
                found.append((first, count))
    return found


def _read_text(path: str) -> str:
    try:
        return read_file(path).decode("utf-8", "replace")
    except OSError:
        return ""


def _nsswitch_has_subid(etc: str) -> bool:
    return any(line.strip().startswith("subid:") for line in _read_text(f"{etc}/nsswitch.conf").splitlines())


def _getsubids(name: str, groups: bool) -> list[tuple[int, int]]:
    # Directories (LDAP, IPA) answer through nsswitch only, which shadow's getsubids reads: "0: alice 100000 65536".
    argv = ["getsubids", *(["-g"] if groups else []), name]
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)])
    except OSError:
        os.close(reader)
        return []
    finally:
        os.close(writer)
    try:
        text = read_all(reader).decode("utf-8", "replace")
    finally:
        os.close(reader)
        os.waitpid(pid, 0)
    rows = [line.split() for line in text.splitlines()]
    return [(int(r[-2]), int(r[-1])) for r in rows if len(r) >= 4 and r[-2].isdecimal() and r[-1].isdecimal()]


def user_name(uid: int) -> str:
    """The account's name; the number as text where the system knows none."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def subordinate_ranges(uid: int, name: str, groups: bool, etc: str = "/etc") -> list[tuple[int, int]]:
    """All (first, count) ranges that `name` owns, from the files or, where those are not asked, by getsubids(1)."""
    if _nsswitch_has_subid(etc) and (found := _getsubids(name, groups)):
        return found
    return parse_subid(_read_text(f"{etc}/{'subgid' if groups else 'subuid'}"), name, uid)


def _rows(own: int, ranges: list[tuple[int, int]]) -> tuple[IdRow, ...]:
    rows = [IdRow(inside=0, outside=own, count=1)]
    inside = 1
    # The kernel takes 340 lines (user_namespaces(7)); newuidmap's argument list ends sooner than that.
    for first, count in ranges[:64]:
        rows.append(IdRow(inside=inside, outside=first, count=count))
        inside += count
    return tuple(rows)


def host_id_map(uid: int, gid: int, etc: str = "/etc") -> IdMap:
    """The map of this user's namespace: own id → 0, subordinate ranges from 1 on; single where there are none."""
    name = user_name(uid)
    uid_ranges = subordinate_ranges(uid, name, False, etc)
    gid_ranges = subordinate_ranges(uid, name, True, etc)
    if not uid_ranges or not gid_ranges:
        return IdMap(uids=_rows(uid, []), gids=_rows(gid, []), single=True)
    return IdMap(uids=_rows(uid, uid_ranges), gids=_rows(gid, gid_ranges))


def mapped_size(rows: tuple[IdRow, ...]) -> int:
    """How many ids are mapped, counted from 0 on inside."""
    return max((r.inside + r.count for r in rows), default=0)


def read_map(which: str = "uid", proc: str = "/proc/self") -> tuple[IdRow, ...]:
    """The current user namespace's map, which: "uid" | "gid"."""
    rows = []
    for line in read_file(f"{proc}/{which}_map").split(b"\n"):
        parts = line.split()
        if len(parts) == 3:
            rows.append(IdRow(inside=int(parts[0]), outside=int(parts[1]), count=int(parts[2])))
    return tuple(rows)


def subid_advice(name: str, etc: str = "/etc") -> str:
    """What to tell a user without ranges: the administrator's exact line, with ids that nobody has yet."""
    taken = [100000]
    for line in (_read_text(f"{etc}/subuid") + "\n" + _read_text(f"{etc}/subgid")).splitlines():
        parts = line.split(":")
        if len(parts) == 3 and parts[1].isdecimal() and parts[2].isdecimal():
            taken.append(int(parts[1]) + int(parts[2]))
    first = max(taken)
    command = f"usermod --add-subuids {first}-{first + 65535} --add-subgids {first}-{first + 65535} {name}"
    if not any(line.startswith(f"{name}:") for line in _read_text(f"{etc}/passwd").splitlines()):
        # An account of a directory (LDAP, IPA), which usermod does not know.
        command = f"echo {name}:{first}:65536 | tee -a /etc/subuid /etc/subgid"
    return f"an administrator can add ranges with: {command}"


class ContainerIds:
    """Ids in a container and what they are in this process's user namespace.

    linux: config.json's `linux`; without maps the container lives in this very namespace.
    """

    def __init__(self, linux: dict[str, Any]) -> None:
        self._rows = {
            kind: tuple(
                IdRow(inside=r["containerID"], outside=r["hostID"], count=r["size"])
                for r in linux.get(f"{kind}Mappings", ())
            )
            or tuple(row.replace(outside=row.inside) for row in read_map(kind))
            for kind in ("uid", "gid")
        }

    def outside(self, kind: str, number: int) -> int:
        """The id out here, kind: "uid" | "gid"; -1 where it is not mapped."""
        for row in self._rows[kind]:
            if row.inside <= number < row.inside + row.count:
                return row.outside + number - row.inside
        return -1

    def need(self, kind: str, number: int, name: str = "") -> int:
        """`outside`, or LaunchError with what helps.  name: the user's or group's."""
        found = self.outside(kind, number)
        if found >= 0:
            return found
        from rootless.userns import host_uid

        what = f"{'user' if kind == 'uid' else 'group'} id {number}{f' ({name})' if name else ''}"
        count = sum(row.count for row in self._rows[kind])
        if mapped_size(read_map(kind)) == 1:
            text = f"{what} is not there: without subordinate ids a container has one id only"
            hint = f"{subid_advice(user_name(host_uid()))}; or be that user yourself: --userns=keep-id:{kind}={number}"
        else:
            text = f"{what} is not among the {count} ids that are mapped for the container"
            hint = "map more: --userns=auto:size=N, --uidmap and --gidmap; or name another user"
        raise LaunchError("user", text, hint, EXIT_CANNOT_INVOKE, errno=22)
