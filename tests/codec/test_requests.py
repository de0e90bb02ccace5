"""The bytes of requests about flows, and requests that are refused before anything is sent."""

from __future__ import annotations

import errno
from ipaddress import ip_address
from socket import AF_INET, AF_INET6, AF_UNSPEC

import attrs
import pytest
from support.attribute_encoding import with_values
from support.codec_cases import (
    A6,
    IP6,
    TCP4,
    TCP4_PAYLOAD,
    TCP4_REPLY,
    TCP4_REPLY_PAYLOAD,
    attr,
    be8,
    be16,
    be32,
    check_request,
    flow,
    nest,
    pack_unsigned_longs,
)

from conntrack_aio import (
    Counters,
    EncodeError,
    Flow,
    Helper,
    Status,
    Tuple,
)
from conntrack_aio.codec.requests import flows as requests
from conntrack_aio.codec.requests.flow_updates import updated_status
from conntrack_aio.codec.requests.flow_values import SETTABLE
from conntrack_aio.codec.requests.statistics import table_statistics
from conntrack_aio.model.requests import Masked, Selection
from conntrack_aio.netlink.exchange import Request

NEW, GET, DELETE, GET_STATS = 0x100, 0x101, 0x102, 0x105
ORIG = nest(1, TCP4_PAYLOAD)
V6 = Tuple(src=A6, dst=ip_address("2001:db8::2"), proto=50)


# Look-ups


@pytest.mark.parametrize(
    ("make_request", "message_type"), [(requests.get, GET), (requests.delete, DELETE)]
)
def test_lookup_by_either_tuple(make_request, message_type: int) -> None:  # type: ignore[no-untyped-def]
    check_request(make_request(TCP4), message_type, 0, AF_INET, ORIG)
    check_request(make_request(TCP4_REPLY), message_type, 0, AF_INET, nest(1, TCP4_REPLY_PAYLOAD))
    check_request(make_request(flow()), message_type, 0, AF_INET, ORIG)


@pytest.mark.parametrize("make_request", [requests.get, requests.delete])
@pytest.mark.parametrize(
    ("target", "zone", "sent"),
    [
        (flow(zone=7), None, 7),
        (flow(zone=7), 8, 8),
        (flow(zone=7), 0, 0),
        (flow(), 8, 8),
        (TCP4, 8, 8),
        (attrs.evolve(TCP4, zone=5), None, 5),
        (attrs.evolve(TCP4, zone=5), 8, 8),
        (attrs.evolve(flow(), orig=attrs.evolve(TCP4, zone=5)), None, 5),
    ],
)
def test_lookup_in_a_zone(make_request, target: Flow | Tuple, zone: int | None, sent: int) -> None:  # type: ignore[no-untyped-def]
    check_request(
        make_request(target, zone), make_request(TCP4).type, 0, AF_INET, ORIG + be16(18, sent)
    )


def test_lookup_in_two_zones_is_refused() -> None:
    in_two_zones = attrs.evolve(flow(zone=7), orig=attrs.evolve(TCP4, zone=5))
    with pytest.raises(EncodeError) as caught:
        requests.get(in_two_zones)
    assert caught.value.path == ("orig", "zone")


def test_the_family_is_that_of_the_addresses() -> None:
    inside = nest(1, IP6, nest(2, be8(1, 50)))
    check_request(requests.get(V6), GET, 0, AF_INET6, inside)
    check_request(requests.delete(V6), DELETE, 0, AF_INET6, inside)
    check_request(requests.update(V6, {"mark": 1}), NEW, 0, AF_INET6, inside + be32(8, 1))
    created = requests.create(Flow(orig=V6, reply=V6.inverse, timeout=1))
    assert created.payload[0] == AF_INET6


