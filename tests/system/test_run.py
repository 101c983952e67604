"""`run`: what the command gets, what comes back."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.engine import COMMAND, IS_PODMAN, Engine
from tests.support.requirements import program
from tests.support.waiting import wait_until


def test_output_and_status(engine: Engine) -> None:
    result = engine("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3", status=3)
    assert (result.out, result.err) == ("out\n", "err\n")


@pytest.mark.parametrize(
    ("command", "status"),
    [(["true"], 0), (["false"], 1), (["nosuch"], 127), (["/no/such"], 127), (["/etc/notexec"], 126), (["/etc"], 126)],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_exit_status(engine: Engine, command: list[str], status: int) -> None:
    result = engine("run", "--rm", "busybox", *command, status=status)
    assert bool(result.err) == (status > 1)


def test_signal_gives_128_and_its_number(engine: Engine) -> None:
    engine("run", "--name", "victim", "-d", "busybox", "sleep", "1000")
    engine("kill", "victim")
    assert engine("wait", "victim").line == "137"


def test_detached_prints_the_whole_id(engine: Engine) -> None:
    identity = engine("run", "-d", "--name", "bg", "busybox", "sleep", "1000").line
    assert re.fullmatch("[0-9a-f]{64}", identity)
    assert engine("ps", "-q", "--no-trunc").line == identity
    assert engine("inspect", "-f", "{{.Name}}", identity[:12]).line == "bg"


def test_rm_leaves_no_row(engine: Engine) -> None:
    engine("run", "--rm", "--name", "gone", "busybox", "true")
    assert engine("ps", "-a", "-q").out == ""
    engine("run", "--rm", "--name", "gone", "busybox", "true")


def test_detached_rm_goes_when_it_ends(engine: Engine) -> None:
    engine("run", "--rm", "-d", "busybox", "true")
    wait_until(lambda: engine("ps", "-a", "-q").out == "", what="the container is removed")


def test_without_rm_it_stays_with_its_status(engine: Engine) -> None:
    engine("run", "--name", "kept", "busybox", "sh", "-c", "exit 7", status=7)
    assert engine("ps", "-a", "--format", "{{.Names}} {{.Status}}").line.startswith("kept Exited (7) ")
    assert engine.inspect("kept")["State"]["ExitCode"] == 7
    assert engine("rm", "kept").line == "kept"


def test_default_command_of_the_image(engine: Engine) -> None:
    assert engine("run", "--rm", "-i", "busybox", stdin="echo from sh\n").out == "from sh\n"


def test_entrypoint(engine: Engine) -> None:
    assert engine("run", "--rm", "--entrypoint", "echo", "busybox", "a", "b").line == "a b"
    assert engine("run", "--rm", "--entrypoint", '["echo", "-n", "json"]', "busybox", "x").out == "json x"
    assert engine("run", "--rm", "--entrypoint", "", "busybox", "echo", "cleared").line == "cleared"


def test_environment(engine: Engine) -> None:
    (engine.home / "vars").write_text("# comment\nFROM_FILE=a b\nHOSTVAR\n\n")
    out = engine(
        "run", "--rm", "-e", "A=1", "--env", "B=x=y", "-e", "HOSTVAR", "--env-file", "vars", "-e", "UNSET",
        "busybox", "env", env={"HOSTVAR": "from host"},
    ).out.splitlines()  # fmt: skip
    assert {"A=1", "B=x=y", "HOSTVAR=from host", "FROM_FILE=a b", "PATH=/bin:/usr/bin", "HOME=/root"} <= set(out)
    assert not [line for line in out if line.startswith(("UNSET", "XDG_RUNTIME_DIR", "USER="))]
    assert "container=podman" in out or "container=pyctl" in out


def test_environment_of_the_caller_does_not_leak(engine: Engine) -> None:
    assert "SECRET" not in engine("run", "--rm", "busybox", "env", env={"SECRET": "hidden"}).out


def test_working_directory(engine: Engine) -> None:
    assert engine("run", "--rm", "busybox", "pwd").line == "/"
    assert engine("run", "--rm", "-w", "/tmp", "busybox", "pwd").line == "/tmp"
    assert "/not/there" in engine("run", "--rm", "-w", "/not/there", "busybox", "pwd", status=126).err


@pytest.mark.parametrize(
    ("user", "shown"),
    [
        ("web", "1000 1000"),
        ("1000", "1000 1000"),
        ("web:daemon", "1000 1"),
        ("5:6", "5 6"),
        ("daemon", "1 1"),
        ("0", "0 0"),
    ],
)
def test_user(engine: Engine, user: str, shown: str) -> None:
    assert engine("run", "--rm", "-u", user, "busybox", "sh", "-c", "echo $(id -u) $(id -g)").line == shown


def test_user_gets_its_home_and_groups(engine: Engine) -> None:
    assert (
        engine("run", "--rm", "-u", "web", "busybox", "sh", "-c", "echo $HOME; id -G").out == "/home/web\n1000 1234\n"
    )
    groups = engine("run", "--rm", "-u", "web", "--group-add", "1", "--group-add", "extra", "busybox", "id", "-G").line
    assert set(groups.split()) == {"1000", "1", "1234"}


def test_unknown_user_is_an_engine_error(engine: Engine) -> None:
    result = engine("run", "--rm", "-u", "nobodyknows", "busybox", "true", status=None)
    assert result.status in (125, 126)
    assert "nobodyknows" in result.err


def test_hostname(engine: Engine) -> None:
    assert engine("run", "--rm", "--hostname", "here.example", "busybox", "hostname").line == "here.example"
    assert (
        "here.example"
        in engine("run", "--rm", "-h", "here.example", "busybox", "cat", "/etc/hosts", "/etc/hostname").out
    )
    name = engine("run", "-d", "busybox", "sh", "-c", "hostname").line
    engine("wait", name)
    assert engine("logs", name).line == name[:12]


def test_stdin_is_empty_without_interactive(engine: Engine) -> None:
    assert engine("run", "--rm", "busybox", "wc", "-c", stdin="lost").line == "0"


def test_stdin_half_close(engine: Engine) -> None:
    """The command reads to the end of its input and answers after it."""
    assert engine("run", "--rm", "-i", "busybox", "sh", "-c", "wc -c; echo after", stdin="12345").out == "5\nafter\n"


def test_large_streams_are_whole(engine: Engine) -> None:
    block = os.urandom(1 << 20).hex().encode()
    result = engine("run", "--rm", "-i", "busybox", "cat", stdin=block * 4)
    assert result.out.encode() == block * 4


def test_binary_output(engine: Engine) -> None:
    process = engine.spawn("run", "--rm", "busybox", "printf", r"\000\377\n\001")
    assert process.communicate(timeout=30)[0] == b"\x00\xff\n\x01"


def test_closed_output_does_not_hang(engine: Engine) -> None:
    process = engine.spawn("run", "--rm", "busybox", "yes")
    assert process.stdout is not None
    process.stdout.read(100)
    process.stdout.close()
    process.wait(20)


def test_cidfile_and_pidfile(engine: Engine, tmp_path: Path) -> None:
    cid, pid = tmp_path / "cid", tmp_path / "pid"
    identity = engine("run", "-d", "--cidfile", cid, "--pidfile", pid, "busybox", "sleep", "1000").line
    assert cid.read_text().strip() == identity
    # execve(2) closes descriptors, by which the engine knows, a little before the new arguments can be read.
    inside = wait_until(Path(f"/proc/{int(pid.read_text())}/cmdline").read_bytes)
    assert inside == b"sleep\x001000\x00"
    again = engine("create", "--cidfile", cid, "busybox", "true").line
    assert cid.read_text().strip() == again


def test_labels_and_annotations(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("from=file\n")
    options = ["--label", "a=b", "-l", "bare", "--label-file", str(tmp_path / "labels"), "--annotation", "x.y=z"]
    engine("create", "--name", "labelled", *options, "busybox")
    config = engine.inspect("labelled")["Config"]
    assert {"a": "b", "bare": "", "from": "file"}.items() <= config["Labels"].items()
    assert config["Annotations"]["x.y"] == "z"
    assert engine("ps", "-a", "--filter", "label=a=b", "--format", "{{.Names}}").line == "labelled"


def test_timeout_ends_it(engine: Engine) -> None:
    start = time.monotonic()
    engine("run", "--rm", "--timeout", "1", "busybox", "sleep", "1000", status=None)
    assert 0.9 < time.monotonic() - start < 15


def test_init_reaps_and_is_first(engine: Engine) -> None:
    out = engine("run", "--rm", "--init", "busybox", "sh", "-c", "cat /proc/1/comm; echo $$").out.split()
    assert "sh" not in out[0]
    assert int(out[1]) > 1


def test_preserve_fds(engine: Engine) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"through the fd")
    os.close(writer)
    as_three = ("bash", "-c", f'exec "$@" 3<&{reader}', "bash")
    try:
        out = engine(
            "run",
            "--rm",
            "--preserve-fds",
            "1",
            "busybox",
            "cat",
            "/proc/self/fd/3",
            prefix=as_three,
            pass_fds=(reader,),
        ).out
    finally:
        os.close(reader)
    assert out == "through the fd"


def test_no_other_descriptor_reaches_the_container(engine: Engine) -> None:
    reader, writer = os.pipe()
    try:
        out = engine("run", "--rm", "busybox", "ls", "-l", "/proc/self/fd", pass_fds=(reader, writer)).out
    finally:
        os.close(reader)
        os.close(writer)
    numbers = re.findall(r":\d\d (\d+)", out)
    assert set(numbers) == {"0", "1", "2", "3"}, out  # 3 is the listing's own


def test_rootfs_directory(engine: Engine, busybox_tar: Path, tmp_path: Path) -> None:
    root = engine.home / "rootfs"
    root.mkdir()
    subprocess.run(["tar", "-C", root, "-xf", busybox_tar], check=True)
    assert engine("run", "--rm", "--rootfs", root, "sh", "-c", "echo > /written; echo ok").line == "ok"
    assert (root / "written").exists()
    engine("run", "--rm", "--rootfs", f"{root}:O", "sh", "-c", "echo > /lost")
    assert not (root / "lost").exists()


def test_runc_as_runtime(engine: Engine) -> None:
    assert engine("run", "--rm", "--runtime", "runc", "busybox", "echo", "by runc").line == "by runc"
    engine("run", "-d", "--name", "r", "--runtime", "/usr/sbin/runc", "busybox", "sleep", "1000")
    assert engine("exec", "r", "echo", "exec").line == "exec"
    engine("run", "--rm", "--runtime", "runc", "busybox", "nosuch", status=127)


def test_unknown_runtime(engine: Engine) -> None:
    assert "nosuchruntime" in engine("run", "--rm", "--runtime", "nosuchruntime", "busybox", "true", status=125).err


def test_replace(engine: Engine) -> None:
    engine("run", "-d", "--name", "same", "busybox", "sleep", "1000")
    engine("run", "-d", "--name", "same", "--replace", "busybox", "sleep", "2000")
    assert engine.inspect("same")["Config"]["Cmd"] == ["sleep", "2000"]


def test_timezone_and_umask(engine: Engine) -> None:
    assert engine("run", "--rm", "--umask", "0077", "busybox", "sh", "-c", "umask").line == "0077"
    assert engine("run", "--rm", "busybox", "sh", "-c", "umask").line == "0022"


@pytest.mark.skipif(IS_PODMAN, reason="about pyctl")
def test_crun_starts_once(engine: Engine) -> None:
    """crun executes itself anew from a read-only mount, unless it is on one (CVE-2019-5736): it is."""
    # Whoever is traced gets no rights from newuidmap; the namespace of a running container can be joined.
    engine("run", "-d", "--network=none", "busybox", "sleep", "1000")
    traced = engine.home / "trace"
    argv = [program("strace"), "-f", "-qq", "-e", "trace=execve,execveat", "-o", str(traced), *COMMAND]
    argv += ["run", "--rm", "--network=none", "busybox", "true"]
    subprocess.run(argv, env=engine.environment(None), cwd=engine.home, timeout=60, check=True)
    starts = [line for line in traced.read_text().splitlines() if "crun" in line and line.endswith("= 0")]
    assert len(starts) == 1, starts
