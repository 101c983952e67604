"""A small interpreter of classic BPF, enough for what libseccomp writes: says what a filter does with a call.

See seccomp(2) (struct seccomp_data) and the kernel's Documentation/networking/filter.rst.
"""

import struct
from functools import lru_cache

ALLOW = 0x7FFF0000
ERRNO = 0x00050000
KILL = 0x00000000


@lru_cache(maxsize=8)
def _instructions(program: bytes) -> list[tuple[int, ...]]:
    return list(struct.iter_unpack("=HBBI", program))


def run(program: bytes, arch: int, number: int, args: tuple[int, ...] = ()) -> int:
    """The filter's return value for the call `number`(`args`) of the audit architecture `arch`."""
    padded = (*args, *(0 for _ in range(6 - len(args))))
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, arch, 0, *(a & 0xFFFFFFFFFFFFFFFF for a in padded))
    instructions = _instructions(program)
    accumulator = 0
    at = 0
    while True:
        code, when_true, when_false, k = instructions[at]
        at += 1
        if code == 0x20:  # LD W ABS
            (accumulator,) = struct.unpack_from("=I", data, k)
        elif code == 0x54:  # ALU AND K
            accumulator &= k
        elif code == 0x05:  # JMP JA
            at += k
        elif code in (0x15, 0x25, 0x35, 0x45):  # JEQ, JGT, JGE, JSET
            taken = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k, 0x45: accumulator & k}[code]
            at += when_true if taken else when_false
        elif code == 0x06:  # RET K
            return k
        else:
            raise AssertionError(f"instruction {code:#x} at {at - 1}")
