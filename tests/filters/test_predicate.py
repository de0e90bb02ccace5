"""The predicate: what each condition says of a flow, and of one that lacks the field."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given, settings
from support import flows as made
from support import matches
from support.effort import examples

from conntrack_aio import (
    Counters,
    Flow,
    Helper,
    Match,
    SCTPInfo,
    SCTPState,
    Status,
    TCPInfo,
    TCPState,
    Tuple,
)

BARE = Flow(orig=made.tcp().orig, reply=made.tcp().reply)
"""What is always told, and nothing else."""
FULL = attrs.evolve(
    made.tcp(),
    mark=5,
    zone=7,
    status=Status.ASSURED | Status.CONFIRMED,
    labels=1 << 3 | 1 << 100,
    helper=Helper(name="ftp"),
    protoinfo=TCPInfo(state=TCPState.ESTABLISHED),
    counters_orig=Counters(packets=10, bytes=1 << 40),
    id=9,
)
PING = Flow.icmp("10.0.0.1", "10.0.0.2", id=5, timeout=30)


@pytest.mark.parametrize(
    ("text", "full", "bare"),
    [
        ("proto tcp", True, True),
        ("family ipv6", False, False),
        ("orig.icmp_type 8", False, False),
        ("mark 5", True, False),
        ("mark 0", False, True),
        ("mark 0x1/0x3", True, False),
        ("zone 7", True, False),
        ("zone 0", False, True),
        ("orig.zone 7 and reply.zone 7", True, False),
        ("status assured", True, False),
        ("status dying", False, False),
        ("label 3", True, False),
        ("label 100", True, False),
        ("helper ftp", True, False),
        ("helper sip", False, False),
        ("state established", True, False),
        ("state tcp.established", True, False),
        ("state sctp.established", False, False),
        ("timeout 600", True, False),
        ("timeout < 600", False, False),
        ("orig.bytes > 1000", True, False),
        ("orig.packets 10", True, False),
        ("reply.packets 0", False, False),
        ("id 9", True, False),
    ],
)
def test_a_condition_and_its_opposite(text: str, full: bool, bare: bool) -> None:
    match = Match.parse(text)
    assert (match(FULL), match(BARE)) == (full, bare)
    assert ((~match)(FULL), (~match)(BARE)) == (not full, not bare)


def test_a_zone_of_one_direction() -> None:
    flow = attrs.evolve(BARE, orig=attrs.evolve(BARE.orig, zone=3))
    assert Match(orig_zone=3, reply_zone=0)(flow)
    assert not Match(zone=3)(flow)
    assert not Match(zone=0)(flow)


def test_icmp() -> None:
    assert Match(proto="icmp", orig_icmp_type=8, orig_icmp_code=0, orig_icmp_id=5)(PING)
    assert not Match(orig_dport=0)(PING)


def test_translations() -> None:
    reply = Tuple.tcp("192.0.2.9", 80, "192.0.2.1", 5000)
    flow = attrs.evolve(BARE, reply=reply, status=Status.SRC_NAT)
    assert Match(snat=True)(flow)
    assert Match(snat="192.0.2.0/28")(flow)
    assert not Match(snat="192.0.2.9")(flow)
    assert Match(dnat=False)(flow)
    assert not Match(dnat="192.0.2.9")(flow)


def test_states_of_other_protocols() -> None:
    flow = attrs.evolve(BARE, protoinfo=SCTPInfo(state=SCTPState.ESTABLISHED))
    assert Match(state="established")(flow)
    assert Match(state=[TCPState.CLOSE, SCTPState.ESTABLISHED])(flow)
    assert not Match(state=TCPState.ESTABLISHED)(flow)


def test_many_values() -> None:
    ports = Match(orig_sport=range(0, 65536, 1), orig_dport=[80, range(5000, 9000)])
    assert ports(BARE) is (BARE.orig.dport in {80, *range(5000, 9000)})
    odd = Match(orig_sport=list(range(1, 65536, 2)))
    assert all(
        odd(attrs.evolve(BARE, orig=attrs.evolve(BARE.orig, sport=n))) is bool(n & 1)
        for n in range(50)
    )


@settings(max_examples=examples(1000), deadline=None)
@given(matches.matches(), matches.flows())
def test_it_says_what_it_means(match: Match, flow: Flow) -> None:
    assert match(flow) is matches.holds(match.node, flow)
    assert (~match)(flow) is not match(flow)


@settings(max_examples=examples(500), deadline=None)
@given(matches.services(), matches.flows())
def test_alternatives_that_are_looked_up(match: Match, flow: Flow) -> None:
    assert match(flow) is matches.holds(match.node, flow)


def test_alternatives_are_looked_up_whatever_field_they_share() -> None:
    """Of each field that has single values, a flow that has one and a flow that has none."""
    for name, values in matches.SINGLE.items():
        for text in ("not timeout 5", "not mark 99"):
            found = [Match(text, **{name: value}) for value in values]  # type: ignore[misc]
            match = Match.any([*found, *(one & Match(orig_bytes=77) for one in found)] * 2)
            many = Match.any([match, *(Match(id=n, zone=n) for n in range(100, 105))])
            for flow in (FULL, BARE, PING, made.udp6()):
                wanted = any(one(flow) for one in found)
                assert match(flow) is many(flow) is wanted, (name, text)
                assert (~many)(flow) is not wanted
