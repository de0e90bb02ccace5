"""A match as a program that the kernel runs on each event, before it is queued.

The program may take too much, never too little. It is compiled *wide*: where it can't know, it
takes the event. What a ``not`` stands before is compiled *narrow* for that: there, what it can't
know does not hold. It can't know of a field that an event may leave out though the flow has it; a
mark, a zone and what tuples have is not left out, but where it is 0, or the protocol lacks it.

``then`` and ``other`` are where it goes on, as a condition holds or not.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final, cast

import attrs

from ..codec.reference import encode_fields
from ..model.declare import Integer
from ..model.flow import Flow
from ..model.tuples import TCP
from ..netlink import attributes, nfnetlink
from ..netlink.bpf import Assembler, JumpLabel, Program, ProgramTooLong
from ..netlink.messages import HEADER_SIZE
from ..uapi.filter import BPF_MAXINSNS
from ..uapi.nfnetlink_conntrack import CTA_PROTOINFO
from .always import is_always
from .coarse import broader, narrower, relaxed
from .fields import DCCP, FAMILY, LABEL, MARK, SCTP, STATE, ZONE, NumberField, Place, places
from .intervals import Intervals, prefixes
from .nodes import Addresses, All, Any, Atom, Bits, Node, Not, Numbers, Texts

_START: Final = HEADER_SIZE + nfnetlink.SIZE
"""Where the attributes begin."""

_FAMILY_AT: Final = HEADER_SIZE
"""Where the family stands (``struct nfgenmsg``)."""

_VALUE: Final = attributes.HEADER.size
"""Where an attribute's value begins, from the attribute on."""

_WHOLE_MESSAGE: Final = 0xFFFFFFFF
_LEAF: Final = 8
"""So many values are compared one after the other; of more, first one half is chosen."""

_STATES: Final = {CTA_PROTOINFO.TCP: TCP, CTA_PROTOINFO.DCCP: DCCP, CTA_PROTOINFO.SCTP: SCTP}

_COARSENESS: Final = (None, 1024, 256, 64, 16, 4, 1)
"""How many ranges a condition may have, where all of them are too many."""


@attrs.frozen
class EventFilter:
    """What events are filtered by in the kernel."""

    program: Program
    exact: bool
    """Whether it takes nothing that does not match."""


def compile_program(
    node: Node, *, constant: bool = False, limit: int = BPF_MAXINSNS
) -> EventFilter | None:
    """The narrowest program of at most ``limit`` instructions; ``None`` if it would take all.

    :param constant: judge by what never changes while a flow lives, alone.
    """
    if is_always(node):
        return None
    return ProgramCompiler(node).compile(constant=constant, limit=limit)


