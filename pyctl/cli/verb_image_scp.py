"""`image scp`: an image to or from another machine, by ssh and the engines on both sides.

Weight: `subprocess`; `storage.archives` where an image comes in.

The archive goes through a pipe in the form of oci-archive, whose manifests and digests are those of the store.  On the
other side pyctl is called, or podman where there is none.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys

from pyctl.cli import mapped
from pyctl.engine.engine import Engine
from rootless.errors import Error, UsageError
from rootless.values import Value
from storage import archives, images, lookup
from storage.archive_save import save_to
from storage.blobs import NoRoomError
from storage.database import NoSpaceError
from storage.policy import load as load_policy
from storage.reference import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Parsed

_ENGINE = (
    "e=$(command -v pyctl || command -v podman) || { echo neither pyctl nor podman is installed >&2; exit 127; }; "
)


class _Side(Value):
    """One end.  host: [USER@]HOST, "" this machine."""

    host: str = ""
    port: str = ""
    image: str = ""


def scp(parsed: Parsed) -> int:
    """Copies one image between this machine and another, or between two others."""
    source = _side(parsed.args[0])
    target = _side(parsed.args[1]) if len(parsed.args) > 1 else _Side()
    if not source.image:
        raise UsageError(f"{parsed.args[0]}: no image is named", hint="HOST::IMAGE")
    if source.host == target.host == "":
        raise UsageError("both ends are this machine", hint="pyctl image scp IMAGE HOST::")
    if target.image:
        parse(target.image)
    engine = Engine(parsed.globals)
    quiet = bool(parsed.options.quiet)
    if not source.host:
        return _send(engine, source, target, quiet)
    if not target.host:
        return _receive(engine, source, target, quiet)
    sender = _ssh(source, _save_line(source), stdout=subprocess.PIPE)
    receiver = _ssh(target, _load_line(), stdin=sender.stdout)
    assert sender.stdout is not None
    sender.stdout.close()
    _finish(receiver, target, sender, source)
    return 0


def _side(text: str) -> _Side:
    """`IMAGE`, `HOST::[IMAGE]`, `ssh://[USER@]HOST[:PORT]::[IMAGE]`."""
    host, colons, image = text.partition("::")
    if not host or not colons:
        return _Side(image=image or host)
    host = host.removeprefix("ssh://").rstrip("/")
    host, colon, port = host.partition(":")
    name = host.rpartition("@")[2]
    if name == "localhost":
        raise UsageError(
            f"{text}: another user's images cannot be had without root",
            hint="let the other user run: pyctl save IMAGE | … pyctl load",
        )
    # What begins with a dash would be an option of ssh.
    if not name or host.startswith("-") or not all(c.isalnum() or c in "@._-" for c in host):
        raise UsageError(f"{text}: {host!r} is no host")
    if colon and not (port.isascii() and port.isdecimal()):
        raise UsageError(f"{text}: {port!r} is no port")
    return _Side(host=host, port=port, image=image)


def _save_line(side: _Side) -> str:
    return f'{_ENGINE}exec "$e" save -q --format oci-archive {shlex.quote(side.image)}'


def _load_line() -> str:
    return f'{_ENGINE}exec "$e" load -q'


def _ssh(side: _Side, line: str, **streams: object) -> subprocess.Popen[bytes]:
    port = ["-p", side.port] if side.port else []
    try:
        return subprocess.Popen(["ssh", *port, "--", side.host, line], **streams)  # type: ignore[call-overload,no-any-return]
    except FileNotFoundError as error:
        raise Error("ssh is not installed", hint="apt install openssh-client") from error


def _finish(*pairs: subprocess.Popen[bytes] | _Side) -> None:
    """Wait for each process; the first that failed is told with its host."""
    failed = []
    for process, side in zip(pairs[::2], pairs[1::2], strict=True):
        assert isinstance(process, subprocess.Popen)
        assert isinstance(side, _Side)
        if process.wait():
            failed.append(f"{side.host}: the other side ended with status {process.returncode}")
    if failed:
        raise Error("; ".join(reversed(failed)))


def _send(engine: Engine, source: _Side, target: _Side, quiet: bool) -> int:
    _, name = lookup.resolve(engine.db, source.image)
    if target.image:
        name = str(parse(target.image).with_default_tag())
    stdout = subprocess.DEVNULL if quiet else None
    process = _ssh(target, _load_line(), stdin=subprocess.PIPE, stdout=stdout)
    assert process.stdin is not None
    try:
        save_to(engine.db, source.image, "oci-archive", process.stdin.fileno(), name)
    except Error:
        process.stdin.close()
        # A pipe that broke is the consequence of what the other side met.
        _finish(process, target)
        raise
    process.stdin.close()
    _finish(process, target)
    return 0


def _receive(engine: Engine, source: _Side, target: _Side, quiet: bool) -> int:
    process = _ssh(source, _save_line(source), stdout=subprocess.PIPE)
    assert process.stdout is not None
    single_id = mapped.enter(engine, unpacks=True)
    policy, limits = load_policy(os.environ), mapped.unpack_limits(engine)
    try:
        found = archives.load(engine.db, process.stdout.fileno(), single_id=single_id, limits=limits, policy=policy)
    except Error as error:
        process.stdout.close()
        # What the other side could not send is its mistake; what does not fit here is not.
        if process.wait() not in (0, -signal.SIGPIPE) and not isinstance(error, (NoRoomError, NoSpaceError)):
            _finish(process, source)
        raise
    process.stdout.close()
    _finish(process, source)
    if target.image:
        images.ImageStore(engine.db).tag(found[0].image_id, [target.image])
    if not quiet:
        for image in found:
            for name in image.names or (f"sha256:{image.image_id}",):
                sys.stdout.write(f"Loaded image: {name}\n")
    return 0
