"""Host ports: free ones are chosen, taken ones are named before anything is made.  Real sockets on the loopback."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from network.ports import check_ports, choose, first_free
from pyctl.engine.model import Port
from rootless.errors import Error, LaunchError
from rootless.plan import PortForward
from rootless.slirp_api import bind_error, check_free


@pytest.fixture
def taken() -> Iterator[tuple[int, int]]:
    """A listening TCP port and a bound UDP port on 127.0.0.1."""
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        for s in (tcp, udp):
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", 0))
        tcp.listen()
        yield tcp.getsockname()[1], udp.getsockname()[1]


def local(port: int, protocol: str = "tcp", host_ip: str = "127.0.0.1") -> Port:
    return Port(container_port=80, host_port=port, protocol=protocol, host_ip=host_ip)


@pytest.mark.parametrize("host_ip", ["127.0.0.1", ""])
def test_ports_in_use_are_named(taken: tuple[int, int], host_ip: str) -> None:
    tcp, udp = taken
    shown = host_ip or "0.0.0.0"
    with pytest.raises(LaunchError, match=f"^port {tcp} is already in use on {shown}$"):
        check_ports((local(tcp, host_ip=host_ip),))
    with pytest.raises(LaunchError, match=f"^udp port {udp} is already in use on {shown}$") as caught:
        check_ports((local(udp, "udp", host_ip),))
    assert caught.value.hint


def test_the_other_protocol_and_other_addresses_are_free(taken: tuple[int, int]) -> None:
    tcp, udp = taken
    check_ports((local(tcp, "udp"), local(tcp, host_ip="127.0.0.2"), local(udp, "udp", "127.0.0.2")))


def test_a_connection_in_time_wait_is_no_conflict() -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        side, _ = server.accept()
        side.close()  # closes first: its end waits
        client.recv(1)
        client.close()
    check_free(PortForward(host_ip="127.0.0.1", host_port=port, container_port=1))


def test_an_address_of_another_host() -> None:
    with pytest.raises(LaunchError, match=r"cannot publish on 192\.0\.2\.250: not an address of this host"):
        check_ports((local(8080, host_ip="192.0.2.250"),))


def test_privileged_ports_tell_the_sysctl() -> None:
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as setting:
        first = int(setting.read())
    if os.geteuid() == 0 or first < 2:
        pytest.skip("this user may bind any port")
    with pytest.raises(LaunchError, match=r"^port 1 on 127\.0\.0\.1 is reserved for the administrator$") as caught:
        check_ports((local(1),))
    assert f"a port of {first} or more" in caught.value.hint
    assert "sysctl net.ipv4.ip_unprivileged_port_start=1" in caught.value.hint


def test_another_error_keeps_the_kernels_words() -> None:
    forward = PortForward(host_ip="127.0.0.1", host_port=1, container_port=2)
    assert bind_error(forward, OSError(12, "Cannot allocate memory")).message == (
        "publish 127.0.0.1:1:2/tcp: Cannot allocate memory"
    )


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_choosing(protocol: str) -> None:
    port = Port(container_port=80, protocol=protocol)
    chosen = choose(port, ())
    check_ports((local(chosen, protocol),))
    with open("/proc/sys/net/ipv4/ip_local_port_range") as setting:
        low, high = (int(n) for n in setting.read().split())
    assert low <= chosen <= high


def test_choosing_avoids_what_others_hold() -> None:
    class Some:
        def __contains__(self, pair: object) -> bool:
            assert isinstance(pair, tuple)
            return bool(pair[1] // 2 % 2)  # not the parity: the kernel gives bind(2) one and connect(2) the other

    port = Port(container_port=80, host_ip="127.0.0.1")
    assert all(choose(port, Some()) // 2 % 2 == 0 for _ in range(10))


def test_choosing_where_nothing_is_free() -> None:
    class All:
        def __contains__(self, pair: object) -> bool:
            return True

    with pytest.raises(Error, match="--publish 80: no free host port"):
        choose(Port(container_port=80), All())
    with pytest.raises(Error, match="no free host port"):
        choose(Port(container_port=80, host_ip="192.0.2.250"), ())


def test_first_of_a_range(taken: tuple[int, int]) -> None:
    tcp, _ = taken
    numbers = (tcp, tcp, choose(local(0), ()))
    assert first_free(local(0), numbers, {("udp", numbers[2])}) == numbers[2]
    with pytest.raises(Error, match="no free host port in the range"):
        first_free(local(0), numbers, {("tcp", numbers[2])})
