"""Assemble classic BPF: programs that the kernel runs on each message before queueing it.

A program only jumps forward. So the assembler builds it from its end: it puts each instruction in
front of those that may follow it, whose positions are known by then. A conditional jump has eight
bits for its distance. Where that is too little, it goes to an unconditional jump within reach,
which has 32 bits; many conditional jumps can share one.

This module knows netlink messages, and attributes in nests (``bpf_skb_get_nlattr``). The kernel
documents classic BPF in Documentation/networking/filter.rst.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

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
_NEAR: Final = 255
"""The number of instructions that a conditional jump can skip."""

_FORMAT: Final = struct.Struct("=HBBI")
_FIND: Final = (SKF_AD_OFF + SKF_AD_NLATTR) & _U32
_FIND_INSIDE: Final = (SKF_AD_OFF + SKF_AD_NLATTR_NEST) & _U32

_SIZES: Final = {4: BPF_W, 2: BPF_H, 1: BPF_B}

MAX_INSTRUCTIONS: Final = BPF_MAXINSNS
"""The number of instructions that the kernel accepts in a program."""

JumpLabel = int
"""A position in a program: the number of instructions from it to the end."""


class Instruction(NamedTuple):
    """``struct sock_filter``."""

    code: int
    jt: int
    jf: int
    k: int


class ProgramTooLong(Exception):
    """The program has more instructions than its limit."""


class Program(tuple[Instruction, ...]):
    """A complete program."""

    __slots__ = ()

    def pack(self) -> bytes:
        """Return the program as an array of ``struct sock_filter``."""
        return b"".join([_FORMAT.pack(*instruction) for instruction in self])

    def __str__(self) -> str:
        """Return a listing with one instruction per line; jumps name their target lines."""
        return "\n".join(f"{at:4}: {_describe(at, each)}" for at, each in enumerate(self))


class Assembler:
    """Assemble a program from its end.

    There are two registers. A is loaded and compared; X is an offset or an attribute's type. Each
    method puts instructions in front of the program and returns their :data:`JumpLabel`. It raises
    :exc:`ProgramTooLong` when the program would exceed its limit.
    """

    def __init__(self, limit: int = BPF_MAXINSNS) -> None:
        self._limit = limit
        self._code: list[Instruction] = []
        """The instructions in reverse order."""
        self._relays: dict[JumpLabel, JumpLabel] = {}
        """The latest unconditional jump to each target."""

    def __len__(self) -> int:
        return len(self._code)

    def program(self, start: JumpLabel) -> Program:
        """Return the complete program, which begins at ``start``."""
        self._continue_at(start)
        return Program(reversed(self._code))

    # -- returns and jumps --------------------------------------------------------------------

    def ret(self, size: int) -> JumpLabel:
        """Accept ``size`` bytes of the message (``0xffffffff``: all), or drop it if that is 0."""
        return self._put(BPF_RET | BPF_K, size)

    def jump_equal(self, k: int, then: JumpLabel, other: JumpLabel) -> JumpLabel:
        """Go to ``then`` if A equals ``k``, else to ``other``."""
        return self._jump(BPF_JEQ, k, then, other)

    def jump_at_least(self, k: int, then: JumpLabel, other: JumpLabel) -> JumpLabel:
        """Go to ``then`` if A, unsigned, is at least ``k``, else to ``other``."""
        return self._jump(BPF_JGE, k, then, other)

    def jump_above(self, k: int, then: JumpLabel, other: JumpLabel) -> JumpLabel:
        """Go to ``then`` if A, unsigned, is more than ``k``, else to ``other``."""
        return self._jump(BPF_JGT, k, then, other)

    def jump_any(self, mask: int, then: JumpLabel, other: JumpLabel) -> JumpLabel:
        """Go to ``then`` if A has any of the bits of ``mask``, else to ``other``."""
        return self._jump(BPF_JSET, mask, then, other)

    def _jump(self, test: int, k: int, then: JumpLabel, other: JumpLabel) -> JumpLabel:
        if then == other:
            return then
        # Reaching one target may take an instruction, which moves the other target away by one.
        then = self._near(then, 1)
        other = self._near(other, 0)
        here = len(self._code)
        return self._put(BPF_JMP | test | BPF_K, k, here - then, here - other)

    def _near(self, target: JumpLabel, more: int) -> JumpLabel:
        """Return the target, or the label of a jump to it within reach."""
        for label in (target, self._relays.get(target, target)):
            if len(self._code) + more - label <= _NEAR:
                return label
        relay = self._put(BPF_JMP | BPF_JA, len(self._code) - target)
        self._relays[target] = relay
        return relay

    # -- the registers ------------------------------------------------------------------------

    def load_absolute(self, size: int, offset: int, after: JumpLabel) -> JumpLabel:
        """Load ``size`` bytes (4, 2 or 1) of the message into A, in network byte order.

        A load from beyond the end of a message drops the message.
        """
        return self._before(after, BPF_LD | _SIZES[size] | BPF_ABS, offset)

    def load_relative(self, size: int, offset: int, after: JumpLabel) -> JumpLabel:
        """Load ``size`` bytes of the message at X + ``offset`` into A."""
        return self._before(after, BPF_LD | _SIZES[size] | BPF_IND, offset)

    def load(self, k: int, after: JumpLabel) -> JumpLabel:
        """Load the number ``k`` into A."""
        return self._before(after, BPF_LD | BPF_IMM, k)

    def to_index(self, after: JumpLabel) -> JumpLabel:
        """Copy A to X."""
        return self._before(after, BPF_MISC | BPF_TAX, 0)

    def mask(self, mask: int, after: JumpLabel) -> JumpLabel:
        """Clear the bits of A that are not in ``mask``."""
        return self._before(after, BPF_ALU | BPF_AND | BPF_K, mask)

    def find(
        self, start: int, path: Iterable[int], after: JumpLabel, absent: JumpLabel
    ) -> JumpLabel:
        """Load the position of the attribute with this path of types into A.

        The attribute's value begins four bytes after that position.

        :param start: the position of the first attribute of the message.
        :param path: the type of the attribute, after the types of the nests around it.
        :param after: where to go if there is such an attribute.
        :param absent: where to go if there is no such attribute.
        """
        here = after
        for depth, type_ in reversed([*enumerate(path)]):
            here = self.jump_equal(0, absent, here)
            how = _FIND_INSIDE if depth else _FIND
            here = self._before(here, BPF_LD | BPF_B | BPF_ABS, how)
            here = self._before(here, BPF_LDX | BPF_IMM, type_)
        return self.load(start, here)

    # -- writing instructions -----------------------------------------------------------------

    def _before(self, after: JumpLabel, code: int, k: int) -> JumpLabel:
        """Put an instruction after which the program continues at ``after``."""
        self._continue_at(after)
        return self._put(code, k)

    def _continue_at(self, label: JumpLabel) -> None:
        if label != len(self._code):
            self._put(BPF_JMP | BPF_JA, len(self._code) - label)

    def _put(self, code: int, k: int, jt: int = 0, jf: int = 0) -> JumpLabel:
        if len(self._code) >= self._limit:
            raise ProgramTooLong(f"more than {self._limit} instructions")
        self._code.append(Instruction(code, jt, jf, k))
        return len(self._code)


# -- listing ------------------------------------------------------------------------------------

_LOADED: Final = {BPF_W: "4 bytes", BPF_H: "2 bytes", BPF_B: "1 byte"}
_TESTS: Final = {BPF_JEQ: "=", BPF_JGE: ">=", BPF_JGT: ">", BPF_JSET: "&"}
_SIMPLE: Final = {
    BPF_LD | BPF_IMM: "A = {k:#x}",
    BPF_LDX | BPF_IMM: "X = {k}",
    BPF_MISC | BPF_TAX: "X = A",
    BPF_ALU | BPF_AND | BPF_K: "A = A & {k:#x}",
}


def _describe(at: int, instruction: Instruction) -> str:
    code, jt, jf, k = instruction
    if code in _SIMPLE:
        return _SIMPLE[code].format(k=k)
    if code == BPF_RET | BPF_K:
        return "accept" if k else "drop"
    if code == BPF_JMP | BPF_JA:
        return f"go to {at + 1 + k}"
    if code & 0x07 == BPF_JMP:
        return f"if A {_TESTS[code & 0xF0]} {k:#x} go to {at + 1 + jt}, else to {at + 1 + jf}"
    if k == _FIND:
        return "A = position of attribute X, searching from A"
    if k == _FIND_INSIDE:
        return "A = position of attribute X in the nest at A"
    where = "X + " if code & 0xE0 == BPF_IND else ""
    return f"A = {_LOADED[code & 0x18]} at {where}{k}"
