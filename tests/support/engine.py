"""The engine as a user calls it: a command line with a home, a storage root and a runtime folder of its own.

`PYCTL` in the environment names another command (an installed pyctl, or a podman to compare with).
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.processes import descendants
from tests.support.terminal import Terminal
from tests.support.waiting import wait_until

TOP = Path(__file__).resolve().parents[2]
COMMAND = shlex.split(os.environ["PYCTL"]) if "PYCTL" in os.environ else [sys.executable, str(TOP / "bin" / "pyctl")]
IS_PODMAN = any(os.path.basename(word).startswith("podman") for word in COMMAND)

# Short, because a unix socket's path has 108 bytes (unix(7)).
TEMPORARY = os.environ.get("PYCTL_TEST_TMP", "/var/tmp")


class Result(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """stdout without the last newline."""
        return self.out.removesuffix("\n")


class Engine:
    """`engine("run", "--rm", …)`; every process that it starts is ended by `close()`."""

    def __init__(self, base: str | None = None) -> None:
        self.base = Path(base or tempfile.mkdtemp(prefix="pt-", dir=TEMPORARY))
        self.home = self.base / "home"
        self.runtime = self.base / "run"
        for folder in (self.home, self.runtime):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.env = {
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "USER": os.environ.get("USER", ""),
            "LANG": "C.UTF-8",
            "TERM": "xterm",
        }
        self.started: list[subprocess.Popen[Any]] = []

    @property
    def storage_root(self) -> Path:
        return self.home / ".local/share/pyctl"

    @property
    def runtime_root(self) -> Path:
        return self.runtime / "pyctl"

    def environment(self, changes: dict[str, str | None] | None) -> dict[str, str]:
        merged: dict[str, str | None] = {**self.env, **(changes or {})}
        return {name: value for name, value in merged.items() if value is not None}

    def __call__(
        self,
        *args: str | os.PathLike[str] | bytes,
        status: int | None = 0,
        stdin: str | bytes | int | None = None,
        env: dict[str, str | None] | None = None,
        timeout_s: float = 60,
        cwd: str | os.PathLike[str] | None = None,
        pass_fds: tuple[int, ...] = (),
        prefix: tuple[str, ...] = (),
    ) -> Result:
        """Runs one command to its end and checks its exit status (None: any)."""
        given = stdin.encode() if isinstance(stdin, str) else stdin
        process = self.spawn(
            *args,
            stdin=subprocess.PIPE if isinstance(given, bytes) else given if given is not None else subprocess.DEVNULL,
            env=env,
            cwd=cwd,
            pass_fds=pass_fds,
            prefix=prefix,
        )
        try:
            out, err = process.communicate(given if isinstance(given, bytes) else None, timeout=timeout_s)
        except subprocess.TimeoutExpired as late:
            process.send_signal(signal.SIGKILL)
            raise AssertionError(
                f"{shown(args)}: still running after {timeout_s} s\n{late.stdout!r}\n{late.stderr!r}"
            ) from None
        finally:
            self.started.remove(process)
        result = Result(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))
        if status is not None and result.status != status:
            raise AssertionError(
                f"{shown(args)}: status {result.status}, expected {status}\n"
                f"--- stdout\n{result.out}\n--- stderr\n{result.err}"
            )
        return result

    def spawn(
        self,
        *args: str | os.PathLike[str] | bytes,
        env: dict[str, str | None] | None = None,
        prefix: tuple[str, ...] = (),
        **options: Any,
    ) -> subprocess.Popen[bytes]:
        """Starts a command and leaves it running; its three streams are pipes unless said."""
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        options["cwd"] = options.get("cwd") or self.home
        process = subprocess.Popen([*prefix, *COMMAND, *args], env=self.environment(env), **options)
        self.started.append(process)
        return process

    def terminal(self, *args: str, rows: int = 24, columns: int = 80) -> Terminal:
        """Starts a command on a terminal of its own."""
        terminal = Terminal([*COMMAND, *args], self.environment(None), rows, columns, cwd=self.home)
        self.started.append(terminal.process)
        return terminal

    def json(self, *args: str) -> Any:
        return json.loads(self(*args).out)

    def inspect(self, container: str) -> Any:
        return self.json("inspect", container)[0]

    def state(self, container: str) -> str:
        return self("inspect", "-f", "{{.State.Status}}", container).line

    def wait_state(self, container: str, state: str, deadline_s: float = 15) -> None:
        wait_until(lambda: self.state(container) == state, deadline_s, f"{container} is {state}")

    def wait_log(self, container: str, text: str, deadline_s: float = 15) -> str:
        def probe() -> str:
            result = self("logs", container)
            return (text in result.out + result.err and result.out + result.err) or ""

        return wait_until(probe, deadline_s, f"{text!r} in the log of {container}", 0.05)

    def container_dirs(self) -> list[str]:
        folder = self.storage_root / "containers"
        return sorted(os.listdir(folder)) if folder.is_dir() else []

    def end_started(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()
        self.started.clear()

    def remove_containers(self) -> None:
        """What a test left, so that the next one starts with nothing."""
        self.end_started()
        self("rm", "-f", "-a", "-t", "0")

    def close(self) -> None:
        """Ends and deletes everything.  Files of mapped ids go through a user namespace of their owner."""
        self.end_started()
        self("rm", "-f", "-a", "-t", "0", status=None)
        subprocess.run(
            ["unshare", "--user", "--map-root-user", "--map-auto", "rm", "-rf", str(self.base)],
            env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
            stderr=subprocess.DEVNULL,
            check=False,
        )
        shutil.rmtree(self.base, ignore_errors=True)


def runtime_entries(folder: Path) -> list[str]:
    """Folders of living containers below the runtime root (names of 64 hex digits)."""
    return sorted(n for n in os.listdir(folder) if len(n) == 64) if folder.is_dir() else []


def supervisors() -> list[int]:
    """The engine's long-lived processes below this one, by the module that they run."""
    return [p.pid for p in descendants() if "rootless.supervisor" in p.command or "supervisor" in p.command]


def shown(args: tuple[Any, ...]) -> str:
    return "pyctl " + " ".join(shlex.quote(os.fsdecode(arg)) for arg in args)
