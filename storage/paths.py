"""Where everything lies: the only module that knows the storage root's layout.

Weight: `os`, `rootless.fds`, `rootless.values`, `storage.digest`.

    <root>/state.db            SQLite: containers, images, layers, volumes, networks
    <root>/reserve             space that is given back so that a delete works on a full disk
    <root>/events.log[.1]      what happened (rootless.events)
    <root>/lock                shared while something is added, exclusive to collect garbage
    <root>/state.lock          the queue of those who write to the database
    <root>/blobs/sha256/<hex>  (sha512 too) manifests, configurations and layers as they came, by digest
    <root>/partial/            downloads that are not complete, and lock files
    <root>/layers/<24 hex>/    an unpacked layer; the short name lets 127 lower directories, relative to layers/,
                               fit the one page that mount(2) passes
    <root>/layers/tmp-*/       a layer that is being unpacked: nothing names it
    <root>/containers/<id>/    log, exit record, overlay directories
    <root>/volumes/<name>/_data
    <root>/mounts/<image id>/  where `image mount` mounts it; mounts/containers/<id>/ where `mount` does
"""

from __future__ import annotations

import os

from rootless.errors import Error, os_error_text
from rootless.fds import read_file
from rootless.values import Value
from storage.digest import split

# File systems that cannot hold the store: they refuse files of mapped ids or trusted permissions, or share one
# directory between machines, which SQLite's write-ahead log and flock(2) do not survive.  Names as in
# /proc/self/mountinfo; every FUSE file system counts too (fuse, fuseblk, fuse.sshfs …).
_UNFIT_TYPES = frozenset(
    ("nfs", "nfs4", "lustre", "gpfs", "cifs", "smb3", "smbfs", "afs", "ceph", "9p", "beegfs", "panfs", "pvfs2",
     "orangefs", "glusterfs", "vboxsf", "vfat", "exfat", "msdos", "ntfs", "ntfs3", "ncpfs", "coda", "wekafs")
)  # fmt: skip
_POINTER = "location"  # in the usual root: names the local directory that was taken in its place


class StorePaths:
    """The layout below one storage root; every path absolute.  Nothing is made by asking for a path."""

    __slots__ = (
        "blobs", "containers", "database", "database_lock", "events_log", "layers", "lock", "mounts", "partial",
        "reserve", "root", "volumes",
    )  # fmt: skip

    def __init__(self, root: str) -> None:
        self.root = root
        self.database = root + "/state.db"
        self.database_lock = root + "/state.lock"
        self.events_log = root + "/events.log"
        self.reserve = root + "/reserve"
        self.lock = root + "/lock"
        self.blobs = root + "/blobs"
        self.partial = root + "/partial"
        self.layers = root + "/layers"
        self.containers = root + "/containers"
        self.volumes = root + "/volumes"
        self.mounts = root + "/mounts"

    def blob(self, digest: str) -> str:
        """The file of a complete blob.  Raises DigestError before a path is made of anything else."""
        algorithm, digits = split(digest)
        return f"{self.blobs}/{algorithm}/{digits}"

    def partial_blob(self, digest: str) -> str:
        """The file that an incomplete download of a blob grows in.  Raises DigestError."""
        algorithm, digits = split(digest)
        return f"{self.partial}/{algorithm}-{digits}"

    def layer(self, directory: str) -> str:
        """An unpacked layer's directory, by the name in its row: an absolute path where it is another store's."""
        return directory if directory.startswith("/") else f"{self.layers}/{directory}"

    def container(self, container_id: str) -> str:
        """A container's own directory."""
        return f"{self.containers}/{container_id}"

    def volume(self, name: str) -> str:
        """A volume's directory; its content is in `_data` below."""
        return f"{self.volumes}/{name}"

    def container_mount(self, container_id: str) -> str:
        """Where `mount` mounts a container's root, in a session of unshare."""
        return f"{self.mounts}/containers/{container_id}"

    def volume_data(self, name: str) -> str:
        """What is mounted for a volume."""
        return f"{self.volumes}/{name}/_data"

    def prepare(self) -> None:
        """Make the root (0700) and its directories where they are missing.  Raises Error."""
        try:
            os.makedirs(self.root, 0o700, exist_ok=True)
            blobs = (f"{self.blobs}/sha256", f"{self.blobs}/sha512")
            for directory in (*blobs, self.partial, self.layers, self.containers, self.volumes):
                os.makedirs(directory, 0o700, exist_ok=True)
        except OSError as error:
            raise Error(
                os_error_text(error, f"cannot make the storage root {self.root}"),
                hint="choose another with --root or `root` in pyctl.conf",
            ) from error


