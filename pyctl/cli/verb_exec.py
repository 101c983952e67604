"""`exec`.  Weight: the engine's light modules; nothing is mounted or looked up but the container's row."""

from __future__ import annotations

import os
import sys

from pyctl.engine import state
from pyctl.engine.attach import terminal_size
from pyctl.engine.engine import Engine
from pyctl.engine.execute import Detached, Execution, OutputLost, connect
from pyctl.engine.state import Status
from rootless.errors import Error, UsageError
from rootless.plan import Exec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Options, Parsed


def exec_(parsed: Parsed) -> int:
    """Run a command in a running container; returns its exit status."""
    options, words = parsed.options, list(parsed.args)
    engine = Engine(parsed.globals)
    if options.latest:
        row = engine.db.one("SELECT id FROM containers ORDER BY created_ns DESC LIMIT 1")
        words.insert(0, row[0] if row else "")
    if not words:
        raise UsageError("exec: name a container and a command", hint="pyctl exec CONTAINER COMMAND")
    if len(words) < 2:
        raise UsageError("exec: give a command to run in the container", hint="pyctl exec CONTAINER COMMAND")
    record = state.get(engine.db, words[0])
    if record.paused:
        raise Error(f"container {record.name} is paused", hint=f"pyctl unpause {record.name} lets it go on")
    if record.status != Status.RUNNING:
        raise Error(f"container {record.name} is not running", hint=f"pyctl start {record.name} starts it")
    tty = bool(options.tty)
    rows, columns = terminal_size(0) if tty else (0, 0)
    preserve = int(options.preserve_fds)
    _check_descriptors(preserve)
    session = Execution(
        connect(record.runtime_dir, record.name),
        Exec(
            exec_id=os.urandom(32).hex(),
            args=tuple(words[1:]),
            env=_environment(options),
            user=options.user,
            workdir=options.workdir,
            tty=tty,
            detach=bool(options.detach),
            privileged=bool(options.privileged),
            rows=rows,
            columns=columns,
            preserve_fds=preserve,
        ),
        interactive=bool(options.interactive),
        detach_keys=options.detach_keys,
        preserved=range(3, 3 + preserve),
    )
    try:
        status = session.run()
    except Detached:
        return 0
    except OutputLost as lost:
        raise BrokenPipeError from lost
    if options.detach:
        sys.stdout.write(f"{session.id}\n")
    return status


def _environment(options: Options) -> tuple[str, ...]:
    """--env-file, then --env, by the rules that `run` has."""
    if not options.env and not options.env_file:
        return ()
    from pyctl.engine import request_env
    from pyctl.engine.request_facts import RequestFacts

    facts = RequestFacts(uid=os.getuid(), gid=os.getgid(), cwd=os.getcwd(), environ=dict(os.environ))
    env: dict[str, str] = {}
    for path in options.env_file:
        for line in request_env.read_lines("--env-file", path, facts.cwd):
            request_env.put(env, line, facts, f"--env-file {path}")
    for word in options.env:
        request_env.put(env, word, facts, "--env")
    return tuple(f"{name}={value}" for name, value in env.items())


def _check_descriptors(count: int) -> None:
    for fd in range(3, 3 + count):
        try:
            os.fstat(fd)
        except OSError as error:
            raise UsageError(f"--preserve-fds {count}: descriptor {fd} is not open") from error
