"""Go templates: what Go prints for the same text, and no crash for any text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyctl.cli.goparse import TemplateError
from pyctl.cli.gotemplate import Map, Template
from pyctl.cli.report import to_json

DATA: dict[str, Any] = {
    "ID": "0123456789ab",
    "Names": ["web", "www"],
    "State": {"Status": "running", "Pid": 42, "Running": True, "Load": 0.5, "Dead": False, "Error": ""},
    "Labels": Map(a="b", tier="x"),
    "Empty": [],
    "Nothing": None,
    "Ports": Map({"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}),
    "Label": lambda name: {"a": "b"}.get(name, ""),
    "Now": lambda: "now",
}


def rendered(text: str, data: Any = None) -> str:
    return Template(text).render(DATA if data is None else data)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain {x} text", "plain {x} text"),
        ("{{.ID}}", "0123456789ab"),
        ("{{ .State.Pid }}/{{.State.Status}}", "42/running"),
        ("{{.Names}} {{.Labels}} {{.Empty}}", "[web www] map[a:b tier:x] []"),
        ("{{.State.Running}} {{.State.Load}} {{.Nothing}}", "true 0.5 <nil>"),
        ("{{.Labels.a}} {{.Labels.none}}", "b <no value>"),
        ('{{.Label "a"}}|{{.Label "z"}}|{{.Now}}', "b||now"),
        ('{{"a" | .Label}}', "b"),
        ("{{range .Names}}<{{.}}>{{end}}", "<web><www>"),
        ("{{range $i, $n := .Names}}{{$i}}={{$n}} {{end}}", "0=web 1=www "),
        ("{{range $n := .Names}}{{$n}}{{end}}", "webwww"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{range $k, $v := .Labels}}{{$k}}:{{$v}};{{end}}", "a:b;tier:x;"),
        ("{{range .Names}}{{$.ID}}{{break}}{{end}}", "0123456789ab"),
        ('{{range .Names}}{{if eq . "web"}}{{continue}}{{end}}{{.}}{{end}}', "www"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if .State.Dead}}1{{else if .Empty}}2{{else if .Names}}3{{else}}4{{end}}", "3"),
        ("{{with .State}}{{.Status}}{{end}}{{with .Empty}}x{{else}}-{{end}}", "running-"),
        ("{{with $s := .State.Status}}{{$s}}{{end}}", "running"),
        ("{{$x := 1}}{{$x = 2}}{{$x}}", "2"),
        ("{{$x := 1}}{{if true}}{{$x = 3}}{{$x := 4}}{{end}}{{$x}}", "3"),
        ("a {{- .State.Pid -}} b", "a42b"),
        ("a {{/* note */}}b{{- /* note */ -}} c", "a bc"),
        ("{{`raw \\n`}}{{\"x\\ty\\u00e9\"}}{{'a'}}", "raw \\nx\tyé97"),
        ('{{eq .State.Status "running"}} {{ne 1 2}} {{eq 1 2 1}}', "true true true"),
        ('{{lt 1 2}} {{le 2 2}} {{gt 1.5 2.5}} {{ge "b" "a"}}', "true true false true"),
        ('{{and .ID .Empty "x"}} {{or .Empty "" "y"}} {{not .Empty}}', "[] y true"),
        ("{{len .Names}} {{len .ID}} {{len .Labels}}", "2 12 2"),
        ('{{index .Names 1}} {{index .Labels "a"}} {{index .Labels "zz"}}|', "www b |"),
        ('{{(index (index .Ports "80/tcp") 0).HostPort}}', "8080"),
        ('{{slice .ID 0 4}} {{slice .Names 1}}', "0123 [www]"),
        ('{{join .Names ","}} {{.Names | len}} {{upper .ID}} {{title "a b"}}', "web,www 2 0123456789AB A B"),
        ('{{split "a:b" ":"}} {{truncate .ID 4}} [{{pad "x" 1 2}}]', "[a b] 0123 [ x  ]"),
        ('{{json .State}}', '{"Status":"running","Pid":42,"Running":true,"Load":0.5,"Dead":false,"Error":""}'),
        ('{{printf "%s %d %v %q %t" .ID .State.Pid .Names "a\\"b" true}}', '0123456789ab 42 [web www] "a\\"b" true'),
        ('{{printf "%5d|%-5s|%05d|%x|%.2f|%5.1f|%%" 42 "ab" 42 255 1.005 2.25}}', "   42|ab   |00042|ff|1.00|  2.2|%"),
        ('{{printf "%d %s" "x"}}', "%!d(string=x) %!s(MISSING)"),
        ('{{printf "a" 1}}', "a%!(EXTRA int=1)"),
        ('{{printf "%*d" 4 7}}', "   7"),
        ('{{print 1 2 "a" 3}} {{println 1 "a"}}', "1 2a3 1 a\n"),
        ("{{1e21}} {{1.0}} {{100000.5}} {{0.00001}} {{-7}} {{0x10}}", "1e+21 1 100000.5 1e-05 -7 16"),
        ("{{(.State).Status}} {{$.ID}}", "running 0123456789ab"),
        ('{{if and (eq .State.Pid 42) (or false .ID)}}both{{end}}', "both"),
        ("{{.State.Nope | or .ID}}", None),
    ],
)  # fmt: skip
def test_prints_as_go_does(text: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(TemplateError):
            rendered(text)
        return
    assert rendered(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "{{.Foo}}", "{{.ID.Foo}}", "{{.Nothing.X}}", "{{", "{{.ID", "{{}}", "{{end}}", "{{else}}", "{{if}}x{{end}}",
        "{{if .ID}}", "{{range .Names}}", "{{with .ID}}{{else}}{{else}}{{end}}", "{{nosuch 1}}", "{{len}}",
        "{{len 1 2}}",
        "{{eq 1}}", '{{eq 1 "a"}}', "{{lt true false}}", "{{len 5}}", "{{index .Names 9}}", '{{index .ID "a"}}',
        "{{slice .ID 9 2}}", "{{.ID | 5}}", "{{'ab'}}", '{{"abc}}', "{{`abc}}", "{{/* x", "{{/* x */ y}}", "{{(.ID}}",
        "{{.ID)}}", "{{$nope}}", "{{range .ID}}{{end}}", "{{break}}", "{{define \"x\"}}{{end}}", "{{.Label}}",
        '{{.ID "x"}}', "{{upper 5}}", '{{printf "%999999999d" 1}}', '{{"\\q"}}', "{{1x}}", "{{?}}", "{{.ID :=}}",
        "{{else if .ID}}", "{{range .Names}}{{else with .ID}}{{end}}", "{{" + "(" * 500 + "1" + ")" * 500 + "}}",
        "{{if 1}}" * 500,
    ],
)  # fmt: skip
def test_mistakes_are_one_clear_line(text: str) -> None:
    with pytest.raises(TemplateError) as raised:
        rendered(text)
    assert raised.value.message.startswith("template: ")
    assert "\n" not in raised.value.message
    assert raised.value.exit_code == 125


def test_a_wrong_field_names_the_right_ones() -> None:
    with pytest.raises(TemplateError) as raised:
        rendered("{{.id}}")
    assert raised.value.hint == "did you mean .ID?"
    with pytest.raises(TemplateError) as raised:
        rendered("{{.State.Foo}}")
    assert "Status" in raised.value.hint
    assert Template("{{.state.STATUS}}").render(DATA, {}) == "running"
    assert Template("{{.Stat.Status}}").render(DATA, {"Stat": "State"}) == "running"


def test_json() -> None:
    value = {"a": [1, None, True, 'é\n"\x01'], "b": {}, "c": [], "d": 1.5, "e": float("nan"), "f": lambda: 1}
    assert to_json(value) == '{"a":[1,null,true,"é\\n\\"\\u0001"],"b":{},"c":[],"d":1.5,"e":null}'
    assert to_json({"a": [1, {"b": 2}]}, 2) == '{\n  "a": [\n    1,\n    {\n      "b": 2\n    }\n  ]\n}'


PIECES = st.sampled_from(
    [
        *(
            "{{",
            "}}",
            "{{-",
            "-}}",
            ".ID",
            ".Names",
            ".State.Pid",
            ".Labels",
            ".",
            "$",
            "$x",
            ":=",
            "=",
            "|",
            "(",
            ")",
            ",",
        ),
        *(
            "range",
            "if",
            "else",
            "end",
            "with",
            "1",
            "-3.5",
            "0x",
            '"a"',
            "`b`",
            "'c'",
            "eq",
            "and",
            "or",
            "not",
            "len",
        ),
        *(
            "index",
            "slice",
            "printf",
            "print",
            "join",
            "json",
            "truncate",
            "pad",
            "split",
            '"%d %*s"',
            "true",
            "nil",
            "/*",
        ),
        *("*/", "break", "continue", "\\", "'", '"'),
    ]
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(
        st.lists(inner), st.dictionaries(st.text(), inner), st.dictionaries(st.text(), inner).map(Map)
    ),
    max_leaves=8,
)


@given(st.lists(PIECES, max_size=20).map(" ".join))
def test_no_sentence_crashes(text: str) -> None:
    for whole in (text, "{{" + text + "}}", "{{range .Names}}" + text + "{{end}}"):
        try:
            rendered(whole)
        except TemplateError:
            pass


@given(st.text())
def test_no_text_crashes(text: str) -> None:
    for whole in (text, "{{" + text + "}}"):
        try:
            rendered(whole)
        except TemplateError:
            pass


USES = st.sampled_from(
    [
        *("{{.}}", "{{json .}}", "{{range .}}{{.}}{{end}}", "{{len .}}", '{{join . "-"}}', "{{index . 0}}"),
        *("{{slice . 1}}", "{{eq . .}}", "{{lt . 1}}", '{{printf "%v %s %d %q %x %5.2f" . . . . . .}}'),
    ]
)


@given(VALUES, USES)
def test_no_data_crashes(data: Any, text: str) -> None:
    try:
        Template(text).render(data)
    except TemplateError:
        pass
