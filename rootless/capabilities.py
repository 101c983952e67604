"""Capabilities: names and numbers, the default set, and the arithmetic of --cap-add and --cap-drop.

Weight: `rootless.errors` only, `rootless.libc` where the process itself is asked.  Numbers are those of
linux/capability.h, see capabilities(7).  A set is an ordered tuple of upper-case names ("CAP_CHOWN", …) in the
kernel's order, so that equal sets are equal values.
"""

from __future__ import annotations

from rootless.errors import Error, UsageError

# The position is the number.  Append only: the kernel never renumbers.
NAMES: tuple[str, ...] = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
NUMBERS: dict[str, int] = {name: number for number, name in enumerate(NAMES)}

# What a container gets unless told otherwise: enough for package managers and servers that start as root and
# step down.  Podman's set (containers.conf(5), default_capabilities); narrower than Docker's, which adds
# AUDIT_WRITE, MKNOD and NET_RAW.
DEFAULT: tuple[str, ...] = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_SETFCAP",
)

ALL = "ALL"


def normalize(name: str) -> str:
    """`net_admin`, `CAP_NET_ADMIN` → "CAP_NET_ADMIN"; `all` → "ALL".  Raises UsageError for an unknown name."""
    upper = name.strip().upper()
    if upper in {ALL, "CAP_ALL"}:
        return ALL
    full = upper if upper.startswith("CAP_") else "CAP_" + upper
    if full not in NUMBERS:
        raise UsageError(f"unknown capability {name!r}", hint="capabilities(7) lists the names; ALL means every one")
    return full


def last_known(proc: str = "/proc") -> int:
    """The highest capability number of the running kernel (proc(5), cap_last_cap)."""
    path = f"{proc}/sys/kernel/cap_last_cap"
    try:
        with open(path, "rb", buffering=0) as file:
            return int(file.read(16))
    except OSError:
        return NUMBERS["CAP_AUDIT_READ"]  # Linux 4.x: what every kernel that this engine runs on has
    except ValueError:
        raise Error(f"{path} holds no number") from None


def kernel_set(proc: str = "/proc") -> tuple[str, ...]:
    """All capabilities that both this table and the running kernel know."""
    return NAMES[: last_known(proc) + 1]


def in_order(names: frozenset[str] | set[str]) -> tuple[str, ...]:
    """The set as a tuple in the kernel's order."""
    return tuple(name for name in NAMES if name in names)


def effective(
    add: tuple[str, ...] = (),
    drop: tuple[str, ...] = (),
    base: tuple[str, ...] = DEFAULT,
    privileged: bool = False,
    kernel: tuple[str, ...] = NAMES,
) -> tuple[str, ...]:
    """The container's set.

    Podman's rules: --privileged starts from every capability; `drop=ALL` starts from none and then adds;
    `add=ALL` starts from every one and then drops; both ALL at once, or one name in both, contradict
    each other and are refused.  A capability that the kernel does not have is refused when it is named
    and left out when it came by ALL or a default.
    """
    added = {normalize(name) for name in add}
    dropped = {normalize(name) for name in drop}
    both = in_order(added & dropped) or ((ALL,) if ALL in added and ALL in dropped else ())
    if both:
        raise UsageError(f"capability {both[0]} is both added and dropped")
    for name in in_order(added):
        if name not in kernel:
            raise UsageError(f"there is no capability {name} to be given here", hint=f"there are: {' '.join(kernel)}")
    start: set[str] = set(kernel) if privileged or ALL in added else {normalize(name) for name in base}
    if ALL in start:
        start = set(kernel)
    if ALL in dropped:
        start = set()
    return in_order(((start | added) - dropped - {ALL}) & set(kernel))


def mask(names: tuple[str, ...]) -> int:
    """The bit mask as /proc/PID/status shows it."""
    bits = 0
    for name in names:
        bits |= 1 << NUMBERS[name]
    return bits


def from_mask(bits: int) -> tuple[str, ...]:
    """The names of the set bits; bits beyond this table are left out."""
    return tuple(name for number, name in enumerate(NAMES) if bits >> number & 1)


def process_sets(
    bounding: tuple[str, ...], root: bool, add: tuple[str, ...] = (), privileged: bool = False
) -> dict[str, list[str]]:
    """`process.capabilities` of an OCI config.json for a container's process.

    bounding: the result of `effective`; root: the process is uid 0 inside; add: --cap-add as given.
    uid 0 holds the whole set and the inheritable one stays empty (a set that survives execve of
    an ordinary file is CVE-2022-27649).  Another user starts with nothing, except for what was added
    by name, which is raised to ambient: the only way past execve for a process that is not uid 0.
    """
    whole = list(bounding)
    if root or privileged:
        held = whole if root else []
        return {"bounding": whole, "effective": held, "permitted": held, "inheritable": [], "ambient": []}
    named = {normalize(name) for name in add}
    own = [name for name in bounding if ALL in named or name in named]
    return {"bounding": whole, "effective": own, "permitted": own, "inheritable": own, "ambient": own}


def bounding_set() -> tuple[str, ...]:
    """What this process may hand on at most.

    In a user namespace of the engine's making that is everything; a root that is itself confined lacks some.
    """
    from rootless import libc  # all else here is arithmetic

    held = []
    for number, name in enumerate(NAMES):
        try:
            if libc.prctl(libc.PR_CAPBSET_READ, number):
                held.append(name)
        except OSError:
            break  # newer than the kernel
    return tuple(held)
