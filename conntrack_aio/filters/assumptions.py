"""Collect assumptions about the fields of a flow, and detect that they contradict each other.

:mod:`.always` searches for a flow that does not match. Each step assumes that a condition holds, or
that it does not. For each field, :class:`Assumptions` keeps the values that remain possible. If
none remains for some field, no such flow exists.
"""

from __future__ import annotations

from collections.abc import Callable

from .fields import (
    FAMILIES,
    FAMILY,
    LABEL,
    PROTO,
    ZONE,
    ZONES,
    AddressField,
    BitsField,
    MatchField,
    NumberField,
    all_values,
)
from .intervals import Intervals, difference, intersection
from .memberships import V4, V6, protocols_of
from .nodes import Addresses, Atom, Bits, Node, Numbers, Texts


class Assumptions:
    """Assumptions about the fields of one flow."""

    def __init__(self) -> None:
        self.nodes: dict[Node, bool] = {}
        """The nodes that are assumed to hold or not to hold."""
        self._versions = {4, 6}
        """The IP versions that are possible."""
        self._numbers: dict[NumberField, tuple[Intervals, bool]] = {}
        """The possible values, and whether an absent value is possible."""
        self._addresses: dict[AddressField, tuple[Intervals, Intervals]] = {}
        """The possible IPv4 addresses, and the possible IPv6 addresses."""
        self._texts: dict[MatchField, tuple[frozenset[str] | None, frozenset[str]]] = {}
        """The possible texts, or ``None`` for any; and the excluded texts."""
        self._bits: dict[BitsField, tuple[int, int]] = {}
        """The mask of the known bits, and their values."""
        self._excluded_bits: dict[BitsField, list[tuple[int, int]]] = {}
        """Masks, and the values that the bits do not have under them."""

    @property
    def size(self) -> int:
        """The cost of copying, in steps."""
        return len(self.nodes) // 16 + 1

    def copy(self) -> Assumptions:
        """Return a copy, for one of several cases."""
        other = Assumptions()
        other.nodes = self.nodes.copy()
        other._versions = self._versions.copy()
        other._numbers = self._numbers.copy()
        other._addresses = self._addresses.copy()
        other._texts = self._texts.copy()
        other._bits = self._bits.copy()
        other._excluded_bits = {
            field: excluded.copy() for field, excluded in self._excluded_bits.items()
        }
        return other

    # -- whether a condition holds --------------------------------------------------------------

    def value(self, node: Atom) -> bool | None:
        """Return whether a condition holds; ``None`` if that is not known."""
        if isinstance(node, Bits):
            mask, value = self._bits.get(node.field, (0, 0))
            if (value ^ node.value) & mask & node.mask:
                return False
            return None if node.mask & ~mask else True
        if isinstance(node, Texts):
            only, excluded = self._texts.get(node.field, (None, frozenset()))
            possible = {*node.values} - excluded if only is None else only & {*node.values}
            if not possible:
                return False
            return True if only is not None and only <= {*node.values} else None
        if isinstance(node, Addresses):
            v4, v6 = self._possible_addresses(node.field)
            common4, common6 = intersection(v4, node.v4), intersection(v6, node.v6)
            if not common4 and not common6:
                return False
            return True if (common4, common6) == (v4, v6) else None
        values, maybe_absent = self._possible_numbers(node.field)
        common = intersection(values, node.values)
        if not common or not self._may_have_field(node):
            return False
        return None if maybe_absent or common != values else True

    def _possible_addresses(self, field: AddressField) -> tuple[Intervals, Intervals]:
        v4, v6 = self._addresses.get(field, (V4, V6))
        return v4 if 4 in self._versions else (), v6 if 6 in self._versions else ()

    def _possible_numbers(self, field: NumberField) -> tuple[Intervals, bool]:
        """Return the possible values, and whether the value may be absent."""
        if field is FAMILY:
            return tuple(FAMILIES[at] for at, v in enumerate((4, 6)) if v in self._versions), False
        return self._numbers.get(field) or (all_values(field), not field.always_present)

    def _may_have_field(self, node: Numbers) -> bool:
        """Return whether a possible protocol has the field."""
        protocols = None if node.field is PROTO else protocols_of(node)
        return protocols is None or bool(intersection(self._possible_numbers(PROTO)[0], protocols))

    # -- adding an assumption -------------------------------------------------------------------

    def assume(self, node: Atom, holds: bool) -> bool:
        """Assume that a condition holds, or that it does not.

        :returns: ``False`` for a contradiction.
        """
        value = self.value(node)
        if value is not None:
            if value is holds and isinstance(node, Numbers) and holds:
                return self._assume_implied(node)
            return value is holds
        if isinstance(node, Bits):
            return self._assume_bits(node, holds)
        if isinstance(node, Texts):
            only, excluded = self._texts.get(node.field, (None, frozenset()))
            texts = frozenset(node.values)
            if holds:
                only = texts - excluded if only is None else only & texts
            else:
                only, excluded = only if only is None else only - texts, excluded | texts
            self._texts[node.field] = only, excluded
            return only is None or bool(only)
        if isinstance(node, Addresses):
            return self._assume_addresses(node, holds)
        values, maybe_absent = self._possible_numbers(node.field)
        if holds:
            values, maybe_absent = intersection(values, node.values), False
        else:
            values = difference(values, node.values)
        if not values and not maybe_absent:
            return False
        if node.field is FAMILY:
            self._versions = {4 if family == FAMILIES[0] else 6 for family in values}
            return self._exclude_versions()
        self._numbers[node.field] = values, maybe_absent
        return not holds or self._assume_implied(Numbers(node.field, values))

    def _assume_implied(self, node: Numbers) -> bool:
        """Assume what the presence of a number implies for other fields."""
        if node.field is ZONE:
            return all(self.assume(Numbers(side, node.values), True) for side in ZONES)
        protocols = None if node.field is PROTO else protocols_of(node)
        return protocols is None or self.assume(Numbers(PROTO, protocols), True)

    def _assume_addresses(self, node: Addresses, holds: bool) -> bool:
        v4, v6 = self._possible_addresses(node.field)
        change = intersection if holds else difference
        self._addresses[node.field] = change(v4, node.v4), change(v6, node.v6)
        return self._exclude_versions()

    def _exclude_versions(self) -> bool:
        """Exclude the IP versions of which no address is possible for some field.

        :returns: ``False`` if no version remains.
        """
        for v4, v6 in self._addresses.values():
            self._versions -= {version for version, values in ((4, v4), (6, v6)) if not values}
        return bool(self._versions)

    def _assume_bits(self, node: Bits, holds: bool) -> bool:
        """Assume that a condition on bits holds, or that it does not (see :meth:`assume`)."""
        field = node.field
        excluded = self._excluded_bits.setdefault(field, [])
        if not holds:
            excluded.append((node.mask, node.value))
            known, _ = self._bits.get(field, (0, 0))
            if (node.mask & ~known).bit_count() > 1:
                return True
        else:
            known, bits = self._bits.get(field, (0, 0))
            self._bits[field] = known | node.mask, bits | node.value
        # If all bits of a mask but one are known and have the excluded value, the last bit must
        # differ from it. That may decide further masks.
        while True:
            known, bits = self._bits.get(field, (0, 0))
            remaining: list[tuple[int, int]] = []
            for mask, value in excluded:
                unknown = mask & ~known
                if (value ^ bits) & mask & known:
                    continue
                if not unknown:
                    return False
                if unknown.bit_count() == 1:
                    known, bits = known | unknown, bits | (~value & unknown)
                else:
                    remaining.append((mask, value))
            excluded[:] = remaining
            if known == self._bits.get(field, (0, 0))[0]:
                return True
            self._bits[field] = known, bits

    def has_possible_bits(self, spend: Callable[[int], None]) -> bool:
        """Return whether each field of bits has a value that is not excluded.

        :param spend: counts steps of the search.
        """
        for field, excluded in self._excluded_bits.items():
            known, bits = self._bits.get(field, (0, 0))
            if _excludes_all(
                {
                    (mask & ~known, value & ~known)
                    for mask, value in excluded
                    if not (value ^ bits) & mask & known
                },
                spend,
            ):
                return False
        return True


def _excludes_all(excluded: set[tuple[int, int]], spend: Callable[[int], None]) -> bool:
    """Return whether every value of the bits is excluded.

    :param excluded: masks, and the values that the bits must not have under them.
    :param spend: counts steps of the search.
    """
    spend(len(excluded))
    if any(not mask for mask, _ in excluded):
        return True
    widest = max((mask.bit_count() for mask, _ in excluded), default=0)
    if sum(1 << widest - mask.bit_count() for mask, _ in excluded) < 1 << widest:
        return False  # they exclude fewer values than there are
    if len({mask for mask, _ in excluded}) == 1:
        return True  # they exclude different values, and as many as there are
    # Split by the bit that most masks have. The values of both halves must be excluded.
    bit = 1 << max(range(LABEL.width), key=lambda at: sum(mask >> at & 1 for mask, _ in excluded))
    return all(
        _excludes_all(
            {
                (mask & ~bit, value & ~bit)
                for mask, value in excluded
                if not mask & bit or value & bit == half
            },
            spend,
        )
        for half in (0, bit)
    )
