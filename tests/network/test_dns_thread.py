"""The name server's thread: in the host's network, while the thread that uses it is in another."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from network.dns_thread import NameThread
from network.links import LinkSocket
from rootless import netns
from rootless.netplan import BridgePlan, Endpoint, NetworkConfig, Subnet
from rootless.rtnetlink import LOOPBACK_INDEX
from tests.network.dns_world import query, shown
from tests.support.mapped import mapped

GATEWAY, CONTAINER, UPSTREAM = "10.9.0.1", "10.9.0.2", "127.0.0.53"
NETWORK = NetworkConfig(
    id="ab" * 32, name="net", interface="br", subnets=(Subnet(subnet="10.9.0.0/24", gateway=GATEWAY),)
)
ENDPOINT = Endpoint(network=NETWORK, interface="eth0", mac="", addresses=(f"{CONTAINER}/24",))
PLAN = BridgePlan(container_id="cd" * 32, name="c", endpoints=(ENDPOINT,), dns_servers=(UPSTREAM,))


def asking(address: str) -> socket.socket:
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    link.settimeout(20)
    link.bind((address, 53 if address == UPSTREAM else 0))
    return link


def test_two_networks_and_two_threads(tmp_path: Path) -> None:
    def check() -> list[str]:
        netns.make_private()  # the host's, with a name server on its loopback
        upstream = asking(UPSTREAM)
        names = NameThread()
        netns.make_private()  # that of the bridges
        with pytest.raises(OSError, match=os.strerror(99)):
            names.listen(NETWORK)
        for address in (GATEWAY, CONTAINER):
            LinkSocket().add_address(LOOPBACK_INDEX, address, 32)
        names.listen(NETWORK)
        names.listen(NETWORK)
        names.put(PLAN)
        found = []
        with asking(CONTAINER) as client:
            client.connect((GATEWAY, 53))
            client.send(query("c"))
            # Not through any loop of this thread: it stands still here.
            found.append(shown(client.recv(4096)))
            client.send(query("example.com"))
            packet, peer = upstream.recvfrom(4096)
            upstream.sendto(packet[:2] + b"\x81\x83" + packet[4:], peer)  # no such name
            found.append(shown(client.recv(4096)))
            names.drop(PLAN.container_id)
            client.send(query("c"))
            found.append(shown(client.recv(4096)))
            names.silence(NETWORK.id)
            client.send(query("c"))
            with pytest.raises(ConnectionRefusedError):
                client.recv(4096)
        return found

    assert mapped(check, runtime_root=str(tmp_path), single=True) == ["0 1 10.9.0.2", "3", "5"]
