"""From the words of `run` and `create` to a stored specification: the image, the name, volumes and ports.

Weight: `pyctl.engine.request`, `storage.lookup`.  A missing image is pulled by another process, so that neither a
TLS stack nor an unpacker is ever loaded here.
"""

from __future__ import annotations

import os
import sys
import time

from pyctl.engine import names, state
from pyctl.engine.model import ContainerSpec, IdRange, Mount, Network
from pyctl.engine.request import container_request
from pyctl.engine.request_facts import ImageChoice
from rootless.errors import Error, NotFound, UsageError, os_error_text
from rootless.fds import write_file
from rootless.headstart import child_environment
from rootless.processes import exit_code
from storage import lookup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.cli.parser import Options, Parsed
    from pyctl.engine.engine import Engine
    from rootless.netplan import NetworkConfig
    from storage.lookup import ImageForRun
    from storage.volumes import VolumeStore


class Lookups:
    """What a request may ask of the state."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def container_id(self, name: str) -> str:
        """Full id of a container.  Raises NotFound."""
        return state.get(self._engine.db, name).id

    def mounts(self, name: str) -> tuple[Mount, ...]:
        """What a container has mounted.  Raises NotFound."""
        return state.get(self._engine.db, name).specification.mounts

    def network(self, name: str) -> NetworkConfig:
        """A user-defined network; "bridge" is the default one.  Raises NotFound."""
        from storage.networks import DEFAULT_NAME, NetworkStore

        return NetworkStore(self._engine.db).get(DEFAULT_NAME if name == "bridge" else name)

    def taken_ids(self) -> tuple[IdRange, ...]:
        """Ranges of all containers of --userns=auto."""
        rows: list[IdRange] = []
        for record in state.every(self._engine.db):
            userns = record.specification.userns
            if userns.mode == "auto":
                rows += userns.uid_map
        return tuple(rows)


def create(engine: Engine, parsed: Parsed) -> ContainerSpec:
    """Check everything and make the specification; pulls the image where that is asked for.

    What can be wrong is found here, before anything is stored.  Raises UsageError, NotFound, Error.
    """
    options = parsed.options
    if not parsed.args:
        raise UsageError(f"{parsed.path}: name an image", hint=f"pyctl {parsed.path} IMAGE [COMMAND [ARG...]]")
    word, arguments = parsed.args[0], parsed.args[1:]
    choice = ImageChoice(rootfs=word) if options.rootfs else find_image(engine, word, options)
    if options.get("replace"):
        if not options.name:
            raise UsageError("--replace needs --name")
        _replace(engine, options.name)
    request = container_request(
        options,
        arguments,
        image=choice,
        facts=engine.request_facts(),
        lookups=Lookups(engine),
        container_id=names.new_id(),
        name=_free_name(engine) if not options.name else options.name,
        created_ns=time.time_ns(),
        command_line=("pyctl", *parsed.argv),
    )
    engine.announce_single_id()
    for sentence in request.warnings:
        engine.warn(sentence)
    spec = request.spec
    state.check_name_is_free(engine.db, spec)  # before volumes are made for nothing
    spec = spec.replace(network=_with_host_ports(engine, spec.network))
    return spec.replace(mounts=_with_volumes(engine, spec))


def _free_name(engine: Engine) -> str:
    tries = 0
    while True:
        name = names.choose(tries)
        if engine.db.one("SELECT 1 FROM containers WHERE name = ?", (name,)) is None:
            return name
        tries += 1


def _replace(engine: Engine, name: str) -> None:
    from pyctl.engine import lifecycle

    try:
        record = state.get(engine.db, name)
    except NotFound:
        return
    lifecycle.stop(engine.db, [record], -1, lambda _r: None)
    # In another process: this one may not leave its own user namespace for the supervisor's sake.
    run_self(engine, ["rm", "--force", "--volumes", record.id], quiet=True)


# --- the image ---------------------------------------------------------------------------------


def find_image(engine: Engine, word: str, options: Options) -> ImageChoice:
    """The stored image of this name, pulled before where the policy says so.  Raises NotFound, Error."""
    policy = options.pull or engine.config.pull_policy
    platform = _wanted_platform(options)
    word = word.removeprefix("docker://")
    if _is_elsewhere(word):
        word, policy, platform = _bring_in(engine, word, platform, options), "never", ""
    found = lookup.lookup_for_run(engine.db, word) if policy != "always" else None
    if found is not None and platform and not _platform_fits(found, platform):
        found = None
    if found is None or policy == "newer":
        if policy == "never":
            raise NotFound(f"image {word} is not stored here", hint=f"pyctl pull {word} fetches it")
        _pull(engine, word, policy, platform, options, have=found is not None)
        found = lookup.lookup_for_run(engine.db, word)
        if found is None:
            raise NotFound(f"image {word} was pulled, but is gone again")
    from storage.imageconfig import parse_config

    return ImageChoice(
        name=found.name or (found.names[0] if found.names else found.id),
        id=found.id,
        digest=found.manifest_digest,
        config=parse_config(found.config.encode()),
    )


def _wanted_platform(options: Options) -> str:
    """--platform, or what --os, --arch and --variant say; "" for the host's."""
    if not (options.os or options.arch or options.variant):
        return str(options.platform)
    if options.platform:
        raise UsageError("--platform excludes --arch, --os and --variant")
    from storage.platforms import host_platform

    host = host_platform()
    return "/".join(p for p in (options.os or host.os, options.arch or host.architecture, options.variant) if p)


def _platform_fits(found: ImageForRun, platform: str) -> bool:
    from storage.imageconfig import parse_config
    from storage.platforms import parse_platform

    wanted, own = parse_platform(platform), parse_config(found.config.encode()).platform
    return (wanted.os, wanted.architecture) == (own.os, own.architecture) and wanted.variant in ("", own.variant)


