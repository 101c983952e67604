"""Named and anonymous volumes: directories that outlive containers.

Weight: `storage.database`, `rootless.values`; `storage.removal` where one is removed.  Making and listing need no
mapped ids; removing does, because containers write with theirs.
"""

from __future__ import annotations

import os
import time

from rootless.errors import Error, NotFound, UsageError
from rootless.values import Value, dumps, loads
from storage.blobs import no_room
from storage.database import Database
from storage.rfc3339 import format_local_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

# Exit statuses of `volume rm` (podman-volume-rm(1), Exit Status).
EXIT_NO_SUCH_VOLUME = 1
EXIT_VOLUME_IN_USE = 2

_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_REST = _FIRST | frozenset("_.-")
_COLUMNS = "name, driver, created_ns, anonymous, needs_copy_up, labels, options"


class Volume(Value):
    """One volume.  needs_copy_up: no container has used it yet, so the image's files are to be copied into it."""

    name: str
    driver: str = "local"
    created_ns: int = 0
    anonymous: bool = False
    needs_copy_up: bool = True
    labels: dict[str, str] = {}
    options: dict[str, str] = {}
    containers: tuple[str, ...] = ()  # ids of those that have it


class VolumeInUseError(Error):
    """The volume has containers; `containers` are their ids."""

    def __init__(self, name: str, containers: tuple[str, ...]) -> None:
        super().__init__(
            f"volume {name} is being used by container {', '.join(c[:12] for c in containers)}",
            hint="remove the container first, or use --force to remove both",
            exit_code=EXIT_VOLUME_IN_USE,
        )
        self.containers = containers


def check_name(name: str) -> str:
    """`name` where it can name a volume.  Raises UsageError."""
    if not name or name[0] not in _FIRST or not _REST.issuperset(name) or len(name) > 255:
        raise UsageError(f"invalid volume name {name[:100]!r}", hint="[a-zA-Z0-9][a-zA-Z0-9_.-]* is expected")
    return name


def check_options(options: dict[str, str]) -> dict[str, str]:
    """The driver options where they can be put in force; UsageError names one that cannot.  Only o=uid=N,gid=N is."""
    for name, value in options.items():
        if name in ("type", "device"):
            raise UsageError(
                f"volume option {name}={value} is not supported",
                hint="mount a host directory with -v, or memory with --tmpfs, when the container is made",
            )
        if name != "o":
            raise UsageError(f"unknown volume option {name!r}")
        for part in value.split(","):
            key, _, number = part.partition("=")
            if key not in ("uid", "gid") or not number.isdecimal():
                raise UsageError(f"volume option o={part} is not supported", hint="o=uid=N,gid=N is")
    return options


