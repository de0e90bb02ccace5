"""An entry that is to be made, as an item among many."""

from __future__ import annotations

from copy import copy

import attrs

from ..model.flow import Flow
from ..model.nat import NATRange
from ..model.tuples import AddressLike


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
    def again(cls, flow: Flow) -> NewFlow:
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
