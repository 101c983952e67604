"""`push`.  Weight: `storage.push`; urllib3 when something is sent."""

from __future__ import annotations

import os

from pyctl.cli import signing
from pyctl.cli.progress import Progress
from pyctl.cli.verb_pull import credentials, retry_of
from pyctl.engine.engine import Engine
from rootless.errors import Error, UsageError, os_error_text
from rootless.fds import write_file
from storage import lookup
from storage.archives import Transport, parse_transport
from storage.lists import ListStore
from storage.push import PushOptions
from storage.push import push as push_image
from storage.reference import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Options, Parsed

_ELSEWHERE = ("containers-storage:", "docker-daemon:", "ostree:", "sif:", "tarball:")
# What is said to a registry only.
_REGISTRY_ONLY = (
    *("format", "compression_format", "compression_level", "force_compression"),
    *("sign_by", "sign_by_sigstore", "sign_by_sigstore_private_key", "sign_passphrase_file"),
)


def push(parsed: Parsed) -> int:
    """Sends one image to a registry, or writes it to a file or directory."""
    options = parsed.options
    engine = Engine(parsed.globals)
    text = parsed.args[0]
    if ListStore(engine.db).find(text) is not None:
        raise UsageError(f"{text} is a manifest list", hint=f"pyctl manifest push {text}")
    _, name = lookup.resolve(engine.db, text)
    where = parsed.args[1] if len(parsed.args) > 1 else name
    if not where:
        raise UsageError(
            f"{text} is an id: where it is pushed to must be said", hint=f"pyctl push {text} REGISTRY/NAME"
        )
    if where.startswith(_ELSEWHERE):
        raise UsageError(f"{where.partition(':')[0]}: nothing can be pushed there", hint="see pyctl push --help")
    transport = parse_transport(where)
    digest = _to_file(engine, text, transport, options) if transport else _to_registry(engine, text, where, options)
    image = lookup.find(engine.db, text)
    engine.db.tell("image", "push", id=image[0] if image else "", name=where or text)
    if options.digestfile:
        try:
            write_file(options.digestfile, digest.encode())
        except OSError as error:
            raise Error(os_error_text(error, options.digestfile)) from error
    return 0


def _to_registry(engine: Engine, text: str, where: str, options: Options) -> str:
    if options.compress:
        raise UsageError("--compress is for dir: only", hint="--compression-format")
    target = parse(where.removeprefix("docker://"))
    if "@" not in where:
        target = target.with_default_tag()
    wanted = push_options(engine, options)
    progress = Progress(bool(options.quiet))
    try:
        pushed = push_image(engine.db, text, target, wanted, os.environ, conf=engine.registries, events=progress)
    finally:
        progress.finish()
    return pushed.digest


def push_options(engine: Engine, options: Options) -> PushOptions:
    """What the options say about a push to a registry.  Raises UsageError."""
    attempts, backoff_s = retry_of(engine, options, PushOptions().backoff_s)
    if not options.compression_format:
        for field in ("compression_level", "force_compression"):
            if options.given(field):
                raise UsageError(f"--{field.replace('_', '-')} goes with --compression-format")
    highest = 22 if options.compression_format == "zstd" else 9
    if options.given("compression_level") and not 1 <= options.compression_level <= highest:
        raise UsageError(f"--compression-level {options.compression_level}: 1 to {highest} is expected")
    return PushOptions(
        credentials=credentials(options.creds),
        authfile=options.authfile,
        tls_verify=options.tls_verify if options.given("tls_verify") else None,
        cert_dir=options.cert_dir,
        attempts=attempts,
        backoff_s=backoff_s,
        parallel=engine.config.image_parallel_copies,
        form=options.format,
        compression=options.compression_format,
        level=options.compression_level,
        force=bool(options.force_compression),
        signers=signing.signers_of(options),
    )


def _to_file(engine: Engine, text: str, transport: Transport, options: Options) -> str:
    from storage.archive_save import save_to

    for field in _REGISTRY_ONLY:
        if options.given(field):
            raise UsageError(f"--{field.replace('_', '-')} is for registries only, not for {transport.kind}:")
    if options.compress and transport.kind != "dir":
        raise UsageError("--compress is for dir: only")
    if options.digestfile and transport.kind == "docker-archive":
        raise UsageError("a docker-archive holds no manifest: there is no digest to write")
    return save_to(engine.db, text, transport.kind, transport.path, transport.ref, compress=bool(options.compress))
