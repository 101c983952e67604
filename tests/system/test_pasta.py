"""--network pasta: where it is installed."""

from __future__ import annotations

import socket
import threading

import pytest

from network.facts import host_address
from tests.support.engine import Engine
from tests.support.requirements import program
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def needs_pasta() -> None:
    program("pasta")
    if not host_address():
        pytest.skip("pasta needs a host with a default route")


def test_its_network(engine: Engine) -> None:
    script = "ip addr; cat /etc/resolv.conf"
    out = engine("run", "--rm", "--network=pasta:--mtu,1400", "busybox", "sh", "-c", script).out
    assert f"inet {host_address()}/" in out
    assert "mtu 1400" in out
    assert "nameserver 169.254.1.1" in out


def test_to_the_outside_and_not_to_the_hosts_loopback(engine: Engine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed, socket.create_server((host_address(), 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].sendall(b"greetings\n"), daemon=True).start()
        gateway = "$(ip route | awk '/^default/ {print $3}')"
        script = f"nc -w 3 {gateway} {closed.getsockname()[1]} </dev/null && echo reached; true"
        assert "reached" not in engine("run", "--rm", "--network=pasta", "busybox", "sh", "-c", script).out


def test_it_is_the_containers_helper(engine: Engine) -> None:
    engine("run", "-d", "--name", "c", "--network=pasta", "busybox", "sleep", "1000")
    tree = engine.inspect("c")
    assert list(tree["NetworkSettings"]["Networks"]) == ["pasta"]
    assert tree["HostConfig"]["NetworkMode"] == "pasta"
    engine("restart", "-t", "0", "c")
    wait_until(lambda: "inet " in engine("exec", "c", "ip", "addr", status=None).out)
    engine("rm", "-f", "-t", "0", "c")


def test_what_it_refuses(engine: Engine) -> None:
    assert "nosuch" in engine("run", "--rm", "--network=pasta:--nosuch", "busybox", "true", status=126).err
    assert "--netns" in engine("run", "--rm", "--network=pasta:--netns,x", "busybox", "true", status=125).err
    assert engine("ps", "-aq").out == ""
