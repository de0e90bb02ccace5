"""Attributes that mean what another says, and tuples of numbered ones: a policy's, a helper's."""

from __future__ import annotations

from socket import AF_INET
from typing import Any

import pytest
from support.policy_cases import HELPER_KEY, expect_policy, policy_head, seconds
from support.wire import attr, be8, be16, be32, nest

from conntrack_aio import DecodeError, EncodeError, UnknownAttribute
from conntrack_aio.codec.reference import decode, decode_fields, encode, encode_fields
from conntrack_aio.model.declare import U8, U32, Nest, at, attribute, inlined, message, variants
from conntrack_aio.model.helpers import ExpectPolicy, UserspaceHelper
from conntrack_aio.model.timeouts import (
    GRETimeouts,
    ICMPTimeouts,
    TCPTimeouts,
    TimeoutPolicy,
    UDPTimeouts,
)

HELPER = attr(1, b"a\0") + HELPER_KEY
ONE = ExpectPolicy(name="b", expect_max=1, expect_timeout=2)


def policy(data: bytes) -> TimeoutPolicy:
    return decode(TimeoutPolicy, data, 0, len(data))


def helper(data: bytes) -> UserspaceHelper:
    return decode(UserspaceHelper, data, 0, len(data))


def made(proto: int, timeouts: Any = None, *unknown: UnknownAttribute) -> TimeoutPolicy:
    return TimeoutPolicy(name="a", family=AF_INET, proto=proto, timeouts=timeouts, unknown=unknown)


# Reading


def test_the_order_does_not_matter() -> None:
    data = nest(4, seconds(1, 2)) + be8(3, 17) + attr(1, b"a\0") + be16(2, 2)
    assert policy(data) == made(17, UDPTimeouts(unreplied=1, replied=2))


def test_the_last_of_repeated_ones_counts() -> None:
    head = policy_head(b"a", 2, 17)
    data = nest(4, seconds(1)) + head + be8(3, 47) + nest(4, seconds(2))
    assert policy(data) == made(47, GRETimeouts(unreplied=2))


def test_what_nobody_knows_is_kept_as_it_came() -> None:
    data = policy_head(b"a", 2, 99) + nest(4, seconds(1)) + attr(4, b"\x01")
    kept = (UnknownAttribute((4,), seconds(1), nested=True), UnknownAttribute((4,), b"\x01"))
    assert policy(data) == made(99, None, *kept)
    assert encode(policy(data)) == data


def test_without_the_other_it_is_unknown() -> None:
    told = decode_fields(TimeoutPolicy, nest(4, seconds(1)), 0, len(nest(4, seconds(1))))
    assert told == {}


def test_some_fields_of_a_message() -> None:
    data = be16(2, 0) + be8(3, 1) + nest(4, seconds(7))
    assert decode_fields(TimeoutPolicy, data, 0, len(data)) == {
        "family": 0,
        "proto": 1,
        "timeouts": ICMPTimeouts(timeout=7),
    }


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (policy_head(b"a", 2, 6) + nest(4, be16(3, 1)), "CTA_TIMEOUT_DATA/CTA_TIMEOUT_TCP_"),
        (policy_head(b"a", 2, 6) + attr(4, b"\1"), "CTA_TIMEOUT_DATA: 1 bytes"),
        (
            policy_head(b"a", 2, 6) + be8(3, 1) + nest(4, be8(1, 1)),
            "CTA_TIMEOUT_DATA/CTA_TIMEOUT_ICMP_",
        ),
        (attr(1, b"a\0") + be16(2, 2) + nest(4), "TimeoutPolicy.proto is missing"),
        (HELPER + nest(4, be16(1, 1)), "NFCTH_POLICY/NFCTH_POLICY_SET_NUM"),
        (HELPER + nest(4, be32(1, 1), nest(2)), "NFCTH_POLICY/NFCTH_POLICY_SET: ExpectPolicy.name"),
        (HELPER + nest(4, expect_policy(3, b"b", 1, 2)), "NFCTH_POLICY_SET is missing"),
        (
            HELPER + nest(4, expect_policy(2, b"b", 1, 2), expect_policy(5, b"b", 1, 2)),
            "NFCTH_POLICY_SET2 is missing",
        ),
    ],
)
def test_errors_say_where(data: bytes, path: str) -> None:
    with pytest.raises(DecodeError) as caught:
        (helper if data.startswith(HELPER) else policy)(data)
    assert path in str(caught.value)


