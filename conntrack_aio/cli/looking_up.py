"""Look up the entry that a tuple on the command line names, and say why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from ..connection import Connection
from ..errors import EncodeError, NotFound
from ..model.flow import Flow
from ..model.tuples import Tuple
from .aligned import printable
from .failures import CommandError

if TYPE_CHECKING:
    from ..filters.match import Match

_SHOWN_ZONES: Final = 10

Direction = Literal["orig", "reply", "either"]


async def look_up(
    conn: Connection,
    tuple_: Tuple,
    zone: int | None,
    *,
    direction: Direction = "either",
    packet: bool = False,
) -> Flow:
    """Return the entry that has a tuple.

    :param conn: the connection.
    :param tuple_: the tuple.
    :param zone: the zone to look in, instead of the tuple's own; 0 if neither is given.
    :param direction: the direction that must have the tuple.
    :param packet: whether to look for the tuple of the reply, too.
    :raises CommandError: when there is no such entry. The text says what was looked for, and which
        other zones have one.
    """
    zone = tuple_.zone if zone is None else zone
    tuples = [tuple_.without_zone]
    if packet:
        try:
            tuples.append(tuple_.inverse)
        except EncodeError:  # a type of ICMP without a reply
            pass
    for each in tuples:
        try:
            flow = await conn.get(each, zone=zone)
        except NotFound:
            continue
        if direction == "either" or getattr(flow, direction).without_zone == each:
            return flow
        found = "reply" if direction == "orig" else "orig"
        raise CommandError(
            f"no entry has the {direction} tuple {each} in zone {zone or 0}; "
            f"it is the {found} tuple of: {printable(str(flow))}"
        )
    raise await no_entry(conn, tuples, zone)


async def no_entry(
    conn: Connection, tuples: list[Tuple], zone: int | None, *, which: str = "either direction"
) -> CommandError:
    """Return the error for an entry that does not exist. The table is dumped for it.

    :param conn: the connection.
    :param tuples: the tuples that were looked for, without a zone.
    :param zone: the zone that was searched.
    :param which: the direction that the error names.
    """
    zones: set[int] = set()
    for each in tuples:
        async for flow in conn.dump(match_of(each)):
            of_direction = flow.orig if flow.orig.without_zone == each else flow.reply
            own = of_direction.zone
            zones.add((flow.zone or 0) if own is None else own)
    zones.discard(zone or 0)
    text = f"no entry has the tuple {tuples[0]} in {which}, in zone {zone or 0}"
    if not zones:
        return CommandError(text)
    shown = ", ".join(map(str, sorted(zones)[:_SHOWN_ZONES]))
    more = ", …" if len(zones) > _SHOWN_ZONES else ""
    named = f"zone {shown} has one" if len(zones) == 1 else f"zones {shown}{more} have one"
    return CommandError(f"{text}; {named}: --zone {min(zones)}")


def match_of(tuple_: Tuple) -> Match:
    """Return the match of the entries that have a tuple in either direction, in any zone."""
    from ..filters.match import Match  # only the report about a missing entry needs it

    both: list[str] = []
    for side in ("orig", "reply"):
        parts = [f"{side}.src {tuple_.src}", f"{side}.dst {tuple_.dst}"]
        for name in ("sport", "dport", "icmp_type", "icmp_code", "icmp_id"):
            value: int | None = getattr(tuple_, name)
            if value is not None:
                parts.append(f"{side}.{name} {value}")
        both.append(" and ".join(parts))
    return Match.parse(f"proto {tuple_.proto} and ({' or '.join(f'({part})' for part in both)})")
