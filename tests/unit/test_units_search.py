"""Which files are sources, which drop-ins belong to them, and who wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyctl.units import search
from pyctl.units.world import world_of
from tests.support.units import lines, services, told, write


def test_the_search_path() -> None:
    environ = {"HOME": "/home/me", "XDG_RUNTIME_DIR": "/run/user/7"}
    assert search.search_path(environ, 7) == (
        "/run/user/7/containers/systemd",
        "/home/me/.config/containers/systemd",
        "/etc/containers/systemd/users/7",
        "/etc/containers/systemd/users",
    )
    assert search.search_path({**environ, "XDG_CONFIG_HOME": "/c"}, 7)[1] == "/c/containers/systemd"
    assert search.search_path(environ, 0)[1] == "/etc/containers/systemd"
    assert search.search_path({"QUADLET_UNIT_DIRS": "/a:/b:rel"}, 7) == ("/a", "/b")


@pytest.mark.parametrize(
    ("stem", "names"),
    [
        ("foo", ["container.d", "foo.container.d"]),
        ("a-b-c", ["container.d", "a-.container.d", "a-b-.container.d", "a-b-c.container.d"]),
        ("foo@", ["container.d", "foo@.container.d"]),
        ("a-b@one", ["container.d", "a-.container.d", "a-b@.container.d", "a-b@one.container.d"]),
    ],
)
def test_drop_in_folders(stem: str, names: list[str]) -> None:
    assert search.drop_in_names(stem, "container") == names


def test_files_below_folders_links_and_masks(tmp_path: Path) -> None:
    strong, weak = tmp_path / "strong", tmp_path / "weak"
    write(strong, {"a.container": "", "sub/deep/b.volume": "", "x.txt": "", "a.container.d/n.container": ""})
    write(weak, {"a.container": "", "c.network": "", "m.pod": ""})
    (strong / "c.network").symlink_to("/dev/null")
    (strong / "d@one.container").symlink_to("a.container")
    (strong / "loop").symlink_to(".")
    (strong / "linked").symlink_to(tmp_path / "elsewhere")
    write(tmp_path / "elsewhere", {"e.image": ""})
    found, folders, _ = search.find([str(strong), str(weak)])
    assert found == {
        "a.container": f"{strong}/a.container",
        "b.volume": f"{strong}/sub/deep/b.volume",
        "d@one.container": f"{strong}/d@one.container",
        "e.image": f"{strong}/linked/e.image",
        "m.pod": f"{weak}/m.pod",
    }
    assert f"{strong}/a.container.d" not in folders
    assert search.find([str(tmp_path / "nowhere")])[0] == {}


def test_users_folders_of_the_administrator(tmp_path: Path) -> None:
    root = tmp_path / "etc/containers/systemd"
    write(
        root, {"root.container": "", "users/all.container": "", "users/7/seven.container": "", "users/g/g.volume": ""}
    )
    path = search.search_path({"HOME": str(tmp_path)}, 7, etc=f"{tmp_path}/etc")
    assert set(search.find(path)[0]) == {"all.container", "seven.container", "g.volume"}
    path = search.search_path({}, 0, etc=f"{tmp_path}/etc", share=f"{tmp_path}/share")
    assert set(search.find(path)[0]) == {"root.container"}


def test_drop_ins_are_merged_by_name_and_the_nearest_wins(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "a-b.container": "[Container]\nImage=x.org/base\nLabel=l=0\n",
            "container.d/10.conf": "[Container]\nLabel=l=type\n",
            "a-.container.d/10.conf": "[Container]\nLabel=l=prefix\n",
            "a-b.container.d/20.conf": "[Container]\nImage=x.org/other\n",
            "a-b.container.d/30.conf": "[Container]\nLabel=\nLabel=only=1\n",
            "a-b.container.d/40.txt": "[Container]\nImage=x.org/no\n",
        },
    )
    made = services(tmp_path)["a-b.service"]
    assert [p.replace(f"{tmp_path}/", "") for p in made.source.drop_ins] == [
        "a-.container.d/10.conf",
        "a-b.container.d/20.conf",
        "a-b.container.d/30.conf",
    ]
    (command,) = lines(made, "Service", "ExecStart")
    assert command.endswith(" --label only=1 x.org/other")


def test_of_two_folders_the_stronger_has_the_drop_in(tmp_path: Path) -> None:
    write(tmp_path / "strong", {"a.container.d/1.conf": "[Container]\nLabel=l=strong\n"})
    drop_in = "[Container]\nLabel={}=weak\n"
    weak = {"a.container.d/1.conf": drop_in.format("l"), "a.container.d/0.conf": drop_in.format("m")}
    write(tmp_path / "weak", {**weak, "a.container": "[Container]\nImage=x.org/a\n"})
    world, _ = world_of([f"{tmp_path}/strong", f"{tmp_path}/weak"], ["/usr/bin/pyctl"])
    source = world.source("a.container")
    assert source is not None
    assert [e.value for e in source.unit.entries("Container") if e.key == "Label"] == ["m=weak", "l=strong"]


def test_problems_name_the_drop_in(tmp_path: Path) -> None:
    write(tmp_path, {"a.container": "[Container]\nImage=x.org/a\n", "a.container.d/1.conf": "[Container]\n\nNope=1\n"})
    assert told(services(tmp_path)["a.service"], tmp_path) == [
        "a.container.d/1.conf:3: unknown key Nope= in [Container]"
    ]


def test_templates_and_their_instances(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "t@.container": "[Container]\nImage=x.org/a\n[Install]\nWantedBy=default.target\n",
            "t@two.container.d/1.conf": "[Container]\nImage=x.org/two\n",
            "d@.container": "[Container]\nImage=x.org/a\n[Install]\nWantedBy=default.target\nDefaultInstance=9\n",
        },
    )
    (tmp_path / "t@two.container").symlink_to("t@.container")
    made = services(tmp_path)
    assert set(made) == {"t@.service", "t@two.service", "d@.service"}
    assert made["t@.service"].links == ()
    assert made["t@two.service"].links == (("default.target.wants/t@two.service", "../t@two.service"),)
    assert made["d@.service"].links == (("default.target.wants/d@9.service", "../d@.service"),)
    assert "--name systemd-%p_%i " in lines(made["t@.service"], "Service", "ExecStart")[0]
    assert lines(made["t@two.service"], "Service", "ExecStart")[0].endswith(" x.org/two")


def test_a_fifo_and_an_unreadable_file_hold_nobody_up(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "p.container")
    (tmp_path / "gone.container").symlink_to("nowhere")
    made = services(tmp_path)
    assert "cannot be read: No such file" in told(made["gone.service"], tmp_path)[0]
    assert not made["p.service"].is_good
