"""Approximations of conditions are supersets or subsets, and have few enough ranges."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import match_strategies
from support.effort import examples

from conntrack_aio import Flow, Match
from conntrack_aio.filters.approximate import subset, superset, union_by_field
from conntrack_aio.filters.intervals import intersection, prefixes
from conntrack_aio.filters.nodes import Addresses, Numbers, Ranged

PORTS = st.lists(st.integers(0, 200), min_size=1, max_size=40)
V4 = st.lists(st.integers(0, 2000).map(lambda n: IPv4Address(n * 977)), min_size=1, max_size=40)
V6 = st.lists(st.integers(0, 2000).map(lambda n: IPv6Address(n << 77)), min_size=1, max_size=40)


def ranged(node: object) -> Ranged:
    assert isinstance(node, Numbers | Addresses)
    return node


def is_subset(one: Ranged, other: Ranged) -> bool:
    """Return whether every value that meets the first condition meets the other."""
    if isinstance(one, Numbers):
        assert isinstance(other, Numbers)
        return intersection(one.values, other.values) == one.values
    assert isinstance(other, Addresses)
    return (intersection(one.v4, other.v4), intersection(one.v6, other.v6)) == (one.v4, one.v6)


def counts(node: Ranged) -> list[int]:
    """Return how many ranges a condition has; of addresses, in each family."""
    if isinstance(node, Numbers):
        return [len(node.values)]
    return [len(node.v4), len(prefixes(node.v6, 128))]


@given(
    st.builds(lambda ports: Match(orig_dport=ports), PORTS)
    | st.builds(lambda v4, v6: Match(orig_src=[*v4, *v6]), V4, V6),
    st.sampled_from([1, 2, 4, 16, 64]),
)
def test_approximations_are_supersets_and_subsets_within_the_limit(match: Match, most: int) -> None:
    node = ranged(match._node)
    larger, smaller = superset(node, most), subset(node, most)
    assert is_subset(node, larger)
    assert is_subset(smaller, node)
    assert max(counts(larger)) <= most
    assert max(counts(smaller)) <= most
    if max(counts(node)) <= most:
        assert larger == smaller == node


@pytest.mark.parametrize(
    ("text", "union"),
    [
        (
            "orig.src 10.0.0.1 and orig.dport 80 or orig.src 10.0.0.2 and orig.dport 443",
            "orig.src in 10.0.0.1-10.0.0.2 and orig.dport in {80, 443}",
        ),
        ("orig.dport 80 or mark 1", "all"),
        ("mark 1 or mark 2", "all"),
        ("mark 1 and (orig.dport 80 and zone 1 or zone 2)", "mark 1 and zone in 1-2"),
        ("not (zone 1 or mark 1)", "not (zone 1 or mark 1)"),
        ("none", "none"),
    ],
)
def test_union_by_field(text: str, union: str) -> None:
    assert union_by_field(Match.parse(text)._node) == Match.parse(union)._node


@settings(max_examples=examples(100), deadline=None)
@given(match_strategies.matches(), match_strategies.flows())
def test_the_union_by_field_holds_wherever_the_match_holds(match: Match, flow: Flow) -> None:
    assert match_strategies.reference_matches(union_by_field(match._node), flow) or not match(flow)
