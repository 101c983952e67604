"""What is read from the host: slirp4netns's version and its cache, texts, addresses, namespaces."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from network import facts
from network.hosts import NameSources
from rootless.errors import Error, NotFound, UsageError


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("slirp4netns version 1.2.0\ncommit: 656041d\n", (1, 2, 0)),
        ("slirp4netns version 1.0.1+dev\n", (1, 0, 1)),
        ("slirp4netns version 0.4.0-beta.1\n", (0, 4, 0)),
        ("slirp4netns version v1.3\n", (1, 3)),
        ("slirp4netns version unknown\n", ()),
        ("slirp4netns: error\n", ()),
        ("", ()),
    ],
)
def test_version_text(output: str, version: tuple[int, ...]) -> None:
    assert facts.parse_version(output) == version


def program(path: Path, version: str) -> str:
    path.write_text(f'#!/bin/sh\necho called >> "{path}.calls"\necho "slirp4netns version {version}"\n')
    path.chmod(0o755)
    return str(path)


def calls(path: str) -> int:
    return len(Path(path + ".calls").read_text().splitlines())


def test_the_program_is_asked_once_for_each_state_of_it(tmp_path: Path) -> None:
    path = program(tmp_path / "slirp4netns", "1.2.0")
    cache = str(tmp_path / "cache" / "deep")
    for _ in range(3):
        assert facts.slirp_version(path, cache) == (1, 2, 0)
    assert calls(path) == 1
    program(tmp_path / "slirp4netns", "1.10.0")
    assert facts.slirp_version(path, cache) == (1, 10, 0)
    assert calls(path) == 2
    kept = Path(cache) / "slirp4netns.version"
    kept.write_bytes(kept.read_bytes()[:-3])  # a shorter version that would read as one
    assert facts.slirp_version(path, cache) == (1, 10, 0)
    assert calls(path) == 3, "a damaged cache is not believed"
    kept.unlink()
    kept.mkdir()
    assert facts.slirp_version(path, cache) == (1, 10, 0)
    assert os.listdir(cache) == ["slirp4netns.version"], "no partial file is left"


def test_programs_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(Error, match="No such file"):
        facts.slirp_version(str(tmp_path / "none"), str(tmp_path))
    with pytest.raises(Error, match="does not name a version"):
        facts.slirp_version("/bin/echo", str(tmp_path))


def test_looking_along_the_path(tmp_path: Path) -> None:
    found = program(tmp_path / "some-program", "1.0.0")
    assert facts.find_program("some-program", f"/nonexistent:{tmp_path}:/bin") == found
    assert facts.find_program("some-program", "/bin") == ""
    assert facts.find_program("sh", "") in ("/usr/bin/sh", "/bin/sh")
    assert facts.find_program("some-program", os.path.relpath(tmp_path)) == "", "relative entries are not trusted"


def test_gather(tmp_path: Path) -> None:
    path = program(tmp_path / "slirp4netns", "1.2.0")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    resolv = root / "etc/resolv.conf"
    resolv.write_text("nameserver 1.1.1.1\n")
    found = facts.gather(str(tmp_path / "cache"), path, root=str(root))
    assert (found.slirp4netns, found.slirp_version) == (path, (1, 2, 0))
    assert found.resolv_in_sandbox
    assert not found.ipv6
    assert "lo" in found.interfaces
    (root / "proc/sys/net/ipv6").mkdir(parents=True)
    resolv.unlink()
    resolv.symlink_to("../mnt/wsl/resolv.conf")
    found = facts.gather(str(tmp_path / "cache"), path, root=str(root))
    assert found.ipv6
    assert not found.resolv_in_sandbox
    resolv.unlink()
    resolv.symlink_to("../run/systemd/resolve/stub-resolv.conf")
    assert facts.gather(str(tmp_path / "cache"), path, root=str(root)).resolv_in_sandbox


def test_name_sources(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hosts").write_bytes(b"127.0.0.1 localhost \xff\n")
    root = str(tmp_path)
    assert facts.name_sources(root=root).hosts.encode("utf-8", "surrogateescape") == b"127.0.0.1 localhost \xff\n"
    assert facts.name_sources("none", root=root).hosts == ""
    assert facts.name_sources("image", image_hosts="1.1.1.1 a\n", root=root).hosts == "1.1.1.1 a\n"
    given = tmp_path / "given"
    given.write_text("2.2.2.2 b\n")
    assert facts.name_sources(str(given), root=root).hosts == "2.2.2.2 b\n"
    with pytest.raises(NotFound, match="no such file"):
        facts.name_sources(str(tmp_path / "missing"), root=root)
    os.mkfifo(tmp_path / "etc/resolv.conf")
    assert facts.name_sources(root=root).resolv == "", "a FIFO without a writer does not block"
    assert facts.name_sources("none", root="/nonexistent") == NameSources(host_address=facts.host_address())


def test_host_address_is_one_of_this_hosts() -> None:
    address = facts.host_address()
    if not address:
        pytest.skip("this host has only a loopback interface")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((address, 0))
    assert not address.startswith("127.")


def test_namespaces(tmp_path: Path) -> None:
    facts.check_namespace("/proc/self/ns/net")
    for path in ("/proc/self/ns/user", "/etc/passwd", str(tmp_path)):
        with pytest.raises(UsageError, match="not a network namespace"):
            facts.check_namespace(path)
    with pytest.raises(NotFound, match="No such file"):
        facts.check_namespace(str(tmp_path / "none"))
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(UsageError, match="not a network namespace"):
        facts.check_namespace(str(fifo))
