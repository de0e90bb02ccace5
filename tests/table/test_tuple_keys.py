"""Test the keys of entries."""

from __future__ import annotations

import copy
from ipaddress import IPv6Address

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import model_strategies
from support.attribute_encoding import with_values

from conntrack_aio import EncodeError, Flow, Tuple
from conntrack_aio.table.tuple_keys import (
    inverse_key_of,
    key_of,
    orig_key,
    plain_tuple,
    plain_zone,
    reply_is_inverse,
    reply_key,
)

zones = st.integers(0, 0xFFFF)


def same(one: Tuple, other: Tuple) -> bool:
    """Return whether the kernel takes two tuples for equal.

    In fields that a protocol does not have, absent means zero.
    """

    def fields(tuple_: Tuple) -> list[object]:
        names = ("sport", "dport", "icmp_id", "icmp_type", "icmp_code")
        numbers = [getattr(tuple_, name) or 0 for name in names]
        return [tuple_.src, tuple_.dst, tuple_.proto, *numbers]

    return fields(one) == fields(other)


_ADDRESSES = {"src": IPv6Address(0), "dst": IPv6Address(0)}


@given(model_strategies.objects(Tuple), model_strategies.objects(Tuple), zones, zones)
@example(
    Tuple(**_ADDRESSES, proto=1, sport=1), Tuple(**_ADDRESSES, proto=1, sport=1, icmp_code=1), 0, 0
)
@example(Tuple(**_ADDRESSES, proto=1, icmp_id=1), Tuple(**_ADDRESSES, proto=1, sport=1), 0, 0)
def test_only_equal_tuples_in_equal_zones_share_a_key(
    one: Tuple, other: Tuple, zone: int, elsewhere: int
) -> None:
    equal = same(one, other) and zone == elsewhere
    assert (key_of(one, zone) == key_of(other, elsewhere)) == equal
    assert key_of(one, zone) == key_of(copy.copy(one), zone)


@given(model_strategies.objects(Tuple), zones)
@example(Tuple.icmp("10.0.0.1", "10.0.0.2", id=0, type=8), 0)
@example(Tuple.icmp("10.0.0.1", "10.0.0.2", id=0, type=0), 7)
@example(Tuple.icmp("fd00::1", "fd00::2", id=5, type=140), 0)
@example(Tuple.icmp("fd00::1", "fd00::2", id=5, type=5), 0)
def test_the_key_of_the_inverse_is_that_of_the_inverse_tuple(tuple_: Tuple, zone: int) -> None:
    try:
        expected = key_of(tuple_.inverse, zone)
    except EncodeError:
        expected = None
    assert inverse_key_of(tuple_, zone) == expected


@pytest.mark.parametrize(
    ("field", "value"), [("sport", 1), ("dport", 1), ("proto", 17), ("zone", None)]
)
def test_every_field_but_the_zone_of_the_tuple_is_in_the_key(field: str, value: int | None) -> None:
    one = Tuple.tcp("10.0.0.1", 4, "10.0.0.2", 5, zone=3)
    other = copy.copy(one)
    setattr(other, field, value)
    assert (key_of(one, 3) == key_of(other, 3)) == (field == "zone")


@pytest.mark.parametrize(
    "wrong",
    [{"sport": 1 << 16}, {"dport": -1}, {"proto": 256}, {"icmp_id": 1 << 16}, {"icmp_code": 256}],
)
def test_values_that_do_not_fit_their_field_are_refused(wrong: dict[str, int]) -> None:
    """Otherwise the key could be that of another tuple."""
    tuple_ = Tuple.tcp("10.0.0.1", 4, "10.0.0.2", 5)
    assert plain_tuple(tuple_) is tuple_
    for zone in (1 << 16, -1, 10**5000):
        with pytest.raises(EncodeError):
            plain_zone(zone)
    for name, value in wrong.items():
        setattr(tuple_, name, value)
        with pytest.raises(EncodeError) as caught:
            plain_tuple(tuple_)
        assert caught.value.path == (name,)


def test_addresses_of_two_families_are_refused() -> None:
    tuple_ = Tuple.tcp("10.0.0.1", 4, "10.0.0.2", 5)
    tuple_.dst = IPv6Address(int(tuple_.dst))
    with pytest.raises(EncodeError):
        plain_tuple(tuple_)


def test_address_families_have_different_keys() -> None:
    assert key_of(Tuple.tcp("0.0.0.1", 0, "0.0.0.2", 0), 0) != key_of(
        Tuple.tcp("::1", 0, "::2", 0), 0
    )


def test_a_zone_of_one_direction_is_in_the_key_of_that_direction() -> None:
    flow = Flow.udp("10.0.0.1", 1, "10.0.0.2", 2, timeout=1)
    flow.orig.zone = 7
    assert orig_key(flow) == key_of(flow.orig, 7)
    assert reply_key(flow) == key_of(flow.reply, 0)
    assert not reply_is_inverse(flow)


def test_a_zone_of_both_directions_is_in_both_keys() -> None:
    flow = Flow.udp("10.0.0.1", 1, "10.0.0.2", 2, timeout=1, zone=7)
    assert orig_key(flow) == key_of(flow.orig, 7)
    assert reply_key(flow) == key_of(flow.reply, 7)
    assert reply_is_inverse(flow)


@pytest.mark.parametrize("field", ["icmp_id", "icmp_type", "icmp_code"])
def test_the_reply_of_a_ping_is_the_inverse(field: str) -> None:
    flow = Flow.icmp("10.0.0.1", "10.0.0.2", id=1, timeout=1)
    assert reply_is_inverse(flow)
    for value in (None, 3, 8):
        other = with_values(flow.reply, **{field: value})
        assert not reply_is_inverse(attrs.evolve(flow, reply=other))


def test_every_field_of_the_reply_must_be_inverse() -> None:
    """No real entry has such reply tuples, but each entry must be found by the one it has."""
    flow = Flow.udp("10.0.0.1", 1, "10.0.0.2", 2, timeout=9)
    assert reply_is_inverse(flow)
    assert not reply_is_inverse(attrs.evolve(flow, reply=attrs.evolve(flow.reply, proto=6)))
    for tuple_ in ("orig", "reply"):
        changed = with_values(getattr(flow, tuple_), icmp_type=3)
        assert not reply_is_inverse(attrs.evolve(flow, **{tuple_: changed}))
