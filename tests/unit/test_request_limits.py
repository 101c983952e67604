"""Cgroup limits, ulimits, the OOM score, health checks and logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyctl.engine.config import Config
from pyctl.engine.model import DeviceRate, Health, Limits, Ulimit
from tests.unit.request_support import FACTS, health, image, refusal, spec

M = 1 << 20
SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("-m", "256m"), Limits(memory_bytes=256 * M)),
        (("-m", "1.5g", "--memory-swap", "-1"), Limits(memory_bytes=1536 * M, memory_swap_bytes=-1)),
        (("-m", "1g", "--memory-swap", "2g"), Limits(memory_bytes=1024 * M, memory_swap_bytes=2048 * M)),
        (("--memory-reservation", "1m"), Limits(memory_reservation_bytes=M)),
        (("--cpus", "1.5"), Limits(cpu_quota_us=150000, cpu_period_us=100000)),
        (("--cpus", "0"), Limits()),
        (("--cpu-quota", "50000", "--cpu-period", "20000"), Limits(cpu_quota_us=50000, cpu_period_us=20000)),
        (("--cpu-shares", "512"), Limits(cpu_shares=512)),
        (("--cpuset-cpus", "0-3,6"), Limits(cpuset_cpus="0-3,6")),
        (("--pids-limit", "7"), Limits(pids=7)),
        (("--pids-limit", "0"), Limits(pids=-1)),
        (("--pids-limit", "-1"), Limits(pids=-1)),
        (("--blkio-weight", "500"), Limits(blkio_weight=500)),
        (("--device-read-bps", "/dev/sda:1mb"), Limits(device_read_bps=(DeviceRate(path="/dev/sda", rate=M),))),
        (("--device-write-iops", "/dev/sda:7"), Limits(device_write_iops=(DeviceRate(path="/dev/sda", rate=7),))),
        (("--cgroup-conf", "memory.high=1000"), Limits(cgroup_conf=("memory.high=1000",))),
    ],
)
def test_limits(words: tuple[str, ...], expected: Limits) -> None:
    assert spec(*words).limits == expected


@pytest.mark.parametrize(
    "words",
    [
        ("--memory-swap", "1g"),
        ("--memory-swap", "1m", "-m", "2m"),
        ("--cpus", "1", "--cpu-quota", "1000"),
        ("--cpus", "0.001"),
        ("--cpu-period", "10"),
        ("--cpuset-cpus", "3-1"),
        ("--cpuset-mems", "a"),
        ("--blkio-weight", "9"),
        ("--blkio-weight-device", "/dev/sda:9"),
        ("--device-read-bps", "/dev/sda:0"),
        ("--device-read-bps", "sda:1"),
        ("--device-read-iops", "/dev/sda:1k"),
        ("--cgroup-conf", "../../memory.max=1"),
        ("--cgroup-conf", "cgroup.procs=1"),
        ("--cgroup-conf", "memory/x.y=1"),
    ],
)
def test_bad_limits(words: tuple[str, ...]) -> None:
    assert words[0] in refusal(*words)


def test_ulimits() -> None:
    assert spec("--ulimit", "nofile=100:200").ulimits == (Ulimit(name="nofile", soft=100, hard=200),)
    assert spec("--ulimit", "nofile=1", "--ulimit", "NOFILE=2").ulimits == (Ulimit(name="nofile", soft=2, hard=2),)
    assert spec("--ulimit", "core=-1").ulimits == (Ulimit(name="core", soft=-1, hard=-1),)
    assert spec("--ulimit", "host").ulimits[0].name == "host"
    for bad in (
        "nofile",
        "nofile=2:1",
        "nofile=-1:5",
        "x=1",
        "nofile=1:2:3",
        "nofile=",
        "nofile=30000",
        "nofile=5:30000",
    ):
        assert "--ulimit" in refusal("--ulimit", bad)


def test_ulimits_of_the_site_are_clamped_later() -> None:
    facts = FACTS.replace(defaults=Config(default_ulimits=("nofile=1048576:1048576", "nproc=5")))
    made = spec("--ulimit", "nproc=7", facts=facts).ulimits
    assert made == (Ulimit(name="nofile", soft=1048576, hard=1048576), Ulimit(name="nproc", soft=7, hard=7))


def test_oom_score() -> None:
    assert spec().oom_score_adj is None
    assert spec("--oom-score-adj", "0").oom_score_adj == 0
    assert "--oom-score-adj" in refusal("--oom-score-adj", "50", facts=FACTS.replace(oom_score_adj=100))
    assert spec("--oom-score-adj", "-5", facts=FACTS.replace(uid=0)).oom_score_adj == -5


def test_no_cgroups_no_limits() -> None:
    assert spec("--cgroups", "disabled").cgroups == "disabled"
    assert "--memory" in refusal("--cgroups", "disabled", "-m", "1g")
    assert "--cgroup-parent" in refusal("--cgroup-parent", "a/../..")


@pytest.mark.parametrize(
    ("command", "test"),
    [
        ("curl -f x", ("CMD-SHELL", "curl -f x")),
        ('["CMD", "a", "b c"]', ("CMD", "a", "b c")),
        ('["CMD-SHELL", "a b"]', ("CMD-SHELL", "a b")),
        ('["a", "b"]', ("CMD", "a", "b")),
        ("CMD-SHELL a b", ("CMD-SHELL", "a b")),
        ("CMD a b", ("CMD", "a", "b")),
        ("[ -e /ok ]", ("CMD-SHELL", "[ -e /ok ]")),
        ("none", ("NONE",)),
    ],
)
def test_health_command(command: str, test: tuple[str, ...]) -> None:
    made = spec("--health-cmd", command).health
    assert made is not None
    assert made.test == test


def test_health_of_the_image_and_on_top_of_it() -> None:
    of = image(health=health(test=("CMD-SHELL", "x"), interval_ns=5 * SECOND, retries=7))
    assert spec(of=of).health == Health(test=("CMD-SHELL", "x"), interval_ns=5 * SECOND, retries=7)
    made = spec("--health-interval", "disable", "--health-timeout", "2s", of=of).health
    assert made == Health(test=("CMD-SHELL", "x"), interval_ns=0, timeout_ns=2 * SECOND, retries=7)
    assert spec("--health-cmd", "y", of=of).health == Health(test=("CMD-SHELL", "y"))
    assert spec("--no-healthcheck", of=of).health == Health(test=("NONE",))
    assert spec("--health-cmd", "none", of=of).health == Health(test=("NONE",))
    assert spec("--no-healthcheck").health is None
    assert spec(of=image(health=health(test=("NONE",)))).health == Health(test=("NONE",))
    assert "the image's health check" in refusal(of=image(health=health(test=("CMD",))))


def test_startup_check() -> None:
    words = (
        "--health-cmd",
        "x",
        "--health-startup-cmd",
        "y",
        "--health-startup-interval",
        "1s",
        "--health-startup-retries",
        "3",
    )
    made = spec(*words).health
    assert made is not None
    assert (made.startup_test, made.startup_interval_ns, made.startup_retries) == (("CMD-SHELL", "y"), SECOND, 3)


@pytest.mark.parametrize(
    "words",
    [
        ("--health-interval", "5s"),
        ("--health-on-failure", "kill"),
        ("--health-startup-cmd", "y"),
        ("--health-startup-retries", "1", "--health-cmd", "x"),
        ("--health-timeout", "0", "--health-cmd", "x"),
        ("--health-retries", "0", "--health-cmd", "x"),
        ("--health-start-period", "-1s", "--health-cmd", "x"),
        ("--no-healthcheck", "--health-cmd", "x"),
        ("--no-healthcheck", "--health-retries", "2"),
        ("--sdnotify", "healthy"),
        ("--health-cmd", '["a", 1]'),
        ("--health-cmd", "[]"),
    ],
)
def test_bad_health(words: tuple[str, ...]) -> None:
    assert words[0] in refusal(*words) or "--health" in refusal(*words)


def test_logs(tmp_path: Path) -> None:
    facts = FACTS.replace(cwd=str(tmp_path), defaults=Config(log_driver="json-file", log_size_max=500, log_max_files=2))
    made = spec(facts=facts).log
    assert (made.driver, made.max_size_bytes, made.max_files, made.path) == ("json-file", 500, 2, "")
    made = spec(
        "--log-opt",
        "max-size=1m",
        "--log-opt",
        "path=x.log",
        "--log-opt",
        "max-file=3",
        "--log-opt",
        "tag=t",
        facts=facts,
    ).log
    assert (made.max_size_bytes, made.path, made.max_files, made.tag) == (1_000_000, str(tmp_path / "x.log"), 3, "t")
    for words in (
        ("--log-driver", "syslog"),
        ("--log-driver", "passthrough", "-t"),
        ("--log-opt", "max-size=x"),
        ("--log-opt", "max-file=0"),
        ("--log-opt", "foo=bar"),
        ("--log-opt", "path="),
        ("--log-opt", "max-size=1m", "--log-driver", "none"),
    ):
        assert words[0] in refusal(*words)


def test_rootfs(tmp_path: Path) -> None:
    from pyctl.engine.request_facts import ImageChoice

    made = spec(of=ImageChoice(rootfs=f"{tmp_path}:O"), args=("sh",))
    assert (made.rootfs, made.rootfs_overlay, made.image) == (str(tmp_path), True, "")
    assert "--rootfs" in refusal(of=ImageChoice(rootfs=f"{tmp_path}/none"), args=("sh",))
    assert "command" in refusal(of=ImageChoice(rootfs=str(tmp_path)))
