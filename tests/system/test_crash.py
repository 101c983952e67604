"""kill -9, full disks, broken stores: what a user finds afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.engine import COMMAND, IS_PODMAN, Engine
from tests.support.processes import Process, alive, descendants
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(IS_PODMAN, reason="about pyctl's supervisor")


def supervisor_of(engine: Engine, container: str) -> Process:
    """The process of the engine that is a parent of the container's first one."""
    pid = engine.inspect(container)["State"]["Pid"]
    table = {p.pid: p for p in descendants()}
    process = table[pid]
    while process.ppid in table:
        process = table[process.ppid]
    return process


def kill_supervisor(engine: Engine, container: str) -> list[int]:
    """SIGKILL to it; the pids of all that must end with it."""
    supervisor = supervisor_of(engine, container)
    dependants = [p.pid for p in descendants(supervisor.pid)]
    os.kill(supervisor.pid, signal.SIGKILL)
    return [supervisor.pid, *dependants]


def test_the_container_dies_with_its_supervisor(engine: Engine) -> None:
    engine(
        "run",
        "-d",
        "--name",
        "c",
        "--network=slirp4netns",
        "-p",
        "80",
        "busybox",
        "sh",
        "-c",
        "sleep 1000 & sleep 1000",
    )
    session = engine.spawn("exec", "c", "sleep", "1000")
    wait_until(lambda: len(engine("exec", "c", "ps").out.splitlines()) > 4)
    doomed = kill_supervisor(engine, "c")
    wait_until(lambda: not [pid for pid in doomed if alive(pid)], what=f"all of {doomed} end")
    assert session.wait(10) != 0
    assert engine.state("c") == "exited"
    state = engine.inspect("c")["State"]
    assert state["ExitCode"] != 0
    assert state["Error"], "the reason is told"
    assert engine("ps", "-a", "--format", "{{.Names}} {{.Status}}").line.startswith("c Exited (")


def test_start_works_again(engine: Engine) -> None:
    engine("run", "-d", "--name", "c", "busybox", "sh", "-c", "echo run >> /runs; sleep 1000")
    wait_until(lambda: engine("exec", "c", "cat", "/runs", status=None).out)
    kill_supervisor(engine, "c")
    wait_until(lambda: engine.state("c") == "exited")
    engine("start", "c")
    assert engine.state("c") == "running"
    wait_until(lambda: engine("exec", "c", "cat", "/runs").out == "run\nrun\n")
    engine("stop", "-t", "0", "c")
    engine("rm", "c")


def test_the_others_go_on(engine: Engine) -> None:
    """The user namespace is shared; the supervisor that made it is not needed for it."""
    for name in ("first", "second", "third"):
        engine("run", "-d", "--name", name, "--network=none", "busybox", "sleep", "1000")
    kill_supervisor(engine, "first")
    wait_until(lambda: engine.state("first") == "exited")
    assert engine("exec", "second", "echo", "alive").line == "alive"
    engine("run", "-d", "--name", "fourth", "--network=none", "busybox", "sleep", "1000")
    for name in ("second", "third"):
        kill_supervisor(engine, name)
    assert engine("exec", "fourth", "echo", "alive").line == "alive"


def test_an_attached_run_returns(engine: Engine) -> None:
    process = engine.spawn("run", "--name", "c", "busybox", "sh", "-c", "echo ready; sleep 1000")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    kill_supervisor(engine, "c")
    assert process.wait(10) != 0


def test_rm_container_of_a_killed_supervisor_goes(engine: Engine) -> None:
    engine("run", "-d", "--rm", "--name", "c", "busybox", "sleep", "1000")
    kill_supervisor(engine, "c")
    wait_until(lambda: engine("ps", "-aq", "--filter", "name=c").out == "")
    engine("run", "--rm", "--name", "c", "busybox", "true")


@pytest.mark.parametrize("victim", ["slirp4netns", "fuse-overlayfs"])
def test_a_killed_helper_is_no_leak(engine: Engine, victim: str) -> None:
    engine("run", "-d", "--name", "c", "--network=slirp4netns", "busybox", "sleep", "1000")
    helpers = [p for p in descendants(supervisor_of(engine, "c").pid) if victim in p.command]
    if not helpers:
        pytest.skip(f"this driver starts no {victim}")
    for helper in helpers:
        os.kill(helper.pid, signal.SIGKILL)
    engine("rm", "-f", "-t", "0", "c")


@pytest.mark.parametrize("after_ms", [5, 10, 15, 20, 25, 30, 40, 50, 70])
def test_a_run_killed_on_its_way(engine: Engine, after_ms: int) -> None:
    """At whatever step the command dies: no process stays that nobody knows of, and the name is usable again."""
    process = engine.spawn("run", "--name", "c", "--network=slirp4netns", "busybox", "sleep", "1000")
    try:
        process.wait(after_ms / 1000)
    except subprocess.TimeoutExpired:
        process.kill()
    process.wait()

    def known() -> bool:
        # Either it came to be, and shows, or nothing of it is there.
        running = engine("ps", "-q", "--filter", "name=c").out
        return bool(running) or not [p for p in descendants() if "sleep 1000" in p.command]

    wait_until(known)
    engine("rm", "-f", "-t", "0", "c")
    assert engine("run", "--rm", "--name", "c", "--network=none", "busybox", "echo", "again").line == "again"


