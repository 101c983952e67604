"""`inspect`, `container inspect`, `image inspect`.  Weight: `pyctl.engine.inspect`, for containers only."""

from __future__ import annotations

import os
import sys

from pyctl.engine import state
from pyctl.engine.engine import Engine
from rootless.errors import EXIT_ENGINE, Error, NotFound, UsageError
from rootless.values import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyctl.cli.parser import Parsed
    from pyctl.engine.model import ContainerSpec
    from pyctl.engine.state import ContainerRecord
    from rootless.netplan import Endpoint

    Finder = Callable[[Engine, str, "Parsed"], dict[str, Any] | None]

INDENT = 5  # Podman's
# Go's names of fields that are called otherwise in JSON, and Podman's short forms.
ALIASES = {"Src": "Source", "Dst": "Destination", "ImageID": "Image"}
# Keys whose objects are maps of data: a key that they have not is no mistake.
_MAPS = frozenset(
    (
        *("Labels", "Annotations", "Ports", "Networks", "PortBindings", "ExposedPorts", "Volumes", "Options", "Tmpfs"),
        *("Sysctls", "Data", "DriverOpts"),
    )
)


def inspect(parsed: Parsed) -> int:
    """Whatever the names mean: containers, images, volumes, networks, in this order, or those of --type only."""
    kind = parsed.options.type
    if _names_transport(parsed):
        from pyctl.cli.verb_inspect_remote import inspect_remote  # registries, archives: urllib3 and more

        return inspect_remote(parsed)
    if kind == "pod":
        raise UsageError("--type=pod is not available: there are no pods yet")
    finders = list(_FINDERS.values()) if kind == "all" else [_FINDERS[kind]]
    if parsed.options.latest and kind not in ("all", "container"):
        raise UsageError("--latest is about containers")
    return _show(parsed, finders, "object" if kind == "all" else kind)


# Options of the images that are not stored.
_REMOTE = (
    *("raw", "config", "no_tags", "platform", "arch", "os", "variant", "creds", "no_creds", "authfile", "cert_dir"),
    *("tls_verify", "retry_times"),
)


_TRANSPORTS = ("oci", "oci-archive", "docker-archive", "dir", "docker-daemon", "ostree", "sif")


def _names_transport(parsed: Parsed) -> bool:
    """Whether an image in a registry or file is meant.  Raises UsageError for its options without one."""
    if any(map(_has_transport, parsed.args)):
        return True
    for field in _REMOTE:
        if parsed.options.given(field):
            raise UsageError(
                f"--{field.replace('_', '-')} is for images that are not stored here", hint="docker://NAME names one"
            )
    return False


def _has_transport(name: str) -> bool:
    """`oci:1.0` may be a stored image; with a path behind the colon it is a transport's."""
    kind, _, rest = name.partition(":")
    if name.startswith(("docker://", "containers-storage:")):
        return True
    return kind in _TRANSPORTS and ("/" in rest or os.path.exists(rest.partition(":")[0]))


def container(parsed: Parsed) -> int:
    """Containers only."""
    return _show(parsed, [_container], "container")


def image(parsed: Parsed) -> int:
    """Images only."""
    return _show(parsed, [_image], "image")


def _show(parsed: Parsed, finders: list[Finder], what: str) -> int:
    options = parsed.options
    engine = Engine(parsed.globals)
    names = _names(engine, parsed)
    found = []
    errors: list[Error] = []
    for name in names:
        made = next((tree for finder in finders if (tree := finder(engine, name, parsed)) is not None), None)
        if made is None:
            errors.append(NotFound(f"no such {what}: {name}"))
        else:
            found.append(made)
    print_found(found, options.format)
    if errors:
        from pyctl.__main__ import report

        for error in errors:
            report(error)
        return EXIT_ENGINE
    return 0


def _names(engine: Engine, parsed: Parsed) -> list[str]:
    if parsed.options.get("latest"):
        if parsed.args:
            raise UsageError("--latest takes no names")
        row = engine.db.one("SELECT id FROM containers ORDER BY created_ns DESC LIMIT 1")
        if row is None:
            raise NotFound("there are no containers")
        return [row[0]]
    if not parsed.args:
        raise UsageError(f"{parsed.path}: give a name", hint=f"pyctl {parsed.path} --help shows how")
    return list(parsed.args)


def print_found(found: list[dict[str, Any]], text: str) -> None:
    """A JSON list, or a template's text for each."""
    from pyctl.cli import report

    if report.is_json(text):
        report.print_json(found, INDENT)
        return
    from pyctl.cli.gotemplate import Template

    template = Template(report.with_newline(report.normalize(text.removeprefix("table "))))
    for tree in found:
        sys.stdout.write(template.render(with_maps(tree), ALIASES))


def with_maps(value: Any, key: str = "") -> Any:
    """The same data with objects that are maps marked as such."""
    if isinstance(value, dict):
        from pyctl.cli.gotemplate import Map

        members = {name: with_maps(member, name) for name, member in value.items()}
        return Map(members) if key in _MAPS else members
    if isinstance(value, list):
        return [with_maps(member) for member in value]
    return value


# --- containers --------------------------------------------------------------------------------


