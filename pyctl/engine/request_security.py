"""Privileges of a container: capabilities, --security-opt, sysctls, devices.

Weight: `rootless.capabilities`, `pyctl.engine.model`.
"""

from __future__ import annotations

import os
import stat

from pyctl.engine.model import Device, Security
from pyctl.engine.request_facts import refused
from pyctl.engine.request_text import absolute, container_path, pair, utf8
from rootless import capabilities
from rootless.errors import UsageError, os_error_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.engine.request_facts import Options, RequestFacts

# Kernel settings that belong to a namespace (sysctl(2); Documentation/admin-guide/sysctl), by the namespace.
_IPC_SYSCTLS = frozenset(
    ("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
     "kernel.shmmni", "kernel.shm_rmid_forced")
)  # fmt: skip
_PROC_OPTIONS = {
    "hidepid": ("0", "1", "2", "4", "off", "noaccess", "invisible", "ptraceable"),
    "subset": ("pid",),
    "gid": (),
}
_KNOWN = (
    "no-new-privileges, seccomp=FILE|unconfined, apparmor=PROFILE|unconfined, label=disable,"
    " mask=PATH:…, unmask=ALL|PATH:…, proc-opts=…"
)


def security(options: Options, facts: RequestFacts) -> Security:
    """Capabilities and --security-opt."""
    defaults = facts.defaults
    privileged = bool(options.get("privileged")) or (defaults.privileged and not options.given("privileged"))
    add, drop = _capabilities(options, "cap_add"), _capabilities(options, "cap_drop")
    try:
        capabilities.effective(add, drop, privileged=privileged)
    except UsageError as error:
        raise UsageError(f"--cap-add and --cap-drop: {error.message}", error.hint) from error
    profile = defaults.seccomp_profile
    found = Security(
        privileged=privileged, cap_add=add, cap_drop=drop, seccomp=profile, apparmor=defaults.apparmor_profile
    )
    for word in options.get("security_opt") or ():
        found = _security_option(found, word, facts)
    return found.replace(options=tuple(options.get("security_opt") or ()))


def _capabilities(options: Options, field: str) -> tuple[str, ...]:
    names = []
    for word in options.get(field) or ():
        if word:
            try:
                names.append(capabilities.normalize(word))
            except UsageError as error:
                raise UsageError(f"--{field.replace('_', '-')}: {error.message}", error.hint) from error
    return tuple(dict.fromkeys(names))


def _security_option(held: Security, word: str, facts: RequestFacts) -> Security:
    """One --security-opt.  `name=value`, or `name:value` as older scripts have it."""
    option = "--security-opt"
    equals = "=" if "=" in word or ":" not in word else ":"
    name, given, value = word.partition(equals)
    if name == "no-new-privileges":
        if given and value not in ("true", "false"):
            raise refused(option, word, "must be true or false")
        return held.replace(no_new_privileges=value != "false")
    if not given or not value:
        raise refused(option, word, "unknown or without a value", hint="known: " + _KNOWN)
    if name == "seccomp":
        return held.replace(seccomp=_seccomp(word, value, facts))
    if name == "apparmor":
        if value != "unconfined" and not facts.apparmor:
            raise refused(option, word, "AppArmor is not enabled on this machine")
        return held.replace(apparmor=utf8(option, value))
    if name == "label":
        if value != "disable":
            why = "SELinux types are not built yet" if facts.selinux else "SELinux is not enabled on this machine"
            raise refused(option, word, why, hint="containers run without a label of their own, as with label=disable")
        return held.replace(labels=tuple(dict.fromkeys((*held.labels, value))))
    if name in ("mask", "unmask"):
        paths = _paths(word, value, patterns=name == "unmask")
        return held.replace(**{name: tuple(dict.fromkeys((*getattr(held, name), *paths)))})
    if name == "systempaths" and value == "unconfined":
        return held.replace(unmask=("ALL",))
    if name == "proc-opts":
        return held.replace(proc_options=_proc_options(word, value))
    raise refused(option, word, "unknown", hint="known: " + _KNOWN)


def _seccomp(word: str, value: str, facts: RequestFacts) -> str:
    if value == "unconfined":
        return value
    path = absolute(utf8("--security-opt", value), facts.cwd)
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as error:
        raise refused("--security-opt", word, os_error_text(error, "the profile")) from error
    return path


def _paths(word: str, value: str, patterns: bool) -> list[str]:
    if patterns and value.upper() == "ALL":
        return ["ALL"]
    paths = value.split(":")
    for path in paths:
        if not path.startswith("/"):
            raise refused("--security-opt", word, f"{path!r} must be an absolute path")
    return [utf8("--security-opt", p) for p in paths]


def _proc_options(word: str, value: str) -> tuple[str, ...]:
    """Mount options of /proc (proc(5)), from a list: others could undo nosuid or smuggle in more."""
    words = value.split(",")
    for item in words:
        name, _, setting = item.partition("=")
        allowed = _PROC_OPTIONS.get(name)
        if allowed is None or (allowed and setting not in allowed) or (name == "gid" and not setting.isdecimal()):
            raise refused("--security-opt", word, f"{item!r}: proc takes hidepid=0|1|2|4, subset=pid and gid=N")
    return tuple(words)


