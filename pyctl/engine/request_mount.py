"""--mount type=…: the long form of mounts.  Weight: `.request_mounts`.  Loaded where the option is used."""

from __future__ import annotations

from pyctl.engine import request_mounts
from pyctl.engine.model import Mount
from pyctl.engine.request_facts import refused
from pyctl.engine.request_text import container_path
from pyctl.engine.spec_mounts import PROPAGATION
from rootless.errors import UsageError

_KEYS = {"src": "source", "dst": "target", "destination": "target", "readonly": "ro", "chown": "U"}
_KINDS = {
    # type → keys that it takes, beside type, target and ro
    "bind": (
        *("source", "U", "bind-propagation", "bind-nonrecursive", "relabel", "consistency", "idmap"),
        *("exec", "noexec", "suid", "nosuid", "dev", "nodev"),
        *("shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable"),
    ),
    "volume": (
        *("source", "U", "subpath", "volume-subpath", "volume-nocopy", "idmap"),
        *("exec", "noexec", "suid", "nosuid", "dev", "nodev"),
    ),
    "tmpfs": (
        *("tmpfs-size", "tmpfs-mode", "tmpcopyup", "notmpcopyup", "U"),
        *("exec", "noexec", "suid", "nosuid", "dev", "nodev"),
    ),
    "devpts": ("uid", "gid", "mode", "max"),
}
_NOT_BUILT = {
    "image": "mounting images is not built yet",
    "glob": "glob mounts are not built yet: name each path, or mount the directory",
    "ramfs": "a ramfs has no size and could fill the machine's memory: use type=tmpfs",
}


def mount_option(word: str, cwd: str, option: str = "--mount") -> Mount:
    """`type=bind|volume|tmpfs|devpts,key=value,…` (CSV: a value may be quoted)."""
    from pyctl.cli.parser import split_csv  # loaded by the command line already

    try:
        fields = split_csv(word)
    except ValueError as error:
        raise UsageError(f"{option} {word!r}: {error}") from error
    given: dict[str, str] = {}
    for field in fields:
        name, equals, value = field.partition("=")
        key = _KEYS.get(name, name)
        if key == "volume-opt":
            raise refused(option, word, "volume-opt is not built yet: make the volume with its options first")
        if key == "rw":
            key, value = "ro", "false" if not equals or request_mounts.truth(option, word, name, value) else "true"
        if key in given:
            raise refused(option, word, f"{name} is given twice")
        given[key] = value
    kind = given.pop("type", "")
    if kind in _NOT_BUILT:
        raise refused(option, word, _NOT_BUILT[kind])
    if kind not in _KINDS:
        raise refused(option, word, "needs type=bind, type=volume, type=tmpfs or type=devpts")
    for key in given:
        if key not in ("target", "ro") and key not in _KINDS[kind]:
            raise refused(option, word, f"{key!r} is not an option of type={kind}")
    target = given.pop("target", "")
    if not target:
        raise refused(option, word, "needs target=PATH")
    target = container_path(option, word, target)
    made = _MAKERS[kind](option, word, target, given, cwd)
    if "ro" in given:
        made = made.replace(read_only=request_mounts.truth(option, word, "readonly", given["ro"]))
    return made


def _flags(option: str, word: str, given: dict[str, str]) -> list[str]:
    """The words of mount(2), and U, that stand alone or as `=true`; `exec=false` is noexec."""
    words: list[str] = []
    for name in ("exec", "suid", "dev", "noexec", "nosuid", "nodev", "U"):
        if name not in given:
            continue
        if request_mounts.truth(option, word, name, given[name]):
            words.append(name)
        elif name in ("exec", "suid", "dev"):
            words.append("no" + name)
    words += [name for name in given if name in PROPAGATION]
    if "idmap" in given:
        words.append("idmap")
    return words


def _bind(option: str, word: str, target: str, given: dict[str, str], cwd: str) -> Mount:
    words = _flags(option, word, given)
    if "bind-propagation" in given:
        if given["bind-propagation"] not in PROPAGATION:
            allowed = " ".join(PROPAGATION)
            raise refused(option, word, f"bind-propagation={given['bind-propagation']}: must be one of {allowed}")
        words.append(given["bind-propagation"])
    if "bind-nonrecursive" in given:
        alone = request_mounts.truth(option, word, "bind-nonrecursive", given["bind-nonrecursive"])
        words.append("bind" if alone else "rbind")
    if "relabel" in given:
        if given["relabel"] not in ("shared", "private"):
            raise refused(option, word, f"relabel={given['relabel']}: must be shared or private")
        words.append("z" if given["relabel"] == "shared" else "Z")
    # consistency= is about virtual machines (Docker Desktop): on Linux every bind mount is consistent.
    if given.get("consistency", "cached") not in ("consistent", "cached", "delegated", "default"):
        raise refused(option, word, f"consistency={given['consistency']}: must be consistent, cached or delegated")
    return request_mounts.bind_mount(option, word, given.get("source") or target, target, words=words, cwd=cwd)


def _volume(option: str, word: str, target: str, given: dict[str, str], cwd: str) -> Mount:
    words = _flags(option, word, given)
    if given.get("subpath") or given.get("volume-subpath"):
        # A link in the volume could lead out of it: this needs the path opened beneath the volume and mounted by fd.
        raise refused(option, word, "subpath is not built yet: mount the whole volume")
    if "volume-nocopy" in given and request_mounts.truth(option, word, "volume-nocopy", given["volume-nocopy"]):
        words.append("nocopy")
    source = given.get("source") or ""
    if not source:
        name = request_mounts.anonymous_name()
        return request_mounts.named_volume(option, word, name, target, words).replace(anonymous=True)
    return request_mounts.named_volume(option, word, source, target, words)


def _tmpfs(option: str, word: str, target: str, given: dict[str, str], cwd: str) -> Mount:
    words = _flags(option, word, given)
    if "U" in words:
        raise refused(option, word, "a tmpfs belongs to the container's root: use a bind or a volume with U")
    words += [f"{name[6:]}={given[name]}" for name in ("tmpfs-size", "tmpfs-mode") if name in given]
    words += [w for w in ("tmpcopyup", "notmpcopyup") if w in given and request_mounts.truth(option, word, w, given[w])]
    return request_mounts.tmpfs_of_words(option, word, target, words)


def _devpts(option: str, word: str, target: str, given: dict[str, str], cwd: str) -> Mount:
    words = ["nosuid", "noexec", "newinstance", "ptmxmode=0666"]
    for name, value in given.items():
        if name == "ro":
            continue
        if not value.isascii() or not value.isdecimal() or (name == "mode" and set(value) - set("01234567")):
            raise refused(option, word, f"{name}={value}: must be {'octal' if name == 'mode' else 'a number'}")
        words.append(f"{name}={value}")
    return Mount(kind="devpts", target=target, options=tuple(words))


_MAKERS = {"bind": _bind, "volume": _volume, "tmpfs": _tmpfs, "devpts": _devpts}
