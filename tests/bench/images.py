"""`make bench ARGS=--images`: `images` with 1,000 images of pyctl's, beside a podman that has ten.

All of pyctl's come from one archive, Podman's from a registry on loopback: a wrapped one needs no shared folder.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.support.images import ARCHITECTURE, Entry, Layout, layer_tar, sha256
from tests.support.registry import Registry

OURS, THEIRS = 1000, 10

Call = Callable[[list[str]], tuple[float, int]]  # arguments → milliseconds, peak KiB


def archive(path: Path) -> None:
    """A docker archive of OURS images that differ in a label."""
    layer = layer_tar([Entry("file", b"content", 0o644)])
    entries, rows = [Entry("layer.tar", layer, 0o644)], []
    for number in range(OURS):
        config = {
            "architecture": ARCHITECTURE,
            "os": "linux",
            "created": f"2024-01-{number % 28 + 1:02}T00:00:00Z",
            "config": {"Labels": {"number": str(number)}},
            "rootfs": {"type": "layers", "diff_ids": [sha256(layer)]},
        }
        name = f"registry.example/team/project-{number // 10}:1.{number % 10}"
        entries.append(Entry(f"{number}.json", json.dumps(config).encode(), 0o644))
        rows.append({"Config": f"{number}.json", "RepoTags": [name], "Layers": ["layer.tar"]})
    path.write_bytes(layer_tar([*entries, Entry("manifest.json", json.dumps(rows).encode(), 0o644)]))


def measure(sides: dict[str, Call], rounds: int) -> None:
    """Prints the medians of `images`."""
    times: dict[str, list[float]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory(prefix="pb-", dir="/var/tmp") as text:
        folder = Path(text)
        archive(folder / "images.tar")
        sides["pyctl"](["load", "-q", "-i", str(folder / "images.tar")])
        registry = Registry(folder / "registry")
        pulled = []
        try:
            # One is there already: $PODMAN_IMAGE.
            for number in range(THEIRS - 1 if "podman" in sides else 0):
                layout = Layout(folder / f"layout-{number}")
                layout.image("1", [layer_tar([Entry("file", b"%d" % number, 0o644)])])
                registry.push(layout, "1", f"tiny-{number}:1")
                pulled.append(f"{registry.address}/tiny-{number}:1")
                sides["podman"](["pull", "-q", "--tls-verify=false", pulled[-1]])
            for number in range(rounds + 1):
                for side, call in sides.items():
                    took, _ = call(["images"])
                    if number:  # the first round fills caches
                        times[side].append(took)
        finally:
            for name in pulled:
                sides["podman"](["rmi", name])
            registry.close()
    medians = {side: statistics.median(times[side]) for side in sides}
    print(f"images: {OURS} of pyctl's, {THEIRS} of podman's; {rounds} rounds, alternating; medians")
    shown = "; ".join(f"{side} {medians[side]:.1f} ms (least {min(times[side]):.1f})" for side in sides)
    print(shown + (f"; ratio {medians['pyctl'] / medians['podman']:.2f}" if "podman" in sides else ""))
