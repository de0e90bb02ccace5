"""Find the inside address and port that are behind a public one, for ``who``."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterator
from typing import Literal, NamedTuple

from ..codec.json import to_dict
from ..codec.json_values import JSON
from ..connection import Connection
from ..filters.match import Match
from ..model.flow import Flow
from ..model.nat import Endpoint
from ..model.protocols import ICMP, ICMPV6
from ..model.tuples import protocol_name
from .failures import CommandError
from .output import write_line


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


async def print_who(conn: Connection, public: Endpoint, proto: int | None, *, json: bool) -> None:
    """Print a line for each flow that has the public end.

    :param conn: the connection.
    :param public: the address, and the port if only one is asked for.
    :param proto: the protocol, instead of all.
    :param json: whether to print JSON Lines.
    :raises CommandError: when there is no such flow.
    """
    found = False
    async for flow in conn.dump(match_of_public(public, proto)):
        for each in translations_of(flow, public):
            found = True
            write_line(json_module.dumps(each.to_dict()) if json else each)
    if found:
        return
    protocol = "" if proto is None else f"{protocol_name(proto, 'proto-')} "
    text = f"no {protocol}flow is translated to {public}"
    untranslated = await conn.count(_match_of_ends(public, proto))
    if untranslated:
        text += f"; flows with it that are not translated: {untranslated}"
    raise CommandError(text)


def match_of_public(public: Endpoint, proto: int | None) -> Match:
    """Return the match of the flows that are translated to a public end."""
    source = f"snat and reply.dst {public.address}"
    target = f"dnat and orig.dst {public.address}"
    if public.port is not None:
        source += f" and (reply.dport {public.port} or reply.icmp_id {public.port})"
        target += f" and (orig.dport {public.port} or orig.icmp_id {public.port})"
    return _of_protocol(f"({source}) or ({target})", proto)


def _match_of_ends(end: Endpoint, proto: int | None) -> Match:
    """Return the match of the flows that have an end as their source or destination."""
    ends = [f"orig.{side} {end.address}" for side in ("src", "dst")]
    if end.port is not None:
        ports = (f"orig.sport {end.port}", f"orig.dport {end.port}")
        ends = [f"({each} and {port})" for each, port in zip(ends, ports, strict=True)]
    return _of_protocol(" or ".join(ends), proto)


def _of_protocol(text: str, proto: int | None) -> Match:
    return Match.parse(text if proto is None else f"proto {proto} and ({text})")


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


def _is(public: Endpoint, end: Endpoint) -> bool:
    return public.address == end.address and public.port in (None, end.port)


def _zone_text(flow: Flow) -> str:
    return "" if flow.zone is None else f", zone {flow.zone}"


def _end_to_dict(end: Endpoint) -> JSON:
    address: dict[str, JSON] = {"address": str(end.address)}
    return address if end.port is None else {**address, "port": end.port}
