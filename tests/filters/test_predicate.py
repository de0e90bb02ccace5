"""Predicates: each condition on flows that have the field and on flows that lack it."""

from __future__ import annotations

import sys

import attrs
import pytest
from hypothesis import given, settings
from support import flows as samples
from support import match_strategies
from support.effort import examples

from conntrack_aio import (
    Counters,
    Flow,
    Helper,
    Match,
    NewFlow,
    SCTPInfo,
    SCTPState,
    Status,
    TCPInfo,
    TCPState,
    Tuple,
)

BARE = Flow(orig=samples.tcp().orig, reply=samples.tcp().reply)
"""A flow with the fields that are always present, and no others."""
FULL = attrs.evolve(
    samples.tcp(),
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
def test_a_condition_and_its_negation(text: str, full: bool, bare: bool) -> None:
    match = Match.parse(text)
    assert (match(FULL), match(BARE)) == (full, bare)
    assert ((~match)(FULL), (~match)(BARE)) == (not full, not bare)


def test_a_zone_of_one_direction_is_not_the_zone_of_both() -> None:
    flow = attrs.evolve(BARE, orig=attrs.evolve(BARE.orig, zone=3))
    assert Match(orig_zone=3, reply_zone=0)(flow)
    assert not Match(zone=3)(flow)
    assert not Match(zone=0)(flow)


def test_conditions_on_icmp() -> None:
    assert Match(proto="icmp", orig_icmp_type=8, orig_icmp_code=0, orig_icmp_id=5)(PING)
    assert not Match(orig_dport=0)(PING)


def test_conditions_on_translations() -> None:
    reply = Tuple.tcp("192.0.2.9", 80, "192.0.2.1", 5000)
    flow = attrs.evolve(BARE, reply=reply, status=Status.SRC_NAT)
    assert Match(snat=True)(flow)
    assert Match(snat="192.0.2.0/28")(flow)
    assert not Match(snat="192.0.2.9")(flow)
    assert Match(dnat=False)(flow)
    assert not Match(dnat="192.0.2.9")(flow)


def test_a_state_of_several_protocols() -> None:
    flow = attrs.evolve(BARE, protoinfo=SCTPInfo(state=SCTPState.ESTABLISHED))
    assert Match(state="established")(flow)
    assert Match(state=[TCPState.CLOSE, SCTPState.ESTABLISHED])(flow)
    assert not Match(state=TCPState.ESTABLISHED)(flow)


def test_conditions_with_many_values() -> None:
    ports = Match(orig_sport=range(0, 65536, 1), orig_dport=[80, range(5000, 9000)])
    assert ports(BARE) is (BARE.orig.dport in {80, *range(5000, 9000)})
    odd = Match(orig_sport=list(range(1, 65536, 2)))
    assert all(
        odd(attrs.evolve(BARE, orig=attrs.evolve(BARE.orig, sport=n))) is bool(n & 1)
        for n in range(50)
    )


@settings(max_examples=examples(150), deadline=None)
@given(match_strategies.matches(), match_strategies.flows())
def test_a_predicate_agrees_with_the_reference(match: Match, flow: Flow) -> None:
    assert match(flow) is match_strategies.reference_matches(match._node, flow)
    assert (~match)(flow) is not match(flow)


@settings(max_examples=examples(120), deadline=None)
@given(
    match_strategies.service_alternatives() | match_strategies.nested_alternatives(),
    match_strategies.flows(),
)
def test_tables_of_alternatives_agree_with_the_reference(match: Match, flow: Flow) -> None:
    assert match(flow) is match_strategies.reference_matches(match._node, flow)


def test_alternatives_can_be_looked_up_by_each_field() -> None:
    """Each is tested with flows that have the field and flows that lack it."""
    for name, values in match_strategies.SINGLE_VALUES.items():
        for text in ("not timeout 5", "not mark 99"):
            found = [Match(text, **{name: value}) for value in values]  # type: ignore[misc]
            match = Match.any([*found, *(one & Match(orig_bytes=77) for one in found)] * 2)
            many = Match.any([match, *(Match(id=n, zone=n) for n in range(100, 105))])
            for flow in (FULL, BARE, PING, samples.udp6()):
                expected = any(one(flow) for one in found)
                assert match(flow) is many(flow) is expected, (name, text)
                assert (~many)(flow) is not expected


def test_alternatives_of_any_form_are_not_compared_one_by_one() -> None:
    """The number of Python function calls for a flow is bounded."""
    numbers = range(500)
    address = [f"10.{n >> 8}.{n & 255}" for n in numbers]
    either = [Match(orig_dst=f"{net}.1") | Match(reply_src=f"{net}.1") for net in address]
    forms: dict[str, Match] = {
        "disjunctions and a protocol": Match.any([Match(proto="tcp") & each for each in either]),
        "disjunctions and a range": Match.any(
            [Match(orig_dport="80-90") & each for each in either]
        ),
        "disjunctions and a negation": Match.any([~Match(mark=9) & each for each in either]),
        "networks and a port": Match.any(
            [Match(orig_dst=f"{net}.0/25", orig_dport=80) for net in address]
        ),
        "networks of IPv6": Match.any(
            [Match(orig_dst=f"2001:db8:{n:x}::/64", orig_dport=80) for n in numbers]
        ),
        "two networks": Match.any(
            [Match(orig_dst=f"{net}.0/25", orig_src=f"{net}.0/26") for net in address]
        ),
        "negations": Match.all(
            [~Match(orig_dst=f"{net}.1") | ~Match(orig_dport=80) for net in address]
        ),
        "a negation of negations": ~Match.all(
            [~Match(orig_dst=f"{net}.1", orig_dport=80) for net in address]
        ),
        "marks": Match.any([Match(mark=n << 8, mark_mask=0xFFFF00) for n in range(1, 500)]),
    }
    for name, match in forms.items():
        for flow in (
            FULL,
            BARE,
            PING,
            samples.udp6(),
            Flow.tcp("10.1.4.1", 5, "10.1.4.1", 80, timeout=5),
        ):
            assert match(flow) is match_strategies.reference_matches(match._node, flow), name
            predicate, calls = match.predicate, 0

            def count(*_: object) -> None:
                nonlocal calls
                calls += 1

            sys.setprofile(count)
            try:
                predicate(flow)
            finally:
                sys.setprofile(None)
            assert calls < 80, (name, calls)


def test_the_state_of_a_subclass_of_the_protocol_info() -> None:
    class Info(TCPInfo):
        pass

    flow = attrs.evolve(BARE, protoinfo=Info(state=TCPState.ESTABLISHED))
    assert Match(state="established")(flow)
    assert not Match(state="close")(flow)


def test_an_argument_that_is_not_a_flow_is_refused() -> None:
    match = Match(proto="tcp")
    assert (Match()(FULL), (~Match())(FULL)) == (True, False)
    for each in (match, ~match, Match(), ~Match(), Match(mark=1), Match(zone=[]), Match(id=4)):
        for given_ in ("x", None, 5, match, NewFlow(flow=FULL)):
            with pytest.raises(TypeError, match=r"a Match must be called with a Flow; got"):
                each(given_)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"match\(event\.flow\)"):
        match(NewFlow(flow=FULL))  # type: ignore[arg-type]
    broken = attrs.evolve(FULL)
    broken.orig = None  # type: ignore[assignment]
    with pytest.raises(AttributeError):  # a flow without a tuple is no TypeError
        match(broken)
