"""`make bench ARGS=--ports`: throughput and connections a second of published ports, beside any podman.

Each engine runs one server (traffic.c, compiled here) in a container for each way to publish a port; the load comes
from this host's loopback.  Rounds go through all of them in turn, so that whatever else the machine does meets all.
Where a wrapper has its podman in another root, $PODMAN_TRAFFIC is the path of the compiled program there (it is kept
when $BENCH_TRAFFIC names where to compile it to).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
from pathlib import Path

from tests.bench.bench import Side
from tests.support.waiting import wait_until

SOURCE = Path(__file__).with_name("traffic.c")
LOADS = [
    ("send", 1, "MB/s in, 1 stream"),
    ("send", 8, "MB/s in, 8 streams"),
    ("receive", 1, "MB/s out, 1 stream"),
    ("receive", 8, "MB/s out, 8 streams"),
    ("connect", 1, "connections/s, 1 client"),
    ("connect", 8, "connections/s, 8 clients"),
]
# What --network is called, and the words for it
OURS = {"forwarder": ["--network=slirp4netns"], "slirp4netns": ["--network=slirp4netns:port_handler=slirp4netns"]}
PODMANS = {
    "rootlessport": ["--network=slirp4netns"],
    "pasta": ["--network=pasta"],
    "slirp4netns": ["--network=slirp4netns:port_handler=slirp4netns"],
}


def measure_ports(sides: list[Side], rounds: int, first_port: int, duration_ms: int = 1500) -> None:
    """Prints one line for each load and each way."""
    with tempfile.TemporaryDirectory(prefix="pb-") as folder:
        os.chmod(folder, 0o755)
        program = os.environ.get("BENCH_TRAFFIC") or f"{folder}/traffic"
        subprocess.run(["gcc", "-O2", "-static", "-o", program, str(SOURCE)], check=True)
        ways: dict[str, int] = {}
        try:
            for number, side in enumerate(sides):
                there = os.environ.get("PODMAN_TRAFFIC", program) if number else program
                for name, network in (PODMANS if number else OURS).items():
                    port = first_port + len(ways)
                    label = f"{'podman' if number else 'pyctl'} {name}"
                    args = ["run", "-d", "--name", f"bench-{name}", *network, "-p", f"{port}:80"]
                    side.call([*args, "-v", f"{there}:/traffic:ro", side.image, "/traffic", "serve", "80"])
                    ways[label] = port
            results: dict[tuple[str, str], list[float]] = {}
            for port in ways.values():
                wait_until(lambda port=port: load(program, port, "connect", 1, 50) > 0)
            for _ in range(rounds):
                for kind, parallel, title in LOADS:
                    for label, port in ways.items():
                        rate = load(program, port, kind, parallel, duration_ms)
                        results.setdefault((title, label), []).append(rate if kind == "connect" else rate / 1e6)
            report_ports(results, list(ways), rounds, duration_ms)
        finally:
            for number, side in enumerate(sides):
                for name in PODMANS if number else OURS:
                    side.call(["rm", "-f", "-t", "0", f"bench-{name}"])


def load(program: str, port: int, kind: str, parallel: int, duration_ms: int) -> float:
    """Bytes, or requests, a second; 0 where nobody answers."""
    argv = [program, "load", "127.0.0.1", str(port), kind, str(parallel), str(duration_ms)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    return float(done.stdout) if done.returncode == 0 else 0.0


def report_ports(results: dict[tuple[str, str], list[float]], labels: list[str], rounds: int, duration_ms: int) -> None:
    print(f"{rounds} rounds of {duration_ms} ms, alternating; median (lowest to highest); {os.cpu_count()} processors")
    width = max(len(label) for label in labels)
    for _, _, title in LOADS:
        print(title)
        for label in labels:
            rates = results[title, label]
            print(f"  {label:{width}} {statistics.median(rates):8.0f}   ({min(rates):.0f} to {max(rates):.0f})")
