"""The user's one user namespace: joined through a living supervisor, or made with newuidmap and newgidmap.

Weight: `os`, `rootless.libc`, `rootless.idmap`.

All containers of a user share one mapping, so a second container joins the first one's namespace by
setns(2) (0.3 ms) in place of two setuid helpers (5 ms), and containers can share network, pid and ipc namespaces.
The namespace lives as long as any process in it does; an flock guards "find one or make one".
"""

from __future__ import annotations

import os

from rootless import libc
from rootless.errors import Error, os_error_text
from rootless.fds import read_all, read_file
from rootless.idmap import IdMap, IdRow, host_id_map, subid_advice, user_name

# Set for every process that the engine starts inside its namespace: the caller's uid on the host.
ENV_ROOTLESS_UID = "_PYCTL_ROOTLESS_UID"
CAP_SYS_ADMIN = 1 << 21

_SWITCHED_OFF = "user namespaces are switched off; an administrator can run: "
# Of the network process, below the runtime root: its namespace is the one to be in, because interfaces can be moved
# only between network namespaces of one user namespace.
NETWORK_DIRECTORY = "network"
SUPERVISOR_FILE = "supervisor"  # <runtime root>/<container id>/supervisor: "PID START_TIME" on the host


def needs_user_namespace() -> bool:
    """False for a process that already rules its namespace: real root, or one of ours inside the namespace."""
    return not (os.geteuid() == 0 and libc.effective_capabilities() & CAP_SYS_ADMIN)


def host_uid() -> int:
    """The caller's uid on the host, also from inside the namespace."""
    inside = os.environ.get(ENV_ROOTLESS_UID, "")
    return int(inside) if inside.isdecimal() and os.getuid() == 0 else os.getuid()


def start_time(pid: int, proc: str = "/proc") -> int:
    """Field 22 of /proc/PID/stat (clock ticks since boot); 0 where there is no such process."""
    try:
        stat = read_file(f"{proc}/{pid}/stat")
    except OSError:
        return 0
    # The command name, in parentheses, may hold anything: count the fields behind its end.
    fields = stat[stat.rfind(b")") + 2 :].split()
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def open_supervisor(runtime_dir: str) -> int | None:
    """A pidfd of the supervisor that serves `runtime_dir`, None where it is dead."""
    try:
        pid_text, start_text = read_file(f"{runtime_dir}/{SUPERVISOR_FILE}").split()
        fd = os.pidfd_open(int(pid_text))
    except (OSError, ValueError):
        return None
    if start_time(int(pid_text)) != int(start_text):
        os.close(fd)
        return None
    return fd


def _join_living(runtime_root: str, like: str) -> bool:
    try:
        names = os.listdir(runtime_root)
    except OSError:
        return False
    if like:
        names.sort(key=lambda name: not os.path.exists(f"{runtime_root}/{name}/{like}"))
    elif NETWORK_DIRECTORY in names:
        names = [NETWORK_DIRECTORY, *names]
    for name in names:
        fd = open_supervisor(f"{runtime_root}/{name}")
        if fd is None:
            continue
        try:
            libc.setns(fd, libc.CLONE_NEWUSER)
        except OSError:
            continue  # it died, or is just being born: the next one
        else:
            return True
        finally:
            os.close(fd)
    return False


