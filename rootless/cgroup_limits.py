"""Resource limits as cgroup v2 files: which ones, with which content, in which order.

Weight: `os`, `rootless.plan`, `rootless.errors`.  Pure but for the numbers of named block devices.
See the kernel's cgroup-v2.rst; conversions from cgroup v1's units are those of the OCI runtimes.
"""

from __future__ import annotations

import os

from rootless.errors import LimitError
from rootless.plan import CgroupWrite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class DeviceLimit(Protocol):
        """A block device and a number."""

        @property
        def path(self) -> str: ...
        @property
        def rate(self) -> int: ...

    class Limits(Protocol):
        """What `pyctl.engine.model.Limits` has: 0 and "" are not asked for, -1 is no limit."""

        @property
        def memory_bytes(self) -> int: ...
        @property
        def memory_swap_bytes(self) -> int: ...
        @property
        def memory_reservation_bytes(self) -> int: ...
        @property
        def memory_swappiness(self) -> int: ...
        @property
        def cpu_quota_us(self) -> int: ...
        @property
        def cpu_period_us(self) -> int: ...
        @property
        def cpu_shares(self) -> int: ...
        @property
        def cpu_rt_period_us(self) -> int: ...
        @property
        def cpu_rt_runtime_us(self) -> int: ...
        @property
        def cpuset_cpus(self) -> str: ...
        @property
        def cpuset_mems(self) -> str: ...
        @property
        def pids(self) -> int: ...
        @property
        def blkio_weight(self) -> int: ...
        @property
        def blkio_weight_device(self) -> tuple[DeviceLimit, ...]: ...
        @property
        def device_read_bps(self) -> tuple[DeviceLimit, ...]: ...
        @property
        def device_write_bps(self) -> tuple[DeviceLimit, ...]: ...
        @property
        def device_read_iops(self) -> tuple[DeviceLimit, ...]: ...
        @property
        def device_write_iops(self) -> tuple[DeviceLimit, ...]: ...
        @property
        def oom_kill_disable(self) -> bool: ...
        @property
        def cgroup_conf(self) -> tuple[str, ...]: ...


_PERIOD_US = 100_000  # the kernel's default for cpu.max


def cgroup_writes(
    limits: Limits,
    *,
    io_weight_file: str = "io.weight",
    device_number: Callable[[str], str] | None = None,
    page_bytes: int = 4096,
) -> tuple[CgroupWrite, ...]:
    """Every file that the limits want written, in the order in which that works.

    device_number: path of a block device → "MAJOR:MINOR" (default: by stat).  Raises LimitError for a value that
    cannot be, and for what cgroup v2 has no counterpart of.
    """
    _refuse_v1(limits)
    number = device_number or block_device_number
    return (
        *_memory_writes(limits, page_bytes),
        *_cpu_writes(limits),
        *_cpuset_writes(limits),
        *_pids_writes(limits),
        *_io_writes(limits, io_weight_file, number),
        *_unified_writes(limits.cgroup_conf),
    )


def _refuse_v1(limits: Limits) -> None:
    for asked, option in (
        (limits.memory_swappiness >= 0, "--memory-swappiness"),
        (limits.oom_kill_disable, "--oom-kill-disable"),
        (limits.cpu_rt_period_us, "--cpu-rt-period"),
        (limits.cpu_rt_runtime_us, "--cpu-rt-runtime"),
    ):
        if asked:
            raise LimitError(f"{option} has no counterpart in cgroup v2")


def _amount(value: int) -> str:
    return "max" if value < 0 else str(value)


