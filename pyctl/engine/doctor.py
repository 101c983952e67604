"""`doctor`: everything that keeps containers from working well here, each with the command that helps.

Weight: light; not on the path of `run`.  Where something can be tried, it is tried (in a child), not guessed.
"""

from __future__ import annotations

import os

from pyctl.engine import programs
from rootless import cgroup_facts, cgroup_plan, seccomp, userns
from rootless.errors import Error
from rootless.idmap import subid_advice, user_name
from rootless.values import Value, decode, dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyctl.engine.engine import Engine

OK, WARNING, PROBLEM = "ok", "warning", "problem"
_LITTLE_SPACE_BYTES = 2 << 30
_WANTED_CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")
# Kernel bounds a user (not a container) that run out with a few dozen containers, and what is comfortable.
_BOUNDS = (
    ("fs/inotify/max_user_instances", 512, "programs that watch files fail with EMFILE"),
    ("fs/inotify/max_user_watches", 65536, "programs that watch files fail with ENOSPC"),
    ("kernel/keys/maxkeys", 1000, "further ones share one empty keyring"),
    ("user/max_user_namespaces", 1000, "starting a container fails with ENOSPC"),
)


class Check(Value):
    """One finding.  fix: what helps, "" where nothing is to be done."""

    name: str
    status: str  # OK | WARNING | PROBLEM
    text: str
    fix: str = ""


def checks(engine: Engine) -> list[Check]:
    """All findings, in the order in which a container needs the things.  A check that fails itself is a problem."""
    found: list[Check] = []
    for name, look in (
        ("user namespace", _namespace),
        ("ids", _ids),
        ("storage", _storage),
        ("overlay", _overlay),
        ("network", _network),
        ("runtime", _runtime),
        ("seccomp", _seccomp),
        ("session", _session),
        ("limits", _limits),
        ("kernel bounds", lambda _engine: _bounds()),
    ):
        try:
            rows = look(engine)
        except Error as error:
            rows = [Check(name=name, status=PROBLEM, text=error.message, fix=error.hint)]
        found += [row.replace(name=name) for row in rows]
    return found


def _check(status: str, text: str, fix: str = "") -> list[Check]:
    return [Check(name="", status=status, text=text, fix=fix)]


