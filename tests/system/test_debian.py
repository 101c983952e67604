"""A real distribution: Debian with python3, nginx and PostgreSQL, from a registry, by tag and by digest."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import lan
from tests.support.engine import Engine
from tests.support.images import Layout
from tests.support.registry import Registry, free_port
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1500), pytest.mark.xdist_group("debian")]
PG = "/usr/lib/postgresql/15/bin"


@pytest.fixture(scope="module")
def machine(
    debian_tar: Path, registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Engine, str]]:
    """An engine with the image pulled from the registry, and the name that it has there."""
    layout = Layout(tmp_path_factory.mktemp("debian"))
    tar = debian_tar.read_bytes()
    digest = layout.image("web", [tar], {"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/bash"]})
    registry.push(layout, "web", "debian-web:12")
    engine = Engine()
    identity = engine("pull", "-q", f"{registry.address}/debian-web:12", timeout_s=300).line
    again = engine("pull", "-q", f"{registry.address}/debian-web@{digest}", timeout_s=300).line
    assert identity == again
    yield engine, f"{registry.address}/debian-web:12"
    engine.close()


@pytest.fixture
def box(machine: tuple[Engine, str], leak_check: list[Engine]) -> Iterator[tuple[Engine, str]]:
    leak_check.append(machine[0])
    yield machine
    machine[0].remove_containers()


def test_it_is_debian(box: tuple[Engine, str]) -> None:
    engine, image = box
    assert engine("run", "--rm", image, "sh", "-c", ". /etc/os-release; echo $ID $VERSION_ID").line == "debian 12"
    # Files of other owners came through the maps.
    out = engine(
        "run", "--rm", image, "stat", "-c", "%U:%G %a", "/var/lib/postgresql", "/etc/shadow", "/usr/bin/passwd"
    ).out
    assert out.split("\n")[:3] == ["postgres:postgres 755", "root:shadow 640", "root:root 4755"]


def test_python(box: tuple[Engine, str]) -> None:
    engine, image = box
    assert engine("run", "--rm", image, "python3", "-c", "print(sum(range(101)))").line == "5050"


PING = """
import os, socket, struct
os.setgid(100); os.setuid(1000)
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
link.settimeout(10)
link.sendto(struct.pack("!BBHHH", 8, 0, 0, 1, 1) + b"pyctl", ("10.0.2.2", 0))
print(link.recv(100)[-5:].decode())
"""


def test_ping_as_any_user(box: tuple[Engine, str]) -> None:
    engine, image = box
    assert engine("run", "--rm", "--network=slirp4netns", image, "python3", "-c", PING).line == "pyctl"


LISTEN = """
import socket
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.bind(("0.0.0.0", 90))
print("bound", flush=True)
data, sender = link.recvfrom(100)
link.sendto(b"answer to " + data, sender)
"""


def test_udp_port(box: tuple[Engine, str]) -> None:
    engine, image = box
    port = free_port()
    engine("run", "-d", "--name", "udp", "-p", f"{port}:90/udp", image, "python3", "-c", LISTEN)
    engine.wait_log("udp", "bound")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.sendto(b"datagram", ("127.0.0.1", port))
        assert client.recv(100) == b"answer to datagram"


def test_packages_can_be_changed(box: tuple[Engine, str]) -> None:
    """dpkg renames folders and hard-links: what an overlay must do right."""
    engine, image = box
    out = engine(
        "run",
        "--rm",
        image,
        "sh",
        "-c",
        "dpkg --purge --force-all nginx-light >/dev/null 2>&1; dpkg -s nginx-light",
        status=None,
    )
    assert "not installed" in out.err or "deinstall" in out.out or out.status == 1


def test_nginx(box: tuple[Engine, str]) -> None:
    engine, image = box
    port = free_port()
    site = engine.home / "site"
    site.mkdir(exist_ok=True)
    (site / "index.html").write_text("served from the host's folder\n")
    options = ["-p", f"127.0.0.1:{port}:80", "-v", f"{site}:/var/www/html:ro"]
    engine("run", "-d", "--name", "web", *options, image, "nginx", "-g", "daemon off;")

    def fetch() -> str:
        url = f"http://127.0.0.1:{port}/"
        program = "import sys, urllib.request as u; sys.stdout.write(u.urlopen(sys.argv[1], timeout=5).read().decode())"
        done = subprocess.run(["/usr/bin/python3", "-c", program, url], capture_output=True, text=True, check=False)
        return done.stdout

    assert wait_until(fetch, interval_s=0.2) == "served from the host's folder\n"
    engine("stop", "-t", "5", "web")
    # SIGTERM is nginx's fast shutdown: a clean end, not a kill.
    assert engine.inspect("web")["State"]["ExitCode"] == 0


ECHO = """
import socket
link = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
link.bind(("::", 90))
print("bound", flush=True)
while True:
    data, sender = link.recvfrom(100)
    link.sendto(sender[0].encode(), sender)
