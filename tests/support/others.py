"""podman and buildah, each with a storage of its own and no process that stays behind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.support.requirements import program


class Other:
    """`podman("pull", …)`; what it prints.  Runs as root of a user namespace that is made for each call.

    It is told that the namespace is its own doing (as `podman unshare` tells its children), or it would leave a process
    behind that holds one.
    """

    def __init__(self, name: str, base: Path) -> None:
        self.base = base
        self.store = f"[vfs@{base}/{name}-store+{base}/{name}-run]"
        self._argv = [
            *(program("unshare"), "--user", "--map-root-user", "--map-auto", "--mount", program(name)),
            *("--root", f"{base}/{name}-store", "--runroot", f"{base}/{name}-run", "--storage-driver", "vfs"),
        ]
        if name == "podman":
            self._argv += ["--tmpdir", f"{base}/{name}-tmp", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]

    def __call__(self, *args: str | Path) -> str:
        env = {
            "HOME": str(self.base),
            "XDG_RUNTIME_DIR": str(self.base),
            "TMPDIR": "/var/tmp",
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
            "_CONTAINERS_USERNS_CONFIGURED": "done",
            "_CONTAINERS_ROOTLESS_UID": str(os.getuid()),
            "_CONTAINERS_ROOTLESS_GID": str(os.getgid()),
        }
        done = subprocess.run([*self._argv, *args], capture_output=True, text=True, env=env, timeout=120, check=False)
        assert done.returncode == 0, f"{args}: {done.stderr}"
        return done.stdout.strip()
