"""What cannot be on a user-defined network: told in one line, and nothing of it is made."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import Engine, Result
from tests.support.waiting import wait_until

TAKEN = "10.97.0.66"


@pytest.fixture
def nets(engine: Engine) -> Iterator[Engine]:
    """The engine with networks front and six (IPv6)."""
    engine("network", "create", "--subnet", "10.97.0.0/24", "front")
    engine("network", "create", "--subnet", "10.97.1.0/24", "--subnet", "fd97::/64", "six")
    yield engine
    engine("network", "rm", "-f", "-t", "0", "front", "six")


def told(result: Result, text: str) -> None:
    """One line of error, and perhaps a hint."""
    line, *more = result.err.splitlines()
    assert line.startswith("pyctl: ")
    assert text in line
    assert [word.partition(":")[0] for word in more] in ([], ["hint"])


def nothing_is_made(engine: Engine, *, held: tuple[str, ...] = ()) -> None:
    """No container but `held`, and nobody else has an address; without any, no network process."""
    assert engine("ps", "-a", "--format", "{{.Names}}").out.split() == list(held)
    with sqlite3.connect(engine.storage_root / "state.db") as db:
        owners = db.execute("SELECT c.name FROM network_leases l LEFT JOIN containers c ON c.id = l.container_id")
        assert {name for (name,) in owners} <= set(held)
    db.close()
    if not held:
        wait_until(lambda: set(os.listdir(engine.runtime_root / "network")) <= {"lock", "start"}, 15)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--network", "nosuch"), "no network with name or ID 'nosuch'"),
        (("--network", f"front:ip={TAKEN}"), f"--ip {TAKEN}: container"),
        (("--network", "front:ip=10.99.0.66"), "not in network front"),
        (("--network", "front", "--ip", "10.99.0.66"), "not in network front"),
        (("--network", "front:ip=10.97.0.1"), "that is the gateway of network front"),
        (("--network", "front:ip=10.97.0.0"), "no container can have the first or last address"),
        (("--network", "front:ip=10.97.0.255"), "no container can have the first or last address"),
        (("--network", "front:ip=10.97.0"), "not an IP address"),
        (("--network", "six:ip6=fd98::5"), "not in network six"),
        (("--network", "front:ip6=fd97::5"), "not in network front"),
        (("--network", "front:mac=foo"), "foo: not a MAC address"),
        (("--network", "front:foo=bar"), "unknown option 'foo'"),
        (("--network", "front", "--network", "host"), "cannot be combined with other networks"),
        (("--network", "front", "--network", "six", "--ip", "10.97.0.9"), "--ip"),
        (("--network", "front:interface_name=lo"), "no name for an interface"),
        (("--network", "front:interface_name=x0", "--network", "six:interface_name=x0"), "is on another network"),
    ],
)
def test_options_of_run(nets: Engine, words: tuple[str, ...], text: str) -> None:
    nets("run", "-d", "--name", "other", "--network", f"front:ip={TAKEN}", "busybox", "sleep", "1000")
    told(nets("run", "--rm", "--name", "c", *words, "busybox", "true", status=125), text)
    nothing_is_made(nets, held=("other",))
    assert nets("unshare", "--rootless-netns", "ip", "-o", "link").out.count("veth") == 1


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_in_use(nets: Engine, protocol: str) -> None:
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if protocol == "tcp":
            other.listen()
        port = other.getsockname()[1]
        run = ("run", "--rm", "--name", "c", "--network", "front", "-p", f"{port}:80/{protocol}", "busybox", "true")
        told(nets(*run, status=126), f"port {port} is already in use")
        nothing_is_made(nets)
        nets("create", "--name", "c", *run[4:])
        told(nets("start", "c", status=None), f"port {port} is already in use")
        assert nets.state("c") == "created"
    nets("start", "-a", "c")


def test_an_address_that_somebody_took_meanwhile(nets: Engine) -> None:
    nets("create", "--name", "c", "--network", f"front:ip={TAKEN}", "busybox", "true")
    nets("run", "-d", "--name", "other", "--network", f"front:ip={TAKEN}", "busybox", "sleep", "1000")
    told(nets("start", "c", status=125), f"--ip {TAKEN}: container")
    assert nets.state("c") == "created"
    nets("run", "-d", "--name", "third", "busybox", "sleep", "1000")
    told(nets("network", "connect", "--ip", TAKEN, "front", "third", status=125), f"--ip {TAKEN}: container")
    assert "front" not in nets.inspect("third")["NetworkSettings"]["Networks"]
    assert nets("exec", "third", "ip", "-o", "link").out.count("eth0") == 0
    nets("rm", "-f", "-t", "0", "other", "third")
    nets("start", "-a", "c")


def test_a_full_network(nets: Engine) -> None:
    nets("network", "create", "--subnet", "10.97.2.0/30", "tiny")
    nets("run", "-d", "--name", "only", "--network", "tiny", "busybox", "sleep", "1000")
    result = nets("run", "--rm", "--network", "tiny", "busybox", "true", status=125)
    told(result, "network tiny has no address left in 10.97.2.0/30")
    nothing_is_made(nets, held=("only",))
    nets("network", "rm", "-f", "-t", "0", "tiny")


def test_networks_that_exist_or_are_in_use(nets: Engine) -> None:
    before = nets("network", "ls", "-q", "--no-trunc").out
    told(nets("network", "create", "front", status=125), "network front already exists")
    told(nets("network", "create", "--subnet", "10.97.0.128/25", "new", status=125), "overlaps with 10.97.0.0/24")
    told(nets("network", "create", "--subnet", "10.97.0.300/25", "new", status=125), "is not an IP address")
    told(nets("network", "create", "--subnet", "10.97.0.0/33", "new", status=125), "is not a network")
    nets("create", "--name", "c", "--network", "front", "busybox", "true")
    told(nets("network", "rm", "front", status=2), "network front is in use by")
    assert nets("network", "ls", "-q", "--no-trunc").out == before
    assert nets("start", "-a", "c").out == ""


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("", "slirp4netns: No such file or directory"),
        ("#!/bin/sh\necho 'slirp4netns version 0.3.2'\n", "is version 0.3.2: too old"),
        ("#!/bin/sh\nexit 1\n", "slirp4netns --version does not name a version"),
    ],
)
def test_slirp4netns_is_missing_or_too_old(nets: Engine, tmp_path: Path, script: str, text: str) -> None:
    program, settings = tmp_path / "slirp4netns", tmp_path / "pyctl.conf"
    if script:
        program.write_text(script)
        program.chmod(0o755)
    settings.write_text(f'[engine]\nnetwork_cmd_path = "{program}"\n')
    chosen: dict[str, str | None] = {"PYCTL_CONF": str(settings)}
    told(nets("run", "--rm", "--network", "front", "busybox", "true", status=125, env=chosen), text)
    nothing_is_made(nets)
    nets("run", "-d", "--name", "c", "--network=none", "busybox", "sleep", "1000")
    nets("rm", "-f", "-t", "0", "c")
    assert nets("run", "--rm", "--network", "front", "busybox", "echo", "ran").line == "ran"
