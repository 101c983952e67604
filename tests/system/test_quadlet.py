"""`quadlet install list print rm verify` and `generate systemd` as commands, on a machine without systemd.

What systemd does with the units is tested on the test host (tests/cgroup/test_units.py).
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from pyctl.units import syntax
from tests.support.engine import COMMAND, IS_PODMAN, TOP, Engine
from tests.support.units import write
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(IS_PODMAN, reason="Podman 5.4 has no such commands")
NO_SYSTEMD = pytest.mark.skipif(os.path.isdir("/run/systemd/system"), reason="about a machine without systemd")


class Units:
    """The unit folders of a fresh engine's home, and a folder of files to install."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        self.sources = engine.home / ".config/containers/systemd"
        self.services = engine.home / ".config/systemd/user"

    def tree(self) -> list[str]:
        config = self.engine.home / ".config"
        return sorted(str(p.relative_to(config)) for p in config.rglob("*") if not p.is_dir())


@pytest.fixture
def units(fresh: Engine, tmp_path: Path) -> Units:
    return Units(fresh, tmp_path)


FILES = {
    "web.container": "[Container]\nImage=x.org/web:1\nVolume=data.volume:/data\n[Install]\nWantedBy=default.target\n",
    "data.volume": "[Volume]\nLabel=a=b\n",
}


def test_verify_names_every_mistake_and_writes_nothing(units: Units) -> None:
    write(units.folder, {**FILES, "bad.container": "[Container]\nImage=x.org/a\nNope=1\nStopTimeout=x\n[Other]\n"})
    before = sorted(units.engine.home.rglob("*"))
    result = units.engine("quadlet", "verify", units.folder, status=125)
    bad = f"{units.folder}/bad.container"
    assert [line for line in result.err.splitlines() if not line.startswith("  hint: ")] == [
        f"{bad}:3: unknown key Nope= in [Container]",
        f'{bad}:4: StopTimeout=: invalid value "x" for --stop-timeout: not a whole number',
        f"{bad}:5: unknown section [Other]",
    ]
    assert result.out == ""
    assert sorted(units.engine.home.rglob("*")) == before
    assert units.engine("quadlet", "verify", units.folder / "web.container") == (0, "", "")
    result = units.engine("quadlet", "verify", units.folder / "nowhere.container", status=125)
    assert "nowhere.container: No such file or directory" in result.err


@NO_SYSTEMD
def test_install_list_print_and_rm(units: Units) -> None:
    write(units.folder, FILES)
    result = units.engine("quadlet", "install", *(units.folder / name for name in FILES))
    assert result.out == "web.service\ndata-volume.service\n"
    assert "systemd did not read the units" in result.err
    assert units.tree() == [
        "containers/systemd/data.volume",
        "containers/systemd/web.container",
        "systemd/user/data-volume.service",
        "systemd/user/default.target.wants/web.service",
        "systemd/user/pyctl-network-online.service",
        "systemd/user/web.service",
    ]
    link = units.services / "default.target.wants/web.service"
    assert os.readlink(link) == "../web.service"
    text = (units.services / "web.service").read_text()
    assert f"# Made by pyctl of {units.sources}/web.container" in text
    assert f"SourcePath={units.sources}/web.container" in text
    rows = units.engine.json("quadlet", "list", "--format", "json")
    keys = ("Name", "UnitName", "Path", "Status")
    assert [tuple(row[key] for key in keys) for row in rows] == [
        ("data.volume", "data-volume.service", f"{units.sources}/data.volume", "unknown"),
        ("web.container", "web.service", f"{units.sources}/web.container", "unknown"),
    ]
    heading, *lines = units.engine("quadlet", "list", "-f", "name=web").out.splitlines()
    assert heading.split("  ")[0] == "NAME"
    assert [line.split()[0] for line in lines] == ["web.container"]
    assert units.engine("quadlet", "print", "web").out == FILES["web.container"]
    assert units.engine("quadlet", "print", "--generated", "web.container").out == text

    result = units.engine("quadlet", "rm", "data", status=125)
    assert "data.volume is used by web.container" in result.err
    assert units.engine("quadlet", "rm", "web", "--reload-systemd=false").out == "web.container\n"
    assert not link.is_symlink()
    assert not link.parent.exists()
    assert units.engine("quadlet", "rm", "--all").out == "data.volume\n"
    assert units.tree() == []
    assert "there is no unit file web" in units.engine("quadlet", "rm", "web", status=125).err
    assert units.engine("quadlet", "rm", "--ignore", "web").out == ""


def test_nothing_is_installed_when_one_file_is_wrong(units: Units) -> None:
    write(units.folder, {**FILES, "bad.container": "[Container]\nImage=x.org/a\nNope=1\n"})
    result = units.engine("quadlet", "install", units.folder, status=125)
    assert "bad.container:3: unknown key Nope=" in result.err
    assert "nothing was installed" in result.err
    result = units.engine("quadlet", "install", units.folder / "web.container", status=125)
    assert "there is no data.volume" in result.err
    assert units.tree() == []


