"""Which overlay drivers work here, and what is said where they do not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootless import libc
from rootless.errors import Error
from storage import overlay
from storage.overlay import fuse_report, helper_version, kernel_report, require
from tests.support.requirements import program

Inside = Callable[..., Any]


def test_the_kernels_overlay(inside: Inside, work: Path) -> None:
    report = inside(kernel_report, str(work))
    assert report.reason == ""
    assert os.listdir(work) == [], "the probe left something"


def do_on_tmpfs_without_space(path: str) -> overlay.DriverReport:
    libc.mount("tmpfs", path, "tmpfs", 0, "size=16k,nr_inodes=3")
    return kernel_report(path)


def test_a_probe_that_fails_says_why(inside: Inside, work: Path) -> None:
    report = inside(do_on_tmpfs_without_space, str(work))
    assert "No space left on device" in report.reason
    with pytest.raises(Error, match="storage driver overlay: No space"):
        require(report)


def test_fuse_overlayfs() -> None:
    path = program("fuse-overlayfs")
    report = fuse_report(path)
    assert report.version[0].isdecimal()
    assert report.path == path
    if os.access("/dev/fuse", os.R_OK | os.W_OK):
        assert report.reason == ""
    assert "not installed" in fuse_report("").reason
    assert helper_version("/nonexistent") == ""
    assert helper_version("/bin/true") == ""


def test_a_missing_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = program("fuse-overlayfs")
    monkeypatch.setattr(overlay, "FUSE_DEVICE", str(tmp_path / "fuse"))
    assert "modprobe fuse" in fuse_report(path).hint
    (tmp_path / "fuse").touch(mode=0o000)
    if os.getuid():
        assert "chmod 666" in fuse_report(path).hint
