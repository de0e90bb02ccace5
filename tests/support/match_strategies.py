"""Random matches and flows, and a reference that tests whether a flow matches.

The reference shares no code with the library.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6
from typing import Any, Final

import attrs
from hypothesis import strategies as st

from conntrack_aio import (
    Counters,
    DCCPInfo,
    DCCPState,
    Flow,
    Helper,
    Match,
    MatchError,
    SCTPInfo,
    SCTPState,
    Status,
    TCPInfo,
    TCPState,
    Tuple,
)
from conntrack_aio.filters.nodes import Addresses, AllOf, AnyOf, Bits, Node, Not, Numbers, Texts

PORTS: Final = [53, 80, 443, *range(1024, 1032)]
ZONES: Final = [0, 1, 2, 3, 7]
MARKS: Final = [0, 1, 0x22, 0x30, 0xCAFE, 0xFFFFFFFF]
LABELS: Final = [0, 1, 1 << 3, 1 << 127 | 1 << 9, 1 << 64]
TIMEOUTS: Final = [0, 29, 30, 600, 3600, 7200]
V4: Final = [IPv4Address(f"10.{net}.0.{host}") for net in (1, 2, 3) for host in range(1, 6)]
V6: Final = [IPv6Address(f"2001:db8:{net}::{host:x}") for net in (0, 1) for host in range(1, 6)]
GATEWAYS: Final = [IPv4Address("192.0.2.1"), IPv6Address("2001:db8:2::1")]


# -- the reference ------------------------------------------------------------------------------


def reference_matches(node: Node, flow: Flow) -> bool:
    """Return whether a flow matches."""
    if isinstance(node, AllOf):
        return all(reference_matches(part, flow) for part in node.parts)
    if isinstance(node, AnyOf):
        return any(reference_matches(part, flow) for part in node.parts)
    if isinstance(node, Not):
        return not reference_matches(node.part, flow)
    value = FIELD_READERS[node.field.name](flow)
    if isinstance(node, Bits):
        return (value or 0) & node.mask == node.value
    if value is None:
        return False
    if isinstance(node, Texts):
        return value in node.values
    if isinstance(node, Numbers):
        return any(first <= value <= last for first, last in node.values)
    assert isinstance(node, Addresses)
    ranges = node.v4 if value.version == 4 else node.v6
    return any(first <= int(value) <= last for first, last in ranges)


def _attribute(*path: str) -> Callable[[Flow], Any]:
    return lambda flow: reduce(
        lambda value, name: None if value is None else getattr(value, name), path, flow
    )


def _state(flow: Flow) -> int | None:
    for kind, proto in ((TCPInfo, 6), (SCTPInfo, 132), (DCCPInfo, 33)):
        if isinstance(flow.protoinfo, kind) and flow.protoinfo.state is not None:
            return proto * 256 + flow.protoinfo.state
    return None


def _zone(flow: Flow) -> int | None:
    has_own = flow.orig.zone is not None or flow.reply.zone is not None
    return None if has_own else (flow.zone or 0)


def _zone_of(side: str) -> Callable[[Flow], int]:
    def read(flow: Flow) -> int:
        own: int | None = getattr(flow, side).zone
        return own if own is not None else (flow.zone or 0)

    return read


FIELD_READERS: Final[dict[str, Callable[[Flow], Any]]] = {
    "family": lambda flow: AF_INET if flow.orig.src.version == 4 else AF_INET6,
    "proto": _attribute("orig", "proto"),
    **{
        f"{side}.{name}": _attribute(side, name)
        for side in ("orig", "reply")
        for name in ("src", "dst", "sport", "dport", "icmp_type", "icmp_code", "icmp_id")
    },
    "zone": _zone,
    "orig.zone": _zone_of("orig"),
    "reply.zone": _zone_of("reply"),
    "mark": _attribute("mark"),
    "status": _attribute("status"),
    "label": _attribute("labels"),
    "state": _state,
    "helper": _attribute("helper", "name"),
    "timeout": _attribute("timeout"),
    "id": _attribute("id"),
    **{
        f"{side}.{name}": _attribute(f"counters_{side}", name)
        for side in ("orig", "reply")
        for name in ("packets", "bytes")
    },
}


# -- matches ------------------------------------------------------------------------------------


def _one_or_more(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return values | st.lists(values, max_size=4)


def _numbers(values: list[int], largest: int) -> st.SearchStrategy[Any]:
    one = st.sampled_from(values) | st.integers(0, largest)
    ranges = st.tuples(one, one).map(lambda ends: range(min(ends), max(ends) + 1))
    return _one_or_more(one | ranges)


def _networks() -> st.SearchStrategy[Any]:
    v4 = st.sampled_from([*V4, GATEWAYS[0]]) | st.sampled_from(
        ["10.1.0.0/16", "10.0.0.0/8", "0.0.0.0/0", "10.2.0.0/30", "10.1.0.2-10.2.0.2"]
    )
    v6 = st.sampled_from([*V6, GATEWAYS[1]]) | st.sampled_from(
        [
            "::ffff:10.1.0.3",
            "::ffff:10.2.0.0/120",
            "2001:db8::/64",
            "2001:db8::/32",
            "::/0",
            "2001:db8:1::/126",
            "2001:db8::2-2001:db8:1::3",
        ]
    )
    return _one_or_more(v4) | _one_or_more(v6) | _one_or_more(v4 | v6)


_STATES: Final = [
    *(TCPState.ESTABLISHED, TCPState.FIN_WAIT, SCTPState.CLOSED, DCCPState.OPEN),
    *("established", "none", "tcp.14"),
]
_CONDITIONS: Final[dict[str, st.SearchStrategy[Any]]] = {
    "family": st.sampled_from([AF_INET, AF_INET6]),
    "proto": _numbers([6, 17, 1, 58, 132, 33, 47], 255),
    **{f"{side}_{end}": _networks() for side in ("orig", "reply") for end in ("src", "dst")},
    **{
        f"{side}_{end}": _numbers(PORTS, 0xFFFF)
        for side in ("orig", "reply")
        for end in ("sport", "dport")
    },
    **{
        f"{side}_icmp_{name}": _numbers([0, 8, 128, 129], 255)
        for side in ("orig", "reply")
        for name in ("type", "code")
    },
    "orig_icmp_id": _numbers([0, 7], 0xFFFF),
    "zone": _numbers(ZONES, 0xFFFF),
    "orig_zone": _numbers(ZONES, 0xFFFF),
    "reply_zone": _numbers(ZONES, 0xFFFF),
    "status": st.sampled_from([Status.ASSURED, Status.SEEN_REPLY | Status.CONFIRMED]),
    "status_unset": st.sampled_from([Status.ASSURED, Status.DYING | Status.SRC_NAT]),
    "state": _one_or_more(st.sampled_from(_STATES)),
    "labels": _one_or_more(st.sampled_from([0, 3, 9, 64, 127])),
    "helper": _one_or_more(st.sampled_from(["ftp", "sip", "netbios-ns"])),
    "timeout": _numbers(TIMEOUTS, 0xFFFFFFFF),
    "orig_packets": _numbers([0, 1, 1 << 32, (1 << 64) - 1], (1 << 64) - 1),
    "reply_bytes": _numbers([0, 1, 1 << 32, (1 << 32) - 1], (1 << 64) - 1),
    "snat": st.booleans() | _networks(),
    "dnat": st.booleans() | _networks(),
    "id": _numbers([0, 1, 2], 0xFFFFFFFF),
}


SINGLE_VALUES: Final[dict[str, list[Any]]] = {
    "family": [AF_INET, AF_INET6],
    "proto": [6, 17, 1, 58, 132, 50],
    **{
        f"{side}_{end}": [*V4, *V6, *GATEWAYS]
        for side in ("orig", "reply")
        for end in ("src", "dst")
    },
    **{f"{side}_{end}": PORTS for side in ("orig", "reply") for end in ("sport", "dport")},
    "orig_icmp_type": [0, 8, 128, 129],
    "zone": ZONES,
    "reply_zone": ZONES,
    "mark": MARKS,
    "state": [TCPState.ESTABLISHED, SCTPState.CLOSED, "established", "none"],
    "helper": ["ftp", "sip", "ftp-x"],
    "timeout": TIMEOUTS,
    "orig_packets": [0, 1],
    "id": [0, 1, 2],
}
"""Values of the fields by which alternatives can be looked up."""


@st.composite
def service_alternatives(draw: st.DrawFn, without: frozenset[str] = frozenset()) -> Match:
    """Draw alternatives of one or two forms, like those of a table of services.

    Each is a conjunction with single values of some fields.
    """
    known = sorted(SINGLE_VALUES.keys() - without)
    forms = draw(st.lists(st.lists(st.sampled_from(known), max_size=3), min_size=1, max_size=2))
    found: list[Match] = []
    for number in range(draw(st.integers(1, 10))):
        match = Match()
        for name in forms[number % len(forms)]:
            value = st.sampled_from(SINGLE_VALUES[name])
            values = value if name == "mark" else value | st.lists(value, min_size=1, max_size=3)
            match = _conjunction(match, Match(**{name: draw(values)}))  # type: ignore[misc]
        if draw(st.booleans()):
            other = draw(_conditions(without))
            match = _conjunction(match, ~other if draw(st.booleans()) else other)
        found.append(match)
    if draw(st.booleans()):
        return Match.any(found)
    return reduce(_conjunction, (~match for match in found), Match())


@st.composite
def nested_alternatives(draw: st.DrawFn, without: frozenset[str] = frozenset()) -> Match:
    """Draw alternatives that are disjunctions or require ranges of fields; or their negation."""
    ranges = {
        name: _CONDITIONS[name]
        for name in ("orig_src", "orig_dst", "reply_src", "orig_dport", "proto", "zone", "timeout")
        if name not in without
    }
    masks = st.sampled_from([1, 0xF0, 0xFF])
    forms = draw(
        st.lists(
            st.lists(st.sampled_from(sorted(ranges)), min_size=1, max_size=3, unique=True),
            min_size=1,
            max_size=2,
        )
    )
    found: list[Match] = []
    for number in range(draw(st.integers(1, 12))):
        match = Match()
        for name in forms[number % len(forms)]:
            match = _conjunction(match, Match(**{name: draw(ranges[name])}))  # type: ignore[misc]
        kind = draw(st.sampled_from(["plain", "either", "negation", "mark"]))
        if kind == "either":
            inner = draw(st.lists(_conditions(without), min_size=2, max_size=3))
            match = _conjunction(match, Match.any(inner))
        elif kind == "negation":
            match = _conjunction(match, draw(_conditions(without))) | ~match
        elif kind == "mark" and "mark" not in without:
            mask = draw(masks)
            match = Match(mark=draw(st.sampled_from(MARKS)) & mask, mark_mask=mask)
        found.append(match)
    if draw(st.booleans()):
        return Match.any(found)
    if draw(st.booleans()):
        return ~Match.any(found)
    return reduce(_conjunction, (~match for match in found), Match())


@st.composite
def _conditions(draw: st.DrawFn, without: frozenset[str]) -> Match:
    """Draw up to three conditions, joined if they do not exclude each other."""
    known = sorted({*_CONDITIONS, "mark", "label"} - without)
    names = draw(st.lists(st.sampled_from(known), min_size=1, max_size=3))
    match = Match()
    for name in names:
        if name == "mark":
            mask = draw(st.sampled_from([None, 0xFF, 0xF0, 1]))
            mark = draw(st.sampled_from(MARKS)) & (0xFFFFFFFF if mask is None else mask)
            one = Match(mark=mark, mark_mask=mask)
        elif name == "label":
            mask = draw(st.sampled_from([0, 1, 1 << 3 | 1 << 64, (1 << 128) - 1, 3 << 126]))
            label = draw(st.sampled_from(LABELS)) & mask
            one = Match(labels=label, labels_mask=mask)
        else:
            one = Match(**{name: draw(_CONDITIONS[name])})  # type: ignore[misc]
        match = _conjunction(match, one)
    return match


def _conjunction(one: Match, other: Match) -> Match:
    """Return the conjunction of two matches, or the first one if they exclude each other."""
    try:
        return one & other
    except MatchError:
        return one


def matches(*without: str) -> st.SearchStrategy[Match]:
    """Return a strategy for any match, nested or not.

    :param without: names of conditions to leave out.
    """
    return st.recursive(
        _conditions(frozenset(without))
        | service_alternatives(frozenset(without))
        | nested_alternatives(frozenset(without)),
        lambda inner: st.one_of(
            st.builds(lambda one: ~one, inner),
            st.builds(lambda one, other: one | other, inner, inner),
            st.builds(_conjunction, inner, inner),
        ),
        max_leaves=6,
    )


# -- flows --------------------------------------------------------------------------------------


@st.composite
def _tuples(draw: st.DrawFn, version: int, proto: int) -> Tuple:
    addresses = st.sampled_from([*V4, GATEWAYS[0]] if version == 4 else [*V6, GATEWAYS[1]])
    found = Tuple(src=draw(addresses), dst=draw(addresses), proto=proto)
    if proto in (1, 58):
        found.icmp_id = draw(st.sampled_from([0, 7, 9]))
        found.icmp_type = draw(st.sampled_from([0, 8, 128, 129]))
        found.icmp_code = draw(st.sampled_from([0, 1]))
    elif proto in (6, 17, 132):
        found.sport, found.dport = draw(st.sampled_from(PORTS)), draw(st.sampled_from(PORTS))
    return found


def _optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


_COUNTERS: Final = st.builds(
    Counters,
    packets=st.sampled_from([0, 1, 1 << 32, (1 << 64) - 1]),
    bytes=st.sampled_from([0, 1, (1 << 32) - 1, 1 << 32]),
)
_INFO: Final[dict[int, st.SearchStrategy[Any]]] = {
    6: st.builds(TCPInfo, state=_optional(st.sampled_from([3, 4, 14]))),
    132: st.builds(SCTPInfo, state=_optional(st.sampled_from(list(SCTPState)[:6]))),
}


@st.composite
def flows(draw: st.DrawFn) -> Flow:
    """Draw a flow as the kernel sends it, with all or some of its fields."""
    version = draw(st.sampled_from([4, 6]))
    proto = draw(st.sampled_from([6, 6, 17, 1 if version == 4 else 58, 132, 50]))
    flow = Flow(orig=draw(_tuples(version, proto)), reply=draw(_tuples(version, proto)))
    zone = draw(st.sampled_from(ZONES))
    if zone:
        where = draw(st.sampled_from(["both", "orig", "reply"]))
        if where == "both":
            flow.zone = zone
        else:
            side = attrs.evolve(getattr(flow, where), zone=zone)
            setattr(flow, where, side)
    flow.mark = draw(_optional(st.sampled_from(MARKS)))
    flow.status = draw(_optional(st.integers(0, 0xFFFF).map(Status)))
    flow.labels = draw(_optional(st.sampled_from(LABELS)))
    flow.protoinfo = draw(_optional(_INFO[proto])) if proto in _INFO else None
    flow.helper = draw(
        _optional(st.sampled_from(["ftp", "sip", "ftp-x"]).map(lambda n: Helper(name=n)))
    )
    flow.timeout = draw(_optional(st.sampled_from(TIMEOUTS)))
    flow.id = draw(_optional(st.sampled_from([0, 1, 2, 0xFFFFFFFF])))
    flow.counters_orig = draw(_optional(_COUNTERS))
    flow.counters_reply = draw(_optional(_COUNTERS))
    return flow
