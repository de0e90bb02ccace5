"""Define the keyword arguments of a match, and convert them to conditions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias, TypedDict, TypeVar, cast

from ..errors import MatchError
from ..model.enums import Status
from ..model.labels import Label, LabelNames
from ..plain import describe_value
from ..suggestions import suggestion
from .address_values import Network, address_condition
from .bit_values import (
    TRANSLATIONS,
    LabelBits,
    MaskedNumber,
    labels_all_condition,
    labels_condition,
    mark_condition,
    parse_status,
    status_condition,
)
from .fields import FIELDS, STATE, AddressField, MatchField, NumberField, TextField
from .name_values import State, state_condition, text_condition
from .nodes import Node
from .number_values import Number, number_condition
from .tree import all_of, negate

T = TypeVar("T")

OneOrMore: TypeAlias = T | Iterable[T]
"""A value, or an iterable of values of which one must hold."""

StatusBits = Status | int | str
"""Bits of the status: a flag, the number that has them, or their names with ``|`` between."""


class Conditions(TypedDict, total=False):
    """The keyword arguments of :class:`~conntrack_aio.Match`. ``None`` is no condition."""

    family: OneOrMore[Number] | None
    proto: OneOrMore[Number] | None
    orig_src: OneOrMore[Network] | None
    orig_dst: OneOrMore[Network] | None
    orig_sport: OneOrMore[Number] | None
    orig_dport: OneOrMore[Number] | None
    orig_icmp_type: OneOrMore[Number] | None
    orig_icmp_code: OneOrMore[Number] | None
    orig_icmp_id: OneOrMore[Number] | None
    reply_src: OneOrMore[Network] | None
    reply_dst: OneOrMore[Network] | None
    reply_sport: OneOrMore[Number] | None
    reply_dport: OneOrMore[Number] | None
    reply_icmp_type: OneOrMore[Number] | None
    reply_icmp_code: OneOrMore[Number] | None
    reply_icmp_id: OneOrMore[Number] | None
    zone: OneOrMore[Number] | None
    orig_zone: OneOrMore[Number] | None
    reply_zone: OneOrMore[Number] | None
    mark: OneOrMore[MaskedNumber] | None
    mark_mask: MaskedNumber | None
    status: OneOrMore[StatusBits] | None
    status_unset: OneOrMore[StatusBits] | None
    state: OneOrMore[State] | None
    labels: OneOrMore[Label] | None
    labels_all: OneOrMore[Label] | None
    labels_mask: MaskedNumber | None
    label_names: LabelNames | None
    helper: OneOrMore[str] | None
    timeout: OneOrMore[Number] | None
    orig_packets: OneOrMore[Number] | None
    orig_bytes: OneOrMore[Number] | None
    reply_packets: OneOrMore[Number] | None
    reply_bytes: OneOrMore[Number] | None
    snat: OneOrMore[Network] | bool | None
    dnat: OneOrMore[Network] | bool | None
    id: OneOrMore[Number] | None


def node_of(given: Conditions) -> Node:
    """Return the node that holds where all given conditions hold.

    :raises MatchError: when a value is not possible, and when conditions exclude each other.
    :raises TypeError: when a keyword is unknown, and when a value is of another type.
    """
    present = {name: value for name, value in given.items() if value is not None}
    for name in present:
        if name not in Conditions.__annotations__:
            hint = suggestion(name, Conditions.__annotations__)
            raise TypeError(f"unknown condition {describe_value(name)}{hint}")
    for name in ("mark", "labels"):
        if f"{name}_mask" in present and name not in present:
            raise MatchError(f"{name}_mask needs {name}: the mask selects the bits to compare")
    bits = LabelBits(given.get("label_names"))
    return all_of(
        node for name, value in present.items() for node in _nodes_of(name, value, present, bits)
    )


def _nodes_of(name: str, value: Any, present: Mapping[str, Any], bits: LabelBits) -> Iterable[Node]:
    """Yield the conditions that one keyword stands for.

    :param name: the keyword.
    :param value: its value.
    :param present: all keywords that are given: a mask is a keyword of its own.
    :param bits: the bits of named labels.
    """
    if name in _CONVERTERS:
        yield _CONVERTERS[name](value)
    elif name in TRANSLATIONS:
        yield from _translation(name, value)
    elif name == "mark":
        yield mark_condition(value, present.get("mark_mask"))
    elif name == "labels":
        yield labels_condition(value, present.get("labels_mask"), bits)
    elif name == "labels_all":
        yield labels_all_condition(value, bits)
    elif name in ("status", "status_unset"):
        yield status_condition(name, value, unset=name == "status_unset")


def _translation(name: str, given: OneOrMore[Network] | bool) -> Iterable[Node]:
    bit, address, _ = TRANSLATIONS[name]
    translated = parse_status(bit)
    yield translated if given is not False else negate(translated)
    if not isinstance(given, bool):
        yield address_condition(cast("AddressField", FIELDS[address]), given)


def _converter(field: MatchField) -> Callable[[Any], Node] | None:
    """Return the function that converts the values of a field; ``None`` for a field of bits."""
    if isinstance(field, NumberField):
        return state_condition if field is STATE else partial(number_condition, field)
    if isinstance(field, AddressField):
        return partial(address_condition, field)
    return partial(text_condition, field) if isinstance(field, TextField) else None


_CONVERTERS: Final[Mapping[str, Callable[[Any], Node]]] = {
    field.keyword: convert
    for field in FIELDS.values()
    if (convert := _converter(field)) is not None
}
"""The function that converts the values of a field, by keyword. Fields of bits have none here."""
