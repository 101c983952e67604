"""`container inspect` and `image inspect`: Podman's keys, and what stands behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyctl.engine.inspect import InspectFacts, container_json
from pyctl.engine.inspect_image import image_json
from rootless.plan import HealthLog, HealthReport
from rootless.values import dumps, loads
from storage.images import ImageRow
from tests.unit.request_support import ID, OTHER, spec

# Objects whose keys are data, not names of fields.
FREE = {"Labels", "Annotations", "Ports", "PortBindings", "Tmpfs", "Data", "Networks", "ExposedPorts", "CgroupConf"}
TYPES = dict(
    line.rsplit(" ", 1)
    for line in (Path(__file__).parent / "test_inspect_keys.txt").read_text().splitlines()
    if line and not line.startswith("#")
)
FACTS = InspectFacts(
    storage_dir="/store/c", runtime_dir="/run/c", lower=("/layers/2", "/layers/1"), volumes={"data": "/vols/data"}
)


class Row:
    """A running container's row."""

    status = "running"
    pid = 77
    supervisor_pid = 76
    started_ns = 1_700_000_000_123_456_789
    finished_ns = 0
    exit_code = 0
    oom = 0
    error = ""
    restart_count = 2


class Ended(Row):
    status = "exited"
    pid = supervisor_pid = 0
    finished_ns = 1_700_000_001_000_000_000
    exit_code = 137
    oom = 1
    error = "killed"


EVERYTHING = (
    *("-d", "-t", "--init", "--rm", "-v", "data:/data", "-v", "/tmp:/t:ro,noexec", "--tmpfs", "/m:size=5m"),
    *(
        "--health-cmd",
        "x",
        "--health-startup-cmd",
        "y",
        "--ulimit",
        "nofile=1:2",
        "--annotation",
        "a=b",
        "-p",
        "8080:80",
    ),
    *(
        "--expose",
        "90",
        "--device",
        "/dev/null:/dev/x:rw",
        "-m",
        "100m",
        "--cpus",
        "1.5",
        "--cgroup-conf",
        "memory.high=5",
    ),
    *("--device-read-bps", "/dev/sda:1m", "--userns", "keep-id", "--restart", "on-failure:3", "--dns", "1.1.1.1"),
    *("--label", "l=m", "--entrypoint", "sleep", "--network", "slirp4netns"),
)


def tree(*words: str, row: Any = Row, facts: InspectFacts = FACTS, health: HealthReport | None = None) -> Any:
    """As a reader of the JSON sees it."""
    made = spec(*words, args=("1000",))
    return loads(dumps(container_json(made, row, facts, health)))


def flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict) and key not in FREE:
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[prefix + key] = value
    return found


def test_every_key_of_podman_is_there_with_its_type() -> None:
    maps = FACTS.replace(uid_map=("0:1:5",), gid_map=("0:1:5",), cgroup_path="/user.slice/x")
    have = {
        **flat(tree("--network", "host")),
        **flat(tree()),
        **flat(tree(row=Ended)),
        **flat(tree(*EVERYTHING, facts=maps)),
    }
    assert sorted(set(TYPES) - set(have)) == []
    for key, value in have.items():
        if key in TYPES:
            kinds = TYPES[key].split("|")
            assert type(value).__name__ in {*kinds, *(["NoneType"] if {"list", "dict"} & set(kinds) else [])}, key


def test_nothing_that_podman_does_not_have() -> None:
    for made in (tree(), tree(*EVERYTHING), tree(row=Ended)):
        assert set(flat(made)) <= set(TYPES) | {"HostConfig.IDMappings"}


def test_state() -> None:
    state = tree()["State"]
    assert (state["Status"], state["Running"], state["Pid"], state["ConmonPid"]) == ("running", True, 77, 76)
    assert state["StartedAt"].startswith("2023-11-1")
    assert state["FinishedAt"] == "0001-01-01T00:00:00Z"
    assert "Health" not in state
    state = tree(row=Ended)["State"]
    assert (state["Status"], state["ExitCode"], state["OOMKilled"], state["Error"]) == ("exited", 137, True, "killed")
    assert tree(facts=FACTS.replace(paused=True))["State"]["Status"] == "paused"


def test_health() -> None:
    entry = HealthLog(start_ns=1_700_000_000_000_000_000, end_ns=1_700_000_001_000_000_000, exit_code=1, output="no\n")
    report = HealthReport(status="unhealthy", failing_streak=3, log=(entry,))
    health = tree("--health-cmd", "x", health=report)["State"]["Health"]
    assert (health["Status"], health["FailingStreak"]) == ("unhealthy", 3)
    assert (health["Log"][0]["ExitCode"], health["Log"][0]["Output"]) == (1, "no\n")
    assert tree("--health-cmd", "x")["State"]["Health"]["Status"] == "starting"
    assert "Health" not in tree("--health-cmd", "none")["State"]
    assert tree("--health-cmd", "none")["Config"]["Healthcheck"] == {"Test": ["NONE"]}


