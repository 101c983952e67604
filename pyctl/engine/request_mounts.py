"""What the user and the image mount into a container: -v, --mount, --tmpfs, VOLUME.

Weight: `os`, `pyctl.engine.model`, `.request_*`.  The grammar is Podman's; an option that could not do what it says
is refused by name.  Words that reach mount(2) are taken from fixed lists, never passed through: a word
with a comma in it would smuggle others (CVE-2024-9407).
"""

from __future__ import annotations

import os

from pyctl.engine.model import Mount
from pyctl.engine.request_facts import refused
from pyctl.engine.request_text import NAME_RULE, absolute, container_path, is_name, is_number, utf8
from pyctl.engine.spec_mounts import PROPAGATION
from rootless.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyctl.engine.request_facts import ImageChoice, Lookups, Options, RequestFacts

_FLAGS = ("exec", "noexec", "suid", "nosuid", "dev", "nodev")
_TMPFS_FLAGS = (*_FLAGS, "atime", "noatime", "diratime", "nodiratime", "relatime", "sync", "async")
_TMPFS_SIZES = ("size", "nr_blocks", "nr_inodes")
_EXCLUSIVE = (("exec", "noexec"), ("suid", "nosuid"), ("dev", "nodev"), ("bind", "rbind"), PROPAGATION)
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))
# Directories that nobody means to give to a container's user with U.
_SYSTEM = frozenset(
    ("/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt", "/proc", "/root",
     "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/lib", "/var/log", "/var/tmp")
)  # fmt: skip
_NOT_HERE = {
    "O": "overlay mounts of a host directory are not built yet",
    "idmap": "the kernel lets only the machine's root map the ids of a mount; use --userns=keep-id",
}


def container_mounts(
    options: Options, image: ImageChoice, facts: RequestFacts, lookups: Lookups
) -> tuple[Mount, ...]:
    """All mounts of the container, one for each target: the user's, other containers', the site's, the image's.

    Raises UsageError for anything that is wrong, and for two mounts on one target.
    """
    mounts: dict[str, Mount] = {}
    for word in options.get("volume") or ():
        _add(mounts, volume_mount(word, facts.cwd), f"--volume {word}")
    for word in options.get("mount") or ():
        from pyctl.engine.request_mount import mount_option  # a second grammar, for those who use it

        _add(mounts, mount_option(word, facts.cwd), f"--mount {word}")
    for word in options.get("tmpfs") or ():
        made = tmpfs_mount(word)
        earlier = mounts.get(made.target)
        if earlier is None or earlier.kind != "tmpfs":
            _add(mounts, made, f"--tmpfs {word}")
        mounts[made.target] = made
    for word in options.get("volumes_from") or ():
        for made in mounts_of(word, lookups):
            mounts.setdefault(made.target, made)
    for word in facts.defaults.volumes:
        made = volume_mount(word, facts.cwd, "containers.conf: volumes")
        mounts.setdefault(made.target, made)
    for word in facts.defaults.mounts:
        from pyctl.engine.request_mount import mount_option

        made = mount_option(word, facts.cwd, "containers.conf: mounts")
        mounts.setdefault(made.target, made)
    for made in image_volumes(image, options.get("image_volume") or "anonymous"):
        mounts.setdefault(made.target, made)
    return tuple(mounts.values())


def _add(mounts: dict[str, Mount], made: Mount, option: str) -> None:
    if made.target in mounts:
        raise UsageError(f"{option}: {made.target} is a mount's target already")
    mounts[made.target] = made