def enter(runtime_root: str, mount_namespace: bool = True, like: str = "") -> bool:
    """Move this single-threaded process into the user's namespace, as uid 0, with a mount namespace of its own.

    like: prefer a supervisor with a file of this name in its runtime directory.
    Returns True where only a single id is mapped.  A process that rules its namespace already stays in it.
    Raises Error with the remedy where the machine does not allow it.
    """
    if needs_user_namespace():
        uid, gid = os.getuid(), os.getgid()
        lock = os.open(f"{runtime_root}/userns.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _join_living(runtime_root, like):
                _create(host_id_map(uid, gid))
        finally:
            # Held until the new namespace can be joined would be better still, but its owner may be an `unshare`.
            os.close(lock)
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        os.environ[ENV_ROOTLESS_UID] = str(uid)
    if mount_namespace:
        enter_mount_namespace()
    return _is_single()


def enter_mount_namespace() -> None:
    """An own mount namespace that still sees what the host mounts later, and pins nothing that it unmounts."""
    try:
        libc.unshare(libc.CLONE_NEWNS)
        libc.mount("none", "/", None, libc.MS_REC | libc.MS_SLAVE)
    except OSError as error:
        raise Error(os_error_text(error, "cannot make a mount namespace"), hint=_namespace_hint()) from error


def _is_single() -> bool:
    rows = read_file("/proc/self/uid_map").split()
    return len(rows) == 3 and rows[2] == b"1"


def _create(id_map: IdMap) -> None:
    if id_map.single:
        _unshare_user()
        _write_single(id_map)
        return
    gate_read, gate_write = os.pipe2(os.O_CLOEXEC)
    error_read, error_write = os.pipe2(os.O_CLOEXEC)
    me = os.getpid()
    # Forked before unshare, because only a process of the parent namespace may write the map, and
    # held on a pipe until there is a namespace to write it to.  Both run in parallel (4.9 ms together).
    helpers = [
        (tool, _fork_helper(tool, me, rows, gate_read, gate_write, error_write))
        for tool, rows in (("newuidmap", id_map.uids), ("newgidmap", id_map.gids))
    ]
    os.close(gate_read)
    os.close(error_write)
    try:
        _unshare_user()
    except Error:
        # The gate closes with this process's failure; the helpers must not map somebody else's namespace.
        for _tool, pid in helpers:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        os.close(gate_write)
        os.close(error_read)
        raise
    os.write(gate_write, b"gg")
    os.close(gate_write)
    failed = [tool for tool, pid in helpers if os.waitpid(pid, 0)[1] != 0]
    text = read_all(error_read).decode("utf-8", "replace").strip() if failed else ""
    os.close(error_read)
    if failed:
        raise Error(f"{failed[0]} failed: {text.splitlines()[0] if text else 'no message'}", hint=_map_hint(text))


def _fork_helper(tool: str, pid: int, rows: tuple[IdRow, ...], gate: int, gate_write: int, errors: int) -> int:
    argv = [tool, str(pid)]
    for row in rows:
        argv += [str(row.inside), str(row.outside), str(row.count)]
    child = os.fork()
    if child:
        return child
    try:
        os.close(gate_write)
        os.dup2(errors, 2)
        if os.read(gate, 1):
            os.execvp(tool, argv)
    except OSError as error:
        os.write(2, f"{tool}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def _unshare_user() -> None:
    try:
        libc.unshare(libc.CLONE_NEWUSER)
    except OSError as error:
        raise Error(os_error_text(error, "cannot make a user namespace"), hint=_namespace_hint()) from error


def _write_single(id_map: IdMap) -> None:
    # setgroups must be given up before an unprivileged process may write gid_map (user_namespaces(7)).
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"0 {id_map.uids[0].outside} 1"),
        ("gid_map", f"0 {id_map.gids[0].outside} 1"),
    ):
        fd = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, line.encode())
        finally:
            os.close(fd)


def _sysctl(name: str) -> str:
    try:
        return read_file(f"/proc/sys/{name}").decode().strip()
    except OSError:
        return ""


def _namespace_hint() -> str:
    """The switch that forbids user namespaces on this machine, with the administrator's command."""
    if _sysctl("kernel/unprivileged_userns_clone") == "0":
        return _SWITCHED_OFF + "sysctl -w kernel.unprivileged_userns_clone=1"
    if _sysctl("user/max_user_namespaces") == "0":
        return _SWITCHED_OFF + "sysctl -w user.max_user_namespaces=15000"
    if _sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return (
            "AppArmor restricts user namespaces to programs with a profile; an administrator can install "
            "contrib/apparmor/pyctl, or run: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        )
    return "inside another container, that one must be allowed to make namespaces (its seccomp profile, CAP_SYS_ADMIN)"


def _map_hint(text: str) -> str:
    name = user_name(os.getuid())
    if "No such file" in text:
        return "newuidmap and newgidmap are missing; install the package uidmap (Fedora: shadow-utils-subid)"
    if "not allowed" in text or "not found" in text or "not owned" in text:
        return f"check /etc/subuid and /etc/subgid for {name}; {subid_advice(name)}"
    return (
        "newuidmap and newgidmap must be setuid root or have file capabilities; an administrator can run: "
        "setcap cap_setuid=ep /usr/bin/newuidmap && setcap cap_setgid=ep /usr/bin/newgidmap"
    )
