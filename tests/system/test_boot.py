"""system start-on-boot on a machine whose systemd it does not reach, and the filter that its unit uses."""

from __future__ import annotations

import pytest

from tests.support.engine import IS_PODMAN, Engine

pytestmark = pytest.mark.skipif(IS_PODMAN, reason="pyctl's own command")


def test_the_unit_is_written_and_removed(fresh: Engine) -> None:
    folder = fresh.home / ".config/systemd/user"
    fresh("system", "start-on-boot", "--status", status=1)
    assert fresh("system", "start-on-boot", "--enable").line == "enabled"
    text = (folder / "pyctl-restart.service").read_text()
    assert f"--root={fresh.storage_root} start --all --filter=should-start-on-boot=true\n" in text
    assert (folder / "default.target.wants/pyctl-restart.service").resolve() == folder / "pyctl-restart.service"
    assert fresh("system", "start-on-boot").line == "enabled"
    assert fresh("system", "start-on-boot", "--enable").line == "enabled"
    assert fresh("system", "start-on-boot", "--disable").line == "disabled"
    assert list(folder.rglob("*.service")) == []
    assert "exclude each other" in fresh("system", "start-on-boot", "--enable", "--disable", status=125).err
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o500)
    assert "permission denied" in fresh("system", "start-on-boot", "--enable", status=125).err.lower()
    folder.chmod(0o700)


def test_what_the_user_stopped_stays_down(engine: Engine) -> None:
    for name, policy in (("a", "always"), ("u", "unless-stopped"), ("f", "on-failure"), ("k", "unless-stopped")):
        engine("run", "-d", "--name", name, f"--restart={policy}", "--network=none", "busybox", "sleep", "1000")
    chosen = ("--format", "{{.Names}}", "--filter", "should-start-on-boot=true")
    assert set(engine("ps", "-a", *chosen).out.split()) == {"a", "u", "k"}
    engine("stop", "-t", "0", "a", "u")
    engine("kill", "k")
    engine("wait", "k")
    assert set(engine("ps", "-a", *chosen).out.split()) == {"a"}
    engine("start", "u")
    assert set(engine("ps", "-a", *chosen).out.split()) == {"a", "u"}
    engine("ps", "--filter", "should-start-on-boot=x", status=125)
