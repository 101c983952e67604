"""Containers as services of a real systemd: started, restarted, killed, stopped, shown.

Needs a host with systemd, cgroup v2 and delegated controllers (contrib/testhost); skipped elsewhere.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless import cgroup_facts
from tests.cgroup.units import RUNTIME, show, systemctl
from tests.support.engine import Engine
from tests.support.units import write
from tests.support.waiting import wait_until

HERE = cgroup_facts.detect(os.environ, os.getuid())
pytestmark = pytest.mark.skipif(
    not HERE.systemd or not {"cpu", "memory", "pids"} <= set(HERE.systemd_controllers),
    reason="needs cgroup v2, a systemd user manager and delegated controllers (contrib/testhost)",
)
LONG_S = 60  # system calls cost forty times as much there
# As a server does: runs until it is told to stop, and then ends by itself.
SERVER = 'Exec=sh -c "trap \\"exit 0\\" TERM; while :; do sleep 1 & wait; done"\n'
CONTAINER = f"[Container]\nImage=busybox\nPull=never\nNetwork=none\nPodmanArgs=--stop-timeout=20\n{SERVER}"
ALWAYS = "[Service]\nRestart=always\nRestartSec=0\n"


def status(unit: str) -> str:
    return systemctl("status", "--no-pager", "--full", "--lines=30", unit, status=None)


class Host:
    """The caller's user manager, with an engine whose storage is a test's own.

    Units go where they belong, into the caller's unit folders, and are removed afterwards.
    """

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        home = Path(os.environ.get("HOME", "/"))
        self.config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        self.env: dict[str, str | None] = {"XDG_CONFIG_HOME": str(self.config), "XDG_RUNTIME_DIR": str(RUNTIME)}
        self.globals = ("--root", str(engine.storage_root), "--runroot", str(engine.runtime_root))

    def pyctl(self, *words: str | os.PathLike[str], status: int | None = 0) -> str:
        """A command that finds the user's manager; units that it makes have the engine's storage."""
        result = self.engine(*self.globals, *words, env=self.env, status=status, timeout_s=120)
        return result.out + result.err

    def install(self, files: dict[str, str]) -> None:
        write(self.folder, files)
        self.pyctl("quadlet", "install", "--replace", *(self.folder / name for name in files if "/" not in name))

    def main_pid(self, unit: str) -> int:
        """The main process of a service that is up; 0 while it is not."""
        return int(show(unit, "MainPID")) if show(unit, "ActiveState") == "active" else 0

    def container_pid(self, name: str) -> int:
        """The container's first process; 0 while it does not run."""
        result = self.engine("inspect", "-f", "{{.State.Pid}}", name, status=None)
        return int(result.line) if result.status == 0 and result.line.isdecimal() else 0

    def new_pids(self, unit: str, name: str, old: tuple[int, int]) -> tuple[int, int]:
        """(main process, container's first process) once both are others than before."""

        def probe() -> tuple[int, int] | None:
            main = self.main_pid(unit)
            if not main or main in old:
                return None
            pids = (main, self.container_pid(name))
            return pids if pids[1] and pids[1] not in old else None

        found = wait_until(probe, LONG_S, f"{unit} runs (again)", 0.2)
        assert found is not None
        return found


