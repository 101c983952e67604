"""config.json, from a specification: pure.  What runtimes make of it is tested in tests/contract."""

from __future__ import annotations

from typing import Any

from pyctl.engine.model import ContainerSpec, IdRange, Mount, Security, Ulimit, UserNamespace
from pyctl.engine.spec import oci_config
from pyctl.engine.spec_facts import SpecFacts
from pyctl.engine.users_maps import id_maps
from rootless.values import loads
from tests.unit.request_support import spec

FACTS = SpecFacts(
    rootfs="/merged",
    files_dir="/run/c/files",
    uid_count=65537,
    gid_count=65537,
    rlimits={"nofile": (1024, 20000), "nproc": (100, 200), "core": (0, -1)},
    volumes={"data": "/vols/data"},
)


def config(made: ContainerSpec, facts: SpecFacts = FACTS) -> Any:
    return loads(oci_config(made, facts, *id_maps(made.userns, 1500, 1500, facts.uid_count, facts.gid_count)))


def of(*words: str, facts: SpecFacts = FACTS) -> Any:
    return config(spec(*words), facts)


def mounts(tree: Any) -> dict[str, Any]:
    found = {m["destination"]: m for m in tree["mounts"]}
    assert len(found) == len(tree["mounts"]), "one mount for each destination"
    return found


def namespaces(tree: Any) -> dict[str, str]:
    return {n["type"]: n.get("path", "") for n in tree["linux"]["namespaces"]}


def test_defaults() -> None:
    tree = of()
    assert namespaces(tree) == {"mount": "", "pid": "", "ipc": "", "uts": "", "cgroup": ""}
    assert tree["root"] == {"path": "/merged"}
    assert tree["hostname"] == "0123456789ab"
    assert "resources" not in tree["linux"]
    assert "seccomp" not in tree["linux"]
    process = tree["process"]
    assert process["user"]["umask"] == 0o022
    assert len(process["capabilities"]["bounding"]) == 11
    assert "inheritable" not in process["capabilities"]
    assert "/proc/kcore" in tree["linux"]["maskedPaths"]
    assert "/proc/sys" in tree["linux"]["readonlyPaths"]


def test_mounts_of_podman() -> None:
    found = mounts(of())
    assert set(found) == {
        "/proc", "/dev", "/sys", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys/fs/cgroup", "/etc/hosts",
        "/etc/resolv.conf", "/etc/hostname", "/run/.containerenv",
    }  # fmt: skip
    assert found["/etc/hosts"]["source"] == "/run/c/files/hosts"
    assert "gid=5" in found["/dev/pts"]["options"]
    assert "size=65536000" in mounts(of("--shm-size", "65536000"))["/dev/shm"]["options"]
    assert "ro" in found["/sys"]["options"]
    assert "ro" in found["/sys/fs/cgroup"]["options"]


def test_parents_come_before_what_is_in_them() -> None:
    order = [
        m["destination"]
        for m in of("-v", "/tmp:/etc", "-v", "/tmp:/dev/x/y", "--tmpfs", "/run", "--read-only")["mounts"]
    ]
    for index, path in enumerate(order):
        assert not any(later != path and path.startswith(later.rstrip("/") + "/") for later in order[index:])


def test_a_mount_of_the_user_replaces_the_engines() -> None:
    found = mounts(of("-v", "/tmp:/etc/hosts", "--tmpfs", "/dev/shm:size=5m"))
    assert found["/etc/hosts"]["source"] == "/tmp"
    assert "size=5m" in found["/dev/shm"]["options"]
    found = mounts(of("-v", "/dev:/dev"))
    assert [p for p in found if p.startswith("/dev")] == ["/dev"]
    assert mounts(of("-v", "/proc:/proc"))["/proc"]["type"] == "bind"
    assert set(mounts(of(facts=FACTS.replace(files=("hosts",))))) & {"/etc/resolv.conf", "/etc/hostname"} == set()


def test_no_group_that_is_not_mapped() -> None:
    assert not any(o.startswith("gid=") for o in mounts(of(facts=FACTS.replace(gid_count=1)))["/dev/pts"]["options"])
    small = spec().replace(userns=UserNamespace(mode="auto", uid_map=(IdRange(inside=0, outside=1, size=3),) * 1,
                                                gid_map=(IdRange(inside=0, outside=1, size=3),)))  # fmt: skip
    assert not any(o.startswith("gid=") for o in mounts(config(small))["/dev/pts"]["options"])


