"""`pull`.  Weight: `storage.pull`; urllib3 and the unpacker when something is fetched."""

from __future__ import annotations

import os
import sys

from pyctl.cli import mapped
from pyctl.cli.progress import Progress
from pyctl.engine.engine import Engine
from rootless.errors import Error, UsageError
from storage.pull import PullOptions, list_tags
from storage.pull import pull as pull_image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyctl.cli.parser import Options, Parsed
    from storage.fetch import PullEvent
    from storage.platforms import Platform
    from storage.reference import Reference
    from storage.registry_auth import Credentials

ARCHIVES = ("docker-archive:", "oci-archive:", "oci:", "dir:", "containers-storage:")


def pull(parsed: Parsed) -> int:
    """Fetches each image and prints its id; one that fails does not keep the others."""
    options = parsed.options
    engine = Engine(parsed.globals)
    wanted = pull_options(engine, options)
    names = [text for name in parsed.args for text in _every_tag(engine, name, options, wanted)]
    wanted = wanted.replace(single_id=mapped.enter(engine, unpacks=True), limits=mapped.unpack_limits(engine))
    failed = 0
    for name in names:
        try:
            for image_id in _one(engine, name, wanted, bool(options.quiet)):
                sys.stdout.write(f"{image_id}\n")
                sys.stdout.flush()
        except Error as error:
            if len(names) == 1:
                raise
            from pyctl.__main__ import report

            report(error)
            failed = error.exit_code
    return failed


def _one(engine: Engine, name: str, wanted: PullOptions, quiet: bool) -> Sequence[str]:
    if name.startswith(ARCHIVES):
        from pyctl.cli.verb_load import load_archive
        from storage.copy_sources import parse_any

        return load_archive(engine, parse_any(name), wanted.single_id, wanted.platform)
    bare = name.removeprefix("docker://")
    progress = Progress(quiet)
    try:
        choose = _choose if os.isatty(0) and os.isatty(2) else None
        events = _pulsing(progress)
        pulled = pull_image(engine.db, bare, wanted, os.environ, conf=engine.registries, events=events, choose=choose)
    except Error as error:
        engine.db.tell("image", "pull-error", name=bare, error=error.message)
        raise
    finally:
        progress.finish()
    engine.db.tell("image", "pull", id=pulled.image_id, name=bare)
    return (pulled.image_id,)


def _pulsing(progress: Progress) -> Callable[[PullEvent], None]:
    """For a `run` below a service manager, which is told that the start takes longer: see pyctl.engine.service."""
    from pyctl.engine import service

    text = os.environ.pop(service.PROGRESS_FD, "")
    return service.Pulse(int(text), progress) if text.isdecimal() else progress


def _every_tag(engine: Engine, name: str, options: Options, wanted: PullOptions) -> list[str]:
    if not options.all_tags:
        return [name]
    return [str(reference) for reference in list_tags(name, wanted, os.environ, engine.registries)]


def pull_options(engine: Engine, options: Options) -> PullOptions:
    """What the options say about a pull.  Raises UsageError."""
    attempts, backoff_s = retry_of(engine, options, PullOptions().backoff_s)
    return PullOptions(
        policy=options.policy,
        platform=platform_of(options),
        credentials=credentials(options.creds),
        authfile=options.authfile,
        tls_verify=options.tls_verify if options.given("tls_verify") else None,
        cert_dir=options.cert_dir,
        attempts=attempts,
        backoff_s=backoff_s,
        parallel=engine.config.image_parallel_copies,
    )


def retry_of(engine: Engine, options: Options, usual_s: float, field: str = "retry") -> tuple[int, float]:
    """Attempts, and the first pause between them in seconds, by --retry, --retry-delay and the settings."""
    from pyctl.cli.convert import parse_duration_ns

    retries = options.get(field) if options.given(field) else engine.config.retry
    delay = options.get("retry_delay") or engine.config.retry_delay
    try:
        return retries + 1, parse_duration_ns(delay) / 1e9 if delay else usual_s
    except ValueError as reason:
        raise UsageError(f'invalid value "{delay}" for --retry-delay: {reason}') from None


def platform_of(options: Options) -> Platform | None:
    """--platform, or --arch, --os and --variant; None where none is given.  Raises UsageError."""
    from storage.platforms import host_platform, make_platform, parse_platform

    if options.platform:
        if options.arch or options.os:
            raise UsageError("--platform excludes --arch and --os")
        return parse_platform(options.platform)
    if not (options.arch or options.os or options.variant):
        return None
    host = host_platform()
    return make_platform(options.os or host.os, options.arch or host.architecture, options.variant)


def credentials(text: str) -> Credentials | None:
    """--creds; a password that is missing is asked for."""
    if not text:
        return None
    from storage.registry_auth import parse_creds

    if ":" not in text:
        from getpass import getpass  # a password is asked for on the terminal, once

        text = f"{text}:{getpass('Password: ')}"
    return parse_creds(text)


def _choose(candidates: Sequence[Reference]) -> Reference:
    """Asks on the terminal which registry a short name means."""
    sys.stderr.write("Which image is meant?\n")
    for number, candidate in enumerate(candidates, 1):
        sys.stderr.write(f"  {number}) {candidate}\n")
    while True:
        sys.stderr.write(f"1 to {len(candidates)}: ")
        sys.stderr.flush()
        answer = sys.stdin.readline()
        if not answer:
            raise UsageError("no image was chosen")
        word = answer.strip()
        if word.isascii() and word.isdigit() and 1 <= int(word) <= len(candidates):
            return candidates[int(word) - 1]
