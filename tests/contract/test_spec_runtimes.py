"""What OCI runtimes make of the configurations: each in real namespaces, as an unprivileged user."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyctl.engine.model import ContainerSpec
from pyctl.engine.programs import resource_limits
from pyctl.engine.spec import oci_config
from pyctl.engine.spec_facts import SpecFacts
from pyctl.engine.users_maps import id_maps
from rootless.idmap import host_id_map, mapped_size
from tests.support.requirements import missing, program
from tests.unit.request_support import FACTS, spec

LAUNCHER = Path(__file__).parent / "spec_launch.py"
TOP = Path(__file__).parents[2]
Run = Callable[..., str]


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    """A directory that ids other than the caller's can reach, as those of --userns=nomap and auto must."""
    with tempfile.TemporaryDirectory(prefix="pt-spec-", dir="/var/tmp") as made:
        os.chmod(made, 0o755)
        yield Path(made)


@pytest.fixture(scope="module")
def root(base: Path) -> Path:
    """A root file system of busybox alone."""
    made = base / "root"
    for name in ("bin", "etc", "tmp", "root", "proc", "sys", "dev", "run", "var/tmp", "data"):
        (made / name).mkdir(parents=True)
    shutil.copy(program("busybox"), made / "bin/busybox")
    for applet in (
        "sh",
        "cat",
        "grep",
        "id",
        "ls",
        "hostname",
        "mount",
        "touch",
        "stat",
        "echo",
        "tty",
        "stty",
        "head",
    ):
        (made / "bin" / applet).symlink_to("busybox")
    (made / "data/kept").write_text("from the image\n")
    return made


