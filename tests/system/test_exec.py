"""exec: another process in a running container."""

from __future__ import annotations

import pytest

from tests.support.engine import Engine
from tests.support.waiting import wait_until


@pytest.fixture
def box(engine: Engine) -> Engine:
    """A running container named c."""
    engine("run", "-d", "--name", "c", "-e", "FROM_RUN=1", "busybox", "sleep", "1000")
    return engine


def test_streams_and_status(box: Engine) -> None:
    result = box("exec", "c", "sh", "-c", "echo out; echo err >&2; exit 4", status=4)
    assert (result.out, result.err) == ("out\n", "err\n")


@pytest.mark.parametrize(("command", "status"), [("nosuch", 127), ("/etc/notexec", 126), ("/etc", 126), ("false", 1)])
def test_statuses(box: Engine, command: str, status: int) -> None:
    box("exec", "c", command, status=status)


def test_killed_by_a_signal(box: Engine) -> None:
    box("exec", "c", "sh", "-c", "kill -9 $$", status=137)


def test_it_is_inside(box: Engine) -> None:
    out = box("exec", "c", "sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '; hostname; id -u").out
    assert out.startswith("sleep 1000 ")
    assert out.endswith("\n0\n")


def test_environment(box: Engine) -> None:
    (box.home / "vars").write_text("F=file\n")
    out = box("exec", "-e", "A=b", "--env-file", "vars", "c", "env").out.split()
    assert {"A=b", "F=file", "FROM_RUN=1", "PATH=/bin:/usr/bin", "HOME=/root"} <= set(out)


def test_working_directory(box: Engine) -> None:
    assert box("exec", "-w", "/tmp", "c", "pwd").line == "/tmp"
    result = box("exec", "-w", "/absent", "c", "pwd", status=None)
    assert result.status in (125, 126, 127)
    assert "/absent" in result.err


def test_user(box: Engine) -> None:
    assert box("exec", "-u", "web", "c", "sh", "-c", "id -u; id -g; echo $HOME").out == "1000\n1000\n/home/web\n"
    assert box("exec", "-u", "5:6", "c", "sh", "-c", "id -u; id -g").out == "5\n6\n"
    assert "nosuchuser" in box("exec", "-u", "nosuchuser", "c", "true", status=None).err


def test_stdin(box: Engine) -> None:
    assert box("exec", "-i", "c", "wc", "-c", stdin="12345").line == "5"
    assert box("exec", "c", "wc", "-c", stdin="12345").line == "0"


def test_large_input(box: Engine) -> None:
    data = b"0123456789abcdef" * (1 << 16)
    assert box("exec", "-i", "c", "md5sum", stdin=data).out == box("exec", "-i", "c", "md5sum", stdin=data).out
    assert box("exec", "-i", "c", "wc", "-c", stdin=data).line == str(len(data))


def test_detached(box: Engine) -> None:
    box("exec", "-d", "c", "sh", "-c", "echo made > /made")
    assert wait_until(lambda: box("exec", "c", "cat", "/made", status=None).out) == "made\n"


def test_capabilities(box: Engine) -> None:
    plain = box("exec", "c", "grep", "CapEff", "/proc/self/status").out
    main = box("exec", "c", "grep", "CapEff", "/proc/1/status").out
    assert plain == main
    user = box("exec", "-u", "web", "c", "grep", "CapEff", "/proc/self/status").out
    assert int(user.split()[1], 16) == 0
    privileged = box("exec", "--privileged", "c", "grep", "CapEff", "/proc/self/status").out
    assert int(privileged.split()[1], 16) & ~int(plain.split()[1], 16)


def test_in_a_stopped_one(engine: Engine) -> None:
    engine("create", "--name", "c", "busybox", "true")
    result = engine("exec", "c", "true", status=None)
    assert result.status in (125, 255)
    assert "running" in result.err or "state" in result.err


def test_in_an_unknown_one(engine: Engine) -> None:
    assert "absent" in engine("exec", "absent", "true", status=125).err


def test_on_a_terminal(box: Engine) -> None:
    terminal = box.terminal("exec", "-it", "c", "sh")
    terminal.send(b"tty; exit 6\n")
    assert b"/dev/pts/" in terminal.expect(b"/dev/pts/")
    assert terminal.finish()[0] == 6


def test_terminal_size(box: Engine) -> None:
    terminal = box.terminal("exec", "-it", "c", "sh", "-c", "stty size; read x", rows=33, columns=121)
    terminal.expect(b"33 121")
    terminal.send(b"\n")
    assert terminal.finish()[0] == 0


def test_many_at_once(box: Engine) -> None:
    running = [box.spawn("exec", "c", "sh", "-c", f"echo {n}") for n in range(8)]
    assert sorted(p.communicate(timeout=60)[0] for p in running) == sorted(f"{n}\n".encode() for n in range(8))


def test_ends_with_the_container(box: Engine) -> None:
    session = box.spawn("exec", "c", "sleep", "1000")
    wait_until(lambda: "sleep 1000" in box("exec", "c", "ps").out.replace("1 root", "", 1))
    box("kill", "c")
    assert session.wait(15) != 0
