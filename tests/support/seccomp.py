"""Make system calls of this process fail, as the seccomp profile of a container does.

A seccomp filter cannot be removed, and children inherit it. Use it only in a child process that
ends afterward.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

_NUMBERS: Final = {
    "x86_64": {
        "poll": 7,
        "mmap": 9,
        "mprotect": 10,
        "ioctl": 16,
        "socket": 41,
        "connect": 42,
        "sendto": 44,
        "recvfrom": 45,
        "recvmsg": 47,
        "bind": 49,
        "socketpair": 53,
        "setsockopt": 54,
        "getsockopt": 55,
        "clone": 56,
        "unshare": 272,
        "epoll_create1": 291,
        "recvmmsg": 299,
        "setns": 308,
        "seccomp": 317,
        "clone3": 435,
    },
    "aarch64": {
        "epoll_create1": 20,
        "ioctl": 29,
        "poll": 73,  # ppoll: the C library implements poll() with it
        "unshare": 97,
        "socket": 198,
        "socketpair": 199,
        "bind": 200,
        "connect": 203,
        "sendto": 206,
        "recvfrom": 207,
        "setsockopt": 208,
        "getsockopt": 209,
        "recvmsg": 212,
        "clone": 220,
        "mmap": 222,
        "mprotect": 226,
        "recvmmsg": 243,
        "setns": 268,
        "seccomp": 277,
        "clone3": 435,
    },
}
_ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""The ``AUDIT_ARCH_*`` of each machine (linux/audit.h)."""

_MACHINE: Final = platform.machine()
SUPPORTED: Final = _MACHINE in _NUMBERS and struct.calcsize("P") == 8
"""Whether this machine is supported.

32-bit x86 and s390x are not: their C library makes all socket calls with socketcall(2), whose
arguments are in memory, where a filter cannot read them (glibc's kernel-features.h).
"""

_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Offsets in ``struct seccomp_data``. An argument has eight bytes, in little-endian order."""

_LOAD, _JUMP_EQUAL, _JUMP_ANY, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NO_NEW_PRIVS, _SET_FILTER, _ALL_THREADS = 38, 1, 1


class Denial(NamedTuple):
    """A system call that fails if its arguments have these values."""

    call: str
    code: int
    """The errno with which the call fails."""
    arguments: Mapping[int, int] = MappingProxyType({})
    """Values of arguments by index, from 0. Only the lower 32 bits are compared."""
    flags: Mapping[int, int] = MappingProxyType({})
    """Bits of arguments by index. The call fails only if any of the bits is set."""

    def __str__(self) -> str:
        return f"{self.call} {errno.errorcode[self.code]}"


def deny(denials: Iterable[Denial]) -> None:
    """Make these calls fail from now on, in all threads of this process and in its children."""
    instructions = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, _ARCHITECTURES[_MACHINE]),
        (_RETURN, 0, 0, _ALLOW),
    ]
    for denial in denials:
        tests = [(_NUMBER, _JUMP_EQUAL, _NUMBERS[_MACHINE][denial.call])]
        for index, value in denial.arguments.items():
            tests.append((_ARGUMENTS + 8 * index, _JUMP_EQUAL, value & 0xFFFFFFFF))
        for index, bits in denial.flags.items():
            tests.append((_ARGUMENTS + 8 * index, _JUMP_ANY, bits))
        for number, (offset, test, value) in enumerate(tests, 1):
            skipped = 2 * (len(tests) - number) + 1
            instructions += [(_LOAD, 0, 0, offset), (test, 0, skipped, value)]
        instructions.append((_RETURN, 0, 0, _ERRNO | denial.code))
    instructions.append((_RETURN, 0, 0, _ALLOW))
    program = b"".join(struct.pack("=HBBI", *each) for each in instructions)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
    if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    buffer = ctypes.create_string_buffer(program, len(program))
    value = ctypes.create_string_buffer(
        struct.pack("HP", len(instructions), ctypes.addressof(buffer)), struct.calcsize("HP")
    )
    libc.syscall.argtypes = (ctypes.c_long, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_void_p)
    number = _NUMBERS[_MACHINE]["seccomp"]
    if libc.syscall(number, _SET_FILTER, _ALL_THREADS, ctypes.addressof(value)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
