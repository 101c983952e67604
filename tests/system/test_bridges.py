"""User-defined networks: containers that reach each other by name, networks that keep apart, and what is left of it."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.support import lan
from tests.support.bridges import addresses, fetch, get, got, look_up, network_process, reaches, serve
from tests.support.engine import Engine
from tests.support.registry import free_port
from tests.support.waiting import wait_until


def cut_off(engine: Engine, container: str, address: str, port: int = 80) -> None:
    """A connection to an address must fail, while the container is otherwise well."""
    script = f"nc -w 2 {address} {port} < /dev/null && echo reached || echo cut off"
    assert engine("exec", container, "sh", "-c", script).line.splitlines()[-1] == "cut off"


@pytest.fixture
def host_server() -> Iterator[int]:
    """A port of this host, on all of its addresses, that accepts connections."""
    server = socket.create_server(("0.0.0.0", 0))

    def accept() -> None:
        while True:
            try:
                server.accept()[0].close()
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    yield server.getsockname()[1]
    server.close()


def host_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this host has no address but its loopback's")
        return str(probe.getsockname()[0])


def test_names_and_isolation(nets: Engine, host_server: int) -> None:
    serve(nets, "web", "--network", "front", "--network-alias", "www")
    serve(nets, "app", "--network", "front:alias=api", "--network", "back")
    serve(nets, "db", "--network", "back:ip=10.89.1.77,mac=02:00:00:00:00:05,interface_name=data0")
    serve(nets, "safe", "--network", "vault")
    for name in ("app", "api", "app.dns.podman"):
        reaches(nets, "web", name, "app")
    reaches(nets, "app", "www", "web")
    reaches(nets, "app", "db", "db")
    reaches(nets, "db", "app", "app")
    where = {name: addresses(nets, name) for name in ("web", "app", "db", "safe")}
    assert where["db"] == {"back": "10.89.1.77"}
    shown = nets("exec", "db", "ip", "addr", "show", "data0").out
    assert "02:00:00:00:00:05" in shown
    assert "10.89.1.77/24" in shown
    # By name no other network is seen, and by address none is reached.
    for other in ("db", "safe"):
        assert "NXDOMAIN" in look_up(nets, "web", other)
        cut_off(nets, "web", next(iter(where[other].values())))
    cut_off(nets, "web", where["app"]["back"])
    for target in (where["web"]["front"], where["app"]["back"], host_address()):
        cut_off(nets, "safe", target, host_server if target == host_address() else 80)
    assert "default" not in nets("exec", "safe", "ip", "route").out
    script = f"nc -w 5 {host_address()} {host_server} < /dev/null && echo reached"
    assert nets("exec", "web", "sh", "-c", script).line == "reached"
    # Neither the host's loopback nor that of the bridges' namespace is open to them.
    cut_off(nets, "web", "10.89.0.1", host_server)
    cut_off(nets, "web", "169.254.201.2", host_server)
    # The other way round.
    assert "app.dns.podman" in look_up(nets, "web", where["app"]["front"])
    assert "NXDOMAIN" in look_up(nets, "web", where["db"]["back"])


def test_what_files_and_lists_say(nets: Engine) -> None:
    nets("run", "-d", "--name", "c", "--network", "front", "--network", "back", "busybox", "sleep", "1000")
    where = addresses(nets, "c")
    short = nets.inspect("c")["Id"][:12]
    hosts = nets("exec", "c", "cat", "/etc/hosts").out
    assert f"{where['front']}\t{short} c\n" in hosts
    assert f"{where['back']}\t{short} c\n" in hosts
    resolv = nets("exec", "c", "cat", "/etc/resolv.conf").out
    assert resolv.startswith("search dns.podman")
    assert "nameserver 10.89.0.1\nnameserver 10.89.1.1\n" in resolv
    assert nets("ps", "--format", "{{.Networks}}").line == "back,front"
    assert nets("ps", "--filter", "network=back", "--format", "{{.Names}}").line == "c"
    assert nets("ps", "--filter", "network=six", "--format", "{{.Names}}").line == ""
    (front,) = nets.json("network", "inspect", "front")
    (held,) = front["containers"].values()
    assert held["name"] == "c"
    assert held["interfaces"]["eth0"]["subnets"] == [{"ipnet": f"{where['front']}/24", "gateway": "10.89.0.1"}]
    assert nets.inspect("c")["HostConfig"]["NetworkMode"] == "bridge"
    assert "is in use by" in nets("network", "rm", "front", status=2).err
    assert nets("network", "prune", "-f").out.split() == ["six", "vault"]
    for words in (("--internal", "vault"), ("--ipv6", "six")):
        nets("network", "create", *words)


def test_ipv6(nets: Engine) -> None:
    serve(nets, "a", "--network", "six")
    serve(nets, "b", "--network", "six")
    address = nets.inspect("b")["NetworkSettings"]["Networks"]["six"]["GlobalIPv6Address"]
    assert address.startswith("fd")
    assert address in look_up(nets, "a", "b")
    script = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {address} 80 | tail -1"
    wait_until(lambda: nets("exec", "a", "sh", "-c", script, status=None).line == "host-b", 30)


def test_the_microservices(nets: Engine) -> None:
    """Containers of the default network, with published ports, that are connected later."""
    ports = {name: free_port() for name in ("users", "orders", "billing", "gate")}
    for name, port in ports.items():
        serve(nets, name, "-p", f"127.0.0.1:{port}:80")
        nets("network", "connect", "--alias", f"svc-{name}", "front", name)
    for name in ("orders", "billing", "gate"):
        reaches(nets, "users", name, name)
        reaches(nets, "users", f"svc-{name}", name)
    for name, port in ports.items():
        assert f"host-{name}" in get(port)
    address = addresses(nets, "orders")["front"]
    nets("network", "disconnect", "front", "orders")
    cut_off(nets, "users", address)
    assert "NXDOMAIN" in look_up(nets, "users", "orders")
    assert "10.89.0.1" not in nets("exec", "orders", "cat", "/etc/resolv.conf").out
    assert "is not connected to network front" in nets("network", "disconnect", "front", "orders", status=125).err
    assert "already connected" in nets("network", "connect", "front", "users", status=125).err
    nets("network", "connect", "--ip", "10.89.0.200", "front", "orders")
    assert addresses(nets, "orders")["front"] == "10.89.0.200"
    reaches(nets, "users", "orders", "orders")
    # Also after a stop, and while it does not run.
    nets("stop", "-t", "0", "orders")
    for _ in range(2):  # while it does not run, that may be said twice
        nets("network", "connect", "back", "orders")
    nets("start", "orders")
    assert sorted(addresses(nets, "orders")) == ["back", "front"]
    reaches(nets, "users", "orders", "orders")


def test_connected_to_several_at_once(nets: Engine) -> None:
    serve(nets, "web", "--network", "front")
    nets("run", "-d", "--name", "c", "busybox", "sleep", "1000")
    started = [nets.spawn("network", "connect", name, "c") for name in ("front", "back", "six")]
    for process in started:
        _out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err.decode()
        nets.started.remove(process)
    found = addresses(nets, "c")
    assert sorted(found) == ["back", "front", "six"]
    shown = nets("exec", "c", "ip", "addr").out
    assert all(address in shown for address in found.values())
    reaches(nets, "c", "web", "web")
    assert found["front"] in look_up(nets, "web", "c")


def test_a_killed_network_process_comes_back(nets: Engine) -> None:
    serve(nets, "web", "--network", "front:ip=10.89.0.50")
    serve(nets, "app", "--network", "front", "--network", "back")
    reaches(nets, "app", "web", "web")
    before = addresses(nets, "app")
    killed = network_process(nets)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: not network_process(nets), 15)
    result = nets("ps", "--format", "{{.Names}} {{.State}}")
    assert sorted(result.out.splitlines()) == ["app running", "web running"]
    assert "2 running containers get their networks back" in result.err
    assert network_process(nets) not in (0, killed)
    reaches(nets, "app", "web", "web")
    assert addresses(nets, "app") == before
    assert before["front"] in look_up(nets, "web", "app")
    assert nets("ps", "-q").err == ""
    # The same for one that was connected later, and by hand.
    nets("network", "reload", "--all")
    reaches(nets, "app", "web", "web")


def test_killed_supervisors_free_what_they_had(nets: Engine) -> None:
    nets("run", "-d", "--name", "stays", "--network", "front", "busybox", "sleep", "1000")
    serve(nets, "dies", "--network", "front:ip=10.89.0.60", "-p", f"127.0.0.1:{free_port()}:80")

    def outer_ends() -> int:
        return nets("unshare", "--rootless-netns", "ip", "-o", "link").out.count("veth")

    assert outer_ends() == 2
    os.kill(nets.inspect("dies")["State"]["ConmonPid"], signal.SIGKILL)
    wait_until(lambda: outer_ends() == 1, 15, "the interface is gone")
    assert "NXDOMAIN" in look_up(nets, "stays", "dies")
    nets.wait_state("dies", "exited")
    nets("run", "--rm", "--network", "front:ip=10.89.0.60", "busybox", "true")
    assert nets("start", "dies").line == "dies"


def test_the_network_process_ends_with_the_last_container(nets: Engine) -> None:
    nets("run", "-d", "--name", "one", "--network", "front", "busybox", "sleep", "1000")
    pid = network_process(nets)
    assert pid
    nets("run", "--rm", "--network", "back", "busybox", "true")
    assert network_process(nets) == pid
    os.kill(pid, signal.SIGKILL)
    nets("rm", "-f", "-t", "0", "one")
    nets("run", "--rm", "--network", "front", "busybox", "true")
    wait_until(lambda: not network_process(nets), 15)
    assert sorted(os.listdir(nets.runtime_root / "network")) == ["lock", "start"]


def test_published_ports(nets: Engine) -> None:
    """They lead to the container whatever becomes of its networks, and to nothing else."""
    port, other = free_port(), free_port()
    serve(nets, "a", "--network", "front", "-p", f"{port}:80", "-p", f"{other}:81")
    serve(nets, "b", "--network", "front", "--network", "vault")
    assert "host-a" in get(port)
    assert "host-a" in get(port, host_address())
    with pytest.raises(OSError, match="reset"), socket.create_connection(("127.0.0.1", other), 10) as link:
        link.recv(100)  # nobody listens there in the container
    os.kill(network_process(nets), signal.SIGKILL)
    assert nets("port", "a", "80").line.endswith(f":{port}")
    wait_until(lambda: "10.89.0." in nets("exec", "a", "ip", "addr").out, 15)
    assert "host-a" in get(port)
    nets("network", "disconnect", "front", "a")
    nets("network", "connect", "back", "a")
    wait_until(lambda: "host-a" in get(port), 15)


def test_a_shared_network(nets: Engine) -> None:
    serve(nets, "a", "--network", "front")
    nets("run", "-d", "--name", "b", "--network", "container:a", "busybox", "sleep", "1000")
    reaches(nets, "b", "127.0.0.1", "a")
    reaches(nets, "b", "a", "a")


def test_networks_that_want_to_meet_do(nets: Engine) -> None:
    for name in ("open1", "open2"):
        nets("network", "create", "--opt", "isolate=false", name)
    serve(nets, "a", "--network", "open1")
    serve(nets, "b", "--network", "open2")
    reaches(nets, "a", addresses(nets, "b")["open2"], "b")
    nets("network", "rm", "-f", "-t", "0", "open1", "open2")
    assert nets("ps", "-aq").out == ""


def test_other_name_servers_for_running_containers(engine: Engine) -> None:
    with lan.machine_on_the_lan(engine) as machine, machine.names(lan.LAN4, "192.0.2.99"):
        machine.engine("network", "create", "asks")
        machine.engine("run", "-d", "--name", "c", "--network", "asks", "busybox", "sleep", "1000")

        def asked() -> str:
            return machine.engine("exec", "c", "timeout", "8", "nslookup", "far.example.com", status=None).out

        assert machine.engine("network", "update", "--dns-add", lan.LAN4, "asks").line == "asks"
        assert "192.0.2.99" in asked()
        # Also by a network process that has heard of it from the database only.
        os.kill(network_process(engine), signal.SIGKILL)
        wait_until(lambda: not network_process(engine), 15)
        assert machine.engine("ps", "-q").out
        assert "192.0.2.99" in asked()
        machine.engine("network", "update", "--dns-drop", lan.LAN4, "asks")
        assert "192.0.2.99" not in asked()
        machine.engine("network", "rm", "-f", "-t", "0", "asks")


def test_options_of_a_network_are_in_force(nets: Engine) -> None:
    nets(
        *("network", "create", "-o", "mtu=1400", "-o", "metric=33", "--route", "10.5.0.0/24,10.89.9.9"),
        *("--subnet", "10.89.9.0/24", "--ip-range", "10.89.9.40/30", "tuned"),
    )
    out = nets("run", "--rm", "--network", "tuned", "busybox", "sh", "-c", "ip addr show eth0; ip route").out
    assert "mtu 1400" in out
    assert "10.89.9.41/24" in out
    assert "10.5.0.0/24 via 10.89.9.9" in out
    assert "default via 10.89.9.1 dev eth0  metric 33" in out
    nets("network", "create", "-o", "vlan=7", "tagged")
    result = nets("run", "--rm", "--network", "tagged", "busybox", "true", status=None)
    assert result.status == 0 or "this kernel cannot tag bridges (vlan=7)" in result.err
    nets("network", "create", "-o", "no_default_route=true", "--disable-dns", "bare")
    out = nets("run", "--rm", "--network", "bare", "busybox", "sh", "-c", "ip route; cat /etc/resolv.conf").out
    assert "default" not in out
    assert "dns.podman" not in out


def test_killed_again_and_again(nets: Engine) -> None:
    """Each time the next command brings names, addresses and the published port back."""
    port = free_port()
    serve(nets, "web", "--network", "front", "--network", "six", "-p", f"{port}:80")
    nets("run", "-d", "--name", "app", "--network", "front", "busybox", "sleep", "1000")
    where, links = addresses(nets, "web"), nets("exec", "web", "ip", "-o", "link").out.count(": ")
    for command in (("ps",), ("inspect", "web"), ("exec", "app", "true"), ("network", "ls")):
        wait_until(lambda: "host-web" in got(port), 15)
        killed = network_process(nets)
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: not network_process(nets), 15)
        assert "2 running containers get their networks back" in nets(*command).err
        assert network_process(nets) not in (0, killed)
        assert fetch(nets, "app", "web") == "host-web"
        assert addresses(nets, "web") == where
        assert nets("exec", "web", "ip", "-o", "link").out.count(": ") == links
