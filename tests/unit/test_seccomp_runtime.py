"""The compiled filter in force under a real runtime, against what runtimes make of the same profile themselves."""

import base64
import json
import os
import shutil
import subprocess

import pytest

from rootless import capabilities, seccomp
from tests.support.bpf import run
from tests.support.requirements import missing

pytestmark = [
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="call numbers of x86-64"),
    pytest.mark.skipif(not shutil.which("crun"), reason="crun is not installed"),
    pytest.mark.skipif(
        not os.path.islink("/lib"), reason="needs a merged /usr to run the host's Python in a container"
    ),
]

# Calls that do no harm where they are allowed: bad descriptors, null pointers, invalid flags.
PROBES = [
    ("kexec_load", 246, 0, 0, 0, 0xFFFF),
    ("userfaultfd", 323, 0xFFFF),
    ("vmsplice", 278, -1, 0, 0, 0),
    ("swapon", 167, 0, 0),
    ("bpf", 321, 9999, 0, 0),
    ("perf_event_open", 298, 0, 0, 0, 0, 0),
    ("open_by_handle_at", 304, -1, 0, 0),
    ("init_module", 175, 0, 0, 0),
    ("syslog", 103, 99, 0, 0),
    ("io_uring_setup", 425, 0, 0),
    ("add_key", 248, 0, 0, 0, 0, 0),
    ("keyctl", 250, 9999, 0, 0),
    ("chroot", 161, 0),
    ("acct", 163, 1),
    ("personality: query", 135, 0xFFFFFFFF),
    ("personality: READ_IMPLIES_EXEC", 135, 0x400000),
    ("socket: inet", 41, 2, 1, 0),
    ("socket: unix", 41, 1, 1, 0),
    ("socket: netlink route", 41, 16, 3, 0),
    ("socket: netlink audit", 41, 16, 3, 9),
    ("socket: netlink audit, high bits", 41, 16, 3, 0x1_0000_0009),
    ("socket: alg", 41, 38, 5, 0),
    ("socket: alg, high bits", 41, 0x1_0000_0026, 5, 0),
    ("socket: vsock", 41, 40, 1, 0),
    ("socket: no such family", 41, 200, 1, 0),
    ("a call of the future", 900),
    ("unshare: nothing", 272, 0),
    ("getpid", 39),
]
PROGRAM = """
import ctypes, json, sys
syscall = ctypes.CDLL(None, use_errno=True).syscall
out = {}
for name, number, *args in json.loads(sys.argv[1]):
    ctypes.set_errno(0)
    value = syscall(ctypes.c_long(number), *(ctypes.c_long(a) for a in args))
    out[name] = ctypes.get_errno() if value < 0 else 0
out["Seccomp"] = next(l.split()[1] for l in open("/proc/self/status") if l.startswith("Seccomp:"))
print(json.dumps(out))
"""


def config(root: str, held: tuple[str, ...]) -> dict:
    sets = capabilities.process_sets(held, root=True)
    return {
        "ociVersion": "1.0.0",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/usr/bin/python3", "-I", "-S", "-c", PROGRAM, json.dumps(PROBES)],
            "env": ["PATH=/usr/bin"],
            "cwd": "/",
            "capabilities": sets,
        },
        "root": {"path": root},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]},
        ],
        "linux": {"namespaces": [{"type": t} for t in ("pid", "ipc", "uts", "mount", "network")]},
    }


