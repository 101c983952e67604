"""What of the host a container's network depends on: the verbs that read it.

Weight: `os`, `_socket`, `rootless.values`, `network.slirp`.  On the path of `run`: about 0.2 ms, and 2 ms more
the first time after slirp4netns was installed or upgraded.
"""

from __future__ import annotations

import _socket
import os
import sys

from network.hosts import NameSources
from network.pasta import MAP_GUEST
from network.slirp import NetworkFacts
from rootless.errors import Error, NotFound, UsageError, os_error_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from network.ipam import Range

PROGRAM = "slirp4netns"
_MORE_DIRECTORIES = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin")
_MAX_TEXT = 16 << 20  # a hosts file with a block list has a few megabytes
_NS_GET_NSTYPE = 0xB703  # ioctl_ns(2)
_CLONE_NEWNET = 0x40000000
_SIOCGIFADDR = 0x8915  # netdevice(7)


def gather(cache_dir: str, program: str = "", bind_address: str = "0.0.0.0", root: str = "/") -> NetworkFacts:
    """Facts for `network.plan.network_plan`.

    cache_dir: where the program's version is kept (made if missing; a cache that cannot be written is done without);
    program: path of slirp4netns as configured, "" to look along PATH; root: where etc and proc are.
    """
    path = program or find_program(PROGRAM)
    version = slirp_version(path, cache_dir) if path else ()
    real = os.path.realpath(os.path.join(root, "etc/resolv.conf"))
    kept = tuple(os.path.join(os.path.realpath(root), d) + "/" for d in ("etc", "run"))
    return NetworkFacts(
        slirp4netns=path,
        slirp_version=version,
        ipv6=os.path.isdir(os.path.join(root, "proc/sys/net/ipv6")),
        resolv_in_sandbox=real.startswith(kept),
        interfaces=tuple(name for _, name in _socket.if_nameindex()),
        bind_address=bind_address,
    )


def find_program(name: str, search: str | None = None) -> str:
    """Path of an executable along PATH and the usual directories (sbin is not on a user's PATH), or ""."""
    listed = os.environ.get("PATH", "") if search is None else search
    for directory in (*listed.split(":"), *_MORE_DIRECTORIES):
        path = f"{directory}/{name}"
        if directory.startswith("/") and os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return ""


def slirp_version(path: str, cache_dir: str) -> tuple[int, ...]:
    """(1, 2, 0), by asking the program once for each inode, size and time that it has.  Raises Error."""
    told: list[str] = []

    def ask() -> str:
        told.append(_output_of(path, "--version"))
        return told[0].partition("\n")[0] if parse_version(told[0]) else ""

    version = parse_version(_asked_once(path, os.path.join(cache_dir, "slirp4netns.version"), ask))
    if not version:
        raise Error(f"{path} --version does not name a version: {told[0][:80]!r}")
    return version


def with_pasta(facts: NetworkFacts, cache_dir: str) -> NetworkFacts:
    """The facts with those about pasta(1), for --network pasta.  Raises Error."""
    path = find_program("pasta")
    if not path:
        return facts

    def ask() -> str:
        return "maps" if MAP_GUEST in _output_of(path, "--help") else "plain"

    known = _asked_once(path, os.path.join(cache_dir, "pasta.options"), ask)
    return facts.replace(pasta=path, pasta_maps_host=known == "maps")


def _asked_once(path: str, cache: str, ask: Callable[[], str]) -> str:
    """`ask()`, a line about a program ("": it told nothing), kept for as long as the program is the same one."""
    try:
        stat = os.stat(path)
    except OSError as error:
        package = "slirp4netns" if PROGRAM in path else "passt"
        raise Error(os_error_text(error, path), hint=f"install the package {package}") from error
    key = f"{path}\n{stat.st_dev} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns}\n"
    kept = read_text(cache, 4096)
    if kept.startswith(key) and kept.endswith("\n") and len(kept) > len(key) + 1:
        return kept[len(key) : -1]
    line = ask()
    if line:
        _write_cache(cache, key + line + "\n")
    return line


def parse_version(text: str) -> tuple[int, ...]:
    """From `slirp4netns version 1.2.0+dev`; () where there is none."""
    words = text.partition("\n")[0].split()
    if len(words) < 3 or words[1] != "version":
        return ()
    parts: list[int] = []
    for part in words[2].lstrip("v").split("."):
        digits = ""
        for char in part:
            if not (char.isascii() and char.isdigit()):
                break
            digits += char
        if digits:
            parts.append(int(digits))
        if digits != part:
            break
    return tuple(parts)


