"""Run classic BPF socket filters as the kernel does (``bpf_prog_run_clear_cb``)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from ..netlink.bpf import Instruction
from ..uapi.filter import (
    BPF_ABS,
    BPF_ALU,
    BPF_AND,
    BPF_B,
    BPF_H,
    BPF_IMM,
    BPF_IND,
    BPF_JA,
    BPF_JEQ,
    BPF_JGE,
    BPF_JGT,
    BPF_JMP,
    BPF_JSET,
    BPF_K,
    BPF_LD,
    BPF_LDX,
    BPF_MAXINSNS,
    BPF_MISC,
    BPF_RET,
    BPF_TAX,
    BPF_W,
    SKF_AD_NLATTR,
    SKF_AD_NLATTR_NEST,
    SKF_AD_OFF,
)

_U32: Final = 0xFFFFFFFF
_FORMAT: Final = struct.Struct("=HBBI")
_NLATTR: Final = struct.Struct("=HH")
_TYPE: Final = 0x3FFF
_SIZES: Final = {BPF_W: 4, BPF_H: 2, BPF_B: 1}
_NLATTR_OFFSET: Final = (SKF_AD_OFF + SKF_AD_NLATTR) & _U32
_NLATTR_NEST_OFFSET: Final = (SKF_AD_OFF + SKF_AD_NLATTR_NEST) & _U32
_CONDITIONS: Final = {BPF_JMP | test | BPF_K for test in (BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET)}
_LOADS: Final = {
    BPF_LD | size | mode for size in (BPF_W, BPF_H, BPF_B) for mode in (BPF_ABS, BPF_IND)
}
_OTHERS: Final = {
    BPF_LD | BPF_IMM,
    BPF_LDX | BPF_IMM,
    BPF_MISC | BPF_TAX,
    BPF_ALU | BPF_AND | BPF_K,
    BPF_RET | BPF_K,
    BPF_JMP | BPF_JA,
}


def parse(data: bytes) -> tuple[Instruction, ...]:
    """Parse and check a filter program (``bpf_check_classic``).

    :param data: the ``struct sock_filter`` array that is attached to a socket.

    :raises ValueError: when the kernel would refuse the program, or when it has an instruction
        that this library does not use.
    """
    program = tuple(Instruction(*fields) for fields in _FORMAT.iter_unpack(data))
    if not 0 < len(program) <= BPF_MAXINSNS or program[-1].code != BPF_RET | BPF_K:
        raise ValueError(
            "a BPF program must have 1 to 4096 instructions and end with a return; "
            f"got {len(program)} instructions"
        )
    for index, (code, jt, jf, k) in enumerate(program):
        if code not in _CONDITIONS | _LOADS | _OTHERS:
            raise ValueError(f"instruction {index} has the unsupported code {code:#x}")
        jumps = (k,) if code == BPF_JMP | BPF_JA else (jt, jf) if code in _CONDITIONS else ()
        if any(index + 1 + distance >= len(program) for distance in jumps):
            raise ValueError(f"instruction {index} jumps beyond the end of the program")
    return program


def run(program: Sequence[Instruction], message: bytes) -> int:
    """Run a program on a message.

    :returns: how many bytes of the message to keep; 0 drops it.
    """
    a = x = pc = 0
    while True:
        code, jt, jf, k = program[pc]
        pc += 1
        if code == BPF_RET | BPF_K:
            return k
        if code in _CONDITIONS:
            pc += jt if _condition_holds(code, a, k) else jf
        elif code in _LOADS:
            loaded = _load(code, message, a, x, k)
            if loaded is None:
                return 0
            a = loaded
        elif code == BPF_JMP | BPF_JA:
            pc += k
        elif code == BPF_LD | BPF_IMM:
            a = k
        elif code == BPF_LDX | BPF_IMM:
            x = k
        elif code == BPF_MISC | BPF_TAX:
            x = a
        else:
            a &= k


def _condition_holds(code: int, a: int, k: int) -> bool:
    test = code & 0xF0
    if test == BPF_JEQ:
        return a == k
    if test == BPF_JGT:
        return a > k
    return a >= k if test == BPF_JGE else bool(a & k)


def _load(code: int, message: bytes, a: int, x: int, k: int) -> int | None:
    """Load a value, or find an attribute; return ``None`` when the load is out of bounds."""
    if code & 0xE0 == BPF_ABS and k == _NLATTR_OFFSET:
        return _find_attribute(message, a, x, len(message))
    if code & 0xE0 == BPF_ABS and k == _NLATTR_NEST_OFFSET:
        return _find_nested_attribute(message, a, x)
    start = k if code & 0xE0 == BPF_ABS else x + k & _U32
    size = _SIZES[code & 0x18]
    if start + size > len(message):
        return None
    return int.from_bytes(message[start : start + size], "big")


def _find_attribute(message: bytes, start: int, type_: int, end: int) -> int:
    """Return the offset of the first attribute with this type, or 0 (``nla_find``)."""
    while start + _NLATTR.size <= end:
        size, attribute_type = _NLATTR.unpack_from(message, start)
        if size < _NLATTR.size or start + size > end:
            break
        if attribute_type & _TYPE == type_:
            return start
        start += size + 3 & ~3
    return 0


def _find_nested_attribute(message: bytes, start: int, type_: int) -> int:
    """Return the offset of an attribute in the nest at ``start``, or 0 (``nla_find_nested``)."""
    if start + _NLATTR.size > len(message):
        return 0
    size, _ = _NLATTR.unpack_from(message, start)
    if start + size > len(message):
        return 0
    return _find_attribute(message, start + _NLATTR.size, type_, start + size)