class RootChoice(Value):
    """Where the store is.  `note`: a sentence for the user, given only when the place was chosen anew."""

    root: str
    note: str = ""


def filesystem_type(path: str, proc: str = "/proc") -> str:
    """The type, as mountinfo names it, of the file system that `path` is or would be made on; "" unknown."""
    while not os.path.lexists(path) and path not in ("/", ""):
        path = os.path.dirname(path)
    real = os.path.realpath(path)
    best, found = -1, ""
    # By the longest mount point, not by st_dev: btrfs gives each subvolume a device number of its own.
    for line in read_file(f"{proc}/self/mountinfo").decode("utf-8", "surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        point = _unescape(left.split(" ")[4])
        if len(point) >= best and (point in ("/", real) or real.startswith(point + "/")):
            best, found = len(point), right.split(" ")[0]
    return found


def _unescape(text: str) -> str:
    # mountinfo writes space, tab, newline and backslash as \ooo (proc_pid_mountinfo(5)).
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def unfit_reason(path: str, proc: str = "/proc") -> str:
    """Why the store cannot live at `path`, by its file system; "" where it can."""
    try:
        kind = filesystem_type(path, proc)
    except OSError:
        return ""  # no /proc: nothing is known against it
    if kind in _UNFIT_TYPES or kind.startswith("fuse"):
        return f"{kind} cannot hold files of mapped ids or a locked database"
    return ""


def locate_root(
    home: str, uid: int, *, configured: str = "", data_home: str = "", local: str = "", proc: str = "/proc"
) -> RootChoice:
    """Choose the storage root of `uid` (its own view: call it before entering a user namespace).

    configured: --root or the configuration's; data_home: $XDG_DATA_HOME; local: the directory to take where the
    home is on a network file system (default /var/tmp/pyctl-UID).  Raises Error where none will do.
    """
    if configured:
        if not os.path.isabs(configured):
            raise Error(f"storage root {configured} is not an absolute path")
        if not os.path.exists(f"{configured}/state.db") and (reason := unfit_reason(configured, proc)):
            raise Error(f"storage root {configured}: {reason}", hint="name a directory on a local disk")
        return RootChoice(root=configured)
    if uid == 0:
        return RootChoice(root="/var/lib/pyctl")
    usual = f"{data_home or home + '/.local/share'}/pyctl"
    if os.path.exists(f"{usual}/state.db"):
        return RootChoice(root=usual)
    local = local or f"/var/tmp/pyctl-{uid}"
    try:
        pointed = read_file(f"{usual}/{_POINTER}", limit=4096).decode("utf-8", "surrogateescape").strip()
    except OSError:
        pointed = ""
    reason = "" if pointed else unfit_reason(usual, proc)
    if not pointed and not reason:
        return RootChoice(root=usual)
    return _local_root(usual, pointed or local, uid, reason, proc)


def _local_root(usual: str, local: str, uid: int, reason: str, proc: str) -> RootChoice:
    """Take `local`, make it where it is missing (another machine of the cluster), and remember it in `usual`."""
    hint = "set `root` in pyctl.conf to a directory on a local disk that is yours"
    if not os.path.isabs(local):
        raise Error(f"{usual}/{_POINTER} holds {local[:100]!r}, which is not an absolute path", hint=hint)
    try:
        os.makedirs(os.path.dirname(local), 0o755, exist_ok=True)
        try:
            os.mkdir(local, 0o700)
        except FileExistsError:
            pass
        # In /var/tmp anybody could have made this name first, or a link of it.
        held = os.lstat(local)
    except OSError as error:
        raise Error(os_error_text(error, f"cannot make the storage root {local}"), hint=hint) from error
    if held.st_mode & 0o170000 != 0o040000 or held.st_uid != uid or held.st_mode & 0o022:
        raise Error(f"storage root {local} is not a directory that only you can write to", hint=hint)
    if unfit := unfit_reason(local, proc):
        raise Error(f"storage root {local}: {unfit}", hint=hint)
    if not reason:
        return RootChoice(root=local)
    note = f"{usual}: {reason}; images and containers are kept in {local} on this machine instead"
    try:
        os.makedirs(usual, 0o700, exist_ok=True)
        with open(f"{usual}/{_POINTER}", "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(local + "\n")
    except OSError:
        pass  # a home that cannot be written is asked again next time
    return RootChoice(root=local, note=note)
