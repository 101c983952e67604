"""Hosts as they are: no session, no subordinate ids, root, inside another namespace."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.engine import COMMAND, IS_PODMAN, Engine

pytestmark = pytest.mark.skipif(IS_PODMAN, reason="about pyctl's choices")


def load(engine: Engine, busybox_tar: Path) -> None:
    engine("import", "-q", busybox_tar, "box")


def test_without_a_runtime_folder(fresh: Engine, busybox_tar: Path) -> None:
    """No XDG_RUNTIME_DIR (su, cron, batch): an owned folder is found, and found again."""
    load(fresh, busybox_tar)
    bare: dict[str, str | None] = {"XDG_RUNTIME_DIR": None, "DBUS_SESSION_BUS_ADDRESS": None}
    fresh("run", "-d", "--name", "c", "--network=none", "box", "sleep", "1000", env=bare)
    try:
        assert fresh("exec", "c", "echo", "found", env=bare).line == "found"
        assert fresh("ps", "--format", "{{.Names}}", env=bare).line == "c"
    finally:
        fresh("rm", "-f", "-t", "0", "c", env=bare)


def test_a_runtime_folder_that_is_not_ours(fresh: Engine) -> None:
    result = fresh("ps", env={"XDG_RUNTIME_DIR": "/run"}, status=None)
    assert "Traceback" not in result.err
    if result.status:
        assert "/run" in result.err


def test_a_runtime_folder_that_is_gone(fresh: Engine) -> None:
    result = fresh("ps", env={"XDG_RUNTIME_DIR": "/no/such/run"}, status=None)
    assert "Traceback" not in result.err
    if result.status:
        assert "/no/such/run" in result.err


def test_containers_are_seen_with_and_without_the_variable(fresh: Engine, busybox_tar: Path) -> None:
    """The state never depends on which runtime folder was found."""
    load(fresh, busybox_tar)
    fresh("create", "--name", "c", "box", "true")
    assert fresh("ps", "-a", "--format", "{{.Names}}", env={"XDG_RUNTIME_DIR": None}).line == "c"


def test_without_a_home(fresh: Engine) -> None:
    result = fresh("ps", env={"HOME": None}, status=None)
    assert "Traceback" not in result.err
    result = fresh("ps", env={"HOME": "/no/such/home"}, status=None)
    assert "Traceback" not in result.err


def test_without_a_path(fresh: Engine, busybox_tar: Path) -> None:
    load(fresh, busybox_tar)
    assert fresh("run", "--rm", "--network=none", "box", "echo", "ok", env={"PATH": None}).line == "ok"


@pytest.mark.parametrize("lang", ["C", "POSIX", "de_DE.UTF-8", ""])
def test_locales(engine: Engine, lang: str) -> None:
    assert engine("run", "--rm", "busybox", "echo", "ümläut", env={"LANG": lang, "LC_ALL": lang}).line == "ümläut"


def as_mapped_root(engine: Engine, *args: str, maps: tuple[str, ...] = ("--map-auto",), status: int = 0) -> str:
    """The command as uid 0 of a user namespace: what root is inside another container."""
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", *maps, *COMMAND, *args],
        env=engine.environment(None),
        cwd=engine.home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_as_root_of_an_outer_namespace(fresh: Engine, busybox_tar: Path) -> None:
    root = ["--root", str(fresh.base / "store"), "--runroot", str(fresh.base / "rr")]
    as_mapped_root(fresh, *root, "import", "-q", str(busybox_tar), "box")
    out = as_mapped_root(fresh, *root, "run", "--rm", "--network=none", "box", "sh", "-c", "id -u; echo ok")
    assert out.endswith("0\nok\n")
    as_mapped_root(fresh, *root, "rmi", "-fa")


def test_with_a_single_id(fresh: Engine, busybox_tar: Path) -> None:
    """No subordinate ids at all: one id, announced, files of others taken as one's own."""
    root = ["--root", str(fresh.base / "store"), "--runroot", str(fresh.base / "rr")]
    out = as_mapped_root(fresh, *root, "import", "-q", str(busybox_tar), "box", maps=())
    out += as_mapped_root(fresh, *root, "run", "--rm", "--network=none", "box", "cat", "/proc/self/uid_map", maps=())
    inside, _, size = out.split()[-3:]
    assert (inside, size) == ("0", "1")


# As the caller, with capabilities only to make /etc/subuid empty in a mount namespace.
NO_RANGES = (
    "unshare", "--user", "--map-current-user", "--mount", "--keep-caps", "sh", "-c",
    "mount --bind /dev/null /etc/subuid && mount --bind /dev/null /etc/subgid &&"
    ' exec setpriv --ambient-caps=-all --inh-caps=-all "$@"',
    "sh",
)  # fmt: skip


def test_an_account_without_subordinate_ids(fresh: Engine, busybox_tar: Path) -> None:
    """Everything is the caller's; said once a command, with what the administrator can do."""
    network = "--network=none"
    announced = fresh("import", "-q", busybox_tar, "box", prefix=NO_RANGES).err
    assert announced.count("no subordinate ids") == 1
    assert announced.count("\n") == 1
    assert "an administrator can add ranges with: " in announced
    result = fresh("run", "--rm", network, "box", "sh", "-c", "id -u; stat -c %u /etc", prefix=NO_RANGES)
    assert (result.out, result.err) == ("0\n0\n", announced)
    refused = fresh("run", "--rm", network, "-u", "web", "box", "true", prefix=NO_RANGES, status=126).err
    assert "1000 (web)" in refused
    assert "--userns=keep-id:uid=1000" in refused
    own = ["--userns=keep-id:uid=1000,gid=1000", "box", "sh", "-c", "id -un; stat -c %u /etc; touch /etc/mine"]
    assert fresh("run", "--rm", network, *own, prefix=NO_RANGES).out == "web\n1000\n"
    assert "subordinate" in fresh("run", "--rm", "--userns=auto", "box", "true", prefix=NO_RANGES, status=125).err
    assert fresh("images", "-q", prefix=NO_RANGES).err == ""
    fresh("rmi", "-fa", prefix=NO_RANGES)


def test_inside_a_container_of_its_own(fresh: Engine, busybox_tar: Path) -> None:
    """pyctl unshare pyctl …: nested once more."""
    load(fresh, busybox_tar)
    done = fresh("unshare", *COMMAND, "run", "--rm", "--network=none", "box", "echo", "nested", status=None)
    assert "Traceback" not in done.err
    if done.status == 0:
        assert done.line == "nested"


def test_kernel_overlay_driver(fresh: Engine, busybox_tar: Path) -> None:
    driver = ["--storage-driver", "overlay"]
    fresh(*driver, "import", "-q", busybox_tar, "box")
    out = fresh(
        *driver, "run", "--rm", "--network=none", "box", "sh", "-c", "echo x > /f && grep ' / / ' /proc/self/mountinfo"
    )
    assert " - overlay " in out.out


def test_info_tells_what_this_host_has(engine: Engine) -> None:
    info = engine.json("info", "--format", "json")
    assert info["host"]["ociRuntime"]["name"] == "crun"
    assert str(engine.storage_root) == info["store"]["graphRoot"]
    assert info["host"]["security"]["rootless"] is True
    assert os.uname().release == info["host"]["kernel"]


def test_version(engine: Engine) -> None:
    version = engine("version", "--format", "{{.Client.Version}}").line
    assert version
    assert version in engine("--version").out
