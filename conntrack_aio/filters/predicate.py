"""A match as a Python function, made of source code as the codec's layouts are.

What it reads of a flow, by the field, and what an absent one means, is this:

- The addresses, the protocol and the family are always there.
- A mark, a status or labels that are not told have no bit set. (An event leaves out a mark that is
  0, and labels where there are none.)
- A zone that is not told is 0. ``zone`` is that of both directions; where one has a zone of its
  own, there is none. ``orig.zone`` and ``reply.zone`` are always there.
- Of everything else, what is not told is no value: the condition does not hold.

The source consists of the names of fields and of ``c0``, ``c1``: what a match is made of is bound
to these and never becomes source. So matches of one form have one source.

Of many alternatives, those that need single values of the same fields are found in a dictionary by
what a flow has there, and only what else they need is looked at (:class:`_Index`). Of the others,
those that differ in the ranges of one field alone are joined, and those that need ranges of a field
are found by bisection (:class:`_Sections`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from ipaddress import IPv4Address
from itertools import product
from math import prod
from typing import Final, cast

from ..generated import compile_function
from ..model.flow import Flow
from ..model.protoinfo import DCCPInfo, ProtoInfo, SCTPInfo, TCPInfo
from ..model.tuples import TCP, IPAddress
from .fields import (
    DCCP,
    FAMILY,
    MARK,
    SCTP,
    STATE,
    STATUS,
    ZONE,
    AddressField,
    BitsField,
    Field,
    state_number,
)
from .intervals import Intervals
from .nodes import TRUE, Addresses, All, Any, Atom, Bits, Node, Not, Numbers, Texts
from .tree import unite

Predicate = Callable[[Flow], bool]

_MOST_LISTED: Final = 1024
"""Numbers that are looked for in a set, instead of among ranges."""

_AND: Final = " and\n    "
_OR: Final = " or\n    "
_FEW: Final = 4
"""Of fewer alternatives, each is tried."""

_MOST_SPREAD: Final = 8
"""So many alternatives inside of an alternative become alternatives beside it."""

_MOST_OVERLAPPING: Final = 16
"""So many ranges of alternatives may overlap on average, where they are found by bisection."""


def compile_predicate(node: Node) -> Predicate:
    """A function that is true of the flows that match."""
    compiler = _Compiler()
    source = _Source(compiler)
    expression = source.of(node)
    if expression in ("True", "False"):  # what is no flow is an error here, too
        expression = f"f.orig is{' not' * (expression == 'True')} f"
    text = f"def match(f):\n  return {expression}\n"
    names = {f"c{number}": value for number, value in enumerate(source.values)}
    predicate = cast("Predicate", compile_function("match", text, {**_FUNCTIONS, **names}, "match"))
    # Tracebacks show the sources as long as the factories live.
    predicate.__dict__["factories"] = compiler.factories
    return predicate


class _Compiler:
    """Makes the functions that a predicate calls: many, of few forms."""

    def __init__(self) -> None:
        self.factories: dict[str, Callable[..., Predicate]] = {}
        """What makes functions of a form, by the source."""
        self._made: dict[Node, Predicate] = {TRUE: _always}

    def compile(self, node: Node) -> Predicate:
        """A function that is true where the node holds; the same for the same node."""
        predicate = self._made.get(node)
        if predicate is None:
            predicate = self._made[node] = self._compile(node)
        return predicate

    def _compile(self, node: Node) -> Predicate:
        source = _Source(self)
        expression = source.of(node)
        names = ", ".join(f"c{number}" for number in range(len(source.values)))
        text = f"def make({names}):\n  def match(f):\n    return {expression}\n  return match\n"
        factory = self.factories.get(text)
        if factory is None:
            factory = compile_function("make", text, dict(_FUNCTIONS), "match")
            self.factories[text] = factory
        return factory(*source.values)


class _Source:
    """An expression, and the values that it names."""

    def __init__(self, compiler: _Compiler) -> None:
        self._compiler = compiler
        self.values: list[object] = []

    def of(self, node: Node) -> str:
        if isinstance(node, All):
            return self._every(node.parts)
        if isinstance(node, Any):
            return self._some(node.parts)
        if isinstance(node, Not):
            return f"(not {self.of(node.part)})"
        if isinstance(node, Numbers):
            return self._numbers(node)
        if isinstance(node, Addresses):
            return self._addresses(node)
        if isinstance(node, Bits):
            return self._bits(node)
        names = self._name(frozenset(node.values))
        return f"((x := f.helper) is not None and x.name in {names})"

    def _every(self, parts: Sequence[Node]) -> str:
        denied = [_opposite(part) for part in parts if _is_denial(part)]
        if len(denied) >= _FEW:
            texts = [self.of(part) for part in parts if not _is_denial(part)]
            texts.append(f"not {self._some(denied)}")
        else:
            texts = [self.of(part) for part in parts]
        return f"({_AND.join(texts)})" if texts else "True"

    def _some(self, parts: Sequence[Node]) -> str:
        rest = list(_alternatives(parts))
        texts: list[str] = []
        if len(rest) >= _FEW:
            tables, rest = _indexed(rest)
            spread = [each for part in rest for each in _spread(part)]
            if len(spread) > len(rest):
                more, rest = _indexed(spread)
                tables += more
            sections, rest = _in_sections(_joined(rest))
            texts += [self._found(table) for table in tables]
            texts += [self._found_between(each) for each in sections]
            bits, rest = _by_mask(rest)
            texts += [self._any_bits(*each) for each in bits]
        texts += [self.of(part) for part in rest]
        return f"({_OR.join(texts)})" if texts else "False"

    def _found(self, table: _Index) -> str:
        """Whether what else the alternatives need holds, of those that the table has for a flow."""
        compile_ = self._compiler.compile
        found = {key: compile_(_any_of(rest)) for key, rest in table.alternatives.items()}
        read = ", ".join(map(self._read, table.fields))
        key = read if len(table.fields) == 1 else f"({read})"
        return f"((g := {self._name(found.get)}({key})) is not None and g(f))"

    def _found_between(self, sections: _Sections) -> str:
        """The same, of alternatives that are found by bisection."""
        compile_ = self._compiler.compile
        found = [compile_(_any_of(rest)) if rest else None for rest in sections.alternatives]
        find = self._name(partial(_section, sections.firsts, found))
        return f"((g := {find}({self._read(sections.field)})) is not None and g(f))"

    def _name(self, thing: object) -> str:
        self.values.append(thing)
        return f"c{len(self.values) - 1}"

    def _bits(self, node: Bits) -> str:
        value = self._name(node.value)
        if node.mask == (1 << node.field.width) - 1:
            return f"{self._read(node.field)} == {value}"
        mask = self._name(node.mask)
        if node.field is STATUS:  # the & of its enum takes ten times as long
            return f"((x := f.status) is not None and AND(x, {mask}) == {value})"
        return f"{self._read(node.field)} & {mask} == {value}"

    def _any_bits(self, field: BitsField, mask: int, values: frozenset[int]) -> str:
        read = "(f.status or 0)" if field is STATUS else self._read(field)
        return f"AND({read}, {self._name(mask)}) in {self._name(values)}"

    def _numbers(self, node: Numbers) -> str:
        value = self._read(node.field)
        if len(node.values) == 1:
            ((first, last),) = node.values
            if first == last:
                return f"{value} == {self._name(first)}"
            low, high = self._name(first), self._name(last)
            if not node.field.always:
                return f"((x := {value}) is not None and {low} <= x <= {high})"
            return f"{low} <= {value} <= {high}"
        if _count(node.values) <= _MOST_LISTED:
            return f"{value} in {self._name(frozenset(_all_in(node.values)))}"
        return f"{self._name(_Ranges(node.values).have)}({value})"

    def _addresses(self, node: Addresses) -> str:
        if _count(node.v4) + _count(node.v6) <= _MOST_LISTED:
            numbers = frozenset(_address_numbers(node))
            return f"{self._read(node.field)} in {self._name(numbers)}"
        within = self._name(partial(_within, _Ranges(node.v4), _Ranges(node.v6)))
        return f"{within}(f.{'.'.join(node.field.path)})"

    def _read(self, field: Field) -> str:
        """What a flow has of a field, or ``None``: as :func:`_values` has it."""
        if field is FAMILY:
            return "family(f.orig.src)"
        if field is STATE:
            return "state(f.protoinfo)"
        if field is ZONE:
            return "zone(f)"
        first, *rest = field.path or field.name.split(".")
        if rest == ["zone"]:
            return f"zone_of(f.{field.name}, f.zone)"
        if rest in (["src"], ["dst"]):
            return f"address(f.{first}.{rest[0]})"
        if first in ("orig", "reply"):
            return f"f.{first}.{rest[0]}"
        if first in ("mark", "labels"):
            return f"(f.{first} or 0)"
        if rest:  # of the counters and the helper
            return f"(None if (x := f.{first}) is None else x.{rest[0]})"
        return f"f.{first}"


# -- alternatives that are looked up ------------------------------------------------------------


class _Index:
    """Alternatives that need single values of the same fields."""

    def __init__(self, fields: tuple[Field, ...]) -> None:
        self.fields = fields
        self.alternatives: dict[object, list[Node]] = {}
        """By the value of the field, or the values of all: what else each alternative needs."""

    def add(self, values: Sequence[Sequence[object]], rest: Node) -> None:
        keys: Iterable[object] = product(*values) if len(values) > 1 else values[0]
        for key in keys:
            self.alternatives.setdefault(key, []).append(rest)


def _indexed(parts: Sequence[Node]) -> tuple[list[_Index], list[Node]]:
    """Tables of the alternatives that can be looked up, and the others."""
    found: dict[tuple[Field, ...], list[tuple[Node, dict[Field, Atom]]]] = {}
    rest: list[Node] = []
    for part in parts:
        single = _single_values(part)
        if single:
            found.setdefault(tuple(single), []).append((part, single))
        else:
            rest.append(part)
    tables: list[_Index] = []
    for fields, alternatives in found.items():
        if len(alternatives) < _FEW:
            rest += [part for part, _ in alternatives]
            continue
        table = _Index(fields)
        for part, single in alternatives:
            known = {id(each) for each in single.values()}
            left = tuple(each for each in _parts_of(part) if id(each) not in known)
            values = [list(_values(each)) for each in single.values()]
            table.add(values, left[0] if len(left) == 1 else All(left) if left else TRUE)
        tables.append(table)
    return tables, rest


def _parts_of(node: Node) -> tuple[Node, ...]:
    return node.parts if isinstance(node, All) else (node,)


def _single_values(part: Node) -> dict[Field, Atom]:
    """The conditions of an alternative that the field has one of few values, in a fixed order.

    All combinations of their values become keys. So that these are not too many, ranges are left to
    be compared, as are other sets where there are more of them; addresses tell most.
    """
    most = 64 + 4 * part.weight
    found = {
        each.field: each
        for each in _parts_of(part)
        if not isinstance(each, All | Any | Not) and 0 < _size(each) <= most
    }
    fields = sorted(
        found, key=lambda field: (field.path[-1:] not in (("src",), ("dst",)), field.name)
    )
    while prod(_size(found[field]) for field in fields) > most:
        fields.pop()
    return {field: found[field] for field in fields}


def _size(node: Atom) -> int:
    """How many values the field may have; 0, if it is not looked up by them."""
    if isinstance(node, Numbers):
        return _count(node.values)
    if isinstance(node, Addresses):
        return _count(node.v4) + _count(node.v6)
    if isinstance(node, Texts):
        return len(node.values)
    return int(node.field is MARK and node.mask == (1 << MARK.width) - 1)


def _values(node: Atom) -> Iterable[object]:
    """Those values, as :meth:`_Source._read` has them."""
    if isinstance(node, Numbers):
        return _all_in(node.values)
    if isinstance(node, Addresses):
        return _address_numbers(node)
    return node.values if isinstance(node, Texts) else (node.value,)


# -- alternatives that are found by bisection ---------------------------------------------------


class _Sections:
    """Alternatives that need ranges of one field, by the sections that their bounds make."""

    def __init__(
        self, field: Field, firsts: list[int], alternatives: list[tuple[Node, ...]]
    ) -> None:
        self.field = field
        self.firsts = firsts
        """Where each section begins; what is before the first has no alternative."""
        self.alternatives = alternatives
        """Of what is before the first, and of each section: what else the alternatives need."""


def _joined(parts: Sequence[Node]) -> list[Node]:
    """Join alternatives that differ in the ranges of one field alone."""
    found = list(dict.fromkeys(parts))
    for field in _ranged_fields(found):
        groups: dict[object, list[Node]] = {}
        for part in found:
            atom = _ranged(part, field)
            key = part if atom is None else (frozenset(_without(part, atom)),)
            groups.setdefault(key, []).append(part)
        if len(groups) == len(found):
            continue
        joined: list[Node] = []
        for same in groups.values():
            atoms = [atom for part in same if (atom := _ranged(part, field)) is not None]
            if len(atoms) < 2:
                joined += same
                continue
            rest = _without(same[0], atoms[0])
            joined.append(All((unite(atoms), *rest)) if rest else unite(atoms))
        found = joined
    return found


def _in_sections(parts: Sequence[Node]) -> tuple[list[_Sections], list[Node]]:
    """Tables of the alternatives that can be found by bisection, and the others."""
    rest = list(parts)
    tables: list[_Sections] = []
    for field in _ranged_fields(rest):
        found = [(part, atom) for part in rest if (atom := _ranged(part, field)) is not None]
        if len(found) < _FEW:
            continue
        table = _sections(field, found)
        if table is not None:
            tables.append(table)
            known = {id(part) for part, _ in found}
            rest = [part for part in rest if id(part) not in known]
    return tables, rest


def _sections(field: Field, found: Sequence[tuple[Node, Numbers | Addresses]]) -> _Sections | None:
    """The table of these; ``None`` where so many of them overlap that it would be large."""
    changes: dict[int, list[tuple[int, bool]]] = {}
    rests: list[Node] = []
    for number, (part, atom) in enumerate(found):
        rest = _without(part, atom)
        rests.append(rest[0] if len(rest) == 1 else All(rest) if rest else TRUE)
        for first, last in _all_ranges(atom):
            changes.setdefault(first, []).append((number, True))
            changes.setdefault(last + 1, []).append((number, False))
    firsts = sorted(changes)
    left = _MOST_OVERLAPPING * (len(found) + len(firsts))
    now: dict[int, None] = {}
    alternatives: list[tuple[Node, ...]] = [()]
    for first in firsts:
        for number, begins in sorted(changes[first], key=_begins):
            if begins:
                now[number] = None
            else:
                del now[number]
        left -= len(now)
        if left < 0:
            return None
        alternatives.append(tuple(rests[number] for number in now))
    return _Sections(field, firsts, alternatives)


def _begins(change: tuple[int, bool]) -> bool:
    return change[1]


def _all_ranges(node: Numbers | Addresses) -> Iterable[tuple[int, int]]:
    """The ranges of a condition, as :meth:`_Source._read` has the values."""
    if isinstance(node, Numbers):
        return node.values
    return (*node.v4, *((~last, ~first) for first, last in node.v6))


def _ranged_fields(parts: Sequence[Node]) -> list[Field]:
    """The fields of which any of the alternatives need ranges: addresses first."""
    found = {
        each.field: None
        for part in parts
        for each in _parts_of(part)
        if isinstance(each, Numbers | Addresses)
    }
    return sorted(found, key=lambda field: (not isinstance(field, AddressField), field.name))


def _ranged(part: Node, field: Field) -> Numbers | Addresses | None:
    """What an alternative needs of a field."""
    for each in _parts_of(part):
        if isinstance(each, Numbers | Addresses) and each.field is field:
            return each
    return None


def _without(part: Node, atom: Atom) -> tuple[Node, ...]:
    return tuple(each for each in _parts_of(part) if each is not atom)


def _section(
    firsts: list[int], found: list[Predicate | None], number: int | None
) -> Predicate | None:
    return None if number is None else found[bisect_right(firsts, number)]


def _by_mask(
    parts: Sequence[Node],
) -> tuple[list[tuple[BitsField, int, frozenset[int]]], list[Node]]:
    """The values that bits may have under one mask, and the other alternatives."""
    groups: dict[tuple[BitsField, int], list[int]] = {}
    for part in parts:
        if isinstance(part, Bits):
            groups.setdefault((part.field, part.mask), []).append(part.value)
    many = {key: frozenset(values) for key, values in groups.items() if len(values) >= _FEW}
    rest = [
        part for part in parts if not isinstance(part, Bits) or (part.field, part.mask) not in many
    ]
    return [(field, mask, values) for (field, mask), values in many.items()], rest


# -- forms --------------------------------------------------------------------------------------


def _alternatives(parts: Iterable[Node]) -> Iterable[Node]:
    """The parts, and those of parts that are alternatives themselves."""
    for part in parts:
        if isinstance(part, Any):
            yield from _alternatives(part.parts)
        elif isinstance(part, Not) and isinstance(part.part, All) and len(part.part.parts) >= _FEW:
            yield from _alternatives(map(_opposite, part.part.parts))
        else:
            yield part


def _spread(part: Node) -> Sequence[Node]:
    """``a and (b or c)`` as ``a and b``, ``a and c``, where that may be found by its values."""
    if not isinstance(part, All):
        return (part,)
    for each in part.parts:
        if not isinstance(each, Any) or len(each.parts) > _MOST_SPREAD:
            continue
        inner = [_parts_of(one) for one in each.parts]
        if all(any(isinstance(one, Numbers | Addresses) for one in ones) for ones in inner):
            rest = _without_node(part, each)
            return [All((*ones, *rest)) for ones in inner]
    return (part,)


def _without_node(part: All, node: Node) -> tuple[Node, ...]:
    return tuple(each for each in part.parts if each is not node)


def _is_denial(part: Node) -> bool:
    """Whether it says what does not hold, so that its opposite can be looked up."""
    if isinstance(part, Any):
        return bool(part.parts) and any(isinstance(each, Not) for each in part.parts)
    return isinstance(part, Not)


def _opposite(part: Node) -> Node:
    if isinstance(part, Any):
        return All(tuple(map(_opposite, part.parts)))
    return part.part if isinstance(part, Not) else Not(part)


def _any_of(parts: Sequence[Node]) -> Node:
    different = tuple(dict.fromkeys(parts)) if len(parts) > 1 else tuple(parts)
    if TRUE in different:
        return TRUE
    return different[0] if len(different) == 1 else Any(different)


# -- what the source calls ----------------------------------------------------------------------


def _count(values: Intervals) -> int:
    return sum(last - first + 1 for first, last in values)


def _all_in(values: Intervals) -> Iterable[int]:
    return (number for first, last in values for number in range(first, last + 1))


def _address_numbers(node: Addresses) -> Iterable[int]:
    """As :func:`_address` has them."""
    yield from _all_in(node.v4)
    yield from (~number for number in _all_in(node.v6))


def _always(flow: Flow) -> bool:
    return True


def _address(address: IPAddress) -> int:
    """One number for an address of either family."""
    return int(address) if isinstance(address, IPv4Address) else ~int(address)


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
    proto = _PROTOCOLS.get(type(info))
    if proto is None:  # of a subclass
        proto = next(number for kind, number in _PROTOCOLS.items() if isinstance(info, kind))
    return state_number(proto, info.state)


_PROTOCOLS: Final[dict[type[ProtoInfo], int]] = {TCPInfo: TCP, SCTPInfo: SCTP, DCCPInfo: DCCP}

_FUNCTIONS: Final = {
    "AND": int.__and__,
    "address": _address,
    "family": _family,
    "state": _state,
    "zone": _zone,
    "zone_of": _zone_of,
}
