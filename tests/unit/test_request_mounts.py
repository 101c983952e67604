"""-v, --mount, --tmpfs, VOLUME, --device."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyctl.engine.model import Device, Mount
from tests.unit.request_support import FACTS, image, refusal, spec


def mount(*words: str, cwd: str = "/") -> Mount:
    (made,) = spec(*words, facts=FACTS.replace(cwd=cwd)).mounts
    return made


def test_bind(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    assert mount("-v", f"{tmp_path}:/x") == Mount(kind="bind", source=str(tmp_path), target="/x")
    assert mount("-v", "./sub:/x/../y/:ro,z,rslave", cwd=str(tmp_path)) == Mount(
        kind="bind", source=str(tmp_path / "sub"), target="/y", read_only=True, options=("z", "rslave")
    )
    assert mount("-v", ".:/x", cwd=str(tmp_path)).source == str(tmp_path)
    assert "does not exist" in refusal("-v", f"{tmp_path}/none:/x")


def test_a_dangling_link_is_a_source_that_exists(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    assert mount("-v", f"{tmp_path}/link:/x").source.endswith("/link")


def test_volumes() -> None:
    assert mount("-v", "data:/x:nocopy,noexec") == Mount(
        kind="volume", source="data", target="/x", options=("noexec",), no_copy=True
    )
    made = mount("-v", "/x")
    assert made.anonymous
    assert made.kind == "volume"
    assert len(made.source) == 64
    assert mount("-v", "/x").source != made.source


def test_propagation_is_a_word_of_a_list() -> None:
    for smuggled in ("rshared,suid", "rshared,exec,dev,suid,remount", "foo", "", "rshared ", "RSHARED"):
        word = f'type=bind,src=/tmp,dst=/x,"bind-propagation={smuggled}"'
        assert "bind-propagation" in refusal("--mount", word)
    assert mount("--mount", "type=bind,src=/tmp,dst=/x,bind-propagation=rslave").options == ("rslave",)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("type=bind,src=/tmp,dst=/x", Mount(kind="bind", source="/tmp", target="/x")),
        ("type=bind,source=/tmp,target=/x,ro", Mount(kind="bind", source="/tmp", target="/x", read_only=True)),
        ("type=bind,source=/tmp,destination=/x,readonly=false", Mount(kind="bind", source="/tmp", target="/x")),
        ("type=bind,target=/tmp", Mount(kind="bind", source="/tmp", target="/tmp")),
        (
            "type=bind,src=/tmp,dst=/x,bind-nonrecursive",
            Mount(kind="bind", source="/tmp", target="/x", options=("bind",)),
        ),
        (
            "type=bind,src=/usr/share,dst=/x,U,relabel=private",
            Mount(kind="bind", source="/usr/share", target="/x", options=("U", "Z")),
        ),
        ("type=bind,src=/tmp,dst=/x,exec=false", Mount(kind="bind", source="/tmp", target="/x", options=("noexec",))),
        ('type=bind,"src=/tmp",dst=/x,rw', Mount(kind="bind", source="/tmp", target="/x")),
        ("type=volume,src=v,dst=/x,ro", Mount(kind="volume", source="v", target="/x", read_only=True)),
        ("type=volume,src=v,dst=/x,volume-nocopy", Mount(kind="volume", source="v", target="/x", no_copy=True)),
        (
            "type=tmpfs,dst=/x,tmpfs-size=64m,tmpfs-mode=1777,notmpcopyup",
            Mount(kind="tmpfs", target="/x", options=("size=64m", "mode=1777")),
        ),
        ("type=tmpfs,dst=/x", Mount(kind="tmpfs", target="/x", copy_up=True)),
        (
            "type=devpts,dst=/x,max=10,mode=620",
            Mount(
                kind="devpts",
                target="/x",
                options=("nosuid", "noexec", "newinstance", "ptmxmode=0666", "max=10", "mode=620"),
            ),
        ),
    ],
)
def test_mount_option(word: str, expected: Mount) -> None:
    assert mount("--mount", word) == expected


@pytest.mark.parametrize(
    "word",
    [
        "type=bind,src=/tmp,dst=/x,rw,ro",
        "type=bind,src=/tmp,dst=/x,noexec,exec",
        "type=bind,src=/tmp,dst=/x,relabel=no",
        "type=bind,src=/tmp,dst=/x,U=perhaps",
        "type=bind,src=/tmp,dst=x",
        "type=bind,src=/tmp,dst=/",
        "type=tmpfs,dst=/x,tmpfs-size=1,tmpfs-size=2",
        "type=tmpfs,dst=/x,src=/tmp",
        "type=volume,src=a/b,dst=/x",
        "type=volume,src=v,dst=/x,subpath=../..",
        "type=devpts,dst=/x,mode=999",
        'type=bind,src="/tmp,dst=/x',
        "dst=/x",
    ],
)
def test_bad_mount_option(word: str) -> None:
    assert "--mount" in refusal("--mount", word)


def test_tmpfs() -> None:
    assert mount("--tmpfs", "/x:ro,size=50%,mode=700,uid=5,noexec") == Mount(
        kind="tmpfs", target="/x", read_only=True, options=("size=50%", "mode=700", "uid=5", "noexec"), copy_up=True
    )
    assert mount("--tmpfs", "/x", "--tmpfs", "/x:size=1k").options == ("size=1k",)
    for bad in ("x", "/x:size=-1", "/x:mode=8", "/x:mpol=bind", "/x:size=1,,", "/"):
        assert "--tmpfs" in refusal("--tmpfs", bad)


def test_one_mount_for_each_target() -> None:
    assert "target already" in refusal("-v", "/tmp:/x", "-v", "/etc:/x/")
    assert "target already" in refusal("-v", "/tmp:/x", "--mount", "type=tmpfs,dst=/x")
    assert "target already" in refusal("-v", "/tmp:/x", "--tmpfs", "/x")


def test_image_volumes() -> None:
    of = image(volumes=("/data", "/var/log/../lib", "/x"))
    made = {m.target: m for m in spec("-v", "/tmp:/x", of=of).mounts}
    assert made["/x"].kind == "bind"
    assert made["/data"].anonymous
    assert set(made) == {"/data", "/var/lib", "/x"}
    assert "the image's volume" in refusal(of=image(volumes=("/",)))
    assert "the image's volume" in refusal(of=image(volumes=("data",)))


def test_volumes_of_the_site() -> None:
    from pyctl.engine.config import Config

    facts = FACTS.replace(defaults=Config(volumes=("/tmp:/x:ro", "/tmp:/y")))
    made = {m.target: m for m in spec("-v", "/etc:/x", facts=facts).mounts}
    assert made["/x"].source == "/etc"
    assert made["/y"].source == "/tmp"


def test_devices() -> None:
    assert spec("--device", "/dev/null").devices == (Device(source="/dev/null", target="/dev/null"),)
    assert spec("--device", "/dev/null:/dev/x:wr").devices[0] == Device(
        source="/dev/null", target="/dev/x", permissions="wr"
    )
    assert "mode decides" in refusal("--device", "/dev/null:/dev/x:r")
    assert spec("--device", "/dev/null:rw").devices[0].permissions == "rw"
    for bad in (
        "/dev/null:x",
        "/dev/nope",
        "/etc/hostname",
        "dev/null",
        "/dev/null:/a:rww",
        "/dev/null:/a:r:w",
        "/dev/null::",
    ):
        assert "--device" in refusal("--device", bad)


def test_volumes_of_another_container() -> None:
    made = spec("--volumes-from", "other:rw", "-v", "/etc:/data")
    assert {m.target: (m.kind, m.source, m.read_only) for m in made.mounts} == {
        "/data": ("bind", "/etc", False),  # the container's own comes first
        "/src": ("bind", "/usr", False),
    }
    assert made.volumes_from == ("other:rw",)
    assert {m.target: m.read_only for m in spec("--volumes-from", "other").mounts} == {"/data": False, "/src": True}
    assert "unknown option xx" in refusal("--volumes-from", "other:xx")
    assert "contradict" in refusal("--volumes-from", "other:ro,rw")
