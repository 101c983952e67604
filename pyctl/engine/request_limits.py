"""Resources of a container: cgroup limits, --ulimit, --oom-score-adj.

Weight: `pyctl.engine.model`.  `limits` is loaded where such an option is given.  What is refused here cannot
hold on any host; what this host's cgroups cannot do is found, and refused, when the limits are written.
"""

from __future__ import annotations

from pyctl.engine.model import DeviceRate, Limits, Ulimit
from pyctl.engine.request_facts import refused
from pyctl.engine.request_text import is_number, pair, whole
from pyctl.engine.spec_security import RLIMITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyctl.engine.request_facts import Options, RequestFacts

_PERIOD_US = 100_000


def limits(options: Options) -> Limits:
    """All cgroup limits; a period of 100 ms is meant where only --cpus or a quota is given."""

    def number(field: str) -> Any:
        return options.get(field) if options.given(field) else 0

    memory, swap = number("memory"), number("memory_swap")
    if memory < 0:
        raise refused("--memory", memory, "must be a size above 0")
    if options.given("memory_swap") and swap >= 0:
        if not memory:
            raise refused("--memory-swap", _size(swap), "needs --memory", hint="it is memory and swap together")
        if swap and swap < memory:
            raise refused(
                "--memory-swap",
                _size(swap),
                f"is less than --memory {_size(memory)}",
                hint="it is memory and swap together",
            )
    reservation = number("memory_reservation")
    if memory and reservation > memory:
        raise refused("--memory-reservation", _size(reservation), f"is more than --memory {_size(memory)}")
    swappiness = options.get("memory_swappiness") if options.given("memory_swappiness") else -1
    if not -1 <= swappiness <= 100:
        raise refused("--memory-swappiness", swappiness, "must be from 0 to 100, or -1")
    quota, period = _cpu(options)
    weight = number("blkio_weight")
    if options.given("blkio_weight") and weight and not 10 <= weight <= 1000:
        raise refused("--blkio-weight", weight, "must be from 10 to 1000")
    pids = number("pids_limit")
    if options.given("pids_limit"):
        pids = pids if pids > 0 else -1  # 0 is no bound, as with Podman
    return Limits(
        memory_bytes=memory,
        memory_swap_bytes=swap,
        memory_reservation_bytes=reservation,
        memory_swappiness=swappiness,
        cpu_quota_us=quota,
        cpu_period_us=period,
        cpu_shares=number("cpu_shares"),
        cpu_rt_period_us=number("cpu_rt_period"),
        cpu_rt_runtime_us=number("cpu_rt_runtime"),
        cpuset_cpus=_cpuset(options, "cpuset_cpus"),
        cpuset_mems=_cpuset(options, "cpuset_mems"),
        pids=pids,
        blkio_weight=weight,
        blkio_weight_device=_devices(options, "blkio_weight_device"),
        device_read_bps=_devices(options, "device_read_bps"),
        device_write_bps=_devices(options, "device_write_bps"),
        device_read_iops=_devices(options, "device_read_iops"),
        device_write_iops=_devices(options, "device_write_iops"),
        oom_kill_disable=bool(options.get("oom_kill_disable")),
        cgroup_conf=tuple("=".join(_cgroup_conf(w)) for w in options.get("cgroup_conf") or ()),
    )


def _size(number: int) -> str:
    for unit, power in (("g", 30), ("m", 20), ("k", 10)):
        if number >= 1 << power and number % (1 << power) == 0:
            return f"{number >> power}{unit}"
    return str(number)


def _cpu(options: Options) -> tuple[int, int]:
    """(quota, period) in microseconds, 0 where not asked for; quota -1 is no bound."""
    quota = options.get("cpu_quota") if options.given("cpu_quota") else 0
    period = options.get("cpu_period") if options.given("cpu_period") else 0
    if options.given("cpus"):
        cpus = options.get("cpus")
        for field in ("cpu_period", "cpu_quota"):
            if options.given(field):
                raise refused("--cpus", f"{cpus:g}", f"cannot be combined with --{field.replace('_', '-')}")
        if cpus < 0:
            raise refused("--cpus", f"{cpus:g}", "must be 0 (no bound) or more")
        quota, period = round(cpus * _PERIOD_US), _PERIOD_US if cpus else 0
        if cpus and quota < 1000:
            raise refused("--cpus", f"{cpus:g}", "must be at least 0.01")
    # sched-bwc.rst: at least 1 ms, and a period of at most 1 s.
    if period and not 1000 <= period <= 1_000_000:
        raise refused("--cpu-period", period, "must be from 1000 to 1000000 microseconds")
    if quota not in (0, -1) and quota < 1000:
        raise refused("--cpu-quota", quota, "must be at least 1000 microseconds, or -1 for no bound")
    return quota, period


