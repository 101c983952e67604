"""Manifests, indexes, configurations, platforms: what is accepted, and the one line for what is not."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import Error
from storage import manifest as m
from storage.imageconfig import parse_config
from storage.manifest import Index, Manifest, ManifestError, parse_manifest
from storage.platforms import NoPlatformError, Platform, host_platform, make_platform, parse_platform, select

SHA = "sha256:" + "0123456789abcdef" * 4


def descriptor(media_type=m.OCI_LAYER + "+gzip", **more):
    return {"mediaType": media_type, "digest": SHA, "size": 10, **more}


def image(**more):
    tree = {
        "schemaVersion": 2,
        "mediaType": m.OCI_MANIFEST,
        "config": descriptor(m.OCI_CONFIG),
        "layers": [descriptor(), descriptor(size=11)],
    }
    return json.dumps({k: v for k, v in {**tree, **more}.items() if v is not ...}).encode()


def index(platforms=(("linux", "amd64"), ("linux", "arm64")), **more):
    entries = [
        descriptor(m.OCI_MANIFEST, platform=dict(zip(("os", "architecture", "variant"), p, strict=False)), size=n)
        for n, p in enumerate(platforms)
    ]
    tree = {"schemaVersion": 2, "mediaType": m.OCI_INDEX, "manifests": entries, **more}
    return json.dumps({k: v for k, v in tree.items() if v is not ...}).encode()


def config(run=None, **more):
    tree = {
        "os": "linux",
        "architecture": "amd64",
        "config": run or {},
        "rootfs": {"type": "layers", "diff_ids": [SHA]},
    }
    return json.dumps({k: v for k, v in {**tree, **more}.items() if v is not ...}).encode()


def test_reads_an_image():
    found = parse_manifest(image(), m.OCI_MANIFEST)
    assert isinstance(found, Manifest)
    assert (found.config.digest, [layer.size for layer in found.layers]) == (SHA, [10, 11])
    assert found.image_id == SHA[7:]
    m.check_image(found, "x")


def test_reads_docker_types():
    raw = image(mediaType=m.DOCKER_MANIFEST, config=descriptor(m.DOCKER_CONFIG), layers=[descriptor(m.DOCKER_LAYER)])
    found = parse_manifest(raw, m.DOCKER_MANIFEST + "; charset=utf-8")
    assert isinstance(found, Manifest)
    assert found.media_type == m.DOCKER_MANIFEST
    m.check_image(found, "x")
    assert isinstance(parse_manifest(index(mediaType=m.DOCKER_LIST), m.DOCKER_LIST), Index)


@pytest.mark.parametrize("header", ["", "application/json", "text/plain; charset=utf-8", m.OCI_MANIFEST])
def test_the_media_type_may_be_absent(header):
    assert isinstance(parse_manifest(image(mediaType=...), header), Manifest)


@pytest.mark.parametrize("header", ["", "application/octet-stream", m.OCI_INDEX])
def test_an_index_without_a_media_type(header):
    assert isinstance(parse_manifest(index(mediaType=...), header), Index)


@pytest.mark.parametrize(
    ("raw", "header", "words"),
    [
        (b"", "", "not JSON"),
        (b"[]", "", "not a JSON object"),
        (b"{" * 100_000, "", "not JSON"),
        (b"[" * 100_000, "", "JSON"),
        (b'{"schemaVersion": 2, "size": ' + b"9" * 5000 + b"}", "", "JSON"),
        (b"\xff\xfe", "", "not JSON"),
        (b" " * (m.MAX_MANIFEST_BYTES + 1), "", "larger than"),
        (image(schemaVersion=3), "", "schemaVersion 3"),
        (image(schemaVersion="2"), "", "schemaVersion is not a whole number"),
        (image(schemaVersion=1), "", "schema 1"),
        (b"{}", "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema 1"),
        # One document, two meanings (CVE-2021-41190).
        (image(manifests=[]), "", "a manifest and an index at once"),
        (index(layers=[]), "", "a manifest and an index at once"),
        (image(), m.OCI_INDEX, "was sent as"),
        (index(), m.OCI_MANIFEST, "was sent as"),
        (image(mediaType=...), m.OCI_INDEX, "its content is not"),
        (index(mediaType=...), m.OCI_MANIFEST, "its content is not"),
        (image(mediaType=m.OCI_INDEX), "", "its content is not"),
        (image(mediaType="application/x-other"), "", "no image manifest"),
        (image(config=...), "", "no config"),
        (image(config="x"), "", "config is not an object"),
        (image(layers={}), "", "layers is not a list"),
        (image(layers=["x"]), "", "layers is not a list of objects"),
        (image(layers=[descriptor()] * 1001), "", "1001 layers"),
        (image(layers=[descriptor(digest="sha256:../../etc/passwd")]), "", "invalid digest"),
        (image(layers=[descriptor(digest=None)]), "", "invalid digest"),
        (image(layers=[descriptor(size=-1)]), "", "negative size"),
        (image(layers=[descriptor(size=1.5)]), "", "size is not a whole number"),
        (image(layers=[descriptor(size=True)]), "", "size is not a whole number"),
        (image(layers=[descriptor(size=1 << 63)]), "", "size is not a whole number"),
        (image(layers=[{"digest": SHA}]), "", "no size"),
        (image(config=descriptor(m.OCI_CONFIG, digest=SHA + "0")), "", "invalid digest"),
        (image(layers=[descriptor(mediaType="a\0b")]), "", "NUL"),
        (image(layers=[descriptor(mediaType="\ud800")]), "", "not valid Unicode"),
        (image(annotations={"a": 1}), "", "annotations: a is not a string"),
        (index(manifests=[{"digest": "x", "size": 1}]), "", "invalid digest"),
    ],
)
def test_refuses(raw, header, words):
    with pytest.raises(Error, match=words) as caught:
        parse_manifest(raw, header, "image x: manifest")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"config": descriptor("application/vnd.cncf.helm.config.v1+json")}, "no container image"),
        ({"config": descriptor(m.OCI_CONFIG, digest="sha512:" + SHA[7:] * 2)}, "not sha256"),
        ({"config": descriptor(m.OCI_CONFIG, size=5 << 20)}, "configuration is larger"),
        ({"layers": [descriptor("application/octet-stream")]}, "no file system layer"),
        ({"layers": [descriptor(m.OCI_LAYER + "+gzip+encrypted")]}, "encrypted"),
    ],
)
def test_refuses_what_is_no_image(more, words):
    found = parse_manifest(image(**more))
    with pytest.raises(ManifestError, match=words):
        m.check_image(found, "image x")


_KEYS = st.sampled_from(
    ["schemaVersion", "mediaType", "config", "layers", "manifests", "digest", "size", "annotations", "platform", "os"]
)
_LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(2) | st.just(SHA)


@given(st.recursive(_LEAVES, lambda i: st.lists(i, max_size=3) | st.dictionaries(_KEYS, i, max_size=6)))
def test_any_json_is_a_manifest_or_an_error(tree):
    try:
        found = parse_manifest(json.dumps(tree).encode())
    except Error:
        return
    assert found.digest.startswith("sha256:")


def test_reads_a_configuration():
    found = parse_config(
        config(
            {"Env": ["A=b"], "Cmd": ["sh"], "Entrypoint": None, "User": "1:2", "WorkingDir": "/w",
             "StopSignal": "SIGINT",
             "Volumes": {"/v": {}}, "ExposedPorts": {"80/tcp": {}}, "Labels": {"a": "b"}, "Shell": ["/bin/bash", "-c"],
             "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5, "Retries": 2}},
            history=[{"created_by": "x", "empty_layer": True}], created="2026-01-01T00:00:00Z", variant="v2",
        )
    )  # fmt: skip
    assert found.platform == Platform(os="linux", architecture="amd64", variant="v2")
    assert (found.env, found.command, found.entrypoint) == (("A=b",), ("sh",), ())
    assert (found.user, found.workdir, found.stop_signal) == ("1:2", "/w", "SIGINT")
    assert (found.volumes, found.exposed_ports, found.labels) == (("/v",), ("80/tcp",), {"a": "b"})
    assert found.health is not None
    assert (found.health.test, found.health.interval_ns, found.health.retries) == (("CMD", "true"), 5, 2)
    assert found.history[0].empty_layer
    assert found.diff_ids == (SHA,)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"not json", "not JSON"),
        (b"null", "not a JSON object"),
        (config(os=""), "no os"),
        (config(architecture=...), "no os or no architecture"),
        (config(rootfs={"type": "layers", "diff_ids": ["x"]}), "invalid digest"),
        (config(rootfs={"type": "windows", "diff_ids": []}), "type 'windows'"),
        (config(rootfs=[]), "rootfs is not an object"),
        (config({"Env": "A=b"}), "Env is not a list"),
        (config({"Env": [1]}), "Env is not a string"),
        (config({"Env": ["A=\0"]}), "NUL"),
        (config({"Cmd": ["\udfff"]}), "not valid Unicode"),
        (config({"Volumes": []}), "Volumes is not an object"),
        (config({"Labels": {"a": None}}), "Labels: a is not a string"),
        (config({"Healthcheck": {"Interval": "1s"}}), "Interval is not a whole number"),
        (config(rootfs={"type": "layers", "diff_ids": [SHA] * 1001}), "1001 layers"),
        (config(history=[{"empty_layer": "yes"}]), "empty_layer"),
    ],
)
def test_refuses_configurations(raw, words):
    with pytest.raises(Error, match=words):
        parse_config(raw)


def test_layers_and_diff_ids_are_as_many():
    with pytest.raises(ManifestError, match="2 layers, the configuration 1"):
        m.check_layers(parse_manifest(image()), parse_config(config()), "x")


ARM64, AMD64 = make_platform("linux", "arm64"), make_platform("linux", "amd64")


@pytest.mark.parametrize(
    ("wanted", "offered", "expected"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], 1),
        ("linux/amd64", ["linux/amd64/v3", "linux/amd64"], 1),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], 1),
        ("linux/arm64", ["linux/arm64/v8"], 0),
        ("linux/arm64/v8", ["linux/arm64"], 0),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm/v7"], 2),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6"], 1),
        ("linux/arm/v6", ["linux/arm/v7", "linux/arm/v5"], 1),
        ("linux/arm/v6", ["linux/arm"], 0),
        ("linux/arm", ["linux/arm/v6", "linux/arm/v7"], 1),
        ("linux/amd64", ["linux/amd64", "linux/amd64"], 0),
        ("linux/riscv64", ["linux/riscv64"], 0),
        ("linux/amd64", ["linux/arm64"], -1),
        ("linux/amd64", ["windows/amd64"], -1),
        ("linux/amd64", ["linux/amd64/v2"], -1),
        ("linux/arm/v6", ["linux/arm/v7"], -1),
        ("linux/amd64", [], -1),
    ],
)
def test_selects(wanted, offered, expected):
    platforms = [make_platform(*text.split("/")) for text in offered]
    if expected >= 0:
        assert select(parse_platform(wanted), platforms, "x") == expected
    else:
        with pytest.raises(NoPlatformError) as caught:
            select(parse_platform(wanted), platforms, "image x")
        assert wanted in caught.value.message
        assert all(text in caught.value.hint for text in offered)


def test_an_entry_without_a_platform_is_not_chosen_among_others():
    assert select(AMD64, [None, AMD64], "x") == 1


def test_spellings_of_platforms():
    assert parse_platform("linux/x86_64") == AMD64
    assert parse_platform("linux/aarch64") == ARM64
    assert parse_platform("linux/armhf") == make_platform("linux", "arm", "v7")
    assert parse_platform("arm64").os == "linux"
    assert parse_platform("linux") == host_platform()


@pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d", "linux/\n"])
def test_malformed_platforms(text):
    with pytest.raises(Error, match="invalid platform"):
        parse_platform(text)


def test_an_index_chooses_by_platform():
    found = parse_manifest(index())
    assert isinstance(found, Index)
    assert found.select(ARM64, "x").size == 1
    single = parse_manifest(index(manifests=[descriptor(m.OCI_MANIFEST)]))
    assert isinstance(single, Index)
    assert single.select(ARM64, "x").digest == SHA
