"""`make bench`: how long the everyday commands take, beside any podman that is named.

    make bench                              this checkout alone
    make bench PODMAN=podman                beside the podman of this machine, as the same user
    make bench PODMAN=podman PODMAN_WRAPPER=/path/to/wrapper
                                            … beside one that the wrapper reaches (as root, in another root)
    make bench ARGS="--rounds 40 --only exec,ps"
    make bench ARGS="--ports --rounds 5"    throughput and connections a second, published and on bridges (ports.py)
    make bench ARGS=--bridge                200 containers on one network, and its name server (bridge.py)
    make bench ARGS="--transfer --rounds 3" a large layer pulled and pushed (transfer.py)
    make bench ARGS=--images                `images` with 1,000 images, beside a podman that has ten (images.py)

The two take turns, command by command, so that whatever else the machine does meets both.  Each is timed by a
process that stands where the command runs (worker.py), so a wrapper's own cost is not in the figures.  Each gets an
image and a network named pyctl-bench, and loses them again.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import IO

from tests.support.engine import COMMAND, Engine
from tests.support.images import Entry, busybox_entries, layer_tar

WORKER = Path(__file__).with_name("worker.py")
NAME = "pyctl-bench"  # of the image, of the network, and what those of containers begin with
SUBNET = "10.199.77.0/24"


FIRST, SECOND = "run, first on a bridge", "run, second on a bridge"


class Side:
    """One engine: its command, the process that times it, and the times."""

    def __init__(self, name: str, command: list[str], port: int, worker: tuple[IO[str], IO[str]]) -> None:
        self.name, self.command, self.port = name, command, port
        self.to_worker, self.from_worker = worker
        self.times: dict[str, list[float]] = {}

    def measurements(self) -> dict[str, list[str]]:
        """What is measured, as arguments; without --network it is each engine's own default.

        "first": no other container is on a network of the user's own; "second": there is one.
        """
        run = ["run", "--rm"]
        return {
            "version": ["version"],
            "ps": ["ps"],
            "inspect": ["inspect", f"{NAME}-target"],
            "exec": ["exec", f"{NAME}-target", "true"],
            "run, no network": [*run, "--network=none", NAME, "true"],
            "run, slirp4netns": [*run, "--network=slirp4netns", NAME, "true"],
            "run, default network": [*run, NAME, "true"],
            "run, -p": [*run, "-p", f"127.0.0.1:{self.port}:80", NAME, "true"],
            FIRST: [*run, f"--network={NAME}", NAME, "true"],
            SECOND: [*run, f"--network={NAME}", NAME, "true"],
        }

    def call(self, args: list[str]) -> float:
        """Milliseconds from posix_spawn to the command's end."""
        return self.run(args)[0]

    def run(self, args: list[str]) -> tuple[float, int]:
        """The same, and the most memory that the command had, in KiB."""
        took, peak_kib, _ = self._ask(args, b"", False)
        return took, peak_kib

    def output(self, args: list[str], given: bytes = b"") -> str:
        """What the command says, having read `given`."""
        return self._ask(args, given, True)[2]

    def _ask(self, args: list[str], given: bytes, output: bool) -> tuple[float, int, str]:
        argv = [*self.command, *args]
        request = {"argv": argv, "input": base64.b64encode(given).decode(), "output": output}
        self.to_worker.write(json.dumps(request) + "\n")
        self.to_worker.flush()
        took, status, peak_kib, said = json.loads(self.from_worker.readline())
        if status:
            raise SystemExit(f"status {status}: {shlex.join(argv)}")
        return float(took), int(peak_kib), str(said)


