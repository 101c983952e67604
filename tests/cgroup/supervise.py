"""A stand-in for a supervisor: a child process that makes a cgroup, does something in it and reports by JSON."""

import json
import os
import sys

from pyctl.engine.model import Limits
from rootless import cgroup, cgroup_facts, cgroup_plan
from rootless.errors import Error

SYSFS = "/sys/fs/cgroup"


def facts():
    return cgroup_facts.detect(os.environ, os.getuid())


def supervise(work, limits=Limits(), *, name="", plan=None, helpers=0):  # noqa: B008 - immutable
    """Fork; in the child make the cgroup and call work(cgroup); the result, or the error's message as a str.

    helpers: processes to start between the two halves.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        status = 0
        try:
            chosen = plan or cgroup_plan.plan(facts(), limits, name or f"test{os.getpid()}").plan
            finish = cgroup.begin(chosen, os.getpid(), os.open("/proc", os.O_PATH))
            for _ in range(helpers):
                helper(writer)
            made = finish()
            try:
                result = work(made)
            finally:
                made.remove()
        except Error as error:
            result = error.message
        except BaseException as error:
            result, status = f"{type(error).__name__}: {error}", 1
        os.write(writer, json.dumps(result).encode())
        os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        text = file.read()
    _, status = os.waitpid(pid, 0)
    result = json.loads(text)
    assert status == 0, result
    return result


def helper(writer):
    """A child that lives until its parent does not."""
    reader, ours = os.pipe()
    if not os.fork():
        os.close(writer)
        os.close(ours)
        os.read(reader, 1)
        os._exit(0)


def run_in(made, code, *, wait=True):
    """Run Python code in the container's cgroup; the wait status, or the pid."""
    pid = os.fork()
    if not pid:
        try:
            fd = os.open("cgroup.procs", os.O_WRONLY, dir_fd=made.container_fd)
            os.write(fd, b"0")
            os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", code])
        finally:
            os._exit(99)
    return os.waitpid(pid, 0)[1] if wait else pid


def held(made, name):
    """A file of the container's cgroup."""
    with open(f"{made.path}/container/{name}") as file:
        return file.read().strip()
