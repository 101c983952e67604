"""An engine whose home is a small disk: a tmpfs in a session of `pyctl unshare`, with as much room as a test wants.

The kernel itself says ENOSPC, for blocks and for inodes; no root is needed, and the disk ends with the session.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.support.engine import Engine, Result
from tests.support.requirements import program

_PAGE = 4096
_ROOMY = 400 << 20


class SmallDisk(Engine):
    """`disk("run", …)` as of any engine; `room(…)` sets how much is free, `keep()` and `restore()` the content."""

    def __init__(self) -> None:
        super().__init__()
        self._session = super().spawn(
            *("unshare", "sh", "-c", 'mount -t tmpfs -o size="$1" disk "$2" && echo ready && read line'),
            *("sh", str(_ROOMY), str(self.home)),
        )
        self.started.remove(self._session)
        assert self._session.stdout is not None
        assert self._session.stderr is not None
        assert self._session.stdout.readline() == b"ready\n", self._session.stderr.read()
        enter = (program("nsenter"), "-t", str(self._session.pid), "-U", "-m", "-S0", "-G0", "--")
        self._enter = enter
        self._kept = self.base / "kept"
        self._kept.mkdir()
        (self.base / "tmp").mkdir()
        self.env |= {"_PYCTL_ROOTLESS_UID": str(os.getuid()), "TMPDIR": f"{self.home}/tmp"}
        self.shell('mount -t tmpfs kept "$1"', str(self._kept))
        self.shell('mkdir "$1"', f"{self.home}/tmp")

    def spawn(self, *args: Any, prefix: tuple[str, ...] = (), **options: Any) -> subprocess.Popen[bytes]:
        return super().spawn(*args, prefix=(*self._enter, *prefix), **{"cwd": "/", **options})

    def shell(self, script: str, *args: str) -> str:
        """Run a shell's commands in the session; returns what they print."""
        done = subprocess.run(
            [*self._enter, "sh", "-euc", script, "sh", *args], env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{script}\n{done.stderr}"
        return done.stdout

    @property
    def inside(self) -> Path:
        """The disk as this process sees it."""
        return self._seen(self.home)

    def _seen(self, path: Path) -> Path:
        return Path(f"/proc/{self._session.pid}/root{path}")

    def room(self, pages: int | None = None, inodes: int | None = None, where: Path | None = None) -> None:
        """Leave so many pages of 4 KiB and inodes free; None: enough.  where: another tmpfs of the session."""
        where = where or self.home
        held = os.statvfs(self._seen(where))
        size = _ROOMY if pages is None else (held.f_blocks - held.f_bfree + pages) * _PAGE
        files = 100_000 if inodes is None else held.f_files - held.f_ffree + inodes
        self.shell('mount -o "remount,size=$1,nr_inodes=$2" "$3"', str(size), str(files), str(where))

    def keep(self) -> None:
        """What is on the disk now is what `restore` brings back."""
        self.shell('cp -a "$1/." "$2/"', str(self.home), str(self._kept))

    def restore(self) -> None:
        self.room()
        self.shell('find "$1" -mindepth 1 -delete; cp -a "$2/." "$1/"', str(self.home), str(self._kept))

    def close(self) -> None:
        self.end_started()
        self("rm", "-f", "-a", "-t", "0", status=None)
        self._session.communicate()  # its `read` ends, and the disk with it
        shutil.rmtree(self.base, ignore_errors=True)


def told(result: Result) -> str:
    """The one line of an error; AssertionError where there are others, or a traceback."""
    assert "Traceback" not in result.err, result.err
    assert "internal error" not in result.err, result.err
    lines = [line for line in result.err.splitlines() if not line.startswith("hint: ")]
    assert len(lines) == 1, result.err
    return lines[0]