def mounts_of(word: str, lookups: Lookups) -> list[Mount]:
    """`--volumes-from CONTAINER[:OPTIONS]`: its volumes and host directories, with its options or these."""
    name, _, options = word.partition(":")
    if not name:
        raise refused("--volumes-from", word, "must be CONTAINER[:OPTIONS]")
    words = options.split(",") if options else []
    for given in words:
        if given not in ("ro", "rw", "z"):
            raise refused("--volumes-from", word, f"unknown option {given}: only ro, rw and z")
    if "ro" in words and "rw" in words:
        raise refused("--volumes-from", word, "ro and rw contradict each other")
    found = [m for m in lookups.mounts(name) if m.kind in ("bind", "volume")]
    if "ro" in words or "rw" in words:
        found = [m.replace(read_only="ro" in words) for m in found]
    return [m.replace(options=(*m.options, "z")) if "z" in words and "z" not in m.options else m for m in found]


def anonymous_name() -> str:
    """A name for a volume that goes with its container."""
    return os.urandom(32).hex()


def image_volumes(image: ImageChoice, mode: str) -> list[Mount]:
    """The image's VOLUMEs: as anonymous volumes ("anonymous", "bind"), as tmpfs ("tmpfs"), not at all ("ignore")."""
    if mode == "ignore" or image.config is None:
        return []
    made = []
    for path in image.config.volumes:
        target = container_path("the image's volume", path, path)
        if mode == "tmpfs":
            made.append(Mount(kind="tmpfs", target=target, options=("exec",), copy_up=True))
        else:
            made.append(Mount(kind="volume", target=target, source=anonymous_name(), anonymous=True))
    return made


# --- -v ----------------------------------------------------------------------------------------


def volume_mount(word: str, cwd: str, option: str = "--volume") -> Mount:
    """`[SOURCE:]TARGET[:OPTIONS]`.  A source that begins with / or . is a host path, else a volume's name."""
    parts = word.split(":")
    if len(parts) > 3:
        raise refused(option, word, "must be [SOURCE:]TARGET[:OPTIONS]")
    if len(parts) == 1:
        target = container_path(option, word, parts[0])
        return Mount(kind="volume", target=target, source=anonymous_name(), anonymous=True)
    source = parts[0]
    if not source:
        raise refused(option, word, "the source before the colon is missing")
    target = container_path(option, word, parts[1])
    words = parts[2].split(",") if len(parts) == 3 else []
    if source[0] in "/.":
        return bind_mount(option, word, source, target, words=words, cwd=cwd)
    return named_volume(option, word, source, target, words)


def bind_mount(option: str, word: str, source: str, target: str, *, words: list[str], cwd: str) -> Mount:
    """A file or directory of the host, which must exist."""
    path = absolute(utf8(option, source), cwd)
    if not os.path.lexists(path):
        raise refused(option, word, f"{path} does not exist", hint=f"make it first: mkdir -p {path}")
    read_only, kept = _volume_words(option, word, words, bind=True)
    if "U" in kept and _is_of_all(path):
        raise refused(option, word, f"U would give all of {path} away: name a directory in it")
    return Mount(kind="bind", target=target, source=path, read_only=read_only, options=kept)


def _is_of_all(path: str) -> bool:
    """A directory of the system's, or the caller's home itself, by whatever name."""
    real, home = os.path.realpath(path), os.environ.get("HOME", "")
    return path in _SYSTEM or real in _SYSTEM or bool(home and real == os.path.realpath(home))


def named_volume(option: str, word: str, name: str, target: str, words: list[str]) -> Mount:
    """A volume of the engine's; it is made where it does not exist."""
    if not is_name(name):
        hint = f"for a directory of the host: ./{name}" if "/" in name else ""
        raise refused(option, word, f"{name!r} names no volume: {NAME_RULE}", hint=hint)
    no_copy = "nocopy" in words
    if no_copy and "copy" in words:
        raise refused(option, word, "copy and nocopy contradict each other")
    read_only, kept = _volume_words(option, word, [w for w in words if w not in ("copy", "nocopy")], bind=False)
    return Mount(kind="volume", target=target, source=name, read_only=read_only, options=kept, no_copy=no_copy)


