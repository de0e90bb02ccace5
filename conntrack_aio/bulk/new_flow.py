"""A flow to create, with its translation: an item of a bulk operation."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from typing import TypeVar

import attrs

from ..model.enums import Status
from ..model.flow import Flow
from ..model.nat import NATRange, Translation, source_of
from ..model.tuples import AddressLike, Tuple
from ..model.values import describe_value


def as_range(value: NATRange | AddressLike | None) -> NATRange | None:
    """Return a translation as a range. Raises what :meth:`NATRange.of` raises."""
    return value if value is None or isinstance(value, NATRange) else NATRange.of(value)


@attrs.frozen
class NewFlow:
    """A flow to create, with its translation: an item of :meth:`Connection.create_many`.

    :raises ValueError: when a translation is text that is not an address.
    :raises TypeError: when a translation is not an address or a range.
    """

    flow: Flow
    """The flow. For a translation, its reply is the inverse of its original direction."""
    nat_src: NATRange | None = attrs.field(default=None, converter=as_range, kw_only=True)
    """Translate the source to this address, or to one of this range."""
    nat_dst: NATRange | None = attrs.field(default=None, converter=as_range, kw_only=True)
    """Translate the destination to this address, or to one of this range."""

    @classmethod
    def from_flow(cls, flow: Flow) -> NewFlow:
        """Return a new flow that creates this one again, with its translation.

        A flow that the kernel has decided about, as its status says, is copied, because its reply
        changes. Another flow is used as it is.
        """
        src, dst = _ranges_of(flow)
        if src is None and dst is None:
            return cls(flow)
        before = copy(flow)
        before.reply = flow.orig.inverse
        before.reply.zone = flow.reply.zone
        return cls(before, nat_src=src, nat_dst=dst)


def _ranges_of(flow: Flow) -> tuple[NATRange | None, NATRange | None]:
    """Return the translations that give a new entry the tuples and the NAT bits of a flow.

    Where a namespace has NAT, the kernel decides about each connection once and sets both DONE bits
    of its status. Without them, it applies the rules to each packet before the first reply. To set
    them for a flow that is not translated, its source is translated to itself
    (``nf_nat_setup_info``).
    """
    nat = flow.nat
    if nat is not None:
        return nat.src.range if nat.src else None, nat.dst.range if nat.dst else None
    decided = flow.status is not None and flow.status & Status.NAT_DONE_MASK
    if not decided or flow.reply.without_zone != flow.orig.inverse:
        return None, None
    source = source_of(flow.orig)
    return Translation(source, source).range, None


F = TypeVar("F", bound=Flow | NewFlow)


def masters_first(flows: Iterable[F]) -> list[F]:
    """Return the flows in an order in which :meth:`Connection.create_many` can create all of them.

    The kernel creates a related flow only if its master exists, the connection whose helper
    expected it (:attr:`Flow.master`). A dump has flows in any order. This function puts each flow
    after its master, if the master is among the flows, and otherwise keeps their order. It does
    not compare zones.

    :raises TypeError: when an item is neither a :class:`Flow` nor a :class:`NewFlow`.
    """
    items = list(flows)
    masters: dict[Tuple, int] = {}
    for index, item in enumerate(items):
        for tuple_ in (flow_of(item).orig, flow_of(item).reply):
            masters.setdefault(tuple_.without_zone, index)
    ordered: list[F] = []
    placed = [False] * len(items)
    for index in range(len(items)):
        # Go from the flow from master to master up to one that is placed; place them in reverse.
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
    """Return the flow that an item is to create.

    :raises TypeError: when an item is neither a :class:`Flow` nor a :class:`NewFlow`.
    """
    flow = item.flow if isinstance(item, NewFlow) else item
    if not isinstance(flow, Flow):
        raise TypeError(f"an entry is created from a Flow or a NewFlow; got {describe_value(item)}")
    return flow
