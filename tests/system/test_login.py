"""login and logout: at registries that ask for a password, with and without TLS, and through helpers."""

from __future__ import annotations

import base64
import json
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import IS_PODMAN, Engine
from tests.support.images import Layout
from tests.support.registry import Registry, self_signed

# "secret" for the user "tester", by htpasswd -B.
HTPASSWD = "tester:$2y$05$jbyy/ytmEKsfYXczvxlAV.sjzCj8SOCPJ8RPMNcXg/3a/mbKJVuiW\n"
LOGIN = ("login", "--username", "tester", "--password-stdin")


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory, layout: Layout) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("private")
    (folder / "htpasswd").write_text(HTPASSWD)
    made = Registry(folder / "registry", auth=folder / "htpasswd")
    made.push(layout, "busybox", "busybox:1", "--dest-creds=tester:secret")
    yield made
    made.close()


def auth_file(engine: Engine) -> Path:
    return engine.runtime / "containers/auth.json"


def auths(path: Path) -> dict[str, str]:
    tree = json.loads(path.read_text())
    return {key: base64.b64decode(entry["auth"]).decode() for key, entry in tree["auths"].items()}


def test_login_pull_logout(fresh: Engine, private: Registry) -> None:
    image = f"{private.address}/busybox:1"
    assert private.address in fresh("pull", "-q", image, status=125).err
    assert fresh(*LOGIN, private.address, stdin="secret\n").line == "Login Succeeded!"
    assert auths(auth_file(fresh)) == {private.address: "tester:secret"}
    assert stat.S_IMODE(auth_file(fresh).stat().st_mode) == 0o600
    assert fresh("login", "--get-login", private.address).line == "tester"
    fresh("pull", "-q", image)
    again = fresh("login", private.address).out
    assert "Existing credentials are valid" in again
    assert fresh("logout", private.address).line == f"Removed login credentials for {private.address}"
    assert auths(auth_file(fresh)) == {}
    fresh("pull", "-q", "--policy=always", image, status=125)
    assert "not logged into" in fresh("login", "--get-login", private.address, status=125).err
    assert "not logged into" in fresh("logout", private.address, status=125).err


def test_a_wrong_password_is_not_kept(fresh: Engine, private: Registry) -> None:
    error = fresh(*LOGIN, private.address, stdin="wrong\n", status=125).err
    assert private.address in error
    assert not auth_file(fresh).exists()
    fresh(*LOGIN, private.address, stdin="secret\n")
    fresh(*LOGIN, private.address, stdin="wrong\n", status=125)
    assert auths(auth_file(fresh)) == {private.address: "tester:secret"}, "the right one is still there"


def test_other_logins_stay(fresh: Engine, private: Registry, tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    held = {"auths": {"example.org": {"auth": "YTpi"}}, "someone": {"else": 1}}
    own.write_text(json.dumps(held))
    fresh(*LOGIN, "--authfile", own, f"{private.address}/team", stdin="secret")
    assert auths(own) == {"example.org": "a:b", f"{private.address}/team": "tester:secret"}
    assert fresh("login", "--authfile", own, "--get-login", f"{private.address}/team").line == "tester"
    fresh("logout", "--authfile", own, f"{private.address}/team")
    assert json.loads(own.read_text()) == held
    fresh("logout", "--authfile", own, "--all")
    assert json.loads(own.read_text()) == {"auths": {}, "someone": {"else": 1}}
    assert not auth_file(fresh).exists()


def test_logins_at_once_all_stay(fresh: Engine, private: Registry) -> None:
    running = [
        fresh.spawn("login", "-u", "tester", "-p", "secret", f"{private.address}/n{n}", stdin=subprocess.DEVNULL)
        for n in range(4)
    ]
    for process in running:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert len(auths(auth_file(fresh))) == 4


def test_a_helper_keeps_it(fresh: Engine, private: Registry, tmp_path: Path) -> None:
    tools, kept = tmp_path / "bin", tmp_path / "kept"
    tools.mkdir()
    helper = tools / "docker-credential-box"
    helper.write_text(
        "#!/bin/sh\n"
        f'case "$1" in store) cat > {kept} ;; erase) rm -f {kept} ;;\n'
        f'get) [ -e {kept} ] && exec cat {kept}; echo "credentials not found in native keychain"; exit 1 ;; esac\n'
    )
    helper.chmod(0o755)
    env: dict[str, str | None] = {"PATH": f"{tools}:{fresh.env['PATH']}"}
    auth_file(fresh).parent.mkdir()
    auth_file(fresh).write_text(json.dumps({"credHelpers": {private.address: "box"}}))
    fresh(*LOGIN, private.address, stdin="secret", env=env)
    assert json.loads(kept.read_text()) == {"ServerURL": private.address, "Username": "tester", "Secret": "secret"}
    assert "secret" not in auth_file(fresh).read_text()
    fresh("pull", "-q", f"{private.address}/busybox:1", env=env)
    assert fresh("login", "--get-login", private.address, env=env).line == "tester"
    fresh("logout", private.address, env=env)
    assert not kept.exists()


def test_docker_form(fresh: Engine, private: Registry, tmp_path: Path) -> None:
    own = tmp_path / "config.json"
    fresh(*LOGIN, "--compat-auth-file", own, private.address, stdin="secret")
    assert auths(own) == {private.address: "tester:secret"}
    fresh(*LOGIN, "--compat-auth-file", own, f"{private.address}/team", stdin="secret", status=125)
    fresh("logout", "--compat-auth-file", own, private.address)
    assert auths(own) == {}


def test_a_terminal_is_asked(fresh: Engine, private: Registry) -> None:
    terminal = fresh.terminal("login", private.address)
    terminal.expect(b"Username: ")
    terminal.send(b"tester\n")
    terminal.expect(b"Password: ")
    terminal.send(b"secret\n")
    terminal.expect(b"Login Succeeded!")
    assert terminal.finish()[0] == 0
    assert auths(auth_file(fresh)) == {private.address: "tester:secret"}


def test_tls(fresh: Engine, tmp_path: Path) -> None:
    """A registry of an authority that nobody knows: refused, until it is named or the user does not care."""
    tls = self_signed(tmp_path)
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    registry = Registry(tmp_path / "registry", tmp_path / "htpasswd", tls)
    try:
        assert "certificate" in fresh(*LOGIN, registry.address, stdin="secret", status=125).err
        fresh(*LOGIN, "--cert-dir", tls[0].parent, registry.address, stdin="secret")
        fresh("logout", registry.address)
        fresh(*LOGIN, "--tls-verify=false", registry.address, stdin="secret")
    finally:
        registry.close()


@pytest.mark.skipif(IS_PODMAN, reason="the wording is pyctl's")
@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("login",), "no registry"),
        (("login", "--password-stdin", "localhost"), "--username"),
        (("login", "-u", "a:b", "-p", "x", "localhost"), "colon"),
        (("login", "-u", "a", "localhost"), "stdin is no terminal"),
        (("login", "--secret", "x", "localhost"), "--secret"),
        (("login", "quay.io/a@sha256:00"), "registry"),
        (("logout", "--all", "quay.io"), "--all"),
        (("login", "--get-login", "--authfile=/nonexistent", "quay.io"), "not logged into quay.io"),
    ],
)
def test_what_is_refused(fresh: Engine, args: tuple[str, ...], said: str) -> None:
    assert said in fresh(*args, status=125).err
