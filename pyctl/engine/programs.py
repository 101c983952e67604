"""The programs and devices of this host that a container needs: where they are, which version.

Weight: `os`; `_posixsubprocess`-free: a version is asked for once for each change of the file and kept.
"""

from __future__ import annotations

import os
import stat

from rootless.errors import Error
from rootless.fds import read_all, read_file, write_file

_DIRECTORIES = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin")
_INIT_PROGRAMS = ("/usr/libexec/podman/catatonit", "/usr/lib/podman/catatonit", "/usr/bin/catatonit", "/usr/bin/tini",
                  "/usr/bin/docker-init", "/sbin/tini")  # fmt: skip
_RLIMITS = ("as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss",
            "rtprio", "rttime", "sigpending", "stack")  # fmt: skip
_PROC_NAMES = {
    "as": "Max address space", "core": "Max core file size", "cpu": "Max cpu time", "data": "Max data size",
    "fsize": "Max file size", "locks": "Max file locks", "memlock": "Max locked memory",
    "msgqueue": "Max msgqueue size", "nice": "Max nice priority", "nofile": "Max open files", "nproc": "Max processes",
    "rss": "Max resident set", "rtprio": "Max realtime priority", "rttime": "Max realtime timeout",
    "sigpending": "Max pending signals", "stack": "Max stack size",
}  # fmt: skip


def find(name: str) -> str:
    """Path of an executable along PATH and the usual directories (sbin is on no user's PATH), or ""."""
    for directory in (*os.environ.get("PATH", "").split(":"), *_DIRECTORIES):
        path = f"{directory}/{name}"
        if directory.startswith("/") and os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return ""


def need(name: str, hint: str) -> str:
    """`find`, or Error with what to do."""
    path = find(name)
    if not path:
        raise Error(f"{name} is not installed", hint=hint)
    return path


def runtime_path(name: str, configured: dict[str, tuple[str, ...]]) -> str:
    """The OCI runtime by path, by a configured name, or by name along PATH.  Raises Error."""
    if "/" in name:
        if not os.access(name, os.X_OK):
            raise Error(f"OCI runtime {name}: no such program")
        return os.path.abspath(name)
    for path in configured.get(name, ()):
        if os.access(path, os.X_OK):
            return path
    path = find(name)
    if not path:
        raise Error(
            f"OCI runtime {name!r} is not installed", hint="install the package crun, or name another: --runtime"
        )
    return path


def version(path: str, cache_dir: str) -> tuple[int, ...]:
    """(1, 8, 1) from `PATH --version`, asked once for each inode, size and time of the file; () where it says none."""
    info = os.stat(path)
    key = f"{path} {info.st_dev} {info.st_ino} {info.st_size} {info.st_mtime_ns}\n"
    kept_in = f"{cache_dir}/version-{os.path.basename(path)}"
    try:
        kept = read_file(kept_in, limit=4096).decode()
    except (OSError, UnicodeDecodeError):
        kept = ""
    if not kept.startswith(key):
        kept = key + _first_line(path)
        try:
            os.makedirs(cache_dir, 0o700, exist_ok=True)
            partial = f"{kept_in}.{os.getpid()}"
            write_file(partial, kept.encode(), 0o600)
            os.rename(partial, kept_in)
        except OSError:
            pass  # asked again next time
    return _numbers(kept[len(key) :])


def _first_line(path: str) -> str:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.posix_spawn(path, [path, "--version"], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)])
    except OSError:
        os.close(reader)
        return ""
    finally:
        os.close(writer)
    text = read_all(reader, 65536).decode("utf-8", "replace")
    os.close(reader)
    os.waitpid(pid, 0)
    return text.partition("\n")[0]


def _numbers(line: str) -> tuple[int, ...]:
    for word in line.split():
        parts = word.lstrip("v").split("-")[0].split("+")[0].split(".")
        if len(parts) > 1 and parts[0].isdecimal():
            return tuple(int(p) for p in parts if p.isdecimal())
    return ()


def init_program(configured: str) -> str:
    """The program for --init.  Raises Error."""
    for path in (configured,) if configured else _INIT_PROGRAMS:
        if os.access(path, os.X_OK):
            return path
    raise Error(
        f"--init: {configured or 'no init program'} is not installed",
        hint="install the package catatonit, or name one with --init-path",
    )


def resource_limits(proc: str = "/proc/self") -> dict[str, tuple[int, int]]:
    """This process's limits: "nofile" → (soft, hard), -1 for none.  From /proc, to load no resource module."""
    found: dict[str, tuple[int, int]] = {}
    lines = read_file(f"{proc}/limits").decode().splitlines()[1:]
    by_title = {line[:25].strip(): line[25:].split() for line in lines}
    for name in _RLIMITS:
        values = by_title.get(_PROC_NAMES[name])
        if values:
            soft, hard = (-1 if v == "unlimited" else int(v) for v in values[:2])
            found[name] = (soft, hard)
    return found


def accessible_devices(directory: str = "/dev") -> tuple[str, ...]:
    """Device nodes that the caller may open for reading and writing, for --privileged; terminals are left out."""
    found = []
    for name in sorted(os.listdir(directory)):
        path = f"{directory}/{name}"
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            continue
        usable = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
        own = name in ("console", "ptmx", "null", "zero", "full", "random", "urandom", "tty") or name.startswith("tty")
        if usable and not own and os.access(path, os.R_OK | os.W_OK):
            found.append(path)
    if os.access("/dev/net/tun", os.R_OK | os.W_OK):
        found.append("/dev/net/tun")
    return tuple(found)
