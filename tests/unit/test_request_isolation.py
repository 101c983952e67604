"""Namespaces, id maps, capabilities, --security-opt, sysctls."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyctl.engine.model import IdRange, UserNamespace
from pyctl.engine.users_maps import common_ranges, extended, free_range, id_maps, keep_id_map
from rootless.errors import Error
from tests.unit.request_support import FACTS, OTHER, image, refusal, spec


def row(inside: int, outside: int, size: int) -> IdRange:
    return IdRange(inside=inside, outside=outside, size=size)


def test_namespaces() -> None:
    made = spec()
    assert (made.pid, made.ipc, made.uts, made.cgroupns) == ("private", "shareable", "private", "private")
    made = spec("--pid", "host", "--ipc", "none", "--uts", "ns:/proc/self/ns/uts", "--cgroupns", "container:other")
    assert (made.pid, made.ipc, made.uts) == ("host", "none", "ns:/proc/self/ns/uts")
    assert made.cgroupns == f"container:{OTHER}"
    for option in ("--pid", "--ipc", "--uts", "--cgroupns"):
        for bad in ("x", "container:", "ns:", "ns:rel", "none" if option != "--ipc" else "no", "shareable:x"):
            assert option in refusal(option, bad)


def test_keep_id_is_oneself() -> None:
    made = spec("--userns", "keep-id")
    assert made.userns == UserNamespace(mode="keep-id")
    assert made.user == "1500:1600"
    assert spec("--userns", "keep-id", of=image(user="www")).user == "www"
    assert spec("--userns", "keep-id:uid=5,gid=6").user == "5:6"
    assert spec("--userns", "keep-id", "-u", "root").user == "root"


def test_keep_id_maps() -> None:
    assert keep_id_map(1500, 65537) == (row(0, 1, 1500), row(1500, 0, 1), row(1501, 1501, 64036))
    assert keep_id_map(0, 65537) == (row(0, 0, 1), row(1, 1, 65536))
    assert keep_id_map(70000, 65537) == (row(0, 1, 65536), row(70000, 0, 1))
    assert keep_id_map(1500, 1) == (row(1500, 0, 1),)
    uids, gids = id_maps(UserNamespace(mode="keep-id", size=10), 3, 4, 65537, 65537)
    assert sum(r.size for r in uids) == sum(r.size for r in gids) == 11


@pytest.mark.parametrize("own", [0, 1, 1000, 65535, 65536, 65537, 200000])
def test_keep_id_maps_every_id_once(own: int) -> None:
    rows = keep_id_map(own, 65537)
    outside = sorted(r.outside + i for r in rows for i in range(r.size))
    assert outside == list(range(65537))
    inside = [r.inside + i for r in rows for i in range(r.size)]
    assert len(set(inside)) == len(inside)


def test_auto() -> None:
    made = spec("--userns", "auto").userns
    assert made.uid_map == made.gid_map == (row(0, 1025, 1024),), "beside the ids of the other container"
    assert spec("--userns", "auto", "-u", "5000").userns.uid_map[0].size == 5001
    assert spec("--userns", "auto:size=70").userns.uid_map[0].size == 70
    assert "--userns" in refusal("--userns", "auto:size=65000")
    assert "--userns" in refusal("--userns", "auto:size=0")
    assert "--userns" in refusal("--userns", "auto:foo=1")
    alone = FACTS.replace(uid_count=1, gid_count=1)
    for mode in ("auto", "nomap"):
        assert "none" in refusal("--userns", mode, facts=alone)


def test_free_ranges() -> None:
    taken = (row(0, 11, 10), row(0, 1, 5))
    assert free_range(5, ((1, 99),), taken).outside == 6
    assert free_range(6, ((1, 99),), taken).outside == 21
    assert free_range(79, ((1, 99),), taken).outside == 21
    with pytest.raises(Error):
        free_range(80, ((1, 99),), taken)
    assert free_range(90, ((1, 99), (1000, 100)), taken).outside == 1000
    assert common_ranges(((10, 10), (50, 5)), ((15, 40),)) == ((15, 5), (50, 5))


def test_maps_by_hand() -> None:
    made = spec("--uidmap", "0:0:1", "--uidmap", "1:5:10").userns
    assert made.mode == "map"
    assert made.uid_map == made.gid_map == (row(0, 0, 1), row(1, 5, 10))
    made = spec("--uidmap", "0:1:10", "--gidmap", "0:2").userns
    assert (made.uid_map, made.gid_map) == ((row(0, 1, 10),), (row(0, 2, 1),))
    assert spec("--uidmap", "0:@100005:5").userns.uid_map == (row(0, 6, 5),)
    assert spec("--uidmap", "0:@1500", "--gidmap", "0:@1600").userns.gid_map == (row(0, 0, 1),)


@pytest.mark.parametrize(
    "words",
    [
        ("--uidmap", "0"),
        ("--uidmap", "0:1:0"),
        ("--uidmap", "0:1:-1"),
        ("--uidmap", "a:b:c"),
        ("--uidmap", "0:1:1:1"),
        ("--uidmap", "0:65530:10"),
        ("--uidmap", "0:@99999:1"),
        ("--uidmap", "0:@165535:2"),
        ("--uidmap", "0:1:10", "--uidmap", "5:100:1"),
        ("--uidmap", "0:1:10", "--uidmap", "50:5:1"),
        ("--uidmap", "0:1:10", "--userns", "keep-id"),
    ],
)
def test_bad_maps(words: tuple[str, ...]) -> None:
    assert words[0] in refusal(*words) or "--userns" in refusal(*words)


def test_extending_a_map_leaves_each_id_one_place() -> None:
    rows = extended((row(5, 0, 1),), 20)
    assert row(5, 0, 1) in rows
    inside = sorted(r.inside + i for r in rows for i in range(r.size))
    outside = sorted(r.outside + i for r in rows for i in range(r.size))
    assert len(set(inside)) == len(inside)
    assert len(set(outside)) == len(outside)
    assert spec("--uidmap", "+5:0:1").userns.uid_map[0].inside == 1


def test_capabilities() -> None:
    made = spec("--cap-add", "net_admin,CAP_SYS_TIME", "--cap-drop", "all").security
    assert made.cap_add == ("CAP_NET_ADMIN", "CAP_SYS_TIME")
    assert made.cap_drop == ("ALL",)
    assert "--cap-add" in refusal("--cap-add", "FLY")
    assert "--cap-drop" in refusal("--cap-drop", "CHOWN", "--cap-add", "CHOWN")


def test_security_options(tmp_path: Path) -> None:
    profile = tmp_path / "seccomp.json"
    profile.write_text("{}")
    made = spec(
        *("--security-opt", "no-new-privileges", "--security-opt", f"seccomp={profile}"),
        *(
            "--security-opt",
            "mask=/a:/b",
            "--security-opt",
            "unmask=/proc/*",
            "--security-opt",
            "proc-opts=hidepid=2,subset=pid",
        ),
    ).security
    assert made.no_new_privileges
    assert made.seccomp == str(profile)
    assert made.mask == ("/a", "/b")
    assert made.unmask == ("/proc/*",)
    assert made.proc_options == ("hidepid=2", "subset=pid")
    assert spec("--security-opt", "seccomp=unconfined").security.seccomp == "unconfined"
    assert spec(
        "--security-opt", "seccomp=seccomp.json", facts=FACTS.replace(cwd=str(tmp_path))
    ).security.seccomp == str(profile)
    assert not spec("--security-opt", "no-new-privileges:false").security.no_new_privileges
    assert spec("--security-opt", "systempaths=unconfined").security.unmask == ("ALL",)
    unknown = ("x", "x=y", "", "seccomp=", "seccomp=/none", "mask=a", "unmask=a", "apparmor=p", "label=type:x")
    values = (
        "no-new-privileges=1",
        "proc-opts=suid",
        "proc-opts=hidepid=9",
        "proc-opts=gid=x",
        "proc-opts=hidepid=2,exec",
    )
    for bad in unknown + values:
        assert "--security-opt" in refusal(f"--security-opt={bad}")
    assert spec("--security-opt", "apparmor=p", facts=FACTS.replace(apparmor=True)).security.apparmor == "p"


def test_sysctls_of_own_namespaces_only() -> None:
    made = spec(
        "--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.shmmax=5", "--sysctl", "fs.mqueue.msg_max=1"
    ).sysctls
    assert made == {"net.ipv4.ip_forward": "1", "kernel.shmmax": "5", "fs.mqueue.msg_max": "1"}
    for words in (
        ("kernel.hostname=x",),
        ("vm.swappiness=1",),
        ("kernel.core_pattern=|/evil",),
        ("user.max_user_namespaces=1",),
        ("net.ipv4.ip_forward=1", "--network", "host"),
        ("net.ipv4.ip_forward=1", "--network", "container:other"),
        ("kernel.sem=1", "--ipc", "container:other"),
        ("fs.mqueue.msg_max=1", "--ipc", "host"),
        ("net.../../kernel.core_pattern=x",),
        ("net/../../kernel=x",),
        ("net.ipv4.ip_forward",),
        (" net.x=1",),
    ):
        assert "--sysctl" in refusal("--sysctl", *words)
