"""The unit that `generate systemd` makes of a container: its command line again, less what systemd does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pyctl.cli.parser import parse
from pyctl.engine.model import ContainerSpec
from pyctl.units import syntax
from pyctl.units.of_container import Wishes, unit
from pyctl.units.own_command import own_words, program
from rootless.errors import Error
from tests.unit.request_support import spec as spec_of

PYCTL = ("/usr/bin/pyctl",)


def made(spec: ContainerSpec, **wishes: Any) -> tuple[str, dict[str, list[str]]]:
    """(file name, key → values) of the unit; it must be one that systemd can read."""
    file, text = unit(spec, Wishes(**{"header": False, **wishes}), PYCTL)
    read, problems = syntax.parse(text.encode(), file)
    assert not problems
    found: dict[str, list[str]] = {}
    for section in read.sections:
        for entry in section.entries:
            found.setdefault(f"{section.name}.{entry.key}", []).append(entry.value)
    return file, found


def start_words(spec: ContainerSpec, **wishes: Any) -> list[str]:
    (line,) = made(spec, new=True, **wishes)[1]["Service.ExecStart"]
    return syntax.words(line)


BEFORE = [
    "/usr/bin/pyctl", "run", "--cidfile=%t/%N.ctr-id", "--cgroups=split", "--rm", "--sdnotify=conmon", "--detach",
    "--replace", "--label=PODMAN_SYSTEMD_UNIT=%n",
]  # fmt: skip


def test_a_new_container_at_each_start() -> None:
    spec = spec_of("--name", "web", "-d", "--rm", "-l", "a=b", "-e", 'X=$HOME 100% "q"', "-it", "--tls-verify=false",
                   args=("sh", "-c", "echo $FOO 50%"))  # fmt: skip
    file, values = made(spec, new=True, by_name=True)
    assert file == "container-web.service"
    assert syntax.words(values["Service.ExecStart"][0]) == [
        *BEFORE, "--name=web", "--label=a=b", '--env=X=$$HOME 100%% "q"', "--interactive", "--tty",
        "--tls-verify=false", "busybox", "sh", "-c", "echo $$FOO 50%%",
    ]  # fmt: skip
    assert values["Service.ExecStop"] == ["/usr/bin/pyctl stop --ignore --time=10 --cidfile=%t/%N.ctr-id"]
    assert values["Service.ExecStopPost"] == ["/usr/bin/pyctl rm --force --ignore --time=10 --cidfile=%t/%N.ctr-id"]
    assert values["Service.Type"] == ["notify"]
    assert values["Service.Delegate"] == ["yes"]
    assert values["Service.Restart"] == ["on-failure"]
    assert values["Service.TimeoutStopSec"] == ["70"]
    assert values["Install.WantedBy"] == ["default.target"]


def test_names() -> None:
    spec = spec_of("--name", "web")
    assert made(spec)[0] == f"container-{spec.id}.service"
    assert made(spec, by_name=True, prefix="c", separator="_")[0] == "c_web.service"
    assert made(spec, by_name=True, prefix="")[0] == "web.service"
    assert made(spec, by_name=True, template=True)[0] == "container-web@.service"
    with pytest.raises(Error, match="cannot be a unit's name"):
        made(spec, separator="/")


def test_a_container_without_a_name_of_its_own_keeps_the_one_that_was_made_up() -> None:
    assert start_words(spec_of()) == [*BEFORE, "--name=made_up", "busybox"]


def test_a_template_has_a_container_for_each_instance() -> None:
    words = start_words(spec_of("--name", "web"), template=True)
    assert words == [*BEFORE, "--name=web-%i", "busybox"]


def test_the_service_s_own_settings() -> None:
    _, values = made(
        spec_of("--name", "web"), restart_policy="always", restart_s=5, start_timeout_s=30, stop_timeout_s=33,
        after=("a.service", "b.service"), wants=("w.service",), requires=("r.service",), env=("A=b", "C=d e%"),
    )  # fmt: skip
    assert values["Unit.After"] == ["network-online.target", "a.service b.service"]
    assert values["Unit.Wants"] == ["network-online.target", "w.service"]
    assert values["Unit.Requires"] == ["r.service"]
    assert values["Service.Environment"] == ["PYCTL_SYSTEMD_UNIT=%n", "A=b", '"C=d e%%"']
    assert values["Service.Restart"] == ["always"]
    assert values["Service.RestartSec"] == ["5"]
    assert values["Service.TimeoutStartSec"] == ["30"]
    assert values["Service.TimeoutStopSec"] == ["93"]


@pytest.mark.parametrize(
    ("policy", "restart"), [("on-failure:3", "on-failure"), ("always", "always"), ("unless-stopped", "always")]
)
def test_restarts_are_systemd_s(policy: str, restart: str) -> None:
    spec = spec_of("--restart", policy)
    assert made(spec, new=True)[1]["Service.Restart"] == [restart]
    assert not any(word.startswith("--restart") for word in start_words(spec))


def test_an_existing_container_is_started_and_stopped() -> None:
    spec = spec_of("--name", "web")
    _, values = made(spec, by_name=True)
    assert values["Service.ExecStart"] == ["/usr/bin/pyctl start --attach web"]
    assert (
        values["Service.ExecStop"] == values["Service.ExecStopPost"] == ["/usr/bin/pyctl stop --ignore --time=10 web"]
    )
    assert values["Service.Type"] == ["exec"]


def test_relative_paths(tmp_path: Path) -> None:
    spec = spec_of("-v", "./usr/share:/data:ro")  # of an invented caller, who is in /
    assert "--volume=/usr/share:/data:ro" in start_words(spec)
    file = tmp_path / "env"
    file.write_text("A=b\n")
    assert f"--env-file={file}" in start_words(spec_of("--env-file", str(file)))
    with pytest.raises(Error, match="made with a relative path: --env-file"):
        start_words(spec_of("--env-file", "dev/null"))
    with pytest.raises(Error, match="made with a relative path: --mount"):
        start_words(spec_of("--mount", "type=bind,src=usr,dst=/u"))


def test_options_of_pyctl_itself_go_along() -> None:
    words = ("--root", "run", "--log-level=debug", "run", "--runtime=crun", "--name", "web", "busybox", "run")
    spec = spec_of("--name", "web").replace(command_line=("pyctl", *words))
    assert start_words(spec)[:3] == ["/usr/bin/pyctl", "--runtime=crun", "run"]
    assert start_words(spec)[-3:] == ["--name=web", "busybox", "run"]
    # where the storage is, is the calling command's to say
    given = own_words(parse(["--root", "there", "--log-level=debug", "info"]).globals)
    assert given[-2:] == ("--log-level=debug", f"--root={os.path.abspath('there')}")


def test_how_a_unit_calls_pyctl(tmp_path: Path) -> None:
    import sys

    script = tmp_path / "pyctl"
    script.write_text("#!/usr/bin/python3\n")
    assert program(str(script)) == (sys.executable, str(script))
    script.chmod(0o755)
    assert program(str(script)) == (str(script),)
    script.write_text("#!/usr/bin/env python3\n")
    assert program(str(script)) == (sys.executable, str(script))
    assert program("-c")[:2] == (sys.executable, "-c")
