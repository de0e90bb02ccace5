"""Compile conditions to the instructions of a classic BPF program that tests an event.

- Methods take the labels to continue at, and return the label where their instructions begin. The
  program is assembled from its end, so that these labels are known.
- ``if_true`` and ``if_false`` are where to continue if the condition holds or does not.
  ``if_absent`` is where to continue if the event does not contain an attribute, and ``if_unknown``
  if the event does not show whether the condition holds.
- ``A`` is the accumulator, and ``X`` the index register.
- BPF loads read numbers in network byte order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final, cast

from ..codec.reference import encode_fields
from ..model.flow import Flow
from ..model.protocols import DCCP, SCTP, TCP
from ..model.wire import Integer
from ..netlink import attributes, nfnetlink
from ..netlink.bpf import Assembler, JumpLabel, Program, ProgramTooLong
from ..netlink.messages import HEADER_SIZE
from ..uapi.nfnetlink_conntrack import CTA_PROTOINFO
from .approximate import subset, superset
from .fields import (
    FAMILY,
    LABEL,
    MARK,
    STATE,
    ZONE,
    AttributeLocation,
    NumberField,
    attribute_locations,
)
from .intervals import Interval, Intervals, prefixes
from .nodes import Addresses, AllOf, AnyOf, Atom, Bits, Node, Not, Numbers, Texts

_ATTRIBUTES_OFFSET: Final = HEADER_SIZE + nfnetlink.SIZE
"""Where the attributes of a message begin, in bytes."""

_FAMILY_OFFSET: Final = HEADER_SIZE
"""Where the family is in a message (``struct nfgenmsg``), in bytes."""

_VALUE_OFFSET: Final = attributes.HEADER.size
"""Where the value of an attribute begins, in bytes from the start of the attribute."""

_ACCEPT: Final = 0xFFFFFFFF
"""The result of a program that accepts a message: how many bytes of it to keep."""

_DROP: Final = 0
"""The result of a program that drops a message."""

_MAX_LINEAR: Final = 8
"""Up to this many values are compared one by one. More are first narrowed down by bisection."""

_STATE_PROTOCOLS: Final = {
    CTA_PROTOINFO.TCP: TCP,
    CTA_PROTOINFO.DCCP: DCCP,
    CTA_PROTOINFO.SCTP: SCTP,
}
"""The protocol of each nested attribute that contains a state."""


class ProgramWriter:
    """A writer of one program of limited length."""

    def __init__(self, limit: int, max_ranges: int | None, *, constant_only: bool) -> None:
        """Create a writer.

        :param limit: how many instructions the program may have.
        :param max_ranges: how many ranges a condition may have; ``None`` for any number.
        :param constant_only: test only fields that never change while a flow exists. Conditions on
            other fields are unknown.
        """
        self.exact = True
        """Whether the program accepts only events that match."""
        self._limit = limit
        self._max_ranges = max_ranges
        self._constant_only = constant_only
        self._code = Assembler(limit)

    def write(self, node: Node) -> Program:
        """Return the program for a node.

        :raises ProgramTooLong: when the program has more instructions than it may have.
        """
        accept = self._code.ret(_ACCEPT)
        drop = self._code.ret(_DROP)
        start = self._test_node(node, accept, drop, accept_unknown=True)
        if start == accept:
            accept_all = Assembler()
            return accept_all.program(accept_all.ret(_ACCEPT))
        return self._code.program(start)

    def _test_node(
        self, node: Node, if_true: JumpLabel, if_false: JumpLabel, *, accept_unknown: bool
    ) -> JumpLabel:
        """Test whether a node holds.

        :param node: the node.
        :param if_true: where to continue if it holds.
        :param if_false: where to continue if it does not.
        :param accept_unknown: whether unknown conditions count as true. They do, except below an
            odd number of ``not``.
        """
        if (
            isinstance(node, AllOf | AnyOf)
            and not self._constant_only
            and len(node.parts) > self._limit
        ):
            raise ProgramTooLong("each part takes at least one instruction")
        if isinstance(node, AllOf):
            for part in reversed(node.parts):
                if_true = self._test_node(part, if_true, if_false, accept_unknown=accept_unknown)
            return if_true
        if isinstance(node, AnyOf):
            for part in reversed(node.parts):
                if_false = self._test_node(part, if_true, if_false, accept_unknown=accept_unknown)
            return if_false
        if isinstance(node, Not):
            return self._test_node(node.part, if_false, if_true, accept_unknown=not accept_unknown)
        if_unknown = if_true if accept_unknown else if_false
        if self._constant_only and not node.field.constant:
            self.exact = False
            return if_unknown
        limited = self._limit_ranges(node, accept_unknown=accept_unknown)
        if limited.weight > self._limit:
            raise ProgramTooLong("each range takes at least one instruction")
        return self._test_atom(limited, if_true, if_false, if_unknown)

    def _limit_ranges(self, node: Atom, *, accept_unknown: bool) -> Atom:
        """Return a condition that has no more ranges than are allowed.

        It is a superset, so that the program accepts what it cannot test; below a ``not`` a subset.
        """
        if self._max_ranges is None or not isinstance(node, Numbers | Addresses):
            return node
        approximate = superset if accept_unknown else subset
        approximation = approximate(node, self._max_ranges)
        self.exact &= approximation == node
        return approximation

    def _test_atom(
        self, node: Atom, if_true: JumpLabel, if_false: JumpLabel, if_unknown: JumpLabel
    ) -> JumpLabel:
        if isinstance(node, Addresses):
            return self._test_addresses(node, if_true, if_false, if_unknown)
        if isinstance(node, Bits):
            if node.field is MARK:
                return self._test_mark(node, if_true, if_false)
            self.exact = False
            if node.field is LABEL:
                return self._test_labels(node, if_true, if_false, if_unknown)
            return self._find_and_load(
                attribute_locations(*node.field.path)[0],
                self._code.jump_any(node.mask, if_true, if_false),
                if_unknown,
            )
        if isinstance(node, Texts):
            self.exact = False
            return self._test_texts(node, if_true, if_false, if_unknown)
        return self._test_numbers(node, if_true, if_false, if_unknown)

    # -- numbers ------------------------------------------------------------------------------

    def _test_numbers(
        self, node: Numbers, if_true: JumpLabel, if_false: JumpLabel, if_unknown: JumpLabel
    ) -> JumpLabel:
        field = node.field
        if field is FAMILY:
            test = self._test_ranges(node.values, if_true, if_false)
            return self._code.load_absolute(1, _FAMILY_OFFSET, test)
        if field.name == ZONE.name or field.name.endswith(".zone"):
            return self._test_zone(field, node.values, if_true, if_false)
        if field is STATE:
            self.exact = False
            return self._test_state(node.values, if_true, if_false, if_unknown)
        # Events have complete tuples: the protocol lacks a field that is absent there.
        if_absent = if_false
        if field.path[0] not in ("orig", "reply"):
            self.exact = False
            if_absent = if_unknown
        for location in reversed(attribute_locations(*field.path)):
            if_absent = self._test_number(location, node.values, if_true, if_false, if_absent)
        return if_absent

    def _test_number(
        self,
        location: AttributeLocation,
        values: Intervals,
        if_true: JumpLabel,
        if_false: JumpLabel,
        if_absent: JumpLabel,
    ) -> JumpLabel:
        if _size(location) > 4:  # counters of 64 bits: a load reads at most 32 bits
            test = if_false
            for first, last in reversed(values):
                test = self._test_at_least(first, self._test_at_most(last, if_true, test), test)
            return self._find(location.path, test, if_absent)
        return self._find_and_load(
            location, self._test_ranges(values, if_true, if_false), if_absent
        )

    def _test_zone(
        self, field: NumberField, values: Intervals, if_true: JumpLabel, if_false: JumpLabel
    ) -> JumpLabel:
        # An absent attribute is zone 0.
        if_zero = if_true if any(first == 0 for first, _ in values) else if_false
        test = self._test_ranges(values, if_true, if_false)
        both = self._find_and_load(attribute_locations("zone")[0], test, if_zero)
        if field is ZONE:
            # A flow with a zone in one direction only has no zone of both directions.
            for side in ("reply", "orig"):
                both = self._code.find(
                    _ATTRIBUTES_OFFSET, attribute_locations(side, "zone")[0].path, if_false, both
                )
            return both
        side, _, _ = field.name.partition(".")
        return self._find_and_load(attribute_locations(side, "zone")[0], test, both)

    def _test_state(
        self, values: Intervals, if_true: JumpLabel, if_false: JumpLabel, if_unknown: JumpLabel
    ) -> JumpLabel:
        """Test the state in the nested attribute of each protocol.

        The values are states combined with their protocols (see :func:`.fields.state_number`).
        """
        if_absent = if_unknown
        for location in reversed(attribute_locations("protoinfo", "state")):
            proto = _STATE_PROTOCOLS[CTA_PROTOINFO(location.path[1])] << 8
            found = [
                (max(first, proto) - proto, min(last, proto | 0xFF) - proto)
                for first, last in values
                if first <= proto | 0xFF and last >= proto
            ]
            if_absent = self._find_and_load(
                location, self._test_ranges(found, if_true, if_false), if_absent
            )
        return if_absent

    def _test_ranges(
        self, values: Sequence[Interval], if_true: JumpLabel, if_false: JumpLabel
    ) -> JumpLabel:
        """Test whether A is in one of the ranges."""
        if len(values) > _MAX_LINEAR:
            middle = len(values) // 2
            below = self._test_ranges(values[:middle], if_true, if_false)
            above = self._test_ranges(values[middle:], if_true, if_false)
            return self._code.jump_at_least(values[middle][0], above, below)
        for first, last in reversed(values):
            if first == last:
                if_false = self._code.jump_equal(first, if_true, if_false)
            else:
                inside = self._code.jump_above(last, if_false, if_true)
                if_false = self._code.jump_at_least(first, inside, if_false) if first else inside
        return if_false

    def _test_at_least(self, first: int, if_true: JumpLabel, if_false: JumpLabel) -> JumpLabel:
        """Test whether the 64 bits of the attribute at X are at least ``first``."""
        high, low = divmod(first, 1 << 32)
        test = self._code.jump_at_least(low, if_true, if_false)
        same = self._code.load_relative(4, _VALUE_OFFSET + 4, test)
        test = self._code.jump_above(high, if_true, self._code.jump_equal(high, same, if_false))
        return self._code.load_relative(4, _VALUE_OFFSET, test)

    def _test_at_most(self, last: int, if_true: JumpLabel, if_false: JumpLabel) -> JumpLabel:
        """Test whether the 64 bits of the attribute at X are at most ``last``."""
        if last == (1 << 64) - 1:
            return if_true
        return self._test_at_least(last + 1, if_false, if_true)

    # -- addresses ----------------------------------------------------------------------------

    def _test_addresses(
        self, node: Addresses, if_true: JumpLabel, if_false: JumpLabel, if_unknown: JumpLabel
    ) -> JumpLabel:
        v4_location, v6_location = attribute_locations(*node.field.path)
        v4, v6 = if_false, if_false
        if node.v6:
            test = self._test_prefixes(prefixes(node.v6, 128), 128, 0, if_true, if_false)
            v6 = self._find(v6_location.path, test, if_unknown)
        if node.v4:
            test = self._test_v4(node.v4, if_true, if_false)
            v4 = self._find(v4_location.path, test, if_unknown)
        family = self._code.jump_equal(FAMILY.names["ipv4"], v4, v6)
        return self._code.load_absolute(1, _FAMILY_OFFSET, family)

    def _test_v4(self, values: Intervals, if_true: JumpLabel, if_false: JumpLabel) -> JumpLabel:
        """Test whether the IPv4 address at X is in one of the ranges.

        It is compared by ranges or by prefixes, whichever takes fewer instructions.
        """
        found = prefixes(values, 32)
        groups = len({length for _, length in found})
        if sum(1 + (first < last) for first, last in values) <= len(found) + 3 * groups:
            test = self._test_ranges(values, if_true, if_false)
            return self._code.load_relative(4, _VALUE_OFFSET, test)
        return self._test_prefixes(found, 32, 0, if_true, if_false)

    def _test_prefixes(
        self,
        networks: list[tuple[int, int]],
        width: int,
        bit: int,
        if_true: JumpLabel,
        if_false: JumpLabel,
    ) -> JumpLabel:
        """Test whether the address at X has one of the prefixes.

        This compares one word of 32 bits, and calls itself for longer prefixes.

        :param networks: the prefixes in ascending order, which are equal before the word.
        :param width: the bits of an address: 32 or 128.
        :param bit: the first bit of the word.
        :param if_true: where to continue if it has one.
        :param if_false: where to continue if it has none.
        """
        shift = width - bit - 32
        ending = [network for network in networks if network[1] <= bit + 32]
        longer = [network for network in networks if network[1] > bit + 32]
        offset = _VALUE_OFFSET + bit // 8

        def word_of(network: tuple[int, int]) -> int:
            return network[0] >> shift & 0xFFFFFFFF

        if longer:
            inside = [
                (value, self._test_prefixes(list(same), width, bit + 32, if_true, if_false))
                for value, same in groupby(longer, word_of)
            ]
            if_false = self._code.load_relative(4, offset, self._branch(inside, if_false))
        for length, same in groupby(
            sorted(ending, key=_prefix_length, reverse=True), _prefix_length
        ):
            if length == bit:
                return if_true
            values = sorted(word_of(network) for network in same)
            test = self._test_ranges([(value, value) for value in values], if_true, if_false)
            if length < bit + 32:
                test = self._code.mask(0xFFFFFFFF << (bit + 32 - length) & 0xFFFFFFFF, test)
            if_false = self._code.load_relative(4, offset, test)
        return if_false

    def _branch(self, targets: Sequence[tuple[int, JumpLabel]], if_false: JumpLabel) -> JumpLabel:
        """Continue at the label of the value that A has.

        :param targets: values in ascending order, and their labels.
        :param if_false: the label for any other value.
        """
        if len(targets) > _MAX_LINEAR:
            middle = len(targets) // 2
            below = self._branch(targets[:middle], if_false)
            above = self._branch(targets[middle:], if_false)
            return self._code.jump_at_least(targets[middle][0], above, below)
        for value, label in reversed(targets):
            if_false = self._code.jump_equal(value, label, if_false)
        return if_false

    # -- bits and texts -----------------------------------------------------------------------

    def _test_mark(self, node: Bits, if_true: JumpLabel, if_false: JumpLabel) -> JumpLabel:
        test = self._code.jump_equal(node.value, if_true, if_false)
        if node.mask != 0xFFFFFFFF:
            test = self._code.mask(node.mask, test)
        return self._find_and_load(
            attribute_locations("mark")[0], test, if_false if node.value else if_true
        )

    def _test_labels(
        self, node: Bits, if_true: JumpLabel, if_false: JumpLabel, if_unknown: JumpLabel
    ) -> JumpLabel:
        """Test the labels in the mask, 32 bits at a time.

        The attribute is an array of ``unsigned long`` in host byte order, but loads are in network
        byte order. So the codec encodes mask and value, and these bytes are read as big-endian
        numbers.
        """
        (location,) = attribute_locations("labels")
        mask = encode_fields(Flow, {"labels": node.mask})[_VALUE_OFFSET:]
        value = encode_fields(Flow, {"labels": node.value})[_VALUE_OFFSET:]
        for at in reversed(range(0, len(mask), 4)):
            bits = int.from_bytes(mask[at : at + 4], "big")
            if not bits:
                continue
            expected = int.from_bytes(value[at : at + 4], "big")
            if bits == expected and bits.bit_count() == 1:
                test = self._code.jump_any(bits, if_true, if_false)
            else:
                test = self._code.mask(bits, self._code.jump_equal(expected, if_true, if_false))
            if_true = self._code.load_relative(4, _VALUE_OFFSET + at, test)
        return self._find(location.path, if_true, if_unknown)

    def _test_texts(
        self, node: Texts, if_true: JumpLabel, if_false: JumpLabel, if_unknown: JumpLabel
    ) -> JumpLabel:
        (location,) = attribute_locations(*node.field.path)
        for text in reversed(node.values):
            if_false = self._test_text(text.encode() + b"\0", if_true, if_false)
        return self._find(location.path, if_false, if_unknown)

    def _test_text(self, data: bytes, if_true: JumpLabel, if_false: JumpLabel) -> JumpLabel:
        """Test whether the value of the attribute at X is exactly ``data``."""
        at = len(data)
        while at:
            size = next(size for size in (4, 2, 1) if size <= at)
            at -= size
            test = self._code.jump_equal(
                int.from_bytes(data[at : at + size], "big"), if_true, if_false
            )
            if_true = self._code.load_relative(size, _VALUE_OFFSET + at, test)
        # The length in the attribute's header (nla_len) is in host byte order.
        size = int.from_bytes(struct.pack("=H", _VALUE_OFFSET + len(data)), "big")
        return self._code.load_relative(2, 0, self._code.jump_equal(size, if_true, if_false))

    # -- attributes ---------------------------------------------------------------------------

    def _find(self, path: Iterable[int], if_true: JumpLabel, if_absent: JumpLabel) -> JumpLabel:
        """Find an attribute and set X to its offset."""
        return self._code.find(_ATTRIBUTES_OFFSET, path, self._code.to_index(if_true), if_absent)

    def _find_and_load(
        self, location: AttributeLocation, if_true: JumpLabel, if_absent: JumpLabel
    ) -> JumpLabel:
        """Find an attribute and load its value into A."""
        load = self._code.load_relative(_size(location), _VALUE_OFFSET, if_true)
        return self._find(location.path, load, if_absent)


def _size(location: AttributeLocation) -> int:
    """Return the size of a number in bytes."""
    return cast("Integer[int]", location.wire).size


def _prefix_length(network: tuple[int, int]) -> int:
    return network[1]
