"""The conditions that a match can be made of, as parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, TypedDict, cast

from ..errors import MatchError
from ..model.flow import Status
from ..model.labels import Label, LabelNames
from . import values
from .fields import FIELDS, STATE, AddressField, Field, NumberField, TextField
from .nodes import Node
from .tree import every, negate
from .values import Network, Number, State
from .words import near

Numbers = Number | Iterable[Number]
"""A number, its text or a range of them, or any of several."""

Networks = Network | Iterable[Network]
"""An address or a network, or any of several."""


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
    mark: int | None
    mark_mask: int | None
    status: Status | None
    status_unset: Status | None
    state: State | Iterable[State] | None
    labels: Label | Iterable[Label] | None
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
            hint = f"; perhaps {', '.join(meant)}" if meant else ""
            raise TypeError(f"a Match has no condition {name!r}{hint}")
    if "mark_mask" in told and "mark" not in told:
        raise MatchError("mark_mask says which bits of a mark count, and there is no mark")
    return every(part for name, value in told.items() for part in _nodes_of(name, value, given))


def _nodes_of(name: str, value: object, given: Conditions) -> Iterable[Node]:
    """The conditions that one parameter stands for."""
    if name in _MAKERS:
        yield _MAKERS[name](value)
    elif name in values.NAT:
        yield from _translated(name, cast("Networks | bool", value))
    elif name == "mark":
        yield values.mark(cast("int", value), given.get("mark_mask"))
    elif name == "labels":
        yield from values.labels(cast("Label | Iterable[Label]", value), given.get("label_names"))
    elif name.startswith("status"):
        for bit in values.status(cast("Status", value)):
            yield bit if name == "status" else negate(bit)


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