@pytest.mark.parametrize(
    ("target", "missing"),
    [
        (attrs.evolve(TCP4, sport=None), "sport"),
        (attrs.evolve(TCP4, dport=None), "dport"),
        *(
            (attrs.evolve(TCP4, proto=proto, dport=None), "dport")
            for proto in (17, 33, 47, 132, 136)
        ),
        (Tuple(src=TCP4.src, dst=TCP4.dst, proto=1, icmp_type=8, icmp_code=0), "icmp_id"),
        (Tuple(src=TCP4.src, dst=TCP4.dst, proto=1, icmp_id=8, icmp_code=0), "icmp_type"),
        (Tuple(src=A6, dst=A6, proto=58, icmp_id=1, icmp_type=128), "icmp_code"),
        (with_values(TCP4, dst=A6), "dst"),
    ],
)
def test_incomplete_tuples_are_refused(target: Tuple, missing: str) -> None:
    for make_request in (
        requests.get,
        requests.delete,
        lambda target: requests.update(target, {"mark": 1}),
    ):
        with pytest.raises(EncodeError) as caught:
            make_request(target)
        assert caught.value.path[-1] == missing
    for name in ("orig", "reply", "master"):
        broken = attrs.evolve(flow(timeout=1), **{name: target})
        with pytest.raises(EncodeError) as caught:
            requests.create(broken)
        assert caught.value.path[-1] in (
            missing,
            "proto",
            "reply",
        )  # or it is not the inverse of the other tuple


@pytest.mark.parametrize("target", [None, 1, "10.0.0.1", b"", Counters()])
def test_target_must_be_a_flow_or_a_tuple(target: object) -> None:
    for make_request in (requests.get, requests.delete):
        with pytest.raises(TypeError, match="a Flow, or the Tuple"):
            make_request(target)  # type: ignore[arg-type]


# Deleting


def test_delete_of_a_flow_carries_its_id_and_zone() -> None:
    request = requests.delete(flow(id=0x01020304, zone=7))
    check_request(request, DELETE, 0, AF_INET, ORIG + be16(18, 7) + be32(12, 0x01020304))


def test_delete_carries_an_id_of_zero() -> None:
    check_request(requests.delete(flow(id=0)), DELETE, 0, AF_INET, ORIG + be32(12, 0))


def test_only_flush_deletes_without_a_tuple() -> None:
    check_request(requests.flush(), DELETE, 0, AF_UNSPEC, b"")
    for target in (TCP4, flow(), flow(id=1), flow(mark=5, status=Status(8))):
        payload = requests.delete(target).payload
        assert payload[4:].startswith(ORIG)
        assert len(payload) > len(requests.flush().payload)


def test_delete_sends_only_the_tuple_zone_and_id() -> None:
    full = flow(mark=1, status=Status(8), timeout=4, labels=1, zone=0)
    check_request(requests.delete(full), DELETE, 0, AF_INET, ORIG + be16(18, 0))


# Reading


def test_dump() -> None:
    check_request(requests.dump(), GET, 0x300, AF_UNSPEC, b"")
    check_request(requests.dump(Selection(family=AF_INET6)), GET, 0x300, AF_INET6, b"")
    # A mask is only sent together with a mark.
    marked = Selection(family=AF_INET, mark=Masked(0, 0xFF))
    check_request(requests.dump(marked), GET, 0x300, AF_INET, be32(8, 0) + be32(21, 0xFF))


def test_statistics() -> None:
    check_request(table_statistics(), GET_STATS, 0, AF_UNSPEC, b"")


# Updating


def test_update_sends_the_given_values() -> None:
    values = {"mark": 0, "timeout": None, "labels": 0, "helper": Helper(name="")}
    check_request(
        requests.update(TCP4, values),
        NEW,
        0,
        AF_INET,
        ORIG + be32(8, 0) + nest(5, attr(1, b"\0")) + attr(22, bytes(16)),
    )


