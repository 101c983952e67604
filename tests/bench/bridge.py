"""`make bench ARGS=--bridge`: many containers on one user-defined network, and how soon their names are told.

First every engine starts them one by one: the first ten beside the last ten.  Then pyctl alone starts one more and
removes it, by turns beside all of those and, with a storage root of its own, beside a single one: what else the
machine does meets both.  At last a container on the network asks its name server, 1,000 times a second, in an open
loop (dns_load.c), by turns of the engines.
"""

from __future__ import annotations

import statistics

from tests.bench.bench import NAME, Side

RATE, SECONDS = 1000, 10
FEW = 10
TITLES = ("answered", "wrong", "p50", "p90", "p99", "p99.9", "max", "client late p50", "p99")


def measure_bridge(sides: list[Side], spare: Side, containers: int, rounds: int) -> None:
    """spare: pyctl with another storage root."""
    print(f"starting {containers} containers on one network, ms (median of the first and the last {FEW})")
    for side in sides:
        report_starts(side, [start(side, f"bench{number}") for number in range(1, containers + 1)])
    start(spare, "bench1")
    report_turns(*turns([sides[0], spare], rounds), containers)
    print(f"{RATE} questions a second for {SECONDS} s, times in ms")
    for _ in range(3):
        for side in sides:
            report_names(side, ask(side, containers))


def start(side: Side, name: str) -> float:
    return side.call(["run", "-d", "--name", name, "--network", NAME, NAME, "sleep", "100000"])


def report_starts(side: Side, times: list[float]) -> None:
    first, last = statistics.median(times[:FEW]), statistics.median(times[-FEW:])
    print(f"  {side.name:10} {first:6.1f} {last:6.1f}   ratio {last / first:.2f}", flush=True)


def turns(pair: list[Side], rounds: int) -> list[list[float]]:
    times: list[list[float]] = [[], []]
    for number in range(rounds + 1):
        for side, found in zip(pair, times, strict=True):
            took = start(side, "bench-more")
            side.call(["rm", "-f", "-t", "0", "bench-more"])
            if number:
                found.append(took)
    return times


def report_turns(many: list[float], few: list[float], containers: int) -> None:
    print(f"one more of pyctl's, beside {containers} and beside 1, alternating, ms (median of {len(many)})")
    beside, alone = statistics.median(many), statistics.median(few)
    print(f"  {'':10} {beside:6.1f} {alone:6.1f}   ratio {beside / alone:.2f}", flush=True)


def ask(side: Side, containers: int) -> list[int]:
    """What dns_load printed."""
    server = "$(awk '/^nameserver/ { print $2; exit }' /etc/resolv.conf)"
    script = f"/dns_load {server} {RATE} {SECONDS} bench {containers}"
    said = side.output(["run", "--rm", "--network", NAME, NAME, "sh", "-c", script])
    return [int(word) for word in said.split()]


def report_names(side: Side, found: list[int]) -> None:
    sent, answered, wrong, *times = found
    words = [f"{answered} of {sent}", str(wrong), *("never" if t < 0 else f"{t / 1000:.2f}" for t in times)]
    print(f"  {side.name}: {', '.join(f'{t} {w}' for t, w in zip(TITLES, words, strict=True))}", flush=True)
