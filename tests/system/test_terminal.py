"""Terminals, attach, detach, and signals on their way in."""

from __future__ import annotations

import signal

from tests.support.engine import Engine
from tests.support.waiting import wait_until

DETACH = b"\x10\x11"  # ctrl-p ctrl-q


def test_it_is_a_terminal(engine: Engine) -> None:
    terminal = engine.terminal("run", "--rm", "-it", "busybox", "sh", "-c", "tty; test -t 0 && test -t 1 && echo yes")
    terminal.expect(b"yes")
    assert terminal.finish()[0] == 0


def test_the_terminal_is_given_back(engine: Engine) -> None:
    terminal = engine.terminal("run", "--rm", "-it", "busybox", "sh", "-c", "echo ready; read line; echo got $line")
    before = terminal.attributes()
    terminal.expect(b"ready")
    assert terminal.attributes() != before
    terminal.send(b"word\n")
    terminal.expect(b"got word")
    terminal.process.wait(15)
    assert terminal.attributes() == before


def test_exit_status_on_a_terminal(engine: Engine) -> None:
    terminal = engine.terminal("run", "--rm", "-it", "busybox", "sh")
    terminal.send(b"exit 42\n")
    assert terminal.finish()[0] == 42


def test_size_and_resize(engine: Engine) -> None:
    terminal = engine.terminal("run", "--rm", "-it", "busybox", "sh", rows=30, columns=100)
    terminal.send(b"stty size\n")
    terminal.expect(b"30 100")
    terminal.resize(41, 142)

    terminal.send(b"while [ \"$(stty size)\" != '41 142' ]; do :; done; echo resi''zed\n")
    terminal.expect(b"resized")
    terminal.send(b"exit\n")
    assert terminal.finish()[0] == 0


def test_control_c_interrupts_inside(engine: Engine) -> None:
    terminal = engine.terminal("run", "--rm", "-it", "busybox", "sh")
    # A process of its own, so that the signal cannot meet the shell between two commands.
    terminal.send(b"sh -c \"echo re''ady; exec sleep 1000\"\n")
    terminal.expect(b"ready")
    terminal.send(b"\x03")
    terminal.expect(b"# ")
    terminal.send(b"echo st''atus $?\n")
    terminal.expect(b"status 130")
    terminal.send(b"exit\n")
    assert terminal.finish()[0] == 0


def test_detach_and_attach_again(engine: Engine) -> None:
    terminal = engine.terminal("run", "-it", "--name", "c", "busybox", "sh")
    terminal.send(b"X=kept; echo re''ady\n")
    terminal.expect(b"ready")
    terminal.send(DETACH)
    assert terminal.finish()[0] == 0
    assert engine.state("c") == "running"
    again = engine.terminal("attach", "c")
    again.send(b"echo $X ag''ain\n")
    again.expect(b"kept again")
    again.send(b"exit 3\n")
    assert again.finish()[0] == 3


def test_other_detach_keys(engine: Engine) -> None:
    terminal = engine.terminal("run", "-it", "--name", "c", "--detach-keys", "ctrl-x,a", "busybox", "sh")
    terminal.send(b"echo re''ady\n")
    terminal.expect(b"ready")
    terminal.send(b"\x10\x11echo still he''re\n")
    terminal.expect(b"still here")
    terminal.send(b"\x18a")
    assert terminal.finish()[0] == 0
    assert engine.state("c") == "running"


def test_half_a_detach_sequence_reaches_the_command(engine: Engine) -> None:
    terminal = engine.terminal(
        "run",
        "--rm",
        "-it",
        "busybox",
        "sh",
        "-c",
        "stty raw -echo; echo ready; dd bs=1 count=2 2>/dev/null | od -An -tx1",
    )
    terminal.expect(b"ready")
    terminal.send(b"\x10z")
    terminal.expect(b"10 7a")
    assert terminal.finish()[0] == 0


def test_detach_from_exec(engine: Engine) -> None:
    engine("run", "-d", "--name", "c", "busybox", "sleep", "1000")
    terminal = engine.terminal("exec", "-it", "c", "sh")
    terminal.send(b"echo re''ady\n")
    terminal.expect(b"ready")
    terminal.send(DETACH)
    assert terminal.finish()[0] == 0


def test_terminal_option_without_a_terminal(engine: Engine) -> None:
    """In a script: a pty inside, with the output's newlines as the terminal makes them."""
    assert engine("run", "--rm", "-t", "busybox", "sh", "-c", "test -t 1 && echo yes").out == "yes\r\n"


def test_signals_are_passed_on(engine: Engine) -> None:
    line = "trap 'echo got it; exit 8' TERM; echo ready; while :; do sleep 0.1; done"
    process = engine.spawn("run", "--rm", "busybox", "sh", "-c", line)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == b"got it\n"
    assert process.wait(15) == 8


def test_sig_proxy_off(engine: Engine) -> None:
    line = "trap 'echo got it; exit 8' TERM; echo ready; while :; do sleep 0.1; done"
    process = engine.spawn("run", "--name", "c", "--sig-proxy=false", "busybox", "sh", "-c", line)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    process.wait(15)
    assert engine.state("c") == "running"


def test_attach_sees_output_and_status(engine: Engine) -> None:
    engine("run", "-d", "-i", "--name", "c", "busybox", "sh", "-c", "read a; echo got $a; exit 2")
    result = engine("attach", "c", stdin="word\n", status=2)
    assert result.out == "got word\n"


def test_attach_without_stdin(engine: Engine) -> None:
    engine("run", "-d", "--name", "c", "busybox", "sh", "-c", "while [ ! -e /go ]; do sleep 0.05; done; echo end")
    attached = engine.spawn("attach", "--no-stdin", "c")
    wait_until(lambda: attached.poll() is None and engine("exec", "c", "touch", "/go").status == 0)
    out, _ = attached.communicate(timeout=20)
    assert out in (b"end\n", b"")  # the command may have ended before the attach was there
    assert engine("logs", "c").out == "end\n"


def test_attach_to_a_stopped_one(engine: Engine) -> None:
    engine("create", "--name", "c", "busybox", "true")
    result = engine("attach", "c", status=125)
    assert "running" in result.err or "state" in result.err


def test_two_attached(engine: Engine) -> None:
    engine("run", "-d", "-i", "--name", "c", "busybox", "sh", "-c", "while read line; do echo $line; done")
    first, second = engine.spawn("attach", "c"), engine.spawn("attach", "--no-stdin", "c")
    assert first.stdin is not None
    assert first.stdout is not None
    assert second.stdout is not None
    first.stdin.write(b"hello\n")
    first.stdin.flush()
    assert first.stdout.readline() == b"hello\n"
    engine("kill", "c")
    assert first.wait(15) == 137
    second.wait(15)


def test_killed_client_leaves_the_container(engine: Engine) -> None:
    process = engine.spawn("run", "--name", "c", "busybox", "sh", "-c", "echo ready; sleep 1000")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    process.wait()
    assert engine.state("c") == "running"
    engine("stop", "-t", "0", "c")
    assert engine.state("c") == "exited"


def test_background_survives_the_session(engine: Engine) -> None:
    """`run -d` has left the terminal's session: closing it ends nothing."""
    terminal = engine.terminal("run", "-d", "--name", "c", "busybox", "sleep", "1000")
    assert terminal.finish()[0] == 0
    assert engine.state("c") == "running"
