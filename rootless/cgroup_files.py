"""Files of a cgroup v2 directory: limits written and read back, use measured, events awaited, trees removed.

Weight: `os`, `rootless.values`, `rootless.errors`; `select` where an event is awaited.  See the kernel's cgroup-v2.rst.
"""

from __future__ import annotations

import os
import time

from rootless.errors import LimitError, os_error_text
from rootless.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rootless.plan import CgroupWrite

SYSFS = "/sys/fs/cgroup"
_SETS = ("cpuset.cpus", "cpuset.mems")
_SUFFIXES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class CgroupUsage(Value):
    """What a container has used; -1 where its controller is not there (or nothing limits it)."""

    memory_bytes: int = -1  # without page cache that is not in use, as `podman stats` counts
    memory_max_bytes: int = -1
    cpu_usec: int = -1
    system_usec: int = -1  # of it in the kernel
    pids: int = -1
    pids_max: int = -1
    read_bytes: int = -1
    write_bytes: int = -1


def read(directory: int, name: str) -> str:
    """A file of an open cgroup directory.  Raises OSError."""
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        parts = []
        while part := os.read(fd, 1 << 16):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts).decode("utf-8", "replace")


def write(directory: int, name: str, text: str) -> None:
    """Write a file of an open cgroup directory, in one write(2).  Raises OSError."""
    fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def keyed(text: str) -> dict[str, int]:
    """A flat keyed file: "oom 0\\noom_kill 1\\n" → {"oom": 0, "oom_kill": 1}."""
    return {key: int(value) for key, _, value in (line.partition(" ") for line in text.splitlines()) if value.isdigit()}


