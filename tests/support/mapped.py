"""Running a function where the user's subordinate ids are mapped: as the commands that touch layers do."""

from __future__ import annotations

import io
import os
import pickle
import traceback
from collections.abc import Callable
from typing import Any

from rootless import userns
from rootless.values import Value


class RaisedInsideError(AssertionError):
    """The function failed with something that is no `Error`; its traceback is the message."""


class _Pickler(pickle.Pickler):
    """Values, which are immutable, and errors whose constructors take other arguments than `args`."""

    def reducer_override(self, item: Any) -> Any:
        if isinstance(item, Value):
            return _make_value, (type(item), {f: getattr(item, f) for f in item._defaults_})
        if isinstance(item, Exception):
            return _make_error, (type(item), item.args, item.__dict__)
        return NotImplemented


def _make_value(cls: type[Value], fields: dict[str, Any]) -> Value:
    return cls(**fields)


def _make_error(cls: type[Exception], args: tuple[Any, ...], state: dict[str, Any]) -> Exception:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def _dumps(item: object) -> bytes:
    out = io.BytesIO()
    _Pickler(out).dump(item)
    return out.getvalue()


def mapped(function: Callable[..., Any], *args: Any, runtime_root: str, single: bool = False) -> Any:
    """Call `function(*args)` in a child process as uid 0 of the user's namespace; returns or raises what it does.

    single: with only the own id mapped, as for a user without subordinate ranges.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if not child:
        os.close(reader)
        try:
            if single:
                _enter_single()
            else:
                userns.enter(runtime_root)
            outcome = (True, function(*args))
        except BaseException as error:
            error.add_note(traceback.format_exc())
            outcome = (False, error)
        with os.fdopen(writer, "wb") as pipe:
            try:
                pipe.write(_dumps(outcome))
            except Exception:
                pipe.write(pickle.dumps((False, RaisedInsideError(traceback.format_exc()))))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        raw = pipe.read()
    _, status = os.waitpid(child, 0)
    if not raw:
        raise RaisedInsideError(f"the child ended with status {status}")
    succeeded, value = pickle.loads(raw)
    if not succeeded:
        raise value
    return value


def _enter_single() -> None:
    from rootless import libc

    uid, gid = os.getuid(), os.getgid()
    libc.unshare(libc.CLONE_NEWUSER | libc.CLONE_NEWNS)
    for name, line in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