def test_user_mounts() -> None:
    found = mounts(
        of(
            "-v",
            "/usr/share:/a:ro,noexec,rslave,U,z",
            "-v",
            "data:/b",
            "-v",
            "data:/c:dev",
            "--tmpfs",
            "/d:size=5m,exec",
        )
    )
    assert found["/a"]["options"] == ["ro", "noexec", "rslave", "rbind"]
    assert (found["/b"]["source"], found["/b"]["options"]) == (
        "/vols/data",
        ["rw", "nosuid", "nodev", "rprivate", "rbind"],
    )
    assert "nodev" not in found["/c"]["options"]
    assert found["/d"]["options"] == ["rw", "size=5m", "exec", "nosuid", "nodev", "rprivate", "tmpcopyup"]
    assert mounts(of("--mount", "type=bind,src=/tmp,dst=/e,bind-nonrecursive"))["/e"]["options"] == [
        "rw",
        "bind",
        "private",
    ]


def test_propagation_of_the_root() -> None:
    assert "rootfsPropagation" not in of()["linux"]
    assert of("-v", "/tmp:/a:rshared")["linux"]["rootfsPropagation"] == "shared"
    assert of("-v", "/tmp:/a:slave")["linux"]["rootfsPropagation"] == "rslave"


def test_read_only() -> None:
    tree = of("--read-only")
    found = mounts(tree)
    assert tree["root"]["readonly"] is True
    assert {"/run", "/tmp", "/var/tmp"} <= set(found)
    assert "ro" in found["/etc/hosts"]["options"]
    assert "ro" not in found["/dev"]["options"]
    found = mounts(of("--read-only", "--read-only-tmpfs=false"))
    assert "/run" not in found
    assert "ro" in found["/dev"]["options"]
    assert mounts(of("--read-only", "-v", "data:/tmp"))["/tmp"]["source"] == "/vols/data"


def test_privileged() -> None:
    tree = of("--privileged", facts=FACTS.replace(devices=("/dev/fuse", "/dev/kvm")))
    found = mounts(tree)
    assert found["/dev/fuse"]["type"] == "bind"
    assert tree["linux"]["maskedPaths"] == tree["linux"]["readonlyPaths"] == []
    assert "CAP_SYS_ADMIN" in tree["process"]["capabilities"]["effective"]
    assert "rw" in found["/sys"]["options"]
    assert "rw" in found["/sys/fs/cgroup"]["options"]
    assert "ro" in mounts(of("--privileged", "--cgroupns", "host"))["/sys/fs/cgroup"]["options"], "CVE-2023-25809"


def test_masks() -> None:
    linux = of("--security-opt", "unmask=/proc/acpi:/proc/s*", "--security-opt", "mask=/opt/secret")["linux"]
    assert {"/proc/acpi", "/proc/scsi", "/proc/sched_debug"}.isdisjoint(linux["maskedPaths"])
    assert {"/proc/sys", "/proc/sysrq-trigger"}.isdisjoint(linux["readonlyPaths"])
    assert {"/opt/secret", "/proc/kcore"} <= set(linux["maskedPaths"])
    assert "/sys/firmware" in of("--security-opt", "unmask=/*")["linux"]["maskedPaths"], "a star stays within one part"
    tree = of("--security-opt", "unmask=ALL")
    assert tree["linux"]["maskedPaths"] == []
    assert "rw" in mounts(tree)["/sys/fs/cgroup"]["options"]
    assert "ro" in mounts(of("--security-opt", "unmask=/sys/firmware"))["/sys/fs/cgroup"]["options"]


def test_capabilities_of_other_users() -> None:
    process = of("-u", "5", "--cap-add", "NET_ADMIN")["process"]
    assert process["_ambient"] == ["CAP_NET_ADMIN"]
    assert "CAP_CHOWN" in process["capabilities"]["effective"], "for exec as root"
    assert "_ambient" not in of("-u", "5")["process"]


def limits(tree: Any) -> dict[str, tuple[int, int]]:
    return {r["type"]: (r["soft"], r["hard"]) for r in tree["process"]["rlimits"]}


