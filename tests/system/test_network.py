"""Networks of one container: none, host, slirp4netns, container:; ports, names, resolvers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.support.engine import Engine
from tests.support.registry import free_port, reachable
from tests.support.waiting import wait_until

# Answers one line on each connection, with the address of the caller.
SERVE = ["sh", "-c", "while :; do echo hello from $(hostname) | nc -l -p 80; done"]
ADDRESSES = ["sh", "-c", "ip -o addr | awk '{print $2, $4}'"]


class HostServer:
    """Greets whoever connects to a port of the host; what it was sent ends up in `received`."""

    def __init__(self, address: str) -> None:
        self.socket = socket.create_server((address, 0))
        self.port = self.socket.getsockname()[1]
        self.peers: list[str] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, peer = self.socket.accept()
            except OSError:
                return
            self.peers.append(peer[0])
            with connection:
                connection.sendall(b"greetings\n")


@pytest.fixture
def host_server() -> Iterator[HostServer]:
    server = HostServer("0.0.0.0")
    yield server
    server.socket.close()


def host_address() -> str:
    """An address of this host other than loopback, or "" where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def read_line(port: int, address: str = "127.0.0.1") -> str:
    try:
        with socket.create_connection((address, port), 3) as connection:
            return connection.recv(200).decode()
    except OSError:
        return ""


def test_default_is_slirp4netns(engine: Engine) -> None:
    out = engine("run", "--rm", "--network", "slirp4netns", "busybox", *ADDRESSES).out
    assert "lo 127.0.0.1/8" in out
    assert "tap0 10.0.2.100/24" in out
    routes = engine("run", "--rm", "--network", "slirp4netns", "busybox", "ip", "route").out
    assert "default via 10.0.2.2" in routes


def test_none(engine: Engine) -> None:
    assert engine("run", "--rm", "--network=none", "busybox", *ADDRESSES).out.splitlines()[0] == "lo 127.0.0.1/8"
    assert "tap0" not in engine("run", "--rm", "--net", "none", "busybox", *ADDRESSES).out


def test_host(engine: Engine, host_server: HostServer) -> None:
    assert (
        engine("run", "--rm", "--network=host", "busybox", "nc", "127.0.0.1", str(host_server.port)).line == "greetings"
    )


def test_to_the_outside(engine: Engine, host_server: HostServer) -> None:
    address = host_address()
    if not address:
        pytest.skip("the host has no address but loopback")
    out = engine(
        "run", "--rm", "--network=slirp4netns", "busybox", "nc", "-w", "5", address, str(host_server.port)
    ).line
    assert out == "greetings"


def test_loopback_of_the_host_is_closed(engine: Engine, host_server: HostServer) -> None:
    """10.0.2.2 is the host's loopback, opened by an option only."""
    argv = ["busybox", "nc", "-w", "3", "10.0.2.2", str(host_server.port)]
    assert engine("run", "--rm", "--network=slirp4netns", *argv, status=None).out == ""
    assert engine("run", "--rm", "--network=slirp4netns:allow_host_loopback=true", *argv).line == "greetings"


def test_slirp_options(engine: Engine) -> None:
    out = engine(
        "run", "--rm", "--network=slirp4netns:mtu=1400,cidr=10.77.0.0/24", "busybox", "ip", "addr", "show", "tap0"
    ).out
    assert "mtu 1400" in out
    assert "10.77.0.100/24" in out
    assert "nosuch" in engine("run", "--rm", "--network=slirp4netns:nosuch=1", "busybox", "true", status=125).err


@pytest.mark.parametrize("form", ["{port}:80", "127.0.0.1:{port}:80", "{port}:80/tcp"])
def test_published_port(engine: Engine, form: str) -> None:
    port = free_port()
    engine("run", "-d", "--name", "c", "-p", form.format(port=port), "--hostname", "web", "busybox", *SERVE)
    assert wait_until(lambda: read_line(port)) == "hello from web\n"
    assert f"{port}->80/tcp" in engine("ps", "--format", "{{.Ports}}").line
    engine("rm", "-f", "-t", "0", "c")
    wait_until(lambda: not reachable(port))


