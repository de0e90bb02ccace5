"""Compile a match to a Python function that tests flows exactly.

What the function reads from a flow, and what an absent value means:

- Addresses, the protocol and the family are always present.
- An absent mark, status or labels have no bit set. An event leaves out a mark of 0, and labels if
  none is set.
- An absent zone is 0. ``zone`` is the zone of both directions. It has no value if a direction has a
  zone of its own. ``orig.zone`` and ``reply.zone`` always have a value.
- A condition on any other absent value does not hold.

The values of a match are captured by the function and never become source text. So matches of the
same form have the same source, which is compiled once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import IPv4Address
from typing import Final

from ..function_builder import Expression, Factories, FunctionBuilder
from ..model.flow import Flow
from ..model.protoinfo import PROTOINFO_TYPES, ProtoInfo
from ..model.tuples import IPAddress
from .alternatives import (
    MIN_TABLE_SIZE,
    IntervalTable,
    LookupTable,
    MaskedValues,
    address_numbers,
    any_node,
    arrange,
    count_addresses,
    count_numbers,
    is_negated,
    negation_of,
    numbers_in,
)
from .fields import FAMILY, STATE, STATUS, ZONE, AddressField, MatchField, state_number
from .intervals import Intervals
from .nodes import TRUE, Addresses, AllOf, AnyOf, Bits, Node, Not, Numbers

Predicate = Callable[[Flow], bool]

_MAX_SET_SIZE: Final = 1024
"""Up to this many numbers are looked up in a set. More are compared by their ranges."""


def compile_predicate(node: Node) -> Predicate:
    """Return a function that returns whether a flow matches."""
    return _PredicateWriter(_PredicateCompiler()).build(node)


class _PredicateCompiler:
    """A compiler of the functions that one predicate calls. They are many, of few forms."""

    def __init__(self) -> None:
        self.factories: Factories = {}
        self._compiled: dict[Node, Predicate] = {TRUE: _always}

    def compile(self, node: Node) -> Predicate:
        """Return a function that returns whether a flow matches; the same for equal nodes."""
        predicate = self._compiled.get(node)
        if predicate is None:
            writer = _PredicateWriter(self, self.factories)
            predicate = self._compiled[node] = writer.build(node)
        return predicate


class _PredicateWriter:
    """A writer of one function of a predicate: an expression about a flow."""

    def __init__(self, compiler: _PredicateCompiler, factories: Factories | None = None) -> None:
        self._compile = compiler.compile
        self._builder = builder = FunctionBuilder("match", "match", factories=factories)
        self._flow = builder.parameter("flow")
        self._value = builder.local("value")
        """A local variable for a value that is used twice."""

    def build(self, node: Node) -> Predicate:
        """Return the compiled function."""
        builder, flow = self._builder, self._flow
        result = self._write(node)
        # A constant function reads the flow, too: an argument that is not a flow raises an error.
        if result is builder.bind(True):
            builder.line("return {flow}.orig is not {flow}", flow=flow)
        elif result is builder.bind(False):
            builder.line("return {flow}.orig is {flow}", flow=flow)
        else:
            builder.line("return {result}", result=result)
        return builder.build()

    def _write(self, node: Node) -> Expression:
        """Return an expression that is true if a node holds."""
        if isinstance(node, AllOf):
            return self._write_all(node.parts)
        if isinstance(node, AnyOf):
            return self._write_any(node.parts)
        if isinstance(node, Not):
            return self._builder.expression("(not {part})", part=self._write(node.part))
        if isinstance(node, Numbers):
            return self._write_numbers(node)
        if isinstance(node, Addresses):
            return self._write_addresses(node)
        if isinstance(node, Bits):
            return self._write_bits(node)
        return self._builder.expression(
            "(({value} := {flow}.helper) is not None and {value}.name in {names})",
            value=self._value,
            flow=self._flow,
            names=self._builder.capture(frozenset(node.values)),
        )

    def _write_all(self, parts: Sequence[Node]) -> Expression:
        builder = self._builder
        if not parts:
            return builder.bind(True)
        negated = [negation_of(part) for part in parts if is_negated(part)]
        if len(negated) < MIN_TABLE_SIZE:
            return builder.join("and", [self._write(part) for part in parts])
        operands = [self._write(part) for part in parts if not is_negated(part)]
        operands.append(builder.expression("not {any}", any=self._write_any(negated)))
        return builder.join("and", operands)

    def _write_any(self, parts: Sequence[Node]) -> Expression:
        found = arrange(parts)
        operands = [
            *map(self._write_lookup, found.lookups),
            *map(self._write_interval, found.intervals),
            *map(self._write_masked, found.masks),
            *map(self._write, found.rest),
        ]
        return self._builder.join("or", operands) if operands else self._builder.bind(False)

    # -- alternatives -----------------------------------------------------------------------

    def _write_lookup(self, table: LookupTable) -> Expression:
        compile = self._compile
        found = {key: compile(any_node(rest)) for key, rest in table.alternatives.items()}
        key, *more = map(self._write_value, table.fields)
        if more:
            key = self._builder.expression("({values})", values=[key, *more])
        return self._write_call(found.get, key)

    def _write_interval(self, table: IntervalTable) -> Expression:
        compile = self._compile
        found = [compile(any_node(rest)) if rest else None for rest in table.alternatives]
        return self._write_call(
            partial(_predicate_at, table.starts, found), self._write_value(table.field)
        )

    def _write_call(self, find: Callable[..., Predicate | None], key: Expression) -> Expression:
        """Return an expression that is true if ``find(key)`` returns a predicate that holds."""
        return self._builder.expression(
            "(({value} := {find}({key})) is not None and {value}({flow}))",
            value=self._value,
            find=self._builder.capture(find),
            key=key,
            flow=self._flow,
        )

    def _write_masked(self, masked: MaskedValues) -> Expression:
        builder = self._builder
        bits = self._write_value(masked.field)
        if masked.field is STATUS:
            bits = builder.expression("({bits} or {zero})", bits=bits, zero=0)
        bits = builder.call(int.__and__, bits, builder.capture(masked.mask))
        return self._write_is_in(bits, masked.values)

    # -- conditions -------------------------------------------------------------------------

    def _write_numbers(self, node: Numbers) -> Expression:
        builder = self._builder
        number = self._write_value(node.field)
        if len(node.values) > 1 and count_numbers(node.values) <= _MAX_SET_SIZE:
            return self._write_is_in(number, frozenset(numbers_in(node.values)))
        if len(node.values) != 1:
            return builder.call(builder.capture(_Ranges(node.values).contains), number)
        ((first, last),) = node.values
        low = builder.capture(first)
        if first == last:
            return builder.expression("{number} == {low}", number=number, low=low)
        high = builder.capture(last)
        if node.field.always_present:
            return builder.expression(
                "{low} <= {number} <= {high}", low=low, number=number, high=high
            )
        return builder.expression(
            "(({value} := {number}) is not None and {low} <= {value} <= {high})",
            value=self._value,
            number=number,
            low=low,
            high=high,
        )

    def _write_addresses(self, node: Addresses) -> Expression:
        builder = self._builder
        if count_addresses(node) <= _MAX_SET_SIZE:
            return self._write_is_in(
                self._write_value(node.field), frozenset(address_numbers(node))
            )
        within = builder.capture(partial(_within, _Ranges(node.v4), _Ranges(node.v6)))
        return builder.call(within, builder.attribute(self._flow, *node.field.path))

    def _write_is_in(self, value: Expression, values: frozenset[object]) -> Expression:
        captured = self._builder.capture(values)
        return self._builder.expression("{value} in {values}", value=value, values=captured)

    def _write_bits(self, node: Bits) -> Expression:
        builder = self._builder
        bits, value = self._write_value(node.field), builder.capture(node.value)
        if node.mask == (1 << node.field.width) - 1:
            return builder.expression("{bits} == {value}", bits=bits, value=value)
        mask = builder.capture(node.mask)
        if node.field is not STATUS:
            return builder.expression(
                "{bits} & {mask} == {value}", bits=bits, mask=mask, value=value
            )
        return builder.expression(
            "(({known} := {bits}) is not None and {masked} == {value})",
            known=self._value,
            bits=bits,
            # The & operator of the enum Status takes ten times as long.
            masked=builder.call(int.__and__, self._value, mask),
            value=value,
        )

    # -- fields -----------------------------------------------------------------------------

    def _write_value(self, field: MatchField) -> Expression:
        """Return an expression for the value of a field, or for ``None`` if the flow lacks it.

        Addresses are numbers as in :mod:`.alternatives`.
        """
        builder, flow = self._builder, self._flow
        if field is FAMILY:
            return builder.call(_family, builder.attribute(flow, "orig", "src"))
        if field is STATE:
            return builder.call(_state, builder.attribute(flow, "protoinfo"))
        if field is ZONE:
            return builder.call(_zone, flow)
        path = field.path or tuple(field.name.split("."))
        value = builder.attribute(flow, *path)
        if path[-1] == "zone":
            return builder.call(_zone_of, value, builder.attribute(flow, "zone"))
        if isinstance(field, AddressField):
            return builder.call(_address, value)
        if path[0] in ("mark", "labels"):
            return builder.expression("({value} or {zero})", value=value, zero=0)
        if len(path) == 1 or path[0] in ("orig", "reply"):
            return value
        owner, name = path  # the counters and the helper may be absent
        return builder.expression(
            "(None if ({known} := {owner}) is None else {value})",
            known=self._value,
            owner=builder.attribute(flow, owner),
            value=builder.attribute(self._value, name),
        )


# -- functions that the compiled source calls ---------------------------------------------------


def _always(flow: Flow) -> bool:
    return True


def _predicate_at(
    starts: list[int], found: list[Predicate | None], number: int | None
) -> Predicate | None:
    """Return the predicate of the interval that contains a number."""
    return None if number is None else found[bisect_right(starts, number)]


def _address(address: IPAddress) -> int:
    """Return an address as a number: a negative one for IPv6."""
    return int(address) if isinstance(address, IPv4Address) else ~int(address)


class _Ranges:
    """A set of many ranges, for bisection."""

    def __init__(self, values: Intervals) -> None:
        self._firsts = [first for first, _ in values]
        self._lasts = [last for _, last in values]

    def contains(self, number: int | None) -> bool:
        """Return whether a number is in any of the ranges."""
        if number is None:
            return False
        at = bisect_right(self._firsts, number)
        return at > 0 and number <= self._lasts[at - 1]


def _within(v4: _Ranges, v6: _Ranges, address: IPAddress) -> bool:
    """Return whether an address is in the ranges of its family."""
    return (v4 if isinstance(address, IPv4Address) else v6).contains(int(address))


def _family(address: IPAddress) -> int:
    return FAMILY.names["ipv4" if address.version == 4 else "ipv6"]


def _zone(flow: Flow) -> int | None:
    """Return the zone of both directions; ``None`` if a direction has its own."""
    if flow.orig.zone is None and flow.reply.zone is None:
        return flow.zone or 0
    return None


def _zone_of(own: int | None, both: int | None) -> int:
    """Return the zone of one direction."""
    return (both or 0) if own is None else own


def _state(info: ProtoInfo | None) -> int | None:
    """Return the number of a state (see :func:`state_number`)."""
    if info is None or info.state is None:
        return None
    proto = _PROTOCOLS.get(type(info))
    if proto is None:  # an instance of a subclass
        proto = next(number for kind, number in _PROTOCOLS.items() if isinstance(info, kind))
    return state_number(proto, info.state)


_PROTOCOLS: Final[dict[type[ProtoInfo], int]] = {
    info: proto for proto, info in PROTOINFO_TYPES.items()
}
