"""References against the distribution project's grammar, and digests."""

import re
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from storage import digest, reference
from storage.digest import DigestError
from storage.reference import InvalidReferenceError, Reference, is_short, parse, with_registry

HEX = "0123456789abcdef" * 4
SHA = "sha256:" + HEX

# The grammar as https://github.com/distribution/reference states it, as an oracle for the hand-written parser.
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
ORACLE = re.compile(
    rf"\A(?:(?P<domain>{_DOMAIN})/)?(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}))?\Z"
)


def oracle(text: str) -> Reference | None:
    """What `text` means by the grammar and Docker's normalisation, None where it is no reference."""
    first, slash, _ = text.partition("/")
    named = slash and ("." in first or ":" in first or first == "localhost" or first.startswith("["))
    match = ORACLE.match(text if named else "docker.io/" + text)
    if match is None or match["domain"] is None:
        return None
    domain, path = match["domain"], match["path"]
    if domain == "index.docker.io":
        domain = "docker.io"
    if domain == "docker.io" and "/" not in path:
        if re.fullmatch("[0-9a-f]{64}", path):
            return None
        path = "library/" + path
    if len(path) > 255:
        return None
    return Reference(domain=domain, path=path, tag=match["tag"] or "", digest=match["digest"] or "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alpine", "docker.io/library/alpine"),
        ("alpine:3.20", "docker.io/library/alpine:3.20"),
        ("team/app", "docker.io/team/app"),
        ("docker.io/alpine", "docker.io/library/alpine"),
        ("index.docker.io/alpine", "docker.io/library/alpine"),
        ("localhost/app", "localhost/app"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("localhost", "docker.io/library/localhost"),
        ("quay.io/a/b/c@" + SHA, "quay.io/a/b/c@" + SHA),
        ("quay.io/a/b:t@" + SHA, "quay.io/a/b:t@" + SHA),
        ("[::1]:5000/a", "[::1]:5000/a"),
        ("127.0.0.1:5000/a__b/c--d.e", "127.0.0.1:5000/a__b/c--d.e"),
        ("Host.Example/a", "Host.Example/a"),
        ("app:5000", "docker.io/library/app:5000"),
    ],
)
def test_normalises(text, expected):
    assert str(parse(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "/", "@", "a:", "a@", ":tag", "@" + SHA, "Alpine", "team/App", "a//b", "/a", "a/", "a:b:c", "a:-x",
        "a:" + "x" * 129, "-a", "a-", "a..b", "a___b", "a._b", "../x", "./x", "a b", "a\n", "a\0b", "ä", "a:ä",
        "a@sha256:",
        "a@sha256:" + HEX[:-1], "a@sha256:" + HEX.upper(), "a@md5:" + HEX[:32], HEX, "http://a/b", "host.:x/a",
        "host.example:/a", "host.example:80x/a", "[::1/a", "[]/a", "[::1]x/a", "-h.example/a", "a@" + SHA + "@" + SHA,
        "quay.io/" + "a" * 256, "a:t\n", "a\u2028",
    ],
)  # fmt: skip
def test_refuses(text):
    with pytest.raises(InvalidReferenceError) as caught:
        parse(text)
    assert "\n" not in caught.value.message
    assert oracle(text) is None


def test_the_path_may_have_255_characters():
    assert parse("quay.io/" + "a" * 255).path == "a" * 255


_PIECES = st.sampled_from(
    ["a", "b0", "A", "1", ".", "_", "__", "-", "--", "/", ":", "@", "localhost", "docker.io", "index.docker.io", "5000",
     "[::1]", "library", SHA, "sha256:", HEX, "latest", " ", "\n", "é", "x" * 130]
)  # fmt: skip


@given(st.lists(_PIECES, max_size=9).map("".join))
@example("docker.io/" + "x" * 128)
def test_agrees_with_the_grammar(text):
    expected = oracle(text)
    try:
        found = parse(text)
    except InvalidReferenceError:
        found = None
    assert found == expected


@given(st.text(max_size=40))
def test_any_text_is_a_reference_or_an_error(text):
    try:
        found = parse(text)
    except InvalidReferenceError:
        assert oracle(text) is None
    else:
        assert found == oracle(text)


@given(st.from_regex(ORACLE.pattern.replace("(?P<domain>", "(?:").replace("(?P<path>", "(?:"), fullmatch=True))
def test_what_is_printed_is_read_again(text):
    if oracle(text) is None:
        return
    found = parse(text)
    assert parse(str(found)) == found
    assert parse(str(found.with_default_tag())) == found.with_default_tag()


def test_default_tag_only_without_tag_and_digest():
    assert parse("a").with_default_tag().tag == "latest"
    assert parse("a:1").with_default_tag().tag == "1"
    assert parse("a@" + SHA).with_default_tag().tag == ""


@pytest.mark.parametrize(
    ("text", "short"),
    [("alpine", True), ("a/b", True), ("localhost", True), ("localhost/a", False), ("q.io/a", False), ("h:1/a", False)],
)
def test_short_names(text, short):
    assert is_short(text) is short
    if short:
        assert with_registry("quay.io", text).domain == "quay.io"


def test_short_refuses_what_is_no_reference():
    with pytest.raises(InvalidReferenceError):
        is_short("A")


@pytest.mark.parametrize("text", [SHA, "sha512:" + HEX * 2])
def test_digests(text):
    assert digest.check(text) == text
    assert digest.split(text) == tuple(text.split(":"))


@pytest.mark.parametrize(
    "text",
    ["", "sha256", "sha256:", SHA + "0", SHA[:-1], SHA[:-1] + "G", SHA[:-1] + "A", "SHA256:" + HEX,
     "sha256:../" + HEX[3:], "sha512:" + HEX, "md5:" + HEX[:32], None, 5, b"sha256:" + HEX.encode(), SHA + "\n",
     " " + SHA],
)  # fmt: skip
def test_malformed_digests(text):
    assert not digest.is_digest(text)
    with pytest.raises(DigestError):
        digest.check(text)


def test_of_and_verify():
    empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert digest.of(b"") == empty
    digest.verify(b"", empty, "x")
    with pytest.raises(DigestError, match="x: wrong digest"):
        digest.verify(b"a", empty, "x")


def test_parsing_imports_nothing_heavy():
    code = "import sys; import storage.reference as r; r.parse('alpine'); print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert not {"re", "typing", "json", "dataclasses", "enum", "hashlib", "urllib3"} & set(loaded)
    assert reference.__name__ in loaded
