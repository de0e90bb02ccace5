"""`Match.always` recognizes matches that are always true, whatever their form and size."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given, settings
from support import match_strategies
from support.effort import examples

from conntrack_aio import Flow, Match, MatchError
from conntrack_aio.filters.intervals import Intervals, difference


def services(size: int) -> Match:
    return Match.any(
        [
            Match(proto="tcp", orig_dst=f"10.{n >> 8}.{n & 255}.1", orig_dport=80)
            for n in range(size)
        ]
    )


def mixed(size: int) -> Match:
    """Return alternatives of which some are joined into one condition."""
    return Match.any(
        [
            Match(orig_src=f"10.{n >> 8}.{n & 255}.{m}", zone=m or None)
            for n in range(size)
            for m in (0, 9)
        ]
    )


@pytest.mark.parametrize("size", [13, 1000])
@pytest.mark.parametrize("make", [services, mixed])
def test_a_match_or_its_negation_is_always_true(make: Callable[[int], Match], size: int) -> None:
    one = make(size)
    other = Match(mark=3)
    inner = other & one
    more = Match(orig_src="192.0.2.0/24")
    for always in (
        *(one | ~one, ~one | one, other | one | ~one, (one | ~one) & (other | ~other)),
        *(~one | other | one | more, one | more | ~one),
        *(inner | ~inner, ~inner | inner, (inner | more) | ~(inner | more)),
        *(one | (~one & other) | (~one & ~other), Match.any([~one, other, one])),
        Match.parse(f"({one}) or not ({one})"),
        Match.parse(f"not ({one}) or ({one})"),
        Match.parse(f"mark 5 or (not ({one}) or mark 3) or ({one})"),
        ~one | Match.all([one | other, one | ~other]),
    ):
        assert always.always
        assert not (~always).always
    for not_always in (
        *(one, ~one, one | other, ~one | other, one | (~one & other), inner | ~one & more),
        *(Match.all([one | other, ~one | ~other]), one | ~services(size - 1) & other),
    ):
        assert not not_always.always
    if make is services:
        smaller = services(size - 1)
        assert (one | ~smaller).always
        assert not (smaller | ~one).always


@pytest.mark.parametrize("size", [2, 13, 1000])
def test_a_match_and_its_negation_exclude_each_other(size: int) -> None:
    one, both = services(size), Match(mark=3) & services(size) & Match(orig_src="10.0.0.0/8")
    for one_side, other in ((one, ~one), (~one, one), (both, ~both), (~both, both)):
        with pytest.raises(MatchError, match="cannot be both true and false"):
            one_side & other
    with pytest.raises(MatchError, match="cannot be both true and false"):
        Match.parse(f"({both}) and not ({both})")


@pytest.mark.parametrize(
    ("text", "always"),
    [
        ("mark in {0/1, 1/1}", True),
        ("mark in {0/1, 1/3, 3/3}", True),
        ("mark in {0/1, 1/3, 3/7, 7/7}", True),
        ("mark in {0/1, 1/3, 3/7}", False),
        ("mark in {0/1, 0x100/0x100, 1/0x101}", True),
        ("mark in {0/3, 1/3, 2/3}", False),
        ("not mark 1 or not mark 2", True),
        ("label 0/1 or label 0", True),
        ("label 0/1 or label 1", False),
        ("unreplied or status seen_reply", True),
        ("unreplied or assured", False),
        ("family ipv4 or orig.src in ::/0", True),
        ("family ipv4 or orig.dst in ::/0", True),
        ("orig.src in 0.0.0.0/0 or family ipv6", True),
        ("orig.src in 0.0.0.0/0 or reply.dst in ::/0", True),
        ("orig.src in 0.0.0.0/1 or orig.src in 128.0.0.0/1 or reply.src in ::/0", True),
        ("orig.src in 0.0.0.0/1 or reply.src in 128.0.0.0/1 or reply.src in ::/0", False),
        ("family ipv4 or orig.src in ::/1", False),
        ("not orig.dport 80 or not proto icmp", True),
        ("not orig.dport 80 or proto tcp", False),
        ("not zone 0 or orig.zone 0", True),
        ("zone in 0-65535", False),
        ("orig.zone 0 or orig.zone > 0", True),
        ("timeout < 10 or timeout >= 10", False),
        ("not timeout 5 or timeout < 10", True),
        ("not helper ftp or helper in {ftp, sip}", True),
        ("not helper in {ftp, sip} or helper ftp", False),
        ("proto < 17 or proto > 5", True),
        ("not (mark 1 and assured) or mark 1", True),
    ],
)
def test_the_possible_values_of_fields_are_considered(text: str, always: bool) -> None:
    match = Match.parse(text)
    assert match.always is always
    inner = Match("timeout 5") & match if not match.always else match
    assert (match | Match(id=7)).always is always
    assert inner.always is always


def test_marks_with_many_masks() -> None:
    marks = [Match(mark=n, mark_mask=0xFFF) for n in range(4096)]
    assert Match.any(marks).always
    assert not Match.any(marks[1:]).always
    assert Match.any(
        [Match(mark=1 << n, mark_mask=(2 << n) - 1) for n in range(32)] + [Match(mark=0)]
    ).always


@settings(max_examples=examples(100), deadline=None)
@given(match_strategies.matches(), match_strategies.matches(), match_strategies.flows())
def test_a_match_that_some_flow_does_not_match_is_never_called_always_true(
    one: Match, other: Match, flow: Flow
) -> None:
    for match in (one, ~one, one | other, one | ~other):
        if match.always:
            assert match_strategies.reference_matches(match._node, flow)
    for always in (one | ~one, ~one | one, one | other | ~one):
        assert always.always


def test_the_difference_of_sets_of_numbers() -> None:
    sets: list[Intervals] = [(), ((0, 9),), ((2, 3),), ((0, 1), (5, 6)), ((1, 2), (4, 4), (8, 9))]
    for one, other in product(sets, sets):
        numbers = {n for n in range(10) if _in(n, one) and not _in(n, other)}
        found = difference(one, other)
        assert {n for n in range(10) if _in(n, found)} == numbers
        assert list(found) == sorted(found)


def _in(number: int, values: Intervals) -> bool:
    return any(first <= number <= last for first, last in values)
