"""Find the inside address and port that are behind a public one, for ``who``."""

from __future__ import annotations

import json as json_module
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple

from ..codec.json import to_dict
from ..codec.json_values import JSON
from ..connection import Connection
from ..filters.match import Match
from ..model.flow import Flow
from ..model.nat import Endpoint, source_of
from ..model.protocols import ICMP, ICMPV6
from ..model.tuples import protocol_name
from .failures import CommandError
from .output import write_line
from .summaries import count_of

Role = Literal["inside", "peer", "untranslated"]
"""What an end is in a flow that is not translated to it."""

_ROLES: Final[Mapping[Role, tuple[str, str]]] = {
    "inside": ("the inside end", "translated flow"),
    "peer": ("the peer", "translated flow"),
    "untranslated": ("an end", "untranslated flow"),
}
"""The text of each role, and what the flows are called."""


class Translated(NamedTuple):
    """A flow one of whose ends is translated, seen from outside."""

    nat: Literal["src", "dst"]
    """The end that is translated."""
    public: Endpoint
    inside: Endpoint
    peer: Endpoint
    """The other end, as it is seen outside."""
    flow: Flow

    def __str__(self) -> str:
        proto = protocol_name(self.flow.orig.proto, "proto-")
        kind, toward = ("source", "to") if self.nat == "src" else ("destination", "from")
        zone = _zone_text(self.flow)
        return (
            f"{self.inside} is behind {self.public} ({proto}, {kind} NAT) "
            f"{toward} {self.peer}{zone}"
        )

    def to_dict(self) -> dict[str, JSON]:
        """Return it as an object of JSON."""
        ends = {"public": self.public, "inside": self.inside, "peer": self.peer}
        return {
            "nat": self.nat,
            "proto": self.flow.orig.proto,
            **{name: _end_to_dict(end) for name, end in ends.items()},
            "flow": to_dict(self.flow),
        }


async def print_who(
    conn: Connection, public: Endpoint, proto: int | None, zone: int | None, *, json: bool
) -> None:
    """Print a line for each flow that has the public end.

    :param conn: the connection.
    :param public: the address, and the port if only one is asked for.
    :param proto: the protocol, instead of all.
    :param zone: the zone that a flow has in one direction or both, instead of all.
    :param json: whether to print JSON Lines.
    :raises CommandError: when there is no such flow. The text says what the end is instead.
    """
    found = False
    async for flow in conn.dump(match_of_public(public, proto, zone)):
        for each in translations_of(flow, public):
            found = True
            write_line(json_module.dumps(each.to_dict()) if json else each)
    if found:
        return
    protocol = "" if proto is None else f"{protocol_name(proto, 'proto-')} "
    in_zone = "" if zone is None else f" in zone {zone}"
    text = f"no {protocol}flow is translated to {public}{in_zone}"
    roles = Counter(
        [
            role
            async for flow in conn.dump(_match_of_address(public, proto, zone))
            for role in roles_of(flow, public)
        ]
    )
    if roles:
        parts = [
            f"{place} of {count_of(roles[role], noun)}"
            for role, (place, noun) in _ROLES.items()
            if roles[role]
        ]
        text += f"; it is {', '.join(parts)}"
    raise CommandError(text)


def match_of_public(public: Endpoint, proto: int | None, zone: int | None = None) -> Match:
    """Return the match of the flows that are translated to a public end."""
    source = f"snat and reply.dst {public.address}"
    target = f"dnat and orig.dst {public.address}"
    if public.port is not None:
        source += f" and (reply.dport {public.port} or reply.icmp_id {public.port})"
        target += f" and (orig.dport {public.port} or orig.icmp_id {public.port})"
    return _selecting(f"({source}) or ({target})", proto, zone)


def _match_of_address(end: Endpoint, proto: int | None, zone: int | None) -> Match:
    """Return the match of the flows that have the address of an end, whatever their ports are."""
    tests = [
        f"{side}.{name} {end.address}" for side in ("orig", "reply") for name in ("src", "dst")
    ]
    return _selecting(" or ".join(tests), proto, zone)


def _selecting(text: str, proto: int | None, zone: int | None) -> Match:
    tests = [f"({text})"]
    if proto is not None:
        tests.append(f"proto {proto}")
    if zone is not None:
        tests.append(f"(orig.zone {zone} or reply.zone {zone})")
    return Match.parse(" and ".join(tests))


def translations_of(flow: Flow, public: Endpoint) -> Iterator[Translated]:
    """Yield the ends of a flow that are translated and seen outside as a public end."""
    nat = flow.nat
    if nat is None:
        return
    orig, reply = flow.orig, flow.reply
    if nat.src is not None and _is(public, nat.src.after):
        peer = Endpoint(reply.src, reply.sport)
        yield Translated("src", nat.src.after, nat.src.before, peer, flow)
    if nat.dst is not None:
        identifier = orig.icmp_id if orig.proto in (ICMP, ICMPV6) else None
        seen = Endpoint(nat.dst.before.address, nat.dst.before.port or identifier)
        if _is(public, seen):
            peer = Endpoint(orig.src, orig.sport)
            yield Translated("dst", nat.dst.before, nat.dst.after, peer, flow)


def roles_of(flow: Flow, end: Endpoint) -> set[Role]:
    """Return what an end is in a flow that is not translated to it; nothing if it is in no place.

    In a translated flow, the end is inside if it is what is translated, and the peer otherwise.
    """
    orig, reply = flow.orig, flow.reply
    source, peer_of_reply = source_of(orig), Endpoint(reply.src, reply.sport)
    target = Endpoint(orig.dst, orig.dport)
    nat = flow.nat
    if nat is None:
        return {"untranslated"} if _is(end, source) or _is(end, target) else set()
    inside = [side for side in (nat.src and nat.src.before, nat.dst and nat.dst.after) if side]
    if any(_is(end, each) for each in inside):
        return {"inside"}
    peers = [peer_of_reply] if nat.dst is None else []
    if nat.src is None:
        peers.append(source)
    return {"peer"} if any(_is(end, each) for each in peers) else set()


def _is(public: Endpoint, end: Endpoint) -> bool:
    return public.address == end.address and public.port in (None, end.port)


def _zone_text(flow: Flow) -> str:
    return "" if flow.zone is None else f", zone {flow.zone}"


def _end_to_dict(end: Endpoint) -> JSON:
    address: dict[str, JSON] = {"address": str(end.address)}
    return address if end.port is None else {**address, "port": end.port}
