"""User-defined networks with many containers, at once and one after the other."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess

import pytest

from tests.support.bridges import addresses, got, look_up, network_process, serve
from tests.support.engine import TOP, Engine
from tests.support.registry import free_port, reachable
from tests.support.waiting import wait_until

CYCLES = int(os.environ.get("PYCTL_TEST_CYCLES", "200")) // 10
MANY = 24
OF_LEASES = "SELECT c.name FROM network_leases l LEFT JOIN containers c ON c.id = l.container_id"


def in_their_namespace(engine: Engine) -> tuple[list[str], str]:
    """What the network process holds: interfaces, without the numbers that count on; routes and policy rules."""
    links = engine("unshare", "--rootless-netns", "ip", "-o", "link").out
    rest = engine("unshare", "--rootless-netns", "sh", "-c", "ip route; ip rule; ip -6 rule").out
    return sorted(re.findall(r"^\d+: ([a-z]+)", links, re.M)), rest


@pytest.mark.timeout(1800)
def test_many_in_a_row_leave_nothing(nets: Engine) -> None:
    """Ended in every way; interfaces, names, addresses and ports go with them, and the process with the last one."""
    nets("run", "-d", "--name", "stays", "--network", "front", "busybox", "sleep", "10000")
    before = in_their_namespace(nets)
    ports = [free_port(), free_port()]
    for number in range(CYCLES):
        name = f"c{number}"
        published = ("-p", f"127.0.0.1:{ports[0]}:80", "-p", f"{ports[1]}:81/udp")
        serve(nets, name, "--network", "front", "--network", "back", *published)
        if number % 5 == 0:
            wait_until(lambda name=name: f"host-{name}" in got(ports[0]), 15)
        if number % 3 == 1:
            os.kill(nets.inspect(name)["State"]["ConmonPid"], signal.SIGKILL)
        elif number % 7 == 2:
            os.kill(network_process(nets), signal.SIGKILL)
        nets("rm", "-f", "-t", "0", name)
    nets("ps")
    wait_until(lambda: in_their_namespace(nets) == before, 15, str(before))
    assert not reachable(ports[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("0.0.0.0", ports[1]))
    with sqlite3.connect(nets.storage_root / "state.db") as db:
        assert [name for (name,) in db.execute(OF_LEASES)] == ["stays"]
    db.close()
    nets("rm", "-f", "-t", "0", "stays")
    wait_until(lambda: not network_process(nets), 15)
    assert sorted(os.listdir(nets.runtime_root / "network")) == ["lock", "start"]


def test_a_full_house(nets: Engine) -> None:
    """Every one of many has an address of its own and is told by name to each other one, while some come and go."""
    names = [f"n{number}" for number in range(MANY)]
    for name in names:
        nets("run", "-d", "--name", name, "--network", "six", "busybox", "sleep", "1000")
    networks = {name: nets.inspect(name)["NetworkSettings"]["Networks"]["six"] for name in names}
    where = {name: {n["IPAddress"], n["GlobalIPv6Address"]} for name, n in networks.items()}
    assert len(set.union(*where.values())) == 2 * MANY

    def told(asked: list[str]) -> dict[str, set[str]]:
        only = "awk '/^Name:/ {print $2} /^Address:/ && !/:53$/ {print $2}'"
        script = f"for name in $*; do echo; nslookup $name | {only}; done"
        parts = nets("exec", names[0], "sh", "-c", script, "sh", *asked).out.split("\n\n")
        found = {}
        for part in parts:
            words = [word.removesuffix(".dns.podman") for word in part.split()]
            found.update({words[0]: set(words) - {words[0]}} if words else {})
        return found

    assert told(names) == where
    nets("rm", "-f", "-t", "0", *names[1::2])
    assert told(names) == {name: where[name] for name in names[::2]}
    for name in names[1::2]:
        nets("run", "-d", "--name", name, "--network", "six", "busybox", "sleep", "1000")
    assert set(told(names)) == set(names)


def test_a_thousand_questions_a_second(nets: Engine) -> None:
    """All are answered rightly.  How soon is measured by `make bench`; here, whether at least half of them are soon."""
    program = nets.home / "dns_load"
    subprocess.run(["gcc", "-O2", "-static", "-o", program, TOP / "tests/bench/dns_load.c"], check=True)
    for number in range(1, 5):
        nets("run", "-d", "--name", f"q{number}", "--network", "front", "busybox", "sleep", "1000")
    words = ("run", "--rm", "--network", "front", "-v", f"{program}:/dns_load:ro", "busybox", "/dns_load")
    server = nets.json("network", "inspect", "front")[0]["subnets"][0]["gateway"]
    sent, answered, wrong, median_us, *_ = map(int, nets(*words, server, "1000", "3", "q", "4").out.split())
    assert (sent, answered, wrong) == (3000, 3000, 0)
    assert median_us < 5000


def test_many_at_once(nets: Engine) -> None:
    """Started together, the first of them with the network process: every one has an address of its own."""
    started = [
        nets.spawn("run", "-d", "--name", f"m{n}", "--network", "front", "busybox", "sleep", "1000") for n in range(8)
    ]
    for process in started:
        _out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err.decode()
        nets.started.remove(process)
    found = {addresses(nets, f"m{n}")["front"] for n in range(8)}
    assert len(found) == 8
    assert all(
        address in look_up(nets, "m0", f"m{n}") for n in range(8) for address in [addresses(nets, f"m{n}")["front"]]
    )
