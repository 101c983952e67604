"""The port forwarder between real namespaces, with clients on another machine's address and on the host itself."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from rootless import clients, pipes
from tests.network.lan import (
    CONTAINER,
    CONTAINER4,
    GATEWAY4,
    GATEWAY6,
    HOST,
    HOST4,
    HOST6,
    LAN,
    LAN4,
    LAN6,
    SECOND4,
    World,
    add,
    ip,
    read_all,
    seen,
    tcp,
    udp,
)
from tests.support.mapped import mapped
from tests.support.requirements import policy_routing
from tests.support.waiting import wait_until

BOTH = (tcp(), tcp(host_ip="::"), udp(), udp(host_ip="::"))
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close sends a reset
Check = Callable[[World], None]


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Check], None]:
    """Calls a check in a process of its own, as root of a user namespace, with a new world."""

    def inside(check: Check) -> None:
        world = World()
        try:
            check(world)
        finally:
            world.close()

    return lambda check: mapped(inside, check, runtime_root=str(tmp_path), single=True)


# (where the client is, whom it calls, its address, what the container is to see)
CLIENTS = [
    (LAN, HOST4, LAN4, LAN4),
    (LAN, HOST6, LAN6, LAN6),
    (HOST, HOST4, HOST4, HOST4),
    (HOST, HOST6, HOST6, HOST6),
    (HOST, "127.0.0.1", "127.0.0.1", GATEWAY4),
    (HOST, "127.0.0.9", "127.0.0.9", GATEWAY4),
    (HOST, "::1", "::1", GATEWAY6),
]


@pytest.mark.parametrize("told", [True, False], ids=["told", "gateway"])
def test_the_container_sees_its_clients(run: Callable[[Check], None], told: bool) -> None:
    """But for those who would look like itself: they appear as the host."""

    def check(world: World) -> None:
        world.publish(*BOTH, told=told)
        with world.listen() as server, world.datagrams() as receiver:
            for place, to, source, wanted in CLIENTS:
                expected = wanted if ":" not in wanted or policy_routing(socket.AF_INET6) else GATEWAY4
                with world.client(to, 8080, place, source=source) as client:
                    link, peer = server.accept()
                    assert (seen(peer), peer[1]) == (expected, client.getsockname()[1])
                    link.sendall(b"hello")
                    link.close()
                    assert read_all(client) == b"hello"
                with world.client(to, 5353, place, socket.SOCK_DGRAM, source) as client:
                    client.send(b"question")
                    data, peer = receiver.recvfrom(100)
                    assert (data, seen(peer)) == (b"question", expected)
                    receiver.sendto(b"answer", peer)
                    assert client.recv(100) == b"answer"

    run(check)


def test_a_client_with_the_containers_own_address(run: Callable[[Check], None]) -> None:
    def check(world: World) -> None:
        world.publish(*BOTH)
        with world.inside(LAN):
            add("lan0", f"{CONTAINER4}/24")
        ip("route", "add", CONTAINER4, "dev", "host0")
        with world.listen() as server, world.client(HOST4, 8080, source=CONTAINER4):
            assert seen(server.accept()[1]) == GATEWAY4

    run(check)


def test_nobody_listens(run: Callable[[Check], None]) -> None:
    """On the port, or on the container's loopback alone, which is not published."""

    def check(world: World) -> None:
        world.publish(*BOTH)
        with world.listen(address="127.0.0.1"):
            for to in (HOST4, HOST6, HOST4):
                assert_refused(world, to)

    run(check)


def assert_refused(world: World, to: str) -> None:
    """By a reset, which may be there before connect(2) has returned."""
    with pytest.raises(ConnectionResetError), world.client(to, 8080) as client:
        client.recv(1)


def test_a_client_of_the_other_ip_version(run: Callable[[Check], None]) -> None:
    def check(world: World) -> None:
        world.publish(*BOTH)
        with world.listen(address="0.0.0.0") as server, world.client(HOST6, 8080) as client:
            link, peer = server.accept()
            assert peer[0] == GATEWAY4
            with link:
                link.sendall(b"four")
            assert read_all(client) == b"four"
        datagram = socket.SOCK_DGRAM
        with world.datagrams(address="0.0.0.0") as receiver, world.client(HOST6, 5353, kind=datagram) as client:
            client.send(b"question")
            data, peer = receiver.recvfrom(100)
            assert (data, peer[0]) == (b"question", GATEWAY4)
            receiver.sendto(b"answer", peer)
            assert client.recv(100) == b"answer"

    run(check)


def test_half_close_of_either_side(run: Callable[[Check], None]) -> None:
    def check(world: World) -> None:
        world.publish(tcp())
        with world.listen() as server:
            for client_first in (True, False):
                with world.client(HOST4, 8080) as client, server.accept()[0] as link:
                    first, second = (client, link) if client_first else (link, client)
                    first.sendall(b"a question")
                    first.shutdown(socket.SHUT_WR)
                    assert read_all(second) == b"a question"
                    second.sendall(b"an answer")
                    second.shutdown(socket.SHUT_WR)
                    assert read_all(first) == b"an answer"

    run(check)