class ProgramCompiler:
    """Makes programs of one match."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._relaxed: Node | None = None

    def _broader(self) -> Node:
        """What the match needs of single fields, worked out once."""
        if self._relaxed is None:
            self._relaxed = relaxed(self._node)
        return self._relaxed

    def compile(self, *, constant: bool, limit: int) -> EventFilter | None:
        """As :func:`compile_program`, of a match that is not always true."""
        for relax in (False, True):
            node = self._broader() if relax else self._node
            for most in _COARSENESS:
                found = self._try(node, most, constant=constant, limit=limit)
                if found is not None:
                    program, exact = found
                    if len(program) == 1:  # it takes all
                        return None
                    return EventFilter(program, exact and node is self._node)
                # Where the shortest is too long, so are those between.
                if most is None and self._try(node, 1, constant=constant, limit=limit) is None:
                    break
        return None

    def _try(
        self, node: Node, most: int | None, *, constant: bool, limit: int
    ) -> tuple[Program, bool] | None:
        compiler = _Compiler(limit, most, constant=constant)
        try:
            return compiler.compile(node), compiler.exact
        except ProgramTooLong:
            return None


class _Compiler:
    def __init__(self, limit: int, most: int | None, *, constant: bool) -> None:
        self.exact = True
        self._limit = limit
        self._most = most
        self._constant = constant
        self._code = Assembler(limit)

    def compile(self, node: Node) -> Program:
        """Raises :exc:`TooLong`."""
        accept = self._code.ret(_WHOLE_MESSAGE)
        drop = self._code.ret(0)
        start = self._node(node, accept, drop, wide=True)
        if start == accept:
            alone = Assembler()
            return alone.program(alone.ret(_WHOLE_MESSAGE))
        return self._code.program(start)

    def _node(self, node: Node, then: JumpLabel, other: JumpLabel, *, wide: bool) -> JumpLabel:
        if isinstance(node, All | Any) and not self._constant and len(node.parts) > self._limit:
            raise ProgramTooLong("each part takes an instruction")
        if isinstance(node, All):
            for part in reversed(node.parts):
                then = self._node(part, then, other, wide=wide)
            return then
        if isinstance(node, Any):
            for part in reversed(node.parts):
                other = self._node(part, then, other, wide=wide)
            return other
        if isinstance(node, Not):
            return self._node(node.part, other, then, wide=not wide)
        unknown = then if wide else other
        if self._constant and not node.field.constant:
            self.exact = False
            return unknown
        simple = self._simplified(node, wide=wide)
        if simple.weight > self._limit:
            raise ProgramTooLong("each range takes an instruction")
        return self._atom(simple, then, other, unknown)

    def _simplified(self, node: Atom, *, wide: bool) -> Atom:
        """A condition of few enough ranges."""
        if self._most is None or not isinstance(node, Numbers | Addresses):
            return node
        simplify = broader if wide else narrower
        simple = simplify(node, self._most)
        self.exact &= simple == node
        return simple

    def _atom(self, node: Atom, then: JumpLabel, other: JumpLabel, unknown: JumpLabel) -> JumpLabel:
        if isinstance(node, Addresses):
            return self._addresses(node, then, other, unknown)
        if isinstance(node, Bits):
            if node.field is MARK:
                return self._mark(node, then, other)
            self.exact = False
            if node.field is LABEL:
                return self._labels(node, then, other, unknown)
            return self._find_and_load(
                places(*node.field.path)[0], self._code.jump_any(node.mask, then, other), unknown
            )
        if isinstance(node, Texts):
            self.exact = False
            return self._texts(node, then, other, unknown)
        return self._numbers(node, then, other, unknown)

    # -- numbers ------------------------------------------------------------------------------

    def _numbers(
        self, node: Numbers, then: JumpLabel, other: JumpLabel, unknown: JumpLabel
    ) -> JumpLabel:
        field = node.field
        if field is FAMILY:
            test = self._ranges(node.values, then, other)
            return self._code.load_absolute(1, _FAMILY_AT, test)
        if field.name == ZONE.name or field.name.endswith(".zone"):
            return self._zone(field, node.values, then, other)
        if field is STATE:
            self.exact = False
            return self._state(node.values, then, other, unknown)
        # What a tuple does not have, its protocol lacks.
        absent = other
        if field.path[0] not in ("orig", "reply"):
            self.exact = False
            absent = unknown
        for place in reversed(places(*field.path)):
            absent = self._number(place, node.values, then, other, absent)
        return absent

    def _number(
        self, place: Place, values: Intervals, then: JumpLabel, other: JumpLabel, absent: JumpLabel
    ) -> JumpLabel:
        if _size(place) > 4:
            test = other
            for first, last in reversed(values):
                test = self._from(first, self._up_to(last, then, test), test)
            return self._find(place.path, test, absent)
        return self._find_and_load(place, self._ranges(values, then, other), absent)

    def _zone(
        self, field: NumberField, values: Intervals, then: JumpLabel, other: JumpLabel
    ) -> JumpLabel:
        zero = then if any(first == 0 for first, _ in values) else other
        test = self._ranges(values, then, other)
        both = self._find_and_load(places("zone")[0], test, zero)
        if field is ZONE:
            for side in ("reply", "orig"):
                both = self._code.find(_START, places(side, "zone")[0].path, other, both)
            return both
        side, _, _ = field.name.partition(".")
        return self._find_and_load(places(side, "zone")[0], test, both)

    def _state(
        self, values: Intervals, then: JumpLabel, other: JumpLabel, unknown: JumpLabel
    ) -> JumpLabel:
        absent = unknown
        for place in reversed(places("protoinfo", "state")):
            proto = _STATES[CTA_PROTOINFO(place.path[1])] << 8
            found = [
                (max(first, proto) - proto, min(last, proto | 0xFF) - proto)
                for first, last in values
                if first <= proto | 0xFF and last >= proto
            ]
            absent = self._find_and_load(place, self._ranges(found, then, other), absent)
        return absent

    def _ranges(
        self, values: Sequence[tuple[int, int]], then: JumpLabel, other: JumpLabel
    ) -> JumpLabel:
        """Whether A is in these."""
        if len(values) > _LEAF:
            middle = len(values) // 2
            below = self._ranges(values[:middle], then, other)
            above = self._ranges(values[middle:], then, other)
            return self._code.jump_at_least(values[middle][0], above, below)
        for first, last in reversed(values):
            if first == last:
                other = self._code.jump_equal(first, then, other)
            else:
                inside = self._code.jump_above(last, other, then)
                other = self._code.jump_at_least(first, inside, other) if first else inside
        return other

    def _from(self, first: int, then: JumpLabel, other: JumpLabel) -> JumpLabel:
        """Whether the 64 bits at X are at least this."""
        high, low = divmod(first, 1 << 32)
        test = self._code.jump_at_least(low, then, other)
        same = self._code.load_relative(4, _VALUE + 4, test)
        test = self._code.jump_above(high, then, self._code.jump_equal(high, same, other))
        return self._code.load_relative(4, _VALUE, test)

    def _up_to(self, last: int, then: JumpLabel, other: JumpLabel) -> JumpLabel:
        """Whether the 64 bits at X are at most this."""
        if last == (1 << 64) - 1:
            return then
        return self._from(last + 1, other, then)

    # -- addresses ----------------------------------------------------------------------------

    def _addresses(
        self, node: Addresses, then: JumpLabel, other: JumpLabel, unknown: JumpLabel
    ) -> JumpLabel:
        v4_place, v6_place = places(*node.field.path)
        v4, v6 = other, other
        if node.v6:
            test = self._words(prefixes(node.v6, 128), 128, 0, then, other)
            v6 = self._find(v6_place.path, test, unknown)
        if node.v4:
            test = self._v4(node.v4, then, other)
            v4 = self._find(v4_place.path, test, unknown)
        family = self._code.jump_equal(FAMILY.words["ipv4"], v4, v6)
        return self._code.load_absolute(1, _FAMILY_AT, family)

    def _v4(self, values: Intervals, then: JumpLabel, other: JumpLabel) -> JumpLabel:
        """Whether the 32 bits at X are in these: as ranges or as prefixes, whichever is shorter."""
        found = prefixes(values, 32)
        groups = len({length for _, length in found})
        if sum(1 + (first < last) for first, last in values) <= len(found) + 3 * groups:
            test = self._ranges(values, then, other)
            return self._code.load_relative(4, _VALUE, test)
        return self._words(found, 32, 0, then, other)

    def _words(
        self, nets: list[tuple[int, int]], width: int, at: int, then: JumpLabel, other: JumpLabel
    ) -> JumpLabel:
        """Whether the bits at X, from ``at`` on, have one of these prefixes."""
        shift = width - at - 32
        ending = [net for net in nets if net[1] <= at + 32]
        deeper = [net for net in nets if net[1] > at + 32]
        offset = _VALUE + at // 8

        def word(net: tuple[int, int]) -> int:
            return net[0] >> shift & 0xFFFFFFFF

        if deeper:
            inside = [
                (value, self._words(list(same), width, at + 32, then, other))
                for value, same in groupby(deeper, word)
            ]
            other = self._code.load_relative(4, offset, self._choose(inside, other))
        for length, same in groupby(sorted(ending, key=_length, reverse=True), _length):
            if length == at:
                return then
            values = sorted(word(net) for net in same)
            test = self._ranges([(value, value) for value in values], then, other)
            if length < at + 32:
                test = self._code.mask(0xFFFFFFFF << (at + 32 - length) & 0xFFFFFFFF, test)
            other = self._code.load_relative(4, offset, test)
        return other

    def _choose(self, where: Sequence[tuple[int, JumpLabel]], other: JumpLabel) -> JumpLabel:
        """Where to go on, by what A is."""
        if len(where) > _LEAF:
            middle = len(where) // 2
            below = self._choose(where[:middle], other)
            above = self._choose(where[middle:], other)
            return self._code.jump_at_least(where[middle][0], above, below)
        for value, label in reversed(where):
            other = self._code.jump_equal(value, label, other)
        return other

    # -- bits and texts -----------------------------------------------------------------------

    def _mark(self, node: Bits, then: JumpLabel, other: JumpLabel) -> JumpLabel:
        test = self._code.jump_equal(node.value, then, other)
        if node.mask != 0xFFFFFFFF:
            test = self._code.mask(node.mask, test)
        return self._find_and_load(places("mark")[0], test, other if node.value else then)

    def _labels(
        self, node: Bits, then: JumpLabel, other: JumpLabel, unknown: JumpLabel
    ) -> JumpLabel:
        """Whether the bits of the mask are as they should be, word by word.

        The bytes of the attribute are in this machine's order, in words as long as a pointer: they
        are taken from the codec, and loaded as what they are in network byte order.
        """
        (place,) = places("labels")
        mask = encode_fields(Flow, {"labels": node.mask})[_VALUE:]
        value = encode_fields(Flow, {"labels": node.value})[_VALUE:]
        for at in reversed(range(0, len(mask), 4)):
            bits = int.from_bytes(mask[at : at + 4], "big")
            if not bits:
                continue
            wanted = int.from_bytes(value[at : at + 4], "big")
            if bits == wanted and bits.bit_count() == 1:
                test = self._code.jump_any(bits, then, other)
            else:
                test = self._code.mask(bits, self._code.jump_equal(wanted, then, other))
            then = self._code.load_relative(4, _VALUE + at, test)
        return self._find(place.path, then, unknown)

    def _texts(
        self, node: Texts, then: JumpLabel, other: JumpLabel, unknown: JumpLabel
    ) -> JumpLabel:
        (place,) = places(*node.field.path)
        for text in reversed(node.values):
            other = self._text(text.encode() + b"\0", then, other)
        return self._find(place.path, other, unknown)

    def _text(self, data: bytes, then: JumpLabel, other: JumpLabel) -> JumpLabel:
        """Whether the attribute at X has just these bytes."""
        at = len(data)
        while at:
            size = next(size for size in (4, 2, 1) if size <= at)
            at -= size
            test = self._code.jump_equal(int.from_bytes(data[at : at + size], "big"), then, other)
            then = self._code.load_relative(size, _VALUE + at, test)
        # The attribute's own length is in this machine's byte order.
        size = int.from_bytes(struct.pack("=H", _VALUE + len(data)), "big")
        return self._code.load_relative(2, 0, self._code.jump_equal(size, then, other))

    # -- attributes ---------------------------------------------------------------------------

    def _find(self, path: Iterable[int], then: JumpLabel, absent: JumpLabel) -> JumpLabel:
        """Go on with X where the attribute is."""
        return self._code.find(_START, path, self._code.to_index(then), absent)

    def _find_and_load(self, place: Place, then: JumpLabel, absent: JumpLabel) -> JumpLabel:
        """Go on with A the attribute's value."""
        load = self._code.load_relative(_size(place), _VALUE, then)
        return self._find(place.path, load, absent)


def _size(place: Place) -> int:
    return cast("Integer[int]", place.wire).size


def _length(net: tuple[int, int]) -> int:
    return net[1]
