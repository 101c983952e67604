"""The default profile's decisions, a profile's resolution, the compiled program and its cache."""

import base64
import ctypes
import json
import os
import time

import pytest

from rootless import capabilities, seccomp, seccomp_compile, seccomp_profile
from rootless.errors import LaunchError
from tests.support.bpf import ALLOW, ERRNO, run

X86_64, X86, X32_BIT = 0xC000003E, 0x40000003, 0x40000000
SCMP_X86_64, SCMP_X86 = 0xC000003E, 0x40000003

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="call numbers of x86-64")


@pytest.fixture(scope="module")
def library():
    return seccomp_compile._load()


@pytest.fixture(scope="module")
def number(library):
    def look_up(name, arch=SCMP_X86_64):
        if (name, arch) == ("socket", SCMP_X86):
            return 359  # the library's own number stands for socketcall's subcall
        value = library.seccomp_syscall_resolve_name_arch(ctypes.c_uint32(arch), name.encode())
        assert value >= 0, name
        return value

    return look_up


def program(held=capabilities.DEFAULT, path=seccomp.BUILT_IN):
    return seccomp_compile.compile_filter(seccomp.linux_seccomp(path, held))[0]


@pytest.fixture(scope="module")
def default():
    return program()


# --- the default profile -----------------------------------------------------------------------


def test_every_call_of_the_library_is_decided(library):
    library.seccomp_syscall_resolve_num_arch.restype = ctypes.c_void_p
    library.free = ctypes.CDLL(None).free
    decided = set(seccomp_profile.PERSONALITIES and {"personality", "socket"})
    for table in (seccomp_profile.ALLOWED, seccomp_profile.REFUSED, seccomp_profile.ABSENT):
        for names in table.values():
            decided.update(names.split())
    for _capabilities, names in seccomp_profile.GATED:
        decided.update(names.split())
    known = set()
    for arch in (SCMP_X86_64, SCMP_X86, 0xC00000B7, 0x40000028, 0xC00000F3, 0xC0000015, 0x80000016):
        for n in (*range(700), *range(0xF0000, 0xF0010)):
            text = library.seccomp_syscall_resolve_num_arch(ctypes.c_uint32(arch), ctypes.c_int(n))
            if text:
                known.add(ctypes.string_at(text).decode())
                library.free(ctypes.c_void_p(text))
    assert len(known) > 400
    assert sorted(known - decided) == []


def test_no_call_is_in_two_groups():
    seen: dict[str, str] = {}
    tables = [*seccomp_profile.ALLOWED.items(), *seccomp_profile.REFUSED.items(), *seccomp_profile.ABSENT.items()]
    tables += [(" ".join(c), names) for c, names in seccomp_profile.GATED]
    for group, names in tables:
        for name in names.split():
            assert name not in seen, (name, group, seen[name])
            seen[name] = group


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("read", ALLOW),
        ("clone3", ALLOW),
        ("unshare", ALLOW),
        ("mount", ALLOW),
        ("ptrace", ALLOW),
        ("futex_waitv", ALLOW),
        ("kexec_load", ERRNO | 1),
        ("userfaultfd", ERRNO | 1),
        ("vmsplice", ERRNO | 1),
        ("swapon", ERRNO | 1),
        ("bpf", ERRNO | 1),
        ("perf_event_open", ERRNO | 1),
        ("open_by_handle_at", ERRNO | 1),
        ("init_module", ERRNO | 1),
        ("syslog", ERRNO | 1),
        ("io_uring_setup", ERRNO | 38),
        ("add_key", ERRNO | 38),
        ("chroot", ALLOW),  # CAP_SYS_CHROOT is in the default set
    ],
)
def test_default_answers(default, number, name, answer):
    assert run(default, X86_64, number(name)) == answer
    assert run(default, X86, number(name, SCMP_X86)) == answer


def test_a_call_of_the_future_does_not_exist(default):
    assert run(default, X86_64, 2000) == ERRNO | 38
    assert run(default, X86, 2000) == ERRNO | 38


def test_a_foreign_architecture_is_killed(default):
    assert run(default, 0xC00000B7, 0) not in (ALLOW,)


@pytest.mark.parametrize("gate", seccomp_profile.GATED, ids=lambda g: "+".join(g[0]))
def test_gates_open_with_each_of_their_capabilities(gate, number):
    needed, names = gate
    calls = [n for n in names.split() if seccomp_compile._load().seccomp_syscall_resolve_name(n.encode()) >= 0]
    assert calls or names == "stime"
    shut = program(tuple(c for c in capabilities.NAMES if c not in needed))
    for name in calls:
        assert run(shut, X86_64, number(name)) == ERRNO | 1, name
    for capability in needed:
        opened = program((capability,))
        for name in calls:
            assert run(opened, X86_64, number(name)) == ALLOW, name


def test_personality_by_value(default, number):
    call = number("personality")
    for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF):
        assert run(default, X86_64, call, (value,)) == ALLOW
    for value in (0x0400000, 0x0040000, 1, 0x1_0000_0000):
        assert run(default, X86_64, call, (value,)) != ALLOW, hex(value)


