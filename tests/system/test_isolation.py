"""What a container sees, and what it may not."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.support.engine import Engine

# Podman's default set of 11 (podman-run(1), --cap-add).
DEFAULT_CAPABILITIES = [
    "chown",
    "dac_override",
    "fowner",
    "fsetid",
    "kill",
    "net_bind_service",
    "setfcap",
    "setgid",
    "setpcap",
    "setuid",
    "sys_chroot",
]
NUMBERS = {"chown": 0, "dac_override": 1, "fowner": 3, "fsetid": 4, "kill": 5, "setgid": 6, "setuid": 7,
           "setpcap": 8, "net_bind_service": 10, "net_admin": 12, "net_raw": 13, "sys_chroot": 18, "sys_admin": 21,
           "setfcap": 31}  # fmt: skip


def mask(names: list[str]) -> int:
    return sum(1 << NUMBERS[name] for name in names)


def status_field(engine: Engine, field: str, *options: str) -> str:
    out = engine("run", "--rm", *options, "busybox", "grep", f"^{field}:", "/proc/self/status").out
    return out.split(":")[1].strip()


def test_first_process_and_its_own_root(engine: Engine) -> None:
    out = engine("run", "--rm", "busybox", "sh", "-c", "echo $$; ls /; cat /proc/1/cmdline | tr '\\0' ' '").out
    assert out.startswith("1\n")
    assert "busybox" not in os.listdir("/")
    assert {"bin", "proc", "sys", "dev", "etc", "tmp"} <= set(out.split())
    assert "sh -c echo" in out


def test_root_inside_is_the_caller_outside(engine: Engine) -> None:
    pid_file = engine.home / "pid"
    engine("run", "-d", "--name", "c", "--pidfile", pid_file, "busybox", "sleep", "1000")
    assert engine("exec", "c", "id", "-u").line == "0"
    uids = re.search(r"^Uid:\t(\d+)", Path(f"/proc/{int(pid_file.read_text())}/status").read_text(), re.M)
    assert uids
    assert int(uids[1]) == os.getuid()


def test_ids_are_mapped_to_the_subordinate_range(engine: Engine) -> None:
    rows = [line.split() for line in engine("run", "--rm", "busybox", "cat", "/proc/self/uid_map").out.splitlines()]
    assert rows[0] == ["0", str(os.getuid()), "1"]
    assert rows[1][0] == "1"
    assert int(rows[1][2]) >= 65535


@pytest.mark.parametrize("namespace", ["pid", "net", "mnt", "uts", "ipc", "user", "cgroup"])
def test_own_namespaces(engine: Engine, namespace: str) -> None:
    inside = engine("run", "--rm", "busybox", "readlink", f"/proc/self/ns/{namespace}").line
    assert inside != os.readlink(f"/proc/self/ns/{namespace}")


def test_default_capabilities(engine: Engine) -> None:
    for field in ("CapEff", "CapPrm", "CapBnd"):
        assert int(status_field(engine, field), 16) == mask(DEFAULT_CAPABILITIES)
    for field in ("CapInh", "CapAmb"):
        assert int(status_field(engine, field), 16) == 0


def test_capability_options(engine: Engine) -> None:
    assert int(status_field(engine, "CapEff", "--cap-drop", "all"), 16) == 0
    some = ["--cap-drop", "ALL", "--cap-add", "net_admin", "--cap-add", "CAP_SYS_CHROOT"]
    assert int(status_field(engine, "CapEff", *some), 16) == mask(["net_admin", "sys_chroot"])
    without = int(status_field(engine, "CapBnd", "--cap-drop", "setuid"), 16)
    assert without == mask([n for n in DEFAULT_CAPABILITIES if n != "setuid"])
    assert int(status_field(engine, "CapEff", "--cap-add", "all"), 16) & mask(["sys_admin"])
    assert int(status_field(engine, "CapEff", "-u", "web"), 16) == 0


def test_unknown_capability(engine: Engine) -> None:
    assert "NOSUCH" in engine("run", "--rm", "--cap-add", "nosuch", "busybox", "true", status=125).err.upper()


def test_seccomp_filter_is_on(engine: Engine) -> None:
    assert status_field(engine, "Seccomp") == "2"
    assert status_field(engine, "Seccomp", "--security-opt", "seccomp=unconfined") == "0"


def test_seccomp_profile_of_ones_own(engine: Engine, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": '
        '[{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}'
    )
    option = ["--security-opt", f"seccomp={profile}"]
    assert "not supported" in engine("run", "--rm", *option, "busybox", "mkdir", "/x", status=1).err
    engine("run", "--rm", *option, "busybox", "touch", "/x")
    profile.write_text("not json")
    assert "profile.json" in engine("run", "--rm", *option, "busybox", "true", status=125).err


def test_dangerous_calls_are_refused(engine: Engine) -> None:
    assert engine("run", "--rm", "busybox", "mount", "-t", "tmpfs", "none", "/tmp", status=None).status != 0
    assert engine("run", "--rm", "busybox", "dmesg", status=None).status != 0


def test_no_new_privileges(engine: Engine) -> None:
    assert status_field(engine, "NoNewPrivs") == "0"
    assert status_field(engine, "NoNewPrivs", "--security-opt", "no-new-privileges") == "1"
    assert status_field(engine, "NoNewPrivs", "--security-opt", "no-new-privileges:true") == "1"


@pytest.mark.parametrize("path", ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/latency_stats"])
def test_masked_files(engine: Engine, path: str) -> None:
    if os.path.exists(path):
        assert engine("run", "--rm", "busybox", "sh", "-c", f"head -c 64 {path} | wc -c").line == "0"


@pytest.mark.parametrize("path", ["/proc/acpi", "/proc/scsi", "/sys/firmware"])
def test_masked_folders(engine: Engine, path: str) -> None:
    if os.path.isdir(path):
        assert engine("run", "--rm", "busybox", "ls", path).out == ""


@pytest.mark.parametrize("path", ["/proc/sys/vm/swappiness", "/proc/sysrq-trigger", "/proc/irq/default_smp_affinity"])
def test_read_only_paths(engine: Engine, path: str) -> None:
    if os.path.exists(path):
        result = engine("run", "--rm", "busybox", "sh", "-c", f"echo 1 > {path}", status=None)
        assert result.status != 0
        assert "Read-only" in result.err or "denied" in result.err


def test_mask_and_unmask(engine: Engine) -> None:
    assert engine("run", "--rm", "--security-opt", "mask=/etc/notexec", "busybox", "cat", "/etc/notexec").out == ""
    show = ["sh", "-c", "grep -c ' /proc/[a-z]' /proc/self/mountinfo"]
    masked = int(engine("run", "--rm", "busybox", *show).line)
    opened = engine("run", "--rm", "--security-opt", "unmask=ALL", "busybox", *show, status=None)
    assert int(opened.line) == 0 < masked


def test_privileged(engine: Engine) -> None:
    full = int(status_field(engine, "CapEff", "--privileged"), 16)
    assert full & mask(["sys_admin", "net_admin"]) == mask(["sys_admin", "net_admin"])
    assert status_field(engine, "Seccomp", "--privileged") == "0"
    engine("run", "--rm", "--privileged", "busybox", "mount", "-t", "tmpfs", "none", "/tmp")


def test_read_only_root(engine: Engine) -> None:
    assert "Read-only" in engine("run", "--rm", "--read-only", "busybox", "touch", "/x", status=1).err
    engine("run", "--rm", "--read-only", "busybox", "touch", "/tmp/x", "/run/x", "/dev/shm/x")
    engine("run", "--rm", "--read-only", "--read-only-tmpfs=false", "busybox", "touch", "/tmp/x", status=1)


def test_devices(engine: Engine) -> None:
    names = set(engine("run", "--rm", "busybox", "ls", "/dev").out.split())
    assert {"null", "zero", "full", "random", "urandom", "tty", "pts", "shm", "ptmx", "fd", "stdin", "stdout"} <= names
    assert not names & {"fuse", "kvm", "mem", "sda", "vda", "kmsg"}
    engine("run", "--rm", "busybox", "sh", "-c", "echo x > /dev/null; head -c 8 /dev/urandom | wc -c")


def test_device_option(engine: Engine) -> None:
    options = ["--device", "/dev/fuse", "--device", "/dev/zero:/dev/nought"]
    out = engine("run", "--rm", *options, "busybox", "ls", "-l", "/dev/fuse", "/dev/nought").out
    assert "10, 229" in out
    assert "/dev/nought" in out
    assert "/dev/nosuch" in engine("run", "--rm", "--device", "/dev/nosuch", "busybox", "true", status=125).err


def test_shm_size(engine: Engine) -> None:
    size = ["sh", "-c", "df -k /dev/shm | tail -1 | awk '{print $2}'"]
    assert engine("run", "--rm", "busybox", *size).line in ("64000", "65536", "62500")
    assert engine("run", "--rm", "--shm-size", "8m", "busybox", *size).line == "8192"


def test_ulimits(engine: Engine) -> None:
    options = ["--ulimit", "nofile=77:88", "--ulimit", "core=0"]
    assert (
        engine("run", "--rm", *options, "busybox", "sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -c").out == "77\n88\n0\n"
    )
    assert "nosuch" in engine("run", "--rm", "--ulimit", "nosuch=1", "busybox", "true", status=125).err


def test_sysctl(engine: Engine) -> None:
    option = ["--sysctl", "net.ipv4.ip_default_ttl=33", "--sysctl", "kernel.msgmax=4096"]
    out = engine(
        "run", "--rm", *option, "busybox", "cat", "/proc/sys/net/ipv4/ip_default_ttl", "/proc/sys/kernel/msgmax"
    ).out
    assert out == "33\n4096\n"
    refused = engine("run", "--rm", "--sysctl", "vm.swappiness=1", "busybox", "true", status=None)
    assert refused.status in (125, 126)
    assert "vm.swappiness" in refused.err


def test_oom_score_adj(engine: Engine) -> None:
    assert engine("run", "--rm", "--oom-score-adj", "500", "busybox", "cat", "/proc/self/oom_score_adj").line == "500"


def test_files_of_the_host_are_out_of_sight(engine: Engine) -> None:
    mounts = engine("run", "--rm", "busybox", "cat", "/proc/self/mountinfo").out
    points = {line.split()[4] for line in mounts.splitlines()}
    assert {"/", "/proc", "/sys", "/dev"} <= points
    assert not [p for p in points if p.startswith(("/home", "/var", "/.old", "/oldroot"))]


def test_the_bounding_set_holds_across_setuid_programs(engine: Engine) -> None:
    """A file with the set-uid bit in the image gives root of the container only, with its bounded capabilities."""
    out = engine("run", "--rm", "-u", "web", "busybox", "sh", "-c", "grep CapBnd /proc/self/status").out
    assert int(out.split()[1], 16) == mask(DEFAULT_CAPABILITIES)


def test_a_site_may_give_fewer_capabilities(engine: Engine, tmp_path: Path) -> None:
    site = tmp_path / "containers.conf"
    site.write_text('[containers]\ndefault_capabilities = ["CHOWN"]\n')
    fewer: dict[str, str | None] = {"CONTAINERS_CONF": str(site)}
    out = engine("run", "--rm", "busybox", "grep", "CapBnd", "/proc/self/status", env=fewer).out
    assert int(out.split()[1], 16) == 1