def test_what_is_there_is_not_overwritten(units: Units) -> None:
    write(units.folder, FILES)
    install = ["quadlet", "install", "--reload-systemd=false"]
    units.engine(*install, *(units.folder / name for name in FILES))
    units.engine(*install, *(units.folder / name for name in FILES))  # the same again
    (units.folder / "data.volume").write_text("[Volume]\nVolumeName=mine\n")
    result = units.engine(*install, units.folder / "data.volume", status=125)
    assert f"{units.sources}/data.volume exists and is another" in result.err
    units.engine(*install, "--replace", units.folder / "data.volume")
    # the service that uses the volume is made anew with it
    assert " --volume mine:/data " in (units.services / "web.service").read_text()

    (units.services / "mine.service").write_text("[Service]\nExecStart=true\n")
    write(units.folder, {"mine.container": "[Container]\nImage=x.org/a\n"})
    result = units.engine(*install, units.folder / "mine.container", status=125)
    assert f"{units.services}/mine.service exists, and pyctl did not make it" in result.err
    assert not (units.sources / "mine.container").exists()


def test_all_is_taken_back_when_a_write_fails(units: Units) -> None:
    write(units.services, {"taken.service": "[Service]\nExecStart=true\n"})
    write(units.folder, {"a.volume": "[Volume]\n"})
    install = ["quadlet", "install", "--reload-systemd=false", "--replace"]
    units.engine(*install, units.folder / "a.volume")
    before = {name: (units.engine.home / ".config" / name).read_bytes() for name in units.tree()}
    files = {"a.volume": "[Volume]\nLabel=a=b\n", "sub/z.volume": "[Volume]\n[Install]\nAlias=taken.service\n"}
    write(units.folder, files)
    result = units.engine(*install, units.folder / "a.volume", units.folder / "sub", status=125)
    assert "taken.service is a unit of its own" in result.err
    assert {name: (units.engine.home / ".config" / name).read_bytes() for name in units.tree()} == before
    assert not (units.sources / "sub").exists()


def test_links_that_are_no_longer_asked_for_are_removed(units: Units) -> None:
    write(units.folder, FILES)
    install = ["quadlet", "install", "--reload-systemd=false", "--replace"]
    units.engine(*install, *(units.folder / name for name in FILES))
    write(units.folder, {"web.container": FILES["web.container"].replace("default.target", "other.target")})
    units.engine(*install, units.folder / "web.container")
    assert not (units.services / "default.target.wants").exists()
    assert (units.services / "other.target.wants/web.service").is_symlink()


def test_a_folder_with_what_its_units_need(units: Units) -> None:
    app = units.folder / "app"
    write(
        app,
        {
            "web@.container": "[Container]\nImage=x.org/web:1\nEnvironmentFile=web.env\nVolume=./site:/site\n",
            "web@one.container.d/10.conf": "[Container]\nHostName=one\n",
            "web.env": "A=b\n",
            "site/index.html": "hello\n",
        },
    )
    (app / "web@one.container").symlink_to("web@.container")
    result = units.engine("quadlet", "install", "--reload-systemd=false", app)
    assert result.out.splitlines() == ["web@.service", "web@one.service"]
    assert "does not exist" not in result.err
    assert os.readlink(units.sources / "app/web@one.container") == "web@.container"
    text = (units.services / "web@one.service").read_text()
    assert f"--env-file {units.sources}/app/web.env" in text
    assert "--hostname one" in text
    assert "--hostname" not in (units.services / "web@.service").read_text()
    result = units.engine("quadlet", "rm", "web@", status=125)
    assert "web@.container is used by web@one.container" in result.err
    units.engine("quadlet", "rm", "--all", "--reload-systemd=false")
    assert units.tree() == ["containers/systemd/app/site/index.html", "containers/systemd/app/web.env"]


def test_an_instance_alone_is_a_file_of_its_own(units: Units) -> None:
    write(units.folder, {"t@.container": "[Container]\nImage=x.org/t\n"})
    (units.folder / "t@one.container").symlink_to("t@.container")
    install = ["quadlet", "install", "--reload-systemd=false"]
    assert units.engine(*install, units.folder / "t@one.container").out == "t@one.service\n"
    assert not (units.sources / "t@one.container").is_symlink()
    assert units.engine(*install).out == "t@one.service\n"


def test_services_are_made_anew_after_a_change(units: Units) -> None:
    write(units.folder, FILES)
    units.engine("quadlet", "install", "--reload-systemd=false", *(units.folder / name for name in FILES))
    # what another tool keeps in the same folder is none of pyctl's
    write(units.sources, {"other.container": "[Container]\nImage=x.org/other\n"})
    write(units.sources, {"web.container.d/1.conf": "[Container]\nHostName=changed\n"})
    assert units.engine("quadlet", "install", "--reload-systemd=false").out == "data-volume.service\nweb.service\n"
    assert "--hostname changed" in (units.services / "web.service").read_text()
    assert not (units.services / "other.service").exists()


