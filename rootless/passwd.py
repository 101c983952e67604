"""Who runs in the container: `--user` looked up in the root's own /etc/passwd and /etc/group.

Weight: `os`, `rootless.libc`.  The image writes these files, so they are opened inside the root only, without
blocking, and only if they are regular and of a sane size (CVE-2024-9676: a FIFO or a huge file); a string of
digits is always a uid, never a name (CVE-2026-46680).
"""

from __future__ import annotations

import os
import stat

from rootless import libc
from rootless.errors import Error
from rootless.fds import read_all, write_all
from rootless.values import Value

_MAX_BYTES = 16 << 20
_MAX_ID = 0xFFFFFFFE


class ContainerUser(Value):
    """`groups`: supplementary ones, without `gid`; `asked_groups`: those of them that the image did not choose.

    `home` is "" where passwd has no line for the uid.
    """

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    asked_groups: tuple[int, ...] = ()
    home: str = ""
    name: str = ""


def _read_lines(root_fd: int, path: str) -> list[list[str]]:
    try:
        fd = libc.open_in_root(root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return []
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise Error(f"{path} of the image is not a regular file")
        if info.st_size > _MAX_BYTES:
            raise Error(f"{path} of the image is larger than {_MAX_BYTES >> 20} MiB")
        text = read_all(fd, _MAX_BYTES).decode("utf-8", "replace")
    finally:
        os.close(fd)
    return [line.split(":") for line in text.splitlines() if line and not line.startswith("#")]


def _number(text: str, what: str) -> int:
    value = int(text)
    if value > _MAX_ID:
        raise Error(f"{what} {text} is out of range")
    return value


def _field(row: list[str], index: int) -> int:
    return int(row[index]) if len(row) > index and row[index].isdecimal() and row[index].isascii() else -1


def _is_number(text: str) -> bool:
    return text.isdecimal() and text.isascii()


def _find_group(rows: list[list[str]], wanted: str) -> int:
    if _is_number(wanted):
        return _number(wanted, "group id")
    for row in rows:
        if row[0] == wanted and _field(row, 2) >= 0:
            return _field(row, 2)
    raise Error(f"group {wanted!r} is not in the container's /etc/group", exit_code=126)


def add_missing(
    root_fd: int, user: ContainerUser, name: str, home: str, entry: str = "", group_entry: str = ""
) -> ContainerUser:
    """Give a user without a line in passwd one, and its group one, as `whoami` and ssh want; the user with that home.

    name: "" for the uid as the name.  entry, group_entry: other lines, in which $USERNAME, $UID, $GID, $NAME, $HOME
    and $GROUPNAME, $GID, $USERLIST stand for what is known here.  An image without the files stays so; one that
    cannot be written, too.
    """
    rows = _read_lines(root_fd, "/etc/passwd")
    if not rows or user.name:
        return user
    if not name or not name.isprintable() or ":" in name or any(row[0] == name for row in rows):
        name = str(user.uid)
    if ":" in home or not home.isprintable():
        home = "/"
    line = entry or "$USERNAME:*:$UID:$GID:$NAME:$HOME:/bin/sh"
    known = {"USERNAME": name, "UID": user.uid, "GID": user.gid, "NAME": "container user", "HOME": home}
    if not _append(root_fd, "/etc/passwd", _filled(line, known)):
        return user
    groups = _read_lines(root_fd, "/etc/group")
    if groups and not any(_field(row, 2) == user.gid for row in groups):
        own = str(user.gid) if name == str(user.uid) or any(row[0] == name for row in groups) else name
        known = {"GROUPNAME": own, "GID": user.gid, "USERLIST": ""}
        _append(root_fd, "/etc/group", _filled(group_entry or "$GROUPNAME:x:$GID:$USERLIST", known))
    return user.replace(name=name, home=home)


def _filled(line: str, known: dict[str, object]) -> str:
    """Longer names first: $USERNAME is not $USER."""
    for name in sorted(known, key=len, reverse=True):
        line = line.replace(f"${name}", str(known[name]))
    return line


def _append(root_fd: int, path: str, line: str) -> bool:
    try:
        fd = libc.open_in_root(root_fd, path, os.O_RDWR | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return False
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return False
        size = os.fstat(fd).st_size
        ended = size == 0 or os.pread(fd, 1, size - 1) == b"\n"
        write_all(fd, f"{'' if ended else chr(10)}{line}\n".encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def look_up(root_fd: int, user: str, extra_groups: tuple[str, ...] = ()) -> ContainerUser:
    """Resolve "", "name", "uid", "name:group", "uid:gid" and the names of --group-add.  Raises Error."""
    user_part, _, group_part = user.partition(":")
    passwd = _read_lines(root_fd, "/etc/passwd")
    group = _read_lines(root_fd, "/etc/group")
    row: list[str] | None = None
    if _is_number(user_part) or not user_part:
        uid = _number(user_part or "0", "user id")
        row = next((r for r in passwd if _field(r, 2) == uid), None)
    else:
        row = next((r for r in passwd if r[0] == user_part and _field(r, 2) >= 0), None)
        if row is None:
            raise Error(
                f"user {user_part!r} is not in the container's /etc/passwd",
                hint="name one that the image has, or give a number",
                exit_code=126,
            )
        uid = _field(row, 2)
    gid = max(_field(row, 3), 0) if row else 0
    name = row[0] if row else ""
    groups: list[int] = []
    if group_part:
        gid = _find_group(group, group_part)
    elif name:
        groups = [_field(r, 2) for r in group if len(r) > 3 and name in r[3].split(",") and _field(r, 2) >= 0]
    asked = [_find_group(group, g) for g in extra_groups if g != "keep-groups"]
    groups += asked
    home = row[5] if row and len(row) > 5 else ""
    unique = tuple(dict.fromkeys(g for g in groups if g != gid))
    return ContainerUser(uid=uid, gid=gid, groups=unique, asked_groups=tuple(asked), home=home, name=name)


def names(root_fd: int, path: str) -> dict[int, str]:
    """Number → first name of /etc/passwd or /etc/group in a root; {} where the file is not one to be read."""
    found: dict[int, str] = {}
    try:
        rows = _read_lines(root_fd, path)
    except Error:
        return found
    for row in rows:
        number = _field(row, 2)
        if number >= 0:
            found.setdefault(number, row[0])
    return found
