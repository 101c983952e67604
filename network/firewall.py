"""The packet filter of the namespace that holds the bridges: who may reach whom, and masquerading on the way out.

Weight: `rootless.rtnetlink`; in the network process.

The rules never change: interfaces are told apart by their group (ip-link(8), `group`), so a new bridge needs none.
So pyroute2 translates them once (`network.firewall_rules`), in a process of its own, and what it made for the kernel is
kept: to load it at each start would cost 0.13 s, and 22 MB for as long as the network process lives.
"""

from __future__ import annotations

import os
import sys
from zlib import crc32

from rootless.errors import LaunchError, os_error_text
from rootless.rtnetlink import ERROR, NetlinkSocket, check, messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.netplan import NetworkConfig

# Groups of interfaces; LEAVING: about to be deleted.
ISOLATED, OPEN, INTERNAL, UPLINK, LEAVING = 1, 2, 3, 4, 5

INET = 1  # NFPROTO_INET: IPv4 and IPv6 alike
SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
NEW_RULE, _GET_RULE = 6, 7  # linux/netfilter/nf_tables.h
_NETFILTER = 12  # NETLINK_NETFILTER
_CACHE = "packet-filter"
_BROKEN = "pyctl --log-level=debug shows why; pip install --force-reinstall pyroute2"
_HINT = "user-defined networks need the kernel's nf_tables (an administrator can run: modprobe nf_tables)"


def group_of(network: NetworkConfig) -> int:
    """The group of a network's bridge.  Networks are isolated from each other unless both say isolate=false."""
    if network.internal:
        return INTERNAL
    return OPEN if network.options.get("isolate") == "false" else ISOLATED


def install(batch: bytes) -> None:
    """Put all rules into the current network namespace, at once.  Raises LaunchError: the kernel has no nftables."""
    try:
        held = _Socket().load(batch)
    except OSError as error:
        text = os_error_text(error, "cannot set up packet filtering")
        raise LaunchError("network", text, hint=_HINT, errno=error.errno or 0) from error
    if held != sum(kind == SUBSYSTEM << 8 | NEW_RULE for kind, _sequence, _content in messages(batch)):
        raise LaunchError("network", "the kernel did not take the rules that keep networks apart")


class _Socket(NetlinkSocket):
    def __init__(self) -> None:
        super().__init__(_NETFILTER)

    def load(self, batch: bytes) -> int:
        """Send one transaction; returns how many rules there are then.  Raises OSError."""
        self._socket.send(batch)
        unanswered = {sequence for _kind, sequence, _content in messages(batch) if sequence}
        while unanswered:
            for kind, sequence, content in messages(self._socket.recv(1 << 16)):
                if kind == ERROR:
                    check(content)
                    unanswered.discard(sequence)
        return len(self.dump(SUBSYSTEM << 8 | _GET_RULE, bytes((INET, 0, 0, 0))))


# --- translated --------------------------------------------------------------------------------


def batch(cache_dir: str, library: str) -> bytes:
    """The rules as the kernel takes them.  Raises LaunchError.

    cache_dir: where they are kept, "": nowhere; library: the directory of pyroute2.
    """
    here = os.path.dirname(__file__)
    sources = (f"{here}/firewall_rules.py", __file__, f"{library}/__init__.py")
    key = "|".join((sys.byteorder, *(_identity(path) for path in sources))).encode("utf-8", "surrogateescape")
    held = _cached(f"{cache_dir}/{_CACHE}", key) if cache_dir else b""
    if held:
        return held
    made = _translated()
    if cache_dir:
        try:
            _store(cache_dir, key, made)
        except OSError:
            pass  # it costs time at the next start
    return made


def _translated() -> bytes:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    program = "import sys; sys.path[:0] = sys.argv[1:]; from network.firewall_rules import main; main()"
    argv = [sys.executable, "-I", "-S", "-c", program, *sys.path]
    try:
        pid = os.posix_spawn(sys.executable, argv, {}, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)])
    finally:
        os.close(writer)
    with open(reader, "rb") as output:
        made = output.read()
    _pid, status = os.waitpid(pid, 0)
    if status or not made:
        raise LaunchError("network", "pyroute2 cannot translate the rules of the packet filter", hint=_BROKEN)
    return made


def _identity(path: str) -> str:
    stat = os.stat(path)
    return f"{path}:{stat.st_mtime_ns}:{stat.st_size}"


def _cached(path: str, key: bytes) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return b""
    with open(fd, "rb") as file:
        stat = os.fstat(fd)
        if stat.st_uid != os.geteuid() or stat.st_mode & 0o022:
            return b""  # somebody else could have written it
        head, _, made = file.read().partition(b"\n")
    return made if head == _head(key, made) else b""


def _store(cache_dir: str, key: bytes, made: bytes) -> None:
    os.makedirs(cache_dir, 0o700, exist_ok=True)
    temporary = f"{cache_dir}/.{_CACHE}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(_head(key, made) + b"\n" + made)
        os.rename(temporary, f"{cache_dir}/{_CACHE}")
    except OSError:
        os.unlink(temporary)
        raise


def _head(key: bytes, made: bytes) -> bytes:
    return b"%s %08x" % (key.replace(b"\n", b""), crc32(made))
