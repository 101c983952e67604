"""A host and another machine on its network, made by an unprivileged user: two namespaces and a veth between them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.support.engine import Engine, Result

HOST4, LAN4 = "192.0.2.1", "192.0.2.7"
HOST6, LAN6 = "2001:db8::1", "2001:db8::7"
SECOND4, SECOND6 = "192.0.2.2", "2001:db8::2"  # of the host too

# Both namespaces last until standard input ends.
_MAKE = f"""
set -e
ip link set lo up
ip link add host0 type veth peer name lan0
unshare --net sleep infinity & lan=$!
while [ "$(readlink /proc/$lan/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do :; done
ip link set lan0 netns $lan
ip link set host0 up
for address in {HOST4}/24 {SECOND4}/24 "{HOST6}/64 nodad" "{SECOND6}/64 nodad"; do
    ip address add $address dev host0
done
nsenter --net --target $lan sh -ec '
    ip link set lan0 up
    ip address add {LAN4}/24 dev lan0
    ip address add {LAN6}/64 dev lan0 nodad'
echo $lan
read end || true
kill $lan
wait $lan || true
"""

# Connects and says something, prints the answer: ADDRESS PORT KIND TEXT
_CLIENT = """
import socket, sys
address, port, kind, text = sys.argv[1:]
link = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET,
                     socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
link.settimeout(5)
link.connect((address, int(port)))
link.sendall(text.encode())
print(link.recv(65536).decode())
"""

# Tells the port, then the address of whoever calls: ADDRESS
_SERVER = """
import socket, sys
server = socket.create_server((sys.argv[1], 0), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
server.settimeout(60)
print(server.getsockname()[1], flush=True)
print(server.accept()[1][0], flush=True)
"""

# Answers every question with one address: ADDRESS-OF-ITS-OWN ANSWER
_NAMES = """
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], 53))
print("bound", flush=True)
record = bytes.fromhex("c00c0001000100000000" "0004") + socket.inet_aton(sys.argv[2])
while True:
    packet, peer = server.recvfrom(4096)
    end = packet.index(0, 12) + 5
    header = packet[:2] + bytes.fromhex("818000010001" "00000000")
    server.sendto(header + packet[12:end] + record, peer)
"""


class Lan:
    """`engine(…)` runs a command on that host, `ask(…)` on the other machine."""

    def __init__(self, engine: Engine, host_pid: int, lan_pid: int) -> None:
        self._engine = engine
        self._host_pid, self._lan_pid = host_pid, lan_pid

    def engine(self, *args: str, status: int | None = 0) -> Result:
        """As its root, which has no subordinate ids there: with the engine's own storage and its images."""
        options = ("--root", str(self._engine.storage_root))
        return self._engine(*options, *args, status=status, prefix=self._enter(self._host_pid))

    def ask(self, address: str, port: int, text: str, kind: str = "tcp") -> str:
        """What is answered; "" where nobody does."""
        argv = [*self._enter(self._lan_pid), sys.executable, "-c", _CLIENT, address, str(port), kind, text]
        return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout

    def caller(self, address: str, call: Callable[[str], object]) -> str:
        """Who calls a server of the other machine, as seen there; `call(port)` is to do so."""
        argv = [*self._enter(self._lan_pid), sys.executable, "-c", _SERVER, address]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            try:
                call(server.stdout.readline().strip())
                return server.stdout.readline().strip()
            finally:
                server.kill()

    @contextmanager
    def names(self, address: str, answer: str) -> Iterator[None]:
        """A name server on the other machine, which says the same of all names."""
        argv = [*self._enter(self._lan_pid), sys.executable, "-c", _NAMES, address, answer]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            try:
                assert server.stdout.readline() == "bound\n"
                yield
            finally:
                server.kill()

    @staticmethod
    def _enter(pid: int) -> tuple[str, ...]:
        return "nsenter", "--user", "--net", "--target", str(pid)


@contextmanager
def machine_on_the_lan(engine: Engine) -> Iterator[Lan]:
    """The host's network namespace has nothing but its loopback and the link to that machine."""
    argv = ["unshare", "--user", "--map-root-user", "--map-auto", "--net", "sh", "-c", _MAKE]
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True) as host:
        assert host.stdin is not None
        assert host.stdout is not None
        try:
            yield Lan(engine, host.pid, int(host.stdout.readline()))
        finally:
            host.stdin.close()
