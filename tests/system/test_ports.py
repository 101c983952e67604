"""Published ports from the command line: where they listen, who the container sees, and when they go away."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from tests.support import lan
from tests.support.engine import Engine
from tests.support.processes import descendants
from tests.support.registry import free_port, reachable
from tests.support.requirements import policy_routing, program
from tests.support.waiting import wait_until

# Tells its callers who they are.  The forwarder's own end of a connection is to be seen as well, with port 80 remote.
_TELL = "read line; netstat -tn | awk '$4 ~ /:80$/ && $6 ~ /^EST/ {print $5}'"
WHO = ["nc", "-ll", "-p", "80", "-e", "sh", "-c", _TELL]


def ask(port: int, address: str = "127.0.0.1") -> str:
    """The address that the container sees, or "" where nobody answers."""
    try:
        with socket.create_connection((address, port), 5) as link:
            link.sendall(b"\n")
            return address_in(link.recv(1000).decode())
    except OSError:
        return ""


def address_in(answer: str) -> str:
    return answer.strip().rpartition(":")[0].removeprefix("::ffff:")


def forwarders() -> list[int]:
    return [p.pid for p in descendants() if name_of(p.pid) == "pyctl-ports\n"]


def name_of(pid: int) -> str:
    """The process's own name; "" where it has just ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.mark.parametrize(
    ("form", "more"),
    [
        ("{}:80", ()),
        ("127.0.0.1:{}:80", ()),
        ("[::1]:{}:80", ()),
        ("[::]:{}:80", ()),
        ("{}:80", ("--userns=keep-id", "--user=root")),
        ("{}:80", ("--pid=host",)),
        ("{}:80", ("--network=pasta",)),
    ],
)
def test_the_hosts_loopback_is_not_the_containers(engine: Engine, form: str, more: tuple[str, ...]) -> None:
    if "--network=pasta" in more:
        program("pasta")
    port = free_port()
    engine("run", "-d", "--name", "c", "-p", form.format(port), *more, "busybox", *WHO)
    seen = set()
    for address in ("127.0.0.1", "::1"):
        if ("::1" not in form or address == "::1") and ("127" not in form or address != "::1"):
            seen.add(wait_until(lambda address=address: ask(port, address)))
        else:
            assert not reachable(port, address)
    if "--network=pasta" in more:
        seen.discard("169.254.1.2")  # and for IPv6 the host's gateway, which is the container's too
        assert not {a for a in seen if a.startswith(("127.", "::1"))}
    else:
        assert seen <= {"10.0.2.2", "fd00::2"}
    engine("rm", "-f", "-t", "0", "c")
    assert not reachable(port)
    assert not forwarders()


def test_there_is_no_forwarder_before_the_first_client(engine: Engine) -> None:
    port = free_port()
    engine("run", "-d", "--name", "c", "-p", f"{port}:80", "busybox", *WHO)
    assert not forwarders()
    wait_until(lambda: ask(port))
    assert len(forwarders()) == 1


def test_a_restart_keeps_the_port(engine: Engine) -> None:
    port = free_port()
    serve_once = "read line | nc -l -p 80 -e sh -c 'read line; echo $(cat /proc/sys/kernel/random/uuid)'; exit 1"
    engine("run", "-d", "--name", "c", "--restart=always", "-p", f"{port}:80", "busybox", "sh", "-c", serve_once)

    def answer() -> str:
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as link:
                link.sendall(b"\n")
                return link.recv(100).decode()
        except OSError:
            return ""

    assert len({wait_until(answer, 60) for _ in range(3)}) == 3
    assert engine.inspect("c")["RestartCount"] >= 2
    # Stopped and started by hand, too.
    engine("stop", "-t", "0", "c")
    assert not reachable(port)
    engine("start", "c")
    assert wait_until(answer, 60)


def test_a_container_that_shares_the_network_serves_the_port(engine: Engine) -> None:
    port = free_port()
    engine("run", "-d", "--name", "owner", "-p", f"{port}:80", "busybox", "sleep", "1000")
    assert ask(port) == ""
    engine("run", "-d", "--name", "guest", "--network=container:owner", "busybox", *WHO)
    assert wait_until(lambda: ask(port)) == "10.0.2.2"
    networks = [list(engine.inspect(name)["NetworkSettings"]["Networks"]) for name in ("owner", "guest")]
    assert networks == [["slirp4netns"], ["slirp4netns"]]


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("taken", ["0.0.0.0", "::", "127.0.0.1"])
def test_a_port_that_is_taken(engine: Engine, protocol: str, taken: str) -> None:
    """By another program, on one address of those that the port would be published on."""
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET6 if ":" in taken else socket.AF_INET, kind) as other:
        if ":" in taken:
            other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind((taken, 0))
        if protocol == "tcp":
            other.listen()
        port = other.getsockname()[1]
        published = ("-p", f"{port}:80/{protocol}")
        result = engine("run", "--rm", "--name", "c", *published, "busybox", "true", status=126)
        assert f"port {port} is already in use" in result.err
        assert "ss -" in result.err
        assert engine("ps", "-aq").out == ""
    engine("run", "--rm", *published, "busybox", "true")


def test_ports_that_the_same_command_asks_for_twice(engine: Engine) -> None:
    port = free_port()
    twice = ("-p", f"{port}:80", "-p", f"127.0.0.1:{port}:81")
    assert "published already" in engine("run", "--rm", *twice, "busybox", "true", status=125).err
    engine("run", "--rm", "-p", f"{port}:80", "-p", f"[::]:{port}:80", "busybox", "true")