def test_update_with_masks() -> None:
    values = {"mark": 5, "mark_mask": 7, "labels": 1, "labels_mask": 1 << 127 | 1}
    check_request(
        requests.update(flow(id=1, zone=7), values),
        NEW,
        0,
        AF_INET,
        ORIG
        + be32(8, 5)
        + be16(18, 7)
        + attr(22, pack_unsigned_longs(1))
        + be32(21, 7)
        + attr(23, pack_unsigned_longs(1 << 127 | 1)),
    )


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"mark_mask": 1}, "mark_mask"),
        ({"labels_mask": 1}, "labels_mask"),
        ({"mark": 2, "mark_mask": 1}, "mark"),
        ({"mark": 1, "mark_mask": 0}, "mark"),
        ({"mark": 8, "mark_mask": Status.EXPECTED}, "mark"),
        (
            {"mark": 1 << 20, "mark_mask": Status.EXPECTED},
            "mark",
        ),  # a bit that the enum does not have
        ({"labels": 1 << 100, "labels_mask": (1 << 100) - 1}, "labels"),
        ({"mark": 1, "mark_mask": "1"}, "mark_mask"),
        ({"mark": 0, "mark_mask": 1 << 32}, "mark_mask"),
        ({"mark": 1 << 32}, "mark"),
        ({"labels": 1 << 128}, "labels"),
        ({"timeout": -1}, "timeout"),
        ({"helper": Helper(name="a" * 16)}, "helper/name"),
    ],
)
def test_updates_that_are_not_valid_are_refused(values: dict[str, object], path: str) -> None:
    with pytest.raises(EncodeError) as caught:
        requests.update(TCP4, values)
    assert "/".join(caught.value.path) == path


def test_updated_status_repeats_the_bits_that_must_not_change() -> None:
    current = Status.CONFIRMED | Status.SEEN_REPLY | Status.SRC_NAT_DONE | Status.EXPECTED
    assert updated_status(current, Status.ASSURED) == current | Status.ASSURED
    assert updated_status(current, Status(0)) == current
    assert updated_status(current, Status.EXPECTED | Status.FIXED_TIMEOUT) == (
        current | Status.FIXED_TIMEOUT
    )


@pytest.mark.parametrize(
    "bit", [*(bit for bit in Status if bit not in SETTABLE), Status(1 << 16)], ids=repr
)
def test_updated_status_refuses_bits_that_cannot_be_set(bit: Status) -> None:
    with pytest.raises(EncodeError) as caught:
        updated_status(Status(0), bit)
    assert caught.value.path == ("status",)
    assert updated_status(bit, bit) == bit


# Text and hints


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (requests.get(TCP4), "get tcp 10.0.0.1:1024 -> 10.0.0.2:80"),
        (requests.delete(flow()), "delete tcp 10.0.0.1:1024 -> 10.0.0.2:80"),
        (requests.update(TCP4, {}), "update tcp 10.0.0.1:1024 -> 10.0.0.2:80"),
        (requests.create(flow(timeout=1)), "create tcp 10.0.0.1:1024 -> 10.0.0.2:80"),
        (requests.flush(), "flush the table"),
        (requests.dump(), "dump the table"),
        (table_statistics(), "count the entries"),
    ],
)
def test_the_text_of_a_request(request_: Request, text: str) -> None:
    assert str(request_) == text


@pytest.mark.parametrize(
    ("request_", "code", "hint"),
    [
        (requests.get(TCP4), errno.ENOENT, "zone"),
        (requests.create(flow(timeout=1)), errno.EEXIST, "tuples"),
        (requests.create(flow(timeout=1)), errno.ENOMEM, "nf_conntrack_max"),
        (requests.update(TCP4, {}), errno.ENOSPC, "labels"),
        (requests.update(TCP4, {}), errno.EPERM, "FIXED_TIMEOUT"),
        (requests.delete(TCP4), errno.ENOENT, "zone"),
    ],
)
def test_a_request_has_hints_for_errors(request_: Request, code: int, hint: str) -> None:
    assert hint in request_.hints[code]