def _volume_words(option: str, word: str, words: list[str], bind: bool) -> tuple[bool, tuple[str, ...]]:
    """(read-only, further words) of the comma separated options."""
    kept: list[str] = []
    access = ""
    for raw in words:
        name = raw.partition("=")[0]
        if raw in ("ro", "rw"):
            if access:
                raise refused(option, word, "only one of ro and rw can be given")
            access = raw
        elif raw in _FLAGS or raw in PROPAGATION or raw in ("z", "Z", "U", "bind", "rbind"):
            kept.append(raw)
        elif name in _NOT_HERE or raw.startswith(("upperdir=", "workdir=")):
            raise refused(option, word, f"{raw}: {_NOT_HERE.get(name, _NOT_HERE['O'])}")
        elif raw in ("copy", "nocopy") and bind:
            raise refused(option, word, f"{raw} is for volumes, not for a directory of the host")
        else:
            hint = "known: ro rw z Z U bind rbind, [no]exec [no]suid [no]dev, [r]shared [r]slave [r]private, [no]copy"
            raise refused(option, word, f"unknown option {raw!r}", hint=hint)
    check_exclusive(option, word, kept)
    return access == "ro", tuple(dict.fromkeys(kept))


def check_exclusive(option: str, word: str, words: list[str]) -> None:
    """Refuse two words of which only one can hold."""
    for group in (*_EXCLUSIVE, ("z", "Z")):
        both = [w for w in dict.fromkeys(words) if w in group]
        if len(both) > 1:
            raise refused(option, word, f"{both[0]} and {both[1]} contradict each other")


# --- --tmpfs -----------------------------------------------------------------------------------


def tmpfs_mount(word: str) -> Mount:
    """`TARGET[:OPTIONS]`: see tmpfs(5).  It starts with what the image has there, unless notmpcopyup."""
    path, _, text = word.partition(":")
    target = container_path("--tmpfs", word, path)
    return tmpfs_of_words("--tmpfs", word, target, text.split(",") if text else [])


def tmpfs_of_words(option: str, word: str, target: str, words: list[str]) -> Mount:
    """A tmpfs with options as mount(8) takes them."""
    kept: list[str] = []
    read_only, copy_up = False, True
    for raw in words:
        name, equals, value = raw.partition("=")
        if raw in ("ro", "rw"):
            read_only = raw == "ro"
        elif raw in ("tmpcopyup", "notmpcopyup"):
            copy_up = raw == "tmpcopyup"
        elif raw in _TMPFS_FLAGS or raw in PROPAGATION:
            kept.append(raw)
        elif equals:
            kept.append(f"{name}={_tmpfs_value(option, word, name, value)}")
        else:
            raise refused(
                option,
                word,
                f"unknown option {raw!r}",
                hint="known: ro rw size= mode= uid= gid= nr_inodes= [no]exec [no]suid [no]dev [no]tmpcopyup",
            )
    check_exclusive(option, word, kept)
    return Mount(kind="tmpfs", target=target, read_only=read_only, options=tuple(dict.fromkeys(kept)), copy_up=copy_up)


def _tmpfs_value(option: str, word: str, name: str, value: str) -> str:
    if name in _TMPFS_SIZES:
        digits = value[:-1] if value[-1:].lower() in ("k", "m", "g", "t") else value
        if name == "size" and value.endswith("%"):
            digits = value[:-1]
        if is_number(digits):
            return value
        raise refused(option, word, f"{name}={value}: not a size as 64m or 50%")
    if name == "mode":
        if 0 < len(value) <= 5 and not set(value) - set("01234567") and int(value, 8) <= 0o7777:
            return value
        raise refused(option, word, f"mode={value}: must be octal, as 1777")
    if name in ("uid", "gid") and is_number(value):
        return value
    raise refused(option, word, f"unknown option {name}={value}")


def truth(option: str, word: str, name: str, value: str) -> bool:
    """`name` alone or `name=true`; `name=false`."""
    if value == "" or value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise refused(option, word, f"{name}={value}: must be true or false")
