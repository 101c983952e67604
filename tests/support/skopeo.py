"""skopeo: another reader and writer of images, with no policy and no logins of the machine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.support.requirements import program


def skopeo(*args: str, home: Path, gnupg: Path | None = None) -> str:
    """What it prints.  gnupg: the home of gpg's keys."""
    argv = [program("skopeo"), "--insecure-policy", *args]
    env = {"HOME": str(home), "PATH": os.environ["PATH"], "TMPDIR": "/var/tmp", "XDG_RUNTIME_DIR": str(home)}
    if gnupg is not None:
        env["GNUPGHOME"] = str(gnupg)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
