"""image scp: both engines are real; between them an sshd of the test's own, or a program in ssh's place that runs the
line here and notes how it was called."""

from __future__ import annotations

import getpass
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import COMMAND, Engine
from tests.support.registry import free_port, reachable
from tests.support.requirements import program
from tests.support.waiting import wait_until


@pytest.fixture
def other() -> Iterator[Engine]:
    """The engine of the other machine."""
    made = Engine()
    yield made
    made.close()


@pytest.fixture
def env(fresh: Engine, other: Engine, tmp_path: Path) -> dict[str, str | None]:
    """PATH with an ssh that notes how it was called and runs the line with the other one's directories."""
    tools, far = tmp_path / "tools", tmp_path / "far"
    for folder in (tools, far):
        folder.mkdir()
    variables = " ".join(f"{k}={shlex.quote(v)}" for k, v in {**other.env, "PATH": str(far)}.items())
    (tools / "ssh").write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/called\nfor line; do :; done\n'
        f'case "$*" in *unreachable*) echo "ssh: no route" >&2; exit 255;; esac\n'
        f'exec env -i {variables} /bin/sh -c "$line"\n'
    )
    (far / "pyctl").write_text(f'#!/bin/sh\nPATH=/usr/bin:/bin:/usr/sbin:/sbin exec {shlex.join(COMMAND)} "$@"\n')
    for path in (tools / "ssh", far / "pyctl"):
        path.chmod(0o755)
    return {"PATH": f"{tools}:{fresh.env['PATH']}"}


@pytest.fixture
def sshd(fresh: Engine, other: Engine, tmp_path: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    """An sshd without rights that lets this user's key in, as one with the other engine's directories; its port, and
    PATH with an ssh that knows the key and the host's."""
    for name in ("host", "user"):
        words = ("-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name)
        subprocess.run([program("ssh-keygen"), *words], check=True)
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in {**other.env, "PATH": str(tmp_path)}.items())
    forced = f'env -i {variables} /bin/sh -c \\"$SSH_ORIGINAL_COMMAND\\"'
    (tmp_path / "keys").write_text(f'restrict,command="{forced}" {(tmp_path / "user.pub").read_text()}')
    port = free_port()
    host_key = " ".join((tmp_path / "host.pub").read_text().split()[:2])
    (tmp_path / "known").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    (tmp_path / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/keys\nPidFile none\n"
        "UsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
    )
    (tmp_path / "ssh_config").write_text(
        f"IdentityFile {tmp_path}/user\nIdentitiesOnly yes\nUserKnownHostsFile {tmp_path}/known\nBatchMode yes\n"
    )
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/ssh").write_text(f'#!/bin/sh\nexec {program("ssh")} -F {tmp_path}/ssh_config "$@"\n')
    (tmp_path / "pyctl").write_text(f'#!/bin/sh\nPATH=/usr/bin:/bin:/usr/sbin:/sbin exec {shlex.join(COMMAND)} "$@"\n')
    for path in (tmp_path / "tools/ssh", tmp_path / "pyctl"):
        path.chmod(0o755)
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen([program("sshd"), "-D", "-e", "-f", tmp_path / "sshd_config"], stderr=log)
    try:
        wait_until(lambda: server.poll() is not None or reachable(port), what="sshd answers")
        assert server.poll() is None, (tmp_path / "log").read_text()
        yield port, {"PATH": f"{tmp_path}/tools:{fresh.env['PATH']}"}
    finally:
        server.terminate()
        server.wait(10)


def test_by_a_real_sshd(
    fresh: Engine, other: Engine, sshd: tuple[int, dict[str, str | None]], busybox_tar: Path, tmp_path: Path
) -> None:
    port, env = sshd
    there = f"ssh://{getpass.getuser()}@127.0.0.1:{port}::"
    fresh("import", "-q", busybox_tar, "app:1")
    digest = fresh("images", "--format", "{{.Digest}}", "app:1").line
    assert fresh("image", "scp", "app:1", there, env=env).line == "Loaded image: localhost/app:1"
    assert other("images", "--format", "{{.Digest}}").line == digest
    assert other("run", "--rm", "--network=none", "app:1", "echo", "there").line == "there"
    fresh("rmi", "-a", "-f")
    assert fresh("image", "scp", f"{there}app:1", env=env).line == "Loaded image: localhost/app:1"
    assert fresh("images", "--format", "{{.Digest}}").line == digest

    assert "status 125" in fresh("image", "scp", f"{there}absent:1", env=env, status=125).err
    (tmp_path / "known").write_text("")  # an unknown host: ssh refuses, and says so itself
    refused = fresh("image", "scp", "app:1", there, env=env, status=125).err
    assert "Host key verification failed" in refused
    assert f"{getpass.getuser()}@127.0.0.1: the other side ended with status 255" in refused


def test_there_and_back(
    fresh: Engine, other: Engine, env: dict[str, str | None], busybox_tar: Path, tmp_path: Path
) -> None:
    fresh("import", "-q", busybox_tar, "app:1")
    digest = fresh("images", "--format", "{{.Digest}}", "app:1").line
    sent = fresh("image", "scp", "app:1", "me@build7::", env=env)
    assert sent.line == "Loaded image: localhost/app:1"
    assert (tmp_path / "called").read_text().splitlines()[:2] == ["--", "me@build7"]
    assert other("images", "--format", "{{.Repository}}:{{.Tag}} {{.Digest}}").line == f"localhost/app:1 {digest}"
    assert other("run", "--rm", "--network=none", "app:1", "echo", "there").line == "there"
    fresh("image", "scp", "-q", "app:1", "ssh://me@build7:2222::registry.example/new:2", env=env)
    assert "2222" in (tmp_path / "called").read_text().splitlines()
    assert "registry.example/new:2" in other("images", "--format", "{{.Repository}}:{{.Tag}}").out.split()

    fresh("rmi", "-a", "-f")
    assert fresh("image", "scp", "build7::app:1", env=env).line == "Loaded image: localhost/app:1"
    assert fresh("images", "--format", "{{.Digest}}").line == digest
    fresh("image", "scp", "-q", "build7::app:1", "::second:1", env=env)
    assert fresh("run", "--rm", "--network=none", "second:1", "echo", "back").line == "back"


def test_what_fails_is_told(
    fresh: Engine, other: Engine, env: dict[str, str | None], busybox_tar: Path, tmp_path: Path
) -> None:
    fresh("import", "-q", busybox_tar, "app:1")
    for args, words in (
        (("app:1", "unreachable::"), "unreachable: the other side ended with status 255"),
        (("absent:1", "build7::"), "absent:1: image not known"),
        (("build7::absent:1",), "the other side ended with status 125"),
        (("app:1",), "both ends are this machine"),
        (("app:1", "me@localhost::"), "without root"),
        (("app:1", "-oProxyCommand=x::"), ""),
        (("--", "app:1", "-oProxyCommand=x::"), "is no host"),
        (("app:1", "a b::"), "is no host"),
        (("build7::",), "no image is named"),
    ):
        failed = fresh("image", "scp", *args, env=env, status=125).err
        assert words in failed, failed
    (tmp_path / "far/pyctl").unlink()
    failed = fresh("image", "scp", "app:1", "build7::", env=env, status=125).err
    assert "neither pyctl nor podman is installed" in failed
    assert other("images", "-q").out == ""
