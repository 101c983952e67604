"""The container's network namespace and the helper that connects it, in the supervisor.

Weight: `os`, `rootless.libc`, `rootless.processes`, `rootless.userns`.
"""

from __future__ import annotations

import os

from rootless import libc
from rootless.errors import LaunchError, os_error_text
from rootless.fds import read_file, write_file
from rootless.loop import READ
from rootless.plan import NetworkPlan
from rootless.processes import HANDLED_SIGNALS, restore_signals
from rootless.userns import SUPERVISOR_FILE, start_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.loop import Loop


class Connection:
    """The helper's process and the pipes that speak for it."""

    __slots__ = ("_gate", "_ready", "_stderr", "api_socket", "exit_fd", "name", "pid")

    def __init__(self) -> None:
        self.pid = 0
        self.name = "slirp4netns"
        self.exit_fd = -1
        self.api_socket = ""
        self._gate = self._ready = self._stderr = -1

    def start(self, plan: NetworkPlan, runtime_dir: str) -> None:
        """Fork the helper in the network namespace that is current now; it waits for `release`.

        It must be outside the container's network namespace, and a namespace that is not owned by ours cannot be
        entered again: so the fork comes before unshare.
        """
        gate_read, self._gate = os.pipe2(os.O_CLOEXEC)
        self._ready, ready_write = os.pipe2(os.O_CLOEXEC)
        exit_read, self.exit_fd = os.pipe2(os.O_CLOEXEC)
        self._stderr, stderr_write = os.pipe2(os.O_CLOEXEC)
        argv = [plan.helper, *plan.helper_args, "--ready-fd=3", "--exit-fd=4"]
        if plan.ports and plan.port_handler == "slirp4netns":
            self.api_socket = f"{runtime_dir}/slirp4netns.sock"
            # Relative: a socket's path may have 107 bytes (unix(7)), and a runtime directory may be deep.
            argv.append("--api-socket=slirp4netns.sock")
        argv += [str(os.getpid()), "tap0"]
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._gate)
                os.read(gate_read, 1)
                # Only what the program is given by number stays open.
                for number, fd in ((3, ready_write), (4, exit_read), (2, stderr_write)):
                    high = os.dup(fd)
                    while high < 10:
                        high = os.dup(high)
                    os.dup2(high, number)
                libc.close_range(5)
                os.chdir(runtime_dir)
                restore_signals()
                # A service manager, or a session that ends, signals every process: the network stays for as long as
                # the container takes to stop.
                libc.block_signals(HANDLED_SIGNALS[1:])
                os.execve(plan.helper, argv, {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"})
            except OSError as error:
                os.write(2, f"{plan.helper}: {error.strerror}\n".encode())
            finally:
                os._exit(127)
        for fd in (gate_read, ready_write, exit_read, stderr_write):
            os.close(fd)

    def release(self) -> None:
        """The namespace is there: go."""
        os.close(self._gate)
        self._gate = -1

    def wait_ready(self) -> None:
        """Until the tap device is configured.  Raises LaunchError with the helper's own words."""
        try:
            if os.read(self._ready, 1):
                return
            text = os.read(self._stderr, 4096).decode("utf-8", "replace").strip()
        finally:
            os.close(self._ready)
            os.set_blocking(self._stderr, False)
        line = text.splitlines()[-1] if text else "ended without a message"
        hint = ""
        if "/dev/net/tun" in text:
            hint = "an administrator can run: modprobe tun && chmod 666 /dev/net/tun; or use --network=none or host"
        raise LaunchError("network", f"slirp4netns: {line}", hint=hint)

    def drain(self, loop: Loop) -> None:
        """Throw away what it says from now on: with a full pipe it would stand still."""

        def discard(_events: int) -> None:
            try:
                if os.read(self._stderr, 65536):
                    return
            except BlockingIOError:
                return
            loop.forget(self._stderr)

        loop.watch(self._stderr, READ, discard)

    def close(self) -> None:
        """slirp4netns ends when its exit-fd does."""
        for fd in (self._gate, self.exit_fd, self._stderr):
            if fd >= 0:
                os.close(fd)
        self._gate = self.exit_fd = self._stderr = -1


def join(proc_fd: int, plan: NetworkPlan) -> None:
    """Enter another container's network namespace, or a named one.  proc_fd: the host's /proc."""
    path, shown = plan.join_path, plan.join_path
    if plan.join_runtime_dir:
        # A supervisor is in the network namespace of its container.
        path = f"/proc/{_supervisor_of(proc_fd, plan.join_runtime_dir)}/ns/net"
        shown = "the network of that container"
    try:
        if path.startswith("/proc/"):
            fd = os.open(path[6:], os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc_fd)
        else:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LaunchError("network", os_error_text(error, shown), errno=error.errno or 0) from error
    try:
        own, other = os.stat("/proc/self/ns/net"), os.fstat(fd)
        if (own.st_dev, own.st_ino) != (other.st_dev, other.st_ino):  # the host's: nobody may enter it, nor need to
            libc.setns(fd, libc.CLONE_NEWNET)
    except OSError as error:
        message = os_error_text(error, f"cannot join {shown}")
        hint = "only namespaces that belong to your own user namespace can be joined" if error.errno == 1 else ""
        if error.errno == 22:
            message = f"cannot join {shown}: not a network namespace"
        raise LaunchError("network", message, hint=hint, errno=error.errno or 0) from error
    finally:
        os.close(fd)


def _supervisor_of(proc_fd: int, runtime_dir: str) -> int:
    try:
        pid, started = (int(word) for word in read_file(f"{runtime_dir}/{SUPERVISOR_FILE}").split())
        alive = start_time(pid, f"/proc/self/fd/{proc_fd}") == started
    except (OSError, ValueError):
        alive = False
    if not alive:
        raise LaunchError("network", "the container whose network is to be shared does not run")
    return pid


def make_private() -> None:
    """A new network namespace for this process, with its loopback up."""
    try:
        libc.unshare(libc.CLONE_NEWNET)
        libc.loopback_up()
    except OSError as error:
        hint = "see sysctl user.max_net_namespaces" if error.errno == 28 else ""
        raise LaunchError(
            "network", os_error_text(error, "cannot make a network namespace"), hint=hint, errno=error.errno or 0
        ) from error


def write_sysctls(sysctls: dict[str, str]) -> None:
    """Set net.* in the namespace that this process is in.  Raises LaunchError naming the one that failed."""
    for name, value in sysctls.items():
        try:
            write_file("/proc/sys/" + name.replace(".", "/"), value.encode())
        except OSError as error:
            text = os_error_text(error, f"--sysctl {name}={value}")
            raise LaunchError("network", text, errno=error.errno or 0) from error


def skip_duplicate_detection() -> None:
    """Addresses of interfaces made in this namespace from now on can be used at once.

    Duplicate address detection (RFC 4862) keeps IPv6 waiting for up to three seconds, on a link with nobody else.
    """
    try:
        write_file("/proc/sys/net/ipv6/conf/default/accept_dad", b"0")
    except OSError:
        return  # no IPv6 in this kernel, or a read-only /proc/sys: only slower


def allow_low_ports() -> None:
    """Let everybody in this namespace bind ports below 1024.

    For a container with a user namespace of its own: its root has no rights over the network, which is the outer
    one's, and could not serve port 80.
    """
    try:
        write_file("/proc/sys/net/ipv4/ip_unprivileged_port_start", b"0")
    except OSError:
        return  # a read-only /proc/sys in a container around us


def allow_ping(group_range: str, highest_gid: int) -> None:
    """Let every mapped group send ICMP echo by ping sockets (icmp(7), ping_group_range) in this namespace."""
    if not group_range:
        return
    low, _, high = group_range.partition(" ")
    # The kernel refuses ids that the writer's user namespace does not map.
    text = f"{low} {min(int(high), highest_gid)}"
    try:
        write_file("/proc/sys/net/ipv4/ping_group_range", text.encode())
    except OSError:
        return  # read-only /proc/sys in a container around us: ping needs CAP_NET_RAW there, as ever