def test_a_reset_of_either_side(run: Callable[[Check], None]) -> None:
    def check(world: World) -> None:
        world.publish(tcp())
        with world.listen() as server:
            for client_first in (True, False):
                client = world.client(HOST4, 8080)
                client.sendall(b"x")
                link = server.accept()[0]
                assert link.recv(1) == b"x"
                first, second = (client, link) if client_first else (link, client)
                first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                first.close()
                second.settimeout(20)
                with second, pytest.raises(ConnectionResetError):
                    second.recv(1)

    run(check)


@pytest.mark.parametrize("large_pipes", [True, False])
def test_a_reader_that_is_slow_holds_the_writer_back(
    run: Callable[[Check], None], large_pipes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not large_pipes:
        monkeypatch.setattr(pipes, "_LARGE_BYTES", 1 << 31)  # more than any pipe may have

    def check(world: World) -> None:
        world.publish(tcp())
        with world.listen() as server, world.client(HOST4, 8080) as client, server.accept()[0] as link:
            for writer, reader in ((client, link), (link, client)):
                sent, taken = hashlib.sha256(), 0
                writer.setblocking(False)
                block = os.urandom(1 << 16)
                with contextlib.suppress(BlockingIOError):
                    while taken < 64 << 20:
                        count = writer.send(block)
                        sent.update(block[:count])
                        taken += count
                assert taken < 32 << 20, "only so much as the sockets' buffers take"
                writer.setblocking(True)
                writer.shutdown(socket.SHUT_WR)
                received = read_all(reader)
                assert (len(received), hashlib.sha256(received).digest()) == (taken, sent.digest())

    run(check)


def test_large_pipes_while_much_is_on_its_way(run: Callable[[Check], None]) -> None:
    """And no longer: the kernel counts them against all that the user does."""

    probe = pipes.Pipe()
    spare = probe.enlarge()
    probe.close()
    if not spare:
        pytest.skip("this user has so many pipes already that the kernel gives no more large ones")

    def check(world: World) -> None:
        world.publish(tcp())
        with world.listen() as server, world.client(HOST4, 8080) as client, server.accept()[0] as link:
            sent = os.urandom(1 << 20) * 32
            writer = threading.Thread(target=link.sendall, args=(sent,))
            writer.start()
            received = client.recv(1)
            wait_until(lambda: 1 << 20 in world.pipe_sizes())
            while len(received) < len(sent):
                received += client.recv(1 << 20)
            writer.join()
            assert received == sent
            client.sendall(b"a little")
            assert link.recv(100) == b"a little"
            wait_until(lambda: 1 << 20 not in world.pipe_sizes())

    run(check)


def test_only_clients_from_elsewhere_are_paced(run: Callable[[Check], None]) -> None:
    """As this host's administrator chose; what does not leave the host needs none of that."""
    allowed = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control").read_text().split()
    others = [name for name in allowed if name != "reno"]
    if not others:
        pytest.skip("this kernel lets users choose no congestion control but one")

    def check(world: World) -> None:
        world.publish(tcp(), tcp(host_ip="::"), paced=others[0].encode())
        for place, to, wanted in (
            (LAN, HOST4, others[0]),
            (LAN, HOST6, others[0]),
            (HOST, HOST4, "reno"),
            (HOST, HOST6, "reno"),
            (HOST, "127.0.0.1", "reno"),
            (HOST, "::1", "reno"),
        ):
            with world.listen() as server, world.client(to, 8080, place) as client, server.accept()[0] as link:
                link.sendall(b"there")
                assert client.recv(100) == b"there"
                port = str(client.getsockname()[1])
                assert congestion("sport", "8080", "dport", port) == {wanted}
                with world.inside(CONTAINER):
                    assert congestion("dport", "80") == congestion("sport", "80") == {"reno"}

    run(check)


def congestion(*ports: str) -> set[str]:
    """The congestion control of this namespace's connections with these ports (`ss`'s filter, in pairs)."""
    match = " and ".join(f"{end} = :{port}" for end, port in zip(ports[::2], ports[1::2], strict=True))
    lines = subprocess.run(
        ["ss", "-tinHO", "state", "established", match], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.splitlines()
    return {word for line in lines for word in line.split() if word in ("reno", "cubic", "bbr", "dctcp", "vegas")}


def test_a_thousand_connections_and_no_descriptor_left(run: Callable[[Check], None]) -> None:
    def check(world: World) -> None:
        world.publish(tcp())
        with world.listen() as server:
            with world.client(HOST4, 8080), server.accept()[0]:
                pass
            before = wait_until(lambda: world.descriptors() < 20 and world.descriptors())
            pairs = []
            for _ in range(450):  # of this process's 1024 descriptors
                client = world.client(HOST4, 8080)
                pairs.append((client, server.accept()[0]))
            for number, (client, link) in enumerate(pairs):
                client.sendall(b"%d" % number)
                assert link.recv(10) == b"%d" % number
            assert world.descriptors() <= before + 2 * len(pairs) + 130, "two each, and spare pipes"
            for client, link in pairs:
                link.close()
                assert read_all(client) == b""
                client.close()
            wait_until(lambda: world.descriptors() <= before + 130)

    run(check)


def test_descriptors_run_out(run: Callable[[Check], None]) -> None:
    """Those who come too many wait; nobody who is served loses anything."""

    def check(world: World) -> None:
        world.publish(tcp(), max_fds=200)
        with world.listen() as server:
            served = [(world.client(HOST4, 8080), server.accept()[0]) for _ in range(22)]
            late = world.client(HOST4, 8080)
            server.settimeout(0.5)
            with pytest.raises(TimeoutError):
                server.accept()
            for client, link in served:
                client.sendall(b"still there")
                assert link.recv(100) == b"still there"
            for end in served.pop():
                end.close()
            server.settimeout(20)
            link = server.accept()[0]
            late.sendall(b"at last")
            assert link.recv(100) == b"at last"
            for end in (link, late, *(end for pair in served for end in pair)):
                end.close()

    run(check)


def test_datagrams_of_many_clients_do_not_mix(run: Callable[[Check], None]) -> None:
    def check(world: World) -> None:
        world.publish(*BOTH)
        with world.datagrams() as receiver:
            senders = [world.client(HOST4 if n % 2 else HOST6, 5353, LAN, socket.SOCK_DGRAM) for n in range(60)]
            for number, sender in enumerate(senders):
                sender.send(b"%d" % number)
            for _ in senders:
                data, peer = receiver.recvfrom(100)
                receiver.sendto(b"re " + data, peer)
            for number, sender in enumerate(senders):
                assert sender.recv(100) == b"re %d" % number
                sender.close()

    run(check)


def test_an_answer_leaves_from_the_address_that_was_asked(run: Callable[[Check], None]) -> None:
    def check(world: World) -> None:
        world.publish(*BOTH)
        with world.datagrams() as receiver:
            for to in (SECOND4, HOST4):
                with world.client(to, 5353, LAN, socket.SOCK_DGRAM) as client:  # connected: hears that address only
                    client.send(b"question")
                    receiver.sendto(b"answer", receiver.recvfrom(100)[1])
                    assert client.recv(100) == b"answer"

    run(check)


def test_what_is_put_into_the_namespace(run: Callable[[Check], None]) -> None:
    """As pyroute2 reads it.  What the container sends of itself goes on by its own routes."""

    def check(world: World) -> None:
        from pyroute2 import IPRoute

        world.publish(*BOTH)
        with world.datagrams() as receiver, world.client(HOST4, 5353, LAN, socket.SOCK_DGRAM) as client:
            client.send(b"question")
            receiver.recvfrom(100)
            with world.inside(CONTAINER), IPRoute() as routes:
                rules = {r.get_attr("FRA_TABLE"): r for r in routes.get_rules(family=socket.AF_INET)}
                served = [r.get_attr("RTA_DST") for r in routes.get_routes(family=socket.AF_INET, table=28772)]
                assert rules[28771].get_attr("FRA_FWMARK") == clients.MARK
                assert rules[28772].get_attr("FRA_IP_PROTO") == socket.IPPROTO_UDP
                assert served == [LAN4]
                assert "dev lo" in ip("route", "get", LAN4, "ipproto", "udp", "sport", "53")
                for other in (
                    (LAN4, "ipproto", "udp", "sport", "54"),
                    ("192.0.2.99", "ipproto", "udp", "sport", "53"),
                    (LAN4, "ipproto", "tcp", "sport", "80"),
                ):
                    assert f"via {GATEWAY4} dev tap0" in ip("route", "get", *other)

    run(check)


def test_another_address_of_the_container(run: Callable[[Check], None]) -> None:
    """As `network connect` and `disconnect` change it."""

    def check(world: World) -> None:
        world.publish(tcp())
        with world.listen() as server:
            with world.inside(CONTAINER):
                add("tap0", "10.9.9.9/24")
                ip("address", "delete", f"{CONTAINER4}/24", "dev", "tap0")
            with world.client(HOST4, 8080), server.accept()[0] as link:
                assert seen(link.getsockname()) == "10.9.9.9"
            with world.inside(CONTAINER):
                ip("link", "set", "tap0", "down")
                ip("address", "flush", "dev", "tap0")
            assert_refused(world, HOST4)

    run(check)