def _cpuset(options: Options, field: str) -> str:
    """`0-3,6`: the list format of cpuset(7)."""
    text: str = options.get(field) or ""
    for part in text.split(",") if text else ():
        first, dash, last = part.partition("-")
        good = is_number(first) and (not dash or (is_number(last) and int(last) >= int(first)))
        if not good or int(last or first) > 65535:
            raise refused("--" + field.replace("_", "-"), text, "must be a list of numbers and ranges, as 0-3,6")
    return text


def _devices(options: Options, field: str) -> tuple[DeviceRate, ...]:
    option = "--" + field.replace("_", "-")
    found = []
    for word in options.get(field) or ():
        path, colon, rate = word.rpartition(":")
        if not colon or not path.startswith("/dev/"):
            raise refused(option, word, "must be /dev/NAME:NUMBER")
        if field == "blkio_weight_device":
            number = whole(option, word, rate, 10, 1000, what="the weight")
        elif field.endswith("bps"):
            from pyctl.cli.convert import parse_bytes  # the one parser of sizes

            try:
                number = parse_bytes(rate)
            except ValueError as error:
                raise refused(option, word, f"the rate is {error}") from error
        else:
            number = whole(option, word, rate, 1, 2**63 - 1, what="the rate")
        if number < 1:
            raise refused(option, word, "the rate must be at least 1")
        found.append(DeviceRate(path=path, rate=number))
    return tuple(found)


def _cgroup_conf(word: str) -> tuple[str, str]:
    """`controller.file=value` of cgroup v2.  A name, never a path: it becomes a file's."""
    name, value = pair("--cgroup-conf", word)
    controller, dot, rest = name.partition(".")
    plain = all(c.isalnum() or c in "._-" for c in name) and name.isascii()
    if not dot or not rest or not controller or not plain or name.startswith("cgroup."):
        raise refused("--cgroup-conf", word, "must be CONTROLLER.FILE=VALUE, as memory.high=1073741824")
    return name, value


# --- limits of the process -----------------------------------------------------------------------


def ulimits(options: Options, facts: RequestFacts) -> tuple[Ulimit, ...]:
    """--ulimit and the site's default ones; a later one of a name replaces an earlier."""
    found: dict[str, Ulimit] = {}
    for word in facts.defaults.default_ulimits:
        made = ulimit_option("containers.conf: default_ulimits", word, {})
        found[made.name] = made
    for word in options.get("ulimit") or ():
        made = ulimit_option("--ulimit", word, facts.rlimits)
        found[made.name] = made
    return tuple(found.values())


def ulimit_option(option: str, word: str, host: dict[str, tuple[int, int]]) -> Ulimit:
    """`NAME=SOFT[:HARD]`, -1 for no limit, or `host` for all of the caller's own."""
    if word == "host":
        return Ulimit(name="host", soft=-1, hard=-1)
    name, equals, value = word.partition("=")
    name = name.lower().removeprefix("rlimit_")
    if not equals or name not in RLIMITS:
        raise refused(option, word, "must be NAME=SOFT[:HARD] or host", hint="names: " + " ".join(RLIMITS))
    numbers = value.split(":")
    if not 1 <= len(numbers) <= 2 or any(n not in ("-1", "unlimited") and not is_number(n) for n in numbers):
        raise refused(option, word, "the limits must be numbers, or -1 for none")
    soft, hard = (int(n) if is_number(n) else -1 for n in (numbers[0], numbers[-1]))
    if hard >= 0 and (soft < 0 or soft > hard):
        raise refused(option, word, "the soft limit is above the hard one")
    most = host.get(name, (-1, -1))[1]
    if most >= 0 and not 0 <= hard <= most:
        shown = "no limit" if hard < 0 else str(hard)
        raise refused(
            option,
            word,
            f"{shown} is above this session's hard limit of {most}, which only root can raise",
            hint=f"ask for {name}={most}, or see limits.conf(5)",
        )
    return Ulimit(name=name, soft=soft, hard=hard)


def oom_score(options: Options, facts: RequestFacts) -> int | None:
    """--oom-score-adj: only root may go below the caller's own (proc(5))."""
    if not options.given("oom_score_adj"):
        return None
    score: int = options.get("oom_score_adj")
    if not -1000 <= score <= 1000:
        raise refused("--oom-score-adj", score, "must be from -1000 to 1000")
    if score < facts.oom_score_adj and facts.uid != 0:
        raise refused(
            "--oom-score-adj", score, f"only root can go below this session's own value, {facts.oom_score_adj}"
        )
    return score