def start_worker(env: dict[str, str]) -> tuple[IO[str], IO[str]]:
    process = subprocess.Popen(
        [sys.executable, "-I", str(WORKER)], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def podman_worker() -> tuple[IO[str], IO[str]]:
    """The one that $PODMAN_FDS ("in,out") hands over, or one of our own."""
    handed = os.environ.get("PODMAN_FDS", "")
    if not handed:
        return start_worker(dict(os.environ))
    reader, writer = (int(fd) for fd in handed.split(","))
    return os.fdopen(writer, "w"), os.fdopen(reader)


def quartiles(times: list[float]) -> str:
    low, _, high = statistics.quantiles(times, n=4) if len(times) > 1 else (times[0],) * 3
    return f"{low:.1f} to {high:.1f}"


def report(sides: list[Side]) -> None:
    head = f"{'':22} {'pyctl, ms':>10} {'quartiles':>16}"
    if len(sides) > 1:
        head += f" {'podman, ms':>11} {'quartiles':>16} {'ratio':>7}"
    print(head)
    for name, times in sides[0].times.items():
        median = statistics.median(times)
        line = f"{name:22} {median:10.1f} {quartiles(times):>16}"
        if len(sides) > 1:
            theirs = sides[1].times[name]
            other = statistics.median(theirs)
            line += f" {other:11.1f} {quartiles(theirs):>16} {median / other:7.2f}"
        print(line)


def compiled(name: str, folder: Path) -> Path:
    """One of the programs in C beside this file, to be run in any container."""
    program = folder / name
    subprocess.run(["gcc", "-O2", "-static", "-o", program, Path(__file__).with_name(f"{name}.c")], check=True)
    return program


@contextmanager
def image_and_network(side: Side, tar: bytes) -> Iterator[None]:
    """What the containers are made of."""
    side.output(["import", "-q", "--change", "CMD=/bin/sh", "-", NAME], tar)
    try:
        side.call(["network", "create", "--subnet", SUBNET, NAME])
        yield
    finally:
        side.call(["network", "rm", "-f", "-t", "0", NAME])
        side.call(["rmi", "-f", NAME])


@contextmanager
def resident(side: Side, name: str, network: str) -> Iterator[None]:
    """A container that stays there meanwhile."""
    side.call(["run", "-d", "--name", f"{NAME}-{name}", f"--network={network}", NAME, "sleep", "100000"])
    try:
        yield
    finally:
        side.call(["rm", "-f", "-t", "0", f"{NAME}-{name}"])


def measure(sides: list[Side], rounds: int, wanted: list[str]) -> None:
    names = [n for n in sides[0].measurements() if not wanted or any(n.startswith(w) for w in wanted)]
    with ExitStack() as there:
        for side in sides:
            there.enter_context(resident(side, "target", "none"))
        for number in range(rounds + 1):
            for name in names:
                for side in sides:
                    with resident(side, "neighbour", NAME) if name == SECOND else nullcontext():
                        took = side.call(side.measurements()[name])
                    if number:  # the first round fills caches
                        side.times.setdefault(name, []).append(took)
            if sys.stderr.isatty():
                end = "\n" if number == rounds else ""
                print(f"\rround {number} of {rounds}", end=end, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", default="", help="names (or starts of names) to measure, separated by commas")
    parser.add_argument("--transfer", action="store_true", help="measure pull and push of a large layer instead")
    parser.add_argument("--images", action="store_true", help="measure the list of many images instead")
    parser.add_argument("--port", type=int, default=18080)
    parser.add_argument("--bridge", action="store_true", help="measure a user-defined network with many containers")
    parser.add_argument("--containers", type=int, default=200, help="how many, with --bridge")
    parser.add_argument("--ports", action="store_true", help="measure traffic, not commands")
    options = parser.parse_args()

    only = [name for name in options.only.split(",") if name]
    engine = Engine()
    try:
        sides = [Side("pyctl", COMMAND, options.port, start_worker(engine.env))]
        if podman := shlex.split(os.environ.get("PODMAN", "")):
            sides.append(Side("podman", podman, options.port + 1, podman_worker()))
        if options.transfer or options.images:
            from tests.bench.images import measure as measure_images
            from tests.bench.transfer import measure as measure_transfer

            runs = {side.name: side.run for side in sides}
            (measure_transfer if options.transfer else measure_images)(runs, options.rounds)
            return
        with ExitStack() as there:
            folder = Path(there.enter_context(tempfile.TemporaryDirectory(prefix="pb-")))
            entries = busybox_entries()
            if options.ports or options.bridge:
                entries += [Entry(name, compiled(name, folder).read_bytes()) for name in ("traffic", "dns_load")]
            tar = layer_tar(entries)
            for side in sides:
                there.enter_context(image_and_network(side, tar))
            if options.ports:
                from tests.bench import ports

                ports.measure(sides, options.rounds, only, folder / "traffic")
                return
            if options.bridge:
                from tests.bench.bridge import measure_bridge

                other = Engine()
                there.callback(other.close)
                spare = Side("pyctl", COMMAND, options.port, start_worker(other.env))
                there.enter_context(image_and_network(spare, tar))
                measure_bridge(sides, spare, options.containers, options.rounds)
                return
            measure(sides, options.rounds, only)
    finally:
        engine.close()
    print(
        f"{options.rounds} rounds, alternating; medians; Python {sys.version.split()[0]}, {os.cpu_count()} processors"
    )
    report(sides)
    print()
    for side in sides:
        for name, args in side.measurements().items():
            print(f"  {name}: {shlex.join([*side.command, *args])}")


if __name__ == "__main__":
    main()
