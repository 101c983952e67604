"""A log on a file system that is really full: a small tmpfs in a user namespace."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOP = str(Path(__file__).resolve().parents[2])

SCRIPT = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from rootless.logs import open_log
from rootless.plan import LogPlan
folder = sys.argv[2]
log = open_log(LogPlan(driver=sys.argv[3], path=folder + "/ctr.log", max_size_bytes=int(sys.argv[4]), max_files=3))
for number in range(3000):
    log.write(b"stdout", b"line %d and some more text to fill the disk with\\n" % number)
held = sorted(os.listdir(folder))
os.unlink(folder + "/ballast")
log.write(b"stdout", b"there is space again\\n")
log.close()
lines = []
for name in sorted(os.listdir(folder), reverse=True):
    with open(folder + "/" + name, "rb") as file:
        lines += file.read().split(b"\\n")[:-1]
print(json.dumps({"held": held, "lines": [line.decode() for line in lines]}))
"""


@pytest.mark.parametrize("driver", ["k8s-file", "json-file"])
@pytest.mark.parametrize("limit", [0, 40_000])
def test_a_full_disk_costs_records_only(tmp_path: Path, driver: str, limit: int) -> None:
    mount = 'mount -t tmpfs -o size=128k none "$1" && head -c 60000 /dev/zero > "$1/ballast" && shift && exec "$@"'
    command = [sys.executable, "-I", "-c", SCRIPT, TOP, str(tmp_path), driver, str(limit)]
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh", str(tmp_path), *command],
        capture_output=True,
        check=False,
    )
    if b"unshare failed" in done.stderr:
        pytest.skip("needs user namespaces")
    assert done.returncode == 0, done.stderr.decode()
    lines = json.loads(done.stdout)["lines"]
    records = [
        json.loads(line)["log"].rstrip("\n") if driver == "json-file" else line.split(" ", 3)[3] for line in lines
    ]
    assert records[-1] == "there is space again"
    marks = [n for n, record in enumerate(records) if record.endswith("were lost: No space left on device]")]
    assert marks, "a reader can see that something is missing"
    numbers = [int(record.split()[1]) for record in records if record.startswith("line ")]
    assert numbers == sorted(set(numbers)), "whole records, in order, none twice"
    assert len(numbers) + len(marks) + 1 == len(records)