def in_namespace(engine: Engine, work: Callable[[], Value]) -> Value:
    """The result of `work` in a child that has entered the user's namespace.  Raises Error as it did there."""
    root = engine.runtime_root
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if not pid:
        try:
            userns.enter(root)
            answer = work()
        except Error as error:
            answer = Check(name="", status=PROBLEM, text=error.message, fix=error.hint)
        except BaseException as error:
            answer = Check(name="", status=PROBLEM, text=f"{type(error).__name__}: {error}")
        os.write(writer, dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    text = b""
    while part := os.read(reader, 65536):
        text += part
    os.close(reader)
    os.waitpid(pid, 0)
    if not text:
        raise Error("the test process ended without an answer")
    answer = decode(text)
    if isinstance(answer, Check) and answer.status == PROBLEM:
        raise Error(answer.text, hint=answer.fix)
    assert isinstance(answer, Value)
    return answer


# --- identity --------------------------------------------------------------------------------------


def _namespace(engine: Engine) -> list[Check]:
    if engine.uid == 0:
        return _check(OK, "root needs none of its own")
    in_namespace(engine, lambda: Check(name="", status=OK, text=""))
    return _check(OK, "can be made and mapped")


def _ids(engine: Engine) -> list[Check]:
    if engine.uid == 0:
        return _check(OK, "all")
    name = user_name(engine.uid)
    if engine.id_map.single:
        text = f"{name} has no subordinate ids: a container has only one user, and most images do not unpack"
        return _check(WARNING, text, subid_advice(name))
    count = min(engine.uid_count, engine.gid_count)
    if count < 65536:
        text = f"{count} ids are mapped, images use up to 65535 (nobody is 65534)"
        return _check(WARNING, text, subid_advice(name))
    return _check(OK, f"{engine.uid_count} uids and {engine.gid_count} gids are mapped")


# --- storage ---------------------------------------------------------------------------------------


def _storage(engine: Engine) -> list[Check]:
    from storage.paths import filesystem_type, unfit_reason

    root = engine.paths.root
    reason = unfit_reason(root)
    if reason:
        return _check(PROBLEM, f"{root}: {reason}", "set `root` in pyctl.conf to a directory on a local disk")
    held = root
    while not os.path.exists(held):
        held = os.path.dirname(held)
    room = os.statvfs(held)
    free = room.f_bavail * room.f_frsize
    text = f"{root} on {filesystem_type(root) or 'an unknown file system'}, {free >> 20} MiB free"
    if free < _LITTLE_SPACE_BYTES:
        return _check(WARNING, text, "pyctl system prune --all frees what no container uses")
    return _check(OK, text)


def _overlay(engine: Engine) -> list[Check]:
    from storage import overlay

    fuse = overlay.fuse_report(programs.find("fuse-overlayfs"))
    engine.paths.prepare()
    kernel = in_namespace(engine, lambda: overlay.kernel_report(engine.paths.layers))
    assert isinstance(kernel, overlay.DriverReport)
    chosen, other = (fuse, kernel) if engine.storage_driver == "fuse-overlayfs" else (kernel, fuse)
    if chosen.reason:
        also = "" if other.reason else f"; or set storage_driver = {other.name!r} in pyctl.conf, which works here"
        return _check(PROBLEM, f"{chosen.name}: {chosen.reason}", (chosen.hint or "see the reason") + also)
    text = f"{chosen.name} {chosen.version}".rstrip()
    if chosen is fuse and not kernel.reason:
        text += "; the kernel's overlay works here as well and is several times faster (storage_driver in pyctl.conf)"
    return _check(OK, text)


# --- programs --------------------------------------------------------------------------------------


def _network(engine: Engine) -> list[Check]:
    path = engine.config.network_cmd_path or programs.find("slirp4netns")
    if not path:
        return _check(PROBLEM, "slirp4netns is not installed", "install the package slirp4netns")
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        fix = "an administrator can run: modprobe tun && chmod 666 /dev/net/tun"
        return _check(PROBLEM, f"/dev/net/tun: {error.strerror}", fix)
    return _check(OK, path) + _policy_routing()


def _policy_routing() -> list[Check]:
    """What the port forwarder needs of the kernel."""
    import _socket

    from rootless.rtnetlink import MAIN_TABLE, RouteSocket

    routes = RouteSocket()
    try:
        if not routes.has_rule(_socket.AF_INET, MAIN_TABLE):
            fix = "publish ports with --network slirp4netns:port_handler=slirp4netns"
            return _check(WARNING, "this kernel has no policy routing: ports cannot be forwarded", fix)
        if os.path.isdir("/proc/sys/net/ipv6") and not routes.has_rule(_socket.AF_INET6, MAIN_TABLE):
            return _check(WARNING, "this kernel has no policy routing for IPv6: such clients appear as the host")
    finally:
        routes.close()
    return []


def _runtime(engine: Engine) -> list[Check]:
    name = str(engine.globals.runtime or engine.config.runtime)
    path = programs.runtime_path(name, engine.config.runtimes)
    version = ".".join(str(part) for part in programs.version(path, engine.cache_dir))
    return _check(OK, f"{path} {version}".rstrip())


def _seccomp(engine: Engine) -> list[Check]:
    if not os.path.exists("/proc/sys/kernel/seccomp/actions_avail"):
        return _check(PROBLEM, "this kernel has no seccomp filters", "run with --security-opt seccomp=unconfined")
    path = engine.config.seccomp_profile or seccomp.site_profile(os.environ.get("HOME", ""))
    said: list[str] = []
    program = seccomp.compiled(path, (), f"{engine.cache_dir}/seccomp", said.append)
    if program is None:
        return _check(OK, f"profile {path or 'default'}; {'; '.join(said)}")
    return _check(OK, f"profile {path or 'default'}")


# --- the session -----------------------------------------------------------------------------------


def _session(engine: Engine) -> list[Check]:
    root = engine.runtime_root
    rows = _check(OK, f"runtime directory {root}")
    if engine.uid == 0 or not os.path.isdir("/run/systemd/system"):
        return rows
    name = user_name(engine.uid)
    if not os.path.exists(f"/var/lib/systemd/linger/{name}"):
        text = "containers end with your last session, and do not come back after a reboot"
        rows += _check(WARNING, text, f"loginctl enable-linger {name} (some sites leave that to the administrator)")
    return rows


def _limits(engine: Engine) -> list[Check]:
    facts = cgroup_facts.detect(os.environ, engine.uid)
    reason, hint, controllers = cgroup_plan.obstacle(facts)
    if reason:
        return _check(WARNING, f"--memory, --cpus and their like fail here: {reason}", hint)
    missing = [name for name in _WANTED_CONTROLLERS if name not in controllers]
    place = f"in {facts.job}, " if facts.job else ""
    text = f"{place}by {facts.manager}: {' '.join(controllers) or 'no controller'}"
    if missing:
        absent = [name for name in missing if name not in facts.kernel_controllers]
        if absent == missing:
            return _check(OK, f"{text} (this kernel has no {', '.join(absent)})")
        return _check(WARNING, f"{text}; not delegated: {' '.join(missing)}", cgroup_plan.ADVICE)
    return _check(OK, text)


def _bounds(proc: str = "/proc") -> list[Check]:
    rows = []
    for name, comfortable, consequence in _BOUNDS:
        try:
            with open(f"{proc}/sys/{name}", encoding="ascii") as file:
                value = int(file.read())
        except (OSError, ValueError):
            continue
        if value < comfortable:
            dotted = name.replace("/", ".")
            fix = f"an administrator can run: sysctl -w {dotted}={comfortable * 4}"
            rows += _check(WARNING, f"{dotted} is {value}; with many containers {consequence}", fix)
    return rows or _check(OK, "wide enough for many containers")
