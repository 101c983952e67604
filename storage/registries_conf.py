"""registries.conf: which registry a short name means, and mirrors, rewriting, blocking and plain http for the others.

Weight: `os`, `rootless.values`, `storage.reference`; `tomllib` (8 ms, through `re`) only when the cached result is
not current.

The files are containers-registries.conf(5)'s: `$CONTAINERS_REGISTRIES_CONF`, else the user's
`~/.config/containers/registries.conf`, else `/etc/containers/registries.conf`; then `registries.conf.d/*.conf` of
the system and of the user; then the aliases that a prompt recorded.  One difference: where no file
names `unqualified-search-registries`, short names mean docker.io's, as Docker has it; an empty list forbids them.
"""

from __future__ import annotations

import os

from rootless.errors import Error
from rootless.fds import read_file, write_durably
from rootless.values import Value, decode, dumps
from storage.reference import (
    DOCKER_HUB,
    InvalidReferenceError,
    Reference,
    is_domain,
    is_short,
    parse,
    parse_repository,
    split_short,
    with_registry,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_MODES = ("enforcing", "permissive", "disabled")
_CACHE_VERSION = 1


class Mirror(Value):
    """One place that has the same content.  pull_from: "all", "digest-only", "tag-only"."""

    location: str
    insecure: bool = False
    pull_from: str = "all"


class RegistryEntry(Value):
    """One [[registry]] table: what happens to references that begin with `prefix` ("*.host" for subdomains)."""

    prefix: str
    location: str = ""  # "": not rewritten
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[Mirror, ...] = ()


class RegistriesConf(Value):
    """The merged configuration.  `search_origin` names the file that set `search`, "" where none did."""

    search: tuple[str, ...] = (DOCKER_HUB,)
    search_origin: str = ""
    short_name_mode: str = "permissive"
    aliases: dict[str, str] = {}
    registries: tuple[RegistryEntry, ...] = ()
    credential_helpers: tuple[str, ...] = ()


class Source(Value):
    """One place to fetch a reference from, in the order to try."""

    reference: Reference  # rewritten: `domain` is the host to talk to
    insecure: bool = False
    mirror: bool = False


class Resolution(Value):
    """What a name may mean, best first.

    ask: the user is to choose among the candidates (on a terminal), because nothing decides between them.
    """

    candidates: tuple[Reference, ...]
    ask: bool = False


# --- what a name means ---------------------------------------------------------------------------


def local_candidates(conf: RegistriesConf, text: str) -> tuple[Reference, ...]:
    """The full names that `text` may have in the local store, in the order to look: alias, localhost, the searched
    registries, docker.io.  Each has a tag or a digest.  Raises InvalidReferenceError.
    """
    if not is_short(text):
        return (parse(text).with_default_tag(),)
    alias = _aliased(conf, text)
    found = [alias] if alias else []
    for registry in ("localhost", *conf.search, DOCKER_HUB):
        candidate = with_registry(registry, text).with_default_tag()
        if candidate not in found:
            found.append(candidate)
    return tuple(found)


def resolve(conf: RegistriesConf, text: str) -> Resolution:
    """The references to pull for `text`.  Raises InvalidReferenceError, and Error where no registry is searched."""
    if not is_short(text):
        return Resolution(candidates=(parse(text).with_default_tag(),))
    alias = None if conf.short_name_mode == "disabled" else _aliased(conf, text)
    if alias:
        return Resolution(candidates=(alias,))
    candidates = tuple(with_registry(registry, text).with_default_tag() for registry in conf.search)
    if not candidates:
        raise Error(
            f"short name {text!r} has no alias, and {conf.search_origin} searches no registries",
            hint=f"name the registry: docker.io/{text}",
        )
    return Resolution(candidates=candidates, ask=len(candidates) > 1 and conf.short_name_mode != "disabled")


def _aliased(conf: RegistriesConf, text: str) -> Reference | None:
    name, tag, digest = split_short(text)
    target = conf.aliases.get(name)
    if not target:
        return None
    return parse(target).replace(tag=tag, digest=digest).with_default_tag()


def record_alias(name: str, target: Reference, env: Mapping[str, str]) -> None:
    """Remember the user's choice for short name `name`, where Podman does too.  Raises Error."""
    path = _alias_file(env)
    known = _read_toml(path).get("aliases", {}) if os.path.exists(path) else {}
    known[name] = target.name
    lines = [f'"{short}" = "{full}"\n' for short, full in sorted(known.items())]
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        write_durably(path, ("[aliases]\n" + "".join(lines)).encode())
    except OSError as error:
        raise Error(f"cannot record the alias in {path}: {error.strerror}") from error


# --- where it is fetched from --------------------------------------------------------------------


def find(conf: RegistriesConf, reference: Reference) -> RegistryEntry | None:
    """The entry with the longest prefix that `reference` begins with."""
    best: RegistryEntry | None = None
    for entry in conf.registries:
        if _prefix_length(entry.prefix, reference) > 0 and (best is None or len(entry.prefix) > len(best.prefix)):
            best = entry
    return best


def sources(conf: RegistriesConf, reference: Reference) -> tuple[Source, ...]:
    """Mirrors first, then the registry itself.  Raises Error where the registry is blocked."""
    entry = find(conf, reference)
    if entry is None:
        return (Source(reference=reference),)
    if entry.blocked:
        raise Error(f"registry {entry.prefix} is blocked by registries.conf", hint="ask who manages this machine")
    kind = "digest-only" if reference.digest else "tag-only"
    found = [
        Source(reference=_rewritten(entry, m.location, reference), insecure=m.insecure, mirror=True)
        for m in entry.mirrors
        if m.pull_from in ("all", kind)
    ]
    found.append(Source(reference=_rewritten(entry, entry.location, reference), insecure=entry.insecure))
    return tuple(found)


def _prefix_length(prefix: str, reference: Reference) -> int:
    """How much of `reference.name` the prefix covers; 0: it does not match."""
    if prefix.startswith("*."):
        host = reference.domain.partition(":")[0]
        return len(reference.domain) if host.endswith(prefix[1:]) or reference.domain.endswith(prefix[1:]) else 0
    text = str(reference)
    if text.startswith(prefix) and text[len(prefix) : len(prefix) + 1] in ("", "/", ":", "@"):
        # "host:" may go on as a port, which is another registry, or as a tag behind a path.
        if text[len(prefix) : len(prefix) + 1] == ":" and len(prefix) < len(reference.domain):
            return 0
        return len(prefix)
    return 0


def _rewritten(entry: RegistryEntry, location: str, reference: Reference) -> Reference:
    if not location:
        return reference
    rest = str(reference)[_prefix_length(entry.prefix, reference) :]
    try:
        return parse(location + rest)
    except InvalidReferenceError as error:
        raise Error(f"registries.conf: {entry.prefix}: {location}{rest} is no reference: {error.message}") from error


# --- reading -------------------------------------------------------------------------------------


def load(env: Mapping[str, str], cache: str = "", system_dir: str = "/etc/containers") -> RegistriesConf:
    """The configuration for a process with environment `env` (HOME, XDG_CONFIG_HOME, XDG_CACHE_HOME,
    CONTAINERS_REGISTRIES_CONF).

    cache: a file of the caller's own in which the merged result is kept, keyed by the sources' paths and times
    ("": none).  Raises Error that names the file.
    """
    files = _files(env, system_dir)
    key = dumps([_CACHE_VERSION, [_stamp(path) for path in files]])
    if cache:
        try:
            held, _, body = read_file(cache).partition(b"\n")
            if held == key.encode():
                conf = decode(body)
                if isinstance(conf, RegistriesConf):
                    return conf
        except (OSError, ValueError, TypeError):
            pass
    conf = RegistriesConf()
    for path in files:
        try:
            conf = _merged(conf, _read_toml(path), path)
        except (AttributeError, TypeError) as error:  # a string where a table belongs
            raise Error(f"{path}: a table or list is malformed: {error}") from error
    if cache:
        try:
            write_durably(cache, f"{key}\n{dumps(conf)}".encode())
        except OSError:
            pass  # a cache that cannot be written costs only time
    return conf


def _files(env: Mapping[str, str], system_dir: str) -> list[str]:
    config = (env.get("XDG_CONFIG_HOME") or env.get("HOME", "") + "/.config") + "/containers"
    chosen = env.get("CONTAINERS_REGISTRIES_CONF", "")
    if chosen and not os.path.exists(chosen):
        raise Error(f"{chosen}, named by CONTAINERS_REGISTRIES_CONF, does not exist")
    main = [chosen] if chosen else [f"{config}/registries.conf", f"{system_dir}/registries.conf"]
    files = [path for path in main if os.path.isfile(path)][:1]
    for directory in (f"{system_dir}/registries.conf.d", f"{config}/registries.conf.d"):
        try:
            names = sorted(name for name in os.listdir(directory) if name.endswith(".conf"))
        except OSError:
            continue
        files += [f"{directory}/{name}" for name in names]
    aliases = _alias_file(env)
    return [*files, aliases] if os.path.isfile(aliases) else files


def _alias_file(env: Mapping[str, str]) -> str:
    return (env.get("XDG_CACHE_HOME") or env.get("HOME", "") + "/.cache") + "/containers/short-name-aliases.conf"


def _stamp(path: str) -> list[object]:
    try:
        held = os.stat(path)
    except OSError:
        return [path]
    return [path, held.st_mtime_ns, held.st_size, held.st_ino]


def _read_toml(path: str) -> dict[str, Any]:
    import tomllib  # imports `re`: only where the cache is not current

    try:
        return tomllib.loads(read_file(path).decode())
    except OSError as error:
        raise Error(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise Error(f"{path}: {error}") from error


def _merged(conf: RegistriesConf, tree: dict[str, Any], path: str) -> RegistriesConf:
    """`conf` with what one file says on top."""
    tree = _from_version_1(tree)
    changes: dict[str, Any] = {}
    if "unqualified-search-registries" in tree:
        changes["search"] = tuple(
            parse_location(item, path) for item in _strings(tree, "unqualified-search-registries", path)
        )
        changes["search_origin"] = path
    if "short-name-mode" in tree:
        mode = str(tree["short-name-mode"]) or "permissive"
        if mode not in _MODES:
            raise Error(f"{path}: short-name-mode {mode!r} is none of {', '.join(_MODES)}")
        changes["short_name_mode"] = mode
    if "credential-helpers" in tree:
        changes["credential_helpers"] = tuple(_strings(tree, "credential-helpers", path))
    aliases = dict(conf.aliases)
    for name, target in _typed(tree.get("aliases", {}), dict, f"{path}: aliases").items():
        if not target:
            aliases.pop(name, None)
            continue
        try:
            parse_repository(_typed(target, str, f"{path}: alias {name}"), "alias")
        except InvalidReferenceError as error:
            raise Error(f"{path}: alias {name}: {error.message}") from error
        aliases[name] = target
    changes["aliases"] = aliases
    registries = {entry.prefix: entry for entry in conf.registries}
    for row in _typed(tree.get("registry", []), list, f"{path}: registry"):
        entry = _entry(_typed(row, dict, f"{path}: registry"), path)
        registries[entry.prefix] = entry
    changes["registries"] = tuple(registries.values())
    return conf.replace(**changes)


def _entry(row: dict[str, Any], path: str) -> RegistryEntry:
    location = _location(row, "location", path)
    prefix = str(row.get("prefix", "")) or location
    if not prefix:
        raise Error(f"{path}: a [[registry]] has neither prefix nor location")
    where = f"{path}: registry {prefix}"
    if not prefix.startswith("*."):
        parse_location(prefix, where)
        location = location or prefix
    by_digest = _typed(row.get("mirror-by-digest-only", False), bool, where)
    mirrors = []
    for mirror in _typed(row.get("mirror", []), list, f"{where}: mirror"):
        pull_from = str(mirror.get("pull-from-mirror", "")) or ("digest-only" if by_digest else "all")
        if pull_from not in ("all", "digest-only", "tag-only"):
            raise Error(f"{where}: pull-from-mirror {pull_from!r} is none of all, digest-only, tag-only")
        insecure = _typed(mirror.get("insecure", False), bool, where)
        place = _location(mirror, "location", where)
        if not place:
            raise Error(f"{where}: a mirror has no location")
        mirrors.append(Mirror(location=place, insecure=insecure, pull_from=pull_from))
    return RegistryEntry(
        prefix=prefix,
        location=location,
        insecure=_typed(row.get("insecure", False), bool, where),
        blocked=_typed(row.get("blocked", False), bool, where),
        mirrors=tuple(mirrors),
    )


def parse_location(text: str, where: str) -> str:
    """`host[:port][/path]` without scheme and trailing slash.  Raises Error."""
    text = text.rstrip("/")
    if "://" in text or not text or not is_domain(text.partition("/")[0]):
        raise Error(f"{where}: {text!r} is no registry", hint="HOST[:PORT][/PATH] is expected, without https://")
    return text


def _location(row: dict[str, Any], key: str, where: str) -> str:
    text = _typed(row.get(key, ""), str, f"{where}: {key}")
    return parse_location(text, where) if text else ""


def _strings(tree: dict[str, Any], key: str, path: str) -> list[str]:
    return [_typed(item, str, f"{path}: {key}") for item in _typed(tree[key], list, f"{path}: {key}")]


def _typed(value: Any, kind: type, what: str) -> Any:
    if type(value) is not kind:
        raise Error(f"{what}: a {kind.__name__} is expected, not {type(value).__name__}")
    return value


def _from_version_1(tree: dict[str, Any]) -> dict[str, Any]:
    """The format before 2020, `[registries.search]` and its like, in the terms of the present one."""
    old = tree.get("registries")
    if type(old) is not dict:
        return tree
    new = {key: value for key, value in tree.items() if key != "registries"}
    if "search" in old:
        new["unqualified-search-registries"] = old["search"].get("registries", [])
    rows: dict[str, dict[str, Any]] = {}
    for kind, option in (("insecure", "insecure"), ("block", "blocked")):
        for location in old.get(kind, {}).get("registries", []):
            rows.setdefault(location, {"location": location})[option] = True
    new["registry"] = [*tree.get("registry", []), *rows.values()]
    return new