def _memory_writes(limits: Limits, page_bytes: int) -> list[CgroupWrite]:
    writes = []
    memory, swap = limits.memory_bytes, limits.memory_swap_bytes

    def write(file: str, value: int, option: str, required: bool = True) -> CgroupWrite:
        # The kernel counts pages and rounds down.
        kept = _amount(value // page_bytes * page_bytes if value > 0 else value)
        return CgroupWrite(
            controller="memory", file=file, value=_amount(value), option=option, expected=kept, required=required
        )

    if memory:
        writes.append(write("memory.max", memory, "--memory"))
    if swap and swap > 0:
        if memory <= 0:
            raise LimitError("--memory-swap needs --memory beside it: it counts both together")
        if swap < memory:
            raise LimitError(f"--memory-swap ({swap}) is less than --memory ({memory}): it counts both together")
        writes.append(write("memory.swap.max", swap - memory, "--memory-swap"))
    elif swap:
        writes.append(write("memory.swap.max", -1, "--memory-swap"))
    elif memory > 0:
        # Docker's and Podman's default: as much swap as memory.  Nothing to limit in a kernel without swap.
        writes.append(write("memory.swap.max", memory, "--memory", required=False))
    if limits.memory_reservation_bytes:
        if 0 < memory < limits.memory_reservation_bytes:
            raise LimitError(f"--memory-reservation is more than --memory ({memory})")
        writes.append(write("memory.low", limits.memory_reservation_bytes, "--memory-reservation"))
    return writes


def shares_to_weight(shares: int) -> int:
    """cpu.shares (2 … 262144, default 1024) as cpu.weight (1 … 10000), the way that OCI runtimes do it."""
    return 1 + (max(2, min(shares, 262_144)) - 2) * 9999 // 262_142


def blkio_to_weight(weight: int) -> int:
    """blkio.weight (10 … 1000) as io.weight (1 … 10000)."""
    return 1 + (weight - 10) * 9999 // 990


def _cpu_writes(limits: Limits) -> list[CgroupWrite]:
    writes = []
    quota, period = limits.cpu_quota_us, limits.cpu_period_us
    if quota or period:
        option = "--cpu-period" if not quota else "--cpus" if period in (0, _PERIOD_US) else "--cpu-quota"
        if period and not 1_000 <= period <= 1_000_000:
            raise LimitError(f"--cpu-period {period} is not between 1000 and 1000000 microseconds")
        if 0 < quota < 1_000:
            raise LimitError(f"{option}: a quota of {quota} microseconds is below the kernel's least, 1000")
        value = f"{quota if quota > 0 else 'max'} {period or _PERIOD_US}"
        writes.append(CgroupWrite(controller="cpu", file="cpu.max", value=value, option=option))
    if limits.cpu_shares:
        weight = str(shares_to_weight(limits.cpu_shares))
        writes.append(CgroupWrite(controller="cpu", file="cpu.weight", value=weight, option="--cpu-shares"))
    return writes


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """ "0-2,5" → (0, 1, 2, 5), as cpuset(7) defines a list.  Raises ValueError."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not (first.isascii() and first.isdecimal()) or (dash and not (last.isascii() and last.isdecimal())):
            raise ValueError(part)
        start, end = int(first), int(last or first)
        if end < start or end >= 1 << 16:
            raise ValueError(part)
        found.update(range(start, end + 1))
    return tuple(sorted(found))


def format_cpu_list(numbers: tuple[int, ...]) -> str:
    """(0, 1, 2, 5) → "0-2,5", as the kernel writes a list."""
    parts: list[tuple[int, int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1] = (parts[-1][0], number)
        else:
            parts.append((number, number))
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def _cpuset_writes(limits: Limits) -> list[CgroupWrite]:
    writes = []
    for text, file, option in (
        (limits.cpuset_cpus, "cpuset.cpus", "--cpuset-cpus"),
        (limits.cpuset_mems, "cpuset.mems", "--cpuset-mems"),
    ):
        if not text:
            continue
        value = _cpu_list(text, option)
        writes.append(CgroupWrite(controller="cpuset", file=file, value=value, option=option))
    return writes


def _cpu_list(text: str, option: str) -> str:
    try:
        return format_cpu_list(parse_cpu_list(text))
    except ValueError as error:
        raise LimitError(f"{option} {text!r} is not a list of numbers", hint="as 0-2,5") from error


def _pids_writes(limits: Limits) -> list[CgroupWrite]:
    if not limits.pids:
        return []
    return [CgroupWrite(controller="pids", file="pids.max", value=_amount(limits.pids), option="--pids-limit")]


def block_device_number(path: str) -> str:
    """ "8:0" of a block device.  Raises LimitError."""
    try:
        held = os.stat(path)
    except OSError as error:
        raise LimitError(f"{path}: {error.strerror}") from error
    if held.st_mode & 0o170000 != 0o060000:
        raise LimitError(f"{path} is not a block device")
    return f"{os.major(held.st_rdev)}:{os.minor(held.st_rdev)}"


def _io_writes(limits: Limits, weight_file: str, number: Callable[[str], str]) -> list[CgroupWrite]:
    writes = []

    def weight(value: int, option: str) -> str:
        if not 10 <= value <= 1000:
            raise LimitError(f"{option} {value} is not between 10 and 1000")
        return str(blkio_to_weight(value) if weight_file == "io.weight" else value)

    def write(file: str, value: str, option: str, expected: str = "") -> None:
        writes.append(CgroupWrite(controller="io", file=file, value=value, option=option, expected=expected))

    if limits.blkio_weight:
        value = weight(limits.blkio_weight, "--blkio-weight")
        write(weight_file, f"default {value}", "--blkio-weight")
    for row in limits.blkio_weight_device:
        value = weight(row.rate, "--blkio-weight-device")
        write(weight_file, f"{number(row.path)} {value}", "--blkio-weight-device")
    for rows, key, option in (
        (limits.device_read_bps, "rbps", "--device-read-bps"),
        (limits.device_write_bps, "wbps", "--device-write-bps"),
        (limits.device_read_iops, "riops", "--device-read-iops"),
        (limits.device_write_iops, "wiops", "--device-write-iops"),
    ):
        for row in rows:
            write("io.max", f"{number(row.path)} {key}={row.rate}", option)
    return writes


def _unified_writes(conf: tuple[str, ...]) -> list[CgroupWrite]:
    writes = []
    for entry in conf:
        file, separator, value = entry.partition("=")
        controller, dot, rest = file.partition(".")
        # cgroup.* would move or kill processes, and a slash would leave the container's own cgroup.
        if not (separator and value and dot and rest) or "/" in file or controller == "cgroup" or "\n" in value:
            raise LimitError(f"--cgroup-conf {entry!r} is not CONTROLLER.FILE=VALUE", hint="as memory.high=1073741824")
        if file in ("cpuset.cpus", "cpuset.mems"):
            value = _cpu_list(value, "--cgroup-conf")
        writes.append(CgroupWrite(controller=controller, file=file, value=value, option="--cgroup-conf"))
    return writes
