"""A match as a Python function, made of source code as the codec's layouts are.

What it reads of a flow, by the field, and what an absent one means, is this:

- The addresses, the protocol and the family are always there.
- A mark, a status or labels that are not told have no bit set. (An event leaves out a mark that is
  0, and labels where there are none.)
- A zone that is not told is 0. ``zone`` is that of both directions; where one has a zone of its
  own, there is none. ``orig.zone`` and ``reply.zone`` are always there.
- Of everything else, what is not told is no value: the condition does not hold.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address
from itertools import count
from typing import Final, cast

from ..model.flow import Flow
from ..model.protoinfo import DCCPInfo, ProtoInfo, SCTPInfo, TCPInfo
from ..model.tuples import TCP, IPAddress
from .fields import DCCP, FAMILY, SCTP, STATE, STATUS, ZONE, NumberField, state_number
from .intervals import Intervals
from .nodes import Addresses, All, Any, Bits, Node, Not, Numbers

Predicate = Callable[[Flow], bool]

_MOST_LISTED: Final = 1024
"""Numbers that are looked for in a set, instead of among ranges."""


def compile_predicate(node: Node) -> Predicate:
    """A function that is true of the flows that match."""
    source = _Source()
    return cast("Predicate", eval(f"lambda f: {source.of(node)}", source.names))


class _Source:
    """An expression, and the objects that it names."""

    def __init__(self) -> None:
        self.names: dict[str, object] = {"AND": int.__and__}
        self._counted = count()

    def of(self, node: Node) -> str:
        if isinstance(node, All):
            return f"({' and '.join(map(self.of, node.parts))})" if node.parts else "True"
        if isinstance(node, Any):
            return f"({' or '.join(map(self.of, node.parts))})" if node.parts else "False"
        if isinstance(node, Not):
            return f"(not {self.of(node.part)})"
        if isinstance(node, Numbers):
            return self._numbers(node)
        if isinstance(node, Addresses):
            within = self._name(partial(_within, _Ranges(node.v4), _Ranges(node.v6)))
            return f"{within}(f.{'.'.join(node.field.path)})"
        if isinstance(node, Bits):
            return self._bits(node)
        names = self._name(frozenset(node.values))
        return f"((x := f.helper) is not None and x.name in {names})"

    def _name(self, thing: object) -> str:
        name = f"c{next(self._counted)}"
        self.names[name] = thing
        return name

    def _bits(self, node: Bits) -> str:
        path = f"f.{node.field.path[0]}"
        if node.field is STATUS:  # the & of its enum takes ten times as long
            return f"((x := {path}) is not None and AND(x, {node.mask}) == {node.value})"
        return f"({path} or 0) & {node.mask} == {node.value}"

    def _numbers(self, node: Numbers) -> str:
        value = self._read(node.field)
        if len(node.values) == 1:
            ((first, last),) = node.values
            if first == last:
                return f"{value} == {first}"
            if not node.field.always:
                return f"((x := {value}) is not None and {first} <= x <= {last})"
            return f"{first} <= {value} <= {last}"
        if sum(last - first + 1 for first, last in node.values) <= _MOST_LISTED:
            numbers = (range(first, last + 1) for first, last in node.values)
            return f"{value} in {self._name(frozenset(n for each in numbers for n in each))}"
        return f"{self._name(_Ranges(node.values).have)}({value})"

    def _read(self, field: NumberField) -> str:
        if field is FAMILY:
            return f"{self._name(_family)}(f.orig.src)"
        if field is STATE:
            return f"{self._name(_state)}(f.protoinfo)"
        if field is ZONE:
            return f"{self._name(_zone)}(f)"
        if field.name.endswith(".zone"):
            return f"{self._name(_zone_of)}(f.{field.name}, f.zone)"
        first, *rest = field.path
        if first.startswith("counters"):
            return f"(None if (x := f.{first}) is None else x.{rest[0]})"
        return f"f.{'.'.join(field.path)}"


class _Ranges:
    """Which of many numbers are meant."""

    def __init__(self, values: Intervals) -> None:
        self._firsts = [first for first, _ in values]
        self._lasts = [last for _, last in values]

    def have(self, number: int | None) -> bool:
        if number is None:
            return False
        at = bisect_right(self._firsts, number)
        return at > 0 and number <= self._lasts[at - 1]


def _within(v4: _Ranges, v6: _Ranges, address: IPAddress) -> bool:
    return (v4 if isinstance(address, IPv4Address) else v6).have(int(address))


def _family(address: IPAddress) -> int:
    return FAMILY.words["ipv4" if address.version == 4 else "ipv6"]


def _zone(flow: Flow) -> int | None:
    if flow.orig.zone is None and flow.reply.zone is None:
        return flow.zone or 0
    return None


def _zone_of(own: int | None, both: int | None) -> int:
    return (both or 0) if own is None else own


def _state(info: ProtoInfo | None) -> int | None:
    if info is None or info.state is None:
        return None
    return state_number(_PROTOCOLS[type(info)], info.state)


_PROTOCOLS: Final = {TCPInfo: TCP, SCTPInfo: SCTP, DCCPInfo: DCCP}
