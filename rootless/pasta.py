"""pasta(1) as a container's connection, in the place of slirp4netns (`rootless.netns.Connection`).

Weight: `os`, `select` (C), `rootless.libc`, `rootless.processes`.  Only with --network pasta.

It puts itself in the background when the namespace is connected, so its start is a program that ends.  It names the
namespace by a file, because it may not look into /proc of a process with capabilities that it has dropped.
"""

from __future__ import annotations

import os
import select

from rootless import libc
from rootless.errors import LaunchError, os_error_text
from rootless.fds import read_file, write_file
from rootless.processes import HANDLED_SIGNALS, SIGKILL, restore_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.loop import Loop
    from rootless.plan import NetworkPlan

_NAMESPACE, _PID = "netns", "pasta.pid"


class PastaConnection:
    """The same methods as `Connection`'s; `pid` is 0 until it is ready."""

    __slots__ = ("_directory", "_gate", "_mounted", "_starter", "_stderr", "api_socket", "name", "pid")

    def __init__(self) -> None:
        self.pid = 0
        self.name = "pasta"
        self.api_socket = ""
        self._directory = ""
        self._mounted = False
        self._starter = 0
        self._gate = self._stderr = -1

    def start(self, plan: NetworkPlan, runtime_dir: str) -> None:
        """Fork its start in the network namespace that is current now; it waits for `release`."""
        self._directory = runtime_dir
        write_file(f"{runtime_dir}/{_NAMESPACE}", b"", 0o600)
        gate_read, self._gate = os.pipe2(os.O_CLOEXEC)
        self._stderr, stderr_write = os.pipe2(os.O_CLOEXEC)
        argv = [plan.helper, *plan.helper_args, "--pid", _PID, "--netns", f"{runtime_dir}/{_NAMESPACE}"]
        self._starter = os.fork()
        if self._starter == 0:
            try:
                os.close(self._gate)
                if not os.read(gate_read, 1):
                    os._exit(1)  # the launch was given up
                os.dup2(stderr_write, 2)
                libc.close_range(3)
                os.chdir(runtime_dir)
                restore_signals()
                libc.block_signals(HANDLED_SIGNALS[1:])  # as slirp4netns: see there
                os.execve(plan.helper, argv, {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"})
            except OSError as error:
                os.write(2, f"{plan.helper}: {error.strerror}\n".encode())
            finally:
                os._exit(127)
        os.close(gate_read)
        os.close(stderr_write)

    def release(self) -> None:
        """The namespace is there, and this process in it: go.  Raises LaunchError."""
        path = f"{self._directory}/{_NAMESPACE}"
        try:
            libc.mount("/proc/self/ns/net", path, None, libc.MS_BIND)
        except OSError as error:
            raise LaunchError("network", os_error_text(error, path), errno=error.errno or 0) from error
        self._mounted = True
        os.write(self._gate, b"1")
        os.close(self._gate)
        self._gate = -1

    def wait_ready(self) -> None:
        """Until the namespace is connected.  Raises LaunchError with pasta's own words."""
        text = self._read_until_started()
        starter, self._starter = self._starter, 0
        status = os.waitpid(starter, 0)[1]
        if status:
            # Without a system logger some releases say so after every line.
            lines = [line for line in text.splitlines() if line.strip() and "to syslog" not in line]
            hint = ""
            if "/dev/net/tun" in text:
                hint = "an administrator can run: modprobe tun && chmod 666 /dev/net/tun; or use --network=none or host"
            said = lines[0].strip() if lines else "ended without a message"
            raise LaunchError("network", f"pasta: {said}", hint=hint, exit_code=126)
        try:
            self.pid = int(read_file(f"{self._directory}/{_PID}"))
        except (OSError, ValueError) as error:
            raise LaunchError("network", f"pasta did not say its process id: {error}") from error

    def drain(self, loop: Loop) -> None:
        """Nothing comes: in the background it has closed its standard error."""

    def _read_until_started(self) -> str:
        """What it says until its start has ended.  Read all the time: a pipe may hold as little as 4 KiB (pipe(7))."""
        text = b""
        started = os.pidfd_open(self._starter)
        try:
            poll = select.poll()
            poll.register(started, select.POLLIN)
            poll.register(self._stderr, select.POLLIN)
            while True:
                ready = {fd for fd, _events in poll.poll()}
                if self._stderr in ready:
                    part = os.read(self._stderr, 65536)
                    text += part
                    if part:
                        continue
                    poll.unregister(self._stderr)
                if started in ready:
                    return text.decode("utf-8", "replace")
        finally:
            os.close(started)

    def close(self) -> None:
        """End it, whatever it is about."""
        for fd in (self._gate, self._stderr):
            if fd >= 0:
                os.close(fd)
        self._gate = self._stderr = -1
        for pid in (self._starter, self.pid):
            if pid:
                try:
                    os.kill(pid, SIGKILL)
                    os.waitpid(pid, 0)
                except OSError:
                    continue  # it has ended, and the loop has reaped it
        self._starter = self.pid = 0
        if self._mounted:
            try:
                libc.umount(f"{self._directory}/{_NAMESPACE}", libc.MNT_DETACH)
            except OSError:
                return
