"""registries.conf: short names, mirrors, rewriting, blocking; merged from several files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless.errors import Error
from storage.reference import parse
from storage.registries_conf import Source, find, load, local_candidates, record_alias, resolve, sources

SHA = "sha256:" + "0123456789abcdef" * 4


class Machine:
    """A system directory and a home, each with registries.conf and its drop-ins."""

    def __init__(self, folder: Path) -> None:
        self.system = folder / "etc"
        self.user = folder / "home/.config/containers"
        self.home = folder / "home"
        for place in (self.system, self.user):
            (place / "registries.conf.d").mkdir(parents=True)
        self.env = {"HOME": str(self.home)}

    def load(self, cache: str = ""):
        return load(self.env, cache, str(self.system))


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def names(found):
    return [str(candidate) for candidate in found]


def test_with_no_file_short_names_are_dockers(machine):
    conf = machine.load()
    assert names(resolve(conf, "alpine").candidates) == ["docker.io/library/alpine:latest"]
    assert names(local_candidates(conf, "a/b:1")) == ["localhost/a/b:1", "docker.io/a/b:1"]


def test_search_order_and_the_question(machine):
    (machine.system / "registries.conf").write_text(
        'unqualified-search-registries = ["quay.io", "example.com:5000/team"]'
    )
    found = resolve(machine.load(), "app:1")
    assert names(found.candidates) == ["quay.io/app:1", "example.com:5000/team/app:1"]
    assert found.ask
    assert names(local_candidates(machine.load(), "app")) == [
        "localhost/app:latest", "quay.io/app:latest", "example.com:5000/team/app:latest",
        "docker.io/library/app:latest",
    ]  # fmt: skip
    full = resolve(machine.load(), "quay.io/app")
    assert names(full.candidates) == ["quay.io/app:latest"]
    assert not full.ask


def test_an_empty_search_list_forbids_short_names(machine):
    (machine.system / "registries.conf").write_text("unqualified-search-registries = []")
    with pytest.raises(Error, match=r"short name 'app' has no alias, and .*/registries.conf searches no") as caught:
        resolve(machine.load(), "app")
    assert "docker.io/app" in caught.value.hint


def test_aliases(machine):
    (machine.system / "registries.conf").write_text('[aliases]\n"app" = "quay.io/org/app"\n"gone" = "quay.io/x"')
    (machine.user / "registries.conf.d/1.conf").write_text('[aliases]\n"gone" = ""')
    conf = machine.load()
    assert names(resolve(conf, "app:2").candidates) == ["quay.io/org/app:2"]
    assert names(resolve(conf, f"app@{SHA}").candidates) == [f"quay.io/org/app@{SHA}"]
    assert names(local_candidates(conf, "app"))[:2] == ["quay.io/org/app:latest", "localhost/app:latest"]
    assert names(resolve(conf, "gone").candidates) == ["docker.io/library/gone:latest"]
    disabled = conf.replace(short_name_mode="disabled")
    assert names(resolve(disabled, "app").candidates) == ["docker.io/library/app:latest"]


def test_the_users_file_replaces_the_systems_and_drop_ins_add(machine):
    (machine.system / "registries.conf").write_text('unqualified-search-registries = ["system.example"]')
    (machine.user / "registries.conf").write_text('unqualified-search-registries = ["user.example"]')
    (machine.system / "registries.conf.d/b.conf").write_text('short-name-mode = "enforcing"')
    (machine.system / "registries.conf.d/ignored").write_text("no toml")
    conf = machine.load()
    assert conf.search == ("user.example",)
    assert conf.short_name_mode == "enforcing"
    (machine.user / "registries.conf.d/c.conf").write_text('unqualified-search-registries = ["dropped.example"]')
    assert machine.load().search == ("dropped.example",)
    assert machine.load().search_origin.endswith("c.conf")


def test_the_environment_names_the_file(machine, tmp_path):
    (machine.system / "registries.conf").write_text('unqualified-search-registries = ["system.example"]')
    chosen = tmp_path / "mine.conf"
    chosen.write_text('unqualified-search-registries = ["mine.example"]')
    machine.env["CONTAINERS_REGISTRIES_CONF"] = str(chosen)
    assert machine.load().search == ("mine.example",)
    chosen.unlink()
    with pytest.raises(Error, match=r"mine\.conf, named by CONTAINERS_REGISTRIES_CONF"):
        machine.load()


def test_a_recorded_alias_is_found_again(machine):
    record_alias("app", parse("quay.io/org/app:1"), machine.env)
    record_alias("b", parse("quay.io/b"), machine.env)
    assert names(resolve(machine.load(), "app").candidates) == ["quay.io/org/app:latest"]
    assert names(resolve(machine.load(), "b").candidates) == ["quay.io/b:latest"]


MIRRORS = """
[[registry]]
prefix = "example.com/team"
location = "internal.example:5000/mirror-of/team"
insecure = true
[[registry.mirror]]
location = "fast.example/team"
insecure = true
[[registry.mirror]]
location = "digests.example/team"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "tags.example/team"
pull-from-mirror = "tag-only"
[[registry]]
location = "example.com"
mirror-by-digest-only = true
[[registry.mirror]]
location = "other.example"
[[registry]]
prefix = "*.blocked.example"
blocked = true
[[registry]]
prefix = "*.wild.example"
insecure = true
[[registry]]
prefix = "docker.io"
location = "hub.example"
"""


def test_mirrors_and_rewriting(machine):
    (machine.system / "registries.conf").write_text(MIRRORS)
    conf = machine.load()

    def places(text: str) -> list[tuple[str, bool]]:
        return [(str(s.reference), s.insecure) for s in sources(conf, parse(text))]

    assert places("example.com/team/app:1") == [
        ("fast.example/team/app:1", True), ("tags.example/team/app:1", False),
        ("internal.example:5000/mirror-of/team/app:1", True),
    ]  # fmt: skip
    assert [p for p, _ in places(f"example.com/team/app@{SHA}")] == [
        f"fast.example/team/app@{SHA}", f"digests.example/team/app@{SHA}",
        f"internal.example:5000/mirror-of/team/app@{SHA}",
    ]  # fmt: skip
    # The longest prefix counts, and it ends where a component does.
    assert places("example.com/teamx/app:1") == [("example.com/teamx/app:1", False)]
    assert [p for p, _ in places(f"example.com/x@{SHA}")] == [f"other.example/x@{SHA}", f"example.com/x@{SHA}"]
    assert places("example.com:5000/team/app:1") == [("example.com:5000/team/app:1", False)]
    assert places("alpine:3") == [("hub.example/library/alpine:3", False)]
    assert places("a.wild.example:99/x:1") == [("a.wild.example:99/x:1", True)]
    assert places("wild.example/x:1") == [("wild.example/x:1", False)]
    assert sources(conf, parse("example.com/team/app:1"))[0].mirror
    with pytest.raises(Error, match=r"\*\.blocked\.example is blocked"):
        places("a.b.blocked.example/x")
    assert find(conf, parse("unknown.example/x")) is None
    assert sources(conf, parse("unknown.example/x")) == (Source(reference=parse("unknown.example/x")),)


def test_the_old_format(machine):
    (machine.system / "registries.conf").write_text(
        '[registries.search]\nregistries = ["a.example"]\n[registries.insecure]\nregistries = ["i.example:5000"]\n'
        '[registries.block]\nregistries = ["b.example"]\n'
    )
    conf = machine.load()
    assert conf.search == ("a.example",)
    assert sources(conf, parse("i.example:5000/x"))[0].insecure
    with pytest.raises(Error, match="blocked"):
        sources(conf, parse("b.example/x"))


@pytest.mark.parametrize(
    "text",
    [
        "= broken", 'unqualified-search-registries = "quay.io"', "unqualified-search-registries = [1]",
        'unqualified-search-registries = ["https://quay.io"]', 'unqualified-search-registries = ["../x"]',
        'short-name-mode = "perhaps"', 'aliases = "x"', '[aliases]\n"a" = 1', '[aliases]\n"a" = "q.io/x:tag"',
        '[[registry]]\ninsecure = true', '[[registry]]\nlocation = "a b"', '[[registry]]\nlocation = 5',
        '[[registry]]\nlocation = "q.io"\nblocked = "yes"', 'registry = "x"',
        '[[registry]]\nlocation="q.io"\nmirror="x"',
        '[[registry]]\nlocation = "q.io"\n[[registry.mirror]]\nlocation = "m.io"\npull-from-mirror = "never"',
        '[[registry]]\nlocation = "q.io"\n[[registry.mirror]]\ninsecure = true', "[registries]\nsearch = 5", "\xff",
    ],
)  # fmt: skip
def test_malformed_files_are_named(machine, text):
    path = machine.system / "registries.conf"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(Error) as caught:
        machine.load()
    assert "registries.conf" in caught.value.message
    assert len((caught.value.message + caught.value.hint).splitlines()) == 1


def test_the_cache_is_used_and_follows_changes(machine, tmp_path):
    path = machine.system / "registries.conf"
    path.write_text(MIRRORS)
    cache = str(tmp_path / "cache")
    fresh = machine.load(cache)
    assert fresh == machine.load(cache) == machine.load()
    held = os.stat(path)
    # The same stamp with other content: only the cache can still give the old one.
    path.write_text(MIRRORS.replace("fast.example", "slow.example"))
    os.utime(path, ns=(held.st_mtime_ns, held.st_mtime_ns))
    assert machine.load(cache) == fresh
    os.utime(path, ns=(held.st_mtime_ns + 1, held.st_mtime_ns + 1))
    assert machine.load(cache) != fresh
    Path(cache).write_text("garbage\n{")
    assert machine.load(cache) == machine.load()
