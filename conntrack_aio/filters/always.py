"""Find out whether every flow matches.

- :func:`is_always_true` searches for a flow that does not match. It assumes that the match is
  false, and derives what this implies for each field. If every case is a contradiction, every flow
  matches.
- Flows are assumed to be like entries of the kernel: a flow has one family, and ports, ICMP types
  and states only as its protocol has them.
- The search is bounded. If it ends without a result, the answer is no. So the answer no can be
  wrong for an intricate match, and the answer yes never is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from .assumptions import Assumptions
from .fields import (
    FAMILIES,
    FAMILY,
    FIELDS,
    PROTO,
    ZONE,
    ZONES,
    AddressField,
    BitsField,
    MatchField,
    all_values,
)
from .intervals import Interval, Intervals, difference, normalize
from .memberships import V4, V6
from .nodes import (
    FALSE,
    TRUE,
    Addresses,
    AllOf,
    AnyOf,
    Bits,
    Node,
    Not,
    Numbers,
    Ranged,
    Texts,
    atoms,
)

_MIN_STEPS: Final = 20_000
"""How many ranges, networks and names the search may examine, for any match."""

_STEPS_PER_WEIGHT: Final = 12
"""How many more it may examine for each range, network and name of the match."""

_MAX_DEPTH: Final = 100
"""How many assumptions may depend on each other."""

_Literal = tuple[Node, bool]
"""A condition, and whether it holds."""


def is_always_true(node: Node) -> bool:
    """Return whether a bounded search finds that every flow matches."""
    if node in (TRUE, FALSE):
        return node == TRUE
    if any(not _holds(node, flow) for flow in _samples(node)):
        return False
    try:
        search = _Search(_MIN_STEPS + _STEPS_PER_WEIGHT * node.weight)
        return search.is_impossible(Assumptions(), [(node, False)], [], 0)
    except _TooManySteps:
        return False


# -- sample flows -------------------------------------------------------------------------------


def _samples(node: Node) -> Iterable[dict[MatchField, int | None]]:
    """Yield the values of flows that meet few conditions, so that most matches are false."""
    for version in (4, 6):
        yield _flow(version, {})
    mentioned: dict[MatchField, list[Ranged]] = {}
    for condition in atoms(node):
        if isinstance(condition, Addresses) or condition.field in (PROTO, ZONE, *ZONES):
            assert isinstance(condition, Numbers | Addresses)
            mentioned.setdefault(condition.field, []).append(condition)
    for version in (4, 6):
        yield _flow(version, mentioned)


def _flow(
    version: int, mentioned: Mapping[MatchField, Sequence[Ranged]]
) -> dict[MatchField, int | None]:
    """Return the values of a flow that avoids the values of conditions, if other values exist.

    :param version: the IP version of the flow.
    :param mentioned: the conditions, by field.
    """
    flow: dict[MatchField, int | None] = dict.fromkeys(FIELDS.values())
    flow[FAMILY] = FAMILIES[version == 6][0]
    for field in FIELDS.values():
        if isinstance(field, BitsField):
            flow[field] = 0
        elif isinstance(field, AddressField):
            conditions = [node for node in mentioned.get(field, ()) if isinstance(node, Addresses)]
            sets = (node.v4 if version == 4 else node.v6 for node in conditions)
            ranges = (interval for values in sets for interval in values)
            value = _outside(V4 if version == 4 else V6, ranges)
            flow[field] = value if version == 4 else ~value
    flow[PROTO] = _outside(all_values(PROTO), _ranges(mentioned.get(PROTO, ())))
    zones = [node for field in (ZONE, *ZONES) for node in mentioned.get(field, ())]
    zone = _outside(all_values(ZONE), _ranges(zones))
    flow |= dict.fromkeys((ZONE, *ZONES), zone)
    return flow


def _ranges(nodes: Iterable[Ranged]) -> Iterable[Interval]:
    return (interval for node in nodes if isinstance(node, Numbers) for interval in node.values)


def _outside(possible: Intervals, excluded: Iterable[Interval]) -> int:
    """Return a possible number that is not excluded, or any if all are excluded."""
    remaining = difference(possible, normalize(excluded))
    return remaining[-1][1] if remaining else possible[-1][1]


def _holds(node: Node, flow: dict[MatchField, int | None]) -> bool:
    """Return whether a node holds for the values of a flow, in which IPv6 addresses are negative.

    A flow has no texts here.
    """
    if isinstance(node, AllOf | AnyOf):
        decisive = isinstance(node, AnyOf)
        for part in node.parts:  # all() and any() take longer
            if _holds(part, flow) is decisive:
                return decisive
        return not decisive
    if isinstance(node, Not):
        return not _holds(node.part, flow)
    value = flow[node.field]
    if value is None or isinstance(node, Texts):
        return False
    if isinstance(node, Bits):
        return value & node.mask == node.value
    if isinstance(node, Addresses):
        return _contains(node.v4, value) if value >= 0 else _contains(node.v6, ~value)
    return _contains(node.values, value)


def _contains(values: Intervals, number: int) -> bool:
    at = bisect_right(values, (number + 1,)) - 1
    return at >= 0 and values[at][0] <= number <= values[at][1]


# -- the search ---------------------------------------------------------------------------------


class _TooManySteps(Exception):
    """The search has reached its bound."""


class _Search:
    """A search for a flow, with a bounded number of steps."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def is_impossible(
        self,
        known: Assumptions,
        required: list[_Literal],
        choices: list[list[_Literal]],
        depth: int,
    ) -> bool:
        """Return whether no flow can meet all assumptions. The arguments are modified.

        :param known: what is assumed of the fields so far.
        :param required: literals that have to hold, too.
        :param choices: lists of literals; of each list, one has to hold.
        :param depth: how many cases are nested.
        """
        if depth > _MAX_DEPTH:
            raise _TooManySteps
        while required:
            if not self._assume(known, required, choices):
                return True
            undecided: list[list[_Literal]] = []
            for choice in choices:
                possible = self._possible(known, choice)
                if possible is None:
                    continue
                if not possible:
                    return True
                if len(possible) == 1:
                    required += possible
                else:
                    undecided.append(possible)
            choices = undecided
        if not known.has_possible_bits(self._spend):
            return True
        if not choices:
            return False
        shortest = min(choices, key=len)
        choices = [choice for choice in choices if choice is not shortest]
        excluded: list[_Literal] = []
        for node, holds in shortest:
            self._spend(len(choices) + known.size)
            if not self.is_impossible(
                known.copy(), [(node, holds), *excluded], choices.copy(), depth + 1
            ):
                return False
            excluded.append((node, not holds))
        return True

    def _spend(self, steps: int) -> None:
        """Count steps, and raise :exc:`_TooManySteps` beyond the bound."""
        self._steps -= steps
        if self._steps < 0:
            raise _TooManySteps

    def _assume(
        self, known: Assumptions, required: list[_Literal], choices: list[list[_Literal]]
    ) -> bool:
        """Add the required literals to the assumptions; return ``False`` for a contradiction.

        A literal that requires one of several parts is added to the choices.
        """
        while required:
            self._spend(1)
            node, holds = required.pop()
            if isinstance(node, Not):
                required.append((node.part, not holds))
                continue
            before = known.nodes.get(node)
            if before is not None:
                if before is not holds:
                    return False
                continue
            known.nodes[node] = holds
            if isinstance(node, AllOf | AnyOf):
                parts = [(part, holds) for part in node.parts]
                if isinstance(node, AllOf) is holds:
                    required += parts
                else:
                    choices.append(parts)
            else:
                self._spend(node.weight)
                if not known.assume(node, holds):
                    return False
        return True

    def _possible(self, known: Assumptions, choice: list[_Literal]) -> list[_Literal] | None:
        """Return the literals that may hold; ``None`` if one is known to hold."""
        found: list[_Literal] = []
        for node, holds in choice:
            value = self._value(known, node)
            if value is holds:
                return None
            if value is None:
                found.append((node, holds))
        return found

    def _value(self, known: Assumptions, node: Node) -> bool | None:
        """Return whether a node holds; ``None`` if that is not known."""
        self._spend(1)
        if isinstance(node, Not):
            value = self._value(known, node.part)
            return None if value is None else not value
        before = known.nodes.get(node)
        if before is not None:
            return before
        if not isinstance(node, AllOf | AnyOf):
            self._spend(node.weight)
            return known.value(node)
        decisive = isinstance(node, AnyOf)
        result: bool | None = not decisive
        for part in node.parts:
            value = self._value(known, part)
            if value is decisive:
                return value
            if value is None:
                result = None
        return result
