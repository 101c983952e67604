"""Run inside `unshare --user --map-root-user --net`: the name server, and name servers for it to ask.

stdin: nothing; stdout: one line of JSON, test → what came of it.  All addresses are those of the loopback interface,
the bridge's and the containers' too.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from network.dns_server import NameServer, listeners
from network.dns_upstream import Resolvers
from rootless.loop import Loop
from rootless.netplan import BridgePlan, Endpoint, NetworkConfig, Subnet

GATEWAY, CONTAINER, OTHER = "10.9.0.1", "10.9.0.2", "10.9.0.3"
DEAF, UPSTREAM = "127.0.0.52", "127.0.0.53"
NETWORK = NetworkConfig(
    id="ab" * 32, name="net", interface="br", subnets=(Subnet(subnet="10.9.0.0/24", gateway=GATEWAY),)
)


def query(name: str, kind: int = 1, number: int = 99) -> bytes:
    labels = b"".join(bytes((len(part),)) + part.encode() for part in name.split("."))
    return struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", kind, 1)


def upstream() -> None:
    """Answers 192.0.2.9 for everything; a name that begins with `big` only over TCP, `lie` first by another number."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((UPSTREAM, 53))
    tcp = socket.create_server((UPSTREAM, 53))

    def reply(packet: bytes) -> bytes:
        record = b"\xc0\x0c" + struct.pack(">2HIH", 1, 1, 60, 4) + socket.inet_aton("192.0.2.9")
        return packet[:2] + struct.pack(">5H", 0x8180, 1, 1, 0, 0) + packet[12:] + record

    def serve_udp() -> None:
        while True:
            packet, peer = udp.recvfrom(4096)
            if packet[13:16] == b"big":
                udp.sendto(packet[:2] + struct.pack(">5H", 0x8380, 1, 0, 0, 0) + packet[12:], peer)
                continue
            if packet[13:16] == b"lie":
                wrong = bytes((packet[0] ^ 1,)) + packet[1:]
                udp.sendto(reply(wrong)[:-1] + b"\x66", peer)
                udp.sendto(b"", peer)
            udp.sendto(reply(packet), peer)

    def serve_tcp() -> None:
        while True:
            link, _peer = tcp.accept()
            with link:
                size = int.from_bytes(link.recv(2), "big")
                data = reply(link.recv(size))
                framed = len(data).to_bytes(2, "big") + data
                for byte in framed:  # as slowly as a stream may be
                    link.send(bytes((byte,)))

    for target in (serve_udp, serve_tcp):
        threading.Thread(target=target, daemon=True).start()


def over_udp(packet: bytes, source: str = CONTAINER, timeout_s: float = 30) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.bind((source, 0))
        link.settimeout(timeout_s)
        link.sendto(packet, (GATEWAY, 53))
        try:
            return shown(link.recv(4096))
        except TimeoutError:
            return "nothing"


def over_tcp(*packets: bytes, source: str = CONTAINER) -> list[str]:
    """All at once on one connection, in two halves."""
    data = b"".join(len(p).to_bytes(2, "big") + p for p in packets)
    found = []
    with socket.create_connection((GATEWAY, 53), source_address=(source, 0), timeout=30) as link:
        link.sendall(data[:7])
        link.sendall(data[7:])
        for _ in packets:
            size = int.from_bytes(link.recv(2, socket.MSG_WAITALL), "big")
            found.append(shown(link.recv(size, socket.MSG_WAITALL)))
    return found


def shown(reply: bytes) -> str:
    number, flags, _questions, answers = struct.unpack_from(">4H", reply)
    assert number == 99
    text = f"{flags & 15}"
    if flags & 0x0200:
        text += " truncated"
    return text + (f" {answers} {socket.inet_ntoa(reply[-4:])}" if answers else "")


def main() -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in (GATEWAY, CONTAINER, OTHER):
        subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
    resolv = Path(sys.argv[1])
    resolv.write_text(f"nameserver {DEAF}\nnameserver {UPSTREAM}\n")
    upstream()
    loop = Loop()
    server = NameServer(loop, Resolvers(str(resolv)))
    endpoint = Endpoint(network=NETWORK, interface="eth0", mac="", addresses=(f"{CONTAINER}/24",))
    server.names.put(BridgePlan(container_id="cd" * 32, name="c", endpoints=(endpoint,)))
    server.serve(NETWORK.id, listeners(NETWORK))
    threading.Thread(target=loop.run, daemon=True).start()
    found: dict[str, object] = {
        "own": over_udp(query("c")),
        "unknown": over_udp(query("nobody")),
        "stranger": over_udp(query("c"), source=OTHER),
        "forwarded": over_udp(query("example.com")),
        "lied to": over_udp(query("lie.example.com")),
        "truncated": over_udp(query("big.example.com")),
        "over tcp": over_tcp(query("big.example.com"), query("c"), query("nobody"), query("example.com")),
        "pipelined": len(set(over_tcp(*[query("c")] * 3000))),
    }
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.bind((CONTAINER, 0))
        for n in range(3000):
            link.sendto(os.urandom(n % 64), (GATEWAY, 53))
    links = [socket.create_connection((GATEWAY, 53), source_address=(CONTAINER, 0)) for _ in range(100)]
    found["next to a greedy one"] = over_tcp(query("c"), source=OTHER)
    for link in links:
        try:
            link.sendall(os.urandom(200))
        except OSError:
            continue  # one too many
    for link in links:
        link.close()
    found["after garbage"] = over_udp(query("c"))
    resolv.write_text(f"nameserver {DEAF}\n")
    found["nobody to ask"] = over_udp(query("example.com"))
    server.names.drop("cd" * 32)
    found["gone"] = over_udp(query("c"))
    print(json.dumps(found), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
