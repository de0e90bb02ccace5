"""Matches as values: construction, combination, and errors."""

from __future__ import annotations

import copy
import pickle
import time
from ipaddress import IPv6Address
from socket import AF_INET, AF_INET6, AF_UNIX, AF_UNSPEC
from typing import Any

import anyio
import pytest
from support import flows
from support.attribute_encoding import with_values

from conntrack_aio import Flow, Match, MatchError, Status

V4, V6 = flows.tcp(mark=5), flows.udp6(mark=0)
UNMARKED = flows.tcp()


@pytest.mark.parametrize(
    ("match", "flow", "result"),
    [
        (Match(), V4, True),
        (Match(), UNMARKED, True),
        (Match(mark=5), V4, True),
        (Match(mark=4), V4, False),
        (Match(mark=4, mark_mask=4), V4, True),
        (Match(mark=0, mark_mask=2), V4, True),
        (Match(mark=0), V6, True),
        (Match(mark=0), UNMARKED, True),
        (Match(mark=0, mark_mask=0), UNMARKED, True),
        (Match(family=AF_INET), V4, True),
        (Match(family=AF_INET), V6, False),
        (Match(family=AF_INET6, mark=0), V6, True),
        (Match(family=AF_INET6, mark=5), V4, False),
    ],
)
def test_a_match_is_called_with_a_flow(match: Match, flow: object, result: bool) -> None:
    assert match(flow) is result  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mark": -1}, "mark must be an unsigned number of 32 bits; got -1"),
        ({"mark": 1 << 32}, "mark must be an unsigned number of 32 bits; got 4294967296"),
        ({"mark": 0, "mark_mask": 1 << 32}, "mark_mask must be an unsigned number of 32 bits"),
        ({"mark_mask": 1}, "mark_mask needs mark"),
        ({"labels_mask": 1}, "labels_mask needs labels"),
        ({"mark": 3, "mark_mask": 1}, "never true"),
        ({"family": AF_UNIX}, "family must be AF_INET or AF_INET6; got 1"),
        ({"family": AF_UNSPEC}, "family must be AF_INET or AF_INET6; got 0"),
        ({"orig_dport": 65536}, "orig.dport must be between 0 and 65535; got 65536"),
        ({"orig_dport": range(1, 9, 2)}, "must have a step of 1; got 2"),
        ({"proto": "tpc"}, "unknown protocol 'tpc'; expected .* did you mean 'tcp'"),
        (
            {"orig_dport": "x"},
            "orig.dport must be a number or a range such as 80-90, or the name of a service; "
            "got 'x'",
        ),
        ({"proto": "icmp", "orig_dport": 80}, "no protocol has both"),
        ({"orig_icmp_type": 8, "reply_sport": 80}, "no protocol has both"),
        ({"proto": "udp", "state": "established"}, "no protocol has both"),
        ({"family": AF_INET, "orig_src": "2001:db8::1"}, "a flow has one family"),
        ({"orig_src": "10.0.0.1", "reply_dst": "2001:db8::1"}, "a flow has one family"),
        ({"orig_src": "10.0.0.1/8"}, "host bits"),
        (
            {"status": Status.ASSURED, "status_unset": Status.ASSURED},
            "cannot be both true and false",
        ),
        ({"status": 1 << 32}, "status must be an unsigned number of 32 bits"),
        ({"status": Status(0)}, "has no bits"),
        ({"status_unset": Status(0)}, "has no bits"),
        ({"labels": 128}, "0 to 127"),
        ({"labels": [None]}, "a label must be a bit"),
        ({"orig_src": IPv6Address("fe80::1%eth0")}, "has a scope"),
        ({"orig_src": "1" * 5000}, "1…? is not an address, a network or a range"),
        ({"orig_dport": "9" * 5000}, "orig.dport must be a number .*; got '9+…"),
        ({"orig_dport": "8_0"}, "must be a number"),
        ({"orig_dport": "\u0663"}, "must be a number"),
        ({"labels": "nosuch"}, "unknown label"),
        ({"helper": ""}, "helper must be a printable name of 1 to 15 bytes"),
        ({"state": "up"}, "unknown state 'up'; expected one of none, syn_sent"),
        ({"snat": "10.0.0.1", "family": AF_INET6}, "a flow has one family"),
    ],
)
def test_an_impossible_condition_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(MatchError, match=message):
        Match(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"colour": 1}, "unknown condition 'colour'$"),
        ({"orig_scr": "10.0.0.1"}, "did you mean 'orig_src'"),
        ({"mark": 3.0}, "mark must be a number, its text"),
        ({"mark": range(3)}, "mark must be a number, its text"),
        ({"mark_mask": [1], "mark": 1}, "mark_mask must be a number"),
        ({"proto": 6.0}, "proto must be a number, a name .* got 6.0"),
        ({"orig_src": 5}, "must be an address, a network, a range, or a list of these; got 5"),
        ({"orig_src": [5]}, "must be an address, a network"),
        ({"state": [3]}, "must be a TCPState"),
        ({"helper": [5]}, "helper must be a name or a list of names; got 5"),
        ({"labels": 1.5}, "labels must be"),
        ({"label_names": {"web": 3}, "labels": "web"}, "label_names must be LabelNames"),
        ({"orig_dport": b"80"}, "orig.dport must be"),
        ({"status": 1.0}, "status must be"),
    ],
)
def test_a_value_of_a_wrong_type_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Match(**values)  # type: ignore[arg-type]


