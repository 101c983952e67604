"""The OCI configuration (config.json) of a container: pure, from its specification and the facts of the host.

Weight: `rootless.values`, `.capabilities`, `pyctl.engine.model`, `.spec_*`, `.users_maps`.  On the path of `run`.

Left out on purpose: `linux.resources` (the engine writes and reads back cgroup files itself), the network
namespace (the supervisor is in it, and the runtime inherits it), `process.user`'s ids and the capabilities of a
user other than root (looked up by the supervisor in the mounted root, which is where /etc/passwd is).
"""

from __future__ import annotations

from pyctl.engine import spec_mounts, spec_security
from pyctl.engine.users_maps import is_nested
from rootless.values import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyctl.engine.model import ContainerSpec, IdRange
    from pyctl.engine.spec_facts import SpecFacts

OCI_VERSION = "1.0.2"  # the newest that crun 1.8 and runc 1.1 both take
AMBIENT_KEY = "_ambient"  # for the supervisor: what a user other than uid 0 holds
SECCOMP_ANNOTATION = "run.oci.seccomp_bpf_data"
KEEP_GROUPS_ANNOTATION = "run.oci.keep_original_groups"


def oci_config(
    spec: ContainerSpec,
    facts: SpecFacts,
    uid_map: tuple[IdRange, ...] = (),
    gid_map: tuple[IdRange, ...] = (),
) -> str:
    """config.json's text.  uid_map, gid_map: of `users_maps.id_maps`, () without a namespace of its own."""
    config: dict[str, Any] = {
        "ociVersion": OCI_VERSION,
        "process": _process(spec, facts),
        "root": {"path": facts.rootfs, **({"readonly": True} if spec.read_only else {})},
        "mounts": spec_mounts.oci_mounts(spec, facts),
        "annotations": _annotations(spec, facts),
        "linux": _linux(spec, facts, uid_map, gid_map),
    }
    if spec.uts != "host" and not spec.uts.startswith(("container:", "ns:")):
        config["hostname"] = spec.hostname
    return dumps(config)


def _process(spec: ContainerSpec, facts: SpecFacts) -> dict[str, Any]:
    args = list(spec.args)
    if spec.init:
        args = [spec_mounts.INIT_TARGET, "--", *args]
    held, ambient = spec_security.process_capabilities(spec, facts)
    process: dict[str, Any] = {
        "terminal": spec.tty,
        "user": {"uid": 0, "gid": 0, "umask": spec.umask},
        "args": args,
        "env": list(spec.env),
        "cwd": spec.workdir,
        "capabilities": held,
        "rlimits": spec_security.rlimits(spec, facts),
        "noNewPrivileges": spec.security.no_new_privileges,
    }
    if ambient:
        process[AMBIENT_KEY] = ambient
    if spec.tty and facts.rows and facts.columns:
        process["consoleSize"] = {"height": facts.rows, "width": facts.columns}
    if spec.oom_score_adj is not None:
        process["oomScoreAdj"] = spec.oom_score_adj
    if spec.security.apparmor not in ("", "unconfined") and facts.apparmor:
        process["apparmorProfile"] = spec.security.apparmor
    return process


def _annotations(spec: ContainerSpec, facts: SpecFacts) -> dict[str, str]:
    """The user's, and what crun is told by annotation.  An image's never get here: they could steer the runtime."""
    annotations = dict(spec.annotations)
    if "keep-groups" in spec.group_add:
        annotations[KEEP_GROUPS_ANNOTATION] = "1"
    if facts.seccomp_bpf:
        annotations[SECCOMP_ANNOTATION] = facts.seccomp_bpf
    return annotations


def _linux(
    spec: ContainerSpec, facts: SpecFacts, uid_map: tuple[IdRange, ...], gid_map: tuple[IdRange, ...]
) -> dict[str, Any]:
    masked, locked = spec_security.masked_paths(spec.security)
    linux: dict[str, Any] = {"namespaces": _namespaces(spec, facts), "maskedPaths": masked, "readonlyPaths": locked}
    if is_nested(spec.userns):
        linux["uidMappings"] = [_mapping(r) for r in uid_map]
        linux["gidMappings"] = [_mapping(r) for r in gid_map]
    # net.* is the supervisor's to write: it made the network namespace, and runtimes write only to their own.
    sysctls = {name: value for name, value in spec.sysctls.items() if not name.startswith("net.")}
    if sysctls:
        linux["sysctl"] = sysctls
    if facts.seccomp:
        linux["seccomp"] = loads(facts.seccomp)
    if spec.personality:
        linux["personality"] = {"domain": spec.personality}
    propagation = spec_mounts.rootfs_propagation(spec)
    if propagation:
        linux["rootfsPropagation"] = propagation
    return linux


def _mapping(row: IdRange) -> dict[str, int]:
    return {"containerID": row.inside, "hostID": row.outside, "size": row.size}


def _namespaces(spec: ContainerSpec, facts: SpecFacts) -> list[dict[str, str]]:
    """Private ones are made, joined ones named by path, shared ones left out (the runtime stays in its own)."""
    namespaces = [{"type": "mount"}]
    for kind, mode in (("pid", spec.pid), ("ipc", spec.ipc), ("uts", spec.uts), ("cgroup", spec.cgroupns)):
        if kind in facts.joined:
            namespaces.append({"type": kind, "path": facts.joined[kind]})
        elif mode != "host":
            namespaces.append({"type": kind})
    if "user" in facts.joined:
        namespaces.append({"type": "user", "path": facts.joined["user"]})
    elif is_nested(spec.userns):
        namespaces.append({"type": "user"})
    return namespaces
