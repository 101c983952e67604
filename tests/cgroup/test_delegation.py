"""An administrator takes a controller away: the limit fails before anything starts, and says how to give it back.

Changes the units of the machine's systemd, so it runs only as root of a machine that may be thrown away
(PYCTL_TEST_DISPOSABLE=1, as on the test host).
"""

import pwd
import subprocess
import sys
from pathlib import Path

from tests.support.lingering import NEEDS_DISPOSABLE_HOST, TOP, as_user, import_box, lingering_user, pyctl, run
from tests.support.waiting import wait_until

pytestmark = NEEDS_DISPOSABLE_HOST
DROP_INS = Path("/etc/systemd/system/user@.service.d")
PROGRAM = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from pyctl.engine.model import Limits
from rootless import cgroup_facts, cgroup_plan
from rootless.errors import LimitError
facts = cgroup_facts.detect(os.environ, os.getuid())
try:
    planned = cgroup_plan.plan(facts, Limits(**json.loads(sys.argv[2])), "x")
    print("planned", planned.plan.mode)
except LimitError as error:
    print(error.message, "|", error.hint)
"""


def delegate(user: pwd.struct_passwd, controllers: str) -> None:
    drop_in = DROP_INS / "zz-test.conf"
    DROP_INS.mkdir(exist_ok=True)
    drop_in.write_text(f"[Service]\nDelegate=\nDelegate={controllers}\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", f"user@{user.pw_uid}.service")


def asked(user: pwd.struct_passwd, limits: str) -> str:
    return run(*as_user(user), sys.executable, "-c", PROGRAM, str(TOP), limits)


def refused_by_the_command_line(user: pwd.struct_passwd) -> None:
    """`pyctl run` fails before anything of the container exists, and leaves nothing."""
    import_box(user)
    box = [*pyctl(user), "run", "--rm", "--memory=64m", "box", "/bin/busybox", "echo", "runs"]
    assert run(*box) == "runs\n"
    ended = subprocess.run(
        [*pyctl(user), "run", "--name=no", "--cpus=0.5", "box", "/bin/busybox", "true"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 125
    assert "the cgroup controller cpu is not delegated" in ended.stderr
    assert "Delegate=cpu cpuset io memory pids" in ended.stderr
    assert run(*pyctl(user), "ps", "-aq") == ""
    below = Path(f"/sys/fs/cgroup/user.slice/user-{user.pw_uid}.slice")
    wait_until(lambda: not list(below.glob("**/pyctl-*")), 10, "no scope is left")


def test_a_controller_is_taken_away_and_given_back():
    user = lingering_user()
    others = {path: path.read_text() for path in DROP_INS.glob("*.conf")}
    for path in others:
        path.write_text("")
    try:
        delegate(user, "pids memory")
        text = asked(user, '{"cpu_quota_us": 50000}')
        assert "--cpus cannot take effect: the cgroup controller cpu is not delegated" in text
        assert "(delegated: memory pids)" in text
        assert "Delegate=cpu cpuset io memory pids" in text
        assert asked(user, '{"memory_bytes": 67108864, "pids": 5}') == "planned scope\n"
        refused_by_the_command_line(user)
        # what the advice says
        delegate(user, "cpu cpuset io memory pids")
        assert asked(user, '{"cpu_quota_us": 50000}') == "planned scope\n"
        run("systemctl", "stop", f"user@{user.pw_uid}.service")
        text = asked(user, '{"memory_bytes": 67108864}')
        assert "no systemd user manager can be reached" in text
    finally:
        (DROP_INS / "zz-test.conf").unlink(missing_ok=True)
        for path, content in others.items():
            path.write_text(content)
        run("systemctl", "daemon-reload")
        run("systemctl", "start", f"user@{user.pw_uid}.service")
