"""--format: Go templates as podman's users write them."""

from __future__ import annotations

import json

import pytest

from tests.support.engine import Engine


@pytest.fixture
def made(engine: Engine) -> Engine:
    engine("create", "--name", "c", "--label", "a=1", "--label", "b=2", "-e", "E=x", "busybox", "echo", "one", "two")
    return engine


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("{{.Name}}", "c"),
        ("{{ .Name }} is {{.State.Status}}", "c is created"),
        ("{{.Config.Cmd}}", "[echo one two]"),
        ("{{json .Config.Cmd}}", '["echo","one","two"]'),
        ("{{range .Config.Cmd}}<{{.}}>{{end}}", "<echo><one><two>"),
        ("{{range $i, $e := .Config.Cmd}}{{$i}}={{$e}} {{end}}", "0=echo 1=one 2=two "),
        ("{{if .State.Running}}up{{else}}down{{end}}", "down"),
        ('{{if eq .State.Status "created"}}yes{{end}}', "yes"),
        ('{{index .Config.Labels "a"}}', "1"),
        ("{{index .Config.Cmd 1}}", "one"),
        ('{{printf "%s-%d" .Name .State.ExitCode}}', "c-0"),
        ('{{join .Config.Cmd ","}}', "echo,one,two"),
        ("{{len .Config.Cmd}}", "3"),
        ("{{with .Config}}{{.Cmd}}{{end}}", "[echo one two]"),
        ("{{upper .Name}}", "C"),
        ("{{.State.Pid}}", "0"),
        ("{{println .Name}}", "c\n"),
        ("{{/* comment */}}{{.Name}}", "c"),
    ],
)
def test_inspect(made: Engine, template: str, shown: str) -> None:
    assert made("inspect", "-f", template, "c").out == shown + "\n"


def test_whole_value_as_json(made: Engine) -> None:
    assert json.loads(made("inspect", "-f", "{{json .State}}", "c").out)["Status"] == "created"
    assert json.loads(made("inspect", "-f", "json", "c").out)[0]["Name"] == "c"


@pytest.mark.parametrize("template", ["{{.NoSuchField}}", "{{", "{{end}}", "{{nosuchfunction .Name}}", "{{if}}"])
def test_bad_templates(made: Engine, template: str) -> None:
    result = made("inspect", "-f", template, "c", status=125)
    assert result.out == ""
    assert result.err


def test_ps_table(made: Engine) -> None:
    header, row = made("ps", "-a", "--format", "table {{.Names}}\t{{.Image}}").out.splitlines()
    assert header.split() == ["NAMES", "IMAGE"]
    assert row.split() == ["c", "localhost/busybox:latest"]
    assert made("ps", "-a", "--noheading", "--format", "table {{.Names}}").line == "c"


def test_ps_fields(made: Engine) -> None:
    fields = [
        "ID",
        "Names",
        "Image",
        "Command",
        "State",
        "Labels",
        "Mounts",
        "Networks",
        "RunningFor",
        "CreatedAt",
        "Pid",
    ]
    for field in fields:
        made("ps", "-a", "--format", "{{." + field + "}}")
    labels = made("ps", "-a", "--format", "{{.Labels}}").line
    assert "a:1" in labels


def test_images_format(made: Engine) -> None:
    row = made("images", "--format", "{{.ID}} {{.Repository}} {{.Tag}} {{.Size}}").line.split()
    assert row[1:3] == ["localhost/busybox", "latest"]
    assert len(row[0]) == 12