SOCKET_CASES = [(family, protocol) for family in range(70) for protocol in (0, 9, 31)]


@pytest.mark.parametrize("held", [capabilities.DEFAULT, (*capabilities.DEFAULT, "CAP_AUDIT_WRITE")])
@pytest.mark.parametrize(("arch", "scmp"), [(X86_64, SCMP_X86_64), (X86, SCMP_X86)])
def test_socket_families(held, arch, scmp, number):
    filter_, call = program(held), number("socket", scmp)
    for family, protocol in SOCKET_CASES:
        got = run(filter_, arch, call, (family, 1, protocol))
        if family in (38, 40):
            expected = ERRNO | 97
        elif family == 16 and protocol == 9 and "CAP_AUDIT_WRITE" not in held:
            expected = ERRNO | 22
        elif family >= 64:
            expected = ERRNO | 38
        else:
            expected = ALLOW
        assert got == expected, (family, protocol)


def test_socket_rules_look_at_all_64_bits(default, number):
    call = number("socket")
    for family in (38, 40, 2):
        assert run(default, X86_64, call, (0x1_0000_0000 | family, 1, 0)) != ALLOW
    assert run(default, X86_64, call, (16, 3, 0x1_0000_0009)) != ALLOW
    # the kernel reads an int: the sign bits of a C caller must not open anything either
    assert run(default, X86_64, call, (0xFFFFFFFF_00000028, 1, 0)) != ALLOW


def test_socketcall_stays_open_to_32_bit_programs(default):
    # C libraries for i386 make every socket through it; its arguments can't be filtered
    for subcall in range(1, 21):
        assert run(default, X86, 102, (subcall,)) == ALLOW, subcall


def test_a_tree_says_the_same_as_a_list(library, number):
    section = seccomp.linux_seccomp(seccomp.BUILT_IN, capabilities.DEFAULT)
    tree = seccomp_compile.compile_filter(section)[0]
    saved = seccomp_compile._BINARY_TREE
    try:
        seccomp_compile._BINARY_TREE = 1  # libseccomp: rules in order of priority
        plain = seccomp_compile.compile_filter(section)[0]
    finally:
        seccomp_compile._BINARY_TREE = saved
    assert tree != plain
    for arch, base in ((X86_64, 0), (X86_64, X32_BIT), (X86, 0)):
        for n in range(600):
            for args in ((), (16, 0, 9), (40,), (38,), (8,), (0xFFFFFFFF,)):
                assert run(tree, arch, base + n, args) == run(plain, arch, base + n, args), (arch, base, n, args)


# --- resolution of a site's profile ----------------------------------------------------------------


def write(tmp_path, tree):
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(tree))
    return str(path)


def test_conditions_of_a_profile(tmp_path, number):
    allow = {"action": "SCMP_ACT_ALLOW"}
    tree = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrno": "ENOSYS",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["read"], **allow},
            {"name": "write", **allow},
            {"names": ["chroot"], **allow, "includes": {"caps": ["CAP_SYS_CHROOT"]}},
            {"names": ["acct"], **allow, "includes": {"caps": ["CAP_SYS_PACCT"]}},
            {"names": ["getpid"], **allow, "excludes": {"caps": ["CAP_SYS_CHROOT"]}},
            {"names": ["getuid"], **allow, "includes": {"arches": ["arm64"]}},
            {"names": ["getgid"], **allow, "includes": {"arches": ["arm64", "amd64"]}},
            {"names": ["geteuid"], **allow, "includes": {"minKernel": "999.0"}},
            {"names": ["getegid"], **allow, "includes": {"minKernel": "4.8"}},
            {"names": ["no_such_call_of_any_kernel"], **allow},
            {"names": ["swapon"], "action": "SCMP_ACT_ERRNO", "errno": "EACCES"},
        ],
    }
    section = seccomp.linux_seccomp(write(tmp_path, tree), capabilities.DEFAULT)
    assert section["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert section["defaultErrnoRet"] == 38
    filter_ = seccomp_compile.compile_filter(section)[0]
    allowed = {"read", "write", "chroot", "getgid", "getegid"}
    for name in ("read", "write", "chroot", "acct", "getpid", "getuid", "getgid", "geteuid", "getegid", "open"):
        expected = ALLOW if name in allowed else ERRNO | 38
        assert run(filter_, X86_64, number(name)) == expected, name
    assert run(filter_, X86_64, number("swapon")) == ERRNO | 13


def test_one_argument_twice_means_either(tmp_path, number):
    def equal(value):
        return {"index": 0, "op": "SCMP_CMP_EQ", "value": value, "valueTwo": 0}

    rule = {"names": ["close"], "action": "SCMP_ACT_ALLOW", "args": [equal(3), equal(5)]}
    path = write(tmp_path, {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]})
    filter_ = program(path=path)
    assert [run(filter_, X86_64, number("close"), (n,)) == ALLOW for n in (3, 4, 5)] == [True, False, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "profile.json: Expecting"),
        ("[]", "no defaultAction"),
        ('{"defaultAction": 3}', "no defaultAction"),
        ('{"defaultAction": "SCMP_ACT_SHRUG"}', "unknown action"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{}]}', "malformed rule"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": 7}', "malformed rule"),
        ('{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "EWHAT"}', "unknown errno"),
        ("\udcff", "profile.json"),
    ],
)
def test_a_broken_profile_is_one_line(tmp_path, text, message):
    path = tmp_path / "profile.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(LaunchError) as error:
        seccomp.compiled(str(path), capabilities.DEFAULT, str(tmp_path / "cache"))
    assert message in error.value.message
    assert "\n" not in error.value.message


