"""Runs an OCI configuration as the supervisor would: `python spec_launch.py RUNTIME DIR NETWORK < config.json`.

In the user's namespace, with private mount, pid, cgroup and (NETWORK "new") network namespaces, then
`RUNTIME run`.  Exits with the container's status.  DIR is an empty directory for the bundle and the runtime's state.
"""

from __future__ import annotations

import os
import sys

from rootless import libc, userns
from rootless.values import loads


def main(runtime: str, directory: str, network: str) -> int:
    config = sys.stdin.read()
    userns.enter(directory)
    flags = libc.CLONE_NEWPID | libc.CLONE_NEWCGROUP | (libc.CLONE_NEWNET if network == "new" else 0)
    libc.unshare(flags & ~libc.CLONE_NEWPID)
    libc.mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0)
    if not any(n["type"] == "pid" for n in loads(config)["linux"]["namespaces"]):
        return run(runtime, directory, config)
    libc.unshare(libc.CLONE_NEWPID)
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        libc.mount("proc", "/proc", "proc", 0)
        os._exit(run(runtime, directory, config))
    finally:
        os._exit(99)


def run(runtime: str, directory: str, config: str) -> int:
    with open(directory + "/config.json", "w", encoding="utf-8") as file:
        file.write(config)
    own = ["--cgroup-manager=disabled"] if runtime.endswith("crun") else []
    argv = [runtime, "--root", directory + "/state", *own, "run", "--bundle", directory, "c1"]
    pid = os.posix_spawn(runtime, argv, dict(os.environ))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