def test_the_generator_makes_what_it_can(units: Units) -> None:
    write(units.sources, {**FILES, "bad.container": "[Container]\nImage=x.org/a\nNope=1\n", "odd.container": "\xff[\n"})
    out = units.folder / "out"
    out.mkdir()
    result = units.engine("quadlet", "generator", out, units.folder, units.folder, status=125)
    assert "bad.container:3: unknown key Nope=" in result.err
    assert sorted(p.name for p in out.iterdir()) == [
        "data-volume.service", "default.target.wants", "pyctl-network-online.service", "web.service"
    ]  # fmt: skip
    script = TOP / "contrib/systemd/pyctl-user-generator"
    again = units.folder / "again"
    again.mkdir()
    (units.folder / "bin").mkdir()
    (units.folder / "bin/pyctl").symlink_to(COMMAND[-1])
    env = units.engine.environment({"PATH": f"{units.folder}/bin:{os.path.dirname(COMMAND[0])}:/usr/bin:/bin"})
    ended = subprocess.run([script, again, again, again], env=env, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert sorted(p.name for p in again.iterdir()) == sorted(p.name for p in out.iterdir())


def started(engine: Engine, folder: Path, service: str) -> None:
    """Runs a service's command as systemd would."""
    (line,) = [text for text in (folder / service).read_text().splitlines() if text.startswith("ExecStart=")]
    words = syntax.words(line[10:])
    for given, meant in {"%n": service, "%N": service.removesuffix(".service"), "$$": "$"}.items():
        words = [word.replace(given, meant) for word in words]
    env = engine.environment(None)
    ended = subprocess.run(words, env=env, cwd=engine.home, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr


TOGETHER = {
    "net.network": "[Network]\nSubnet=10.99.7.0/24\nInternal=yes\nLabel=a=b\n",
    "data.volume": "[Volume]\nVolumeName=t-data\n",
    "web.container": (
        "[Container]\nImage=busybox\nPull=never\nNetwork=net.network:ip=10.99.7.9\nVolume=data.volume:/d\n"
        "CgroupsMode=enabled\nEnvironment=A=1 'B=it is'\n"
        'Exec=sh -c "echo $$A \\"$$B\\" >/d/out; sleep 100"\n'
    ),
}


def test_what_the_services_run(engine: Engine, tmp_path: Path) -> None:
    write(tmp_path, TOGETHER)
    out = tmp_path / "out"
    out.mkdir()
    engine("quadlet", "generator", out, env={"QUADLET_UNIT_DIRS": str(tmp_path)})
    try:
        for service in ("net-network.service", "net-network.service", "data-volume.service", "web.service"):
            started(engine, out, service)
        (network,) = engine.json("network", "inspect", "systemd-net")
        assert (network["internal"], network["labels"]) == (True, {"a": "b"})
        engine.wait_state("systemd-web", "running")
        found = engine.inspect("systemd-web")
        assert found["NetworkSettings"]["Networks"]["systemd-net"]["IPAddress"] == "10.99.7.9"
        assert found["Config"]["Labels"]["PODMAN_SYSTEMD_UNIT"] == "web.service"
        written = ["exec", "systemd-web", "cat", "/d/out"]
        wait_until(lambda: engine(*written, status=None).out == "1 it is\n", 15, "it has run")
    finally:
        engine("rm", "-f", "-t", "0", "systemd-web", status=None)
        engine("volume", "rm", "t-data", status=None)
        engine("network", "rm", "systemd-net", status=None)


def test_a_unit_of_a_container(engine: Engine, tmp_path: Path) -> None:
    engine("create", "--name", "web", "-e", "A=b c", "busybox", "sleep", "100")
    text = engine("generate", "systemd", "--new", "--name", "web").out
    assert text.startswith("# container-web.service\n# made by pyctl ")
    assert '\t"--env=A=b c" busybox sleep 100\n' in text
    container_id = engine.inspect("web")["Id"]
    named = json.loads(engine("generate", "systemd", "--format", "json", "web").out)
    assert list(named) == [f"container-{container_id}"]
    path = tmp_path / "container-web.service"
    assert engine("generate", "systemd", "-n", "--files", "web", cwd=tmp_path).line == str(path)
    assert "start --attach web\n" in path.read_text()
    assert engine("generate", "systemd", "-n", "--new", "-f", "web", cwd=tmp_path).line == str(path)
    path.write_text("mine")
    result = engine("generate", "systemd", "-n", "--files", "web", cwd=tmp_path, status=125)
    assert "exists, and pyctl did not make it" in result.err
    assert "nobody is no container" in engine("generate", "systemd", "nobody", status=125).err
    assert "it must be one of" in engine("generate", "systemd", "--restart-policy=x", "web", status=125).err
    engine("rm", "web")
