"""Whether containers outlive the login that they were started from: systemd's lingering.

Weight: `os`, `rootless.idmap`; looked at once for each login, whose mark goes with the runtime directory.

With the last session of a user who does not linger, systemd-logind ends the user's manager, with all scopes and
services below it, and removes /run/user/UID (logind.conf(5), KillUserProcesses; loginctl(1), enable-linger).
"""

from __future__ import annotations

import os

from rootless.idmap import user_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.engine.engine import Engine

_MARK = "linger-told"  # in the runtime root


def lingers(name: str, root: str = "/") -> bool:
    """Whether the user's manager lives from boot on."""
    return os.path.exists(f"{root}var/lib/systemd/linger/{name}")


def ends_with_session(uid: int, name: str, root: str = "/") -> bool:
    """Whether what this process starts ends with its user's last login session.

    A batch job, cron or a system service is no session: they are not below the user's slice.
    """
    if uid == 0 or not os.path.isdir(f"{root}run/systemd/system") or lingers(name, root):
        return False
    try:
        with open(f"{root}proc/self/cgroup", encoding="ascii", errors="surrogateescape") as file:
            return f"/user-{uid}.slice/" in file.read()
    except OSError:
        return False


def warn_once(engine: Engine) -> None:
    """After a container was started in the background: the first one of a login says how to keep it."""
    mark = f"{engine.runtime_root}/{_MARK}"
    if os.path.exists(mark):
        return
    try:
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError:
        pass  # then it is said again
    name = user_name(engine.uid)
    if ends_with_session(engine.uid, name):
        engine.warn(f"containers end with your last login session; to keep them: loginctl enable-linger {name}")