def bundle_of(tmp_path, section=None, annotation="", held=capabilities.DEFAULT):
    bundle = tmp_path / "bundle"
    root = bundle / "rootfs"
    for name in ("usr", "proc", "dev", "sys"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("lib", "lib64", "bin"):
        if os.path.islink(f"/{name}") and not (root / name).is_symlink():
            (root / name).symlink_to(os.readlink(f"/{name}"))
    tree = config(str(root), held)
    if section is not None:
        tree["linux"]["seccomp"] = section
    if annotation:
        tree["annotations"] = {seccomp.ANNOTATION: annotation}
    (bundle / "config.json").write_text(json.dumps(tree))
    return bundle


def in_namespaces(line: str, *words) -> str:
    """The output of a shell line in namespaces of its own, with a pure cgroup mount: runtimes refuse a hybrid one."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "--cgroup", "--pid", "--fork", "--mount-proc"]
    line = f"mount -t cgroup2 cgroup2 /sys/fs/cgroup && {line}"
    done = subprocess.run([*unshare, "sh", "-c", line, *words], capture_output=True, text=True, check=False)
    if "unshare" in done.stderr:
        missing(f"no user namespaces here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def contain(tmp_path, runtime: str, section=None, annotation="", held=capabilities.DEFAULT) -> dict:
    """Run the probes in a container of `runtime`: errno by name (0: allowed)."""
    bundle = bundle_of(tmp_path, section, annotation, held)
    manager = "--cgroup-manager=disabled" if "crun" in runtime else "--rootless=true"
    line = f'exec "$0" --root "$1" {manager} run --bundle "$2" probe'
    return json.loads(in_namespaces(line, runtime, tmp_path / "state", bundle))


HELD = [capabilities.DEFAULT, capabilities.NAMES, ()]
HELD_IDS = ["default", "all", "none"]


@pytest.mark.parametrize("held", HELD, ids=HELD_IDS)
def test_the_program_is_in_force_and_equals_the_section(tmp_path, held):
    text = seccomp.compiled("", held, str(tmp_path / "cache"))
    section = seccomp.linux_seccomp("", held)
    by_program = contain(tmp_path, "crun", annotation=text, held=held)
    assert by_program["Seccomp"] == "2"
    assert by_program["getpid"] == 0
    assert by_program["socket: vsock"] == 97
    assert by_program["a call of the future"] == 38
    assert by_program == contain(tmp_path, "crun", section=section, held=held)
    if runc := shutil.which("runc", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
        assert by_program == contain(tmp_path, runc, section=section, held=held)


def test_without_a_filter_the_probes_tell(tmp_path):
    """The probes can fail: they answer differently with no filter."""
    free = contain(tmp_path, "crun")
    assert free["Seccomp"] == "0"
    assert free["keyctl"] == 95 or free["keyctl"] != 38
    assert free["socket: netlink audit"] != 22
    assert free["userfaultfd"] != 1


@pytest.mark.parametrize("held", HELD, ids=HELD_IDS)
def test_every_call_as_crun_compiles_it(tmp_path, held):
    """crun keeps a container's program for exec: the same decisions for every number and family."""
    bundle = bundle_of(tmp_path, seccomp.linux_seccomp("", held), held=held)
    state = tmp_path / "state"
    line = (
        'crun --root "$0" --cgroup-manager=disabled create --bundle "$1" probe </dev/null >/dev/null 2>&1; '
        'cp "$0/probe/seccomp.bpf" "$0/.."; crun --root "$0" --cgroup-manager=disabled delete --force probe'
    )
    in_namespaces(line, state, bundle)
    theirs = (tmp_path / "seccomp.bpf").read_bytes()
    ours = base64.b64decode(seccomp.compiled("", held, str(tmp_path / "cache")))
    assert theirs
    for arch, base in ((0xC000003E, 0), (0xC000003E, 0x40000000), (0x40000003, 0)):
        for number in range(520):
            for args in ((), (8,), (16, 3, 9)):
                assert run(ours, arch, base + number, args) == run(theirs, arch, base + number, args), (arch, number)
    for call, arch in ((41, 0xC000003E), (359, 0x40000003)):
        for family in range(70):
            for protocol in (0, 8, 9, 10, 31, 32):
                args = (family, 1, protocol)
                assert run(ours, arch, call, args) == run(theirs, arch, call, args), args
