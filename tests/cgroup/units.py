"""Units of the user's own systemd manager that run the engine under test."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from tests.support.engine import COMMAND, Engine
from tests.support.waiting import wait_until

RUNTIME = Path(f"/run/user/{os.getuid()}")
FOLDER = RUNTIME / "systemd/user"


def systemctl(*args: str, status: int | None = 0) -> str:
    """`systemctl --user`; its output."""
    env = {"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(RUNTIME), "LANG": "C.UTF-8"}
    ended = subprocess.run(
        ["systemctl", "--user", *args], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert status is None or ended.returncode == status, f"systemctl {args}: {ended.stdout}{ended.stderr}"
    return ended.stdout


def show(unit: str, name: str) -> str:
    return systemctl("show", "-P", name, unit).strip()


def wait_active(unit: str, state: str, deadline_s: float = 60) -> None:
    wait_until(lambda: show(unit, "ActiveState") == state, deadline_s, f"{unit} is {state}", 0.2)


class Units:
    """Unit files, written to the manager's runtime directory and removed by `close`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.names: list[str] = []

    def write(self, name: str, text: str) -> str:
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / name).write_text(text)
        self.names.append(name)
        systemctl("daemon-reload")
        return name

    def service(self, name: str, *pyctl: str, settings: str = "", unit: str = "") -> str:
        """A Type=notify service whose command is pyctl with these words."""
        words = " ".join(shlex.quote(word) for word in (*COMMAND, *pyctl))
        for plain, escaped in (("\\", "\\\\"), ("\n", "\\n"), ("%", "%%"), ("$", "$$")):
            words = words.replace(plain, escaped)
        env = "".join(f"Environment={shlex.quote(f'{k}={v}')}\n" for k, v in self.engine.env.items() if v)
        head = f"[Unit]\nStartLimitIntervalSec=0\n{unit}\n[Service]\nType=notify\nDelegate=yes\n{env}"
        return self.write(name, f"{head}ExecStart={words}\nTimeoutStartSec=60\nTimeoutStopSec=30\n{settings}\n")

    def close(self) -> None:
        for name in reversed(self.names):
            systemctl("kill", "--signal=KILL", name, status=None)
            systemctl("stop", name, status=None)
            systemctl("reset-failed", name, status=None)
            (FOLDER / name).unlink()
        systemctl("daemon-reload")
