"""Credentials from auth files and helpers, and challenges."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import Error, UsageError
from storage.reference import parse
from storage.registry_auth import Challenge, ask_helper, find_credentials, parse_challenges, parse_creds


def entry(user: str, password: str = "secret") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Writes auth files: `machine("run", {...})` for the places run, config, docker."""
    places = {
        "run": tmp_path / "run/containers/auth.json",
        "config": tmp_path / "home/.config/containers/auth.json",
        "docker": tmp_path / "home/.docker/config.json",
        "own": tmp_path / "own.json",
    }
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")

    def write(place: str, tree: object) -> str:
        places[place].parent.mkdir(parents=True, exist_ok=True)
        places[place].write_text(tree if isinstance(tree, str) else json.dumps(tree))
        return str(places[place])

    def helper(name: str, script: str) -> None:
        (tools / f"docker-credential-{name}").write_text(f"#!/bin/sh\n{script}\n")
        (tools / f"docker-credential-{name}").chmod(0o755)

    write.env = {"HOME": str(tmp_path / "home"), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    write.helper = helper
    return write


def user(machine, image: str, **options) -> str:
    found = find_credentials(parse(image), machine.env, **options)
    return found.username if found else ""


def test_nothing_is_nothing(machine):
    assert find_credentials(parse("quay.io/a"), machine.env) is None


def test_the_most_specific_key_wins(machine):
    machine(
        "run", {"auths": {"quay.io": entry("host"), "quay.io/a": entry("space"), "quay.io/a/b": entry("repository")}}
    )
    assert user(machine, "quay.io/a/b") == "repository"
    assert user(machine, "quay.io/a/c") == "space"
    assert user(machine, "quay.io/ab/c") == "host"
    assert user(machine, "quay.io:5000/a/b") == ""
    assert user(machine, "other.io/a/b") == ""


def test_the_order_of_files(machine):
    machine("docker", {"auths": {"q.io": entry("docker")}})
    assert user(machine, "q.io/a") == "docker"
    machine("config", {"auths": {"q.io": entry("config")}})
    assert user(machine, "q.io/a") == "config"
    machine("run", {"auths": {"q.io": entry("run"), "empty.io": {}}})
    assert user(machine, "q.io/a") == "run"
    own = machine("own", {"auths": {"q.io": entry("own")}})
    assert user(machine, "q.io/a", authfile=own) == "own"
    machine.env["REGISTRY_AUTH_FILE"] = own
    assert user(machine, "q.io/a") == "own"
    assert user(machine, "empty.io/a") == ""


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io"])
def test_dockers_own_names(machine, key):
    machine("docker", {"auths": {key: entry("hub")}})
    assert user(machine, "alpine") == "hub"
    assert user(machine, "quay.io/alpine") == ""


def test_old_keys_with_a_scheme(machine):
    machine("docker", {"auths": {"https://q.io/v1/": entry("old")}})
    assert user(machine, "q.io/a/b") == "old"


def test_passwords_keep_their_colons_and_secrets_stay_out_of_texts(machine):
    machine("run", {"auths": {"q.io": entry("u", "a:b:ü")}})
    found = find_credentials(parse("q.io/a"), machine.env)
    assert found.password == "a:b:ü"
    assert "a:b" not in repr(found)


def test_identity_tokens(machine):
    machine("run", {"auths": {"q.io": {**entry("u", ""), "identitytoken": "refresh"}}})
    assert find_credentials(parse("q.io/a"), machine.env).identity_token == "refresh"


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"auths": []}', '{"auths": {"q.io": "x"}}', '{"auths": {"q.io": {"auth": "%%"}}}',
     '{"auths": {"q.io": {"auth": "bm9jb2xvbg=="}}}', '{"auths": {"q.io": {"auth": 5}}}',
     '{"credHelpers": {"q.io": 5}}',
     '{"credsStore": []}'],
)  # fmt: skip
def test_malformed_files_are_named(machine, text):
    machine("run", text)
    with pytest.raises(Error, match=r"auth\.json"):
        find_credentials(parse("q.io/a"), machine.env)


def test_a_named_file_must_exist(machine):
    with pytest.raises(Error, match="--authfile /none does not exist"):
        find_credentials(parse("q.io/a"), machine.env, authfile="/none")


def test_helpers(machine):
    machine.helper("good", 'read server; echo "{\\"Username\\": \\"$1 $server\\", \\"Secret\\": \\"s\\"}"')
    machine.helper("token", 'echo "{\\"Username\\": \\"<token>\\", \\"Secret\\": \\"refresh\\"}"')
    machine.helper("empty", "echo 'credentials not found in native keychain'; exit 1")
    machine.helper("broken", "echo 'no keyring' >&2; exit 2")
    machine.helper("noise", "echo no json")
    machine(
        "config",
        {"auths": {"q.io": entry("file"), "b.io": entry("file")}, "credHelpers": {"q.io": "good", "t.io": "token"}},
    )
    assert user(machine, "q.io/a") == "get q.io"
    assert user(machine, "b.io/a") == "file"
    assert find_credentials(parse("t.io/a"), machine.env).identity_token == "refresh"
    machine("config", {"credsStore": "empty", "auths": {"b.io": entry("file")}})
    assert user(machine, "b.io/a") == "file"
    machine("config", {"credsStore": "good"})
    assert user(machine, "alpine") == "get https://index.docker.io/v1/"
    assert user(machine, "x.io/a", helpers=("good",)) == "get x.io"
    for name, words in (
        ("broken", "no keyring"),
        ("noise", "no JSON"),
        ("none", "not installed"),
        ("../sh", "no program"),
    ):
        with pytest.raises(Error, match=words):
            ask_helper(name, "q.io", "auth.json")


def test_creds_option():
    assert parse_creds("a:b:c").password == "b:c"
    for text in ("a", ":b", ""):
        with pytest.raises(UsageError):
            parse_creds(text)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (['Basic realm="x"'], [("basic", {"realm": "x"})]),
        (['Bearer realm="https://a/t",service="s",scope="a b,c"'],
         [("bearer", {"realm": "https://a/t", "service": "s", "scope": "a b,c"})]),
        (['Basic realm="a", Bearer realm="b"'], [("basic", {"realm": "a"}), ("bearer", {"realm": "b"})]),
        (["Basic realm=x", "Bearer realm=y"], [("basic", {"realm": "x"}), ("bearer", {"realm": "y"})]),
        (['BEARER Realm="a\\"b"'], [("bearer", {"realm": 'a"b'})]),
        (["Negotiate"], [("negotiate", {})]),
        (['Bearer realm="open'], [("bearer", {"realm": "open"})]),
        ([""], []),
        ([], []),
    ],
)  # fmt: skip
def test_challenges(headers, expected):
    assert parse_challenges(headers) == tuple(Challenge(scheme=s, parameters=p) for s, p in expected)


@given(st.lists(st.text(alphabet='aB=", \\\t', max_size=30), max_size=3))
def test_any_header_is_read_to_its_end(headers):
    parse_challenges(headers)