def test_matches_that_exclude_each_other_are_refused_however_they_are_combined() -> None:
    tcp, udp = Match(proto="tcp"), Match(proto="udp")
    with pytest.raises(MatchError, match="a flow has one proto"):
        tcp & udp
    with pytest.raises(MatchError, match="in all of these sets"):
        Match.all(Match(proto=each) for each in ([1, 6], [6, 17], [1, 17]))
    with pytest.raises(MatchError, match="nested at most 40 levels deep"):
        nest(Match(mark=1))


def nest(match: Match) -> None:
    for number in range(50):
        match = ~(match | Match(zone=number)) & Match(id=number)


def test_combined_matches_are_simplified() -> None:
    tcp, udp, web = Match(proto="tcp"), Match(proto="udp"), Match(orig_dport=80)
    assert str(tcp | udp) == "proto in {tcp, udp}"
    assert str((tcp | udp) & web) == "proto in {tcp, udp} and orig.dport 80"
    assert str(~(tcp & web)) == "not (proto tcp and orig.dport 80)"
    assert ~~tcp == tcp
    assert tcp & Match() == tcp
    assert (tcp | Match()).always
    assert tcp & ~Match() == ~Match()
    assert tcp | ~Match() == tcp
    assert Match.any([tcp, udp]) == tcp | udp
    assert Match.all([tcp, web]) == tcp & web == Match(proto="tcp", orig_dport=80)
    assert Match.all([]) == Match()
    assert Match.any([]) == ~Match()
    with pytest.raises(TypeError):
        tcp & 5  # type: ignore[operator]


def test_three_thousand_unrelated_pairs_are_combined() -> None:
    pairs = [Match(orig_src=f"10.{n >> 8}.{n & 255}.1", orig_dport=n) for n in range(3000)]
    found = Match.any(pairs)
    assert found(Flow.tcp("10.3.4.1", 9, "10.0.0.1", 3 * 256 + 4, timeout=1))
    assert not found(Flow.tcp("10.3.4.1", 9, "10.0.0.1", 5, timeout=1))


def test_a_mark_outside_a_mask_that_is_a_flag_is_refused() -> None:
    with pytest.raises(ValueError, match="never true"):
        Match(mark=1 << 20, mark_mask=Status.EXPECTED)


@pytest.mark.parametrize("family", [AF_INET, AF_INET6])
def test_a_tuple_of_two_families_does_not_raise(family: int) -> None:
    """Decoding may yield one, and the filter of a dump must not fail."""
    mixed = with_values(V4, orig=with_values(V4.orig, dst=V6.orig.dst))
    assert Match(family=family)(mixed) is (family == AF_INET)


def test_a_match_is_a_value() -> None:
    assert {Match(mark=1), Match(mark=1), Match(mark=2)} == {Match(mark=2), Match(mark=1)}
    with pytest.raises(AttributeError):
        Match()._node = Match(mark=1)._node  # type: ignore[misc]
    match = Match(proto="tcp", orig_src=["10.0.0.0/8", "::1"], state="established") | Match(mark=3)
    for copied in (pickle.loads(pickle.dumps(match)), copy.deepcopy(match), copy.copy(match)):
        assert copied == match
        assert hash(copied) == hash(match)
        assert copied(V4) is match(V4)


@pytest.mark.parametrize(
    ("match", "always"),
    [
        (Match(), True),
        (Match(mark=0, mark_mask=0), True),
        (Match(mark=0), False),
        (Match(family=AF_INET), False),
        (Match(mark=0, mark_mask=0, family=AF_INET), False),
        (Match(family=AF_INET) | Match(family=AF_INET6), True),
        (Match(proto=range(256)), True),
        (Match(orig_src=["0.0.0.0/0", "::/0"]), True),
        (Match(orig_dport=range(65536)), False),
        (Match(mark=1) | ~Match(mark=1), True),
        (~Match(proto="tcp") | ~Match(proto="udp"), True),
        (Match(mark=1) & Match(zone=1) | ~Match(mark=1) | ~Match(zone=1), True),
        (~Match(), False),
    ],
)
def test_always_true_matches(match: Match, always: bool) -> None:
    assert match.always is always


@pytest.mark.parametrize("join", [Match.any, Match.all])
@pytest.mark.parametrize(
    "given", [["proto tcp"], [None], "proto tcp", None, 5, [Match(), 5], Match()]
)
def test_combining_what_is_not_a_match_is_refused(join: Any, given: Any) -> None:
    with pytest.raises(TypeError, match=r"Match\.(any|all) takes a list of matches: .+; got "):
        join(given)


def test_explain_takes_a_connection() -> None:
    for given in ("x", None, Match()):
        with pytest.raises(TypeError, match=r"explain\(\) takes a Connection; got "):
            anyio.run(Match().explain, given)


def test_helpers_are_combined_in_near_linear_time() -> None:
    def seconds(count: int) -> float:
        matches = [Match(helper=f"h{number * 7919 % count}") for number in range(count)]
        before = time.process_time()
        joined, excluded = matches[0], ~matches[0]
        for match in matches:
            joined, excluded = joined | match, excluded & ~match
        elapsed = time.process_time() - before
        assert joined == Match(helper=[f"h{number}" for number in range(count)]) == ~excluded
        return elapsed

    assert min(seconds(2000) for _ in range(3)) < 12 * min(seconds(500) for _ in range(3))
