"""What a configuration alone cannot show: ids, shared memory, /sys and names, through the whole engine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.engine import Engine

NESTED = ["--userns=keep-id", "--userns=nomap", "--userns=auto", "--uidmap=0:5:100"]


def test_u_gives_a_directory_to_the_containers_user(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/file").write_text("x")
    (tmp_path / "link").symlink_to("/etc/hostname")
    os.chmod(tmp_path / "sub/file", 0o4750)
    shown = engine(
        "run", "--rm", "-u", "7:8", "-v", f"{tmp_path}:/x:U", "busybox", "stat", "-c", "%u:%g %a", "/x", "/x/sub/file"
    )
    assert shown.out.splitlines() == [f"7:8 {tmp_path.stat().st_mode & 0o7777:o}", "7:8 4750"]
    assert Path("/etc/hostname").stat().st_uid == 0
    engine("run", "--rm", "-v", f"{tmp_path}:/x:U", "busybox", "true")
    assert (tmp_path / "sub/file").stat().st_uid == os.getuid(), "root in the container is the caller"
    engine("run", "--rm", "--userns=keep-id", "-v", f"{tmp_path}:/x:U", "busybox", "touch", "/x/mine")
    assert (tmp_path / "mine").stat().st_uid == os.getuid()


def test_u_of_a_volume(engine: Engine) -> None:
    engine("run", "--rm", "-v", "given:/x", "busybox", "touch", "/x/a")
    assert engine("run", "--rm", "-u", "5", "-v", "given:/x:U", "busybox", "stat", "-c", "%u", "/x/a").line == "5"
    engine("volume", "rm", "given")


@pytest.mark.parametrize("source", ["/", "/etc", "/home"])
def test_u_is_not_for_the_systems_directories(engine: Engine, source: str) -> None:
    assert "U" in engine("run", "--rm", "-v", f"{source}:/x:U", "busybox", "true", status=125).err


def test_a_new_volume_belongs_to_its_user(engine: Engine) -> None:
    show = ("busybox", "stat", "-c", "%u:%g", "/nowhere")
    assert engine("run", "--rm", "-u", "5:6", "-v", "fresh:/nowhere", *show).line == "5:6"
    engine("volume", "rm", "fresh")


@pytest.mark.parametrize("userns", NESTED)
def test_a_new_volume_in_a_user_namespace(engine: Engine, userns: str) -> None:
    engine(
        "run", "--rm", userns, "-v", "nested:/nowhere", "busybox", "sh", "-c", "touch /nowhere/a && test -O /nowhere/a"
    )
    engine("volume", "rm", "nested")


@pytest.mark.parametrize("userns", NESTED)
def test_sys_shows_the_containers_network(engine: Engine, userns: str) -> None:
    assert engine("run", "--rm", "--network=none", userns, "busybox", "ls", "/sys/class/net").line == "lo"


@pytest.mark.parametrize("userns", NESTED)
def test_closed_directories_of_the_caller_bar_nothing(engine: Engine, userns: str, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "open").mkdir(parents=True)
    (closed / "open").chmod(0o777)
    (closed / "open/file").write_text("seen\n")
    closed.chmod(0o700)
    engine.home.chmod(0o700)
    out = engine(
        "run", "--rm", userns, "-v", f"{closed}/open:/x", "busybox", "sh", "-c", "cat /x/file /etc/hostname"
    ).out
    assert out.startswith("seen\n")
    assert len(out.splitlines()) == 2


@pytest.mark.parametrize("userns", ["", *NESTED])
def test_sysctls_of_the_network(engine: Engine, userns: str) -> None:
    words = [userns] if userns else []
    show = ("busybox", "cat", "/proc/sys/net/ipv4/ip_forward")
    assert engine("run", "--rm", *words, "--sysctl=net.ipv4.ip_forward=1", *show).line == "1"
    bad = engine("run", "--rm", *words, "--sysctl=net.no.such=1", "busybox", "true", status=125).err
    assert "--sysctl net.no.such" in bad


def test_shared_memory_goes_with_the_ipc_namespace(engine: Engine) -> None:
    engine("run", "-d", "--name", "shm", "busybox", "sh", "-c", "echo kept > /dev/shm/it; sleep 1000")
    assert (
        engine("run", "--rm", "--ipc=container:shm", "busybox", "sh", "-c", "cat /dev/shm/it; touch /dev/shm/new").line
        == "kept"
    )
    assert "new" in engine("exec", "shm", "ls", "/dev/shm").out


def test_an_unknown_user_gets_a_name(engine: Engine) -> None:
    assert engine("run", "--rm", "-u", "4321", "busybox", "id", "-un").line == "4321"
    assert engine("run", "--rm", "-u", "4321", "-w", "/tmp", "busybox", "sh", "-c", "echo $HOME").line == "/tmp"
    assert engine("run", "--rm", "-u", "1000", "busybox", "id", "-un").line == "web"
    assert engine("run", "--rm", "--read-only", "-u", "4321:4322", "busybox", "id", "-gn").line == "4322"


def test_hosts_of_the_image(engine: Engine) -> None:
    engine("run", "--name", "h", "busybox", "true")
    assert "localhost" in engine("run", "--rm", "--hosts-file=image", "busybox", "cat", "/etc/hosts").out


def test_containerenv(engine: Engine) -> None:
    assert engine("run", "--rm", "busybox", "cat", "/run/.containerenv").out == ""
    assert (
        'name="told"'
        in engine("run", "--rm", "--privileged", "--name=told", "busybox", "cat", "/run/.containerenv").out
    )