def _output_of(path: str, argument: str) -> str:
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.posix_spawn(
            path,
            [path, argument],
            {"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            file_actions=[(os.POSIX_SPAWN_DUP2, write_end, 1), (os.POSIX_SPAWN_DUP2, write_end, 2)],
        )
    except OSError as error:
        os.close(read_end)
        raise Error(os_error_text(error, f"run {path}")) from error
    finally:
        os.close(write_end)
    output = b""
    while chunk := os.read(read_end, 4096):
        output += chunk
    os.close(read_end)
    os.waitpid(pid, 0)
    return output.decode("utf-8", "replace")


def _write_cache(path: str, text: str) -> None:
    partial = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, text.encode("utf-8", "surrogateescape"))
        finally:
            os.close(fd)
        os.rename(partial, path)
    except OSError:
        # Only a cache: the next run asks again.
        try:
            os.unlink(partial)
        except OSError:
            return


def read_text(path: str, limit: int = _MAX_TEXT) -> str:
    """A file's text, "" where it is missing or unreadable; bytes that are not UTF-8 as surrogates."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        data = b""
        while len(data) < limit and (chunk := os.read(fd, min(1 << 20, limit - len(data)))):
            data += chunk
    except OSError:
        return ""
    finally:
        os.close(fd)
    return data.decode("utf-8", "surrogateescape")


def name_sources(hosts_file: str = "", image_hosts: str = "", root: str = "/") -> NameSources:
    """The texts for `network.hosts.name_files`.

    hosts_file: --hosts-file: "" the host's, "none", "image" (then `image_hosts` is that file's text), or a path.
    Raises NotFound for a path that is not there.
    """
    if hosts_file in ("none", "image"):
        hosts = image_hosts if hosts_file == "image" else ""
    elif hosts_file:
        if not os.path.isfile(hosts_file):
            raise NotFound(f"--hosts-file {hosts_file}: no such file")
        hosts = read_text(hosts_file)
    else:
        hosts = read_text(os.path.join(root, "etc/hosts"))
    return NameSources(
        hosts=hosts,
        resolv=read_text(os.path.join(root, "etc/resolv.conf")),
        resolved=read_text(os.path.join(root, "run/systemd/resolve/resolv.conf")),
        host_address=host_address(),
    )


def host_address() -> str:
    """The host's address towards others, as containers reach it; "" for a host that has only a loopback."""
    # Connecting a datagram socket sends nothing: the kernel picks the route, and with it the source address.
    for family, remote in ((_socket.AF_INET, "203.0.113.1"), (_socket.AF_INET6, "2001:db8::1")):
        address = _source_address(family, remote)
        if address:
            return address
    return _interface_address()


def _source_address(family: int, remote: str) -> str:
    try:
        probe = _socket.socket(family, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    except OSError:
        return ""
    try:
        probe.connect((remote, 9))
        address = str(probe.getsockname()[0])
    except OSError:
        return ""
    finally:
        probe.close()
    return "" if address.startswith(("127.", "fe80:")) or address == "::1" else address


def _interface_address() -> str:
    # No default route: the first interface with an IPv4 address that is not a loopback one.
    import fcntl  # C, but needed only here and below

    probe = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        for _, name in _socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, name.encode().ljust(40, b"\0"))
            except OSError:
                continue
            address = _socket.inet_ntoa(answer[20:24])
            if not address.startswith("127."):
                return address
    finally:
        probe.close()
    return ""


def check_namespace(path: str) -> None:
    """Refuse a `ns:PATH` that is not a network namespace, before anything is made.  Raises NotFound or UsageError."""
    import fcntl  # C, but needed only for ns:PATH

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise NotFound(os_error_text(error, f"--network=ns:{path}")) from error
    try:
        kind = fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError:
        kind = 0
    finally:
        os.close(fd)
    if kind != _CLONE_NEWNET:
        raise UsageError(f"--network=ns:{path}: not a network namespace")


def host_ranges(proc: str = "/proc") -> list[Range]:
    """The networks that this host has routes to (default routes left out)."""
    from network.ipam import Range  # only where a subnet is chosen

    found: list[Range] = []
    for line in read_text(f"{proc}/net/route").splitlines()[1:]:
        words = line.split()
        # Hexadecimal, in the host's byte order (proc_pid_net(5)).
        first, mask = (int.from_bytes(int(words[i], 16).to_bytes(4, sys.byteorder), "big") for i in (1, 7))
        if mask:
            found.append(Range(first=first & mask, prefix=mask.bit_count(), bits=32))
    for line in read_text(f"{proc}/net/ipv6_route").splitlines():
        words = line.split()
        prefix = int(words[1], 16)
        if 0 < prefix < 128:
            shift = 128 - prefix
            found.append(Range(first=int(words[0], 16) >> shift << shift, prefix=prefix, bits=128))
    return found
