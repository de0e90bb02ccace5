"""Say which words can follow one another in the text of a match."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from ...filters.bit_values import STATUS_KEYWORDS, TRANSLATIONS
from ...filters.fields import FIELDS, STATE, STATES, BitsField, NumberField
from ...model.protocols import DCCP, GRE, ICMP, ICMPV6, PROTOCOL_NUMBERS, SCTP, TCP, UDP, UDPLITE

TRACKED_PROTOCOLS: Final = tuple(
    name
    for name, number in PROTOCOL_NUMBERS.items()
    if number in (TCP, UDP, UDPLITE, SCTP, DCCP, ICMP, ICMPV6, GRE)
)
"""The protocols of which the kernel tracks more than addresses. All 143 would be too many."""

EQUALITY: Final = ("in", "=", "==", "!=")
"""The words between a field and its value."""

COMPARISONS: Final = (">=", "<=", ">", "<")
"""The words between a field and a number."""


class MatchWords(NamedTuple):
    """The words of matches."""

    conditions: tuple[str, ...]
    """The words that a condition can begin with."""
    keywords: tuple[str, ...]
    """The words that are conditions by themselves."""
    translations: tuple[str, ...]
    """The conditions by themselves that ``to`` can follow."""
    fields: Mapping[str, tuple[str, ...]]
    """The names of values of each field."""


def match_words() -> MatchWords:
    """Return the words of matches."""
    keywords = (*dict.fromkeys(STATUS_KEYWORDS.values()), "all", "none")
    return MatchWords(
        conditions=(*FIELDS, *TRANSLATIONS, *keywords, "not"),
        keywords=keywords,
        translations=tuple(TRANSLATIONS),
        fields={name: _value_names(name) for name in FIELDS},
    )


def _value_names(name: str) -> tuple[str, ...]:
    field = FIELDS[name]
    if name == "proto":
        return TRACKED_PROTOCOLS
    if field is STATE:
        return tuple(dict.fromkeys(state for names in STATES.values() for state in names))
    if isinstance(field, NumberField | BitsField):
        return tuple(field.names)
    return ()
