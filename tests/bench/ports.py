"""`make bench ARGS=--ports`: throughput and connections a second, of published ports and between containers.

The server is traffic.c, in a container.  To a published port the load comes from this host's loopback;
on a bridge it comes from another container.  One container serves at a time, because what forwards for one has its
share of what the kernel gives a user (pipes, pipe(7)); the engines take turns.
"""

from __future__ import annotations

import os
import statistics
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.bench.bench import NAME, SUBNET, Side
from tests.support.waiting import wait_until

LOADS = [
    ("send", 1, "MB/s in, 1 stream"),
    ("send", 8, "MB/s in, 8 streams"),
    ("receive", 1, "MB/s out, 1 stream"),
    ("receive", 8, "MB/s out, 8 streams"),
    ("connect", 1, "connections/s, 1 client"),
    ("connect", 8, "connections/s, 8 clients"),
]


class Way(NamedTuple):
    """How the load comes in.  Pyctl publishes by the same forwarder always, but for the last one."""

    title: str  # in brackets: what Podman publishes by
    network: str


BETWEEN = "between"
WAYS = {
    "slirp4netns": Way("published, slirp4netns (rootlessport)", "slirp4netns"),
    "pasta": Way("published, pasta (pasta)", "pasta"),
    "bridge": Way("published, bridge (rootlessport)", NAME),
    BETWEEN: Way("from container to container on a bridge", NAME),
    "handler": Way("published, slirp4netns's own handler", "slirp4netns:port_handler=slirp4netns"),
}
SERVER = f"{NAME}-server"
ADDRESS = SUBNET.replace("0/24", "2")
DURATION_MS = 1000
PORTS = 50  # of each engine, in turn: who published one may not have left it yet

Load = Callable[[str, int, int], float]  # kind, parallel, milliseconds → bytes, or requests, a second


def measure(sides: list[Side], rounds: int, wanted: list[str], program: Path) -> None:
    """Prints one line for each way and load.  program: the compiled traffic.c, which is in the image too."""
    number = 0
    ways = [way for way in WAYS if not wanted or any(way.startswith(w) for w in wanted)]
    results: dict[tuple[str, str, str], list[float]] = {}
    for _ in range(rounds):
        for way in ways:
            for side in sides:
                number = (number + 1) % PORTS
                with serving(side, way, program, side.port + number * len(sides)) as load:
                    for kind, parallel, title in LOADS:
                        rate = load(kind, parallel, DURATION_MS)
                        results.setdefault((way, title, side.name), []).append(
                            rate if kind == "connect" else rate / 1e6
                        )
    print(f"{rounds} rounds of {DURATION_MS} ms, alternating; median (lowest to highest); {os.cpu_count()} processors")
    for way in ways:
        report(way, results, [side.name for side in sides])


@contextmanager
def serving(side: Side, way: str, program: Path, port: int) -> Iterator[Load]:
    """A server in a container, and what loads it."""
    options = ["--network", WAYS[way].network, *(["--ip", ADDRESS] if way == BETWEEN else ["-p", f"{port}:80"])]
    names = [SERVER]
    try:
        side.call(["run", "-d", "--name", SERVER, *options, NAME, "/traffic", "serve", "80"])
        if way == BETWEEN:
            names.append(f"{NAME}-client")
            side.call(["run", "-d", "--name", names[1], "--network", NAME, NAME, "sleep", "100000"])

        def load(kind: str, parallel: int, duration_ms: int) -> float:
            words = [kind, str(parallel), str(duration_ms)]
            if way == BETWEEN:
                return float(side.output(["exec", names[1], "/traffic", "load", ADDRESS, "80", *words]))
            argv = [program, "load", "127.0.0.1", str(port), *words]
            done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
            return float(done.stdout) if done.returncode == 0 else 0.0

        wait_until(lambda: load("connect", 1, 50) > 0)
        yield load
    finally:
        for name in names:
            side.call(["rm", "-f", "-t", "0", name])


def report(way: str, results: dict[tuple[str, str, str], list[float]], names: list[str]) -> None:
    ratio = f"{'ratio':>8}" if len(names) > 1 else ""
    print(f"\n{WAYS[way].title:42}" + "".join(f"{name:>26}" for name in names) + ratio)
    for _, _, title in LOADS:
        rates = [results[way, title, name] for name in names]
        cells = [f"{statistics.median(r):.0f} ({min(r):.0f} to {max(r):.0f})" for r in rates]
        line = f"  {title:40}" + "".join(f"{cell:>26}" for cell in cells)
        if len(rates) > 1 and (theirs := statistics.median(rates[1])):
            line += f"{statistics.median(rates[0]) / theirs:8.2f}"
        print(line)
