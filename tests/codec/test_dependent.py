"""Attributes whose meaning depends on another one, and tuples: timeout policies and helpers."""

from __future__ import annotations

from socket import AF_INET
from typing import Any

import pytest
from support.attribute_encoding import attr, be8, be16, be32, nest
from support.policy_cases import HELPER_KEY, expect_policy, policy_head, seconds

from conntrack_aio import (
    DecodeError,
    EncodeError,
    Flow,
    UnknownAttribute,
    from_json,
    to_json,
)
from conntrack_aio.codec.reference import decode, decode_fields, encode, encode_fields
from conntrack_aio.model.declare import attribute, inlined, message, variants
from conntrack_aio.model.helpers import ExpectPolicy, UserspaceHelper
from conntrack_aio.model.timeouts import (
    GRETimeouts,
    ICMPTimeouts,
    TCPTimeouts,
    TimeoutPolicy,
    UDPTimeouts,
)
from conntrack_aio.model.wire import U8, U32, Nest, at

HELPER = attr(1, b"a\0") + HELPER_KEY
ONE = ExpectPolicy(name="b", expect_max=1, expect_timeout=2)


def policy(data: bytes) -> TimeoutPolicy:
    return decode(TimeoutPolicy, data, 0, len(data))


def helper(data: bytes) -> UserspaceHelper:
    return decode(UserspaceHelper, data, 0, len(data))


def policy_with(proto: int, timeouts: Any = None, *unknown: UnknownAttribute) -> TimeoutPolicy:
    return TimeoutPolicy(name="a", family=AF_INET, proto=proto, timeouts=timeouts, unknown=unknown)


# Reading


def test_the_deciding_attribute_may_come_first_or_last() -> None:
    data = nest(4, seconds(1, 2)) + be8(3, 17) + attr(1, b"a\0") + be16(2, 2)
    assert policy(data) == policy_with(17, UDPTimeouts(unreplied=1, replied=2))


def test_the_last_repeated_attribute_counts() -> None:
    head = policy_head(b"a", 2, 17)
    data = nest(4, seconds(1)) + head + be8(3, 47) + nest(4, seconds(2))
    assert policy(data) == policy_with(47, GRETimeouts(unreplied=2))


def test_timeouts_of_an_unknown_protocol_are_kept_as_they_were_read() -> None:
    data = policy_head(b"a", 2, 99) + nest(4, seconds(1)) + attr(4, b"\x01")
    unknown = (UnknownAttribute((4,), seconds(1), nested=True), UnknownAttribute((4,), b"\x01"))
    assert policy(data) == policy_with(99, None, *unknown)
    assert encode(policy(data)) == data


def test_without_the_deciding_attribute_it_is_unknown() -> None:
    data = nest(4, seconds(1))
    assert decode_fields(TimeoutPolicy, data, 0, len(data)) == {}


def test_an_icmp_attribute_in_a_tuple_of_another_protocol_is_unknown() -> None:
    """The kernel sends no such tuple. The flow is one that a program can write and read again."""
    addresses = nest(1, be32(1, 0x0A000001) + be32(2, 0x0A000002))

    def tuples(proto: int) -> bytes:
        one = addresses + nest(2, be8(1, proto) + be16(2, 80) + be16(3, 81) + be16(4, 77))
        return nest(1, one) + nest(2, one)

    data = tuples(6)
    flow = decode(Flow, data, 0, len(data))
    assert flow.orig.icmp_id is flow.reply.icmp_id is None
    assert [(each.path, each.payload) for each in flow.unknown] == [
        ((1, 2, 4), b"\0M"),
        ((2, 2, 4), b"\0M"),
    ]
    assert encode(flow) == data
    assert from_json(Flow, to_json(flow)) == flow
    data = tuples(1)
    assert decode(Flow, data, 0, len(data)).orig.icmp_id == 77


def test_decode_fields_returns_the_fields_that_are_present() -> None:
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
def test_errors_name_the_attribute(data: bytes, path: str) -> None:
    with pytest.raises(DecodeError) as caught:
        (helper if data.startswith(HELPER) else policy)(data)
    assert path in str(caught.value)


@pytest.mark.parametrize("count_attribute", [b"", be32(1, 0), be32(1, 4), be32(1, 0xFFFFFFFF)])
def test_the_number_of_items_is_not_checked(count_attribute: bytes) -> None:
    data = HELPER + nest(4, count_attribute, expect_policy(2, b"b", 1, 2))
    assert helper(data).policies == (ONE,)


def test_a_helper_without_policies_has_an_empty_tuple() -> None:
    assert helper(HELPER).policies == helper(HELPER + nest(4)).policies == ()


# Writing


@pytest.mark.parametrize(
    ("proto", "timeouts"), [(17, TCPTimeouts()), (6, UDPTimeouts()), (99, UDPTimeouts())]
)
def test_timeouts_of_another_protocol_are_refused(proto: int, timeouts: object) -> None:
    name = type(timeouts).__name__
    with pytest.raises(EncodeError, match=f"timeouts: {name} does not go with proto {proto}"):
        encode(policy_with(proto, timeouts))


@pytest.mark.parametrize(
    ("unknown", "reason"),
    [
        (UnknownAttribute((4,), b""), "CTA_TIMEOUT_DATA is known"),
        (UnknownAttribute((4, 9), b""), "CTA_TIMEOUT_DATA, which it is inside, is absent"),
    ],
)
def test_an_unknown_attribute_must_not_be_a_known_one(
    unknown: UnknownAttribute, reason: str
) -> None:
    with pytest.raises(EncodeError, match=reason):
        encode(policy_with(6, None, unknown))


def test_an_unknown_attribute_needs_its_nest() -> None:
    with pytest.raises(EncodeError, match="no nest 4"):
        encode(policy_with(99, None, UnknownAttribute((4, 9), b"")))
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
def test_tuples_that_are_not_valid_are_refused(
    policies: Any, path: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(EncodeError, match=reason) as caught:
        encode(UserspaceHelper(name="a", family=2, proto=6, policies=policies))
    assert caught.value.path == path


# Inlined


def test_an_inlined_object_may_have_a_dependent_attribute() -> None:
    """The slots of the inlined object are moved behind those of its owner."""

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
