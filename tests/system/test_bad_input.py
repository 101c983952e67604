"""Bad input gets one clear line and the right status, and nothing half-made stays."""

from __future__ import annotations

import pytest

from tests.support.engine import IS_PODMAN, Engine


def refused(engine: Engine, *args: str | bytes, status: int = 125) -> str:
    """The one line that a refusal prints; no container, log or volume may come of it."""
    result = engine(*args, status=status)
    assert "Traceback" not in result.err
    lines = [line for line in result.err.splitlines() if not line.startswith(("hint:", "See '", " "))]
    assert len(lines) == 1, result.err
    assert engine("ps", "-a", "-q").out == ""
    return lines[0]


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("--memory=lots", "lots"),
        ("--memory=-5", "-5"),
        ("--cpus=many", "many"),
        ("--pids-limit=x", "x"),
        ("--shm-size=big", "big"),
        ("--restart=sometimes", "sometimes"),
        ("--name=bad/name", "bad/name"),
        ("--name=-x", "-x"),
        ("--env-file=/no/such/file", "/no/such/file"),
        ("--label-file=/no/such/file", "/no/such/file"),
        ("--stop-signal=SIGNOSUCH", "SIGNOSUCH"),
        ("--stop-timeout=soon", "soon"),
        ("--timeout=soon", "soon"),
        ("--pull=perhaps", "perhaps"),
        ("--log-driver=nosuch", "nosuch"),
        ("--security-opt=nosuch=1", "nosuch"),
        ("--security-opt=seccomp=/no/such/profile", "/no/such/profile"),
        ("--cap-add=NOSUCH", "NOSUCH"),
        ("--ulimit=nofile=9:1", "nofile"),
        ("--ulimit=nofile=x", "nofile"),
        ("--sysctl=novalue", "novalue"),
        ("--userns=nosuch", "nosuch"),
        ("--cgroups=perhaps", "perhaps"),
        ("--device=/dev/nosuch", "/dev/nosuch"),
        ("--tmpfs=relative", "relative"),
        ("--tmpfs=/x:nosuchoption", "nosuchoption"),
        ("--add-host=onlyname", "onlyname"),
        ("--dns=nonsense", "nonsense"),
        ("--detach-keys=ctrl-nonsense", "ctrl-nonsense"),
        ("--preserve-fds=-1", "-1"),
        ("--oom-score-adj=5000", "5000"),
        ("--umask=9", "9"),
        ("--rootfs=/no/such/folder", ""),
        ("--nosuchoption", "nosuchoption"),
        ("--tz=No/Where", "No/Where"),
    ],
)
def test_bad_values_of_run(engine: Engine, option: str, named: str) -> None:
    if IS_PODMAN:
        pytest.skip("podman lets several of these pass, or says more than one line")
    assert named in refused(engine, "run", "--rm", option, "busybox", "true")


@pytest.mark.skipif(IS_PODMAN, reason="about pyctl's words")
class TestWords:
    def test_unknown_command(self, engine: Engine) -> None:
        assert "nosuchcommand" in refused(engine, "nosuchcommand")

    def test_a_near_miss_is_suggested(self, engine: Engine) -> None:
        assert "run" in engine("rnu", status=125).err
        assert "--hostname" in engine("run", "--hostnmae", "x", "busybox", status=125).err

    def test_missing_arguments(self, engine: Engine) -> None:
        for command in (
            "run",
            "create",
            "exec",
            "kill",
            "logs",
            "rm",
            "inspect",
            "tag",
            "pull",
            "rmi",
            "import",
            "stop",
        ):
            result = engine(command, status=125)
            assert result.err.strip(), command
            assert "Traceback" not in result.err

    def test_too_many_arguments(self, engine: Engine) -> None:
        refused(engine, "version", "extra")
        refused(engine, "import", "a", "b", "c")

    def test_option_without_its_value(self, engine: Engine) -> None:
        assert "--name" in refused(engine, "run", "--name")

    def test_an_option_of_podman_that_is_not_built_is_refused_by_name(self, engine: Engine) -> None:
        for option in ("--pod=x", "--secret=x", "--gpus=all", "--rdt-class=x"):
            assert option.split("=")[0] in refused(engine, "run", "--rm", option, "busybox", "true")


def test_duplicate_name(engine: Engine) -> None:
    first = engine("create", "--name", "same", "busybox", "true").line
    result = engine("create", "--name", "same", "busybox", "true", status=125)
    assert "same" in result.err
    assert "in use" in result.err
    assert engine("ps", "-aq", "--no-trunc").line == first


def test_names_that_are_not_utf8(engine: Engine) -> None:
    for args in (
        (b"run", b"--rm", b"--name", b"b\xffd", b"busybox", b"true"),
        (b"run", b"--rm", b"-e", b"A=\xff", b"busybox", b"true"),
        (b"run", b"--rm", b"--label", b"k=\xfe", b"busybox", b"true"),
        (b"inspect", b"b\xffd"),
        (b"run", b"--rm", b"b\xffd"),
    ):
        result = engine(*args, status=None)
        assert "Traceback" not in result.err
        if not IS_PODMAN:
            assert (result.status, "UTF-8" in result.err) == (125, True)
    assert engine("ps", "-aq").out == ""


def test_null_and_newlines_in_values(engine: Engine) -> None:
    out = engine("run", "--rm", "-e", "A=one\ntwo", "busybox", "sh", "-c", 'echo "$A"').out
    assert out == "one\ntwo\n"
    assert engine("run", "--rm", "busybox", "printf", "%s|", "a b", "", "c\nd").out == "a b||c\nd|"


def test_unicode(engine: Engine) -> None:
    assert engine("run", "--rm", "-e", "A=ümläut→", "busybox", "sh", "-c", "echo $A").line == "ümläut→"
    engine("run", "--rm", "--hostname", "ümläut", "busybox", "true", status=None)


def test_very_long_arguments(engine: Engine) -> None:
    long = "x" * 100_000
    assert engine("run", "--rm", "-e", f"LONG={long}", "busybox", "sh", "-c", "echo ${#LONG}").line == "100000"
    assert engine("run", "--rm", "busybox", "echo", long).line == long
    engine("run", "--rm", "--name", "n" * 3000, "busybox", "true", status=None)


def test_unwritable_cidfile(engine: Engine) -> None:
    result = engine("run", "--rm", "--cidfile", "/no/such/folder/cid", "busybox", "true", status=125)
    assert "/no/such/folder" in result.err
    assert engine("ps", "-aq").out == ""


def test_memory_limit_is_in_force_or_refused(engine: Engine) -> None:
    """Never a limit that inspect shows and the kernel does not know."""
    result = engine("run", "--rm", "--memory=64m", "busybox", "cat", "/sys/fs/cgroup/memory.max", status=None)
    if result.status == 0:
        assert result.line == str(64 << 20)
    else:
        assert result.status == 125
        assert "memory" in result.err
        assert engine("ps", "-aq").out == ""


@pytest.mark.parametrize("option", ["--cpus=0.5", "--pids-limit=50", "--cpuset-cpus=0", "--blkio-weight=100"])
def test_other_limits_are_in_force_or_refused(engine: Engine, option: str) -> None:
    if IS_PODMAN:
        pytest.skip("podman warns and goes on")
    result = engine("run", "--rm", option, "busybox", "true", status=None)
    assert result.status in (0, 125)
    if result.status:
        assert option.split("=", maxsplit=1)[0] in result.err or "controller" in result.err