@pytest.mark.parametrize("told", [b"", be32(1, 0), be32(1, 4), be32(1, 0xFFFFFFFF)])
def test_a_tuple_is_what_is_there_whatever_its_number(told: bytes) -> None:
    data = HELPER + nest(4, told, expect_policy(2, b"b", 1, 2))
    assert helper(data).policies == (ONE,)


def test_no_policies_are_none() -> None:
    assert helper(HELPER).policies == helper(HELPER + nest(4)).policies == ()


# Writing


@pytest.mark.parametrize(
    ("proto", "timeouts"), [(17, TCPTimeouts()), (6, UDPTimeouts()), (99, UDPTimeouts())]
)
def test_what_does_not_go_with_the_protocol(proto: int, timeouts: object) -> None:
    name = type(timeouts).__name__
    with pytest.raises(EncodeError, match=f"timeouts: {name} does not go with proto {proto}"):
        encode(made(proto, timeouts))


@pytest.mark.parametrize(
    ("unknown", "reason"),
    [
        (UnknownAttribute((4,), b""), "CTA_TIMEOUT_DATA is known"),
        (UnknownAttribute((4, 9), b""), "CTA_TIMEOUT_DATA, which it is inside, is absent"),
    ],
)
def test_what_is_known_is_not_unknown(unknown: UnknownAttribute, reason: str) -> None:
    with pytest.raises(EncodeError, match=reason):
        encode(made(6, None, unknown))


def test_an_unknown_attribute_in_what_nobody_knows() -> None:
    with pytest.raises(EncodeError, match="no nest 4"):
        encode(made(99, None, UnknownAttribute((4, 9), b"")))
    assert encode_fields(TimeoutPolicy, {"timeouts": None}) == b""


@pytest.mark.parametrize(
    ("policies", "path", "reason"),
    [
        ((ONE,) * 5, ("policies",), "at most 4 items; got 5"),
        ([ONE], ("policies",), "must be a tuple"),
        ((ONE, None), ("policies", "1"), "must be of type ExpectPolicy; got None"),
        ((ONE, "c"), ("policies", "1"), "must be of type ExpectPolicy; got 'c'"),
        (
            (ONE, ExpectPolicy(name="x" * 16, expect_max=1, expect_timeout=1)),
            ("policies", "1", "name"),
            "longer than 15 bytes",
        ),
        (
            (ExpectPolicy(name="b", expect_max=-1, expect_timeout=1),),
            ("policies", "0", "expect_max"),
            "not in the range",
        ),
    ],
)
def test_a_tuple_that_can_not_be(policies: Any, path: tuple[str, ...], reason: str) -> None:
    with pytest.raises(EncodeError, match=reason) as caught:
        encode(UserspaceHelper(name="a", family=2, proto=6, policies=policies))
    assert caught.value.path == path


# Inlined


def test_both_in_an_object_inside_another() -> None:
    """Their slots move with their owner's."""

    @message
    class Inner:
        kind: int = attribute(2, U8)
        value: TCPTimeouts | UDPTimeouts | None = variants(
            at(3, Nest(TCPTimeouts), when=("kind", 6)),
            at(3, Nest(UDPTimeouts), when=("kind", 17)),
            default=None,
        )

    @message
    class Outer:
        first: int | None = attribute(1, U32, default=None)
        inner: Inner = inlined(Inner)

    for kind, value in ((6, TCPTimeouts(syn_sent=9)), (17, UDPTimeouts(unreplied=9))):
        outer = Outer(first=5, inner=Inner(kind=kind, value=value))
        data = encode(outer)
        assert decode(Outer, data, 0, len(data)) == outer
