"""A seccomp section compiled to a BPF program, by the libseccomp that the OCI runtimes use themselves.

Weight: ctypes (3 ms); imported on a miss of the cache only, never in the supervisor.  libseccomp.so.2 is there
wherever crun or runc is, as both are linked with it.
"""

from __future__ import annotations

import ctypes
import os
import struct

from rootless.errors import LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# seccomp.h: enum scmp_compare, the attributes, the actions.
_COMPARE = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}
_ATTRIBUTE_NNP, _ATTRIBUTE_OPTIMIZE = 3, 8
_BINARY_TREE = 2
_ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_WITH_ERRNO = {"SCMP_ACT_ERRNO": 0x00050000, "SCMP_ACT_TRACE": 0x7FF00000}
# audit(7) tokens as libseccomp numbers architectures.
_TOKENS = {
    "SCMP_ARCH_X86": 0x40000003,
    "SCMP_ARCH_X86_64": 0xC000003E,
    "SCMP_ARCH_X32": 0x4000003E,
    "SCMP_ARCH_ARM": 0x40000028,
    "SCMP_ARCH_AARCH64": 0xC00000B7,
    "SCMP_ARCH_S390": 0x00000016,
    "SCMP_ARCH_S390X": 0x80000016,
    "SCMP_ARCH_PPC64LE": 0xC0000015,
    "SCMP_ARCH_RISCV64": 0xC00000F3,
    "SCMP_ARCH_LOONGARCH64": 0xC0000102,
}
_EEXIST, _ERROR = 17, -1  # __NR_SCMP_ERROR: a name that this libseccomp does not know
_MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS: the kernel takes no longer program


class NotCompilable(Exception):  # noqa: N818 - an answer, not a failure
    """No program can be made here; the runtime has to make its own."""


def compile_filter(section: dict[str, Any]) -> tuple[bytes, str]:
    """The program (struct sock_filter, 8 bytes an instruction), and the identity of the library that made it.

    section: what `rootless.seccomp.resolve` returns.  A system call that the library does not know is left out,
    as crun and runc do.  Raises NotCompilable, or LaunchError for a section that means nothing.
    """
    for key in ("flags", "listenerPath"):
        if section.get(key):
            raise NotCompilable(f"the profile has {key}")
    default = _action(section["defaultAction"], section.get("defaultErrnoRet"))
    library = _load()
    context = library.seccomp_init(ctypes.c_uint32(default))
    if not context:
        raise LaunchError("seccomp", f"libseccomp refuses the default action {section['defaultAction']}")
    try:
        _fill(library, ctypes.c_void_p(context), section, default)
        program = _export(library, ctypes.c_void_p(context))
    finally:
        library.seccomp_release(ctypes.c_void_p(context))
    if len(program) // 8 > _MAX_INSTRUCTIONS:
        raise NotCompilable(f"the program has {len(program) // 8} instructions, the kernel takes {_MAX_INSTRUCTIONS}")
    path = _path_of(library)
    stat = os.stat(path)
    return program, f"{path}:{stat.st_mtime_ns}:{stat.st_size}"


def _load() -> Any:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError as error:
        raise NotCompilable(f"no libseccomp.so.2 ({error})") from error
    library.seccomp_init.restype = ctypes.c_void_p
    return library


def _path_of(library: Any) -> str:
    """The file that the loader chose, from our own memory map (dlinfo would need a structure per C library)."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            if "/libseccomp.so" in line:
                return line[line.index("/") :].rstrip("\n")
    raise NotCompilable(f"{library} is not in /proc/self/maps")


def _action(name: str, errno: int | None) -> int:
    if name in _WITH_ERRNO:
        return _WITH_ERRNO[name] | (1 if errno is None else errno & 0xFFFF)  # EPERM: the OCI specification's default
    if name in _ACTIONS:
        return _ACTIONS[name]
    if name == "SCMP_ACT_NOTIFY":
        raise NotCompilable("the profile has a listener")
    raise LaunchError("seccomp", f"seccomp profile: unknown action {name!r}")


def _fill(library: Any, context: ctypes.c_void_p, section: dict[str, Any], default: int) -> None:
    for name in section.get("architectures") or ():
        if name not in _TOKENS:
            raise NotCompilable(f"architecture {name}")
        code = library.seccomp_arch_add(context, ctypes.c_uint32(_TOKENS[name]))
        if code not in (0, -_EEXIST):
            raise NotCompilable(f"libseccomp does not know {name}")
    # The container's own no_new_privs is the runtime's affair.
    library.seccomp_attr_set(context, _ATTRIBUTE_NNP, ctypes.c_uint32(0))
    # A tree over the numbers instead of a list: 10 comparisons a call instead of hundreds, which counts on kernels
    # before 5.11, that keep no bitmap of calls always allowed.  Not known before libseccomp 2.5: then a list.
    library.seccomp_attr_set(context, _ATTRIBUTE_OPTIMIZE, ctypes.c_uint32(_BINARY_TREE))
    for rule in section.get("syscalls") or ():
        action = _action(rule["action"], rule.get("errnoRet"))
        if action == default:
            continue  # libseccomp refuses a rule that says what happens anyway
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number == _ERROR:
                continue
            for conditions in _alternatives(rule.get("args") or ()):
                code = library.seccomp_rule_add_array(
                    context, ctypes.c_uint32(action), number, len(conditions), b"".join(conditions) or None
                )
                if code not in (0, -_EEXIST):
                    raise LaunchError("seccomp", f"seccomp rule for {name}: {os.strerror(-code)}", errno=-code)


def _alternatives(args: Any) -> list[list[bytes]]:
    """The comparisons (struct scmp_arg_cmp) of one rule, as lists that must each hold completely.

    Comparisons of different arguments are joined by "and".  Where one argument comes twice the runtimes take
    the row as "or", as the kernel's library has one comparison for an argument.
    """
    packed, indices = [], []
    for arg in args:
        operator = _COMPARE.get(str(arg["op"]).removeprefix("SCMP_CMP_"))
        if operator is None:
            raise LaunchError("seccomp", f"seccomp profile: unknown comparison {arg['op']!r}")
        first, second = int(arg.get("value", 0)), int(arg.get("valueTwo", 0))
        packed.append(struct.pack("=IIQQ", int(arg["index"]), operator, first, second))
        indices.append(arg["index"])
    if len(set(indices)) < len(indices):
        return [[one] for one in packed]
    return [packed]


def _export(library: Any, context: ctypes.c_void_p) -> bytes:
    fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    try:
        code = library.seccomp_export_bpf(context, fd)
        if code != 0:
            raise LaunchError("seccomp", f"seccomp program: {os.strerror(-code)}", errno=-code)
        size = os.lseek(fd, 0, os.SEEK_CUR)
        return os.pread(fd, size, 0)
    finally:
        os.close(fd)