def test_limits_of_the_process() -> None:
    assert limits(of()) == {"RLIMIT_NOFILE": (20000, 20000), "RLIMIT_NPROC": (200, 200)}
    stored = spec().replace(
        ulimits=(Ulimit(name="nofile", soft=500000, hard=-1), Ulimit(name="core", soft=-1, hard=-1))
    )
    held = limits(config(stored))
    assert held["RLIMIT_NOFILE"] == (20000, 20000), "a stored limit above today's is lowered"
    assert held["RLIMIT_CORE"] == (2**64 - 1, 2**64 - 1)
    assert limits(of("--ulimit", "host"))["RLIMIT_NOFILE"] == (1024, 20000)


def test_shared_namespaces() -> None:
    tree = of("--pid", "host", "--uts", "host", "--ipc", "host", "--cgroupns", "host", "--network", "host")
    assert namespaces(tree) == {"mount": ""}
    assert "hostname" not in tree
    found = mounts(tree)
    assert (found["/proc"]["type"], found["/sys"]["type"], found["/dev/shm"]["source"]) == ("bind", "bind", "/dev/shm")
    assert "/dev/mqueue" not in found
    facts = FACTS.replace(joined={"ipc": "/proc/9/ns/ipc"}, shm_source="/proc/9/root/dev/shm")
    tree = of("--ipc", "container:other", facts=facts)
    assert namespaces(tree)["ipc"] == "/proc/9/ns/ipc"
    assert mounts(tree)["/dev/shm"]["source"] == "/proc/9/root/dev/shm"


def test_own_user_namespace() -> None:
    tree = of("--userns", "keep-id")
    assert "user" in namespaces(tree)
    assert tree["linux"]["uidMappings"] == [
        {"containerID": 0, "hostID": 1, "size": 1500},
        {"containerID": 1500, "hostID": 0, "size": 1},
        {"containerID": 1501, "hostID": 1501, "size": 64036},
    ]
    assert "uidMappings" not in of()["linux"]


def test_seccomp() -> None:
    assert of(facts=FACTS.replace(seccomp_bpf="QUJD"))["annotations"] == {"run.oci.seccomp_bpf_data": "QUJD"}
    section = '{"defaultAction":"SCMP_ACT_ALLOW"}'
    assert of(facts=FACTS.replace(seccomp=section))["linux"]["seccomp"] == {"defaultAction": "SCMP_ACT_ALLOW"}


def test_sysctls_of_the_network_are_the_supervisors() -> None:
    assert of("--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.shmmax=5")["linux"]["sysctl"] == {
        "kernel.shmmax": "5"
    }
    assert "sysctl" not in of("--sysctl", "net.ipv4.ip_forward=1")["linux"]


def test_the_rest_of_the_process() -> None:
    words = (
        "-t",
        "--init",
        "--oom-score-adj",
        "5",
        "--group-add",
        "keep-groups",
        "--annotation",
        "a=b",
        "--umask",
        "7",
    )
    facts = FACTS.replace(init_path="/usr/bin/catatonit", rows=5, columns=7)
    tree = of(*words, "--security-opt", "no-new-privileges", facts=facts)
    process = tree["process"]
    assert process["args"] == ["/run/podman-init", "--", "sh"]
    assert mounts(tree)["/run/podman-init"]["source"] == "/usr/bin/catatonit"
    assert (process["terminal"], process["consoleSize"]) == (True, {"height": 5, "width": 7})
    assert (process["oomScoreAdj"], process["noNewPrivileges"], process["user"]["umask"]) == (5, True, 7)
    assert tree["annotations"] == {"a": "b", "run.oci.keep_original_groups": "1"}


def test_devices() -> None:
    found = mounts(of("--device", "/dev/null:/dev/x:rw", "--device", "/dev/zero"))
    assert (found["/dev/x"]["source"], found["/dev/x"]["type"]) == ("/dev/null", "bind")
    assert found["/dev/zero"]["source"] == "/dev/zero"


def test_time_zone() -> None:
    made = spec().replace(timezone="Europe/Paris")
    assert mounts(config(made))["/etc/localtime"]["source"] == "/usr/share/zoneinfo/Europe/Paris"
    assert mounts(of("--tz", "local"))["/etc/localtime"]["source"] == "/etc/localtime"


def test_words_for_the_engine_never_reach_mount() -> None:
    made = spec().replace(
        mounts=(Mount(kind="volume", source="data", target="/v", options=("U", "z", "nocopy")),), security=Security()
    )
    assert not {"U", "z", "nocopy"} & set(mounts(config(made))["/v"]["options"])
