"""Classic BPF, as the kernel runs it on what a socket is sent (``bpf_prog_run_clear_cb``)."""

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
_FIND: Final = (SKF_AD_OFF + SKF_AD_NLATTR) & _U32
_FIND_INSIDE: Final = (SKF_AD_OFF + SKF_AD_NLATTR_NEST) & _U32
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
    """A program, as it is attached. Raises :exc:`ValueError` for one that the kernel refuses.

    (``bpf_check_classic``; of instructions, those that this library uses.)
    """
    program = tuple(Instruction(*each) for each in _FORMAT.iter_unpack(data))
    if not 0 < len(program) <= BPF_MAXINSNS or program[-1].code != BPF_RET | BPF_K:
        raise ValueError("a program has 1 to 4096 instructions, and ends with a return")
    for at, (code, jt, jf, k) in enumerate(program):
        if code not in _CONDITIONS | _LOADS | _OTHERS:
            raise ValueError(f"instruction {at} is none: {code:#x}")
        jumps = (k,) if code == BPF_JMP | BPF_JA else (jt, jf) if code in _CONDITIONS else ()
        if any(at + 1 + each >= len(program) for each in jumps):
            raise ValueError(f"instruction {at} jumps beyond the end")
    return program


def run(program: Sequence[Instruction], message: bytes) -> int:
    """How much of the message is taken; 0 drops it."""
    a = x = at = 0
    while True:
        code, jt, jf, k = program[at]
        at += 1
        if code == BPF_RET | BPF_K:
            return k
        if code in _CONDITIONS:
            at += jt if _holds(code, a, k) else jf
        elif code in _LOADS:
            loaded = _load(code, message, a, x, k)
            if loaded is None:
                return 0
            a = loaded
        elif code == BPF_JMP | BPF_JA:
            at += k
        elif code == BPF_LD | BPF_IMM:
            a = k
        elif code == BPF_LDX | BPF_IMM:
            x = k
        elif code == BPF_MISC | BPF_TAX:
            x = a
        else:
            a &= k


def _holds(code: int, a: int, k: int) -> bool:
    test = code & 0xF0
    if test == BPF_JEQ:
        return a == k
    if test == BPF_JGT:
        return a > k
    return a >= k if test == BPF_JGE else bool(a & k)


def _load(code: int, message: bytes, a: int, x: int, k: int) -> int | None:
    """``None`` beyond the end."""
    if code & 0xE0 == BPF_ABS and k == _FIND:
        return _find(message, a, x, len(message))
    if code & 0xE0 == BPF_ABS and k == _FIND_INSIDE:
        return _find_inside(message, a, x)
    start = k if code & 0xE0 == BPF_ABS else x + k & _U32
    size = _SIZES[code & 0x18]
    if start + size > len(message):
        return None
    return int.from_bytes(message[start : start + size], "big")


def _find(message: bytes, start: int, type_: int, end: int) -> int:
    """``nla_find``: where the attribute is, or 0."""
    while start + _NLATTR.size <= end:
        size, found = _NLATTR.unpack_from(message, start)
        if size < _NLATTR.size or start + size > end:
            break
        if found & _TYPE == type_:
            return start
        start += size + 3 & ~3
    return 0


def _find_inside(message: bytes, start: int, type_: int) -> int:
    if start + _NLATTR.size > len(message):
        return 0
    size, _ = _NLATTR.unpack_from(message, start)
    if start + size > len(message):
        return 0
    return _find(message, start + _NLATTR.size, type_, start + size)