# --- sysctls -----------------------------------------------------------------------------------


# What distributions put into containers.conf, so that root at least can ping; here every user of a container can.
_DISTRIBUTION_PING = "net.ipv4.ping_group_range=0 0"


def sysctls(options: Options, facts: RequestFacts, network_mode: str, ipc: str) -> dict[str, str]:
    """--sysctl, only those that belong to a namespace that the container has for itself."""
    found: dict[str, str] = {}
    for option, words in (
        ("--sysctl", options.get("sysctl") or ()),
        ("containers.conf: default_sysctls", facts.defaults.default_sysctls),
    ):
        for word in words:
            name, value = pair(option, word)
            if name != name.strip() or value != value.strip():
                raise refused(option, word, "has spaces around the name or the value")
            reason = _sysctl_refusal(name, network_mode, ipc)
            if reason and option == "--sysctl":
                raise refused(option, word, *reason)
            if not reason and (option == "--sysctl" or word != _DISTRIBUTION_PING):
                found.setdefault(name, value)
    return found


def _sysctl_refusal(name: str, network_mode: str, ipc: str) -> tuple[str, str] | None:
    """(why it cannot be set, hint), or None."""
    parts = name.split(".")
    if not all(parts) or ".." in name or "/" in name:
        return "must be NAME=VALUE with the parts of the name separated by dots", ""
    if parts[0] == "net":
        if network_mode in ("host", "container", "ns"):
            return f"cannot be set with --network={network_mode}", "it would change the network of others"
        return None
    if name in _IPC_SYSCTLS or name.startswith("fs.mqueue."):
        if ipc == "host" or ipc.startswith(("container:", "ns:")):
            return f"cannot be set with --ipc={ipc.partition(':')[0]}", "it would change the IPC objects of others"
        return None
    if name == "kernel.hostname":
        return "cannot be set by --sysctl", "use --hostname"
    hint = "settable: net.*, fs.mqueue.*, kernel.shm*, kernel.msg*, kernel.sem"
    return "is not part of a namespace: it would change the whole machine", hint


# --- devices -----------------------------------------------------------------------------------


def devices(options: Options, facts: RequestFacts) -> tuple[Device, ...]:
    """--device: nodes of the host, a directory of nodes standing for all that are in it."""
    found: dict[str, Device] = {}
    for option, words in (
        ("--device", options.get("device") or ()),
        ("containers.conf: devices", facts.defaults.devices),
    ):
        for word in words:
            for device in device_option(option, word):
                found.setdefault(device.target, device)
    return tuple(found.values())


def device_option(option: str, word: str) -> list[Device]:
    """`SOURCE[:TARGET][:PERMISSIONS]`."""
    parts = word.split(":")
    source = parts[0]
    if not source.startswith("/"):
        if "=" in word and "/" in source:
            raise refused(option, word, "CDI is not built yet", hint="name the nodes: --device /dev/nvidia0 …")
        raise refused(option, word, "the device must be an absolute path")
    target, permissions = source, "rwm"
    if len(parts) == 2 and not parts[1].startswith("/"):
        permissions = parts[1]
    elif len(parts) in (2, 3):
        target = parts[1] or source
        permissions = parts[2] if len(parts) == 3 else permissions
    elif len(parts) > 3:
        raise refused(option, word, "must be SOURCE[:TARGET][:PERMISSIONS]")
    if not permissions or set(permissions) - set("rwm") or len(set(permissions)) < len(permissions):
        raise refused(option, word, f"permissions {permissions!r} must be of r, w and m, each once")
    if not {"r", "w"} <= set(permissions):
        why = "only the machine's root can restrict a device: its own mode decides who reads and writes it"
        raise refused(option, word, why, hint="leave the permissions out")
    target = container_path(option, word, target)
    try:
        info = os.stat(source)
        nodes = device_nodes(source) if stat.S_ISDIR(info.st_mode) else []
    except OSError as error:
        raise refused(option, word, os_error_text(error, str(error.filename or source))) from error
    if stat.S_ISDIR(info.st_mode):
        found = [
            Device(source=path, target=target + path[len(source.rstrip("/")) :], permissions=permissions)
            for path in nodes
        ]
        if not found:
            raise refused(option, word, f"no device nodes in {source}")
        return found
    if not stat.S_ISCHR(info.st_mode) and not stat.S_ISBLK(info.st_mode):
        raise refused(option, word, f"{source} is not a device node", hint="for a file: --volume")
    return [Device(source=source, target=target, permissions=permissions)]


def device_nodes(directory: str) -> list[str]:
    """All device nodes below a directory; terminals, shm and mqueue, which a container has for itself, left out."""
    found = []
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.is_symlink() or entry.path in ("/dev/ptmx", "/dev/console", "/dev/tty"):
                continue
            if entry.is_dir():
                if entry.path not in ("/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd", "/dev/hugepages"):
                    found += device_nodes(entry.path)
            else:
                mode = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                    found.append(entry.path)
    return found
