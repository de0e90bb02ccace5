"""Have the kernel refuse system calls to this process, as a container's seccomp profile does.

A filter can't be removed, and is inherited: it is for a child process that ends afterwards.
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
        "poll": 73,  # ppoll, by which its C library polls
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
"""``AUDIT_ARCH_*`` (linux/audit.h)."""

_MACHINE: Final = platform.machine()
SUPPORTED: Final = _MACHINE in _NUMBERS and struct.calcsize("P") == 8
"""32-bit x86 and s390x can't be: their C library makes all socket calls by socketcall(2), whose
arguments are in memory, where a filter can't look (glibc's kernel-features.h)."""

_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Where they stand in ``struct seccomp_data``; an argument has eight bytes, the low ones first."""

_LOAD, _JUMP_EQUAL, _JUMP_ANY, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NO_NEW_PRIVS, _SET_FILTER, _ALL_THREADS = 38, 1, 1


class Denial(NamedTuple):
    """A system call that is refused, if its arguments are these."""

    call: str
    code: int
    """The errno."""
    arguments: Mapping[int, int] = MappingProxyType({})
    """Values of arguments, by their index from 0; only the lower 32 bits are compared."""
    flags: Mapping[int, int] = MappingProxyType({})
    """Bits of arguments of which any is set."""

    def __str__(self) -> str:
        return f"{self.call} {errno.errorcode[self.code]}"


def deny(denials: Iterable[Denial]) -> None:
    """Have these refused from now on, to every thread of this process and its children."""
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
            behind = 2 * (len(tests) - number) + 1
            instructions += [(_LOAD, 0, 0, offset), (test, 0, behind, value)]
        instructions.append((_RETURN, 0, 0, _ERRNO | denial.code))
    instructions.append((_RETURN, 0, 0, _ALLOW))
    program = b"".join(struct.pack("=HBBI", *each) for each in instructions)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
    if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    room = ctypes.create_string_buffer(program, len(program))
    value = ctypes.create_string_buffer(
        struct.pack("HP", len(instructions), ctypes.addressof(room)), struct.calcsize("HP")
    )
    libc.syscall.argtypes = (ctypes.c_long, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_void_p)
    number = _NUMBERS[_MACHINE]["seccomp"]
    if libc.syscall(number, _SET_FILTER, _ALL_THREADS, ctypes.addressof(value)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
