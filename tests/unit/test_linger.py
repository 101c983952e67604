"""Whether a login's end is a container's end."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyctl.engine import linger

SESSION = "0::/user.slice/user-1000.slice/session-3.scope\n"
SERVICE = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.service\n"


def ends(root: Path, cgroup: str, *, uid: int = 1000, lingers: bool = False, systemd: bool = True) -> bool:
    for folder in ("proc/self", "var/lib/systemd/linger"):
        (root / folder).mkdir(parents=True)
    if systemd:
        (root / "run/systemd/system").mkdir(parents=True)
    if lingers:
        (root / "var/lib/systemd/linger/ann").touch()
    (root / "proc/self/cgroup").write_text(cgroup)
    return linger.ends_with_session(uid, "ann", f"{root}/")


@pytest.mark.parametrize("cgroup", [SESSION, SERVICE, "1:name=systemd:/user.slice/user-1000.slice/session-1.scope\n"])
def test_in_a_session(tmp_path: Path, cgroup: str) -> None:
    assert ends(tmp_path, cgroup)


@pytest.mark.parametrize("cgroup", ["0::/system.slice/cron.service\n", "0::/system.slice/slurmstepd.scope/job_1\n", ""])
def test_elsewhere(tmp_path: Path, cgroup: str) -> None:
    assert not ends(tmp_path, cgroup)


def test_not_for_all(tmp_path: Path) -> None:
    assert not ends(tmp_path / "a", SESSION, lingers=True)
    assert not ends(tmp_path / "b", SESSION, systemd=False)
    assert not ends(tmp_path / "c", SESSION, uid=0)
