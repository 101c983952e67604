"""The process that owns one container: PID 1 of a pid namespace around it, from its launch to its exit record.

Weight: light modules only (a test holds the list).  Started as `python -I -S rootless/boot.py` by
`rootless.launch`, early, so that its boot and the user namespace overlap the command line's planning.

The pid namespace is what makes clean-up certain: whatever ends this process, the kernel then kills everything in
its namespace (pid_namespaces(7)) — container, exec sessions, slirp4netns, fuse-overlayfs — and with the last of
them go the mounts and the network.  A container that shares a pid namespace has a guardian instead.
"""

from __future__ import annotations

import gc
import os
import sys

from rootless import libc, lockfile, ops, userns
from rootless.container import Container
from rootless.container_files import LOCK_FILE, ROOT_LOCK_FILE
from rootless.errors import Error, LaunchError, exception_text
from rootless.fds import Channel, write_file
from rootless.ociruntime import NO_MESSAGE
from rootless.plan import Begin, Failed, LaunchPlan
from rootless.processes import HANDLED_SIGNALS, SIGKILL


def main(argv: list[str]) -> None:
    """argv: the launch channel's descriptor; over it comes Begin, then the plan."""
    channel = Channel(int(argv[0]))
    debug = False
    try:
        libc.set_name("pyctl-supervise")
        libc.block_signals(HANDLED_SIGNALS)
        os.umask(0o022)
        # Until the container is this process's own business, a command that is killed takes it along; a fork
        # (into the pid namespace) does not inherit this.
        libc.prctl(libc.PR_SET_PDEATHSIG, SIGKILL)
        outer_proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        begin, _ = channel.receive()
        if not isinstance(begin, Begin):
            os._exit(0)  # a command line that needs no supervisor
        debug = begin.debug
        if not debug:
            os.dup2(0, 2)
        shared_keyring = _leave_the_login_s_keyring()
        userns.enter(begin.runtime_root)
        libc.clear_inheritable_capabilities()
        own_pid_namespace = begin.private_pid and _enter_pid_namespace()
        libc.prctl(libc.PR_SET_PDEATHSIG, 0)
        plan, fds = channel.receive()
        if not isinstance(plan, LaunchPlan):
            os._exit(0)  # the command line thought better of it
        _serve(channel, plan, fds, outer_proc, own_pid_namespace, shared_keyring, debug)
    except Error as error:
        _report(channel, error)
    except Exception as error:
        _report(channel, LaunchError("internal", f"supervisor: {exception_text(error)}"))
        if debug:
            sys.excepthook(type(error), error, error.__traceback__)
    os._exit(1)


def _report(channel: Channel, error: Error) -> None:
    stage = error.stage if isinstance(error, LaunchError) else "namespace"
    number = error.errno if isinstance(error, LaunchError) else 0
    try:
        channel.set_timeout(5.0)
        channel.send(
            Failed(stage=stage, message=error.message, hint=error.hint, exit_code=error.exit_code, errno=number)
        )
    except OSError:
        return


def _leave_the_login_s_keyring() -> bool:
    """Runtimes give a container a keyring of its own, until the user may have no more (keyrings(7), maxkeys: 200).

    Then containers get this process's: one that all supervisors of the user share, not the login's, which may hold
    tickets.  False: no keyrings in this kernel, or no room for this one either.
    """
    try:
        libc.share_keyring()
    except OSError:
        return False
    return True


def _enter_pid_namespace() -> bool:
    """Fork into a new pid namespace as its PID 1, with a /proc of its own; the parent ends.

    False where no pid namespace may be made: then the engine stays in the one it is in.
    """
    try:
        libc.unshare(libc.CLONE_NEWPID)
    except OSError:
        return False
    if os.fork():
        os._exit(0)
    try:
        libc.mount("proc", "/proc", "proc", libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC)
    except OSError as error:
        raise LaunchError(
            "namespace",
            f"cannot mount /proc for the container: {error.strerror}",
            hint="inside another container, that one must be run with an unmasked /proc "
            "(--security-opt unmask=/proc/*, or systempaths=unconfined)",
            errno=error.errno or 0,
        ) from error
    return True


def _serve(
    channel: Channel,
    plan: LaunchPlan,
    fds: list[int],
    outer_proc: int,
    own_pid_namespace: bool,
    shared_keyring: bool,
    debug: bool,
) -> None:
    os.makedirs(plan.storage_dir, 0o700, exist_ok=True)
    try:
        lock = lockfile.hold(f"{plan.storage_dir}/{LOCK_FILE}")
    except OSError:
        if plan.remove:
            ops.remove_path(plan.storage_dir)
        raise
    if lock is None:
        raise LaunchError("state", f"container {plan.name} is already running")
    root_lock = f"{plan.storage_dir}/{ROOT_LOCK_FILE}"
    if os.path.exists(root_lock):
        # A `cp` has the root mounted: two mounts of one upper directory would not see each other's files.
        lockfile.release(lockfile.hold_root(root_lock, plan.name))
    if not own_pid_namespace:
        from rootless import guardian  # only where the pid namespace is shared

        guardian.stand_by(lock)
    pid = int(os.readlink("self", dir_fd=outer_proc))
    try:
        ops.remove_path(plan.runtime_dir)  # what a killed predecessor left
        os.makedirs(plan.runtime_dir, 0o700)
        os.write(lock, str(pid).encode())  # not empty: taken since the launch, see pyctl.engine.state
        me = f"{pid} {_own_start_time(outer_proc)}"
        write_file(f"{plan.runtime_dir}/{userns.SUPERVISOR_FILE}", me.encode(), 0o600)
    except OSError:
        ops.remove_path(plan.runtime_dir)
        if plan.remove:
            ops.remove_path(plan.storage_dir)
        raise
    container = Container(
        plan=plan,
        channel=channel,
        fds=fds,
        lock=lock,
        outer_proc=outer_proc,
        supervisor_pid=pid,
        own_pid_namespace=own_pid_namespace,
        shared_keyring=shared_keyring,
        debug=debug,
    )
    try:
        container.launch()
    except BaseException as error:
        if isinstance(error, LaunchError) and not error.hint:
            # Helpers and runtimes take a file that they could not make for one that is not there.
            full = [path for path in (plan.storage_dir, os.path.dirname(plan.runtime_dir)) if _is_full(path)]
            if full and error.message.endswith(NO_MESSAGE):
                error.message = error.message.removesuffix(NO_MESSAGE) + f"no space left on the disk of {full[0]}"
            elif full:
                error.hint = f"no space left on the disk of {full[0]}"
        container.abandon()
        raise
    # See boot.py.  What is there now stays for good: the collector need not look at it again.
    gc.freeze()
    gc.enable()
    container.serve(HANDLED_SIGNALS)


def _is_full(path: str) -> bool:
    held = os.statvfs(path)
    # Some, because what a failed start has taken back already is free again.
    return held.f_bavail < 16 or (held.f_files > 0 and held.f_favail < 16)


def _own_start_time(outer_proc: int) -> int:
    fd = os.open("self/stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=outer_proc)
    try:
        stat = os.read(fd, 4096)
    finally:
        os.close(fd)
    return int(stat[stat.rfind(b")") + 2 :].split()[19])
