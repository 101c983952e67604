"""`doctor`: findings of made-up and of this machine, and that each problem comes with what helps."""

import json

import pytest

from pyctl.engine import doctor
from rootless.errors import Error
from rootless.idmap import IdMap, IdRow


class FakeEngine:
    uid = 1000

    def __init__(self, rows):
        self.id_map = IdMap(uids=rows, gids=rows, single=len(rows) == 1)
        self.uid_count = self.gid_count = sum(row.count for row in rows)


OWN = IdRow(inside=0, outside=1000, count=1)


@pytest.mark.parametrize(
    ("rows", "status", "words"),
    [
        ((OWN,), doctor.WARNING, "only one user"),
        ((OWN, IdRow(inside=1, outside=9, count=1000)), doctor.WARNING, "1001 ids are mapped"),
        ((OWN, IdRow(inside=1, outside=9, count=65536)), doctor.OK, "65537 uids"),
    ],
)
def test_ids(rows, status, words):
    (check,) = doctor._ids(FakeEngine(rows))
    assert check.status == status
    assert words in check.text
    assert bool(check.fix) == (status != doctor.OK)
    assert "usermod --add-subuids" in check.fix or status == doctor.OK


def test_kernel_bounds(tmp_path):
    def bound(name, value):
        path = tmp_path / "sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")

    assert [check.status for check in doctor._bounds(str(tmp_path))] == [doctor.OK]
    bound("fs/inotify/max_user_instances", 128)
    bound("kernel/keys/maxkeys", 100000)
    (check,) = doctor._bounds(str(tmp_path))
    assert "fs.inotify.max_user_instances is 128" in check.text
    assert check.fix == "an administrator can run: sysctl -w fs.inotify.max_user_instances=2048"


def test_a_look_that_fails_is_a_problem_with_its_remedy(monkeypatch):
    def fails(_engine):
        raise Error("no such thing", hint="get one")

    monkeypatch.setattr(doctor, "_runtime", fails)
    for name in ("_namespace", "_ids", "_storage", "_overlay", "_network", "_seccomp", "_session", "_limits"):
        monkeypatch.setattr(doctor, name, lambda _engine: [])
    (check, *_bounds) = doctor.checks(FakeEngine((OWN,)))
    assert (check.name, check.status, check.text, check.fix) == ("runtime", doctor.PROBLEM, "no such thing", "get one")


def test_on_this_machine(fresh):
    result = fresh("doctor", "--format", "json", status=None)
    found = json.loads(result.out)
    assert {row["Name"] for row in found} >= {"user namespace", "ids", "storage", "overlay", "limits", "session"}
    problems = [row for row in found if row["Status"] == "problem"]
    assert result.status == int(bool(problems))
    for row in found:
        assert row["Status"] == "ok" or row["Fix"], row
