"""slirp4netns as the supervisor runs it: a child of uid 0 in a user namespace, with private mounts and pids."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from network.facts import gather, host_address
from network.plan import network_plan
from network.ports import choose
from pyctl.engine.model import Network, Port

WORLD = Path(__file__).with_name("slirp_world.py")
Start = Callable[..., dict[str, Any]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Makes a namespace connected as the given network says; all of it ends with the test."""
    facts = gather(str(tmp_path))
    if not facts.slirp4netns or not os.access("/dev/net/tun", os.W_OK):
        pytest.skip("needs slirp4netns and a /dev/net/tun that this user may open")
    started: list[subprocess.Popen[str]] = []

    def make(*options: str, ports: tuple[Port, ...] = (), reach: tuple[tuple[str, int], ...] = ()) -> dict[str, Any]:
        handled = (*options, "port_handler=slirp4netns")
        plan = network_plan(Network(mode="slirp4netns", options=handled, ports=ports), facts)
        unshare = ["unshare", "--user", "--map-root-user", "--mount", "--propagation=private", "--pid", "--fork"]
        world = subprocess.Popen(
            [*unshare, "--kill-child", sys.executable, str(WORLD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(world)
        given = {
            "args": plan.helper_args,
            "helper": plan.helper,
            "ports": [[p.host_ip, p.host_port, p.container_port, p.protocol] for p in plan.ports],
            "reach": reach,
            "api": str(tmp_path / f"api{len(started)}"),
        }
        assert world.stdin
        assert world.stdout
        world.stdin.write(json.dumps(given) + "\n")
        world.stdin.flush()
        told: dict[str, Any] = json.loads(world.stdout.readline())
        return told

    yield make
    for world in started:
        assert world.stdin
        assert world.stdout
        world.stdin.close()
        assert world.wait(20) == 0
        world.stdout.close()


def port(number: int, protocol: str = "tcp", host_ip: str = "127.0.0.1") -> Port:
    mapping = Port(container_port=number, protocol=protocol, host_ip=host_ip)
    return mapping.replace(host_port=choose(mapping, ()))


def echo(mapping: Port, host: str = "127.0.0.1") -> bytes:
    kind = socket.SOCK_DGRAM if mapping.protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as client:
        client.settimeout(10)
        client.connect((host, mapping.host_port))
        client.send(b"hello")
        return client.recv(100)


def test_defaults(start: Start) -> None:
    told = start()
    assert " mtu 65520 " in told["interface"]
    assert "inet 10.0.2.100/24" in told["interface"]
    assert "inet6 fd00:" in told["interface"]
    assert told["seccomp"] == "2"
    assert told["sees"] == ["etc", "run"]
    assert told["hostfwd"] == []


def test_options(start: Start) -> None:
    told = start("mtu=1500", "cidr=10.77.0.0/16", "enable_ipv6=false")
    assert " mtu 1500 " in told["interface"]
    assert "inet 10.77.0.100/16" in told["interface"]
    assert "inet6 fd00:" not in told["interface"]


def test_published_tcp_ports(start: Start) -> None:
    tcp, everywhere = port(80), port(81, host_ip="")
    told = start(ports=(tcp, everywhere))
    assert [(f["proto"], f["host_addr"], f["host_port"], f["guest_port"]) for f in told["hostfwd"]] == [
        ("tcp", "127.0.0.1", tcp.host_port, 80),
        ("tcp", "0.0.0.0", everywhere.host_port, 81),
    ]
    for mapping in (tcp, everywhere):
        assert echo(mapping) == b"10.0.2.2 hello"


@pytest.mark.parametrize("host_ip", ["127.0.0.1", ""])
@pytest.mark.parametrize("options", [(), ("allow_host_loopback=true",)])
def test_published_udp_ports(start: Start, host_ip: str, options: tuple[str, ...]) -> None:
    mapping = port(53, "udp", host_ip)
    start(*options, ports=(mapping,))
    # Never 127.0.0.1: what a service answers to its own host alone is not for the host of the container.
    expected = b"10.0.2.2 hello" if options else b"10.0.2.100 hello"
    for _ in range(3):
        assert echo(mapping) == expected
    address = host_address()
    if not host_ip and address:
        assert echo(mapping, address) == address.encode() + b" hello", "other clients keep their address"


def test_udp_clients_of_the_relay_do_not_mix(start: Start) -> None:
    mapping = port(53, "udp", "")
    start(ports=(mapping,))
    clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(20)]
    for number, client in enumerate(clients):
        client.settimeout(10)
        client.connect(("127.0.0.1", mapping.host_port))
        client.send(b"%d" % number)
    for number, client in enumerate(clients):
        assert client.recv(100) == b"10.0.2.100 %d" % number
        client.close()


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_that_another_container_holds(start: Start, protocol: str) -> None:
    first = port(80, protocol, host_ip="")
    start(ports=(first,))
    told = start(ports=(port(81), first.replace(container_port=99)))
    udp = "udp " if protocol == "udp" else ""
    assert told["error"] == f"{udp}port {first.host_port} is already in use on 0.0.0.0"
    specific = start(ports=(first.replace(host_ip="127.0.0.1"),))
    assert specific["error"] == f"{udp}port {first.host_port} is already in use on 127.0.0.1"


def test_a_privileged_port(start: Start) -> None:
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as setting:
        if os.geteuid() == 0 or int(setting.read()) < 2:
            pytest.skip("this user may bind any port")
    told = start(ports=(Port(container_port=80, host_port=1),))
    assert told["error"] == "port 1 on 0.0.0.0 is reserved for the administrator"
    assert "ip_unprivileged_port_start=1" in told["hint"]


def test_the_hosts_loopback_is_reached_only_when_asked(start: Start) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"hello")

        threading.Thread(target=greet, daemon=True).start()
        target = ("10.0.2.2", server.getsockname()[1])
        assert start(reach=(target,))["reached"] == [False]
        assert start("allow_host_loopback=true", reach=(target,))["reached"] == [True]


def test_many_ports(start: Start) -> None:
    base = port(80)
    ports = tuple(
        Port(container_port=1000 + n, host_port=n, host_ip="127.0.0.3")
        for n in range(base.host_port % 20000 + 2000, base.host_port % 20000 + 2200)
    )
    told = start(ports=ports)
    assert len(told["hostfwd"]) == 200
