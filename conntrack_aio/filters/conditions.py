"""The conditions that a match can be made of, as parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, TypedDict, cast

from ..errors import MatchError
from ..model.enums import Status
from ..model.labels import Label, LabelNames
from ..plain import describe_value
from . import values
from .fields import FIELDS, STATE, AddressField, Field, NumberField, TextField
from .nodes import Node
from .tree import every, negate
from .values import Masked, Network, Number, State
from .words import near

Numbers = Number | Iterable[Number]
"""A number, its text or a range of them, or any of several."""

Networks = Network | Iterable[Network]
"""An address or a network, or any of several."""

StatusBits = Status | int | str
"""Bits of the status: a flag, the number that has them, or their names with ``|`` between."""


class Conditions(TypedDict, total=False):
    """The parameters of :class:`~conntrack_aio.Match`."""

    family: Numbers | None
    proto: Numbers | None
    orig_src: Networks | None
    orig_dst: Networks | None
    orig_sport: Numbers | None
    orig_dport: Numbers | None
    orig_icmp_type: Numbers | None
    orig_icmp_code: Numbers | None
    orig_icmp_id: Numbers | None
    reply_src: Networks | None
    reply_dst: Networks | None
    reply_sport: Numbers | None
    reply_dport: Numbers | None
    reply_icmp_type: Numbers | None
    reply_icmp_code: Numbers | None
    reply_icmp_id: Numbers | None
    zone: Numbers | None
    orig_zone: Numbers | None
    reply_zone: Numbers | None
    mark: Masked | Iterable[Masked] | None
    mark_mask: Masked | None
    status: StatusBits | Iterable[StatusBits] | None
    status_unset: StatusBits | Iterable[StatusBits] | None
    state: State | Iterable[State] | None
    labels: Label | Iterable[Label] | None
    labels_all: Label | Iterable[Label] | None
    labels_mask: Masked | None
    label_names: LabelNames | None
    helper: str | Iterable[str] | None
    timeout: Numbers | None
    orig_packets: Numbers | None
    orig_bytes: Numbers | None
    reply_packets: Numbers | None
    reply_bytes: Numbers | None
    snat: Networks | bool | None
    dnat: Networks | bool | None
    id: Numbers | None


def node_of(given: Conditions) -> Node:
    """All of them, as one. Raises :exc:`MatchError` and :exc:`TypeError`."""
    told = {name: value for name, value in given.items() if value is not None}
    for name in told:
        if name not in Conditions.__annotations__:
            meant = near(name, Conditions.__annotations__)
            hint = f"; did you mean {', '.join(meant)}?" if meant else ""
            raise TypeError(f"unknown condition {describe_value(name)}{hint}")
    for name in ("mark", "labels"):
        if f"{name}_mask" in told and name not in told:
            raise MatchError(f"{name}_mask needs {name}: it says which of its bits count")
    names = values.Names(given.get("label_names"))
    return every(
        part for name, value in told.items() for part in _nodes_of(name, value, told, names)
    )


def _nodes_of(
    name: str, value: Any, told: Mapping[str, Any], names: values.Names
) -> Iterable[Node]:
    """The conditions that one parameter stands for."""
    if name in _MAKERS:
        yield _MAKERS[name](value)
    elif name in values.NAT:
        yield from _translated(name, value)
    elif name == "mark":
        yield values.marks(value, told.get("mark_mask"))
    elif name == "labels":
        yield values.labels(value, told.get("labels_mask"), names)
    elif name == "labels_all":
        yield values.labels_all(value, names)
    elif name in ("status", "status_unset"):
        yield values.status(name, value, unset=name == "status_unset")


def _translated(name: str, given: Networks | bool) -> Iterable[Node]:
    bit, end = values.NAT[name]
    translated = values.status_text(bit)
    yield translated if given is not False else negate(translated)
    if not isinstance(given, bool):
        yield values.addresses(cast("AddressField", FIELDS[end]), given)


def _maker(field: Field) -> Callable[[Any], Node] | None:
    if isinstance(field, NumberField):
        return values.states if field is STATE else partial(values.numbers, field)
    if isinstance(field, AddressField):
        return partial(values.addresses, field)
    return partial(values.texts, field) if isinstance(field, TextField) else None


_MAKERS: Final[Mapping[str, Callable[[Any], Node]]] = {
    field.keyword: make for field in FIELDS.values() if (make := _maker(field)) is not None
}
