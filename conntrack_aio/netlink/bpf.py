"""An assembler of classic BPF: programs that the kernel runs on each message before it queues it.

Such a program only ever jumps forward. So it is built from its end: each instruction is put in
front of those that may follow it, whose places are known by then, and which it names by them. A
conditional jump has eight bits for its distance. Where that is too little it goes to an
unconditional one, which has 32, in reach; many can share one.

What is known here is netlink's: messages, and attributes in nests (``bpf_skb_get_nlattr``). The
kernel's own word on all of it is Documentation/networking/filter.rst.
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
"""How many instructions a conditional jump can pass over."""

_FORMAT: Final = struct.Struct("=HBBI")
_FIND: Final = (SKF_AD_OFF + SKF_AD_NLATTR) & _U32
_FIND_INSIDE: Final = (SKF_AD_OFF + SKF_AD_NLATTR_NEST) & _U32

_SIZES: Final = {4: BPF_W, 2: BPF_H, 1: BPF_B}

MOST: Final = BPF_MAXINSNS
"""Instructions that a program may have."""

Label = int
"""A place in a program: how many instructions there are from it to the end."""


class Instruction(NamedTuple):
    """``struct sock_filter``."""

    code: int
    jt: int
    jf: int
    k: int


class TooLong(Exception):
    """The program is longer than it may be."""


class Program(tuple[Instruction, ...]):
    """A whole program."""

    __slots__ = ()

    def pack(self) -> bytes:
        """As the kernel takes it."""
        return b"".join([_FORMAT.pack(*instruction) for instruction in self])

    def __str__(self) -> str:
        """A listing, an instruction a line; jumps name the lines that they go to."""
        return "\n".join(f"{at:4}: {_describe(at, each)}" for at, each in enumerate(self))


class Assembler:
    """A program in the making, from its end.

    Registers: A, into which everything is loaded and which is compared, and X, an offset or an
    attribute's type. Each method returns the :data:`Label` of what it has put in front, and raises
    :exc:`TooLong` where that is too much.
    """

    def __init__(self, limit: int = BPF_MAXINSNS) -> None:
        self._limit = limit
        self._code: list[Instruction] = []
        """In reverse."""
        self._islands: dict[Label, Label] = {}
        """The last unconditional jump to a place."""

    def __len__(self) -> int:
        return len(self._code)

    def program(self, start: Label) -> Program:
        """All of it; it begins at ``start``."""
        self._be_at(start)
        return Program(reversed(self._code))

    # -- where to go on -----------------------------------------------------------------------

    def ret(self, size: int) -> Label:
        """End: take so many bytes of the message (``0xffffffff``: all), or with 0 drop it."""
        return self._put(BPF_RET | BPF_K, size)

    def jump_equal(self, k: int, then: Label, other: Label) -> Label:
        """Whether A is ``k``."""
        return self._jump(BPF_JEQ, k, then, other)

    def jump_at_least(self, k: int, then: Label, other: Label) -> Label:
        """Whether A, unsigned, is ``k`` or more."""
        return self._jump(BPF_JGE, k, then, other)

    def jump_above(self, k: int, then: Label, other: Label) -> Label:
        """Whether A, unsigned, is more than ``k``."""
        return self._jump(BPF_JGT, k, then, other)

    def jump_any(self, mask: int, then: Label, other: Label) -> Label:
        """Whether A has any of these bits."""
        return self._jump(BPF_JSET, mask, then, other)

    def _jump(self, test: int, k: int, then: Label, other: Label) -> Label:
        if then == other:
            return then
        # To reach the one may take an instruction, which makes the way to the other longer by one.
        then = self._near(then, 1)
        other = self._near(other, 0)
        here = len(self._code)
        return self._put(BPF_JMP | test | BPF_K, k, here - then, here - other)

    def _near(self, target: Label, more: int) -> Label:
        """The target, or a jump to it that is in reach."""
        for label in (target, self._islands.get(target, target)):
            if len(self._code) + more - label <= _NEAR:
                return label
        island = self._put(BPF_JMP | BPF_JA, len(self._code) - target)
        self._islands[target] = island
        return island

    # -- what A and X are ---------------------------------------------------------------------

    def load_absolute(self, size: int, offset: int, after: Label) -> Label:
        """A = so many bytes (4, 2, 1) of the message, in network byte order.

        A program that loads from beyond the message's end drops it.
        """
        return self._before(after, BPF_LD | _SIZES[size] | BPF_ABS, offset)

    def load_relative(self, size: int, offset: int, after: Label) -> Label:
        """A = so many bytes of the message at X + ``offset``."""
        return self._before(after, BPF_LD | _SIZES[size] | BPF_IND, offset)

    def load(self, k: int, after: Label) -> Label:
        """A = k."""
        return self._before(after, BPF_LD | BPF_IMM, k)

    def to_index(self, after: Label) -> Label:
        """X = A."""
        return self._before(after, BPF_MISC | BPF_TAX, 0)

    def mask(self, mask: int, after: Label) -> Label:
        """A &= mask."""
        return self._before(after, BPF_ALU | BPF_AND | BPF_K, mask)

    def find(self, start: int, path: Iterable[int], after: Label, absent: Label) -> Label:
        """A = where the attribute lies that has this path of types from ``start`` on.

        The attribute's value begins four bytes behind that.
        """
        here = after
        for depth, type_ in reversed([*enumerate(path)]):
            here = self.jump_equal(0, absent, here)
            how = _FIND_INSIDE if depth else _FIND
            here = self._before(here, BPF_LD | BPF_B | BPF_ABS, how)
            here = self._before(here, BPF_LDX | BPF_IMM, type_)
        return self.load(start, here)

    # -- writing ------------------------------------------------------------------------------

    def _before(self, after: Label, code: int, k: int) -> Label:
        """An instruction behind which it goes on at ``after``."""
        self._be_at(after)
        return self._put(code, k)

    def _be_at(self, label: Label) -> None:
        if label != len(self._code):
            self._put(BPF_JMP | BPF_JA, len(self._code) - label)

    def _put(self, code: int, k: int, jt: int = 0, jf: int = 0) -> Label:
        if len(self._code) >= self._limit:
            raise TooLong(f"more than {self._limit} instructions")
        self._code.append(Instruction(code, jt, jf, k))
        return len(self._code)


# -- to be read ---------------------------------------------------------------------------------

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
        return "A = where attribute X is, from A on"
    if k == _FIND_INSIDE:
        return "A = where attribute X is, in the nest at A"
    where = "X + " if code & 0xE0 == BPF_IND else ""
    return f"A = {_LOADED[code & 0x18]} at {where}{k}"