def open_directory(path: str) -> int:
    """A cgroup's directory, for `read` and `write`.  Raises OSError."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def own_path(proc: str = "/proc", process: str = "self") -> str:
    """This process's cgroup v2 path, or another one's by its pid."""
    with open(f"{proc}/{process}/cgroup", "rb", buffering=0) as file:
        text = file.read().decode("utf-8", "surrogateescape")
    return next((line[3:] for line in text.splitlines() if line.startswith("0::")), "")


def apply_writes(directory: int, writes: Iterable[CgroupWrite]) -> None:
    """Write limits into an open cgroup directory and read each one back.  Raises LimitError naming the option."""
    for row in writes:
        try:
            write(directory, row.file, row.value)
        except FileNotFoundError as error:
            if row.required:
                raise LimitError(f"{row.option} cannot take effect: this kernel has no {row.file}") from error
            continue
        except OSError as error:
            if row.required:
                raise LimitError(_refusal(directory, row, error)) from error
            continue
        _check(directory, row)


def _refusal(directory: int, row: CgroupWrite, error: OSError) -> str:
    if row.file in _SETS:
        here = read(directory, row.file + ".effective").strip()
        return f"{row.option} {row.value} cannot take effect: here are {here}"
    return os_error_text(error, f"{row.option} cannot take effect: {row.file} refuses {row.value!r}")


def _check(directory: int, row: CgroupWrite) -> None:
    try:
        held = read(directory, row.file)
    except OSError:
        return  # a file that can only be written, as memory.reclaim
    if not _agrees(row.file, row.expected or row.value, held):
        shown = " ".join(held.split()) or "nothing"
        raise LimitError(f"{row.option} is not in force: {row.file} holds {shown}, not {row.value}")
    if row.file in _SETS:
        # What is not there is accepted and then passed over: the kernel takes the parent's instead.
        effective = read(directory, row.file + ".effective").strip()
        if effective != row.value:
            raise LimitError(f"{row.option} {row.value} cannot take effect: here are {effective}")


def _agrees(file: str, wanted: str, held: str) -> bool:
    """Does a cgroup file's content say what was written?"""
    lines = [line.split() for line in held.splitlines()]
    words = wanted.split()
    if words in lines:
        return True
    if file in ("io.max", "io.low", "io.latency", "io.cost.qos"):  # one line a device, all its keys
        return any(line[:1] == words[:1] and set(words) <= set(line) for line in lines)
    if file.endswith("io.weight") and len(words) == 1:
        return ["default", *words] in lines
    page = os.sysconf("SC_PAGE_SIZE")
    asked, there = _number(wanted), _number(held)
    return asked is not None and there in (asked, asked // page * page)  # the kernel counts pages


def _number(text: str) -> int | None:
    """A number as the kernel's memparse reads it: "1G" is 1073741824."""
    text = text.strip().upper()
    factor = _SUFFIXES.get(text[-1:], 1)
    digits = text if factor == 1 else text[:-1]
    return int(digits) * factor if digits.isascii() and digits.isdecimal() else None


def read_usage(directory: int) -> CgroupUsage:
    """Measure an open cgroup directory; files that are not there count as -1."""

    def number(name: str) -> int:
        try:
            text = read(directory, name).strip()
        except OSError:
            return -1
        return int(text) if text.isdigit() else -1

    def table(name: str) -> dict[str, int]:
        try:
            return keyed(read(directory, name))
        except OSError:
            return {}

    memory = number("memory.current")
    if memory >= 0:
        memory = max(memory - table("memory.stat").get("inactive_file", 0), 0)
    read_bytes = write_bytes = -1
    try:
        for line in read(directory, "io.stat").splitlines():
            pairs = dict(word.split("=", 1) for word in line.split()[1:])
            read_bytes = max(read_bytes, 0) + int(pairs.get("rbytes", 0))
            write_bytes = max(write_bytes, 0) + int(pairs.get("wbytes", 0))
        read_bytes, write_bytes = max(read_bytes, 0), max(write_bytes, 0)
    except (OSError, ValueError):
        pass
    cpu = table("cpu.stat")
    return CgroupUsage(
        memory_bytes=memory,
        memory_max_bytes=number("memory.max"),
        cpu_usec=cpu.get("usage_usec", -1),
        system_usec=cpu.get("system_usec", -1),
        pids=number("pids.current"),
        pids_max=number("pids.max"),
        read_bytes=read_bytes,
        write_bytes=write_bytes,
    )


def wait_event(directory: int, key: str, value: int, timeout_s: float) -> bool:
    """Wait until cgroup.events says so: the kernel notifies its readers by POLLPRI (cgroup-v2.rst)."""
    import select

    fd = os.open("cgroup.events", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        deadline = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(fd, select.POLLPRI)
        while keyed(os.pread(fd, 4096, 0).decode()).get(key) != value:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            poll.poll(max(int(remaining * 1000), 1))
        return True
    finally:
        os.close(fd)


def processes(path: str) -> list[int]:
    """Every process below a cgroup that this pid namespace shows."""
    found = []
    for directory, _below, _names in os.walk(path):
        try:
            with open(f"{directory}/cgroup.procs", encoding="ascii") as file:
                found += [int(line) for line in file if int(line)]
        except OSError:
            continue
    return found


def remove_tree(path: str) -> bool:
    """Remove a cgroup and those below it, deepest first; False where a process still lives in one."""
    try:
        with os.scandir(path) as entries:
            below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return True
    left = [child for child in below if not remove_tree(child)]
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return not left
    except OSError:
        return False
    return not left


def prepare_split(path: str, sysfs: str = SYSFS) -> None:
    """--cgroups=split, before the supervisor: move every process of the service's cgroup into its leaf `supervisor`.

    Raises LimitError.
    """
    directory = sysfs + path.rstrip("/")
    try:
        os.makedirs(f"{directory}/supervisor", 0o755, exist_ok=True)
        with open(f"{directory}/cgroup.procs", encoding="ascii") as file:
            pids = file.read().split()
        for pid in pids:
            try:
                with open(f"{directory}/supervisor/cgroup.procs", "wb", buffering=0) as leaf:
                    leaf.write(pid.encode())
            except ProcessLookupError:
                continue
    except OSError as error:
        raise LimitError(os_error_text(error, f"cannot divide the cgroup {path}")) from error


def sweep(parent: str, sysfs: str = SYSFS) -> int:
    """Remove what supervisors that were killed left below `parent` (systemd does that itself); how many."""
    removed = 0
    try:
        names = [n for n in os.listdir(sysfs + parent) if n.startswith("pyctl-") and n.endswith(".scope")]
    except OSError:
        return 0
    for name in names:
        path = f"{sysfs}{parent.rstrip('/')}/{name}"
        try:
            with open(f"{path}/cgroup.events", encoding="ascii") as file:
                idle = keyed(file.read()).get("populated") == 0
        except OSError:
            continue
        removed += idle and remove_tree(path)
    return removed
