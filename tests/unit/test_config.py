"""Configuration files: their order, their types, what is said of a mistake, and the cache."""

import os
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyctl.engine import config, config_parse
from pyctl.engine.config import Config
from rootless.errors import Error

UID = 1000


class Place:
    """A machine's configuration directories below one temporary directory."""

    def __init__(self, base):
        self.base = base
        self.etc, self.share, self.home = (str(base / name) for name in ("etc", "share", "home"))
        self.env = {"HOME": self.home}
        os.mkdir(self.home)

    def write(self, path, text):
        target = self.base / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return str(target)

    def load(self, uid=UID):
        return config.load(self.env, uid, self.etc, self.share)

    @property
    def config(self):
        return self.load().config


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


CONTAINERS = "[containers]\npids_limit = {}\n"
ORDER = [
    "share/containers/containers.conf",
    "etc/containers/containers.conf",
    "etc/containers/containers.conf.d/10-a.conf",
    "etc/containers/containers.conf.d/20-b.conf",
    "home/.config/containers/containers.conf",
    "home/.config/containers/containers.conf.d/a.conf",
    "etc/pyctl/pyctl.conf",
    "etc/pyctl/pyctl.conf.d/a.conf",
    "home/.config/pyctl/pyctl.conf",
    "home/.config/pyctl/pyctl.conf.d/a.conf",
]


def test_defaults_without_any_file(place):
    loaded = place.load()
    assert loaded.config == Config()
    assert loaded.files == ()
    assert config.sources(loaded) == ()


def test_later_files_win(place):
    for number, path in enumerate(ORDER, 1):
        written = place.write(path, CONTAINERS.format(number))
        loaded = place.load()
        assert loaded.config.pids_limit == number, path
        (source,) = config.sources(loaded)
        assert (source.key, source.value, source.origin) == ("containers.pids_limit", str(number), written)
    assert len(loaded.files) == len(ORDER)


def test_keys_of_different_files_are_joined(place):
    place.write(ORDER[0], '[containers]\npids_limit = 5\nlog_driver = "journald"\n')
    place.write(ORDER[4], '[containers]\npids_limit = 6\n[engine]\nruntime = "runc"\n')
    place.write(ORDER[8], 'limits = "warn"\n[engine]\nstop_timeout = 3\n')
    held = place.config
    assert (held.pids_limit, held.log_driver, held.runtime) == (6, "journald", "runc")
    assert (held.limits, held.stop_timeout_s) == ("warn", 3)


def test_variables_name_files(place):
    for number, path in enumerate(ORDER, 1):
        place.write(path, CONTAINERS.format(number))
    place.env["CONTAINERS_CONF"] = place.write("only.conf", "[containers]\npids_limit = 50\ninit = true\n")
    assert place.config.pids_limit == len(ORDER)  # pyctl.conf still stands above it
    assert place.config.init
    place.env["PYCTL_CONF"] = place.write("own.conf", 'limits = "warn"\n')
    assert place.config.pids_limit == 50
    place.env["CONTAINERS_CONF_OVERRIDE"] = place.write("over.conf", CONTAINERS.format(60))
    assert place.config.pids_limit == 60
    assert place.config.limits == "warn"
    place.env["PYCTL_CONF"] = "/nonexistent/pyctl.conf"
    with pytest.raises(Error, match=r"/nonexistent/pyctl\.conf: No such file") as error:
        place.load()
    assert "environment variable" in error.value.hint


def test_xdg_config_home(place):
    place.env["XDG_CONFIG_HOME"] = str(place.base / "xdg")
    place.write("home/.config/pyctl/pyctl.conf", 'limits = "nonsense"\n')
    place.write("xdg/pyctl/pyctl.conf", 'limits = "warn"\n')
    assert place.config.limits == "warn"


def test_lists_replace_or_append(place):
    place.write(ORDER[0], '[containers]\nenv = ["A=1"]\ndns_servers = ["1.1.1.1"]\n')
    place.write(ORDER[4], '[containers]\nenv = ["B=2", {append = true}]\ndns_servers = ["9.9.9.9"]\n')
    assert place.config.env == ("A=1", "B=2")
    assert place.config.dns_servers == ("9.9.9.9",)


def test_runtimes_are_joined_by_name(place):
    place.write(ORDER[0], '[engine.runtimes]\ncrun = ["/usr/bin/crun"]\nkata = ["/a", "/b"]\n')
    place.write(ORDER[4], '[engine.runtimes]\ncrun = ["/opt/crun"]\n')
    assert place.config.runtimes == {"crun": ("/opt/crun",), "kata": ("/a", "/b")}


@pytest.mark.parametrize(("text", "value"), [("65536k", 65536 << 10), ("1g", 1 << 30), ("2MB", 2 << 20), ("512", 512)])
def test_sizes(place, text, value):
    place.write(ORDER[0], f'[containers]\nshm_size = "{text}"\n')
    assert place.config.shm_size_bytes == value


