"""ps and images on a state that is written by hand: columns, filters, formats; sizes and times in words."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyctl.cli import output, ports
from pyctl.engine import filters, state
from pyctl.engine.image_filters import glob
from pyctl.engine.model import ContainerSpec, Mount, Network, Port
from storage.database import Database, open_database
from storage.paths import StorePaths

TOP = Path(__file__).parents[2]
NOW_NS = time.time_ns()
HOUR_NS = 3600 * 10**9
IMAGE = "1" * 64


class Cli:
    """pyctl on one storage root."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "store"
        self.env = {
            "PYTHONPATH": str(TOP),
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder / "run"),
            "PATH": os.environ["PATH"],
            "TZ": "UTC",
        }
        (folder / "run").mkdir(mode=0o700)

    def run(self, *words: str, status: int = 0) -> tuple[str, str]:
        argv = [sys.executable, "-m", "pyctl", "--root", str(self.root), *words]
        null = subprocess.DEVNULL
        done = subprocess.run(argv, env=self.env, stdin=null, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == status, done.stderr
        return done.stdout, done.stderr

    def __call__(self, *words: str) -> str:
        return self.run(*words)[0]

    def error(self, *words: str) -> str:
        out, err = self.run(*words, status=125)
        assert out == ""
        return err


def add_container(db: Database, number: int, name: str, **fields: object) -> str:
    container_id = f"{number:064x}"
    spec = ContainerSpec(
        id=container_id,
        name=name,
        created_ns=NOW_NS - (10 - number) * HOUR_NS,
        image="docker.io/library/app:1",
        image_id=IMAGE,
        args=("sleep", "1000"),
        **fields,  # type: ignore[arg-type]
    )
    state.insert(db, spec, active=False, runtime_dir="")
    return container_id


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Three containers (created, exited with 3, exited with 0) and two images."""
    made = Cli(tmp_path_factory.mktemp("cli"))
    paths = StorePaths(str(made.root))
    db = open_database(paths)
    columns = "id, manifest_digest, manifest_type, created_ns, added_ns, size, architecture, os, variant, config"
    config = (
        '{"architecture":"amd64","os":"linux","config":{"Labels":{"a":"b"}},"rootfs":{"type":"layers","diff_ids":[]}}'
    )
    for digit, size, age in (("1", 2_182_247, 5), ("2", 45_100_000, 100)):
        db.execute(
            f"INSERT INTO images ({columns}) VALUES (?,?,?,?,?,?,?,?,?,?)",
            (
                digit * 64, f"sha256:{digit * 64}", "application/vnd.oci.image.manifest.v1+json",
                NOW_NS - age * HOUR_NS, NOW_NS, size, "amd64", "linux", "", config,
            ),
        )  # fmt: skip
    for name in ("docker.io/library/app:1", "localhost/other:latest"):
        db.execute("INSERT INTO image_names VALUES (?,?,?)", (name, IMAGE, NOW_NS + len(name)))
    add_container(
        db,
        1,
        "web",
        labels={"a": "b", "tier": "front"},
        network=Network(
            mode="slirp4netns", ports=(Port(container_port=80, host_port=8080),), exposed=("80/tcp", "90/udp")
        ),
    )
    add_container(db, 2, "done", mounts=(Mount(kind="volume", source="data", target="/data"),))
    add_container(db, 3, "job.x", labels={"a": "c"}, restart="always")
    for number, code in ((2, 3), (3, 0)):
        db.execute(
            "UPDATE containers SET status = 'exited', exit_code = ?, finished_ns = ? WHERE id = ?",
            (code, NOW_NS - HOUR_NS * 2, f"{number:064x}"),
        )
    db.close()
    yield made
    db = open_database(paths)
    assert db.query("PRAGMA integrity_check") == [("ok",)]


def names(cli: Cli, *filter_words: str) -> list[str]:
    flags = [f"--filter={word}" for word in filter_words]
    return cli("ps", "-a", *flags, "--format", "{{.Names}}").split()


def test_the_columns_of_ps(cli: Cli) -> None:
    assert cli("ps") == "CONTAINER ID  IMAGE       COMMAND     CREATED     STATUS      PORTS       NAMES\n"
    lines = cli("ps", "-a").splitlines()
    assert re.split(r"  +", lines[0]) == ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    assert re.split(r"  +", lines[1]) == [
        "000000000000", "docker.io/library/app:1", "sleep 1000", "9 hours ago", "Created",
        "0.0.0.0:8080->80/tcp, 90/udp", "web",
    ]  # fmt: skip
    assert lines[2].index("Exited (3) 2 hours ago") == lines[0].index("STATUS")
    assert cli("ps", "-a", "--noheading").splitlines() == lines[1:]
    assert cli("ps", "-aq").split() == ["000000000000"] * 3
    assert cli("ps", "-aq", "--no-trunc").split() == [f"{n:064x}" for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("filter_words", "expected"),
    [
        (["name=we"], ["web"]),
        (["name=^web$"], ["web"]),
        (["name=o..x"], ["job.x"]),
        (["name=web", "name=done"], ["web", "done"]),
        (["status=exited"], ["done", "job.x"]),
        (["status=stopped"], ["done", "job.x"]),
        (["status=created", "status=exited"], ["web", "done", "job.x"]),
        (["status=running"], []),
        (["exited=3"], ["done"]),
        (["label=a"], ["web", "job.x"]),
        (["label=a=b"], ["web"]),
        (["label=a", "label=tier"], ["web"]),
        (["label!=a"], ["done"]),
        (["label=tier=fr*"], ["web"]),
        (["volume=data"], ["done"]),
        (["volume=/data/"], ["done"]),
        (["id=" + "0" * 63], ["web", "done", "job.x"]),
        (["id=" + "0" * 63 + "2"], ["done"]),
        (["before=done"], ["web"]),
        (["since=done"], ["job.x"]),
        (["ancestor=app:1"], ["web", "done", "job.x"]),
        (["ancestor=other"], ["web", "done", "job.x"]),
        (["ancestor=nothing"], []),
        (["restart-policy=always"], ["job.x"]),
        (["network=slirp4netns"], ["web", "done", "job.x"]),
        (["network=none"], []),
        (["until=8h30m"], ["web"]),
        (["health=none"], ["web", "done", "job.x"]),
        (["status=exited", "label=a"], ["job.x"]),
        (["command=sleep"], ["web", "done", "job.x"]),
        (["pod=x"], []),
    ],
)
def test_filters(cli: Cli, filter_words: list[str], expected: list[str]) -> None:
    assert names(cli, *filter_words) == expected


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("bogus=x", "bogus is an invalid filter"),
        ("bogus", "invalid filter 'bogus'"),
        ("status=bogus", "unknown container state 'bogus'"),
        ("exited=x", "not an exit status"),
        ("until=x", "not a time"),
        ("since=nope", "no container with name or ID 'nope'"),
        ("name=(", "not a regular expression"),
    ],
)
def test_wrong_filters(cli: Cli, word: str, message: str) -> None:
    assert message in cli.error("ps", "--filter", word)


def test_a_filter_on_the_state_needs_no_all(cli: Cli) -> None:
    assert cli("ps", "-q", "--filter", "status=exited").split() == ["000000000000"] * 2


def test_order_and_last(cli: Cli) -> None:
    assert cli("ps", "-a", "--sort", "names", "--format", "{{.Names}}").split() == ["done", "job.x", "web"]
    assert cli("ps", "-n", "2", "--format", "{{.Names}}").split() == ["done", "job.x"]
    assert cli("ps", "-l", "--format", "{{.Names}}").split() == ["job.x"]
    assert "one of command, created" in cli.error("ps", "--sort", "weight")
    assert "exclude each other" in cli.error("ps", "-l", "-n", "2")
    assert "--quiet excludes" in cli.error("ps", "-qs")


def test_templates(cli: Cli) -> None:
    assert cli("ps", "-a", "--format", "table {{.Names}} {{.Status}}").splitlines()[:2] == [
        "NAMES       STATUS",
        "web         Created",
    ]
    assert cli("ps", "-l", "--format", r"{{.Names}}\t{{.ID}}") == "job.x\t000000000000\n"
    assert cli("ps", "-a", "--format", "{{range .}}{{.Names}};{{end}}") == "web;done;job.x;\n"
    assert cli("ps", "-a", "--format", '{{.Label "a"}}|{{.Labels}}').splitlines()[0] == "b|map[a:b tier:front]"
    assert cli("ps", "--format", "table {{.CreatedAt}} {{.CIDFile}}") == "CREATED AT  CID FILE\n"
    assert cli("ps", "-a", "--format", "{{json .Names}} {{.ExitCode}} {{.Exited}}").splitlines()[1] == '"done" 3 true'
    assert cli("ps", "--noheading", "--format", "table {{.Names}}") == ""
    assert "template: there is no field .names" in cli.error("ps", "-a", "--format", "{{.names}}")
    assert "needs --size" in cli.error("ps", "-a", "--format", "{{.Size}}")
    assert cli("ps", "-as", "--format", "{{.Size}}").splitlines()[0] == "0B (virtual 2.18MB)"


def test_json(cli: Cli) -> None:
    first = json.loads(cli("ps", "-a", "--format", "json"))[0]
    assert (first["Names"], first["State"], first["Status"]) == (["web"], "created", "Created")
    assert first["Ports"] == [{"host_ip": "", "container_port": 80, "host_port": 8080, "range": 1, "protocol": "tcp"}]
    assert first["ExposedPorts"] == {"80": ["tcp"], "90": ["udp"]}
    lines = cli("ps", "-a", "--format", "{{json .}}").splitlines()
    assert json.loads(lines[1])["Mounts"] == ["/data"]
    assert cli("ps", "--format", "json") == "[]\n"


def test_images(cli: Cli) -> None:
    assert [re.split(r"  +", line) for line in cli("images").splitlines()] == [
        ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"],
        ["docker.io/library/app", "1", "111111111111", "5 hours ago", "2.18 MB"],
        ["localhost/other", "latest", "111111111111", "5 hours ago", "2.18 MB"],
        ["<none>", "<none>", "222222222222", "4 days ago", "45.1 MB"],
    ]
    assert cli("images", "-q").split() == ["1" * 12, "2" * 12]
    assert cli("images", "-q", "--no-trunc").split() == [f"sha256:{d * 64}" for d in "12"]
    assert cli("images", "-q", "--sort", "size").split() == ["1" * 12, "2" * 12]
    assert [row["Containers"] for row in json.loads(cli("images", "--format", "json"))] == [3, 0]
    assert "DIGEST" in cli("images", "--digests")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["app"], "1"),
        (["docker.io/library/app:1"], "1"),
        (["app:2"], ""),
        (["222222"], "2"),
        (["-f", "reference=*the*"], "1"),
        (["-f", "reference=localhost/*"], "1"),
        (["-f", "dangling=true"], "2"),
        (["-f", "dangling=false"], "1"),
        (["-f", "label=a=b"], "12"),
        (["-f", "label=a=c"], ""),
        (["-f", "since=222222222222"], "1"),
        (["-f", "before=app:1"], "2"),
        (["-f", "containers=true"], "1"),
        (["-f", "id=22"], "2"),
        (["-f", "digest=sha256:11"], "1"),
        (["-f", "until=24h"], "2"),
        (["-f", "readonly=true"], ""),
    ],
)
def test_image_filters(cli: Cli, words: list[str], expected: str) -> None:
    assert cli("images", "-q", *words).split() == [digit * 12 for digit in expected]


def test_exists(cli: Cli) -> None:
    cli("container", "exists", "web")
    cli("image", "exists", "app:1")
    for words in (["container", "exists", "nope"], ["image", "exists", "nope"], ["volume", "exists", "nope"]):
        assert cli.run(*words, status=1) == ("", "")


def test_tag_and_untag(cli: Cli) -> None:
    cli("tag", "222222", "new:1", "new:2")
    assert cli("images", "--noheading", "--format", "{{.Repository}}:{{.Tag}}", "new").split() == [
        "localhost/new:2",
        "localhost/new:1",
    ]
    cli("untag", "222222")
    assert cli("images", "-q", "-f", "dangling=true").split() == ["2" * 12]
    assert "image not known" in cli.error("tag", "nope", "x")
    assert "image not known" in cli.error("untag", "nope")


# --- the boundary ------------------------------------------------------------------------------


def test_words_that_are_not_utf8(cli: Cli) -> None:
    argv = [sys.executable, "-m", "pyctl", "run", b"bad\xff"]
    done = subprocess.run(argv, env=cli.env, capture_output=True, check=False)
    assert done.returncode == 125
    assert done.stderr == b"pyctl: argument 2 is not valid UTF-8: bad\\xff\n"


def test_a_reader_that_goes_away_is_no_error(cli: Cli) -> None:
    script = f'"{sys.executable}" -m pyctl --root "{cli.root}" ps -a | head -c 1; echo "${{PIPESTATUS[0]}}"'
    done = subprocess.run(["bash", "-c", script], env=cli.env, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout in ("C141\n", "C0\n")


def test_a_full_disk_for_stdout_is_an_error(cli: Cli) -> None:
    with open("/dev/full", "w", encoding="ascii") as full:
        argv = [sys.executable, "-m", "pyctl", "--root", str(cli.root), "ps"]
        done = subprocess.run(argv, env=cli.env, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 125
    assert done.stderr == "pyctl: cannot write to stdout: No space left on device\n"


def test_errors_do_not_move_the_cursor(cli: Cli) -> None:
    assert "\x1b" not in cli.error("ps", "--filter", "bad\x1b[2Jkey=x")


def test_tables_do_not_move_the_cursor() -> None:
    assert output.table([["a\x1b[2Jb", "c\nd"]]) == "a\\x1b[2Jb   c d\n"


# --- words for numbers -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0B"), (12, "12B"), (999, "999B"), (1000, "1kB"), (11_000, "11kB"), (2_182_247, "2.18MB"), (999_600, "1000kB"),
     (45_100_000, "45.1MB"), (1_230_000_000, "1.23GB"), (10**15, "1PB")],
)  # fmt: skip
def test_sizes(size: int, shown: str) -> None:
    assert output.human_size(size) == shown


def test_spaced_sizes() -> None:
    assert output.spaced_size(2_182_247) == "2.18 MB"
    assert output.spaced_size(0) == "0 B"
    assert output.human_size(2_182_247, 4) == "2.182MB"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (119, "About a minute"),
     (120, "2 minutes"), (3599, "59 minutes"), (3600, "About an hour"), (7200, "2 hours"), (47 * 3600, "47 hours"),
     (48 * 3600, "2 days"), (13 * 86400, "13 days"), (14 * 86400, "2 weeks"), (59 * 86400, "8 weeks"),
     (60 * 86400, "2 months"), (729 * 86400, "24 months"), (730 * 86400, "2 years")],
)  # fmt: skip
def test_durations(seconds: int, shown: str) -> None:
    assert output.human_duration(seconds) == shown


def test_ports_that_follow_one_another_are_joined() -> None:
    published = tuple(Port(container_port=80 + n, host_port=8080 + n) for n in range(3))
    apart = Port(container_port=90, host_port=9090, protocol="udp", host_ip="127.0.0.1")
    network = Network(mode="slirp4netns", ports=(*published, apart), exposed=("80/tcp", "5000/tcp"))
    assert ports.shown(network, "0.0.0.0") == "0.0.0.0:8080-8082->80-82/tcp, 127.0.0.1:9090->90/udp, 5000/tcp"
    assert (
        ports.shown(Network(mode="x", ports=(Port(container_port=1, host_port=2, host_ip="::1"),)), "")
        == "::1:2->1/tcp"
    )


@pytest.mark.parametrize(
    ("text", "moment_ns"),
    [
        ("1700000000", 1_700_000_000 * 10**9),
        ("1700000000.5", 1_700_000_000_500_000_000),
        ("2024-01-02T03:04:05Z", 1_704_164_645 * 10**9),
        ("2024-01-02T03:04:05.5+01:00", 1_704_161_045_500_000_000),
        ("2024-01-02T03:04:05-01:00", 1_704_168_245 * 10**9),
    ],
)
def test_moments(text: str, moment_ns: int) -> None:
    assert filters.moment_ns(text) == moment_ns


def test_a_duration_means_so_long_ago() -> None:
    assert filters.moment_ns("10m", NOW_NS) == NOW_NS - 600 * 10**9
    assert filters.moment_ns("1h30m", NOW_NS) == NOW_NS - 5400 * 10**9


def test_moments_without_a_zone_are_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Etc/GMT-2")
    time.tzset()
    try:
        for text in ("2024-01-02T03:04:05", "2024-01-02 03:04:05"):
            assert filters.moment_ns(text) == (1_704_164_645 - 7200) * 10**9
        assert filters.moment_ns("2024-01-02") == (1_704_153_600 - 7200) * 10**9
        assert filters.moment_ns("2024-01-02T03:04") == (1_704_164_640 - 7200) * 10**9
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("text", ["x", "2024-13-01", "now", "-", "2024-01-02T25:00:00"])
def test_no_moments(text: str) -> None:
    with pytest.raises(ValueError, match="time"):
        filters.moment_ns(text)


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("*", "abc", True), ("*", "a/b", False), ("a*c", "abc", True), ("a?c", "abc", True), ("a?c", "ac", False),
        ("[a-c]x", "bx", True), ("[^a-c]x", "bx", False), ("[^a-c]x", "dx", True), ("a\\*", "a*", True),
        ("*/b*", "a/bc", True), ("", "", True), ("", "a", False), ("ab", "abc", False),
    ],
)  # fmt: skip
def test_glob(pattern: str, text: str, matches: bool) -> None:
    assert glob(pattern, text) is matches


def test_port(cli: Cli) -> None:
    assert cli("port", "web") == "80/tcp -> 0.0.0.0:8080\n"
    assert cli("port", "web", "80/tcp") == "0.0.0.0:8080\n"
    assert cli("port", "-a") == "000000000000\t80/tcp -> 0.0.0.0:8080\n"
    assert cli("port", "done") == ""
    assert "port 81 of container web is not published" in cli.error("port", "web", "81")
    assert "80/tcp/x is not a port" in cli.error("port", "web", "80/tcp/x")


def test_volumes(cli: Cli) -> None:
    assert cli("volume", "ls") == ""
    assert cli("volume", "create", "--label", "a=b", "v1") == "v1\n"
    assert "volume v1 already exists" in cli.error("volume", "create", "v1")
    assert cli("volume", "create", "--ignore", "v1") == "v1\n"
    other = cli("volume", "create").strip()
    assert len(other) == 64
    assert cli("volume", "ls") == f"DRIVER      VOLUME NAME\nlocal       v1\nlocal       {other}\n"
    assert cli("volume", "ls", "-q", "-f", "label=a=b") == "v1\n"
    assert cli("volume", "ls", "-q", "-f", "name=^v.$", "-f", "dangling=true") == "v1\n"
    assert cli("volume", "ls", "--format", "{{.Name}} {{.Labels}}").splitlines()[0] == "v1 map[a:b]"
    assert json.loads(cli("volume", "inspect", "v1"))[0]["Labels"] == {"a": "b"}
    assert cli("inspect", "-f", "{{.Name}}", "v1") == "v1\n"
    assert cli.run("volume", "inspect", "nope", status=125)[0] == "[]\n"
    assert cli.run("volume", "exists", "v1") == ("", "")
    assert "invalid volume name 'a/b'" in cli.error("volume", "create", "a/b")
    assert "no volume driver nfs" in cli.error("volume", "create", "-d", "nfs", "x")
    assert cli.run("volume", "rm", "nope", status=1)[0] == ""


def test_inspect(cli: Cli) -> None:
    assert cli("inspect", "-f", "{{.Name}} {{.State.Status}} {{.ID}}", "web").split() == ["web", "created", f"{1:064x}"]
    assert cli("inspect", "-f", '{{index .Config.Labels "a"}} {{.Config.Labels.zz}}', "web") == "b <no value>\n"
    assert "there is no field .Nope" in cli.error("inspect", "-f", "{{.Nope}}", "web")
    out, err = cli.run("inspect", "web", "nope", status=125)
    assert [tree["Name"] for tree in json.loads(out)] == ["web"]
    assert err == "pyctl: no such object: nope\n"
    assert cli("inspect", "--type", "container", "-f", "{{.Name}}", "-l") == "job.x\n"
    assert "no such image: web" in cli.run("inspect", "--type", "image", "web", status=125)[1]


def test_prune_asks(cli: Cli) -> None:
    assert cli("container", "prune").endswith("Are you sure you want to continue? [y/N] ")
    assert len(cli("ps", "-aq").split()) == 3
    assert "status is an invalid filter for prune" in cli.error("container", "prune", "-f", "--filter", "status=exited")


def test_closed_descriptors_are_not_given_to_the_storage(cli: Cli) -> None:
    command = f'"{sys.executable}" -m pyctl --root "{cli.root}" ps -a'
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        subprocess.run(["sh", "-c", f"{command} {closed}"], env=cli.env, stdout=subprocess.DEVNULL, check=True)
    assert len(cli("ps", "-aq").split()) == 3
