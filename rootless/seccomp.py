"""The seccomp filter of a container: from a profile to an OCI section, or to a program compiled once.

Weight: `binascii` (C), `rootless.errors` and `rootless.values`.  ctypes (3 ms) and the default profile's tables are
imported only where nothing is in the cache; a look-up there costs one small file and three stats.

crun spends 10 to 14 ms on every start with compiling the same filter through libseccomp.  Since 0.18 it takes a
finished BPF program instead, base64 in the annotation `run.oci.seccomp_bpf_data`, and then ignores `linux.seccomp`
(crun(1)).  `compiled` makes and caches that text; `linux_seccomp` makes the section for other runtimes and for where
no program can be had.  Both come from one resolved profile, so they mean the same.
"""

from __future__ import annotations

import os
from binascii import b2a_base64, crc32

from rootless.errors import Error, LaunchError, os_error_text
from rootless.values import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

ANNOTATION = "run.oci.seccomp_bpf_data"
ANNOTATION_SINCE = (0, 18)  # crun's NEWS: "add custom annotation to load raw BPF"
BUILT_IN = ""  # as a profile's path: the default profile of this package
SITE_PROFILES = ("~/.config/containers/seccomp.json", "/etc/containers/seccomp.json")  # the first that exists wins

# uname -m → the native architecture and those whose programs its kernel runs as well.
ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
    "s390x": ("SCMP_ARCH_S390X", "SCMP_ARCH_S390"),
    "ppc64le": ("SCMP_ARCH_PPC64LE",),
    "riscv64": ("SCMP_ARCH_RISCV64",),
    "loongarch64": ("SCMP_ARCH_LOONGARCH64",),
    "i686": ("SCMP_ARCH_X86",),
    "armv7l": ("SCMP_ARCH_ARM",),
}
# The words of a profile's `arches` conditions (Go's names) for each.
_GO_NAMES = {
    "SCMP_ARCH_X86_64": "amd64",
    "SCMP_ARCH_X86": "x86",
    "SCMP_ARCH_X32": "x32",
    "SCMP_ARCH_AARCH64": "arm64",
    "SCMP_ARCH_ARM": "arm",
    "SCMP_ARCH_S390X": "s390x",
    "SCMP_ARCH_S390": "s390",
    "SCMP_ARCH_PPC64LE": "ppc64le",
    "SCMP_ARCH_RISCV64": "riscv64",
    "SCMP_ARCH_LOONGARCH64": "loong64",
}
_ERRNO_NAMES = {"EPERM": 1, "EACCES": 13, "EINVAL": 22, "ENOSYS": 38, "EAFNOSUPPORT": 97, "ENOTSUP": 95}

_FORMAT = "pyctl-seccomp-1"
_PROFILE_LIMIT_BYTES = 4 << 20  # a profile is a few ten kilobytes; this is a file by mistake


def native_architectures(machine: str = "") -> tuple[str, ...]:
    """The architectures of `machine` (default: this one), native first; () for one without a name here."""
    return ARCHITECTURES.get(machine or os.uname().machine, ())


def site_profile(home: str = "", paths: Iterable[str] = SITE_PROFILES) -> str:
    """The path of the site's or user's own profile, or `BUILT_IN`."""
    for path in paths:
        if path.startswith("~/"):
            if not home:
                continue
            path = home + path[1:]  # noqa: PLW2901
        if os.path.exists(path):
            return path
    return BUILT_IN


# --- a profile's JSON ----------------------------------------------------------------------------


def load_profile(path: str) -> dict[str, Any]:
    """The profile at `path` (`BUILT_IN`: the package's own), checked to be one.  Raises LaunchError."""
    if path == BUILT_IN:
        from rootless import seccomp_profile  # tables of 500 names: only where a filter is made

        return seccomp_profile.default_profile()
    try:
        with open(path, "rb") as file:
            text = file.read(_PROFILE_LIMIT_BYTES + 1)
    except OSError as error:
        raise LaunchError("seccomp", os_error_text(error, f"seccomp profile {path}"), errno=error.errno or 0) from error
    if len(text) > _PROFILE_LIMIT_BYTES:
        raise LaunchError("seccomp", f"seccomp profile {path}: larger than {_PROFILE_LIMIT_BYTES} bytes")
    try:
        profile = loads(text)
    except ValueError as error:
        raise LaunchError("seccomp", f"seccomp profile {path}: {error}") from error
    if not isinstance(profile, dict) or not isinstance(profile.get("defaultAction"), str):
        raise LaunchError("seccomp", f"seccomp profile {path}: no defaultAction", hint="is it a seccomp profile?")
    return profile


