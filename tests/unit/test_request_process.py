"""What runs, as whom, with which environment, labels and names."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyctl.engine.config import Config
from pyctl.engine.request_text import normal, signal_name, signal_number
from pyctl.engine.spec_security import is_root
from tests.unit.request_support import FACTS, ID, image, refusal, request, spec

SHELL = image(entrypoint=("/init", "-x"), command=("serve",), env=("PATH=/opt/bin", "MODE=fast", "=odd", "bare"))


@pytest.mark.parametrize(
    ("words", "args", "expected"),
    [
        ((), (), ("/init", "-x", "serve")),
        ((), ("other", "-y"), ("/init", "-x", "other", "-y")),
        (("--entrypoint", ""), ("sh",), ("sh",)),
        (("--entrypoint", "/bin/tool"), (), ("/bin/tool",)),
        (("--entrypoint", "/bin/tool"), ("a",), ("/bin/tool", "a")),
        (("--entrypoint", '["a", "b c"]'), ("d",), ("a", "b c", "d")),
        (("--entrypoint", "[]"), (), ("serve",)),
        (("--entrypoint", "["), ("-e", "x", "]"), ("[", "-e", "x", "]")),
        (("--entrypoint", "two words"), (), ("two words",)),
    ],
)
def test_command(words: tuple[str, ...], args: tuple[str, ...], expected: tuple[str, ...]) -> None:
    made = spec(*words, of=SHELL, args=args)
    assert made.args == expected
    assert made.path == expected[0]


def test_no_command_at_all() -> None:
    assert "has no command" in refusal(of=image(command=()))
    assert "has no command" in refusal("--entrypoint", "", of=SHELL)


def test_words_that_are_not_utf8() -> None:
    bad = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert "is not valid UTF-8" in refusal(args=("echo", bad))
    assert "--env" in refusal("-e", f"A={bad}")
    assert "--label" in refusal("--label", f"a={bad}")
    assert spec("-e", "A=café", args=("écho",)).args == ("écho",)


def env(*words: str, **more: object) -> dict[str, str]:
    return dict(e.split("=", 1) for e in spec(*words, **more).env)


def test_environment_of_the_image_and_the_command_line() -> None:
    made = env("-e", "MODE=slow", "-e", "NEW=a=b", "-t", of=SHELL)
    assert made["PATH"] == "/opt/bin"
    assert made["MODE"] == "slow"
    assert made["NEW"] == "a=b"
    assert made["TERM"] == "xterm"
    assert made["container"] == "podman"
    assert made["HOSTNAME"] == ID[:12]
    assert "HOME" not in made, "the supervisor takes it from passwd"
    assert "bare" not in made


def test_environment_of_the_host_only_when_asked() -> None:
    assert "LANG" not in env()
    assert env("-e", "LANG")["LANG"] == "C"
    assert "NOPE" not in env("-e", "NOPE")
    made = env("-e", "L*")
    assert (made["LANG"], made["LC_ALL"]) == ("C", "C.UTF-8")
    assert "_PYCTL_ROOTLESS_UID" not in env("-e", "*")


def test_proxies_pass_by_default() -> None:
    facts = FACTS.replace(environ={"https_proxy": "http://p:1", "NO_PROXY": "x"})
    assert env(facts=facts)["https_proxy"] == "http://p:1"
    off = facts.replace(defaults=Config(http_proxy=False))
    assert "https_proxy" not in env(facts=off)


def test_env_file(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# a comment\n\n  A=1\nB= two words # kept\nLANG\nNOPE\nC=\r\n")
    made = env("--env-file", str(file), "-e", "A=over")
    assert made["A"] == "over"
    assert made["B"] == " two words # kept"
    assert made["LANG"] == "C"
    assert made["C"] == ""
    assert "NOPE" not in made
    assert "--env-file" in refusal("--env-file", str(tmp_path / "none"))


def test_working_directory() -> None:
    of = image(workdir="/srv/app/")
    assert (spec(of=of).workdir, spec(of=of).make_workdir) == ("/srv/app", True)
    assert (spec("-w", "/tmp/../x//y", of=of).workdir, spec("-w", "/x", of=of).make_workdir) == ("/x/y", False)
    assert spec(of=image(workdir="rel")).workdir == "/rel"
    for path in ("/proc/self/fd/7", "/proc/1/cwd", "/x/../proc/thread-self/fd/7/a"):
        assert "--workdir" in refusal("-w", path)
    assert "the image's working directory" in refusal(of=image(workdir="/proc/self/fd/9/x"))
    assert spec().workdir == "/"
    assert not spec().make_workdir


def test_users() -> None:
    assert spec(of=image(user="www-data")).user == "www-data"
    assert spec("-u", "5:staff", of=image(user="www-data")).user == "5:staff"
    assert spec("-u", "0065536").user == "0065536"
    assert "only 65537 ids" in refusal("-u", "65537")
    assert "keep-id:uid=70000,gid=3" in request_hint("-u", "70000:3")
    assert "the image's user" in refusal(of=image(user="99999999"))
    assert spec("-u", "70000", "--userns", "keep-id:uid=70000").user == "70000"
    for bad in ("-1", "1:2:3", "a b", "4294967296", "x:", "x:-1"):
        assert "--user" in refusal(f"--user={bad}")


def request_hint(*words: str) -> str:
    from rootless.errors import UsageError

    with pytest.raises(UsageError) as caught:
        request(*words)
    return caught.value.hint


def test_digits_are_a_uid_whatever_passwd_says() -> None:
    assert is_root("0")
    assert is_root("000:5")
    assert is_root("")
    assert is_root("root:wheel")
    assert not is_root("1000")
    assert not is_root("\N{ARABIC-INDIC DIGIT ZERO}"), "a digit to Python, a name to the kernel"


def test_host_names() -> None:
    assert spec().hostname == ID[:12]
    assert spec("--network", "host").hostname == "machine"
    assert spec("--uts", "host").hostname == "machine"
    assert spec("--hostname", "db.example_1").hostname == "db.example_1"
    assert env("--hostname", "db")["HOSTNAME"] == "db"
    assert spec("--hostname", "x" * 64).hostname == "x" * 64
    for bad in ("x" * 65, "a b", "-a", ".a", "a\tb", "ä"):
        assert "--hostname" in refusal("--hostname", bad)


def test_labels(tmp_path: Path) -> None:
    made = spec("-l", "a=over", "-l", "b", "--label", "c=d=e", of=image(labels={"a": "1", "z": "26"})).labels
    assert made == {"a": "over", "b": "", "c": "d=e", "z": "26"}
    assert "--label" in refusal("--label", "=x")


def test_annotations_come_from_the_user_alone() -> None:
    of = image(labels={"run.oci.handler": "evil"})
    assert spec("--annotation", "run.oci.x=1", of=of).annotations == {"run.oci.x": "1"}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("TERM", 15),
        ("sigkill", 9),
        ("SIGUSR1", 10),
        ("1", 1),
        ("64", 64),
        ("RTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("RTMAX-1", 63),
    ],
)
def test_signals(text: str, number: int) -> None:
    assert signal_number("--stop-signal", text) == number
    assert spec("--stop-signal", text).stop_signal == number
    assert signal_number("x", signal_name(number)) == number


@pytest.mark.parametrize("text", ["0", "65", "-1", "SIG", "_BLOCK", "RTMIN+31", "RTMIN-1", "RTMAX+1", "RTMIN+", "9x"])
def test_no_signals(text: str) -> None:
    assert "--stop-signal" in refusal(f"--stop-signal={text}")


def test_stop_settings_of_the_image() -> None:
    of = image(stop_signal="SIGQUIT", stop_timeout_s=60)
    assert (spec(of=of).stop_signal, spec(of=of).stop_timeout_s) == (3, 60)
    assert (spec().stop_signal, spec().stop_timeout_s) == (15, 10)
    assert spec("--stop-timeout", "0", of=of).stop_timeout_s == 0
    assert "the image's stop signal" in refusal(of=image(stop_signal="SIGNOPE"))


def test_umask_and_zone() -> None:
    assert spec().umask == 0o022
    assert spec("--umask", "77").umask == 0o077
    assert "--tz" in refusal("--tz", "../../etc/passwd")
    assert "--tz" in refusal("--tz", "/etc/localtime")
    assert spec("--tz", "local").timezone == "local"


def test_restart() -> None:
    assert (spec().restart, spec().restart_retries) == ("no", 0)
    made = spec("--restart", "on-failure:3")
    assert (made.restart, made.restart_retries) == ("on-failure", 3)
    assert spec("--restart", "never").restart == "no"
    assert spec("--restart", "on-failure", "--rm").remove
    assert "--rm" in refusal("--restart", "unless-stopped", "--rm")


def test_names() -> None:
    assert spec().name == "made_up"
    assert spec("--name", "db-1.a_b").name == "db-1.a_b"
    for bad in ("-a", ".a", "a/b", "a b", "ä", "x" * 256):
        assert "--name" in refusal(f"--name={bad}")


def test_detach_keys() -> None:
    assert spec().detach_keys == "ctrl-p,ctrl-q"
    assert spec("--detach-keys", "").detach_keys == ""
    assert spec("--detach-keys", "ctrl-@,x,ctrl-[").detach_keys == "ctrl-@,x,ctrl-["
    for bad in ("ctrl-", "xx", "ctrl-1", "a,,b", "é"):
        assert "--detach-keys" in refusal("--detach-keys", bad)


def test_id_file(tmp_path: Path) -> None:
    assert spec("--cidfile", "cid", facts=FACTS.replace(cwd=str(tmp_path))).cidfile == str(tmp_path / "cid")
    (tmp_path / "cid").write_text("")
    assert "directory" in refusal("--cidfile", str(tmp_path / "no" / "cid"))


def test_groups() -> None:
    assert spec("--group-add", "video", "--group-add", "27").group_add == ("video", "27")
    assert "keep-groups" in refusal("--group-add", "keep-groups,27")


def test_init_needs_pid_1() -> None:
    assert spec("--init").init
    assert "--init" in refusal("--init", "--pid", "host")
    assert spec("--init", "--init-path", "/bin/sh").init_path == "/bin/sh"


def test_normal() -> None:
    for path, expected in (("/", "/"), ("//", "/"), ("/a/./b/../c/", "/a/c"), ("/..", "/"), ("/a..b/.c", "/a..b/.c")):
        assert normal(path) == expected