BAD = [
    ("pids_limit = 'many'", "containers.pids_limit: expected a whole number, not 'many'"),
    ("pids_limit = true", "containers.pids_limit: expected a whole number"),
    ("pids_limit = 1.5", "containers.pids_limit: expected a whole number"),
    ("init = 1", "containers.init: expected true or false"),
    ("env = 'A=b'", "containers.env: expected a list of texts"),
    ("env = [1]", "containers.env: expected a list of texts"),
    ("env = [{prepend = true}]", "containers.env: expected a list of texts, with"),
    ("tz = 3", "containers.tz: expected a text in quotes"),
    ("tz = 'a\\u0000b'", "containers.tz"),
    ("shm_size = 'lots'", "containers.shm_size: expected a size"),
    ("shm_size = -1", "containers.shm_size: expected a size"),
    ("cgroups = 'sometimes'", "containers.cgroups: expected one of enabled, disabled"),
    ("seccomp_profile = 'here.json'", "containers.seccomp_profile: expected an absolute path"),
]


@pytest.mark.parametrize(("line", "message"), BAD, ids=[line.split(" =")[0] for line, _ in BAD])
def test_bad_values_name_file_and_key(place, line, message):
    text = line.replace("'a\\u0000b'", '"a\\u0000b"')
    for path in (ORDER[1], ORDER[8]):
        written = place.write(path, f"[containers]\n{text}\n")
        with pytest.raises(Error) as error:
            place.load()
        assert error.value.message.startswith(f"{written}: ")
        assert message in error.value.message
        assert "\n" not in error.value.message
        os.unlink(written)


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"a = ", "Invalid value"), (b"a = '\xff'", "not UTF-8"), (b"[containers\n", "("), (b"x" * (1 << 21), "larger")],
)
def test_broken_files_are_one_line(place, data, message):
    path = place.base / ORDER[4]
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    with pytest.raises(Error) as error:
        place.load()
    assert error.value.message.startswith(f"{path}: ")
    assert message in error.value.message
    assert "\n" not in error.value.message


def test_unknown_keys_are_an_error_in_our_own_file_only(place):
    foreign = "[containers]\nfuture_key = 1\n[engine]\nnum_locks = 2048\n[machine]\ncpus = 1\n[future]\na = 1\n"
    place.write(ORDER[1], foreign)
    assert place.config == Config()
    written = place.write(ORDER[8], 'limit = "warn"\n')
    with pytest.raises(Error, match=r"pyctl\.conf: unknown key 'limit'") as error:
        place.load()
    assert error.value.message.startswith(written)
    assert error.value.hint == "did you mean 'limits'?"
    for text in ("[containers]\npid_limit = 1\n", "[container]\npids_limit = 1\n", "containers = 3\n"):
        place.write(ORDER[8], text)
        with pytest.raises(Error, match=r"unknown key|expected a table"):
            place.load()


def test_our_own_keys_mean_nothing_in_containers_conf(place):
    place.write(ORDER[1], 'limits = "warn"\nroot = "/elsewhere"\n')
    assert place.config == Config()


def test_paths_are_expanded(place):
    place.env["XDG_RUNTIME_DIR"] = "/run/user/1000"
    place.write(ORDER[6], 'root = "/scratch/$UID/pyctl"\nrunroot = "${XDG_RUNTIME_DIR}/p"\nlocal_root = "~/x"\n')
    held = place.config
    assert (held.root, held.runroot, held.local_root) == (
        "/scratch/1000/pyctl",
        "/run/user/1000/p",
        f"{place.home}/x",
    )
    place.write(ORDER[6], 'root = "/scratch/$USER"\n')
    assert place.load(uid=0).config.root == "/scratch/root"
    assert place.load(uid=4_000_000).config.root == "/scratch/4000000"


def test_environment_stands_above_files(place):
    place.write(ORDER[8], 'root = "/a"\nstorage_driver = "fuse-overlayfs"\n')
    place.env.update(PYCTL_ROOT="/b", PYCTL_STORAGE_DRIVER="overlay")
    loaded = place.load()
    assert (loaded.config.root, loaded.config.storage_driver) == ("/b", "overlay")
    assert loaded.origins["root"] == "$PYCTL_ROOT"
    place.env["PYCTL_STORAGE_DRIVER"] = "zfs"
    with pytest.raises(Error, match=r"\$PYCTL_STORAGE_DRIVER: storage_driver: expected one of fuse-overlayfs, overlay"):
        place.load()


STORAGE = "[storage]\n{}\n"


