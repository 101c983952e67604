"""`make bench ARGS=--transfer`: one large layer pulled from and pushed to docker-registry on loopback.

The layer has 12,000 files, 170 MB compressed, about as compressible as programs and documents are.  Every push goes to
a registry that is empty, every pull into a storage that has nothing of the image.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.support.images import ARCHITECTURE, OCI, Entry, Layout, layer_tar, sha256
from tests.support.registry import Registry

FILES = 12_000
_BYTES = 22_000  # of a file, on average

Call = Callable[[list[str]], tuple[float, int]]  # arguments → milliseconds, peak KiB


def large_layer() -> bytes:
    """The same at every run: noise, and text that repeats."""
    entries = []
    for number in range(FILES):
        folder = f"usr/lib/{number % 97}/{number % 11}"
        noise = hashlib.shake_128(str(number).encode()).digest(_BYTES * (number % 17) // 14)
        text = b"%d a line of text that is much like others\n" % number * (_BYTES * (number % 5) // 250)
        entries.append(Entry(f"{folder}/file-{number}", noise + text, 0o644))
    return layer_tar(entries)


def make_image(folder: Path) -> Layout:
    tar = large_layer()
    layout = Layout(folder)
    packed = layout.blob(gzip.compress(tar, 6, mtime=0))
    config = {"architecture": ARCHITECTURE, "os": "linux", "rootfs": {"type": "layers", "diff_ids": [sha256(tar)]}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": {"mediaType": f"{OCI}.config.v1+json", **layout.blob(json.dumps(config).encode())},
        "layers": [{"mediaType": f"{OCI}.layer.v1.tar+gzip", **packed}],
    }
    row = {"mediaType": manifest["mediaType"], **layout.blob(json.dumps(manifest).encode())}
    layout.add({**row, "annotations": {"org.opencontainers.image.ref.name": "1"}})
    return layout


def measure(sides: dict[str, Call], rounds: int) -> None:
    """Prints medians of wall time, and the highest peak of memory, of each side."""
    times: dict[tuple[str, str], list[float]] = {}
    peaks: dict[tuple[str, str], int] = {}

    def note(side: str, what: str, args: list[str]) -> None:
        took, peak_kib = sides[side](args)
        times.setdefault((side, what), []).append(took)
        peaks[side, what] = max(peak_kib, peaks.get((side, what), 0))

    with tempfile.TemporaryDirectory(prefix="pb-", dir="/var/tmp") as folder:
        layout = make_image(Path(folder, "layout"))
        size = json.loads(layout.path(layout.index[0]["digest"]).read_bytes())["layers"][0]["size"]
        source = Registry(Path(folder, "source"))
        try:
            source.push(layout, "1", "large:1")
            name = f"{source.address}/large:1"
            for number in range(rounds):
                for side, call in sides.items():
                    note(side, "pull", ["pull", "-q", "--tls-verify=false", name])
                    target = Registry(Path(folder, f"target-{side}-{number}"))
                    try:
                        note(side, "push", ["push", "-q", "--tls-verify=false", name, f"{target.address}/large:1"])
                    finally:
                        target.close()
                    call(["rmi", "-f", name])
        finally:
            source.close()
    print(f"one layer of {FILES} files, {size / 1e6:.0f} MB compressed; {rounds} rounds, alternating; medians")
    for what in ("pull", "push"):
        medians = {side: statistics.median(times[side, what]) for side in sides}
        lowest = {side: min(times[side, what]) for side in sides}
        shown = "; ".join(
            f"{side} {medians[side] / 1000:.2f} s (least {lowest[side] / 1000:.2f}), peak {peaks[side, what]} KiB"
            for side in sides
        )
        ratio = f"; ratio {medians['pyctl'] / medians['podman']:.2f}" if "podman" in sides else ""
        print(f"{what}: {shown}{ratio}")
