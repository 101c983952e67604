"""Containers on user-defined networks, as the tests of these ask them."""

from __future__ import annotations

import socket
from pathlib import Path

from rootless.userns import start_time
from tests.support.engine import Engine
from tests.support.waiting import wait_until

# Serves its own name on port 80.
SERVE = ["sh", "-c", "mkdir -p /w && hostname > /w/index.html && exec httpd -f -p 80 -h /w"]


def serve(engine: Engine, name: str, *words: str) -> None:
    engine("run", "-d", "--name", name, "--hostname", f"host-{name}", *words, "busybox", *SERVE)


def fetch(engine: Engine, container: str, target: str) -> str:
    """What a container gets from http://target, "" where it cannot be reached."""
    script = f"timeout 5 wget -qO- http://{target}"
    return engine("exec", container, "sh", "-c", script, status=None).line


def reaches(engine: Engine, container: str, target: str, name: str) -> None:
    wait_until(lambda: fetch(engine, container, target) == f"host-{name}", 30, f"{container} reaches {target}")


def get(port: int, address: str = "127.0.0.1") -> str:
    """What the host gets from a published port."""
    with socket.create_connection((address, port), 10) as link:
        link.sendall(b"GET / HTTP/1.0\r\n\r\n")
        parts = []
        while part := link.recv(4096):
            parts.append(part)
    return b"".join(parts).decode()


def got(port: int) -> str:
    """The same; "" where nobody answers yet."""
    try:
        return get(port)
    except OSError:
        return ""


def addresses(engine: Engine, container: str) -> dict[str, str]:
    """user-defined network → IPv4 address."""
    networks = engine.inspect(container)["NetworkSettings"]["Networks"]
    return {name: settings["IPAddress"] for name, settings in networks.items() if settings["IPAddress"]}


def network_process(engine: Engine) -> int:
    """Its pid, 0 where it does not run."""
    try:
        pid = int(Path(engine.runtime_root, "network/supervisor").read_text().split()[0])
    except FileNotFoundError:
        return 0
    return pid if start_time(pid) else 0  # which is 0 for a zombie


def look_up(engine: Engine, container: str, name: str) -> str:
    return engine("exec", container, "nslookup", name, status=None).out
