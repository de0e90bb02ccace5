"""Targets of requests, and the keys by which the kernel finds an entry."""

from __future__ import annotations

from typing import Literal, NamedTuple

from ...errors import EncodeError
from ...model.flow import Flow
from ...model.tuples import Tuple
from ...model.values import describe_value, plain_number
from .common import as_argument, plain_id

Target = Flow | Tuple


def lookup(target: Target, zone: int | None) -> tuple[Tuple, int | None]:
    """Return the tuple and the zone by which the kernel finds a target.

    A zone of one direction is sent as the zone of both: the kernel compares the zone of the
    direction in which it finds the tuple, and a zone inside the original tuple counts only for that
    direction.

    :raises TypeError: when the target is neither a :class:`Flow` nor a :class:`Tuple`.
    :raises EncodeError: when the tuple is incomplete, or when a value is not valid.
    """
    target = as_target(target)
    found, own = (target.orig, target.zone) if isinstance(target, Flow) else (target, None)
    check_tuple(found, "orig" if isinstance(target, Flow) else None)
    if zone is None:
        if own and found.zone:
            raise EncodeError(
                "the tuple has one zone and the flow another; give one of them", ("orig", "zone")
            )
        zone = found.zone if found.zone is not None else own
    return found.without_zone, None if zone is None else plain_number(zone, "zone")


def as_target(target: object) -> Target:
    """Return a target with plain values.

    :raises TypeError: when the target is neither a :class:`Flow` nor a :class:`Tuple`.
    :raises EncodeError: when the target cannot be read.
    """
    if issubclass(type(target), Tuple):
        return as_argument(target, Tuple, "")
    wanted = "a target must be a Flow, or the Tuple of either direction"
    if isinstance(target, str):
        wanted += " (Tuple.tcp(…) makes one)"
    return as_argument(target, Flow, wanted)


def id_of(target: Target) -> int | None:
    """Return the id of the entry that a target means; ``None`` if any entry will do.

    :raises EncodeError: when the id of the target is not valid.
    """
    return plain_id(target.id) if isinstance(target, Flow) else None


def check_tuple(found: object, path: str | None) -> None:
    """Check that a tuple can be the tuple of an entry.

    :raises EncodeError: when the value is not a :class:`Tuple`, or when the tuple is incomplete.
    """
    above = () if path is None else (path,)
    if not isinstance(found, Tuple):
        raise EncodeError(f"{describe_value(found)} is not a Tuple", above)
    try:
        found.require_complete()
    except EncodeError as error:
        raise EncodeError(error.reason, (*above, *error.path)) from None


class EntryKey(NamedTuple):
    """What the kernel finds an entry by: one of its tuples, and the zone of the request."""

    direction: Literal["orig", "reply"]
    """The attribute in which the tuple is sent."""
    tuple: Tuple
    """A zone inside it counts for this direction only; the other is in zone 0 then."""
    zone: int | None

    def values(self, **more: object) -> dict[str, object]:
        """Return the fields of a request about the entry."""
        return {self.direction: self.tuple, "zone": self.zone, **more}


def entry_keys(flow: Flow, zone: int | None) -> list[EntryKey]:
    """Return all keys that may find the entry of a flow, in the order in which to try them.

    Two living entries may share a tuple and a zone, in different directions: the kernel compares
    the zone of the direction in which it finds a tuple, but when it adds an entry it compares the
    zone of the new entry's same direction (``nf_ct_key_equal``). And of an entry with ``NAT_CLASH``
    only the reply tuple is in the table. So the first key is that of :func:`lookup`, and the others
    are tried in turn until one finds an entry with the flow's id.

    Raises what :func:`lookup` raises.
    """
    flow = as_argument(flow, Flow, "")
    keys = [EntryKey("orig", *lookup(flow, zone))]
    reply = flow.reply
    try:
        check_tuple(reply, "reply")
    except EncodeError:
        return keys  # without a reply tuple there is no other key
    own = zone if zone is not None else flow.zone
    if zone is None and not flow.zone and flow.orig.zone:
        keys.append(EntryKey("orig", flow.orig, None))
    of_reply = reply.zone if zone is None and reply.zone is not None else own
    keys.append(
        EntryKey("reply", reply.without_zone, None if of_reply is None else plain_number(of_reply))
    )
    if zone is None and not flow.zone and reply.zone:
        keys.append(EntryKey("reply", reply, None))
    return keys