def test_a_reboot(engine: Engine) -> None:
    """All processes gone and the runtime folder with them, as after a power cut."""
    engine("run", "-d", "--name", "c", "-v", "data:/data", "busybox", "sh", "-c", "echo x >> /data/f; sleep 1000")
    wait_until(lambda: engine("exec", "c", "cat", "/data/f", status=None).out)
    doomed = kill_supervisor(engine, "c")
    wait_until(lambda: not [pid for pid in doomed if alive(pid)])
    subprocess.run(["rm", "-rf", str(engine.runtime_root)], check=True)
    assert engine.state("c") == "exited"
    engine("start", "c")
    wait_until(lambda: engine("exec", "c", "cat", "/data/f").out == "x\nx\n")
    engine("stop", "-t", "0", "c")


def full_disk_script(engine: Engine, commands: str) -> str:
    """Runs shell commands where the storage root is a small tmpfs: in a user namespace with a mount of its own."""
    folder = engine.storage_root
    folder.mkdir(parents=True, exist_ok=True)
    script = f"mount -t tmpfs -o size=24m,mode=0700 tmpfs {folder}\n{commands}"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--map-auto", "--mount", "bash", "-c", script],
        env={**engine.environment(None), "TOP": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr


def test_a_full_disk(fresh: Engine, busybox_tar: Path) -> None:
    """Nothing half-made is kept, the reason is told, and removing still works."""
    pyctl = " ".join(COMMAND)
    root = f"--root {fresh.storage_root}"
    commands = f"""
    export XDG_RUNTIME_DIR={fresh.runtime}
    P="{pyctl} {root}"
    $P import -q {busybox_tar} box >/dev/null && echo imported
    head -c 64m /dev/zero > {fresh.storage_root}/filler 2>/dev/null
    $P import -q {busybox_tar} second; echo "second: $?"
    $P create --name c box true; echo "create: $?"
    $P images -q | wc -l
    $P rmi -f box; echo "rmi: $?"
    rm {fresh.storage_root}/filler
    $P import -q {busybox_tar} third >/dev/null && echo "third imported"
    $P ps -aq | wc -l
    """
    out = full_disk_script(fresh, commands)
    assert "imported" in out, out
    assert "second: 125" in out, out
    assert "No space left" in out or "full" in out, out
    assert "rmi: 0" in out, out
    assert "third imported" in out, out
    assert "Traceback" not in out, out


def test_a_commit_on_a_full_disk(fresh: Engine, busybox_tar: Path) -> None:
    pyctl = " ".join(COMMAND)
    commands = f"""
    export XDG_RUNTIME_DIR={fresh.runtime}
    P="{pyctl} --root {fresh.storage_root}"
    $P import -q {busybox_tar} box >/dev/null && echo imported
    $P run --name c --network=none box sh -c 'head -c 4m /dev/urandom > /big'; echo "run: $?"
    head -c 64m /dev/zero > {fresh.storage_root}/filler 2>/dev/null
    $P commit -q c made; echo "commit: $?"
    $P images -q | wc -l
    $P system check; echo "check: $?"
    rm {fresh.storage_root}/filler
    $P commit -q c made > /dev/null; echo "again: $?"
    $P rm c; $P rmi -f box made >/dev/null; echo "rmi: $?"
    """
    out = full_disk_script(fresh, commands)
    lines = out.splitlines()
    assert {"imported", "run: 0", "commit: 125", "1", "check: 0", "again: 0", "rmi: 0"} <= set(lines), out
    assert "No space left" in out, out
    assert "Traceback" not in out, out


def test_a_damaged_database_is_told(fresh: Engine, busybox_tar: Path) -> None:
    fresh("import", "-q", busybox_tar, "box")
    [database] = fresh.storage_root.rglob("state.db")
    for stale in database.parent.glob("state.db-*"):
        stale.unlink()
    database.write_bytes(b"this is no database" * 1000)
    result = fresh("ps", "-a", status=125)
    assert "state.db" in result.err
    assert "Traceback" not in result.err


def test_the_storage_root_of_somebody_else(fresh: Engine) -> None:
    result = fresh("--root", "/proc", "ps", status=125)
    assert "/proc" in result.err


def test_prune_takes_what_an_interrupted_removal_left(engine: Engine) -> None:
    engine("run", "-d", "--name", "living", "--network=none", "busybox", "sleep", "1000")
    engine("run", "--name", "ended", "--network=none", "busybox", "true")
    kept = engine.inspect("living")["Id"]
    left = engine.storage_root / "containers" / ("0" * 64)
    (left / "upper" / "etc").mkdir(parents=True)
    (left / "lock").touch()
    engine("container", "prune", "-f")
    assert engine.container_dirs() == [kept]
    assert engine("exec", "living", "echo", "alive").line == "alive"
