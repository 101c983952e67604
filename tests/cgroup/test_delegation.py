"""An administrator takes a controller away: the limit fails before anything starts, and says how to give it back.

Changes the units of the machine's systemd, so it runs only as root of a machine that may be thrown away
(PYCTL_TEST_DISPOSABLE=1, as on the test host).
"""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import wait_until

TOP = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or os.environ.get("PYCTL_TEST_DISPOSABLE") != "1" or not os.path.isdir("/run/systemd/system"),
    reason="needs root of a machine that may be changed (PYCTL_TEST_DISPOSABLE=1)",
)
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


def lingering_user() -> pwd.struct_passwd:
    for name in os.listdir("/var/lib/systemd/linger"):
        return pwd.getpwnam(name)
    pytest.skip("no user lingers here")


def run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout


def delegate(user: pwd.struct_passwd, controllers: str) -> None:
    drop_in = DROP_INS / "zz-test.conf"
    DROP_INS.mkdir(exist_ok=True)
    drop_in.write_text(f"[Service]\nDelegate=\nDelegate={controllers}\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", f"user@{user.pw_uid}.service")


def asked(user: pwd.struct_passwd, limits: str) -> str:
    words = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups"]
    env = ["env", "-i", f"XDG_RUNTIME_DIR=/run/user/{user.pw_uid}", f"HOME={user.pw_dir}"]
    return run(*words, *env, sys.executable, "-c", PROGRAM, str(TOP), limits)


def refused_by_the_command_line(user: pwd.struct_passwd) -> None:
    """`pyctl run` fails before anything of the container exists, and leaves nothing."""
    words = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups", "env", "-i"]
    env = [f"XDG_RUNTIME_DIR=/run/user/{user.pw_uid}", f"HOME={user.pw_dir}", "PATH=/usr/bin:/bin:/usr/sbin:/sbin"]
    pyctl = [*words, *env, sys.executable, str(TOP / "bin/pyctl")]
    tree = "mkdir -p t/bin; cp /bin/busybox t/bin/; tar -C t -cf t.tar ."
    subprocess.run([*words, *env, "sh", "-c", tree], check=True, cwd=user.pw_dir, timeout=60)
    run(*pyctl, "import", f"{user.pw_dir}/t.tar", "box")
    assert run(*pyctl, "run", "--rm", "--memory=64m", "box", "/bin/busybox", "echo", "runs") == "runs\n"
    ended = subprocess.run(
        [*pyctl, "run", "--name=no", "--cpus=0.5", "box", "/bin/busybox", "true"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 125
    assert "the cgroup controller cpu is not delegated" in ended.stderr
    assert "Delegate=cpu cpuset io memory pids" in ended.stderr
    assert run(*pyctl, "ps", "-aq") == ""
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
