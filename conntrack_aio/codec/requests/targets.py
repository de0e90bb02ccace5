"""What finds an entry of the kernel's table: the target of a verb, and the names of an entry."""

from __future__ import annotations

from typing import Literal, NamedTuple

from ...errors import EncodeError
from ...model.flow import Flow
from ...model.tuples import Tuple
from ...model.values import describe_value, plain_number
from .common import as_argument, plain_id

Target = Flow | Tuple


def lookup(target: Target, zone: int | None) -> tuple[Tuple, int | None]:
    """Return the tuple and zone that find the target.

    A direction's own zone goes out as that of both: the kernel compares the zone of the direction
    in which it finds the tuple, and a zone inside the original tuple counts for that one alone.

    :raises TypeError: for what is neither a Flow nor a Tuple.
    :raises EncodeError: for a tuple that is incomplete or can't be.
    """
    target = as_target(target)
    found, own = (target.orig, target.zone) if isinstance(target, Flow) else (target, None)
    check_named(found, "orig" if isinstance(target, Flow) else None)
    if zone is None:
        if own and found.zone:
            raise EncodeError("it has a zone, and the flow has another", ("orig", "zone"))
        zone = found.zone if found.zone is not None else own
    return found.without_zone, None if zone is None else plain_number(zone, "zone")


def as_target(target: object) -> Target:
    """Return a target with plain values.

    Raises :exc:`TypeError` for what is none, and :exc:`EncodeError` for one that can't be read.
    """
    if issubclass(type(target), Tuple):
        return as_argument(target, Tuple, "")
    wanted = "a target is a Flow, or the Tuple of either direction"
    if isinstance(target, str):
        wanted += ", as Tuple.tcp(…) makes one"
    return as_argument(target, Flow, wanted)


def id_of(target: Target) -> int | None:
    """Return the id of the entry that a target stands for; ``None`` if any entry will do.

    Raises :exc:`EncodeError` for what can't be one.
    """
    return plain_id(target.id) if isinstance(target, Flow) else None


def check_named(found: object, path: str | None) -> None:
    """Raises :exc:`EncodeError` for a tuple that the kernel does not take for an entry's."""
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
    """In which attribute the tuple goes out."""
    tuple: Tuple
    """With a zone, that is compared in this direction alone, and zone 0 in the other."""
    zone: int | None

    def values(self, **more: object) -> dict[str, object]:
        """The fields of a request about the entry."""
        return {self.direction: self.tuple, "zone": self.zone, **more}


def entry_keys(flow: Flow, zone: int | None) -> list[EntryKey]:
    """Return all that may find this flow, where :func:`lookup` found another one or none.

    Two living entries may have a tuple and zone in common, in different directions: the kernel
    compares the zone of the direction in which it finds a tuple, but when an entry is added that
    of the new one in that same direction (``nf_ct_key_equal``). And of an entry with ``NAT_CLASH``
    only the reply tuple is in the table. So the first name is that of :func:`lookup`, and the
    others are tried in turn until one finds an entry with the flow's id. Raises what
    :func:`lookup` does.
    """
    flow = as_argument(flow, Flow, "")
    names = [EntryKey("orig", *lookup(flow, zone))]
    reply = flow.reply
    try:
        check_named(reply, "reply")
    except EncodeError:
        return names  # without it, there is no other name
    own = zone if zone is not None else flow.zone
    if zone is None and not flow.zone and flow.orig.zone:
        names.append(EntryKey("orig", flow.orig, None))
    of_reply = reply.zone if zone is None and reply.zone is not None else own
    names.append(
        EntryKey("reply", reply.without_zone, None if of_reply is None else plain_number(of_reply))
    )
    if zone is None and not flow.zone and reply.zone:
        names.append(EntryKey("reply", reply, None))
    return names
