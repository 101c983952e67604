"""Where sockets and other files of running containers live: a directory that is surely this user's own.

Weight: `os`.  $XDG_RUNTIME_DIR where it is the user's and closed to others; without it /run/user/UID; without that
a directory below the storage root.  Never silently another one: a container that was started elsewhere is still
known, because its lock is in the storage root (users lost sight of theirs when such a directory changed).
"""

from __future__ import annotations

import os

from rootless.errors import Error, os_error_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def runtime_directory(env: Mapping[str, str], uid: int, configured: str, storage_root: str) -> str:
    """The runtime root, made where it is missing (0700).  Raises Error naming the directory that is not safe."""
    if configured:
        if not os.path.isabs(configured):
            raise Error(f"runtime directory {configured} is not an absolute path")
        return _own(configured, uid)
    if uid == 0 and not env.get("XDG_RUNTIME_DIR"):
        return _own("/run/pyctl", uid)
    given = env.get("XDG_RUNTIME_DIR", "")
    if given:
        reason = _unsafe(given, uid)
        if not reason:
            return _own(f"{given}/pyctl", uid)
        # su and sudo leave another user's directory in the environment: the user's own is next.
    usual = f"/run/user/{uid}"
    if given != usual and not _unsafe(usual, uid):
        return _own(f"{usual}/pyctl", uid)
    return _own(f"{storage_root}/run", uid)


def _unsafe(path: str, uid: int) -> str:
    """Why a directory may not be used; "" where it may."""
    try:
        held = os.stat(path)
    except OSError as error:
        return error.strerror or "missing"
    if held.st_mode & 0o170000 != 0o040000:
        return "not a directory"
    if held.st_uid != uid and not (os.getuid() == 0 and held.st_uid == 0):
        return f"belongs to uid {held.st_uid}"
    return "others may write to it" if held.st_mode & 0o022 else ""


def _own(path: str, uid: int) -> str:
    hint = "name another with --runroot, or log in with a session of your own (ssh, machinectl shell)"
    try:
        os.makedirs(path, 0o700, exist_ok=True)
        held = os.lstat(path)
    except OSError as error:
        raise Error(os_error_text(error, f"cannot make the runtime directory {path}"), hint=hint) from error
    reason = _unsafe(path, uid)
    if held.st_mode & 0o170000 == 0o120000 or reason:
        raise Error(f"runtime directory {path}: {reason or 'is a link'}", hint=hint)
    return path