def _container(engine: Engine, name: str, parsed: Parsed) -> dict[str, Any] | None:
    try:
        record = state.get(engine.db, name)
    except NotFound:
        return None
    from pyctl.engine.inspect import container_json
    from pyctl.engine.lifecycle import live_status

    spec = record.specification
    health = None
    if spec.health is not None:
        live = live_status(record)
        health = live.health if live is not None else state.recorded_health(engine.db, record)
    return container_json(spec, record, _facts(engine, record, spec, bool(parsed.options.size)), health)


def _facts(engine: Engine, record: ContainerRecord, spec: ContainerSpec, with_size: bool) -> Any:
    import resource  # C, and only this verb shows limits

    from pyctl.engine.inspect import InspectFacts
    from rootless.container_files import LOG_FILES

    paths = engine.paths
    storage_dir = paths.container(record.id)
    own, image_size = -1, 0
    if with_size:
        from pyctl.engine.sizes import container_sizes

        own, image_size = container_sizes(engine, record)
    lower = engine.db.query(
        "SELECT l.directory FROM image_layers i JOIN layers l ON l.key = i.layer_key"
        " WHERE i.image_id = ? ORDER BY i.position DESC",
        (record.image_id,),
    )
    nested = record.running and spec.userns.mode != "host"
    log = spec.log
    return InspectFacts(
        storage_dir=storage_dir,
        runtime_dir=record.runtime_dir if record.alive else "",
        driver=engine.storage_driver,
        lower=tuple(paths.layer(directory) for (directory,) in lower),
        volumes={m.source: paths.volume_data(m.source) for m in spec.mounts if m.kind == "volume"},
        log_path=log.path or (f"{storage_dir}/{LOG_FILES[log.driver]}" if log.driver in LOG_FILES else ""),
        runtime=spec.runtime or engine.globals.runtime or engine.config.runtime,
        cgroup_manager=engine.globals.cgroup_manager or engine.config.cgroup_manager or "cgroupfs",
        cgroup_path=_cgroup_path(record.pid) if record.running or record.paused else "",
        paused=record.paused,
        default_capabilities=engine.config.default_capabilities,
        rlimits={
            name[7:].lower(): resource.getrlimit(getattr(resource, name))
            for name in dir(resource)
            if name.startswith("RLIMIT_")
        },
        uid_map=_id_map(record.pid, "uid_map") if nested else (),
        gid_map=_id_map(record.pid, "gid_map") if nested else (),
        shared_network=_network_mode_of(engine, spec.network.target) if spec.network.mode == "container" else "",
        endpoints=_endpoints(engine, record, spec),
        size_rw_bytes=own,
        size_root_bytes=own + image_size if with_size else -1,
    )


def _network_mode_of(engine: Engine, container_id: str) -> str:
    try:
        return state.get(engine.db, container_id).specification.network.mode
    except NotFound:
        return ""


def _endpoints(engine: Engine, record: ContainerRecord, spec: ContainerSpec) -> tuple[Endpoint, ...]:
    if not spec.network.endpoints:
        return ()
    from pyctl.engine import network_use

    found = network_use.current(engine.db, spec)
    return found if record.alive else tuple(endpoint.replace(addresses=(), mac="") for endpoint in found)


def _cgroup_path(pid: int) -> str:
    """The cgroup v2 path of a process: the line `0::PATH` of proc_pid_cgroup(5)."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            return next((line[3:].rstrip("\n") for line in file if line.startswith("0::")), "")
    except OSError:
        return ""


def _id_map(pid: int, name: str) -> tuple[str, ...]:
    """Rows "inside:outside:size", as the container's namespace was made; outside counts as this process sees it."""
    try:
        with open(f"/proc/{pid}/{name}", encoding="ascii") as file:
            return tuple(":".join(line.split()) for line in file)
    except OSError:
        return ()


# --- images, volumes, networks ------------------------------------------------------------------------


def _image(engine: Engine, name: str, _parsed: Parsed) -> dict[str, Any] | None:
    from storage import images, lookup
    from storage.reference import InvalidReferenceError

    try:
        found = lookup.find(engine.db, name)
    except InvalidReferenceError:
        return None
    if found is None:
        return None
    from pyctl.engine.inspect_image import image_json
    from storage.blobs import BlobStore
    from storage.manifest import MAX_MANIFEST_BYTES

    store = images.ImageStore(engine.db)
    (row,) = store.list(found[0])
    usable = lookup.lookup_for_run(engine.db, row.id)
    ancestors = store.ancestors(row.id)
    manifest = loads(BlobStore(engine.paths).read(row.manifest_digest, MAX_MANIFEST_BYTES))
    return image_json(
        row,
        loads(store.config_text(row.id)),
        annotations=manifest.get("annotations") or {},
        lower=usable.lower if usable is not None else (),
        driver=engine.storage_driver,
        parent=ancestors[max(ancestors)] if ancestors else "",
    )


def _volume(engine: Engine, name: str, _parsed: Parsed) -> dict[str, Any] | None:
    from pyctl.cli.verb_volume import volume_json

    row = engine.db.one("SELECT name FROM volumes WHERE name = ?", (name,))
    return volume_json(engine, name) if row else None


def _network(engine: Engine, name: str, _parsed: Parsed) -> dict[str, Any] | None:
    from pyctl.cli.verb_network import inspect_json
    from storage.networks import NetworkStore

    found = NetworkStore(engine.db).find(name)
    return inspect_json(engine, found) if found is not None else None


_FINDERS: dict[str, Finder] = {"container": _container, "image": _image, "volume": _volume, "network": _network}