class VolumeStore:
    """The volumes of one store."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.paths = db.paths

    def ensure(
        self,
        name: str,
        *,
        anonymous: bool = False,
        labels: dict[str, str] | None = None,
        options: dict[str, str] | None = None,
    ) -> Volume:
        """The volume, made where it does not exist.  Raises UsageError, Error."""
        check_name(name)
        found = self.find(name)
        return found if found is not None else self._make(name, anonymous, labels or {}, options or {})

    def create(self, name: str, labels: dict[str, str] | None = None, options: dict[str, str] | None = None) -> Volume:
        """A new volume.  Raises Error where the name is taken, UsageError."""
        check_name(name)
        check_options(options or {})
        if self.find(name) is not None:
            raise Error(f"volume {name} already exists")
        return self._make(name, False, labels or {}, options or {})

    def _make(self, name: str, anonymous: bool, labels: dict[str, str], options: dict[str, str]) -> Volume:
        check_options(options)
        with self.db.transaction():
            found = self.find(name)
            if found is not None:  # another process was faster
                return found
            try:
                if os.path.lexists(self.paths.volume(name)):
                    # No row names it: a process was killed while it removed the volume of that name.
                    os.rename(self.paths.volume(name), self._trash(name))
                os.mkdir(self.paths.volume(name), 0o700)
                data = self.paths.volume_data(name)
                os.mkdir(data, 0o755)
                os.chmod(data, 0o755)
                self._own(data, options)
            except OSError as error:
                raise no_room(error, f"cannot make volume {name}") from error
            volume = Volume(name=name, created_ns=time.time_ns(), anonymous=anonymous, labels=labels, options=options)
            self.db.execute(
                f"INSERT INTO volumes ({_COLUMNS}) VALUES (?,?,?,?,?,?,?)",
                (name, "local", volume.created_ns, int(anonymous), 1, dumps(labels), dumps(options)),
            )
        self.db.tell("volume", "create", name=name)
        return volume

    def _own(self, data: str, options: dict[str, str]) -> None:
        wanted = dict(part.split("=", 1) for part in options.get("o", "").split(",") if part)
        if wanted:
            os.chown(data, int(wanted.get("uid", -1)), int(wanted.get("gid", -1)))

    def find(self, name: str) -> Volume | None:
        """The volume of exactly this name."""
        rows = self._rows("WHERE name = ?", (name,))
        return rows[0] if rows else None

    def get(self, name: str) -> Volume:
        """The volume with this name, or the only one whose name begins so.  Raises NotFound, Error."""
        found = self.find(name)
        if found is not None:
            return found
        rows = self._rows("WHERE substr(name, 1, ?) = ?", (len(name), name)) if name else ()
        if len(rows) > 1:
            raise Error(f"volume name {name} is ambiguous: {', '.join(r.name for r in rows[:5])}")
        if not rows:
            raise NotFound(f"no volume with name {name!r} found", exit_code=EXIT_NO_SUCH_VOLUME)
        return rows[0]

    def list(self) -> tuple[Volume, ...]:
        """All volumes, in the order in which they were made."""
        return self._rows("", ())

    def _rows(self, where: str, args: Sequence[object]) -> tuple[Volume, ...]:
        users: dict[str, list[str]] = {}
        of = "" if not where else f" WHERE volume_name IN (SELECT name FROM volumes {where})"
        for name, container in self.db.query(f"SELECT volume_name, container_id FROM container_volumes{of}", args):
            users.setdefault(name, []).append(container)
        return tuple(
            Volume(
                name=r[0],
                driver=r[1],
                created_ns=r[2],
                anonymous=bool(r[3]),
                needs_copy_up=bool(r[4]),
                labels=loads(r[5]),
                options=loads(r[6]),
                containers=tuple(users.get(r[0], ())),
            )
            for r in self.db.query(f"SELECT {_COLUMNS} FROM volumes {where} ORDER BY created_ns, name", args)
        )

    def mark_used(self, names: Sequence[str]) -> None:
        """A container has been started with these: they are not filled from an image again."""
        marks = ",".join("?" * len(names))
        self.db.execute(f"UPDATE volumes SET needs_copy_up = 0 WHERE needs_copy_up AND name IN ({marks})", names)

    def remove(self, name: str, force: bool = False) -> str:
        """Remove a volume and its files; returns its full name.  Works on a full disk.

        force: one that does not exist is no error ("" is returned).  Raises NotFound (exit status 1),
        VolumeInUseError (2): with --force the caller removes the containers that it names and calls again.
        """
        from storage.removal import remove_store_directory

        def take() -> str:
            try:
                volume = self.get(name)
            except NotFound:
                if force:
                    return ""
                raise
            if volume.containers:
                raise VolumeInUseError(volume.name, volume.containers)
            self.db.execute("DELETE FROM volumes WHERE name = ?", (volume.name,))
            return volume.name

        removed = self.db.write(take, frees_space=True)
        if removed:
            self.db.tell("volume", "remove", name=removed)
            trash = self._trash(removed)
            try:
                os.rename(self.paths.volume(removed), trash)
            except FileNotFoundError:
                return removed
            except OSError:
                trash = self.paths.volume(removed)
            remove_store_directory(trash)
        return removed

    def _trash(self, name: str) -> str:
        # A dot cannot begin a volume's name; `storage.gc` removes what is left of these.
        return f"{self.paths.volumes}/.removed-{os.urandom(6).hex()}-{name[:100]}"

    def inspect(self, name: str) -> dict[str, Any]:
        """The JSON object of `volume inspect`, with Podman's keys (it has no lock to number).  Raises NotFound."""
        volume = self.get(name)
        (mounted,) = self.db.one(
            "SELECT count(*) FROM container_volumes v JOIN containers c ON c.id = v.container_id"
            " WHERE v.volume_name = ? AND c.status IN ('running', 'paused', 'stopping')",
            (volume.name,),
        ) or (0,)
        return {
            "Name": volume.name,
            "Driver": volume.driver,
            "Mountpoint": self.paths.volume_data(volume.name),
            "CreatedAt": format_local_ns(volume.created_ns),
            "Labels": volume.labels,
            "Scope": "local",
            "Options": volume.options,
            **({"Anonymous": True} if volume.anonymous else {}),
            "MountCount": mounted,
            "NeedsCopyUp": volume.needs_copy_up,
            "NeedsChown": volume.needs_copy_up,
        }