def test_config_and_host_config() -> None:
    made = tree(*EVERYTHING)
    config, host = made["Config"], made["HostConfig"]
    assert (made["Path"], made["Args"]) == ("/run/podman-init", ["--", "sleep", "1000"])
    assert (config["Entrypoint"], config["Cmd"], config["User"]) == (["sleep"], ["1000"], "1500:1600")
    assert config["StopSignal"] == "SIGTERM"
    assert config["Umask"] == "0022"
    assert config["Annotations"]["a"] == "b"
    assert config["CreateCommand"][:3] == ["pyctl", "run", "-d"]
    assert config["ExposedPorts"] == {"80/tcp": {}, "90/tcp": {}}
    assert host["Binds"] == ["data:/data:rw,rprivate,nosuid,nodev,rbind", "/tmp:/t:ro,noexec,rprivate,rbind"]
    assert host["Tmpfs"] == {"/m": "size=5m,rw,rprivate,nosuid,nodev,tmpcopyup"}
    assert host["PortBindings"] == {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}
    assert made["NetworkSettings"]["Ports"] == {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "90/tcp": None}
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (104857600, 209715200, 1500000000)
    assert host["Devices"] == [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "rw"}]
    assert host["Ulimits"] == [{"Name": "RLIMIT_NOFILE", "Soft": 1, "Hard": 2}]
    assert host["CgroupConf"] == {"memory.high": "5"}
    assert host["UsernsMode"] == "private"
    assert host["AutoRemove"]


def test_mounts() -> None:
    volume, bind = tree(*EVERYTHING)["Mounts"]
    assert volume == {
        "Type": "volume", "Name": "data", "Source": "/vols/data", "Destination": "/data", "Driver": "local", "Mode": "",
        "Options": ["nosuid", "nodev", "rbind"], "RW": True, "Propagation": "rprivate",
    }  # fmt: skip
    assert bind == {
        "Type": "bind", "Source": "/tmp", "Destination": "/t", "Driver": "", "Mode": "",
        "Options": ["noexec", "rbind"], "RW": False, "Propagation": "rprivate",
    }  # fmt: skip


def test_capabilities_are_those_of_the_process() -> None:
    assert "CAP_NET_ADMIN" in tree("--cap-add", "NET_ADMIN")["EffectiveCaps"]
    assert tree("-u", "5")["EffectiveCaps"] is None
    assert tree("-u", "5", "--cap-add", "NET_ADMIN")["EffectiveCaps"] == ["CAP_NET_ADMIN"]
    assert "CAP_CHOWN" in tree("-u", "5")["BoundingCaps"]
    assert tree("--cap-drop", "ALL")["BoundingCaps"] is None


def test_shared_namespaces() -> None:
    made = tree("--network", "container:other", "--pid", "container:other", "--ipc", "host")
    assert made["Dependencies"] == [OTHER]
    assert made["HostConfig"]["NetworkMode"] == f"container:{OTHER}"
    assert (made["HostConfig"]["PidMode"], made["HostConfig"]["IpcMode"]) == (f"container:{OTHER}", "host")
    assert tree("--network", "host")["NetworkSettings"]["Networks"]["host"]["NetworkID"] == "host"


def test_log_size_as_podman_writes_it() -> None:
    assert tree("--log-opt", "max-size=10m")["HostConfig"]["LogConfig"]["Size"] == "10MB"
    assert tree("--log-opt", "max-size=1234567")["HostConfig"]["LogConfig"]["Size"] == "1.235MB"
    assert tree()["HostConfig"]["LogConfig"]["Size"] == "0B"
    assert tree()["Id"] == ID


def test_image() -> None:
    row = ImageRow(
        id="ab" * 32,
        manifest_digest="sha256:" + "1" * 64,
        manifest_type="application/vnd.oci.image.manifest.v1+json",
        names=("localhost:5000/a/b:v1", "docker.io/library/c@sha256:" + "2" * 64),
        digests=("sha256:" + "1" * 64,),
        created_ns=0,
        added_ns=0,
        size=7,
        architecture="arm64",
        os="linux",
        variant="v8",
    )
    config = {
        "created": "2026-01-01T00:00:00Z",
        "author": "me",
        "config": {
            "Env": ["A=b"],
            "User": "5",
            "Labels": {"x": "y"},
            "Healthcheck": {"Test": ["CMD", "a"]},
            "Cmd": None,
        },
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "3" * 64]},
        "history": [{"created_by": "x", "comment": "why"}],
    }
    made = loads(dumps(image_json(row, config, annotations={}, lower=("/l/2", "/l/1"), driver="overlay")))
    assert made["RepoTags"] == ["localhost:5000/a/b:v1"]
    assert made["RepoDigests"] == [
        f"localhost:5000/a/b@{row.manifest_digest}",
        f"docker.io/library/c@{row.manifest_digest}",
    ]
    assert made["Config"] == {"User": "5", "Env": ["A=b"], "Labels": {"x": "y"}}
    assert made["Comment"] == "why"
    assert made["GraphDriver"]["Data"] == {"LowerDir": "/l/1", "UpperDir": "/l/2"}
    assert (made["Architecture"], made["Variant"], made["Size"]) == ("arm64", "v8", 7)
    assert made["RootFS"]["Layers"] == ["sha256:" + "3" * 64]
    assert made["Healthcheck"] == {"Test": ["CMD", "a"]}
    podman = {
        "Id", "Digest", "RepoTags", "RepoDigests", "Parent", "Comment", "Created", "Config", "Version", "Author",
        "Architecture", "Os", "Size", "VirtualSize", "GraphDriver", "RootFS", "Labels", "Annotations", "ManifestType",
        "User", "History", "NamesHistory", "Healthcheck",
    }  # fmt: skip
    assert set(made) == podman | {"Variant"}
