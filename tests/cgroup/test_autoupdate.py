"""auto-update on a real systemd: what is due, the restart, the way back; and a start that waits for its image.

Needs the test host, as test_engine does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cgroup.test_engine import _no_scope_is_left  # noqa: F401 - a fixture
from tests.cgroup.test_service import SPLIT, pytestmark, units  # noqa: F401 - a fixture
from tests.cgroup.units import Units, show, systemctl, wait_active
from tests.registry.scripted import Request, ScriptedRegistry
from tests.support.engine import Engine
from tests.support.images import Layout, busybox_entries, layer_tar
from tests.support.waiting import wait_until

SLEEP = '["/bin/sleep", "4321"]'


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ScriptedRegistry]:
    made = ScriptedRegistry(Layout(tmp_path / "layout"))
    yield made
    made.close()


def publish(registry: ScriptedRegistry, version: str) -> None:
    registry.layout.index.clear()
    config = {"Cmd": ["/bin/sleep", "4321"], "Env": ["PATH=/bin"], "Labels": {"version": version}}
    registry.layout.image("1", [layer_tar(busybox_entries())], config=config)


def service(units: Units, image: str, policy: str) -> str:  # noqa: F811
    labels = (f"--label=io.containers.autoupdate={policy}", "--label=PODMAN_SYSTEMD_UNIT=pt-app.service")
    return units.service(
        "pt-app.service", *SPLIT, "--name=app", "--replace", "--sdnotify=conmon", "--stop-timeout=0", *labels, image,
        settings="KillMode=mixed",
    )  # fmt: skip


def outcome(engine: Engine, *args: str, status: int = 0) -> str:
    form = ("--format", "{{.Unit}} {{.Policy}} {{.Updated}}")
    return engine("auto-update", *args, *form, status=status, timeout_s=120).line


def test_a_name_that_stands_for_another_image(engine: Engine, units: Units, busybox_tar: Path) -> None:  # noqa: F811
    def make(version: str, command: str = SLEEP) -> str:
        changes = ("--change", f"CMD {command}", "--change", f"LABEL version={version}")
        return engine("import", *changes, busybox_tar, "localhost/app:1").line.removeprefix("sha256:")

    first = make("1")
    name = service(units, "localhost/app:1", "local")
    systemctl("start", name)
    assert outcome(engine) == f"{name} local false"
    second = make("2")
    assert outcome(engine, "--dry-run") == f"{name} local pending"
    assert engine.inspect("app")["Image"] == first
    shown = engine("auto-update", timeout_s=120).out.splitlines()
    container_id = engine.inspect("app")["Id"]
    assert shown[0].split() == ["UNIT", "CONTAINER", "IMAGE", "POLICY", "UPDATED"]
    assert shown[1].split()[0] == name
    assert shown[1].split()[2:] == ["(app)", "localhost/app:1", "local", "true"]
    assert engine.inspect("app")["Image"] == second
    assert show(name, "ActiveState") == "active"
    assert container_id[:12] not in shown[1]  # that was the old one
    # one that does not start: back to the one before, whose name that is again
    make("3", '["/no/such/program"]')
    assert outcome(engine) == f"{name} local rolled back"
    assert (engine.inspect("app")["Image"], show(name, "ActiveState")) == (second, "active")
    assert engine.inspect("localhost/app:1")["Id"] == second
    broken = make("4", '["/no/such/program"]')
    result = engine("auto-update", "--rollback=false", status=125, timeout_s=120)
    assert "could not restart pt-app.service" in result.err
    assert result.out.rstrip().endswith("failed")
    assert engine.inspect("localhost/app:1")["Id"] == broken
    engine("rmi", "-a", "-f")
    engine("import", "--change", "CMD=/bin/sh", "--change", "ENV=PATH=/bin:/usr/bin", busybox_tar, "busybox")


def test_what_a_registry_has(engine: Engine, units: Units, served: ScriptedRegistry) -> None:  # noqa: F811
    image = f"{served.address}/app:1"
    publish(served, "1")
    engine("pull", image)
    name = service(units, image, "registry")
    systemctl("start", name)
    before = engine.inspect("app")["Image"]
    assert outcome(engine) == f"{name} registry false"
    publish(served, "2")
    assert outcome(engine, "--dry-run") == f"{name} registry pending"
    assert engine.inspect("app")["Image"] == before
    served.seen.clear()
    assert outcome(engine) == f"{name} registry true"
    after = engine.inspect("app")
    assert after["Image"] != before
    assert after["Config"]["Labels"]["version"] == "2"
    told = engine("events", "--stream=false", "-f", "event=auto-update", "--format", "{{.Name}}").out
    assert told.splitlines()[-1] == "app"
    # a registry that fails is told of, and changes nothing
    served.hook(lambda request: request.answer(404))
    result = engine("auto-update", status=125, timeout_s=120)
    assert result.out.rstrip().endswith("failed")
    assert engine.inspect("app")["Image"] == after["Image"]
    systemctl("stop", name)
    engine("rmi", "-f", image)


def test_what_cannot_be_updated_is_told(engine: Engine) -> None:
    for container, labels in {
        "bogus": ["--label=io.containers.autoupdate=daily", "--label=PODMAN_SYSTEMD_UNIT=x.service"],
        "stray": ["--label=io.containers.autoupdate=local"],
        "gone": ["--label=io.containers.autoupdate=local", "--label=PODMAN_SYSTEMD_UNIT=pt-none.service"],
        "off": ["--label=io.containers.autoupdate=disabled"],
    }.items():
        engine("run", "-d", "--network=none", f"--name={container}", *labels, "busybox", "sleep", "4321")
    err = engine("auto-update", status=125).err
    assert "container bogus: io.containers.autoupdate=daily: must be one of" in err
    assert "container stray is not of a systemd unit" in err
    assert "unit pt-none.service" in err
    assert "off" not in err
    engine("rm", "-fa", "-t", "0")


def test_a_start_waits_while_its_image_arrives(fresh: Engine, served: ScriptedRegistry) -> None:
    publish(served, "1")
    go_on = threading.Event()

    def slow(request: Request) -> bool:
        if "/blobs/" in request.path:
            go_on.wait(60)
        return False

    served.hook(slow)
    made = Units(fresh)
    try:
        name = made.service(
            "pt-slow.service", *SPLIT, "--name=slow", "--sdnotify=conmon", "--stop-timeout=0",
            f"{served.address}/app:1", settings="KillMode=mixed\nTimeoutStartSec=4",
        )  # fmt: skip
        started = time.monotonic()
        systemctl("start", "--no-block", name)
        wait_until(lambda: served.count("/blobs/") > 0, 60)
        wait_until(lambda: time.monotonic() - started > 8, 20)  # beyond its time-out
        assert show(name, "ActiveState") == "activating"
        go_on.set()
        wait_active(name, "active")
        systemctl("stop", name)
    finally:
        go_on.set()
        made.close()
