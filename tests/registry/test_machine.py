"""What a pull asks of the machine: what is on disk before what, and memory for the windows of zstd."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
import zstandard

from tests.registry.conftest import Store
from tests.registry.scripted import ScriptedRegistry
from tests.support.images import PACKERS, Entry, Layout, layer_tar


def test_nothing_is_named_before_it_is_on_disk(scripted: ScriptedRegistry, store: Store) -> None:
    """A power cut at any moment: a row in the database must find its layers and blobs whole."""
    root = str(store.root)
    steps = store.pull(f"{scripted.address}/small:small", steps=True)["steps"]
    renames = [(at, step) for at, step in enumerate(steps) if step[0] == "rename"]
    blobs = [(at, old) for at, (_, old, new) in renames if new.startswith(f"{root}/blobs/")]
    layers = [(at, old, new) for at, (_, old, new) in renames if new.startswith(f"{root}/layers/")]
    assert (len(blobs), len(layers)) == (4, 2), "two layers, configuration, manifest"
    for at, path in blobs:
        assert ["fsync", path] in steps[:at]
    for at, staged, _layer in layers:
        assert ["syncfs", staged] in steps[:at]
        # Its row, when its name is on disk too.
        assert steps[at + 1] == ["fsync", f"{root}/layers"]
        assert ["commit", "durable"] in steps[at + 2 :]
    # Last the image's row, when the names of all that belongs to it are.
    assert ["fsync", f"{root}/blobs/sha256"] in steps[blobs[-1][0] :]
    assert steps[-1] == ["commit", "durable"]


@pytest.fixture
def windowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """Images "25" and "26": a layer of 50 MiB, in a zstd frame with a window of 2**25 or 2**26 bytes."""
    layout = Layout(tmp_path / "windowed")
    noise = [hashlib.shake_128(b"%d" % number).digest(1 << 20) for number in range(50)]
    tar = layer_tar([Entry(f"f{number}", content, 0o644) for number, content in enumerate(noise)])
    for log in (25, 26):
        parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=log)
        compressor = zstandard.ZstdCompressor(compression_params=parameters)
        monkeypatch.setitem(PACKERS, "windowed", compressor.compress)
        layout.image(str(log), [tar], compression="windowed")
    return layout


def test_zstd_windows_are_bounded(windowed: Layout, store: Store) -> None:
    registry = ScriptedRegistry(windowed)
    try:
        pulled = store.pull(f"{registry.address}/x:25")
        assert pulled["images"], pulled
        assert 32 < pulled["peak_mb"] * 1.048576 < 100
        refused = store.pull(f"{registry.address}/x:26")
    finally:
        registry.close()
    words = r"layer sha256:\w{64}: .* more than 33554432 bytes of memory \(layer_max_window\)"
    assert re.fullmatch(words, refused["error"])
    assert store.partials() == {}
