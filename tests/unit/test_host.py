"""What `info` reads of a machine, and how it is printed."""

import os

import pytest

from pyctl.engine import host


def test_memory_and_processors(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal:       100 kB\nMemAvailable:    40 kB\nHugePages_Total:       3\n")
    assert host.memory_bytes(str(tmp_path)) == {"MemTotal": 102400, "MemAvailable": 40960, "HugePages_Total": 3}
    (tmp_path / "stat").write_text("cpu  10 10 20 60 0 0 0 0 0 0\ncpu0 1 2 3\n")
    assert host.cpu_utilization(str(tmp_path)) == {"userPercent": 20.0, "systemPercent": 20.0, "idlePercent": 60.0}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [("1127.01 5", "0h 18m 47.00s"), ("93787.9 1", "26h 3m 7.00s (Approximately 1.09 days)")],
)
def test_uptime(tmp_path, seconds, text):
    (tmp_path / "uptime").write_text(seconds + "\n")
    assert host.uptime(str(tmp_path)) == text


def test_distribution(tmp_path):
    path = tmp_path / "os-release"
    path.write_text('NAME="X"\nID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n')
    assert host.distribution(str(path)) == {"codename": "bookworm", "distribution": "debian", "version": "12"}
    assert host.distribution(f"{tmp_path}/none") == {"distribution": "unknown", "version": "unknown"}
    assert host.machine() in ("amd64", "arm64", os.uname().machine)
