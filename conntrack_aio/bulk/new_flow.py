"""An entry that is to be made, as an item among many."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from typing import TypeVar

import attrs

from ..model.flow import Flow
from ..model.nat import NATRange
from ..model.tuples import AddressLike, Tuple
from ..model.values import describe_value


def as_range(value: NATRange | AddressLike | None) -> NATRange | None:
    """What to translate to, of whatever form. Raises what :meth:`NATRange.of` does."""
    return value if value is None or isinstance(value, NATRange) else NATRange.of(value)


@attrs.frozen
class NewFlow:
    """An entry to make, with its translation: an item of :meth:`Connection.create_many`.

    Raises :exc:`ValueError` or :exc:`TypeError` for a translation to what is no address.
    """

    flow: Flow
    """Its reply is the inverse of its original direction, where it is to be translated."""
    nat_src: NATRange | None = attrs.field(default=None, converter=as_range, kw_only=True)
    """Translate its source to this address, or to one of this range."""
    nat_dst: NATRange | None = attrs.field(default=None, converter=as_range, kw_only=True)
    """Translate its destination."""

    @classmethod
    def from_flow(cls, flow: Flow) -> NewFlow:
        """What makes a flow that was read once more, with the translation that it had.

        A flow with a translation is copied, for its reply; another is taken as it is.
        """
        nat = flow.nat
        if nat is None:
            return cls(flow)
        before = copy(flow)
        before.reply = flow.orig.inverse
        before.reply.zone = flow.reply.zone
        return cls(
            before,
            nat_src=nat.src.range if nat.src else None,
            nat_dst=nat.dst.range if nat.dst else None,
        )


F = TypeVar("F", bound=Flow | NewFlow)


def masters_first(flows: Iterable[F]) -> list[F]:
    """Return the flows in an order in which :meth:`Connection.create_many` can make them all.

    The kernel makes a related flow only if its master is there (the connection that it was
    expected by, :attr:`Flow.master`), and a dump has flows in any order. Here each flow stands
    behind its master, if that is among them. Otherwise their order is kept. Zones are not compared.

    :raises TypeError: for an item that is neither a :class:`Flow` nor a :class:`NewFlow`.
    """
    items = list(flows)
    masters: dict[Tuple, int] = {}
    for index, item in enumerate(items):
        for tuple_ in (flow_of(item).orig, flow_of(item).reply):
            masters.setdefault(tuple_.without_zone, index)
    ordered: list[F] = []
    placed = [False] * len(items)
    for index in range(len(items)):
        # From the flow up to the first master that has its place, and down again.
        chain: list[int] = []
        at: int | None = index
        while at is not None and not placed[at]:
            placed[at] = True
            chain.append(at)
            master = flow_of(items[at]).master
            at = None if master is None else masters.get(master.without_zone)
        ordered += [items[each] for each in reversed(chain)]
    return ordered


def flow_of(item: object) -> Flow:
    """Return the flow that an item is to make. Raises :exc:`TypeError` for what is none."""
    flow = item.flow if isinstance(item, NewFlow) else item
    if not isinstance(flow, Flow):
        raise TypeError(f"a new entry is made of a Flow or a NewFlow, not {describe_value(item)}")
    return flow