@pytest.fixture(scope="module", params=["crun", "runc"])
def run(request: pytest.FixtureRequest, base: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """`run("--cap-add", "X", shell="id")`: the command's output; the options are those of `pyctl run`."""
    runtime = program(request.param)
    if os.getuid() == 0:
        missing("an unprivileged user")
    ids = host_id_map(os.getuid(), os.getgid())
    if ids.single:
        missing("subordinate ids")
    files = base / "files"
    files.mkdir(exist_ok=True)
    for name in ("hosts", "resolv.conf", "hostname", ".containerenv"):
        (files / name).write_text(f"the {name}\n")
    held = SpecFacts(
        rootfs=str(root),
        files_dir=str(files),
        uid_count=mapped_size(ids.uids),
        gid_count=mapped_size(ids.gids),
        rlimits=resource_limits(),
        volumes={"data": str(tmp_path_factory.mktemp("volume"))},
        mqueue=Path("/proc/sys/fs/mqueue").exists(),
        host_mqueue=os.path.ismount("/dev/mqueue"),
    )

    def launch(*words: str, shell: str, status: int = 0, facts: SpecFacts = held, host_network: bool = False) -> str:
        made: ContainerSpec = spec(*words, args=("sh", "-c", shell), facts=FACTS.replace(rlimits=facts.rlimits))
        config = oci_config(
            made, facts, *id_maps(made.userns, os.getuid(), os.getgid(), facts.uid_count, facts.gid_count)
        )
        done = subprocess.run(
            [sys.executable, LAUNCHER, runtime, tmp_path_factory.mktemp("b"), "host" if host_network else "new"],
            input=config,
            text=True,
            capture_output=True,
            timeout=30,
            env={**os.environ, "PYTHONPATH": str(TOP)},
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    launch.facts = held  # type: ignore[attr-defined]
    return launch


def mount_line(output: str, path: str) -> str:
    """The last mount on `path`, as the container sees it."""
    lines = [line for line in output.splitlines() if f" {path} " in line]
    assert lines, f"{path} is not mounted:\n{output}"
    return lines[-1]


def options(output: str, path: str) -> set[str]:
    return set(mount_line(output, path).split()[3].split(","))


def test_default(run: Run) -> None:
    shell = "id -u; hostname; cat /etc/hosts /run/.containerenv; grep Cap /proc/self/status; ls /dev; cat /proc/mounts"
    out = run(shell=shell)
    lines = out.splitlines()
    assert lines[:4] == ["0", "0123456789ab", "the hosts", "the .containerenv"]
    assert re.search(r"CapEff:\s+00000000800405fb", out)
    assert re.search(r"CapInh:\s+0000000000000000", out)
    assert {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "fd", "stdin"} <= set(lines)
    assert "ro" in options(out, "/sys")
    assert "ro" in options(out, "/sys/fs/cgroup")
    assert "ro" in options(out, "/proc/sys")
    assert {"noexec", "nosuid", "nodev"} <= options(out, "/dev/shm")
    assert {"nosuid", "nodev", "noexec"} <= options(out, "/proc")


def test_masked_paths_show_nothing(run: Run) -> None:
    assert run(shell="cat /proc/keys /proc/timer_list; ls /sys/firmware /proc/acpi 2>/dev/null; echo .") in (
        "/sys/firmware:\n\n/proc/acpi:\n.\n", "/sys/firmware:\n.\n", "/proc/acpi:\n\n/sys/firmware:\n.\n", ".\n",
    )  # fmt: skip


def test_privileged(run: Run) -> None:
    facts = run.facts.replace(devices=("/dev/fuse",) if Path("/dev/fuse").exists() else ())  # type: ignore[attr-defined]
    out = run(
        "--privileged",
        shell="grep CapEff /proc/self/status; cat /proc/mounts; echo 1 > /proc/sys/net/ipv4/ip_forward",
        facts=facts,
    )
    assert re.search(r"CapEff:\s+000001ffffffffff", out)
    assert "rw" in options(out, "/sys/fs/cgroup")
    if facts.devices:
        assert "/dev/fuse" in out


def test_read_only(run: Run) -> None:
    out = run("--read-only", shell="touch /tmp/a /run/b /var/tmp/c /dev/shm/d && touch /x", status=1)
    assert "Read-only file system" in out
    assert "/x" in out
    run("--read-only", "--read-only-tmpfs=false", shell="touch /tmp/a", status=1)
    run("--read-only", "--read-only-tmpfs=false", shell="touch /dev/shm/a", status=1)


def test_tmpfs(run: Run) -> None:
    out = run("--tmpfs", "/data:size=1m,noexec", shell="cat /data/kept; cat /proc/mounts")
    assert out.startswith("from the image\n")
    assert {"size=1024k", "noexec", "nosuid", "nodev"} <= options(out, "/data")
    out = run("--tmpfs", "/data:notmpcopyup,mode=1770,uid=5", shell="ls /data; stat -c %a:%u /data")
    assert out in ("1770:5\n", "755:5\n"), "runc 1.1 puts the directory's own mode in place of the option's"
    run("--tmpfs", "/data:ro,notmpcopyup", shell="touch /data/x", status=1)


def test_binds(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello\n")
    out = run(
        "-v", f"{tmp_path}:/a", "-v", f"{tmp_path}/file:/etc/hosts:ro", shell="cat /a/file /etc/hosts; touch /a/new"
    )
    assert out == "hello\nhello\n"
    assert (tmp_path / "new").exists()
    run("-v", f"{tmp_path}:/a:ro", shell="touch /a/x", status=1)
    out = run("-v", f"{tmp_path}:/a:noexec,nodev,nosuid", "-v", "data:/v", shell="cat /proc/mounts")
    assert {"noexec", "nodev", "nosuid"} <= options(out, "/a")
    assert {"nodev", "nosuid"} <= options(out, "/v")
    assert "noexec" not in options(out, "/v")


def test_bind_propagation(run: Run, tmp_path: Path) -> None:
    shell = "grep ' /a ' /proc/self/mountinfo"
    assert "master:" in run("-v", f"{tmp_path}:/a:rslave", shell=shell) or "shared" not in run(
        "-v", f"{tmp_path}:/a", shell=shell
    )
    assert "shared:" not in run("-v", f"{tmp_path}:/a", shell=shell)


def test_shared_memory_has_its_size(run: Run) -> None:
    assert "size=2048k" in options(run("--shm-size", "2m", shell="cat /proc/mounts"), "/dev/shm")
    assert "/dev/shm" not in run("--ipc", "none", shell="cat /proc/mounts")


def test_limits(run: Run) -> None:
    out = run("--ulimit", "nofile=50:60", "--ulimit", "core=0", "--oom-score-adj", "77",
              shell="ulimit -Sn; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj")  # fmt: skip
    assert out.split() == ["50", "60", "0", "77"]


def test_umask_and_no_new_privileges(run: Run) -> None:
    out = run("--umask", "077", "--security-opt", "no-new-privileges", shell="umask; grep NoNewPrivs /proc/self/status")
    assert out.split() == ["0077", "NoNewPrivs:", "1"]


def test_sysctls_of_ipc(run: Run) -> None:
    assert run("--sysctl", "kernel.shmmax=12345", shell="cat /proc/sys/kernel/shmmax") == "12345\n"


def test_proc_options(run: Run) -> None:
    out = run("--security-opt", "proc-opts=hidepid=2", "--security-opt", "unmask=ALL", shell="cat /proc/mounts")
    assert options(out, "/proc") & {"hidepid=2", "hidepid=invisible"}
    assert "/proc/keys" not in out
    assert " /proc/sys " not in out


def test_init_is_pid_1(run: Run) -> None:
    facts = run.facts.replace(init_path=program("catatonit"))  # type: ignore[attr-defined]
    name, pid = run("--init", shell="cat /proc/1/comm; echo $$", facts=facts).split()
    assert name == "podman-init"
    assert int(pid) > 1


def test_devices(run: Run) -> None:
    assert run("--device", "/dev/zero:/dev/mine", shell="head -c 3 /dev/mine; stat -c %F /dev/mine").endswith(
        "character special file\n"
    )


@pytest.mark.parametrize("mode", ["keep-id", "nomap", "auto"])
def test_own_user_namespace(run: Run, mode: str) -> None:
    out = run(
        "--userns",
        mode,
        shell="cat /proc/self/uid_map; grep CapEff /proc/self/status; touch /dev/shm/x; cat /proc/mounts",
    )
    rows = [tuple(map(int, line.split())) for line in out.splitlines()[:3] if line.split()[0].isdecimal()]
    if mode == "keep-id":
        assert (os.getuid(), 0, 1) in rows
    else:
        assert rows[0][:2] != (0, 0)
    assert mount_line(out, "/proc").split()[2] == "proc"
    assert "ro" in options(out, "/sys")


def test_own_user_namespace_and_the_hosts_network(run: Run) -> None:
    assert "ro" in options(
        run("--userns", "keep-id", "--network", "host", shell="cat /proc/mounts", host_network=True), "/sys"
    )


def test_everything_of_the_host(run: Run) -> None:
    words = ("--network", "host", "--pid", "host", "--uts", "host", "--ipc", "host", "--cgroupns", "host")
    out = run(*words, shell="hostname; echo $$; cat /proc/mounts", host_network=True)
    assert out.splitlines()[0] == os.uname().nodename
    assert int(out.splitlines()[1]) > 1
    assert "ro" in options(out, "/sys/fs/cgroup")


def test_the_hosts_dev(run: Run) -> None:
    names = set(run("-v", "/dev:/dev", shell="ls /dev").split())
    assert {"null", "tty", "pts"} <= names