def test_a_missing_profile_names_the_file(tmp_path):
    with pytest.raises(LaunchError, match=r"absent\.json: No such file"):
        seccomp.compiled(f"{tmp_path}/absent.json", (), str(tmp_path))


def test_site_profile_order(tmp_path):
    etc = tmp_path / "seccomp.json"
    assert seccomp.site_profile(str(tmp_path), ("~/own.json", str(etc))) == seccomp.BUILT_IN
    etc.write_text("{}")
    assert seccomp.site_profile(str(tmp_path), ("~/own.json", str(etc))) == str(etc)
    (tmp_path / "own.json").write_text("{}")
    assert seccomp.site_profile(str(tmp_path), ("~/own.json", str(etc))) == f"{tmp_path}/own.json"
    assert seccomp.site_profile("", ("~/own.json", str(etc))) == str(etc)


# --- the cache ---------------------------------------------------------------------------------


def test_cache_hit_is_the_same_and_quick(tmp_path):
    cache = str(tmp_path / "cache")
    first = seccomp.compiled("", capabilities.DEFAULT, cache)
    assert base64.b64decode(first) == program()
    assert os.stat(cache).st_mode & 0o777 == 0o700
    best = 1.0
    for _ in range(20):
        start = time.perf_counter()
        assert seccomp.compiled("", capabilities.DEFAULT, cache) == first
        best = min(best, time.perf_counter() - start)
    assert best < 0.002
    assert len(os.listdir(cache)) == 1


def test_cache_distinguishes_capabilities_and_profiles(tmp_path):
    cache = str(tmp_path / "cache")
    profile = write(tmp_path, {"defaultAction": "SCMP_ACT_ALLOW"})
    texts = [
        seccomp.compiled("", capabilities.DEFAULT, cache),
        seccomp.compiled("", (*capabilities.DEFAULT, "CAP_SYS_ADMIN"), cache),
        seccomp.compiled(profile, capabilities.DEFAULT, cache),
    ]
    assert len(set(texts)) == 3
    assert texts == [
        seccomp.compiled("", capabilities.DEFAULT, cache),
        seccomp.compiled("", (*capabilities.DEFAULT, "CAP_SYS_ADMIN"), cache),
        seccomp.compiled(profile, capabilities.DEFAULT, cache),
    ]


def test_a_changed_profile_is_compiled_again(tmp_path):
    cache = str(tmp_path / "cache")
    path = write(tmp_path, {"defaultAction": "SCMP_ACT_ALLOW"})
    before = seccomp.compiled(path, (), cache)
    write(tmp_path, {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []})
    assert seccomp.compiled(path, (), cache) != before


@pytest.mark.parametrize("damage", ["cut", "flip", "writable", "library", "link"])
def test_a_cache_file_that_is_not_ours_or_whole_is_not_used(tmp_path, damage):
    cache = tmp_path / "cache"
    good = seccomp.compiled("", capabilities.DEFAULT, str(cache))
    (file,) = cache.iterdir()
    data = file.read_bytes()
    if damage == "cut":
        file.write_bytes(data[:-100])
    elif damage == "flip":
        file.write_bytes(data[:-100] + (b"AAAA" if data[-100:-96] != b"AAAA" else b"BBBB") + data[-96:])
    elif damage == "library":
        file.write_bytes(data.replace(b"/libseccomp.so", b"/libother.so", 1))
    elif damage == "writable":
        file.chmod(0o666)
    elif damage == "link":
        other = tmp_path / "elsewhere"
        other.write_bytes(data)
        file.unlink()
        file.symlink_to(other)
    key = data.split(b"\n", 1)[0].decode().rpartition("\t")[0]
    assert seccomp._cached(str(file), key) is None
    assert seccomp.compiled("", capabilities.DEFAULT, str(cache)) == good
    assert seccomp._cached(str(file), key) == good
    assert not file.is_symlink()


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path):
    (tmp_path / "file").write_text("")
    said = []
    assert seccomp.compiled("", capabilities.DEFAULT, f"{tmp_path}/file/cache", said.append)
    assert "seccomp cache" in said[0]


def test_a_listener_or_flags_are_left_to_the_runtime(tmp_path):
    for extra in ({"flags": ["SECCOMP_FILTER_FLAG_LOG"]}, {"defaultAction": "SCMP_ACT_NOTIFY"}):
        said: list[str] = []
        path = write(tmp_path, {"defaultAction": "SCMP_ACT_ALLOW", **extra})
        assert seccomp.compiled(path, (), str(tmp_path / "cache"), said.append) is None
        assert said
