"""What ends with a login, and what comes back with the machine.

Restarts the user's manager and changes whether the user lingers, so it runs only as root of a machine that may be
thrown away (PYCTL_TEST_DISPOSABLE=1, as on the test host).
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lingering import NEEDS_DISPOSABLE_HOST, TOP, lingering_user, run
from tests.support.waiting import wait_until

pytestmark = NEEDS_DISPOSABLE_HOST
BUSYBOX = "/bin/busybox"


class Account:
    """pyctl as the lingering user calls it, in a session of that user's manager."""

    def __init__(self, user: pwd.struct_passwd) -> None:
        self.user = user
        self.unit = f"user@{user.pw_uid}.service"
        self.mark = Path(f"/run/user/{user.pw_uid}/pyctl/linger-told")

    def words(self, *args: str) -> list[str]:
        user = self.user
        ids = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups", "env", "-i"]
        bus = f"XDG_RUNTIME_DIR=/run/user/{user.pw_uid}"
        return [*ids, bus, f"HOME={user.pw_dir}", "PATH=/usr/bin:/bin:/usr/sbin:/sbin", "LANG=C.UTF-8", *args]

    def __call__(self, *args: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        # In a unit of the user's manager, as a login's shell would be below the user's slice.
        session = ["systemd-run", "--user", "--quiet", "--pipe", "--wait", "--collect"]
        environment = [f"--setenv=HOME={self.user.pw_dir}", "--setenv=PATH=/usr/bin:/bin:/usr/sbin:/sbin"]
        argv = self.words(*session, *environment, sys.executable, str(TOP / "bin/pyctl"), *args)
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=120, cwd=self.user.pw_dir, check=False)
        assert ended.returncode == status, f"{args}: {ended.stdout}{ended.stderr}"
        return ended

    def make_image(self) -> None:
        tree = "rm -rf t; mkdir -p t/bin; cp /bin/busybox t/bin/; tar -C t -cf t.tar ."
        subprocess.run(self.words("sh", "-c", tree), check=True, cwd=self.user.pw_dir, timeout=60)
        self("import", f"{self.user.pw_dir}/t.tar", "box")

    def restart_manager(self) -> None:
        run("systemctl", "stop", self.unit)
        group = Path(f"/sys/fs/cgroup/user.slice/user-{self.user.pw_uid}.slice/{self.unit}")
        wait_until(lambda: not group.exists(), 60)
        run("systemctl", "start", self.unit)

    def states(self) -> dict[str, str]:
        rows = self("ps", "-a", "--format", "{{.Names}} {{.State}}").stdout.splitlines()
        return dict(row.split() for row in rows)


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    made = Account(lingering_user())
    made.make_image()
    yield made
    made("rm", "-fa", "-t", "0")
    made("rmi", "box")


def test_containers_come_back_with_the_machine(account: Account) -> None:
    assert account("system", "start-on-boot", status=1).stdout == "disabled\n"
    policies = {"every": "always", "held": "unless-stopped", "kept": "unless-stopped", "some": "on-failure"}
    for name, policy in policies.items():
        account("run", "-d", "-t", "--network=none", f"--name={name}", f"--restart={policy}", "--stop-timeout=0", "box",
                BUSYBOX, "sleep", "4321")  # fmt: skip
    account("stop", "-t", "0", "held")
    account("restart", "-t", "0", "kept")
    shown = account("system", "start-on-boot", "--enable")
    assert (shown.stdout, shown.stderr) == ("enabled\n", "")
    account.restart_manager()
    wanted = {"every": "running", "held": "exited", "kept": "running", "some": "exited"}
    wait_until(lambda: account.states() == wanted, 120, "those that should have come back", 0.5)
    # what Podman's own unit does
    account("stop", "-t", "0", "--all")
    account("start", "--all", "--filter", "restart-policy=unless-stopped")
    assert {name for name, state in account.states().items() if state == "running"} == {"held", "kept"}
    assert account("system", "start-on-boot", "--disable").stdout == "disabled\n"
    account.restart_manager()
    assert set(account.states().values()) == {"exited"}
    unit = Path(account.user.pw_dir, ".config/systemd/user/pyctl-restart.service")
    assert not unit.exists()
    unit.write_text("[Unit]\n")
    assert "did not make it" in account("system", "start-on-boot", "--enable", status=125).stderr
    assert unit.read_text() == "[Unit]\n"
    unit.unlink()
    account("rm", "-fa", "-t", "0")


def test_a_login_s_first_container_says_what_ends_with_it(account: Account) -> None:
    name = account.user.pw_name
    linger = Path("/var/lib/systemd/linger", name)
    box = ("run", "-d", "--rm", "--network=none", "--stop-timeout=0", "box", BUSYBOX, "sleep", "4321")
    account.mark.unlink(missing_ok=True)
    assert "linger" not in account(*box).stderr
    linger.unlink()
    try:
        account.mark.unlink()
        assert f"loginctl enable-linger {name}" in account(*box).stderr
        assert "linger" not in account(*box).stderr  # once is enough
        shown = account("system", "start-on-boot", "--enable")
        assert f"loginctl enable-linger {name}" in shown.stderr
        account("system", "start-on-boot", "--disable")
    finally:
        linger.touch()
        os.chmod(linger, 0o644)
        account("rm", "-fa", "-t", "0")
