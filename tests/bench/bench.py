"""`make bench`: how long the everyday commands take, beside any podman that is named.

    make bench                              this checkout alone
    make bench PODMAN=podman                beside the podman of this machine, as the same user
    make bench PODMAN=podman PODMAN_WRAPPER=/path/to/wrapper
                                            … beside one that the wrapper reaches (as root, in another root)
    make bench ARGS="--rounds 40 --only exec,ps"
    make bench ARGS=--ports                 published ports: throughput, connections (ports.py)
    make bench ARGS=--bridge                200 containers on one network, and its name server (bridge.py)
    make bench ARGS="--transfer --rounds 3" a large layer pulled and pushed (transfer.py)
    make bench ARGS=--images                `images` with 1,000 images, beside a podman that has ten (images.py)

The two take turns, command by command, so that whatever else the machine does meets both.  Each is timed by a
process that stands where the command runs (worker.py), so a wrapper's own cost is not in the figures.  Podman's
image is $PODMAN_IMAGE (default localhost/busybox:local), to be made before by `podman import`.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from tests.support.engine import COMMAND, Engine
from tests.support.images import busybox_entries, layer_tar

WORKER = Path(__file__).with_name("worker.py")


class Side:
    """One engine: its command, its image, the process that times it, and the times."""

    def __init__(self, command: list[str], image: str, port: int, worker: tuple[IO[str], IO[str]]) -> None:
        self.command, self.image, self.port = command, image, port
        self.to_worker, self.from_worker = worker
        self.times: dict[str, list[float]] = {}

    def measurements(self) -> dict[str, list[str]]:
        """What is measured, as arguments; without --network it is each engine's own default."""
        run = ["run", "--rm"]
        return {
            "version": ["version"],
            "ps": ["ps"],
            "inspect": ["inspect", "bench-target"],
            "exec": ["exec", "bench-target", "true"],
            "run, no network": [*run, "--network=none", self.image, "true"],
            "run, slirp4netns": [*run, "--network=slirp4netns", self.image, "true"],
            "run, default network": [*run, self.image, "true"],
            "run, -p": [*run, "-p", f"127.0.0.1:{self.port}:80", self.image, "true"],
        }

    def call(self, args: list[str]) -> float:
        """Milliseconds from posix_spawn to the command's end."""
        return self.run(args)[0]

    def run(self, args: list[str]) -> tuple[float, int]:
        """The same, and the most memory that the command had, in KiB."""
        argv = [*self.command, *args]
        self.to_worker.write(json.dumps(argv) + "\n")
        self.to_worker.flush()
        took, status, peak_kib = json.loads(self.from_worker.readline())
        if status:
            raise SystemExit(f"status {status}: {shlex.join(argv)}")
        return float(took), int(peak_kib)


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


def measure(sides: list[Side], rounds: int, wanted: list[str]) -> None:
    names = [n for n in sides[0].measurements() if not wanted or any(n.startswith(w) for w in wanted)]
    for number in range(rounds + 1):
        for name in names:
            for side in sides:
                took = side.call(side.measurements()[name])
                if number:  # the first round fills caches
                    side.times.setdefault(name, []).append(took)
        if sys.stderr.isatty():
            print(f"\rround {number} of {rounds}", end="\n" if number == rounds else "", file=sys.stderr, flush=True)


def import_busybox(engine: Engine) -> None:
    with tempfile.TemporaryDirectory(prefix="pb-") as folder:
        tar = Path(folder, "busybox.tar")
        tar.write_bytes(layer_tar(busybox_entries()))
        engine("import", "-q", "--change", "CMD=/bin/sh", tar, "busybox")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", default="", help="names (or starts of names) to measure, separated by commas")
    parser.add_argument("--transfer", action="store_true", help="measure pull and push of a large layer instead")
    parser.add_argument("--images", action="store_true", help="measure the list of many images instead")
    parser.add_argument("--port", type=int, default=18080)
    parser.add_argument("--bridge", action="store_true", help="measure a user-defined network with many containers")
    parser.add_argument("--containers", type=int, default=200, help="how many, with --bridge")
    parser.add_argument("--ports", action="store_true", help="measure published ports, not commands")
    options = parser.parse_args()

    engine = Engine()
    try:
        import_busybox(engine)
        sides = [Side(COMMAND, "busybox", options.port, start_worker(engine.env))]
        if podman := shlex.split(os.environ.get("PODMAN", "")):
            image = os.environ.get("PODMAN_IMAGE", "localhost/busybox:local")
            sides.append(Side(podman, image, options.port + 1, podman_worker()))
        if options.ports:
            from tests.bench.ports import measure_ports

            measure_ports(sides, options.rounds, options.port)
            return
        if options.bridge:
            from tests.bench.bridge import measure_bridge

            other = Engine()
            try:
                import_busybox(other)
                spare = Side(COMMAND, "busybox", options.port, start_worker(other.env))
                measure_bridge(sides, spare, options.containers, options.rounds)
            finally:
                other.close()
            return
        if options.transfer or options.images:
            from tests.bench.images import measure as measure_images
            from tests.bench.transfer import measure as measure_transfer

            runs = dict(zip(("pyctl", "podman"), (side.run for side in sides), strict=False))
            (measure_transfer if options.transfer else measure_images)(runs, options.rounds)
            return
        for side in sides:
            side.call(["run", "-d", "--name", "bench-target", "--network=none", side.image, "sleep", "100000"])
        try:
            measure(sides, options.rounds, [name for name in options.only.split(",") if name])
        finally:
            for side in sides:
                side.call(["rm", "-f", "-t", "0", "bench-target"])
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
