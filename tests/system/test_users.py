"""User namespaces of a container's own: keep-id, auto, nomap, written maps."""

from __future__ import annotations

import os
import pwd

import pytest

from tests.support.engine import IS_PODMAN, Engine

SHOW = ["sh", "-c", "id -u; id -g; stat -c '%u %g' /bin/busybox /etc"]


def test_keep_id(engine: Engine) -> None:
    uid, gid = str(os.getuid()), str(os.getgid())
    out = engine("run", "--rm", "--userns=keep-id", "busybox", *SHOW).out
    assert out == f"{uid}\n{gid}\n0 0\n0 0\n"
    out = engine("run", "--rm", "--userns=keep-id", "-u", "0", "busybox", "id", "-u").line
    assert out == "0"


def test_keep_id_of_another_id(engine: Engine) -> None:
    assert engine("run", "--rm", "--userns=keep-id:uid=200,gid=210", "busybox", *SHOW).out.startswith("200\n210\n0 0\n")


def test_keep_id_files_belong_to_the_caller(engine: Engine) -> None:
    folder = engine.home / "kept"
    folder.mkdir(exist_ok=True)
    engine("run", "--rm", "--userns=keep-id", "-v", f"{folder}:/data", "busybox", "touch", "/data/mine")
    assert (folder / "mine").stat().st_uid == os.getuid()


def test_keep_id_has_the_caller_in_passwd(engine: Engine) -> None:
    name = engine("run", "--rm", "--userns=keep-id", "busybox", "id", "-un").line
    assert name == pwd.getpwuid(os.getuid()).pw_name
    assert engine("run", "--rm", "--userns=keep-id:uid=1000,gid=1000", "busybox", "id", "-un").line == "web"
    assert engine("run", "--rm", "--userns=keep-id", "-u", "77", "busybox", "id", "-un").line == "77"
    assert engine("run", "--rm", "--userns=keep-id", "busybox", "sh", "-c", "echo $HOME").line.startswith("/")


def test_auto_gives_other_ids(engine: Engine) -> None:
    out = engine("run", "--rm", "--userns=auto", "busybox", "cat", "/proc/self/uid_map").out.split()
    assert out[0] == "0"
    assert int(out[1]) != os.getuid()
    assert (
        engine("run", "--rm", "--userns=auto:size=2048", "busybox", "sh", "-c", "id -u; stat -c %u /etc").out
        == "0\n0\n"
    )


def test_nomap_hides_the_caller(engine: Engine) -> None:
    rows = engine("run", "--rm", "--userns=nomap", "busybox", "cat", "/proc/self/uid_map").out.splitlines()
    assert str(os.getuid()) not in [row.split()[1] for row in rows]


def test_written_maps(engine: Engine) -> None:
    maps = ["--uidmap", "0:1:1000", "--uidmap", "1000:0:1", "--gidmap", "0:1:1000", "--gidmap", "1000:0:1"]
    assert engine("run", "--rm", *maps, "-u", "1000", "busybox", *SHOW).out.startswith("1000\n1000\n0 0\n")


@pytest.mark.parametrize("value", ["nosuch", "keep-id:uid=x", "keep-id:size=1", "container:absent"])
def test_bad_values(engine: Engine, value: str) -> None:
    result = engine("run", "--rm", f"--userns={value}", "busybox", "true", status=125)
    assert result.err


@pytest.mark.parametrize("mode", ["auto", "nomap", "keep-id"])
@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_binds_where_the_container_root_is_a_stranger(engine: Engine, mode: str, runtime: str) -> None:
    """The caller's home is closed (0700), and the container's root is some other id."""
    folder = engine.home / f"open-{mode}-{runtime}"
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text("here\n")
    options = ["--runtime", runtime, "run", "--rm", f"--userns={mode}"]
    assert engine(*options, "-v", f"{folder}:/data", "busybox", "cat", "/data/file").out == "here\n"
    assert engine(*options, "-v", f"{folder}/file:/data", "busybox", "cat", "/data").out == "here\n"
    assert (
        engine(*options, "-v", f"{mode}-{runtime}:/data", "busybox", "sh", "-c", "echo x > /data/x && cat /data/x").out
        == "x\n"
    )
    # The closed directory itself, and one that holds it, with what is really in them.
    inner = engine.home / "with a place"
    inner.mkdir(mode=0o755, exist_ok=True)
    for source, target in ((engine.home, "/data"), ("/mnt", "/data"), (engine.base, "/data")):
        seen = engine(*options, "-v", f"{source}:{target}", "busybox", "stat", "-c", "%a %i", target).line
        info = os.stat(source)
        assert seen == f"{info.st_mode & 0o7777:o} {info.st_ino}"