def test_storage_conf_places_us_beside_the_other_engine(place):
    system, own = "etc/containers/storage.conf", "home/.config/containers/storage.conf"
    place.write(system, STORAGE.format('driver = "overlay"\ngraphroot = "/var/lib/containers/storage"'))
    assert place.config == Config()  # a distribution's default is no wish of this user
    place.write(system, STORAGE.format('graphroot = "/big/storage"\nrootless_storage_path = "/scratch/$UID/storage"'))
    assert place.config.root == "/scratch/1000/pyctl"
    assert place.load(uid=0).config.root == "/big/pyctl"
    place.write(own, STORAGE.format('driver = "overlay"\ngraphroot = "/mine/graph"'))
    assert place.config.root == "/mine/graph/pyctl"
    assert place.config.storage_driver == "overlay"
    program = '[storage.options.overlay]\nmount_program = "/usr/bin/fuse-overlayfs"'
    place.write(own, STORAGE.format('driver = "overlay"\n' + program))
    assert place.config.storage_driver == "fuse-overlayfs"
    assert place.config.root == ""  # the user's file takes the system's place
    place.write("etc/pyctl/pyctl.conf", 'root = "/set"\n')
    assert place.config.root == "/set"
    place.write(own, STORAGE.format("graphroot = 3"))
    with pytest.raises(Error, match=r"storage\.graphroot: expected a text"):
        place.load()


def test_cache_is_used_and_renewed(place, monkeypatch):
    place.write(ORDER[4], CONTAINERS.format(7))
    assert place.config.pids_limit == 7
    with monkeypatch.context() as patch:
        patch.setattr(config_parse, "read_all", lambda *_a: pytest.fail("parsed although nothing changed"))
        assert place.config.pids_limit == 7
    place.write(ORDER[4], CONTAINERS.format(8))
    os.utime(place.base / ORDER[4], ns=(1, 1))
    assert place.config.pids_limit == 8
    place.write(ORDER[5], CONTAINERS.format(9))
    assert place.config.pids_limit == 9
    os.unlink(place.base / ORDER[5])
    assert place.config.pids_limit == 8
    assert place.load(uid=7).config.pids_limit == 8


@pytest.mark.parametrize("damage", ["cut", "garbage", "writable", "empty"])
def test_a_damaged_cache_is_not_believed(place, damage):
    place.write(ORDER[4], CONTAINERS.format(7))
    assert place.config.pids_limit == 7
    (file,) = (place.base / "home/.cache/pyctl").iterdir()
    data = file.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o600
    if damage == "writable":
        file.write_bytes(data.replace(b"pids_limit\xe9\x07", b"pids_limit\xe9\x08"))
        file.chmod(0o666)
    else:
        file.write_bytes({"cut": data[:-9], "garbage": b"\xff" * 99, "empty": b""}[damage])
    assert place.config.pids_limit == 7


def test_environments_keep_their_caches_apart(place, monkeypatch):
    place.write(ORDER[4], CONTAINERS.format(7))
    for runtime in ("/run/user/1000", ""):
        place.env["XDG_RUNTIME_DIR"] = runtime
        assert place.config.pids_limit == 7
    monkeypatch.setattr(config_parse, "read_all", lambda *_a: pytest.fail("parsed although nothing changed"))
    for runtime in ("/run/user/1000", ""):
        place.env["XDG_RUNTIME_DIR"] = runtime
        place.env["PYCTL_ROOT"] = f"/a{runtime}"  # changes the settings, not what is kept
        assert place.config.root == f"/a{runtime}"


def test_no_home_means_no_cache(place):
    place.write(ORDER[1], CONTAINERS.format(7))
    del place.env["HOME"]
    assert place.config.pids_limit == 7
    assert not (place.base / "home/.cache").exists()
    assert config.cache_directory({"XDG_CACHE_HOME": "relative", "HOME": "/h"}) == "/h/.cache/pyctl"


def test_every_field_has_a_key_and_every_key_a_field():
    names = config_parse.key_names()
    assert set(names) == set(Config._defaults_)
    assert len(set(names.values())) == len(names)


def test_the_hot_path_imports_no_parser_and_is_quick(place):
    place.write(ORDER[4], CONTAINERS.format(7))
    place.load()
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from pyctl.engine import config\n"
        "times = []\n"
        "for _ in range(9):\n"
        "    start = time.perf_counter()\n"
        "    held = config.load({'HOME': sys.argv[2]}, 1000, sys.argv[3], sys.argv[4])\n"
        "    times.append(time.perf_counter() - start)\n"
        "assert held.config.pids_limit == 7\n"
        "print(min(times), *sorted(sys.modules))"
    )
    top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    argv = [sys.executable, "-I", "-S", "-c", script, top, place.home, place.etc, place.share]
    seconds, *modules = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    heavy = {"re", "tomllib", "tomli", "json", "typing", "pathlib", "dataclasses", "enum", "pyctl.engine.config_parse"}
    assert not heavy & set(modules)
    assert float(seconds) < 0.001


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_no_file_content_is_worse_than_one_line(tmp_path_factory, data):
    place = Place(tmp_path_factory.mktemp("c"))
    path = place.base / ORDER[8]
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    started = time.monotonic()
    said = f"{path}: "
    try:
        place.load()
    except Error as error:
        said = error.message
    assert said.startswith(f"{path}: ")
    assert time.monotonic() - started < 5
