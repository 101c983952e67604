"""`python -m tests.fuzz TARGET [SECONDS] [FOLDER]`: one target for long, from its seeds and what FOLDER holds.

With atheris (pip install .[fuzz]) the search is guided by coverage, and inputs that reach something new are kept in
FOLDER; without it, the seeds are changed at random as in the short run of the tests.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tests.fuzz.targets import Target

USAGE = "usage: python -m tests.fuzz TARGET [SECONDS] [FOLDER]; targets: "


def guided(name: str, seconds: int, folder: Path) -> None:
    """Runs until the time is over; libFuzzer ends the process at a finding and writes its input here."""
    import atheris

    # What is imported before cannot be followed.
    with atheris.instrument_imports(include=["storage", "rootless"]):
        from tests.fuzz.targets import TARGETS, attempt
    target = chosen(name, TARGETS)
    for number, seed in enumerate(target.seeds):
        (folder / f"seed-{number}").write_bytes(seed)
    argv = [sys.argv[0], f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=2048", str(folder)]
    atheris.Setup(argv, lambda data: attempt(target, data))
    atheris.Fuzz()


def random_changes(name: str, seconds: int, folder: Path) -> None:
    """The same without guidance."""
    from tests.fuzz.targets import TARGETS, attempt
    from tests.fuzz.test_targets import changed

    target = chosen(name, TARGETS)
    seeds = [*target.seeds, *(path.read_bytes() for path in folder.iterdir() if path.is_file())]
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        order = random.randrange(1 << 30)

        @settings(max_examples=500, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(changed(seeds))
        def run(data: bytes) -> None:
            attempt(target, data)

        random.seed(order)
        run()
        count += 500
        sys.stderr.write(f"\r{count} inputs")
    sys.stderr.write("\n")


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    folder = Path(sys.argv[3]) if len(sys.argv) > 3 else Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        import atheris  # noqa: F401
    except ImportError:
        random_changes(name, seconds, folder)
    else:
        guided(name, seconds, folder)


def chosen(name: str, targets: dict[str, Target]) -> Target:
    if name not in targets:
        raise SystemExit(USAGE + ", ".join(targets))
    return targets[name]


if __name__ == "__main__":
    main()