@pytest.mark.parametrize("mode", ["auto", "keep-id"])
def test_sys_shows_the_own_network(engine: Engine, mode: str) -> None:
    assert engine("run", "--rm", f"--userns={mode}", "--network=none", "busybox", "ls", "/sys/class/net").out == "lo\n"


def test_standard_streams_belong_to_the_user(engine: Engine) -> None:
    script = "echo out > /dev/stdout; echo err > /dev/stderr"
    for options in (["--userns=keep-id"], ["--userns=auto", "-u", "web"], ["-u", "web"]):
        result = engine("run", "--rm", *options, "busybox", "sh", "-c", script)
        assert (result.out, result.err) == ("out\n", "err\n")
    engine("run", "-d", "--name", "c", "--userns=keep-id", "busybox", "sleep", "1000")
    for options in ([], ["-u", "web"]):
        result = engine("exec", *options, "c", "sh", "-c", script)
        assert (result.out, result.err) == ("out\n", "err\n")


@pytest.mark.skipif(IS_PODMAN, reason="the words are pyctl's")
def test_ids_that_are_not_mapped(engine: Engine) -> None:
    assert (
        "1000 (web)" in engine("run", "--rm", "--userns=auto:size=10", "-u", "web", "busybox", "true", status=126).err
    )
    assert "9999999" in engine("run", "--rm", "--group-add", "9999999", "busybox", "true", status=126).err
    engine("run", "-d", "--name", "c", "--userns=auto:size=10", "busybox", "sleep", "1000")
    assert "1000 (web)" in engine("exec", "-u", "web", "c", "true", status=126).err


def test_groups_of_the_image_that_are_not_mapped_are_left_out(engine: Engine) -> None:
    assert engine("run", "--rm", "-u", "web", "busybox", "id", "-G").line == "1000 1234"
    assert engine("run", "--rm", "--userns=auto:size=1001", "-u", "web", "busybox", "id", "-G").line == "1000"


def test_bad_maps(engine: Engine) -> None:
    for value in ("0:0:0", "a:b:c", "0:99999999:10", "-1:0:1"):
        engine("run", "--rm", "--uidmap", value, "busybox", "true", status=125)


def test_keep_groups(engine: Engine) -> None:
    engine("run", "--rm", "--group-add", "keep-groups", "busybox", "true")


def test_files_of_many_ids(engine: Engine) -> None:
    script = "touch /f; for id in 0 1 1000 65534; do chown $id:$id /f && stat -c %u:%g /f; done"
    assert engine("run", "--rm", "busybox", "sh", "-c", script).out == "0:0\n1:1\n1000:1000\n65534:65534\n"


def test_unshare(engine: Engine) -> None:
    assert engine("unshare", "id", "-u").line == "0"
    rows = engine("unshare", "cat", "/proc/self/uid_map").out.splitlines()
    assert rows[0].split() == ["0", str(os.getuid()), "1"]
    engine("unshare", "sh", "-c", "exit 6", status=6)
    engine("unshare", "nosuchprogram", status=None)


def test_lines_in_passwd_and_group(engine: Engine) -> None:
    def files(*options: str) -> str:
        words = ["run", "--rm", "--network=none", "--user", "1234:55", *options]
        return engine(*words, "busybox", "sh", "-c", "tail -n 1 /etc/passwd; tail -n 1 /etc/group").out

    assert files() == "1234:*:1234:55:container user:/:/bin/sh\n55:x:55:\n"
    own = ["--passwd-entry", "me:x:$UID:$GID:$NAME:/home/$USERNAME:/bin/ash", "--group-entry", "us:x:$GID:me"]
    assert files(*own) == "me:x:1234:55:container user:/home/1234:/bin/ash\nus:x:55:me\n"
    assert files("--passwd=false") == engine("run", "--rm", "--network=none", "busybox", "sh", "-c",
                                             "tail -n 1 /etc/passwd; tail -n 1 /etc/group").out  # fmt: skip
