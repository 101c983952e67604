"""Root of a machine that may be changed, and the user of it who lingers: commands as either."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
NEEDS_DISPOSABLE_HOST = pytest.mark.skipif(
    os.geteuid() != 0 or os.environ.get("PYCTL_TEST_DISPOSABLE") != "1" or not os.path.isdir("/run/systemd/system"),
    reason="needs root of a machine that may be changed (PYCTL_TEST_DISPOSABLE=1)",
)


def lingering_user() -> pwd.struct_passwd:
    for name in os.listdir("/var/lib/systemd/linger"):
        return pwd.getpwnam(name)
    pytest.skip("no user lingers here")


def run(*argv: str) -> str:
    """As root; stdout."""
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=120).stdout


def as_user(user: pwd.struct_passwd) -> list[str]:
    """The words that precede a command of the user's."""
    env = [f"XDG_RUNTIME_DIR=/run/user/{user.pw_uid}", f"HOME={user.pw_dir}", "PATH=/usr/bin:/bin:/usr/sbin:/sbin"]
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups", "env", "-i", *env]


def pyctl(user: pwd.struct_passwd) -> list[str]:
    """The same, for pyctl with the user's own storage."""
    return [*as_user(user), sys.executable, str(TOP / "bin/pyctl")]


def import_box(user: pwd.struct_passwd) -> None:
    """Makes the image `box`, with busybox as /bin/busybox and nothing else."""
    tree = "mkdir -p t/bin; cp /bin/busybox t/bin/; tar -C t -cf t.tar ."
    subprocess.run([*as_user(user), "sh", "-c", tree], check=True, cwd=user.pw_dir, timeout=60)
    run(*pyctl(user), "import", f"{user.pw_dir}/t.tar", "box")