@pytest.fixture
def host(engine: Engine, tmp_path: Path) -> Iterator[Host]:
    made = Host(engine, tmp_path)
    before = set(made.config.rglob("*"))
    yield made
    units = [p for p in (made.config / "systemd/user").glob("*.service") if p not in before]
    for unit in units:
        if "@." not in unit.name:
            systemctl("stop", unit.name, status=None)
    for path in sorted(set(made.config.rglob("*")) - before, reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    systemctl("daemon-reload")
    systemctl("reset-failed")


def lives_through_it_all(host: Host, unit: str, container: str) -> None:
    """Must-hold: restart, a killed container, a killed supervisor, a clean stop; `status` shows the processes."""
    systemctl("start", unit)
    pids = host.new_pids(unit, container, (0, 0))
    assert host.engine("inspect", "-f", '{{index .Config.Labels "PODMAN_SYSTEMD_UNIT"}}', container).line == unit
    shown = status(unit)
    assert f"Main PID: {pids[0]} " in shown
    assert f"─{pids[1]} " in shown, shown
    assert "sleep" in shown
    cgroup = Path(f"/proc/{pids[1]}/cgroup").read_text()
    assert f"/{unit}/" in cgroup

    systemctl("restart", unit)
    pids = host.new_pids(unit, container, pids)
    os.kill(pids[1], 9)
    pids = host.new_pids(unit, container, pids)
    os.kill(pids[0], 9)
    pids = host.new_pids(unit, container, pids)

    systemctl("stop", unit)
    assert show(unit, "ActiveState") == "inactive", status(unit)
    assert show(unit, "Result") == "success"
    assert host.engine("ps", "-aq").out == ""
    for pid in pids:
        wait_until(lambda pid=pid: not os.path.exists(f"/proc/{pid}"), 10, f"{pid} has ended")  # type: ignore[misc]
    assert not Path(f"/sys/fs/cgroup{cgroup.strip()[3:]}").exists()


def test_a_service_of_quadlet(host: Host) -> None:
    host.install({"t-web.container": CONTAINER + ALWAYS})
    assert "inactive/dead" in host.pyctl("quadlet", "list")
    lives_through_it_all(host, "t-web.service", "systemd-t-web")


def test_a_service_of_generate_systemd(host: Host) -> None:
    script = 'trap "exit 0" TERM; while :; do sleep 1 & wait; done'
    host.pyctl("create", "--name", "t-made", "--network=none", "--restart=always", "busybox", "sh", "-c", script)
    text = host.pyctl("generate", "systemd", "--new", "--name", "--restart-sec=0", "t-made")
    host.pyctl("rm", "t-made")
    write(host.config, {"systemd/user/container-t-made.service": text})
    systemctl("daemon-reload")
    lives_through_it_all(host, "container-t-made.service", "t-made")


def test_an_existing_container_as_a_service(host: Host) -> None:
    host.engine(
        "create", "--name", "t-old", "--network=none", "busybox", "sh", "-c", 'trap "exit 0" TERM; sleep 1000 & wait'
    )
    write(host.config, {"systemd/user/t-old.service": host.pyctl("generate", "systemd", "--name", "t-old")})
    systemctl("daemon-reload")
    systemctl("start", "t-old.service")
    wait_until(lambda: host.container_pid("t-old"), LONG_S, "it runs")
    systemctl("stop", "t-old.service")
    assert show("t-old.service", "Result") == "success", status("t-old.service")
    assert host.engine.state("t-old") == "exited"
    host.engine("rm", "t-old")


def test_what_a_container_needs_is_started_before_it(host: Host) -> None:
    host.install(
        {
            "t-web.container": CONTAINER.replace("[Container]", "[Container]\nVolume=t-data.volume:/d"),
            "t-data.volume": "[Volume]\nVolumeName=t-data\nLabel=a=b\n",
        }
    )
    systemctl("start", "t-web.service")
    shown = host.pyctl("quadlet", "list", "--format", "{{.Name}} {{.UnitName}} {{.Status}}")
    assert shown.splitlines() == [
        "t-data.volume t-data-volume.service active/exited",
        "t-web.container t-web.service active/running",
    ]
    assert [mount["Name"] for mount in host.engine.inspect("systemd-t-web")["Mounts"]] == ["t-data"]
    (volume,) = host.engine.json("volume", "inspect", "t-data")
    assert volume["Labels"] == {"a": "b"}
    # the unit that waits for the network has nothing to wait for here, and was not in the way
    assert show("pyctl-network-online.service", "ActiveState") == "active"
    assert "t-web.service is active" in host.pyctl("quadlet", "rm", "t-web", status=125)
    assert host.pyctl("quadlet", "rm", "--force", "t-web", "t-data").splitlines() == [
        "t-web.container",
        "t-data.volume",
    ]
    assert show("t-web.service", "LoadState") == "not-found"
    assert host.engine("ps", "-aq").out == ""
    host.engine("volume", "rm", "t-data")


def test_a_oneshot_runs_to_its_end(host: Host) -> None:
    text = (
        '[Container]\nImage=busybox\nPull=never\nNetwork=none\nExec=sh -c "echo out; exit 3"\n[Service]\nType=oneshot\n'
    )
    host.install({"t-once.container": text})
    systemctl("start", "t-once.service", status=None)
    assert show("t-once.service", "Result") == "exit-code"
    assert show("t-once.service", "ExecMainStatus") == "3"
    assert host.engine("ps", "-aq").out == ""


def test_an_instance_of_a_template(host: Host) -> None:
    host.install({"t-many@.container": CONTAINER.replace("[Container]", "[Container]\nEnvironment=WHO=%i")})
    systemctl("start", "t-many@one.service")
    assert host.engine("exec", "systemd-t-many_one", "sh", "-c", "echo $WHO").line == "one"
    systemctl("stop", "t-many@one.service")
    assert show("t-many@one.service", "Result") == "success"


ODD = r'''"a=b c%% \"q\" it's \\ $$X \x41 ; é"'''


def test_systemd_finds_nothing_to_say(host: Host) -> None:
    """systemd-analyze knows every line of what is made, odd names and all."""
    odd = host.folder / "a b%"
    write(
        odd,
        {
            "t-odd.volume": f"[Volume]\nLabel={ODD}\n[Install]\nWantedBy=default.target\n",
            "i.image": "[Image]\nImage=x.org/y\n",
        },
    )
    host.pyctl("quadlet", "install", odd)
    names = [str(host.config / "systemd/user" / name) for name in ("t-odd-volume.service", "i-image.service")]
    ended = subprocess.run(
        ["systemd-analyze", "--user", "verify", "--man=no", *names],
        env={"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(RUNTIME)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert show("t-odd-volume.service", "UnitFileState") == "enabled"
    systemctl("start", "t-odd-volume.service")
    assert (
        host.engine("volume", "inspect", "-f", "{{.Labels.a}}", "systemd-t-odd").line == """b c% "q" it's \\ $X A ; é"""
    )
    host.engine("volume", "rm", "systemd-t-odd")
