"""Services come up with the user's manager, as at a boot of the machine: a unit of `generate systemd`, one of Quadlet,
and one that an administrator's generator makes for every user.

Restarts user@UID.service, so it runs only as root of a machine that may be thrown away (as on the test host).
"""

from __future__ import annotations

import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lingering import NEEDS_DISPOSABLE_HOST, TOP, as_user, import_box, lingering_user, pyctl, run
from tests.support.waiting import wait_until

pytestmark = NEEDS_DISPOSABLE_HOST
GENERATORS = Path("/etc/systemd/user-generators")
ADMIN = Path("/etc/containers/systemd/users")
WRAPPER = Path("/usr/local/bin/pyctl")
SERVER = "echo it is up; trap 'exit 0' TERM; while :; do /bin/busybox sleep 1 & wait; done"
CONTAINER = f"""[Container]
Image=box
Pull=never
Network=none
LogDriver=journald
Exec=/bin/busybox sh -c "{SERVER}"
[Install]
WantedBy=default.target
"""


@pytest.fixture(scope="module")
def user() -> Iterator[pwd.struct_passwd]:
    made = lingering_user()
    import_box(made)
    yield made
    run(*pyctl(made), "rmi", "-f", "box")


def systemctl(user: pwd.struct_passwd, *words: str, check: bool = True) -> str:
    argv = [*as_user(user), "systemctl", "--user", "--no-pager", *words]
    return subprocess.run(argv, check=check, capture_output=True, text=True, timeout=120).stdout


def boot(user: pwd.struct_passwd) -> None:
    """The user's manager and all below it end and begin anew."""
    run("systemctl", "restart", f"user@{user.pw_uid}.service")


def wait_active(user: pwd.struct_passwd, unit: str) -> None:
    def state() -> bool:
        return systemctl(user, "is-active", unit, check=False).strip() == "active"

    try:
        wait_until(state, 60, f"{unit} is active", 0.3)
    except AssertionError as late:
        raise AssertionError(f"{late}\n{systemctl(user, 'status', '--lines=50', unit, check=False)}") from None


def test_units_of_the_user_s_start_at_boot(user: pwd.struct_passwd) -> None:
    file = Path(user.pw_dir) / "t-quad.container"
    file.write_text(CONTAINER)
    run(*pyctl(user), "quadlet", "install", str(file))
    made = ["--name", "t-gen", "--network=none", "box", "/bin/busybox", "sh", "-c", SERVER]
    run(*pyctl(user), "create", *made)
    folder = f"{user.pw_dir}/.config/systemd/user"
    subprocess.run([*pyctl(user), "generate", "systemd", "--new", "--name", "--files", "t-gen"], check=True, cwd=folder)
    run(*pyctl(user), "rm", "t-gen")
    systemctl(user, "daemon-reload")
    systemctl(user, "enable", "container-t-gen.service")
    boot(user)
    for unit in ("t-quad.service", "container-t-gen.service"):
        wait_active(user, unit)
    assert set(run(*pyctl(user), "ps", "--format", "{{.Names}}").split()) == {"systemd-t-quad", "t-gen"}
    # under its unit, as `journalctl --user -u t-quad` asks for it (which reads no volatile journal)
    wait_until(lambda: "it is up" in run("journalctl", "_SYSTEMD_USER_UNIT=t-quad.service"), 30, "its output", 0.3)
    systemctl(user, "disable", "--now", "container-t-gen.service")
    assert run(*pyctl(user), "quadlet", "rm", "--force", "t-quad") == "t-quad.container\n"
    boot(user)
    wait_active(user, "default.target")
    assert run(*pyctl(user), "ps", "-aq") == ""
    file.unlink()
    Path(f"{folder}/container-t-gen.service").unlink()


def test_an_administrator_s_files_start_at_boot(user: pwd.struct_passwd) -> None:
    own = Path(user.pw_dir) / "t-own.container"
    own.write_text(CONTAINER)
    run(*pyctl(user), "quadlet", "install", str(own))
    service = Path(f"{user.pw_dir}/.config/systemd/user/t-own.service")
    assert service.exists()
    GENERATORS.mkdir(parents=True, exist_ok=True)
    ADMIN.mkdir(parents=True, exist_ok=True)
    shutil.copy(TOP / "contrib/systemd/pyctl-user-generator", GENERATORS)
    WRAPPER.write_text(f'#!/bin/sh\nexec {sys.executable} {TOP}/bin/pyctl "$@"\n')
    WRAPPER.chmod(0o755)
    (ADMIN / "t-admin.container").write_text(CONTAINER)
    (ADMIN / "t-bad.container").write_text("[Container]\nImage=box\nNope=1\n")
    try:
        boot(user)
        wait_active(user, "t-admin.service")
        assert systemctl(user, "is-active", "t-bad.service", check=False).strip() == "inactive"
        wait_until(
            lambda: "t-bad.container:3: unknown key Nope=" in run("journalctl", "-b"), 30, "told in the journal", 0.3
        )
        # the user's own files need no service in the user's folder now, where it would only go stale
        run(*pyctl(user), "quadlet", "install", str(own))
        assert not service.exists()
        systemctl(user, "start", "t-own.service")
        assert run(*pyctl(user), "quadlet", "rm", "--force", "t-own") == "t-own.container\n"
        assert systemctl(user, "is-active", "t-own.service", check=False).strip() == "inactive"
        systemctl(user, "stop", "t-admin.service")
        assert run(*pyctl(user), "ps", "-aq") == ""
    finally:
        for path in (GENERATORS / "pyctl-user-generator", WRAPPER, *ADMIN.glob("t-*.container"), own):
            path.unlink(missing_ok=True)
        systemctl(user, "daemon-reload", check=False)