def resolve(
    profile: dict[str, Any],
    capabilities: Iterable[str],
    architectures: tuple[str, ...],
    kernel: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """An OCI `linux.seccomp` section: conditions decided, names of errnos replaced.

    profile: containers-common's and Docker's seccomp.json (`includes`, `excludes`, `archMap`, `errno`), or an
    OCI section already.  capabilities: the container's bounding set.  kernel: for `minKernel`, default the
    running one.  Raises LaunchError for what is neither.
    """
    held = frozenset(capabilities)
    native = architectures[0] if architectures else ""
    go_name = _GO_NAMES.get(native, "")
    release = kernel or _kernel_release(os.uname().release)
    section: dict[str, Any] = {"defaultAction": profile["defaultAction"]}
    errno = _errno(profile.get("defaultErrnoRet"), profile.get("defaultErrno"))
    if errno is not None:
        section["defaultErrnoRet"] = errno
    listed = _architectures(profile, native)
    if listed or architectures:
        section["architectures"] = listed or list(architectures)
    for key in ("flags", "listenerPath", "listenerMetadata"):
        if profile.get(key):
            section[key] = profile[key]
    syscalls: list[dict[str, Any]] = []
    try:
        for row in profile.get("syscalls") or ():
            if not _applies(row, held, go_name, release):
                continue
            rule: dict[str, Any] = {"names": list(row.get("names") or [row["name"]]), "action": row["action"]}
            errno = _errno(row.get("errnoRet"), row.get("errno"))
            if errno is not None:
                rule["errnoRet"] = errno
            if row.get("args"):
                rule["args"] = [dict(arg) for arg in row["args"]]
            syscalls.append(rule)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise LaunchError("seccomp", f"seccomp profile: malformed rule in syscalls ({error})") from error
    if syscalls:
        section["syscalls"] = syscalls
    return section


def _kernel_release(text: str) -> tuple[int, int]:
    major, _, rest = text.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    return int(major), int("".join(c for c in minor if c.isdigit()) or 0)


def _errno(number: object, name: object) -> int | None:
    if isinstance(number, int):
        return number
    if not name:
        return None
    if isinstance(name, str) and name in _ERRNO_NAMES:
        return _ERRNO_NAMES[name]
    import errno  # names beyond the usual ones: only in a site's own profile

    value = getattr(errno, str(name), None)
    if not isinstance(value, int):
        raise LaunchError("seccomp", f"seccomp profile: unknown errno {name!r}")
    return value


def _architectures(profile: dict[str, Any], native: str) -> list[str]:
    if profile.get("architectures"):
        return list(profile["architectures"])
    for row in profile.get("archMap") or ():
        if row.get("architecture") == native:
            return [native, *(row.get("subArchitectures") or ())]
    return []


def _applies(row: dict[str, Any], held: frozenset[str], go_name: str, release: tuple[int, int]) -> bool:
    """`includes`: every condition must hold (one of the arches); `excludes`: none may."""
    includes, excludes = row.get("includes") or {}, row.get("excludes") or {}
    if includes.get("arches") and go_name not in includes["arches"]:
        return False
    if any(capability not in held for capability in includes.get("caps") or ()):
        return False
    if includes.get("minKernel") and release < _kernel_release(includes["minKernel"]):
        return False
    if go_name in (excludes.get("arches") or ()):
        return False
    if any(capability in held for capability in excludes.get("caps") or ()):
        return False
    return not (excludes.get("minKernel") and release >= _kernel_release(excludes["minKernel"]))


def linux_seccomp(path: str, capabilities: Iterable[str], architectures: tuple[str, ...] = ()) -> dict[str, Any]:
    """The `linux.seccomp` section of config.json for the profile at `path` (`BUILT_IN`: the default one)."""
    return resolve(load_profile(path), capabilities, architectures or native_architectures())


# --- the compiled program --------------------------------------------------------------------------


def annotation_supported(crun_version: tuple[int, ...]) -> bool:
    """Does a crun of this version read `ANNOTATION`?"""
    return crun_version >= ANNOTATION_SINCE


def compiled(
    path: str,
    capabilities: Iterable[str],
    cache_dir: str,
    log: Callable[[str], None] | None = None,
) -> str | None:
    """The filter as base64 text for `ANNOTATION`, from the cache or compiled now; None: use `linux_seccomp`.

    cache_dir: a directory of the user's, made (0700) where it is missing.  None where there is no libseccomp, or
    the profile asks for what a bare program can't say (a listener, flags); `log` is told which.  A profile
    that is wrong raises LaunchError, whichever way it would go.
    """
    held = tuple(capabilities)
    machine = os.uname().machine
    source = _source_identity(path)
    name = f"{machine}-{crc32(' '.join((path, *sorted(held))).encode('utf-8', 'surrogateescape')):08x}"
    key = f"{_FORMAT}\t{machine}\t{source}\t{','.join(sorted(held))}"
    cached = _cached(f"{cache_dir}/{name}", key)
    if cached is not None:
        return cached
    section = linux_seccomp(path, held)
    from rootless import seccomp_compile  # ctypes: 3 ms, only on a cache miss

    try:
        program, library = seccomp_compile.compile_filter(section)
    except seccomp_compile.NotCompilable as reason:
        if log is not None:
            log(f"seccomp filter is left to the runtime: {reason}")
        return None
    text = b2a_base64(program, newline=False).decode("ascii")
    try:
        _store(cache_dir, name, f"{key}\t{library}", text)
    except OSError as error:  # a full disk costs time, never the container
        if log is not None:
            log(os_error_text(error, f"seccomp cache {cache_dir}"))
    return text


def _file_identity(path: str) -> str:
    stat = os.stat(path)
    return f"{path}:{stat.st_mtime_ns}:{stat.st_size}"


def _source_identity(path: str) -> str:
    """What the filter is made of: the profile's file, or this package's modules."""
    try:
        if path != BUILT_IN:
            return _file_identity(path)
        here = os.path.dirname(__file__)
        return "|".join(
            _file_identity(f"{here}/{module}.py") for module in ("seccomp_profile", "seccomp_compile", "seccomp")
        )
    except OSError as error:
        if path != BUILT_IN:
            text = os_error_text(error, f"seccomp profile {path}")
            raise LaunchError("seccomp", text, errno=error.errno or 0) from error
        raise Error(os_error_text(error, str(error.filename))) from error


def _cached(path: str, key: str) -> str | None:
    """The text of one cache file, if it was made from exactly this: line of identity, line of check, text."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        stat = os.fstat(fd)
        if stat.st_uid != os.geteuid() or stat.st_mode & 0o022:
            return None  # somebody else could have written it
        data = os.read(fd, stat.st_size + 1)
    finally:
        os.close(fd)
    head, _, rest = data.partition(b"\n")
    check, _, text = rest.partition(b"\n")
    own, _, library = head.decode("utf-8", "surrogateescape").rpartition("\t")
    if own != key or check != b"%d %08x" % (len(text), crc32(text)):
        return None
    try:
        if library != _file_identity(library.split(":", 1)[0]):
            return None  # another libseccomp knows other calls
    except OSError:
        return None
    return text.decode("ascii")


def _store(cache_dir: str, name: str, head: str, text: str) -> None:
    os.makedirs(cache_dir, 0o700, exist_ok=True)
    temporary = f"{cache_dir}/.{name}.{os.getpid()}"
    data = head.encode("utf-8", "surrogateescape") + b"\n%d %08x\n" % (len(text), crc32(text.encode()))
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data + text.encode("ascii"))
        os.rename(temporary, f"{cache_dir}/{name}")
    except OSError:
        os.unlink(temporary)
        raise