# Names of images that are in no registry: such an image is brought into the store, and is known by its id there.
_ELSEWHERE = ("docker-archive", "oci-archive", "oci", "dir", "containers-storage")


def _is_elsewhere(word: str) -> bool:
    kind, colon, rest = word.partition(":")
    if not colon or kind not in _ELSEWHERE:
        return False
    # `oci:1.0` may be a stored image; with a path behind the colon it is a transport's.
    return kind == "containers-storage" or "/" in rest or os.path.exists(rest)


def _bring_in(engine: Engine, word: str, platform: str, options: Options) -> str:
    """Store the image of an archive, a directory or Podman's store; its id."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        _pull(engine, word, "always", platform, options, have=False, out=writer)
        os.close(writer)
        writer = -1
        return os.read(reader, 4096).decode().splitlines()[-1]
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)


_PULL_OPTIONS = ("authfile", "quiet", "retry", "retry_delay", "tls_verify")


def _pull(
    engine: Engine, word: str, policy: str, platform: str, options: Options, *, have: bool, out: int = -1
) -> None:
    argv = ["pull", "--quiet"] if policy == "newer" else ["pull"]
    if policy == "newer":
        argv.append("--policy=newer")
    if platform:
        argv.append(f"--platform={platform}")
    for field in _PULL_OPTIONS:
        if options.given(field):
            value = options.get(field)
            text = ("false", "true")[value] if isinstance(value, bool) else str(value)
            argv.append(f"--{field.replace('_', '-')}={text}")
    address = os.environ.get("NOTIFY_SOCKET", "") if options.sdnotify != "ignore" else ""
    status = run_self(engine, [*argv, word], quiet=True, notify=address, out=out)
    engine.single_id_told = True  # by that process
    if status and not have:
        raise SystemExit(status)  # the other process has said why


def run_self(engine: Engine, words: list[str], quiet: bool, notify: str = "", out: int = -1) -> int:
    """Another pyctl with this one's global options; its stdout goes to stderr, or nowhere, or to descriptor `out`.

    notify: the socket of a service manager that is to wait for as long as an image arrives.
    """
    argv = [*engine.own_command(), *words]
    actions: list[tuple[int, int, int]] = [(os.POSIX_SPAWN_DUP2, 2, 1)]
    null = -1
    if out >= 0:
        actions = [(os.POSIX_SPAWN_DUP2, out, 1)]
    elif quiet:
        null = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
        actions = [(os.POSIX_SPAWN_DUP2, null, 1)]
    sys.stdout.flush()
    env = child_environment()
    pulses, theirs = os.pipe2(os.O_CLOEXEC) if notify else (-1, -1)
    if notify:
        from pyctl.engine import service  # only below a service manager

        os.set_inheritable(theirs, True)
        env[service.PROGRESS_FD] = str(theirs)
    pid = os.posix_spawn(argv[0], argv, env, file_actions=actions)
    if null >= 0:
        os.close(null)
    if notify:
        os.close(theirs)
        service.pass_on(pulses, notify)
        os.close(pulses)
    return exit_code(os.waitpid(pid, 0)[1])[0]


# --- volumes and ports -------------------------------------------------------------------------


def volume_names(spec: ContainerSpec) -> tuple[str, ...]:
    """The volumes that a container uses."""
    return tuple(m.source for m in spec.mounts if m.kind == "volume")


def _with_volumes(engine: Engine, spec: ContainerSpec) -> tuple[Mount, ...]:
    """Make the named volumes that do not exist, and give the anonymous ones their names."""
    if not any(m.kind == "volume" for m in spec.mounts):
        return spec.mounts
    from storage.volumes import VolumeStore

    store = VolumeStore(engine.db)
    return tuple(_with_volume(store, mount) if mount.kind == "volume" else mount for mount in spec.mounts)


def _with_volume(store: VolumeStore, mount: Mount) -> Mount:
    name = mount.source or names.new_id()
    store.ensure(name, anonymous=mount.anonymous)
    return mount.replace(source=name)


def _with_host_ports(engine: Engine, network: Network) -> Network:
    """Choose the host ports that were left open, and find those that are taken before anything is made."""
    if not network.ports:
        return network
    from network import ports

    if network.mode == "host":
        return network
    bind_address = engine.config.bind_address
    chosen = []
    taken: set[tuple[str, int]] = set()
    for port in network.ports:
        number = port.host_port or ports.choose(port, taken, bind_address)
        taken.add((port.protocol, number))
        # A site's own address is written down: `inspect` shows it, and a later change is for later containers.
        address = port.host_ip or ("" if bind_address in ("0.0.0.0", "::") else bind_address)
        chosen.append(port.replace(host_port=number, host_ip=address))
    return network.replace(ports=tuple(chosen))


def store(engine: Engine, spec: ContainerSpec, runtime_dir: str = "", *, active: bool) -> None:
    """Write the --cidfile and the row: both or neither.  Raises Error."""
    if spec.cidfile:
        _write_id_file(spec)
    try:
        state.insert(engine.db, spec, active=active, runtime_dir=runtime_dir, volumes=volume_names(spec))
    except Error:
        _remove_id_file(spec)
        raise
    state.tell(engine.db, "create", spec)


def _write_id_file(spec: ContainerSpec) -> None:
    """An earlier one is replaced, as Podman 5 does."""
    try:
        write_file(spec.cidfile, spec.id.encode())
    except OSError as error:
        _remove_id_file(spec)
        raise Error(os_error_text(error, f"--cidfile {spec.cidfile}")) from error


def _remove_id_file(spec: ContainerSpec) -> None:
    try:
        os.unlink(spec.cidfile)
    except OSError:
        return  # it was never made