def test_port_picked_by_the_engine(engine: Engine) -> None:
    engine("run", "-d", "--name", "c", "-p", "80", "busybox", *SERVE)
    ports = engine.inspect("c")["NetworkSettings"]["Ports"]["80/tcp"]
    assert wait_until(lambda: read_line(int(ports[0]["HostPort"]))).startswith("hello from")


def test_port_range(engine: Engine) -> None:
    port = free_port()
    while port > 65000 or any(reachable(port + n) for n in range(3)):
        port = free_port()
    engine("run", "-d", "--name", "c", "-p", f"{port}-{port + 2}:80-82", "busybox", *SERVE)
    assert wait_until(lambda: read_line(port)).startswith("hello from")
    assert len(engine.inspect("c")["NetworkSettings"]["Ports"]) == 3


def test_publish_all(engine: Engine) -> None:
    engine("run", "-d", "--name", "c", "-P", "--expose", "80", "busybox", *SERVE)
    port = int(engine.inspect("c")["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"])
    assert wait_until(lambda: read_line(port)).startswith("hello from")


def test_port_in_use(engine: Engine, host_server: HostServer) -> None:
    result = engine("run", "-d", "--name", "c", "-p", f"{host_server.port}:80", "busybox", "sleep", "1000", status=None)
    assert result.status in (125, 126)
    assert str(host_server.port) in result.err
    assert "in use" in result.err
    assert engine("ps", "-q").out == ""
    engine("rm", "-f", "c")


@pytest.mark.parametrize("value", ["x:80", "99999:80", "80:", "1:2:3:4:5", "8080:80/nosuch", "8080-8090:80-81"])
def test_bad_ports(engine: Engine, value: str) -> None:
    engine("run", "--rm", "-p", value, "busybox", "true", status=125)


def test_ports_without_a_network_of_its_own(engine: Engine) -> None:
    engine("run", "--rm", "--network=none", "-p", "8088:80", "busybox", "true", status=None)


def test_network_of_another_container(engine: Engine) -> None:
    engine("run", "-d", "--name", "server", "--network=slirp4netns", "busybox", *SERVE)

    def ask() -> str:
        return engine("run", "--rm", "--network=container:server", "busybox", "nc", "127.0.0.1", "80", status=None).out

    assert wait_until(ask, interval_s=0.1).startswith("hello from")


def test_hosts_file(engine: Engine) -> None:
    out = engine(
        "run",
        "--rm",
        "--name",
        "me",
        "--hostname",
        "mine",
        "--add-host",
        "db:192.0.2.7",
        "busybox",
        "cat",
        "/etc/hosts",
    ).out
    rows = [line.split() for line in out.splitlines() if line and not line.startswith("#")]
    assert [row for row in rows if row[0] == "127.0.0.1" and "localhost" in row]
    assert ["192.0.2.7", "db"] in rows
    own = [row for row in rows if "mine" in row]
    assert own
    assert "me" in own[0]


def test_resolver(engine: Engine) -> None:
    options = ["--dns", "192.0.2.53", "--dns-search", "example.org", "--dns-option", "ndots:3"]
    out = engine("run", "--rm", *options, "busybox", "cat", "/etc/resolv.conf").out
    assert "nameserver 192.0.2.53" in out
    assert "search example.org" in out
    assert "ndots:3" in out
    engine("run", "--rm", "--dns", "not-an-address", "busybox", "true", status=125)


def test_no_hosts(engine: Engine) -> None:
    assert "192.0.2" not in engine("run", "--rm", "--no-hosts", "busybox", "cat", "/etc/hosts", status=None).out


def test_files_in_etc_stay_writable(engine: Engine) -> None:
    engine("run", "--rm", "busybox", "sh", "-c", "echo 192.0.2.9 new >> /etc/hosts && echo x >> /etc/resolv.conf")


@pytest.mark.parametrize("value", ["nosuchnetwork", "slirp4netns:mtu=x", "container:", "ns:/no/such/path"])
def test_bad_networks(engine: Engine, value: str) -> None:
    result = engine("run", "--rm", f"--network={value}", "busybox", "true", status=None)
    assert result.status in (125, 126, 127)
    assert result.err
    assert engine("ps", "-aq").out == ""