def test_a_thousand_ports(engine: Engine) -> None:
    """More sockets than the usual limit of descriptors allows."""
    limited = ("sh", "-c", 'ulimit -Sn 1024; exec "$0" "$@"')
    ports = "127.0.0.77:20000-20999:1000-1999"
    serve = ["nc", "-ll", "-p", "1998", "-e", "echo", "hi"]
    engine("run", "-d", "--name", "c", "-p", ports, "busybox", *serve, prefix=limited)

    def answer() -> bytes:
        try:
            with socket.create_connection(("127.0.0.77", 20998), 5) as link:
                return link.recv(10)
        except OSError:
            return b""

    assert wait_until(answer) == b"hi\n"
    assert len(engine("port", "c").out.splitlines()) == 1000


def test_sctp_is_refused_by_name(engine: Engine) -> None:
    result = engine("run", "--rm", "-p", "8080:80/sctp", "busybox", "true", status=125)
    assert "sctp cannot be forwarded" in result.err
    assert engine("ps", "-aq").out == ""


@pytest.mark.parametrize("victim", ["forwarder", "supervisor"])
def test_a_kill_frees_the_port(engine: Engine, victim: str) -> None:
    port = free_port()
    engine("run", "-d", "--name", "c", "-p", f"{port}:80", "busybox", *WHO)
    wait_until(lambda: ask(port))
    [forwarder] = forwarders()
    pid = forwarder if victim == "forwarder" else next(p.ppid for p in descendants() if p.pid == forwarder)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not reachable(port))
    engine.wait_state("c", "exited")
    if victim == "forwarder":
        assert "the port forwarder ended unexpectedly" in engine.inspect("c")["State"]["Error"]
    engine("start", "c")
    assert wait_until(lambda: ask(port))


def test_where_ports_are_shown(engine: Engine) -> None:
    port = free_port()
    given = ["-p", f"{port}:80", "-p", f"127.0.0.1:{port}:53/udp", "-p", f"[::1]:{port + 1}:80", "--expose", "99"]
    engine("run", "-d", "--name", "c", *given, "busybox", "sleep", "1000")
    tree = engine.inspect("c")
    assert tree["NetworkSettings"]["Ports"] == {
        "53/udp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}],
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(port)}, {"HostIp": "::1", "HostPort": str(port + 1)}],
        "99/tcp": None,
    }
    assert tree["HostConfig"]["NetworkMode"] == "slirp4netns"
    assert tree["HostConfig"]["PublishAllPorts"] is False
    assert tree["NetworkSettings"]["Networks"]["slirp4netns"]["NetworkID"] == "slirp4netns"
    assert f"0.0.0.0:{port}->80/tcp" in engine("ps", "--format", "{{.Ports}}").line
    assert f"127.0.0.1:{port}" in engine("port", "c", "53/udp").line
    assert f"0.0.0.0:{port}" in engine("port", "c", "80").out.splitlines()[0]


def test_the_sites_own_address(engine: Engine) -> None:
    """bind_address in pyctl.conf: where ports are published that name no address."""
    conf = engine.home / ".config/pyctl/pyctl.conf"
    conf.parent.mkdir(parents=True, exist_ok=True)
    conf.write_text('bind_address = "127.0.0.1"\n')
    try:
        port = free_port()
        engine("run", "-d", "--name", "c", "-p", f"{port}:80", "busybox", *WHO)
    finally:
        conf.unlink()
    assert wait_until(lambda: ask(port)) == "10.0.2.2"
    assert not reachable(port, "127.0.0.2")
    assert not reachable(port, "::1")
    assert engine("port", "c").line == f"80/tcp -> 127.0.0.1:{port}"
    assert engine.inspect("c")["NetworkSettings"]["Ports"]["80/tcp"][0]["HostIp"] == "127.0.0.1"
    # What it was created with holds, whatever the site says later.
    engine("restart", "-t", "0", "c")
    assert wait_until(lambda: ask(port))
    assert not reachable(port, "::1")


def test_slirp4netns_as_the_port_handler(engine: Engine) -> None:
    port = free_port()
    network = "--network=slirp4netns:port_handler=slirp4netns"
    engine("run", "-d", "--name", "c", network, "-p", f"{port}:80", "busybox", *WHO)
    assert wait_until(lambda: ask(port)) == "10.0.2.2"
    assert not forwarders()
    refused = engine("run", "--rm", network, "-p", f"[::1]:{port}:80", "busybox", "true", status=125)
    assert "slirp4netns forwards IPv4 only" in refused.err


def test_another_machine_and_the_addresses_of_this_one(engine: Engine) -> None:
    """A caller keeps its address; outbound_addr and outbound_addr6 choose the host's for what a container sends."""
    with lan.machine_on_the_lan(engine) as machine:
        machine.engine("run", "-d", "--name", "c", "-p", "8080:80", "busybox", *WHO)
        for host, client in ((lan.HOST4, lan.LAN4), (lan.HOST6, lan.LAN6)):
            seen = address_in(wait_until(lambda host=host: machine.ask(host, 8080, "\n")))
            assert seen == (client if ":" not in client or policy_routing(socket.AF_INET6) else "10.0.2.2")
        machine.engine("rm", "-f", "-t", "0", "c")
        for target, chosen, option in (
            (lan.LAN4, lan.SECOND4, "outbound_addr"),
            (lan.LAN6, lan.SECOND6, "outbound_addr6"),
        ):

            def call(port: str, option: str = option, chosen: str = chosen, target: str = target) -> None:
                script = f"until ip route; do :; done; until nc -w 5 {target} {port} </dev/null; do :; done"
                machine.engine("run", "--rm", f"--network=slirp4netns:{option}={chosen}", "busybox", "sh", "-c", script)

            assert machine.caller(target, call) == chosen
