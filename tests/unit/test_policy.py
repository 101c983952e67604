"""policy.json: what is read, which scope counts, which names a signature may be for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rootless.errors import Error
from storage.policy import (
    Candidate,
    Identity,
    Policy,
    RejectedError,
    check,
    docker_scopes,
    load,
    matches,
    parse_policy,
    path_scopes,
    requirements_for,
    store_scopes,
)
from storage.reference import parse

ACCEPT, REJECT = [{"type": "insecureAcceptAnything"}], [{"type": "reject"}]
KEY = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}
DIGEST = "sha256:" + "0" * 64


def policy(tree: dict) -> Policy:
    return parse_policy(tree, "policy.json")


def kind(found: Policy, transport: str, *scopes: str) -> str:
    return requirements_for(found, transport, scopes)[0][0].kind


def test_the_most_specific_scope_counts() -> None:
    found = policy(
        {
            "default": REJECT,
            "transports": {
                "docker": {"": REJECT, "quay.io/team": ACCEPT, "quay.io/team/bad": REJECT, "*.example.com": ACCEPT,
                           "quay.io/team/bad:good": ACCEPT},
                "dir": {"/srv/images": ACCEPT},
            },
        }
    )  # fmt: skip

    def of(text: str) -> str:
        return kind(found, "docker", *docker_scopes(parse(text).with_default_tag()))

    assert of("quay.io/team/app:1") == "insecureAcceptAnything"
    assert of("quay.io/team/bad:1") == "reject"
    assert of("quay.io/team/bad:good") == "insecureAcceptAnything"
    assert of("quay.io/teams/app") == "reject"
    assert of("a.b.example.com/x") == "insecureAcceptAnything"
    assert of("a.b.example.com:5000/x") == "reject"
    assert of("example.com/x") == "reject"
    assert of("busybox") == "reject"
    assert kind(found, "dir", *path_scopes("dir", "/srv/images/a", "")) == "insecureAcceptAnything"
    assert kind(found, "dir", *path_scopes("dir", "/srv/imagesX", "")) == "reject"
    assert kind(found, "oci", *path_scopes("oci", "/srv/images", "x")) == "reject"


def test_scopes(tmp_path: Path) -> None:
    assert docker_scopes(parse("h.example.com:5/a/b:1")) == (
        "h.example.com:5/a/b:1", "h.example.com:5/a/b", "h.example.com:5/a", "h.example.com:5", "*.example.com:5",
        "*.com:5",
    )  # fmt: skip
    (tmp_path / "link").symlink_to("/usr/share")
    assert path_scopes("oci", f"{tmp_path}/link", "x") == ("/usr/share:x", "/usr/share", "/usr")
    assert path_scopes("docker-archive", "/x", "") == ()
    assert store_scopes("overlay", "/s", "ab", ["h/x:1"])[:2] == ("[overlay@/s]h/x:1", "[overlay@/s]h/x")


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ([], "not a JSON object"),
        ({}, "default has no requirements"),
        ({"default": []}, "default has no requirements"),
        ({"default": ACCEPT, "defualt": REJECT}, "unknown key 'defualt'"),
        ({"default": [{"type": "accept"}]}, "unknown requirement 'accept'"),
        ({"default": [{"type": "reject", "x": 1}]}, "unknown key 'x'"),
        ({"default": ACCEPT, "transports": {"dokcer": {}}}, "unknown transport 'dokcer'"),
        ({"default": ACCEPT, "transports": {"docker": {"x": {}}}}, "not a list"),
        ({"default": ACCEPT, "transports": {"docker": {"x": []}}}, "has no requirements"),
        ({"default": [{**KEY, "keyData": "aa"}]}, "exactly one of"),
        ({"default": [{"type": "signedBy", "keyType": "GPGKeys"}]}, "exactly one of"),
        ({"default": [{**KEY, "keyType": "X509Certificates"}]}, "only GPGKeys"),
        ({"default": [{**KEY, "keyPath": ""}]}, "names no key"),
        ({"default": [{**KEY, "fulcio": {}}]}, "unknown key 'fulcio'"),
        ({"default": [{**KEY, "signedIdentity": {"type": "matchAny"}}]}, "unknown signedIdentity"),
        ({"default": [{**KEY, "signedIdentity": {"type": "exactReference"}}]}, "needs dockerReference"),
        ({"default": [{**KEY, "signedIdentity": {"type": "exactReference", "dockerReference": "A B"}}]}, "image 'A B'"),
    ],
)
def test_a_malformed_policy_lets_nothing_in(tmp_path: Path, tree: object, words: str) -> None:
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(tree))
    with pytest.raises(Error, match=words):
        load({"HOME": "/none"}, str(path))


def test_which_file_counts(tmp_path: Path) -> None:
    folder = tmp_path / ".config/containers"
    folder.mkdir(parents=True)
    (folder / "policy.json").write_text(json.dumps({"default": REJECT}))
    assert load({"HOME": str(tmp_path)}).path == f"{folder}/policy.json"
    (folder / "policy.json").write_text("{")
    with pytest.raises(Error, match="not JSON"):
        load({"HOME": str(tmp_path)})
    with pytest.raises(Error, match="No such file"):
        load({"HOME": str(tmp_path)}, f"{tmp_path}/absent")


def test_what_cannot_be_checked_is_refused() -> None:
    row = {"type": "sigstoreSigned", "fulcio": {"caPath": "/x"}, "rekorPublicKeyPath": "/y"}
    found = policy({"default": [row]})
    image = Candidate(what="image x", transport="docker", scopes=(), digest=DIGEST)
    with pytest.raises(RejectedError, match="asks for fulcio, rekorPublicKeyPath"):
        check(found, image, tuple)
    with pytest.raises(RejectedError, match=r"rejected by policy.json \(default\)"):
        check(policy({"default": [*ACCEPT, *REJECT]}), image, tuple)
    with pytest.raises(RejectedError, match="has no signature"):
        check(policy({"default": [KEY]}), image, tuple)
    check(policy({"default": ACCEPT}), image, tuple)


@pytest.mark.parametrize(
    ("identity", "wanted", "signed", "expected"),
    [
        (("matchExact",), "q.io/a:1", "q.io/a:1", True),
        (("matchExact",), "q.io/a:1", "q.io/a:2", False),
        (("matchExact",), f"q.io/a@{DIGEST}", "q.io/a:1", False),
        (("matchRepoDigestOrExact",), f"q.io/a@{DIGEST}", "q.io/a:1", True),
        (("matchRepoDigestOrExact",), f"q.io/b@{DIGEST}", "q.io/a:1", False),
        (("matchRepoDigestOrExact",), "q.io/a:1", "q.io/a:2", False),
        (("matchRepoDigestOrExact",), "q.io/a:1", "q.io/a", False),
        (("matchRepoDigestOrExact",), "busybox:1", "docker.io/library/busybox:1", True),
        (("matchRepository",), "q.io/a:1", "q.io/a:2", True),
        (("matchRepository",), "q.io/a:1", "q.io/a", True),
        (("matchRepository",), "q.io/a:1", "q.io/ab", False),
        (("exactReference", "q.io/a:1"), "else.io/x:9", "q.io/a:1", True),
        (("exactReference", "q.io/a:1"), None, "q.io/a:2", False),
        (("exactRepository", "q.io/a"), None, "q.io/a:7", True),
        (("matchRepository",), None, "q.io/a:7", False),
        (("remapIdentity", "mirror.local", "q.io/team"), "mirror.local/a:1", "q.io/team/a:1", True),
        (("remapIdentity", "mirror.local", "q.io/team"), "mirror.localx/a:1", "q.io/team/a:1", False),
        (("remapIdentity", "mirror.local", "q.io/team"), "q.io/a:1", "q.io/a:1", True),
        (("matchExact",), "q.io/a:1", "not a name", False),
        (("matchExact",), "q.io/a:1", "", False),
    ],
)
def test_names_of_signatures(identity: tuple[str, ...], wanted: str | None, signed: str, expected: bool) -> None:
    kind_, value, other = (*identity, "", "")[:3]
    found = Identity(kind=kind_, value=value, signed=other)
    assert matches(found, parse(wanted) if wanted else None, signed) is expected