"""


@pytest.mark.parametrize("network", ["default", "bridge"])
def test_a_machine_on_the_lan_keeps_its_address(box: tuple[Engine, str], network: str) -> None:
    """In nginx's access log and for a UDP service, on both versions of IP."""
    engine, image = box
    with lan.machine_on_the_lan(engine) as machine:
        web, echo = free_port(), free_port()
        words: tuple[str, ...] = ()
        if network == "bridge":
            words = ("--network", "on-the-lan")
            machine.engine("network", "create", "--ipv6", "on-the-lan")
        command = ["nginx", "-g", "daemon off; master_process off;"]  # one process: no other user is mapped there
        machine.engine("run", "-d", "--name", "web", *words, "-p", f"{web}:80", image, *command)
        machine.engine("run", "-d", "--name", "echo", *words, "-p", f"{echo}:90/udp", image, "python3", "-c", ECHO)
        for _ in range(2 if network == "bridge" else 1):
            for host, client in ((lan.HOST4, lan.LAN4), (lan.HOST6, lan.LAN6)):
                get = (host, web, "GET /from-the-lan HTTP/1.0\r\n\r\n")
                assert "404 Not Found" in wait_until(lambda get=get: machine.ask(*get))
                who = (host, echo, "who am I?", "udp")
                assert wait_until(lambda who=who: machine.ask(*who)).strip().removeprefix("::ffff:") == client
            log = machine.engine("exec", "web", "cat", "/var/log/nginx/access.log").out
            callers = {line.split()[0] for line in log.splitlines() if "GET /from-the-lan" in line}
            assert callers == {lan.LAN4, lan.LAN6}
            if network == "bridge":  # and once more when the network process was killed
                os.kill(int((engine.runtime_root / "network/supervisor").read_text().split()[0]), signal.SIGKILL)
                machine.engine("exec", "web", "truncate", "-s", "0", "/var/log/nginx/access.log")
        machine.engine("rm", "-f", "-t", "0", "web", "echo")
        if network == "bridge":
            machine.engine("network", "rm", "on-the-lan")


def test_postgresql_keeps_its_data(box: tuple[Engine, str]) -> None:
    engine, image = box
    data = "/var/lib/postgresql/data"
    common = ["-v", "pgdata:/var/lib/postgresql", "-u", "postgres", "--shm-size=128m"]
    engine(
        "run", "--rm", *common, image, f"{PG}/initdb", "-D", data, "--auth=trust", "--no-instructions", timeout_s=120
    )
    serve = [f"{PG}/postgres", "-D", data, "-k", "/tmp", "-c", "listen_addresses="]
    engine("run", "-d", "--name", "db", "--stop-signal", "SIGINT", *common, image, *serve)

    def sql(statement: str) -> str:
        return engine(
            "exec", "-u", "postgres", "db", f"{PG}/psql", "-h", "/tmp", "-tAc", statement, "postgres", status=None
        ).out.strip()

    wait_until(lambda: sql("select 1") == "1", 60, interval_s=0.2)
    sql("create table numbers as select generate_series(1, 10000) as n")
    assert sql("select sum(n) from numbers") == "50005000"
    engine("stop", "-t", "30", "db")
    assert engine.inspect("db")["State"]["ExitCode"] == 0
    engine("start", "db")
    wait_until(lambda: sql("select 1") == "1", 60, interval_s=0.2)
    assert sql("select sum(n) from numbers") == "50005000"
    engine("rm", "-f", "-t", "10", "db")
    engine("run", "-d", "--name", "db", "--stop-signal", "SIGINT", *common, image, *serve)
    wait_until(lambda: sql("select count(*) from numbers") == "10000", 60, interval_s=0.2)
    engine("stop", "-t", "30", "db")


def test_inspect_of_the_image(box: tuple[Engine, str]) -> None:
    engine, image = box
    [seen] = json.loads(engine("inspect", "--type", "image", image).out)
    assert seen["Architecture"] in ("amd64", "arm64")
    assert len(seen["RootFS"]["Layers"]) == 1
