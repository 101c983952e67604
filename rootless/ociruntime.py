"""Calling the OCI runtime: run, exec, delete, and what its failures mean.

Weight: `os`, `rootless.processes`.  The command line is the common one of crun and runc (runtime-tools'
command-line-interface.md); crun alone is told not to touch cgroups, which are the engine's.
"""

from __future__ import annotations

import os

from rootless.errors import EXIT_CANNOT_INVOKE, EXIT_ENGINE, EXIT_NOT_FOUND, LaunchError
from rootless.fds import read_file
from rootless.plan import RuntimePlan
from rootless.values import loads

NO_MESSAGE = "failed without a message"


def _global_args(runtime: RuntimePlan, state_dir: str, log: str) -> list[str]:
    argv = [runtime.path, "--root", state_dir, "--log", log, "--log-format", "json"]
    if runtime.kind == "crun":
        argv.append("--cgroup-manager=disabled")
    return argv + list(runtime.global_args)


def run_argv(
    runtime: RuntimePlan,
    *,
    state_dir: str,
    log: str,
    bundle: str,
    pid_file: str,
    container_id: str,
    console_socket: str = "",
    preserve_fds: int = 0,
    new_keyring: bool = True,
) -> list[str]:
    """`RUNTIME run --detach`: one call in place of create and start (6.3 against 9.2 ms)."""
    argv = [*_global_args(runtime, state_dir, log), "run", "--detach", "--bundle", bundle, "--pid-file", pid_file]
    if not new_keyring:
        argv.append("--no-new-keyring")
    if console_socket:
        argv += ["--console-socket", console_socket]
    if preserve_fds:
        argv += ["--preserve-fds", str(preserve_fds)]
    return [*argv, container_id]


def exec_argv(
    runtime: RuntimePlan,
    *,
    state_dir: str,
    log: str,
    process: str,
    pid_file: str,
    container_id: str,
    console_socket: str = "",
    preserve_fds: int = 0,
) -> list[str]:
    """`RUNTIME exec --detach` of a process.json."""
    argv = [*_global_args(runtime, state_dir, log), "exec", "--detach", "--process", process, "--pid-file", pid_file]
    if console_socket:
        argv += ["--console-socket", console_socket]
    if preserve_fds:
        argv += ["--preserve-fds", str(preserve_fds)]
    return [*argv, container_id]


def delete_argv(runtime: RuntimePlan, *, state_dir: str, log: str, container_id: str) -> list[str]:
    """`RUNTIME delete --force`."""
    return [*_global_args(runtime, state_dir, log), "delete", "--force", container_id]


def read_pid(path: str) -> int:
    """The pid that the runtime wrote to its --pid-file."""
    return int(read_file(path))


def failure(log: str, command: str, runtime: RuntimePlan) -> LaunchError:
    """What the runtime's JSON log says of its failure, as one line with Podman's exit status."""
    text = _last_error(log)
    low = text.lower()
    name = os.path.basename(runtime.path)
    if ("not found in $path" in low or "no such file or directory" in low) and _is_about_command(low, command):
        return LaunchError(
            "runtime", f"{command}: no such command in the container", _path_hint(command), EXIT_NOT_FOUND, errno=2
        )
    if "permission denied" in low and _is_about_command(low, command):
        return LaunchError(
            "runtime",
            f"{command}: permission denied (is it executable?)",
            "chmod +x it in the image, or name its interpreter",
            EXIT_CANNOT_INVOKE,
            errno=13,
        )
    if "exec format error" in low:
        hint = "the image may be for another architecture, or the script has no #! line"
        return LaunchError("runtime", f"{command}: exec format error", hint, EXIT_CANNOT_INVOKE, errno=8)
    if "is a directory" in low and _is_about_command(low, command):
        return LaunchError("runtime", f"{command}: is a directory", "", EXIT_CANNOT_INVOKE, errno=21)
    if "open executable" in low or "exec container process" in low:
        reason = text.rpartition(":")[2].strip()
        return LaunchError("runtime", f"{command}: cannot be executed: {reason}", exit_code=EXIT_CANNOT_INVOKE, errno=1)
    if lacks_room_for_a_keyring(log):
        return LaunchError(
            "runtime",
            "this user may have no further keyring (keyrings(7), maxkeys)",
            "an administrator can run: sysctl -w kernel.keys.maxkeys=4000",
            errno=122,
        )
    code = EXIT_CANNOT_INVOKE if "permission denied" in low or "operation not permitted" in low else EXIT_ENGINE
    return LaunchError("runtime", f"{name}: {text or NO_MESSAGE}", exit_code=code)


def lacks_room_for_a_keyring(log: str) -> bool:
    """Did the runtime fail because the user has too many keyrings (EDQUOT of keyctl(2))?"""
    text = _last_error(log).lower()
    # crun: create keyring `ID`: Disk quota exceeded   runc: unable to join session keyring: … disk quota exceeded
    return "keyring" in text and "quota" in text


def _is_about_command(text: str, command: str) -> bool:
    # crun: executable file `foo` not found in $PATH; open executable: …   runc: exec: "foo": … ; stat /foo: …
    return "exec" in text or command.lower() in text


def _path_hint(command: str) -> str:
    if "/" in command:
        return "the path is looked up inside the container; for a script, check its #! interpreter as well"
    return "it is looked up in the container's PATH (--env PATH=…)"


def _last_error(log: str) -> str:
    try:
        lines = read_file(log, limit=1 << 20).decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        try:
            entry = loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level", "error") in ("error", "fatal") and entry.get("msg"):
            return str(entry["msg"]).strip()
    return lines[-1].strip() if lines else ""
