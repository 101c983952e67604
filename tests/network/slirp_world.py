"""Run inside `unshare --user --map-root-user --mount --pid --fork`: what a supervisor does about slirp4netns.

stdin: one line of JSON {"args": […], "helper": path, "ports": [[host_ip, host_port, container_port, protocol]…],
"api": path}; stdout: one line of JSON {"error": text} or {"interface": …, "hostfwd": […]}; ends when stdin does.
In the new network namespace every container port echoes what it gets, with the peer's address before it.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rootless.errors import LaunchError
from rootless.libc import CLONE_NEWNET, setns
from rootless.loop import READ, Loop
from rootless.netns import skip_duplicate_detection
from rootless.plan import PortForward
from rootless.slirp_api import Publisher, list_hostfwd


def serve(ports: list[PortForward], reach: list[list[object]]) -> None:
    """In the network namespace: wait for the tap, tell about it, echo for ever."""
    skip_duplicate_detection()
    selector = selectors.DefaultSelector()
    for port in ports:
        kind = socket.SOCK_DGRAM if port.protocol == "udp" else socket.SOCK_STREAM
        server = socket.socket(socket.AF_INET, kind)
        server.bind(("0.0.0.0", port.container_port))
        if kind == socket.SOCK_STREAM:
            server.listen()
        selector.register(server, selectors.EVENT_READ)
    print("serving", flush=True)
    if sys.stdin.readline() == "ipv6\n":  # the tap is there
        wait_ipv6()
    shown = [
        subprocess.run(["ip", "-oneline", kind, "show", "dev", "tap0"], check=True, stdout=subprocess.PIPE, text=True)
        for kind in ("link", "address")
    ]
    told = {
        "interface": "".join(result.stdout for result in shown),
        "reached": [reached(str(address), int(str(number))) for address, number in reach],
    }
    print(json.dumps(told), flush=True)
    while True:
        for key, _ in selector.select():
            server = key.fileobj
            assert isinstance(server, socket.socket)
            if server.type == socket.SOCK_DGRAM:
                data, peer = server.recvfrom(65536)
                server.sendto(f"{peer[0]} ".encode() + data, peer)
            else:
                connection, peer = server.accept()
                with connection:
                    connection.sendall(f"{peer[0]} ".encode() + connection.recv(65536))


def reached(address: str, number: int) -> bool:
    try:
        with socket.create_connection((address, number), 2) as link:
            return link.recv(16) == b"hello"
    except OSError:
        return False


def wait_ipv6() -> None:
    """Poll until the tap has its IPv6 address (a router advertisement brings it), or 2 s have passed."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        rows = [row.split() for row in Path("/proc/net/if_inet6").read_text().splitlines()]
        if any(row[0].startswith("fd00") and row[5] == "tap0" for row in rows):
            return
        time.sleep(0.005)


def main() -> None:
    given = json.loads(sys.stdin.readline())
    ports = [PortForward(host_ip=a, host_port=h, container_port=c, protocol=p) for a, h, c, p in given["ports"]]
    subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
    inner = subprocess.Popen(
        ["unshare", "--net", sys.executable, __file__, "serve", json.dumps([given["ports"], given["reach"]])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert inner.stdin
    assert inner.stdout
    inner.stdout.readline()
    try:
        publisher = Publisher(ports, "--disable-host-loopback" not in given["args"])
    except LaunchError as error:
        print(json.dumps({"error": error.message, "hint": error.hint}), flush=True)
        return
    ready, ready_write = os.pipe()
    exit_read, exit_write = os.pipe()
    argv = [given["helper"], *given["args"], f"--ready-fd={ready_write}", f"--exit-fd={exit_read}"]
    helper = subprocess.Popen(
        [*argv, f"--api-socket={given['api']}", str(inner.pid), "tap0"],
        pass_fds=(ready_write, exit_read),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    os.close(ready_write)
    if os.read(ready, 1) != b"1":
        assert helper.stderr
        print(json.dumps({"error": helper.stderr.read().decode()}), flush=True)
        return
    loop = Loop()
    try:
        namespace = os.open(f"/proc/{inner.pid}/ns/net", os.O_RDONLY)
        setns(namespace, CLONE_NEWNET)  # where a supervisor is
        publisher.publish(given["api"], loop)
        inner.stdin.write("ipv6\n" if "--enable-ipv6" in given["args"] else "\n")
        inner.stdin.flush()
        told = json.loads(inner.stdout.readline())
        status = Path(f"/proc/{helper.pid}/status").read_text()
        told["seccomp"] = next(line.split()[1] for line in status.splitlines() if line.startswith("Seccomp:"))
        told["sees"] = sorted(os.listdir(f"/proc/{helper.pid}/root"))
        told["hostfwd"] = list_hostfwd(given["api"])
        print(json.dumps(told), flush=True)
    except LaunchError as error:
        print(json.dumps({"error": error.message, "hint": error.hint}), flush=True)
        return
    os.set_blocking(0, False)
    loop.watch(0, READ, lambda _events: loop.stop())
    loop.run()
    publisher.close()
    os.close(exit_write)
    helper.wait(10)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        given_ports, given_reach = json.loads(sys.argv[2])
        serve(
            [PortForward(host_ip=a, host_port=h, container_port=c, protocol=p) for a, h, c, p in given_ports],
            given_reach,
        )
    else:
        main()
